"""Facts of a finished run and of a delta, as plain data."""

from __future__ import annotations

from pathlib import Path

from ..delta.format import Delta, load
from ..device_memory import peak_memory_mb
from ..errors import visible


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


def described(delta: Delta, file: Path) -> dict:
    """A delta's facts in the order a person wants them."""
    info = delta.info
    return {
        "file": visible(file.name),
        "concepts": list(info.concepts),
        "kind": info.kind,
        "anchor": info.anchor,
        "architecture": info.architecture,
        "prediction_type": info.prediction_type,
        "base_fingerprint": info.base_fingerprint,
        "parents": [{"name": p.name, "concept": p.concept, "strength": p.strength} for p in info.parents],
        "steps": info.steps,
        "stopped": info.stopped,
        "check": dict(info.check),
        "layers": len(delta.factors),
        "rank": sorted({f.rank for f in delta.factors.values()}),
        "norm": round(delta.norm(), 6),
        "bytes": file.stat().st_size,
        "content_hash": delta.content_hash(),
        "config": dict(info.config),
        "prompts": [list(p) for p in info.prompts],
    }
