"""What the base model answers, kept in a folder for all sequences: most of their questions are the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from unlearn_core.delta.atomic import write_whole
from unlearn_core.demo.recognition import Question
from unlearn_core.host import HostModel

from ..questions import Answer, Observations
from .questions import look


@dataclass(frozen=True)
class BaseAnswers:
    """{caption: its answer} and {caption: its features `[d]`} of one seed and number of steps."""

    file: Path
    answers: dict[str, Answer]
    features: dict[str, Tensor]

    @classmethod
    def load(cls, file: Path) -> BaseAnswers:
        """What a file holds; nothing where there is none."""
        if not file.is_file():
            return cls(file, {}, {})
        with safe_open(file, "pt") as kept:
            told = json.loads(kept.metadata()["answers"])
            features = kept.get_tensor("features")
        return cls(file, {c: Answer(*a) for c, a in told.items()}, dict(zip(told, features, strict=True)))

    def add(self, captions: Sequence[str], seen: Observations) -> None:
        """Take in new ones and write the file."""
        self.answers.update(zip(captions, seen.answers, strict=True))
        self.features.update(zip(captions, seen.features, strict=True))
        told = json.dumps({c: [a.obj, a.style] for c, a in self.answers.items()})
        features = torch.stack([self.features[c] for c in self.answers])
        write_whole(self.file, to_bytes({"features": features}, {"answers": told}))


def look_at_base(host: HostModel, asked: Sequence[Question], seed: int, steps: int, folder: Path) -> Observations:
    """As `look`; what other sequences have asked the base model is not drawn again."""
    known = BaseAnswers.load(folder / f"world-{seed}-{steps}.safetensors")
    missing = list({q.caption: q for q in asked if q.caption not in known.answers}.values())
    if missing:
        known.add([q.caption for q in missing], look(host, missing, seed, steps))
    captions = [q.caption for q in asked]
    features = torch.stack([known.features[c] for c in captions])
    return Observations(tuple(known.answers[c] for c in captions), features)
