"""Text encoders of a checkpoint: CLIP (SD1, SDXL) and OpenCLIP (SD2, SDXL), each read at the layer that its model was
trained on, and the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadCheckpoint
from . import clip_tokenizer
from .checkpoint import OPEN_CLIP, SGM_OPEN_CLIP, TEXT, XL_OPEN_CLIP, XL_TEXT, Checkpoint

END = 49407
PROJECTION = "text_projection.weight"
HEAD = 64
"""Channels of an attention head in every CLIP."""


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder and how its host reads it.

    pad: token that fills up short prompts, the end token for CLIP and 0 for OpenCLIP. penultimate: the last layer but
    one without the final norm (SDXL), else the last layer with it. pooled: the projected end token is given too.
    """

    model: Any  # transformers' CLIP text model
    tokenizer: Any
    pad: int
    penultimate: bool = False
    pooled: bool = False

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Token numbers `[b, 77]`, longer prompts cut off."""
        length = self.model.config.max_position_embeddings
        rows = self.tokenizer(list(prompts), truncation=True, max_length=length).input_ids
        return torch.tensor([row + [self.pad] * (length - len(row)) for row in rows])

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """(token vectors `[b, 77, d]`, pooled vector `[b, p]` or None), on the model's device."""
        out = self.model(self.tokens(prompts).to(self.model.device), output_hidden_states=self.penultimate)
        hidden = out.hidden_states[-2] if self.penultimate else out.last_hidden_state
        return hidden, out.text_embeds if self.pooled else None


def from_checkpoint(checkpoint: Checkpoint) -> tuple[TextEncoder, ...]:
    """The text encoders of a single-file checkpoint in float32. Raises `BadCheckpoint` for incomplete ones."""
    weights, architecture = checkpoint.weights, checkpoint.facts.architecture
    given = checkpoint.params.get("cond_stage_config") or {}
    version = str((given.get("params") or {}).get("version", ""))
    local = checkpoint.path.parent / version
    if version and (local / "vocab.json").is_file():
        return (local_clip(weights, local),)
    tokenizer = standard_tokenizer()
    if architecture == "sd1":
        return (TextEncoder(clip(weights, TEXT), tokenizer, END),)
    if architecture == "sd2":
        prefix = OPEN_CLIP if any(n.startswith(OPEN_CLIP) for n in weights) else SGM_OPEN_CLIP
        return (TextEncoder(open_clip(weights, prefix, last=False), tokenizer, 0),)
    return (
        TextEncoder(clip(weights, XL_TEXT), tokenizer, END, penultimate=True),
        TextEncoder(open_clip(weights, XL_OPEN_CLIP, last=True), tokenizer, 0, penultimate=True, pooled=True),
    )


def from_folder(folder: Path, options: Mapping[str, Any]) -> tuple[TextEncoder, ...]:
    """The text encoders of a diffusers folder in float32. Raises OSError or ValueError for incomplete ones."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    made = []
    for suffix, cls in (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection)):
        if (folder / f"text_encoder{suffix}").is_dir():
            model = cls.from_pretrained(folder / f"text_encoder{suffix}", **options).float()
            tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}", local_files_only=True)
            made.append((model, tokenizer))
    two = len(made) == 2
    return tuple(
        TextEncoder(m, t, t.pad_token_id, penultimate=two, pooled=two and i == 1) for i, (m, t) in enumerate(made)
    )


def standard_tokenizer() -> Any:
    """CLIP's own, from the bundled merge list."""
    from transformers import CLIPTokenizer

    with TemporaryDirectory() as made:
        clip_tokenizer.write_tokenizer(Path(made), clip_tokenizer.read_merges())
        return CLIPTokenizer.from_pretrained(made)


def local_clip(weights: Mapping[str, Tensor], folder: Path) -> TextEncoder:
    """SD1's encoder with the sizes and the tokenizer of a folder beside the checkpoint."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    settings, tokenizer = CLIPTextConfig.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    return TextEncoder(filled(CLIPTextModel, settings, bare(weights, TEXT)), tokenizer, tokenizer.pad_token_id)


def clip(weights: Mapping[str, Tensor], prefix: str) -> nn.Module:
    """CLIP's text encoder in transformers' own layout."""
    from transformers import CLIPTextModel

    own = bare(weights, prefix)
    return filled(CLIPTextModel, settings_of(own, "quick_gelu"), own)


def open_clip(weights: Mapping[str, Tensor], prefix: str, last: bool) -> nn.Module:
    """OpenCLIP's text encoder. last: with the last layer and the projection (SDXL), else without (SD2)."""
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    own = {n: t for n, t in weights.items() if n.startswith(prefix)}
    count = layers_of(own) - (0 if last else 1)
    width = own[prefix + "ln_final.weight"].shape[0]
    # the converter takes a model only to read its width where the projection is missing
    sized = SimpleNamespace(config=SimpleNamespace(hidden_size=width, projection_dim=width))
    state = convert_open_clip_checkpoint(sized, own, prefix=prefix)
    if not last:
        state = {n: t for n, t in state.items() if (layer_of(n) or 0) < count and n != PROJECTION}
    return filled(CLIPTextModelWithProjection if last else CLIPTextModel, settings_of(state, "gelu"), state)


def bare(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The text model's tensors under a prefix, without it."""
    inside = prefix + "text_model."
    return {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(inside) and "position_ids" not in n}


def layer_of(name: str) -> int | None:
    """Number of the layer that a tensor belongs to, in either layout."""
    found = re.search(r"\.(?:layers|resblocks)\.(\d+)\.", name)
    return int(found[1]) if found else None


def layers_of(names: Iterable[str]) -> int:
    """Number of layers, in either layout."""
    return 1 + max((n for name in names if (n := layer_of(name)) is not None), default=-1)


def settings_of(state: Mapping[str, Tensor], activation: str) -> Any:
    """transformers' configuration of an encoder, its sizes read off the weights in its own layout."""
    from transformers import CLIPTextConfig

    words, width = state["text_model.embeddings.token_embedding.weight"].shape
    projection = state.get(PROJECTION)
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=state["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_attention_heads=max(1, width // HEAD),
        num_hidden_layers=layers_of(state),
        max_position_embeddings=state["text_model.embeddings.position_embedding.weight"].shape[0],
        hidden_act=activation,
        projection_dim=width if projection is None else projection.shape[0],
        bos_token_id=END - 1,
        eos_token_id=END,
    )


def filled(cls: type, settings: Any, state: Mapping[str, Tensor]) -> nn.Module:
    """An encoder of class `cls` with these weights in float32. Raises `BadCheckpoint` when some are missing."""
    with torch.device("meta"):
        model = cls(settings)
    wanted = model.state_dict().keys()
    # transformers 5 leaves out the first part of the name in one of the two classes
    prefix = "text_model." if any(n.startswith("text_model.") for n in wanted) else ""
    state = {(n if prefix else n.removeprefix("text_model.")): t.to(torch.float32, copy=True) for n, t in state.items()}
    try:
        missing = [n for n in model.load_state_dict(state, strict=False, assign=True).missing_keys if n in wanted]
    except RuntimeError as e:
        raise BadCheckpoint(f"The checkpoint's text encoder does not fit its configuration: {e}") from e
    missing = [n for n in missing if "position_ids" not in n]
    if missing:
        raise BadCheckpoint(
            f"The checkpoint's text encoder is incomplete: {missing[0]} and {len(missing) - 1} more are missing."
        )
    for module in model.modules():
        if getattr(module, "position_ids", None) is not None:
            module.position_ids = torch.arange(settings.max_position_embeddings)[None]
    return model


def pooled_width(weights: Mapping[str, Tensor]) -> int:
    """Size of SDXL's pooled vector."""
    return weights[XL_OPEN_CLIP + "text_projection"].shape[1]
