"""Drawn pictures with what they may be read as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..host import Conditioning
from .evaluator import Reader
from .reading import HowToRead, errors_at, margins


@dataclass(frozen=True)
class Drawn:
    """Pictures `[b, c, h, w]` with what they may be read as (see `reading.Readable`).

    encoded: the readings, one row a picture. seeds: of the noise of each picture.
    """

    reader: Reader
    latents: Tensor
    encoded: Sequence[Conditioning]
    seeds: Sequence[int]

    def errors(self, pictures: Sequence[int], readings: Sequence[int], level: int) -> Tensor:
        """`[pictures, readings]`."""
        rows, reader = list(pictures), self.reader
        asked, seeds = [self.encoded[r][rows] for r in readings], [self.seeds[i] for i in rows]
        return errors_at(reader.host, self.latents[rows], asked, reader.levels[level], seeds, reader.pulse)

    def margins(self, how: HowToRead) -> list[float]:
        """Of all pictures, as `reading.margins`."""
        return margins(self, range(len(self.latents)), len(self.encoded), how).tolist()
