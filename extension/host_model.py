"""Automatic1111's loaded LDM model as the core's `HostModel`: its own modules and weights, nothing copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from modules import devices, paths, prompt_parser, sd_models, sd_unet, shared
from torch import Tensor, nn

from ..unlearn_core import BadCheckpoint, Conditioning, Stack
from ..unlearn_core.delta import layer_names as names
from ..unlearn_core.delta.apply import applied
from ..unlearn_core.delta.base_sample import Base
from ..unlearn_core.sampling import discrete_denoised
from ..unlearn_core.saved_work import cache_folder
from ..unlearn_core.standalone.checkpoint import read_yaml, trained_pixels
from ..unlearn_core.words.term_lists import OWN_NAME, lists_in

FACTOR = 8
"""Pixels of a latent's side."""


def data_folder() -> Path:
    """Where the host keeps what belongs to its user."""
    return Path(getattr(paths, "data_path", "."))


def term_lists() -> tuple[Path, ...]:
    """Tag lists of the host's extensions, and the artist's own list, models/unlearn/vocabulary.txt."""
    models = Path(getattr(paths, "models_path", data_folder() / "models"))
    return lists_in(Path(getattr(paths, "extensions_dir", data_folder() / "extensions")), models / "unlearn" / OWN_NAME)


def chosen() -> Any:
    """The host's own record of the checkpoint that is chosen at the top of the page. Raises `BadCheckpoint`."""
    try:
        # older hosts end the program when they have none
        return sd_models.select_checkpoint()
    except (FileNotFoundError, SystemExit):
        raise BadCheckpoint("The web UI finds no checkpoint: put one into its folder and choose it.") from None


def load_chosen() -> Any:
    """The chosen checkpoint as the host's own model, loaded by the host and on its device. Raises `BadCheckpoint`.

    After a picture with a refiner, or with another checkpoint for one picture alone, the loaded one is not the chosen.
    """
    info = chosen()
    name = Path(info.filename).name
    try:
        sd_models.reload_model_weights(info=info)
    except Exception as e:
        if "out of memory" in str(e).lower():
            raise
        why = (str(e).splitlines() or [type(e).__name__])[0]
        raise BadCheckpoint(f"The web UI could not load {name} ({why}): choose another checkpoint.") from e
    model = shared.sd_model
    if getattr(getattr(model, "sd_checkpoint_info", None), "filename", None) != info.filename:
        raise BadCheckpoint(f"The web UI did not load {name}: choose it again at the top of the page.")
    # "Unload the checkpoint" leaves it in main memory, and reloading does not look where it is
    if hasattr(sd_models, "send_model_to_device"):
        sd_models.send_model_to_device(model)
    return model


@contextmanager
def learning() -> Iterator[LdmModel]:
    """The chosen checkpoint to learn on, without all that the last picture has left in it."""
    model = load_chosen()
    with as_loaded(model), on_device(model):
        yield LdmModel(model, Path(model.sd_checkpoint_info.filename))


class LdmModel:
    """Stable Diffusion 1, 2 or XL as `shared.sd_model` holds it. Raises `BadCheckpoint` for anything else."""

    def __init__(self, model: Any, file: Path):
        unet = getattr(getattr(model, "model", None), "diffusion_model", None)
        if unet is None or getattr(model, "is_sd3", False):
            raise BadCheckpoint(
                "In this web UI only Stable Diffusion 1, 2 and XL can forget: choose another checkpoint."
            )
        if getattr(model.model, "conditioning_key", "crossattn") not in (None, "crossattn"):
            raise BadCheckpoint("This is an inpainting or editing model: choose the checkpoint that it was made from.")
        if getattr(model, "is_sdxl_inpaint", False):
            raise BadCheckpoint("This is an inpainting model: choose the checkpoint that it was made from.")
        if "aesthetic_score" in [getattr(e, "input_key", "") for e in encoders(model)]:
            raise BadCheckpoint("This is Stable Diffusion XL's refiner: choose the base model.")
        check_trainable(unet)
        self._model, self.backbone = model, unet
        weights = unet.state_dict()
        known = Base.of(weights)
        self.fingerprint, self.base_sample = known.fingerprint, known.sample
        self._shape = names.UNetShape.from_state_dict(weights)
        self._xl = bool(getattr(model, "is_sdxl", False))
        self.architecture = "sdxl" if self._xl else "sd2" if getattr(model, "is_sd2", False) else "sd1"
        self.prediction_type = "v_prediction" if model.parameterization == "v" else "epsilon"
        # with --medvram the weights wait elsewhere until they are needed
        self.device = torch.device(devices.device)
        self.words_file = str(w) if (w := file.with_suffix(".words.json")).is_file() else None
        self.term_lists, self.cache_folder = term_lists(), cache_folder(data_folder() / "cache" / "unlearn")
        self.title = file.name
        # the host's own settings put another schedule in its place for pictures
        alphas = getattr(model, "alphas_cumprod_original", model.alphas_cumprod).detach().cpu().double()
        self.sigmas = ((1 - alphas) / alphas).sqrt().float().to(self.device)
        self._log_sigmas = self.sigmas.log()
        side = trained_pixels(self.architecture, self.prediction_type, read_yaml(file.with_suffix(".yaml"))) // FACTOR
        self.latent_shape = (4, side, side)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts by the host's text encoder, cut to its first chunk; nothing in them is read as a weight."""
        height, width = (FACTOR * side for side in self.latent_shape[1:])
        with devices.autocast():
            plain = prompt_parser.SdConditioning([escaped(p) for p in prompts], width=width, height=height)
            with beside_unet(self._model):
                made = self._model.get_learned_conditioning(plain)
        tokens, extras = (made["crossattn"], {"vector": made["vector"]}) if self._xl else (made, {})
        return Conditioning(*self._placed(tokens[:, :77], extras, torch.float32))

    def _placed(
        self, tokens: Tensor, extras: dict[str, Tensor], dtype: torch.dtype
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A conditioning's parts on the device."""
        return tokens.to(self.device, dtype), {name: value.to(self.device, dtype) for name, value in extras.items()}

    def noised(self, latents: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """z + sigma * noise."""
        return latents + sigma.view(-1, 1, 1, 1) * noise

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """The clean latent, as the standalone model computes it; through the module that the host's hooks watch."""
        kind = devices.dtype_unet

        def predict(scaled: Tensor, t: Tensor) -> Tensor:
            tokens, extras = self._placed(conditioning.tokens, conditioning.extras, kind)
            with devices.autocast():
                if self._xl:
                    return self._model.model(scaled.to(kind), t.to(kind), {"crossattn": tokens, **extras}).float()
                return self._model.model(scaled.to(kind), t.to(kind), c_crossattn=[tokens]).float()

        return discrete_denoised(predict, x, sigma, self._log_sigmas, self.prediction_type)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[b, 3, H, W]` in 0..1 on the CPU."""
        with beside_unet(self._model), getattr(devices, "without_autocast", nullcontext)():
            parts = [self._decoded(z) for z in latents.split(4)]
        return (torch.cat(parts) / 2 + 0.5).nan_to_num(0.0).clamp(0, 1)

    def _decoded(self, latents: Tensor) -> Tensor:
        """In -1..1; what overflows in half precision, as in Stable Diffusion XL, is decoded anew in full."""
        vae = self._model.first_stage_model
        dtype = next(vae.parameters()).dtype
        found = self._model.decode_first_stage(latents.to(dtype)).float().cpu()
        if dtype == torch.float32 or found.isfinite().all():
            return found
        try:
            vae.to(torch.float32)
            return self._model.decode_first_stage(latents.float()).float().cpu()
        finally:
            # there and back changes no bit
            vae.to(dtype)

    def layers(self) -> dict[str, str]:
        """{name in a delta file: path inside the UNet} of all linear layers, the written name first."""
        return names.linear_layers(self.backbone, self.architecture, self._shape)

    @contextmanager
    def session(self, stack: Stack) -> Iterator[nn.Module]:
        """The UNet with the earlier deltas added to its weights; original bits afterwards."""
        flags = [(p, p.requires_grad) for p in self.backbone.parameters()]
        try:
            self.backbone.requires_grad_(False)
            with without_checkpointing(self.backbone), applied(self.backbone, self.layers(), stack):
                yield self.backbone
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


def encoders(model: Any) -> Sequence[nn.Module]:
    """All that SDXL makes its conditioning of, text and numbers; empty for other models."""
    return getattr(getattr(model, "conditioner", None), "embedders", ())


def escaped(prompt: str) -> str:
    """The prompt with the signs escaped that the web UI reads as weights, where it does."""
    if getattr(shared.opts, "emphasis", "Original") == "None" or not getattr(shared.opts, "enable_emphasis", True):
        return prompt
    for sign in "\\()[]":
        prompt = prompt.replace(sign, "\\" + sign)
    return prompt


def check_trainable(unet: nn.Module) -> None:
    """Raise `BadCheckpoint` for ways of loading a model in which nothing can be learned."""
    if any("float8" in str(p.dtype) for p in unet.parameters()):
        raise BadCheckpoint("The model is loaded in 8 bits: switch 'FP8 weight' off in the settings.")
    if getattr(shared.cmd_opts, "lowvram", False):
        raise BadCheckpoint("With --lowvram this cannot run: start the web UI with --medvram, or use ComfyUI.")
    if sd_unet.current_unet is not None:
        raise BadCheckpoint("Another network replaces the model's own: set 'SD Unet' to None in the settings.")


CHECKPOINTING = ("checkpoint", "use_checkpoint")
"""Flags of blocks that compute forward passes anew for the backward pass; theirs fails on weights that do not learn."""


@contextmanager
def without_checkpointing(unet: nn.Module) -> Iterator[None]:
    """The UNet with those flags off; Stable Diffusion 2 has them on."""
    found = [(m, name) for m in unet.modules() for name in CHECKPOINTING if vars(m).get(name) is True]
    for module, name in found:
        setattr(module, name, False)
    try:
        yield
    finally:
        for module, name in found:
            setattr(module, name, True)


def mover(model: Any) -> Any:
    """The host's part that takes one half of the model off the device for the other, or None where it does not."""
    if not getattr(model, "lowvram", False):
        return None
    # not every host has it
    from modules import lowvram

    return lowvram


@contextmanager
def on_device(model: Any) -> Iterator[None]:
    """The UNet on the device, for good: with `--medvram` the host takes it off whenever another part is used.

    What learns lies beside its layers, and an optimizer does not follow when they are moved.
    """
    moving = mover(model)
    if moving is None:
        yield
        return
    moving.send_everything_to_cpu()
    model.model.to(devices.device)
    try:
        yield
    finally:
        # as the host has it between two pictures
        moving.send_everything_to_cpu()
        model.model.to("cpu")


@contextmanager
def beside_unet(model: Any) -> Iterator[None]:
    """Let another part of the model come to the device and leave it again, while the UNet stays there."""
    moving = mover(model)
    if moving is None:
        yield
        return
    # the host sends away what it finds noted there
    moving.module_in_gpu = None
    try:
        yield
    finally:
        moving.send_everything_to_cpu()


PATCHED = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.MultiheadAttention)
"""Modules into whose weights the host bakes LoRAs."""


@contextmanager
def as_loaded(model: Any) -> Iterator[None]:
    """The model as its checkpoint has it: what the last picture has left in it is taken out, LoRAs put back at the end.

    The host sets hypernetworks and merged tokens anew for each picture.
    """
    shared.loaded_hypernetworks = []
    sd_models.apply_token_merging(model, 0)
    with without_loras(model):
        yield


@contextmanager
def without_loras(model: Any) -> Iterator[None]:
    """The model with its own weights: active LoRAs are baked into them, so they are taken out and put back."""
    try:
        import networks
    except ImportError:
        yield
        return
    kept = list(networks.loaded_networks)
    modules = [m for m in model.modules() if isinstance(m, PATCHED) and hasattr(m, "network_layer_name")]

    def apply(wanted: list) -> None:
        networks.loaded_networks[:] = wanted
        with torch.no_grad():
            for module in modules:
                networks.network_apply_weights(module)

    try:
        apply([])
        yield
    finally:
        apply(kept)
