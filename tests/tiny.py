"""A real but tiny denoiser behind the host protocol: one attention block, word vectors from a hash."""

import hashlib
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from unlearn_core.delta.apply import applied
from unlearn_core.delta.layer_names import fingerprint
from unlearn_core.host import Conditioning

WORDS = Path(__file__).parents[1] / "assets" / "demo" / "demo.words.json"
WIDTH, TOKENS = 16, 10


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(WIDTH, WIDTH)])

    def forward(self, x, context):
        return self.to_out[0](F.scaled_dot_product_attention(self.to_q(x), self.to_k(context), self.to_v(context)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn2, self.norm = Attention(), nn.LayerNorm(WIDTH)

    def forward(self, x, context):
        return x + self.attn2(self.norm(x), context)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 4)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x, sigma, context):
        h = self.enter(x.flatten(2).transpose(1, 2)) + torch.log(sigma).view(-1, 1, 1) / 4
        for block in self.blocks:
            h = block(h, context)
        return self.leave(h).transpose(1, 2).view_as(x)


class TinyHost:
    architecture, prediction_type = "tiny", "epsilon"
    latent_shape, device, words_file = (4, 4, 4), torch.device("cpu"), str(WORDS)
    notes = ()

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.backbone = Backbone().requires_grad_(False)
        self.sigmas = torch.linspace(-3.5, 2.7, 100).exp()
        self.fingerprint = fingerprint(self.backbone.state_dict())

    def encode(self, prompts):
        return Conditioning(torch.stack([self._sentence(p) for p in prompts]))

    def _sentence(self, prompt):
        words = (prompt.split() + [""] * TOKENS)[:TOKENS]
        seeds = [int.from_bytes(hashlib.sha256(w.encode()).digest()[:4], "big") for w in words]
        return torch.stack([torch.randn(WIDTH, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def cut(self, prompts):
        return [p for p in prompts if len(p.split()) > TOKENS]

    def noised(self, latents, sigma, noise):
        return latents + sigma.view(-1, 1, 1, 1) * noise

    def denoise(self, x, sigma, conditioning):
        s = sigma.view(-1, 1, 1, 1)
        return x - s * self.backbone(x / (1 + s * s).sqrt(), sigma, conditioning.tokens)

    def decode(self, latents):
        return F.interpolate(latents[:, :3].float(), scale_factor=8).sigmoid()

    def layers(self):
        return {
            "diffusion_model." + name: name for name, m in self.backbone.named_modules() if isinstance(m, nn.Linear)
        }

    @contextmanager
    def session(self, stack):
        with applied(self.backbone, self.layers(), stack):
            yield self.backbone
