"""Settings: bounds, words, round trip, and that every one can be shown by a user interface."""

import dataclasses

import pytest

from unlearn_core import BadSetting, ForgetConfig, settings


def test_round_trip_through_flat_values():
    config = ForgetConfig(concept="cat", keep=("dog", "fox"), steps=12, closed_form=False)
    assert ForgetConfig.from_flat(config.to_flat()) == config


def test_what_decides_is_the_same_on_every_machine():
    small, large = (ForgetConfig(concept="cat", memory=gib) for gib in (4.0, 24.0))
    assert small.deciding() == large.deciding() and "memory" not in small.deciding()
    assert small.deciding() != ForgetConfig(concept="cat", memory=4.0, rank=9).deciding()


def test_texts_become_the_right_types():
    made = ForgetConfig.from_flat({"concept": " a  cat ", "steps": "20", "learning_rate": "1e-3", "keep": "dog, fox,"})
    assert (made.concept, made.steps, made.learning_rate, made.keep) == ("a cat", 20, 1e-3, ("dog", "fox"))
    assert ForgetConfig.from_flat({"concept": "cat", "checkpointing": "yes"}).checkpointing is True


@pytest.mark.parametrize(
    "values",
    [
        {"concept": ""},
        {"concept": "   "},
        {"concept": "x" * 121},
        {"concept": "cat\x00"},
        {"concept": "cat\u202egnp"},
        {"concept": 7},
        {"concept": "cat", "anchor": "CAT"},
        {"concept": "a banana", "anchor": "Bananas"},
        {"concept": "red apple", "anchor": "green apple"},
        {"concept": "cat", "keep": ("dog", "Cat")},
        {"concept": "the cat", "keep": ("cats",)},
        {"concept": "cat", "steps": 0},
        {"concept": "cat", "steps": "many"},
        {"concept": "cat", "steps": 1.5},
        {"concept": "cat", "learning_rate": float("nan")},
        {"concept": "cat", "learning_rate": float("inf")},
        {"concept": "cat", "layers": "all"},
        {"concept": "cat", "checkpointing": "perhaps"},
        {"concept": "cat", "no_such_setting": 1},
    ],
)
def test_nonsense_is_refused_with_one_sentence(values):
    with pytest.raises(BadSetting) as e:
        ForgetConfig.from_flat(values)
    assert 20 < len(str(e.value)) < 600 and "\n" not in str(e.value)


@pytest.mark.parametrize("field", settings(), ids=lambda f: f.name)
def test_every_setting_can_be_shown(field):
    facts = field.metadata
    assert facts["label"] and facts["help"].endswith(".")
    if type(field.default) in (int, float):
        assert facts["low"] <= field.default <= facts["high"]
    if facts.get("choices"):
        assert field.default in facts["choices"]


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ForgetConfig(concept="cat").steps = 3


def test_a_training_that_would_forget_nothing_is_refused():
    with pytest.raises(BadSetting, match="nothing would be forgotten"):
        ForgetConfig(concept="banana", closed_form=False, forget_weight=0.0)
    ForgetConfig(concept="banana", forget_weight=0.0)
