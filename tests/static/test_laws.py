"""Each law of the house holds in every file; below, what the laws find and what they let pass."""

import subprocess
import sys

import pytest

from tests.static.laws import (
    another_room,
    bad_docstrings,
    broken,
    circles,
    dangerous_calls,
    float64_on_a_device,
    foreign_packages,
    imports_for_types,
    lower_imports_higher,
    root_loads,
    too_long,
)
from tests.static.trees import ROOT, Source, sources


def test_lower_parts_of_the_core_never_import_higher_ones():
    assert broken(lower_imports_higher) == []


def test_rooms_import_only_the_rooms_below():
    assert broken(another_room) == []


def test_packages_are_imported_only_where_they_belong():
    assert broken(foreign_packages) == []


def test_the_root_and_what_hosts_run_by_path_load_nothing_of_ours():
    assert broken(root_loads) == []


def test_the_core_imports_nothing_for_types_only():
    assert broken(imports_for_types) == []


def test_the_core_has_no_import_circle():
    assert circles([s for s in sources() if s.room == "unlearn_core"]) == []


def test_nothing_reaches_the_network_or_runs_foreign_code():
    assert broken(dangerous_calls) == []


def test_float64_is_made_on_the_cpu():
    assert broken(float64_on_a_device) == []


def test_functions_and_files_are_short():
    assert broken(too_long) == []


def test_public_things_have_docstrings_that_begin_with_a_whole_sentence():
    assert broken(bad_docstrings) == []


def test_the_core_imports_where_torch_safetensors_and_numpy_are_all_there_is():
    program = """
import importlib, pkgutil, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split(" "):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
import unlearn_core
for module in pkgutil.walk_packages(unlearn_core.__path__, "unlearn_core."):
    if not module.name.startswith(("unlearn_core.cli", "unlearn_core.picture_file", "unlearn_core.__main__")):
        importlib.import_module(module.name)
print(len(sys.modules))
"""
    absent = "diffusers transformers peft accelerate PIL tqdm gradio matplotlib yaml requests scipy psutil"
    done = subprocess.run([sys.executable, "-c", program, absent], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The checker itself: what each law finds, and what it lets pass.

CORE, HOST = "unlearn_core/method/new.py", "nodes/host.py"
BAD = [
    (lower_imports_higher, "unlearn_core/utils.py", ""),
    (lower_imports_higher, "unlearn_core/delta/new.py", "from ..config import ForgetConfig"),
    (lower_imports_higher, "unlearn_core/words/new.py", "from ..delta.format import Delta"),
    (lower_imports_higher, "unlearn_core/host.py", "def f():\n    from .method import run"),
    (lower_imports_higher, CORE, "from .forget import forget"),
    (lower_imports_higher, CORE, "from .. import Stack"),
    (lower_imports_higher, "unlearn_core/demo/new.py", "from ..cli.console import STOPPED"),
    (another_room, CORE, "from ...nodes import host"),
    (another_room, CORE, "from ....torch import nn"),
    (another_room, CORE, "import unlearn_core.config"),
    (another_room, HOST, "from ..extension import host"),
    (another_room, "extension/tab.py", "from ..benchmarks import run"),
    (another_room, HOST, "from ..tests import small"),
    (another_room, "benchmarks/run.py", "from extension import tab"),
    (another_room, "new_room/file.py", ""),
    (foreign_packages, CORE, "import diffusers"),
    (foreign_packages, CORE, "def f():\n    import peft"),
    (foreign_packages, "unlearn_core/method/adapters.py", "import peft"),
    (foreign_packages, "unlearn_core/standalone/new.py", "from diffusers import UNet2DConditionModel"),
    (foreign_packages, "unlearn_core/preview.py", "from PIL import Image"),
    (foreign_packages, HOST, "import modules.shared"),
    (foreign_packages, "nodes/forget.py", "import gradio"),
    (foreign_packages, "extension/tab.py", "from modules import shared"),
    (foreign_packages, "extension/actions.py", "import requests"),
    (foreign_packages, "install.py", "import torch"),
    (root_loads, "__init__.py", "import os"),
    (root_loads, "__init__.py", "from .nodes import Unlearning"),
    (root_loads, "__init__.py", "def f():\n    from .extension import tab"),
    (root_loads, "install.py", "from unlearn_core import cli"),
    (imports_for_types, CORE, "if TYPE_CHECKING:\n    from .run import Run"),
    (dangerous_calls, CORE, "from urllib import request"),
    (dangerous_calls, HOST, "def f():\n    import socket"),
    (dangerous_calls, "extension/actions.py", "import subprocess"),
    (dangerous_calls, CORE, "import torch as t\nread = t.load"),
    (dangerous_calls, CORE, "from torch import load as read"),
    (dangerous_calls, HOST, "x = eval('1')"),
    (dangerous_calls, CORE, "import importlib\nimportlib.import_module('comfy')"),
    (float64_on_a_device, CORE, "x.double()" + ".cpu()"),
    (too_long, CORE, "def f():\n" + 60 * "    x = 1\n"),
    (too_long, CORE, "class A:\n    def f(self, a, b, c, d, e, f, *, g): ..."),
    (too_long, CORE, 401 * "x = 1\n"),
    (bad_docstrings, CORE, ""),
    (bad_docstrings, CORE, '"""A file."""\ndef f(): ...'),
    (bad_docstrings, CORE, '"""A file of which\n\nmore is told below."""'),
    (bad_docstrings, "tests/new.py", 'def _f():\n    """Cut\n\noff."""'),
]
GOOD = [
    ("__init__.py", '"""A door."""\nasync def f():\n    """F."""\n    from .nodes import entry'),
    ("install.py", '"""Sets up."""\nimport subprocess'),
    (CORE, '"""F."""\nimport re\nfrom torch import nn\nfrom ..host import HostModel\nre.compile("x")\nnet.eval()'),
    ("unlearn_core/method/retrain.py", '"""F."""\nfrom .forget import forget\nfrom ..delta import format'),
    ("unlearn_core/method/adapters.py", '"""F."""\ndef _f():\n    from peft import LoraConfig'),
    ("unlearn_core/cli/new.py", '"""F."""\nfrom .. import preview, Stack\nfrom ..demo.recognition import world'),
    (HOST, '"""F."""\nimport comfy.utils\nimport folder_paths\nfrom ..unlearn_core import forget'),
    ("extension/host_new.py", '"""F."""\nfrom modules import shared\nfrom ..unlearn_core.config import ForgetConfig'),
    ("benchmarks/new.py", '"""F."""\nimport diffusers\nfrom unlearn_core.config import settings\nfrom .run import go'),
    (CORE, '"""F."""\nclass _A:\n    def __init__(self, a, b, c, d, e, f, *more):\n        """G.\n\n        More"""'),
]


@pytest.mark.parametrize(("law", "path", "text"), BAD, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_law_is_found(law, path, text):
    assert len(list(law(Source(path, text)))) == 1


@pytest.mark.parametrize(("path", "text"), GOOD, ids=lambda value: value if value.endswith(".py") else "")
def test_an_honest_file_passes(path, text):
    laws = {law for law, *_ in BAD}
    assert [what for law in laws for _, what in law(Source(path, text))] == []


def test_a_circle_is_found_and_a_lazy_one_is_none():
    a = Source("unlearn_core/method/fit.py", "from .plan import x")
    b = "from .fit import y"
    assert circles([a, Source("unlearn_core/method/plan.py", b)])
    assert circles([a, Source("unlearn_core/method/plan.py", f"def f():\n    {b}")]) == []
