"""The page that `python -m extension` serves, asked by other web pages and by requests that no page sends.

Nothing is read, nothing is changed, and nothing fails with a 500.
"""

import http.client
import json
import random
import re
import socket
import subprocess

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.webui.app import ROOT, App
from tests.webui.environments import EnvironmentProblem, python_with

pytestmark = pytest.mark.timeout(1500)
STATE = [{"name": "a.safetensors", "strength": 1.0, "on": True}]
JSON = {"Content_Type": "application/json"}
SOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
SOCKET["Sec_WebSocket_Key"] = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.fixture(scope="module", params=[pytest.param("gradio3", marks=pytest.mark.full), "gradio4"])
def app(request, tmp_path_factory):
    """The running app, with a stack of one file that nobody reads."""
    try:
        python = python_with(request.param)
    except EnvironmentProblem as e:
        pytest.skip(f"no environment of requirements/webui-{request.param}.txt: {e}")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "a.safetensors").write_bytes(b"no delta")
    (folder / "unlearn_stack.json").write_text(json.dumps(STATE))
    with App(python, folder) as running:
        running.python, running.port = python, int(running.address.rpartition(":")[2])
        yield running


@pytest.fixture
def unchanged(app):
    """The app's folder is afterwards as it was."""

    def files():
        return {p.name: p.read_bytes() for p in app.folder.iterdir() if p.name != app.log.name}

    before = files()
    yield
    assert files() == before


def ask(app, method, path, body=None, **headers):
    """(status, headers in lower case, body) of an answer; paths go out as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=60)
    try:
        given = {k.replace("_", "-"): v for k, v in headers.items() if v is not None}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read(2**20)
    finally:
        connection.close()


def call(index, *data):
    """What the page sends when a button is pressed."""
    return json.dumps({"fn_index": index, "data": list(data), "session_hash": "x"}).encode()


def test_the_page_itself_is_answered_under_all_names_of_this_machine(app):
    for name in ("127.0.0.1", "localhost", "[::1]"):
        place = f"{name}:{app.port}"
        for origin in (None, f"http://{place}"):
            status, headers, body = ask(app, "GET", "/", Host=place, Origin=origin)
            assert status == 200 and b"gradio" in body
            assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "same-origin"
            assert not [name for name in headers if name.startswith("access-control-")]
    assert ask(app, "HEAD", "/")[0] == 200
    events = json.loads(ask(app, "GET", "/config")[2])["dependencies"]
    load = next(i for i, e in enumerate(events) if not e["inputs"] and "load" in str((e["targets"], e.get("trigger"))))
    assert ask(app, "POST", "/run/predict", call(load), Origin=app.address, **JSON)[0] == 200


def test_nothing_is_loaded_from_elsewhere(app):
    page, theme = (ask(app, "GET", path)[2].decode() for path in ("/", "/theme.css"))
    page = re.sub(r"<script>window.gradio_config = .*?</script>", "", page, flags=re.DOTALL)
    loaded = re.findall(r"""<(?!meta|a\b)[^>]*\s(?:src|href)\s*=\s*["']?\s*((?:https?:)?//[^\s"'>]+)""", page)
    loaded += re.findall(r"url\(\s*[\"']?((?:https?:)?//[^)]+)|(@import[^;]+)", theme + page)
    assert not loaded
    assert "fonts.g" not in page + theme and "cdnjs" not in page


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT", "Origin": "http://evil.example:PORT"},
        {"Host": "127.0.0.1"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Dest": "iframe"},
    ],
    ids=str,
)
def test_another_page_reads_nothing_and_changes_nothing(app, unchanged, headers):
    headers = {k: v.replace("PORT", str(app.port)) for k, v in headers.items()}
    preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
    asked = [("GET", path, None, {}) for path in ("/", "/config", "/info", "/file=/etc/passwd")]
    asked += [("HEAD", "/", None, {}), ("OPTIONS", "/run/predict", None, preflight)]
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        more = {"Content_Type": kind}
        asked += [("POST", path, call(3), more) for path in ("/run/predict", "/queue/join", "/upload")]
    for method, path, body, more in asked:
        status, given, text = ask(app, method, path, body, **headers, **more)
        assert status == 403, (method, path, more)
        assert not [name for name in given if name.startswith("access-control-")] and b"unlearn" not in text


KINDS = [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [True, False])
def test_what_is_no_json_changes_nothing(app, unchanged, kind, own):
    origin = app.address if own else None
    assert ask(app, "POST", "/run/predict", call(3), Origin=origin, Content_Type=kind)[0] == 415


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None, "own"])
@pytest.mark.parametrize("path", ["/queue/join", "/", "/run/predict"])
def test_no_websocket_is_opened(app, origin, path):
    """gradio 3's queue is one."""
    given = {} if origin is None else {"Origin": app.address if origin == "own" else origin}
    assert ask(app, "GET", path, **SOCKET, **given)[0] != 101


PATHS = ["/file=/etc/passwd", "/file=README.md", "/file=app.log", "/file/README.md", "/file=%2Fetc%2Fpasswd", "//"]
PATHS += ["//etc/passwd", "/static/../routes.py", "/static/%2e%2e/routes.py", "/assets/..%2f..%2froutes.py", "/%2e%2e/"]
PATHS += ["/proxy=http://127.0.0.1:1", "/openapi.json", "/docs", "/monitoring", "/upload", "/queue/data?session_hash=x"]
PATHS += ["/assets/%2e%2e/%2e%2e/routes.py", "/static/%00", "/stream/x", "/component_server", "/custom_component/a/b/c"]
PATHS += [
    "/config/../file=README.md",
    "/theme.css/../file=README.md",
    "/file=C:\\x",
    "/api/predict",
    "/login",
    "/reset",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_a_file(app, unchanged, path):
    for method in ("GET", "POST", "HEAD"):
        status, _, body = ask(app, method, path, b"{}" if method == "POST" else None, **JSON)
        assert 400 <= status < 500 and b"import" not in body and b"root:" not in body and b"Unlearn:" not in body


VALUES = [None, True, -1, 0, 3, 1e300, 2.5, "", "x", "a.safetensors", "\0", "\u202e", [], [[]], {}]
VALUES += [{"path": "/etc/passwd"}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]


def test_no_body_ends_in_a_500_and_none_changes_the_stack(app, unchanged):
    """200 random objects for the one route that takes any."""
    chance = random.Random(4)
    for _ in range(200):
        body = {"fn_index": chance.choice([*range(40), *VALUES])}
        body["data"] = [chance.choice(VALUES) for _ in range(chance.randint(0, 4))]
        body |= {"session_hash": chance.choice(VALUES)} if chance.random() < 0.5 else {}
        if chance.random() < 0.2:
            body.pop(chance.choice(list(body)))
        sent = chance.choice([json.dumps(body).encode()] * 9 + [b"", b"[", b"\xff", b"[]", b"5"])
        status, _, text = ask(app, "POST", "/run/predict", sent, Origin=app.address, **JSON)
        assert status < 500, (sent, text)


def test_a_request_beyond_all_pages_is_told_its_bound(app, unchanged):
    status, _, text = ask(app, "POST", "/run/predict", call(3, "x" * 2**22), Origin=app.address, **JSON)
    assert (status, text) == (413, b"This request is longer than 4194304 bytes.\n")


def test_a_port_that_is_taken_is_told_at_once(app, tmp_path):
    """Before gradio and the model are loaded, and before any address is printed."""
    options = ["--no-browser", "--device=cpu", f"--port={app.port}", f"--out={tmp_path / 'out'}"]
    command = [str(app.python), "-m", "extension", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stdout == "" and not (tmp_path / "out").exists()
    assert done.stderr == (f"error: Port {app.port} is in use: end what uses it, or choose another --port.\n")


def test_it_is_served_on_this_machine_alone(app):
    """Not at the addresses under which others reach this machine."""
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), app.port, socket.AF_INET)}
    for address in (others | {"127.0.0.2"}) - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((address, app.port), 5):
            pass
