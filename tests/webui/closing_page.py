"""Run inside a gradio environment: a page that follows a job without end, closed on request as Reload UI closes it.

usage: closing_page.py FOLDER. Prints the address, waits for a line, and then prints "closed" or "hangs".
"""

import importlib
import runpy
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PATIENCE = 20


def main(folder):
    import gradio as gr

    load = runpy.run_path(str(ROOT / "tests" / "webui" / "pack.py"))["load"]
    app, tab, service = (load(f"extension.{name}") for name in ("app", "tab", "service"))
    app.stay_offline()
    made = service.Service(app.StandaloneProgram(app.CHECKPOINT, Path(folder)))
    made.jobs.start(service.FORGET, "Forgetting 'banana'", endless)
    with gr.Blocks(analytics_enabled=False) as page:
        tab.build(made, page)
    page.queue()
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, show_api=False)
    print(address, flush=True)
    sys.stdin.readline()
    closing = threading.Thread(target=page.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    print("hangs" if closing.is_alive() else "closed", flush=True)


def endless(job):
    """Work with news all the time."""
    job.begin()
    step = importlib.import_module(f"{type(job).__module__.split('.')[0]}.unlearn_core").StepReport
    for i in range(10**9):
        job.hear(step("training", i, 10**9, 0.5, 1.0, 1.0, {"forget": 1.0 + i % 7, "keep": 1.0}))
        threading.Event().wait(0.1)


main(sys.argv[1])
