"""Pictures of the tab and of ComfyUI's page, taken in headless Chromium from the real programs.

usage: python -m tests.page_pictures tab|comfyui FOLDER quick|normal
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser import Browser, chromium
from tests.comfy.page import NODE, OPEN
from tests.comfy.page import READY as LOADED
from tests.comfy.server import PACK, Server
from tests.comfy.sources import NEWEST
from tests.webui.app import App
from tests.webui.environments import python_with

THEMES = ("light", "dark")
SIZE, TALL = (1280, 900), (1280, 1700)
"""Of the window; the second holds a whole node."""
PATIENCE = 900
"""Seconds that a request may take."""

READY = "document.querySelector('#unlearn_start') && !document.querySelector('.loading')"
MODEL = "document.querySelector('#unlearn_base')?.innerText.includes('Model:')"
PICTURES = "(l => l.length && l.every(i => i.naturalWidth > 0))([...document.querySelectorAll('#unlearn_result img')])"
QUALITY = "document.querySelector('#unlearn_quality input[value=%s]').click()"

SHOW = f"(() => {{ app.canvas.ds.scale = 1; app.canvas.centerOnNode({NODE}); app.canvas.setDirty(true, true); }})()"
IDLE = "fetch('/api/queue').then(a => a.json()).then(q => !q.queue_running.length && !q.queue_pending.length)"
PANEL = f"{NODE}.unlearnPanel"
WHOLE = f"""{PANEL}.comparison.root.getBoundingClientRect().height > 20 && !{NODE}.imgs?.length
  && {PANEL}.report.getBoundingClientRect().bottom <= {PANEL}.root.getBoundingClientRect().bottom + 1"""
PLACE = f"""(() => {{
  const node = {NODE}, scale = app.canvas.ds.scale, [x, y] = app.canvas.ds.offset;
  const box = app.canvas.canvas.getBoundingClientRect();
  const [left, top] = [box.x + (node.pos[0] + x) * scale, box.y + (node.pos[1] - 30 + y) * scale];
  return [left, top, left + node.size[0] * scale, top + (node.size[1] + 30) * scale];
}})()"""


def tab(images: Path, quality: str) -> None:
    """The tab on its own after *banana*, in both themes."""
    # its path is in the picture
    with tempfile.TemporaryDirectory(prefix="unlearn-") as place:
        out = Path(place) / "loras"
        out.mkdir()
        with App(python_with("gradio4"), out) as app, Browser(Path(place), SIZE) as browser:
            opened(browser, app, THEMES[0])
            browser.evaluate(QUALITY % quality)
            browser.fill("#unlearn_concept :is(textarea, input)", "banana")
            browser.click("#unlearn_start")
            browser.until(PICTURES, PATIENCE)
            for theme in THEMES:
                opened(browser, app, theme)
                browser.until(PICTURES, 60)
                browser.screenshot(images / f"tab_{theme}.png", whole=True)


def opened(browser: Browser, app: App, theme: str) -> None:
    """The page in a theme, its first questions to the server answered."""
    browser.goto(f"{app.address}/?__theme={theme}")
    browser.until(READY, 120)
    browser.until(MODEL, 60)


def comfyui(images: Path, quality: str) -> None:
    """Forget Concept of the template after its run, cut out of ComfyUI's page."""
    file = images / "comfyui_node.png"
    with tempfile.TemporaryDirectory() as place, Server(NEWEST, Path(place) / "comfy") as server:
        with server.client() as client:
            client.post("/settings/Comfy.TutorialCompleted", True)
        folder = Path(place) / "browser"
        folder.mkdir()
        with Browser(folder, TALL) as browser:
            browser.goto(f"http://{server.address}/")
            browser.until(LOADED, 300)
            browser.evaluate(OPEN % PACK)
            widget = f"{NODE}.widgets.find(w => w.name === 'quality')"
            browser.evaluate(f"{widget}.value = {json.dumps(quality)}")
            browser.evaluate("app.queuePrompt(0)")
            browser.until(f"{NODE}.unlearnPanel?.root.querySelector('figure img')?.naturalWidth > 0", PATIENCE)
            browser.until(IDLE, PATIENCE)
            browser.evaluate(SHOW)
            browser.until(WHOLE, 30)
            box = browser.until(PLACE, 10)
            browser.screenshot(file)
    with Image.open(file) as whole:
        part = whole.crop(tuple(round(v) for v in box))
    part.save(file)


if __name__ == "__main__":
    name, folder, chosen = sys.argv[1:]
    if chromium() is None:
        sys.exit("Pictures of pages need Chromium. On Debian and Ubuntu: apt install chromium")
    {"tab": tab, "comfyui": comfyui}[name](Path(folder), chosen)
