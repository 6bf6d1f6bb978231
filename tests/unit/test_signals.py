"""Ctrl-C, SIGTERM and SIGHUP: the same clean stop at any time, one line, and an exit code that says which it was."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests import unbaked
from tests.few import reduced
from tests.tiny import TinyHost
from unlearn_core import load, save, starting
from unlearn_core.cli import progress_bar, signals
from unlearn_core.cli.main import main
from unlearn_core.cli.signals import Signals, StopOnInterrupt
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadDelta

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
ALL = [pytest.param(s, marks=POSIX) for s in ("SIGINT", "SIGTERM", "SIGHUP")]
SETTINGS = ("sampling_steps=2", "steps=3", "closed_form=no", "batch=2")
TRAINED = ["--anchor", "pear", *(word for pair in SETTINGS for word in ("--set", pair))]


def number(name):
    return getattr(signal, name)


@pytest.fixture(autouse=True)
def hung_up():
    """SIGHUP ends a process, also where the tests were started with nohup, which ignores it."""
    if os.name == "nt":
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def model(tmp_path):
    save(unbaked.delta(), tmp_path / "banana.safetensors")
    return unbaked.checkpoint(tmp_path / "in")


def bake_command(model):
    folder = model.parents[1]
    return [
        "stack",
        str(folder / "banana.safetensors"),
        "--into",
        str(model),
        "--out",
        str(folder / "new" / "c.safetensors"),
    ]


@pytest.mark.parametrize("name", ALL)
def test_training_stops_and_keeps_a_marked_delta(name, tmp_path, monkeypatch, capsys):
    show, before = progress_bar.Bar.show, signal.getsignal(number(name))

    def pressed(self, report, *fraction):
        show(self, report, *fraction)
        if report.phase == "training" and report.done:
            monkeypatch.setattr(progress_bar.Bar, "show", show)
            signal.raise_signal(number(name))

    monkeypatch.setattr(progress_bar.Bar, "show", pressed)
    monkeypatch.setattr("unlearn_core.standalone.model.StandaloneModel", lambda *_, **__: TinyHost())
    out = tmp_path / "o.safetensors"
    wish = ["forget", "--checkpoint", str(CHECKPOINT), "--concept", "banana", *TRAINED, "--out", str(out)]
    with reduced("unlearn_core"):
        assert main(wish) == 128 + number(name)
    assert load(out).info.stopped.startswith("stopped at step") and "Stopped" in capsys.readouterr().out
    assert signal.getsignal(number(name)) is before


@pytest.mark.parametrize("name", ALL)
def test_a_bake_stops_and_leaves_nothing(name, model, monkeypatch, capsys):
    def pressed(*_):
        signal.raise_signal(number(name))

    monkeypatch.setattr("unlearn_core.delta.bake.check_copy", pressed)
    assert main(bake_command(model)) == 128 + number(name)
    assert capsys.readouterr().err == "Stopped.\n" and list((model.parents[1] / "new").iterdir()) == []


@pytest.mark.parametrize("told", [BadDelta("'banana.safetensors' is damaged"), RuntimeError("error in a callback")])
def test_a_stop_that_a_library_tells_as_a_mistake_is_still_a_stop(told, model, monkeypatch, capsys):
    def swallowed(*_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise told from None

    monkeypatch.setattr("unlearn_core.cli.console.delta_file.load", swallowed)
    assert main(bake_command(model)) == 130
    assert capsys.readouterr().err == "Stopped.\n"


@POSIX
def test_a_closed_terminal_that_is_told_twice_is_one_wish_and_a_second_ctrl_c_ends_at_once(monkeypatch):
    with Signals() as heard, StopOnInterrupt() as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)  # whoever ends a group reaches each of it more than once
        assert stop.wanted and heard.code == 129 and not heard.raised
        signal.raise_signal(signal.SIGINT)  # nor did a person press this one
        assert not heard.raised
        monkeypatch.setattr("unlearn_core.cli.signals.PRESSED", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert heard.raised and heard.code == 129


@POSIX
def test_a_terminal_that_is_gone_cannot_be_told_and_the_code_says_why(model, monkeypatch, capsys):
    """The files are written; only the report finds nobody."""

    def gone(*_):
        with StopOnInterrupt():
            signal.raise_signal(signal.SIGHUP)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("unlearn_core.cli.console.delta_file.load", gone)
    assert main(bake_command(model)) == 129
    assert capsys.readouterr().err == ""


@POSIX
def test_a_second_sigterm_later_ends_at_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with Signals() as heard, StopOnInterrupt():
        signal.raise_signal(signal.SIGTERM)
        now[0] = 5.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert heard.code == 143


@POSIX
def test_what_the_caller_has_switched_off_stays_off():
    """As nohup does with SIGHUP, and a shell's job in the background with Ctrl-C."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as heard, StopOnInterrupt() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert not stop.wanted and heard.first is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_runs_in_a_thread_too(model, capsys):
    found = []
    thread = threading.Thread(target=lambda: found.append(main(bake_command(model))))
    thread.start()
    thread.join()
    assert found == [0]


# A process of its own


def started(*command):
    return subprocess.Popen(
        [sys.executable, "-m", "unlearn_core", *command],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_until_it_listens(process):
    """Until Python itself has started and the package begins to be imported: the mask of handled signals grows."""
    status = Path(f"/proc/{process.pid}/status")
    while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) & (1 << signal.SIGTERM - 1):
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system which signals are heard")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_moments_end_in_one_line(name):
    with started("inspect", "nowhere.safetensors") as process:
        wait_until_it_listens(process)
        process.send_signal(number(name))
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number(name), "", "Stopped.\n")


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="asks the system which signals are heard")
@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.8, 1.3, 1.8, 2.3, 2.8, 4.0])
def test_any_moment_of_a_forget_ends_in_one_line(seconds, tmp_path):
    out = tmp_path / "o.safetensors"
    wish = ["--concept", "banana", "--anchor", "pear", "--set", "quality=quick", "--out", str(out)]
    with started("forget", "--checkpoint", str(CHECKPOINT), *wish) as process:
        wait_until_it_listens(process)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and err.endswith("\n")
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    "arguments, whole, expected",
    [
        (["-m", "inspect", "x"], ["python", "-m", "unlearn_core", "inspect", "x"], True),
        (["-m"], ["python", "-munlearn_core"], True),
        (["-m", "x"], ["python", "-m", "pytest", "x"], False),
        (["/usr/bin/unlearn", "inspect"], [], True),
        (["C:\\Scripts\\unlearn.exe".replace("\\", "/")], [], True),
        (["main.py"], ["python", "main.py"], False),
        ([], [], False),
        (["/opt/unlearn_core/tool.py"], [], False),
    ],
)
def test_only_the_command_line_is_prepared(arguments, whole, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(sys, "orig_argv", whole)
    assert starting.is_command_line() is expected
