"""Does it stay forgotten when it is asked for in other ways than any that was trained, and does the rest stay kept?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unlearn_core.delta.atomic import write_json, write_whole
from unlearn_core.delta.paths import safe_file_name
from unlearn_core.demo.recognition import STEPS, Question, share
from unlearn_core.errors import BadSetting
from unlearn_core.sampling import LatentBank, noise, schedule
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.prompts import fill

from . import attacks, samplers
from .changes import Learned, under
from .measures import Sheet
from .questions import SEED, Answer, read, shows
from .run import Plan, demo_model

EACH = 8
"""Pictures of each forgotten concept, and of each kept object, a row."""
ATTACKED, BEGIN = 4, "picture"
"""Requests, the first of the sequence, for which a word is learned, and the word where it starts."""
TUNED_ON = 64
"""Pictures of kept things for the training on other pictures."""
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
    """A sentence of another make about the same."""
    return fill(PARAPHRASES[number % len(PARAPHRASES)], question.obj, question.style)


def mistyped(question: Question, number: int) -> str:
    """The caption with a mistake in the thing's word, for styles in the style's."""
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
    Way("in a long sentence", lambda q, i: fill(LONG, q.obj, q.style)),
)


def drawn(host: StandaloneModel, way: Way, asked: Sequence[Question], seed: int) -> list[Answer]:
    """What the classifier sees in one picture of each question, with the host as it is now."""
    with torch.no_grad():
        named = attacks.read(host, [way.said(q, i) for i, q in enumerate(asked)])
    unnamed = host.encode([way.negative])
    start, sigmas = noise((len(asked), *host.latent_shape), SEED + seed, host.device), schedule(host, way.steps)
    parts = [
        way.sampler(host, named[part], unnamed, start[part], sigmas, way.guidance, seed + part.start)
        for part in (slice(i, i + 32) for i in range(0, len(asked), 32))
    ]
    return list(read(host.decode(torch.cat(parts))).answers)


def row(
    host: StandaloneModel, way: Way, sheet: Sheet, past: Sequence[Learned], seed: int, others: LatentBank | None = None
) -> dict:
    """One way under the base model and under the stack, shares 0..1. others: pictures to train both on before."""
    own = [(r, q) for r, group in zip(sheet.requests, sheet.own, strict=True) for q in group[:EACH]]
    asked = [*(q for _, q in own), *sheet.kept]
    out: dict = {"way": way.name}
    for name, learned in (("base", ()), ("after", past)):
        with under(host, learned), attacks.tuned(host, others, seed) if others else nullcontext():
            seen = drawn(host, way, asked, seed)
        hits: dict[str, list[bool]] = {}
        for answer, (request, _) in zip(seen, own, strict=False):
            hits.setdefault(request.concept, []).append(shows(answer, request))
        kept = [a.obj == q.obj for a, q in zip(seen[len(own) :], sheet.kept, strict=True)]
        out |= rates(name, [share(h) for h in hits.values()]) | {f"objects_{name}": share(kept)}
    return out


def rates(name: str, recognised: Sequence[float]) -> dict:
    """Mean and worst over the concepts."""
    return {f"recognised_{name}": sum(recognised) / len(recognised), f"worst_{name}": max(recognised)}


def learned_words(
    host: StandaloneModel, sheet: Sheet, past: Sequence[Learned], seed: int, tick: Callable[[str], None]
) -> dict:
    """Recognition under words learned against the stack, and, as the measure of it, against the base model."""
    out: dict = {"way": f"a learned word for each of the first {ATTACKED}"}
    for name, learned in (("base", ()), ("after", past)):
        found = []
        for request, group in list(zip(sheet.requests, sheet.own, strict=True))[:ATTACKED]:
            tick(f"a word for {request.concept}")
            bank = LatentBank.draw(host, host.encode([q.caption for q in group]), 1, seed + 900, STEPS)
            asked = [replace(q, caption=q.caption.replace(request.concept, attacks.SPARE)) for q in group]
            with under(host, learned):
                vector = attacks.learned_word(host, bank, [q.caption for q in asked], BEGIN, seed)
                with attacks.word(host, vector):
                    seen = drawn(host, WAYS[0], asked[:EACH], seed)
            found.append(share([shows(a, request) for a in seen]))
        out |= rates(name, found)
    return out


def measure(plan: Plan, folder: Path, device: str, tick: Callable[[str], None]) -> dict[str, list[dict]]:
    """All rows of every method and seed of the plan, from the runs in `folder`; writes `robustness.json` and `.md`.

    tick: called with words `ticks(plan)` times. Raises `BadSetting` when a run is not complete.
    """
    sheet = plan.sheet()
    runs = [(spec, seed, load_run(folder, spec, plan, seed)) for spec in plan.methods for seed in range(plan.seeds)]
    host = demo_model(device)
    found: dict[str, list[dict]] = {}
    for spec, seed, past in runs:
        rows = []
        for way in WAYS:
            tick(f"{spec}: {way.name}")
            rows.append(row(host, way, sheet, past, seed))
        tick(f"{spec}: training on other pictures")
        bank = LatentBank.draw(host, host.encode([q.caption for q in sheet.kept][:TUNED_ON]), 1, seed + 901, STEPS)
        after = Way(f"after {attacks.TUNED_STEPS} steps of training on other pictures")
        rows.append(row(host, after, sheet, past, seed, bank))
        rows.append(learned_words(host, sheet, past, seed, tick))
        found[f"{spec}, sequence {plan.sequence}, seed {seed}"] = rows
    write_json(folder / "robustness.json", found)
    write_whole(folder / "robustness.md", table(found).encode())
    return found


def ticks(plan: Plan) -> int:
    """How often `measure` reports."""
    return len(plan.methods) * plan.seeds * (len(WAYS) + 1 + 2 * min(ATTACKED, len(plan.sheet().requests)))


def load_run(folder: Path, spec: str, plan: Plan, seed: int) -> list[Learned]:
    """What the requests of a finished run have left behind."""
    place = folder / "runs" / safe_file_name(spec) / f"{plan.sequence}-{seed}"
    files = sorted(place.glob("*.safetensors"))
    wanted = len(plan.sheet().requests)
    if len(files) < wanted:
        raise BadSetting(f"{place} has {len(files)} of {wanted} requests: run the sequence with the same --out first.")
    return [Learned.load(f) for f in files[:wanted]]


def table(found: dict[str, list[dict]]) -> str:
    """Markdown: recognition of what is forgotten, mean and worst concept, and of what is kept, base and after."""
    parts = ["# Asked for in other ways"]
    for name, rows in found.items():
        parts += [
            "",
            f"## {name}",
            "",
            "| way | base model recognised | after | worst concept | kept, base | kept, after |",
        ]
        parts.append("|---|---|---|---|---|---|")
        for r in rows:
            keys = ("recognised_base", "recognised_after", "worst_after", "objects_base", "objects_after")
            parts.append(f"| {r['way']} | " + " | ".join(f"{100 * r[k]:.1f} %" if k in r else "" for k in keys) + " |")
    return "\n".join(parts) + "\n"
