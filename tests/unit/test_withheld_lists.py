"""A list of which some deltas were withheld: what the command advises works, whenever it is done."""

from dataclasses import replace
from importlib import import_module

import pytest

from tests import unbaked
from tests.small import stack_of
from tests.unit.test_cli import FORGET, QUICK, replaced
from tests.unit.test_resume_cli import ctrl_c, falling  # noqa: F401 - a fixture
from unlearn_core import load, save
from unlearn_core.cli import forget as forget_command
from unlearn_core.cli.main import main
from unlearn_core.delta.info import Parent
from unlearn_core.errors import BadSetting
from unlearn_core.method.finished import order_of

TRAINED = ["--anchor", "cat", "--set", "steps=3", "--set", "batch=2", "--set", "closed_form=no"]
HARM = "Nothing was handed on."


@pytest.fixture(autouse=True)
def tiny():
    with replaced():
        yield


@pytest.fixture
def harmful(monkeypatch):
    """Set to the concepts whose deltas harm too much."""
    concepts, made = set(), []
    whole = import_module("unlearn_core.method.forget").delta_of

    def delta_of(run, *rest):
        made.append(run.request.concept)
        return whole(run, *rest)

    monkeypatch.setattr("unlearn_core.method.forget.delta_of", delta_of)
    monkeypatch.setattr("unlearn_core.method.forget.too_harmful", lambda *_: HARM if made[-1] in concepts else "")
    return concepts


def forget(folder, concepts, *more):
    return main([*FORGET, "--concept", concepts, *TRAINED, "--out", str(folder / "o.safetensors"), *more])


def parents(folder):
    """{concept: what its delta was made on} of all that are saved."""
    infos = [load(file).info for file in folder.glob("o_*.safetensors")]
    return {info.concept: [p.concept for p in info.parents] for info in infos}


def kept(folder):
    return {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.glob("*.safetensors")}


def advice(capsys):
    rows = [line.split(":", 1)[1].strip() for line in capsys.readouterr().out.splitlines() if "To keep it" in line]
    return rows[0] if rows else ""


@pytest.mark.parametrize(
    "withheld, after",
    [
        (["banana"], {"frog": [], "dog": ["frog"], "banana": ["frog", "dog"]}),
        (["frog"], {"banana": [], "dog": ["banana"], "frog": ["banana", "dog"]}),
        (["dog"], {"banana": [], "frog": ["banana"], "dog": ["banana", "frog"]}),
        (["banana", "dog"], {"frog": [], "banana": ["frog"], "dog": ["frog", "banana"]}),
        (["banana", "frog", "dog"], {"banana": [], "frog": ["banana"], "dog": ["banana", "frog"]}),
    ],
)
def test_what_was_withheld_comes_on_top_of_what_is_saved(withheld, after, harmful, tmp_path, capsys):
    harmful.update(withheld)
    assert forget(tmp_path, "banana, frog, dog") == 1
    before = kept(tmp_path)
    assert advice(capsys) == (
        "add --force --resume to the same command: it is made on top of those of the list that are saved."
    )
    assert forget(tmp_path, "banana, frog, dog", "--resume") == 1 and kept(tmp_path) == before
    assert forget(tmp_path, "banana, frog, dog", "--force", "--resume") == 0
    assert parents(tmp_path) == after and before.items() <= kept(tmp_path).items()
    assert not list(tmp_path.glob("*.unfinished"))
    whole = kept(tmp_path)
    for again in (["--resume"], ["--force", "--resume"]):
        assert forget(tmp_path, "banana, frog, dog", *again) == 0 and kept(tmp_path) == whole
    files = [str(tmp_path / f"o_{name}.safetensors") for name in sorted(after, key=lambda n: len(after[n]))]
    capsys.readouterr()
    assert main(["stack", *files, "--out", str(tmp_path / "all.safetensors")]) == 0
    assert "note:" not in capsys.readouterr().err


def test_the_advice_also_works_when_the_list_was_stopped_after_it(harmful, falling, tmp_path, capsys):  # noqa: F811
    """The first is withheld, the second leaves a marked delta."""
    harmful.add("banana")
    falling("training", 5, ctrl_c)
    assert forget(tmp_path, "banana, frog") == 130
    assert load(tmp_path / "o_frog.safetensors").info.stopped and "--force --resume" in advice(capsys)
    assert forget(tmp_path, "banana, frog", "--force", "--resume") == 0
    assert parents(tmp_path) == {"banana": [], "frog": ["banana"]}
    assert load(tmp_path / "o_frog.safetensors").info.stopped == ""


def test_one_that_was_stopped_and_then_withheld_comes_on_top_too(harmful, falling, tmp_path):  # noqa: F811
    falling("training", 2, ctrl_c)
    assert forget(tmp_path, "banana, frog") == 130 and parents(tmp_path) == {"banana": []}
    harmful.add("banana")
    assert forget(tmp_path, "banana, frog", "--resume") == 1
    assert load(tmp_path / "o_banana.safetensors").info.stopped
    assert forget(tmp_path, "banana, frog", "--force", "--resume") == 0
    assert parents(tmp_path) == {"frog": [], "banana": ["frog"]}


def test_pictures_that_are_missing_are_made_up_for_before_anything_comes_on_top(harmful, tmp_path, monkeypatch):
    harmful.add("banana")
    pictures = ["--preview", str(tmp_path / "p.png")]
    whole = forget_command.write_pictures

    def full(file, *rest):
        if "frog" in file.name:
            raise KeyboardInterrupt
        whole(file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(forget_command, "write_pictures", full)
        assert forget(tmp_path, "banana, frog", *pictures) == 130
    (saved, _), *_ = kept(tmp_path).values()
    assert forget(tmp_path, "banana, frog", *pictures, "--force", "--resume") == 0
    assert parents(tmp_path) == {"frog": [], "banana": ["frog"]} and (tmp_path / "p_frog.png").exists()
    assert (tmp_path / "o_frog.safetensors").read_bytes() == saved


def test_a_delta_that_was_moved_away_is_made_again_in_its_place(tmp_path):
    """Forced or not: the next of the list were made on it."""
    assert forget(tmp_path, "banana, frog, dog") == 0
    whole = {name: data for name, (data, _) in kept(tmp_path).items()}
    for gone, *options in (["o_banana"], ["o_frog", "--force"], ["o_banana", "--force"]):
        (tmp_path / f"{gone}.safetensors").unlink()
        assert forget(tmp_path, "banana, frog, dog", "--resume", *options) == 0
        assert {name: data for name, (data, _) in kept(tmp_path).items()} == whole


def test_a_file_of_an_earlier_request_is_to_be_moved_away(harmful, tmp_path, capsys):
    out = tmp_path / "o.safetensors"
    assert forget(tmp_path, "banana", "--set", "seed=7") == 0
    harmful.add("banana")
    assert forget(tmp_path, "banana") == 1
    assert advice(capsys) == (f"move {out} away, then add --force --resume to the same command: nothing is made anew.")
    out.rename(tmp_path / "earlier.safetensors")
    assert forget(tmp_path, "banana", "--force", "--resume") == 0 and load(out).info.config["seed"] == 0


def test_a_list_on_another_stack_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    """The second of the list is there, made on top of something that is not of it; the first is not there."""
    other = tmp_path / "other.safetensors"
    assert main([*FORGET, "--concept", "dog", *QUICK, "--out", str(other)]) == 0
    wish = ["--concept", "banana, frog", *QUICK, "--out", str(tmp_path / "o.safetensors")]
    assert main([*FORGET, *wish, "--stack", str(other)]) == 0
    (tmp_path / "o_banana.safetensors").unlink()
    monkeypatch.setattr("unlearn_core.cli.forget.made", lambda *_: pytest.fail("work has begun"))
    before = kept(tmp_path)
    for more in ([], ["--force"], ["--stack", f"{other}:0.8"]):
        capsys.readouterr()
        assert main([*FORGET, *wish, "--resume", *more]) == 1
        assert "o_frog.safetensors is there already, made by another request" in capsys.readouterr().err
    assert kept(tmp_path) == before


# The order by itself


def made(number, *below, stopped="", stack=(), strength=1.0):
    """A delta of its own numbers, on top of others."""
    delta = unbaked.delta(1.0 + number)
    parents = [Parent(d.label, d.content_hash(), strength, "x") for d in (*stack, *below)]
    return replace(delta, info=replace(delta.info, parents=tuple(parents), stopped=stopped)).named("abcd"[number])


A, B = made(0), made(1)
C_ON_B = made(2, B)
UNDER = made(3).named("under")


@pytest.mark.parametrize(
    "found, listed, on_top",
    [
        ([None] * 4, "abcd", "abcd"),
        ([A, None, None, None], "abcd", "abcd"),
        ([None, B, None, None], "abcd", "bacd"),
        ([None, B, C_ON_B, None], "abcd", "bcad"),
        ([None, None, C_ON_B, None], "abcd", "bcad"),  # b has gone, and has to be there again
        ([made(0, B), B, None, None], "bacd", "bacd"),
        ([made(0, B, C_ON_B), B, C_ON_B, None], "bcad", "bcad"),
        ([made(0, stopped="stopped at step 1"), B, None, None], "abcd", "bacd"),
        ([None, made(1, stopped="stopped at step 1"), None, None], "abcd", "abcd"),
    ],
)
def test_the_order_in_which_a_list_goes_on(found, listed, on_top, tmp_path):
    for stack in ((), (UNDER,)):
        grown = [d and replace(d, info=replace(d.info, parents=(*on(stack), *d.info.parents))) for d in found]
        files = [tmp_path / f"{name}.safetensors" for name in "abcd"]
        below = stack_of(*((d, 1.0) for d in stack))
        assert ["abcd"[i] for i in order_of(files, grown, below, False)] == [*listed]
        assert ["abcd"[i] for i in order_of(files, grown, below, True)] == [*on_top]


def on(stack):
    return stack_of(*((d, 1.0) for d in stack)).parents()


@pytest.mark.parametrize(
    "found, wrong",
    [
        ([None, made(1, UNDER), None, None], "b"),  # of another stack
        ([None, made(1, A, strength=0.5), None, None], "b"),
        ([A, B, None, None], "b"),  # beside each other
        ([made(0, B), made(1, A), None, None], "ab"),  # each on the other
        ([None, made(1, B.named("b")), None, None], "b"),  # on itself
        ([None, None, made(2, A, A), None], "c"),
        ([A, made(1, made(3).named("a")), None, None], "a"),  # on other numbers of the same name
        ([made(0, UNDER, stopped="stopped at step 1"), None, None, None], "a"),
    ],
)
def test_what_was_made_on_something_else_is_refused_whoever_wrote_it(found, wrong, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "abcd"]
    for on_top in (False, True):
        with pytest.raises(BadSetting, match=rf"[{wrong}]\.safetensors is there already, made by another request"):
            order_of(files, found, stack_of(), on_top)


def test_a_name_of_two_lines_is_its_own_in_a_list(harmful, tmp_path):
    harmful.add("banana")
    wish = [*FORGET, "--concept", "banana, frog", *TRAINED, "--out", str(tmp_path / "a\nb.safetensors")]
    assert main(wish) == 1 and main([*wish, "--force", "--resume"]) == 0
    (parent,) = load(tmp_path / "a\nb_banana.safetensors").info.parents
    assert parent.name == "a b_frog"
    save(made(0), tmp_path / "a\nb_frog.safetensors")
    assert main([*wish, "--force", "--resume"]) == 1
