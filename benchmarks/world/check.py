"""How well the world's image model draws, of a checkpoint or in the middle of its training, and a sheet to look at:

python -m benchmarks.world.check [--file FILE] [--sheet SHEET.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import STEPS, share
from unlearn_core.host import HostModel
from unlearn_core.preview import grid, pictures
from unlearn_core.sampling import Sampler

from ..doc_tables import RESULTS
from ..models import MODELS, WORLD, guidance_of
from ..questions import Answer
from ..record import Origin
from .host import World
from .network import CODE, DENOISER
from .questions import AND, WAYS, Asked, about, composed, look
from .record import record_base
from .things import STYLES, things, unlisted

PAIRED, SHOWN, NOISE = 100, 16, 5
AVERAGE = "average.net."


def asked(way: str, every: int = 1) -> list[Asked]:
    """Each (`every` th) thing in one style by name, synonym or description, or pairs; the styles take turns."""
    names, styles = [t.name for t in things()], list(STYLES)
    if way == "pair":
        return [composed(names[(2 * i) % 200], names[(11 * i + 5) % 200], i) for i in range(0, PAIRED, every)]
    return [about(n, styles[i % len(styles)], i // 3, way) for i, n in enumerate(names)][::every]


def shares(host: HostModel, every: int = 1, steps: int = STEPS) -> dict[str, float]:
    """Shares of right things, by way of asking, and of right styles; `every` n th picture only."""
    questions = [q for way in (*WAYS, "pair") for q in asked(way, every)]
    seen = list(zip(questions, look(host, questions, 0, steps).answers, strict=True))
    found = {way: share([a.obj == q.obj for q, a in seen if q.way == way]) for way in (*WAYS, "pair")}
    single = [(q, a) for q, a in seen if q.way == "name"]
    found["unlisted, by name"] = share([a.obj == q.obj for q, a in single if q.obj in unlisted()])
    found["one of a pair"] = share([part for q, a in seen if q.way == "pair" for part in sides(q, a)])
    found["style"] = share([a.style == q.style for q, a in seen])
    return found


def sides(question: Asked, answer: Answer) -> list[bool]:
    """Whether the left and the right thing are right."""
    return [a == q for q, a in zip(question.obj.split(AND), answer.obj.split(AND), strict=True)]


def sheet(host: HostModel, file: Path) -> None:
    """Things in all styles, some asked for in other ways, and some pairs, in rows."""
    names = [t.name for t in things()][:: len(things()) // SHOWN][:SHOWN]
    rows: list[Sequence[Asked]] = [[about(n, s, i) for i, n in enumerate(names)] for s in STYLES]
    rows += [[about(n, "flat", i, way) for i, n in enumerate(names)] for way in WAYS[1:]]
    rows += [[composed(a, b, i) for i, (a, b) in enumerate(zip(names, names[3:] + names[:3], strict=True))]]
    captions = [q.caption for row in rows for q in row]
    drawn = F.interpolate(pictures(Sampler(host, STEPS, guidance_of(host)), Stack(), captions, NOISE), scale_factor=1.5)
    picture = grid(list(drawn.split(SHOWN)), 2)
    # few colours: a third of the size, and nothing that the eye would miss
    Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).quantize(128).save(file)


def kept(state: Path, latents: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint from what a training has kept: the average of the last steps."""
    code = {CODE + n: t for n, t in load_file(latents).items() if n in ("axes", "mean", "scale")}
    average = {n: t for n, t in load_file(state).items() if n.startswith(AVERAGE)}
    return {DENOISER + n.removeprefix(AVERAGE): t for n, t in average.items()} | code


def main() -> None:
    """Numbers, and the sheet if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=MODELS[WORLD], help="a checkpoint, or what a training has kept")
    parser.add_argument("--latents", type=Path, help="latents.safetensors of the work folder, for what was kept")
    parser.add_argument("--every", type=int, default=1, help="only each nth question (default: 1)")
    parser.add_argument("--sheet", type=Path, help="a picture to write")
    parser.add_argument("--record", metavar="COMMIT", help="keep the shares for the documentation, as this commit's")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    host = World(kept(args.file, args.latents) if args.latents else args.file)
    found = shares(host, args.every)
    for name, value in found.items():
        print(f"{name:20} {value:.1%}")
    if args.record:
        print(record_base(found, Origin("python -m benchmarks.world.check", args.record, model=WORLD), RESULTS))
    if args.sheet:
        sheet(host, args.sheet)


if __name__ == "__main__":
    main()
