"""Who may ask the page and the API routes, and what a wrong request gets: asked without any server."""

import asyncio
import json
import threading
import types

import pytest

from tests.webui.pack import load

own_page, api, jobs = (load(f"extension.{name}") for name in ("own_page", "api", "jobs"))
services = load("extension.service")
PORT = 7861
OWN = "http://127.0.0.1:7861"
JSON = {"content_type": "application/json"}


def scope(method="GET", kind="http", **headers):
    """A request as a server hands it on; _ in a header's name stands for -."""
    given = {"host": "127.0.0.1:7861", **{k.replace("_", "-"): v for k, v in headers.items()}}
    pairs = [(k.encode(), v.encode()) for k, v in given.items() if v is not None]
    return {"type": kind, "headers": pairs} | ({"method": method} if kind == "http" else {})


def asked(app, request):
    """(what the app inside was asked, what was sent)."""
    inside, sent = [], []

    async def send(message):
        sent.append(message)

    async def inner(scope, receive, send):
        inside.append(scope)

    asyncio.run(app(inner)(request, None, send))
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
        scope(sec_fetch_site="cross-site"),
        scope("POST", origin=OWN, sec_fetch_site="same-origin", content_type="application/json"),
        scope("POST", origin=OWN, content_type="multipart/form-data; boundary=x"),
        scope("POST", content_type="application/json; charset=utf-8"),
        scope("POST", content_type="multipart/form-data; boundary=x", sec_fetch_site="same-origin"),
        scope(kind="websocket", origin=OWN),
        scope(kind="websocket"),
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
    inside, sent = asked(page, scope(kind="websocket", **headers))
    assert not inside and [m["type"] for m in sent] == ["websocket.close"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {**JSON, "sec_fetch_site": "cross-site"},
        {**JSON, "sec_fetch_site": "same-site", "origin": OWN},
    ],
)
def test_what_changes_something_comes_from_the_page_or_as_json(method, headers):
    inside, sent = asked(page, scope(method, **headers))
    assert not inside and sent[0]["status"] == 403


def test_on_the_port_that_browsers_leave_out_the_name_alone_is_enough():
    def eighty(inner):
        return own_page.OwnPage(inner, 80)

    assert asked(eighty, scope(host="127.0.0.1", origin="http://127.0.0.1"))[0]
    assert not asked(eighty, scope(host="evil.example"))[0]


# The hosts' routes


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 0),
        ({**JSON, "origin": OWN}, 0),
        ({**JSON, "origin": "https://studio.example", "host": "studio.example"}, 0),
        ({**JSON, "origin": "https://studio.example", "host": "studio.example:443"}, 0),
        ({**JSON, "origin": "https://studio.example", "host": "studio.example:80"}, 403),
        ({**JSON, "origin": "http://evil.example"}, 403),
        ({**JSON, "origin": "null"}, 403),
        ({**JSON, "origin": "file://127.0.0.1:7861"}, 403),
        ({**JSON, "origin": OWN, "host": None}, 403),
        ({}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_route_answers_programs_and_the_hosts_own_pages(headers, status):
    inside, sent = asked(api.own_origin, scope("POST", **headers))
    assert bool(inside) == (status == 0)
    if status:
        assert sent[0]["status"] == status and json.loads(sent[1]["body"])["error"].endswith(".")


def test_a_look_needs_no_type_and_gives_other_pages_nothing():
    assert asked(api.own_origin, scope())[0]
    assert not asked(api.own_origin, scope(origin="null"))[0]


@pytest.fixture
def routes(tmp_path):
    """The routes' functions by name, and the service behind them."""

    class App:
        def __init__(self):
            self.routes = [types.SimpleNamespace(path=api.NEIGHBOUR, dependencies=[])]

        def add_api_route(self, path, function, **_):
            self.routes.append(types.SimpleNamespace(path=path, function=function, app=None))

    service, app = services.Service(types.SimpleNamespace(folder=lambda: tmp_path)), App()
    api.add(app, service)
    return types.SimpleNamespace(service=service, **{r.function.__name__: r.function for r in app.routes[1:]})


@pytest.mark.parametrize("prompts", [5, None, {"a": "b"}, ["a", 5]])
def test_wrong_prompts_are_a_sentence(routes, prompts):
    answer = routes.forget({"concept": "banana", "prompts": prompts})
    assert answer == {"error": "prompts must be a text or a list of texts."}
    assert routes.service.jobs.running() is None


def test_a_stop_ends_the_job_that_it_names_and_no_other(routes):
    go = threading.Event()
    old = routes.service.jobs.start("forget", "the old one", lambda job: None)
    while not old.view().finished:
        pass
    job = routes.service.jobs.start("forget", "the one that runs", lambda job: go.wait(10))
    try:
        for body in ({}, {"id": None}, {"id": "none"}, {"id": [job.id]}, {"id": 5}):
            assert "no such job" in routes.stop(body)["error"]
        assert "already ended" in routes.stop({"id": old.id})["error"]
        assert not job.view().stopping
        assert routes.stop({"id": job.id}) == {"id": job.id} and job.view().stopping
    finally:
        go.set()
