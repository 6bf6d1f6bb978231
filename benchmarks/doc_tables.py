"""The generated tables of the documentation: written between markers, from committed results and from the code.

A page says `<!-- table:NAME -->` and `<!-- /table:NAME -->`; what stands between them is never edited by hand.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from unlearn_core import config, recipe
from unlearn_core.delta.atomic import write_whole
from unlearn_core.errors import BadSetting

from . import doc_results

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
OPEN, CLOSE = re.compile(r"<!-- table:([\w-]+) -->\n"), "<!-- /table:{} -->"


def results(name: str) -> dict:
    """A committed file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def settings_table(group: str) -> list[str]:
    """All settings of a group, from the code."""
    out = ["| setting | label | default | values | what it does |", "|---|---|---|---|---|"]
    for f in config.settings():
        facts = f.metadata
        if facts["group"] != group:
            continue
        unit = f" {facts['unit']}" if facts.get("unit") else ""
        out.append(f"| `{f.name}` | {facts['label']} | {shown(f.default)}{unit} | {values(f)} | {facts['help']} |")
    return out


def values(f) -> str:
    """What a setting may be."""
    if f.metadata.get("choices"):
        return ", ".join(f.metadata["choices"])
    if isinstance(f.default, bool):
        return "yes, no"
    if isinstance(f.default, tuple):
        return "words, divided by commas"
    if f.metadata.get("low") is None:
        return "words"
    return f"{shown(f.metadata['low'])} to {shown(f.metadata['high'])}"


def shown(value: object) -> str:
    """A constant as a table writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(f"({shown(v)})" if isinstance(v, tuple) else shown(v) for v in value) or "none"
    if isinstance(value, float):
        text = f"{value:.4g}"
        return f"{value:.6f}".rstrip("0") if "e" in text else text
    return str(value) or "empty"


def recipe_table() -> list[str]:
    """Every constant of the method for objects and styles, with what the code says about it."""
    out = ["| constant | object | style | what it is |", "|---|---|---|---|"]
    for name, text in described(recipe.Recipe).items():
        mine, theirs = (shown(getattr(r, name)) for r in (recipe.OBJECT, recipe.STYLE))
        out.append(f"| `{name}` | {mine} | {theirs if theirs != mine else 'the same'} | {text} |")
    return out


def described(cls: type) -> dict[str, str]:
    """{field: the text that stands below it in the source}."""
    (body,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(body, ast.ClassDef)
    found, last = {}, ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign):
            assert isinstance(node.target, ast.Name)
            last = node.target.id
            found[last] = ""
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[last] = " ".join(str(node.value.value).split())
    return found


def world_table(kind: str, model: str = "world") -> list[str]:
    """The large world's base model, or runs on it; "short": ten requests for the front page.

    model: "world", or "world-open" without its list.
    """
    from .world.record import base_table, short_table, table_of

    made = {"base": base_table, "short": short_table}.get(kind, table_of)
    return made(results(f"world_{'ten' if kind == 'short' else kind}_{model}"))


TABLES: dict[str, Callable[[], Sequence[str]]] = {
    "sequence-A": lambda: doc_results.sequence(results("sequence_A")),
    "sequence-A-flow": lambda: doc_results.sequence(results("sequence_A_flow")),
    "sequence-A-flow-t5": lambda: doc_results.sequence(results("sequence_A_flow-t5")),
    "searched-A-flow": lambda: doc_results.sequence(results("sequence_A_flow"), "searched"),
    "searched-A-flow-t5": lambda: doc_results.sequence(results("sequence_A_flow-t5"), "searched"),
    "alone-flow": lambda: doc_results.alone(results("alone_flow")),
    "alone-flow-t5": lambda: doc_results.alone(results("alone_flow-t5")),
    "search-flow": lambda: doc_results.searched(results("search_flow")),
    "sequence-B": lambda: doc_results.sequence(results("sequence_B")),
    "sequence-A-others": lambda: doc_results.sequence(results("sequence_A"), "others"),
    "uce-at-its-best": lambda: doc_results.sequence(results("sequence_A"), "searched"),
    "readme-ten": lambda: doc_results.sequence_short(results("sequence_A")),
    "robustness": lambda: doc_results.robustness(results("robustness")),
    "against": lambda: doc_results.against(results("against")),
    "against-float32": lambda: doc_results.against(results("against_float32")),
    "open-words": lambda: doc_results.open_words(results("open_words")),
    "speed": lambda: doc_results.speed(results("speed")),
    "widths": lambda: doc_results.widths(results("widths")),
    "memory": lambda: doc_results.memory(results("memory")),
    "readme-demo": lambda: doc_results.demo(results("demo")),
    "reliability": lambda: doc_results.reliability(results("reliability")),
    "first": lambda: doc_results.first(results("first")),
    "depth": lambda: doc_results.depth(results("depth")),
    "everywhere": lambda: doc_results.everywhere(results("everywhere")),
    "agreement": lambda: doc_results.agreement(results("agreement")),
    "agreement-tried": lambda: doc_results.agreement_tried(results("agreement")),
    **{f"world-{kind}": partial(world_table, kind) for kind in ("base", "one", "ten", "short", "hundred", "together")},
    "world-ten-open": partial(world_table, "ten", "world-open"),
    "settings-request": lambda: settings_table(config.REQUEST),
    "settings-edit": lambda: settings_table(config.EDIT),
    "settings-training": lambda: settings_table(config.TRAINING),
    "recipe": recipe_table,
}


def pages(root: Path = ROOT) -> list[Path]:
    """All pages that may hold a table."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def rendered(page: Path) -> str:
    """A page with its tables as they are today. Raises `BadSetting` for a table that there is not."""
    text, out, at = page.read_text(encoding="utf-8"), [], 0
    for begin in OPEN.finditer(text):
        name = begin[1]
        end = text.find(CLOSE.format(name), begin.end())
        if name not in TABLES or end < 0:
            raise BadSetting(
                f"{page.name}: '{begin[0].strip()}' has no end or no table; known are {', '.join(TABLES)}."
            )
        out += [text[at : begin.end()], "\n".join(TABLES[name]()), "\n"]
        at = end
    return "".join(out) + text[at:]


def outdated(root: Path = ROOT) -> list[str]:
    """Names of the pages whose tables are not as they would be written."""
    return [p.name for p in pages(root) if rendered(p) != p.read_text(encoding="utf-8")]


def write(root: Path = ROOT) -> list[str]:
    """Rewrite all tables; names of the pages that changed."""
    changed = outdated(root)
    for page in pages(root):
        if page.name in changed:
            write_whole(page, rendered(page).encode())
    return changed
