"""Three routes beside the host's own API and under its lock: forget, look, stop."""

from __future__ import annotations

from typing import Any

from ..unlearn_core import UnlearnError
from .actions import Desk, Made
from .jobs import View

NEIGHBOUR = "/sdapi/v1/progress"
"""The host's own route: ours are there when it is, and whoever may not ask it may not ask ours."""


def add(app: Any, desk: Desk) -> None:
    """Add the routes to the host's app; nothing where the host's API is off."""
    guard = next((r for r in app.routes if getattr(r, "path", "") == NEIGHBOUR), None)
    if guard is None:
        return

    def forget(body: dict) -> dict:
        values = dict(body)
        prompts = values.pop("prompts", "")
        try:
            return {"id": desk.forget(values, prompts if isinstance(prompts, str) else "\n".join(prompts)).id}
        except (UnlearnError, TypeError) as e:
            return {"error": str(e)}

    def look(job_id: str) -> dict:
        job = desk.jobs.get(job_id)
        return plain(job.view()) if job else {"error": "There is no such job."}

    def stop(body: dict) -> dict:
        job = desk.jobs.get(str(body.get("id", ""))) or desk.jobs.running()
        if job is None or job.view().finished:
            return {"error": "Nothing is running."}
        job.stop(discard=not body.get("keep", True))
        return {"id": job.id}

    for path, function, method in (
        ("/unlearn/forget", forget, "POST"),
        ("/unlearn/job/{job_id}", look, "GET"),
        ("/unlearn/stop", stop, "POST"),
    ):
        app.add_api_route(path, function, methods=[method], dependencies=guard.dependencies, response_model=None)


def plain(view: View) -> dict:
    """A job's state as JSON values; the pictures are left out."""
    left_out = {"pictures", "result", "losses", "version"}
    facts = {k: v for k, v in vars(view).items() if k not in left_out}
    facts["losses"] = [list(p) for p in view.losses[-1:]]
    if isinstance(view.result, Made):
        facts |= {"file": view.result.name, "tag": view.result.tag, "report": view.result.report}
    return facts
