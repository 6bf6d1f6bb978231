"""Whether the model knows a word: it tells a known one from random letters, in what it predicts from mere noise.

Nothing is drawn: some passes over noise for each word. Known words cost none of them (see `spelled_out`).
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from ..errors import BadSetting
from ..host import HostModel
from ..sampling import Probe, probe_levels
from ..words.compare import same_thing
from ..words.prompts import fill, style_words
from ..words.wish import listed
from ..words.word_list import WordList
from .run import Run

PROMPTS = 4
"""Prompts in which a word is compared, each from noise of its own; the one with the smallest difference counts."""
NONSENSE = 6
"""Words of random letters that it is compared with."""
LEVELS = (5, 7)
"""Noise levels of `probe_levels(host, 8)` at which they are compared: what a picture shows is settled high up."""
TOLD_APART = 1.3
"""How many times as far from nonsense as nonsense is from itself a known word lies at least."""
SAME_TOKEN = 1e-4
"""Part of a token vector's mean square up to which two of them are the same token."""
WORD_SIGNS = 0x2E80
"""From here on scripts have a sign for a syllable or a word."""
LIKE = 0.75
"""Likeness of two spellings (`difflib`) from which one is taken for a slip of the other."""
FEW = 60
"""Words of a checkpoint's own list up to which all of them are told."""
LETTERS = "bcdfghjklmnpqrstvwxyzaeiou"


def ask_about_unknown_words(run: Run) -> None:
    """Raise `BadSetting` for what is to go, or to be drawn instead, and means nothing to the base model.

    What the checkpoint's own list names is known, and nobody is asked who wants to go on regardless.
    """
    request, config = run.request, run.request.config
    if config.force:
        return
    found: list[str] = []
    with run.teacher():
        for name in filter(None, (request.concept, *config.going, config.anchor)):
            if listed(name, [request.words]):
                continue
            kind = request.words.kind(name)
            word = style_words(name) if kind == "style" else name
            found += unknown_words(run.host, [word], kind, request.words, run.job.pulse)
    if found:
        names = " and ".join(f"'{name}'" for name in found)
        raise BadSetting(
            f"This model does not know {names}: what it draws for {'it' if len(found) == 1 else 'them'} is "
            "no different from random letters. "
            f"{what_it_knows(run, found)} To start all the same, choose 'Go on regardless'."
        )


def what_it_knows(run: Run, unknown: Sequence[str]) -> str:
    """Words that are spelled nearly like the unknown ones, and all of a checkpoint that brings a list of its own."""
    words = run.request.words
    known = (*words.all_objects, *words.styles)
    own = bool(run.host.words_file) and len(known) <= FEW
    return f"{meant(unknown, known)} Its own list names {', '.join(known)}." if own else meant(unknown, known)


def meant(unknown: Sequence[str], known: Sequence[str]) -> str:
    """A question after known words that are spelled nearly like the unknown ones."""
    alike = [near for name in unknown for near in get_close_matches(name.casefold(), known, n=1, cutoff=LIKE)]
    # of "black cat" the cat
    alike = alike or [k for name in unknown for k in known if any(same_thing(k, word) for word in name.split())]
    return f"Did you mean {' and '.join(map(repr, dict.fromkeys(alike)))}?" if alike else "Check the spelling."


def unknown_words(
    host: HostModel, names: Sequence[str], kind: str, words: WordList, tick: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    """Those of some concepts that the model does not know: spelled out by the text encoder, and no more than nonsense.

    Costs passes only where something is spelled out. kind: "object" or "style". words: gives the prompts.
    Call it where the host's model is the one that is asked, as in `Run.teacher`.
    """
    found = []
    for name in names:
        parts = [word for word in name.split() if spelled_out(host, word)]
        if parts and difference(host, name, parts, templates(words, kind), tick) < TOLD_APART:
            found.append(name)
    return tuple(found)


def told_apart(
    host: HostModel, names: Sequence[str], kind: str, words: WordList, tick: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """How far what the model predicts for each concept lies from nonsense, with nonsense's own spread as the unit.

    Below `TOLD_APART` the model does not know the word, or it means many things, as a category does. All names are
    compared with the same nonsense, whatever the text encoder makes of them: `PROMPTS` * 2 rows a name, and as many
    for each of `NONSENSE` words.
    """
    rows = templates(words, kind)
    probe = probe_of(host, len(rows))
    random_words = [nonsense(random.Random(f"nonsense/{i}"), "x" * 6) for i in range(NONSENSE)]
    reference = [predicted(host, probe, rows, word, tick) for word in random_words]
    return {name: ratio(predicted(host, probe, rows, name, tick), reference) for name in names}


def difference(
    host: HostModel, name: str, parts: Sequence[str], rows: Sequence[str], tick: Callable[[], None] = lambda: None
) -> float:
    """`told_apart` of one concept, against itself with random letters for some of its words."""
    probe = probe_of(host, len(rows))
    reference = []
    for i in range(NONSENSE):
        rng = random.Random(f"{name}/{i}")
        other = " ".join(nonsense(rng, word) if word in parts else word for word in name.split())
        reference.append(predicted(host, probe, rows, other, tick))
    return ratio(predicted(host, probe, rows, name, tick), reference)


def spelled_out(host: HostModel, word: str) -> bool:
    """Whether the text encoder has no entry of its own for a word, and reads it in pieces.

    Emoji and other scripts count as spelled out, whose entries are rare. An encoder reads from left to right, so what
    follows a word does not change the word's own token vectors: those that "word" and "word word" have in common.
    """
    foreign = [c for c in word if not c.isascii() and not unicodedata.name(c, "").startswith("LATIN")]
    if any(unicodedata.category(c)[0] in "LNS" for c in foreign):
        return True
    return any(pieces(host, part) > 1 for part in re.findall(r"[^\W\d_]{2,}", word))


def pieces(host: HostModel, word: str) -> int:
    """Number of token vectors that the text encoder makes of one word, the start token left out."""
    once, twice = host.encode([word, f"{word} {word}"]).tokens.float()
    gap, size = (once - twice).pow(2).mean(1), once.pow(2).mean(1)
    same = (gap <= SAME_TOKEN * size).long()
    return int(same.cumprod(0).sum()) - 1


def templates(words: WordList, kind: str) -> list[str]:
    """`PROMPTS` templates with one slot, "{o}"."""
    own = [t.replace("s}", "o}") for t in words.style_templates] if kind == "style" else list(words.object_templates)
    return (own * PROMPTS)[:PROMPTS]


def probe_of(host: HostModel, rows: int) -> Probe:
    """Mere noise at high noise levels, one row of it for each prompt."""
    levels = probe_levels(host, 8)[torch.tensor(LEVELS, device=host.sigmas.device)]
    return Probe.make(host, torch.zeros(rows, *host.latent_shape, device=host.device), levels, seed=1)


def predicted(host: HostModel, probe: Probe, rows: Sequence[str], word: str, tick: Callable[[], None]) -> Tensor:
    """What the model predicts for a word in each prompt, `[prompts, levels, values]`."""
    encoded = host.encode([fill(template, word, "") for template in rows])
    tick()
    return probe.directions(host, encoded).float().view(len(rows), probe.levels, -1)


def ratio(own: Tensor, reference: Sequence[Tensor]) -> float:
    """Mean distance to the nonsense words over theirs to each other, of the prompt in which it is smallest."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).pow(2).mean(-1)

    pairs = [distance(a, b) for i, a in enumerate(reference) for b in reference[:i]]
    spread = torch.stack(pairs).mean(0).clamp(min=torch.finfo(torch.float32).tiny)
    away = torch.stack([distance(own, other) for other in reference]).mean(0)
    return float((away / spread).mean(1).amin())


def nonsense(rng: random.Random, like: str) -> str:
    """As many random letters as a word has, within reason, of its own alphabet: scripts differ in their bytes."""
    most = (like * 4)[: min(10, max(4, len(like)))]
    return "".join(rng.choice(alphabet(c)) for c in most)


def alphabet(letter: str) -> str:
    """Letters of a kind with this one; Latin ones for signs that are words of their own, as emoji are."""
    if letter.isascii() or not letter.isalpha() or ord(letter) >= WORD_SIGNS:
        return LETTERS
    first = ord(letter) & ~0x1F
    return "".join(c for c in map(chr, range(first, first + 0x20)) if c.isalpha() and c.casefold() == c) or letter
