"""What is asked before any work, where a text reads as something else than the names of concepts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from ..errors import BadSetting
from .compare import content_words, same_thing
from .plurals import readings
from .prompt_syntax import (
    ARTICLES,
    CAPITAL_AND,
    EDGE,
    EMBEDDING,
    JOINTS,
    MARKS,
    SEPARATORS,
    TAG,
    WEIGHT,
    joined_by_and,
    replaced_in_a_prompt,
    without_article,
)
from .prompt_words import COMMAND, is_description
from .prompts import style_words
from .vocabulary import Vocabulary, bundled
from .word_list import WordList

DEPICTIONS = {
    *("photo", "photograph", "picture", "image", "painting", "drawing", "sketch", "illustration", "render", "portrait"),
    *("closeup", "close-up", "shot", "view", "scene", "artwork", "art"),
}
"""Words of prompts that speak of the picture and not of what is in it: "a photo of a cat"."""
DOING = {"is", "are", "was", "were", "has", "wearing", "holding", "riding", "eating", "sitting", "standing", "lying"}
"""Words that make a sentence of the names around them."""
AROUND = {"with", "without", "in", "on", "at", "under", "behind", "beside", "near", "unless", "when", "while", "if"}
"""Words that set a known thing into a scene."""
SMALL = {*AROUND, *ARTICLES, "of", "and", "or", "no"}
"""Words that are not capitalised in a title: The Cat in the Hat."""
BETWEEN = re.compile(r"(?<=\w)\s*(\\|[-=]+>|→|↔|:)\s*(?=\w)|(?<=\w)\s+(-+|–|—|vs\.?|versus|plus)\s+(?=\w)")
"""Signs between two names that may mean a list, and much else."""
ABBREVIATION = re.compile(r"(?<!\w)[A-Z0-9]{1,3}[&+/][A-Z0-9]{1,3}(?!\w)")
"""AC/DC, M&M: names, even if each side is one too."""
AND_THE = re.compile(r"(?i)\s(?:and|or|&)\s(?:the|an?)\s")
"""Within a title it makes one name: Beauty and the Beast."""
TALK = {
    *("i", "we", "want", "don't", "dont", "doesn't", "can't", "cannot", "should", "shouldn't", "why", "how"),
    *("anymore", "again", "disappear", "vanish", "instead"),
}
"""Words that people say and names do not have."""
STAYS = re.compile(
    r"(?i)(?:^|\s)(?:but|not|except|excluding|keep|keeping|apart\s+from|other\s+than)\s+(?=\w)|(?<=\w\w)\s-(?=[^\W\d])"
)
"""What follows is to stay, as in "cats, but not dogs" and "cats -dogs"."""
LEFT_OUT = re.compile(r"(?i)(?:no|without)\s+\w")
"""The same at the beginning of a later part: "cat, no dogs"."""
TAKEN_OFF = re.compile(r"\s*[^\s,;，、；-][^\n]*[,;，、；]\s*-(?=[^\W\d])")
"""And as a sign before it, in a list whose first part has none: "cat, -dog"."""
ONTO = re.compile(r"(?i)(?<=\S)\s*(?:[-=]+>|[→⇒➔➜])\s*(?=\S)|\s+(?:becomes?|instead\s+of)\s+")
REPLACES = re.compile(
    r"(?i)(?:please\s+)?(?:replace\s+(\S.*?)\s+(?:with|by)|(?:swap|exchange)\s+(\S.*?)\s+(?:with|by|for)"
    r"|(?:turn|change)\s+(\S.*?)\s+(?:into|to))\s+(\S.*)"
)
"""Between what is to go and what is to be drawn instead, or around both."""
LONGEST_TITLE = 8
"""Words from which a text is no name any more."""
MANY = 5
"""Parts from which a list of mostly unknown words is rather a prompt."""
STAYING = "also says what is to stay: write only what is to go, and the rest under 'Keep'"
INSIST = "or choose 'Go on regardless'"


def listed(concept: str, lists: Iterable[WordList]) -> str:
    """The word of the lists that a concept is a form of, as the list spells it, or ""."""
    for words in lists:
        for known in (*words.all_objects, *words.styles, *filter(None, words.objects)):
            if same_thing(known, concept):
                return known
    return ""


def ask_about_tags(
    rows: Sequence[tuple[str, bool]], lists: Sequence[WordList], vocabulary: Vocabulary | None = None
) -> None:
    """Raise `BadSetting` with a question for the tags of a prompt: half of them or more are no known things.

    rows: (part, whether it stood in quotes); who writes quotes means a name. vocabulary: what it knows counts as known
    where no part says how the picture is to be.
    """
    free = [part for part, quoted in rows if not quoted]
    known = {part: name for part in free if (name := listed(without_article(part), lists)) or mentioned(part, lists)}
    described = [part for part in free if is_description(part) and not listed(part, lists)]
    if vocabulary and not described:
        known |= {part: term.text for part in free if part not in known and (term := vocabulary.find(part))}
    doubtful = [part for part in free if part in described or part not in known]
    prompt = described or (len(rows) >= MANY and known)
    if len(rows) < 2 or not prompt or 2 * len(doubtful) < len(rows):
        return
    named = [name or mentioned(part, lists)[0] for part, name in known.items() if part not in described]
    typed = ", ".join(part for part, _ in rows)
    raise BadSetting(
        f"'{typed}' reads as a prompt: {which(named)}, put each name in quotes, {INSIST} to take every part."
    )


def ask_about_what_stays(text: str, rows: Sequence[tuple[str, bool]]) -> None:
    """Raise `BadSetting` with a question for a list that also says what is not meant: that would be forgotten too.

    text: what was typed. rows: its parts, and which of them stood in quotes.
    """
    for number, (part, quoted) in enumerate(rows):
        command = COMMAND.match(part)
        said = part[command.end() :] if command else part
        found = None if quoted or is_title(part.split()) else STAYS.search(said)
        alone = found and found[0].split()[0].casefold() in ("keep", "keeping", "except", "excluding")
        left_out = number and not quoted and not is_title(part.split()) and LEFT_OUT.match(said)
        if left_out or (found and (number or alone or said[: found.start()].strip())):
            raise also_stays(", ".join(part for part, _ in rows))
    if not any(quoted for _, quoted in rows) and TAKEN_OFF.match(text):
        raise also_stays(" ".join(text.split()))


def also_stays(typed: str) -> BadSetting:
    """The question about a list that says what is not meant."""
    return BadSetting(f"'{typed}' {STAYING}; put a name of several words in quotes, {INSIST} to take every part.")


def ask_about_another_in_its_place(text: str) -> None:
    """Raise `BadSetting` for a text that says what to draw instead, as "cat -> dog" and "turn cats into dogs" do."""
    for row in SEPARATORS.split(text):
        whole = REPLACES.fullmatch(row.strip())
        # of three verbs one has been found
        sides = [*filter(None, whole.groups())] if whole else ONTO.split(row.strip())
        goes, comes = sides if len(sides) == 2 and (whole or not is_title(row.split())) else ("", "")
        if "instead" in row.casefold().split():
            goes, comes = comes, goes
        goes, comes = (without_article(side.strip(EDGE)) for side in (goes, comes))
        if goes and comes:
            raise BadSetting(
                f"'{row.strip()}' also says what to draw instead: write '{goes}' here and '{comes}' under "
                f"'Draw instead', one such pair at a time, {INSIST}."
            )


def ask_about_a_sentence(text: str, lists: Sequence[WordList]) -> None:
    """Raise `BadSetting` with a question for what reads as a sentence or a whole prompt."""
    if listed(text, lists):
        return
    words = [w.strip(EDGE) for w in text.split()]
    depicts = not readings(words[0].casefold()).isdisjoint(DEPICTIONS)
    speaks_of_a_picture = len(words) > 2 and depicts and words[1].casefold() in ("of", "with")
    has_article = any(w.casefold() in ("a", "an") for w in words[1:])
    named = mentioned(text, lists)
    doing = bool(named) and any(w.casefold() in DOING for w in words[1:])
    titled = all(w[:1].isupper() for w in words if w.casefold() not in SMALL)
    doing = doing or (bool(named) and not titled and sets_a_scene(words))
    doing = doing or (not is_title(words) and not TALK.isdisjoint(w.casefold().replace("’", "'") for w in words))
    long = len(words) >= LONGEST_TITLE and not is_title(words)
    if speaks_of_a_picture or has_article or doing or long or (len(named) > 1 and len(words) > 3 and not titled):
        raise BadSetting(
            f"'{text}' reads as a sentence: {which(named)}, put a name of several words in quotes, {INSIST}."
        )


def ask_about_two_readings(text: str, lists: Sequence[WordList], vocabulary: Vocabulary | None) -> None:
    """Raise `BadSetting` with a question for "cat and knife" and "cat and dog style", which may be one name or two.

    So may "Batman and Superman", where a vocabulary counts and knows both, and not the whole.
    """
    if listed(text, lists) or (vocabulary and vocabulary.find(text)):
        return
    words = BETWEEN.sub(" and ", text).split()
    names = joined_in_vocabulary(text if is_title(words) else " ".join(words), lists, vocabulary)
    if len(names) > 1:
        raise one_or_several(text, names)
    if is_title(words):
        return
    for i, word in enumerate(words):
        left, right = (without_article(" ".join(w)) for w in (words[:i], words[i + 1 :]))
        if word.casefold() not in JOINTS or not left or not right:
            continue
        if mentioned(left, lists) or mentioned(right, lists):
            raise one_or_several(text, [left, right])


def joined_in_vocabulary(text: str, lists: Sequence[WordList], vocabulary: Vocabulary | None) -> list[str]:
    """The names in "Batman and Superman", where lists or vocabulary know each of them; else the text as it is."""
    if vocabulary is None or ABBREVIATION.search(text) or (is_title(text.split()) and AND_THE.search(text)):
        return [text]

    def is_known(name: str) -> bool:
        return bool(vocabulary.find(name) or vocabulary.find(style_words(name)) or listed(name, lists))

    return joined_by_and(text, is_known)


def ask_about_things_in_a_row(text: str, lists: Sequence[WordList], vocabulary: Vocabulary | None) -> None:
    """Raise `BadSetting` with a question for "cat dog", which is no name that anything knows.

    A checkpoint with a list of its own, and so without a vocabulary, draws nothing else than what that names. Of others
    two things of one group are asked about: "toy car" and "pear tree" are names that no list has to know.
    """
    own, things = lists[0], things_in_a_row(text, lists[0])
    if len(set(things)) < 2 or listed(text, lists) or (vocabulary or bundled()).find(text):
        return
    if vocabulary is None or any(a == b != "" for a, b in pairwise(map(own.category, things))):
        raise one_or_several(text, things)


def things_in_a_row(text: str, words: WordList) -> list[str]:
    """The things of a list that a text is made of, as the list spells them; [] where there is anything else in it."""
    left, found = text.split(), list[str]()
    while left:
        beginnings = ((count, listed(" ".join(left[:count]), [words])) for count in range(LONGEST_TITLE, 0, -1))
        count, known = next(((c, known) for c, known in beginnings if known in words.all_objects), (0, ""))
        if not known:
            return []
        left, found = left[count:], [*found, known]
    return found


def one_or_several(text: str, names: Sequence[str]) -> BadSetting:
    """The question about a text that may be one name or a list of names."""
    many = "two" if len(names) == 2 else "several"
    return BadSetting(
        f"'{text}' may be one name or {many}: write '{', '.join(names)}' for {many} concepts, put it in quotes as one, "
        f"{INSIST}."
    )


def ask_about_replaced(text: str) -> None:
    """Raise `BadSetting` with a question for what a prompt reads as one of several words: [cat|dog], __animals__."""
    if found := replaced_in_a_prompt(text):
        raise BadSetting(
            f"'{found}' stands for several words in a prompt: write the names that are meant, with commas "
            f"between them, {INSIST} to take what is in it."
        )


def ask_about_quotes(phrase: str, lists: Sequence[WordList]) -> None:
    """Raise `BadSetting` with a question for a list, or prompt syntax, that quotes keep together as one name."""
    if is_to_be_read(phrase, lists):
        raise BadSetting(
            f"'{phrase}' in quotes is one name: leave the quotes out to have what is in it read, {INSIST} to take it "
            "as it stands."
        )


def is_to_be_read(text: str, lists: Sequence[WordList]) -> bool:
    """Whether a text is no concept's name but has to be read first: prompt syntax, or a list."""
    if listed(text, lists):
        return False
    text = text.translate(MARKS)
    if TAG.search(text) or EMBEDDING.search(text) or ("(" in text and WEIGHT.search(text)):
        return True
    pieces = [without_article(p) for part in SEPARATORS.split(text) for p in CAPITAL_AND.split(part) if p.strip()]
    # as many words as the list has: "not dog" is no dog
    return len(pieces) > 1 and all(len(p.split()) == len(listed(p, lists).split()) for p in pieces)


def ask_about_syntax(concept: str, lists: Sequence[WordList]) -> None:
    """Raise `BadSetting` for what is no concept's name but has to be read first: prompt syntax, or a list."""
    if is_to_be_read(concept, lists):
        raise BadSetting(
            f"'{concept}' is not the name of one concept: write the bare name, without quotes and prompt syntax; "
            "commas between several names (in Python, unlearn_core.read_requests reads what was typed)."
        )


def sets_a_scene(words: Sequence[str]) -> bool:
    """Whether a text says where a thing is, or with what: cats on a sofa."""
    return any(w.casefold() in AROUND for w in words[1:-1])


def which(named: Sequence[str]) -> str:
    """The question, with what it would take."""
    if not named:
        return "which word is meant? Write that word alone"
    names = " or ".join(f"'{n}'" for n in named)
    return f"which word is meant: {names}? It would take '{named[0]}'; write that word alone"


def is_title(words: Sequence[str]) -> bool:
    """Whether all longer words are capitalised, as in Beauty and the Beast."""
    longer = [w for w in words if len(w) > 3]
    return bool(longer) and all(w[0].isupper() for w in longer)


def mentioned(text: str, lists: Iterable[WordList]) -> list[str]:
    """Known things and styles that a text mentions, in its order, each once."""
    said = content_words(text)
    position: Callable[[str], int] = text.casefold().find
    found: dict[str, int] = {}
    for words in lists:
        for known in (*words.all_objects, *words.styles):
            needed = content_words(known)
            if needed and all(any(not readings(w).isdisjoint(readings(s)) for s in said) for w in needed):
                found.setdefault(known, position(known.casefold()))
    longest = [k for k in found if not any(k != o and content_words(k) < content_words(o) for o in found)]
    return sorted(longest, key=lambda k: (found[k] < 0, found[k]))
