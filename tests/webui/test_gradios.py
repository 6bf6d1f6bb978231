"""The tab laid out in a host, its page served alone without a browser, and who may talk to it."""

import html
import os
import socket
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

pytestmark = pytest.mark.timeout(1500)
SOCKET = """GET /queue/join HTTP/1.1\r
Host: {host}\r
Origin: {origin}\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
Sec-WebSocket-Version: 13\r
\r
"""
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


def test_a_press_on_start_forgets_and_shows_the_report(tmp_path):
    """The default path: the demo model, nothing set but the concept and the quality."""
    with App(environment("gradio4"), tmp_path) as app:
        page = PageClient(app.address)
        page.fields |= {"unlearn_concept": "banana", "unlearn_quality": "quick"}
        page.press("unlearn_start")
        assert "Forgetting 'banana'" in (status := html.unescape(page.fields["unlearn_status"])), status
        end = time.monotonic() + 300
        while page.fields["unlearn_forget_timer"]:
            assert time.monotonic() < end, page.fields["unlearn_status"]
            time.sleep(0.2)
            page.press("unlearn_forget_poll")
        result = html.unescape(page.fields["unlearn_result"])
        file = tmp_path.resolve() / "forget_banana.safetensors"
        assert f"{file}</code>" in result and "<lora:forget_banana:1>" in result and file.is_file(), result
        assert "<th>Result</th><td>not checked</td>" in result and result.count("<figure>") == 3
        assert "Traceback" not in app.log_text() and "from_pretrained" not in app.log_text()


@pytest.mark.parametrize("case", [[], ["broken"]])
def test_the_tab_is_laid_out_in_a_host_and_its_routes_answer_whom_they_should(python, tmp_path, case):
    command = [str(python), str(ROOT / "tests" / "webui" / "host_page.py"), str(tmp_path), *case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def status(address, data=None, **headers):
    """Of an answer; data makes it a POST."""
    request = urllib.request.Request(address, data, {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with DIRECT.open(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        return e.code


def upgraded(port, **headers):
    """The first line of the answer to a websocket."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(SOCKET.format(**headers).encode())
        return connection.recv(100).decode().splitlines()[0]


@pytest.mark.full
def test_the_served_page_answers_only_its_own_host_and_origin(python, tmp_path):
    with App(python, tmp_path) as app:
        port = int(app.address.rpartition(":")[2])
        own, join = f"127.0.0.1:{port}", f"{app.address}/queue/join"
        assert (
            status(app.address)
            == status(app.address, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")
            == 200
        )
        for headers in ({"Host": f"evil.example:{port}"}, {"Origin": "null"}, {"Origin": "http://evil.example"}):
            assert (
                status(app.address, **headers) == status(join, b"{}", Content_Type="application/json", **headers) == 403
            )
        assert status(join, b"{}", Content_Type="text/plain") == 403
        assert status(join, b"{}", Content_Type="application/json", Sec_Fetch_Site="cross-site") == 403
        assert status(join, b"{}", Content_Type="application/json", Origin=app.address) != 403
        for host, origin in ((own, "http://evil.example"), (f"evil.example:{port}", f"http://evil.example:{port}")):
            assert " 403 " in upgraded(port, host=host, origin=origin) + " "

        options = ["--no-browser", "--device=cpu", f"--port={port}", f"--out={tmp_path}"]
        command = [str(python), "-m", "extension", *options]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert second.returncode == 1 and second.stdout == ""
        assert second.stderr == (
            f"error: Port {port} is in use by another program: close that one, or choose another port with --port.\n"
        )


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
