"""What the model itself says about a target: which concepts are its neighbours and what may stand in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ForgetConfig
from ..errors import UnlearnError
from ..evaluate.diffusion_classifier import read_as
from ..host import Conditioning, HostModel
from ..sampling import Probe, probe_levels, sample
from ..words.prompts import REMOVED, Scene, fill, mapped
from ..words.wish import same_thing, share_a_word
from ..words.word_list import WordList
from .score_distance import score_distances, text_distances

SIEVE = 20
"""Rivals that are measured under the teacher; more are first sieved by their text alone."""
LEVELS = 8
"""Noise levels at which two prompts are compared."""
GATE, GATE_PICTURES, GATE_STEPS, GLANCE = 0.1, 16, 8, 8
"""Largest share of a candidate's pictures that may still read as the target; how many are drawn, in how many steps,

and how many of them are read first: most candidates that fail do so there.

A category word or no word at all stands for many things, the target among them: for it twice as many pictures are
drawn, and none may read as the target.
"""


@dataclass(frozen=True)
class Choice:
    """anchor: what is drawn instead (`REMOVED`: nothing). why: in words. neighbours: nearest first.

    profile: distance between target and anchor at the probe levels, `[LEVELS]`; None where nothing was drawn.
    refused: {candidate: share of its pictures that read as the target}.
    """

    anchor: str
    why: str
    neighbours: tuple[str, ...]
    profile: Tensor | None
    refused: dict[str, float]


def choose(
    host: HostModel,
    config: ForgetConfig,
    concept: str,
    kind: str,
    words: WordList,
    scenes: Sequence[Scene],
    latents: Tensor,
    empty: Conditioning,
    forgotten: Sequence[str],
    taken: Sequence[str] = (),
    tick: Callable[[], None] = lambda: None,
    pulse: Callable[[], None] = lambda: None,
) -> Choice:
    """Rank rivals by score distance and take the nearest anchor that passes the gate.

    scenes: forget scenes, one per row of `latents` (the teacher's own, `[m, c, h, w]`). forgotten: earlier targets.
    taken: what already stands in for one of them; it comes late, since what many words lead to draws others along.
    The concept's category and leaving it out come last.
    Raises `UnlearnError` when no candidate passes.
    """
    probe = Probe.make(host, latents, probe_levels(host, LEVELS), config.seed)
    reference = host.encode([s.prompt for s in scenes])
    rivals = sieve(host, words, concept, kind, forgotten)
    category = words.category(concept) if kind == "object" else ""
    extra = [w for w in (config.anchor, category) if w and w not in rivals]
    names = [*rivals, *extra, *([] if kind == "style" else [REMOVED])]
    encoded = [host.encode([mapped(s, n, kind, words).prompt for s in scenes]) for n in names]
    profiles = score_distances(host, probe, reference, encoded, tick)
    profile = dict(zip(names, profiles, strict=True))
    nearest = sorted(names, key=lambda n: float(profile[n].mean()))
    neighbours = tuple(n for n in nearest if n in rivals)
    if config.anchor:
        return Choice(config.anchor, "given by the artist", neighbours, profile[config.anchor], {})
    gated = (list(scenes) * GATE_PICTURES)[:GATE_PICTURES]
    refused: dict[str, float] = {}
    candidates = possible([n for n in nearest if n != REMOVED], concept, words, forgotten, taken)
    # a category draws any of its members, which may be asked to go next, and leaving the word out anything at all
    last = [*(n for n in candidates if n == category), *(n for n in nearest if n == REMOVED)]
    for name in [*[n for n in candidates if n != category][:9], *last]:
        general = name in last
        rows, allowed = gated * (2 if general else 1), 0 if general else GATE
        share = share_read_as_target(host, config, kind, words, rows, name, empty, allowed, pulse)
        tick()
        if share <= allowed:
            distance = float(profile[name].mean())
            why = f"nearest to '{concept}' under the model (distance {distance:.4f})"
            if refused:
                why += "; nearer ones still draw it: " + ", ".join(shown(n) for n in refused)
            return Choice(name, why, neighbours, profile[name], refused)
        refused[name] = share
    raise UnlearnError(
        f"Nothing near '{concept}' could take its place without drawing it; name one under 'Draw instead' (--anchor)."
    )


def choose_unseen(
    host: HostModel,
    config: ForgetConfig,
    concept: str,
    kind: str,
    words: WordList,
    forgotten: Sequence[str],
    taken: Sequence[str],
) -> Choice:
    """The choice by words alone: the rival whose text lies nearest. Arguments and errors as of `choose`."""
    rivals = words.without(forgotten).rivals(concept, kind)
    nearest = by_text(host, words, concept, kind, rivals)[:SIEVE] if rivals else ()
    if config.anchor:
        return Choice(config.anchor, "given by the artist", nearest, None, {})
    candidates = possible(nearest, concept, words, forgotten, taken)
    if not candidates:
        raise UnlearnError(f"The word list has nothing to take the place of '{concept}'; name it under 'Draw instead'.")
    return Choice(candidates[0], f"nearest to '{concept}' by its words, nothing drawn", nearest, None, {})


def possible(
    nearest: Sequence[str], concept: str, words: WordList, forgotten: Sequence[str], taken: Sequence[str]
) -> list[str]:
    """What may stand in the concept's place, in the same order but for what already stands in for another.

    Nothing that shares a word with the concept, since the word is to lead away from it.
    """
    # a category word still means the members that have gone, and the base model, which teaches, would draw them;
    # and whatever belongs to a category is still a picture of it
    no_longer = [*forgotten, *filter(None, map(words.category, forgotten))]
    no_longer += [m for c in (concept, *forgotten) for m in words.members(c)]
    banned, used = ({w.casefold() for w in group} for group in (no_longer, taken))
    banned |= {n.casefold() for n in nearest if share_a_word(n, concept) or any(same_thing(n, f) for f in forgotten)}
    return sorted((n for n in nearest if n.casefold() not in banned), key=lambda n: n.casefold() in used)


def sieve(host: HostModel, words: WordList, concept: str, kind: str, forgotten: Sequence[str]) -> tuple[str, ...]:
    """At most `SIEVE` rivals, those whose text lies nearest, earlier targets left out."""
    rivals = words.without(forgotten).rivals(concept, kind)
    return rivals if len(rivals) <= SIEVE else by_text(host, words, concept, kind, rivals)[:SIEVE]


def by_text(host: HostModel, words: WordList, concept: str, kind: str, rivals: Sequence[str]) -> tuple[str, ...]:
    """The rivals, those first whose text lies nearest to the concept's."""
    template = (words.style_templates if kind == "style" else words.object_templates)[0]
    encoded = host.encode([fill(template, w, w) for w in (concept, *rivals)])
    order = text_distances(encoded[:1], encoded[1:]).argsort().tolist()
    return tuple(rivals[i] for i in order)


def share_read_as_target(
    host: HostModel,
    config: ForgetConfig,
    kind: str,
    words: WordList,
    scenes: Sequence[Scene],
    name: str,
    empty: Conditioning,
    allowed: float,
    pulse: Callable[[], None],
) -> float:
    """The gate: share of the candidate's own pictures that the model reads as the target, 0..1.

    Of the first `GLANCE` alone where these are more than `allowed` of all.
    """
    targets = host.encode([s.prompt for s in scenes])
    candidates = host.encode([mapped(s, name, kind, words).prompt for s in scenes])
    pictures = []
    for rows in (range(GLANCE), range(GLANCE, len(scenes))):
        seed, asked = config.seed + 3, candidates[list(rows)]
        drawn = sample(host, asked, seed, GATE_STEPS, config.guidance, empty, tick=pulse, first=rows.start)
        pictures.append(drawn)
        readings = [c[list(range(rows.stop))] for c in (targets, candidates)]
        with torch.no_grad():
            read = read_as(host, torch.cat(pictures), readings, config.seed, pulse) == 0
        if read.sum() > allowed * len(scenes):
            break
    return float(read.float().mean())


def shown(name: str) -> str:
    """A candidate's name for a sentence."""
    return name or "leaving it out"
