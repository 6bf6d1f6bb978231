"""Who may ask the page and the API routes, and what a wrong request gets: asked without any server."""

import asyncio
import json
import random
import socket
import threading
import types

import pytest

from tests.webui.pack import load

own_page, api, jobs = (load(f"extension.{name}") for name in ("own_page", "api", "jobs"))
server = load("extension.server")
core, services = load("unlearn_core"), load("extension.service")
PORT = 7861
OWN = "http://127.0.0.1:7861"
JSON = {"content_type": "application/json"}


def scope(method="GET", kind="http", **headers):
    """A request as a server hands it on; _ in a header's name stands for -."""
    given = {"host": "127.0.0.1:7861", **{k.replace("_", "-"): v for k, v in headers.items()}}
    pairs = [(k.encode(), v.encode()) for k, v in given.items() if v is not None]
    path = headers.pop("path", "/run/predict" if method == "POST" else "/")
    pairs = [(k, v) for k, v in pairs if k != b"path"]
    return {"type": kind, "headers": pairs, "path": path} | ({"method": method} if kind == "http" else {})


def asked(app, request, body=b"{}"):
    """(what the app inside was asked, what was sent)."""
    inside, sent = [], []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def inner(scope, receive, send):
        inside.append(scope)

    asyncio.run(app(inner)(request, receive, send))
    return inside, sent


def page(inner):
    return own_page.OwnPage(inner, PORT)


@pytest.mark.parametrize(
    "asking",
    [
        scope(),
        scope(host="localhost:7861"),
        scope(host="LOCALHOST:7861", origin="http://localhost:7861"),
        scope(host="[::1]:7861"),
        scope(sec_fetch_site="cross-site", sec_fetch_dest="document"),
        scope(path="/assets/index-2519a27e.js", sec_fetch_site="same-origin"),
        scope("HEAD"),
        scope("POST", origin=OWN, sec_fetch_site="same-origin", content_type="application/json"),
        scope("POST", content_type="application/json; charset=utf-8"),
        {"type": "lifespan"},
    ],
)
def test_the_page_answers_itself_and_programs_on_this_machine(asking):
    assert asked(page, asking) == ([asking], [])


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:7861"},
        {"host": "evil.example:7861", "origin": "http://evil.example:7861"},
        {"host": "127.0.0.1:7862"},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:7861.evil.example"},
        {"host": None},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "https://127.0.0.1:7861"},
        {"origin": "http://127.0.0.1:8188"},
        {"origin": "http://127.0.0.1:7861.evil.example"},
    ],
)
def test_the_page_refuses_other_hosts_and_other_pages(headers):
    for request in (scope(**headers), scope("POST", **JSON, **headers), scope("OPTIONS", **headers)):
        inside, sent = asked(page, request)
        assert not inside and sent[0]["status"] == 403 and sent[1]["body"].endswith(b".\n")


@pytest.mark.parametrize("origin", [OWN, "http://evil.example", None])
def test_no_websocket_is_opened(origin):
    """gradio 3's queue is one, and the tab waits in no queue."""
    inside, sent = asked(page, scope(kind="websocket", origin=origin))
    assert not inside and [m["type"] for m in sent] == ["websocket.close"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "text/plain", "origin": OWN}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "multipart/form-data; boundary=x", "origin": OWN}, 415),
        ({**JSON, "sec_fetch_site": "cross-site"}, 403),
        ({**JSON, "sec_fetch_site": "same-site", "origin": OWN}, 403),
    ],
)
def test_what_changes_something_comes_from_the_page_and_as_json(headers, status):
    inside, sent = asked(page, scope("POST", **headers))
    assert not inside and sent[0]["status"] == status
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        inside, sent = asked(page, scope(method, **headers))
        assert not inside and sent[0]["status"] in (403, 405)


@pytest.mark.parametrize("destination", ["image", "script", "iframe", "empty", None])
def test_another_page_can_link_here_and_put_nothing_of_ours_into_itself(destination):
    facts = {"sec_fetch_site": "cross-site", "sec_fetch_dest": destination}
    for path in ("/config", "/theme.css", *(["/"] if destination else [])):
        inside, sent = asked(page, scope(path=path, **facts))
        assert not inside and sent[0]["status"] == 403


PATHS = ["/file=/etc/passwd", "/file=README.md", "/file/README.md", "/upload", "/proxy=http://example.com", "//", "/x"]
PATHS += ["//etc/passwd", "/assets/../routes.py", "/assets//etc/passwd", "/static/a\0b", "/queue/join", "/queue/data"]
PATHS += ["/run/forget", "/run/predict/", "/api/predict", "/openapi.json", "/docs", "/monitoring", "/login", "/reset"]


@pytest.mark.parametrize("path", PATHS)
def test_only_what_the_page_uses_is_there(path):
    """gradio 3 hands out every file below the folder that it was started in."""
    for request in (scope(path=path), scope("POST", path=path, **JSON), scope(path=path, origin=OWN)):
        inside, sent = asked(page, request)
        assert not inside and sent[0]["status"] == 404


def test_a_request_without_end_is_cut_off():
    async def endless(scope, receive, send):
        while True:
            await receive()

    async def hiding(scope, receive, send):
        """As gradio's framework does with whatever a body raises."""
        try:
            await endless(scope, receive, send)
        except Exception:
            await own_page.answer(send, 400, "application/json", '{"detail": "There was an error parsing the body"}')

    for app in (endless, hiding):
        _, sent = asked(lambda _, app=app: own_page.OwnPage(app, PORT), scope("POST", **JSON), b"x" * 2**20)
        assert sent[0]["status"] == 413 and sent[1]["body"] == b"This request is longer than 4194304 bytes.\n"


def test_what_fails_inside_is_a_sentence_and_no_500():
    async def failing(scope, receive, send):
        raise KeyError("fn_index")

    async def answering(scope, receive, send):
        await own_page.answer(send, 500, "application/json", '{"error": "a traceback"}')

    for app in (failing, answering):
        _, sent = asked(lambda _, app=app: own_page.OwnPage(app, PORT), scope("POST", **JSON))
        assert sent[0]["status"] == 422 and sent[1]["body"] == b"This request does not fit the page: load it again.\n"


OUTSIDE = b"""<link rel="preconnect" href="https://fonts.googleapis.com" />
<link
    rel="preconnect"
    href="https://fonts.gstatic.com"
    crossorigin="anonymous"
/>
<script
    src="https://cdnjs.cloudflare.com/ajax/libs/iframe-resizer/4.3.6/iframeResizer.contentWindow.min.js"
    async
></script><script src='//cdn.example/x.js'></script>"""
INSIDE = b"""<script type="module" src="./assets/index.js"></script><link rel="stylesheet" href="./assets/a.css">
<script>window.gradio_config = {"a": "<link href='/x'>"};</script>"""


def test_the_page_loads_nothing_from_elsewhere_and_lies_in_no_frame():
    async def gradio(scope, receive, send):
        headers = [(b"content-type", b"text/html"), (b"content-length", b"5"), (b"Access-Control-Allow-Origin", b"*")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": INSIDE + OUTSIDE[:90], "more_body": True})
        await send({"type": "http.response.body", "body": OUTSIDE[90:]})

    _, (start, body) = asked(lambda _: own_page.OwnPage(gradio, PORT), scope())
    assert body["body"].strip() == INSIDE and b"://" not in body["body"]
    headers = {k.decode().lower(): v.decode() for k, v in start["headers"]}
    assert headers["content-length"] == str(len(body["body"])) and "access-control-allow-origin" not in headers
    assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
    policy = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
    assert not any("http" in rule or "*" in rule for rule in policy.values())


def test_on_the_port_that_browsers_leave_out_the_name_alone_is_enough():
    def eighty(inner):
        return own_page.OwnPage(inner, 80)

    assert asked(eighty, scope(host="127.0.0.1", origin="http://127.0.0.1"))[0]
    assert not asked(eighty, scope(host="evil.example"))[0]


def test_a_port_that_is_taken_is_passed_over_or_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(server.PortTaken, match=f"^Port {port} is in use: end what uses it, or"):
            server.free_port([port])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            other = free.getsockname()[1]
        assert server.free_port([port, other]) == other
        with pytest.raises(server.PortTaken, match=f"^Ports {port} to {port} are in use"):
            server.free_port([port, port])


# The hosts' routes


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 0),
        ({**JSON, "origin": OWN}, 0),
        ({**JSON, "host": "localhost:7861", "origin": "http://localhost:7861"}, 0),
        ({**JSON, "host": "[::1]:7861", "origin": "http://[::1]:7861"}, 0),
        ({**JSON, "host": "192.168.1.5:7861", "origin": "http://192.168.1.5:7861"}, 0),
        ({**JSON, "origin": "https://studio.example", "host": "studio.example"}, 1),
        ({**JSON, "origin": "https://studio.example", "host": "studio.example:443"}, 1),
        ({**JSON, "host": "studio.example"}, 1),
        ({**JSON, "host": "127.0.0.1.evil.example:7861", "origin": "http://127.0.0.1.evil.example:7861"}, 1),
        ({**JSON, "origin": "https://studio.example", "host": "studio.example:80"}, 403),
        ({**JSON, "origin": "http://evil.example"}, 403),
        ({**JSON, "origin": "http://localhost:7861"}, 403),
        ({**JSON, "origin": "null"}, 403),
        ({**JSON, "origin": "file://127.0.0.1:7861"}, 403),
        ({**JSON, "origin": OWN, "host": None}, 403),
        ({**JSON, "host": None}, 403),
        ({}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
    ],
)
@pytest.mark.parametrize("any_name", [True, False])
def test_a_route_answers_programs_and_the_hosts_own_pages(headers, status, any_name):
    """status 1: only in a web UI that was started to be reached under any name; a page may have it pointed here."""
    inside, sent = asked(guarded(any_name), scope("POST", **headers))
    refused = status if status != 1 else 0 if any_name else 403
    assert bool(inside) == (refused == 0)
    if refused:
        assert sent[0]["status"] == refused and json.loads(sent[1]["body"])["error"].endswith(".")


def guarded(any_name=False):
    return lambda inner: api.guarded(inner, any_name)


def test_a_look_needs_no_type_and_gives_other_pages_nothing():
    assert asked(guarded(), scope())[0]
    assert not asked(guarded(), scope(origin="null"))[0]


@pytest.fixture
def service(tmp_path):
    """Of a program without a model."""

    def missing():
        raise core.BadCheckpoint("No checkpoint is chosen.")

    program = types.SimpleNamespace(folder=lambda: tmp_path, checkpoint=missing, base=lambda: None)
    program.term_lists = lambda: ()
    return services.Service(program)


@pytest.mark.parametrize("prompts", [5, None, {"a": "b"}, ["a", 5]])
def test_wrong_prompts_are_a_sentence(service, prompts):
    answer = api.forget(service, {"concept": "banana", "prompts": prompts})
    assert answer == (422, {"error": "prompts must be a text or a list of texts."})
    assert service.jobs.running() is None


WRONG = [
    None,
    True,
    -1,
    5,
    1e400,
    2.5,
    "",
    "x",
    "\0",
    "a" * 5000,
    [],
    [[]],
    [5],
    ["a"] * 500,
    {},
    {"a": 1},
    "-5",
    "nan",
]


def test_no_body_is_more_than_a_sentence(service, monkeypatch):
    """400 random objects: each is answered with a status below 500, a refusal in one sentence, and nothing is begun
    but what asks for a concept."""
    chance = random.Random(1)
    begun = []

    def start(kind, title, work, notes=()):
        begun.append(title)
        return types.SimpleNamespace(id="an id")

    monkeypatch.setattr(service.jobs, "start", start)
    names = [f.name for f in core.settings()] + ["prompts", "check", "id", "nonsense", "going", "force"]
    for _ in range(400):
        body = {name: chance.choice(WRONG) for name in chance.sample(names, chance.randint(0, 4))}
        if chance.random() < 0.7:
            body["concept"] = chance.choice(["banana", "cat, dog", *WRONG])
        for status, answer in (api.forget(service, body), api.stop(service, body)):
            assert 200 <= status < 500, body
            assert "id" in answer or (answer["error"] and "\n" not in answer["error"]), body
            assert "unexpected" not in answer.get("error", ""), body
    assert begun


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b'"x"', b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b"null"])
def test_what_is_no_object_of_json_is_a_sentence(body):
    inside, sent = asked(guarded(), scope("POST", **JSON), body)
    assert not inside and sent[0]["status"] == 422
    assert json.loads(sent[1]["body"]) == {"error": 'Send one JSON object, like {"concept": "banana"}.'}


def test_the_route_reads_the_body_that_was_checked_and_none_is_too_long():
    seen = []

    def reading(_):
        async def app(scope, receive, send):
            seen.append(await receive())

        return api.guarded(app, False)

    asked(reading, scope("POST", **JSON), b'{"concept": "a"}')
    assert seen == [{"type": "http.request", "body": b'{"concept": "a"}', "more_body": False}]
    inside, sent = asked(guarded(), scope("POST", **JSON), b'{"concept": "' + b"x" * api.MOST_BODY + b'"}')
    assert not inside and sent[0]["status"] == 413


def test_a_stop_ends_the_job_that_it_names_and_no_other(service):
    go = threading.Event()
    old = service.jobs.start("forget", "the old one", lambda job: None)
    while not old.view().finished:
        pass
    job = service.jobs.start("forget", "the one that runs", lambda job: go.wait(10))
    try:
        for body in ({}, {"id": None}, {"id": "none"}, {"id": [job.id]}, {"id": 5}):
            status, answer = api.stop(service, body)
            assert status == 404 and "no such job" in answer["error"]
        status, answer = api.stop(service, {"id": old.id})
        assert status == 409 and "already ended" in answer["error"]
        assert api.stop(service, {"id": job.id, "keep": "no"})[0] == 422
        assert api.look(service, "none")[0] == 404 and api.look(service, job.id)[1]["state"] == "waiting"
        assert not job.view().stopping
        status, answer = api.forget(service, {"concept": "banana"})
        assert status == 409 and "the one that runs" in answer["error"]
        assert api.stop(service, {"id": job.id}) == (200, {"id": job.id}) and job.view().stopping
    finally:
        go.set()
