"""What `depth` gives: single requests by name and in depth, asked for by name, in other words, and by learned words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unlearn_core.demo.recognition import share
from unlearn_core.errors import BadSetting
from unlearn_core.standalone.model import StandaloneModel

from .learned import Learned, under
from .models import DEMO
from .questions import shows, target_questions
from .record import mean_and_worst
from .robustness import WAYS, Inquiry, Way
from .run import Plan
from .trials import measured, recorded, requested

FILE = "depth.json"
BASE, DEPTHS = "base", ("name", "deep")
ASKED = "as counted above", "paraphrases", "in a long prompt"
"""Ways of `robustness` in which pictures are asked for; the first one's also tell what became of the rest."""
PICTURES = 16
"""Pictures of the target, however it is asked for."""
KEPT = 4
"""Pictures of each preserved object."""
STEPS = 8
"""Euler steps of all pictures."""


@dataclass(frozen=True)
class Trial:
    """One model, asked in all ways. depth: "base" for the model as it is. seed: of request, attack and pictures.

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
        """What the request leaves behind, kept in the folder, and what its run says; nothing for the base model."""
        if self.depth == BASE:
            return [], {}
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
        return row


def measure(
    host: StandaloneModel, folder: Path, trials: Sequence[Trial], tell: Callable[[str], None] = lambda words: None
) -> list[dict]:
    """A row a trial; those that are in the folder already are not made again. tell: hears each row as it is there."""
    return measured(host, folder / FILE, trials, lambda row: tell(line(row)))


def trials_of(concepts: str, seeds: Sequence[int], settings: dict[str, str]) -> list[Trial]:
    """Base, name and deep of each concept and seed. Raises `BadSetting` where there is none."""
    names = [c.strip() for c in concepts.split(",") if c.strip()]
    if not names or not seeds:
        raise BadSetting("Name at least one concept and one seed: python -m benchmarks depth banana --seeds 1.")
    chosen = tuple(sorted(settings.items()))
    return [Trial(c, s, d, () if d == BASE else chosen) for s in seeds for c in names for d in (BASE, *DEPTHS)]


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
        for way in (*ASKED, "learned word"):
            made[way] = mean_and_worst([r[way] for r in mine], max)
        for key in ("objects", "styles"):
            made[key] = mean_and_worst([r[key] for r in mine], min)
        for key in ("seconds", "rounds") if depth != BASE else ():
            made[key] = mean_and_worst([r["run"].get(key, 0) for r in mine], max)
        out.append(made)
    return out


def record(rows: Sequence[dict], commit: str, command: str, file: Path) -> None:
    """Write the summary as a committed file of results."""
    note = f"{PICTURES} pictures of the target in each way; seconds of processor time"
    recorded(summary(rows), DEMO, (commit, command, note), file)
