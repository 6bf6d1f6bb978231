"""The checkpoint that is loaded in ComfyUI as the core's `HostModel`: its own modules and weights, nothing copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import comfy.model_base
import comfy.model_management as memory
import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import comfy.supported_models_base
import torch
from torch import Tensor, nn

from ..unlearn_core import BadCheckpoint, Conditioning, Stack, UnlearnError
from ..unlearn_core.delta import layer_names as names
from ..unlearn_core.delta.base_sample import Base
from ..unlearn_core.prompt_cache import PromptCache
from .cache_size import words_folder
from .functions import has_functions
from .loaded import Loaded, as_executed
from .model_stack import facts_of, stack_of, term_lists
from .weights import check_readable, not_paged, original_weights, scales_of, true_weight

ARCHITECTURES = {"SD15": "sd1", "SD20": "sd2", "SDXL": "sdxl"}
OTHER_SIZES = "shapes cannot be multiplied"
"""torch's words where a layer gets vectors of another width than it reads."""
TEXT_LAYERS = ("attn2.to_k.weight", "txt_in.weight")
"""The first layers that token vectors go into, in UNets and in Flux."""
NO_PICTURES = ("ACEAudio", "LTXAV", "MiniMaxH3AV", "TripoSplat")
"""Formats of latents that are sound or shapes, or hold sound beside frames, with as many dimensions as pictures."""
LEAST_SIDE = 40
"""Side of the smallest latents of PixArt, which divides by nothing below 33."""
PIXELS = {"sd1": 512, "sd2": 512, "sdxl": 1024}
"""Side of a picture that forgetting works at where nobody says otherwise."""


class ComfyHostModel:
    """A MODEL with its CLIP, and a VAE where one is wired; see `HostModel`. Without VAE pictures are rough ones.

    The MODEL comes with its stack (see `model_stack`): that is the teacher, and `session` takes no other stack.
    resolution: side of the pictures in pixels, 0 for the architecture's own. title: the checkpoint's name, where it is
    known. Raises `BadCheckpoint` for models that want more than words, and where the text encoder is missing.
    """

    def __init__(self, model, clip, vae=None, resolution: int = 0, title: str = ""):
        if clip is None:
            raise BadCheckpoint(
                "No CLIP came with this checkpoint: it has no text encoder inside. Load one with Load CLIP and wire it."
            )
        self._model, self._clip, self._vae = model, clip, vae
        self._loaded: Loaded | None = None
        base = model.model
        facts = facts_of(model)
        self.architecture = facts.architecture or architecture(base.model_config)
        form = base.latent_format
        if form.latent_dimensions not in (2, 3) or type(form).__name__ in NO_PICTURES:
            raise BadCheckpoint(f"A model of the type {self.architecture} makes no pictures: load one that does.")
        check_readable(model)
        sampling = model.get_model_object("model_sampling")
        self.prediction_type = prediction_type(sampling)
        self.device = model.load_device
        self.words_file = facts.words_file
        self.term_lists, self.cache_folder = term_lists(), words_folder()
        self.told_by_an_answer = not has_functions(model)
        self.title = facts.title or title
        self.sigmas = torch.as_tensor(sampling.sigmas).float().to(self.device)
        weights = original_weights(model)
        known = Base.of(weights, scales_of(model))
        self.fingerprint, self.base_sample = known.fingerprint, known.sample
        self._shape, self._width = unet_shape(weights), text_width(weights)
        self._pixels = getattr(form, "spacial_downscale_ratio", 8)
        side = (resolution or facts.resolution or PIXELS.get(self.architecture, 1024)) // self._pixels
        self.least_side = LEAST_SIDE if isinstance(base, getattr(comfy.model_base, "PixArt", ())) else 0
        side = max(side, self.least_side)
        self.guidance = 1.0 if takes_guidance(base) else None
        # models of videos, and of pictures with a video's latents, draw one frame
        frames = (1,) * (form.latent_dimensions - 2)
        self.latent_shape = (form.latent_channels, *frames, side, side)
        if wants_a_picture(base, torch.zeros(1, *self.latent_shape)):
            raise BadCheckpoint(
                f"This model ({self.architecture}) reads a picture beside the noise, as inpainting, editing and video "
                "models do: forget on one of its family that draws from text alone."
            )
        self._prompts = PromptCache()
        self._flat: set[str] = set()
        self._one_prompt_a_pass = isinstance(base, getattr(comfy.model_base, "Omnigen2", ()))

    @property
    def stack(self) -> Stack:
        """The deltas that are on the MODEL."""
        return stack_of(self._model)

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts with ComfyUI's CLIP, cut to its first chunk; nothing in them is read as a weight."""
        return self._prompts.encode(prompts, self._fitting, self.device)

    def _fitting(self, prompts: Sequence[str]) -> Conditioning:
        """Encoded prompts; raises `BadCheckpoint` where they are none that the MODEL can read."""
        read = self._read(prompts)
        if self._width not in (None, read.tokens.shape[-1]):
            kind = type(self._clip.cond_stage_model).__name__
            raise BadCheckpoint(
                f"The CLIP does not fit the MODEL: the MODEL ({self.architecture}) reads texts of width {self._width}, "
                f"the CLIP ({kind}) gives {read.tokens.shape[-1]}. Wire both from the same checkpoint."
            )
        return read

    def _read(self, prompts: Sequence[str]) -> Conditioning:
        tokens = [self._clip.tokenize(plain_words(p)) for p in prompts]
        with self._loaded.reading() if self._loaded else as_executed():
            if self.architecture in ("sd1", "sd2"):
                # the chunks of one long prompt are encoded side by side, and so are different short ones
                chunks = {k: [t[k][0] for t in tokens] for k in tokens[0]}
                read = Conditioning(self._clip.encode_from_tokens(chunks).unflatten(1, (len(prompts), -1))[0].float())
            else:
                read = Conditioning.cat([self._read_whole({k: t[k][:1] for k in t}) for t in tokens])
        return copied(read)

    def _read_whole(self, tokens: dict) -> Conditioning:
        out = self._clip.encode_from_tokens(tokens, return_dict=True)
        extras = {k: v.float() if v.is_floating_point() else v for k, v in out.items() if isinstance(v, Tensor)}
        cond = extras.pop("cond")
        flat = {k for k, v in extras.items() if v.dim() < 2}
        self._flat |= flat
        return Conditioning(cond, {k: v[None] if k in flat else v for k, v in extras.items()})

    def noised(self, latents: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """Latents at noise levels sigma `[b]` by the model's own rule."""
        sampling = self._model.get_model_object("model_sampling")
        return sampling.noise_scaling(sigma.view(-1, *[1] * (latents.dim() - 1)), noise, latents)

    def token_ids(self, prompt: str) -> list[list[int]]:
        """Numbers of a prompt's tokens: by each of the CLIP's tokenizers, and by all of them one after the other."""
        found = []
        for chunks in self._clip.tokenize(plain_words(prompt)).values():
            found.append([token[0] for token in chunks[0] if isinstance(token[0], int)])
        return [*found, [number for ids in found for number in ids]]

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """The clean latent as ComfyUI's samplers see it, differentiable."""
        if self._loaded:
            self._loaded.ready()
        parts = conditioning.by_length()
        if self._flat or self._one_prompt_a_pass:
            # one row, which ComfyUI repeats for all of a pass as it does in its own samplers
            parts = [([rows[i] for i in same], part[same[:1]]) for rows, part in parts for same in runs(part)]
        if len(parts) == 1:
            return self._denoised(x, sigma, parts[0][1])
        done = torch.cat([self._denoised(x[rows], sigma[rows], part) for rows, part in parts])
        return done[torch.tensor([row for rows, _ in parts for row in rows], device=x.device).argsort()]

    def _denoised(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """For prompts of one length, a row of latents each, or for one prompt that all rows share."""
        extras = {k: v[0] if k in self._flat else v for k, v in conditioning.extras.items()}
        cond = comfy.sampler_helpers.convert_cond([[conditioning.tokens, extras]])
        model = self._model.model
        ready = comfy.samplers.process_conds(model, x, {"positive": cond}, x.device)["positive"]
        try:
            return comfy.samplers.calc_cond_batch(model, [ready], x, sigma, self._model.model_options)[0]
        except RuntimeError as problem:
            if OTHER_SIZES not in str(problem):
                raise
            raise BadCheckpoint(
                f"The texts of this CLIP do not fit this MODEL ({self.architecture}): wire both from the same "
                f"checkpoint ({problem})."
            ) from problem

    def decoder(self) -> list[Tensor]:
        """Some numbers of the VAE that pictures are decoded with, to tell one from another; none without it."""
        if self._vae is None:
            return []
        numbers = (p.detach().flatten() for p in self._vae.first_stage_model.parameters())
        return [n[:: max(1, n.numel() // 16)] for n in numbers]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[b, 3, H, W]` in 0..1 on the CPU."""
        if self._vae is None:
            return self.rough(latents)
        latents = self._model.model.process_latent_out(latents.float())
        with self._loaded.decoding() if self._loaded else as_executed():
            pictures = self._vae.decode(latents).float().cpu()
        # the VAE of a video gives frames, of which there is one
        return pictures.reshape(len(latents), *pictures.shape[-3:]).movedim(-1, 1).clamp(0, 1)

    @torch.no_grad()
    def rough(self, latents: Tensor) -> Tensor:
        """Pictures `[b, 3, H, W]` straight from latents, by the linear map that ComfyUI previews with.

        Where it has none for these latents, their first channels as colours show at least where something is.
        """
        form = self._model.model.latent_format
        flat = latents.float()[:, :, 0] if latents.dim() == 5 else latents.float()
        if arranged := getattr(form, "latent_rgb_factors_reshape", None):
            flat = arranged(flat)
        factors = torch.eye(flat.shape[1], 3, device=latents.device) / 3
        if form.latent_rgb_factors is not None:
            factors = torch.tensor(form.latent_rgb_factors, device=latents.device)
        bias = torch.tensor(getattr(form, "latent_rgb_factors_bias", None) or [0.0] * 3, device=latents.device)
        rgb = (torch.einsum("bchw,cr->brhw", flat, factors) + bias.view(-1, 1, 1)) / 2 + 0.5
        size = [side * self._pixels for side in latents.shape[-2:]]
        return nn.functional.interpolate(rgb.clamp(0, 1), size=size).cpu()

    def layers(self) -> dict[str, str]:
        """{name in a delta file: path inside the diffusion model} of all linear layers, the written name first."""
        return names.linear_layers(self._model.model.diffusion_model, self.architecture, self._shape)

    def weight(self, path: str) -> Tensor:
        """What a linear layer multiplies by, the stack included, wherever ComfyUI keeps it."""
        return true_weight(self._model, path)

    @contextmanager
    def session(self, stack: Stack) -> Iterator[nn.Module]:
        """The diffusion model, in each pass loaded with the MODEL's patches, as ordinary tensors for autograd."""
        if stack.parents() != self.stack.parents():
            raise UnlearnError("The stack is not the one that the MODEL carries: apply it to the MODEL first.")
        given, self._model = self._model, not_paged(self._model)
        training = getattr(memory, "in_training", None)
        try:
            self._loaded = Loaded(self._model, self._clip.patcher)
            with torch.inference_mode(False), torch.no_grad():
                self._model.pre_run()
                if training is not None:
                    memory.in_training = True
                # transformers add onto their streams in place, which autograd takes only with copies of what it saved
                in_place = torch.autograd.graph.allow_mutation_on_saved_tensors
                with self._loaded.ordinary() as backbone, in_place() if self._shape is None else nullcontext():
                    yield backbone
        finally:
            if training is not None:
                memory.in_training = training
            self._model.cleanup()
            self._model, self._loaded = given, None
            memory.soft_empty_cache()


def wants_a_picture(base, latent: Tensor) -> bool:
    """Whether a model reads a picture beside the noise, `[1, ...]`, even where none is given."""
    if getattr(base, "concat_keys", ()):
        return True
    return base.concat_cond(noise=latent, device=latent.device) is not None


def takes_guidance(base) -> bool:
    """Whether guidance is an input of the network (Flux dev) or was trained away (Flux schnell), so that none is added.

    Of other models that were distilled, as Z-Image-Turbo, nothing but the numbers differs from those that were not.
    """
    sizes = base.model_config.unet_config
    return bool(sizes.get("guidance_embed")) or type(base.model_config).__name__ == "FluxSchnell"


def architecture(config: comfy.supported_models_base.BASE) -> str:
    """The core's word for a kind of model; slimmer relatives (SSD-1B, Segmind Vega) are named after their family."""
    family = [kind.__name__ for kind in type(config).__mro__]
    return next((ARCHITECTURES[k] for k in family if k in ARCHITECTURES), family[0].lower())


def prediction_type(sampling: nn.Module) -> str:
    """The core's word for what the network predicts, as the MODEL is set up now: a stock node may have changed it."""
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION):
        return "v_prediction"
    return "epsilon" if isinstance(sampling, comfy.model_sampling.EPS) else "flow"


def unet_shape(weights: dict[str, Tensor]) -> names.UNetShape | None:
    """The UNet's shape, or None for a denoiser that is no UNet of the Stable Diffusion family."""
    try:
        return names.UNetShape.from_state_dict(weights)
    except BadCheckpoint:
        return None


def text_width(weights: dict[str, Tensor]) -> int | None:
    """Width of the token vectors that a denoiser reads; None where none of its layers is known to read them."""
    for name, weight in weights.items():
        if name.endswith(TEXT_LAYERS) and weight.dim() == 2 and weight.dtype.is_floating_point:
            return weight.shape[1]
    return None


def copied(text: Conditioning) -> Conditioning:
    """The same rows as ordinary tensors, which autograd takes, where they were made in inference mode."""
    counts = None if text.counts is None else text.counts.clone()
    return Conditioning(text.tokens.clone(), {k: v.clone() for k, v in text.extras.items()}, counts)


def runs(text: Conditioning) -> list[list[int]]:
    """Numbers of the rows that follow one another and say the same."""
    found: list[list[int]] = []
    for row in range(len(text)):
        if found and all(torch.equal(t[row], t[row - 1]) for t in text.parts()):
            found[-1].append(row)
        else:
            found.append([row])
    return found


def plain_words(prompt: str) -> str:
    """The prompt with the signs escaped that ComfyUI reads as weights."""
    return prompt.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
