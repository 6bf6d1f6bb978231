"""A node's panel in ComfyUI's page: what a run, another workflow's run, a refusal and a new look at a tab do to it."""

import json

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import IN_A_BROWSER
from tests.comfy.page import NODE, OPEN
from tests.comfy.server import PACK
from tests.comfy.sources import NEWEST, ROOT

pytestmark = [
    pytest.mark.full,
    IN_A_BROWSER,
    pytest.mark.parametrize("comfy", [NEWEST], indirect=True),
]

STORE = "app.extensionManager.workflow"
API = "window.comfyAPI.api.api"
# An event as the server sends it, for the node of the open workflow where none is named.
EVENT = f"{API}.dispatchCustomEvent(%s, {{node: String({NODE}.id), ...%s}})"
PANEL = f"{NODE}.unlearnPanel"
REPORT = f"{PANEL}.report.checkVisibility() ? {PANEL}.report.textContent : ''"
REFUSAL = f"{PANEL}.refusal.textContent"
BAR = f"[{PANEL}.track.style.visibility, {PANEL}.bar.style.width]"
ENDED, AT_40, AT_60 = ["hidden", "0px"], ["visible", "40%"], ["visible", "60%"]
# What the server answers to the next workflows that are queued: status and body.
ANSWER = f"""(() => {{
  const api = {API}, answer = %s;
  window.ownFetch ??= api.fetchApi;
  api.fetchApi = function (path, ...rest) {{
    if (path !== '/prompt') return window.ownFetch.call(this, path, ...rest);
    return Promise.resolve(new Response(JSON.stringify(answer[1]), {{status: answer[0]}}));
  }};
}})()"""
RUN = "app.queuePrompt(0).then(() => 1, () => 0)"
NEXT = "app.extensionManager.command.execute('Workspace.NextOpenedWorkflow').then(() => 1)"
SENTENCE = "Name the concept to forget: it is empty."
LIGHTNESS = """(() => {
  const g = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = colour => {
    g.fillStyle = colour;
    g.fillRect(0, 0, 1, 1);
    const [r, b, c] = [...g.getImageData(0, 0, 1, 1).data].map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * b + 0.0722 * c;
  };
  const panel = %s.unlearnPanel, node = light(LiteGraph.NODE_DEFAULT_BGCOLOR);
  const words = [panel.values.forget, panel.values.keep, panel.refusal, panel.report];
  const faded = e => e ? Number(getComputedStyle(e).opacity) * (e === panel.root ? 1 : faded(e.parentElement)) : 1;
  return words.map(e => {
    const [low, high] = [light(getComputedStyle(e).color), node].sort((a, b) => a - b);
    return [faded(e), (high + 0.05) / (low + 0.05)];
  });
})()"""


def say(window, kind, **data):
    """Let the page hear an event of the server."""
    window.evaluate(EVENT % (json.dumps(kind), json.dumps(data)))


def progress(window, fraction, **data):
    """Let it hear how far a run is."""
    say(window, "unlearn.progress", phase="editing", message="forgetting", fraction=fraction, part=0, **data)


def answer(window, status=200, **body):
    """What is answered to the workflows that are queued from now on."""
    window.evaluate(ANSWER % json.dumps([status, body]))


def refusal(window):
    """Queue the open workflow and have it refused."""
    number = window.evaluate(f"String({NODE}.id)")
    extra = {"input_name": "concept"}
    reason = {
        "type": "custom_validation_failed",
        "details": f"concept - {SENTENCE}",
        "extra_info": extra,
        "message": "",
    }
    errors = {number: {"class_type": "UnlearnForgetConcept", "errors": [reason], "dependent_outputs": []}}
    answer(window, 400, error={"type": "prompt_outputs_failed_validation", "message": ""}, node_errors=errors)
    window.evaluate(RUN)
    window.until(f"{REFUSAL} === {json.dumps(SENTENCE)}", 30)


@pytest.fixture
def opened(window):
    """The page with a template in a new tab of its own; queued workflows are answered as a test wishes."""
    window.evaluate(OPEN % PACK)
    window.until(f"{NODE}.unlearnPanel.root.isConnected", 60)
    yield window
    window.evaluate(f"window.ownFetch && ({API}.fetchApi = window.ownFetch, 1)")


def shows(window, text):
    """Wait until the node's report is this."""
    window.until(f"({REPORT}) === {json.dumps(text)}", 20)


def tab(window, number):
    """Go on through the tabs until this one is open."""
    while window.evaluate(f"{STORE}.activeWorkflow.path") != number:
        window.evaluate(NEXT)


def test_a_report_is_there_again_when_nodes_are_made_anew(opened, tmp_path):
    window = opened
    first = window.evaluate(f"{STORE}.activeWorkflow.path")
    say(window, "executed", output={"text": ["of before"]}, prompt_id="none")
    shows(window, "of before")

    window.evaluate(f"""(() => {{
      const tracker = {STORE}.activeWorkflow.changeTracker;
      window.seen = {NODE};
      {NODE}.pos = [{NODE}.pos[0] + 50, {NODE}.pos[1]];
      tracker.captureCanvasState();
      return tracker.undo();
    }})()""")
    assert window.evaluate(f"{NODE} !== window.seen"), "undoing makes the nodes anew"
    shows(window, "of before")

    window.evaluate(OPEN % PACK)
    assert window.evaluate(REPORT) == ""
    tab(window, first)
    shows(window, "of before")
    window.screenshot(tmp_path / "again.png")


def test_a_run_of_before_is_looked_at_again(opened):
    """The page opens its workflow and then sets all outputs at once."""
    output = {"text": ["long ago"], "unlearn_before": [{}], "unlearn_after": [{}], "unlearn_prompts": ["a cat"]}
    opened.evaluate(f"app.nodeOutputs = {{[{NODE}.id]: {json.dumps(output)}}}")
    shows(opened, "long ago")
    assert opened.evaluate(f"{PANEL}.root.querySelectorAll('figure').length") == 1


def test_a_node_inside_a_subgraph_has_its_report_again(comfy, opened):
    """There the page keeps outputs under the subgraph's own name."""
    with comfy.client() as page:
        (key,) = [k for k, entry in page.get("/global_subgraphs").items() if PACK in entry["info"]["node_pack"]]
        blueprint = page.get(f"/global_subgraphs/{key}")["data"]
    opened.evaluate(f"app.loadGraphData({blueprint}).then(() => 1)")
    inner = "app.graph.nodes[0].subgraph.nodes.find(n => n.type === 'UnlearnForgetConcept')"
    output = json.dumps({"text": ["inside"]})
    opened.evaluate(f"app.nodeOutputs = {{[`${{app.graph.nodes[0].subgraph.id}}:${{{inner}.id}}`]: {output}}}")
    opened.until(f"{inner}.unlearnPanel.report.textContent === 'inside'", 20)


def test_a_run_of_another_workflow_leaves_this_ones_panel_alone(opened):
    window, run = opened, "11111111-1111-4111-8111-111111111111"
    first = window.evaluate(f"{STORE}.activeWorkflow.path")
    answer(window, prompt_id=run, number=1, node_errors={})
    assert window.evaluate(RUN) == 1
    progress(window, 0.4, prompt_id=run)
    assert window.evaluate(BAR) == AT_40

    window.evaluate(OPEN % PACK)
    say(window, "executed", output={"text": ["of this one"]}, prompt_id="unknown")
    shows(window, "of this one")
    say(window, "unlearn.note", text="of the other one", prompt_id=run)
    progress(window, 0.5, prompt_id=run)
    say(window, "executed", output={"text": ["of the other one"]}, prompt_id=run)
    number = window.evaluate(f"String({NODE}.id)")
    error = {"node_type": "UnlearnForgetConcept", "exception_message": "Out of memory.", "node_id": number}
    say(window, "execution_error", prompt_id=run, **error)
    say(window, "execution_interrupted", prompt_id=run, node_id=number)
    assert window.evaluate(f"[{REPORT}, {REFUSAL}, {PANEL}.doing.textContent]") == ["of this one", "", ""]
    assert window.evaluate(f"app.nodeOutputs[{NODE}.id].text[0]") == "of this one", "nor when its tab is opened again"
    assert window.evaluate(BAR) == ENDED

    progress(window, 0.6, prompt_id="of a page before it was reloaded")
    assert window.evaluate(BAR) == AT_60
    tab(window, first)
    shows(window, "of the other one")
    progress(window, 0.6, prompt_id=run)
    assert window.evaluate(BAR) == AT_60


def test_a_refusal_stays_while_the_run_before_it_goes_on(opened):
    window = opened
    progress(window, 0.4)
    refusal(window)
    assert window.evaluate(BAR) == AT_40
    progress(window, 0.6)
    assert window.evaluate(REFUSAL) == SENTENCE and window.evaluate(BAR) == AT_60
    say(window, "executed", output={"text": ["came meanwhile"]})
    shows(window, "came meanwhile")
    assert window.evaluate(REFUSAL) == SENTENCE and window.evaluate(BAR) == ENDED
    answer(window, prompt_id="22222222-2222-4222-8222-222222222222", number=1, node_errors={})
    window.evaluate(RUN)
    assert window.evaluate(f"[{REPORT}, {REFUSAL}]") == ["came meanwhile", ""]


def test_a_refusal_stands_in_place_of_what_was_before_and_a_new_run_takes_it_off(opened):
    window = opened
    say(window, "executed", output={"text": ["of before"]})
    refusal(window)
    assert window.evaluate(REPORT) == ""
    progress(window, 0.4)
    assert window.evaluate(f"[{REPORT}, {REFUSAL}]") == ["", ""]
    error = {"node_type": "UnlearnForgetConcept", "exception_message": "Out of memory."}
    say(window, "execution_error", node_id=window.evaluate(f"String({NODE}.id)"), **error)
    assert window.evaluate(REFUSAL) == "Out of memory." and window.evaluate(BAR) == ENDED


def test_the_panel_is_no_value_and_one_that_was_saved_is_left_out(opened):
    """Values are saved by their places: "" would become that of the next widget that a node gets."""
    window = opened
    values = "app.graph.serialize().nodes.find(n => n.type === 'UnlearnForgetConcept').widgets_values"
    widgets = f"{NODE}.widgets.filter(w => w.name !== 'unlearn_panel').length"
    assert window.evaluate(f"{values}.length") == window.evaluate(widgets)

    page = json.loads((ROOT / "example_workflows/Forget one concept.json").read_text("utf-8"))
    old = {"UnlearnForgetConcept": ["cat", "dog", "", "object", "quick", 0.75, 5, 64, ""], "UnlearnSaveDelta": ["", ""]}

    def value(node, widget):
        page["nodes"] = [{**n, "widgets_values": old.get(n["type"], n["widgets_values"])} for n in page["nodes"]]
        window.evaluate(f"app.loadGraphData({json.dumps(page)}).then(() => 1)")
        of = f"app.graph.nodes.find(n => n.type === {node!r})"
        return window.evaluate(f"{of}.widgets.find(w => w.name === {widget!r}).value")

    assert value("UnlearnForgetConcept", "force") is False
    assert value("UnlearnForgetConcept", "resolution") == 64
    assert value("UnlearnSaveDelta", "save") == "newest delta"
    old["UnlearnForgetConcept"] = ["cat", "dog", ""]
    assert value("UnlearnForgetConcept", "keep") == "", "a text may be empty"


@pytest.mark.parametrize("palette", ["light", "dark"])
def test_small_words_can_be_read_on_light_and_on_dark_nodes(opened, palette):
    window, light = opened, {"light": "#F5F5F5", "dark": "#353535"}
    setting = f"app.extensionManager.setting.set('Comfy.ColorPalette', '{palette}').then(() => 1)"
    window.evaluate(setting)
    try:
        window.until(f"LiteGraph.NODE_DEFAULT_BGCOLOR === '{light[palette]}'", 30)
        progress(window, 0.4, losses={"forget": 1.0, "keep": 0.5})
        found = window.evaluate(LIGHTNESS % NODE)
        assert all(opacity == 1 and contrast >= 4.5 for opacity, contrast in found), found
    finally:
        window.evaluate(setting.replace(palette, "dark"))
