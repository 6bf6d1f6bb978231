"""The closed form at the true width of large models' text, on random tokens: does it hold, how long does it take.

Made-up words: each is a vector, and a prompt's other words shift it a little. A token's numbers are as unequal as in
real text encoders, where a few directions carry most. Nothing is drawn, so this tells of the algebra alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unlearn_core.config import ForgetConfig
from unlearn_core.method.closed_form import CPU, Edit
from unlearn_core.method.token_moments import second_moment
from unlearn_core.recipe import OBJECT

from .memory import peak_mb, start_peak
from .run import name_of

LAYERS = {
    "Z-Image `cap_embedder.1`": (2560, 3840),
    "Qwen-Image `txt_in`": (3584, 3072),
    "Flux.1, Chroma `txt_in`": (4096, 3072),
}
"""{layer: numbers that it reads and gives}, of the full-size models."""
CONTEXT = 0.3
"""How far the words around it shift a word's vector, as a part of its length."""
TOKENS = 12
"""Of a prompt."""
GONE = 0.7
"""Part of the way to the anchor at which the product's next try is spared; pictures decide in its place elsewhere."""


@dataclass(frozen=True)
class Language:
    """Made-up words of a width: their vectors and how they lie in a prompt.

    generator: of the CPU, so that they are the same everywhere. device: where they lie.
    """

    width: int
    generator: torch.Generator
    device: torch.device = CPU

    def words(self, count: int) -> Tensor:
        """Vectors `[count, d]`, the i-th direction of size i^-1/2."""
        return (torch.randn(count, self.width, generator=self.generator) * self.sizes).to(self.device)

    @property
    def sizes(self) -> Tensor:
        return torch.arange(1, self.width + 1).rsqrt()

    def prompts(self, words: Tensor, each: int) -> Tensor:
        """`each` prompts of every word, all tokens shifted by the rest of the prompt: `[words * each, TOKENS, d]`."""
        rows = words.repeat_interleave(each, 0)
        around = self.words(len(rows) * (TOKENS - 1)).view(len(rows), TOKENS - 1, -1)
        shift = CONTEXT * self.words(len(rows))[:, None]
        return torch.cat([rows[:, None], around], 1) + shift


@dataclass
class Trial:
    """Requests in a row on one random matrix `[out, d]`, each by the product's own algebra.

    targets, anchors: `[requests, d]`. added: the sum of all changes so far.
    """

    language: Language
    weight: Tensor
    targets: Tensor
    anchors: Tensor
    preserved: Tensor
    rank: int = ForgetConfig("anything").rank
    added: dict[str, Tensor] = field(default_factory=dict)

    def edit(self, number: int) -> Edit:
        """The moments of request `number`, those before it included."""
        asked = [self.pair(i, OBJECT.target_prompts) for i in range(number + 1)]
        erased = None
        if number:
            tokens, ways = (torch.cat(parts) for parts in zip(*asked[:-1], strict=True))
            erased = cross(tokens, ways), second_moment(tokens)
        tokens, ways = asked[-1]
        return Edit((cross(tokens, ways), second_moment(tokens)), erased, second_moment(self.preserved), OBJECT)

    def pair(self, number: int, prompts: int) -> tuple[Tensor, Tensor]:
        """Prompts of a target, and the way of each token to the anchor's prompt, both `[prompts, TOKENS, d]`."""
        tokens = self.language.prompts(self.targets[number : number + 1], prompts)
        ways = torch.zeros_like(tokens)
        ways[:, 0] = self.anchors[number] - self.targets[number]
        return tokens, ways

    def forget(self, number: int) -> float:
        """Make request `number`; seconds."""
        begun = time.perf_counter()
        before = self.added.get("layer", torch.zeros_like(self.weight))
        edit, layer = self.edit(number), {"layer": self.weight + before}
        for scale, more in OBJECT.tries:
            tried = scale, OBJECT.overshoot + more
            ((_, down, up),) = edit.factors(layer, self.added, self.rank, tried, before.device)
            self.added["layer"] = before + (up @ down).to(before)
            if self.moved(number) >= GONE:
                break
        return time.perf_counter() - begun

    def moved(self, number: int) -> float:
        """Part of the way to the anchor's answers that those to new prompts of a target have gone; 1: all of it."""
        tokens, ways = (t[:, 0] for t in self.pair(number, 8))
        wanted, found = ways @ self.weight.T, tokens @ self.added["layer"].T
        return float((wanted * found).sum() / wanted.square().sum())

    def felt(self, words: Tensor) -> float:
        """Size of the change of the answers to other words, as a part of the target's whole way."""
        tokens = self.language.prompts(words, 1)[:, 0]
        way = (self.anchors - self.targets) @ self.weight.T
        return float((tokens @ self.added["layer"].T).norm(dim=1).mean() / way.norm(dim=1).mean())


def cross(tokens: Tensor, ways: Tensor) -> Tensor:
    """E[(m(c) - c) c^T], float64 `[d, d]`, on the CPU."""
    flat, change = (t.flatten(0, 1).double() for t in (tokens, ways))
    return (change.T @ flat).cpu() / len(flat)


def measure(
    layers: Mapping[str, tuple[int, int]] = LAYERS, requests: int = 2, words: int = 130, device: torch.device = CPU
) -> list[dict]:
    """A row a layer: seconds of the last request, MB beside the matrix, and what has moved after all requests."""
    rows = []
    for name, (width, out) in layers.items():
        language = Language(width, torch.Generator().manual_seed(0), device)
        listed, unlisted = language.words(words), language.words(words)
        weight = torch.randn(out, width, generator=language.generator).to(device) / width**0.5
        start_peak()
        before = peak_mb() or 0.0
        preserved = language.prompts(listed, OBJECT.listed_prompts[0])
        trial = Trial(language, weight, language.words(requests), language.words(requests), preserved)
        seconds = [trial.forget(number) for number in range(requests)][-1]
        row = {
            "layer": name,
            "width": width,
            "out": out,
            "device": name_of(device),
            "seconds": seconds,
            "mb": (peak_mb() or before) - before,
        }
        row["moved"] = [trial.moved(number) for number in range(requests)]
        rows.append(row | {"listed": trial.felt(listed), "unlisted": trial.felt(unlisted)})
    return rows
