"""For tests only: lets Forge load the demo checkpoint. Forge knows networks from a list, and this one is not in it.

Like `unlearn_probe.py`, it is linked into the web UI's `extensions/`, not copied: it looks for the demo beside itself.
"""

import json
import shutil
import tempfile
from pathlib import Path

DEMO = Path(__file__).resolve().parents[4] / "assets" / "demo"
AUTOENCODER = {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 1, "sample_size": 128}
NETWORK = {"context_dim": 128, "model_channels": 64}


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


try:
    import modules_forge  # noqa: F401
except ImportError:
    pass
else:
    teach()
