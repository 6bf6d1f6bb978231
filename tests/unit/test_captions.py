"""Captions under pictures, as ComfyUI's nodes draw them."""

import importlib.util
from pathlib import Path

import pytest
import torch

from tests.webui.pack import NAME, load

FILE = Path(__file__).resolve().parents[2] / "nodes" / "captions.py"


@pytest.fixture(scope="module")
def captions():
    """The module alone: the rest of its package needs ComfyUI."""
    load("unlearn_core")
    spec = importlib.util.spec_from_file_location(f"{NAME}.nodes.captions", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("side", [64, 128, 512])
def test_each_picture_keeps_its_pixels_and_gets_its_text(captions, side):
    pictures = torch.rand(2, 3, side, side)
    made = captions.captioned(pictures, ["a flat banana", "a cat"])
    assert torch.equal(made[:, :, :side], pictures) and made.shape[3] == side
    strips = made[:, :, side:]
    assert 0 <= strips.min() < 0.3 and strips.max() == 1 and not torch.equal(strips[0], strips[1])
    dark = (strips[0].mean(0) < 0.5).nonzero()
    assert dark[:, 0].max() - dark[:, 0].min() >= 6, "letters that can be read"


def test_what_is_too_long_ends_in_dots_and_fits(captions):
    font = captions.letters(12)
    lines = captions.folded("a very long prompt " * 20, 200, font, 2)
    assert len(lines) == 2 and lines[-1].endswith("...") and all(font.getlength(line) <= 200 for line in lines)
    assert captions.folded("wwwwwwwwww" * 20, 100, font, 2)[0].endswith("...")
    assert captions.folded("a cat", 200, font, 2) == ["a cat"]


def test_a_text_of_any_length_is_cut_at_once(captions):
    """Letter by letter, each time with the whole line measured, 20,000 letters took minutes."""

    class Counted:
        measured = 0

        def getlength(self, text):
            self.measured += len(text)
            return 7 * len(text)

    font = Counted()
    (line,) = captions.folded("x" * 20_000, 160, font, 3)
    assert line.endswith("...") and 7 * len(line) <= 160 and font.measured < 20_000


def test_letters_that_the_font_lacks_are_question_marks(captions):
    assert captions.folded("a 猫 café", 400, captions.letters(12), 2) == ["a ? café"]


def test_an_empty_text_has_a_strip_too(captions):
    assert captions.captioned(torch.rand(1, 3, 64, 64), [""]).shape[2] > 64
