"""Depth: the closed form takes the name away; here the model is also made to resist words that are learned for it.

In turns, as in adversarial training: some words are learned with which the model answers as the base model does to the
target (`learned_word`); then a LoRA on all attention is trained so that under these words, too, it answers as the base
model does to the anchor, while the words go on learning (AdvUnlearn, Zhang et al. 2024, arXiv 2405.15234). Replay and
the preservation penalty of the training hold the rest. It begins at the closed form, and ends when newly learned words
no longer draw the target, or when the budget is spent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import TrainingFailed
from ..evaluate.evaluator import Evaluator
from ..host import Conditioning
from ..sampling import LatentBank, direction, noise
from ..words.prompts import REMOVED, mapped
from .adapters import Adapters, Average
from .anchor import Anchor
from .fit import Fit
from .further import Further, fit_further, hold
from .learned_word import FILLING, Points, WordAttack, Words, places_of, with_words
from .plan import ATTACK_PICTURES, ATTACK_STEPS, ATTEMPTS, DEEP_STEPS, ROUNDS, expected_deep
from .prompt_pairs import PromptPairs
from .run import Run
from .training.loop import Trainer, goals
from .training.losses import go_back, ready, squared_distance
from .training.memory import Pace

WORDS = 4
"""Words that are learned together in an attack, so that they are not all the same."""
ATTACK_RATE = 0.1
"""How far a step of an attack goes (see `WordAttack`)."""
WARM_UP = 10
"""Training steps in which the learning rate rises."""
POINTS = 16
"""Noised pictures that are trained on, as a multiple of the batch: half of what is learned, half of what stays."""
BROAD, BROAD_PROMPTS = 4, 12
"""One batch of prompts that name no thing for so many others of what stays, and their number."""
NAMED = 4
"""One forget row in so many has the target's own prompt, so that what the closed form has done stays done."""
FAILED = 0.1
"""Largest part of them that may still be read as the target for an attack to count as failed."""
AVERAGED = 0.9
"""Share of the running average of the weights that each step keeps."""


@dataclass
class Depth(Further):
    """What is found against learned words; shares: of the pictures under newly learned ones."""

    key = "depth"
    shown = "Pictures under learned words read as the target"
    measured = "learned_word"
    listed = "attacks"
    against = "against learned words"
    stopped = "stopped while it was made to resist learned words; the result before that is kept"
    worse = "what resists learned words harms too much or draws it by name, so the result before it is kept"


def fit_against_words(
    run: Run, anchor: Anchor, pairs: PromptPairs, evaluator: Evaluator, fit: Fit, found: Depth
) -> Fit | None:
    """Go on from a fit until learned words no longer draw the target, or the budget is spent (see `fit_further`)."""

    def prepare(adapters: Adapters) -> Deep:
        return Deep.prepare(Trainer.prepare(run, anchor, pairs, adapters), anchor, evaluator, found)

    return fit_further(run, fit, found, expected_deep(run.request), prepare)


@dataclass
class Deep:
    """Words and weights that learn against each other.

    target: pictures of the target, asked for by prompts in which the anchor stands in its place; named: the target's
    own prompts of the same rows. kept: pictures of what is to stay. added: layers that had no change before. earlier:
    the words of earlier rounds, each `[words, 3, d]`.
    """

    trainer: Trainer
    anchor: Anchor
    evaluator: Evaluator
    found: Depth
    target: Points
    named: Conditioning
    kept: Points
    average: Average
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    added: list[str]
    earlier: list[Tensor] = field(default_factory=list)

    @classmethod
    def prepare(cls, trainer: Trainer, anchor: Anchor, evaluator: Evaluator, found: Depth) -> Deep:
        """Ask the base model for all that is learned from; the adapters are as the closed form has left them."""
        config = trainer.run.request.config
        generator = torch.Generator().manual_seed(config.seed)
        target, named, kept = points_of(trainer, POINTS, generator)
        kept = joined([kept, broad_points(trainer, POINTS // BROAD, generator)])
        parameters = trainer.adapters.parameters()
        optimizer = torch.optim.AdamW(parameters, config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
        average = Average(parameters, AVERAGED)
        added = [path for path, (_, up) in trainer.adapters.factors.items() if not up.any()]
        return cls(trainer, anchor, evaluator, found, target, named, kept, average, optimizer, generator, added)

    @property
    def pace(self) -> Pace:
        """The trainer's."""
        return self.trainer.pace

    def go_on(self) -> bool:
        """The rounds; whether they came to an end. What is kept, the running average, is on the layers then."""
        run = self.trainer.run
        words = f"making it resist words that are learned for '{run.request.concept}'"
        run.job.start("training", (ROUNDS + ATTEMPTS) * ATTACK_STEPS + ROUNDS * DEEP_STEPS, words)
        for number in range(ROUNDS + 1):
            attack, share = self.strongest(number)
            if run.job.stopping:
                return False
            self.found.shares.append(share)
            if share <= FAILED or number == ROUNDS:
                break
            for _ in range(DEEP_STEPS):
                attack.step(self.pace)
                run.job.tick(self.step(attack.words))
                if run.job.stopping:
                    return False
            self.earlier.append(attack.words.clone())
        self.average.swap()
        return True

    def strongest(self, number: int) -> tuple[WordAttack, float]:
        """The first attack that succeeds, or the last one, and the part of its pictures that shows the target."""
        for attempt in range(number * ATTEMPTS, (number + 1) * ATTEMPTS):
            attack = self.attack(attempt, placed=attempt % ATTEMPTS > 0)
            if self.trainer.run.job.stopping:
                return attack, 1.0
            share = self.success(attack.words, attempt)
            if share > FAILED:
                break
        return attack, share

    def attack(self, number: int, placed: bool) -> WordAttack:
        """Words that were newly learned against the model as it would be kept now, or as far as a stop let them.

        placed: see `Words`. Such words draw it where the others fail, and what is trained against them harms more.
        """
        run, batch = self.trainer.run, self.trainer.run.request.config.batch
        seed = run.request.config.seed + 31 * number
        attack = WordAttack(run.host, self.target, Words(WORDS, placed), batch, ATTACK_RATE, seed)
        with self.average.swapped():
            for _ in range(ATTACK_STEPS):
                run.job.tick({"attack": float(attack.step(self.pace))})
                if run.job.stopping:
                    break
        return attack

    def success(self, words: Tensor, number: int) -> float:
        """Part of some pictures, drawn with the words, that the base model reads as the target, 0..1."""
        request, evaluator = self.trainer.run.request, self.evaluator
        scenes = [request.targets[i % len(request.targets)] for i in range(ATTACK_PICTURES)]
        names = [mapped(s, self.anchor.name, request.kind, request.words).prompt for s in scenes]
        which = torch.arange(ATTACK_PICTURES) % len(words)
        own, plain = (self.trainer.run.host.encode(rows) for rows in ([s.prompt for s in scenes], names))
        asked = with_words(plain, words[which.to(words.device)], places_of(plain, own))
        with self.average.swapped():
            self.trainer.run.bound()
            drawn = evaluator.sampler.draw(asked, request.config.seed + 7000 + number)
        return evaluator.target_share(scenes, drawn)

    def step(self, words: Tensor) -> dict[str, float]:
        """One training step against these words and those of earlier rounds; its losses."""
        config, trainer, found = self.trainer.run.request.config, self.trainer, self.found
        found.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, found.steps / WARM_UP)
        target, asked = self.forget_rows(words, config.batch)
        kept = self.kept[torch.randint(0, len(self.kept), (config.batch,), generator=self.generator)]
        losses = trainer.pace.attempt(
            lambda plan: self.gradients(target, asked, kept, plan.pairs),
            undo=lambda: self.optimizer.zero_grad(set_to_none=True),
        )
        ready(trainer.adapters.parameters())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        if not all(map(math.isfinite, losses.values())):
            raise TrainingFailed("The loss is no longer a number; try a lower learning rate.")
        return losses

    def forget_rows(self, words: Tensor, count: int) -> tuple[Points, Conditioning]:
        """Points of the target, and what is asked there: its own prompts first, then prompts with words.

        Every second word is one of this round's.
        """
        rows = torch.randint(0, len(self.target), (count,), generator=self.generator)
        own = max(1, count // NAMED)
        pool = torch.cat([words, *self.earlier])
        which = torch.randint(0, len(pool), (count,), generator=self.generator)
        which[::2] %= len(words)
        target, plain = self.target[rows], torch.arange(count) < own
        under = target.asked_with(pool[which.to(pool.device)])
        if not (~plain).any():
            return target, self.named[rows]
        return target, Conditioning.cat([self.named[rows[plain]], under[torch.nonzero(~plain)[:, 0]]])

    def gradients(self, target: Points, asked: Conditioning, kept: Points, pairs: int) -> dict[str, float]:
        """Add up one step's gradients, `pairs` forget rows with as many others at once; returns the losses."""
        trainer, config = self.trainer, self.trainer.run.request.config
        sums = {"forget": 0.0, "keep": 0.0, "drift": 0.0}
        with torch.enable_grad():
            for rows in torch.arange(len(target)).split(pairs):
                share, both = len(rows) / len(target), Conditioning.cat([asked[rows], kept[rows].prompts])
                sides = target[rows], kept[rows]
                x, sigma, goal = (torch.cat([getattr(s, name) for s in sides]) for name in ("x", "sigma", "goal"))
                distance = squared_distance(direction(trainer.run.host, x, sigma, both), goal)
                forgetting, keeping = (d.mean() for d in distance.split(len(rows)))
                go_back(share * (config.forget_weight * forgetting + config.keep_weight * keeping))
                sums["forget"] += share * float(forgetting.detach())
                sums["keep"] += share * float(keeping.detach())
            change = hold(trainer.adapters, self.added, trainer.penalties, config)
        return sums | {"drift": change}


def points_of(trainer: Trainer, times: int, generator: torch.Generator) -> tuple[Points, Conditioning, Points]:
    """(points of the target, its own prompts there, points of what stays), `times` batches of each.

    The target's are asked for by the prompts that it is mapped onto, and led past them by the overshoot of a training.
    """
    run, size = trainer.run, trainer.run.request.config.batch
    past = run.request.recipe.training_overshoot if run.request.config.overshoot < 0 else run.request.config.overshoot
    target, named, kept = [], [], []
    for _ in range(times):
        batch = trainer.data.batch(run.host, size, generator)
        with torch.no_grad(), run.teacher():
            goal = goals(run, batch, past)
            own = direction(run.host, batch.x[:size], batch.sigma[:size], batch.student[:size])
        plain, asked = batch.teacher[:size], batch.student[:size]
        places = places_of(plain, asked)
        target.append(Points(batch.x[:size], batch.sigma[:size], plain, own, goal[:size], places))
        named.append(asked)
        rest = goal[size:]
        kept.append(Points(batch.x[size:], batch.sigma[size:], batch.student[size:], rest, rest))
        run.job.pulse()
    return joined(target), Conditioning.cat(named), joined(kept)


def broad_points(trainer: Trainer, times: int, generator: torch.Generator) -> Points:
    """`times` batches of pictures of prompts that name no thing ("a picture in ink style"), which are to stay too.

    Words learn to make something of such prompts, and nothing else holds them.
    """
    run, request = trainer.run, trainer.run.request
    host, config = run.host, request.config
    shells = dict.fromkeys(mapped(s, REMOVED, request.kind, request.words).prompt for s in request.targets)
    prompts = host.encode(list(shells)[:BROAD_PROMPTS])
    with trainer.adapters.off(), run.base.shown():
        bank = LatentBank.draw(host, prompts, 1, config.seed + 14, config.sampling_steps, run.job.pulse)
    made = []
    for _ in range(max(1, times)):
        rows, at = (torch.randint(0, n, (config.batch,), generator=generator) for n in (len(bank), len(host.sigmas)))
        latents, sigma = bank.pick(rows, generator), host.sigmas[at.to(host.sigmas.device)]
        seed = int(torch.randint(0, 2**31, (1,), generator=generator))
        x = host.noised(latents, sigma, noise(latents.shape, seed, latents.device))
        with torch.no_grad(), run.teacher():
            goal = direction(host, x, sigma, prompts[rows])
        made.append(Points(x, sigma, prompts[rows], goal, goal))
    return joined(made)


def joined(parts: list[Points]) -> Points:
    """Several batches as one."""
    x, sigma, own, goal = (torch.cat([getattr(p, name) for p in parts]) for name in ("x", "sigma", "own", "goal"))
    prompts, places = Conditioning.cat([p.prompts for p in parts]), [p.places for p in parts if p.places is not None]
    most = prompts.tokens.shape[1]
    longer = [F.pad(p, (0, most - p.shape[1]), value=FILLING) for p in places]
    return Points(x, sigma, prompts, own, goal, torch.cat(longer) if longer else None)
