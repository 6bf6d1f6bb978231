"""A delta taken out of the middle of a stack, and what that means."""

import pytest

from tests.small import A, B, C, a_delta, stack_of
from unlearn_core.delta.merge import combine_cat
from unlearn_core.delta.removal import without
from unlearn_core.errors import BadSetting


def test_the_middle_comes_out_by_file_name_or_concept():
    stack = stack_of((A, 1.0), (B, 0.5), (C, 1.0))
    removal = without(stack, "FROG")
    assert [e.delta for e in removal.rest] == [A, C] and removal.removed.strength == 0.5
    assert [e.delta for e in removal.before] == [A] and [e.delta for e in removal.after] == [C]
    assert len(without(stack, "cat").after) == 0
    assert without(stack, "cat").notes == ("Without 'cat' the model draws 'cat' again.",)


@pytest.mark.parametrize("name", ["dog", "", "banana "])
def test_names_that_fit_none_or_several(name):
    twins = stack_of((A, 1.0), (a_delta("banana", 9), 1.0), (B, 1.0))
    with pytest.raises(BadSetting, match="give one of these names"):
        without(twins, name)


def test_a_merge_is_not_taken_apart():
    merge = combine_cat(stack_of((A, 1.0), (B, 1.0)))
    with pytest.raises(BadSetting, match="cannot be taken apart"):
        without(stack_of((merge, 1.0), (C, 1.0)), "frog")
    assert len(without(stack_of((merge, 1.0), (C, 1.0)), merge.label).rest) == 1


def test_the_notes_are_honest():
    """Of the two above it one was trained with it in place, and one took over its prompts."""
    pair = ("a frog", "an elephant")
    below = a_delta("banana", 1)
    frog = a_delta("frog", 2, prompts=(pair,))
    cat = a_delta("cat", 3, parents=stack_of((below, 1.0), (frog, 1.0)).parents())
    elephant = a_delta("elephant", 4, prompts=(("a frog", "a cat"),))
    said = without(stack_of((below, 1.0), (frog, 1.0), (cat, 1.0), (elephant, 1.0)), "frog").notes
    assert said[0] == "Without 'frog' the model draws 'frog' again."
    assert said[1].startswith("'cat', 'elephant' were made with 'frog' in place") and "anew" in said[1]
    assert said[2].startswith("'elephant' took over prompts of 'frog' that drew its own concept")
    assert not any("which is missing" in s for s in said)  # says the same once more
