"""Finished deltas on disk, by what they were made of: a workflow that is opened tomorrow does not work again."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ..unlearn_core import BadDelta, Delta, ForgetConfig, UnlearnError, load, save
from ..unlearn_core.saved_work import NOTHING, NoSavedWork, SavedWork
from .host import ComfyHostModel
from .model_stack import stack_of

VERSION = 9
"""Raised when the method changes so that the same request gives another delta."""
LIMIT_VARIABLE, LIMIT_MB = "UNLEARN_CACHE_MB", 512


def folder() -> Path:
    """Where cached deltas lie."""
    return Path(folder_paths.get_user_directory()) / "unlearn_cache"


@dataclass(frozen=True)
class Keys:
    """Names of a request's delta. untrained: without the settings of training. trained: with all settings."""

    untrained: str
    trained: str


def keys(host: ComfyHostModel, model, config: ForgetConfig) -> Keys:
    """What a delta depends on, as names: base, everything patched onto it, text encoder, size and settings."""
    made_of = {
        "version": VERSION,
        "base": host.fingerprint,
        "stack": [[p.sha256, p.strength] for p in stack_of(model).parents()],
        "patches": hashed(sorted(model.patches.items())),
        "sampling": [host.prediction_type, hashed(host.sigmas)],
        "text": hashed(host.encode([config.concept, "a photo"]).tokens),
        "latent_shape": host.latent_shape,
        "words_file": host.words_file,
    }
    untrained, trained = (
        hashlib.sha256(
            json.dumps({**made_of, "trained": t, "config": config.deciding(t)}, sort_keys=True).encode()
        ).hexdigest()
        for t in (False, True)
    )
    return Keys(untrained, trained)


def hashed(value: Any) -> str:
    """A hash of nested plain values and tensors, the same in every run."""
    digest = hashlib.sha256()

    def take(v: Any) -> None:
        if isinstance(v, Tensor):
            digest.update(f"{list(v.shape)}".encode() + v.detach().float().cpu().contiguous().numpy().tobytes())
        elif isinstance(v, (list, tuple)):
            for part in v:
                take(part)
        elif hasattr(v, "weights"):
            take(v.weights)
        else:
            digest.update(repr(v).encode())

    take(value)
    return digest.hexdigest()


def find(keys: Keys) -> tuple[Delta, dict] | None:
    """(delta, report) of an earlier run, or None. One that did not train serves all settings of training."""
    for name in (keys.untrained, keys.trained):
        if (found := read(name)) and {"check", "steps", "prompts"} <= found[1].keys():
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
    write(keys.trained if report["steps"] else keys.untrained, delta, report)


def limit() -> float:
    """The cache's size in bytes: `UNLEARN_CACHE_MB` megabytes, 0 for no cache; what is no number is the default."""
    try:
        megabytes = float(os.environ.get(LIMIT_VARIABLE, LIMIT_MB))
    except ValueError:
        megabytes = LIMIT_MB
    return (megabytes if math.isfinite(megabytes) else LIMIT_MB) * 2**20


def saved_work() -> NoSavedWork:
    """Where runs that are interrupted leave what they had finished, within a limit of its own of the same size."""
    most = limit()
    return SavedWork(folder() / "unfinished", most=most) if most > 0 else NOTHING


def write(name: str, delta: Delta, report: dict) -> None:
    """Put one delta in, and delete the longest unused ones above the limit."""
    most = limit()
    if most <= 0:
        return
    try:
        folder().mkdir(parents=True, exist_ok=True)
        (folder() / f"{name}.json").write_text(json.dumps(report), "utf-8")
        save(delta, folder() / f"{name}.safetensors")
    except (OSError, UnlearnError):
        return
    files = sorted(folder().glob("*.safetensors"), key=lambda f: f.stat().st_mtime, reverse=True)
    size = 0
    for file in files:
        size += file.stat().st_size
        if size > most and file.stem != name:
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)
