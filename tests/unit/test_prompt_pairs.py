"""Which prompts are mapped onto which: the target's, inherited ones and those of what has gone."""

from tests.tiny import TinyHost
from tests.unit.runs import config, stack_on
from unlearn_core import Stack
from unlearn_core.method.prompt_pairs import PromptPairs
from unlearn_core.method.request import Request
from unlearn_core.recipe import SMALL
from unlearn_core.words.prompts import REMOVED, names


def pairs(drawn="pear", stack=None, **changes):
    request = Request.read(TinyHost(), config(**changes), stack or Stack(), recipes=SMALL)
    return request, PromptPairs.make(request, drawn)


def test_the_targets_prompts_have_the_anchor_in_its_place():
    request, made = pairs()
    assert [p for p, _ in made.target] == [s.prompt for s in request.targets]
    assert all(names(p, "banana") and names(m, "pear") and not names(m, "banana") for p, m in made.target)
    assert made.inherited == made.erased == () and made.forget == made.target


def test_with_no_anchor_the_target_is_left_out():
    _, made = pairs(REMOVED, anchor="")
    assert not any(names(m, "banana") for _, m in made.target)


def test_earlier_prompts_that_draw_todays_target_are_mapped_anew():
    """They drew it in place of what had gone; where the stack has gone on from them, the last mapping holds."""
    host = TinyHost()
    first = (("a frog", "a banana"), ("a frog in ink", "Banana in ink"), ("an owl", "a banana"))
    second = (("an owl", "a cat"), ("a bus", "a truck"))
    stack = stack_on(host, {"concept": "frog", "prompts": first}, {"concept": "bus", "prompts": second})
    request, made = pairs("elephant", stack, anchor="elephant")
    assert made.inherited == (("a frog", "an elephant"), ("a frog in ink", "elephant in ink"))
    assert made.erased == (("an owl", "a cat"), ("a bus", "a truck"))
    assert made.forget == made.target + made.inherited
