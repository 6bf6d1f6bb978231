"""A delta taken out of the middle, and those after it trained anew with the right teacher."""

import pytest

from tests.small import A, B, C, a_delta, stack_of
from tests.tiny import TinyHost
from unlearn_core import ForgetConfig, Stack, forget, load
from unlearn_core.delta.format import Delta
from unlearn_core.delta.merge import combine_cat
from unlearn_core.delta.removal import without
from unlearn_core.errors import BadSetting
from unlearn_core.evaluate.stack_report import review, told
from unlearn_core.method.retrain import recorded, retrain

pytestmark = pytest.mark.usefixtures("few")
QUICK = {"steps": 3, "sampling_steps": 2, "batch": 2, "closed_form": False}


@pytest.fixture(scope="module")
def host():
    return TinyHost()


@pytest.fixture(scope="module")
def three(few, host):
    """Three requests in a row on the tiny network; the second is mapped onto the third's concept."""
    stack = Stack()
    for concept, anchor in (("banana", "pear"), ("frog", "elephant"), ("elephant", "cat")):
        made = forget(host, ForgetConfig(concept=concept, anchor=anchor, **QUICK), stack)
        stack = stack.with_delta(Delta(made.delta.factors, made.delta.info, f"no-{concept}"))
    return stack


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
    with pytest.raises(BadSetting, match="no request to repeat"):
        recorded(merge)


def test_the_notes_are_honest(three):
    said = " ".join(without(three, "frog").notes)
    assert "draws 'frog' again" in said and "'no-elephant' learned with 'no-frog' in place" in said
    assert "took over sentences of 'frog'" in said


def test_second_hand_prompts_become_forget_prompts(three):
    """frog -> elephant, then elephant -> cat: the frog's sentences draw elephants and go to cats now."""
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
    with pytest.raises(BadSetting, match="cannot be trained anew"):
        retrain(host, without(stack, "banana"))


def test_review_asks_every_stack_the_same(host, three):
    bare, whole, same = review(host, [Stack(), three, three], told(three))
    assert whole == same and set(whole.drawn) == {"banana", "frog", "elephant"}
    assert all(0 <= v <= 1 for one in (bare, whole) for v in [one.kept, *one.drawn.values()])
    assert "forgotten concepts still drawn" in whole.line("x")
    assert told(Stack().with_delta(combine_cat(three))) == [(c, "", "") for c in three.concepts()]


def test_command_line_takes_out_and_trains_anew(tmp_path, capsys):
    """On the bundled model, in one go and unchecked: the files, the words, and no overwriting."""
    from unlearn_core.cli.main import main
    from unlearn_core.demo.recognition import CHECKPOINT

    quick = ["--set", "check=no"]
    files = []
    for concept, anchor in (("banana", "pear"), ("frog", "cat")):
        out = tmp_path / f"{concept}.safetensors"
        options = [o for f in files for o in ("--stack", f)]
        wish = ["--concept", concept, "--anchor", anchor, "--out", str(out), *options, *quick]
        assert main(["forget", "--checkpoint", str(CHECKPOINT), *wish]) == 0
        files.append(str(out))
    capsys.readouterr()
    assert main(["stack", *files, "--without", "banana"]) == 0
    assert "draws 'banana' again" in capsys.readouterr().out
    new = ["--checkpoint", str(CHECKPOINT), "--retrain", "--out", str(tmp_path / "new")]
    assert main(["stack", *files, "--without", "banana", *new]) == 0
    assert "judge, trained anew" in capsys.readouterr().out
    made = load(tmp_path / "new" / "frog.safetensors")
    assert made.info.parents == () and made.info.concept == "frog"
    assert main(["stack", *files, "--without", "banana", *new]) == 1
    assert "there already" in capsys.readouterr().err
    svd = ["--method", "svd", "--rank", "4", "--checkpoint", str(CHECKPOINT), "--out", str(tmp_path / "m.safetensors")]
    assert main(["stack", *files, *svd]) == 0
    said = capsys.readouterr().out
    assert "relative error" in said and "judge, before" in said and "judge, merged" in said
    for wrong in (["--retrain"], ["--into", "x.safetensors"], []):
        assert main(["stack", *files, *wrong]) == 1
