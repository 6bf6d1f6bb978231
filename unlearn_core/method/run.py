"""One run on a host: the only place that opens what has to be closed again, and where the student is told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from ..delta.base_model import BaseModel
from ..device_memory import SmallPasses, release
from ..host import HostModel
from ..progress import Progress, Tracker
from ..saved_work import NOTHING, NoSavedWork, digest, tool
from .layer_edits import LayerEdits, Student
from .plan import expected
from .preserved import PreservedPrompts
from .request import Request
from .token_moments import Moment
from .training.memory import Cost, row_cost, rows_at_once


@dataclass
class Run:
    """An open run.

    host: the host's model, its passes split so that they fit the memory. backbone: the denoiser with the stack applied.
    base: the denoiser without it. edits: the changes that the closed form makes. student: what is being learned,
    `edits` or the adapters of a training. cost: what one row takes. job: progress and the artist's wish to stop.
    tidy: gives memory back that finished work still holds. saved: where finished parts are kept.
    """

    request: Request
    host: HostModel
    backbone: nn.Module
    base: BaseModel
    edits: LayerEdits
    cost: Cost
    job: Tracker
    tidy: Callable[[], None]
    saved: NoSavedWork = NOTHING
    student: Student = field(init=False)

    def __post_init__(self) -> None:
        self.student = self.edits

    @classmethod
    @contextmanager
    def open(
        cls, request: Request, host: HostModel, progress: Progress | None, saved: NoSavedWork = NOTHING
    ) -> Iterator[Run]:
        """The host's model with the stack on it, for the length of a block; the same bits afterwards."""
        config = request.config

        # A look for garbage takes as long as an unchecked run's algebra, and only pictures leave much.
        tidy = partial(release, host.device) if config.check else (lambda: None)
        job = Tracker(expected(request), progress, tidy)
        with host.session(request.stack) as backbone:
            base = BaseModel(backbone, host.layers(), request.stack)
            edits = LayerEdits(backbone, request.layers)
            with base.hooked(backbone), edits.hooked():
                answers: list[Tensor] = []
                cost = row_cost(host, backbone, answers.append)
                saved.begin(key_of(request, host, answers[0]), job.spare)
                rows = saved.number("rows", rows_at_once(host, backbone, cost, config.memory) or 0)
                yield cls(
                    request, SmallPasses(host, rows or None, saved), backbone, base, edits, cost, job, tidy, saved
                )

    @cached_property
    def preserved(self) -> Moment:
        """Of the tokens of everything that is to stay as it is."""
        request = self.request
        lists = (request.words, request.general)
        prompts = PreservedPrompts(lists, request.moving, request.config.seed, request.config.keep, request.recipe)
        return prompts.moment(self.host, self.job.pulse)

    @contextmanager
    def teacher(self) -> Iterator[None]:
        """The base model, which has forgotten nothing, for the length of a block."""
        with self.student.off(), self.base.shown():
            yield


def key_of(request: Request, host: HostModel, answer: Tensor) -> str:
    """What all numbers of a run depend on, as a name: tool, device, model, stack, words, settings and recipes.

    answer: of the model with the stack on it, to some input: it tells models, types and kernels apart by every bit.
    """
    stack = request.stack
    on = host.fingerprint, host.prediction_type, str(host.device), torch.get_num_threads(), host.latent_shape
    below = stack.parents(), stack.prompts(), stack.kinds(), stack.anchors()
    asked = request.config.deciding(), request.concept, request.kind, request.targets, request.held_out
    return digest(tool(), on, below, asked, request.words, request.general, request.recipes, host.sigmas, answer)
