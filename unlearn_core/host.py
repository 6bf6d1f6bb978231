"""What the core asks of a host: a denoiser behind a protocol, and encoded prompts.

The whole core sees a diffusion model only through `HostModel`: a denoiser D(x; sigma, c) that returns
the clean latent (Karras et al. 2022), whatever the family or the program it runs in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from .delta.base_sample import Base, BaseSample
from .delta.info import MAX_CONCEPT
from .delta.stack import Stack, check_fits


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts as a batch of rows.

    tokens: contextual token vectors `[b, n, d]`, the input of cross-attention.
    extras: whatever else the family conditions on, each `[b, ...]` (pooled text, size vector).
    counts: how many of its tokens a row has, `[b]`, the rest being zeros; None: all n, as most text encoders give.
    """

    tokens: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    counts: Tensor | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def __getitem__(self, rows: Sequence[int] | Tensor | slice) -> Conditioning:
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows, device=self.tokens.device)
        counts = None if self.counts is None else self.counts[rows]
        return Conditioning(self.tokens[rows], {k: v[rows] for k, v in self.extras.items()}, counts)

    def by_length(self) -> list[tuple[list[int], Conditioning]]:
        """(numbers of rows, these rows without zeros) for each number of tokens: for networks that know no padding."""
        own = [k for k in self.extras if k.startswith(LENGTH)]
        if self.counts is None and not own:
            return [(list(range(len(self))), self)]
        groups: dict[tuple[int, ...], list[int]] = {}
        lengths = [counted(self).tolist(), *(self.extras[k].tolist() for k in own)]
        for row, key in enumerate(zip(*lengths, strict=True)):
            groups.setdefault(key, []).append(row)
        padded, found = self.tokens.shape[1], []
        for (count, *rest), rows in groups.items():
            part, cuts = self[rows], dict(zip(own, rest, strict=True))
            extras = {}
            for k, v in part.extras.items():
                if k not in cuts:
                    most = cuts.get(LENGTH + k, count if is_by_token(v, padded) else None)
                    extras[k] = v if most is None else v[:, :most]
            found.append((rows, Conditioning(part.tokens[:, :count], extras)))
        return found

    def parts(self) -> tuple[Tensor, ...]:
        """All its tensors, in the order of their names."""
        counts = () if self.counts is None else (self.counts,)
        return (self.tokens, *(self.extras[name] for name in sorted(self.extras)), *counts)

    def to(self, device: torch.device) -> Conditioning:
        """The same rows on a device."""
        counts = None if self.counts is None else self.counts.to(device)
        return Conditioning(self.tokens.to(device), {k: v.to(device) for k, v in self.extras.items()}, counts)

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Stack several batches into one; shorter ones are filled up with zeros."""
        keys, most = sorted({k for p in parts for k in p.extras}), max(p.tokens.shape[1] for p in parts)
        parts = with_lengths([with_all(p, [k for k in keys if not k.startswith(LENGTH)]) for p in parts])
        keys = sorted(parts[0].extras)
        counts = None
        if any(p.counts is not None or p.tokens.shape[1] != most for p in parts):
            counts = torch.cat([counted(p) for p in parts])
            parts = [filled_up(p, most) for p in parts]
        return Conditioning(
            torch.cat([p.tokens for p in parts]), {k: torch.cat([p.extras[k] for p in parts]) for k in keys}, counts
        )


LENGTH = "length of "
"""What stands before the name of an extra that is filled up with zeros: the number of its values in each row."""


def is_by_token(extra: Tensor, tokens: int) -> bool:
    """Whether something beside the tokens has a value for each of them, as a mask has."""
    return extra.dim() > 1 and extra.shape[1] == tokens


def with_all(part: Conditioning, keys: Sequence[str]) -> Conditioning:
    """The same rows with a mask of ones where other rows have one: text encoders give none where nothing is masked."""
    missing = [k for k in keys if k not in part.extras]
    if not missing:
        return part
    ones = torch.ones(part.tokens.shape[:2], dtype=torch.long, device=part.tokens.device)
    return Conditioning(part.tokens, {**part.extras, **dict.fromkeys(missing, ones)}, part.counts)


def with_lengths(parts: Sequence[Conditioning]) -> list[Conditioning]:
    """The same rows where something beside the tokens has a number of values of its own, as a second tokenizer's ids.

    It is filled up with zeros, and how much of it each row has is told by another extra.
    """
    named = [k for k in parts[0].extras if not k.startswith(LENGTH) and parts[0].extras[k].dim() > 1]
    for name in named:
        sizes = [p.extras[name].shape[1] for p in parts]
        by_token = all(is_by_token(p.extras[name], p.tokens.shape[1]) for p in parts)
        told = any(LENGTH + name in p.extras for p in parts)
        if told or not (by_token or len(set(sizes)) == 1):
            parts = [filled(p, name, max(sizes)) for p in parts]
    return list(parts)


def filled(part: Conditioning, name: str, size: int) -> Conditioning:
    """The same rows with one extra filled up to so many values, and with the numbers of those that are its own."""
    extra, key = part.extras[name], LENGTH + name
    own = part.extras.get(key)
    if own is None:
        own = torch.full((len(part),), extra.shape[1], device=extra.device)
        if part.counts is not None and is_by_token(extra, part.tokens.shape[1]):
            own = part.counts
    longer = torch.cat([extra, extra.new_zeros(len(extra), size - extra.shape[1], *extra.shape[2:])], 1)
    return Conditioning(part.tokens, {**part.extras, name: longer, key: own}, part.counts)


def counted(part: Conditioning) -> Tensor:
    """The number of tokens of each row."""
    full = torch.full((len(part),), part.tokens.shape[1], device=part.tokens.device)
    return full if part.counts is None else part.counts


def filled_up(part: Conditioning, tokens: int) -> Conditioning:
    """The same rows with zeros up to so many tokens."""
    own = part.tokens.shape[1]

    def longer(t: Tensor) -> Tensor:
        return torch.cat([t, t.new_zeros(len(t), tokens - own, *t.shape[2:])], 1)

    by_token = {k for k, v in part.extras.items() if is_by_token(v, own) and LENGTH + k not in part.extras}
    extras = {k: longer(v) if k in by_token else v for k, v in part.extras.items()}
    return Conditioning(longer(part.tokens), extras, part.counts)


class HostModel(Protocol):
    """A loaded checkpoint as the core sees it. Latents are in the model's own scale (SD1: times 0.18215)."""

    architecture: str
    """"sd1", "sd2", "sdxl", ... as written into delta files."""
    prediction_type: str
    """"epsilon", "v_prediction" or "flow"."""
    fingerprint: str
    """Same for the same denoiser weights in every host: see `layer_names.fingerprint`."""
    sigmas: Tensor
    """All noise levels the model was trained on, ascending, `[levels]`."""
    latent_shape: tuple[int, ...]
    """Shape (c, h, w), or (c, frames, h, w), of one latent at the resolution that forgetting works at."""
    device: torch.device
    words_file: str | None
    """A word list that lies beside the checkpoint, or None for the general one."""

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, one row each."""
        ...

    def noised(self, latents: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """Latents `[b, c, h, w]` brought to noise levels sigma `[b]`; for VE models `z + sigma * noise`."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """D(x; sigma, c): the clean latent `[b, c, h, w]`, differentiable inside a session."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[b, 3, H, W]` in 0..1, on the CPU, float32."""
        ...

    def layers(self) -> dict[str, str]:
        """Names of all linear layers: {any name a delta file may use: dotted path inside the backbone}.

        Of several names of one path the first is the one that is written.
        """
        ...

    def session(self, stack: Stack) -> AbstractContextManager[nn.Module]:
        """The backbone with the earlier deltas applied, ready for adapters; given back bit for bit at the end.

        `denoise` sees the stack only inside the session.
        """
        ...


class TitledHost(HostModel, Protocol):
    """A host that knows what its checkpoint is called; for others `title_of` gives ""."""

    title: str
    """As a rule the name of the checkpoint's file, without its folder."""


class GuidedHost(HostModel, Protocol):
    """A host that tells how its model is drawn with; for others the setting's own default counts."""

    guidance: float | None
    """1 where a negative prompt does nothing, as guidance is an input of the network; None where that is not known."""


class OffloadingHost(HostModel, Protocol):
    """A host that can take text encoders and autoencoder off the device; one without `offload` cannot."""

    offload: bool
    """Whether they come to the device only for as long as they are used."""

    @property
    def companions(self) -> Sequence[nn.Module]:
        """Text encoders and autoencoder."""
        ...


class PackedHost(HostModel, Protocol):
    """A host whose layers may hold their weights packed, or without the stack until a pass needs them."""

    def weight(self, path: str) -> Tensor:
        """The weight that a layer multiplies by, the stack included, `[out, in]`, as ordinary numbers.

        path: inside the backbone. Inside a session. Without this method it is the layer's own `weight`.
        """
        ...


class WordyHost(HostModel, Protocol):
    """A host that knows where its artist has lists of terms, and where work on words can be kept."""

    term_lists: Sequence[Path]
    """See `words.term_lists`; they count where the checkpoint brings no word list."""
    cache_folder: Path | None
    """Where what a text encoder makes of the vocabulary is kept, and pictures of before; without it, they are made anew
    each time."""


class SampledHost(HostModel, Protocol):
    """A host that loads one checkpoint with numbers of several types, and knows it all the same."""

    base_sample: BaseSample | None
    """Of the weights without the stack; None where they are packed."""


class PatchedHost(HostModel, Protocol):
    """A host whose model may have functions on it that act at some noise levels only."""

    told_by_an_answer: bool
    """Whether one answer tells its model from others; where not, no picture that it has drawn is remembered."""


def base_of(host: HostModel) -> Base:
    """The host's checkpoint as deltas know it."""
    return Base(host.fingerprint, getattr(host, "base_sample", None))


def check_stack(host: HostModel, stack: Stack) -> None:
    """Raise `OtherBase` or `BadDelta` where the stack does not fit the host's checkpoint, see `check_fits`."""
    check_fits(stack, base_of(host), host.architecture, host.layers(), title_of(host), host.prediction_type)


def title_of(host: HostModel) -> str:
    """What the host calls its checkpoint, in a line that a delta's file can hold; "" where it does not say."""
    title = " ".join(str(getattr(host, "title", "") or "").split())
    return "".join(c for c in title if c.isprintable())[:MAX_CONCEPT]
