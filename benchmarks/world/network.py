"""The world's image model: the flow transformer of `benchmarks.beds`, that answers the clean latent."""

from __future__ import annotations

from ..beds.network import DENOISER, FlowTransformer, Sizes
from .encoder import WIDTH
from .latents import CHANNELS

__all__ = ["CODE", "DENOISER", "network"]
CODE = "latent_code."
"""Before the names of the latents' code in a checkpoint."""
DEPTH = 4


def network() -> FlowTransformer:
    """With random weights."""
    return FlowTransformer(Sizes(DEPTH, 1, CHANNELS, WIDTH))
