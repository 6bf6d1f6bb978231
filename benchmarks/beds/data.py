"""What the flow transformers learn: the demo model's own latents for some thousand captions of its world."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from unlearn_core.demo.recognition import CHECKPOINT, world
from unlearn_core.sampling import Sampler
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.prompts import Scene
from unlearn_core.words.word_list import WordList

from .network import TOKENS

PER_CELL, STEPS, GUIDANCE, AT_ONCE = 22, 12, 3.0, 64
SEED = 7


@dataclass(frozen=True)
class Lesson:
    """latents: `[n, 4, 16, 16]`, of deviation 1; tokens: of the demo's own text encoder `[n, 16, 128]`, or their ids.

    captions: their texts. deviation: by which the latents were divided. empty: the same of the empty prompt.
    """

    latents: Tensor
    tokens: Tensor
    captions: list[str]
    deviation: float
    empty: Tensor

    @classmethod
    def load(cls, file: Path) -> Lesson:
        """From a file (.safetensors), which is made first where there is none: four minutes on two cores."""
        if not file.exists():
            save_file(drawn(), file, {"captions": json.dumps(captions())})
        with safe_open(file, "pt") as kept:
            parts = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - it is no dict
            texts = json.loads(kept.metadata()["captions"])
        return cls(parts["latents"], parts["tokens"], texts, float(parts["deviation"]), parts["empty"])


def captions() -> list[str]:
    """Every thing in every style, in many words, and every thing alone."""
    words, places, rng = WordList.load(CHECKPOINT.with_suffix(".words.json")), world(), random.Random(SEED)
    found: dict[str, None] = {}
    for obj in places["objects"]:
        for style in places["styles"]:
            cell: dict[str, None] = {}
            most = min(PER_CELL, len(words.templates) * len(set(words.suffixes)))
            while len(cell) < most:
                cell[Scene(rng.choice(words.templates), obj, style, rng.choice(words.suffixes)).prompt] = None
            found |= cell
        for template in words.object_templates:
            found |= {Scene(template, obj, "", s).prompt: None for s in list(dict.fromkeys(words.suffixes))[:3]}
    return list(found)


@torch.no_grad()
def drawn() -> dict[str, Tensor]:
    """The tensors of a `Lesson`."""
    host, texts = StandaloneModel(CHECKPOINT, "cpu", half=False), captions()
    sampler, latents, tokens = Sampler(host, STEPS, GUIDANCE), [], []
    for at in range(0, len(texts), AT_ONCE):
        read = host.encode(texts[at : at + AT_ONCE])
        latents.append(sampler.draw(read, SEED + at))
        tokens.append(read.tokens[:, :TOKENS])
        print(f"drawn {at + len(read)} of {len(texts)}", flush=True)
    z = torch.cat(latents)
    empty = host.encode([""]).tokens[:, :TOKENS].clone()
    return {"latents": z / z.std(), "tokens": torch.cat(tokens).clone(), "deviation": z.std(), "empty": empty}
