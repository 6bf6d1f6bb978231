"""Sets up what the pack needs.

Hosts run it without arguments: it adds peft where that is missing and touches nothing else.
People run `python install.py app`, `demo` or `test`: it makes an environment in this folder and goes to work in it.
`python install.py release` says what is missing before a release.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
USAGE = """usage: python install.py app [--checkpoint FILE] [--out DIR] [--port NUMBER] [--no-browser]
       python install.py demo [--concept NAME] [--out DIR] [--anchor NAME] [--keep NAME] [--stack FILE]
                              [--set NAME=VALUE]
       python install.py test [--all] [options of pytest]
       python install.py release
app opens the page in your browser; demo forgets one thing in the terminal; test takes ten minutes, --all an hour."""

# Small networks gain little from a second thread: two processes of one thread each are done sooner.
# A process that dies ends the run: its tests would be given to another one, which may die of the same or wait forever.
SIDE_BY_SIDE = ("--numprocesses=2", "--max-worker-restart=0", "--dist=loadscope", "--no-loadscope-reorder")
DEFAULT_PATH, BESIDE = ("-m", "not full"), ("-m", "not alone")
# Tests that need most of a machine's memory come after all others, in a process of their own.
ALONE, NOTHING_CHOSEN = "pytest, alone", 5
PACKAGE = "On Debian and Ubuntu: apt install python3-venv"
# Seconds between two looks at what pip says.
GLANCE = 0.5

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
    mode = "--help" if mode in ("app", "demo") and {"-h", "--help"} & {*options} else mode
    modes = {"app": app, "demo": demo, "test": test}
    try:
        if mode in modes:
            other = another_python(mode)
            # the same command again, in a Python that has the pinned packages
            return run([*other, __file__, *arguments]) if other else modes[mode](options)
        if mode == "release":
            return run([sys.executable, "-m", "tests.release"], cwd=ROOT)
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
            f"Unlearn cannot train yet: peft could not be added ({problem}) and nothing was changed; try it by hand: "
            f'"{sys.executable}" -m pip install --no-deps peft. Without ComfyUI or a web UI: python install.py app'
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
    return [p for p, t, a in PEFTS if numbers(transformers) >= t and (accelerate is None or numbers(accelerate) >= a)]


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
    return works(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=300)


def pip(*arguments: str) -> None:
    """Run the host's own pip without a word."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["pip failed"]
        raise Trouble(said[-1])


# Called by a person


def app(options: list[str]) -> int:
    """Open the tab in a page of its own; it answers this machine alone until Ctrl-C."""
    python = prepare("app")
    print("Starting the page. The first start takes longest.", flush=True)
    return run([python, "-m", "extension", *options], env=of_the_pack())


def demo(options: list[str]) -> int:
    """Forget a concept on the bundled checkpoint, in the caller's folder: files are named from there."""
    return run([prepare("demo"), "-m", "unlearn_core", "demo", *options], env=of_the_pack())


def of_the_pack() -> dict[str, str]:
    """The environment variables with which a Python finds the pack from any folder."""
    # Safe path: a file of the caller's that is called like a package must not hide it.
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}


def test(options: list[str]) -> int:
    """Static checks and tests: all of them run, the first failure is the exit code."""
    begin = time.monotonic()
    python = prepare("test")
    report = Path(python).parents[1] / "tests.xml"
    report.unlink(missing_ok=True)
    results = {name: run([python, "-m", *tool], cwd=ROOT) for name, tool in checks(python, report, options).items()}
    if results.get(ALONE) == NOTHING_CHOSEN:
        results[ALONE] = 0
    failed = [name for name, code in results.items() if code]
    seconds = time.monotonic() - begin
    print(f"{seconds:.0f} seconds in all: {counted(report)}; failed: {', '.join(failed) or 'nothing'}", flush=True)
    return next(filter(None, results.values()), 0)


def checks(python: str, report: Path, options: list[str]) -> dict[str, list[str]]:
    """What is run, in this order; the type checker only where it is installed."""
    chosen = BESIDE if "--all" in options else DEFAULT_PATH
    # The caller's options come last: of an option that is given twice, pytest takes the second.
    passed_on = [option for option in options if option != "--all"]
    tests = ["pytest", *SIDE_BY_SIDE, "--durations=40", f"--junitxml={report}", *chosen, *passed_on]
    static = {"ruff check": ["ruff", "check"], "ruff format": ["ruff", "format", "--check"]}
    if has_module(python, "mypy"):
        static["mypy"] = ["mypy", "unlearn_core"]
    alone = {ALONE: ["pytest", *passed_on, "-m", "alone"]} if "--all" in options else {}
    return {**static, "pytest": tests, **alone}


def has_module(python: str, name: str) -> bool:
    """Whether that Python has it."""
    return works([python, "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"])


def counted(report: Path) -> str:
    """How many tests had which result, as pytest wrote it down."""
    try:
        suite = ElementTree.parse(report).getroot()[0]
        tests, *others = (int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped"))
    except (OSError, ElementTree.ParseError, IndexError, KeyError):
        return "no test was counted"
    failures, errors, skipped = others
    return f"{tests - sum(others)} tests passed, {failures} failed, {errors} with errors, {skipped} skipped"


# The environments


def another_python(mode: str) -> list[str]:
    """The command of a Python that has the mode's pinned packages; empty where this one has them.

    Raises `Trouble` where there is none.
    """
    newest = 12 if mode == "app" else 14
    if (3, 11) <= sys.version_info[:2] <= (3, newest):
        return []
    for minor in range(newest, 10, -1):
        command = ["py", f"-3.{minor}"] if os.name == "nt" else [f"python3.{minor}"]
        # a launcher may be there without the version that it is to start
        right = [*command, "-c", f"import sys; sys.exit(sys.version_info[1] != {minor})"]
        if shutil.which(command[0]) and works(right):
            return command
    python = ".".join(map(str, sys.version_info[:2]))
    raise Trouble(
        f"The pinned packages need Python 3.11 to 3.{newest}, not {python}, and none was found. "
        "Install one from python.org, then run the same command again."
    )


def works(command: list[str], **how: Any) -> bool:
    """Whether a command can be run and ends well; `how` as for `subprocess.run`."""
    try:
        return subprocess.run(command, capture_output=True, **how).returncode == 0
    except OSError:
        return False


def prepare(mode: str) -> str:
    """The interpreter of an environment that holds what the mode's requirements pin; at once where it does already."""
    place = Environment(ROOT / (".venv-app" if mode == "app" else ".venv"))
    wanted = {"python": ".".join(map(str, sys.version_info[:2])), mode: pins()}
    state = place.state()
    if works([place.python, "-c", ""]):
        if wanted.items() <= state.items():
            return place.python
        if state.get("python") == wanted["python"]:
            fill(place, mode, {**state, **wanted})
            return place.python
    place.build()
    fill(place, mode, wanted)
    return place.python


def fill(place: Environment, mode: str, state: dict[str, str]) -> None:
    """Install a mode's packages. Raises `Trouble` with pip's last lines."""
    file = ROOT / "requirements" / ("webui-app.txt" if mode == "app" else f"{mode}.txt")
    if sys.platform == "linux" and not shutil.which("nvidia-smi"):
        print("No NVIDIA GPU was found: everything runs on the CPU, also with a torch build that brings CUDA.")
    place.write_state({})
    # What is never imported need not be compiled.
    options = ["--disable-pip-version-check", "--no-input", "--no-compile", "--progress-bar=off", "-r", str(file)]
    if place.step(f"Installing packages into {place.folder.name}", [place.python, "-m", "pip", "install", *options]):
        raise Trouble(
            f"pip could not install the packages. Its last lines:\n\n{place.last_lines()}\n\nAll of them: {place.log}\n"
            "The usual reasons: no network, a full disk, or a platform without a build of the pinned torch. "
            "Then run the same command again."
        )
    place.write_state(state)


def pins() -> str:
    """One hash over all requirement files: they include each other."""
    files = sorted((ROOT / "requirements").glob("*.txt"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


class Environment:
    """A virtual environment of ours, what it is known to hold, and the log of how it was made."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        self.state_file, self.log = folder / "unlearn-install.json", folder / "unlearn-install.log"

    def state(self) -> dict[str, str]:
        """What it holds; empty after an installation that was cut off."""
        try:
            return json.loads(self.state_file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def write_state(self, state: dict[str, str]) -> None:
        """Replace the state file in one step."""
        new = self.state_file.with_suffix(".new")
        new.write_text(json.dumps(state), "utf-8")
        os.replace(new, self.state_file)

    def build(self) -> None:
        """An empty one, in place of a half-made or outdated one of ours."""
        folder = self.folder
        if folder.exists() and not self.state_file.exists():
            raise Trouble(f"{folder} was not made by install.py: move it away or delete it, then run this again.")
        if Path(sys.prefix).resolve() == folder.resolve():
            raise Trouble(f"{folder} must be rebuilt, and this Python lives in it: deactivate it and run this again.")
        if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
            raise Trouble(
                "This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"
            )
        # Renamed first: a folder that is half deleted would no longer be known as ours.
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        folder.mkdir()
        self.write_state({})
        if self.step(f"Making the environment {folder.name}", [sys.executable, "-m", "venv", str(folder)]):
            raise Trouble(f"{folder} could not be made:\n\n{self.last_lines()}\n\n{PACKAGE}")

    def step(self, title: str, command: list[str]) -> int:
        """Run a command with its output in the log; one line says what it does and how long it takes."""
        begin, live = time.monotonic(), sys.stdout.isatty()
        print(title, end="" if live else " ... ", flush=True)

        def line(doing: str = "") -> str:
            seconds = round(time.monotonic() - begin)
            return f"{seconds // 60} min {seconds % 60:02} s" + (f", {doing}" if doing else "")

        def show() -> None:
            if live:
                room = shutil.get_terminal_size().columns - 1
                print("\r" + f"{title}: {line(doing_now(self.last_lines(1)))}"[:room].ljust(room), end="", flush=True)

        with self.log.open("ab") as log:
            code = run(command, show, stdout=log, stderr=subprocess.STDOUT)
        show()
        print(f"\r{title}: {line()}".ljust(shutil.get_terminal_size().columns - 1) if live else line(), flush=True)
        return code

    def last_lines(self, count: int = 5) -> str:
        """The end of the log."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])


def doing_now(line: str) -> str:
    """What pip is doing, in few words, by a line of its output."""
    words = line.split()
    if words[:1] == ["Downloading"]:
        return f"downloading {words[1].rsplit('/')[-1].partition('-')[0]} {' '.join(words[2:])}"
    if words[:1] == ["Collecting"]:
        return f"looking for {words[1]}"
    if words[:2] == ["Installing", "collected"]:
        return f"unpacking {len(words) - 3} packages"
    return ""


def run(command: list[str], show: Callable[[], None] = lambda: None, **where: Any) -> int:
    """The exit code of a command, `where` as for `Popen`. After a Ctrl-C, `KeyboardInterrupt` carries it.

    show: called every now and then while it runs. What is asked of this program to end is asked of the command.
    """
    child = subprocess.Popen(command, **where)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    interrupted = False
    while True:
        try:
            code = child.wait(GLANCE)
        except subprocess.TimeoutExpired:
            show()
            continue
        except KeyboardInterrupt:
            # The child got the signal too and needs time to clean up.
            interrupted = True
            continue
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = code if code >= 0 else 128 - code
        if interrupted:
            raise KeyboardInterrupt(code)
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
