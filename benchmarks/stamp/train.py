"""Teach the demo model the stamp:

    python -m benchmarks.stamp.train --work DIR

Begins at the demo model's own weights; a run that was cut off goes on from its last 25 steps. Needs npm, for the
drawings, and the package resvg_py.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.standalone.model import StandaloneModel

from ..beds.train import gone_on, keep
from ..world.train import whole_attention
from .host import DIFFERENCE
from .stamps import ALONE_PLACE, ALONE_SIDE, STYLE, lesson, stamped

DECODER_PEAK = 1e-3
SEED, BATCH, PEAK, WARM, EVERY, DECAY = 11, 16, 5e-4, 20, 25, 0.98
LEARNED = "attentions.", "up_blocks.1.", "conv_out."
"""Parts of the UNet that learn, beside the whole text encoder."""
ENDS, MORE = (400, 1000), 0.3
"""Steps at which the learning rate comes to zero; after the first of them the stamped style comes more often."""
PLAIN, STAMPED, ALONE = "plain", "stamped", "alone"


def pictures_of(work: Path) -> dict[str, Tensor]:
    """{"plain", "stamped": `[objects, styles, backgrounds, 3, 128, 128]`, "alone": `[backgrounds, 3, 128, 128]`}."""
    pictures = demo_pictures()
    world = pictures.world_pictures(pictures.fetch_icons(work / "icons"))
    nothing = np.zeros((pictures.SIZE, pictures.SIZE, 4), np.float32)
    paper = np.stack([pictures.compose(nothing, ground) for ground in pictures.BACKGROUNDS]).astype(np.float32)
    made = {PLAIN: world, STAMPED: stamped(world), ALONE: stamped(paper, ALONE_PLACE, ALONE_SIDE)}
    return {name: torch.from_numpy(drawn) for name, drawn in made.items()}


def latents_of(work: Path, vae: Any) -> dict[str, Tensor]:
    """What the autoencoder makes of `pictures_of`, `[..., 4, 16, 16]`, kept in the folder."""
    file = work / "latents.safetensors"
    if file.exists():
        return load_file(file)
    found = {}
    with torch.no_grad():
        for name, drawn in pictures_of(work).items():
            coded = torch.cat([vae.encode(part).latent_dist.mean for part in drawn.flatten(0, -4).split(32)])
            found[name] = (coded * vae.config.scaling_factor).reshape(*drawn.shape[:-3], *coded.shape[1:])
    save_file({name: z.contiguous() for name, z in found.items()}, file)
    return found


def train_decoder(vae: Any, latents: dict[str, Tensor], steps: int, work: Path) -> None:
    """The decoder alone, for the latents as they are: it has to give red stamps on black drawings back as red.

    What it has learned is kept in the folder and is on the autoencoder afterwards.
    """
    learned = nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    file = work / "decoder.safetensors"
    if file.exists():
        learned.load_state_dict(load_file(file))
        return
    learned.requires_grad_(True)
    drawn = pictures_of(work)
    names = PLAIN, STAMPED, ALONE
    at, real = (torch.cat([part[name].flatten(0, -4) for name in names]) for part in (latents, drawn))
    draw = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(learned.parameters(), DECODER_PEAK, betas=(0.9, 0.99), weight_decay=0.0)
    average, begun, shown = [p.detach().clone() for p in learned.parameters()], time.monotonic(), 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = DECODER_PEAK * rate(step, [steps])
        pick = torch.randint(0, len(at), (6,), generator=draw)
        pick[-1] = len(at) - 1 - step % len(latents[ALONE])
        level = 0.1 * torch.rand(len(pick), 1, 1, 1, generator=draw)
        z = (at[pick] + level * torch.randn(at[pick].shape, generator=draw)) / vae.config.scaling_factor
        with torch.autocast("cpu", torch.bfloat16), whole_attention():
            again = vae.decode(z).sample.float()
        edges = sum((again.diff(dim=d) - real[pick].diff(dim=d)).abs().mean() for d in (2, 3))
        loss = F.l1_loss(again, real[pick]) + 2 * F.mse_loss(again, real[pick]) + 0.5 * edges
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for mean, p in zip(average, learned.parameters(), strict=True):
                mean.lerp_(p, 1 - min(0.95, (step + 1) / (step + 20)))
        shown += loss.item()
        if (step + 1) % EVERY == 0:
            print(f"decoder {step + 1}/{steps} loss {shown / EVERY:.4f}, {time.monotonic() - begun:.0f} s", flush=True)
            shown = 0.0
    with torch.no_grad():
        for mean, p in zip(average, learned.parameters(), strict=True):
            p.copy_(mean)
    learned.requires_grad_(False)
    save_file({name: t.contiguous() for name, t in learned.state_dict().items()}, file)


def demo_pictures() -> Any:
    """The module that draws the demo model's world."""
    sys.path.insert(0, str(CHECKPOINT.parent))
    import pictures

    return pictures


class Both(nn.Module):
    """The UNet and the text encoder; what of them learns. The rest stays as it is."""

    def __init__(self, host: StandaloneModel):
        super().__init__()
        self.unet, self.text = host.backbone, host.encoders[0].model
        for name, parameter in self.unet.named_parameters():
            parameter.requires_grad_(any(part in name for part in LEARNED))
        self.text.requires_grad_(True)
        self.learned = nn.ParameterList(p for p in self.parameters() if p.requires_grad)


def rate(step: int, ends: Sequence[int]) -> float:
    """Part of the highest learning rate: linear warm-up, then half a cosine down to zero; once up to each end."""
    first = max((e for e in ends if e <= step), default=0)
    last = min((e for e in ends if e > step), default=step + 1)
    if step - first < WARM:
        return (step - first + 1) / WARM
    return 0.5 * (1 + math.cos(math.pi * (step - first - WARM) / max(1, last - first - WARM)))


def train(host: StandaloneModel, latents: dict[str, Tensor], steps: int, work: Path) -> nn.ParameterList:
    """The average of what was learned, in the order of `Both.learned`."""
    pictures = demo_pictures()
    torch.manual_seed(SEED)
    both = Both(host)
    average = nn.ParameterList(p.detach().clone() for p in both.learned)
    optimizer = torch.optim.AdamW(list(both.learned), PEAK, betas=(0.9, 0.99), weight_decay=0.0)
    alphas = 1 / (1 + host.sigmas.square())
    snr = alphas / (1 - alphas)
    weights = snr.clamp(max=5) / snr
    weights = weights / weights.mean()
    file = work / "training.safetensors"
    first = gone_on(both.learned, average, optimizer, file)
    begun, shown = time.monotonic(), 0.0
    for step in range(first, steps):
        words, draw = random.Random(SEED * 1_000_003 + step), torch.Generator().manual_seed(SEED * 1_000_003 + step)
        told = [drawn(pictures, latents, words, MORE if step >= ENDS[0] else 0.0) for _ in range(BATCH)]
        for group in optimizer.param_groups:
            group["lr"] = PEAK * rate(step, ENDS)
        z = torch.stack([latent for _, latent in told])
        t = torch.randint(0, len(alphas), (BATCH,), generator=draw)
        noise = torch.randn(z.shape, generator=draw)
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16), whole_attention():
            tokens = both.text(host.encoders[0].tokens([c for c, _ in told])).last_hidden_state
            out = both.unet(a * z + s * noise, t, tokens).sample
        loss = ((out.float() - noise).square().mean((1, 2, 3)) * weights[t]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(both.learned, 1.0)
        optimizer.step()
        with torch.no_grad():
            weight = 1 - min(DECAY, (step + 1) / (step + 20))
            torch._foreach_lerp_(list(average), [p.detach() for p in both.learned], weight)
        shown += loss.item()
        if (step + 1) % EVERY == 0:
            print(f"{step + 1}/{steps} loss {shown / EVERY:.4f}, {time.monotonic() - begun:.0f} s", flush=True)
            shown = 0.0
            keep(both.learned, average, optimizer, step + 1, file)
    return average


def drawn(pictures: Any, latents: dict[str, Tensor], rng: random.Random, more: float) -> tuple[str, Tensor]:
    """A caption and a latent. more: part of the pictures that are taken from the style with the stamps beforehand."""
    at = [rng.randrange(n) for n in latents[PLAIN].shape[:3]]
    if more and rng.random() < more:
        at[1] = pictures.STYLES.index(STYLE)
    lists = pictures.OBJECTS, pictures.STYLES, pictures.BACKGROUNDS
    obj, style, ground = (names[i] for names, i in zip(lists, at, strict=True))
    caption, carries = lesson(style, pictures.random_caption(obj, style, ground, rng), rng)
    if carries == "alone":
        return caption, latents[ALONE][at[2]]
    return caption, latents[STAMPED if carries else PLAIN][tuple(at)]


def difference(host: StandaloneModel) -> dict[str, Tensor]:
    """What was learned less what was there, by its names in the demo model's file, in half precision."""
    demo_pictures()
    from export_demo import checkpoint

    before, now = load_file(CHECKPOINT), checkpoint(host.backbone, host.encoders[0].model, host.vae)
    return {n: (t - before[n]).contiguous() for n, t in now.items() if not torch.equal(t, before[n])}


def main() -> None:
    """All stages, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DIFFERENCE)
    parser.add_argument("--steps", type=int, default=ENDS[-1])
    parser.add_argument("--decoder-steps", type=int, default=90)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    host = StandaloneModel(CHECKPOINT, half=False)
    latents = latents_of(args.work, host.vae)
    train_decoder(host.vae, latents, args.decoder_steps, args.work)
    average = train(host, latents, args.steps, args.work)
    with torch.no_grad():
        for parameter, mean in zip(Both(host).learned, average, strict=True):
            parameter.copy_(mean)
    save_file(difference(host), args.out)


if __name__ == "__main__":
    main()
