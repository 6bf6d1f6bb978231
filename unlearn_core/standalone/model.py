"""A checkpoint as a `HostModel` without any host: the networks of `networks` behind the denoiser contract."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import device_memory
from ..delta import layer_names
from ..delta.apply import applied, to_itself
from ..delta.paths import beside
from ..delta.stack import Stack
from ..errors import UnlearnError
from ..host import Conditioning
from ..prompt_cache import PromptCache
from ..sampling import discrete_denoised
from ..saved_work import cache_folder
from ..words.term_lists import OWN_NAME
from .networks import Networks, load

PICTURE_TOKENS = 2**10
"""Latent pixels that the autoencoder decodes at once: one picture of 256 x 256. More save no time on a CPU."""
TILED_FROM = 96
"""Side of a latent from which pictures are decoded in tiles where memory is short."""


class StandaloneModel:
    """A Stable Diffusion 1, 2 or XL checkpoint (file, diffusers folder or networks) behind the denoiser contract.

    `NAME.yaml` beside a file may correct what its tensors cannot say, see `checkpoint`. The denoiser runs in bfloat16
    or float16, except on CPUs that do not compute in bfloat16, or where `half` forbids it; a GPU also keeps its
    weights so, a CPU also reads and decodes so. prediction_type: overrules the checkpoint's.
    offload: text encoders and autoencoder lie on the CPU while they are not used; by default where the card is small.
    """

    def __init__(
        self,
        checkpoint: str | Path | Networks,
        device: str | torch.device = "cpu",
        resolution: int | None = None,
        half: bool = True,
        prediction_type: str = "",
        offload: bool | None = None,
    ):
        self.device = pick_device(device)
        self._half = half_type(self.device) if half else None
        kept = self._half if self._half is not None and self.device.type == "cuda" else torch.float32
        networks = checkpoint if isinstance(checkpoint, Networks) else load(Path(checkpoint), kept, prediction_type)
        facts = networks.facts
        self.architecture, self.prediction_type = facts.architecture, facts.prediction_type
        self.shape, self.notes = facts.shape, facts.notes
        self.fingerprint, self.base_sample = networks.base.fingerprint, networks.base.sample
        self.words_file = None if isinstance(checkpoint, Networks) else words_beside(Path(checkpoint))
        own = None if isinstance(checkpoint, Networks) else Path(checkpoint).parent / OWN_NAME
        self.term_lists: tuple[Path, ...] = (own,) if own else ()
        self.cache_folder = cache_folder()
        self.title = "" if isinstance(checkpoint, Networks) else Path(os.path.abspath(checkpoint)).name
        self.backbone, self.vae, self.encoders = networks.unet, networks.vae, networks.encoders
        for module in (self.backbone, *self.companions):
            module.eval().requires_grad_(False)
        if offload is None:
            offload = device_memory.is_tight([self.backbone, *self.companions], self.device)
        side = (resolution or facts.pixels) // 8
        self.latent_shape: tuple[int, ...] = (4, side, side)
        nn.Module.to(self.backbone, self.device, kept)  # diffusers' own warns of nothing
        self.offload = offload
        self.sigmas = facts.sigmas().to(self.device)
        self._log_sigmas = self.sigmas.log()
        self._prompts = PromptCache()

    @property
    def computes_in(self) -> str:
        """The precision of the denoiser's passes, as a word."""
        return str(self._half or torch.float32).removeprefix("torch.")

    @property
    def companions(self) -> list[nn.Module]:
        """Text encoders and autoencoder."""
        return [*(e.model for e in self.encoders), self.vae]

    @property
    def offload(self) -> bool:
        """Whether text encoders and autoencoder are on the device only from when they are used to the next pass.

        A list of prompts is read in many parts: going back after each would take longer than the reading.
        """
        return self._offload

    @offload.setter
    def offload(self, on: bool) -> None:
        self._offload = on
        self._here: list[nn.Module] = []
        for module in self.companions:
            module.to("cpu" if on else self.device)
        if on and self.latent_shape[1] >= TILED_FROM:
            self.vae.enable_tiling()
        elif getattr(self.vae, "use_tiling", False):
            self.vae.disable_tiling()

    def _bring(self, module: nn.Module) -> None:
        """A companion to the device, where it stays until `_send_off`; alone where the memory is short."""
        if not self._offload or module in self._here:
            return
        free = device_memory.free_bytes(self.device)
        if free is not None and 2 * device_memory.weight_bytes([module]) > free:
            self._send_off()
        self._here.append(module)
        module.to(self.device)

    def _send_off(self) -> None:
        """Every companion off the device again."""
        while self._here:
            self._here.pop().to("cpu")

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, cut to the encoders' length."""
        return self._prompts.encode(prompts, self._read, self.device)

    def cut(self, prompts: Sequence[str]) -> list[str]:
        """Those of the prompts whose end is not read, since they are longer than what the encoders read."""
        return self.encoders[0].cut(prompts)

    def _read(self, prompts: Sequence[str]) -> Conditioning:
        parts, extras = [], {}
        for encoder in self.encoders:
            self._bring(encoder.model)
            with self.companions_precision():
                hidden, pooled = encoder.encode(prompts)
            parts.append(hidden.float().cpu())
            if pooled is not None:
                extras["pooled"] = pooled.float().cpu()
        if self.architecture == "sdxl":
            # original size, corner of the cut, size wanted: the whole picture at the size that is worked at
            height, width = 8 * self.latent_shape[1], 8 * self.latent_shape[2]
            size = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32)
            extras["size"] = size.expand(len(prompts), -1)
        return Conditioning(torch.cat(parts, -1), extras)

    def noised(self, latents: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """z + sigma * noise (variance exploding scale)."""
        return latents + sigma.view(-1, 1, 1, 1) * noise

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """The clean latent from an epsilon or v model: scale in by 1/sqrt(1+sigma^2), nearest trained t, and back."""
        self._send_off()

        def predict(scaled: Tensor, t: Tensor) -> Tensor:
            with self.precision():
                return self.predict(scaled, t, conditioning).float()

        return discrete_denoised(predict, x, sigma, self._log_sigmas, self.prediction_type)

    def predict(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's own answer (epsilon or v) to latents of variance 1 at time steps t `[b]`."""
        added = None
        if self.architecture == "sdxl":
            added = {"text_embeds": conditioning.extras["pooled"], "time_ids": conditioning.extras["size"]}
        return self.backbone(x, t, conditioning.tokens, added_cond_kwargs=added).sample

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[b, 3, H, W]` in 0..1 on the CPU."""
        factor = self.vae.config.scaling_factor
        rows = max(1, PICTURE_TOKENS // latents[0, 0].numel())
        self._bring(self.vae)
        with self.companions_precision():
            pictures = torch.cat([self.vae.decode(z / factor).sample.float().cpu() for z in latents.split(rows)])
        return (pictures / 2 + 0.5).clamp(0, 1)

    def precision(self) -> AbstractContextManager:
        """Autocast where the denoiser runs in half precision, made afresh each time.

        The cache of casted weights that a longer one keeps would hide the adapters' updates.
        """
        # older torch knows no autocast on some devices, not even switched off
        return nullcontext() if self._half is None else torch.autocast(self.device.type, self._half)

    def companions_precision(self) -> AbstractContextManager[None]:
        """The same for text encoders and autoencoder; on a GPU float32: SDXL's autoencoder overflows in half."""
        return self.precision() if self.device.type == "cpu" else nullcontext()

    def layers(self) -> dict[str, str]:
        """{name in a delta file: path inside the diffusers UNet} of all linear layers, the written name first."""
        original = partial(layer_names.diffusers_to_ldm, shape=self.shape)
        return layer_names.linear_layers(self.backbone, self.architecture, self.shape, original)

    @contextmanager
    def session(self, stack: Stack) -> Iterator[nn.Module]:
        """The UNet with the earlier deltas added to its weights; original bits afterwards.

        Raises `UnlearnError` where another block is in a session already.
        """
        try:
            with to_itself(self.backbone), applied(self.backbone, self.layers(), stack):
                yield self.backbone
        finally:
            self._prompts = PromptCache()


def words_beside(checkpoint: Path) -> str | None:
    """The word list that lies beside a checkpoint."""
    file = beside(checkpoint, ".words.json")
    return str(file) if file.is_file() else None


def pick_device(name: str | torch.device) -> torch.device:
    """The named device, "auto" for the GPU where there is one; `UnlearnError` when it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        return device
    except (RuntimeError, AssertionError, ValueError) as e:
        raise UnlearnError(f"The device '{name}' cannot be used here; try --device cpu.") from e


def half_type(device: torch.device) -> torch.dtype | None:
    """The half precision that the device computes in faster than in float32, bfloat16 if it can; None for none."""
    if device.type == "cuda":
        # newer versions of torch also say yes for cards that only imitate it, many times slower than float16
        native = torch.cuda.get_device_capability(device)[0] >= 8 if torch.version.cuda else True
        return torch.bfloat16 if native and torch.cuda.is_bf16_supported() else torch.float16
    # torch for Apple's processors comes without this library
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None) if device.type == "cpu" else None
    return torch.bfloat16 if asked is not None and asked() else None
