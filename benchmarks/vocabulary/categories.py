"""Some hundreds of categories: for each meaning the lowest thing above it that enough terms are a kind of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .wordnet import WordNet

LEAST = 30
"""Terms of a category, those of categories below it left out."""


class Categories:
    """Cut through WordNet's tree so that each part has at least `LEAST` of some meanings."""

    def __init__(self, wordnet: WordNet, meanings: Sequence[int]):
        self._wordnet = wordnet
        counts = Counter(meanings)
        below: dict[int, list[int]] = {}
        depth: dict[int, int] = {}
        for number in sorted(counts):
            chain = wordnet.chain(number)
            for place, one in enumerate(chain):
                depth[one] = len(chain) - place
                if place + 1 < len(chain):
                    below.setdefault(chain[place + 1], []).append(one)
        left = dict(counts)
        self._chosen: set[int] = set()
        for number in sorted(depth, key=lambda n: (-depth[n], n)):
            total = left.get(number, 0) + sum(left.get(child, 0) for child in dict.fromkeys(below.get(number, ())))
            if total >= LEAST:
                self._chosen.add(number)
                total = 0
            left[number] = total

    def of(self, number: int) -> str:
        """The name of a meaning's category."""
        chain = self._wordnet.chain(number)
        found = next((n for n in chain if n in self._chosen), chain[-1])
        return self._wordnet.senses[found].words[0].replace("_", " ")
