"""Which layers of a denoiser read text alone, found by asking the model and not by the names of its parts.

A layer whose input is the same for two pictures at two noise levels, and another one for another prompt, reads text
alone. Of such layers those are edited through which all that a prompt says has to pass: with their answers to one
prompt put in the place of those to another, the model draws the first (a cut, as in activation patching; Meng et al.
2022, arXiv 2202.05262).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..delta.layer_names import is_linear
from ..host import Conditioning, HostModel
from ..sampling import noise

PAIRS = (("a photo of a cat", "a photo of a dog"), ("a red cat", "a blue car"), ("cat", "car"))
"""Prompts of which two are compared: the first pair whose prompts have the same number of tokens."""
LEVELS = 0.9, 0.25
"""Of the trained noise levels, those of the two pictures."""
SAME, REACHED = 1e-5, 1e-3
"""Parts of their size by which equal inputs may differ, and the model's answers when all text is patched."""


@dataclass(frozen=True)
class TextGroup:
    """Layers that read one and the same text, in the order of the pass.

    width: of what they read. direct: whether it is the encoded prompt as it is. pooled: whether it is one vector a
    prompt.
    """

    paths: tuple[str, ...]
    width: int
    direct: bool
    pooled: bool


@dataclass
class Seen:
    """One pass: what each linear layer read and answered, and what the model answered."""

    read: dict[str, list[Tensor]] = field(default_factory=dict)
    answered: dict[str, list[Tensor]] = field(default_factory=dict)
    out: Tensor = field(default_factory=lambda: torch.zeros(()))


@torch.no_grad()
def find_text_groups(host: HostModel, backbone: nn.Module) -> list[TextGroup]:
    """The groups to edit: together all that a prompt says passes through them, and none of them can be spared.

    Of layers that feed one another it is the last; [] where text passes elsewhere too. Inside the host's session.
    Costs about as many passes of one row as the model has groups of text layers.
    """
    one, other = compared(host)
    search = Search(host, backbone)
    first, again = search.watch(one, 0), search.watch(one, 1)
    changed = search.watch(other, 0)
    paths = [p for p in first.read if text_alone(first.read[p], again.read.get(p), changed.read.get(p))]
    needed = grouped(paths, first.read, one)

    def is_cut(groups: Sequence[TextGroup]) -> bool:
        patched = search.watch(other, 0, {p: first.answered[p] for g in groups for p in g.paths})
        return off(patched.out, first.out) < REACHED * off(changed.out, first.out)

    if not (needed and is_cut(needed)):
        return []
    for group in tuple(needed):
        if len(needed) > 1 and is_cut(rest := [g for g in needed if g is not group]):
            needed = rest
    return needed


def compared(host: HostModel) -> tuple[Conditioning, Conditioning]:
    """Two encoded prompts with as many tokens each."""
    for pair in PAIRS:
        one, other = (host.encode([prompt]) for prompt in pair)
        if one.tokens.shape == other.tokens.shape:
            break
    return one, other


class Search:
    """Watched passes of one row."""

    def __init__(self, host: HostModel, backbone: nn.Module):
        self._host = host
        self._layers = {path: m for path, m in backbone.named_modules() if is_linear(m)}

    def watch(self, text: Conditioning, seed: int, patches: Mapping[str, Sequence[Tensor]] | None = None) -> Seen:
        """A pass with a prompt, on picture and noise level number `seed`. patches: answers that layers give instead."""
        seen, host = Seen(), self._host
        with hooked(self._layers, self._note(seen), self._patch(seen, patches or {})):
            sigma = host.sigmas[int(LEVELS[seed] * (len(host.sigmas) - 1))].reshape(1)
            picture = noise((1, *host.latent_shape), seed, host.device)
            x = host.noised(torch.zeros_like(picture), sigma, picture)
            seen.out = host.denoise(x, sigma, text).float()
        return seen

    @staticmethod
    def _note(seen: Seen) -> Callable[[str, Tensor], None]:
        def note(path: str, read: Tensor) -> None:
            seen.read.setdefault(path, []).append(read.detach().float().clone())

        return note

    @staticmethod
    def _patch(seen: Seen, patches: Mapping[str, Sequence[Tensor]]) -> Callable[[str, Tensor], Tensor]:
        def answer(path: str, out: Tensor) -> Tensor:
            number = len(seen.answered.setdefault(path, []))
            seen.answered[path].append(out.detach().clone())
            return patches[path][number].to(out) if path in patches else out

        return answer


@contextmanager
def hooked(
    layers: Mapping[str, nn.Module], read: Callable[[str, Tensor], None], answer: Callable[[str, Tensor], Tensor]
) -> Iterator[None]:
    """Functions of (path, tensor) before and after each layer, for the length of a block."""
    hooks = []
    try:
        for path, layer in layers.items():
            hooks.append(layer.register_forward_pre_hook(lambda _, inputs, p=path: read(p, inputs[0])))
            hooks.append(layer.register_forward_hook(lambda _, inputs, out, p=path: answer(p, out)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def off(one: Tensor, other: Tensor) -> float:
    """The largest difference."""
    return float((one - other).abs().max())


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two inputs are the same but for rounding."""
    return one.shape == other.shape and off(one, other) <= SAME * float(one.abs().max())


def text_alone(first: Sequence[Tensor], again: Sequence[Tensor] | None, changed: Sequence[Tensor] | None) -> bool:
    """Whether a layer's inputs are a row each, the same for another picture and others for another prompt."""
    if any(len(t) != 1 or t.dim() < 2 for t in first):
        return False
    if again is None or len(first) != len(again) or not all(map(equal, first, again)):
        return False
    return changed is None or len(first) != len(changed) or not all(map(equal, first, changed))


def grouped(paths: Sequence[str], read: Mapping[str, Sequence[Tensor]], text: Conditioning) -> list[TextGroup]:
    """Layers with equal inputs together, in the order of the pass."""
    groups: list[tuple[Tensor, list[str]]] = []
    for path in paths:
        seen = read[path][0]
        same = next((members for tensor, members in groups if equal(tensor, seen)), None)
        if same is None:
            groups.append((seen, [path]))
        else:
            same.append(path)
    tokens = text.tokens.float()
    return [
        TextGroup(tuple(members), seen.shape[-1], equal(tokens.to(seen.device), seen), is_pooled(seen))
        for seen, members in groups
    ]


def is_pooled(read: Tensor) -> bool:
    """Whether an input of one row is a single vector."""
    return read.shape[:-1].numel() == 1
