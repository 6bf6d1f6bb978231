"""`table.md`: what each method has done to the model after its last request, mean over the seeds and the worst."""

from __future__ import annotations

from collections.abc import Sequence

COLUMNS = (
    ("UA", "ua_all", "%"),
    ("UA worst", "ua_worst", "%"),
    ("resurgence", "resurgence", "points"),
    ("resurgence worst", "resurgence_worst", "points"),
    ("leakage", "leakage", "%"),
    ("near replayed", "near_replayed", "%"),
    ("near never replayed", "near_not_replayed", "%"),
    ("near held out", "near_held_out", "%"),
    ("far", "far", "%"),
    ("near listed", "near_listed", "%"),
    ("near unlisted", "near_unlisted", "%"),
    ("far unlisted", "far_unlisted", "%"),
    ("two things", "composition", "%"),
    ("by synonym", "by_synonym", "%"),
    ("by description", "by_description", "%"),
    ("worst object", "preserved_worst", "%"),
    ("styles", "styles", "%"),
    ("broken", "broken", "%"),
    ("KID", "kid", "number"),
    ("norm", "norm", "number"),
    ("s a request", "seconds", "number"),
    ("row-passes", "row_passes", "whole"),
    ("MB", "peak_memory_mb", "whole"),
    ("size", "size_of_unet", "%"),
)
LOW_IS_GOOD = {
    *("resurgence", "resurgence_worst", "leakage", "broken", "kid", "norm", "by_synonym", "by_description"),
    *("seconds", "row_passes", "peak_memory_mb", "size_of_unet"),
}
OF_THE_WORLD = ("composition_base", "by_synonym_base", "by_description_base")
"""The base model's own shares that only rows of the large world have."""
FORGOTTEN = 0.95
"""UA below which a method has not forgotten, so that what it preserves cannot be compared."""


def table(rows: Sequence[dict], ended: Sequence[dict] = ()) -> str:
    """Markdown, one table a sequence and number of requests reached. ended: requests that could not be learned."""
    parts = ["# Requests in a row", "", *EXPLAINED]
    for sequence in dict.fromkeys(r["sequence"] for r in rows):
        here = [r for r in rows if r["sequence"] == sequence]
        for reached in sorted({last(here, m, s) for m, s in runs(here)}, reverse=True):
            ends = [r for r in here if r["request"] == reached == last(here, r["method"], r["seed"])]
            parts += ["", f"## Sequence {sequence}, after request {reached}", "", *lines(ends, here)]
    for e in ended:
        parts += [
            "",
            "`{method}`, {sequence}, seed {seed}, ended at request {request}, {concept}: {reason}".format(**e),
        ]
    return "\n".join(parts) + "\n"


EXPLAINED = (
    "UA: forgotten concepts that the classifier does not recognise. resurgence: recognition now less that right after",
    "its own request, in points. leakage: a forgotten concept under prompts that do not name it. near, far: preserved",
    "objects of the same or another family, relative to the base model. never replayed: no request of that method has",
    "trained on them; held out: no request of any method can. worst object: the preserved object recognised least. In",
    "the large world: unlisted: in no word list; two things: pictures of two preserved ones, both right, as part of",
    "what the base model gets right, which stands above; by synonym, by description: the forgotten, asked for so.",
    "KID: distance to the base model's pictures of preserved captions, times 1000. norm: of all changes together.",
    "row-passes: rows through the denoiser for the request. size: values a request, as part of the UNet. In brackets",
    "the worst seed.",
)


def runs(rows: Sequence[dict]) -> list[tuple[str, int]]:
    """(method, seed) of all rows, each once."""
    return list(dict.fromkeys((r["method"], r["seed"]) for r in rows))


def last(rows: Sequence[dict], method: str, seed: int) -> int:
    """The last request of one run."""
    return max(r["request"] for r in rows if (r["method"], r["seed"]) == (method, seed))


def lines(ends: Sequence[dict], rows: Sequence[dict]) -> list[str]:
    """One line a method, the base model's own rates on top."""
    columns = [c for c in COLUMNS if any(c[1] in r for r in ends)]
    out = ["| method | seeds | " + " | ".join(c[0] for c in columns) + " |", "|---" * (len(columns) + 2) + "|"]
    base = {
        "ua_all": 1 - ends[0]["base_recognised"],
        "leakage": ends[0]["leakage_base"],
        "far": 1.0,
        "near_replayed": 1.0,
        "near_not_replayed": 1.0,
        "near_held_out": 1.0,
        "styles": ends[0]["styles_base"],
        "broken": ends[0]["broken_base"],
        "kid": ends[0]["kid_base"],
        **{key.removesuffix("_base"): ends[0][key] for key in OF_THE_WORLD if key in ends[0]},
    }
    out.append("| *base model* | | " + " | ".join(shown(base.get(key), unit) for _, key, unit in columns) + " |")
    for method in dict.fromkeys(r["method"] for r in ends):
        mine = [r for r in ends if r["method"] == method]
        seeds = {r["seed"] for r in mine}
        whole = [r for r in rows if r["method"] == method and r["seed"] in seeds]
        cells = [
            cell(whole if key in ("seconds", "row_passes", "peak_memory_mb") else mine, key, unit)
            for _, key, unit in columns
        ]
        mark = "" if sum(r["ua_all"] for r in mine) / len(mine) >= FORGOTTEN else " (forgets too little to compare)"
        out.append(f"| {mine[0]['label']} `{method}`{mark} | {len(seeds)} | " + " | ".join(cells) + " |")
    return out


def cell(rows: Sequence[dict], key: str, unit: str) -> str:
    """Mean over the rows, and the worst when there are several seeds."""
    values = [r[key] for r in rows if r.get(key) is not None]
    if not values:
        return ""
    mean = shown(sum(values) / len(values), unit)
    if len({r["seed"] for r in rows}) < 2:
        return mean
    worst = max(values) if key in LOW_IS_GOOD else min(values)
    return f"{mean} ({shown(worst, unit)})"


def shown(value: float | None, unit: str) -> str:
    """A number as the table writes it."""
    if value is None:
        return ""
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "points":
        return f"{100 * value:+.1f}"
    return f"{value:.0f}" if unit == "whole" else f"{value:.2f}"
