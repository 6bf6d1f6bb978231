"""The edit that forgets at once: layers that read text answer to the target's words as they do to its anchor's.

With W the base model's matrix, D what the stack has added to it and Q the new change, over tokens t of the target,
e of earlier targets and k of everything that stays, m(.) being what is generated instead:

    E||(D + Q) t - (1 + o) W (m(t) - t)||^2 + f/3 E||(D + Q) e - (1 + o) W (m(e) - e)||^2
      + f E||(D + Q) k||^2 + l ||Q||^2  ->  min

The algebra of UCE (Gandikota et al. 2023, arXiv 2308.14761, eq. 7), asked for the whole stack each time, so that what
earlier deltas have left undone or harmed is mended and does not add up. Without a bound on its rank the answer is

    Q = (W C - D S) (S + l I)^-1,   C = (1 + o) (E[(m(t) - t) t^T] + f/3 E[(m(e) - e) e^T]),
    S = E[t t^T] + f/3 E[e e^T] + f E[k k^T]

with more than ten earlier targets for f/3 so much more that none of them weighs less than one of ten does, with a
least f for them where a vocabulary is preserved, and with more than 25 a larger f for what stays, and an overshoot for
them that grows with it,

and the best one of rank r is its truncated singular value decomposition in the metric S + l I (Eckart and Young). The
preserve scale f is the largest of a few at which the check no longer finds the target. The overshoot o leads past the
anchor, where a finite f would stop short of it; earlier targets have one of their own.
All constants are in `recipe`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..device_memory import is_out_of_memory, release
from ..evaluate.evaluator import Evaluator, NoCheck
from ..recipe import Recipe
from ..words.prompts import spread
from .counterparts import counterparts
from .fit import Fit
from .prompt_pairs import Pair, PromptPairs
from .run import Run
from .text_reader import TextReader, Tokens
from .token_moments import PROMPTS_AT_ONCE, pieces, works_in_float64

CPU = torch.device("cpu")
Tried = tuple[float, ...]
"""How firmly a closed form is solved, see `equations` of each."""


class ClosedForm(ABC):
    """What a request asks of layers that read text, as equations whose answer of low rank is known."""

    @abstractmethod
    def equations(self, tried: Tried) -> tuple[Tensor, Tensor, float]:
        """(C, S, l) of Q = (W C - D S)(S + l I)^-1, float64 `[d, d]`. tried: how firmly, see each form."""

    def factors(
        self,
        weights: Mapping[str, Tensor],
        added: Mapping[str, Tensor],
        rank: int,
        tried: Tried,
        place: torch.device = CPU,
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(path, A `[rank, d]` with rows of length 1, B `[out, rank]`) for matrices `[out, d]`, stack included.

        added: what of them the stack has added. place: where it is worked out, a device that knows float64. The answers
        are on the CPU.
        """
        cross, gram, ridge = self.equations(tried)
        cross, gram = cross.to(place), gram.to(place)
        values, ways = torch.linalg.eigh(gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=place))
        root = ways @ torch.diag(values.rsqrt()) @ ways.T
        new, old = cross @ root, (cross + gram) @ root
        for path, matrix in weights.items():
            wanted = matrix.to(place).double() @ new
            if path in added:
                wanted -= added[path].to(place).double() @ old
            out, sizes, rows = truncated(wanted, rank)
            down = rows @ root
            lengths = down.norm(dim=1)
            yield path, (down / lengths[:, None]).float().cpu(), (out * sizes * lengths).float().cpu()


@dataclass(frozen=True)
class Edit(ClosedForm):
    """Second moments of a request, float64 `[d, d]`.

    target, erased: (E[(m(c) - c) c^T], E[c c^T]) of their tokens c, for erased ones with their overshoot; preserved:
    E[k k^T]. earlier: number of the erased targets.
    """

    target: tuple[Tensor, Tensor]
    erased: tuple[Tensor, Tensor] | None
    preserved: Tensor
    recipe: Recipe
    earlier: int = 0

    @classmethod
    def make(cls, run: Run, reader: TextReader, pairs: PromptPairs) -> Edit | None:
        """From the prompts of the target, of earlier targets and of what is preserved, as a group of layers reads them.

        None where tokens have no counterparts (see `counterparts`).
        """
        request, pulse = run.request, run.job.pulse
        kinds = request.stack.kinds()
        known = spread(pairs.erased, request.recipe.earlier_prompts, request.config.seed)
        preserved = run.preserved(reader)
        target = moments(reader, pairs.forget, [0.0] * len(pairs.forget), pulse)
        erased = None
        if known:
            erased = moments(reader, known, [request.recipes[kinds[p]].earlier_overshoot for p, _ in known], pulse)
        if target is None or (known and erased is None):
            return None
        return cls(target, erased, preserved.value, request.recipe, len(request.stack.concepts()))

    def equations(self, tried: Tried) -> tuple[Tensor, Tensor, float]:
        """C and S of the formula above, and l. tried: (preserve scale, overshoot)."""
        preserve_scale, overshoot = tried
        recipe, (cross, gram) = self.recipe, self.target
        ridge = recipe.ridge * float(gram.diagonal().mean())
        more = max(1.0, self.earlier / recipe.many_from) ** recipe.many_held
        cross, gram = (1 + overshoot) * cross, gram + more * preserve_scale * self.preserved
        if self.erased:
            many = max(1.0, self.earlier / recipe.earlier_shared)
            weight = recipe.earlier_weight * max(preserve_scale, recipe.earlier_scale) * many
            past = 1 + recipe.many_overshoot * (more - 1)
            cross, gram = cross + weight * past * self.erased[0], gram + weight * self.erased[1]
        return cross, gram, ridge


def fits_in_closed_form(
    run: Run, pairs: PromptPairs, evaluator: Evaluator | NoCheck, confirm: Callable[[], None] = lambda: None
) -> Iterator[Fit]:
    """Edits after which the target is no longer found, first the one that preserves most; each is on the layers.

    First asked as strictly as in training; of the last edit it is then enough that the verdict says "forgotten".
    confirm: called where the first was not enough, since the anchor may be to blame.
    None where the closed form is switched off, where no layer reads text alone, or where the target is still there:
    the last edit is on the layers at the end.
    """
    request, config, recipe = run.request, run.request.config, run.request.recipe
    if not (config.closed_form and run.readers):
        return
    words, tries = f"forgetting '{request.concept}'", len(recipe.tries)
    run.job.start("editing", tries if config.check else 1, words)
    parts = [(Edit.make(run, reader, pairs), reader.paths) for reader in run.readers]
    edits = [(edit, run.edits.weights(paths)) for edit, paths in parts if edit is not None]
    if len(edits) < len(parts):
        return
    run.tidy()
    first = recipe.overshoot if config.overshoot < 0 else config.overshoot
    offered = False
    for number, (scale, more) in enumerate(recipe.tries):
        if number:
            confirm()
        made = {p: f for edit, weights in edits for p, f in solved(run, edit, weights, (scale, first + more)).items()}
        run.edits.set(made)
        offered = not evaluator.still_generated(number, False)
        if offered:
            yield Fit(made, scale)
            # the last look has found it all the same
            run.job.start("editing", max(1, tries - number - 1), words)
        else:
            run.job.tick()
    # near misses counted so far; the verdict's own question decides
    if not offered and not evaluator.still_generated(tries, True):
        yield Fit(made, recipe.tries[-1][0])


def solved(run: Run, edit: Edit, weights: Mapping[str, Tensor], tried: Tried) -> dict[str, tuple[Tensor, Tensor]]:
    """{path: (A, B)} of the edit. tried: (preserve scale, overshoot)."""
    rank, sides = run.request.rank, ("down", "up")

    def factors(place: torch.device) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for path, *pair in edit.factors(weights, run.base.changes, rank, tried, place):
            made |= {f"{path}.{side}": t for side, t in zip(sides, pair, strict=True)}
            run.job.pulse()
        return made

    def where_it_fits() -> dict[str, Tensor]:
        if works_in_float64(device := run.host.device):
            try:
                return factors(device)
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
            release(device)
        return factors(CPU)

    found = run.saved.part("edit", (tried, tuple(weights)), where_it_fits)
    return {path: (found[f"{path}.down"], found[f"{path}.up"]) for path in weights}


def truncated(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values `[rank]` between their vectors `[out, rank]` and `[rank, d]`, always the same."""
    with seeded(matrix.device):
        out, sizes, rows = torch.svd_lowrank(matrix, min(rank + 8, *matrix.shape), niter=8)
    return out[:, :rank], sizes[:rank], rows[:, :rank].T


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """The same noise on a device in each block, and the host's own as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        else:
            torch.default_generator.manual_seed(0)
        yield


def moments(
    reader: TextReader, pairs: Sequence[Pair], overshoot: Sequence[float], pulse: Callable[[], None] = lambda: None
) -> tuple[Tensor, Tensor] | None:
    """((1 + o) E[(m(c) - c) c^T], E[c c^T]) over the tokens c of prompts and of what they are mapped onto, `[d, d]`.

    overshoot: o of each pair. float64, on the CPU.
    """
    sums, count = [torch.zeros(()), torch.zeros(())], 0
    for i in range(0, len(pairs), PROMPTS_AT_ONCE):
        found = changes(reader, pairs[i : i + PROMPTS_AT_ONCE])
        if found is None:
            return None
        past = torch.tensor(overshoot[i : i + PROMPTS_AT_ONCE], device=found[0].values.device)
        for flat, change in pieces(found[0].values, found[1] * (1 + past)[:, None, None]):
            sums = [sums[0] + change.T @ flat, sums[1] + flat.T @ flat]
        count += sum(found[0].counts)
        pulse()
    return sums[0].cpu() / count, sums[1].cpu() / count


def changes(reader: TextReader, pairs: Sequence[Pair]) -> tuple[Tokens, Tensor] | None:
    """The tokens c of some prompts, and m(c) - c `[pairs, n, d]`; None where they have no counterparts.

    What fills shorter prompts up is zeros, which add nothing to a sum over both.
    """
    ours, theirs = (reader.read(side) for side in zip(*pairs, strict=True))
    places = counterparts(reader, pairs, ours, theirs)
    if places is None:
        return None
    mapped = theirs.values
    mapped = mapped.gather(1, places.to(mapped.device)[..., None].expand(-1, -1, mapped.shape[-1]))
    return ours, mapped - ours.values
