"""The two flow transformers behind the denoiser contract, so that the product and every method run on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unlearn_core.delta import layer_names
from unlearn_core.delta.apply import applied
from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.host import Conditioning
from unlearn_core.prompt_cache import PromptCache
from unlearn_core.standalone.model import StandaloneModel, pick_device

from .network import CHANNELS, DENOISER, DEVIATION, SIDE, TOKENS, FlowTransformer, ids_of, own_text_encoder

SHIFT, LEVELS = 1.15, 10_000
"""How the noise levels are spaced, as ComfyUI spaces them: s t / (1 + (s - 1) t)."""


class FlowHost:
    """What all flow transformers of the benchmark share. backbone: the network; device: where it is."""

    architecture, prediction_type = "qwenimage", "flow"
    backbone: nn.Module

    def noised(self, latents: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """Latents `[b, c, h, w]` on the straight way to the noise."""
        at = sigma.view(-1, 1, 1, 1)
        return (1 - at) * latents + at * noise

    def layers(self) -> dict[str, str]:
        """{name in a delta file: path} of all linear layers."""
        return layer_names.linear_layers(self.backbone, self.architecture, None)

    @contextmanager
    def session(self, stack: Stack) -> Iterator[nn.Module]:
        """The transformer with the deltas added to its weights."""
        with applied(self.backbone, self.layers(), stack):
            yield self.backbone


class FlowBed(FlowHost):
    """A `HostModel`: the transformer of a file, the demo model's autoencoder, and its text encoder or the file's own.

    Flow (Liu et al. 2022, arXiv 2209.03003): x = (1 - sigma) z + sigma n, and the network answers n - z.
    """

    def __init__(self, file: Path, device: str = "cpu"):
        weights = load_file(file)
        self.device, self.title = pick_device(device), file.name
        self.words_file = str(CHECKPOINT.with_suffix(".words.json"))
        self._flow = FlowTransformer()
        own = {n.removeprefix(DENOISER): t.float() for n, t in weights.items() if n.startswith(DENOISER)}
        self._flow.net.load_state_dict(own)
        self.backbone: nn.Module = self._flow.net.eval().requires_grad_(False).to(self.device)
        self.fingerprint = layer_names.fingerprint(own)
        self._demo = StandaloneModel(CHECKPOINT, self.device, half=False)
        self._text = own_text_encoder(weights)
        self._deviation = float(weights[DEVIATION])
        at = torch.arange(1, LEVELS + 1) / LEVELS
        self.sigmas = (SHIFT * at / (1 + (SHIFT - 1) * at)).to(self.device)
        self.latent_shape = (CHANNELS, SIDE, SIDE)
        self._prompts = PromptCache()

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, cut to 16 tokens."""
        return self._prompts.encode(prompts, self._read, self.device)

    def _read(self, prompts: Sequence[str]) -> Conditioning:
        if self._text is None:
            return Conditioning(self._demo.encode(prompts).tokens[:, :TOKENS])
        with torch.no_grad():
            return Conditioning(self._text(ids_of(list(prompts))).last_hidden_state)

    def token_ids(self, prompt: str) -> list[list[int]]:
        """Numbers of a prompt's tokens."""
        return ids_of([prompt]).tolist()

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """The clean latent."""
        return x - sigma.view(-1, 1, 1, 1) * self._flow(x, sigma, conditioning.tokens)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[b, 3, 128, 128]` in 0..1 by the demo model's autoencoder."""
        return self._demo.decode(latents * self._deviation)
