"""Finished deltas on disk, by what they were made of: a workflow that is opened tomorrow does not work again.

Their pictures before and after lie beside them, so that these are not drawn again either.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..unlearn_core import BadDelta, Delta, ForgetConfig, UnlearnError, load, save
from ..unlearn_core.method.vocabularies import vocabulary_of
from ..unlearn_core.saved_work import NOTHING, NoSavedWork, SavedWork, tool
from ..unlearn_core.untrusted import stamp
from .cache_size import folder, limit
from .functions import has_functions
from .host import ComfyHostModel
from .model_stack import stack_of
from .pictures import as_image


@dataclass(frozen=True)
class Keys:
    """Names of a request's delta. untrained: without the settings of training. trained: with all settings.

    decoder: of what makes pictures from latents. Empty names are of what cannot be named: it is never in the cache.
    """

    untrained: str = ""
    trained: str = ""
    decoder: str = ""

    def of(self, report: dict) -> str:
        """The name of the delta with this report: with all settings wherever training had a say in it."""
        return self.trained if report["tried_training"] else self.untrained

    def pictures(self, report: dict) -> str:
        """The name of that delta's pictures."""
        return f"{self.of(report)}.{self.decoder}"


def keys(host: ComfyHostModel, model, config: ForgetConfig) -> Keys:
    """What a delta depends on, as names: base, everything patched onto it, text encoder, size and settings.

    Empty ones where functions are on the MODEL that change what it answers: two of them cannot be told apart.
    """
    if has_functions(model):
        return Keys()
    made_of = {
        "tool": tool(Path(__file__).parent),
        "base": host.fingerprint,
        "stack": [[p.sha256, p.strength] for p in stack_of(model).parents()],
        "patches": hashed(sorted(model.patches.items())),
        "sampling": [host.prediction_type, hashed(host.sigmas), *patched_sampling(model)],
        "text": hashed(host.encode([config.concept, "a photo"]).tokens),
        "latent_shape": host.latent_shape,
        "words_file": hashlib.sha256(Path(host.words_file).read_bytes()).hexdigest() if host.words_file else "",
        "vocabulary": known.digest if (known := vocabulary_of(host)) else "",
    }
    untrained, trained = (
        hashlib.sha256(
            json.dumps({**made_of, "trained": t, "config": config.deciding(t)}, sort_keys=True).encode()
        ).hexdigest()
        for t in (False, True)
    )
    return Keys(untrained, trained, hashed(host.decoder())[:16])


def patched_sampling(model) -> list[str]:
    """What a node such as ModelSamplingDiscrete has put in place of a MODEL's own sampling; [] where none has.

    Its noise levels do not tell it: x0 has those of eps, and AuraFlow's scale of times those of SD3.
    """
    sampling = model.object_patches.get("model_sampling")
    if sampling is None:
        return []
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(sampling).__mro__]
    plain = {k: v for k, v in vars(sampling).items() if k != "training" and isinstance(v, (int, float, str))}
    return [hashed([kinds, sorted(plain.items()), sorted(sampling.named_buffers())])]


def hashed(value: Any) -> str:
    """A hash of nested plain values and tensors, the same in every run; of functions it takes the names."""
    digest = hashlib.sha256()

    def take(v: Any) -> None:
        if isinstance(v, Tensor):
            digest.update(f"{list(v.shape)}".encode() + v.detach().float().cpu().contiguous().numpy().tobytes())
        elif isinstance(v, (list, tuple)):
            for part in v:
                take(part)
        elif hasattr(v, "weights"):
            take(v.weights)
        elif isinstance(v, FunctionType) and not (v.__closure__ or v.__defaults__ or v.__kwdefaults__):
            # its repr has an address, which is another one after each start and for each layer of a merge
            digest.update(f"{v.__module__}.{v.__qualname__}".encode())
        else:
            digest.update(repr(v).encode())

    take(value)
    return digest.hexdigest()


def find(keys: Keys) -> tuple[Delta, dict] | None:
    """(delta, report) of an earlier run, or None. One that did not train serves all settings of training."""
    if limit() <= 0:
        return None
    for name in filter(None, (keys.untrained, keys.trained)):
        if (found := read(name)) and {"check", "steps", "prompts", "tried_training"} <= found[1].keys():
            return found
    return None


def read(name: str) -> tuple[Delta, dict] | None:
    """(delta, report) of that name, or None."""
    file, report = folder() / f"{name}.safetensors", folder() / f"{name}.json"
    try:
        with torch.inference_mode(False):
            delta = load(file)
        os.utime(file)
        # without the name of its file, which here is a hash
        return Delta(delta.factors, delta.info), dict(json.loads(report.read_text("utf-8")))
    except (BadDelta, OSError, ValueError, TypeError):
        return None


def store(keys: Keys, delta: Delta, report: dict) -> None:
    """Remember a run, under the name that says what it depends on."""
    if name := keys.of(report):
        write(name, delta, report)


def find_pictures(keys: Keys, report: dict) -> tuple[Tensor, ...] | None:
    """The pictures of a delta before and after, each `[n, 3, H, W]`, as they were stored, or None."""
    if limit() <= 0:
        return None
    try:
        return tuple(rows_of(file, len(report["prompts"])) for file in picture_files(keys.pictures(report)))
    except (OSError, ValueError, RuntimeError):
        return None


def store_pictures(keys: Keys, report: dict, pictures: tuple[Tensor, ...]) -> None:
    """Remember the pictures of a delta that is in the cache."""
    if limit() <= 0 or not (folder() / f"{keys.of(report)}.safetensors").exists():
        return
    try:
        for file, rows in zip(picture_files(keys.pictures(report)), pictures, strict=True):
            as_image(torch.cat(list(rows), 1)).save(file)
    except OSError:
        return
    tidy(keys.of(report))


def picture_files(name: str) -> tuple[Path, Path]:
    """Where pictures before and after lie, one below the other in each file."""
    return folder() / f"{name}.before.png", folder() / f"{name}.after.png"


def rows_of(file: Path, count: int) -> Tensor:
    """So many pictures of one size out of a file. Raises `OSError`, `ValueError`, `RuntimeError`."""
    with Image.open(file) as image:
        whole = torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0).float() / 255
    return whole.unflatten(1, (count, -1)).movedim(1, 0)


def saved_work(host: ComfyHostModel) -> NoSavedWork:
    """Where runs that are interrupted leave what they had finished, within a limit of its own of the same size.

    Nowhere for a MODEL with functions on it: its answer at one noise level may be another MODEL's.
    """
    most = limit()
    return SavedWork(folder() / "unfinished", most=most) if most > 0 and host.told_by_an_answer else NOTHING


def write(name: str, delta: Delta, report: dict) -> None:
    """Put one delta in, and delete the longest unused ones above the limit."""
    if limit() <= 0:
        return
    try:
        folder().mkdir(parents=True, exist_ok=True)
        (folder() / f"{name}.json").write_text(json.dumps(report), "utf-8")
        save(delta, folder() / f"{name}.safetensors")
    except (OSError, UnlearnError):
        return
    tidy(name)


def tidy(newest: str) -> None:
    """Delete the longest unused deltas above the limit, with all that lies beside them.

    What cannot be looked at or deleted is passed over: another ComfyUI may have deleted it, or a scanner holds it open.
    """
    most = limit()
    files = sorted(folder().glob("*.safetensors"), key=stamp, reverse=True)
    size = 0
    for file in files:
        together = list(folder().glob(f"{file.stem}.*"))
        size += sum(stamp(f)[1] for f in together)
        if size > most and file.stem != newest:
            for part in together:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
