"""How often the check that stops when it knows says what the full check says, and what the classifier says.

Changes of every kind are looked at in full: all pictures, read at all levels. What the sequential check would have seen
and said is replayed from the same pictures, by its own code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from unlearn_core import load, save
from unlearn_core.config import ForgetConfig
from unlearn_core.delta.atomic import write_json, write_whole
from unlearn_core.delta.format import Delta
from unlearn_core.delta.stack import Stack
from unlearn_core.demo.classifier import DemoClassifier
from unlearn_core.demo.recognition import FOLDER
from unlearn_core.evaluate.evaluator import Answers, Questions
from unlearn_core.evaluate.reading import HowToRead, errors_at, margin, margins
from unlearn_core.evaluate.remembered import Remembered
from unlearn_core.evaluate.sequential import decided, enough, grade
from unlearn_core.evaluate.stepwise import LAST_LOOK
from unlearn_core.evaluate.unharmed import RememberingSampler, prompts_of
from unlearn_core.evaluate.verdict import verdict
from unlearn_core.host import Conditioning
from unlearn_core.method.forget import forget
from unlearn_core.method.led import led
from unlearn_core.method.request import Request
from unlearn_core.method.run import Run
from unlearn_core.recipe import DEFAULT, Recipe
from unlearn_core.sampling import Sampler
from unlearn_core.saved_work import number_of
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.prompts import REMOVED, Scene, mapped, scenes, spread
from unlearn_core.words.word_list import WordList

from .recorded import Recorded, Table
from .run import device_name

FILE = "agreement.json"
STEPS, GUIDANCE = 8, 3.0
Concepts = Sequence[tuple[str, str]]
"""Concepts with their anchors."""
CONCEPTS: Concepts = (
    *(("banana", "truck"), ("cat", "dog"), ("ink", "glossy"), ("frog", "dog"), ("car", "airplane")),
    *(("guitar", "mushroom"), ("blob", "glossy"), ("dog", "truck"), ("apple", "strawberry"), ("elephant", "dog")),
)
"""With their anchors, as the tool chooses them."""
KINDS: tuple[tuple[str, float], ...] = (
    *(("good", 1.0), ("harmful", 3.0), ("partial", 0.5), ("good", 1.1), ("noisy", 2.0), ("failed", 0.1)),
    *(("partial", 0.7), ("failed", 0.0), ("noisy", 1.0), ("partial", 0.4), ("good", 0.9), ("noisy", 4.0)),
    *(("wrong", 1.0), ("partial", 0.6), ("harmful", 2.0), ("partial", 0.3), ("noisy", 3.0), ("partial", 0.8)),
    *(("good", 1.2), ("harmful", 5.0)),
)
"""Changes: the concept's own delta so strongly; with noise added that is so many times as large; another concept's."""
WORDS = ("forgotten", "partly", "not")
TRIED: tuple[dict[str, Any], ...] = (
    {},
    *({"led_enough": 0.0}, {"led_enough": 0.6}, {"led_enough": 0.75}, {"clear_verdict": 0.5}, {"clear_verdict": 1.0}),
    *({"error": 0.001}, {"near_shares": (0.1, 0.3)}, {"kept_margin": 0.5}),
)
"""Changes of the check's constants with which the same pictures are judged once more."""


@dataclass(frozen=True)
class Case:
    """One change that is judged."""

    concept: str
    anchor: str
    kind: str
    strength: float

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.concept}-{self.kind}-{self.strength:g}"


def cases(count: int, concepts: Concepts = CONCEPTS) -> Iterator[Case]:
    """The first so many: every kind of change for each concept."""
    every = (Case(concept, anchor, *kind) for kind in KINDS for concept, anchor in concepts)
    return (case for case, _ in zip(every, range(count), strict=False))


@dataclass(frozen=True)
class Subject:
    """What is asked about a case. changes: of the check's constants, as names and values."""

    case: Case
    words: WordList
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """ "object" or "style"."""
        return self.words.kind(self.case.concept)

    @property
    def recipe(self) -> Recipe:
        """The constants."""
        return replace(DEFAULT[self.kind], **self.changes)

    @cached_property
    def questions(self) -> Questions:
        """As a request asks them: the anchor and others of the target's group, then things from anywhere."""
        case, recipe, rest = self.case, self.recipe, self.words.without([self.case.concept])
        group = rest.members(self.words.category(case.concept)) if self.kind == "object" else rest.styles
        names = list(dict.fromkeys([case.anchor, *group, *spread(rest.all_objects, 20, 5)]))
        kept = {
            n: tuple(scenes(rest, n, rest.kind(n), recipe.preserved_pictures, 6))
            for n in names[: recipe.checked_near + recipe.checked_far]
        }
        targets = tuple(scenes(self.words, case.concept, self.kind, recipe.held_out_prompts, 3))
        return Questions(case.concept, self.kind, case.anchor, targets, kept)

    @property
    def targets(self) -> list[Scene]:
        """The target's pictures."""
        return list(self.questions.targets) * self.recipe.rounds

    @property
    def rows(self) -> list[tuple[str, Scene]]:
        """All pictures of what is preserved."""
        return [(name, scene) for name, several in self.questions.preserved.items() for scene in several]


@dataclass(frozen=True)
class FullLooks:
    """Where changes are looked at in full, each once: what was seen lies in `folder`."""

    host: StandaloneModel
    folder: Path
    concepts: Concepts = CONCEPTS

    @cached_property
    def words(self) -> WordList:
        """The demo's."""
        return WordList.load(self.host.words_file)

    @cached_property
    def classifier(self) -> DemoClassifier:
        """The demo's."""
        return DemoClassifier.load(FOLDER / "classifier.safetensors")

    def subject(self, case: Case, changes: Mapping[str, Any] | None = None) -> Subject:
        """What is asked about a case."""
        return Subject(case, self.words, changes or {})

    def kept(self, name: str, make: Any) -> dict[str, Tensor]:
        """Tensors from a file, made where it is not there."""
        file = self.folder / f"{name}.safetensors"
        if not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, to_bytes({k: t.contiguous() for k, t in make().items()}))
        return load_file(file)

    def delta(self, case: Case) -> Delta:
        """The concept's delta as a quick run makes it."""
        file = self.folder / f"{case.concept}-delta.safetensors"
        if not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            wish = ForgetConfig(concept=case.concept, anchor=case.anchor, quality="quick")
            save(forget(self.host, wish).delta, file)
        return load(file)

    def stack(self, case: Case) -> Stack:
        """The change."""
        source = case
        if case.kind == "wrong":
            number = [concept for concept, _ in self.concepts].index(case.concept)
            concept, anchor = self.concepts[number - 1]
            source = replace(case, concept=concept, anchor=anchor)
        delta, draw = self.delta(source), torch.Generator().manual_seed(1)
        factors = {}
        for name, f in delta.factors.items():
            up = f.up.float()
            if case.kind == "noisy":
                up = up + case.strength * up.pow(2).mean().sqrt() * torch.randn(up.shape, generator=draw)
            factors[name] = replace(f, up=up if case.kind == "noisy" else case.strength * up)
        return Stack().with_delta(replace(delta, factors=factors)) if case.strength else Stack()

    def led(self, case: Case) -> float:
        """How far the change leads the target's prompts to the anchor's, by the method's own code."""

        def made() -> dict[str, Tensor]:
            subject = self.subject(case)
            wish = ForgetConfig(concept=case.concept, anchor=case.anchor)
            with Run.open(Request.read(self.host, wish, Stack()), self.host, None) as run:
                for entry in self.stack(case):
                    paths = self.host.layers()
                    run.edits.set({paths[n]: (f.down, f.up * f.scale) for n, f in entry.delta.factors.items()})
                scenes = subject.questions.targets
                pairs = [(s.prompt, mapped(s, case.anchor, subject.kind, self.words).prompt) for s in scenes]
                return {"led": torch.tensor(led(run, pairs))}

        return float(self.kept(f"{case.name}-led", made)["led"])

    def before(self, case: Case) -> dict[str, Tensor]:
        """What is preserved, as the base model draws and reads it."""
        return self.kept(f"{case.concept}-before", lambda: self.preserved(case, Stack()))

    def seen(self, case: Case) -> dict[str, Tensor]:
        """A case in full: errors `[pictures, readings, levels]`, latents, and what the classifier says."""
        return self.kept(case.name, lambda: self.target(case) | self.preserved(case, self.stack(case)))

    def target(self, case: Case) -> dict[str, Tensor]:
        """The target's pictures."""
        subject, host = self.subject(case), self.host
        encoded = [host.encode([s.prompt for s in subject.targets])]
        for other in (case.anchor, REMOVED):
            rows = [mapped(s, other, subject.kind, self.words).prompt for s in subject.targets]
            encoded.append(host.encode(rows))
        with host.session(self.stack(case)):
            drawn = Sampler(host, STEPS, GUIDANCE).draw(encoded[0], LAST_LOOK)
        seeds = [number_of("target", 0, LAST_LOOK, i) for i in range(len(drawn))]
        shows = [case.concept in found for found in self.classifier.recognise(2 * host.decode(drawn) - 1)]
        return {"target": self.read(subject, drawn, encoded, seeds), "target shows": torch.tensor(shows)}

    def preserved(self, case: Case, stack: Stack) -> dict[str, Tensor]:
        """The pictures of what is preserved, with a stack."""
        subject, host = self.subject(case), self.host
        with host.session(stack):
            drawing = RememberingSampler(Sampler(host, STEPS, GUIDANCE), 0, nullcontext, Remembered())
            drawn = drawing.draw([scene for _, scene in subject.rows], False)
        prompts = prompts_of(subject.questions, self.words, subject.rows)
        encoded = [host.encode(column) for column in zip(*prompts, strict=True)]
        seeds = [number_of("read", 0, row[0]) for row in prompts]
        found = self.classifier.recognise(2 * host.decode(drawn) - 1)
        shows = [name in seen for (name, _), seen in zip(subject.rows, found, strict=True)]
        return {"read": self.read(subject, drawn, encoded, seeds), "drawn": drawn, "shows": torch.tensor(shows)}

    def read(self, subject: Subject, drawn: Tensor, encoded: list[Conditioning], seeds: list[int]) -> Tensor:
        """Errors of all pictures under all readings at all levels, by the base model."""
        levels = subject.recipe.reading_levels
        with self.host.session(Stack()):
            return torch.stack([errors_at(self.host, drawn, encoded, part, seeds) for part in levels], 2)


@dataclass(frozen=True)
class Judged:
    """What one judge says: the target's grade, whether the rest is harmed, rows of the denoiser that it took."""

    grade: str
    harmed: bool
    rows: int = 0


def judged(recipe: Recipe, target: float, before: dict[str, float], after: dict[str, float], rows: int = 0) -> Judged:
    """By the verdict's own rules."""
    answers = [Answers(share, kept, torch.zeros(0), ()) for share, kept in ((1.0, before), (target, after))]
    return Judged(WORDS[grade(target, recipe)], "harmed" in verdict(*answers, recipe)["verdict"], rows)


def by_concept(subject: Subject, right: Sequence[bool]) -> dict[str, float]:
    """Shares of each concept's pictures."""
    found: dict[str, list[bool]] = {}
    for (name, _), value in zip(subject.rows, right, strict=True):
        found.setdefault(name, []).append(value)
    return {name: sum(v) / len(v) for name, v in found.items()}


def comparable(subject: Subject, words: WordList, errors: Tensor) -> Tensor:
    """Errors with no rival where a reading is the picture's own prompt."""
    errors = errors.clone()
    for i, row in enumerate(prompts_of(subject.questions, words, subject.rows)):
        for j in range(1, len(row)):
            if row[j] == row[0]:
                errors[i, j] = float("inf")
    return errors


def compared(looks: FullLooks, case: Case, changes: Mapping[str, Any] | None = None) -> dict[str, Judged]:
    """The full check, the sequential check and the classifier on one case. changes: see `Subject`."""
    subject, words = looks.subject(case, changes), looks.words
    recipe = subject.recipe
    old, new = looks.before(case), looks.seen(case)
    tables = {True: comparable(subject, words, old["read"]), False: comparable(subject, words, new["read"])}
    right = {when: by_concept(subject, (margin(t.log().mean(2)) > 0).tolist()) for when, t in tables.items()}
    whole = margin(new["target"].log().mean(2))
    pictures = len(subject.targets) + 2 * len(subject.rows)
    cost = pictures * 2 * STEPS + new["target"].numel() + 2 * new["read"].numel()
    full = judged(recipe, float((whole > 0).float().mean()), right[True], right[False], cost)
    shown = {when: by_concept(subject, t["shows"].tolist()) for when, t in ((True, old), (False, new))}
    classifier = judged(recipe, float(new["target shows"].float().mean()), shown[True], shown[False])
    rest = {True: (tables[True], old["drawn"]), False: (tables[False], new["drawn"])}
    other = sequential(subject, new["target"], rest, looks.led(case))
    return {"full": full, "sequential": other, "classifier": classifier}


def sequential(subject: Subject, target: Tensor, rest: Mapping[bool, tuple[Tensor, Tensor]], led: float) -> Judged:
    """The sequential check on recorded pictures, by its own code.

    target: errors of its pictures. rest: (errors, pictures) of what is preserved, before and after. led: how far the
    change leads the target.
    """
    recipe, table, found = subject.recipe, Table(target), []
    weak = led < recipe.led_enough
    while len(found) < len(target) and not decided(found, recipe, weak):
        part = range(len(found), len(found) + enough(found, len(target) - len(found), recipe, weak))
        found += margins(table, part, target.shape[1], HowToRead.by(recipe, True)).tolist()
    recorded = {when: Table(errors) for when, (errors, _) in rest.items()}
    unharmed = Recorded(subject.questions, None, None, recipe, None)  # type: ignore[arg-type]
    unharmed.prepare(subject.rows, recorded, {when: drawn for when, (_, drawn) in rest.items()})
    before = unharmed.before()
    after = unharmed.after()
    rows = (len(found) + unharmed.pictures) * 2 * STEPS + table.rows + sum(t.rows for t in recorded.values())
    return judged(recipe, sum(not m < 0 for m in found) / len(found), before, after, rows)


def measure(looks: FullLooks, runs: int, commit: str = "", told: Any = print) -> dict[str, Any]:
    """All cases; what was seen before is not made again. Writes `FILE` after each; commit: on which it runs."""
    folder = looks.folder
    judgements: list[dict[str, Any]] = []
    source = {"date": time.strftime("%Y-%m-%d"), "commit": commit, "device": device_name(looks.host)}
    data: dict[str, Any] = {}
    for case in cases(runs, looks.concepts):
        found = compared(looks, case)
        judgements.append({"case": asdict(case), **{judge: asdict(j) for judge, j in found.items()}})
        data = {"sources": {"agreement": source}, "rows": summary(judgements), "runs": judgements}
        write_json(folder / FILE, data)
        words = ", ".join(f"{k} {j.grade}{' harmed' * j.harmed}" for k, j in found.items())
        told(f"{len(judgements)} {case.name}: {words}")
    data |= {"tried": tried(looks, runs), "halves": halves(looks, runs)}
    write_json(folder / FILE, data)
    return data


def tried(looks: FullLooks, runs: int) -> list[dict[str, Any]]:
    """Agreement with the full check, and mean rows, of all changes and of the good ones, by the `TRIED` settings."""
    out = []
    for changes in TRIED:
        found = [(case, compared(looks, case, changes)) for case in cases(runs, looks.concepts)]
        row: dict[str, Any] = {"changes": changes, "source": "agreement"}
        for what in ("grade", "harmed"):
            same = [getattr(j["full"], what) == getattr(j["sequential"], what) for _, j in found]
            row[what] = sum(same) / len(same)
        for name, some in (("rows", found), ("rows: good", [f for f in found if f[0].kind == "good"])):
            row[name] = sum(j["sequential"].rows for _, j in some) / len(some)
        out.append(row)
    return out


def halves(looks: FullLooks, runs: int) -> float:
    """How often two full checks of half the pictures each use the same word: how sure the full one is itself, 0..1."""
    same = []
    for case in cases(runs, looks.concepts):
        shown = (margin(looks.seen(case)["target"].log().mean(2)) > 0).float()
        first, second = (grade(float(half.mean()), looks.subject(case).recipe) for half in (shown[::2], shown[1::2]))
        same.append(first == second)
    return sum(same) / len(same)


def summary(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Agreement of each pair of judges, 0..1, and mean rows, of each kind of change and of all."""
    out = []
    for kind in (*dict.fromkeys(r["case"]["kind"] for r in runs), "all"):
        some = [r for r in runs if kind in ("all", r["case"]["kind"])]
        row: dict[str, Any] = {"kind": kind, "source": "agreement", "runs": len(some)}
        for one, other in (("sequential", "full"), ("sequential", "classifier"), ("full", "classifier")):
            for what in ("grade", "harmed"):
                row[f"{what}: {one}, {other}"] = sum(r[one][what] == r[other][what] for r in some) / len(some)
        for judge in ("full", "sequential"):
            row[f"rows: {judge}"] = sum(r[judge]["rows"] for r in some) / len(some)
        out.append(row)
    return out
