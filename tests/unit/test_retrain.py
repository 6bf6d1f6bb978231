"""The later deltas of a stack made anew with their recorded settings, as if one had never been there."""

import pytest

from tests.few import reduced
from tests.small import A, B, a_delta, stack_of
from tests.tiny import TinyHost
from tests.unit.runs import config
from unlearn_core import ForgetConfig, Stack, forget
from unlearn_core.delta.format import Delta
from unlearn_core.delta.merge import combine_cat
from unlearn_core.delta.removal import without
from unlearn_core.errors import BadSetting
from unlearn_core.method.retrain import Retraining, recorded, retrain


@pytest.fixture(scope="module", autouse=True)
def small():
    with reduced("unlearn_core"):
        yield


@pytest.fixture(scope="module")
def host():
    return TinyHost()


@pytest.fixture(scope="module")
def three(small, host):
    """Three requests in a row on the tiny network; the second is mapped onto the third's concept."""
    stack = Stack()
    for concept, anchor in (("banana", "pear"), ("frog", "elephant"), ("elephant", "cat")):
        made = forget(host, config(concept=concept, anchor=anchor, steps=3), stack)
        stack = stack.with_delta(Delta(made.delta.factors, made.delta.info, f"no-{concept}"))
    return stack


def test_inherited_prompts_become_forget_prompts(three):
    """frog -> elephant, then elephant -> cat: the frog's prompts draw elephants and go to cats now."""
    elephant = three.entries[2].delta.info
    moved = {p: m for p, m in elephant.prompts if "frog" in p}
    frog = three.entries[1].delta.info
    assert moved and moved.keys() == {p for p, _ in frog.prompts}
    assert all("elephant" not in m and "cat" in m for m in moved.values())


def test_later_ones_learn_anew_without_it(host, three):
    before = {k: v.clone() for k, v in host.backbone.state_dict().items()}
    stack = retrain(host, without(three, "frog"))
    assert [e.delta.label for e in stack] == ["no-banana", "no-elephant"]
    assert stack.entries[0].delta is three.entries[0].delta
    new, old = stack.entries[1].delta, three.entries[2].delta
    assert [p.concept for p in new.info.parents] == ["banana"] and new.info.config == old.info.config
    assert not any("frog" in p for p, _ in new.info.prompts)
    again = forget(host, recorded(old), Stack(three.entries[:1])).delta
    assert new.content_hash() == again.content_hash() != old.content_hash()
    assert all(v.equal(host.backbone.state_dict()[k]) for k, v in before.items())


def test_settings_that_cannot_be_repeated_are_refused_before_the_work(host, three):
    broken = a_delta("owl", 5, config={"colour": "red"})
    stack = stack_of((three.entries[0].delta, 1.0), (broken, 1.0))
    with pytest.raises(BadSetting, match="cannot be made anew"):
        retrain(host, without(stack, "banana"))


def test_a_merge_has_no_request_to_repeat():
    with pytest.raises(BadSetting, match="no request to repeat"):
        recorded(combine_cat(stack_of((A, 1.0), (B, 1.0))))


def test_settings_of_earlier_versions_can_be_repeated():
    told = {"concept": "owl", "check": False, "guard_weight": 0.5, "null_space": 2.0, "steps": 7}
    assert recorded(a_delta("owl", 5, config=told)) == ForgetConfig(
        concept="owl", quality="quick", preservation_weight=0.5, steps=7
    )


def test_what_is_recorded_is_all_that_decides():
    wish = config(keep=("cat",), memory=3.0)
    made = forget(TinyHost(), wish).delta
    assert recorded(made).deciding() == wish.deciding()


def test_the_new_deltas_keep_place_and_strength_and_are_handed_over_at_once(host, three):
    seen = []

    def keep(old, made):
        seen.append((old.delta.label, made.delta.info.concept))
        return made.delta.named("new " + old.delta.label)

    stack = Stack((three.entries[0], three.entries[1], *without(three, "frog").after))
    strong = Stack(tuple(type(e)(e.delta, 0.5) if e.delta.label == "no-elephant" else e for e in stack))
    made = retrain(host, without(strong, "no-banana"), Retraining(keep=keep))
    assert [(e.delta.label, e.strength) for e in made] == [("new no-frog", 1.0), ("new no-elephant", 0.5)]
    assert seen == [("no-frog", "frog"), ("no-elephant", "elephant")]
