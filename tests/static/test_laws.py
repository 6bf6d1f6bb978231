"""The laws of the house, read off every syntax tree: who may import whom, and what is never called."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Core files, lowest first: a file imports only its own line and the lines above it. A new file has to be placed here.
LEVELS = (
    {"interfaces"},
    {"config", "wish"},
    {"keys", "losses", "sampling", "prompts", "progress", "memory", "clip_tokenizer", "files", "paths", "remembered"},
    {"locality", "subspace", "lora", "delta", "replay"},
    {"stack", "untouched", "lessons", "guard"},
    {"preview", "judge", "classifier", "bake", "closed_form"},
    {"choice", "review"},
    {"train"},
    {"without"},
    {"__init__"},
    {"checkpoint"},
    {"encoders"},
    {"networks"},
    {"console", "stack_command", "standalone", "cli", "demo", "reporting", "benchmark", "__main__"},
)
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}

# Packages that a room may import beside the standard library; "?" in front: only inside a function.
TENSORS = {"torch", "numpy", "safetensors"}
DIFFUSERS = {"diffusers", "transformers", "PIL", "matplotlib"}
CORE_FILES = {
    "lora": {"?peft"},
    "cli": {"PIL", "tqdm"},
    "reporting": {"PIL", "tqdm"},
    "checkpoint": {"?yaml"},
    "encoders": DIFFUSERS,
    "networks": DIFFUSERS,
    "benchmark": DIFFUSERS | {"tqdm"},
}
COMFY = {"yaml", "PIL", "comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server"}
WEBUI = {"gradio", "PIL", "?starlette"}
WEBUI_HOST = {"modules", "networks", "modules_forge", "backend"}
WEBUI_HOST_FILES = {"host", "host_model", "host_forge", "host_callbacks"}
FREE_ROOMS = {"tests", "assets"}

NEVER_USED = {"os.system", "os.popen", "torch.load", "importlib.import_module"}
NEVER_IMPORTED = NEVER_USED | {
    *("pickle", "marshal", "shelve", "subprocess", "runpy", "torch.hub"),
    *("socket", "socketserver", "ssl", "http", "urllib.request", "ftplib", "smtplib", "imaplib", "poplib", "xmlrpc"),
}
BUILTINS_NEVER_USED = {"eval", "exec", "compile", "__import__"}


@dataclass(frozen=True)
class Imported:
    """One imported name. Ours are written from the repository's root, with a dot in front."""

    line: int
    name: str
    lazy: bool
    only_types: bool


def violations(path: str, source: str) -> list[str]:
    """What the file at `path` (from the root, with slashes) does against the laws, as "line: sentence"."""
    parts = PurePosixPath(path).with_suffix("").parts
    if parts[0] in FREE_ROOMS:
        return []
    tree = ast.parse(source)
    if path == "__init__.py":
        refuse = root_refusal
    elif path in ("install.py", "scripts/unlearn.py", "extension/__main__.py"):
        refuse = script_refusal
    elif parts[0] == "unlearn_core" and parts[1] not in LEVEL_OF:
        return [f"0: {parts[1]} has no place in LEVELS"]
    elif parts[0] in ("unlearn_core", "nodes", "extension"):
        refuse = room_refusal
    else:
        return [f"0: no room is known for {path}"]
    found = [f"{i.line}: {reason}" for i in imports(tree, parts) if (reason := refuse(parts, i))]
    if refuse is room_refusal:
        found += [f"{line}: {name} is never used" for line, name in forbidden_uses(tree)]
    return found


def root_refusal(_: tuple[str, ...], i: Imported) -> str:
    """ComfyUI's door loads nothing, and later only `nodes`."""
    if i.name.startswith("__future__") or (i.lazy and within(i.name, {".nodes"})):
        return ""
    return f"the root imports {i.name}" + ("" if i.lazy else " at load")


def script_refusal(_: tuple[str, ...], i: Imported) -> str:
    """What hosts run by path stands alone."""
    return "" if standard(i.name) else f"{i.name} is not in the standard library"


def room_refusal(parts: tuple[str, ...], i: Imported) -> str:
    """Why the file may not import this, or ""."""
    room, file = parts[:2]
    if within(i.name, NEVER_IMPORTED):
        return f"{i.name} is never imported"
    if i.name.startswith("."):
        return own_refusal(room, file, i)
    if within(i.name, {"unlearn_core", "nodes", "extension"}):
        return f"{i.name} is ours: import it relatively"
    if standard(i.name) or (room == "extension" and file in WEBUI_HOST_FILES and within(i.name, WEBUI_HOST)):
        return ""
    allowed = TENSORS | {"unlearn_core": CORE_FILES.get(file, set()), "nodes": COMFY, "extension": WEBUI}[room]
    if within(i.name, allowed) or (i.lazy and within("?" + i.name, allowed)):
        return ""
    return f"{'/'.join(parts)} imports {i.name}" + (" at load" if within("?" + i.name, allowed) else "")


def own_refusal(room: str, file: str, i: Imported) -> str:
    """Why a file may not import another one of ours, or ""."""
    target, *rest = i.name[1:].split(".")
    if room != "unlearn_core":
        return "" if target in (room, "unlearn_core") else f"{room} imports {i.name}"
    if target != "unlearn_core":
        return f"the core imports {i.name}"
    other = core_file(rest)
    return "" if i.only_types or LEVEL_OF[other] <= LEVEL_OF[file] else f"{file} is lower than {other}"


def core_file(names: list[str]) -> str:
    """The core file in which an imported name lies."""
    return names[0] if names and names[0] in LEVEL_OF else "__init__"


def imports(tree: ast.AST, parts: tuple[str, ...], lazy: bool = False, only_types: bool = False) -> Iterator[Imported]:
    """Every import of the file, wherever it stands."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Imported(node.lineno, alias.name, lazy, only_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ["", *parts[: len(parts) - node.level]] if 0 < node.level <= len(parts) else ["", ""] * node.level
            stem = [*base, *filter(None, [node.module])]
            yield from (Imported(node.lineno, ".".join([*stem, alias.name]), lazy, only_types) for alias in node.names)
        else:
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            guarded = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not node.orelse
            yield from imports(node, parts, lazy or function, only_types or guarded)


def forbidden_uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a forbidden function is named, also through an alias of its module."""
    meaning = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            meaning |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in BUILTINS_NEVER_USED:
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{meaning.get(node.value.id, node.value.id)}.{node.attr}"
            if name in NEVER_USED:
                yield node.lineno, name


def within(name: str, packages: set[str]) -> bool:
    """Whether `name` is one of the packages or something inside one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def standard(name: str) -> bool:
    """Whether an import is of the standard library."""
    return name.split(".")[0] in sys.stdlib_module_names


def python_files() -> list[str]:
    """All Python files of the repository, leaving out hidden folders such as `.venv`."""
    folders = [f for f in ROOT.iterdir() if f.is_dir() and not f.name.startswith(".")]
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    return sorted(file.relative_to(ROOT).as_posix() for file in files)


@pytest.mark.parametrize("path", python_files())
def test_file_keeps_the_laws(path):
    assert violations(path, (ROOT / path).read_text("utf-8")) == []


def test_core_has_no_import_cycle():
    graph = {}
    for path in python_files():
        parts = PurePosixPath(path).with_suffix("").parts
        if parts[0] == "unlearn_core" and len(parts) == 2:
            loaded = [i for i in imports(ast.parse((ROOT / path).read_text("utf-8")), parts) if not i.only_types]
            graph[parts[1]] = {core_file(i.name.split(".")[2:]) for i in loaded if within(i.name, {".unlearn_core"})}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))


BAD = {
    "the root loads a room": ("__init__.py", "from .nodes import entry"),
    "the root loads the standard library": ("__init__.py", "import os"),
    "the root loads a host inside a class": ("__init__.py", "class A:\n    import comfy"),
    "the root opens another door": ("__init__.py", "def f():\n    from .extension import tab"),
    "install needs a package": ("install.py", "import torch"),
    "install needs the core": ("install.py", "from unlearn_core import cli"),
    "an unknown core file": ("unlearn_core/utils.py", ""),
    "an unknown room": ("helpers/a.py", ""),
    "a stray file at the root": ("setup.py", ""),
    "a host in the core": ("unlearn_core/train.py", "import comfy.utils"),
    "a host in the core, lazily": ("unlearn_core/train.py", "def f():\n    from folder_paths import x"),
    "a host in the core, guarded": ("unlearn_core/judge.py", "try:\n    import modules\nexcept ImportError:\n    pass"),
    "diffusers outside its rooms": ("unlearn_core/judge.py", "def f():\n    import diffusers"),
    "diffusers for types": ("unlearn_core/judge.py", "if TYPE_CHECKING:\n    from diffusers import A"),
    "peft outside its file": ("unlearn_core/train.py", "def f():\n    import peft"),
    "peft at load": ("unlearn_core/lora.py", "import peft"),
    "pictures outside the command line": ("unlearn_core/preview.py", "from PIL import Image"),
    "lower imports higher": ("unlearn_core/config.py", "from .train import forget"),
    "lower imports higher, lazily": ("unlearn_core/keys.py", "def f():\n    from . import stack"),
    "lower imports the front": ("unlearn_core/delta.py", "from . import forget"),
    "lower imports the benchmark": ("unlearn_core/train.py", "from .benchmark.plots import draw"),
    "a name under its own package": ("unlearn_core/train.py", "import unlearn_core.config"),
    "the core imports a door": ("unlearn_core/cli.py", "from ..nodes import host"),
    "the benchmark climbs out": ("unlearn_core/benchmark/run.py", "from ...extension import tab"),
    "beyond the repository": ("unlearn_core/cli.py", "from ...torch import nn"),
    "nodes import ComfyUI's nodes": ("nodes/host.py", "import nodes"),
    "nodes import gradio": ("nodes/forget.py", "import gradio"),
    "nodes import the other door": ("nodes/host.py", "from ..extension import host"),
    "nodes import the web UI": ("nodes/host.py", "import modules.shared"),
    "extension imports ComfyUI": ("extension/host.py", "import comfy"),
    "web UI outside host.py": ("extension/tab.py", "from modules import shared"),
    "extension imports the other door": ("extension/tab.py", "from ..nodes import host"),
    "a network client": ("unlearn_core/delta.py", "from urllib import request"),
    "a socket": ("nodes/host.py", "def f():\n    import socket"),
    "requests": ("extension/actions.py", "import requests"),
    "a process": ("extension/actions.py", "import subprocess"),
    "pickle": ("unlearn_core/delta.py", "import pickle"),
    "torch.load": ("unlearn_core/delta.py", "import torch\ntorch.load('x')"),
    "torch.load by alias": ("unlearn_core/delta.py", "import torch as t\nread = t.load"),
    "torch.load by name": ("unlearn_core/delta.py", "from torch import load as read"),
    "eval": ("nodes/schema.py", "x = eval('1')"),
    "exec": ("unlearn_core/cli.py", "exec('1')"),
    "a shell": ("extension/tab.py", "import os\nos.system('x')"),
    "an import by name": ("unlearn_core/train.py", "import importlib\nimportlib.import_module('comfy')"),
    "an import by hand": ("unlearn_core/train.py", "__import__('comfy')"),
}

GOOD = {
    "the root's lazy door": ("__init__.py", "async def f():\n    from .nodes import entry\n    return entry"),
    "install uses processes": ("install.py", "import subprocess"),
    "same level": ("unlearn_core/cli.py", "from .demo import run\nfrom PIL import Image"),
    "downwards": ("unlearn_core/train.py", "import re\nimport torch\nfrom . import losses\nfrom .stack import Stack"),
    "upwards for types": ("unlearn_core/interfaces.py", "if TYPE_CHECKING:\n    from .stack import Stack"),
    "peft when it is needed": ("unlearn_core/lora.py", "def f():\n    from peft import LoraConfig"),
    "diffusers in its room": ("unlearn_core/networks.py", "from diffusers import UNet2DConditionModel"),
    "inside the benchmark": ("unlearn_core/benchmark/run.py", "from ..train import forget\nfrom .plots import draw"),
    "nodes": ("nodes/host.py", "import comfy.utils\nimport folder_paths\nfrom ..unlearn_core import forget"),
    "web UI": ("extension/host.py", "from modules import shared\nfrom ..unlearn_core.config import ForgetConfig"),
    "harmless namesakes": ("unlearn_core/judge.py", "import re\nre.compile('x')\nmodel.eval()\nurl.load()"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_broken_law_is_found(case):
    assert len(violations(*BAD[case])) >= 1


@pytest.mark.parametrize("case", GOOD)
def test_an_honest_file_passes(case):
    assert violations(*GOOD[case]) == []


def test_a_cycle_would_be_found():
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_the_core_imports_where_only_torch_is_installed():
    blocked = {"diffusers", "transformers", "peft", "accelerate", "PIL", "tqdm", "gradio", "matplotlib", "yaml"}
    program = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
import unlearn_core
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# What git tracks or would add: sizes, kinds, words.

MOST_BYTES = {"assets/demo/demo.safetensors": 15 * 2**20}
MOST_LINES = {"scripts/unlearn.py": 15}
WEIGHTS_NEVER_COMMITTED = {".ckpt", ".pt", ".pth", ".pkl", ".bin"}
WORDS_NEVER_COMMITTED = {
    "the host of a package registry": r"\b(pypi|pythonhosted|npmjs|crates)\.(org|io|com)\b|download\.pytorch\.org",
    "an address of a package registry": r"--?(extra-)?index-url|\bindex_url\b|registry\.\w+\.\w+",
    "a path of one machine": r"(?<![\w.:/~])/(home|root|Users|work)/\w|[A-Z]:\\Users\\",
}


@pytest.fixture(scope="module")
def committed() -> list[str]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return sorted(name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file())


def test_files_are_small(committed):
    assert [n for n in committed if (ROOT / n).stat().st_size > MOST_BYTES.get(n, 2**20)] == []


def test_weights_are_safetensors(committed):
    assert [n for n in committed if PurePosixPath(n).suffix in WEIGHTS_NEVER_COMMITTED] == []


def test_source_files_are_short(committed):
    code = [n for n in committed if n.endswith((".py", ".js"))]
    assert [n for n in code if len((ROOT / n).read_text("utf-8").splitlines()) > MOST_LINES.get(n, 400)] == []


def test_float64_is_made_on_the_cpu(committed):
    """Apple's devices have none."""
    code = [n for n in committed if n.endswith(".py")]
    assert [n for n in code if re.search(r"\.double\(\)\s*\.cpu\(", (ROOT / n).read_text("utf-8"))] == []


@pytest.mark.parametrize("what", WORDS_NEVER_COMMITTED)
def test_words_that_belong_to_no_product(committed, what):
    pattern = re.compile(WORDS_NEVER_COMMITTED[what])
    found = []
    for name in committed:
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:8192] and (match := pattern.search(data.decode("utf-8", "replace"))):
            found.append(f"{name}: {match[0]}")
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("the host of a package registry", "see https://py" + "pi.org/project/peft"),
        ("an address of a package registry", "pip install --index" + "-url X"),
        ("a path of one machine", "open('/ho" + "me/ann/model')"),
    ],
)
def test_such_words_are_found(what, text):
    assert re.search(WORDS_NEVER_COMMITTED[what], text)
