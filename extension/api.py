"""Three routes beside the host's own API and under its lock: forget, look, stop."""

from __future__ import annotations

import json
from typing import Any

from ..unlearn_core import BadSetting, UnlearnError
from .jobs import Job, View
from .own_page import App, Receive, Scope, Send, answer, header, media_type
from .results import ForgetResult
from .service import Service

NEIGHBOUR = "/sdapi/v1/progress"
"""The host's own route: ours are there when it is, and whoever may not ask it may not ask ours."""
PORTS = {"http": ":80", "https": ":443"}


def add(app: Any, service: Service) -> None:
    """Add the routes to the host's app; nothing where the host's API is off."""
    guard = next((r for r in app.routes if getattr(r, "path", "") == NEIGHBOUR), None)
    if guard is None:
        return

    def forget(body: dict) -> dict:
        values = dict(body)
        try:
            return {"id": service.forget(values, prompts_in(values.pop("prompts", ""))).id}
        except UnlearnError as e:
            return {"error": str(e)}

    def look(job_id: str) -> dict:
        job = service.jobs.get(job_id)
        return plain(job.view()) if job else {"error": "There is no such job."}

    def stop(body: dict) -> dict:
        try:
            job = running(service, body.get("id"))
        except UnlearnError as e:
            return {"error": str(e)}
        job.stop(discard=not body.get("keep", True))
        return {"id": job.id}

    for path, function, method in (
        ("/unlearn/forget", forget, "POST"),
        ("/unlearn/job/{job_id}", look, "GET"),
        ("/unlearn/stop", stop, "POST"),
    ):
        app.add_api_route(path, function, methods=[method], dependencies=guard.dependencies, response_model=None)
        route = app.routes[-1]
        # not middleware: the host has started, and its other routes are its own affair
        route.app = own_origin(route.app)


def own_origin(app: App) -> App:
    """The route for programs and for pages of the host itself; what another page sends is refused with a sentence."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        status, why = refusal(scope)
        if why:
            await answer(send, status, "application/json", json.dumps({"error": why}))
        else:
            await app(scope, receive, send)

    return checked


def refusal(scope: Scope) -> tuple[int, str]:
    """Status and reason of a refusal; the reason is "" where there is none."""
    hosts = header(scope, "host")
    if any(not same(origin, host) for origin in header(scope, "origin") for host in hosts or [""]):
        return 403, "Another web page sent this request: only pages of this web UI may."
    # another page cannot send this type without being asked first, and so it cannot hide where it comes from
    if scope["method"] == "POST" and media_type(scope) != "application/json":
        return 415, "Send the body as JSON, with the header Content-Type: application/json."
    return 200, ""


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


def running(service: Service, job_id: Any) -> Job:
    """The unfinished job of this id. Raises `UnlearnError`: a stop that was meant for another job ends none."""
    job = service.jobs.get(job_id) if isinstance(job_id, str) else None
    if job is None:
        raise BadSetting("There is no such job, so nothing was stopped: send the id that /unlearn/forget answered.")
    if job.view().finished:
        raise BadSetting("This job has already ended, so nothing was stopped.")
    return job


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
    facts = {"file": made.name, "path": str(made.file), "tag": made.tag}
    return facts | {"remark": made.remark, "report": made.report}
