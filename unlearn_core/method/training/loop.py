"""The training loop, for what the closed form cannot do."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ...config import ForgetConfig
from ...errors import Cancelled, TrainingFailed
from ...evaluate.evaluator import Teacher
from ...host import Conditioning, HostModel
from ...progress import Tracker
from ...sampling import direction
from ..adapters import Adapters, Average
from ..text_layers import guarded
from . import losses
from .data import Batch, Lessons
from .losses import TextGuard
from .memory import Pace, Plan
from .null_space import acting_directions

CHECK_FROM, CHECK_EVERY = 50, 25
"""The judge looks for the first time after CHECK_FROM steps, then every CHECK_EVERY."""
SETTLE = 50
"""Last steps, in which the learning rate falls to zero: what the hunt for the target has harmed heals here."""
RECENT, CLOSED = 20, 0.2
"""The judge is asked when the forget loss of the RECENT last steps has fallen to CLOSED of what it begins with."""
HUNTING, SETTLING = 0.1, {"object": 1.0, "style": 0.3}
"""Parts of the text guard's weight before and in the settling phase. Before, it would slow the hunt; a style shares

its sentences with everything that is kept, so that the full weight would bring it back.
"""
WARM_UP = 10
PATIENCE, OVERSHOOT = 150, {"object": 0.5, "style": 0.75}
"""Steps after which a thing that the judge still finds is steered past its replacement, to the end; how far each kind

is, where the settings leave it open. A thing that goes by then needs no overshoot. A style is steered past from the
start, and at the replacement itself while it settles: that heals what the push has done to the other styles.
"""
AVERAGED = {"object": 0.9, "style": 0.97}
"""Share of the average that each step keeps; a style's sentences pull everything, so its single steps are rougher."""


def start_in_null_space(config: ForgetConfig, adapters: Adapters, lessons: Lessons, kept: Tensor) -> None:
    """Fix A of the layers that read text in the directions that tell the target from kept tokens; B learns, from 0."""
    target, replaced = lessons.forget.conditioning.tokens, lessons.mapped.tokens
    rows = acting_directions(target, replaced, kept, config.rank, config.null_space)
    for path, (down, up) in adapters.factors.items():
        if guarded(path) and down.shape[1] == rows.shape[1]:
            adapters.start(path, rows, torch.zeros(len(up), len(rows)), frozen=True)


def train(
    host: HostModel,
    config: ForgetConfig,
    kind: str,
    adapters: Adapters,
    teacher: Teacher,
    lessons: Lessons,
    guard: TextGuard | None,
    job: Tracker,
    still_drawn: Callable[[int, bool], bool],
    pace: Pace,
) -> int:
    """The loop: teacher (the base model) and student see one batch; returns the number of steps made.

    Ends `SETTLE` steps after the judge no longer finds the target, if it does not find it again after them, at
    `config.steps`, or when the artist stops.
    """
    generator = torch.Generator().manual_seed(config.seed)
    parameters = adapters.parameters()
    average = Average(parameters, AVERAGED[kind])
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    recent: deque[float] = deque(maxlen=RECENT)
    job.start("training", config.steps, f"forgetting '{config.concept}': {pace.plan.sentence()}")
    past = OVERSHOOT[kind] if config.overshoot < 0 else config.overshoot
    step, end, pushing = 0, config.steps, kind == "style"
    while step < end:
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, step / WARM_UP, (end - step + 1) / SETTLE)
        batch = lessons.draw(host, config.batch, generator)
        settling = step > end - SETTLE
        guarding = config.guard_weight * (SETTLING[kind] if settling else HUNTING)
        pushing = pushing or (step > PATIENCE and end == config.steps)
        overshoot = past if pushing and not (settling and kind == "style") else 0.0
        learn_it = partial(learn, host, config, adapters, teacher, batch, overshoot, guard, guarding)
        values = pace.attempt(learn_it, undo=lambda: optimizer.zero_grad(set_to_none=True))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update()
        if not all(map(math.isfinite, values.values())):
            raise TrainingFailed("The loss is no longer a number; try a lower learning rate.")
        recent.append(values["forget"])
        job.tick(values)
        if job.stopping and config.on_stop == "discard":
            raise Cancelled(f"Stopped at step {step}; nothing was kept, as you chose.")
        if job.stopping:
            break
        settled = step == end < config.steps
        asked = step >= CHECK_FROM and (step - CHECK_FROM) % CHECK_EVERY == 0 and step + SETTLE < end
        if settled or (asked and sum(recent) / RECENT <= CLOSED * (1 + overshoot) ** 2 * lessons.gap):
            average.swap()
            drawn = still_drawn(step, settled)
            average.swap()
            if settled == drawn:
                end = config.steps if settled else step + SETTLE
    average.swap()
    return step


def learn(
    host: HostModel,
    config: ForgetConfig,
    adapters: Adapters,
    teacher: Teacher,
    batch: Batch,
    overshoot: float,
    guard: TextGuard | None,
    guarding: float,
    plan: Plan,
) -> dict[str, float]:
    """Add up one step's gradients, in as many passes as the plan says; returns the losses."""
    sums = {"forget": 0.0, "keep": 0.0, "drift": 0.0}
    for number, part in enumerate(batch.parts(plan.pairs)):
        half = len(part.x) // 2
        share = half / config.batch
        with torch.no_grad(), teacher():
            goal = goals(host, part, overshoot)
        with torch.enable_grad():
            distance = losses.squared_distance(direction(host, part.x, part.sigma, part.student), goal)
            forgetting, keeping = distance[:half].mean(), distance[half:].mean()
            loss = share * (config.forget_weight * forgetting + config.keep_weight * keeping)
            if number == 0:
                drift = losses.drift((a, b, 1.0) for _, a, b in adapters.alike(adapters.factors))
                sums["drift"] = drift.detach()
                loss = loss + config.drift_weight * drift
                if guard and guarding:
                    loss = loss + guarding * guard.penalty(adapters)
            loss.backward()
        sums["forget"] += share * forgetting.detach()
        sums["keep"] += share * keeping.detach()
    # one wait for the card in place of three
    return dict(zip(sums, torch.stack([*sums.values()]).tolist(), strict=True))


def goals(host: HostModel, batch: Batch, overshoot: float) -> Tensor:
    """What the student shall answer, `[2b, c, h, w]`: d_T(m(p)), and in the changed rows

    d_T(m(p)) + overshoot * (d_T(m(p)) - d_T(p)): the negative guidance of ESD (arXiv 2303.07345), away from the target
    and from the replacement on in place of the empty prompt. One pass of the teacher.
    """
    if not overshoot:
        return direction(host, batch.x, batch.sigma, batch.teacher)
    rows = list(batch.changed)
    x, sigma = torch.cat([batch.x, batch.x[rows]]), torch.cat([batch.sigma, batch.sigma[rows]])
    answers = direction(host, x, sigma, Conditioning.cat([batch.teacher, batch.student[rows]]))
    goal, named = answers[: len(batch.x)], answers[len(batch.x) :]
    goal[rows] += overshoot * (goal[rows] - named)
    return goal
