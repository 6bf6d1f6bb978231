"""On both gradios: the tab laid out in a host, and who may talk to the page that is served alone."""

import socket
import subprocess
import urllib.error
import urllib.request

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import DIRECT
from tests.webui.app import ROOT, App
from tests.webui.environments import EnvironmentProblem, python_with

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SOCKET = """GET /queue/join HTTP/1.1\r
Host: {host}\r
Origin: {origin}\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
Sec-WebSocket-Version: 13\r
\r
"""


@pytest.fixture(scope="module", params=["gradio3", "gradio4"])
def python(request):
    """The interpreter beside each gradio."""
    try:
        return python_with(request.param)
    except EnvironmentProblem as e:
        pytest.skip(f"no environment of requirements/webui-{request.param}.txt: {e}")


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
            f"error: Port {port} is taken by another program: end that one, or choose another with --port.\n"
        )
