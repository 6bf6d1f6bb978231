"""A checkpoint file as a `HostModel` without any host: diffusers runs the networks, transformers the text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from . import clip_tokenizer, keys
from .interfaces import BadCheckpoint, Conditioning, UnlearnError
from .sampling import discrete_denoised
from .stack import Stack, applied

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."


class StandaloneModel:
    """A Stable Diffusion 1 checkpoint (original single-file layout, .safetensors) behind the denoiser contract.

    `NAME.yaml` beside the file gives the networks' sizes, a folder that it names as the text encoder's `version`
    the tokenizer; without them the standard ones are taken. The denoiser runs in bfloat16 or float16 autocast,
    except on CPUs that do not compute in bfloat16, or where `half` forbids it.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        device: str | torch.device = "cpu",
        resolution: int | None = None,
        half: bool = True,
    ):
        path = Path(checkpoint)
        self.device = pick_device(device)
        weights = read_checkpoint(path)
        self.architecture, self.prediction_type, config = describe(weights, path)
        self.words_file = str(w) if (w := path.with_suffix(".words.json")).is_file() else None
        denoiser = {k.removeprefix(UNET): v for k, v in weights.items() if k.startswith(UNET)}
        self.fingerprint = keys.fingerprint(denoiser)
        self.shape = keys.UNetShape.from_state_dict(denoiser)
        self.backbone, self.vae = build_networks(weights, config)
        self.text_encoder, self.tokenizer = build_text_encoder(weights, config, path.parent)
        for module in (self.backbone, self.vae, self.text_encoder):
            module.to(self.device).eval().requires_grad_(False)
        pixels = resolution or config["model"]["params"]["first_stage_config"]["params"]["ddconfig"]["resolution"]
        self.latent_shape = (4, pixels // 8, pixels // 8)
        self.sigmas = discrete_sigmas(config["model"]["params"]).to(self.device)
        self._log_sigmas = self.sigmas.log()
        self._half = half_type(self.device) if half else None

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, cut to the encoder's length, padded with the end token as SD1's hosts do."""
        ids = self.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            return Conditioning(self.text_encoder(ids.to(self.device)).last_hidden_state)

    def noised(self, latents: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """z + sigma * noise (variance exploding scale)."""
        return latents + sigma.view(-1, 1, 1, 1) * noise

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """The clean latent from an epsilon or v model: scale in by 1/sqrt(1+sigma^2), nearest trained t, and back."""

        def predict(scaled: Tensor, t: Tensor) -> Tensor:
            with self.precision():
                return self.backbone(scaled, t, conditioning.tokens).sample.float()

        return discrete_denoised(predict, x, sigma, self._log_sigmas, self.prediction_type)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[b, 3, H, W]` in 0..1 on the CPU."""
        factor = self.vae.config.scaling_factor
        with self.precision() if self.device.type == "cpu" else nullcontext():
            pictures = torch.cat([self.vae.decode(z / factor).sample.float().cpu() for z in latents.split(16)])
        return (pictures / 2 + 0.5).clamp(0, 1)

    def precision(self) -> AbstractContextManager:
        """Autocast where the denoiser runs in half precision, made afresh each time: the cache of casted weights

        that a longer one keeps would hide the adapters' updates.
        """
        return torch.autocast(self.device.type, self._half, enabled=self._half is not None)

    def layers(self) -> dict[str, str]:
        """{name in a delta file: path inside the diffusers UNet} of all linear layers, the written name first."""
        original = partial(keys.diffusers_to_ldm, shape=self.shape)
        return keys.linear_layers(self.backbone, self.architecture, self.shape, original)

    @contextmanager
    def session(self, stack: Stack) -> Iterator[nn.Module]:
        """The UNet with the earlier deltas added to its weights; original bits afterwards."""
        with applied(self.backbone, self.layers(), stack):
            yield self.backbone


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
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else None


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of a `.safetensors` checkpoint, or `BadCheckpoint` with a sentence."""
    if path.suffix.lower() in {".ckpt", ".pt", ".pth", ".bin"}:
        raise BadCheckpoint(
            f"{path.name} is a pickle file, which can run code when opened; convert it to .safetensors."
        )
    if not path.is_file():
        raise BadCheckpoint(f"There is no checkpoint at {path}.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as e:
        raise BadCheckpoint(f"{path.name} is not a readable .safetensors checkpoint ({e}).") from e


def describe(weights: dict[str, Tensor], path: Path) -> tuple[str, str, dict]:
    """(architecture, prediction type, LDM config) by the tensors and the yaml beside the file."""
    context = weights.get(UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight")
    if UNET + "input_blocks.0.0.weight" not in weights:
        raise BadCheckpoint(
            f"{path.name} is not a Stable Diffusion checkpoint: it has no denoiser in the original layout."
        )
    if UNET + "label_emb.0.0.weight" in weights or (context is not None and context.shape[1] == 1024):
        raise BadCheckpoint(
            f"{path.name} is a Stable Diffusion 2 or XL checkpoint; this command reads Stable Diffusion 1."
        )
    if (channels := weights[UNET + "input_blocks.0.0.weight"].shape[1]) != 4:
        raise BadCheckpoint(
            f"{path.name} is an inpainting or editing checkpoint ({channels} input channels), not supported."
        )
    if (
        TEXT + "text_model.embeddings.token_embedding.weight" not in weights
        or VAE + "post_quant_conv.weight" not in weights
    ):
        raise BadCheckpoint(f"{path.name} lacks its text encoder or autoencoder; use the full checkpoint.")
    import yaml

    file = path.with_suffix(".yaml")
    try:
        config = yaml.safe_load((file if file.is_file() else STANDARD).read_text(encoding="utf-8"))
        params = config["model"]["params"]
        prediction = "v_prediction" if params.get("parameterization") == "v" or "v_pred" in weights else "epsilon"
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as e:
        raise BadCheckpoint(
            f"{file.name} beside the checkpoint is not a model configuration; mend or remove it."
        ) from e
    return "sd1", prediction, config


STANDARD = Path(__file__).with_name("data") / "sd1.yaml"


def discrete_sigmas(params: dict) -> Tensor:
    """sigma_t = sqrt((1 - abar_t) / abar_t) of the scaled linear schedule, ascending, `[timesteps]`."""
    start, end, count = params["linear_start"], params["linear_end"], params["timesteps"]
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    return ((1 - alphas) / alphas).sqrt().float()


def build_networks(weights: dict[str, Tensor], config: dict) -> tuple[nn.Module, nn.Module]:
    """The diffusers UNet and autoencoder with the checkpoint's weights in float32."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as ldm

    weights = {k: v.float() for k, v in weights.items() if k.startswith((UNET, VAE))}
    made = []
    for cls, describe_config, convert in (
        (UNet2DConditionModel, ldm.create_unet_diffusers_config_from_ldm, ldm.convert_ldm_unet_checkpoint),
        (AutoencoderKL, ldm.create_vae_diffusers_config_from_ldm, ldm.convert_ldm_vae_checkpoint),
    ):
        try:
            settings = describe_config(config, weights)
            model = cls.from_config(settings)
            model.load_state_dict(convert(dict(weights), settings))
        except (KeyError, RuntimeError, TypeError) as e:
            raise BadCheckpoint(
                f"The checkpoint's {cls.__name__} does not fit its configuration: {first_line(e)}"
            ) from e
        made.append(model)
    return made[0], made[1]


def build_text_encoder(weights: dict[str, Tensor], config: dict, folder: Path) -> tuple[nn.Module, object]:
    """CLIP's text encoder and tokenizer, from the folder that the yaml names or the bundled standard ones."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    version = config["model"]["params"]["cond_stage_config"].get("params", {}).get("version", "")
    local = folder / version
    if version and (local / "vocab.json").is_file():
        settings, tokenizer = CLIPTextConfig.from_pretrained(local), CLIPTokenizer.from_pretrained(local)
    else:
        settings = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12)
        with TemporaryDirectory() as made:
            clip_tokenizer.write_tokenizer(Path(made), clip_tokenizer.read_merges())
            tokenizer = CLIPTokenizer.from_pretrained(made)
    encoder = CLIPTextModel(settings)
    prefix = "text_model." if any(k.startswith("text_model.") for k in encoder.state_dict()) else ""
    own = {
        prefix + k.removeprefix(TEXT + "text_model."): v.float()
        for k, v in weights.items()
        if k.startswith(TEXT + "text_model.") and "position_ids" not in k
    }
    missing = [k for k in encoder.load_state_dict(own, strict=False).missing_keys if "position_ids" not in k]
    if missing:
        raise BadCheckpoint(
            f"The checkpoint's text encoder is incomplete: {missing[0]} and {len(missing) - 1} more are missing."
        )
    return encoder, tokenizer


def first_line(error: Exception) -> str:
    """An exception's text up to its first line break."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
