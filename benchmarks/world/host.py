"""The world behind the denoiser contract, so that the product and every method run on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unlearn_core.delta import layer_names
from unlearn_core.host import Conditioning
from unlearn_core.prompt_cache import ON_A_CPU
from unlearn_core.standalone.model import pick_device

from ..beds.host import LEVELS, FlowHost
from .encoder import TextEncoder, ids_of
from .latents import CHANNELS, SIDE, Code
from .network import CODE, DENOISER, network
from .words import FILE as WORDS
from .words import general_list, open_vocabulary

FILE = Path(__file__).with_name("world.safetensors")
SHIFT = 2.0
"""How the noise levels are spaced: s t / (1 + (s - 1) t); more of them lie where there is much noise."""
GUIDANCE = 1.5
"""At which it draws best: at 3 a style in fifteen is another one, and one of six pictures of two things lacks one."""


class World(FlowHost):
    """A `HostModel`: the transformer of a file, the taught text encoder, and the linear code of the latents.

    Flow (Liu et al. 2022, arXiv 2209.03003): x = (1 - sigma) z + sigma n, and the network answers z.
    """

    guidance = GUIDANCE

    def __init__(self, file: Path | dict[str, Tensor] = FILE, device: str = "cpu", has_list: bool = True):
        """file: a checkpoint, or its tensors. has_list: whether a word list lies beside it."""
        weights = {n: t.float() for n, t in (file if isinstance(file, dict) else load_file(file)).items()}
        self.device, self.title = pick_device(device), FILE.name
        self.words_file, self.general = str(WORDS) if has_list else None, general_list()
        self.vocabulary = open_vocabulary()
        self._flow = network()
        own = {n.removeprefix(DENOISER): t for n, t in weights.items() if n.startswith(DENOISER)}
        self._flow.net.load_state_dict(own)
        self.backbone: nn.Module = self._flow.net.eval().requires_grad_(False).to(self.device)
        self.fingerprint = layer_names.fingerprint(own)
        self._text = TextEncoder()
        self._code = Code(*(weights[CODE + name] for name in ("axes", "mean", "scale")))
        at = torch.arange(1, LEVELS + 1) / LEVELS
        self.sigmas = (SHIFT * at / (1 + (SHIFT - 1) * at)).to(self.device)
        self.latent_shape = (CHANNELS, SIDE, SIDE)
        self._encoded: dict[str, Tensor] = {}

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, cut to 20 tokens; all are remembered, since a hundred requests ask for most of them again."""
        new = [p for p in dict.fromkeys(prompts) if p not in self._encoded]
        for i in range(0, len(new), ON_A_CPU):
            part = new[i : i + ON_A_CPU]
            self._encoded |= dict(zip(part, self._text(part), strict=True))
        return Conditioning(torch.stack([self._encoded[p] for p in prompts])).to(self.device)

    def token_ids(self, prompt: str) -> list[list[int]]:
        """Numbers of a prompt's tokens."""
        return ids_of([prompt]).tolist()

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """The clean latent."""
        return self._flow(x, sigma, conditioning.tokens)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[b, 3, 64, 64]` in 0..1."""
        return self._code.pictures(latents.float().cpu()) / 2 + 0.5
