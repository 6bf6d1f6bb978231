"""Three routes beside the host's own API and under its lock: forget, look, stop."""

from __future__ import annotations

import json
import re
import traceback
from ipaddress import ip_address
from typing import Any

from ..unlearn_core import BadSetting, UnlearnError
from .jobs import Busy, View, in_one_sentence
from .own_page import App, Message, Receive, Scope, Send, answer, header, media_type
from .results import ForgetResult
from .service import Service

NEIGHBOUR = "/sdapi/v1/progress"
"""The host's own route: ours are there when it is, and whoever may not ask it may not ask ours."""
MOST_BODY = 2**18
"""Bytes of a request: settings and a few prompts."""
PORTS = {"http": ":80", "https": ":443"}


Answer = tuple[int, dict]
"""Status and JSON of an answer; a mistake is {"error": "one sentence"}."""


def add(app: Any, service: Service, any_name: bool) -> None:
    """Add the routes to the host's app; nothing where the host's API is off. any_name: see `refusal`."""
    guard = next((r for r in app.routes if getattr(r, "path", "") == NEIGHBOUR), None)
    if guard is None:
        return
    from starlette.responses import JSONResponse

    def answered(given: Answer) -> JSONResponse:
        return JSONResponse(given[1], given[0])

    # the bodies are checked before FastAPI reads them, which has words of its own for mistakes
    def start_forgetting(body: dict) -> Any:
        return answered(forget(service, body))

    def look_at_job(job_id: str) -> Any:
        return answered(look(service, job_id))

    def stop_job(body: dict) -> Any:
        return answered(stop(service, body))

    for path, function, method in (
        ("/unlearn/forget", start_forgetting, "POST"),
        ("/unlearn/job/{job_id}", look_at_job, "GET"),
        ("/unlearn/stop", stop_job, "POST"),
    ):
        app.add_api_route(path, function, methods=[method], dependencies=guard.dependencies, response_model=None)
        route = app.routes[-1]
        # not middleware: the host has started, and its other routes are its own affair
        route.app = guarded(route.app, any_name)


def forget(service: Service, body: dict) -> Answer:
    """Start to forget."""
    values = dict(body)
    try:
        prompts = prompts_in(values.pop("prompts", ""))
        check_types(values)
        return 200, {"id": service.forget(values, prompts).id}
    except Busy as e:
        return 409, {"error": str(e)}
    except UnlearnError as e:
        return 422, {"error": str(e)}
    except Exception as e:
        traceback.print_exc()
        return 422, {"error": in_one_sentence(e)}


def look(service: Service, job_id: str) -> Answer:
    """A job's state."""
    job = service.jobs.get(job_id)
    return (200, plain(job.view())) if job else (404, {"error": "There is no such job."})


def stop(service: Service, body: dict) -> Answer:
    """Stop the job that is named, and no other."""
    job = service.jobs.get(job_id) if isinstance(job_id := body.get("id"), str) else None
    if job is None:
        why = "There is no such job, so nothing was stopped: send the id that /unlearn/forget answered."
        return 404, {"error": why}
    if not isinstance(keep := body.get("keep", True), bool):
        return 422, {"error": "keep must be true or false."}
    if job.view().finished:
        return 409, {"error": "This job has already ended, so nothing was stopped."}
    job.stop(discard=not keep)
    return 200, {"id": job.id}


def guarded(app: App, any_name: bool) -> App:
    """The route for programs and for pages of the host itself; what another page sends, and what is no object of JSON,
    is refused with a sentence."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        status, why = refusal(scope, any_name)
        body = b""
        if not why and scope["method"] == "POST":
            body, status, why = await body_of(receive)
        if why:
            return await answer(send, status, "application/json", json.dumps({"error": why}))
        sent: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return sent.pop() if sent else await receive()

        await app(scope, again if scope["method"] == "POST" else receive, send)

    return checked


async def body_of(receive: Receive) -> tuple[bytes, int, str]:
    """(the body, status, why it is no object of JSON or "")."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            return b"", 413, f"This request is longer than {MOST_BODY} bytes."
        if not message.get("more_body"):
            break
    try:
        read = json.loads(body.decode("utf-8"), parse_constant=no_number)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        return b"", 422, 'Send one JSON object, like {"concept": "banana"}.'
    return body, 200, ""


def no_number(text: str) -> float:
    """NaN and its like are no JSON. Raises `ValueError`."""
    raise ValueError(text)


def refusal(scope: Scope, any_name: bool) -> tuple[int, str]:
    """Status and reason of a refusal; the reason is "" where there is none.

    any_name: whether the web UI is meant to be reached under any name. Where it is not, a name that is none of this
    machine's was pointed here by somebody else's page.
    """
    hosts = header(scope, "host")
    if len(hosts) != 1 or not (any_name or is_local(hosts[0])):
        return 403, "This name is none of this machine's: use its address, or start the web UI with --listen."
    # a proxy may pass another name on than the browser has; what the browser itself says no page can change
    own = header(scope, "sec-fetch-site") == ["same-origin"]
    if not own and any(not same(origin, hosts[0]) for origin in header(scope, "origin")):
        return 403, "Another web page sent this request: only pages of this web UI may."
    # another page cannot send this type without being asked first, and so it cannot hide where it comes from
    if scope["method"] == "POST" and media_type(scope) != "application/json":
        return 415, "Send the body as JSON, with the header Content-Type: application/json."
    return 200, ""


def is_local(host: str) -> bool:
    """Whether a Host header names this machine, or any machine by its number, which no page can point elsewhere."""
    name = re.sub(r":\d+$", "", host.lower())
    if name == "localhost":
        return True
    try:
        ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


def same(origin: str, host: str) -> bool:
    """Whether an origin (scheme and place) is the place that a request was sent to."""
    scheme, _, place = origin.lower().partition("://")
    port = PORTS.get(scheme)
    return port is not None and place.removesuffix(port) == host.lower().removesuffix(port)


def prompts_in(value: Any) -> str:
    """The prompts of a request, one a line. Raises `BadSetting`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return "\n".join(value)
    raise BadSetting("prompts must be a text or a list of texts.")


def check_types(values: dict) -> None:
    """Refuse what is no value of any setting: `BadSetting`."""
    for name, value in values.items():
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(p, (str, int, float)) for p in parts):
            raise BadSetting(f"{name[:60]}: send a text, a number, true, false or a list of texts.")
        if name == "keep" and not all(isinstance(p, str) for p in parts):
            raise BadSetting("keep must be a text or a list of texts.")


def plain(view: View) -> dict:
    """A job's state as JSON values; the pictures are left out."""
    left_out = {"pictures", "result", "losses"}
    facts = {k: v for k, v in vars(view).items() if k not in left_out}
    facts["losses"] = [list(p) for p in view.losses[-1:]]
    if isinstance(view.result, ForgetResult):
        facts |= one_delta(view.result) | {"earlier": [one_delta(one) for one in view.result.earlier]}
    return facts


def one_delta(made: ForgetResult) -> dict:
    """A new delta as JSON values."""
    facts = {"file": made.name, "path": str(made.file or ""), "tag": made.tag}
    return facts | {"remark": made.remark, "report": made.report}
