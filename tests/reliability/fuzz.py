"""Coverage-guided fuzzing of everything that reads what a stranger wrote: delta files, checkpoints, wishes.

Runs in a process of its own, since atheris ends the one in which it runs: `python -m tests.reliability.fuzz TARGET
FOLDER -max_total_time=SECONDS`. A finding is written to FOLDER and ends it with code 77.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from unlearn_core.errors import UnlearnError

from .outcome import Outcome

ROOT = Path(__file__).resolve().parents[2]
FOUND = 77
"""What atheris ends with when a target raised."""
PACKAGE = "The package atheris is missing: python -m pip install -r requirements/fuzz.txt"
DONE = re.compile(r"Done (\d+) runs|stat::number_of_executed_units: (\d+)")


def fuzz(minutes: int, folder: Path, tick: Callable[[], None]) -> Outcome:
    """Each target for its share of the minutes. Raises `UnlearnError` without atheris."""
    seconds = max(1, 60 * minutes // len(TARGETS))
    outcome = Outcome("fuzz", len(TARGETS), counted={"minutes": minutes})
    for name in TARGETS:
        place = folder / name
        (corpus := place / "corpus").mkdir(parents=True)
        for number, data in enumerate(SEEDS[name]()):
            (corpus / str(number)).write_bytes(data)
        command = [sys.executable, "-m", "tests.reliability.fuzz", name, str(corpus)]
        command += [f"-max_total_time={seconds}", f"-artifact_prefix={place}/", "-timeout=20", "-rss_limit_mb=6000"]
        command += ["-print_final_stats=1", "-max_len=65536"]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
        if "No module named 'atheris'" in ended.stderr:
            raise UnlearnError(PACKAGE)
        runs = [int(a or b) for a, b in DONE.findall(ended.stdout + ended.stderr)]
        outcome.counted[f"{name}: inputs"] = max(runs, default=0)
        outcome.note(name, [ended.stderr.strip()[-600:]] if ended.returncode else [])
        tick()
    return outcome


def read_delta(data: bytes, scratch: Path) -> None:
    """A file of these bytes as a delta."""
    from unlearn_core.delta import format as delta_file

    file = scratch / "x.safetensors"
    file.write_bytes(data)
    delta_file.load(file)


def read_checkpoint(data: bytes, scratch: Path) -> None:
    """A checkpoint with these bytes as its .yaml or, after a zero byte, with these bytes itself."""
    from unlearn_core.standalone.checkpoint import open_checkpoint, read_yaml

    own, _, yaml = data.partition(b"\0yaml\0")
    (scratch / "m.safetensors").write_bytes(own)
    (scratch / "m.yaml").write_bytes(yaml)
    read_yaml(scratch / "m.yaml")
    open_checkpoint(scratch / "m.safetensors")


def read_words(data: bytes, scratch: Path) -> None:
    """A word list of these bytes."""
    from unlearn_core.words.word_list import WordList

    file = scratch / "m.words.json"
    file.write_bytes(data)
    WordList.load(str(file))


def read_request(data: bytes, scratch: Path) -> None:
    """A wish of these bytes; what is understood is understood in the same way when it is read again."""
    from unlearn_core.words.wish import read_wish
    from unlearn_core.words.word_list import WordList

    lists = [WordList.load(None)]
    wish = read_wish(data.decode("utf-8", "replace")[:400], lists)
    for concept in wish.concepts:
        assert concept.strip() == concept and concept.isprintable(), concept


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "delta": read_delta,
    "checkpoint": read_checkpoint,
    "words": read_words,
    "wish": read_request,
}
DEMO = ROOT / "assets" / "demo"
SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "delta": lambda: [small_delta()],
    "checkpoint": lambda: [small_delta() + b"\0yaml\0" + (DEMO / "demo.yaml").read_bytes()],
    "words": lambda: [(DEMO / "demo.words.json").read_bytes()],
    "wish": lambda: [b"cat, dog", b"a (banana:1.2) and <lora:x:1>", b'"salt and pepper"; cats\nBREAK'],
}
"""{target: what it starts from}."""


def small_delta() -> bytes:
    """A delta file of two small layers."""
    import torch
    from safetensors.torch import save

    from unlearn_core.delta import format as delta_file
    from unlearn_core.delta.info import DeltaInfo

    factor = delta_file.Factor(torch.ones(2, 4), torch.ones(3, 2), 2.0)
    info = DeltaInfo("banana", "object", "dog", "sd1", "epsilon", "0123456789abcdef")
    delta = delta_file.Delta({"lora_unet_a": factor, "lora_unet_b": factor}, info)
    return save(delta_file.tensors(delta), delta_file.metadata(delta))


def main() -> None:
    """Fuzz one target until its time is over."""
    import tempfile

    import atheris

    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["unlearn_core"]), contextlib.suppress(UnlearnError):
        TARGETS[name](SEEDS[name]()[0], Path(tempfile.mkdtemp()))
    scratch = Path(tempfile.mkdtemp())

    def one(data: bytes) -> None:
        with contextlib.suppress(UnlearnError):
            TARGETS[name](data, scratch)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
