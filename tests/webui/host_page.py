"""Run inside a gradio environment: lays the tab out as a host does, its Blocks rendered inside the host's own.

usage: host_page.py FOLDER [broken]. Exits 0 when the tab is there, its events reach the host's prompt and, with the
API on, the routes answer under the host's lock.
"""

import runpy
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "webui"))
import fake_host  # noqa: E402


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
    assert "Nothing is running" in routes["/unlearn/stop"].endpoint({})["error"]
    bare = FastAPI()
    calls["on_app_started"][0](page, bare)
    assert not [r for r in bare.routes if "unlearn" in getattr(r, "path", "")], "the host's API is off, ours is not"


main(sys.argv[1], len(sys.argv) > 2)
