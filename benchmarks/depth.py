"""What `depth` gives: single requests by name and in depth, asked for by name, in other words, and by learned words.

Beside them the base model, and as a control a network with random weights: what a learned word alone makes of anything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unlearn_core.demo.recognition import share
from unlearn_core.errors import BadSetting
from unlearn_core.standalone.model import StandaloneModel

from . import attacks
from .learned import Learned, under
from .models import DEMO
from .questions import shows, target_questions
from .record import mean_and_worst
from .robustness import WAYS, Inquiry, Way
from .run import Plan
from .trials import measured, recorded, requested

FILE = "depth.json"
BASE, CONTROL, DEPTHS = "base", "random", ("name", "deep")
ASKED = "as counted above", "paraphrases", "in a long prompt"
"""Ways of `robustness` in which pictures are asked for; the first one's also tell what became of the rest."""
PICTURES = 16
"""Pictures of the target, however it is asked for."""
KEPT = 4
"""Pictures of each preserved object."""
STEPS = 8
"""Euler steps of all pictures."""
TUNED = {"as counted, trained on": "by name, trained on", "learned word, trained on": "learned word, trained on"}
"""What is asked once more after `attacks.TUNED_STEPS` steps of training on other pictures: {key: head of the table}."""


@dataclass(frozen=True)
class Trial:
    """One model, asked in all ways. seed: of request, attack and pictures.

    depth: "base" for the model as it is, "random" for its network with random weights.

    settings: of the request, by their names.
    """

    concept: str
    seed: int
    depth: str
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.concept}-{self.seed}-{self.depth}"

    def learned(self, host: StandaloneModel, folder: Path) -> tuple[list[Learned], dict]:
        """What the request leaves behind, kept in the folder, and what its run says; no request for the controls."""
        if self.depth in (BASE, CONTROL):
            return [] if self.depth == BASE else [random_weights(host, self.seed)], {}
        asked = {"concept": self.concept, "seed": self.seed, "depth": self.depth, **dict(self.settings)}
        return requested(host, folder / f"{self.name}.safetensors", asked, "depth")

    def measured(self, host: StandaloneModel, folder: Path) -> dict:
        """Shares 0..1: how often the target is recognised in each way, and other objects and styles."""
        past, facts = self.learned(host, folder)
        sheet = Plan(self.concept, ("ours",), 1, 1, KEPT).questionnaire
        (request,) = sheet.requests
        target = tuple(target_questions(request, sheet.watched, PICTURES))
        inquiry = Inquiry(host, replace(sheet, targets=(target,)), past, self.seed, PICTURES, STEPS)
        row: dict = {"concept": self.concept, "seed": self.seed, "depth": self.depth, "run": facts}
        with under(host, past):
            for way in (replace(w, steps=STEPS) for w in WAYS if w.name in ASKED):
                row[way.name] = share([shows(a, request) for a in inquiry.drawn(way, target)])
            seen = inquiry.drawn(Way("", steps=STEPS), sheet.preserved)
        kept = list(zip(seen, sheet.preserved, strict=True))
        row["objects"] = share([a.obj == q.obj for a, q in kept])
        row["styles"] = share([a.style == q.style for a, q in kept])
        (row["learned word"],) = inquiry.by_learned_words(past, lambda _: None)
        if self.depth == DEPTHS[-1]:
            others = inquiry.others()
            with under(host, past), attacks.tuned(host, others, self.seed):
                named = inquiry.drawn(Way("", steps=STEPS), target)
            again = inquiry.by_learned_words(past, lambda _: None, others)
            row |= dict(zip(TUNED, (share([shows(a, request) for a in named]), *again), strict=True))
        return row


def random_weights(host: StandaloneModel, seed: int) -> Learned:
    """What makes of the host's network one of random weights, each layer begun as torch begins it."""
    network = copy.deepcopy(host.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if reset := getattr(module, "reset_parameters", None):
                reset()
    own = dict(host.backbone.named_parameters())
    return Learned("", dense={name: (p - own[name]).detach() for name, p in network.named_parameters()})


def measure(
    host: StandaloneModel, folder: Path, trials: Sequence[Trial], tell: Callable[[str], None] = lambda words: None
) -> list[dict]:
    """A row a trial; those that are in the folder already are not made again. tell: hears each row as it is there."""
    return measured(host, folder / FILE, trials, lambda row: tell(line(row)))


def trials_of(concepts: str, seeds: Sequence[int], settings: dict[str, str]) -> list[Trial]:
    """The controls, name and deep of each concept and seed. Raises `BadSetting` where there is none."""
    names = [c.strip() for c in concepts.split(",") if c.strip()]
    if not names or not seeds:
        raise BadSetting("Name at least one concept and one seed: python -m benchmarks depth banana --seeds 1.")
    chosen = tuple(sorted(settings.items()))
    controls = BASE, CONTROL
    return [Trial(c, s, d, () if d in controls else chosen) for s in seeds for c in names for d in (*controls, *DEPTHS)]


def line(row: dict) -> str:
    """A row in one line."""
    ways = ", ".join(f"{way} {row[way]:.0%}" for way in (*ASKED, "learned word", "objects", "styles"))
    return f"{row['name']}: {ways}"


def summary(rows: Sequence[dict]) -> list[dict]:
    """A row a concept and depth: the mean over the seeds and, of several, the worst."""
    out = []
    for concept, depth in dict.fromkeys((r["concept"], r["depth"]) for r in rows):
        mine = [r for r in rows if (r["concept"], r["depth"]) == (concept, depth)]
        made: dict = {"concept": concept, "depth": depth, "seeds": len(mine)}
        for way in (*ASKED, "learned word", *(TUNED if depth == DEPTHS[-1] else ())):
            made[way] = mean_and_worst([r[way] for r in mine], max)
        for key in ("objects", "styles"):
            made[key] = mean_and_worst([r[key] for r in mine], min)
        for key in ("seconds", "rounds") if depth in DEPTHS else ():
            made[key] = mean_and_worst([r["run"].get(key, 0) for r in mine], max)
        out.append(made)
    return out


def record(rows: Sequence[dict], commit: str, command: str, file: Path) -> None:
    """Write the summary as a committed file of results."""
    note = f"{PICTURES} pictures of the target in each way; seconds of processor time"
    recorded(summary(rows), DEMO, (commit, command, note), file)
