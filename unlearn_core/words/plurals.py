"""English nouns in both numbers, by rule and by short lists of what no rule makes."""

from __future__ import annotations

import re
from functools import lru_cache

IRREGULAR = {
    **{"mice": "mouse", "geese": "goose", "teeth": "tooth", "feet": "foot", "men": "man", "women": "woman"},
    **{"children": "child", "people": "person", "oxen": "ox", "lice": "louse", "cacti": "cactus", "fungi": "fungus"},
    **{"octopi": "octopus", "knives": "knife", "wolves": "wolf", "leaves": "leaf", "loaves": "loaf", "lives": "life"},
    **{"wives": "wife", "halves": "half", "calves": "calf", "elves": "elf", "shelves": "shelf", "thieves": "thief"},
    **{"scarves": "scarf", "hooves": "hoof", "dwarves": "dwarf", "bookshelves": "bookshelf", "snowmen": "snowman"},
    **{"buses": "bus", "busses": "bus", "dormice": "dormouse", "titmice": "titmouse", "woodlice": "woodlouse"},
    **{"forefeet": "forefoot", "muskoxen": "muskox"},
}
"""Plurals that no rule makes, of words that are common."""
AT_THE_END = ("child", "knife", "wolf", "leaf", "loaf", "wife", "shelf")
"""Of these also in longer words: werewolf, grandchild. Not of louse, mouse and tooth: blouse, pumice, sabertooth."""
ENDINGS = {"men": "man", "ves": "f", "ives": "ife", "i": "us", "ae": "a"}
"""What plurals end in, and what their singulars may: firemen, werewolves, midwives, cacti, larvae."""
SIBILANTS = ("ses", "xes", "zes", "ches", "shes", "oes")
WITH_OES = {
    *("tomato", "potato", "hero", "superhero", "antihero", "echo", "torpedo", "mango", "buffalo", "tornado"),
    *("volcano", "mosquito", "domino", "veto", "embargo"),
}
WITH_CHS = {"stomach", "monarch", "patriarch", "matriarch", "loch", "epoch", "eunuch"}
NOT_A_MAN = re.compile(r"(?:human|german|roman|norman|brahman|shaman|caiman|cayman|talisman|ottoman|dolman|doberman)$")
ONE_WITH_MEN = {"specimen", "omen", "abdomen", "stamen", "cyclamen", "regimen", "foramen", "lumen"}
ONE_WITH_S = {
    *("lens", "canvas", "cyclops", "rhinoceros", "atlas", "gas", "triceratops", "thermos", "christmas", "pancreas"),
    *("bias", "alias", "sassafras", "vas"),
}
"""Singulars that look like plurals."""
ALWAYS_PLURAL = {"glasses", "scissors", "trousers", "jeans", "shorts", "pants", "khakis", "dice", "algae"}
"""Things of their own, not several of what the singular names."""
BOTH = re.compile(r"(?:.*(?:fish|sheep|deer)|.+craft|moose|bison|salmon|trout|cod|tuna|squid|shrimp|swine|elk|cattle)$")
"""Several are called as one is."""
UNCOUNTED = {
    *("rice", "bread", "butter", "milk", "honey", "sugar", "salt", "flour", "wheat", "corn", "garlic", "spinach"),
    *("broccoli", "spaghetti", "pasta", "ramen", "sushi", "bacon", "beef", "pork", "ham", "meat", "popcorn", "ketchup"),
    *(
        "mustard",
        "mayonnaise",
        "tofu",
        "water",
        "lettuce",
        "celery",
        "seafood",
        "caviar",
        "oatmeal",
        "wasabi",
        "ginger",
    ),
    *("furniture", "clothing", "jewelry", "jewellery", "luggage", "equipment", "hair", "money", "gold", "silver"),
    *("armor", "armour", "lightning", "rain", "snow", "fog", "smoke", "sand", "wood", "ivory", "bamboo", "moss", "hay"),
    *("cotton", "silk", "wool", "leather", "metal", "graffiti", "mankind", "lava", "mud", "ink", "blood", "dust"),
    *("confetti", "debris", "pumice"),
}
"""Of these there are not several."""


@lru_cache(4096)
def readings(word: str) -> frozenset[str]:
    """A word as it stands and all that it may be the plural of: cherries, cherrie, cherry."""
    found = {word, IRREGULAR.get(word, word)}
    if word not in ALWAYS_PLURAL | ONE_WITH_S and len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        found.add(word[:-1])
        if word.endswith("ies"):
            found.add(word[:-3] + "y")
        if word.endswith(SIBILANTS):
            found.add(word[:-2])
    for ending, other in ENDINGS.items():
        if len(word) > len(ending) + 1 and word.endswith(ending):
            found.add(word[: -len(ending)] + other)
    for several, one in IRREGULAR.items():
        if one in AT_THE_END and word.endswith(several):
            found.add(word[: -len(several)] + one)
    return frozenset(found)


def singular(word: str) -> str:
    """The singular of a common word whose plural no rule makes, anything else as it is."""
    return IRREGULAR.get(word.casefold(), word)


def plural(word: str) -> str:
    """The plural of an English noun or of a phrase's noun: bananas, cherries, fire engines, works of art, mice.

    What is a plural already, or has none, stays as it is: scissors, sheep, rice.
    """
    first, of, rest = word.partition(" of ")
    head, _, last = first.rpartition(" ")
    return f"{head} {plural_of_one(last)}".strip() + of + rest


def plural_of_one(word: str) -> str:
    """The same of a single word."""
    low = word.casefold()
    for several, one in IRREGULAR.items():
        if low == one or (one in AT_THE_END and low.endswith(one)):
            return word[: -len(one)] + several
    if stays_as_it_is(low):
        return word
    if low.endswith("man") and not NOT_A_MAN.search(low):
        return word[:-2] + "en"
    if low in WITH_CHS:
        return word + "s"
    if low in WITH_OES or re.search(r"(?:s|x|z|ch|sh)$", low):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", low) else word + "s"


def stays_as_it_is(word: str) -> bool:
    """Whether a word is a plural already, or has none of its own."""
    if any(word == several or (one in AT_THE_END and word.endswith(several)) for several, one in IRREGULAR.items()):
        return True
    if word in UNCOUNTED or word in ALWAYS_PLURAL or BOTH.match(word):
        return True
    if word.endswith("men"):
        return word not in ONE_WITH_MEN
    return word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in ONE_WITH_S
