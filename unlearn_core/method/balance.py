"""One delta in place of a whole stack: every target led just as far as it takes, all of them looked at.

Each request of a stack is solved as if every target took the same, and its neighbours are held only roughly by those
that follow. What that costs adds up over dozens of requests. Here all targets of the stack are solved at once against
the base model (see `reach`), at first a short part of their ways; those that pictures still show are led further, until
none is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..config import ForgetConfig
from ..delta.base_model import BaseModel
from ..delta.format import Delta, Factor
from ..delta.merge import merged_info
from ..delta.stack import Stack
from ..errors import BadSetting, TrainingFailed, UnlearnError, not_finite
from ..evaluate.drawn import Drawn
from ..evaluate.evaluator import Reader
from ..evaluate.reading import HowToRead
from ..host import HostModel, check_stack
from ..progress import Progress
from ..recipe import Recipe
from ..sampling import Sampler
from ..words.compare import same_thing
from ..words.prompts import REMOVED, mapped, names, scenes, spread
from ..words.word_list import WordList
from .open_words import OpenWords, kept_words
from .prompt_pairs import Pair
from .reach import Reach
from .request import Request
from .run import Run
from .text_reader import TextReader


@dataclass(frozen=True)
class Target:
    """A concept that the stack has forgotten, with pairs of its prompts and what is generated instead.

    anchor: what is drawn instead today, where the first anchor has gone since.
    """

    concept: str
    kind: str
    anchor: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Balanced:
    """delta: in place of the whole stack. reaches: {concept: part of its way that it goes}. seen: those that were still
    seen in the last pictures. moved: what the stack and the delta move of everything that stays, as parts of what the
    layers answer to it, 0..1."""

    delta: Delta
    reaches: Mapping[str, float]
    seen: tuple[str, ...]
    moved: tuple[float, float]

    @property
    def change(self) -> str:
        """What it does to everything else, in a sentence."""
        before, after = self.moved
        return f"Change of everything else: {before:.2%} by the stack, {after:.2%} by this delta."

    @property
    def doubt(self) -> str:
        """What has to be looked at, in a sentence; "" where nothing was seen in the last pictures."""
        names = ", ".join(self.seen)
        return f"Still seen in some of the last pictures: {names}. Look at pictures of them." if names else ""


def balance(
    host: HostModel,
    stack: Stack,
    progress: Progress | None = None,
    general: WordList | None = None,
    recipes: Mapping[str, Recipe] | None = None,
) -> Balanced:
    """Solve a stack anew, all at once. The host's model is the same afterwards, bit for bit.

    general, recipes: as `forget` takes them. Raises `BadSetting` for a stack that is too small or that holds what no
    closed form makes, and what `forget` raises.
    """
    check_possible(stack)
    check_stack(host, stack)
    request = Request.read(host, asked_by(stack), Stack(), general, recipes)
    targets = targets_of(stack, request.words)
    if untold := next((t.concept for t in targets if not t.pairs), ""):
        raise BadSetting(f"No delta tells with which prompts '{untold}' was forgotten: leave it out.")
    with Run.open(request, host, progress) as run:
        return Balancing.prepare(run, stack, targets).done()


def asked_by(stack: Stack) -> ForgetConfig:
    """One request for all: what any of them was told to keep, and how pictures are drawn where all say the same."""
    gone, told = stack.concepts(), [entry.delta.info.config for entry in stack.active]
    named = [word for config in told if isinstance(config.get("keep"), (list, tuple)) for word in config["keep"]]
    keep = dict.fromkeys(w for w in named if isinstance(w, str) and not any(same_thing(w, g) for g in gone))
    values: dict[str, Any] = {"keep": list(keep)}
    for name in ("sampling_steps", "guidance"):
        said = {config.get(name) for config in told if isinstance(config.get(name), (int, float))}
        values |= {name: said.pop()} if len(said) == 1 else {}
    plain = {"concept": gone[0], "going": gone[1:], "force": True}
    try:
        return ForgetConfig.from_flat({**values, **plain})
    except BadSetting:
        # a file may say anything
        return ForgetConfig.from_flat(plain)


def check_possible(stack: Stack) -> None:
    """Raise `BadSetting` for what is seen of a stack without its model: too few concepts, or other strengths."""
    if len(stack.concepts()) < 2:
        raise BadSetting("There is nothing to balance: give at least two deltas of a strength other than 0.")
    if other := next((e for e in stack.active if e.strength != 1), None):
        raise BadSetting(f"'{other.delta.label}' has the strength {other.strength:g}: a stack is balanced at 1.")


def targets_of(stack: Stack, words: WordList) -> list[Target]:
    """Each concept that has gone with its prompts, as they are mapped today.

    What names none of them, as a plural may, goes with the concept of its delta that comes first.
    """
    found: dict[str, dict[str, None]] = {concept: {} for concept in stack.concepts()}
    told: dict[str, tuple[str, str]] = {}
    for info in (entry.delta.info for entry in stack.active):
        for prompt, _ in info.prompts:
            concept = next((c for c in (*info.concepts, *found) if names(prompt, c)), info.concepts[0])
            found[concept].setdefault(prompt)
            # a merge no longer tells what was whose
            told[concept] = (words.kind(concept), "") if info.merged else (info.kind, info.anchor)
    today = dict(stack.prompts())
    return [
        Target(concept, *told.get(concept, ("object", "")), tuple((p, today[p]) for p in prompts))
        for concept, prompts in found.items()
    ]


def near_all(run: Run, reader: TextReader) -> tuple[str, ...]:
    """The terms of the vocabulary around each target; () where there is none."""
    request = run.request
    if request.vocabulary is None:
        return ()
    words = OpenWords.make(request, run.job.pulse)
    found: dict[str, None] = {}
    sample = words.sample(reader, kept_words(run.host))
    for concept in request.moving:
        others = tuple(m for m in request.moving if m != concept)
        around = replace(words, moving=(concept, *others), is_style=request.words.kind(concept) == "style")
        found |= dict.fromkeys(term.text for term in around.neighbours(reader, sample))
    return tuple(found)


def check_layers_read_text(run: Run, stack: Stack) -> None:
    """Raise `BadSetting` for a delta that changes more than layers that read text: that would be lost."""
    ours = {path for reader in run.readers for path in reader.paths}
    layers = run.host.layers()
    for entry in stack.active:
        if not ours.issuperset(layers[name] for name in entry.delta.factors):
            raise BadSetting(
                f"'{entry.delta.label}' was trained, or made in depth or everywhere: it changes more than the layers "
                "that read text, which are all that is balanced. Leave it out."
            )


@dataclass(frozen=True)
class Balancing:
    """The work: equations of each group of layers, and how pictures are drawn and read."""

    run: Run
    stack: Stack
    targets: Sequence[Target]
    forms: Sequence[tuple[Reach, tuple[str, ...]]]
    sampler: Sampler
    reader: Reader

    @classmethod
    def prepare(cls, run: Run, stack: Stack, targets: Sequence[Target]) -> Balancing:
        """Read all prompts. Raises `UnlearnError` where no layer reads text alone, or tokens have no counterparts."""
        request, recipe = run.request, run.request.recipe
        check_layers_read_text(run, stack)
        run.job.extend({"balancing": 1.0})
        run.job.start("balancing", recipe.reach_rounds, f"balancing {len(targets)} concepts")
        few = [spread(t.pairs, recipe.reach_prompts, request.config.seed) for t in targets]
        forms = [(Reach.make(run, reader, few, near_all(run, reader)), reader.paths) for reader in run.readers]
        made = [(form, paths) for form, paths in forms if form is not None]
        if not made or len(made) < len(forms):
            raise UnlearnError("This model has no layers whose change could be solved for a whole stack.")
        config = request.config
        sampler = Sampler(run.host, config.sampling_steps, config.guidance, run.job.pulse)
        reader = Reader(run.host, request.words, recipe.reading_levels, config.seed, run.job.pulse)
        return cls(run, stack, targets, made, sampler, reader)

    def done(self) -> Balanced:
        """Lead those further that are seen, until none is or the rounds have ended."""
        recipe = self.run.request.recipe
        reaches, seen = [recipe.first_reach] * len(self.targets), [0] * len(self.targets)
        for number in range(recipe.reach_rounds):
            made = self.solved(tuple(reaches))
            self.run.edits.set(made)
            seen = self.looked(number)
            self.run.job.tick()
            if not any(seen):
                break
            if number + 1 < recipe.reach_rounds:
                reaches = [r + recipe.further_reach * min(s, 2) for r, s in zip(reaches, seen, strict=True)]
        self.run.job.finish()
        names_of = [t.concept for t in self.targets]
        left = tuple(name for name, count in zip(names_of, seen, strict=True) if count)
        return Balanced(self.delta(made), dict(zip(names_of, reaches, strict=True)), left, self.moved(made))

    def solved(self, reaches: tuple[float, ...]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """{path: (A, B)}, of as large a rank as the stack's own changes have together."""
        most = sum(max(f.rank for f in e.delta.factors.values()) for e in self.stack.active)
        made = {}
        for form, paths in self.forms:
            weights = self.run.edits.weights(paths)
            rank = min(most, *(min(w.shape) for w in weights.values()))
            for path, down, up in form.factors(weights, {}, rank, reaches):
                made[path] = (down, up)
                self.run.job.pulse()
        return made

    def looked(self, number: int) -> list[int]:
        """How many of each target's pictures still show it, or nearly, as the base model reads them."""
        recipe, words, seed = self.run.request.recipe, self.run.request.words, self.run.request.config.seed
        least, together = recipe.reach_pictures
        count, rest = max(least, together // len(self.targets)), words.without([t.concept for t in self.targets])
        rows = [(t, s) for t in self.targets for s in scenes(rest, t.concept, t.kind, count, seed + 100 + number)]
        as_anchor = [mapped(scene, target.anchor, target.kind, words).prompt for target, scene in rows]
        without = [mapped(scene, REMOVED, target.kind, words).prompt for target, scene in rows]
        asked = [self.run.host.encode(prompts) for prompts in ([s.prompt for _, s in rows], as_anchor, without)]
        drawn = self.sampler.draw(asked[0], seed + 2000 + number)
        if not torch.isfinite(drawn).all():
            raise TrainingFailed(not_finite("draws"))
        seeds = [seed + 5000 + number * len(rows) + i for i in range(len(rows))]
        with self.run.student.off(), torch.no_grad():
            margins = Drawn(self.reader, drawn, asked, seeds).margins(HowToRead.by(recipe))
        found = dict.fromkeys((t.concept for t in self.targets), 0)
        for (target, _), margin in zip(rows, margins, strict=True):
            # near misses count, and a margin that is no number
            found[target.concept] += not margin < -recipe.doubtful_margin
        return list(found.values())

    def moved(self, made: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> tuple[float, float]:
        """E||X k||^2 / E||W k||^2 over all layers, of the stack and of what was made."""
        sums = torch.zeros(3, dtype=torch.float64)
        added = BaseModel(self.run.backbone, self.run.host.layers(), self.stack).changes
        for form, paths in self.forms:
            for path, weight in self.run.edits.weights(paths).items():
                down, up = made[path]
                # a stack need not change every layer that is balanced
                before = added.get(path, torch.zeros(weight.shape))
                for i, matrix in enumerate((before, up @ down, weight)):
                    matrix = matrix.cpu().double()
                    sums[i] += ((matrix @ form.preserved) * matrix).sum()
        return float(sums[0] / sums[2]), float(sums[1] / sums[2])

    def delta(self, made: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Delta:
        """As a merge of all that it stands for."""
        layers = self.run.request.layers
        factors = {layers[path]: Factor.within_layer(a, b, float(len(a))) for path, (a, b) in made.items()}
        made_of = merged_info(self.stack, {"merge": "balanced"})
        return Delta(factors, made_of).rounded()
