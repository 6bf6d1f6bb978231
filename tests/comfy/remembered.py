"""What the nodes remember of a MODEL and what they do not, seen from ComfyUI's own process.

Runs inside ComfyUI: python boot.py COMFYUI_FOLDER remembered.py FOLDER --cpu
Prints as its last line {"keys": {what is on the MODEL: names of the same request, for each time it was put on},
"tidied": see `tidied`, "outcomes": see `outcomes`, "guidance": see `guidance`, "tries": see
`tries`, "merged", "told", "saved": see the functions}.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import comfy.options

# ComfyUI reads its options when its modules are loaded
FOLDER = Path(sys.argv.pop(1))
comfy.options.enable_args_parsing()
# behind ComfyUI's own folder, which has modules of the same names
sys.path.append(str(Path(__file__).resolve().parent))

import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from our_pack import load_pack  # noqa: E402

LIMIT = "UNLEARN_CACHE_MB"
QUICK = {"concept": "banana", "anchor": "dog", "quality": "quick", "sampling_steps": 1}


def patched(model, delta: Path) -> dict:
    """{what is on a MODEL: function that puts it on}, by ComfyUI's own nodes."""
    from comfy_extras.nodes_freelunch import FreeU_V2
    from comfy_extras.nodes_model_advanced import (
        ModelComputeDtype,
        ModelSamplingAuraFlow,
        ModelSamplingDiscrete,
        ModelSamplingSD3,
        RescaleCFG,
    )
    from comfy_extras.nodes_model_merging import ModelMergeSimple, ModelSubtract
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    lora = comfy.utils.load_torch_file(str(delta))
    key = key_of(model)
    return {
        "nothing": lambda: model,
        "a clone": model.clone,
        "a LoRA": lambda: comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)[0],
        "a merge": lambda: ModelMergeSimple().merge(model, halved(model), 0.5)[0],
        "a difference": lambda: ModelSubtract().merge(model, halved(model), 0.5)[0],
        "eps": lambda: ModelSamplingDiscrete().patch(model, "eps", False)[0],
        "x0": lambda: ModelSamplingDiscrete().patch(model, "x0", False)[0],
        "SD3": lambda: ModelSamplingSD3().patch(model, 3.0)[0],
        "AuraFlow": lambda: ModelSamplingAuraFlow().patch_aura(model, 3.0)[0],
        "RescaleCFG": lambda: RescaleCFG().patch(model, 0.7)[0],
        "PAG": lambda: PerturbedAttentionGuidance.execute(model, 3.0).args[0],
        "FreeU": lambda: FreeU_V2.execute(model, 1.3, 1.4, 0.9, 0.2).args[0],
        "a bypass LoRA": lambda: comfy.sd.load_bypass_lora_for_models(model, None, lora, 1.0, 0.0)[0],
        "another precision": lambda: ModelComputeDtype().patch(model, "bf16")[0],
        "a weight wrapper": lambda: changed(model, lambda m: m.add_weight_wrapper(key, lambda w: 2 * w)),
        "a callback": lambda: changed(model, lambda m: m.add_callback("on_pre_run", print)),
    }


def key_of(model) -> str:
    """ComfyUI's name of a weight that reads text."""
    return next(k for k in model.model.state_dict() if k.endswith("attn2.to_k.weight"))


def changed(model, change):
    """A copy of a MODEL after a change."""
    copy = model.clone()
    change(copy)
    return copy


def halved(model):
    """A MODEL with a patch, to be merged into another."""
    key = key_of(model)
    patch = {key: (-0.5 * model.model.state_dict()[key],)}
    return changed(model, lambda m: m.add_patches(patch))


def named(parts: dict, clip) -> dict[str, list[str]]:
    """Names of the same request on MODELs that are put together twice."""
    from the_pack.nodes import cache
    from the_pack.nodes.host import ComfyHostModel
    from the_pack.unlearn_core import ForgetConfig

    found = {}
    for name, put_on in parts.items():
        # both are there at once, so that what is made anew has another address
        models = [put_on(), put_on()]
        hosts = [ComfyHostModel(m, clip, None, 64) for m in models]
        config = ForgetConfig(**QUICK)
        found[name] = [cache.keys(h, m, config).untrained for h, m in zip(hosts, models, strict=True)]
    return found


def tidied() -> list[str]:
    """What is left of four deltas where there is room for none, one is held open and one is gone meanwhile."""
    from the_pack.nodes import cache

    cache.folder().mkdir(parents=True, exist_ok=True)
    for age, name in enumerate(("newest", "old", "held", "gone")):
        file = cache.folder() / f"{name}.safetensors"
        file.write_bytes(b"x" * 100)
        os.utime(file, (1e9 - age, 1e9 - age))
    stat, unlink = Path.stat, Path.unlink

    def no_stat(file, **options):
        if file.stem == "gone":
            raise FileNotFoundError(file)
        return stat(file, **options)

    def no_unlink(file, **options):
        if file.stem in ("held", "gone"):
            raise PermissionError(file)
        unlink(file, **options)

    os.environ[LIMIT] = "0.00001"
    try:
        Path.stat, Path.unlink = no_stat, no_unlink
        cache.tidy("newest")
    except OSError as problem:
        return [repr(problem)]
    finally:
        Path.stat, Path.unlink = stat, unlink
        del os.environ[LIMIT]
    left = sorted(f.name for f in cache.folder().iterdir())
    for file in cache.folder().iterdir():
        file.unlink()
    return left


class BlackVae:
    """An autoencoder that gives no numbers, as some do in half precision."""

    first_stage_model = torch.nn.Linear(2, 2)

    def decode(self, latents):
        """Pictures of NaN."""
        return torch.full((len(latents), 8 * latents.shape[-2], 8 * latents.shape[-1], 3), torch.nan)


@contextmanager
def pictures_broken(after_only: bool):
    """Runs whose pictures of after are no numbers, as the core's own check gives them."""
    from the_pack.nodes import forget
    from the_pack.unlearn_core.method.forget import broken_in

    real = forget.forget_or_go_on

    def run(host, config, *others):
        result = real(host, config, *others)
        good = torch.zeros(len(result.prompts), 3, 64, 64)
        bad = torch.full_like(good, torch.nan) if after_only else good
        why = "" if config.force else broken_in([bad])
        return replace(result, before=good, after=bad, withheld=why, report={**result.report, "withheld": why})

    forget.forget_or_go_on = run
    try:
        yield
    finally:
        forget.forget_or_go_on = real


def outcomes(model, clip, vae) -> dict[str, dict]:
    """{case: whether the MODEL is another one, its report, endings of the files in the cache}, of quick requests."""
    from the_pack.nodes import cache
    from the_pack.nodes.forget import Wired
    from the_pack.unlearn_core import ForgetConfig

    found = {}

    def run(case, over=vae, **more):
        with torch.inference_mode(False), torch.no_grad():
            done = Wired(clip, over, 64, 1.0, "1", "").forget(model, ForgetConfig(**{**QUICK, **more}), (0, 1))
        files = [f for f in cache.folder().glob("*.*") if f.is_file()]
        kinds = sorted(f.name.partition(".")[2].rpartition(".")[2] for f in files)
        sound = all(bool(p.isfinite().all()) for p in done.pictures)
        found[case] = {"changed": done.model is not model, "text": done.text, "files": kinds, "sound": sound}

    with pictures_broken(after_only=True):
        run("forced", force=True)
        run("checked")
    run("black", BlackVae())
    run("sound")
    os.environ[LIMIT] = "0"
    try:
        run("switched off")
    finally:
        del os.environ[LIMIT]
    run("switched on")
    return found


def tries(model, clip) -> list[str]:
    """What ComfyUI's own cache goes by: at first, after two runs without room for the training, after a sound one."""
    from the_pack.nodes import forget
    from the_pack.unlearn_core import ForgetConfig

    real = forget.forget_or_go_on
    found = [forget.ForgetConcept.fingerprint_inputs()]

    def no_room(*asked):
        result = real(*asked)
        return replace(result, report={**result.report, "remark": "Out of memory even at batch size 1."})

    for run in (no_room, no_room, real):
        forget.forget_or_go_on = run
        with torch.inference_mode(False), torch.no_grad():
            config = ForgetConfig(**{**QUICK, "concept": "pear"})
            forget.Wired(clip, None, 64, 1.0, "1", "").forget(model, config, (0, 1))
        found.append(forget.ForgetConcept.fingerprint_inputs())
    forget.forget_or_go_on = real
    return found


def merged(model, delta: Path) -> dict[str, str]:
    """{how a MODEL with a delta was merged: the concepts that are on it, or why that cannot be told}."""
    from comfy_extras.nodes_model_merging import ModelAdd, ModelMergeSimple
    from the_pack.nodes.model_stack import stack_of, with_delta
    from the_pack.unlearn_core import UnlearnError, load

    forgotten, merge = with_delta(model, load(delta)), ModelMergeSimple().merge
    lora = comfy.utils.load_torch_file(str(delta))
    ways = {
        "after": lambda: merge(forgotten, model, 0.5)[0],
        "before": lambda: with_delta(merge(model, halved(model), 0.5)[0], load(delta)),
        "a LoRA after": lambda: comfy.sd.load_lora_for_models(forgotten, None, lora, 0.5, 0.0)[0],
        "added": lambda: ModelAdd().merge(forgotten, model)[0],
        "into another": lambda: merge(model, forgotten, 0.5)[0],
    }
    found = {}
    for name, way in ways.items():
        try:
            found[name] = " ".join(stack_of(way()).concepts())
        except UnlearnError as problem:
            found[name] = str(problem)
    return found


def told(parts: dict, clip, vae) -> dict:
    """What is kept on disk of a plain MODEL and of one with functions, and names of two autoencoders."""
    from the_pack.nodes import cache
    from the_pack.nodes.cache_size import words_folder
    from the_pack.nodes.host import ComfyHostModel
    from the_pack.unlearn_core.method.run import pictures_of
    from the_pack.unlearn_core.saved_work import NOTHING

    os.environ["UNLEARN_CACHE"] = str(FOLDER / "words")
    hosts = {name: ComfyHostModel(parts[name](), clip, vae, 64) for name in ("nothing", "FreeU")}
    found = {n: [pictures_of(h) is not None, cache.saved_work(h) is not NOTHING] for n, h in hosts.items()}
    names = [cache.hashed(hosts["nothing"].decoder())]
    weight = vae.first_stage_model.decoder.conv_out.weight
    weight.data.neg_()
    names.append(cache.hashed(hosts["nothing"].decoder()))
    weight.data.neg_()
    folders = []
    for text in ("0", "0.0", "00", "-1", "1"):
        os.environ[LIMIT] = text
        folders.append(words_folder() is not None)
    del os.environ[LIMIT]
    return {**found, "autoencoders": names, "folders": folders}


def saved_of(delta: Path) -> list[str]:
    """What Save Delta says of a stack on top of which a request kept nothing, by what is to be saved."""
    from the_pack.nodes.save import SaveDelta
    from the_pack.unlearn_core import Stack, load

    stack = replace(Stack().with_delta(load(delta)), withheld=("fox",))
    grown = stack.with_delta(load(delta.with_name("forget_banana.safetensors")))
    newest, each, both = (
        SaveDelta.execute(s, "x", save=w)
        for s, w in ((stack, "newest delta"), (stack, "each delta"), (grown, "newest delta"))
    )
    return [out.ui["text"][0] for out in (newest, each, both)]


def guidance() -> dict[str, list[float]]:
    """{guidance on the node: with what Before / After draws a MODEL without and one with a guidance of its own}."""
    from the_pack.nodes import pictures

    drawn = []
    pictures.draw = lambda host, lines, seed, steps, scale: drawn.append(scale) or torch.zeros(len(lines), 3, 8, 8)
    pictures.ComfyHostModel = lambda model, *others: SimpleNamespace(guidance=model)
    found = {}
    for typed in (5.0, 7.0):
        drawn.clear()
        for own in (None, 1.0):
            pictures.BeforeAfter.execute(own, own, None, "a cat", 0, 1, typed, 64)
        found[str(typed)] = list(drawn)
    return found


def main() -> None:
    """Look at all of it."""
    import folder_paths
    from the_pack.nodes.demo_model import load_demo
    from the_pack.unlearn_core.demo.recognition import CHECKPOINT

    folder_paths.set_user_directory(str(FOLDER))
    folder_paths.set_temp_directory(str(FOLDER))
    model, clip, vae = load_demo(Path(CHECKPOINT))
    delta = CHECKPOINT.with_name("deltas") / "forget_cat.safetensors"
    with torch.no_grad():
        report = {"keys": named(patched(model, delta), clip), "tidied": tidied()}
    report |= {"outcomes": outcomes(model, clip, vae), "guidance": guidance()}
    report["tries"] = tries(model, clip)
    with torch.no_grad():
        report |= {"merged": merged(model, delta), "told": told(patched(model, delta), clip, vae)}
    folder_paths.folder_names_and_paths["loras"] = ([str(FOLDER / "loras")], {".safetensors"})
    (FOLDER / "loras").mkdir()
    report["saved"] = saved_of(delta)
    print(json.dumps(report))


if __name__ == "__main__":
    load_pack()
    main()
