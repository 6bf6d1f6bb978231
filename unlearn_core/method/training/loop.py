"""Training, for what the closed form cannot do: teacher (the base model) and student see one batch a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch

from ...errors import Cancelled, TrainingFailed, UnlearnError
from ...evaluate.evaluator import Evaluator, NoCheck
from ...host import Conditioning
from ...sampling import direction
from ..adapters import Adapters, Average, attached, peft_parts
from ..anchor import Anchor
from ..fit import Fit
from ..plan import expected_training
from ..prompt_pairs import PromptPairs
from ..run import Run
from ..token_moments import moment_of
from .checkpointing import checkpointed
from .data import Batch, TrainingData
from .losses import PreservationPenalty, drift, go_back, ready, squared_distance
from .memory import Pace, Plan, paced
from .schedule import Schedule, Step
from .standing import Standing


def fit_by_training(run: Run, anchor: Anchor, pairs: PromptPairs, evaluator: Evaluator | NoCheck) -> Fit:
    """Train adapters, from where the closed form has left off; what was learned is on `run.edits` afterwards.

    Raises `UnlearnError` where the check is off, since nothing could say when to stop, or where peft is missing.
    """
    config = run.request.config
    if isinstance(evaluator, NoCheck):
        raise UnlearnError(
            "The closed form does not work on this model, and training needs the check: choose the quality 'normal'."
        )
    peft_parts()
    run.job.extend(expected_training(run.request))
    where, read = run.host.device, run.edits.weight
    with attached(run.backbone, run.edits.paths, run.ranks(run.edits.factors), config.seed, where, read) as adapters:
        for path, (down, up) in run.edits.factors.items():
            adapters.start(path, down, up)
        run.edits.set({})
        run.student = adapters
        try:
            trainer = Trainer.prepare(run, anchor, pairs, adapters)
            with checkpointed(run.backbone, lambda: trainer.pace.plan.checkpointing):
                begun = run.job.seconds
                steps = trainer.train(evaluator)
                seconds = run.job.seconds - begun
            factors = {path: adapters.pair(path) for path in adapters.factors}
        finally:
            run.student = run.edits
    run.edits.set(factors)
    return Fit(factors, 0.0, steps, seconds, trainer.pace.plan.sentence())


@dataclass
class Trainer:
    """A training that is ready to begin.

    penalties: one for each group of layers that read text, none where their weight is 0.
    """

    run: Run
    adapters: Adapters
    data: TrainingData
    penalties: list[PreservationPenalty]
    pace: Pace

    @classmethod
    def prepare(cls, run: Run, anchor: Anchor, pairs: PromptPairs, adapters: Adapters) -> Trainer:
        """Draw what is learned from, and plan the memory."""
        config = run.request.config
        learned = sum(p.numel() for p in adapters.parameters())
        pace = paced(run.host, run.backbone, run.cost, learned, config)
        run.job.start("replay", 5 * config.sampling_steps, "drawing what has to go and what has to stay")
        with adapters.off():
            data = TrainingData.draw(run, anchor, pairs)
        return cls(run, adapters, data, penalties_of(run, pairs, adapters), pace)

    def train(self, evaluator: Evaluator) -> int:
        """The loop; the number of steps made. What is kept is the running average of the weights.

        Ends when the check no longer finds the target after the settling phase, at `config.steps`, or when the artist
        stops; raises `Cancelled` when nothing is to be kept then.
        """
        request, config, job = self.run.request, self.run.request.config, self.run.job
        past = request.recipe.training_overshoot if config.overshoot < 0 else config.overshoot
        schedule = Schedule(request.recipe, config.steps, past, self.data.gap)
        generator = torch.Generator().manual_seed(config.seed)
        parameters = self.adapters.parameters()
        average = Average(parameters, request.recipe.averaged)
        optimizer = torch.optim.AdamW(parameters, config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
        standing = Standing(self.run, (self.adapters, average, optimizer, generator), self.pace)
        job.start("training", config.steps, f"forgetting '{config.concept}': {self.pace.plan.sentence()}")
        made = 0
        for step in schedule:
            made = step.number
            losses = standing.losses(made, partial(self.make, step, optimizer, generator))
            job.tick(losses)
            if job.stopping and not standing.replaying(made):
                break
            if schedule.wants_a_look(losses["forget"]):
                with average.swapped():
                    still = evaluator.still_generated(made, schedule.settled)
                schedule.looked(still)
            standing.keep()
        standing.keep(now=True)
        average.swap()
        if job.stopping and config.on_stop == "discard":
            raise Cancelled(f"Stopped at step {made}; nothing was kept, as you chose.")
        return made

    def make(self, step: Step, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> dict[str, float]:
        """One step; its losses. Raises `TrainingFailed` when they are no longer numbers."""
        config = self.run.request.config
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * step.rate
        batch = self.data.batch(self.run.host, config.batch, generator)
        losses = self.pace.attempt(
            lambda plan: self.gradients(batch, step, plan), undo=lambda: optimizer.zero_grad(set_to_none=True)
        )
        ready(self.adapters.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not all(map(math.isfinite, losses.values())):
            raise TrainingFailed("The loss is no longer a number; try a lower learning rate.")
        return losses

    def gradients(self, batch: Batch, step: Step, plan: Plan) -> dict[str, float]:
        """Add up one step's gradients, in as many passes as the plan says; returns the losses."""
        config, host = self.run.request.config, self.run.host
        sums: dict[str, torch.Tensor | float] = {"forget": 0.0, "keep": 0.0, "drift": 0.0}
        for number, part in enumerate(batch.parts(plan.pairs)):
            half = len(part.x) // 2
            share = half / config.batch
            with torch.no_grad(), self.run.teacher():
                goal = goals(self.run, part, step.overshoot)
            with torch.enable_grad():
                distance = squared_distance(direction(host, part.x, part.sigma, part.student), goal)
                forgetting, keeping = distance[:half].mean(), distance[half:].mean()
                loss = share * (config.forget_weight * forgetting + config.keep_weight * keeping)
                if number == 0:
                    change = drift((a, b, 1.0) for _, a, b in self.adapters.alike(self.adapters.factors))
                    sums["drift"] = change.detach()
                    loss = loss + config.drift_weight * change
                    weight = config.preservation_weight * step.preservation
                    for penalty in self.penalties:
                        loss = loss + weight * penalty(self.adapters)
                go_back(loss)
            sums["forget"] += share * forgetting.detach()
            sums["keep"] += share * keeping.detach()
        # One wait for the card in place of three.
        return dict(zip(sums, torch.stack([*map(torch.as_tensor, sums.values())]).tolist(), strict=True))


def penalties_of(run: Run, pairs: PromptPairs, adapters: Adapters) -> list[PreservationPenalty]:
    """What holds the words that are to stay, one for each group of layers that read text; none where it weighs 0."""
    penalties = []
    device = adapters.parameters()[0].device
    for reader in run.readers if run.request.config.preservation_weight else ():
        preserved = run.preserved(reader)
        erased = moment_of(reader, [p for p, _ in pairs.erased], pulse=run.job.pulse) if pairs.erased else None
        weights = {p: adapters.weight(p) for p in reader.paths if p in adapters.factors}
        if weights:
            penalties.append(PreservationPenalty.make(weights, preserved, erased, run.base.changes, device))
    return penalties


def goals(run: Run, batch: Batch, overshoot: float) -> torch.Tensor:
    """What the student has to answer, `[2b, c, h, w]`: d_T(m(p)), led past it in the changed rows.

    There d_T(m(p)) + overshoot * (d_T(m(p)) - d_T(p)): the negative guidance of ESD (arXiv 2303.07345), away from the
    target, and from the anchor on in place of the empty prompt. One pass of the teacher.
    """
    host = run.host
    if not overshoot:
        return direction(host, batch.x, batch.sigma, batch.teacher)
    rows = list(batch.changed)
    x, sigma = torch.cat([batch.x, batch.x[rows]]), torch.cat([batch.sigma, batch.sigma[rows]])
    answers = direction(host, x, sigma, Conditioning.cat([batch.teacher, batch.student[rows]]))
    goal, named = answers[: len(batch.x)], answers[len(batch.x) :]
    goal[rows] += overshoot * (goal[rows] - named)
    return goal
