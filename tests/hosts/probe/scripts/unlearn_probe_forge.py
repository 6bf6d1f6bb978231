"""For tests only: lets Forge load the demo checkpoint. Forge knows networks from a list, and this one is not in it.

Like `unlearn_probe.py`, it is linked into the web UI's `extensions/`, not copied: it looks for the demo beside itself.
"""

import json
import shutil
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

DEMO = Path(__file__).resolve().parents[4] / "assets" / "demo"
AUTOENCODER = {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 1, "sample_size": 128}
NETWORK = {"context_dim": 128, "model_channels": 64}
PARTS = {"double_z": True, "z_channels": 4, "resolution": 128, "in_channels": 3, "out_ch": 3, "ch": 32}
PARTS |= {"ch_mult": [1, 1, 2, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}


def configuration(original: Path) -> Path:
    """A folder like Forge's own for Stable Diffusion 1, with the demo's text encoder and autoencoder."""
    folder = Path(tempfile.mkdtemp(prefix="unlearn_demo_")) / "demo"
    shutil.copytree(original, folder)
    for file in (DEMO / "tokenizer").iterdir():
        shutil.copy(file, folder / ("text_encoder" if file.name == "config.json" else "tokenizer"))
    known = folder / "vae" / "config.json"
    known.write_text(json.dumps(json.loads(known.read_text("utf-8")) | AUTOENCODER), "utf-8")
    return folder


def teach() -> None:
    """Put the demo first in Forge's list of networks."""
    from backend import loader
    from huggingface_guess import model_list

    class Demo(model_list.SD15):
        huggingface_repo = str(configuration(Path(loader.dir_path, "huggingface", model_list.SD15.huggingface_repo)))
        unet_config = model_list.SD15.unet_config | NETWORK
        unet_extra_config = {"num_heads": 4, "num_head_channels": -1}

    if not any(known.__name__ == Demo.__name__ for known in model_list.models):
        model_list.models.insert(0, Demo)


def teach_ldm_patched() -> None:
    """The same for reForge and Forge Classic, whose networks are the ones that Forge began with."""
    from ldm_patched.modules import sd1_clip, supported_models, supported_models_base
    from modules_forge import forge_loader

    tokenizer, config = str(DEMO / "tokenizer"), str(DEMO / "tokenizer" / "config.json")
    facts = {"textmodel_json_config": config, "special_tokens": {"start": 684, "end": 685, "pad": 685}}
    if hasattr(sd1_clip, "SD1CheckpointClipModel"):
        facts["return_projected_pooled"] = False
    vae = forge_loader.VAE

    class Tokenizer(sd1_clip.SD1Tokenizer):
        def __init__(self, *values, **more):
            made = partial(sd1_clip.SDTokenizer, tokenizer_path=tokenizer, embedding_size=NETWORK["context_dim"])
            super().__init__(*values, **{**more, "tokenizer": made})

    class Encoder(sd1_clip.SD1ClipModel):
        def __init__(self, *values, **more):
            super().__init__(*values, **{**more, "clip_model": partial(sd1_clip.SDClipModel, **facts)})

    class Demo(supported_models.SD15):
        unet_config = supported_models.SD15.unet_config | NETWORK
        unet_extra_config = {"num_heads": 4, "num_head_channels": -1}

        def clip_target(self, **_):
            return supported_models_base.ClipTarget(Tokenizer, Encoder)

    def autoencoder(sd, **more):
        """The demo's has fewer channels than what these hosts take each to have."""
        first = sd.get("decoder.conv_in.weight")
        if first is not None and first.shape[0] == PARTS["ch"] * PARTS["ch_mult"][-1]:
            more["config"] = {"params": {"ddconfig": dict(PARTS), "embed_dim": 4}}
        return vae(sd=sd, **more)

    if not any(known.__name__ == Demo.__name__ for known in supported_models.models):
        supported_models.models.insert(0, Demo)
        forge_loader.VAE = autoencoder


if find_spec("modules_forge"):
    (teach_ldm_patched if find_spec("ldm_patched") else teach)()
