"""Which meaning of a noun a picture shows, if any, and what kind of thing that is."""

from __future__ import annotations

import re

from .wordnet import Sense, WordNet

PICTURED = {"animal", "artifact", "body", "food", "location", "object", "person", "phenomenon", "plant", "substance"}
"""WordNet's files of what can be seen."""
RATHER = (*(("food", "animal"), ("plant", "food"), ("substance", "food"), ("substance", "plant")),)
"""(file of the most common meaning, file of the one that is meant where a word has both)."""
LOOKED_AT = 4
"""Meanings of a word that are looked at; what comes later is seldom meant."""
NOT_SHOWN = re.compile(
    r"(?i)\b(?:offensive|ethnic slur|disparag|obscen|vulgar|derogat|sexual|homosex|genital"
    r"|prostitut|intercourse|pornograph|incest|erotic|excrement|feces|urine|urinat|rape\b|rapist|nazi|pimp\b|anus|masturbat|brothel|contracepti|condom)"
)
"""What in a meaning's explanation keeps its words out."""
PLACES = (
    *(("building", "artifact"), ("building_complex", "artifact"), ("area", "artifact"), ("way", "artifact")),
    *(
        ("geological_formation", "object"),
        ("body_of_water", "object"),
        ("land", "object"),
        ("celestial_body", "object"),
    ),
)
"""What is a place though it stands in another file than noun.location."""
PROFESSIONS = (
    *(
        "worker",
        "leader",
        "entertainer",
        "serviceman",
        "combatant",
        "contestant",
        "scientist",
        "expert",
        "intellectual",
    ),
    *(
        "creator",
        "professional",
        "defender",
        "communicator",
        "preserver",
        "traveler",
        "religionist",
        "capitalist",
        "official",
        "ruler",
        "servant",
    ),
)
"""What people do, as opposed to what they are."""


class Chooser:
    """Reads words as pictures show them."""

    def __init__(self, wordnet: WordNet):
        self.wordnet = wordnet
        self._places = {number for name, file in PLACES for number in self._all(name, file)}
        self._professions = {number for name in PROFESSIONS for number in self._all(name, "person")[:1]}
        self._imagined = set(self._all("imaginary_being", "person") + self._all("spiritual_being", "person"))
        self._groups = set(self._all("biological_group", "group"))

    def _all(self, name: str, file: str) -> list[int]:
        return [s.number for s in self.wordnet.of(name) if s.file == file]

    def meaning(self, word: str) -> Sense | None:
        """The meaning that a picture shows: the most common one that can be seen; None where others lead.

        A fruit rather than its tree, an animal rather than its meat, a thing rather than somebody of that name.
        """
        senses = [s for s in self.wordnet.of(word)[:LOOKED_AT] if s.file in PICTURED and not self._is_group(s)]
        common = [s for s in senses if not s.instance and word.casefold() in s.words]
        if not senses or NOT_SHOWN.search(" ".join(s.gloss for s in self.wordnet.of(word)[:2])):
            return None
        first = self.wordnet.of(word)[0]
        if first.file not in PICTURED and not (common and self._imagined & set(self._chain(common[0]))):
            return None
        best = (common or senses)[0]
        if first.instance and first.file == "location":
            return first
        for leading, better in RATHER:
            if best.file == leading and (others := [s for s in common[:3] if s.file == better]):
                best = others[0]
        return best

    def _is_group(self, sense: Sense) -> bool:
        """Whether it is a genus or another name of biology."""
        return bool(self._groups & set(self._chain(sense)))

    def _chain(self, sense: Sense) -> tuple[int, ...]:
        return self.wordnet.chain(sense.number)

    def kind(self, sense: Sense) -> str:
        """The vocabulary's word for what a meaning is."""
        chain = set(self._chain(sense))
        if sense.file == "person":
            if chain & self._imagined:
                return "character"
            return "profession" if chain & self._professions and not sense.instance else "person"
        if sense.file == "location" or chain & self._places:
            return "place"
        return sense.file if sense.file in ("animal", "plant", "food") else "thing"
