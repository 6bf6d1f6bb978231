"""install.py as hosts and as people call it, in throw-away repositories; the slow test uses the pins of real hosts."""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEMO = """import pathlib, signal, sys, time
print("demo", sys.argv[1:], pathlib.Path.cwd().name)
if "wait" in sys.argv:
    def stop(*_):
        time.sleep(1)
        pathlib.Path("cleaned").touch()
        sys.exit(7)
    signal.signal(signal.SIGINT, stop)
    pathlib.Path("ready").touch()
    time.sleep(60)
sys.exit(int(sys.argv[-1]) if sys.argv[-1].isdigit() else 0)
"""
TOOL = "import sys; print('{0}', sys.argv[1:]); sys.exit({1})"


def load(folder: Path):
    """The install.py of a repository as a module."""
    spec = importlib.util.spec_from_file_location("install_under_test", folder / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_repository(folder: Path) -> Path:
    """A repository with the real install.py, nothing to install, and stubs in place of the demo and the tools."""
    (folder / "requirements").mkdir(parents=True)
    (folder / "unlearn_core").mkdir()
    shutil.copy(ROOT / "install.py", folder)
    files = {
        "requirements/demo.txt": "# nothing\n",
        "requirements/test.txt": "-r demo.txt\n",
        "unlearn_core/__init__.py": "",
        "unlearn_core/__main__.py": DEMO,
        "ruff.py": TOOL.format("ruff", "3 if 'format' in sys.argv else 0"),
        "pytest.py": TOOL.format("pytest", 4),
    }
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    return folder


def call(repository: Path, *arguments: str, cwd: Path | None = None, python: str = sys.executable):
    """Run install.py in a process of its own."""
    command = [python, str(repository / "install.py"), *arguments]
    return subprocess.run(command, cwd=cwd or repository, capture_output=True, text=True)


@pytest.fixture
def fresh(tmp_path):
    return make_repository(tmp_path / "a folder")


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A repository, with a space in its path, in which the demo has been run once."""
    repository = make_repository(tmp_path_factory.mktemp("my repositories") / "unlearn it")
    done = call(repository, "demo")
    assert done.returncode == 0, done.stderr
    return repository


# As people call it


def test_options_reach_the_demo_in_the_callers_folder(ready, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the caller hides a package')")
    done = call(ready, "demo", "--concept", "two words", "--out", "there", cwd=tmp_path)
    assert f"demo ['demo', '--concept', 'two words', '--out', 'there'] {tmp_path.name}" in done.stdout


def test_exit_code_of_the_demo_is_passed_on(ready):
    assert call(ready, "demo", "5").returncode == 5


def test_second_run_installs_nothing(ready):
    assert "Installing" not in call(ready, "demo").stdout


def test_all_tools_run_and_the_first_failure_counts(ready):
    done = call(ready, "test", "-k", "some thing")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ruff", "pytest"))]
    assert lines[:2] == ["ruff ['check']", "ruff ['format', '--check']"]
    assert lines[2] == "pytest ['--numprocesses=2', '--dist=loadscope', '--no-loadscope-reorder', '-k', 'some thing']"
    assert done.returncode == 3
    assert "failed: ruff format" in done.stderr and "failed: pytest" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no process groups to send Ctrl-C to")
def test_ctrl_c_lets_the_demo_clean_up(ready, tmp_path):
    child = subprocess.Popen(
        [sys.executable, str(ready / "install.py"), "demo", "wait"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "ready").exists():
        assert child.poll() is None
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 7
    assert (tmp_path / "cleaned").exists()
    assert "Stopped." in said and "Traceback" not in said


def test_an_installation_that_was_cut_off_is_made_again(fresh):
    broken = fresh / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    broken.mkdir(parents=True)
    (broken / "half").touch()
    (fresh / ".venv" / "unlearn-install.json").write_text("{}")
    done = call(fresh, "demo")
    assert done.returncode == 0 and "demo" in done.stdout
    assert not (broken / "half").exists()


def test_pip_that_fails_is_explained_and_mended(fresh):
    (fresh / "requirements" / "demo.txt").write_text("./no-such.whl\n")
    done = call(fresh, "demo")
    assert done.returncode == 1
    assert "no network" in done.stderr and "Traceback" not in done.stderr
    (fresh / "requirements" / "demo.txt").write_text("# nothing\n")
    assert call(fresh, "demo").returncode == 0


def test_a_venv_of_someone_else_is_left_alone(fresh):
    (fresh / ".venv").mkdir()
    (fresh / ".venv" / "precious").touch()
    done = call(fresh, "demo")
    assert done.returncode == 1 and "was not made by install.py" in done.stderr
    assert (fresh / ".venv" / "precious").exists()


def test_an_unknown_mode_shows_the_usage(fresh):
    done = call(fresh, "demonstrate")
    assert done.returncode == 2 and done.stderr.startswith("usage:")
    assert call(fresh, "--help").returncode == 0


def test_a_folder_that_cannot_be_written_is_named(fresh, monkeypatch, capsys):
    install = load(fresh)
    monkeypatch.setattr(install, "VENV", fresh / "install.py" / ".venv")
    assert install.main(["demo"]) == 1
    assert "install.py" in capsys.readouterr().err


@pytest.mark.parametrize("version", [(3, 10, 4), (3, 15, 0)])
def test_a_python_without_the_pinned_packages_is_named(fresh, monkeypatch, capsys, version):
    monkeypatch.setattr(sys, "version_info", version)
    assert load(fresh).main(["demo"]) == 1
    assert "need Python 3.11 to 3.14" in capsys.readouterr().err


def test_a_python_without_venv_is_told_what_to_install(fresh, monkeypatch, capsys):
    install, find = load(fresh), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name))
    assert install.main(["demo"]) == 1
    assert "apt install python3-venv" in capsys.readouterr().err


def test_new_pins_and_other_modes_are_installed_again(fresh, monkeypatch):
    install = load(fresh)
    ran = []
    monkeypatch.setattr(install, "run", lambda command, **_: ran.append(command) or 0)
    monkeypatch.setattr(install, "python_works", install.VENV.exists)

    def steps(mode: str) -> int:
        ran.clear()
        install.prepare(mode)
        return len(ran)

    assert steps("demo") == 2, "make the folder, install"
    assert steps("demo") == 0
    assert steps("test") == 1
    assert steps("demo") == 0
    (fresh / "requirements" / "demo.txt").write_text("numpy\n")
    assert steps("demo") == 1
    assert steps("test") == 1
    install.write_state({**install.read_state(), "python": "3.1"})
    assert steps("test") == 2


def test_a_torn_state_file_counts_as_nothing_installed(fresh):
    install = load(fresh)
    install.VENV.mkdir()
    install.STATE.write_text('{"python": "3.')
    assert install.read_state() == {}


# As hosts call it

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


@pytest.mark.slow
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
