"""Which layers of a denoiser read text alone, found by asking the model and not by the names of its parts.

A layer whose input is the same for two pictures at two noise levels, and another one for another prompt, reads text
alone. Of such layers those are edited through which all that a prompt says has to pass: with their answers to one
prompt put in the place of those to another, the model draws the first (a cut, as in activation patching; Meng et al.
2022, arXiv 2202.05262).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
SAMPLE = 4096
"""Numbers of an input by which it is told from others: the whole inputs of a large model would fill a card."""


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


@dataclass(frozen=True)
class Read:
    """An input of a layer: its shape, and numbers from all over it."""

    shape: torch.Size
    numbers: Tensor

    @classmethod
    def of(cls, tensor: Tensor) -> Read:
        """The same numbers' places for every tensor of one shape."""
        flat = tensor.detach().reshape(-1)
        return cls(tensor.shape, flat[:: max(1, len(flat) // SAMPLE)].to("cpu", torch.float32, copy=True))

    def same(self, other: Read) -> bool:
        """Whether two inputs are equal but for rounding."""
        near = SAME * float(self.numbers.abs().max())
        return self.shape == other.shape and off(self.numbers, other.numbers) <= near


@dataclass
class Seen:
    """One pass: what each linear layer read, what some of them answered, and what the model answered."""

    read: dict[str, list[Read]] = field(default_factory=dict)
    answered: dict[str, list[Tensor]] = field(default_factory=dict)
    out: Tensor = field(default_factory=lambda: torch.zeros(()))


_KNOWN: dict[tuple, list[TextGroup]] = {}


def text_groups_of(host: HostModel, backbone: nn.Module) -> list[TextGroup]:
    """`find_text_groups`, asked once of each base while the program runs: no delta changes what a layer reads."""
    key = (host.fingerprint, *host.layers().values())
    if key not in _KNOWN:
        _KNOWN[key] = find_text_groups(host, backbone)
    return _KNOWN[key]


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
    answers = search.watch(one, 0, keep=paths).answered
    needed = grouped(paths, first.read, one)

    def is_cut(groups: Sequence[TextGroup]) -> bool:
        patched = search.watch(other, 0, {p: answers[p] for g in groups for p in g.paths})
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

    def watch(
        self,
        text: Conditioning,
        seed: int,
        patches: Mapping[str, Sequence[Tensor]] | None = None,
        keep: Collection[str] = (),
    ) -> Seen:
        """A pass with a prompt, on picture and noise level number `seed`.

        patches: answers that layers give instead. keep: layers whose answers are kept.
        """
        seen, host, given = Seen(), self._host, patches or {}
        counts: dict[str, int] = {}

        def read(path: str, tensor: Tensor) -> None:
            seen.read.setdefault(path, []).append(Read.of(tensor))

        def answer(path: str, out: Tensor) -> Tensor:
            number = counts[path] = counts.get(path, -1) + 1
            if path in keep:
                seen.answered.setdefault(path, []).append(out.detach().clone())
            # a copy, since networks add onto their streams in place
            return given[path][number].to(out, copy=True) if path in given else out

        with hooked(self._layers, read, answer):
            sigma = host.sigmas[int(LEVELS[seed] * (len(host.sigmas) - 1))].reshape(1)
            picture = noise((1, *host.latent_shape), seed, host.device)
            x = host.noised(torch.zeros_like(picture), sigma, picture)
            seen.out = host.denoise(x, sigma, text).float()
        return seen


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


def text_alone(first: Sequence[Read], again: Sequence[Read] | None, changed: Sequence[Read] | None) -> bool:
    """Whether a layer's inputs are a row each, the same for another picture and others for another prompt."""
    if any(r.shape[:1] != (1,) or len(r.shape) < 2 for r in first):
        return False
    if again is None or len(first) != len(again) or not all(map(Read.same, first, again)):
        return False
    return changed is None or len(first) != len(changed) or not all(map(Read.same, first, changed))


def grouped(paths: Sequence[str], read: Mapping[str, Sequence[Read]], text: Conditioning) -> list[TextGroup]:
    """Layers with equal inputs together, in the order of the pass."""
    groups: list[tuple[Read, list[str]]] = []
    for path in paths:
        seen = read[path][0]
        same = next((members for other, members in groups if other.same(seen)), None)
        if same is None:
            groups.append((seen, [path]))
        else:
            same.append(path)
    whole = Read.of(text.tokens)
    return [
        TextGroup(tuple(members), seen.shape[-1], whole.same(seen), seen.shape[:-1].numel() == 1)
        for seen, members in groups
    ]
