"""Facts of a finished run and of a delta, as plain data."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from ..delta.format import Delta, load
from ..delta.info import DeltaInfo
from ..device_memory import peak_memory_mb
from ..errors import one_line


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
        "file": one_line(file.name),
        "concepts": list(info.concepts),
        "kind": info.kind,
        "anchor": info.anchor,
        "architecture": info.architecture,
        "prediction_type": info.prediction_type,
        "base_fingerprint": info.base_fingerprint,
        "base_name": info.base_name,
        "has_base_sample": bool(info.base_sample),
        "parents": [asdict(p) for p in info.parents],
        "merged": [asdict(p) for p in info.merged],
        "near": list(info.near),
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


MOST_KEPT = 20
"""Words under Keep that are told of a file."""
KILO = 1000
"""Bytes of a kB, as file managers count."""


def in_short(delta: Delta, file: Path) -> list[tuple[str, str]]:
    """What a person wants to know of a delta, as rows of (label, value); what is empty is left out."""
    info, facts = delta.info, file.stat()
    ranks = sorted({f.rank for f in delta.factors.values()})
    rows = [
        ("File", one_line(file.name)),
        ("Forgets", ", ".join(p.in_words for p in info.merged) or info.concept),
        ("Kind", "" if info.merged else info.kind),
        ("Draws instead", "" if info.merged else info.anchor or "nothing in its place"),
        ("Made for", base_in_words(info)),
        ("On top of", ", ".join(p.concept for p in info.parents)),
        ("Made with", made_with(info)),
        ("Stopped", info.stopped),
        ("Result", str(info.check.get("verdict", ""))),
        ("Prompts", str(len(info.prompts))),
        ("Size", f"{facts.st_size / KILO:.0f} kB, rank {', '.join(map(str, ranks))}, {len(delta.factors)} layers"),
        ("File's date", f"{datetime.fromtimestamp(facts.st_mtime):%Y-%m-%d %H:%M}"),
    ]
    return [(label, value) for label, value in rows if value]


def base_in_words(info: DeltaInfo) -> str:
    """The checkpoint that a delta was made for: its name where it is known, its kind, and what tells it from others."""
    name = f"{one_line(info.base_name)}, " if info.base_name else ""
    return f"{name}{info.architecture} checkpoint {info.base_fingerprint}"


def asked_beyond(info: DeltaInfo, name: str) -> str:
    """Of the settings "depth" and "scope" what goes beyond the plain request, and where the file tells so: not kept."""
    asked = info.config.get(name)
    if asked not in ("deep", "everywhere"):
        return ""
    return f"{name} {asked}" + (", not kept" if info.check.get(f"{name}_kept") is False else "")


def made_with(info: DeltaInfo) -> str:
    """How a delta was made: merged, in closed form or by training, and the settings that an artist chose."""
    if info.merged:
        return f"merged from {len(info.merged)} deltas"
    config = info.config
    parts = [f"training, {info.steps} steps" if info.steps else "closed form"]
    # the file may come from anyone, and hold anything in their place
    parts += [f"{name} {config[name]}" for name in ("quality", "seed") if isinstance(config.get(name), (str, int))]
    parts += [further for name in ("depth", "scope") if (further := asked_beyond(info, name))]
    kept = config.get("keep")
    names = [str(word) for word in kept[:MOST_KEPT]] if isinstance(kept, list) else []
    parts += [f"keep {', '.join(names)}"] if names else []
    return ", ".join(parts)
