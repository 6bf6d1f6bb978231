"""Which thing and which style a picture of the world shows, or "other" for neither.

    python -m benchmarks.world.classifier --work DIR

trains it on the drawings themselves, never on pictures of the image model: about eight minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from unlearn_core.delta.atomic import write_json

from .data import TrainingData
from .drawings import SIZE, Drawing, foreign_drawings, icon_sets, pictures, single
from .latents import Code
from .things import BACKGROUNDS, PAIR_STYLES, SEED, STYLES, things

OTHER = "other"
HELD_OUT_COLOUR = (218, 242, 220)
FILE = Path(__file__).with_name("classifier.safetensors")
WIDTHS = (3, 32, 64, 128, 192)
STEPS, BATCH, PEAK, KEPT_NEAR = 1400, 128, 3e-3, 20


class WorldClassifier(nn.Module):
    """Four strided convolutions and two linear heads over pictures `[b, 3, 64, 64]` in -1..1.

    things, styles: names of the classes; `OTHER` is the last of both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.things, self.styles = [*(t.name for t in things()), OTHER], [*STYLES, OTHER]
        layers: list[nn.Module] = []
        for a, b in pairwise(WIDTHS):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.thing_head = nn.Linear(4 * WIDTHS[-1], len(self.things))
        self.style_head = nn.Linear(4 * WIDTHS[-1], len(self.styles))

    def features(self, seen: Tensor) -> Tensor:
        """Pooled features `[b, 768]`: the means of the four quarters."""
        return F.avg_pool2d(self.body(seen), 2).flatten(1)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of things `[b, 201]` and styles `[b, 6]`."""
        features = self.features(seen)
        return self.thing_head(features), self.style_head(features)

    @torch.no_grad()
    def recognise(self, seen: Tensor) -> list[tuple[str, str]]:
        """The most likely (thing, style) of each picture."""
        answers = [[logits.argmax(1) for logits in self(part.float())] for part in seen.split(64)]
        found = [torch.cat(kind).tolist() for kind in zip(*answers, strict=True)]
        return [(self.things[t], self.styles[s]) for t, s in zip(*found, strict=True)]

    @classmethod
    def load(cls, file: Path = FILE) -> WorldClassifier:
        """From a file. Its classes have to be the world's."""
        net = cls()
        with safe_open(file, "pt") as kept:
            assert kept.metadata()["things"] == ",".join(net.things)
        net.load_state_dict({n: t if t.dtype == torch.long else t.float() for n, t in load_file(file).items()})
        return net.eval()


def halves(seen: Tensor) -> tuple[Tensor, Tensor]:
    """The left and the right thing of pictures `[n, 3, 64, 64]` of two, each as a picture of its own."""
    middle = seen[:, :, SIZE // 4 : -SIZE // 4]
    left, right = (F.interpolate(part, size=(SIZE, SIZE), mode="bilinear") for part in middle.chunk(2, 3))
    return left, right


def jitter(batch: Tensor, rng: torch.Generator) -> Tensor:
    """Shift, zoom, colour, blur and noise."""
    n = len(batch)
    theta = torch.zeros(n, 2, 3)
    zoom = torch.empty(n).uniform_(0.85, 1.18, generator=rng)
    theta[:, 0, 0], theta[:, 1, 1] = zoom, zoom
    theta[:, :, 2] = torch.empty(n, 2).uniform_(-0.1, 0.1, generator=rng)
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    batch = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    soft = F.interpolate(F.avg_pool2d(batch, 2), batch.shape[-2:], mode="bilinear", align_corners=False)
    batch = torch.lerp(batch, soft, torch.rand(n, 1, 1, 1, generator=rng))
    gain = torch.empty(n, 3, 1, 1).uniform_(0.88, 1.12, generator=rng)
    noise = torch.randn(batch.shape, generator=rng) * torch.rand(n, 1, 1, 1, generator=rng) * 0.12
    return (batch * gain + noise).clamp(-1, 1)


def broken(batch: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures of nothing: coloured noise, shuffled tiles, blends of two pictures, blurs."""
    out = []
    for one in batch:
        kind = torch.randint(0, 4, (1,), generator=rng).item()
        other = batch[torch.randint(0, len(batch), (1,), generator=rng)][0]
        if kind == 0:
            cells = 2 ** int(torch.randint(2, 7, (1,), generator=rng))
            blob = F.interpolate(torch.randn(1, 3, cells, cells, generator=rng), (SIZE, SIZE), mode="bicubic")[0]
            out.append(blob * torch.rand(1, generator=rng) + other.mean((1, 2), True))
        elif kind == 1:
            tiles = one.unfold(1, 16, 16).unfold(2, 16, 16).reshape(3, 16, 16, 16)
            mixed = tiles[:, torch.randperm(16, generator=rng)]
            out.append(mixed.reshape(3, 4, 4, 16, 16).permute(0, 1, 3, 2, 4).reshape(3, SIZE, SIZE))
        elif kind == 2:
            out.append(one * 0.5 + other.flip(-2) * 0.5)
        else:
            out.append(F.interpolate(F.avg_pool2d(one[None], 16), (SIZE, SIZE), mode="bilinear")[0])
    return torch.stack(out).clamp(-1, 1)


@dataclass(frozen=True)
class Pool:
    """Pictures `[n, 3, 64, 64]` of one sort, and the numbers of their things and styles `[n]`."""

    pictures: Tensor
    things: Tensor
    styles: Tensor

    def pick(self, count: int, rng: torch.Generator) -> Pool:
        """Some of them."""
        at = torch.randint(0, len(self.pictures), (count,), generator=rng)
        return Pool(self.pictures[at], self.things[at], self.styles[at])


def pools(training_data: TrainingData, work: Path) -> list[Pool]:
    """All drawings as they come out of their code: alone, as one of two, and those of things outside the world."""
    code, grounds = training_data.code, list(BACKGROUNDS)
    places = torch.cartesian_prod(torch.arange(len(things())), torch.arange(len(STYLES)), torch.arange(len(grounds)))
    whole = Pool(code.pictures(training_data.whole.flatten(0, 2)), places[:, 0], places[:, 1])
    numbers = torch.tensor([list(STYLES).index(s) for s in PAIR_STYLES])
    places = torch.cartesian_prod(torch.arange(len(things())), numbers, torch.arange(len(grounds)))
    half = training_data.half.flatten(0, 2)
    left, right = halves(code.pictures(torch.cat([half, half], -1)))
    both = Pool(torch.cat([left, right]), places[:, 0].repeat(2), places[:, 1].repeat(2))
    drawn = [single(d) for d in foreign_drawings(work / "packages")]
    seen = pictures(drawn, [grounds[i % len(grounds)] for i in range(len(drawn))])
    nothing = torch.full((len(drawn),), len(things()))
    foreign = Pool(code.pictures(code.latents(seen)), nothing, torch.arange(len(drawn)) % len(STYLES))
    return [whole, both, foreign]


def train(groups: list[Pool]) -> WorldClassifier:
    """Five of eight pictures show a whole thing, and each one of eight half of a pair, a foreign thing, and nothing."""
    rng = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    net, share = WorldClassifier(), BATCH // 8
    optimizer = torch.optim.AdamW(net.parameters(), PEAK, betas=(0.9, 0.99), weight_decay=1e-2)
    begun, shown = time.monotonic(), 0.0
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        parts = [pool.pick(count, rng) for pool, count in zip(groups, (5 * share, share, share), strict=True)]
        nothing = [torch.full((share,), classes) for classes in (len(things()), len(STYLES))]
        parts.append(Pool(broken(groups[0].pick(share, rng).pictures, rng), *nothing))
        said = net(jitter(torch.cat([p.pictures for p in parts]), rng))
        goals = torch.cat([p.things for p in parts]), torch.cat([p.styles for p in parts])
        loss = sum(F.cross_entropy(logits, goal) for logits, goal in zip(said, goals, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shown += loss.item()
        if (step + 1) % 100 == 0:
            print(f"{step + 1}/{STEPS} loss {shown / 100:.4f} {time.monotonic() - begun:.0f} s", flush=True)
            shown = 0.0
    return net.eval()


@torch.no_grad()
def nearest(net: WorldClassifier, whole: Pool) -> dict[str, list[str]]:
    """{thing: the 20 others with the most similar drawings}, by the cosine of their mean features' deviations."""
    features = torch.cat([net.features(part) for part in whole.pictures.split(64)])
    means = features.view(len(things()), -1, features.shape[1]).mean(1)
    angles = F.normalize(means - means.mean(0))
    order = (angles @ angles.T).fill_diagonal_(-1).argsort(1, descending=True)[:, :KEPT_NEAR]
    return {name: [net.things[i] for i in row] for name, row in zip(net.things, order.tolist(), strict=False)}


def held_out(code: Code, work: Path) -> dict[str, Tensor]:
    """Latents of every tenth thing in all styles over a colour that nothing was trained on, for a test."""
    sets = icon_sets(work / "packages")
    colour = np.asarray(HELD_OUT_COLOUR, np.float32) / 255
    drawn = [single(Drawing.of(sets[s], t.emoji)) for t in things()[::10] for s in STYLES]
    seen = [((d[..., :3] + (1 - d[..., 3:]) * colour) * 2 - 1).transpose(2, 0, 1) for d in drawn]
    latents = code.latents(torch.from_numpy(np.stack(seen)))
    kept = {"latents": latents, "axes": code.axes, "mean": code.mean, "scale": code.scale}
    return {name: t.half().contiguous() for name, t in kept.items()}


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of what is made on the way")
    parser.add_argument("--out", type=Path, default=FILE, help="the classifier")
    args = parser.parse_args()
    training_data = TrainingData.load(args.work)
    groups = pools(training_data, args.work)
    net = train(groups)
    for name, pool in zip(("whole", "of a pair", "foreign"), groups, strict=True):
        said = net.recognise(pool.pictures)
        right = [
            (t == net.things[a], s == net.styles[b])
            for (t, s), a, b in zip(said, pool.things.tolist(), pool.styles.tolist(), strict=True)
        ]
        print(name, *(f"{sum(r[i] for r in right) / len(right):.1%}" for i in (0, 1)))
    save_file(held_out(training_data.code, args.work), args.out.with_name("drawings.safetensors"))
    write_json(args.out.with_name("near.json"), nearest(net, groups[0]))
    names = {"things": ",".join(net.things), "styles": ",".join(net.styles)}
    save_file({n: t.half() if t.is_floating_point() else t for n, t in net.state_dict().items()}, args.out, names)


if __name__ == "__main__":
    main()
