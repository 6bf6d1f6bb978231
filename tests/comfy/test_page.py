"""ComfyUI's page in headless Chromium: workflows opened and queued, the curve drawn, the slider dragged."""

import json

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import IN_A_BROWSER
from tests.comfy.page import NODE, OPEN
from tests.comfy.server import PACK
from tests.comfy.sources import NEWEST, ROOT
from tests.legible import cut_texts
from unlearn_core import settings

pytestmark = [
    pytest.mark.full,
    IN_A_BROWSER,
    # the page comes from a package of its own and is the same for all versions
    pytest.mark.parametrize("comfy", [NEWEST], indirect=True),
]

SETTINGS = "app.graph.nodes.find(n => n.type === 'UnlearnForgetSettings')"
LOAD = "app.loadGraphData(%s).then(() => app.graph.nodes.length)"
WIDGETS = "Object.fromEntries(%s.widgets.filter(w => !w.name.startsWith('unlearn_')).map(w => [w.name, w.value]))"
SHOWN = "%s.widgets.filter(w => %s.isWidgetVisible(w)).map(w => w.name)"
TOASTS = "[...document.querySelectorAll('.p-toast-message')].map(t => t.textContent)"
SAYS = "%s.unlearnPanel?.report.textContent ?? ''"
REFUSAL = f"{NODE}.unlearnPanel?.refusal.textContent ?? ''"
RUN = "app.queuePrompt(0)"
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
FRAME = f"{NODE}.unlearnPanel.root.querySelector('.unlearn-frame')"
BOX = f"(b => [b.x, b.y, b.width, b.height])({FRAME}.getBoundingClientRect())"
PICTURES = f"({NODE}.unlearnPanel?.root.querySelector('figure img')?.naturalWidth ?? 0)"
WISH = {"anchor": "dog", "resolution": 64}
TRAINING = {
    "closed_form": False,
    "steps": 40,
    "batch": 2,
    "preservation_weight": 0.0,
    "sampling_steps": 2,
    "learning_rate": 1e-3,
}


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
    further = {
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
        "depth": "name",
        "scope": "named",
    }
    assert window.evaluate(WIDGETS % SETTINGS) == further
    assert "learning_rate" in window.evaluate(SHOWN % (SETTINGS, SETTINGS)), "settings that matter are not folded away"
    sent = window.evaluate(SENT)
    (number,) = [k for k, part in sent.items() if part["class_type"] == "UnlearnForgetSettings"]
    (forget,) = [part["inputs"] for part in sent.values() if part["class_type"] == "UnlearnForgetConcept"]
    assert sent[number]["inputs"] == further and forget["settings"] == [number, 0] and forget["seed"] == 5
    assert set(forget) == {"model", "clip", "vae", "settings"} | set(window.evaluate(WIDGETS % NODE))

    saved = window.evaluate("app.graph.serialize()")
    assert window.evaluate(LOAD % json.dumps(saved)) == len(old["nodes"]) + 1, "saved anew, it opens as it is"
    assert window.evaluate(WIDGETS % SETTINGS) == further


def test_an_old_workflow_with_the_usual_values_needs_no_settings_node(window):
    old = json.loads((ROOT / "tests/comfy/old_workflow.json").read_text("utf-8"))
    (forget,) = [n for n in old["nodes"] if n["type"] == "UnlearnForgetConcept"]
    usual = ["banana", "", "", "auto", 0, 300, 1.0, 0, 8, 0.004, 8, "kv", 1.0, -1.0, 2.0, 0.0001, 0.1, 0.0, True, 8, 1]
    forget["widgets_values"] = [*usual, 3.0, False, 0.0, False]
    assert window.evaluate(LOAD % json.dumps(old)) == len(old["nodes"])
    assert window.evaluate(WIDGETS % NODE)["quality"] == "quick"


def test_a_workflow_from_before_the_last_widget_opens_with_its_values(window):
    """Values are saved by their places alone."""
    page = json.loads((ROOT / "example_workflows/Forget one concept.json").read_text("utf-8"))
    (forget,) = [n for n in page["nodes"] if n["type"] == "UnlearnForgetConcept"]
    (save,) = [n for n in page["nodes"] if n["type"] == "UnlearnSaveDelta"]
    forget["widgets_values"] = ["cat", "dog", "fox", "object", "quick", 0.75, 5, 64]
    save["widgets_values"] = ["mine"]
    window.evaluate(LOAD % json.dumps(page))
    values = {"concept": "cat", "anchor": "dog", "keep": "fox", "kind": "object", "quality": "quick"}
    values |= {"strength": 0.75, "seed": 5, "resolution": 64, "force": False}
    assert window.evaluate(WIDGETS % NODE) == values
    saved = window.evaluate(WIDGETS % "app.graph.nodes.find(n => n.type === 'UnlearnSaveDelta')")
    assert saved == {"name": "mine", "save": "newest delta"}


def test_steps_suit_a_hand_and_what_only_training_needs_is_folded(window):
    window.evaluate(OPEN % PACK)
    window.evaluate(ADD_SETTINGS)
    for f in settings():
        if isinstance(f.default, float) and f.default and f.metadata["group"] != "request":
            step = window.evaluate(f"{SETTINGS}.widgets.find(w => w.name === {f.name!r}).options.step2")
            assert 0.01 <= step / abs(f.default) <= 0.25, f.name
    edit = [f.name for f in settings() if f.metadata["group"] == "edit"]
    assert window.evaluate(SHOWN % (SETTINGS, SETTINGS)) == [*edit, "unlearn_fold"]
    low = window.evaluate(f"{SETTINGS}.size[1]")
    window.evaluate(f"{SETTINGS}.widgets.find(w => w.name === 'unlearn_fold').callback()")
    assert len(window.evaluate(SHOWN % (SETTINGS, SETTINGS))) == window.evaluate(f"{SETTINGS}.widgets.length")
    assert window.evaluate(f"{SETTINGS}.size[1]") > low + 150
    values = window.evaluate("app.graph.serialize().nodes.find(n => n.type === 'UnlearnForgetSettings').widgets_values")
    assert len(values) == len(window.evaluate(WIDGETS % SETTINGS)), "the button is no value"
    (sent,) = [p for p in window.evaluate(SENT).values() if p["class_type"] == "UnlearnForgetSettings"]
    assert set(sent["inputs"]) == set(window.evaluate(WIDGETS % SETTINGS)), "folded ones are sent too"


def test_a_wrong_wish_is_said_on_the_node_and_in_a_toast(window, tmp_path):
    window.evaluate(OPEN % PACK)
    fill(window, NODE, {"concept": ""})
    window.evaluate(RUN)
    sentence = "Name the concept to forget: it is empty."
    window.until(f"({REFUSAL}) === {json.dumps(sentence)}", 30)
    window.until(f"{TOASTS}.some(t => t.includes({json.dumps(sentence)}))", 30)
    window.screenshot(tmp_path / "refused.png")
    assert sum(sentence in t for t in window.evaluate(TOASTS)) == 1

    fill(window, NODE, {"concept": "a photo of a cat on a sofa"})
    window.evaluate(RUN)
    window.until(f"({REFUSAL}).includes(\"which word is meant: 'cat' or 'sofa'\")", 30)


def test_what_fails_in_a_run_is_said_on_the_node_and_in_a_toast(window, tmp_path):
    """Words that come by a link cannot be known before."""
    window.evaluate(OPEN % PACK)
    window.evaluate(f"""(() => {{
      const text = LiteGraph.createNode('PrimitiveString');
      app.graph.add(text);
      text.widgets[0].value = '  ';
      text.connect(0, {NODE}, {NODE}.inputs.findIndex(i => i.name === 'concept'));
    }})()""")
    window.evaluate("app.extensionManager.toast.removeAll()")
    window.evaluate(RUN)
    sentence = "Name the concept to forget: it is empty."
    window.until(f"({REFUSAL}) === {json.dumps(sentence)}", 120)
    window.until(f"{TOASTS}.some(t => t.includes({json.dumps(sentence)}))", 30)
    window.screenshot(tmp_path / "failed.png")


def test_where_files_were_saved_is_said_on_the_node(comfy, window, tmp_path):
    window.evaluate(
        LOAD % json.dumps(json.loads((ROOT / "example_workflows/Stack saved deltas.json").read_text("utf-8")))
    )
    window.evaluate("""(() => {
      const [compare] = app.graph.nodes.filter(n => n.type === 'UnlearnBeforeAfter');
      app.graph.remove(compare);
      const save = LiteGraph.createNode('UnlearnSaveDelta');
      app.graph.add(save);
      app.graph.nodes.find(n => n.type === 'UnlearnStack').connect(0, save, 0);
      save.widgets.find(w => w.name === 'name').value = 'unlearn/both';
      save.widgets.find(w => w.name === 'save').value = 'each delta';
    })()""")
    window.evaluate(RUN)
    says = SAYS % "app.graph.nodes.find(n => n.type === 'UnlearnSaveDelta')"
    text = window.until(f"(({says}).includes('saved as')) && ({says})", 120)
    assert text.splitlines() == [
        "saved as unlearn/both_banana.safetensors",
        "saved as unlearn/both_cat.safetensors",
        f"in {comfy.models / 'loras'}",
    ]
    window.screenshot(tmp_path / "saved.png")


ADD_LOADER = """(() => {
  const [forget] = app.graph.nodes;
  const load = LiteGraph.createNode('UnlearnLoadDemoModel');
  app.graph.add(load);
  for (const slot of [0, 1, 2]) load.connect(slot, forget, slot);
})()"""


def test_the_subgraph_is_listed_and_is_one_node_with_our_labels(comfy, window, tmp_path):
    with comfy.client() as page:
        ours = [key for key, entry in page.get("/global_subgraphs").items() if PACK in entry["info"]["node_pack"]]
        assert len(ours) == 1
        blueprint = page.get(f"/global_subgraphs/{ours[0]}")["data"]
    window.evaluate(LOAD % blueprint)
    labels = window.evaluate("app.graph.nodes[0].widgets.map(w => w.label)")
    assert labels == ["Forget", "Draw instead", "Keep", "Quality", "Strength", "Name"]
    window.evaluate(ADD_LOADER)
    window.screenshot(tmp_path / "subgraph.png")
    sent = window.evaluate(SENT)
    kinds = {part["class_type"]: part["inputs"] for part in sent.values()}
    assert kinds.keys() == {"UnlearnLoadDemoModel", "UnlearnForgetConcept", "UnlearnSaveDelta"}
    assert (
        kinds["UnlearnForgetConcept"]["concept"] == "banana"
        and {"stack", "picture"} <= kinds["UnlearnSaveDelta"].keys()
    )


def test_the_app_is_a_form_without_a_graph(window, tmp_path):
    """Last but one, since it leaves the page as an app; the next workflow is a graph again."""
    page = json.loads((ROOT / "example_workflows/Forget.json").read_text("utf-8"))
    window.evaluate(f"app.loadGraphData({json.dumps(page)}, true, true, 'Forget').then(() => 1)")
    text = "document.body.innerText"
    window.until(f"['Draw instead', 'Keep', 'Quality', 'Name', 'Run'].every(t => {text}.includes(t))", 60)
    window.screenshot(tmp_path / "app.png")
    assert not window.evaluate("Boolean(document.querySelector('canvas')?.offsetParent)"), "the graph is seen"


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

    window.until(f"{PICTURES} > 0", 600)
    window.evaluate(SHOW)
    window.until(f"{NODE}.unlearnPanel.comparison.root.getBoundingClientRect().height > 20", 30)
    window.screenshot(tmp_path / "finished.png")
    panel = f"{NODE}.unlearnPanel"
    below = f"{panel}.report.getBoundingClientRect().bottom - {panel}.root.getBoundingClientRect().bottom"
    window.until(f"({below}) <= 1", 30)  # its last line is not cut off
    assert cut_texts(window, ".unlearn-panel") == []
    assert "Pictures of other concepts read right" in window.evaluate(f"{NODE}.unlearnPanel.report.textContent")
    # the run's rough picture does not stay below the finished ones
    window.until(f"{NODE}.widgets.at(-1).name === 'unlearn_panel' && !{NODE}.imgs", 30)

    before = window.evaluate("[...app.canvas.ds.offset, app.canvas.ds.scale]")
    x, y, width, height = window.evaluate(BOX)
    window.drag((x + 0.5 * width, y + height / 2), (x + 0.2 * width, y + height / 2))
    assert window.evaluate(f"Number({NODE}.unlearnPanel.comparison.slider.value)") == pytest.approx(20, abs=3)
    shown = window.evaluate(f"getComputedStyle({FRAME}.querySelectorAll('img')[1]).clipPath")
    assert float(shown.rstrip("%)").split()[-1]) == pytest.approx(20, abs=3), "before is on the left"
    window.screenshot(tmp_path / "dragged.png")
    assert window.evaluate("[...app.canvas.ds.offset, app.canvas.ds.scale]") == before, "the canvas moved too"
    # that a workflow was refused is an error of ComfyUI's, which passes through the pack
    ours = [p for p in window.problems if "unlearn" in p.lower() and "PromptExecutionError" not in p]
    assert not ours, "\n".join(ours)
