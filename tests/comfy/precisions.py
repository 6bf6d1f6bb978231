"""Two requests in a row on tiny networks whose weights ComfyUI holds packed, or patches only in a pass.

Runs inside ComfyUI: python boot.py COMFYUI_FOLDER precisions.py NAME... --cpu
Prints as its last line {name of a family: {way of holding weights: what was seen}}.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

# reads the arguments before ComfyUI does
import families  # noqa: E402, I001

import comfy.lora  # noqa: E402
import comfy.model_management as memory  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.supported_models as models  # noqa: E402
import torch  # noqa: E402
from comfy import sd1_clip  # noqa: E402
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor  # noqa: E402
from families_cases import FAMILIES, Family, clip, randomise  # noqa: E402
from our_pack import load_pack  # noqa: E402

CPU = torch.device("cpu")
WORDS = Path(__file__).with_name("few_words.json")
FORMATS = {"unet": "nvfp4", "qwen_image": "float8_e4m3fn", "auraflow": "int8_tensorwise"}
CASES = {
    **FAMILIES,
    "unet": Family(
        models.SD15,
        {
            **{"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64, "num_res_blocks": [1, 1]},
            **{"channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1]},
            **{"transformer_depth_middle": 1, "context_dim": 64, "use_spatial_transformer": True, "legacy": False},
            **{"adm_in_channels": None, "use_checkpoint": False, "use_linear_in_transformer": False},
        },
        lambda: clip(sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel),
    ),
}


def patcher(name, weights=None, dtype=torch.float32, quantised=False):
    """A MODEL of a family, with random weights where none are given."""
    family = CASES[name]
    config = family.kind(dict(family.sizes))
    config.quant_config = {"mixed_ops": True} if quantised else None
    config.set_inference_dtype(dtype, None if dtype == torch.float32 else torch.float32)
    model = config.get_model({}, "", device=CPU)
    if weights is None:
        randomise(model.diffusion_model)
    else:
        found = model.diffusion_model.load_state_dict(dict(weights), strict=False)
        assert not found.missing_keys and not found.unexpected_keys, found
    model.requires_grad_(False)
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


def packed(weights, layers, kind):
    """The weights as a file with `comfy_quant` has them, and the numbers that they stand for."""
    file, numbers = dict(weights), dict(weights)
    for path in layers:
        name = f"{path}.weight"
        # a file may leave some layers as they are
        if weights[name].shape[1] % 32 or weights[name].shape[0] % 32:
            continue
        done = QuantizedTensor.from_float(weights[name], QUANT_ALGOS[kind]["comfy_tensor_layout"], scale="recalculate")
        file |= done.state_dict(name)
        file[f"{path}.comfy_quant"] = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
        numbers[name] = done.dequantize()
    return file, numbers


class Bytes(torch.Tensor):
    """A weight as GGUF loaders keep it: packed bytes that say another shape."""

    @property
    def shape(self):
        return self.tensor_shape

    def detach(self):
        return self

    def to(self, *args, **kwargs):
        return self


def row_bytes(weight):
    """A matrix in bytes: in front of each row its scale, behind it whole numbers."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    data = torch.cat([scale.float().view(torch.uint8), (weight / scale).round().to(torch.int8).view(torch.uint8)], 1)
    made = data.as_subclass(Bytes)
    made.tensor_type, made.tensor_shape, made.patches = "rows of int8", weight.shape, []
    return made


class Packed(comfy.ops.manual_cast.Linear):
    """A layer that unpacks its weight in each pass, and then patches it, as ComfyUI-GGUF's do."""

    def get_weight(self, tensor, dtype):
        plain = tensor.as_subclass(torch.Tensor)
        weight = (plain[:, :4].contiguous().view(torch.float32) * plain[:, 4:].view(torch.int8)).to(dtype)
        for patches, key in tensor.patches:
            weight = comfy.lora.calculate_weight(patches, weight, key)
        return weight

    def forward_comfy_cast_weights(self, input):
        return torch.nn.functional.linear(input, self.get_weight(self.weight, input.dtype), self.bias)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[prefix + "weight"] = torch.zeros(1, device="meta")
        destination[prefix + "temp.weight"] = torch.zeros(1, device="meta")


class PackedPatcher(comfy.model_patcher.ModelPatcher):
    """Hangs patches on packed weights."""

    def patch_weight_to_device(self, key, *args, **kwargs):
        weight = comfy.utils.get_attr(self.model, key)
        if not isinstance(weight, Bytes):
            return super().patch_weight_to_device(key, *args, **kwargs)
        weight.patches = [(self.patches[key], key)] if key in self.patches else []

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        for weight in self.model.parameters():
            if isinstance(weight, Bytes) and unpatch_weights:
                weight.patches = []
        return super().unpatch_model(device_to, unpatch_weights)


def packed_rows(name, weights, layers, kind=Packed):
    """A MODEL whose linear layers hold bytes, and the numbers that they stand for."""
    plain, numbers = patcher(name, weights), dict(weights)
    network = plain.model.diffusion_model
    for path in layers:
        old, new = network.get_submodule(path), kind(1, 1)
        new.in_features, new.out_features, new.bias = old.in_features, old.out_features, old.bias
        new.weight = torch.nn.Parameter(row_bytes(weights[f"{path}.weight"]), requires_grad=False)
        numbers[f"{path}.weight"] = Packed.get_weight(new, new.weight, torch.float32)
        network.set_submodule(path, new)
    return PackedPatcher(plain.model, load_device=CPU, offload_device=CPU), numbers


class Paged(comfy.model_patcher.ModelPatcher):
    """As with dynamic VRAM: not to be read as a whole, but a loader can make one that is."""

    def is_dynamic(self):
        return True


def refusal(model, words):
    """The sentence for a MODEL that cannot be worked on."""
    from the_pack.nodes.host import ComfyHostModel
    from the_pack.unlearn_core import BadCheckpoint

    try:
        ComfyHostModel(model, words, None, 64)
    except BadCheckpoint as problem:
        return str(problem)


def state(model):
    """All bytes of a denoiser, without patches."""
    memory.unload_all_models()
    parts = {**model.model.diffusion_model.state_dict(), **dict(model.model.diffusion_model.named_parameters())}
    parts = {n: t.data.as_subclass(torch.Tensor) if isinstance(t, Bytes) else t for n, t in parts.items()}
    parts = {n: t for n, t in parts.items() if not t.is_meta and not isinstance(t, QuantizedTensor)}
    return {n: t.detach().clone().reshape(-1).contiguous().view(torch.uint8) for n, t in parts.items()}


@contextmanager
def patches_left_to_passes():
    """Models are loaded as on a card that has no room for a single layer."""
    load = memory.load_models_gpu

    def little(models, **_):
        for model in models:
            held = next((m for m in memory.current_loaded_models if m.model is model), None)
            if held is None:
                memory.current_loaded_models.append(held := memory.LoadedModel(model))
            held.model_load(0.1)

    memory.load_models_gpu = little
    try:
        yield
    finally:
        memory.load_models_gpu = load


def chain(model, words):
    """Two requests in a row, and what they did."""
    from the_pack.nodes.host import ComfyHostModel
    from the_pack.nodes.model_stack import with_delta
    from the_pack.unlearn_core import ForgetConfig, forget
    from the_pack.unlearn_core.delta import format as delta_file

    before, deltas, seen, base = state(model), [], {"matched": True}, model
    for target, anchor in (("cat", "dog"), ("car", "bus")):
        host = ComfyHostModel(model, words, None, 64)
        # one text encoder for all: what it gives is the same each time
        host.words_file, host._prompts = str(WORDS), words.prompts
        asked = {"concept": target, "anchor": anchor, "quality": "quick", "force": True, "sampling_steps": 1}
        result = forget(host, ForgetConfig.from_flat(asked), host.stack, lambda report: False)
        seen["way"], seen["base"] = result.report["way"], host.base_sample
        keys = comfy.lora.model_lora_keys_unet(model.model, {})
        matched = comfy.lora.load_lora(delta_file.tensors(result.delta), keys, log_missing=False)
        seen["matched"] = seen["matched"] and len(matched) == len(result.delta.factors) > 0
        deltas.append(result.delta)
        model = with_delta(model, result.delta)
    seen["lazy"] = any(getattr(m, "weight_function", ()) for m in base.model.diffusion_model.modules())
    after = state(base)
    seen["same"] = before.keys() == after.keys() and all(torch.equal(t, after[n]) for n, t in before.items())
    return deltas, seen


def cosine(ours, theirs):
    """Of all that two deltas change."""
    rows = [torch.cat([d.factors[n].matrix().flatten() for n in sorted(d.factors)]).double() for d in (ours, theirs)]
    return float(rows[0] @ rows[1] / rows[0].norm() / rows[1].norm())


def compared(found, wanted):
    """What was seen, with the cosines of both deltas to those wanted."""
    deltas, seen = dict(enumerate(found[0])), found[1]
    return {**seen, "cosines": [cosine(deltas[i], delta) for i, delta in enumerate(wanted[0])]}


def seen(name):
    """A family in all ways of holding its weights."""
    from the_pack.unlearn_core.prompt_cache import PromptCache

    words = CASES[name].words()
    words.prompts = PromptCache()
    whole = patcher(name)
    weights = {n: t.clone() for n, t in whole.model.diffusion_model.state_dict().items()}
    layers = [p for p, m in whole.model.diffusion_model.named_modules() if isinstance(m, torch.nn.Linear)]
    reference, found = chain(whole, words), {}
    base = reference[1].pop("base")
    with patches_left_to_passes():
        found["lazy"] = compared(chain(patcher(name, weights), words), reference)
    assert found["lazy"].pop("base").text() == base.text()
    small = patcher(name, weights, torch.float8_e4m3fn)
    numbers = {n: t.float() for n, t in small.model.diffusion_model.state_dict().items()}
    found["fp8"] = compared(chain(small, words), chain(patcher(name, numbers), words))
    found["fp8"]["known"] = base.same(found["fp8"].pop("base"))
    file, numbers = packed(weights, layers, FORMATS[name])
    small = patcher(name, file, quantised=True)
    kinds = {type(m.weight) for m in small.model.diffusion_model.modules() if hasattr(m, "weight")}
    assert QuantizedTensor in kinds, kinds
    found["comfy_quant"] = compared(chain(small, words), wanted := chain(patcher(name, numbers), words))
    rounded = found["comfy_quant"].pop("base")
    found["comfy_quant"]["known"] = rounded and base.same(rounded)
    with patches_left_to_passes():
        found["comfy_quant, lazy"] = compared(chain(small, words), wanted)
    found["comfy_quant, lazy"].pop("base")
    return found | (others(name, words, weights, layers, reference) if name == "unet" else {})


def others(name, words, weights, layers, reference):
    """Ways that differ in ComfyUI's layers and patchers, not in the network."""
    model, numbers = packed_rows(name, weights, layers)
    wanted = chain(patcher(name, numbers), words)
    found = {"gguf": compared(chain(model, words), wanted)}
    model = Paged(patcher(name, weights).model, load_device=CPU, offload_device=CPU)
    model.cached_patcher_init = (lambda disable_dynamic: patcher(name, weights), ())
    found["paged"] = compared(chain(model, words), reference)
    found["gguf"].pop("base"), found["paged"].pop("base")
    strange, _ = packed_rows(name, weights, layers, comfy.ops.manual_cast.Linear)
    return found | {"refused": refusal(strange, words)}


def main():
    """Each family that was asked for, as the executor runs nodes."""
    load_pack()
    from the_pack.unlearn_core import recipe

    few = {kind: replace(r, listed_prompts=(1, 1), kept_prompts=4) for kind, r in recipe.SMALL.items()}
    recipe.DEFAULT.update(few)
    wanted = [name for name in families.WANTED if name in CASES]
    with torch.inference_mode():
        print(json.dumps({name: seen(name) for name in wanted or FORMATS}))


if __name__ == "__main__":
    main()
