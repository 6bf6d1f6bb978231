"""What one request learns from, all drawn once before training: banks of latents, encoded prompts, noise levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import ForgetConfig
from .interfaces import Conditioning, HostModel
from .locality import at_all_levels, importance
from .replay import Replay
from .sampling import LatentBank, noise


@dataclass(frozen=True)
class Batch:
    """One step's input: forget rows first, replay rows after them.

    x `[2b, c, h, w]` noised latents, sigma `[2b]`, student and teacher prompts (they differ in the forget rows only).
    """

    x: Tensor
    sigma: Tensor
    student: Conditioning
    teacher: Conditioning

    def parts(self, pairs: int) -> Iterator[Batch]:
        """The batch in pieces of at most `pairs` forget rows with their replay rows."""
        size = len(self.x) // 2
        if pairs >= size:
            yield self
            return
        for start in range(0, size, pairs):
            rows = [*range(start, min(start + pairs, size))]
            rows += [size + r for r in rows]
            yield Batch(self.x[rows], self.sigma[rows], self.student[rows], self.teacher[rows])


@dataclass(frozen=True)
class Lessons:
    """Forget bank with its mapped prompts, replay bank, and the chances of noise levels and replay prompts.

    gap: the forget loss that the teacher itself has, E || d_T(p_f) - d_T(m(p_f)) ||^2 at these noise levels.
    """

    forget: LatentBank
    mapped: Conditioning
    replay: LatentBank
    replay_weights: Tensor
    level_weights: Tensor
    gap: float

    @classmethod
    def prepare(
        cls,
        host: HostModel,
        config: ForgetConfig,
        forget: LatentBank,
        pairs: Sequence[tuple[str, str]],
        second_hand: Sequence[tuple[str, str]],
        replay: Replay,
        profile: Tensor,
        tick: Callable[[], None],
    ) -> Lessons:
        """Draw the rest of the teacher's latents.

        pairs: (forget prompt, mapped prompt) of the rows of `forget`. second_hand: pairs of earlier requests whose
        mapping was today's target; their prompts draw it, so they are forget prompts now. profile: see `Choice`.
        """
        if second_hand:
            more = host.encode([p for p, _ in second_hand])
            drawn = LatentBank.draw(
                host, more, config.latents_per_prompt, config.seed + 11, config.sampling_steps, tick
            )
            forget = LatentBank(
                torch.cat([forget.latents, drawn.latents]), Conditioning.cat([forget.conditioning, more])
            )
        kept = LatentBank.draw(
            host, host.encode(replay.prompts), config.latents_per_prompt, config.seed + 12, config.sampling_steps, tick
        )
        mapped = host.encode([m for _, m in [*pairs, *second_hand]])
        distances = at_all_levels(profile, len(host.sigmas))
        levels = importance(distances)
        return cls(forget, mapped, kept, replay.weights, levels, float((levels * distances).sum()))

    def draw(self, host: HostModel, size: int, generator: torch.Generator) -> Batch:
        """`size` forget rows at the levels where target and anchor differ, `size` replay rows at all levels."""
        rows = torch.randint(0, len(self.forget), (size,), generator=generator)
        kept = torch.multinomial(self.replay_weights, size, replacement=True, generator=generator)
        levels = torch.cat(
            [
                torch.multinomial(self.level_weights, size, replacement=True, generator=generator),
                torch.randint(0, len(host.sigmas), (size,), generator=generator),
            ]
        )
        sigma = host.sigmas[levels.to(host.sigmas.device)]
        latents = torch.cat([self.forget.pick(rows, generator), self.replay.pick(kept, generator)])
        seed = int(torch.randint(0, 2**31, (1,), generator=generator))
        x = host.noised(latents, sigma, noise(latents.shape, seed, latents.device))
        same = self.replay.conditioning[kept]
        return Batch(
            x,
            sigma,
            Conditioning.cat([self.forget.conditioning[rows], same]),
            Conditioning.cat([self.mapped[rows], same]),
        )
