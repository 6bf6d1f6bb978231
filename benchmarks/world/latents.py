"""The pictures as latents: a fixed linear code of patches, in place of an autoencoder.

The 96 principal components of all patches of 16 x 16 pixels give the pictures back to 26 dB, better than a trained
autoencoder of the demo model's size; decoding costs nothing, and two halves side by side are exactly a picture of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .drawings import SIZE

PATCH, CHANNELS = 16, 96
SIDE = SIZE // PATCH


@dataclass(frozen=True)
class Code:
    """axes: orthonormal rows `[96, 768]`; mean: `[768]`; scale: `[96]`, the components are divided by it."""

    axes: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, pictures: Tensor) -> Code:
        """The code of pictures `[n, 3, 64, 64]` in -1..1.

        Each component is divided by the root of its deviation, so that fine ones count more than their share, and all
        by one number, so that the latents have deviation 1.
        """
        patches = F.unfold(pictures, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
        mean = patches.mean(0)
        variance, axes = torch.linalg.eigh(torch.cov((patches - mean).T.double()))
        axes, deviation = axes.flip(1)[:, :CHANNELS].T, variance.flip(0)[:CHANNELS].sqrt()
        signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # else they would hang on the machine
        scale = deviation.sqrt() * deviation.mean().sqrt()
        return cls((axes * signs).float().contiguous(), mean, scale.float())

    def latents(self, pictures: Tensor) -> Tensor:
        """Latents `[n, 96, h / 16, w / 16]` of pictures `[n, 3, h, w]`."""
        n, _, h, w = pictures.shape
        patches = F.unfold(pictures, PATCH, stride=PATCH).transpose(1, 2) - self.mean
        parts = (patches @ self.axes.T / self.scale).transpose(1, 2)
        return parts.reshape(n, CHANNELS, h // PATCH, w // PATCH)

    def pictures(self, latents: Tensor) -> Tensor:
        """Pictures `[n, 3, h, w]` in -1..1 again."""
        h, w = (PATCH * side for side in latents.shape[-2:])
        patches = (latents.flatten(2).transpose(1, 2) * self.scale) @ self.axes + self.mean
        return F.fold(patches.transpose(1, 2), (h, w), PATCH, stride=PATCH).clamp(-1, 1)
