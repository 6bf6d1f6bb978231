"""What the methods in closed form share: a request as some layers read it, and W' = W + W X with X in text space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from benchmarks.learned import Learned, under
from benchmarks.task import Task, shared_anchors
from benchmarks.text_layers import text_readers
from unlearn_core.method.open_words import sampled
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.text_reader import TextReader
from unlearn_core.method.token_moments import Moment, moment_of
from unlearn_core.words.prompts import fill
from unlearn_core.words.vocabulary import Vocabulary, bundled

WORDS = 600
"""Terms of the vocabulary for methods that preserve what no list names."""


@dataclass(frozen=True)
class TextSpace:
    """One request or several, as a group of layers reads them.

    tasks: one a concept. anchors: what each is mapped onto. matrices: {path: `[out, d]`}, earlier requests included.
    """

    reader: TextReader
    tasks: Sequence[Task]
    anchors: Sequence[str]
    matrices: Mapping[str, Tensor]

    @property
    def task(self) -> Task:
        """The first one: what all have in common."""
        return self.tasks[0]

    @cached_property
    def tokens(self) -> tuple[Tensor, Tensor]:
        """Tokens of the targets' prompts and of the mapped ones, float64 `[n, d]`."""
        pairs = [(t.prompts, t.mapped(anchor)) for t, anchor in zip(self.tasks, self.anchors, strict=True)]
        read = [[self.reader.read(side).values for side in pair] for pair in pairs]
        return tuple(torch.cat([t.flatten(0, 1) for t in side]).cpu().double() for side in zip(*read, strict=True))  # type: ignore[return-value]

    @cached_property
    def cross(self) -> Tensor:
        """The sum over the targets of E[(c* - c) c^T], `[d, d]`."""
        edited, wanted = self.tokens
        return (wanted - edited).T @ edited / len(edited) * len(self.tasks)

    @cached_property
    def gram(self) -> Tensor:
        """The sum over the targets of E[c c^T], `[d, d]`."""
        edited, _ = self.tokens
        return edited.T @ edited / len(edited) * len(self.tasks)

    @cached_property
    def listed_prompts(self) -> list[str]:
        """Prompts of everything that the lists name and that does not go."""
        task = self.task
        names = [t.request.concept for t in self.tasks]
        return list(PreservedPrompts([task.words, task.general], names, task.seed).weights())

    @cached_property
    def preserved(self) -> Moment:
        """Of these prompts, and of what earlier requests have edited, so that it stays edited."""
        listed = moment_of(self.reader, self.listed_prompts)
        earlier = [p for one in self.task.past for p, _ in one.prompts]
        return listed + moment_of(self.reader, earlier) if earlier else listed

    @cached_property
    def open_prompts(self) -> list[str]:
        """A prompt of each of some terms of the vocabulary, without the targets and what belongs to them."""
        task = self.task
        known: Vocabulary = getattr(task.host, "vocabulary", None) or bundled()
        gone = [*(t.request.concept for t in self.tasks), *(p.concept for p in task.past)]
        templates = task.words.object_templates
        terms = [t.text for t in sampled(known.without(gone), WORDS)]
        return [fill(templates[i % len(templates)], text, text) for i, text in enumerate(terms)]

    @cached_property
    def anchor_prompts(self) -> list[str]:
        """The mapped prompts."""
        return [p for t, anchor in zip(self.tasks, self.anchors, strict=True) for p in t.mapped(anchor)]

    def ridge(self, part: float) -> Tensor:
        """A part of the mean square of the targets' tokens, on the diagonal."""
        return part * self.gram.diagonal().mean() * torch.eye(len(self.gram), dtype=torch.float64)


class ClosedForm(ABC):
    """A method whose change of every matrix W that reads text is W X, with X solved in text space.

    W is the model after the earlier requests.
    """

    @abstractmethod
    def change(self, space: TextSpace) -> Tensor:
        """X, float64 `[d, d]`."""

    @torch.no_grad()
    def learn(self, task: Task) -> Learned:
        """Edit one request, or several at once, on top of the earlier ones."""
        tasks, host = task.parts, task.host
        anchors = shared_anchors(tasks)
        changes = {}
        with under(host, task.past) as backbone:
            parameters = dict(backbone.named_parameters())
            readers = text_readers(host, backbone)
            for i, reader in enumerate(readers):
                matrices = {path: parameters[f"{path}.weight"] for path in reader.paths}
                x = self.change(TextSpace(reader, tasks, anchors, matrices))
                for path, weight in matrices.items():
                    changes[f"{path}.weight"] = (weight.cpu().double() @ x).to(weight.dtype)
                task.tick((i + 1) / len(readers))
        pairs = tuple(pair for t, anchor in zip(tasks, anchors, strict=True) for pair in t.pairs(t.mapped(anchor)))
        concepts = ", ".join(r.concept for r in task.requests)
        return Learned(concepts, None, changes, (), ", ".join(dict.fromkeys(anchors)), pairs, 0)
