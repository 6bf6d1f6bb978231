"""The product's own algebra for many requests in one solve, to see whether one delta for all beats one for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn_core.delta.format import Delta, DeltaInfo, Factor
from unlearn_core.delta.info import MAX_CONCEPT
from unlearn_core.delta.layer_names import weight_of
from unlearn_core.delta.paths import safe_file_name
from unlearn_core.errors import UnlearnError
from unlearn_core.method.closed_form import Edit, moments
from unlearn_core.method.open_words import OpenWords
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.text_reader import TextReader
from unlearn_core.recipe import DEFAULT
from unlearn_core.words.vocabulary import Vocabulary

from .learned import Learned, under
from .task import Task, shared_anchors
from .text_layers import text_readers


def held(task: Task, names: Sequence[str], reader: TextReader) -> Tensor:
    """The moment of all that is preserved, as the product holds it, with the neighbours of every target, `[d, d]`."""
    listed = PreservedPrompts([task.words, task.general], names, task.seed).moment(reader)
    known: Vocabulary | None = getattr(task.host, "vocabulary", None)
    if known is None:
        return listed.value
    recipe, allowed, style = DEFAULT[task.request.kind], known.without(names), task.request.kind == "style"
    each = [OpenWords(known, allowed, (n, *names), style, (), task.words, recipe) for n in names]
    sample = each[0].sample(reader)
    near = dict.fromkeys(term for words in each for term in words.neighbours(reader, sample))
    return each[0].beside(listed, reader, sample, list(near)).value


@dataclass(frozen=True)
class OursJoint:
    """scale: the preserve scale f of each target; rank: of the delta for each target; overshoot: past the anchors."""

    name: ClassVar[str] = "ours-joint"
    label: ClassVar[str] = "ours, one solve for all"
    GRID: ClassVar[dict] = {"scale": (3.0, 10.0, 30.0), "overshoot": (0.05, 0.3)}
    scale: float = 30.0
    rank: int = 8
    overshoot: float = 0.05

    @torch.no_grad()
    def learn(self, task: Task) -> Learned:
        """All requests of the task; nothing is drawn or checked."""
        tasks, host = task.parts, task.host
        anchors = shared_anchors(tasks)
        names = [t.request.concept for t in tasks]
        pairs = [pair for t, anchor in zip(tasks, anchors, strict=True) for pair in t.pairs(t.mapped(anchor))]
        written = {path: name for name, path in reversed(host.layers().items())}
        factors = {}
        with under(host, task.past) as backbone:
            for reader in text_readers(host, backbone):
                target = moments(reader, pairs, [0.0] * len(pairs))
                if target is None:
                    raise UnlearnError("The prompts have no places of their words in this model.")
                target = target[0] * len(tasks), target[1] * len(tasks)
                edit = Edit(target, None, held(task, names, reader), DEFAULT[task.request.kind])
                weights = {path: weight_of(backbone.get_submodule(path)) for path in reader.paths}
                rank = min(self.rank * len(tasks), *(min(w.shape) for w in weights.values()))
                for path, down, up in edit.factors(weights, {}, rank, (self.scale, self.overshoot)):
                    factors[written[path]] = Factor.within_layer(down, up, float(rank))
        task.tick(1.0)
        info = DeltaInfo(
            concept=", ".join(names)[:MAX_CONCEPT],
            kind=task.request.kind,
            anchor=", ".join(dict.fromkeys(anchors))[:MAX_CONCEPT],
            architecture=host.architecture,
            prediction_type=host.prediction_type,
            base_fingerprint=host.fingerprint,
            prompts=tuple(pairs),
        )
        delta = Delta(factors, info, safe_file_name(names[0])).rounded()
        return Learned(", ".join(names), delta, None, task.rest.all_objects, info.anchor, info.prompts, 0)
