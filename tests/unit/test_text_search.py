"""Text layers are found by what they read: cross-attention, an entry before a joint stream, a refiner, pooled text."""

import pytest
import torch
from torch import nn

from tests.tiny import TOKENS, WIDTH, TinyHost
from unlearn_core.delta.layer_names import is_linear
from unlearn_core.method.text_search import SAMPLE, Read, find_text_groups, text_groups_of


class Joint(nn.Module):
    """A transformer whose text enters once and is then mixed with the picture; parts as named."""

    def __init__(self, refiner=False, pooled=False, second_way=False, in_place=False):
        super().__init__()
        self.img_in, self.txt_in = nn.Linear(4, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.refine = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)) if refiner else None
        self.vector_in = nn.Linear(WIDTH, WIDTH) if pooled else None
        self.second = nn.Parameter(torch.randn(WIDTH, WIDTH)) if second_way else None
        self.in_place = in_place
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, x, sigma, context):
        text = self.txt_in(context)
        if self.refine is not None:
            text = text.add_(self.refine(text)) if self.in_place else text + self.refine(text)
        picture = self.img_in(x.flatten(2).transpose(1, 2)) + torch.log(sigma).view(-1, 1, 1) / 4
        if self.vector_in is not None:
            picture = picture + self.vector_in(context.mean(1))[:, None]
        if self.second is not None:
            picture = picture + (context @ self.second).mean(1, keepdim=True)
        both = torch.cat([picture, text], 1)
        q, k, v = self.qkv(both).chunk(3, -1)
        both = both + nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(both[:, : picture.shape[1]]).transpose(1, 2).view_as(x)


def found(**parts):
    host = TinyHost()
    torch.manual_seed(1)
    host.backbone = Joint(**parts).requires_grad_(False)
    return find_text_groups(host, host.backbone)


def test_cross_attention_reads_the_encoded_prompt():
    host = TinyHost()
    (group,) = find_text_groups(host, host.backbone)
    assert sorted(group.paths) == [f"blocks.{n}.attn2.to_{p}" for n in (0, 1) for p in "kv"]
    assert group.direct and not group.pooled and group.width == WIDTH


def test_an_entry_to_a_joint_stream():
    (group,) = found()
    assert group.paths == ("txt_in",) and group.direct


def test_a_refiner_with_a_way_around_it_leaves_the_entry():
    (group,) = found(refiner=True)
    assert group.paths == ("txt_in",)


def test_pooled_text_stands_beside():
    tokens, pooled = found(pooled=True)
    assert tokens.paths == ("txt_in",) and pooled.paths == ("vector_in",)
    assert pooled.pooled and not pooled.direct


def test_text_that_goes_another_way_is_no_cut():
    assert found(second_way=True) == []


def test_the_model_is_as_it_was():
    host = TinyHost()
    before = {n: t.clone() for n, t in host.backbone.state_dict().items()}
    find_text_groups(host, host.backbone)
    assert all(torch.equal(t, before[n]) for n, t in host.backbone.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in host.backbone.modules())


def test_linear_is_what_it_does():
    class Quantised(nn.Module):
        in_features, out_features, weight = 4, 4, torch.ones(4, 4)

    assert is_linear(Quantised()) and is_linear(nn.Linear(2, 2))
    assert not is_linear(nn.Embedding(2, 2)) and not is_linear(nn.LayerNorm(4)) and TOKENS


def test_a_base_is_asked_once(monkeypatch):
    host = TinyHost()
    host.backbone = Joint().requires_grad_(False)
    host.fingerprint, host.layers = "asked once", lambda: {"txt_in": "txt_in"}
    first = text_groups_of(host, host.backbone)
    monkeypatch.setattr(TinyHost, "denoise", lambda *_: pytest.fail("asked again"))
    assert text_groups_of(host, host.backbone) == first and first[0].paths == ("txt_in",)
    host.fingerprint = "another"
    with pytest.raises(pytest.fail.Exception):
        text_groups_of(host, host.backbone)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_network_that_adds_onto_its_stream_in_place_is_read_as_any_other(pooled):
    groups = found(refiner=True, pooled=pooled, in_place=True)
    assert [g.paths for g in groups] == [g.paths for g in found(refiner=True, pooled=pooled)]
    read = Read.of(seen := torch.ones(1, 2, 3))
    seen.zero_()
    assert read.numbers.tolist() == [1.0] * 6


def test_inputs_of_any_size_are_told_apart_by_few_numbers():
    large = torch.randn(1, 500, 640)
    read = Read.of(large)
    assert len(read.numbers) < 2 * SAMPLE and read.same(Read.of(large * (1 + 1e-7)))
    assert not read.same(Read.of(large.flip(1))) and not read.same(Read.of(large[:, :499]))
