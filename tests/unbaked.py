"""A checkpoint of some kilobytes with all that may lie beside and inside one, and a delta for it."""

import torch
from safetensors.torch import save_file

from unlearn_core.delta import layer_names
from unlearn_core.delta.format import Delta, DeltaInfo, Factor

UNET = "model.diffusion_model."
BLOCK = "input_blocks.1.1.transformer_blocks.0."
LAYERS = ("attn2.to_k", "attn2.to_v")
YAML = "model:\n  params:\n    cond_stage_config:\n      params:\n        version: words\n"
TEXTS = {
    "author": "Zoë",
    "modelspec.title": "Fruits",
    "modelspec.hash_sha256": "0x1",
    "sshs_model_hash": "2",
    "sshs_legacy_hash": "3",
    "sd_merge_models": "{}",
}


def tensors(dtype=torch.float16):
    g = torch.Generator().manual_seed(0)
    sizes = {"input_blocks.0.0.weight": (8, 4, 3, 3), "input_blocks.1.0.in_layers.2.weight": (8, 8, 3, 3)}
    sizes |= {f"{BLOCK}{name}.weight": (8, 8) for name in (*LAYERS, "attn2.to_q", "attn1.to_k")}
    return {n: torch.randn(size, generator=g).to(dtype) for n, size in sizes.items()}


def checkpoint(folder, ema=True, dtype=torch.float16):
    """The checkpoint with its yaml, its word list and its tokenizer's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    own = tensors(dtype)
    whole = {UNET + n: t for n, t in own.items()} | {"first_stage_model.x": torch.ones(3, dtype=dtype)}
    if ema:
        whole |= {f"model_ema.diffusion_model{n.replace('.', '')}": t.clone() for n, t in own.items()}
        whole |= {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(7)}
    save_file(whole, folder / "model.safetensors", TEXTS)
    (folder / "model.yaml").write_text(YAML)
    (folder / "model.words.json").write_text("{}")
    (folder / "words").mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (folder / "words" / name).write_text(name)
    return folder / "model.safetensors"


def delta(scale=1.0, dtype=torch.float16):
    """A delta for the checkpoint."""
    g = torch.Generator().manual_seed(1)
    names = [layer_names.delta_name(BLOCK + name, "sd1", None) for name in LAYERS]
    factors = {n: Factor(scale * torch.randn(2, 8, generator=g), torch.randn(8, 2, generator=g), 2.0) for n in names}
    marks = {n: t for n, t in tensors(dtype).items() if n.endswith(layer_names.FINGERPRINTED)}
    return Delta(factors, DeltaInfo("banana", "object", "", "sd1", "epsilon", layer_names.fingerprint(marks)), "banana")
