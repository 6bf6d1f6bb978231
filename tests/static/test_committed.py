"""What git tracks or would add: sizes, kinds, words."""

import re
import subprocess
from pathlib import PurePosixPath

import pytest

from tests.static.trees import ROOT

MOST_BYTES = {
    "assets/demo/demo.safetensors": 15 * 2**20,
    **dict.fromkeys(("assets/demo/flow.safetensors", "benchmarks/beds/flow_t5.safetensors"), 15 * 2**20),
    "benchmarks/stamp/stamp.safetensors": 6 * 2**20,
    **dict.fromkeys(("benchmarks/world/encoder.safetensors", "benchmarks/world/world.safetensors"), 12 * 2**20),
}
WEIGHTS_NEVER_COMMITTED = {".ckpt", ".pt", ".pth", ".pkl", ".bin"}
WORDS_NEVER_COMMITTED = {
    "the host of a package registry": r"\b(pypi|pythonhosted|npmjs|crates)\.(org|io|com)\b|download\.pytorch\.org",
    "an address of a package registry": r"--?(extra-)?index-url|\bindex_url\b|registry\.\w+\.\w+",
    "a path of one machine": r"(?<![\w.:/~])/(home|root|Users|work)/\w|[A-Z]:\\Users\\",
}


@pytest.fixture(scope="module")
def committed() -> list[str]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return sorted(name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file())


def test_files_are_small(committed):
    assert [n for n in committed if (ROOT / n).stat().st_size > MOST_BYTES.get(n, 2**20)] == []


def test_weights_are_safetensors(committed):
    assert [n for n in committed if PurePosixPath(n).suffix in WEIGHTS_NEVER_COMMITTED] == []


def test_scripts_of_the_page_are_short_and_the_door_of_web_uis_is_tiny(committed):
    most = {n: 400 for n in committed if n.endswith(".js")} | {"scripts/unlearn.py": 15}
    assert [n for n, lines in most.items() if len((ROOT / n).read_text("utf-8").splitlines()) > lines] == []


@pytest.mark.parametrize("what", WORDS_NEVER_COMMITTED)
def test_words_that_belong_to_no_product(committed, what):
    pattern = re.compile(WORDS_NEVER_COMMITTED[what])
    found = []
    for name in committed:
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:8192] and (match := pattern.search(data.decode("utf-8", "replace"))):
            found.append(f"{name}: {match[0]}")
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("the host of a package registry", "see https://py" + "pi.org/project/peft"),
        ("an address of a package registry", "pip install --index" + "-url X"),
        ("a path of one machine", "open('/ho" + "me/ann/model')"),
    ],
)
def test_such_words_are_found(what, text):
    assert re.search(WORDS_NEVER_COMMITTED[what], text)
