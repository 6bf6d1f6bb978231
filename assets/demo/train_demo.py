"""Make the bundled demo model from nothing: `python assets/demo/train_demo.py [--work DIR]`.

About an hour on two CPU cores; needs npm (for the drawings) and, beside `requirements/demo.txt`, the package
resvg_py. Every stage writes its result into the work folder and is skipped when that exists, so a run that was cut
off goes on.
"""

import argparse
import copy
import math
import random
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import networks  # noqa: E402
import pictures as P  # noqa: E402
from unlearn_core.demo.classifier import DemoClassifier  # noqa: E402

SEED = 7


class Average:
    """Exponential moving average of weights, ramped so that early steps do not linger."""

    def __init__(self, model, decay):
        self.model, self.decay, self.step = copy.deepcopy(model).eval(), decay, 0

    @torch.no_grad()
    def update(self, model):
        self.step += 1
        decay = min(self.decay, self.step / (self.step + 10))
        for a, b in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if a.is_floating_point():
                a.lerp_(b, 1 - decay)


def rate(step, steps, warmup, peak):
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def loop(name, steps, parameters, peak, body, warmup=50):
    """AdamW over `body(step) -> loss`, with a line of progress every 25 steps."""
    optimizer = torch.optim.AdamW(
        parameters, peak, betas=(0.9, 0.99), weight_decay=1e-2 if name == "classifier" else 1e-4
    )
    start, shown = time.time(), 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, warmup, peak)
        loss = body(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        shown += loss.item()
        if step % 25 == 24:
            print(f"{name} {step + 1}/{steps} loss {shown / 25:.4f} {time.time() - start:.0f} s", flush=True)
            shown = 0.0


def jitter(batch, rng):
    """Strong augmentation for the classifier: shift, scale, colour, blur, noise."""
    n = len(batch)
    theta = torch.zeros(n, 2, 3)
    zoom = torch.empty(n).uniform_(0.75, 1.25, generator=rng)
    flip = torch.where(torch.rand(n, generator=rng) < 0.3, -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = zoom * flip, zoom
    theta[:, :, 2] = torch.empty(n, 2).uniform_(-0.15, 0.15, generator=rng)
    batch = F.grid_sample(
        batch, F.affine_grid(theta, batch.shape, align_corners=False), padding_mode="border", align_corners=False
    )
    small = F.avg_pool2d(batch, 4, 2, 1)
    soft = F.interpolate(small, batch.shape[-2:], mode="bilinear", align_corners=False)
    mix = torch.rand(n, 1, 1, 1, generator=rng) ** 2
    batch = batch * (1 - mix) + soft * mix
    gain = torch.empty(n, 3, 1, 1).uniform_(0.85, 1.15, generator=rng)
    noise = torch.randn(batch.shape, generator=rng) * torch.rand(n, 1, 1, 1, generator=rng) * 0.12
    return (batch * gain + noise).clamp(-1, 1)


def broken(batch, rng):
    """Pictures of nothing: coloured noise at several scales, shuffled tiles, blends of two pictures."""
    n, size = len(batch), batch.shape[-1]
    out = []
    for i in range(n):
        kind = torch.randint(0, 4, (1,), generator=rng).item()
        other = batch[torch.randint(0, n, (1,), generator=rng)][0]
        if kind == 0:
            cells = 2 ** torch.randint(2, 8, (1,), generator=rng).item()
            blob = torch.randn(1, 3, cells, cells, generator=rng)
            out.append(
                F.interpolate(blob, (size, size), mode="bicubic")[0] * torch.rand(1, generator=rng)
                + other.mean((1, 2), True)
            )
        elif kind == 1:
            cut = size // 4
            tiles = (
                batch[i]
                .unfold(1, cut, cut)
                .unfold(2, cut, cut)
                .reshape(3, 16, cut, cut)[:, torch.randperm(16, generator=rng)]
            )
            out.append(tiles.reshape(3, 4, 4, cut, cut).permute(0, 1, 3, 2, 4).reshape(3, size, size))
        elif kind == 2:
            out.append(batch[i] * 0.5 + other.flip(-2) * 0.5)
        else:
            out.append(F.interpolate(F.avg_pool2d(batch[i : i + 1], 32), (size, size), mode="bilinear")[0])
    return torch.stack(out).clamp(-1, 1)


@torch.no_grad()
def round_trip(vae, flat):
    """Pictures as the autoencoder gives them back: blurred in its own way."""
    return torch.cat([vae.decode(vae.encode(b).latent_dist.mean).sample for b in flat.split(32)]).clamp(-1, 1)


def train_classifier(world, unused, steps=800, batch=96):
    """world: the pictures as drawn and after a round trip, `[2, pictures, 3, SIZE, SIZE]`; unused: emoji outside it."""
    rng = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    net = DemoClassifier(P.OBJECTS, P.STYLES)
    flat = world[0]
    per_style = len(P.BACKGROUNDS)

    def body(_):
        pick = torch.randint(0, len(flat), (batch,), generator=rng)
        real = world[torch.randint(0, 2, (batch,), generator=rng), pick]
        odd = broken(flat[torch.randint(0, len(flat), (batch // 6,), generator=rng)], rng)
        foreign = unused[torch.randint(0, len(unused), (batch // 6,), generator=rng)]
        objects, styles = net(jitter(torch.cat([real, odd, foreign]), rng))
        object_ids = torch.cat(
            [pick // (per_style * len(P.STYLES)), torch.full((len(odd) + len(foreign),), len(P.OBJECTS))]
        )
        style_ids = torch.cat([pick // per_style % len(P.STYLES), torch.full((len(odd),), len(P.STYLES))])
        return F.cross_entropy(objects, object_ids) + F.cross_entropy(styles[: len(style_ids)], style_ids)

    loop("classifier", steps, list(net.parameters()), 3e-3, body)
    return net.eval()


class Pace(NamedTuple):
    """How a network learns: the batch size, the highest learning rate, and how pictures are shifted and flipped."""

    batch: int
    peak: float
    shift: int = 0
    flips: bool = False


def train_autoencoder(world, vae, steps, pace):
    """From scratch with large shifts and flips, or a second time, sharper, on the pictures nearly as they are."""
    batch, peak, shift, flips = pace
    rng = torch.Generator().manual_seed(SEED)
    with torch.no_grad():  # the posterior's deviation is never used
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -20
    average = Average(vae, 0.99)
    flat = world.flatten(0, 2)

    def body(step):
        real = flat[torch.randint(0, len(flat), (batch,), generator=rng)]
        dy, dx = torch.randint(-shift, shift + 1, (2,), generator=rng).tolist()
        real = F.pad(real, (8, 8, 8, 8), mode="replicate")[..., 8 + dy : 8 + dy + P.SIZE, 8 + dx : 8 + dx + P.SIZE]
        if flips and step % 4 == 3:
            real = real.flip(-1)
        with torch.autocast("cpu", torch.bfloat16):
            latent = vae.encode(real).latent_dist.mean
            noise = torch.randn(latent.shape, generator=rng) * latent.float().std().detach()
            again = vae.decode(latent + 0.08 * noise).sample.float()
        edges = sum((again.diff(dim=d) - real.diff(dim=d)).abs().mean() for d in (2, 3))
        average.update(vae)
        prior = 1e-8 * latent.float().pow(2).sum((1, 2, 3)).mean()
        return F.l1_loss(again, real) + 2 * F.mse_loss(again, real) + 0.5 * edges + prior

    loop("autoencoder", steps, list(vae.parameters()), peak, body)
    return fold_latent_scale(average.model, flat)


def train_decoder(world, vae, steps, batch=8, peak=8e-4):
    """The decoder alone, sharper, for the latents as they are: a trained denoiser stays right."""
    rng = torch.Generator().manual_seed(SEED)
    flat = world.flatten(0, 2)
    with torch.no_grad():
        latents = torch.cat([vae.encode(b).latent_dist.mean for b in flat.split(32)])
    average = Average(vae, 0.99)

    def body(_):
        pick = torch.randint(0, len(flat), (batch,), generator=rng)
        level = 0.1 * torch.rand(batch, 1, 1, 1, generator=rng) / 0.18215
        noisy = latents[pick] + level * torch.randn(latents[pick].shape, generator=rng)
        with torch.autocast("cpu", torch.bfloat16):
            again = vae.decode(noisy).sample.float()
        real = flat[pick]
        edges = sum((again.diff(dim=d) - real.diff(dim=d)).abs().mean() for d in (2, 3))
        average.update(vae)
        return F.l1_loss(again, real) + 2 * F.mse_loss(again, real) + 0.5 * edges

    loop("decoder", steps, [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()], peak, body)
    return average.model


@torch.no_grad()
def fold_latent_scale(vae, flat):
    """Move each latent channel's mean and deviation into the 1x1 convolutions, exactly.

    Afterwards latents times 0.18215 (the factor every SD1 loader assumes) have mean 0 and deviation 1.
    """
    latents = torch.cat([vae.encode(b).latent_dist.mean for b in flat.split(32)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    scale = 1 / (deviation * 0.18215)
    vae.quant_conv.weight[:4] *= scale[:, None, None, None]
    vae.quant_conv.bias[:4] = (vae.quant_conv.bias[:4] - mean) * scale
    vae.quant_conv.bias[4:] = -20
    vae.post_quant_conv.bias += (vae.post_quant_conv.weight * mean[None, :, None, None]).sum((1, 2, 3))
    vae.post_quant_conv.weight /= scale[None, :, None, None]
    return vae


def noise_schedule():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return (1 - betas).cumprod(0)


def train_denoiser(both, tokenizer, latents, prediction, steps, pace):
    """Denoiser and text encoder together; `prediction` is "v" or "epsilon"."""
    (unet, text), (batch, peak, *_) = both, pace
    rng, words = torch.Generator().manual_seed(SEED), random.Random(SEED)
    torch.manual_seed(SEED)
    alphas = noise_schedule()
    weights = torch.clamp(alphas / (1 - alphas), max=5) / (alphas / (1 - alphas) + (1 if prediction == "v" else 0))
    weights = weights / weights.mean()
    averages = Average(unet, 0.998), Average(text, 0.998)
    shape = latents.shape[:3]

    def body(_):
        picks = [tuple(words.randrange(n) for n in shape) for _ in range(batch)]
        captions = [P.random_caption(P.OBJECTS[o], P.STYLES[s], P.BACKGROUNDS[b], words) for o, s, b in picks]
        ids = torch.tensor(tokenizer(captions, padding="max_length", truncation=True).input_ids)
        z = torch.stack([latents[p] for p in picks])
        t = torch.randint(0, 1000, (batch,), generator=rng)
        noise = torch.randn(z.shape, generator=rng)
        a, s = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            out = unet(a * z + s * noise, t, text(ids).last_hidden_state).sample.float()
        for average, model in zip(averages, (unet, text), strict=True):
            average.update(model)
        goal = a * noise - s * z if prediction == "v" else noise
        return ((out - goal).pow(2).mean((1, 2, 3)) * weights[t]).mean()

    loop(f"denoiser ({prediction})", steps, [*unet.parameters(), *text.parameters()], peak, body, warmup=100)
    return torch.nn.ModuleList(average.model for average in averages)


def cached(file, model, make):
    """The model with the weights in `file`, or the one that `make` trains, then saved there."""
    if file.exists():
        model.load_state_dict(load_file(file))
        return model.eval()
    model = make()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, file)
    return model


def options():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--autoencoder-steps", type=int, default=900)
    parser.add_argument("--sharpen-steps", type=int, default=650)
    parser.add_argument("--decoder-steps", type=int, default=450)
    parser.add_argument("--v-steps", type=int, default=2600)
    parser.add_argument("--epsilon-steps", type=int, default=600)
    return parser.parse_args()


def make_autoencoder(args, world):
    """The trained autoencoder: from scratch, sharper, and then its decoder alone."""
    torch.manual_seed(SEED)
    vae = networks.make_autoencoder()
    for name, steps, pace in (
        ("autoencoder", args.autoencoder_steps, Pace(16, 2e-3, 8, True)),
        ("autoencoder-sharp", args.sharpen_steps, Pace(8, 6e-4, 1)),
    ):
        vae = cached(
            args.work / f"{name}.safetensors",
            vae,
            lambda v=vae, n=steps, p=pace: train_autoencoder(world, v.train(), n, p),
        )
    return cached(
        args.work / "autoencoder-final.safetensors", vae, lambda: train_decoder(world, vae.train(), args.decoder_steps)
    )


def make_classifier(args, world, again, unused):
    """The trained classifier; it says how well it recognises the pictures after their round trip."""
    classifier = cached(
        args.work / "classifier.safetensors",
        DemoClassifier(P.OBJECTS, P.STYLES),
        lambda: train_classifier(torch.stack([world.flatten(0, 2), again]), unused()),
    )
    error = (again - world.flatten(0, 2)).pow(2).mean().item() / 4
    truth = [(o, s) for o in P.OBJECTS for s in P.STYLES for _ in P.BACKGROUNDS]
    right = sum(a == b for a, b in zip(classifier.recognise(again), truth, strict=True))
    print(
        f"autoencoder: {-10 * math.log10(error):.1f} dB, recognised after a round trip {right}/{len(truth)}", flush=True
    )
    return classifier


def make_denoiser(args, latents):
    """The trained denoiser and text encoder, first for v and then for epsilon."""
    entries = networks.write_tokenizer(args.out / "tokenizer")
    tokenizer = networks.load_tokenizer(args.out / "tokenizer")
    both = torch.nn.ModuleList([networks.make_unet(), networks.make_text_encoder(entries)])
    for prediction, steps, pace in (
        ("v", args.v_steps, Pace(32, 1e-3)),
        ("epsilon", args.epsilon_steps, Pace(32, 7e-4)),
    ):
        torch.manual_seed(SEED)
        both = cached(
            args.work / f"denoiser-{prediction}.safetensors",
            both,
            lambda p=prediction, n=steps, r=pace, b=both: train_denoiser(b.train(), tokenizer, latents, p, n, r),
        )
    return both


def main():
    """All stages, one after the other."""
    args = options()
    args.work.mkdir(parents=True, exist_ok=True)
    sets = P.fetch_icons(args.work / "icons")
    world = torch.from_numpy(P.world_pictures(sets))
    vae = make_autoencoder(args, world)
    with torch.no_grad():
        latents = torch.cat([vae.encode(b).latent_dist.mean for b in world.flatten(0, 2).split(32)]) * 0.18215
        again = torch.cat([vae.decode(b / 0.18215).sample for b in latents.split(32)]).clamp(-1, 1)
    others = torch.from_numpy(P.unused_pictures(sets, 400, random.Random(SEED)))
    classifier = make_classifier(args, world, again, lambda: torch.cat([others, round_trip(vae, others)]))
    both = make_denoiser(args, latents.view(*world.shape[:3], *latents.shape[1:]))
    from export_demo import export

    export(both[0], both[1], vae, classifier, args.out)


if __name__ == "__main__":
    main()
