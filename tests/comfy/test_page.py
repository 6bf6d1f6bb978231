"""ComfyUI's page in headless Chromium: a template opened and queued, the curve drawn, the slider dragged."""

import json

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import Browser, chromium
from tests.comfy.server import PACK
from tests.comfy.workflows import QUICK

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine"),
]

FULL = "0.30.0"
"""The page comes from a package of its own and is the same for all versions."""
READY = "Boolean(window.app?.graph && window.app.canvas && document.querySelector('canvas'))"
NODE = "app.graph.nodes.find(n => n.type === 'UnlearnForgetConcept')"
OPEN = """(async () => {
  const answer = await fetch('/api/workflow_templates/%s/unlearn_forget_one.json');
  await app.loadGraphData(await answer.json());
  return app.graph.nodes.length;
})()"""
SHOW = f"""(() => {{
  const node = {NODE};
  app.canvas.ds.scale = 0.9;
  app.canvas.centerOnNode(node);
  app.canvas.setDirty(true, true);
}})()"""
CURVE = f"{NODE}.unlearnPanel.lines.forget.getAttribute('points')"
BOX = f"(b => [b.x, b.y, b.width, b.height])({NODE}.unlearnPanel.compare.getBoundingClientRect())"


@pytest.fixture
def window(comfy, page, tmp_path):
    """The page of the server, without the templates that greet a newcomer."""
    if comfy.version != FULL:
        pytest.skip(f"the page is the same in all versions: {FULL}")
    page.post("/settings/Comfy.TutorialCompleted", True)
    with Browser(tmp_path) as browser:
        browser.goto(f"http://{comfy.address}/")
        browser.until(READY, 300)
        yield browser


def test_a_template_is_opened_run_and_looked_at(window, tmp_path):
    assert window.evaluate(OPEN % PACK) > 5
    wish = {**QUICK, "steps": 40, "learning_rate": 1e-3}
    for name, value in wish.items():
        window.evaluate(f"{NODE}.widgets.find(w => w.name === {name!r}).value = {json.dumps(value)}")
    window.evaluate(SHOW)
    window.until(f"{NODE}.unlearnPanel.root.isConnected", 60)
    window.screenshot(tmp_path / "opened.png")

    window.evaluate("app.queuePrompt(0)")
    seen = [window.until(f"{CURVE} || ''", 600)]
    window.screenshot(tmp_path / "learning.png")
    for _ in range(2):
        seen.append(window.until(f"({CURVE} !== {json.dumps(seen[-1])}) && {CURVE}", 300))
    lengths = [len(points.split()) for points in seen]
    assert lengths[0] < lengths[1] < lengths[2] <= wish["steps"]

    window.until(f"{NODE}.unlearnPanel.after.naturalWidth > 0", 600)
    window.evaluate(SHOW)
    window.until(f"{NODE}.unlearnPanel.compare.getBoundingClientRect().height > 20", 30)
    window.screenshot(tmp_path / "finished.png")
    assert "others read right" in window.evaluate(f"{NODE}.unlearnPanel.report.textContent")

    before = window.evaluate("[...app.canvas.ds.offset, app.canvas.ds.scale]")
    x, y, width, height = window.evaluate(BOX)
    window.drag((x + 0.5 * width, y + height / 2), (x + 0.2 * width, y + height / 2))
    assert window.evaluate(f"Number({NODE}.unlearnPanel.slider.value)") == pytest.approx(20, abs=3)
    shown = window.evaluate(f"{NODE}.unlearnPanel.after.style.clipPath")
    assert float(shown.split()[1].rstrip("%")) == pytest.approx(80, abs=3)
    window.screenshot(tmp_path / "dragged.png")
    assert window.evaluate("[...app.canvas.ds.offset, app.canvas.ds.scale]") == before, "the canvas moved too"
    ours = [p for p in window.problems if "unlearn" in p.lower()]
    assert not ours, "\n".join(ours)
