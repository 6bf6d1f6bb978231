"""What Comfy's registry would pack: git's files without those of .comfyignore. Small, complete, nothing it may ban."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

import unlearn_core

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 15 * 2**20
NEEDED = {
    *("__init__.py", "nodes/__init__.py", "unlearn_core/__init__.py", "unlearn_core/words/data/words.json"),
    *("web/unlearn.js", "assets/demo/demo.safetensors", "assets/demo/world.json", "README.md", "LICENSE"),
    *("locales/en/nodeDefs.json", "locales/zh/main.json", "locales/ja/nodeDefs.json"),
    *("web/docs/UnlearnApply.md", "web/docs/UnlearnApply/zh.md", "web/docs/UnlearnApply/ja.md"),
    *("pyproject.toml", "requirements.txt", "CHANGELOG.md", "example_workflows/Forget one concept.json"),
    "subgraphs/Forget and save.json",
}
LEFT_OUT = {"tests", "docs", "extension", "scripts", "benchmarks", "requirements", "install.py", "setup.cfg", ".ci"}
FLAGGED = {
    "a process": r"\bsubprocess\b|\bos\.(system|popen|exec\w+|spawn\w+|startfile)\b|\bpty\.|child_process",
    "code from text": r"(?<![\w.])(eval|exec|compile)\s*\(|\b__import__\b|\bimport_module\b|\bnew\s+Function\b",
    "packages at run time": r"\bimport\s+pip\b|\bfrom\s+pip\b|\bpip\.main\b|[\"']pip3?[\"']|\bensurepip\b",
    "hidden code": r"\bmarshal\b|\b[ab]\d\ddecode\b|\bzlib\b|\bcodecs\.decode\b|\batob\b|[\w+/]{500}|(\\x\w\w){20}",
    "code in data": r"\bimport\s+(pickle|shelve)\b|\bpickle\.|\btorch\.load\b",
    "the network": r"\burllib\.request\b|\brequests\.(get|post)\b|\bsocket\b|\bhttp\.client\b|\baiohttp\b",
}


def git(*arguments: str) -> set[str]:
    """The files that git names."""
    done = subprocess.run(["git", *arguments, "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def packed() -> list[str]:
    """The archive's files. What git would add counts as well, so that a new file is seen before it is committed."""
    chosen = ["ls-files", "--cached", "--others"]
    left_out = git(*chosen, "--ignored", "--exclude-from=.comfyignore")
    return sorted(git(*chosen, "--exclude-standard") - left_out)


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory) -> Path:
    """The archive in a folder named as a manager may name it."""
    folder = tmp_path_factory.mktemp("custom nodes") / "unlearn-deltas"
    for name in packed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def flagged(text: str) -> list[str]:
    """What a scan would say about a file."""
    return [f"{what}: {found[0][:40]}" for what, words in FLAGGED.items() if (found := re.search(words, text))]


def test_the_archive_holds_what_comfyui_needs_and_nothing_else(packed):
    assert set(packed) >= NEEDED
    assert {name.split("/")[0] for name in packed} & LEFT_OUT == set()
    assert [name for name in packed if name.startswith("assets/") and name.endswith(".py")] == []


def test_nothing_in_it_would_be_flagged(packed):
    found = {}
    for name in packed:
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:8192] and (said := flagged(data.decode("utf-8", "replace"))):
            found[name] = said
    assert found == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("from subprocess import run", "a process"),
        ("os.popen('x')", "a process"),
        ("x = eval(text)", "code from text"),
        ("run = new Function(text)", "code from text"),
        ('[sys.executable, "-m", "pip", "install"]', "packages at run time"),
        ("base64.b64decode(text)", "hidden code"),
        ("blob = '" + "QUJD" * 150 + "'", "hidden code"),
        ("torch.load(path)", "code in data"),
        ("import socket", "the network"),
    ],
)
def test_such_words_are_found(text, what):
    assert [said.split(":")[0] for said in flagged(text)] == [what]


@pytest.mark.parametrize("text", ["model.eval()", "re.compile('a')", "/x/.exec(text)", "its executable", "a pipeline"])
def test_harmless_words_are_not(text):
    assert flagged(text) == []


def test_its_files_are_small(packed):
    assert [name for name in packed if (ROOT / name).stat().st_size > MOST_BYTES] == []


def files_of(module: PurePosixPath) -> set[str]:
    """Where a module of that path may lie."""
    return {f"{module}.py", f"{module}/__init__.py"}


def is_module(path: PurePosixPath) -> bool:
    """Whether the repository has it."""
    return any((ROOT / file).is_file() for file in files_of(path))


def test_no_import_leads_out_of_it(packed):
    """Every import of ours, also a lazy one, ends in a file of the archive."""
    outside = []
    for name in packed:
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = PurePosixPath(name).parents[node.level - 1] / (node.module or "").replace(".", "/")
                modules = [base / alias.name for alias in node.names if is_module(base / alias.name)]
                if not all(files_of(module) & set(packed) for module in (base, *modules)):
                    outside.append(f"{name}:{node.lineno}")
    assert outside == []


def test_it_imports_where_it_was_unpacked(unpacked, tmp_path):
    """As ComfyUI loads it: by its path, under a name that is no identifier. The nodes themselves need ComfyUI."""
    program = """
import importlib.util, pathlib, sys
folder = pathlib.Path(sys.argv[1])
where = {"submodule_search_locations": [str(folder)]}
spec = importlib.util.spec_from_file_location("unlearn-deltas", folder / "__init__.py", **where)
pack = importlib.util.module_from_spec(spec)
sys.modules["unlearn-deltas"] = pack
spec.loader.exec_module(pack)
assert callable(pack.comfy_entrypoint) and (folder / pack.WEB_DIRECTORY).is_dir()
core = importlib.import_module("unlearn-deltas.unlearn_core")
demo = importlib.import_module("unlearn-deltas.unlearn_core.demo.recognition")
words = importlib.import_module("unlearn-deltas.unlearn_core.words.word_list")
demo.check_present()
for delta in (demo.FOLDER / "deltas").iterdir():
    core.load(delta)
print(core.__version__, core.StandaloneModel.__name__, "banana" in words.WordList.load(None).all_objects)
assert all(str(folder) in m.__file__ for n, m in sys.modules.items() if "unlearn" in n)
"""
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-B", "-c", program, str(unpacked)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{unlearn_core.__version__} StandaloneModel True\n", done.stderr
