"""Recorded names and shapes of full-size networks (`keys/*.txt`): the original UNets as ComfyUI builds them.

A list is a tree of names. Members of one parent that are equal underneath share a line, `0-3,5` counts them out, and a
leaf ends with its shape:

    input_blocks
     1,2
      0.in_layers.0.weight,bias 320
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("keys")
Shape = tuple[int, ...]


def recorded(name: str) -> dict[str, Shape]:
    """All names and shapes of a list."""
    return unfold((FOLDER / f"{name}.txt").read_text("ascii"))


def fold(shapes: Mapping[str, Shape]) -> str:
    """The text of a list."""
    tree: dict = {}
    for name in sorted(shapes, key=in_order):
        *parents, last = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = shapes[name]
    return "\n".join(lines(tree, 0)) + "\n"


def lines(tree: Mapping, depth: int) -> list[str]:
    """A tree's lines, each a step deeper than its parent's."""
    groups: dict[str, list[str]] = {}
    for name, inside in tree.items():
        shape = isinstance(inside, tuple)
        below = " " + "x".join(map(str, inside)) if shape else "\n" + "\n".join(lines(inside, depth + 1))
        groups.setdefault(below, []).append(name)
    made = []
    for below, names in groups.items():
        only = re.fullmatch(r"\n +(\S+)( \S+)?((?:\n.*)*)", below)
        if only and not re.search(rf"^ {{{depth + 1}}}\S", only[3], re.M):  # an only child stays on its parent's line
            rest = re.sub(r"^ ", "", only[3], flags=re.M)
            made.append(f"{' ' * depth}{counted(names)}.{only[1]}{only[2] or ''}{rest}")
        else:
            made.append(" " * depth + counted(names) + below)
    return "\n".join(made).split("\n")


def unfold(text: str) -> dict[str, Shape]:
    """The names and shapes of a list's text."""
    shapes: dict[str, Shape] = {}
    parents: list[list[str]] = []
    for line in text.splitlines():
        words = line.split()
        depth = len(line) - len(line.lstrip())
        names = [""] if not depth else parents[depth - 1]
        for part in words[0].split("."):
            names = [f"{parent}.{name}" if parent else name for parent in names for name in spelled(part)]
        parents[depth:] = [names]
        if len(words) == 2:
            shapes |= dict.fromkeys(names, tuple(map(int, words[1].split("x"))))
    return shapes


def in_order(name: str) -> list[tuple[int, int, str]]:
    """A name's place among others, numbers by their value."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in name.split(".")]


def counted(names: list[str]) -> str:
    """`0,1,2,4` as `0-2,4`."""
    runs: list[list[str]] = []
    for name in names:
        if runs and name.isdigit() and runs[-1][-1].isdigit() and int(name) == int(runs[-1][-1]) + 1:
            runs[-1].append(name)
        else:
            runs.append([name])
    return ",".join(r[0] if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def spelled(part: str) -> list[str]:
    """`0-2,4` as `0`, `1`, `2`, `4`."""
    names: list[str] = []
    for run in part.split(","):
        first, _, last = run.partition("-")
        names += [str(i) for i in range(int(first), int(last) + 1)] if last else [first]
    return names
