"""Sets up what the pack needs.

Hosts run it without arguments: it adds peft where that is missing and touches nothing else.
People run `python install.py demo` or `python install.py test`: it makes `.venv` and goes to work in it.
`python install.py release` says what is missing before a release.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STATE = VENV / "unlearn-install.json"
USAGE = """usage: python install.py demo [--concept NAME] [--out DIR] [more options of the demo]
       python install.py test [--all] [options of pytest]
       python install.py release
test takes about ten minutes on two processor cores, test --all about an hour."""

# Small networks gain little from a second thread: two processes of one thread each are done sooner.
SIDE_BY_SIDE = ("--numprocesses=2", "--dist=loadscope", "--no-loadscope-reorder")
DEFAULT_PATH = ("-m", "not full")
COUNTED = VENV / "tests.xml"

# Newest peft first, with the oldest transformers and accelerate beside which it was seen to import.
PEFTS = (
    ("peft", (4, 43), (0, 33)),
    ("peft==0.18.1", (4, 43), (0, 33)),
    ("peft==0.14.0", (4, 43), (0, 21)),
    ("peft==0.13.2", (4, 30), (0, 21)),
)
# peft loads these at import; hosts that bring transformers bring the rest of what it needs.
COMPANIONS = ("accelerate", "psutil")
CHECK = "import sys; sys.path.insert(0, sys.argv[1]); import peft; from peft import LoraConfig, inject_adapter_in_model"


class Trouble(Exception):
    """Setting up failed; the message says what to do."""


def main(arguments: list[str]) -> int:
    """Run the mode that the arguments name and return its exit code."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        # A folder's name may have letters that the console's encoding lacks.
        stream.reconfigure(errors="replace")
    if not arguments:
        return host()
    mode, *options = arguments
    try:
        if mode == "demo":
            return demo(options)
        if mode == "test":
            return test(options)
        if mode == "release":
            return release()
    except (Trouble, OSError) as trouble:
        print(f"\n{trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("\nStopped.", file=sys.stderr)
        return next(filter(None, stop.args), 130)
    print(USAGE, file=sys.stderr)
    return 0 if mode in ("-h", "--help") else 2


# Called by a host


def host() -> int:
    """Add peft if it is absent. Always 0: a host must start whatever happens here."""
    if importlib.util.find_spec("peft"):
        return 0
    try:
        add_peft()
    except (Exception, KeyboardInterrupt) as problem:
        print(
            f"Unlearn cannot train yet: peft could not be added ({problem}) and nothing was changed; "
            f'to try it by hand: "{sys.executable}" -m pip install --no-deps peft'
        )
    return 0


def add_peft() -> None:
    """Install the newest peft that imports beside the host's packages, tried out in a folder of its own first."""
    transformers, accelerate = version("transformers"), version("accelerate")
    if transformers is None:
        raise Trouble("transformers is missing")
    companions = [name for name in COMPANIONS if not importlib.util.find_spec(name)]
    for peft in candidates(transformers, accelerate):
        with tempfile.TemporaryDirectory() as folder:
            wheels, trial = Path(folder, "wheels"), Path(folder, "trial")
            wanted = ["--no-deps", peft, *companions]
            pip("download", "--only-binary=:all:", "--retries=1", "--timeout=20", f"--dest={wheels}", *wanted)
            downloaded = ["install", "--no-index", f"--find-links={wheels}", *wanted]
            pip(*downloaded, "--no-compile", f"--target={trial}")
            if imports(trial):
                pip(*downloaded)
                return
    raise Trouble(f"no known version imports beside transformers {transformers}")


def candidates(transformers: str, accelerate: str | None) -> list[str]:
    """What pip is asked for, newest first; accelerate is None where it is missing and will be added."""
    return [
        peft
        for peft, least_transformers, least_accelerate in PEFTS
        if numbers(transformers) >= least_transformers
        and (accelerate is None or numbers(accelerate) >= least_accelerate)
    ]


def numbers(text: str) -> tuple[int, ...]:
    """Major and minor version."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in text.split(".")[:2])


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def imports(folder: Path) -> bool:
    """Whether the peft in `folder` imports in a fresh process beside everything that is installed."""
    # A path in argv, not PYTHONPATH: embedded Pythons ignore the variable.
    command = [sys.executable, "-c", CHECK, str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, timeout=300).returncode == 0


def pip(*arguments: str) -> None:
    """Run the host's own pip without a word."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["pip failed"]
        raise Trouble(said[-1])


# Called by a person


def demo(options: list[str]) -> int:
    """Forget a concept on the bundled checkpoint, in the caller's folder: files are named from there."""
    prepare("demo")
    # Safe path: a file of the caller's that is called like a package must not hide it.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    return run([venv_python(), "-m", "unlearn_core", "demo", *options], env=environment)


def test(options: list[str]) -> int:
    """Static checks and tests: all of them run, the first failure is the exit code."""
    begin = time.monotonic()
    prepare("test")
    COUNTED.unlink(missing_ok=True)
    results = {name: run([venv_python(), "-m", *tool], cwd=ROOT) for name, tool in checks(options).items()}
    failed = [name for name, code in results.items() if code]
    seconds = time.monotonic() - begin
    print(f"{seconds:.0f} seconds in all: {counted()}; failed: {', '.join(failed) or 'nothing'}", flush=True)
    return next(filter(None, results.values()), 0)


def checks(options: list[str]) -> dict[str, list[str]]:
    """What is run, in this order; the type checker only where it is installed."""
    chosen = () if "--all" in options else DEFAULT_PATH
    # The caller's options come last: of an option that is given twice, pytest takes the second.
    passed_on = [option for option in options if option != "--all"]
    tests = ["pytest", *SIDE_BY_SIDE, "--durations=40", f"--junitxml={COUNTED}", *chosen, *passed_on]
    static = {"ruff check": ["ruff", "check"], "ruff format": ["ruff", "format", "--check"]}
    if has_module("mypy"):
        static["mypy"] = ["mypy", "unlearn_core"]
    return {**static, "pytest": tests}


def has_module(name: str) -> bool:
    """Whether `.venv` has it."""
    command = [venv_python(), "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def counted() -> str:
    """How many tests had which result, as pytest wrote it down."""
    try:
        suite = ElementTree.parse(COUNTED).getroot()[0]
        tests, *others = (int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped"))
    except (OSError, ElementTree.ParseError, IndexError, KeyError):
        return "no test was counted"
    failures, errors, skipped = others
    return f"{tests - sum(others)} tests passed, {failures} failed, {errors} with errors, {skipped} skipped"


def release() -> int:
    """Say what is missing before this state of the repository can be published; 1 if anything is."""
    missing = unpublishable()
    for sentence in missing:
        print(f"missing: {sentence}")
    if not missing:
        print("Nothing is missing. To publish: comfy node publish")
    return 1 if missing else 0


def unpublishable() -> list[str]:
    """What a registry or a reader of the release would miss, as sentences."""
    if sys.version_info < (3, 11):
        raise Trouble("pyproject.toml can be read with Python 3.11 or newer: run this with one of those.")
    import tomllib

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    number = pyproject["project"]["version"]
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    done = {
        "Repository under [project.urls] in pyproject.toml.": pyproject["project"].get("urls", {}).get("Repository"),
        "PublisherId under [tool.comfy] in pyproject.toml.": pyproject["tool"]["comfy"].get("PublisherId"),
        f"'## {number} - YYYY-MM-DD' as the first heading of CHANGELOG.md.": newest
        and re.fullmatch(rf"{re.escape(number)} - \d{{4}}-\d\d-\d\d", newest[1]),
        f"the tag v{number} at this commit: git tag v{number}": f"v{number}" in git("tag", "--points-at", "HEAD"),
        "a commit of what was changed since the last one.": git("status", "--porcelain") == [],
    }
    return [sentence for sentence, there in done.items() if not there]


def git(*arguments: str) -> list[str]:
    """The lines that git prints about this repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise Trouble("git was not found: install it, then run this again.") from None
    if done.returncode:
        raise Trouble(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.splitlines()


def prepare(mode: str) -> None:
    """Make `.venv` hold what `requirements/MODE.txt` pins; at once if an earlier run finished it."""
    python = ".".join(map(str, sys.version_info[:2]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        raise Trouble(f"The pinned packages need Python 3.11 to 3.14, not {python}: run this with one of those.")
    wanted = {"python": python, mode: pins()}
    state = read_state()
    if python_works() and wanted.items() <= state.items():
        return
    if not python_works() or state.get("python") != python:
        build_venv()
        state = {}
    print(f"Installing the packages of requirements/{mode}.txt into {VENV}; the first time takes minutes.")
    if sys.platform == "linux" and not shutil.which("nvidia-smi"):
        print("No NVIDIA GPU was found: everything runs on the CPU, also with a torch build that brings CUDA.")
    write_state({})
    requirements = str(ROOT / "requirements" / f"{mode}.txt")
    if run([venv_python(), "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements]):
        raise Trouble(
            "pip could not install the packages; its last lines say why. The usual reasons: no network, "
            "a full disk, or a platform without a build of the pinned torch. Then run the same command again."
        )
    write_state({**state, **wanted})


def pins() -> str:
    """One hash over all requirement files: they include each other."""
    files = sorted((ROOT / "requirements").glob("*.txt"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def build_venv() -> None:
    """An empty `.venv`, in place of a half-made or outdated one of ours."""
    if VENV.exists() and not STATE.exists():
        raise Trouble(f"{VENV} was not made by install.py: move it away or delete it, then run this again.")
    if Path(sys.prefix).resolve() == VENV.resolve():
        raise Trouble("The .venv must be rebuilt, and this Python lives in it: deactivate it and run this again.")
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise Trouble("This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv")
    # Renamed first: a folder that is half deleted would no longer be known as ours.
    old = ROOT / ".venv.old"
    shutil.rmtree(old, ignore_errors=True)
    if VENV.exists():
        VENV.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    VENV.mkdir()
    write_state({})
    if run([sys.executable, "-m", "venv", str(VENV)]):
        raise Trouble(f"{VENV} could not be made: see above. On Debian and Ubuntu: apt install python3-venv")


def read_state() -> dict[str, str]:
    """What `.venv` is known to hold; empty after an installation that was cut off."""
    try:
        return json.loads(STATE.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def write_state(state: dict[str, str]) -> None:
    """Replace the state file in one step."""
    new = STATE.with_suffix(".new")
    new.write_text(json.dumps(state), "utf-8")
    os.replace(new, STATE)


def venv_python() -> str:
    """The interpreter inside `.venv`."""
    return str(VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def python_works() -> bool:
    """Whether `.venv` has an interpreter whose base Python is still there."""
    try:
        return subprocess.run([venv_python(), "-c", ""], capture_output=True).returncode == 0
    except OSError:
        return False


def run(command: list[str], **where: Any) -> int:
    """The exit code of a command, `where` as for `Popen`. After a Ctrl-C, `KeyboardInterrupt` carries it."""
    child = subprocess.Popen(command, **where)
    interrupted = False
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # The child got the signal too and needs time to clean up.
            interrupted = True
            continue
        code = code if code >= 0 else 128 - code
        if interrupted:
            raise KeyboardInterrupt(code)
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
