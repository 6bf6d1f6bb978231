"""What the core asks of a host: a denoiser behind a protocol, and encoded prompts.

The whole core sees a diffusion model only through `HostModel`: a denoiser D(x; sigma, c) that returns
the clean latent (Karras et al. 2022), whatever the family or the program it runs in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from .delta.info import MAX_CONCEPT
from .delta.stack import Stack


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts as a batch of rows.

    tokens: contextual token vectors `[b, n, d]`, the input of cross-attention.
    extras: whatever else the family conditions on, each `[b, ...]` (pooled text, size vector).
    """

    tokens: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def __getitem__(self, rows: Sequence[int] | Tensor | slice) -> Conditioning:
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows, device=self.tokens.device)
        return Conditioning(self.tokens[rows], {k: v[rows] for k, v in self.extras.items()})

    def parts(self) -> tuple[Tensor, ...]:
        """All its tensors, in the order of their names."""
        return (self.tokens, *(self.extras[name] for name in sorted(self.extras)))

    def to(self, device: torch.device) -> Conditioning:
        """The same rows on a device."""
        return Conditioning(self.tokens.to(device), {k: v.to(device) for k, v in self.extras.items()})

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Stack several batches into one."""
        keys = parts[0].extras
        return Conditioning(
            torch.cat([p.tokens for p in parts]), {k: torch.cat([p.extras[k] for p in parts]) for k in keys}
        )


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
    latent_shape: tuple[int, int, int]
    """Shape (c, h, w) of one latent at the resolution that forgetting works at."""
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


class OffloadingHost(HostModel, Protocol):
    """A host that can take text encoders and autoencoder off the device; one without `offload` cannot."""

    offload: bool
    """Whether they come to the device only for as long as they are used."""

    @property
    def companions(self) -> Sequence[nn.Module]:
        """Text encoders and autoencoder."""
        ...


def title_of(host: HostModel) -> str:
    """What the host calls its checkpoint, in a line that a delta's file can hold; "" where it does not say."""
    title = " ".join(str(getattr(host, "title", "") or "").split())
    return "".join(c for c in title if c.isprintable())[:MAX_CONCEPT]
