"""What the baselines share: a request in words, a student that learns it in one of two shapes, and the loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unlearn_core.delta.format import Delta, DeltaInfo, Factor
from unlearn_core.errors import TrainingFailed
from unlearn_core.host import Conditioning
from unlearn_core.method.adapters import attached
from unlearn_core.method.forget import FORGET_PROMPTS
from unlearn_core.method.score_distance import text_distances
from unlearn_core.method.text_layers import is_target
from unlearn_core.method.training import losses
from unlearn_core.sampling import noise
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.prompts import REMOVED, Scene, mapped, scenes
from unlearn_core.words.word_list import WordList

from ..changes import Learned, stack_of
from ..sequences import Request

Tick = Callable[[float], None]
"""Called with the part of a request's work that is done, 0..1."""


@dataclass(frozen=True)
class Task:
    """One request as every baseline reads it: the product's own forget sentences, so that only the losses differ.

    rest: the word list without the target and earlier targets.
    """

    host: StandaloneModel
    request: Request
    past: tuple[Learned, ...]
    seed: int
    words: WordList
    rest: WordList
    scenes: tuple[Scene, ...]

    @classmethod
    def make(cls, host: StandaloneModel, request: Request, past: Sequence[Learned], seed: int) -> Task:
        """Read the word list and write the sentences."""
        words = WordList.load(host.words_file)
        rest = words.without([request.concept, *(p.concept for p in past)])
        found = scenes(words, request.concept, request.kind, FORGET_PROMPTS[request.kind], seed)
        return cls(host, request, tuple(past), seed, words, rest, tuple(found))

    @property
    def prompts(self) -> list[str]:
        """The forget sentences."""
        return [s.prompt for s in self.scenes]

    def mapped(self, anchor: str) -> list[str]:
        """The same sentences about something else."""
        return [mapped(s, anchor, self.request.kind, self.words).prompt for s in self.scenes]

    def nearest(self) -> list[str]:
        """Things (or styles) of the list that are not forgotten, those of the nearest words first."""
        rivals = list(self.rest.styles if self.request.kind == "style" else self.rest.all_objects)
        one = self.scenes[0]
        texts = [one.prompt, *(mapped(one, r, self.request.kind, self.words).prompt for r in rivals)]
        encoded = self.host.encode(texts)
        order = text_distances(encoded[:1], encoded[1:]).argsort().tolist()
        return [rivals[i] for i in order]

    def superclass(self) -> str:
        """The word for its kind of thing; `REMOVED` where the list has none, and for styles."""
        return self.words.category(self.request.concept) if self.request.kind == "object" else REMOVED

    def pairs(self, anchor_prompts: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """(forget sentence, what it was mapped to), as later requests want to know it."""
        return tuple(zip(self.prompts, anchor_prompts, strict=True))


@dataclass
class Student:
    """The weights that learn. teacher: a context in which the host is the model before the request.

    drift: squared change against the teacher. learned: the outcome with other facts filled in.
    """

    parameters: list[nn.Parameter]
    teacher: Callable[[], AbstractContextManager]
    drift: Callable[[], Tensor]
    learned: Callable[..., Learned] = field(repr=False)


@contextmanager
def lora(task: Task, backbone: nn.Module, layers: str, rank: int) -> Iterator[Student]:
    """A LoRA on the layers of a kind (see `ForgetConfig.layers`) as the student, taken off at the end."""
    host = task.host
    written = {path: name for name, path in reversed(host.layers().items()) if is_target(path, layers)}
    with attached(backbone, sorted(written), rank, task.seed) as adapters:

        def learned(anchor: str, prompts, steps: int, replayed: Sequence[str] = ()) -> Learned:
            info = DeltaInfo(
                concept=task.request.concept,
                kind=task.request.kind,
                anchor=anchor,
                architecture=host.architecture,
                prediction_type=host.prediction_type,
                base_fingerprint=host.fingerprint,
                parents=stack_of(task.past).parents(),
                prompts=tuple(prompts),
                steps=steps,
            )
            factors = {written[p]: Factor.within_layer(*adapters.pair(p), float(rank)) for p in written}
            delta = Delta(factors, info).rounded()
            return Learned(info.concept, delta, None, tuple(replayed), anchor, info.prompts, steps)

        yield Student(
            adapters.parameters(),
            adapters.off,
            lambda: losses.drift((a, b, 1.0) for _, a, b in adapters.alike(adapters.factors)),
            learned,
        )


@contextmanager
def whole(task: Task, backbone: nn.Module, part: Callable[[str], bool] = lambda name: True) -> Iterator[Student]:
    """The UNet's own parameters (those whose name passes `part`) as the student; the bits from before at the end."""
    host = task.host
    frozen = copy.deepcopy(backbone)
    chosen = {n: p for n, p in backbone.named_parameters() if part(n)}
    before = {n: p.detach().clone() for n, p in chosen.items()}

    @contextmanager
    def teacher() -> Iterator[None]:
        host.backbone = frozen
        try:
            yield
        finally:
            host.backbone = backbone

    def learned(anchor: str, prompts, steps: int, replayed: Sequence[str] = ()) -> Learned:
        dense = {n: (p.detach() - before[n]).cpu() for n, p in chosen.items()}
        return Learned(task.request.concept, None, dense, tuple(replayed), anchor, tuple(prompts), steps)

    flags = {n: p.requires_grad for n, p in chosen.items()}
    try:
        for p in chosen.values():
            p.requires_grad_(True)
        yield Student(
            list(chosen.values()),
            teacher,
            lambda: torch.stack([(p - before[n]).square().sum() for n, p in chosen.items()]).sum(),
            learned,
        )
    finally:
        with torch.no_grad():
            for n, p in chosen.items():
                p.requires_grad_(flags[n])
                p.grad = None
                p.copy_(before[n])


def descend(
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[torch.Generator], Tensor],
    steps: int,
    learning_rate: float,
    seed: int,
    tick: Tick,
    warm_up: int = 0,
) -> None:
    """AdamW at a constant rate after a linear warm-up, gradients clipped at 1. Raises `TrainingFailed`."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=0.0)
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, step / max(1, warm_up))
        with torch.enable_grad():
            loss = loss_of(generator)
            loss.backward()
        if not math.isfinite(float(loss.detach())):
            raise TrainingFailed("The loss is no longer a number; try a lower learning rate.")
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tick(step / steps)


def rows(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` row numbers out of `count`."""
    return torch.randint(0, count, (size,), generator=generator)


def levels(host: StandaloneModel, size: int, generator: torch.Generator, limit: float = 1.0) -> Tensor:
    """Noise levels `[size]` from the lowest part `limit` (0..1) of the trained range."""
    return host.sigmas[rows(max(1, int(limit * len(host.sigmas))), size, generator).to(host.sigmas.device)]


def fresh_noise(host: StandaloneModel, size: int, generator: torch.Generator) -> Tensor:
    """Normal noise `[size, c, h, w]`, another one at each call."""
    return noise((size, *host.latent_shape), int(rows(2**31 - 1, 1, generator)), host.device)


def doubled(one: Conditioning, other: Conditioning) -> Conditioning:
    """Two batches of prompts as one."""
    return Conditioning.cat([one, other])
