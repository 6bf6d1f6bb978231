"""Text encoders of a checkpoint: CLIP (SD1, SDXL) and OpenCLIP (SD2, SDXL), each read at the layer that its model was
trained on, and the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..delta.paths import folder_beside
from ..errors import BadCheckpoint
from ..untrusted import listed
from . import clip_tokenizer
from .checkpoint import OPEN_CLIP, SGM_OPEN_CLIP, TEXT, XL_OPEN_CLIP, XL_TEXT, Checkpoint
from .clip_tokenizer import standard_tokenizer
from .sidecar import Settings, read_settings
from .weights import network

END = 49407
PROJECTION = "text_projection.weight"
HEAD = 64
"""Channels of an attention head in every CLIP."""
LAYERS = {768: 12, 1024: 24, 1280: 32}
"""Layers of the encoders that are known, by their width."""
MAX_LAYERS, MAX_WIDTH, MAX_TOKENS, MAX_LENGTH = 64, 2**14, 2**20, 4096
POOLED = (XL_OPEN_CLIP + "text_projection", XL_OPEN_CLIP + "text_projection.weight")
UNUSED = ("position_ids", "text_projection", "logit_scale", "attn_mask")
"""What encoders carry that this model does not ask them for."""


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

    def cut(self, prompts: Sequence[str]) -> list[str]:
        """Those of the prompts that are longer than what the encoder reads."""
        length = self.model.config.max_position_embeddings
        rows = self.tokenizer(list(prompts), verbose=False).input_ids
        return [prompt for prompt, row in zip(prompts, rows, strict=True) if len(row) > length]


def from_checkpoint(checkpoint: Checkpoint) -> tuple[TextEncoder, ...]:
    """The text encoders of a single-file checkpoint in float32. Raises `BadCheckpoint` for incomplete ones."""
    weights, architecture = checkpoint.weights, checkpoint.facts.architecture
    local = tokenizer_beside(checkpoint)
    if local is not None:
        return (local_clip(weights, local),)
    tokenizer = standard_tokenizer()
    found: tuple[TextEncoder, ...]
    if architecture == "sd1":
        found = (TextEncoder(clip(weights, TEXT), tokenizer, END),)
    elif architecture == "sd2":
        prefix = OPEN_CLIP if any(n.startswith(OPEN_CLIP) for n in weights) else SGM_OPEN_CLIP
        found = (TextEncoder(open_clip(weights, prefix, last=False), tokenizer, 0),)
    else:
        found = (
            TextEncoder(clip(weights, XL_TEXT), tokenizer, END, penultimate=True),
            TextEncoder(open_clip(weights, XL_OPEN_CLIP, last=True), tokenizer, 0, penultimate=True, pooled=True),
        )
    for encoder in found:
        check_tokens(encoder)
    return found


def tokenizer_beside(checkpoint: Checkpoint) -> Path | None:
    """The folder that the checkpoint's yaml names, when it lies beside it; SD1 alone may have one."""
    params = Settings(checkpoint.params, "The .yaml beside the checkpoint")
    version, parent = params.inside("cond_stage_config", "params").text("version"), checkpoint.path.parent
    folder = folder_beside(parent, version) if checkpoint.facts.architecture == "sd1" else None
    return folder if folder is not None and (folder / "vocab.json").is_file() else None


def check_tokens(encoder: TextEncoder) -> None:
    """Raise `BadCheckpoint` when the tokenizer gives numbers that the encoder does not have."""
    rows, wanted = encoder.model.config.vocab_size, len(encoder.tokenizer)
    if wanted > rows:
        raise BadCheckpoint(
            f"The checkpoint's text encoder knows {rows} tokens, but its tokenizer gives {wanted}: the tokenizer's "
            "folder that belongs beside it is missing or another one's."
        )


def local_clip(weights: Mapping[str, Tensor], folder: Path) -> TextEncoder:
    """SD1's encoder with the sizes and the tokenizer of a folder beside the checkpoint."""
    from transformers import CLIPTextModel

    state = bare(weights, TEXT)
    where = f"config.json in {folder.name} beside the checkpoint"
    settings = clip_settings(read_settings(folder / "config.json", where), state, "quick_gelu")
    tokenizer = clip_tokenizer.read_tokenizer(folder)
    made = TextEncoder(filled(CLIPTextModel, settings, state), tokenizer, tokenizer.pad_token_id)
    check_tokens(made)
    return made


def clip(weights: Mapping[str, Tensor], prefix: str) -> nn.Module:
    """CLIP's text encoder in transformers' own layout."""
    from transformers import CLIPTextModel

    own = bare(weights, prefix)
    return filled(CLIPTextModel, clip_settings(Settings({}, ""), own, "quick_gelu"), own)


def open_clip(weights: Mapping[str, Tensor], prefix: str, last: bool) -> nn.Module:
    """OpenCLIP's text encoder. last: with the last layer and the projection (SDXL), else without (SD2)."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    own = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    count = layers_of(own)
    if not last:
        count = layers_to_read(own, count)
    state = dict(from_open_clip(own, count, last))
    cls = CLIPTextModelWithProjection if last else CLIPTextModel
    return filled(cls, clip_settings(Settings({}, ""), state, "gelu"), state)


def layers_to_read(own: Mapping[str, Tensor], count: int) -> int:
    """How many of SD2's layers are read: all but the last, which other programs leave out of the file.

    Raises `BadCheckpoint` where it cannot be told whether the last one has been left out already.
    """
    width = own["ln_final.weight"].shape[0] if "ln_final.weight" in own else 0
    whole = LAYERS.get(width)
    if whole is None and "text_projection" in own:
        whole = count  # only whole encoders end in a projection
    if whole is None or count not in (whole - 1, whole) or count < 2:
        wanted = f", {whole} or {whole - 1} belong there" if whole else ""
        raise BadCheckpoint(
            f"The checkpoint's text encoder (OpenCLIP) has {count} layers{wanted}: whether its last one is there "
            "cannot be told, so use the original file."
        )
    return whole - 1


OPEN_CLIP_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def from_open_clip(own: Mapping[str, Tensor], count: int, projected: bool) -> Iterator[tuple[str, Tensor]]:
    """OpenCLIP's first `count` layers and its other tensors in transformers' layout; unknown names stay as they are."""
    for name, t in own.items():
        if found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)", name):
            layer, part, kind = f"text_model.encoder.layers.{int(found[1])}.", found[2], found[3]
            if int(found[1]) < count:
                yield layer + OPEN_CLIP_NAMES.get(part, part) + "." + kind, t
        elif found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", name):
            if int(found[1]) < count:
                for third, part in zip("qkv", t.chunk(3), strict=False):
                    yield f"text_model.encoder.layers.{int(found[1])}.self_attn.{third}_proj.{found[2]}", part
        elif name == "text_projection":
            if projected:
                yield PROJECTION, t.T
        elif name == "text_projection.weight" and projected:
            yield PROJECTION, t
        elif name.startswith("token_embedding."):
            yield "text_model.embeddings." + name, t
        elif name == "positional_embedding":
            yield "text_model.embeddings.position_embedding.weight", t
        elif name.startswith("ln_final."):
            yield "text_model.final_layer_norm." + name.removeprefix("ln_final."), t
        elif not name.startswith(UNUSED):
            yield name, t


def bare(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The text model's tensors under a prefix, without it and without what is not used."""
    own = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    return {
        n: t
        for n, t in own.items()
        if not n.removeprefix("text_model.").startswith(("embeddings.position_ids", *UNUSED))
    }


def layer_of(name: str) -> int | None:
    """Number of the layer that a tensor belongs to, in either layout."""
    found = re.search(r"\.(?:layers|resblocks)\.(\d{1,9})\.", name)
    return int(found[1]) if found else None


def layers_of(names: Iterable[str]) -> int:
    """Number of layers, in either layout. Raises `BadCheckpoint` for more than any encoder has."""
    count = 1 + max((n for name in names if (n := layer_of(name)) is not None), default=-1)
    if count > MAX_LAYERS:
        raise BadCheckpoint(f"The checkpoint's text encoder names {count} layers, more than any has.")
    return count


def clip_settings(given: Settings, state: Mapping[str, Tensor], activation: str, projected: bool = False) -> Any:
    """transformers' configuration of an encoder, its sizes read off the weights; `given` must not contradict them.

    Raises `BadCheckpoint`.
    """
    from transformers import CLIPTextConfig

    inside = "text_model.embeddings."
    first = "text_model.encoder.layers.0.mlp.fc1.weight"
    needed = [inside + "token_embedding.weight", inside + "position_embedding.weight", first]
    if missing := [n for n in needed if n not in state or state[n].dim() != 2]:
        raise BadCheckpoint(
            f"The checkpoint's text encoder is incomplete: {listed(missing)} missing; copy or download it again."
        )
    (words, width), length, middle = state[needed[0]].shape, state[needed[1]].shape[0], state[first].shape[0]
    projection = state.get(PROJECTION)
    sizes = {
        "vocab_size": (words, MAX_TOKENS),
        "hidden_size": (width, MAX_WIDTH),
        "intermediate_size": (middle, 8 * MAX_WIDTH),
        "num_hidden_layers": (layers_of(state), MAX_LAYERS),
        "max_position_embeddings": (length, MAX_LENGTH),
    }
    for name, (size, most) in sizes.items():
        if not 1 <= size <= most:
            raise BadCheckpoint(f"The checkpoint's text encoder has {name} {size}, which no known one has.")
        if given.values.get(name) is not None and given.whole(name, size, 1, most) != size:
            raise given.refuse(name, f"what the weights have ({size})")
    count = given.whole("num_attention_heads", max(1, width // HEAD), 1, width)
    if width % count:
        raise given.refuse("num_attention_heads", f"a part of the width {width}")
    # transformers reads the end token of a prompt by it; 2 is what old configurations say
    end = given.whole("eos_token_id", min(END, words - 1), 0, max(words - 1, 2))
    return CLIPTextConfig(
        **{name: size for name, (size, _) in sizes.items()},
        num_attention_heads=count,
        hidden_act=given.one_of("hidden_act", activation, ("quick_gelu", "gelu")),
        layer_norm_eps=given.number("layer_norm_eps", 1e-5, 1e-8, 1e-2),
        projection_dim=width if projection is None else projection.shape[0],
        bos_token_id=given.whole("bos_token_id", min(END, words) - 1, 0, MAX_TOKENS),
        eos_token_id=end,
    )


def filled(cls: type, settings: Any, state: Mapping[str, Tensor]) -> nn.Module:
    """An encoder of class `cls` with these weights in float32. Raises `BadCheckpoint` when they do not fit."""
    with torch.device("meta"):
        wanted = cls(settings).state_dict().keys()
    # transformers 5 leaves out the first part of the name in one of the two classes
    inside = any(n.startswith("text_model.") for n in wanted)
    own = dict(state) if inside else {n.removeprefix("text_model."): t for n, t in state.items()}
    # transformers before 4.31 keeps this count among the weights, and checkpoints need not have it
    counts = [n for n in wanted if n.endswith("embeddings.position_ids")]
    own |= {n: torch.arange(settings.max_position_embeddings)[None] for n in counts}
    what = "The checkpoint's text encoder"
    model = network(lambda: cls(settings), own, torch.float32, what, lambda n: n if inside else "text_model." + n)
    for module in model.modules():
        if getattr(module, "position_ids", None) is not None:
            module.position_ids = torch.arange(settings.max_position_embeddings)[None]
    return model


def pooled_width(weights: Mapping[str, Tensor]) -> int:
    """Size of SDXL's pooled vector."""
    found = next((weights[n] for n in POOLED if n in weights), None)
    if found is None or found.dim() != 2:
        raise BadCheckpoint(f"The checkpoint's second text encoder lacks its projection ({POOLED[0]}).")
    return found.shape[1] if POOLED[0] in weights else found.shape[0]
