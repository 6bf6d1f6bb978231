"""Pictures that were drawn and read once, in place of those that a check would draw and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from unlearn_core.evaluate.reading import HowToRead, margins
from unlearn_core.evaluate.unharmed import Unharmed
from unlearn_core.words.prompts import Scene


@dataclass
class Table:
    """Recorded errors `[pictures, readings, levels]` (see `reading.Readable`); rows: how many were asked for."""

    values: Tensor
    rows: int = 0

    def errors(self, pictures: Sequence[int], readings: Sequence[int], level: int) -> Tensor:
        """From the table."""
        self.rows += len(pictures) * len(readings)
        return self.values[list(pictures)][:, list(readings), level]


class Recorded(Unharmed):
    """The preserved pictures of a case, taken from what was seen in full in place of drawn and read ones."""

    def prepare(
        self, rows: Sequence[tuple[str, Scene]], tables: Mapping[bool, Table], drawn: Mapping[bool, Tensor]
    ) -> None:
        """rows: of the pictures. tables, drawn: of before (True) and after."""
        self._numbers = {scene.prompt: i for i, (_, scene) in enumerate(rows)}
        self._tables, self._drawn, self._before, self.pictures = tables, drawn, True, 0
        self.sampler = self  # type: ignore[assignment]

    def draw(self, scenes: Sequence[Scene], before: bool) -> Tensor:
        """In place of the sampler's."""
        self._before, self.pictures = before, self.pictures + len(scenes)
        return self._drawn[before][[self._numbers[s.prompt] for s in scenes]]

    def margins(self, asked: Sequence[tuple[str, Scene]], latents: Tensor, changed: bool) -> list[float]:
        """Of the pictures that were drawn last."""
        rows = [self._numbers[s.prompt] for _, s in asked]
        table = self._tables[self._before]
        return margins(table, rows, table.values.shape[1], HowToRead.by(self.recipe, changed)).tolist()
