"""Run inside a gradio environment: lays the tab out as a host does, its Blocks rendered inside the host's own.

usage: host_page.py FOLDER [broken | unknown | ldm_patched]. Exits 0 when the tab is there, its events reach the host's
prompt, a running job outlives Reload UI and, with the API on, the routes answer under the host's lock. "broken": a host
without what we need. The others are relatives of Forge, one that we do not know and one that we do.
"""

import asyncio
import html
import json
import runpy
import sys
import threading
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "webui"))
import fake_host  # noqa: E402


def ask(app, path, body, method="POST", **headers):
    """(status, JSON) of the app's answer, without a server."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message):
        sent.append(message)

    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in {"host": "127.0.0.1:7860", **headers}.items()]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": pairs, "http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}}
    asyncio.run(app({**scope, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 7860)}, receive, send))
    return sent[0]["status"], json.loads(b"".join(m.get("body", b"") for m in sent[1:]))


def check_requests(app):
    """The host's own routes answer pages of the host and programs, with JSON alone."""
    wish, kind = {"concept": "banana", "prompts": 5}, "application/json"
    told = "prompts must be a text or a list of texts."
    assert ask(app, "/unlearn/forget", wish, content_type=kind) == (422, {"error": told})
    assert ask(app, "/unlearn/forget", wish, content_type=kind, origin="http://127.0.0.1:7860")[0] == 422
    assert ask(app, "/unlearn/forget", {"concept": ""}, content_type=kind)[0] == 422
    behind = {"origin": "https://sd.example.com", "sec_fetch_site": "same-origin"}
    assert ask(app, "/unlearn/forget", wish, content_type=kind, **behind)[0] == 422, "behind a proxy that renames it"
    for site in ("cross-site", "same-site", "none"):
        status = ask(app, "/unlearn/forget", wish, content_type=kind, **{**behind, "sec_fetch_site": site})[0]
        assert status == 403
    for body in ([], 5, "x", None):
        status, answer = ask(app, "/unlearn/forget", body, content_type=kind)
        assert status == 422 and answer["error"].startswith("Send one JSON object"), answer
    status, answer = ask(app, "/unlearn/stop", {}, content_type=kind)
    assert status == 404 and "nothing was stopped" in answer["error"]
    status, answer = ask(app, "/unlearn/job/none", None, method="GET")
    assert status == 404 and "no such job" in answer["error"]
    for path in ("/unlearn/forget", "/unlearn/stop"):
        assert ask(app, path, wish)[0] == ask(app, path, wish, content_type="text/plain")[0] == 415
        evil = "evil.example:7860"
        assert ask(app, path, wish, content_type=kind, host=evil, origin=f"http://{evil}")[0] == 403
        for origin in ("null", "http://evil.example"):
            status, answer = ask(app, path, wish, content_type=kind, origin=origin)
            assert status == 403 and "Another web page" in answer["error"]


def check_events(page):
    """No event of ours waits in gradio's queue, where gradio 3 holds what a closed page has asked for."""
    events = page.get_config_file()["dependencies"]
    assert events and not [e for e in events if e["queue"] is not False or e.get("every")]


def begun_by(page, button):
    """(index, event) of what a press on a button begins, by its id in the page's HTML."""
    names = {i: getattr(b, "elem_id", None) for i, b in page.blocks.items()}
    for index, event in enumerate(page.get_config_file()["dependencies"]):
        for target in event["targets"]:
            # gradio 4 writes (id, kind) where gradio 3 writes the id alone
            part, kind = target if isinstance(target, (list, tuple)) else (target, event["trigger"])
            if kind == "click" and names.get(part) == button:
                return index, event
    raise LookupError(button)


def check_answers(page):
    """What a button answers stands beside it, and not in a part of the page that is out of sight."""
    names = {i: getattr(b, "elem_id", None) for i, b in page.blocks.items()}
    places = {"look": "look_problem", "add": "added", "open": "used", "use": "used"}
    places |= {"bake": "bake_problem", "merge": "merge_said", "delete": "deleted", "balance_stop": "merge_said"}
    for button, place in places.items():
        _, event = begun_by(page, f"unlearn_{button}")
        assert names[event["outputs"][-1]] == f"unlearn_{place}", button


def check_settings(page):
    """The settings in front and those that are folded, with the core's steps; the host saves none of their values."""
    parts = {b.elem_id: b for b in page.blocks.values() if getattr(b, "elem_id", None)}
    assert parts["unlearn_training"].label == "Training, if the fast edit is not enough"
    assert parts["unlearn_guidance"].step == 0.1 and parts["unlearn_learning_rate"].step == 1e-4
    above = {
        name: inside(parts["unlearn_" + name]) for name in ("concept", "anchor", "keep", "kind", "quality", "seed")
    }
    assert not any(above.values()), above
    assert inside(parts["unlearn_rank"]) == ["unlearn_edit"] and inside(parts["unlearn_batch"]) == ["unlearn_training"]
    assert all(b.do_not_save_to_config for b in parts.values() if b.elem_id.startswith("unlearn_"))


def inside(part):
    """Names of the folds that a part is in."""
    found = []
    while part := part.parent:
        if part.get_block_name() == "accordion":
            found.append(part.elem_id)
    return found


def functions(page):
    """Of all events of the page, without what guards them."""
    found = page.fns.values() if isinstance(page.fns, dict) else page.fns
    return [getattr(f.fn, "event", f.fn) for f in found]


def function(page, name):
    """The one of this name."""
    return next(f for f in functions(page) if getattr(f, "__qualname__", "").endswith(name))


def check_foreign_presses(page):
    """The buttons do what the host's own page and programs ask for, and nothing for another page."""
    import gradio as gr

    app = gr.routes.App.create_app(page)

    def press(button, **headers):
        index, event = begun_by(page, button)
        body = {"fn_index": index, "data": [None] * len(event["inputs"]), "session_hash": "x"}
        return ask(app, "/run/predict", body, **headers)

    own, kind, evil = "http://127.0.0.1:7860", "application/json", "evil.example:7860"
    for headers in ({}, {"origin": own}):
        status, answer = press("unlearn_stop_discard", content_type=kind, **headers)
        assert status == 200 and "Nothing is running" in answer["data"][0], answer
        shown = press("unlearn_start", content_type=kind, **headers)[1]["data"][0]
        assert 'class="unlearn-box bad"' in shown, shown
    for headers in (
        {"content_type": kind, "origin": "http://evil.example"},
        {"content_type": kind, "origin": "null"},
        {"content_type": kind, "origin": f"http://{evil}", "host": evil},
        {"origin": "http://evil.example"},
        {},
    ):
        for button in (
            "unlearn_stop_discard",
            "unlearn_start",
            "unlearn_delete",
            "unlearn_bake",
            "unlearn_forget_poll",
        ):
            status, answer = press(button, **headers)
            assert status >= 400 and "data" not in answer, (button, headers, answer)


def check_strengths(page, folder):
    """A page changes one value of one row and no other; what no slider gives is answered with a sentence."""
    state = folder / "unlearn_stack.json"
    names = ["a.safetensors", "b.safetensors"]
    for name in names:
        (folder / name).touch()
    state.write_text(json.dumps([{"name": n, "strength": 1.0, "on": True} for n in names]))
    tab = function(page, "StackTab.shown").__self__
    seen = [[n, True, 1.0] for n in names]
    assert tab.shown()[0] == seen
    for nothing in (None, ""):
        shown = tab.changed(0, "strength", seen, nothing)
        assert shown[1] == seen and len(shown) == 1 + len(tab.fields())
        assert all("value" not in field for n, field in enumerate(shown) if n != 1), "a number that is being typed"
    for strength in (5, "x", True, [1]):
        shown = tab.changed(0, "strength", seen, strength)
        assert "Strengths go from -2 to 2" in shown[0], shown[0]
    assert "switched on or off" in tab.changed(0, "on", seen, "yes")[0]
    assert [r["strength"] for r in json.loads(state.read_text())] == [1.0, 1.0]
    # two pages that show the same: each changes what it was told to, and sees what the other has done
    assert tab.changed(0, "strength", seen, 0.5)[0] == ""
    fields = tab.changed(1, "on", seen, False)[1:]
    assert fields[4] == 0.5, fields[:9]
    # what the page shows already is not filled in again: a hand may be changing it at this moment
    assert all("value" not in fields[i] for i in (2, 6, 8)), fields[:9]
    assert fields[0] == [[names[0], True, 0.5], [names[1], False, 1.0]]
    # a job's end or another tab's event leaves what is chosen in the folder's list
    assert (
        "value" not in tab.news(seen)[1 + 4 * len(tab.lines)] and tab.shown()[1 + 4 * len(tab.lines)]["value"] is None
    )
    assert json.loads(state.read_text()) == [
        {"name": names[0], "strength": 0.5, "on": True},
        {"name": names[1], "strength": 1.0, "on": False},
    ]
    # one of a page that shows a row which is gone changes none
    tab.service.stack_file.take_out(names[0])
    shown = tab.changed(0, "strength", seen, 0.1)
    assert "shown as it is now" in shown[0] and shown[1] == [[names[1], False, 1.0]]
    for place in (1, 7):
        try:
            tab.take_out(place, [[names[1], False, 1.0]])
        except Exception as e:
            assert "shown as it is now" in str(e), e
    for how in ("exact", "balanced"):
        try:
            tab.merged(seen, "", how, 8)
        except Exception as e:
            assert "shown as it is now" in str(e), e
    assert json.loads(state.read_text()) == [{"name": names[1], "strength": 1.0, "on": False}]
    assert "All deltas of the stack are switched off" in tab.shown()[-4]


def check_lines_that_have_moved(page, folder):
    """A hand changes the delta that its page shows in a line, and sees what is in that line today."""
    state, tab = folder / "unlearn_stack.json", function(page, "StackTab.shown").__self__
    a, b, c = names = [f"{n}.safetensors" for n in "abc"]
    for name in names:
        (folder / name).touch()
    seen = [[n, True, 1.0] for n in names]
    for part, value, kept in (("strength", 0.5, [a, True, 0.5]), ("on", False, [a, False, 1.0])):
        field = 2 if part == "on" else 4
        for meanwhile, now in (
            (lambda: None, [kept, *seen[1:]]),
            (lambda: tab.service.stack_file.move(c, -1), [kept, seen[2], seen[1]]),
            (lambda: tab.service.stack_file.move(a, 1), [seen[1], kept, seen[2]]),
            (lambda: tab.service.stack_file.move(a, 2), [*seen[1:], kept]),
            (lambda: tab.service.stack_file.take_out(b), [kept, seen[2]]),
        ):
            state.write_text(json.dumps([{"name": n, "strength": 1.0, "on": True} for n in names]))
            meanwhile()
            said, *fields = tab.changed(0, part, seen, value)
            assert said == "" and fields[0] == now
            # what the page has is what was there, the hand's value, and what the answer fills in
            shows = [[s[1], s[2]] for s in seen]
            shows[0][0 if part == "on" else 1] = value
            for place in range(len(now)):
                for number in (0, 1):
                    filled = fields[4 * place + 2 + 2 * number]
                    if not isinstance(filled, dict):
                        shows[place][number] = filled
            assert shows[: len(now)] == [line[1:] for line in now], (part, shows, now)
            # what a hand moves at this moment is left to it
            assert isinstance(fields[field], dict) == (now[0][0] == a)
    tab.service.stack_file.set(())


def check_lines_that_cannot_be_used(page, folder):
    """Each is shown in its place and can be removed; what it names is not looked at."""
    state, tab = folder / "unlearn_stack.json", function(page, "StackTab.shown").__self__
    names = ["../x.safetensors", "\ud83d.safetensors", "a.safetensors", "b.safetensors"]
    state.write_text(json.dumps([{"name": n, "strength": 5 if n[0] == "a" else 1.0, "on": None} for n in names[:3]]))
    tab.service.stack_file.put("b.safetensors")
    shown = tab.shown()
    json.dumps(shown[1:], ensure_ascii=False).encode()
    assert [line[0] for line in shown[0]] == names
    lines = [shown[1 + 4 * place : 5 + 4 * place] for place in range(5)]
    assert [line[0]["visible"] for line in lines] == [True] * 4 + [False]
    assert [(line[1], line[3]) for line in lines[:4]] == [(True, 1.0)] * 2 + [(True, 0), (True, 1.0)]
    assert all("Set it right, switch it off or remove it." in line[2] for line in lines[:3]), lines
    assert "cannot be read: take it out" in lines[3][2] and "cannot be used" in shown[-4], shown[-4]
    assert tab.changed(2, "strength", shown[0], 0.5)[0] == tab.changed(2, "on", shown[0], False)[0] == ""
    for _ in names[:2]:
        tab.take_out(0, tab.shown()[0])
    assert tab.shown()[0] == [["a.safetensors", False, 0.5], ["b.safetensors", True, 1.0]]
    # a file that is no stack is a line, and stays as it is until that is removed
    state.write_text("[")
    seen = tab.shown()[0]
    assert "cannot be read" in tab.changed(0, "on", seen, False)[0] and state.read_text() == "["
    tab.take_out(0, seen)
    assert tab.shown()[0] == [] and state.read_text() == "[]"


def check_form(page, service):
    """A page that is loaded again has the last request's values, and none before there was one."""
    fill = function(page, "forget_tab.<locals>.fill")
    assert all("value" not in v for v in fill())
    start, service.jobs.start = service.jobs.start, lambda *_: None
    try:
        service.forget({"concept": "banana, frog", "quality": "quick", "seed": "7", "force": "false"}, "a cat")
    finally:
        service.jobs.start = start
    values = [v["value"] for v in fill()]
    assert values[0] == "a cat" and "banana, frog" in values and "quick" in values and "7" not in values, values
    event = page.get_config_file()["dependencies"][functions(page).index(fill)]
    for output, value in zip(event["outputs"], values, strict=True):
        page.blocks[output].postprocess(value)
    service.forms.clear()


def check_reload(calls, page):
    """Reload UI runs the script again: the new page finds the job that runs."""
    go = threading.Event()
    service = function(page, "StackTab.shown").__self__.service
    job = service.jobs.start("forget", "Forgetting 'banana'", lambda job: go.wait(30))
    try:
        for made in calls.values():
            made.clear()
        runpy.run_path(str(ROOT / "scripts" / "unlearn.py"))
        (again, *_), *_ = [row for make in calls["on_ui_tabs"] for row in make()]
        assert again is not page
        shown = str(function(again, "JobPolling.look")(""))
        assert "Forgetting 'banana'" in html.unescape(shown), shown
        assert function(again, "StackTab.shown").__self__.service.jobs.get(job.id) is job
    finally:
        go.set()


def check_checkpoint(shared):
    """The checkpoint is the chosen one, whatever a refiner has left."""
    models = sys.modules["modules.sd_models"]
    for name in ("base", "refiner"):
        models.files[name] = types.SimpleNamespace(filename=f"/models/{name}.safetensors")
    shared.opts.data["sd_model_checkpoint"] = "base"
    shared.sd_model = types.SimpleNamespace(sd_checkpoint_info=models.files["refiner"])
    program = sys.modules["sd_unlearn_pack.extension.host"].WebuiProgram()
    shared.opts.data["sd_model_checkpoint"] = "sub/base.safetensors [2f0cc83c12]"
    assert program.checkpoint_name() == "sub/base.safetensors"
    shared.opts.data["sd_model_checkpoint"] = "base"
    assert program.checkpoint().name == "base.safetensors" and program.checkpoints_folder() == Path("/models")


def check_names(shared):
    """A web UI that is on no network is reached under this machine's names alone; a tunnel gives it others."""
    program = sys.modules["sd_unlearn_pack.extension.host"].WebuiProgram()
    assert program.shows_folders
    for name in ("listen", "ngrok", "cloudflared", "localtunnel"):
        setattr(shared.cmd_opts, name, True)
        assert not program.shows_folders, name
        delattr(shared.cmd_opts, name)


def main(folder, case):
    import gradio as gr

    broken = case in ("broken", "unknown")

    calls = {}
    shared = fake_host.install(folder, calls)
    if case in ("unknown", "ldm_patched"):
        fake_host.install_forge(case)
    if case == "broken":
        del shared.cmd_opts, sys.modules["modules.paths"].data_path
        sys.modules["modules.call_queue"] = types.ModuleType("modules.call_queue")
    runpy.run_path(str(ROOT / "scripts" / "unlearn.py"))
    with gr.Blocks() as txt2img:
        prompt = gr.Textbox(elem_id="txt2img_prompt")
        for f in calls.get("on_after_component", ()):
            f(prompt, elem_id="txt2img_prompt")
    rows = [row for make in calls["on_ui_tabs"] for row in make()]
    with gr.Blocks() as page, gr.Tabs():
        with gr.TabItem("txt2img"):
            txt2img.render()
        for blocks, title, name in rows:
            with gr.TabItem(title, elem_id=name):
                blocks.render()
    text = str(page.get_config_file())
    assert ("could not start" in text) == broken
    assert ("unlearn_start" in text) != broken
    if case == "unknown":
        assert (
            "does not know this variant of Forge" in text
            and "UnlearnError" not in text
            and "Update the extension" not in text
        )
    if broken:
        return
    from fastapi import Depends, FastAPI

    lock = Depends(lambda: None)
    app = FastAPI()
    app.add_api_route("/sdapi/v1/progress", lambda: 1, dependencies=[lock])
    calls["on_app_started"][0](page, app)
    routes = {r.path: r for r in app.routes if "unlearn" in getattr(r, "path", "")}
    assert all(r.dependencies == [lock] for r in routes.values()) and len(routes) == 3
    check_requests(app)
    check_events(rows[0][0])
    check_answers(rows[0][0])
    check_foreign_presses(page)
    check_settings(rows[0][0])
    check_form(rows[0][0], function(rows[0][0], "StackTab.shown").__self__.service)
    check_strengths(page, Path(folder))
    check_lines_that_have_moved(page, Path(folder))
    check_lines_that_cannot_be_used(page, Path(folder))
    if not case:
        check_checkpoint(shared)
    check_names(shared)
    bare = FastAPI()
    calls["on_app_started"][0](page, bare)
    assert not [r for r in bare.routes if "unlearn" in getattr(r, "path", "")], "the host's API is off, ours is not"
    check_reload(calls, rows[0][0])


main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
