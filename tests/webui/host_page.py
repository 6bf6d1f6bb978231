"""Run inside a gradio environment: lays the tab out as a host does, its Blocks rendered inside the host's own.

usage: host_page.py FOLDER [broken]. Exits 0 when the tab is there, its events reach the host's prompt and, with the
API on, the routes answer under the host's lock.
"""

import asyncio
import json
import runpy
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "webui"))
import fake_host  # noqa: E402


def ask(app, path, body, **headers):
    """(status, JSON) of a POST to the app, without a server."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message):
        sent.append(message)

    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in {"host": "127.0.0.1:7860", **headers}.items()]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": pairs, "http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}}
    asyncio.run(app({**scope, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 7860)}, receive, send))
    return sent[0]["status"], json.loads(b"".join(m.get("body", b"") for m in sent[1:]))


def check_requests(app):
    """The host's own routes answer pages of the host and programs, with JSON alone."""
    wish, kind = {"concept": "banana", "prompts": 5}, "application/json"
    told = "prompts must be a text or a list of texts."
    assert ask(app, "/unlearn/forget", wish, content_type=kind) == (200, {"error": told})
    assert ask(app, "/unlearn/forget", wish, content_type=kind, origin="http://127.0.0.1:7860")[0] == 200
    for path in ("/unlearn/forget", "/unlearn/stop"):
        assert ask(app, path, wish)[0] == ask(app, path, wish, content_type="text/plain")[0] == 415
        for origin in ("null", "http://evil.example"):
            status, answer = ask(app, path, wish, content_type=kind, origin=origin)
            assert status == 403 and "Another web page" in answer["error"]


def check_events(page):
    """No event of ours waits in gradio's queue, where gradio 3 holds what a closed page has asked for."""
    events = page.get_config_file()["dependencies"]
    assert events and not [e for e in events if e["queue"] is not False or e.get("every")]


def check_form(page):
    """The settings in front and those that are folded, with the core's steps; the host saves none of their values."""
    parts = {b.elem_id: b for b in page.blocks.values() if getattr(b, "elem_id", None)}
    assert parts["unlearn_training"].label == "Training, if the fast edit is not enough"
    assert parts["unlearn_guidance"].step == 0.1 and parts["unlearn_learning_rate"].step == 1e-6
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


def check_strengths(page, folder):
    """A strength that no slider gives is answered with a sentence."""
    (folder / "a.safetensors").touch()
    (folder / "unlearn_stack.json").write_text('[{"name": "a.safetensors", "strength": 1.0, "on": true}]')
    functions = page.fns.values() if isinstance(page.fns, dict) else page.fns
    store = next(f.fn for f in functions if getattr(f.fn, "__name__", "") == "store")
    for strength in (5, None):
        shown = store(["a.safetensors"], *[True] * 12, strength, *[1.0] * 11)
        assert "Strengths go from -2 to 2" in shown[0], shown[0]
    assert '"strength": 1.0' in (folder / "unlearn_stack.json").read_text()


def check_checkpoint(shared):
    """The checkpoint is the chosen one, whatever a refiner has left."""
    models = sys.modules["modules.sd_models"]
    for name in ("base", "refiner"):
        models.files[name] = types.SimpleNamespace(filename=f"/models/{name}.safetensors")
    shared.opts.data["sd_model_checkpoint"] = "base"
    shared.sd_model = types.SimpleNamespace(sd_checkpoint_info=models.files["refiner"])
    program = sys.modules["sd_unlearn_pack.extension.host"].WebuiProgram()
    assert program.checkpoint().name == "base.safetensors" and program.checkpoints_folder() == Path("/models")


def main(folder, broken):
    import gradio as gr

    calls = {}
    shared = fake_host.install(folder, calls)
    if broken:
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
    if broken:
        return
    from fastapi import Depends, FastAPI

    lock = Depends(lambda: None)
    app = FastAPI()
    app.add_api_route("/sdapi/v1/progress", lambda: 1, dependencies=[lock])
    calls["on_app_started"][0](page, app)
    routes = {r.path: r for r in app.routes if "unlearn" in getattr(r, "path", "")}
    assert all(r.dependencies == [lock] for r in routes.values()) and len(routes) == 3
    assert "empty" in routes["/unlearn/forget"].endpoint({"concept": ""})["error"]
    assert "no such job" in routes["/unlearn/job/{job_id}"].endpoint("none")["error"]
    assert "nothing was stopped" in routes["/unlearn/stop"].endpoint({})["error"]
    check_requests(app)
    check_events(rows[0][0])
    check_form(rows[0][0])
    check_strengths(page, Path(folder))
    check_checkpoint(shared)
    bare = FastAPI()
    calls["on_app_started"][0](page, bare)
    assert not [r for r in bare.routes if "unlearn" in getattr(r, "path", "")], "the host's API is off, ours is not"


main(sys.argv[1], len(sys.argv) > 2)
