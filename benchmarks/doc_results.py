"""How committed results become tables: rows of numbers, and below them the commands that repeat each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .race_table import Standing, standings

SEQUENCE = (
    ("UA", "ua_all"),
    ("UA worst", "ua_worst"),
    ("resurgence worst", "resurgence_worst"),
    ("leakage", "leakage"),
    ("near, listed", "near_listed"),
    ("near, held out", "near_held_out"),
    ("far", "far"),
    ("worst object", "preserved_worst"),
    ("styles", "styles"),
    ("KID", "kid"),
    ("size", "size_of_unet"),
    ("row-passes of the last", "row_passes"),
    ("its seconds", "seconds"),
)
SHORT = (
    ("not recognised", "ua_all"),
    ("near things that are never drawn or trained on", "near_held_out"),
    ("far things", "far"),
    ("other styles", "styles"),
    ("distance to the base model's pictures (KID x 1000)", "kid"),
)
FRONT = {
    "ours": "ours",
    "uce": "UCE, closed form, its usual weight on what stays",
    "uce:keep_scale=10+ridge=0.001": "UCE with ten times that weight",
    "ours-blind": "ours, where no list names those near things",
    "lacu-lora": "LACU losses on a plain LoRA",
    "lacu-full": "LACU losses on the whole UNet",
    "dfr-full": "DFR v1 losses on the whole UNet",
    "pure-noise-lora:learning_rate=0.01+steps=40": "text anchor on pure noise (iLECO)",
    "concept-ablation": "concept ablation",
    "esd-lora:layers=attention+learning_rate=0.001+steps=60": "ESD objective on a LoRA",
    "esd-lora:dense=1+learning_rate=0.0003+steps=40": "ESD objective on whole matrices",
}
"""{method: how the front page calls it}, in the order of that page."""
PLAIN = {"kid", "row_passes", "seconds", "rounds", "steps"}
"""Keys that are not shares."""
POINTS = {"resurgence_worst"}
"""Shares that are shown as points."""


def number(value: float, digits: int = 1) -> str:
    """At most so many decimals, none that say nothing; large ones whole."""
    text = f"{value:.{0 if abs(value) >= 1000 else digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def cell(row: Mapping, key: str, digits: int = 1, brackets: bool = True) -> str:
    """A value of a row; in brackets the worst seed's, or the name that belongs to it."""
    value = row.get(key)
    if value is None:
        return ""
    mean, *worst = value if isinstance(value, list) else [value]
    plain = key in PLAIN
    text = number(mean if plain else 100 * mean, digits) + ("" if plain or key in POINTS else " %")
    if worst and brackets:
        text += f" ({number(worst[0] if plain else 100 * worst[0], digits)})"
    name = row.get(f"{key}_name")
    return f"{text} ({name})" if name else text


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Markdown."""
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(r)} |" for r in rows)]


def with_sources(head: Sequence[str], rows: Sequence[Mapping], cells: Callable[[Mapping], list[str]], data: Mapping):
    """A table whose last column names the source of each row, and the sources below it."""
    used = dict.fromkeys(r["source"] for r in rows if "source" in r)
    numbered = {s: str(i) for i, s in enumerate(used, 1)}
    body = [[*cells(r), numbered.get(r.get("source", ""), "")] for r in rows]
    notes = [f"{n}. {described(data['sources'][s])}" for s, n in numbered.items()]
    return [*table([*head, "from"], body), "", *notes]


def described(source: Mapping) -> str:
    """Where numbers come from, in one line."""
    command = f"`{source['command']}`: " if source["command"] else ""
    origin = ", copied from its documentation" if source.get("transcribed") else ""
    note = f"; {source['note']}" if source.get("note") else ""
    return f"{command}{source['date']}, {source['device']}, commit {source['commit']}{origin}{note}."


def sequence(data: Mapping, group: str = "main") -> list[str]:
    """What the methods of a group have done to the model after its last request."""
    rows = [row for row in data["rows"] if row["group"] == group]
    columns = [(title, key) for title, key in SEQUENCE if any(key in row for row in rows)]

    def cells(row: Mapping) -> list[str]:
        bold = group == "main" and row is rows[0]
        label = f"*{row['label']}*" if row is data["base"] else f"**{row['label']}**" if bold else row["label"]
        return [label, str(row["seeds"]), *(cell(row, key) for _, key in columns)]

    head = [data["what"], "seeds", *(title for title, _ in columns)]
    return with_sources(head, [data["base"], *rows] if group == "main" else rows, cells, data)


ALONE = (
    ("still recognised", "left"),
    ("others, of their own", "others"),
    ("worst other", "preserved_worst"),
    ("styles, of the base's", "styles"),
    ("unrecognisable", "broken"),
    ("row-passes", "row_passes"),
    ("seconds", "seconds"),
)


def alone(data: Mapping) -> list[str]:
    """Single requests, each on a model that has forgotten nothing yet: a row a concept and method."""

    def cells(row: Mapping) -> list[str]:
        return [row["concept"], row["label"], str(row["seeds"]), *(cell(row, key) for _, key in ALONE)]

    return with_sources(["forgotten", "by", "seeds", *(t for t, _ in ALONE)], data["rows"], cells, data)


def sequence_short(data: Mapping) -> list[str]:
    """The same in whole numbers, for a reader who wants the outcome only."""
    rows: dict[str, Mapping] = {}
    for row in data["rows"]:
        rows.setdefault(row["method"], row)

    def cells(label: str, row: Mapping) -> list[str]:
        return [label, *(cell(row, key, 1 if key in PLAIN else 0, brackets=False) for _, key in SHORT)]

    body = [cells(name, rows[method]) for method, name in FRONT.items() if method in rows]
    head = [data["what"], *(title for title, _ in SHORT)]
    return table(head, [cells("*base model*", data["base"]), *body])


def robustness(data: Mapping) -> list[str]:
    """Ways of asking."""
    from .robustness import COLUMNS

    keys = [k for _, k in COLUMNS]
    head = ["way", *(title for title, _ in COLUMNS)]
    return with_sources(head, data["rows"], lambda r: [r["way"], *(cell(r, k) for k in keys)], data)


def first(data: Mapping) -> list[str]:
    """What a newcomer waits for."""

    def cells(row: Mapping) -> list[str]:
        return [row["what"], f"`{row['command']}`", number(row["seconds"])]

    return with_sources(["what", "command", "seconds"], data["rows"], cells, data)


def against(data: Mapping) -> list[str]:
    """Seconds to the same forgetting."""
    concepts = len({row["concept"] for row in data["rows"]})
    lines = standings(data["rows"])
    whole = lines[1].seconds

    def cells(line: Standing) -> list[str]:
        method = f"`{line.method}`" if line.method else "the best of these for each concept"
        steps = "when it is there" if line.steps is None else str(line.steps)
        facts = [steps, number(line.seconds), f"{line.seconds / whole:.1f}"] if line.reached else [""] * 3
        return [line.name, method, facts[0], f"{line.reached} of {concepts}", *facts[1:]]

    head = ["", "method", "steps", "at the mark", "s", "x ours"]
    notes = [described(source) for source in data.get("sources", {}).values()]
    return [*table(head, [cells(line) for line in lines]), "", *notes]


def speed(data: Mapping) -> list[str]:
    """A training step."""

    def cells(row: Mapping) -> list[str]:
        tall = f"{row['tall']:g} s" if "tall" in row else f"{row['tall_ratio']:g}x a stack of 1"
        work = ""
        if "teraflops" in row:
            work = f"{row['teraflops']:g} TFLOP/s"
        elif "tflop_a_step" in row:
            work = f"{row['tflop_a_step']:g} TFLOP a step"
        room = f"{row['loaded_mb']} MB, at most {row['peak_mb']}"
        return [
            row["what"],
            row["batch"],
            f"{row['step']:g}",
            f"{row['bare']:g}",
            f"{row['overhead']:g}x",
            tall,
            work,
            room,
        ]

    head = ["training step", "batch", "s a step", "bare passes", "overhead", "on a stack of 20", "work", "memory"]
    return with_sources(head, data["rows"], cells, data)


def searched(data: Mapping) -> list[str]:
    """Published methods over a few settings, the best of each first."""

    def cells(row: Mapping) -> list[str]:
        shares = (cell(row, key) for key in ("ua", "preserved"))
        return [f"`{row['method']}`", str(row["requests"]), *shares, number(row["seconds"])]

    head = ["setting", "requests", "UA", "other objects", "s a request"]
    return with_sources(head, data["rows"], cells, data)


def widths(data: Mapping) -> list[str]:
    """The algebra of layers at their true width."""

    def cells(row: Mapping) -> list[str]:
        size, moved = f"{row['width']} x {row['out']}", ", ".join(f"{number(100 * m)} %" for m in row["moved"])
        return [
            row["layer"],
            size,
            row["device"],
            number(row["seconds"]),
            number(row["mb"], 0),
            moved,
            cell(row, "listed"),
            cell(row, "unlisted"),
        ]

    head = [
        "layer",
        "numbers",
        "on",
        "s a request",
        "memory (MB)",
        "way to the anchors",
        "listed words",
        "unlisted words",
    ]
    return with_sources(head, data["rows"], cells, data)


def memory(data: Mapping) -> list[str]:
    """Whole runs."""

    def cells(row: Mapping) -> list[str]:
        parts = ", ".join(f"{name} {seconds}" for name, seconds in row.get("parts", {}).items())
        loaded, peak = row.get("loaded_mb"), row.get("peak_mb")
        growth = f" ({peak / loaded - 1:+.0%})" if loaded and peak else ""
        return [row["what"], number(row["seconds"]), parts, str(loaded or ""), f"{peak or ''}{growth}"]

    return with_sources(["run", "s", "of these", "MB loaded", "MB at most"], data["rows"], cells, data)


def open_words(data: Mapping) -> list[str]:
    """What unlisted words feel, a row a way to preserve."""
    names = {"goes": "goes", "near": "near", "worst": "worst", "all": "all", "listed": "listed", "plural": "plural"}
    out = ["| preserved | " + " | ".join(names.values()) + " |", "|---|" + "---|" * len(names)]
    for row in data["rows"]:
        out.append(f"| {row['preserved']} | " + " | ".join(f"{row[key]:.3f}" for key in names) + " |")
    source = data["sources"]["encoder"]
    return [*out, "", f"Made by `{source['command']}` with {source['encoder']}."]


def demo(data: Mapping) -> list[str]:
    """One concept of the demo model, before and after."""

    def arrow(pair: Sequence[float]) -> str:
        return " -> ".join(f"{number(100 * v)} %" for v in pair)

    body = [
        [
            row["forgotten"],
            row["command"],
            ", ".join(map(arrow, row["target"])),
            arrow(row["objects"]),
            arrow(row["styles"]),
        ]
        for row in data["rows"]
    ]
    return table(["forgotten", "by", "target", "other objects", "styles"], body)


PROMISES = {
    "kills": ("killed at a random time: no file lost, none half, and the same command then ends well", "runs"),
    "faults": (
        "a full or broken disk, no memory, a broken backend, Ctrl-C: one sentence, no file lost",
        "faults",
    ),
    "hostile": ("refused in a sentence within a minute and 3 GiB, no control character printed", "files"),
    "fuzz": ("no input ends in anything but a sentence (coverage-guided)", "readers"),
    "resume": ("killed once or twice and gone on with: the bytes of an unbroken run", "runs"),
    "soak": ("memory, handles, threads and seconds of work of ComfyUI and of the tab stay flat", "lines"),
    "sockets": ("no address outside this machine is asked for", "commands"),
}
"""{measurement: (what held, what is counted)}."""


def reliability(results: Mapping) -> list[str]:
    """What held of what was tried, a row a measurement, with its command."""
    out = ["| what was tried | held | what that means | command |", "|---|---|---|---|"]
    by_name = {row["name"]: row for row in results["rows"]}
    for name, (promise, noun) in PROMISES.items():
        if found := by_name.get(name):
            more = ", ".join(f"{k} {number(v)}" for k, v in found["counted"].items())
            tried = f"{found['tried']} {noun}" + (f" ({more})" if more else "")
            held = f"{found['passed']} of {found['tried']}"
            out.append(f"| {tried} | {held} | {promise} | `python -m tests.reliability {name}` |")
    return out


def depth(data: Mapping) -> list[str]:
    """Single requests by name and in depth, asked for in other ways and by learned words."""
    from .depth import TUNED

    shares = {"as counted above": "by name", "paraphrases": "paraphrases", "in a long prompt": "in a long prompt"}
    shares |= {"learned word": "learned word", "objects": "others", "styles": "styles"} | TUNED

    def cells(row: Mapping) -> list[str]:
        plain = [cell(row, key) for key in ("rounds", "seconds")]
        return [row["concept"], row["depth"], str(row["seeds"]), *(cell(row, key) for key in shares), *plain]

    return with_sources(["concept", "depth", "seeds", *shares.values(), "rounds", "seconds"], data["rows"], cells, data)


def everywhere(data: Mapping) -> list[str]:
    """A stamp that nobody asks for, where it is looked for, and what became of the rest."""
    from .everywhere import KEPT, SHARES

    columns = SHARES | KEPT

    def cells(row: Mapping) -> list[str]:
        plain = [cell(row, key) for key in ("rounds", "steps", "seconds")]
        return [row["scope"], str(row["seeds"]), *(cell(row, key) for key in columns), *plain]

    return with_sources(["scope", "seeds", *columns.values(), "rounds", "steps", "seconds"], data["rows"], cells, data)


def agreement(results: Mapping) -> list[str]:
    """How often the check that stops when it knows says what the full check and the classifier say."""
    pairs = ("sequential, full", "sequential, classifier", "full, classifier")
    heads = [f"{what}: {pair}" for what in ("forgotten", "harmed") for pair in pairs]
    out = [
        f"| change | runs | {' | '.join(heads)} | rows of the full check | of the sequential one |",
        "|---" * (len(heads) + 4) + "|",
    ]
    for row in results["rows"]:
        shares = [percent(row[f"{what}: {pair}"]) for what in ("grade", "harmed") for pair in pairs]
        costs = [number(row[f"rows: {judge}"], 0) for judge in ("full", "sequential")]
        out.append(f"| {row['kind']} | {row['runs']} | {' | '.join([*shares, *costs])} |")
    (source,) = results["sources"].values()
    command = f"python -m benchmarks agreement --runs {results['rows'][-1]['runs']} --out agreement"
    return [*out, "", described({"command": command, **source})]


def agreement_tried(results: Mapping) -> list[str]:
    """The same by other constants of the check, and how often two halves of the full one agree."""
    out = [
        "| constants | forgotten: sequential, full | harmed: sequential, full | rows | rows of good changes |",
        "|---" * 5 + "|",
    ]
    for row in results["tried"]:
        name = ", ".join(
            f"`{k}` {' to '.join(map(str, v)) if isinstance(v, list | tuple) else v}" for k, v in row["changes"].items()
        )
        shares = [percent(row[what]) for what in ("grade", "harmed")]
        costs = [number(row[what], 0) for what in ("rows", "rows: good")]
        out.append(f"| {name or 'as they are'} | {' | '.join([*shares, *costs])} |")
    both = percent(results["halves"])
    return [*out, "", f"Two halves of the full check's own pictures, 16 each, use the same word in {both} of the runs."]


def percent(share: float) -> str:
    """With the sign."""
    return f"{number(100 * share)} %"
