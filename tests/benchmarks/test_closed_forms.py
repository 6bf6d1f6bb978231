"""The closed forms of other papers on numbers that can be worked out by hand, and anchors for many at once."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.baselines.null_space import CEASE, DP, SPEED, outside
from benchmarks.baselines.text_space import TextSpace
from benchmarks.baselines.uce import OCE, UCE
from benchmarks.learned import Learned
from benchmarks.sequences import Request
from benchmarks.task import shared_anchors
from unlearn_core.method.text_reader import Tokens
from unlearn_core.method.token_moments import Moment

WORDS = {"apple": [1.0, 0.0, 0.0], "pear": [0.0, 1.0, 0.0], "sky": [0.0, 0.0, 2.0], "": [0.0, 0.0, 1.0]}


class Reader:
    """Each prompt is one token of its own."""

    def read(self, prompts):
        return Tokens(torch.tensor([[WORDS[p]] for p in prompts]), (1,) * len(prompts))


def space(past=(), open_prompts=("sky",)):
    """Apple is to answer as pear; the sky stays."""
    request = Request("apple")
    task = SimpleNamespace(prompts=["apple"], mapped=lambda anchor: [anchor], past=past, seed=0, request=request)
    made = TextSpace(Reader(), [task], ["pear"], {"layer": torch.eye(3)})
    preserved = Moment(torch.diag(torch.tensor([0.0, 0.0, 4.0])).double(), 1)
    for name, value in {
        "preserved": preserved,
        "listed_prompts": ["sky", "pear"],
        "open_prompts": [*open_prompts],
    }.items():
        made.__dict__[name] = value
    return made


def test_uce_is_its_formula():
    found = UCE(keep_scale=1.0, ridge=0.0 + 1e-9).change(space())
    # gram is 1 at apple's place, so its token goes the whole way to pear's, and no other token moves
    assert torch.allclose(found, torch.tensor([[-1.0, 0, 0], [1, 0, 0], [0, 0, 0]]).double(), atol=1e-6)
    half = UCE(keep_scale=1.0, ridge=3.0).change(space())
    assert torch.allclose(half, found / 2, atol=1e-6), "the ridge is a part of the mean square, here 1/3"


def test_oce_holds_the_vocabulary_beside_the_lists():
    assert OCE(open=0.5).held(space()).diagonal().tolist() == [0, 0, 4 + 0.5 * 4]
    held = OCE(open=1.0, ridge=1e-9).change(space(open_prompts=("apple",)))
    assert held[1, 0] == pytest.approx(0.5, abs=1e-6), "what is held as much as it is moved goes half of the way"


def test_a_null_space_leaves_the_main_directions_alone():
    assert torch.allclose(
        outside(torch.diag(torch.tensor([1.0, 3.0, 2.0])).double(), 1), torch.diag(torch.tensor([1.0, 0, 1])).double()
    )
    found = DP(directions=1, ridge=1e-9).change(space())
    assert torch.allclose(found[:, 2], torch.zeros(3).double()) and found[1, 0] == pytest.approx(1, abs=1e-6)
    # with apple's own direction among the main ones nothing is left to change
    assert torch.allclose(
        DP(directions=2).change(space(open_prompts=("apple",))), torch.zeros(3, 3).double(), atol=1e-9
    )


def test_speed_holds_what_a_free_edit_moves_most():
    # the sky does not move under the free edit, so a pear that does is all that is held
    made = space(open_prompts=())
    made.__dict__["listed_prompts"] = ["sky", "apple"]
    assert torch.allclose(SPEED(copies=0).change(made), torch.zeros(3, 3).double(), atol=1e-6)
    free = SPEED(copies=1, spread=1, strength=1e-9).change(space())
    assert free[1, 0] == pytest.approx(1 / 1.01 * 1, abs=0.02)


def test_speed_noise_lies_where_the_matrices_hardly_read():
    made = TextSpace(Reader(), space().tasks, ["pear"], {"layer": torch.diag(torch.tensor([3.0, 0.1, 2.0]))})
    assert torch.allclose(SPEED(spread=1).hardly_read(made), torch.diag(torch.tensor([0.0, 1, 0])).double(), atol=1e-6)


def test_cease_leaves_what_earlier_changes_read():
    read = torch.zeros(3, 3)
    read[1, 0] = 5.0  # an earlier change reads apple's direction
    past = [Learned("plum", None, {"layer.weight": read}, prompts=(("sky", "sky"),))]
    assert torch.allclose(CEASE().change(space(past)), torch.zeros(3, 3).double(), atol=1e-9)
    assert CEASE(ridge=1e-9).change(space())[1, 0] == pytest.approx(1, abs=1e-6)
    assert CEASE(stand_in=2.0).held(space()).diagonal().tolist() == [0, 2, 4]


def test_many_targets_share_their_anchors():
    def task(name, nearest, anchor=""):
        return SimpleNamespace(request=Request(name, anchor), nearest=lambda: list(nearest))

    tasks = [task(n, ("pear", "plum")) for n in ("apple", "quince", "medlar")]
    assert shared_anchors(tasks) == ["pear", "pear", "plum"]
    assert shared_anchors([task("apple", ("pear", "plum"), "sky")]) == ["sky"]
