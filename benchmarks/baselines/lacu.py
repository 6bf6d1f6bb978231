"""LACU (arXiv 2512.02657 v2): mapping and replay chosen by the model; the whole UNet as in the paper, or a plain LoRA.

Paper: 250 to 350 updates of 108 at 5e-5 after a warm-up of 30, weights 5, 25, 2e-4, ten candidates a prompt (eight
replacements, the category word, the prompt without the concept) ranked by score distance on pure noise, replay of the
ten nearest concepts. The range of noise levels is full here, as for DFR. The switches `erased`, `empty` and `far` add
what the paper leaves out, for the table that shows what each gives.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmarks.learned import Learned, under
from benchmarks.models import OpenModel
from benchmarks.task import Task
from unlearn_core.host import Conditioning
from unlearn_core.sampling import Probe, probe_levels
from unlearn_core.words.prompts import REMOVED, Scene, scenes, spread
from unlearn_core.words.word_list import WordList

from .continual import Continual, erased
from .learner import Learner, lora, whole

REPLACEMENTS, NEIGHBOURS, PROMPTS, FAR = 8, 10, 10, 24
PROBED = 4
"""Noise levels of the distance on pure noise."""


@dataclass(frozen=True)
class LACU(Continual):
    """Settings with the paper's, scaled; `GRID` is what `search` tries."""

    name: ClassVar[str] = "lacu-full"
    label: ClassVar[str] = "LACU losses, whole UNet"
    GRID: ClassVar[dict] = {"learning_rate": (3e-5, 1e-4, 3e-4), "steps": (150, 300)}
    warm_up: int = 30
    forget_weight: float = 5.0
    keep_weight: float = 25.0
    drift_weight: float = 2e-4
    erased: bool = False
    empty: bool = False
    far: bool = False

    def learner(self, task: Task, backbone: nn.Module) -> AbstractContextManager[Learner]:
        """What learns: all parameters."""
        return whole(task, backbone)

    def learn(self, task: Task) -> Learned:
        """Train one request on top of the earlier ones."""
        rest, kind, seed = task.rest, task.request.kind, task.seed
        with under(task.host, task.past) as backbone:
            ranked, replaced = choose(task)
            near = ranked[:NEIGHBOURS]
            replay = [s.prompt for w in near for s in scenes(rest, w, kind, PROMPTS, seed + 1)]
            others = spread(rest.all_objects, FAR, seed) if self.far else []
            replay += [s.prompt for o in others for s in scenes(rest, o, "object", 2, seed + 2)]
            replay += erased(task.past) if self.erased else []
            replay += [""] * (len(replay) // 8) if self.empty else []
            with self.learner(task, backbone) as learner:
                self.train(task, learner, replaced, replay)
                shown = near if kind == "object" else [s.obj for w in near for s in seen(rest, w, seed)]
                replayed = tuple(dict.fromkeys([*shown, *others]))
                return learner.learned(ranked[0], task.pairs(replaced), self.steps, replayed)


@dataclass(frozen=True)
class LACULoRA(LACU):
    """The same losses and choices on a LoRA of keys and values."""

    name: ClassVar[str] = "lacu-lora"
    label: ClassVar[str] = "LACU losses, plain LoRA"
    GRID: ClassVar[dict] = {"learning_rate": (1e-3, 3e-3, 1e-2), "steps": (150, 300)}
    learning_rate: float = 3e-3
    rank: int = 4
    layers: str = "kv"

    def learner(self, task: Task, backbone: nn.Module) -> AbstractContextManager[Learner]:
        """What learns: the factors."""
        return lora(task, backbone, self.layers, self.rank)


def choose(task: Task) -> tuple[list[str], list[str]]:
    """(rivals by mean distance, nearest first; the nearest candidate's prompt for each forget prompt).

    Distances on pure noise, the same for all candidates. An anchor that the artist names is taken everywhere.
    """
    host, request = task.host, task.request
    rivals = task.nearest()[: REPLACEMENTS + NEIGHBOURS]
    names = [*rivals, *dict.fromkeys([task.superclass(), REMOVED])]
    nothing = torch.zeros(len(task.prompts), *host.latent_shape, device=host.device)
    probe = Probe.make(host, nothing, probe_levels(host, PROBED), task.seed)
    reference = probe.directions(host, host.encode(task.prompts))
    table = torch.stack([score_rows(host, probe, reference, host.encode(task.mapped(n))) for n in names])
    order = table[: len(rivals)].mean(1).argsort().tolist()
    ranked = [rivals[i] for i in order]
    if request.anchor:
        return [request.anchor, *(r for r in ranked if r != request.anchor)], task.mapped(request.anchor)
    allowed = [names.index(n) for n in (*ranked[:REPLACEMENTS], *names[len(rivals) :])]
    best = table[allowed].argmin(0).tolist()
    prompts = [task.mapped(names[i]) for i in range(len(names))]
    return ranked, [prompts[allowed[b]][row] for row, b in enumerate(best)]


def score_rows(host: OpenModel, probe: Probe, reference: Tensor, candidate: Conditioning) -> Tensor:
    """The distance of each prompt's own pair, `[prompts]`; reference: d of the prompts at the probe's points."""
    gap = (probe.directions(host, candidate) - reference).pow(2).flatten(1).mean(1)
    return gap.view(-1, probe.levels).mean(1)


def seen(words: WordList, style: str, seed: int) -> list[Scene]:
    """The scenes that a style's replay shows, for the things in them."""
    return [s for s in scenes(words, style, "style", PROMPTS, seed + 1) if s.obj]
