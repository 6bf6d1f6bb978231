"""The tab on the host's page: who may press its buttons, what is saved of it, and Reload UI."""

from __future__ import annotations

import json
import socket
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

from tests.browser import Browser, chromium
from tests.hosts.forget_checks import POLL, Places
from tests.hosts.webui_client import Webui
from tests.webui.page_client import PageClient

BACK_IN = 20.0
"""Seconds from a press on Reload UI until page and API answer again."""
ADDED_IN = 3.0
"""Seconds until Automatic1111 has added its parts at a port that is open again; its relatives add ours last."""
JSON = "application/json"
FOLLOWS = "document.querySelector('#unlearn_status .unlearn-bar')?.ariaValueNow"
SOCKETS = """
const Known = WebSocket;
window.unlearnWaiting = new Set();
window.WebSocket = class extends Known {
    constructor(...values) {
        super(...values);
        unlearnWaiting.add(this);
        this.addEventListener("close", () => unlearnWaiting.delete(this));
    }
};
"""
"""Counts the sockets by which a page of gradio 3 waits for its events. When a page is closed before it has sent what an
event of the host's own asks for, gradio 3 never ends that event, and Reload UI hangs, with this tab or without."""
OPEN = "[...document.querySelectorAll('#tabs button')].find(b => b.innerText.trim() === 'Unlearn')"


def tab_is_there(places: Places) -> None:
    text = str(places.ui.call("/config"))
    places.check("the tab is on the page, once", text.count("'unlearn_start'") == 1)
    places.check("it does not say that it could not start", "Unlearn could not start" not in text)


def mistakes(places: Places) -> None:
    for body, words in (
        ({"concept": ""}, "empty"),
        ({"concept": "banana", "steps": 0}, "steps"),
        ({"concept": "a photo of a cat on a sofa"}, ""),
        ({"concept": "asdf", "quality": "quick"}, ""),
        ({"concept": "banana", "prompts": 5}, "prompts"),
        ({"nonsense": 1}, ""),
    ):
        answer = places.ui.call("/unlearn/forget", body)
        if job := answer.get("id"):
            answer = places.ui.until(job)
        places.check(f"{body} is one sentence", words in answer.get("error", "").lower() != "", answer.get("error"))


def foreign_pages(places: Places) -> None:
    """What another web page can send: refused by the API and by the tab's own buttons, and nothing changes."""
    check, ui = places.check, places.ui
    place = ui.address.partition("://")[2]
    port = place.rpartition(":")[2]
    foreign = {
        "another origin": {"origin": "http://evil.example", "content_type": JSON},
        "no origin (null)": {"origin": "null", "content_type": JSON},
        "a rebound host": {
            "host": f"evil.example:{port}",
            "origin": f"http://evil.example:{port}",
            "content_type": JSON,
        },
        "no content type": {"origin": "http://evil.example"},
        "no content type and no origin": {},
        "a form": {"content_type": "text/plain"},
    }
    job = ui.forget("rabbit")
    page = PageClient(ui.address)
    before = deltas(ui)
    for name, headers in foreign.items():
        paths = {"forget": {"concept": "fish", "quality": "quick"}, "stop": {"id": job, "keep": False}}
        found = {path: ui.status(f"/unlearn/{path}", body, **headers) for path, body in paths.items()}
        if headers.get("origin"):
            found["job"] = ui.status(f"/unlearn/job/{job}", **headers)
        check(f"{name}: the API refuses", all(status in (403, 415) for status in found.values()), found)
        pressed = {
            b: ui.status("/run/predict", press(page, b), **headers) for b in ("unlearn_stop_discard", "unlearn_start")
        }
        view = ui.job(job)
        check(f"{name}: the tab's buttons do nothing", not view["stopping"] and view["error"] == "", pressed)
    check("no delta came or went", deltas(ui) == before)
    ui.call("/unlearn/stop", {"id": job, "keep": False})
    ui.until(job)


def press(page: PageClient, button: str) -> dict:
    """The request by which the page presses a button."""
    event = page.event(button)
    names = [page.names[i] for i in event["inputs"]]
    data = [page.fields[n] for n in names]
    return {"fn_index": page.events.index(event), "data": data, "session_hash": "foreign"}


def deltas(ui: Webui) -> list[str]:
    """Names of the LoRAs that the host lists."""
    return sorted(one["name"] for one in ui.call("/sdapi/v1/loras"))


def defaults_are_not_frozen(places: Places, data: Path) -> None:
    """The host has written nothing of the tab's into the file of its pages' defaults."""
    file = data / "ui-config.json"
    saved = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    found = [key for key in saved if "unlearn" in key.lower()]
    places.check("the host saves none of the tab's defaults", not found and len(saved) > 100, found or len(saved))


def reloading(places: Places) -> None:
    """Reload UI after a page was closed in mid-job: back in time, with the tab, and ready for the next job."""
    check, ui = places.check, places.ui
    plain = reload_ui(ui)
    job = closed_in_mid_job(ui)
    check("a page was closed while its job ran", ui.job(job)["state"] == "running", ui.job(job)["phase"])
    seconds = reload_ui(ui)
    facts = f"{seconds:.1f} s; {plain:.1f} s without a job"
    check("after Reload UI it is back", seconds < BACK_IN, facts)
    tab_is_there(places)
    view = ui.until(job)
    check("what was running is told as stopped", view["state"] == "stopped", view["error"])
    view = ui.until(ui.forget("fish", quality="quick"))
    check("the next job is done", view["state"] == "done", view["error"] or f"{view['seconds']:.0f} s")


def reload_ui(ui: Webui) -> float:
    """Press Reload UI and wait until the page and our part of the API answer again; the seconds."""
    page = ui.call("/config")
    buttons = [c["id"] for c in page["components"] if c.get("props", {}).get("elem_id") == "settings_restart_gradio"]
    index = next(i for i, d in enumerate(page["dependencies"]) if {*map(first, d["targets"])} & set(buttons))
    begun = time.monotonic()
    ui.call("/run/predict", {"fn_index": index, "data": [], "session_hash": "check"}, timeout=60)
    listens(ui, False)
    listens(ui, True)
    # a request that comes before all parts are added ends Automatic1111, with this tab or without
    time.sleep(ADDED_IN)
    while not ui.has("/unlearn/job/none"):
        time.sleep(0.2)
    return time.monotonic() - begun


def listens(ui: Webui, wanted: bool) -> None:
    """Wait until the host listens at its port, or no longer does."""
    place = urllib.parse.urlsplit(ui.address)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            socket.create_connection((place.hostname, place.port), 5).close()
            found = True
        except OSError:
            found = False
        if found == wanted:
            return
        time.sleep(0.05)
    raise TimeoutError("it did not come back" if wanted else "it did not close its page")


def closed_in_mid_job(ui: Webui) -> str:
    """Start a job, open the page, which follows it, and close the page when all of it has loaded; the job's id."""
    job = ui.forget("turtle")
    if chromium() is None:
        print("--   no Chromium: a page without a browser looks on")
        PageClient(ui.address).press(POLL)
        return job
    # the browser may still write while it ends
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Browser(Path(folder)) as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=SOCKETS)
        page.goto(ui.address)
        page.until(f"Boolean({OPEN})", timeout=180)
        page.evaluate(OPEN + ".click()")
        page.until(FOLLOWS, timeout=120)
        before = page.evaluate(FOLLOWS)
        page.until(f"{FOLLOWS} !== {before} && unlearnWaiting.size === 0")
    return job


def first(target: Any) -> Any:
    """A component's id: gradio 4 writes (id, event)."""
    return target[0] if isinstance(target, (list, tuple)) else target
