"""What a baseline trains: a LoRA, or the network's own parameters; taken off again at the end."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.learned import Learned, stack_of
from benchmarks.task import Task
from unlearn_core.delta.format import Delta, DeltaInfo, Factor
from unlearn_core.method.adapters import attached
from unlearn_core.method.text_layers import is_target
from unlearn_core.method.training import losses


@dataclass
class Learner:
    """The weights that learn.

    before: a context in which the host is the model before the request, which teaches in the published methods.
    drift: squared change against it. learned: the outcome with other facts filled in.
    """

    parameters: list[nn.Parameter]
    before: Callable[[], AbstractContextManager]
    drift: Callable[[], Tensor]
    learned: Callable[..., Learned] = field(repr=False)


@contextmanager
def lora(task: Task, backbone: nn.Module, layers: str, rank: int) -> Iterator[Learner]:
    """A LoRA on the layers of a kind (see `ForgetConfig.layers`), taken off at the end."""
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

        yield Learner(
            adapters.parameters(),
            adapters.off,
            lambda: losses.drift((a, b, 1.0) for _, a, b in adapters.alike(adapters.factors)),
            learned,
        )


@contextmanager
def whole(task: Task, backbone: nn.Module, part: Callable[[str], bool] = lambda name: True) -> Iterator[Learner]:
    """The UNet's own parameters (those whose name passes `part`); the bits from before at the end."""
    host = task.host
    frozen = copy.deepcopy(backbone)
    chosen = {n: p for n, p in backbone.named_parameters() if part(n)}
    values = {n: p.detach().clone() for n, p in chosen.items()}

    @contextmanager
    def before() -> Iterator[None]:
        host.backbone = frozen
        try:
            yield
        finally:
            host.backbone = backbone

    def learned(anchor: str, prompts, steps: int, replayed: Sequence[str] = ()) -> Learned:
        dense = {n: (p.detach() - values[n]).cpu() for n, p in chosen.items()}
        return Learned(task.request.concept, None, dense, tuple(replayed), anchor, tuple(prompts), steps)

    flags = {n: p.requires_grad for n, p in chosen.items()}
    try:
        for p in chosen.values():
            p.requires_grad_(True)
        yield Learner(
            list(chosen.values()),
            before,
            lambda: torch.stack([(p - values[n]).square().sum() for n, p in chosen.items()]).sum(),
            learned,
        )
    finally:
        with torch.no_grad():
            for n, p in chosen.items():
                p.requires_grad_(flags[n])
                p.grad = None
                p.copy_(values[n])
