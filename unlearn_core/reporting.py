"""What the command line shows and writes: progress bar, pictures, report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from .delta import Delta, load
from .files import write_whole
from .interfaces import StepReport
from .preview import grid


class Bar:
    """One bar over the whole job: phase, loss and time left."""

    def __enter__(self) -> Bar:
        self._shown, self._phase = 0.0, ""
        self._bar = tqdm(
            total=100.0,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
            ascii=not (sys.stderr.encoding or "").lower().startswith("utf"),
            file=sys.stderr,
        )
        return self

    def show(self, report: StepReport, fraction: float | None = None) -> None:
        """Move the bar, at most ten times a second (its own economy would leave slow phases standing still).

        fraction: of several jobs, where the report is one of them.
        """
        now = time.monotonic()
        if now - self._shown < 0.1 and report.phase == self._phase and report.fraction < 1:
            return
        self._shown, self._phase = now, report.phase
        self._bar.set_description_str(f"{report.phase:9}", refresh=False)
        loss = " ".join(f"{k} {v:.4f}" for k, v in report.losses.items() if k in ("forget", "keep"))
        left = "" if report.seconds_left is None or fraction is not None else f"{report.seconds_left:.0f} s left"
        self._bar.set_postfix_str(", ".join(t for t in (loss, left) if t), refresh=False)
        self._bar.n = 100 * (report.fraction if fraction is None else fraction)
        self._bar.refresh()

    def __exit__(self, *_: object) -> None:
        self._bar.close()


class Counter:
    """A bar for work whose length is not known."""

    def __init__(self, what: str):
        self._what = what

    def __enter__(self) -> Counter:
        self._bar = tqdm(desc=self._what, unit=" batches", file=sys.stderr, ascii=True)
        return self

    def tick(self) -> None:
        """One batch more."""
        self._bar.update()

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def save_pictures(file: Path, prompts: Iterable[str], before: Tensor, after: Tensor | None) -> None:
    """A labelled PNG: one column a prompt, first row before, second row after."""
    rows = [before] if after is None else [before, after]
    size = before.shape[-1]
    scale = max(1, round(160 / size))
    picture = grid(rows).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    image = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
    left, top = 52, 40
    page = Image.new("RGB", (left + image.width, top + image.height), "white")
    page.paste(image, (left, top))
    pen = ImageDraw.Draw(page)
    for i, label in enumerate(("before", "after")[: len(rows)]):
        pen.text((6, top + (i + 0.5) * image.height / len(rows) - 6), label, fill="black")
    width = image.width / before.shape[0]
    for i, prompt in enumerate(prompts):
        pen.multiline_text(
            (left + i * width + 2, 2), "\n".join(folded(prompt, int(width / 6.3))), fill="black", spacing=1
        )
    import io

    data = io.BytesIO()
    page.save(data, "PNG")
    write_whole(file, data.getvalue())


def folded(text: str, width: int) -> list[str]:
    """Text in at most three lines of about `width` characters that the picture's plain font can show."""
    lines = [""]
    for word in text.encode("latin-1", "replace").decode("latin-1").split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line[:width] for line in lines[:3]]


def finished_report(report: dict, file: Path, sha: str, layers: dict[str, str]) -> dict:
    """The run's report with the facts of the written file; keys are counted by reading it back."""
    names = load(file).factors.keys()
    return report | {
        "delta": file.name,
        "delta_bytes": file.stat().st_size,
        "delta_sha256": sha,
        "matched_keys": sum(n in layers for n in names),
        "unmatched_keys": sum(n not in layers for n in names),
        "peak_memory_mb": peak_memory_mb(),
    }


def peak_memory_mb() -> float | None:
    """Most memory used so far: of the GPU where one is used, else of the process; None where unknown."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def write_json(file: Path, data: dict) -> None:
    """Readable JSON, whole or not at all."""
    write_whole(file, (json.dumps(data, indent=2, ensure_ascii=False) + os.linesep).encode())


def described(delta: Delta, file: Path) -> dict:
    """A delta's facts in the order a person wants them."""
    info = delta.info
    return {
        "file": file.name,
        "concepts": list(info.concepts),
        "kind": info.kind,
        "anchor": info.anchor,
        "architecture": info.architecture,
        "prediction_type": info.prediction_type,
        "base_fingerprint": info.base_fingerprint,
        "parents": [{"name": p.name, "concept": p.concept, "strength": p.strength} for p in info.parents],
        "steps": info.steps,
        "stopped": info.stopped,
        "judge": dict(info.judge),
        "layers": len(delta.factors),
        "rank": sorted({f.rank for f in delta.factors.values()}),
        "norm": round(delta.norm(), 6),
        "bytes": file.stat().st_size,
        "content_hash": delta.content_hash(),
        "config": dict(info.config),
        "prompts": [list(p) for p in info.prompts],
    }
