"""Whatever goes wrong on the command line: one sentence and an exit code, details only for who asks, never a trace."""

import errno
import io
import json
import logging
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import unbaked
from unlearn_core import Delta, save
from unlearn_core.cli import failures
from unlearn_core.cli.main import main, parser
from unlearn_core.cli.progress_bar import Bar, Console, Counter
from unlearn_core.errors import BadDelta, BadSetting
from unlearn_core.progress import StepReport

ROOT = Path(__file__).parents[2]
COMMANDS = ("demo", "forget", "stack", "preview", "inspect")
MEMORY = "error: There is not enough memory: close other programs, or run it with --device cpu."
WENT_WRONG = {
    "a mistake of ours": (
        ZeroDivisionError("division by zero"),
        "(ZeroDivisionError: division by zero). Run the command",
    ),
    "many lines": (KeyError("a\nb"), "(KeyError: 'a\\nb'). Run the command again with --debug"),
    "without words": (AssertionError(), "(AssertionError). Run the command"),
    "memory": (MemoryError(), MEMORY),
    "the card's memory": (torch.cuda.OutOfMemoryError("CUDA out of memory."), MEMORY),
    "the allocator": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), MEMORY),
    "too deep": (
        RecursionError("maximum recursion depth exceeded"),
        "(RecursionError: maximum recursion depth exceeded)",
    ),
    "no right to read": (
        PermissionError(13, "Permission denied", "a.safetensors"),
        "'a.safetensors': Permission denied.",
    ),
    "a name that is no text": (OSError(5, "Input/output error", b"\xff"), "Input/output error. Run the command"),
    "a full disk behind a redirection": (OSError(errno.ENOSPC, "No space left"), "The disk to which the output goes"),
    "codes for the terminal": (BadDelta("'\x1b[31mred\x07'"), "[31mred"),
    "a sentence": (BadDelta("It is empty."), "error: It is empty.\n"),
}


@pytest.fixture
def delta(tmp_path):
    save(unbaked.delta(), tmp_path / "banana.safetensors")
    return str(tmp_path / "banana.safetensors")


@pytest.mark.parametrize("what", WENT_WRONG)
def test_a_sentence_and_no_trace(what, delta, monkeypatch, capsys):
    error, words = WENT_WRONG[what]

    def fails(*_):
        raise error

    monkeypatch.setattr("unlearn_core.cli.inspect.delta_file.load", fails)
    assert main(["inspect", delta]) == 1
    out, err = capsys.readouterr()
    assert words in err and err.startswith("error: ") and err.count("\n") == 1 and out == ""
    assert err.strip().isprintable()
    assert main(["inspect", "--debug", delta]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and words in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_details_for_who_asks(command, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args([command, "--help"])
    assert "--debug" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--debug", "inspect"], ["inspect", "--debug"]])
def test_the_option_may_stand_before_or_after_the_command(arguments, delta, capsys):
    assert main([*arguments, delta]) == 0
    assert main([*arguments, "nowhere.safetensors"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_mistake(delta, monkeypatch, capsys):
    class Gone:
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Gone())
    assert main(["inspect", delta]) == failures.PIPE_CLOSED == 141
    assert capsys.readouterr().err == ""


CONSOLES = ("utf-8", "cp1252", "cp437", "cp932", "ascii")
NAMES = {"of Asia": "猫", "with an accent": "écureuil", "of nature": "🐈", "plain": "cat"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("console", CONSOLES)
def test_json_in_a_file_is_the_same_whatever_the_console(console, name, tmp_path, monkeypatch):
    """As `inspect --json > facts.json` writes it; a name is that of the concept, of the file, and of a prompt."""
    text, file = NAMES[name], tmp_path / f"{NAMES[name]}.safetensors"
    prompts = ((f"a {text}", f'a "dog" \\ {text}'),)
    save(Delta(unbaked.delta().factors, replace(unbaked.delta().info, concept=text, prompts=prompts)), file)
    out = io.BytesIO()
    with io.TextIOWrapper(out, encoding=console) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["inspect", str(file), "--json"]) == 0
        stream.flush()
        facts = json.loads(out.getvalue().decode("utf-8"))
    assert (facts["file"], facts["concepts"]) == (file.name, [text])
    assert facts["prompts"] == [list(pair) for pair in prompts]


@pytest.mark.parametrize("console", CONSOLES)
def test_what_a_console_cannot_show_ends_no_command(console, tmp_path, monkeypatch):
    info = replace(unbaked.delta().info, concept="猫 é")
    save(Delta(unbaked.delta().factors, info), tmp_path / "x.safetensors")
    out = io.BytesIO()
    with io.TextIOWrapper(out, encoding=console) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["inspect", str(tmp_path / "x.safetensors")]) == 0
        assert main(["inspect", str(tmp_path / "x.safetensors"), "--all"]) == 0
        stream.flush()
        assert "猫 é".encode(console, "replace") in out.getvalue()


def test_a_delta_without_the_right_to_read_is_not_called_damaged(delta, monkeypatch, capsys):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("unlearn_core.untrusted.open", refused, raising=False)
    assert main(["inspect", delta]) == 1
    assert capsys.readouterr().err == (
        "error: 'banana.safetensors' cannot be read (Permission denied): ask for the right to read it.\n"
    )


def test_other_packages_are_silent_but_for_who_asks(delta, monkeypatch, capsys, caplog):
    def noisy(*_):
        warnings.warn("a warning of a library", stacklevel=1)
        logging.getLogger("transformers").error("a log of a library")
        raise BadDelta("It is empty.")

    monkeypatch.setattr("unlearn_core.cli.inspect.delta_file.load", noisy)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert main(["inspect", delta]) == 1
        assert heard == [] and caplog.records == []
        assert main(["inspect", "--debug", delta]) == 1
        assert len(heard) == len(caplog.records) == 1
    assert logging.root.manager.disable == 0


def test_bars_outlive_whoever_looked_at_them(monkeypatch):
    """A terminal that was closed, or a reader that has gone, must not cost the run."""

    class Gone:
        encoding = "utf-8"

        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        flush = isatty = fileno = lambda self: self.write("")

    for stream in (Gone(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        with Bar() as bar:
            bar.show(StepReport("training", 1, 2, 0.5, {}, None))
        with Counter("counting") as counter:
            counter.tick()
    assert Console().encoding == "ascii"


WRONG = {
    "a folder as a delta": (["inspect", "folder.safetensors"], "There is no file folder.safetensors"),
    "a folder as a delta to merge": (["stack", ".", "--out", "o.safetensors"], "is not a .safetensors file"),
    "a folder to bake into": (["stack", "banana.safetensors", "--into", ".", "--out", "o.safetensors"], "is a folder"),
    "bytes that are no text": (["inspect", os.fsdecode(b"\xff.safetensors")], "There is no file"),
    "a prompt that is no text": (
        ["preview", "--checkpoint", "x", "--out", "o.png", "--prompts", os.fsdecode(b"a \xff")],
        "holds bytes that are no text",
    ),
    "nothing to read": (["inspect", os.devnull], "is not a .safetensors file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_odd_arguments_end_in_a_sentence(what, delta, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    arguments, words = WRONG[what]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert words in err and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_pipes_and_closed_streams_of_a_real_process(delta):
    """`| head`, a reader that never reads, all streams closed, a full disk, a console of an old code page."""
    inspect = f"'{sys.executable}' -m unlearn_core inspect '{delta}'"
    script = f"""
        {inspect} | head -n 1; echo "head ${{PIPESTATUS[0]}}"
        {inspect} <&- >&- 2>&-; echo "closed $?"
        PYTHONIOENCODING=cp1252 {inspect} > /dev/full; echo "full $?"
    """
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["File:", "banana.safetensors"]
    assert lines[1] in ("head 0", "head 141") and lines[2:] == ["closed 0", "full 1"]
    assert done.stderr.count("\n") == 1 and "The disk to which the output goes is full" in done.stderr


def test_the_command_line_names_its_options_beside_the_labels_of_forms():
    told = failures.sentence(BadSetting("Choose another 'Draw instead', or 'Go on regardless'."))
    assert told == "Choose another 'Draw instead' (--anchor), or 'Go on regardless' (--force)."
