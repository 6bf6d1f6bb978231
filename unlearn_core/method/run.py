"""One run on a host: the only place that opens what has to be closed again, and where the student is told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..delta.base_model import BaseModel
from ..device_memory import SmallPasses, offload_restored, release
from ..errors import UnlearnError
from ..evaluate.remembered import Remembered
from ..host import HostModel
from ..progress import Progress, Tracker
from ..saved_work import NOTHING, NoSavedWork, digest, tool
from ..words.prompts import spread
from .layer_edits import LayerEdits, Student
from .open_words import Held, OpenWords, kept_words
from .plan import expected, expected_later
from .preserved import PreservedPrompts
from .request import Request
from .text_layers import reads_text
from .text_reader import TextReader, readers_of
from .text_search import TextGroup, text_groups_of
from .token_moments import Moment
from .training.memory import Cost, row_cost, rows_at_once

TOLD = 8
"""Prompts of the target, and other words, by which one text encoder is told from another."""


@dataclass
class Run:
    """An open run.

    host: the host's model, its passes split so that they fit the memory. backbone: the denoiser with the stack applied.
    base: the denoiser without it. edits: the changes that the closed form makes. student: what is being learned,
    `edits` or the adapters of a training. cost: what one row takes. job: progress and the artist's wish to stop.
    tidy: gives memory back that finished work still holds. saved: where finished parts are kept. groups: layers that
    were found to read text alone, where their names do not tell it. remembered: pictures of before, from other runs.
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
    groups: Sequence[TextGroup] = ()
    remembered: Remembered = field(default_factory=Remembered)
    student: Student = field(init=False)
    _preserved: dict[tuple[str, ...], Held] = field(default_factory=dict)

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
        tidy = partial(release, host.device, young=True) if config.check else (lambda: None)
        job = Tracker(expected(request), progress, tidy, expected_later(request))
        with offload_restored(host), host.session(request.stack) as backbone:
            base = BaseModel(backbone, host.layers(), request.stack)
            groups = text_groups(host, backbone, request)
            edits = LayerEdits(backbone, [*request.trained, *(p for g in groups for p in g.paths)], reader_of(host))
            with base.hooked(backbone), edits.hooked():
                answers: list[Tensor] = []
                cost = row_cost(host, backbone, answers.append)
                saved.begin(key_of(request, host, answers[0]), job.spare)
                rows = saved.number("rows", rows_at_once(host, backbone, cost, config.memory) or 0)
                small = SmallPasses(host, rows or None, saved)
                seen = Remembered(pictures_of(host), model_of(request, host, answers[0]))
                yield cls(request, small, backbone, base, edits, cost, job, tidy, saved, groups, seen)

    @cached_property
    def readers(self) -> tuple[TextReader, ...]:
        """One for each group of layers that the closed form changes, since they read text alone; () where none do."""
        named = [p for p in self.edits.paths if reads_text(p)]
        if named:
            # of some models a few read something else by the same name, of another width
            width = self.host.encode([""]).tokens.shape[-1]
            return (TextReader(self.host, [p for p in named if self.edits.width(p) == width]),)
        return readers_of(self.host, self.backbone, self.groups)

    def ranks(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, int]:
        """{path: rank of its adapter}, each of which can begin with what the closed form has found for the layer."""
        least = dict.fromkeys(self.edits.paths, self.request.config.rank)
        return least | {path: max(least[path], len(down)) for path, (down, _) in factors.items()}

    def preserved(self, reader: TextReader, near: Sequence[str] = ()) -> Moment:
        """Of the tokens of everything that is to stay as it is, as some layers read them; read once.

        near: terms of the vocabulary that are preserved beside those that the request finds.
        """
        if reader.paths not in self._preserved:
            request = self.request
            lists = (request.words, request.general)
            config, unlisted = request.config, request.holds_unlisted
            prompts = PreservedPrompts(lists, request.moving, config.seed, config.keep, request.recipe, unlisted)
            held = Held(prompts.moment(reader, self.job.pulse))
            if request.vocabulary:
                self.job.say("reading the vocabulary")
                words, kept = OpenWords.make(request, self.job.pulse), kept_words(self.host)
                held = words.preserved(reader, held.moment, kept, (*request.near_earlier, *near))
            self._preserved[reader.paths] = held
        return self._preserved[reader.paths].moment

    @property
    def near(self) -> tuple[str, ...]:
        """The terms around the target that are preserved, as far as they have been read."""
        return tuple(dict.fromkeys(term for held in self._preserved.values() for term in held.near))

    def learned(self) -> str:
        """Which change is on the layers now, as a hash."""
        return digest(*(t for path in sorted(self.student.factors) for t in self.student.factors[path]))

    def bound(self) -> None:
        """Take from saved work from here on only what was made with the change that is on the layers now.

        A training that is made anew on a card does not come out the same to the last bit.
        """
        self.saved.part("weights", (self.learned(),), lambda: {"it": torch.zeros(1)})

    @contextmanager
    def teacher(self) -> Iterator[None]:
        """The base model, which has forgotten nothing, for the length of a block."""
        with self.student.off(), self.base.shown():
            yield


def reader_of(host: HostModel) -> Callable[[str], Tensor] | None:
    """What gives the host's weights by their paths; None where its layers hold them (see `PackedHost`)."""
    return getattr(host, "weight", None)


def text_groups(host: HostModel, backbone: nn.Module, request: Request) -> list[TextGroup]:
    """Layers that read text alone, where no name tells it. Raises `UnlearnError` where there is nothing to change."""
    found: list[TextGroup] = []
    wanted = request.config.closed_form or not request.trained
    if wanted and not any(map(reads_text, request.trained)):
        groups = text_groups_of(host, backbone)
        found = groups if all(p in request.layers for g in groups for p in g.paths) else []
    if not found and not request.trained:
        raise UnlearnError(
            f"The model has no layers of the kind '{request.config.layers}' to change, and none that reads text alone."
        )
    return found


def key_of(request: Request, host: HostModel, answer: Tensor) -> str:
    """What all numbers of a run depend on, as a name: tool, device, model, stack, words, settings and recipes.

    answer: of the model with the stack on it, to some input: it tells models, types and kernels apart by every bit.
    """
    stack = request.stack
    below = stack.parents(), stack.prompts(), stack.kinds(), stack.anchors()
    asked = request.config.deciding(), request.concept, request.kind, request.targets, request.held_out
    # the model's answer is one to no words at all, and another text encoder may lie in the same file
    told = spread(request.words.all_objects, TOLD, 0)
    text = host.encode([*(s.prompt for s in request.targets[:TOLD]), *told]).parts()
    words = [request.words, request.general, *([request.vocabulary.digest] if request.vocabulary else [])]
    return digest(tool(), loaded(host), below, asked, *words, request.recipes, host.sigmas, answer, *text)


def model_of(request: Request, host: HostModel, answer: Tensor) -> str:
    """What pictures depend on beside what they are asked for: tool, device, model and stack, as a name."""
    return digest(tool(), loaded(host), request.stack.parents(), host.sigmas, answer)


def pictures_of(host: HostModel) -> Path | None:
    """Where pictures of before are kept, with what else is the same for all requests; None where nothing is."""
    folder: Path | None = getattr(host, "cache_folder", None)
    return folder / "pictures" if folder and getattr(host, "told_by_an_answer", True) else None


def loaded(host: HostModel) -> tuple:
    """The model and what it is worked out on."""
    return host.fingerprint, host.prediction_type, str(host.device), torch.get_num_threads(), host.latent_shape
