"""Balancing in the Stack tab, in headless Chromium on both gradios: chosen, followed, stopped and done.

About 60 s: few pictures, on deltas of the demo.
"""

import json
import shutil

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import IN_A_BROWSER, Browser
from tests.legible import cut_texts
from tests.webui.app import ROOT, App
from tests.webui.environments import EnvironmentProblem, python_with
from tests.webui.test_page import OPEN_TAB, SEEN, check_quiet, opened

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(900),
    IN_A_BROWSER,
]

NAMES = ["forget_banana.safetensors", "forget_cat.safetensors"]
STATUS = "(document.querySelector('#unlearn_balance_status')?.innerText || '')"
STOPS = "!document.querySelector('#unlearn_balance_stop').disabled"


@pytest.fixture(params=["gradio3", "gradio4"])
def app(request, tmp_path):
    """The running app with two deltas of the demo on its stack."""
    try:
        python = python_with(request.param)
    except EnvironmentProblem as e:
        pytest.skip(f"no environment of requirements/webui-{request.param}.txt: {e}")
    (tmp_path / "app").mkdir()
    with App(python, tmp_path / "app", small=True) as running:
        for name in NAMES:
            shutil.copy(ROOT / "assets" / "demo" / "deltas" / name, running.folder)
        rows = [{"name": name, "strength": 1.0, "on": True} for name in NAMES]
        (running.folder / "unlearn_stack.json").write_text(json.dumps(rows))
        yield running


def on_stack(app):
    return [row["name"] for row in json.loads((app.folder / "unlearn_stack.json").read_text())]


def test_a_stack_is_balanced_and_a_stop_leaves_it(app, tmp_path):
    with Browser(tmp_path, (1280, 1000)) as page:
        opened(page, app)
        page.evaluate(OPEN_TAB % json.dumps("Stack"))
        page.until(SEEN % "unlearn_library", 20)
        opening = "[...document.querySelectorAll('button, .label-wrap')].find(e => e.innerText.trim().startsWith(%s))"
        page.evaluate(opening % json.dumps("Merge into one file") + ".click()")
        page.until(SEEN % "unlearn_merge", 20)
        page.evaluate("document.querySelector('#unlearn_merge_how input[value=balanced]').click()")
        page.click("#unlearn_merge")
        page.until(f"{STATUS}.includes('Balancing 2 concepts') && {STOPS}", 60)
        page.click("#unlearn_balance_stop")
        page.until(f"{STATUS}.includes('Stopped')", 60)
        assert on_stack(app) == NAMES
        page.click("#unlearn_merge")
        page.until(f"{STATUS}.includes('Balancing 2 concepts') && {STATUS}.includes('as far as it takes')", 60)
        page.screenshot(tmp_path / "balancing.png", whole=True)
        page.until(f"{STATUS}.includes('2 deltas are balanced into one')", 300)
        assert on_stack(app) == ["forget_banana_cat.safetensors"]
        page.until("document.querySelector('#unlearn_slot_0').innerText.includes('banana + cat')", 20)
        assert "Change of everything else" in page.evaluate(STATUS) and not page.evaluate(STOPS)
        page.screenshot(tmp_path / "balanced.png", whole=True)
        assert cut_texts(page, ".gradio-container") == []
        check_quiet(page, app)
