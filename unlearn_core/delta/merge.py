"""Several deltas as one: exactly, or nearly with a smaller rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ..errors import BadDelta, BadSetting
from .base_sample import Base, BaseSample
from .format import Delta, Factor, plain
from .info import MAX_CONCEPT, MAX_ROWS, DeltaInfo, Parent
from .stack import JOINT, Stack


def combine_cat(stack: Stack) -> Delta:
    """One delta that does exactly what the stack does: factors side by side, so ranks add up to the layer's own.

    Strengths and scales are folded into `up`; alpha is the rank. Raises `BadDelta` when there is nothing to combine
    or the deltas are for different bases.
    """
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for entry in stack.active:
        for name, f in entry.delta.factors.items():
            up = plain(f.up, torch.float32) * (entry.strength * f.scale)
            parts.setdefault(name, []).append((plain(f.down, torch.float32), up))
    info = merged_info(stack, {"merge": "cat"})
    factors = {}
    for name, pairs in parts.items():
        if len({(up.shape[0], down.shape[1]) for down, up in pairs}) > 1:
            raise BadDelta(f"The deltas change the layer {name} in different sizes: they cannot be combined.")
        down, up = torch.cat([d for d, _ in pairs]), torch.cat([u for _, u in pairs], 1)
        factors[name] = Factor.within_layer(down, up, len(down))
    return Delta(factors, info)


def combine_svd(stack: Stack, rank: int) -> tuple[Delta, float]:
    """The nearest delta of at most `rank` a layer, and its relative error ||sum - kept|| / ||sum|| (Frobenius).

    The singular values are those of a small matrix between the orthogonal parts of the thin factors, so a layer's
    full matrix is never formed. Raises `BadSetting` for a rank below 1, `BadDelta` as `combine_cat` or when the
    deltas cancel out.
    """
    if rank < 1:
        raise BadSetting(f"The rank {rank} is too small: use 1 or more.")
    whole = combine_cat(stack)
    whole.check_effect()
    factors, lost, total = {}, 0.0, 0.0
    for name, f in whole.factors.items():
        q_up, r_up = torch.linalg.qr(f.up.double())
        q_down, r_down = torch.linalg.qr(f.down.double().T)
        u, s, vh = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
        root = s[:rank].sqrt()
        down, up = root[:, None] * (vh[:rank] @ q_down.T), (q_up @ u[:, :rank]) * root
        factors[name] = Factor(down.float(), up.float(), len(down))
        lost, total = lost + s[rank:].square().sum().item(), total + s.square().sum().item()
    return Delta(factors, merged_info(stack, {"merge": "svd", "rank": rank})), math.sqrt(lost / total)


def merged_info(stack: Stack, config: dict[str, Any]) -> DeltaInfo:
    """What a merge says about itself: all that is inside, and what that was made on top of. Raises `BadDelta`."""
    check_one_base(stack)
    infos, inside = [e.delta.info for e in stack.active], parts_of(stack)
    prompts = Stack(stack.active).prompts()
    hashes = {p.sha256 for p in inside} | {sha for e in stack.active for sha in e.contents()}
    parents = tuple({p.sha256: p for i in infos for p in i.parents if p.sha256 not in hashes}.values())
    room = MAX_ROWS - len(inside) - len(parents)
    if room < 0:
        raise BadDelta(f"The deltas name more than {MAX_ROWS} others in all, so no file can hold them: merge fewer.")
    return DeltaInfo(
        concept=merged_concept(stack),
        kind="style" if all(i.kind == "style" for i in infos) else "object",
        anchor=joined([i.anchor for i in infos if i.anchor]),
        architecture=infos[0].architecture,
        prediction_type=infos[0].prediction_type,
        base_fingerprint=infos[0].base_fingerprint,
        parents=parents,
        config=config,
        prompts=thinned(prompts, room),
        steps=sum(i.steps for i in infos),
        stopped=joined([f"{i.concept}: {i.stopped}" for i in infos if i.stopped]),
        merged=tuple(inside),
        base_name=told_of(infos, "base_name"),
        base_sample=told_of(infos, "base_sample"),
        near=tuple(dict.fromkeys(term for i in infos for term in i.near))[:MAX_ROWS],
    )


def merged_concept(stack: Stack) -> str:
    """What a merge of the stack is called in its file."""
    return joined([p.concept for p in parts_of(stack)])


def thinned(prompts: tuple[tuple[str, str], ...], room: int) -> tuple[tuple[str, str], ...]:
    """As many as a file has room for: of many deltas every second or third prompt says as much."""
    return prompts[:: -(-len(prompts) // room)] if len(prompts) > room > 0 else prompts[:room]


def check_one_base(stack: Stack) -> None:
    """Raise `BadDelta` when nothing is active or the active deltas were made for different bases."""
    if not stack.active:
        raise BadDelta("There is nothing to merge: give at least one delta of a strength other than 0.")
    deltas = [e.delta for e in stack.active]
    samples = {d.info.base_fingerprint: d.info.base_sample for d in deltas if d.info.base_sample}
    bases = {d.info.base_fingerprint: d for d in deltas}
    known = {f: Base(f, BaseSample.read(samples[f]) if f in samples else None) for f in bases}
    pairs = [(deltas[0], d, name) for d in deltas for name in ("architecture", "prediction_type")]
    pairs += [(bases[a], bases[b], "base_fingerprint") for a, b in combinations(bases, 2)]
    for one, other, name in pairs:
        mine, its = getattr(one.info, name), getattr(other.info, name)
        if mine == its or (name == "base_fingerprint" and known[mine].made(its, samples.get(its, ""))):
            continue
        raise BadDelta(
            f"'{one.label}' was made for the base {mine} and '{other.label}' for {its}: only deltas for one base can "
            "be combined."
        )


def told_of(infos: Sequence[DeltaInfo], name: str) -> str:
    """What the deltas say of the first one's base, "" where none of them says it."""
    first = infos[0].base_fingerprint
    return next((text for i in infos if i.base_fingerprint == first and (text := getattr(i, name))), "")


def parts_of(stack: Stack) -> list[Parent]:
    """All single deltas in the active entries, those inside merges with their own strengths multiplied in."""
    inside: list[Parent] = []
    for entry, whole in zip(stack.active, Stack(stack.active).parents(), strict=True):
        merged = entry.delta.info.merged
        inside += [Parent(p.name, p.sha256, entry.strength * p.strength, p.concept) for p in merged] or [whole]
    return inside


def joined(words: list[str]) -> str:
    """Words as one line that is short enough for a file's metadata."""
    line = JOINT.join(words)
    return line if len(line) <= MAX_CONCEPT else line[: MAX_CONCEPT - 1] + "…"
