"""The repository's Python files as syntax trees, for the tests that read the code and never run it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
OURS = ("unlearn_core", "nodes", "extension", "benchmarks", "tests")


@dataclass(frozen=True)
class Import:
    """One imported name.

    name: as in "torch.nn.functional"; of our own modules the module alone, with a dot in front: ".unlearn_core.host".
    lazy: inside a function. types: only for a type checker. level: how many dots were written.
    """

    line: int
    name: str
    lazy: bool
    types: bool
    level: int


@dataclass(frozen=True)
class Source:
    """A file: path from the repository's root, with slashes, and text."""

    path: str
    text: str

    @property
    def module(self) -> tuple[str, ...]:
        """The names that lead to it, a package's `__init__` included."""
        return PurePosixPath(self.path).with_suffix("").parts

    @property
    def room(self) -> str:
        """The outermost folder; "" for a file at the root."""
        return self.module[0] if len(self.module) > 1 else ""

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> list[Import]:
        """Every import, wherever it stands."""
        return list(imports(self.tree, self.module))

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function, methods and inner ones too."""
        return (n for n in ast.walk(self.tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))


@lru_cache
def sources() -> tuple[Source, ...]:
    """All Python files, leaving out hidden folders such as `.venv`."""
    folders = [f for f in ROOT.iterdir() if f.is_dir() and not f.name.startswith(".")]
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    paths = sorted(file.relative_to(ROOT).as_posix() for file in files)
    return tuple(Source(path, (ROOT / path).read_text("utf-8")) for path in paths)


def imports(node: ast.AST, module: tuple[str, ...], lazy: bool = False, types: bool = False) -> Iterator[Import]:
    """Every import below a node of that module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(child.lineno, named(alias.name), lazy, types, 0) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                name = named(full_name(child, alias.name, module))
                yield Import(child.lineno, name, lazy, types, child.level)
        else:
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            guarded = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            yield from imports(child, module, lazy or function, types or guarded)


def full_name(node: ast.ImportFrom, name: str, module: tuple[str, ...]) -> str:
    """The name that one entry of "from ... import name" means; ".." in front where it climbs out of the repository."""
    if not node.level:
        return f"{node.module}.{name}"
    base = ["", *module[: len(module) - node.level]] if node.level <= len(module) else ["", "", ""]
    return ".".join([*base, *filter(None, [node.module]), name])


def named(name: str) -> str:
    """The name as `Import` has it: one of ours is cut down to its module."""
    ours = name.removeprefix(".")
    if name.startswith("..") or (name == ours and ours.split(".")[0] not in OURS):
        return name
    parts = ours.split(".")
    while parts and not any(ROOT.joinpath(*parts[:-1], parts[-1] + end).exists() for end in (".py", "/__init__.py")):
        parts.pop()
    return "." + ".".join(parts or ours.split("."))


def within(name: str, packages: set[str]) -> bool:
    """Whether `name` is one of the packages or something inside one."""
    return any(name == package or name.startswith(package + ".") for package in packages)
