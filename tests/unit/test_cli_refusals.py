"""What the command line refuses before any work, so that nothing of the artist's is lost, and how it reads places."""

import json

import pytest
from safetensors.torch import load_file, save_file

from tests.small import a_delta
from tests.unit.test_cli import FORGET, QUICK, replaced
from unlearn_core import save
from unlearn_core.cli.main import main
from unlearn_core.config import ForgetConfig
from unlearn_core.delta.bake import NOTE, concepts_baked_into
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting
from unlearn_core.method.known_words import meant
from unlearn_core.words.prompts import style_words


@pytest.fixture(autouse=True)
def tiny():
    with replaced():
        yield


def told(capsys, arguments, code=1):
    assert main([str(a) for a in arguments]) == code
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_delta_of_another_concept_is_not_replaced(tmp_path, capsys):
    file = tmp_path / "cat.safetensors"
    save(a_delta("cat"), file)
    before = file.read_bytes()
    said = told(capsys, [*FORGET, *QUICK, "--concept", "frog", "--out", file])
    assert "'cat.safetensors' is there already, a delta of 'cat': choose another name" in said
    assert file.read_bytes() == before and sorted(tmp_path.iterdir()) == [file]
    assert main([*FORGET, *QUICK, "--concept", "cats", "--out", str(file)]) == 0, "the same may be made again"
    assert file.read_bytes() != before


def test_each_of_several_files_is_looked_at(tmp_path, capsys):
    save(a_delta("cat"), tmp_path / "x_frog.safetensors")
    said = told(capsys, [*FORGET, *QUICK, "--concept", "banana, frog", "--out", tmp_path / "x.safetensors"])
    assert "'x_frog.safetensors' is there already, a delta of 'cat'" in said
    assert [f.name for f in tmp_path.iterdir()] == ["x_frog.safetensors"]


@pytest.mark.parametrize("text", ["5", '"\\n' + "a" * 5000 + '"', "[" * 10_000, "null", "{"])
def test_a_header_that_says_nonsense_of_its_concept_is_none(text, tmp_path, capsys):
    file = tmp_path / "x.safetensors"
    save(a_delta("cat"), file)
    save_file(load_file(file), file, {"unlearn.format": "1", "unlearn.concept": text})
    code = main([*FORGET, *QUICK, "--concept", "frog", "--out", str(file)])
    said = capsys.readouterr().err
    assert code == ("aaa" in text) and len(said.splitlines()[-1]) < 500


def test_home_is_home_in_quotes_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main([*FORGET, *QUICK, "--concept", "frog", "--out", "~/made.safetensors"]) == 0
    assert (tmp_path / "made.safetensors").is_file() and not (tmp_path / "~").exists()
    said = told(capsys, ["inspect", "~/none.safetensors"])
    assert str(tmp_path / "none.safetensors") in said
    assert main(["inspect", "~/made.safetensors"]) == 0
    more = ["--stack", "~/made.safetensors:0.9", "--concept", "frog", "--out", "~/two.safetensors"]
    assert "already forgotten 'frog'" in told(capsys, [*FORGET, *QUICK, *more])


def test_a_copy_that_has_forgotten_it_already_is_said(tmp_path, capsys):
    copy = tmp_path / "baked.safetensors"
    rows = [{"concepts": ["cat", "frog"], "strength": 1.0}, {"concepts": 5}, "x", {"concepts": [None]}]
    save_file(load_file(CHECKPOINT), copy, {NOTE: json.dumps(rows)})
    assert concepts_baked_into(copy) == ["cat", "frog"]
    assert concepts_baked_into(CHECKPOINT) == concepts_baked_into(tmp_path) == concepts_baked_into(tmp_path / "x") == []
    wish = ["forget", "--checkpoint", copy, *QUICK, "--out", tmp_path / "a.safetensors", "--concept"]
    assert "is a copy that has already forgotten 'frog'" in told(capsys, [*wish, "banana, Frogs"])
    assert main([str(a) for a in [*wish, "banana"]]) == 0
    assert main([str(a) for a in [*wish[:-2], tmp_path / "b.safetensors", "--concept", "frog", "--force"]]) == 0


def test_an_option_and_a_setting_of_one_name_are_refused(tmp_path, capsys):
    more = ["--concept", "cat", "--set", "concept=dog", "--out", tmp_path / "a.safetensors"]
    assert "--concept and --set concept both say" in told(capsys, [*FORGET, *QUICK, *more])


def test_a_checkpoint_is_no_delta(capsys):
    assert "it is a whole checkpoint, and no delta" in told(capsys, ["inspect", CHECKPOINT])


def test_a_name_is_missing(tmp_path, capsys):
    said = told(capsys, [*FORGET, *QUICK, "--concept", "cat", "--out", tmp_path / ".safetensors"])
    assert "give it a name before that" in said


def test_what_is_taken_out_may_be_spelled_otherwise(tmp_path, capsys):
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two")]
    for number, (file, concept) in enumerate(zip(files, ("frog", "cat"), strict=True)):
        save(a_delta(concept, number), file)
    code = main(["stack", *map(str, files), "--without", "Frogs"])
    assert code == 0, capsys.readouterr().err
    assert "Without 'one' the model draws 'frog' again" in "".join(capsys.readouterr())
    assert "no delta 'dogs' in the stack" in told(capsys, ["stack", *files, "--without", "dogs"])


@pytest.mark.parametrize("overshoot", [-0.5, -0.01, -0.99])
def test_a_part_of_the_way_is_not_negative(overshoot):
    with pytest.raises(BadSetting, match="Overshoot"):
        ForgetConfig("cat", overshoot=overshoot)
    assert ForgetConfig("cat", overshoot=-1).overshoot == -1 and ForgetConfig("cat", overshoot=0).overshoot == 0


def test_of_an_unknown_name_the_known_word_is_offered():
    assert meant(["black cats"], ["cat", "dog"]) == "Did you mean 'cat'?"
    assert meant(["xqzv"], ["cat", "dog"]) == "Check the spelling."


@pytest.mark.parametrize("typed", ["van gogh's style", "van gogh’s style", "van gogh style", "style of van gogh"])
def test_whose_style_it_is_is_the_styles_name(typed):
    assert style_words(typed) == "van gogh"


@pytest.mark.parametrize("strength", ["-1", "0.5"])
def test_a_delta_at_a_strength_that_forgets_nothing_is_told_so(strength, tmp_path, capsys):
    file = tmp_path / "frog.safetensors"
    assert main([*FORGET, *QUICK, "--concept", "frog", "--out", str(file)]) == 0
    more = ["--stack", f"{file}:{strength}", "--concept", "frogs", "--out", tmp_path / "two.safetensors"]
    said = told(capsys, [*FORGET, *QUICK, *more])
    assert f"'frog' is on the stack at strength {strength}, which does not forget 'frog': set it to 1" in said
    merge = tmp_path / "merge.safetensors"
    assert main(["stack", f"{file}:{strength}", "--out", str(merge)]) == 0 == main(["inspect", str(merge)])
    assert f"frog at strength {strength}" in capsys.readouterr().out
    more = ["--stack", merge, "--concept", "frog", "--out", tmp_path / "three.safetensors"]
    assert f"at strength {strength}, which does not forget 'frog'" in told(capsys, [*FORGET, *QUICK, *more])


def test_what_is_switched_off_may_be_made_again(tmp_path, capsys):
    """The new delta is the same as the one that is off; that was an error after all the work."""
    first, second = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    assert main([*FORGET, *QUICK, "--concept", "frog", "--out", str(first)]) == 0
    assert main([*FORGET, *QUICK, "--concept", "frog", "--stack", f"{first}:0", "--out", str(second)]) == 0
    assert "Next: " in capsys.readouterr().out and second.is_file()


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["going=cat"], "--set going: the tool sets this by itself"),
        ([""], "is not KEY=VALUE, as in --set quality=quick"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(pairs, words, tmp_path, capsys):
    pairs = [text for pair in pairs for text in ("--set", pair)]
    wish = ["--concept", "frog", "--out", tmp_path / "frog.safetensors"]
    assert words in told(capsys, ["forget", "--checkpoint", CHECKPOINT, *pairs, *wish])
    assert not list(tmp_path.iterdir())


def test_a_concept_that_is_named_twice_is_not_lost(tmp_path, capsys):
    out = tmp_path / "o.safetensors"
    wish = [*FORGET, *QUICK, "--concept", "banana", "--concept", "frog", "--out", str(out)]
    assert main(wish) == 0
    assert sorted(f.name for f in tmp_path.glob("*.safetensors")) == ["o_banana.safetensors", "o_frog.safetensors"]
    said = told(capsys, [*wish, "--anchor", "cat", "--anchor", "dog"])
    assert said == "error: Draw instead: name one concept, not 2."
