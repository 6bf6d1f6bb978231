"""The shipped ComfyUI workflows hold today's defaults."""

import json

import pytest

from tests.comfy.templates import FOLDER, workflows


@pytest.mark.parametrize("name", sorted(workflows()))
def test_shipped_workflow_is_what_would_be_written_today(name):
    assert json.loads((FOLDER / f"{name}.json").read_text("utf-8")) == workflows()[name], (
        "run: python -m tests.comfy.templates"
    )


def test_nothing_else_is_shipped():
    assert {f.stem for f in FOLDER.glob("*.json")} == workflows().keys()
