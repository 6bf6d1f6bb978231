"""Everywhere: what appears without being asked for, such as a watermark, a stamp or a frame, appears no more.

The closed form takes the name away; prompts without the name still draw it. So pictures of prompts that do not name it
are drawn, and the model itself is asked which of them show it (`evaluate.unasked`). There the places where it is are
drawn once more, from other noise, until it is not seen: the same picture without it. A LoRA on all attention is trained
to go on from the first picture's noise towards the second one, at these places alone. All else is held. Then pictures
are drawn anew, until they no longer show it or the budget is spent.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..config import ForgetConfig
from ..errors import Cancelled, TrainingFailed
from ..evaluate.unasked import Prompts, UnaskedReader
from ..host import Conditioning, HostModel
from ..sampling import Drawing, LatentBank, Sampler, direction, expand, noise
from ..words.prompts import Scene, spread
from .adapters import Adapters, Average
from .broad_pictures import Broad, broad_scenes, joined, part_of, with_concept
from .fit import Fit
from .further import Further, fit_further, hold
from .learned_word import Points
from .plan import BROAD_AGAIN, BROAD_FIRST, BROAD_MORE, UNASKED_ROUNDS, UNASKED_STEPS, expected_everywhere
from .prompt_pairs import PromptPairs
from .run import Run
from .training.loop import penalties_of
from .training.losses import PreservationPenalty, go_back, ready, squared_distance
from .training.memory import Pace, paced

LEVELS = 0.65, 0.8
"""Parts of the trained noise range at which pictures are read: above them nothing is settled, below all is."""
PUSHED_FROM = 0.25
"""Part of the noise range from which it may still be changed whether a picture shows it."""
TRIES, SURE = 8, -0.03
"""Times that the places of a picture that shows it are drawn once more, and the margin (see `Sight`) below which it is
surely gone from there."""
OWN = 0.5
"""Part of the noised pictures that have the noise from which they were drawn: where it is decided whether it comes."""
CPU = torch.device("cpu")
"""Where points are kept: a few rows are needed at a time, and all of them may be more than a card holds."""
POINTS, POINTS_AGAIN = 48, 24
"""Noised pictures of the first round, and of each later one, as a multiple of the batch."""
NAMED = 3
"""One row in so many has the target's own prompt, so that what the closed form has done stays done."""
GONE = 0.02
"""Largest part of the pictures that may still be read as showing it for the work to be done."""
AVERAGED, WARM_UP, FALLING = 0.95, 10, 0.8
"""Share of the running average that each step keeps; steps in which the learning rate rises; what each round keeps of
it."""


@dataclass
class Unasked(Further):
    """What is found in pictures that nobody asked for the target; shares: where it is seen most, by style."""

    key = "scope"
    shown = "Pictures that show it unasked"
    measured = "unasked"
    listed = "shares"
    against = "against pictures that show it unasked"
    stopped = "stopped while it was made to appear nowhere; the result before that is kept"
    worse = "what no longer shows it unasked harms too much or draws it by name, so the result before it is kept"


def fit_everywhere(run: Run, pairs: PromptPairs, fit: Fit, found: Unasked) -> Fit | None:
    """Go on from a fit until prompts that do not name the target no longer draw it, or the budget is spent.

    See `fit_further`.
    """
    expected = expected_everywhere(run.request)
    return fit_further(run, fit, found, expected, lambda adapters: Everywhere.prepare(run, pairs, adapters, found))


@dataclass
class Everywhere:
    """Drawing, reading and training in turn. named: points of the target's own prompts; pool: points of all rounds.

    added: layers that had no change before. styles: that show it (see `Broad.leading`).
    """

    run: Run
    adapters: Adapters
    pace: Pace
    penalties: list[PreservationPenalty]
    found: Unasked
    named: Points
    average: Average
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    added: list[str]
    pool: list[Points] = field(default_factory=list)
    styles: frozenset[str] = frozenset()

    @classmethod
    def prepare(cls, run: Run, pairs: PromptPairs, adapters: Adapters, found: Unasked) -> Everywhere:
        """Ask the model before the request what is to be drawn; the adapters are as the closed form has left them."""
        config = run.request.config
        generator = torch.Generator().manual_seed(config.seed)
        run.job.start("replay", 2 * config.sampling_steps, "drawing what has to go")
        target = spread(pairs.target, run.request.recipe.training_prompts, config.seed)
        # of earlier targets the prompts, and what they draw now
        target += [(p, p) for p, _ in spread(pairs.erased, run.request.recipe.replay_erased // 4, config.seed)]
        named = named_points(run, adapters, target, generator)
        learned = sum(p.numel() for p in adapters.parameters())
        pace = paced(run.host, run.backbone, run.cost, learned, config)
        optimizer = torch.optim.AdamW(adapters.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
        added = [path for path, (_, up) in adapters.factors.items() if not up.any()]
        average = Average(adapters.parameters(), AVERAGED)
        penalties = penalties_of(run, pairs, adapters)
        return cls(run, adapters, pace, penalties, found, named, average, optimizer, generator, added)

    @property
    def config(self) -> ForgetConfig:
        """The request's."""
        return self.run.request.config

    @property
    def host(self) -> HostModel:
        """The run's."""
        return self.run.host

    def pulse(self) -> None:
        """A sign of life; drawing takes long, so a wish to stop raises `Cancelled` here too, though it is training."""
        self.run.job.pulse()
        if self.run.job.stopping:
            raise Cancelled(self.found.stopped)

    def go_on(self) -> bool:
        """The rounds; whether they came to an end. What is kept, the running average, is on the layers then."""
        job, words = self.run.job, f"making '{self.run.request.concept}' appear nowhere"
        job.start("training", UNASKED_ROUNDS * UNASKED_STEPS, words)
        first = self.draw(BROAD_FIRST, {}, 0)
        more = self.draw(BROAD_MORE, first.shares(), 1)
        drawn = self.draw(BROAD_MORE, joined([first, more]).shares(), 2)
        self.styles = joined([first, more, drawn]).leading()
        every = self.with_pairs(joined([first, more, drawn]).only(self.styles), 0)
        hard = every.seen()
        for number in range(UNASKED_ROUNDS + 1):
            if job.stopping:
                return False
            self.found.shares.append(drawn.share(self.styles))
            if self.found.shares[-1] <= GONE or number == UNASKED_ROUNDS:
                break
            self.learn_from(self.with_pairs(drawn, number) if number else every, number)
            for _ in range(UNASKED_STEPS):
                job.tick(self.step())
                if job.stopping:
                    return False
            # where it is rare, most of what could be learned from is where it was seen before
            again = hard[-(BROAD_AGAIN // 2) :]
            drawn = self.draw(BROAD_AGAIN, every.shares(), 3 + number, again).only(self.styles)
            hard = hard[: len(hard) - len(again)] + drawn.seen()
        self.average.swap()
        return True

    def draw(
        self, count: int, shares: dict[str, float], number: int, again: Sequence[tuple[Scene, Tensor]] = ()
    ) -> Broad:
        """Pictures of the model as it would be kept now, read by the model before the request.

        again: scenes and noises of those that come first.
        """
        request, config, new = self.run.request, self.config, count - len(again)
        scenes = [s for s, _ in again] + broad_scenes(request.rest, new, config.seed + 100 + number, shares)
        prompts = self.prompts(scenes)
        with self.as_kept():
            start = torch.stack([*(z for _, z in again), *self.sampler.starts(new, config.seed + 8000 + number)])
            drawn = Drawing(start, self.sampler.from_noise(prompts[0], start))
        with self.adapters.off():
            seen = self.reader.look_for(drawn.latents, prompts, config.seed + 9000 + 10 * number)
        return Broad.make(scenes, drawn, seen, len(again))

    def prompts(self, scenes: Sequence[Scene]) -> Prompts:
        """Of pictures of these scenes."""
        request, own = self.run.request, [s.prompt for s in scenes]
        return self.host.encode(own), self.host.encode([with_concept(p, request.concept, request.kind) for p in own])

    @property
    def sampler(self) -> Sampler:
        """Draws as the artist does."""
        return Sampler(self.host, self.config.sampling_steps, self.config.guidance, self.pulse)

    @property
    def reader(self) -> UnaskedReader:
        """Tells what pictures show; asked of the model before the request."""
        return UnaskedReader(self.host, LEVELS, self.pulse)

    @contextmanager
    def as_kept(self) -> Iterator[None]:
        """The model as it would be kept now."""
        with self.average.swapped():
            self.run.bound()
            yield

    def with_pairs(self, pictures: Broad, number: int) -> Broad:
        """The same with pictures that lack it beside those that show it, as far as `TRIES` find one."""
        without, left = pictures.without.clone(), torch.nonzero(pictures.shown)[:, 0]
        for attempt in range(TRIES):
            if not len(left):
                break
            seed, at = self.config.seed + 20000 + 10 * (TRIES * number + attempt), left.to(without.device)
            prompts, sight = self.prompts([pictures.scenes[i] for i in left.tolist()]), pictures.sight[left]
            with self.as_kept():
                made = self.sampler.drawn_again(prompts[0], pictures.drawn[at], sight.places, seed)
            with self.adapters.off():
                gone = self.reader.read_again(made, prompts, seed, sight) < SURE
            without[at[gone]] = made[gone]
            left = left[~gone]
        return replace(pictures, without=without)

    def learn_from(self, drawn: Broad, number: int) -> None:
        """Noise the pictures and put down what is to be answered there, for all steps of this round and later ones.

        Where it is shown they lead to the picture without it (see `led_away`), where it might have been as now; in all
        other places and styles, as before the request.
        """
        count = (POINTS_AGAIN if number else POINTS) * self.config.batch
        rows = torch.multinomial(drawn.interest(), count, replacement=True, generator=self.generator)
        at = rows.to(drawn.without.device)
        pictures, without = drawn.drawn[at], drawn.without[at]
        places = drawn.sight.places[at] * expand(drawn.among(self.styles)[rows].to(without), without)
        x, sigma = self.noised(pictures, number)
        rng = random.Random(f"{self.config.seed}/{number}/asked")
        asked = [part_of(drawn.scenes[i], self.run.request.rest, rng) for i in rows.tolist()]
        prompts = self.host.encode(asked)
        with self.average.swapped():
            now = self.answers(x, sigma, prompts)
        with self.adapters.off():
            before = self.answers(x, sigma, prompts)
        goal = torch.lerp(before, led_away(now, x, sigma, (pictures.latents, without)), places)
        self.pool.append(Points(x, sigma, prompts, goal, goal).to(CPU))

    def noised(self, pictures: Drawing, number: int) -> tuple[Tensor, Tensor]:
        """Pictures with noise, and their noise levels; `OWN` of them with the noise that they were drawn from."""
        host, count, last = self.host, len(pictures.latents), len(self.host.sigmas)
        at = torch.randint(int(PUSHED_FROM * last), last, (count,), generator=self.generator)
        at[::4] = torch.randint(0, last, at[::4].shape, generator=self.generator)
        own = (torch.rand(count, generator=self.generator) < OWN).to(pictures.start.device)
        sigma = host.sigmas[at.to(host.sigmas.device)]
        draws = noise(pictures.start.shape, self.config.seed + 500 + number, pictures.start.device)
        return host.noised(pictures.latents, sigma, torch.where(expand(own, draws), pictures.start, draws)), sigma

    def answers(self, x: Tensor, sigma: Tensor, prompts: Conditioning) -> Tensor:
        """The model's directions without gradient, a pulse a pass."""
        made = []
        with torch.no_grad():
            for part in torch.arange(len(x)).split(32):
                made.append(direction(self.host, x[part], sigma[part], prompts[part]))
                self.pulse()
        return torch.cat(made)

    def step(self) -> dict[str, float]:
        """One training step; its losses. Half of its rows are of the last pictures, a third name the target."""
        self.found.steps += 1
        rate = self.config.learning_rate * FALLING ** (len(self.pool) - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, self.found.steps / WARM_UP)
        batch = 2 * self.config.batch
        counts = {"named": batch // NAMED, "last": batch // 2}
        sources = [(self.named, counts["named"]), (self.pool[-1], counts["last"])]
        sources.append((self.pool[self.drawn_number(len(self.pool))], batch - sum(counts.values())))
        rows = [s[torch.randint(0, len(s), (n,), generator=self.generator)] for s, n in sources if n]
        rows = [r.to(self.host.device) for r in rows]
        losses = self.pace.attempt(
            lambda plan: self.gradients(rows, 2 * plan.pairs),
            undo=lambda: self.optimizer.zero_grad(set_to_none=True),
        )
        ready(self.adapters.parameters())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        if not all(map(math.isfinite, losses.values())):
            raise TrainingFailed("The loss is no longer a number; try a lower learning rate.")
        return losses

    def drawn_number(self, below: int) -> int:
        """A random number below another one."""
        return int(torch.randint(0, below, (1,), generator=self.generator))

    def gradients(self, parts: list[Points], rows: int) -> dict[str, float]:
        """Add up one step's gradients, so many rows at once; returns the losses."""
        config = self.config
        x, sigma, goal = (torch.cat([getattr(p, name) for p in parts]) for name in ("x", "sigma", "goal"))
        prompts, total = Conditioning.cat([p.prompts for p in parts]), 0.0
        with torch.enable_grad():
            for part in torch.arange(len(x)).split(rows):
                distance = squared_distance(direction(self.host, x[part], sigma[part], prompts[part]), goal[part])
                loss = distance.sum() / len(x)
                go_back(config.keep_weight * loss)
                total += float(loss.detach())
            change = hold(self.adapters, self.added, self.penalties, config)
        return {"unasked": total, "drift": change}


def led_away(answers: Tensor, x: Tensor, sigma: Tensor, pictures: tuple[Tensor, Tensor]) -> Tensor:
    """Answers `[b, c, h, w]` at noised pictures x, with what leads to the first pictures in place led to the second.

    d + ((t' - d) . a) a / a . a with a = t - t', where t and t' lead to the first and the second one: along the way
    from one to the other, and along that alone, it leads to the second one, whatever it did before.
    """
    first, second = ((x - z) / expand(sigma, x) for z in pictures)
    apart = first - second
    size = apart.square().flatten(1).sum(1).clamp(min=1e-12)
    part = (apart * (answers - second)).flatten(1).sum(1) / size
    return answers - expand(part, x) * apart


def named_points(run: Run, adapters: Adapters, pairs: list[tuple[str, str]], generator: torch.Generator) -> Points:
    """Points of pictures of the first prompts of the pairs, where the second ones' answers are to be given.

    They are led past them by the overshoot of a training. Taken more often where both answers differ more: where the
    name draws something of its own.
    """
    host, config = run.host, run.request.config
    past = run.request.recipe.training_overshoot if config.overshoot < 0 else config.overshoot
    named, mapped = (host.encode(list(column)) for column in zip(*pairs, strict=True))
    count = POINTS * config.batch
    with adapters.off(), torch.no_grad():
        bank = LatentBank.draw(host, named, 1, config.seed + 15, config.sampling_steps, run.job.tick)
        rows, at = (torch.randint(0, n, (count,), generator=generator) for n in (len(bank), len(host.sigmas)))
        latents, sigma = bank.pick(rows, generator), host.sigmas[at.to(host.sigmas.device)]
        x = host.noised(latents, sigma, noise(latents.shape, config.seed + 16, latents.device))
        own: list[Tensor] = []
        goals: list[Tensor] = []
        for part in torch.arange(count).split(32):
            for made, prompts in ((own, named), (goals, mapped)):
                made.append(direction(host, x[part], sigma[part], prompts[rows[part]]))
            run.job.pulse()
    before, goal = torch.cat(own), torch.cat(goals)
    gaps = squared_distance(before, goal).cpu()
    often = torch.multinomial(gaps + gaps.mean() + 1e-12, count, replacement=True, generator=generator)
    # there before they are taken: each prompt is taken many times
    return Points(x, sigma, named.to(CPU)[rows], before, goal + past * (goal - before)).to(CPU)[often]
