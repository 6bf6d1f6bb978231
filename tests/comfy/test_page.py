"""ComfyUI's page in headless Chromium: workflows opened and queued, the curve drawn, the slider dragged."""

import json

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import Browser, chromium
from tests.comfy.server import PACK
from tests.comfy.sources import NEWEST, ROOT

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine"),
    # the page comes from a package of its own and is the same for all versions
    pytest.mark.parametrize("comfy", [NEWEST], indirect=True),
]

READY = "Boolean(window.app?.graph && window.app.canvas && document.querySelector('canvas'))"
NODE = "app.graph.nodes.find(n => n.type === 'UnlearnForgetConcept')"
SETTINGS = "app.graph.nodes.find(n => n.type === 'UnlearnForgetSettings')"
OPEN = """(async () => {
  const answer = await fetch(encodeURI('/api/workflow_templates/%s/Forget one concept.json'));
  await app.loadGraphData(await answer.json());
  return app.graph.nodes.length;
})()"""
LOAD = "app.loadGraphData(%s).then(() => app.graph.nodes.length)"
WIDGETS = "Object.fromEntries(%s.widgets.filter(w => w.name !== 'unlearn_panel').map(w => [w.name, w.value]))"
SENT = "app.graphToPrompt().then(p => p.output)"
ADD_SETTINGS = f"""(() => {{
  const settings = LiteGraph.createNode('UnlearnForgetSettings');
  app.graph.add(settings);
  settings.pos = [-500, 0];
  settings.connect(0, {NODE}, 'settings');
}})()"""
SHOW = f"""(() => {{
  const node = {NODE};
  app.canvas.ds.scale = 0.9;
  app.canvas.centerOnNode(node);
  app.canvas.setDirty(true, true);
}})()"""
CURVE = f"{NODE}.unlearnPanel.lines.forget.getAttribute('points')"
BOX = f"(b => [b.x, b.y, b.width, b.height])({NODE}.unlearnPanel.compare.getBoundingClientRect())"
WISH = {"anchor": "dog", "resolution": 64}
TRAINING = {
    "closed_form": False,
    "steps": 40,
    "batch": 2,
    "preservation_weight": 0.0,
    "sampling_steps": 2,
    "learning_rate": 1e-3,
}


@pytest.fixture(scope="module")
def window(comfy, tmp_path_factory):
    """The page of the server, without the templates that greet a newcomer."""
    with comfy.client() as page:
        page.post("/settings/Comfy.TutorialCompleted", True)
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.goto(f"http://{comfy.address}/")
        browser.until(READY, 300)
        yield browser


def fill(window, node, values):
    """Set widgets of a node (an expression)."""
    for name, value in values.items():
        window.evaluate(f"{node}.widgets.find(w => w.name === {name!r}).value = {json.dumps(value)}")


def test_an_old_workflow_opens_with_its_values(window, tmp_path):
    """Its Forget Concept had 25 widgets; what the node no longer has is in a Forget Settings above it."""
    old = json.loads((ROOT / "tests/comfy/old_workflow.json").read_text("utf-8"))
    assert window.evaluate(LOAD % json.dumps(old)) == len(old["nodes"]) + 1
    window.evaluate(SHOW)
    window.screenshot(tmp_path / "old.png")
    assert window.evaluate(WIDGETS % NODE) == {
        "concept": "banana",
        "anchor": "dog",
        "keep": "cat, fox",
        "kind": "object",
        "quality": "normal",
        "strength": 0.75,
        "seed": 5,
        "resolution": 64,
        "force": False,
    }
    settings = {
        "closed_form": False,
        "rank": 4,
        "overshoot": 0.25,
        "sampling_steps": 2,
        "guidance": 4.5,
        "steps": 40,
        "learning_rate": 0.003,
        "batch": 2,
        "layers": "cross",
        "forget_weight": 1.5,
        "keep_weight": 1.0,
        "drift_weight": 0.0002,
        "preservation_weight": 0.3,
        "latents_per_prompt": 2,
        "checkpointing": True,
        "memory": 1.5,
    }
    assert window.evaluate(WIDGETS % SETTINGS) == settings
    sent = window.evaluate(SENT)
    (number,) = [k for k, part in sent.items() if part["class_type"] == "UnlearnForgetSettings"]
    (forget,) = [part["inputs"] for part in sent.values() if part["class_type"] == "UnlearnForgetConcept"]
    assert sent[number]["inputs"] == settings and forget["settings"] == [number, 0] and forget["seed"] == 5
    assert set(forget) == {"model", "clip", "vae", "settings"} | set(window.evaluate(WIDGETS % NODE))

    saved = window.evaluate("app.graph.serialize()")
    assert window.evaluate(LOAD % json.dumps(saved)) == len(old["nodes"]) + 1, "saved anew, it opens as it is"
    assert window.evaluate(WIDGETS % SETTINGS) == settings


def test_an_old_workflow_with_the_usual_values_needs_no_settings_node(window):
    old = json.loads((ROOT / "tests/comfy/old_workflow.json").read_text("utf-8"))
    (forget,) = [n for n in old["nodes"] if n["type"] == "UnlearnForgetConcept"]
    usual = ["banana", "", "", "auto", 0, 300, 1.0, 0, 8, 0.004, 8, "kv", 1.0, -1.0, 2.0, 0.0001, 0.1, 0.0, True, 8, 1]
    forget["widgets_values"] = [*usual, 3.0, False, 0.0, False]
    assert window.evaluate(LOAD % json.dumps(old)) == len(old["nodes"])
    assert window.evaluate(WIDGETS % NODE)["quality"] == "quick"


def test_a_template_is_opened_run_and_looked_at(window, few_pictures, tmp_path):
    assert window.evaluate(OPEN % PACK) > 5
    window.evaluate(ADD_SETTINGS)
    fill(window, NODE, WISH)
    fill(window, SETTINGS, TRAINING)
    window.evaluate(SHOW)
    window.until(f"{NODE}.unlearnPanel.root.isConnected", 60)
    window.screenshot(tmp_path / "opened.png")

    window.evaluate("app.queuePrompt(0)")
    seen = [window.until(f"{CURVE} || ''", 600)]
    window.screenshot(tmp_path / "training.png")
    for _ in range(2):
        seen.append(window.until(f"({CURVE} !== {json.dumps(seen[-1])}) && {CURVE}", 300))
    lengths = [len(points.split()) for points in seen]
    assert lengths[0] < lengths[1] < lengths[2] <= TRAINING["steps"]

    window.until(f"{NODE}.unlearnPanel.after.naturalWidth > 0", 600)
    window.evaluate(SHOW)
    window.until(f"{NODE}.unlearnPanel.compare.getBoundingClientRect().height > 20", 30)
    window.screenshot(tmp_path / "finished.png")
    panel = f"{NODE}.unlearnPanel"
    below = f"{panel}.report.getBoundingClientRect().bottom - {panel}.root.getBoundingClientRect().bottom"
    window.until(f"({below}) <= 1", 30)  # its last line is not cut off
    assert "Pictures of other concepts read right" in window.evaluate(f"{NODE}.unlearnPanel.report.textContent")

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
