"""Pictures that a request made unclear to the classifier, found in a finished run. Default tests, under a second."""

import json
from contextlib import nullcontext

import pytest
import torch
from PIL import Image

from benchmarks import unclear as module
from benchmarks.unclear import main


def row(seed, broken, request=1):
    named = {"method": "ours", "sequence": "cat", "seed": seed, "request": request}
    return named | {"concept": "cat", "broken": broken}


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A run of two seeds; only with the second one a picture is unclear: number 3, the base model's number 5."""
    (tmp_path / "results.json").write_text(json.dumps({"pictures": 8, "rows": [row(0, 0.0), row(1, 0.01)]}), "utf-8")
    place = tmp_path / "runs" / "ours" / "cat-1"
    place.mkdir(parents=True)
    (place / "01-cat.safetensors").touch()
    loaded, drawn = [], []
    monkeypatch.setattr(module.Learned, "load", classmethod(lambda cls, file: loaded.append(file.name)))
    monkeypatch.setattr(module, "opened", lambda name, device: name)
    monkeypatch.setattr(module, "guidance_of", lambda host: 1.5)
    monkeypatch.setattr(module, "under", lambda host, past: nullcontext(past))

    def draw(sampler, captions, seed):
        drawn.append(seed)
        return torch.full((len(captions), 3, 16, 16), float(len(drawn) - 1))

    def recognised(pictures):
        found = [("dog", "flat")] * len(pictures)
        found[5] = ("other", "flat")
        if pictures.max() > 0:
            found[3] = ("dog", "other")
        return found

    monkeypatch.setattr(module, "drawn", draw)
    monkeypatch.setattr(module, "recognised", recognised)
    return tmp_path, loaded, drawn


def test_only_what_the_request_made_unclear_is_shown_side_by_side(finished, capsys):
    folder, loaded, drawn = finished
    assert main([str(folder), "cat", "--sheet", str(folder / "sheet.png")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("cat, seed 1: ") and loaded == ["01-cat.safetensors"]
    assert drawn == [module.SEED + 1] * 2, "the noise of the count, and of this seed alone"
    with Image.open(folder / "sheet.png") as sheet:
        dark, light = (sheet.getpixel((sheet.width - 80, sheet.height - y)) for y in (260, 80))
    assert dark == (0, 0, 0) and light == (255, 255, 255)


def test_a_folder_without_the_run_is_said_in_one_sentence(finished, capsys):
    assert main([str(finished[0]), "dog"]) == 1
    assert "has no rows of sequence dog" in capsys.readouterr().err
