"""What the tool takes a concept for, told before anything runs: by words alone, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice

from .compare import share_a_word
from .plurals import plural
from .prompts import style_words
from .questions import listed, mentioned
from .vocabulary import Term, Vocabulary, belongs_to, is_form
from .word_list import WordList

SHOWN, FEW = 5, 3
"""Near words that are told; members of a group, and kinds."""
COUNTED = {"thing", "animal", "plant", "food", "profession"}
"""Kinds whose terms have a plural; of names there is one."""
BROAD = {"thing", "animal", "plant", "food", "place"}
"""Categories of what has no narrower one: their most common members have little in common."""


@dataclass(frozen=True)
class Understood:
    """One concept, as it was understood.

    kind: "object" or "style". what: "food, edible fruit"; "" for what no list has. forms: what goes with it. synonyms:
    other words for it, which stay. near: words beside it, which stay, and of which one may be drawn in its place.
    group: what a word list has under this word, which stays. kinds: what the vocabulary has, which nothing holds.
    """

    concept: str
    kind: str
    what: str
    forms: tuple[str, ...]
    synonyms: tuple[str, ...]
    near: tuple[str, ...]
    group: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """For the artist, one after the other."""
        as_what = f" ({self.what})" if self.what else ""
        out = [f"'{self.concept}' is read as {'a style' if self.kind == 'style' else 'a thing'}{as_what}."]
        if self.forms:
            out.append(f"With it {'goes' if len(self.forms) == 1 else 'go'} {quoted(self.forms)}.")
        if self.synonyms:
            out.append(f"Other words for it stay: {quoted(self.synonyms)}. Name them too if they are to go.")
        out += self.about_group
        if self.kinds:
            out.append(f"Its kinds may go with it, as {quoted(self.kinds)}. Write under 'Keep' those that are to stay.")
        if self.near:
            out.append(f"Near it, to stay, and perhaps to be drawn instead: {', '.join(self.near)}.")
        return tuple(out)

    @property
    def about_group(self) -> tuple[str, ...]:
        """What stays of a group, also where the checkpoint's own list leaves nothing else to tell."""
        some = ", ".join(f"'{word}'" for word in self.group)
        name = f"'{self.concept}'"
        return (f"{name} is a group: {some} and others stay. Name them too if they are to go.",) if some else ()


def understood(
    concept: str,
    kind: str,
    words: WordList,
    vocabulary: Vocabulary | None,
    moving: Sequence[str] = (),
) -> Understood:
    """Read one concept of a known kind.

    words: the checkpoint's own list, or the general one. vocabulary: None where the checkpoint brings a list. moving:
    what has gone or goes as well. Of near words the most common ones come first.
    """
    style = kind == "style"
    term = vocabulary.find(concept) if vocabulary else None
    if term is not None and term.is_style != style:
        # "ink style" has nothing of what is known of ink
        term = None
    own = words.styles if style else words.members(words.category(concept))
    group = () if style else words.members(concept)
    kinds, more = in_vocabulary(term, words, vocabulary) if vocabulary and term else ((), ())
    narrower = vocabulary.same_again(own, [concept]) if vocabulary and term else ()
    synonyms = vocabulary.synonyms(concept) if vocabulary and term else ()
    others = dict.fromkeys(chain(own, more) if concept in own else chain(more, own))
    gone = (concept, *moving)
    out = {*synonyms, *group, *narrower}
    free = tuple(islice((o for o in others if o not in out and not any(belongs_to(o, m) for m in gone)), SHOWN))
    forms = () if style else forms_of(concept, vocabulary)
    shown = (synonyms[:SHOWN], free, group[:FEW], () if group else kinds[:FEW])
    return Understood(concept, kind, what_of(term), forms, *shown)


def in_vocabulary(term: Term, words: WordList, vocabulary: Vocabulary) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what is a kind of a term and held by no list, what is beside it), the most common first."""
    narrower = vocabulary.kinds_of([term.text])
    held = {*words.all_objects, *vocabulary.synonyms(term.text)}
    found = [t.text for t in vocabulary.terms if t.category in narrower and not is_form(t.text, term.text)]
    kinds = tuple(text for text in found if text not in held)
    if term.category in narrower:
        return kinds, ()
    if term.category in BROAD:
        return kinds, words.members(term.kind)
    return kinds, tuple(t.text for t in vocabulary.category(term.text) if t.is_style == term.is_style)


def about_kept(keep: Sequence[str], words: WordList, vocabulary: Vocabulary | None) -> str:
    """A sentence for the artist about words under Keep that no list names, or "".

    A word that the model does not know keeps nothing. words: the checkpoint's own list, or the general one.
    vocabulary: None where the checkpoint brings a list, which names all that it draws.
    """
    unknown = unnamed(keep, words, vocabulary)
    if not unknown:
        return ""
    named, one = quoted(unknown), len(unknown) == 1
    whose = "No word list names" if vocabulary else "This model's word list does not name"
    return (
        f"{whose} {named}, written under 'Keep': check the spelling. "
        f"{'A word' if one else 'Words'} that the model does not know {'keeps' if one else 'keep'} nothing."
    )


def shared_with(keep: Sequence[str], concepts: Sequence[str]) -> str:
    """A sentence about words under Keep that hold a word of what is to go, or "": no prompt of theirs can be held."""
    found = [word for word in keep if any(share_a_word(word, concept) for concept in concepts)]
    if not found:
        return ""
    has, it = ("has", "it") if len(found) == 1 else ("have", "they")
    return (
        f"{quoted(found)}, written under 'Keep', {has} a word of what is to go, so {it} may change with it: look at "
        "the pictures."
    )


def unnamed(keep: Sequence[str], words: WordList, vocabulary: Vocabulary | None) -> list[str]:
    """The words under Keep that no list names; see `about_kept`."""
    return [word for word in keep if not named_in(style_words(word), words, vocabulary)]


def named_in(text: str, words: WordList, vocabulary: Vocabulary | None) -> bool:
    """Whether a list names a text, or a word of it: "a red apple" keeps an apple."""
    if listed(text, [words]) or mentioned(text, [words]):
        return True
    return vocabulary is not None and any(vocabulary.find(part) for part in (text, *text.split()))


def what_of(term: Term | None) -> str:
    """A term's kind and category, as far as they say something."""
    if term is None:
        return ""
    said = dict.fromkeys([term.kind, term.category])
    return ", ".join(word for word in said if word not in ("thing", "style", "person", term.text))


def forms_of(concept: str, vocabulary: Vocabulary | None) -> tuple[str, ...]:
    """The plural of a thing that the vocabulary knows; () for names, styles, and what has no other number."""
    term = vocabulary.find(concept) if vocabulary else None
    if term is None or term.kind not in COUNTED or not term.text.islower():
        return ()
    several = plural(concept)
    return () if several == concept else (several,)


def quoted(words: Sequence[str]) -> str:
    """'auto' and 'automobile'."""
    named = [f"'{w}'" for w in words]
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
