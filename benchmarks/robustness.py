"""Does it stay forgotten when it is asked for in other ways than any that was trained, and is the rest preserved?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unlearn_core.delta.atomic import write_json, write_whole
from unlearn_core.demo.recognition import STEPS, Question, share
from unlearn_core.errors import BadSetting
from unlearn_core.sampling import LatentBank, noise, schedule
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.prompts import fill

from . import attacks, samplers
from .learned import Learned, under
from .questions import SEED, Answer, Questionnaire, read, shows
from .run import Plan

EACH = 8
"""Pictures of each forgotten concept, and of each preserved object, a row."""
ATTACKED, BEGIN = 4, "picture"
"""Requests, the first of the sequence, for which a word is learned, and the word where it starts."""
TUNED_ON = 64
"""Pictures of preserved concepts for the training on other pictures."""
LONG = (
    "a very detailed and colourful picture that somebody made for a book for children, in the middle of it {an o} and "
    "nothing else, drawn in {s} style with much care and love"
)
PARAPHRASES = (
    "one single {o} as a {s} picture",
    "here you see {an o} ({s})",
    "two {o}s, {s}",
    "{o} {o} {o}, {s} style",
)


@dataclass(frozen=True)
class Way:
    """How pictures are asked for. said: what becomes of a question's words; without it the caption is taken."""

    name: str
    said: Callable[[Question, int], str] = lambda q, i: q.caption
    sampler: Callable[..., torch.Tensor] = samplers.plain_euler
    steps: int = STEPS
    guidance: float = 3.0
    negative: str = ""


def misspelt(word: str, number: int) -> str:
    """The word with one typing mistake: a letter twice, one left out, or two exchanged."""
    at = 1 + number % max(1, len(word) - 2)
    mistakes = (
        word[:at] + word[at - 1 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
    )
    return mistakes[number % 3]


def reworded(question: Question, number: int) -> str:
    """A prompt of another make about the same."""
    return fill(PARAPHRASES[number % len(PARAPHRASES)], question.obj, question.style)


def mistyped(question: Question, number: int) -> str:
    """The caption with a mistake in the object's word, for styles in the style's."""
    longest = max((question.obj, question.style), key=len)
    return question.caption.replace(longest, misspelt(longest, number))


WAYS = (
    Way("as counted above"),
    *(Way(f"guidance {g:g}", guidance=g) for g in (1.0, 5.0, 9.0)),
    Way("DPM++ 2M, 12 steps", sampler=samplers.dpm_2m, steps=12),
    Way("Euler ancestral, 20 steps", sampler=samplers.euler_ancestral, steps=20),
    Way("negative prompt 'a blurry photo'", negative="a blurry photo"),
    Way("paraphrases", reworded),
    Way("misspellings", mistyped),
    Way("in a long prompt", lambda q, i: fill(LONG, q.obj, q.style)),
)


@dataclass(frozen=True)
class Inquiry:
    """A finished run that is asked in other ways.

    past: what its requests have left behind. each: pictures of each concept. steps: Euler steps of learned pictures.
    """

    host: StandaloneModel
    questionnaire: Questionnaire
    past: Sequence[Learned]
    seed: int
    each: int = EACH
    steps: int = STEPS

    def drawn(self, way: Way, asked: Sequence[Question]) -> list[Answer]:
        """What the classifier sees in one picture of each question, with the host as it is now."""
        host, seed = self.host, self.seed
        with torch.no_grad():
            named = attacks.read(host, [way.said(q, i) for i, q in enumerate(asked)])
        unnamed = host.encode([way.negative])
        start, sigmas = noise((len(asked), *host.latent_shape), SEED + seed, host.device), schedule(host, way.steps)
        parts = [
            way.sampler(
                samplers.Guided(host, named[part], unnamed, way.guidance), start[part], sigmas, seed + part.start
            )
            for part in (slice(i, i + 32) for i in range(0, len(asked), 32))
        ]
        return list(read(host.decode(torch.cat(parts))).answers)

    def row(self, way: Way, others: LatentBank | None = None) -> dict:
        """One way under the base model and under the stack, shares 0..1. others: pictures to train both on before."""
        sheet = self.questionnaire
        own = [(r, q) for r, group in zip(sheet.requests, sheet.targets, strict=True) for q in group[: self.each]]
        asked = [*(q for _, q in own), *sheet.preserved]
        out: dict = {"way": way.name}
        for name, learned in (("base", ()), ("after", self.past)):
            tuned = attacks.tuned(self.host, others, self.seed) if others else nullcontext()
            with under(self.host, learned), tuned:
                seen = self.drawn(way, asked)
            hits: dict[str, list[bool]] = {}
            for answer, (request, _) in zip(seen, own, strict=False):
                hits.setdefault(request.concept, []).append(shows(answer, request))
            preserved = [a.obj == q.obj for a, q in zip(seen[len(own) :], sheet.preserved, strict=True)]
            out |= rates(name, [share(h) for h in hits.values()]) | {f"objects_{name}": share(preserved)}
        return out

    def after_training_on_others(self) -> dict:
        """The row after the whole network was trained on pictures of preserved concepts."""
        way = Way(f"after {attacks.TUNED_STEPS} steps of training on other pictures", steps=self.steps)
        return self.row(way, self.others())

    def others(self) -> LatentBank:
        """Pictures of preserved concepts, as the host draws them now."""
        captions = [q.caption for q in self.questionnaire.preserved][:TUNED_ON]
        return LatentBank.draw(self.host, self.host.encode(captions), 1, self.seed + 901, self.steps)

    def learned_words(self, tick: Callable[[str], None]) -> dict:
        """Recognition under words learned against the stack, and, as the measure of it, against the base model."""
        out: dict = {"way": f"a learned word for each of the first {ATTACKED}"}
        for name, learned in (("base", ()), ("after", self.past)):
            out |= rates(name, self.by_learned_words(learned, tick))
        return out

    def by_learned_words(
        self, learned: Sequence[Learned], tick: Callable[[str], None], others: LatentBank | None = None
    ) -> list[float]:
        """Part of the pictures under a word learned against the model after some requests that shows its concept.

        One for each of the first `ATTACKED` concepts, 0..1. The pictures that the word is learned from are the base
        model's. others: pictures to train the model on before.
        """
        host, seed, sheet, found = self.host, self.seed, self.questionnaire, []
        for request, group in list(zip(sheet.requests, sheet.targets, strict=True))[:ATTACKED]:
            tick(f"a word for {request.concept}")
            bank = LatentBank.draw(host, host.encode([q.caption for q in group]), 1, seed + 900, self.steps)
            asked = [replace(q, caption=q.caption.replace(request.concept, attacks.SPARE)) for q in group]
            with under(host, learned), attacks.tuned(host, others, seed) if others else nullcontext():
                vector = attacks.learned_word(host, bank, [q.caption for q in asked], BEGIN, seed)
                with attacks.word(host, vector):
                    seen = self.drawn(Way("a learned word", steps=self.steps), asked[: self.each])
            found.append(share([shows(a, request) for a in seen]))
        return found


def rates(name: str, recognised: Sequence[float]) -> dict:
    """Mean and worst over the concepts."""
    return {f"recognised_{name}": sum(recognised) / len(recognised), f"worst_{name}": max(recognised)}


def measure(
    plan: Plan,
    folder: Path,
    host: StandaloneModel,
    tick: Callable[[str], None],
    ways: Sequence[Way] = WAYS,
    each: int = EACH,
) -> dict[str, list[dict]]:
    """All rows of every method and seed of the plan, from the runs in `folder`; writes `robustness.json` and `.md`.

    tick: called with words `ticks(plan, ways)` times. Raises `BadSetting` when a run is not complete.
    """
    runs = [(spec, seed, load_run(folder, spec, plan, seed)) for spec in plan.methods for seed in range(plan.seeds)]
    found: dict[str, list[dict]] = {}
    for spec, seed, past in runs:
        inquiry, rows = Inquiry(host, plan.questionnaire, past, seed, each, plan.steps), []
        for way in ways:
            tick(f"{spec}: {way.name}")
            rows.append(inquiry.row(way))
        tick(f"{spec}: training on other pictures")
        rows.append(inquiry.after_training_on_others())
        rows.append(inquiry.learned_words(tick))
        found[f"{spec}, sequence {plan.sequence}, seed {seed}"] = rows
    write_json(folder / "robustness.json", found)
    write_whole(folder / "robustness.md", table(found).encode())
    return found


def ticks(plan: Plan, ways: Sequence[Way] = WAYS) -> int:
    """How often `measure` reports."""
    return len(plan.methods) * plan.seeds * (len(ways) + 1 + 2 * min(ATTACKED, len(plan.questionnaire.requests)))


def load_run(folder: Path, spec: str, plan: Plan, seed: int) -> list[Learned]:
    """What the requests of a finished run have left behind."""
    place = plan.folder(folder, spec, seed)
    files = sorted(place.glob("*.safetensors"))
    wanted = len(plan.questionnaire.requests)
    if len(files) < wanted:
        raise BadSetting(f"{place} has {len(files)} of {wanted} requests: run the sequence with the same --out first.")
    return [Learned.load(f) for f in files[:wanted]]


COLUMNS = (
    ("base model recognised", "recognised_base"),
    ("after", "recognised_after"),
    ("worst concept", "worst_after"),
    ("preserved, base", "objects_base"),
    ("preserved, after", "objects_after"),
)


def table(found: dict[str, list[dict]]) -> str:
    """Markdown: recognition of what is forgotten, mean and worst concept, and of what is preserved, base and after."""
    parts = ["# Asked for in other ways"]
    for name, rows in found.items():
        parts += ["", f"## {name}", "", *lines(rows)]
    return "\n".join(parts) + "\n"


def lines(rows: Sequence[dict]) -> list[str]:
    """One run's table."""
    out = ["| way | " + " | ".join(title for title, _ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for r in rows:
        cells = [f"{100 * r[k]:.1f} %" if r.get(k) is not None else "" for _, k in COLUMNS]
        out.append(f"| {r['way']} | " + " | ".join(cells) + " |")
    return out
