"""What the nodes remember of a MODEL, what they withhold, and with what guidance they draw: inside ComfyUI."""

import pytest

from tests.comfy.sources import NEWEST, seen_inside

pytestmark = pytest.mark.full

FUNCTIONS = ("FreeU", "a bypass LoRA", "another precision", "a weight wrapper", "a callback")
TOLD_APART = ("nothing", "a LoRA", "a merge", "a difference", "eps", "x0", "SD3", "AuraFlow")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the script saw inside the newest ComfyUI (30 s)."""
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    return seen_inside(NEWEST, "remembered.py", tmp_path_factory.mktemp("user"))


@pytest.mark.parametrize("what", FUNCTIONS)
def test_a_model_that_answers_through_functions_is_never_in_the_cache(seen, what):
    assert seen["keys"][what] == ["", ""]


@pytest.mark.parametrize("what", TOLD_APART)
def test_the_same_model_put_together_again_has_the_same_name(seen, what):
    first, again = seen["keys"][what]
    assert first and first == again


def test_other_models_have_other_names(seen):
    names = [seen["keys"][what][0] for what in TOLD_APART]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("what", ["a clone", "RescaleCFG", "PAG"])
def test_what_acts_in_comfyuis_samplers_alone_is_the_same_model(seen, what):
    assert seen["keys"][what] == seen["keys"]["nothing"]


def test_a_file_that_is_held_open_or_gone_does_not_end_a_run(seen):
    assert seen["tidied"] == ["gone.safetensors", "held.safetensors", "newest.safetensors"]


@pytest.mark.parametrize("case", ["checked", "black"])
def test_pictures_that_are_no_numbers_are_said_and_nothing_is_applied(seen, case):
    outcome = seen["outcomes"][case]
    assert not outcome["changed"] and outcome["sound"]
    assert "Not kept: The model's autoencoder (VAE) gives pictures of numbers that are not finite" in outcome["text"]
    assert outcome["text"].endswith("the MODEL is handed on as it came.")
    assert "png" not in outcome["files"]


def test_such_a_run_is_not_remembered_even_where_it_was_forced(seen):
    outcomes = seen["outcomes"]
    assert outcomes["forced"]["changed"] and "Not kept" not in outcomes["forced"]["text"]
    assert outcomes["forced"]["files"] == outcomes["checked"]["files"] == []


def test_with_another_autoencoder_it_is_applied(seen):
    outcome = seen["outcomes"]["sound"]
    assert outcome["changed"] and "Not kept" not in outcome["text"]
    assert outcome["files"] == ["json", "png", "png", "safetensors"]


def test_a_cache_that_is_switched_off_is_not_asked_and_loses_nothing(seen):
    off, on = (seen["outcomes"][case] for case in ("switched off", "switched on"))
    assert "From the cache" not in off["text"] and "From the cache" in on["text"]
    assert off["files"] == seen["outcomes"]["sound"]["files"]


def test_a_run_that_had_no_room_is_tried_again_and_a_sound_one_is_not(seen):
    first, failed, again, sound = seen["tries"]
    assert len({first, failed, again}) == 3 and sound == again


def test_a_model_that_was_merged_after_it_forgot_is_refused(seen):
    found = seen["merged"]
    assert "merge first, then forget" in found["after"]
    assert [found[way] for way in ("before", "a LoRA after", "added", "into another")] == ["cat", "cat", "cat", ""]


def test_what_one_answer_does_not_tell_apart_is_not_kept(seen):
    told = seen["told"]
    assert told["nothing"] == [True, True] and told["FreeU"] == [False, False]
    assert len(set(told["autoencoders"])) == 2
    assert told["folders"] == [False, False, False, False, True]


def test_save_delta_does_not_write_what_lies_below_a_request_that_kept_nothing(seen):
    withheld, each, grown = seen["saved"]
    assert withheld == "nothing was saved: the last Forget Concept kept nothing of 'fox'"
    assert each.startswith("saved as x") and grown.startswith("saved as x")


def test_before_and_after_draws_a_model_with_the_guidance_it_is_made_for(seen):
    assert seen["guidance"] == {"5.0": [5.0, 5.0, 1.0, 1.0], "7.0": [7.0, 7.0, 7.0, 7.0]}
