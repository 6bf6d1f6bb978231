"""The pack's loader of the demo checkpoint, inside each ComfyUI, against the standalone model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comfy.sources import SOURCES, tree

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.mark.parametrize("version", SOURCES)
def test_comfyui_draws_the_pictures_of_the_standalone_model(version):
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    command = [sys.executable, HERE / "boot.py", tree(version), HERE / "demo_parity.py", "--cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    for prompt, (mean, largest, contrast) in json.loads(done.stdout.splitlines()[-1]).items():
        assert mean < 0.01 and largest < 0.5, f"of 255, for {prompt}"
        assert contrast > 0.05, f"an empty picture for {prompt}"
