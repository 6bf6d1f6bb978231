"""The demo checkpoint in the original networks, as Automatic1111 holds it: real `ldm` code out of a package."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from tests.comfy.sources import ROOT, Source, SourceError, download, unpack

CACHE = ROOT / ".cache" / "webui"
LDM = Source(
    "stable-diffusion-sdkit==2.1.5",
    "552075efc72e81182b34a0c7b6579202a24d1d6cd6712a11979bf81d106625a4",
    "ldm",
    built=True,
)
UNET, VAE = "model.diffusion_model.", "first_stage_model."


def tree(cache: Path = CACHE) -> Path:
    """The folder that holds the package `ldm`; at once when it was fetched before. Raises `SourceError`."""
    folder = cache / "ldm-2.1.5"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        unpack(download(LDM, Path(scratch)), LDM.tree, Path(scratch, "tree", "ldm"))
        if not Path(scratch, "tree", "ldm", "modules", "diffusionmodules", "openaimodel.py").is_file():
            raise SourceError(f"{LDM.package} holds no networks.")
        Path(scratch, "tree").rename(folder)
    return folder


def make_importable() -> None:
    """Let `import ldm` work; of omegaconf it asks only for the type of a list in a configuration."""
    if (folder := str(tree())) not in sys.path:
        sys.path.append(folder)
    if not importlib.util.find_spec("omegaconf"):
        for name in ("omegaconf", "omegaconf.listconfig"):
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
        sys.modules["omegaconf.listconfig"].ListConfig = list


class Wrapper(nn.Module):
    """What lies between the model and its UNet; the host's hooks sit on it."""

    conditioning_key = "crossattn"

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.diffusion_model = unet

    def forward(self, x, t, c_concat=None, c_crossattn=None):
        return self.diffusion_model(x, t, context=torch.cat(c_crossattn, 1))


class FirstStage(nn.Module):
    """The original autoencoder."""

    def __init__(self, config: dict):
        super().__init__()
        from ldm.modules.diffusionmodules.model import Decoder, Encoder

        sizes, width = config["ddconfig"], config["embed_dim"]
        self.encoder, self.decoder = Encoder(**sizes), Decoder(**sizes)
        self.quant_conv = nn.Conv2d(2 * sizes["z_channels"], 2 * width, 1)
        self.post_quant_conv = nn.Conv2d(width, sizes["z_channels"], 1)


class LatentDiffusion(nn.Module):
    """`shared.sd_model`: the attributes and methods that the extension uses. text: gives token vectors of prompts."""

    is_sdxl = is_sd2 = is_sd3 = False
    parameterization = "eps"

    def __init__(self, file: Path, text, **unet):
        super().__init__()
        make_importable()
        from ldm.modules.diffusionmodules.openaimodel import UNetModel

        params = yaml.safe_load(file.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]
        weights = load_file(file)
        self.model = Wrapper(UNetModel(**{**params["unet_config"]["params"], **unet}))
        self.first_stage_model = FirstStage(params["first_stage_config"]["params"])
        for module, start in ((self.model.diffusion_model, UNET), (self.first_stage_model, VAE)):
            module.load_state_dict(
                {k.removeprefix(start): v.float() for k, v in weights.items() if k.startswith(start)}
            )
        start, end = params["linear_start"] ** 0.5, params["linear_end"] ** 0.5
        betas = torch.linspace(start, end, params["timesteps"], dtype=torch.float64) ** 2
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0).float())
        self.scale_factor, self.text = params["scale_factor"], text
        self.sd_checkpoint_info = SimpleNamespace(filename=str(file))
        self.eval()

    def get_learned_conditioning(self, prompts):
        """Token vectors; the host takes the backslash off signs that it would read as weights otherwise."""
        assert not any(re.search(r"(?<!\\)[()\[\]]", p) for p in prompts), "read as weights"
        return self.text([re.sub(r"\\(.)", r"\1", p) for p in prompts])

    def decode_first_stage(self, z):
        """Pictures in -1..1."""
        return self.first_stage_model.decoder(self.first_stage_model.post_quant_conv(z / self.scale_factor))
