"""The shipped ComfyUI workflows and subgraphs hold today's defaults."""

import json

import pytest

from tests.comfy import blueprints
from tests.comfy.templates import FOLDER, workflows


@pytest.mark.parametrize("name", sorted(workflows()))
def test_shipped_workflow_is_what_would_be_written_today(name):
    assert json.loads((FOLDER / f"{name}.json").read_text("utf-8")) == workflows()[name], (
        "run: python -m tests.comfy.templates"
    )


def test_nothing_else_is_shipped():
    assert {f.stem for f in FOLDER.glob("*.json")} == workflows().keys()


def test_shipped_subgraphs_are_what_would_be_written_today():
    made = blueprints.blueprints()
    assert {f.stem for f in blueprints.FOLDER.glob("*.json")} == made.keys()
    for name, page in made.items():
        text = (blueprints.FOLDER / f"{name}.json").read_text("utf-8")
        assert json.loads(text) == page, "run: python -m tests.comfy.blueprints"


def test_a_subgraph_links_what_it_shows():
    (inside,) = blueprints.forget_and_save()["definitions"]["subgraphs"]
    links = {link["id"]: link for link in inside["links"]}
    assert len(links) == len(inside["links"]) == 8
    for slot, end in enumerate(inside["inputs"]):
        (link,) = (links[number] for number in end["linkIds"])
        assert (link["origin_id"], link["origin_slot"], link["type"]) == (-10, slot, end["type"])
        assert inside["nodes"][link["target_id"] - 1]["inputs"][link["target_slot"]]["link"] == link["id"]
    for slot, end in enumerate(inside["outputs"]):
        (link,) = (links[number] for number in end["linkIds"])
        assert (link["target_id"], link["target_slot"], link["type"]) == (-20, slot, end["type"])
        assert link["id"] in inside["nodes"][link["origin_id"] - 1]["outputs"][link["origin_slot"]]["links"]
