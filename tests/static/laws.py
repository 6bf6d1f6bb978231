"""The laws of the house, read off every syntax tree: who imports whom, what is never called, how long things are."""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter

from tests.static.trees import Import, Source, sources, within

Finding = tuple[int, str]
"""A line, and what is wrong with it."""
Law = Callable[[Source], Iterator[Finding]]

# The parts of unlearn_core, lowest first: a part imports itself and what stands in the lines above it.
# The longest name that fits a module decides: method.forget stands above the rest of method.
LEVELS = (
    "errors, version, starting",
    "untrusted",
    "words, delta",
    "config, extremes, recipe, saved_work",
    "host",
    "progress, sampling, prompt_cache, device_memory",
    "preview",
    "picture_file, evaluate",
    "method",
    "method.forget",
    "method.retrain, method.wishes",
    "standalone",
    "__init__",
    "demo",
    "cli",
    "__main__",
)
LEVEL_OF = {part: level for level, line in enumerate(LEVELS) for part in line.split(", ")}

# Which of ours each room may import, and how the name is written: hosts load the pack under names of their own.
ROOMS = {
    "unlearn_core": {".unlearn_core"},
    "nodes": {".nodes", ".unlearn_core"},
    "extension": {".extension", ".unlearn_core"},
    "benchmarks": {".benchmarks", ".unlearn_core"},
}
FREE_ROOMS = {"tests", "assets"}
IN_HOSTS = {"unlearn_core", "nodes", "extension"}

# Packages beside the standard library, by the beginning of a path; "?" in front: only inside a function.
PACKAGES = {
    "": {"torch", "numpy", "safetensors"},
    "unlearn_core/method/adapters.py": {"?peft"},
    "unlearn_core/standalone/": {"?diffusers", "?transformers", "?yaml"},
    "unlearn_core/picture_file.py": {"PIL"},
    "unlearn_core/cli/": {"PIL", "tqdm"},
    "nodes/": {"yaml", "PIL", "comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server"},
    "extension/": {"gradio", "PIL", "?starlette"},
    "extension/server.py": {"?uvicorn"},
    "extension/host": {"modules", "networks", "modules_forge", "backend", "ldm_patched"},
    "benchmarks/": {"diffusers", "transformers", "PIL", "matplotlib", "tqdm"},
    "benchmarks/world/drawings.py": {"?resvg_py"},
    "benchmarks/stamp/train.py": {"?pictures", "?export_demo"},
}
# Run or loaded by their path, in whatever Python there is. Web UIs load every file that lies in scripts/.
ALONE = ("install.py", "scripts/", "extension/__main__.py")

NEVER_USED = {"os.system", "os.popen", "torch.load", "importlib.import_module"}
NEVER_IMPORTED = NEVER_USED | {
    *("pickle", "marshal", "shelve", "subprocess", "runpy", "torch.hub"),
    *("socket", "socketserver", "ssl", "http", "urllib.request", "ftplib", "smtplib", "imaplib", "poplib", "xmlrpc"),
}
MAY_START = {"extension/open_folder.py": {"subprocess"}, "benchmarks/pictures.py": {"subprocess"}}
"""The first starts the system's file manager on the folder of the deltas, the second what takes pictures of pages;
ComfyUI's pack holds neither."""
BUILTINS_NEVER_USED = {"eval", "exec", "compile", "__import__"}

MOST_LINES, MOST_PARAMETERS, MOST_LINES_OF_A_FILE = 60, 6, 400
ALLOWED = {"nodes/pictures.py:execute"}
"""ComfyUI calls it with one parameter an input."""


# Imports


def place(module: str) -> str:
    """The part of unlearn_core in which a module lies; "" where nobody has given it a place."""
    names = module.split(".")
    prefixes = (".".join(names[:n]) for n in range(len(names), 0, -1))
    return next((p for p in prefixes if p in LEVEL_OF), "")


def module_name(source: Source) -> str:
    """The module of a file in unlearn_core, as `core_module` has it."""
    return ".".join(source.module[1:]).removesuffix(".__init__")


def core_module(name: str) -> str:
    """A name of `Import` inside unlearn_core."""
    return name.removeprefix(".unlearn_core").removeprefix(".") or "__init__"


def lower_imports_higher(source: Source) -> Iterator[Finding]:
    """A part of the core imports itself and lower ones."""
    if source.room != "unlearn_core":
        return
    part = place(".".join(source.module[1:]))
    if not part:
        yield 0, "this file has no place in LEVELS"
        return
    for i in source.imports:
        if within(i.name, {".unlearn_core"}):
            other = place(core_module(i.name))
            if other != part and LEVEL_OF.get(other, len(LEVELS)) >= LEVEL_OF[part]:
                yield i.line, f"{part} is not above {other}"


def another_room(source: Source) -> Iterator[Finding]:
    """The core knows no door, a door knows no other, and nobody knows the benchmarks and the tests."""
    if source.room in FREE_ROOMS or source.path.startswith(ALONE) or source.path == "__init__.py":
        return
    if source.room not in ROOMS:
        yield 0, "this file lies in no known room"
        return
    for i in source.imports:
        if i.name.startswith(".") and not within(i.name, ROOMS[source.room]):
            yield i.line, f"{source.room} imports {i.name}"
        elif i.name.startswith(".") and not i.level and source.room in IN_HOSTS:
            yield i.line, f"{i.name} is ours: import it relatively"


def foreign_packages(source: Source) -> Iterator[Finding]:
    """Packages are imported where they belong, and heavy ones only when they are needed."""
    if source.room in FREE_ROOMS:
        return
    alone = source.path.startswith(ALONE) or source.path == "__init__.py"
    here = (names for start, names in PACKAGES.items() if source.path.startswith(start) and not alone)
    allowed = set().union(*here)
    for i in source.imports:
        if i.name.startswith(".") or i.name.split(".")[0] in sys.stdlib_module_names or within(i.name, allowed):
            continue
        if not (i.lazy and within("?" + i.name, allowed)):
            yield i.line, f"imports {i.name}" + (" at load" if within("?" + i.name, allowed) else "")


def root_loads(source: Source) -> Iterator[Finding]:
    """ComfyUI's door loads nothing, and later only `nodes`; what is run by its path stands alone."""
    if source.path == "__init__.py":
        for i in source.imports:
            if not (i.name.startswith("__future__") or (i.lazy and within(i.name, {".nodes"}))):
                yield i.line, f"the root imports {i.name}"
    elif source.path.startswith(ALONE):
        yield from ((i.line, f"imports {i.name}") for i in source.imports if i.name.startswith("."))


def imports_for_types(source: Source) -> Iterator[Finding]:
    """The core hides no circle behind TYPE_CHECKING."""
    if source.room == "unlearn_core":
        yield from ((i.line, f"{i.name} is imported for types only") for i in source.imports if i.types)


def circles(files: list[Source]) -> list[str]:
    """A circle of the core's modules that import each other while they are loaded, or nothing."""

    def loaded(i: Import) -> bool:
        return within(i.name, {".unlearn_core"}) and not i.lazy

    graph = {module_name(s): {core_module(i.name) for i in s.imports if loaded(i)} for s in files}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        return circle.args[1]
    return []


# Calls, sizes, docstrings


def dangerous_calls(source: Source) -> Iterator[Finding]:
    """No network client, no process, nothing that runs code out of a file, also through an alias."""
    if source.room not in ROOMS or source.path.startswith(ALONE):
        return
    never = NEVER_IMPORTED - MAY_START.get(source.path, set())
    yield from ((i.line, f"imports {i.name}") for i in source.imports if within(i.name, never))
    meaning = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            meaning |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id in BUILTINS_NEVER_USED:
            yield node.lineno, f"uses {node.id}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{meaning.get(node.value.id, node.value.id)}.{node.attr}"
            if name in NEVER_USED:
                yield node.lineno, f"uses {name}"


def float64_on_a_device(source: Source) -> Iterator[Finding]:
    """Apple's devices have no float64: it is made on the CPU."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"\.double\(\)\s*\.cpu\(", line):
            yield number, "makes float64 before it goes to the CPU"


def too_long(source: Source) -> Iterator[Finding]:
    """Functions and files that fit a screen or a few; `*args` and `**kwargs` are not counted."""
    if (lines := len(source.text.splitlines())) > MOST_LINES_OF_A_FILE:
        yield 0, f"the file has {lines} lines"
    for f in source.functions():
        if f"{source.path}:{f.name}" in ALLOWED:
            continue
        names = [a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        lines = (f.end_lineno or f.lineno) - f.lineno + 1
        if lines > MOST_LINES:
            yield f.lineno, f"{f.name} has {lines} lines"
        if count > MOST_PARAMETERS:
            yield f.lineno, f"{f.name} has {count} parameters"


def bad_docstrings(source: Source) -> Iterator[Finding]:
    """What is public has a docstring, and the first paragraph of each is whole."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [source.tree, *(n for n in ast.walk(source.tree) if isinstance(n, defined))]
    for node in nodes:
        name, text = getattr(node, "name", "the file"), ast.get_docstring(node)
        if f"{source.path}:{name}" in ALLOWED:
            continue
        if text and not text.split("\n\n")[0].rstrip().endswith((".", "!", "?", ":")):
            yield getattr(node, "lineno", 0), f"the first paragraph about {name} is no whole sentence"
        public = node is source.tree or (node in source.tree.body and not name.startswith("_"))
        if public and not text and source.room not in FREE_ROOMS:
            yield getattr(node, "lineno", 0), f"{name} has no docstring"


def broken(law: Law) -> list[str]:
    """Everything in the repository that is against a law."""
    return [f"{s.path}:{line}: {what}" for s in sources() for line, what in law(s)]
