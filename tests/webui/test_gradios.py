"""The tab laid out in a host, and its page served alone without a browser."""

import contextlib
import html
import json
import os
import subprocess
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import DIRECT
from tests.webui.app import ROOT, App
from tests.webui.environments import EnvironmentProblem, python_with
from tests.webui.page_client import PageClient
from unlearn_core import settings

pytestmark = pytest.mark.timeout(1500)
OLD_CACHE = """
import sys
from tests.webui.pack import load
if sys.argv[1]:
    load("extension.app").stay_offline()
import transformers.utils.hub
"""


@pytest.fixture(scope="module", params=[pytest.param("gradio3", marks=pytest.mark.full), "gradio4"])
def python(request):
    """The interpreter beside each gradio."""
    return environment(request.param)


def environment(gradio):
    """The interpreter beside a gradio; the test is skipped where it cannot be had."""
    try:
        return python_with(gradio)
    except EnvironmentProblem as e:
        pytest.skip(f"no environment of requirements/webui-{gradio}.txt: {e}")


def check_settings(page):
    """Label, help, bounds and step of every field are the core's."""
    for f in settings():
        if f.name == "on_stop":
            continue  # there are two buttons for it
        shown, facts = page.facts[f"unlearn_{f.name}"], f.metadata
        assert shown["label"] == facts["label"] and shown["info"].startswith(facts["help"]), f.name
        wanted = {"minimum": facts.get("low"), "maximum": facts.get("high"), "step": facts.get("step")}
        if shown.get("maximum") is not None:  # a number that is typed is refused by the core with a sentence
            assert {key: shown[key] for key in wanted} == wanted, f.name
        elif "step" in facts:
            assert shown["step"] == facts["step"], f.name


def test_a_press_on_start_forgets_and_shows_the_report(tmp_path, opener):
    """The default path: the demo model, nothing set but the concept and the quality."""
    asked = opener()
    with App(environment("gradio4"), tmp_path) as app:
        page = PageClient(app.address)
        check_settings(page)
        page.fields |= {"unlearn_concept": "banana", "unlearn_quality": "quick"}
        page.press("unlearn_start")
        assert "Forgetting 'banana'" in (status := html.unescape(page.fields["unlearn_status"])), status
        end = time.monotonic() + 300
        while page.fields["unlearn_forget_timer"]:
            assert time.monotonic() < end, page.fields["unlearn_status"]
            time.sleep(0.2)
            page.press("unlearn_forget_poll")
        result = html.unescape(page.fields["unlearn_result"]).replace("<wbr>", "")
        file = tmp_path.resolve() / "forget_banana.safetensors"
        assert f"{file}</code>" in result and "<lora:forget_banana:1>" in result and file.is_file(), result
        assert "<th>Result</th><td>not checked</td>" in result and result.count("<figure>") == 3
        log = app.log_text()
        assert log == f"Unlearn is at {app.address} (Ctrl-C ends it)\n", log
        # the button under the result shows the folder, for this page alone
        index = page.events.index(page.event("unlearn_folder"))
        for origin, opened in (("http://evil.example", False), (app.address, True)):
            body = json.dumps({"fn_index": index, "data": [], "session_hash": "x"}).encode()
            headers = {"Content-Type": "application/json", "Origin": origin}
            with contextlib.suppress(urllib.error.HTTPError):
                DIRECT.open(urllib.request.Request(f"{app.address}/run/predict", body, headers), timeout=60).close()
            assert asked.exists() == opened
        assert asked.read_text() == f"1\n{tmp_path.resolve()}\n"
        # a page that is loaded again has the request in its form
        again = PageClient(app.address)
        again.load()
        assert again.fields["unlearn_concept"] == "banana" and again.fields["unlearn_quality"] == "quick"
        assert "Forgetting 'banana'" in html.unescape(again.fields["unlearn_status"])


FORGE = [pytest.param([kind], marks=pytest.mark.full) for kind in ("unknown", "ldm_patched")]


@pytest.mark.parametrize("case", [[], ["broken"], *FORGE], ids=" ".join)
def test_the_tab_is_laid_out_in_a_host_and_its_routes_answer_whom_they_should(python, tmp_path, case):
    command = [str(python), str(ROOT / "tests" / "webui" / "host_page.py"), str(tmp_path), *case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.full
@pytest.mark.parametrize("cached", ["", "1"])
def test_nothing_warns_of_an_old_cache(tmp_path, cached):
    """transformers does, offline and where models lie in a cache without a version."""
    (tmp_path / "hub" / "models--a").mkdir(parents=True)
    command = [str(environment("gradio4")), "-c", OLD_CACHE, cached]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and ("from_pretrained" in done.stderr) == (not cached), done.stderr
