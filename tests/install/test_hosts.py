"""install.py as hosts call it: with packages that are made up, and once (`full`) with the pins of real hosts."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.install.calling import ROOT, call, load

FAKE_PIP = """import pathlib, sys
home, words = pathlib.Path(sys.prefix), [a for a in sys.argv[1:] if not a.startswith("-")]
targets = [a.partition("=")[2] for a in sys.argv if a.startswith("--target=")]
with open(home / "pip.log", "a") as log:
    print(*words, *["on trial" for _ in targets], file=log)
for folder in targets:
    package = pathlib.Path(folder, "peft")
    package.mkdir(parents=True)
    works = words[1] in (home / "good").read_text().split()
    text = "LoraConfig = inject_adapter_in_model = 0" if works else "raise ImportError('too new')"
    (package / "__init__.py").write_text(text)
"""


@pytest.fixture
def host(tmp_path):
    """A function that makes a host's Python with the given packages, and a fake pip that knows which pefts import."""

    def make(installed: dict[str, str], good: str = "", pip: str | None = FAKE_PIP) -> Path:
        folder = tmp_path / "host python"
        venv.create(folder, with_pip=False)
        (folder / "good").write_text(good)
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        site = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
        files = {f"{n}-{v}.dist-info/METADATA": f"Name: {n}\nVersion: {v}\n" for n, v in installed.items()}
        files |= {f"{n}/__init__.py": "" for n in installed}
        if pip is not None:
            files |= {"pip/__init__.py": "", "pip/__main__.py": pip}
        for name, text in files.items():
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_text(text)
        return python

    return make


def asked(python: Path) -> list[str]:
    """What the fake pip was asked to do."""
    log = python.parents[1] / "pip.log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(
    ("transformers", "accelerate", "expected"),
    [
        ("4.30.2", "0.21.0", ["peft==0.13.2"]),
        ("4.46.1", "0.31.0", ["peft==0.14.0", "peft==0.13.2"]),
        ("4.57.6", "1.14.0", ["peft", "peft==0.18.1", "peft==0.14.0", "peft==0.13.2"]),
        ("5.0.0rc1", None, ["peft", "peft==0.18.1", "peft==0.14.0", "peft==0.13.2"]),
        ("4.29.0", "0.21.0", []),
    ],
)
def test_pefts_that_fit_a_host(transformers, accelerate, expected):
    assert load(ROOT).candidates(transformers, accelerate) == expected


def test_a_host_with_peft_starts_at_once_and_unchanged(host):
    python = host({"peft": "0.4.0", "transformers": "4.30.2"})
    before = sum(os.times()[2:4])
    done = call(ROOT, cwd=python.parent, python=python)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sum(os.times()[2:4]) - before < 1, "seconds of processor time"
    assert asked(python) == []


def test_the_newest_peft_that_imports_is_added_with_what_is_missing(host):
    python = host({"transformers": "5.0.0", "psutil": "7.0"}, good="peft==0.18.1")
    done = call(ROOT, cwd=python.parent, python=python)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert asked(python) == [
        "download peft accelerate",
        "install peft accelerate on trial",
        "download peft==0.18.1 accelerate",
        "install peft==0.18.1 accelerate on trial",
        "install peft==0.18.1 accelerate",
    ]


def test_no_peft_is_added_where_none_imports(host):
    python = host({"transformers": "4.46.1", "accelerate": "0.31.0", "psutil": "7.0"})
    done = call(ROOT, cwd=python.parent, python=python)
    assert done.returncode == 0
    assert "no known version imports beside transformers 4.46.1" in done.stdout and done.stdout.count("\n") == 1
    assert {line.split()[0] for line in asked(python) if "on trial" not in line} == {"download"}


@pytest.mark.parametrize(
    ("installed", "pip", "reason"),
    [
        ({"transformers": "4.30.2"}, None, "No module named pip"),
        ({"transformers": "4.30.2"}, "raise SystemExit('ERROR: externally managed')", "externally managed"),
        ({"transformers": "4.30.2"}, "import nonsense", "nonsense"),
        ({"transformers": "strange"}, FAKE_PIP, "no known version"),
        ({}, FAKE_PIP, "transformers is missing"),
    ],
)
def test_a_host_starts_whatever_goes_wrong(host, installed, pip, reason):
    python = host(installed, pip=pip)
    done = call(ROOT, cwd=python.parent, python=python)
    assert done.returncode == 0 and done.stderr == ""
    assert reason in done.stdout and done.stdout.count("\n") == 1


# Real packages

HOSTS = {
    "Automatic1111 1.10.1": (
        "torch==2.13.0 transformers==4.30.2 accelerate==0.21.0 numpy==1.26.2 psutil==5.9.5",
        {"peft"},
    ),
    "ComfyUI": ("torch==2.13.0 transformers==5.24.0 numpy==2.4.6 psutil==7.2.2", {"peft", "accelerate"}),
}
MANAGED = {"ComfyUI"}
"""Hosts whose manager calls install.py by its bare name from the pack's folder; others by its path from their own."""
TRAIN_ONE_LAYER = """
import torch
from unlearn_core.method.adapters import attached

net, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.ones(1, 4)
before = net(x)
with attached(net, ["0"], rank=2, seed=0) as adapters:
    assert torch.equal(net(x), before)
    net(x).sum().backward()
    assert adapters.factors["0"][1].grad.abs().sum() > 0
assert type(net[0]) is torch.nn.Linear and torch.equal(net(x), before)
"""


def as_host(name: str, python: Path, elsewhere: Path) -> subprocess.CompletedProcess:
    """Run install.py as that host does."""
    script, cwd = ("install.py", ROOT) if name in MANAGED else (str(ROOT / "install.py"), elsewhere)
    return subprocess.run([python, script], cwd=cwd, capture_output=True, text=True)


def in_python(python: Path, *arguments: str) -> str:
    """Output of a command of that Python that has to succeed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([python, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def packages(python: Path) -> dict[str, str]:
    """What is installed: name and version."""
    return dict(line.split("==") for line in in_python(python, "-m", "pip", "freeze").split())


@pytest.fixture
def real_host(request):
    """A host's environment at its real pins, kept in pytest's cache, without what install.py adds."""
    pins, added = HOSTS[request.param]
    folder = request.config.cache.mkdir("host-" + hashlib.sha256((sys.version + pins).encode()).hexdigest()[:16])
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        in_python(python, "-m", "pip", "install", "--quiet", *pins.split())
        (folder / "complete").touch()
    in_python(python, "-m", "pip", "uninstall", "--quiet", "--yes", *added)
    return request.param, python, added


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the oldest host's packages have no build for this Python")
@pytest.mark.parametrize("real_host", HOSTS, indirect=True)
def test_a_real_host_gets_a_peft_that_trains_and_nothing_else_changes(real_host, tmp_path):
    name, python, added = real_host
    before = packages(python)
    done = as_host(name, python, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    after = packages(python)
    assert after.keys() - before.keys() == added
    assert {name: after[name] for name in before} == before
    in_python(python, "-c", TRAIN_ONE_LAYER)
    as_host(name, python, tmp_path)
    assert packages(python) == after
