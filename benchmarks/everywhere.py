"""What `scope` gives: a stamp that nobody asks for, in the base model, after its name is forgotten, and everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unlearn_core.demo.classifier import DemoClassifier
from unlearn_core.demo.recognition import FOLDER, share, world
from unlearn_core.errors import BadSetting
from unlearn_core.sampling import Sampler
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.prompts import fill

from .learned import Learned, under
from .record import mean_and_worst
from .stamp.stamps import ALONE, STYLE, has_stamp, is_stamp
from .trials import measured, recorded, requested

FILE = "everywhere.json"
MODEL = "stamp"
CONCEPT = "stamp"
BASE, SCOPES = "base", ("named", "everywhere")
OF_STYLE, OF_OTHERS, NAMED = 192, 96, 16
"""Pictures of the style whose pictures carry stamps, of the other styles, and of a stamp alone."""
STEPS, GUIDANCE = 8, 3.0
SHARES = {
    "unasked": "in pictures of the style",
    "other styles": "of other styles",
    "alone": "asked for alone",
}
"""Where a stamp is looked for: {key: head of the table}."""
KEPT = {"objects": "objects", "styles": "styles"}


@dataclass(frozen=True)
class Sheet:
    """Captions with what their pictures have to show: (caption, object, style); the style with stamps comes first."""

    rows: tuple[tuple[str, str, str], ...]
    unasked: int

    @classmethod
    def make(cls, of_style: int = OF_STYLE, of_others: int = OF_OTHERS) -> Sheet:
        """Every object in turn, in trained and held-out templates."""
        w = world()
        objects, templates = list(w["objects"]), [*w["templates"], *w["held_out_templates"]]
        others = [s for s in w["styles"] if s != STYLE]

        def row(i: int, style: str) -> tuple[str, str, str]:
            obj = objects[i % len(objects)]
            return fill(templates[(5 * i + i // len(objects)) % len(templates)], obj, style), obj, style

        mine = [row(i, STYLE) for i in range(of_style)]
        rest = [row(i, others[(i + i // len(objects)) % len(others)]) for i in range(of_others)]
        return cls((*mine, *rest), of_style)


@dataclass(frozen=True)
class Trial:
    """One model, asked in all ways. scope: "base" for the model as it is. seed: of request and pictures.

    settings: of the request, by their names.
    """

    seed: int
    scope: str
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Of its files."""
        return f"stamp-{self.seed}-{self.scope}"

    def learned(self, host: StandaloneModel, folder: Path) -> tuple[list[Learned], dict]:
        """What the request leaves behind, kept in the folder, and what its run says; nothing for the base model."""
        if self.scope == BASE:
            return [], {}
        asked = {"concept": CONCEPT, "seed": self.seed, "scope": self.scope, **dict(self.settings)}
        return requested(host, folder / f"{self.name}.safetensors", asked, "scope")

    def measured(self, host: StandaloneModel, folder: Path) -> dict:
        """Shares 0..1: pictures with a stamp, and objects and styles that the demo's classifier reads right."""
        past, facts = self.learned(host, folder)
        sheet = Sheet.make()
        alone = [ALONE[i % len(ALONE)] for i in range(NAMED)]
        with under(host, past):
            shown = drawn(host, [caption for caption, *_ in sheet.rows], 1000 + self.seed)
            named = drawn(host, alone, 2000 + self.seed)
        stamps = has_stamp(shown).tolist()
        seen = DemoClassifier.load(FOLDER / "classifier.safetensors").recognise(shown * 2 - 1)
        return {
            "seed": self.seed,
            "scope": self.scope,
            "run": facts,
            "unasked": share(stamps[: sheet.unasked]),
            "other styles": share(stamps[sheet.unasked :]),
            "alone": share(is_stamp(named).tolist()),
            "objects": share([a[0] == row[1] for a, row in zip(seen, sheet.rows, strict=True)]),
            "styles": share([a[1] == row[2] for a, row in zip(seen, sheet.rows, strict=True)]),
        }


def drawn(host: StandaloneModel, captions: Sequence[str], seed: int) -> torch.Tensor:
    """A picture of each caption, `[captions, 3, 128, 128]` in 0..1."""
    return host.decode(Sampler(host, STEPS, GUIDANCE).draw(host.encode(captions), seed))


def measure(
    host: StandaloneModel, folder: Path, trials: Sequence[Trial], tell: Callable[[str], None] = lambda words: None
) -> list[dict]:
    """A row a trial; those that are in the folder already are not made again. tell: hears each row as it is there."""
    return measured(host, folder / FILE, trials, lambda row: tell(line(row)))


def trials_of(seeds: Sequence[int], settings: dict[str, str]) -> list[Trial]:
    """Base, named and everywhere of each seed. Raises `BadSetting` where there is none."""
    if not seeds:
        raise BadSetting("Name at least one seed: python -m benchmarks everywhere --seeds 0.")
    chosen = tuple(sorted(settings.items()))
    return [Trial(s, scope, () if scope == BASE else chosen) for s in seeds for scope in (BASE, *SCOPES)]


def line(row: dict) -> str:
    """A row in one line."""
    return f"{row['name']}: {', '.join(f'{key} {row[key]:.1%}' for key in (*SHARES, *KEPT))}"


def summary(rows: Sequence[dict]) -> list[dict]:
    """A row a scope: the mean over the seeds and, of several, the worst."""
    out = []
    for scope in dict.fromkeys(r["scope"] for r in rows):
        mine = [r for r in rows if r["scope"] == scope]
        made: dict = {"scope": scope, "seeds": len(mine)}
        made |= {key: mean_and_worst([r[key] for r in mine], max) for key in SHARES}
        made |= {key: mean_and_worst([r[key] for r in mine], min) for key in KEPT}
        for key in ("rounds", "steps", "seconds") if scope != BASE else ():
            made[key] = mean_and_worst([r["run"].get(key, 0) for r in mine], max)
        out.append(made)
    return out


def record(rows: Sequence[dict], commit: str, command: str, file: Path) -> None:
    """Write the summary as a committed file of results."""
    note = f"{OF_STYLE} pictures of the style, {OF_OTHERS} of others, {NAMED} by name; processor seconds"
    recorded(summary(rows), MODEL, (commit, command, note), file)
