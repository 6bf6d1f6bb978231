"""install.py as people call it, in throw-away repositories."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.install.calling import ROOT, call, load

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
HALF = Path(".venv", "Scripts" if os.name == "nt" else "bin", "half")
TOOL = "import sys; print('{0}', sys.argv[1:]); sys.exit({1})"
PYTEST = """import pathlib, sys
print("pytest", sys.argv[1:])
(report,) = [a.partition("=")[2] for a in sys.argv if a.startswith("--junitxml=")]
suite = '<testsuite tests="9" failures="2" errors="1" skipped="3"/>'
if "no:report" not in sys.argv:
    pathlib.Path(report).write_text(f"<testsuites>{suite}</testsuites>")
sys.exit(4)
"""


def make_repository(folder: Path) -> Path:
    """A repository with the real install.py, nothing to install, and stubs in place of the demo and the tools."""
    (folder / "requirements").mkdir(parents=True)
    (folder / "unlearn_core").mkdir()
    (folder / "extension").mkdir()
    shutil.copy(ROOT / "install.py", folder)
    files = {
        "requirements/demo.txt": "# nothing\n",
        "requirements/test.txt": "-r demo.txt\n",
        "requirements/webui-app.txt": "# nothing\n",
        "extension/__main__.py": "import os, sys; print('page', sys.argv[1:], os.path.basename(os.getcwd()))",
        "unlearn_core/__init__.py": "",
        "unlearn_core/__main__.py": DEMO,
        "ruff.py": TOOL.format("ruff", "3 if 'format' in sys.argv else 0"),
        "pytest.py": PYTEST,
    }
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.fixture
def fresh(tmp_path):
    return make_repository(tmp_path / "a folder")


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A repository, with a space in its path, in which the demo has been run once, after a start that was cut off."""
    repository = make_repository(tmp_path_factory.mktemp("my repositories") / "unlearn it")
    (repository / HALF).parent.mkdir(parents=True)
    (repository / HALF).touch()
    (repository / ".venv" / "unlearn-install.json").write_text("{}")
    done = call(repository, "demo")
    assert done.returncode == 0, done.stderr
    return repository


def test_options_reach_the_demo_in_the_callers_folder(ready, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the caller hides a package')")
    done = call(ready, "demo", "--concept", "two words", "--out", "there", cwd=tmp_path)
    assert f"demo ['demo', '--concept', 'two words', '--out', 'there'] {tmp_path.name}" in done.stdout


def test_exit_code_of_the_demo_is_passed_on(ready):
    assert call(ready, "demo", "5").returncode == 5


def test_second_run_installs_nothing(ready):
    assert "Installing" not in call(ready, "demo").stdout


def tools_of(done: subprocess.CompletedProcess) -> list[str]:
    """What the stubs of the tools printed."""
    return [line for line in done.stdout.splitlines() if line.startswith(("ruff", "mypy", "pytest"))]


def test_all_tools_run_and_the_first_failure_counts(ready):
    done = call(ready, "test", "-k", "some thing")
    *ruff, pytest_line = tools_of(done)
    assert ruff == ["ruff ['check']", "ruff ['format', '--check']"]
    side_by_side = "'--numprocesses=2', '--max-worker-restart=0', '--dist=loadscope', '--no-loadscope-reorder'"
    assert f"[{side_by_side}, '--durations=40'," in pytest_line
    assert pytest_line.endswith("'-m', 'not full', '-k', 'some thing']")
    assert done.returncode == 3
    last = done.stdout.splitlines()[-1].split(" ", 1)
    assert last[0].isdigit()
    counts = "3 tests passed, 2 failed, 1 with errors, 3 skipped"
    assert last[1] == f"seconds in all: {counts}; failed: ruff format, pytest"


def test_all_leaves_no_test_out(ready):
    done = call(ready, "test", "--all", "-x")
    most, alone = tools_of(done)[-2:]
    assert most.endswith("tests.xml', '-m', 'not alone', '-x']") and alone == "pytest ['-x', '-m', 'alone']"


def test_a_type_checker_that_is_installed_is_run(ready):
    (ready / "mypy.py").write_text(TOOL.format("mypy", 0))
    try:
        assert "mypy ['unlearn_core']" in tools_of(call(ready, "test"))
    finally:
        (ready / "mypy.py").unlink()


def test_counts_of_an_earlier_run_are_not_shown_again(ready):
    assert "3 tests passed" in call(ready, "test").stdout
    assert "no test was counted" in call(ready, "test", "no:report").stdout


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_what_ends_install_ends_what_it_runs(ready, tmp_path):
    """As a service manager does."""
    command = [sys.executable, str(ready / "install.py"), "demo", "wait"]
    child = subprocess.Popen(command, cwd=tmp_path)
    while not (tmp_path / "ready").exists():
        assert child.poll() is None
        time.sleep(0.05)
    child.terminate()
    # The code is the demo's own, which has no handler for this signal.
    assert child.wait(timeout=30) == 128 + signal.SIGTERM


def test_an_installation_that_was_cut_off_is_made_again(ready):
    assert not (ready / HALF).exists()
    assert not (ready / ".venv.old").exists()


@pytest.fixture
def copied(fresh, ready, monkeypatch):
    """The install.py of a fresh repository; the environment that it makes is a copy of one that is there."""
    install = load(fresh)
    run = install.run

    def with_a_copied_environment(command, *how, **where):
        if command[1:3] != ["-m", "venv"]:
            return run(command, *how, **where)
        shutil.copytree(ready / ".venv", command[-1], symlinks=True, dirs_exist_ok=True)
        return 0

    monkeypatch.setattr(install, "run", with_a_copied_environment)
    return install


def test_pip_that_fails_is_explained_and_mended(copied, fresh, capfd):
    (fresh / "requirements" / "demo.txt").write_text("./no-such.whl\n")
    assert copied.main(["demo"]) == 1
    shown = capfd.readouterr()
    assert "no-such.whl" in shown.err and "no network" in shown.err and "no-such" not in shown.out
    log = fresh / ".venv" / "unlearn-install.log"
    assert f"All of them: {log}\n" in shown.err and "no-such.whl" in log.read_text()
    (fresh / "requirements" / "demo.txt").write_text("# nothing\n")
    assert copied.main(["demo"]) == 0


def test_set_up_is_one_line_a_step_with_its_time(copied, fresh, capfd):
    assert copied.main(["demo"]) == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if "GPU" not in line]
    assert len(lines) == 3 and lines[2].startswith("demo [")
    assert re.fullmatch(r"Making the environment \.venv \.\.\. \d min \d\d s", lines[0])
    assert re.fullmatch(r"Installing packages into \.venv \.\.\. \d min \d\d s", lines[1])


def test_the_page_has_an_environment_of_its_own(copied, fresh, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert copied.main(["app", "--port", "7900"]) == 0
    shown = capfd.readouterr().out
    assert f"page ['--port', '7900'] {tmp_path.name}" in shown and "Installing" in shown
    assert (fresh / ".venv-app").is_dir() and not (fresh / ".venv").exists()
    assert copied.main(["app"]) == 0
    shown = capfd.readouterr().out
    assert "page []" in shown and "Installing" not in shown


def test_a_terminal_sees_what_pip_does_on_one_line(copied, fresh, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(copied, "GLANCE", 0.05)
    place = copied.Environment(tmp_path)
    said = "Downloading https://files.example/packages/torch-2.13.0-cp311.whl (850.1 MB)"
    program = f"import time; print({said!r}, flush=True); time.sleep(0.5)"
    assert place.step("Installing", [sys.executable, "-c", program]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1 and "downloading torch (850.1 MB)" in shown
    assert re.fullmatch(r"Installing: 0 min 0\d s *", shown.split("\r")[-1].rstrip("\n"))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Collecting torch==2.13.0 (from -r demo.txt (line 3))", "looking for torch==2.13.0"),
        ("  Downloading numpy-2.4.6-cp311-manylinux.whl (17 MB)", "downloading numpy (17 MB)"),
        ("Installing collected packages: mpmath, sympy, torch", "unpacking 3 packages"),
        ("Using cached sympy-1.14.whl", ""),
        ("", ""),
    ],
)
def test_what_pip_says_in_few_words(line, shown):
    assert load(ROOT).doing_now(line) == shown


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
    monkeypatch.setattr(install, "ROOT", fresh / "install.py")
    monkeypatch.setattr(install, "pins", str)
    assert install.main(["demo"]) == 1
    assert "install.py" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "version", "newest"), [("demo", (3, 10, 4), 14), ("app", (3, 13, 0), 12)])
def test_a_python_without_the_pinned_packages_is_named(fresh, monkeypatch, capsys, mode, version, newest):
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert load(fresh).main([mode]) == 1
    assert f"need Python 3.11 to 3.{newest}, not 3.{version[1]}" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="stands in for a Python by a script")
def test_another_python_that_fits_is_used(fresh, tmp_path, monkeypatch, capfd):
    """A stand-in of 3.12 that is not one is passed over; one of 3.11 gets the whole command."""
    for name, code in (("python3.12", 1), ("python3.11", 0)):
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit {code}\necho {name} "$@"\nexit 5\n')
        file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert load(fresh).main(["app", "--port", "1"]) == 5
    assert f"python3.11 {fresh / 'install.py'} app --port 1" in capfd.readouterr().out


def test_a_python_without_venv_is_told_what_to_install(fresh, monkeypatch, capsys):
    install, find = load(fresh), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name))
    assert install.main(["demo"]) == 1
    assert "apt install python3-venv" in capsys.readouterr().err


def test_new_pins_and_other_modes_are_installed_again(fresh, monkeypatch):
    install = load(fresh)
    place = install.Environment(fresh / ".venv")
    ran = []
    monkeypatch.setattr(install, "run", lambda command, *_, **__: ran.append(command) or 0)
    monkeypatch.setattr(install, "works", lambda command: Path(command[0]).parents[1].exists())

    def steps(mode: str) -> int:
        ran.clear()
        install.prepare(mode)
        return len(ran)

    assert steps("demo") == 2, "make the folder, install"
    assert steps("demo") == 0
    assert steps("test") == 1
    assert steps("demo") == 0
    assert steps("app") == 2
    (fresh / "requirements" / "demo.txt").write_text("numpy\n")
    assert steps("demo") == 1
    assert steps("test") == 1
    place.write_state({**place.state(), "python": "3.1"})
    assert steps("test") == 2


def test_a_torn_state_file_counts_as_nothing_installed(fresh):
    place = load(fresh).Environment(fresh / ".venv")
    place.folder.mkdir()
    place.state_file.write_text('{"python": "3.')
    assert place.state() == {}
