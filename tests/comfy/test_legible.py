"""ComfyUI's page in headless Chromium, in both renderers: no text of ours is cut off, no node lies on another.

With `--all` only; a minute and a half.
"""

import json
import time

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import IN_A_BROWSER
from tests.comfy.page import READY
from tests.comfy.server import PACK
from tests.comfy.sources import NEWEST, ROOT
from tests.comfy.templates import NAMES
from tests.legible import cut_texts

pytestmark = [
    pytest.mark.full,
    IN_A_BROWSER,
    pytest.mark.parametrize("comfy", [NEWEST], indirect=True),
]

NODES = sorted(file.stem for file in (ROOT / "web" / "docs").glob("*.md"))
COLUMNS = 4
ADD = """(() => {
  app.graph.clear();
  %s.forEach((type, i) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [(i %% %d) * 420, Math.floor(i / %d) * 600];
  });
  return app.graph.nodes.length;
})()"""
OPEN = """fetch(encodeURI('/api/workflow_templates/%s/%s.json')).then(a => a.json())
  .then(page => app.loadGraphData(page)).then(() => app.graph.nodes.length)"""
LOOK = "app.canvas.ds.scale = 0.7; app.canvas.ds.offset = [120 + Math.random(), 120]; app.canvas.setDirty(true, true)"
STATIC = "(() => { %s })()"
# What the canvas writes while it is drawn once.
WRITTEN = """(async () => {
  const own = CanvasRenderingContext2D.prototype.fillText, found = new Set();
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    found.add(String(text));
    return own.call(this, text, ...rest);
  };
  app.canvas.setDirty(true, true);
  await new Promise(done => setTimeout(done, 500));
  CanvasRenderingContext2D.prototype.fillText = own;
  return [...found];
})()"""
# Pairs of nodes that cover more than a few pixels of each other, by their boxes as they are drawn.
OVERLAPS = """(() => {
  const boxes = app.graph.nodes.map(n => [n.title, ...n.boundingRect]);
  const over = (a, b) => Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]) > 4
    && Math.min(a[2] + a[4], b[2] + b[4]) - Math.max(a[2], b[2]) > 4;
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => over(a, b)).map(b => `${a[0]} / ${b[0]}`));
})()"""
PANEL = "document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s.get('rightSidePanel')"
INFO = f"app.canvas.selectItems([app.graph.nodes.find(n => n.type === '%s')]); {PANEL}.openPanel('info')"
CLOSE = f"{PANEL}.closePanel()"
HELP = ".node-help-content"
THERE = "document.querySelectorAll('.lg-node').length >= app.graph.nodes.length"


@pytest.fixture(scope="module", params=["classic", "newer"])
def renderer(comfy, window, request):
    """The page in one of ComfyUI's renderers of nodes; afterwards in the classic one."""

    def use(newer):
        with comfy.client() as client:
            client.post("/settings/Comfy.VueNodes.Enabled", newer)
        window.evaluate("window.left = true")
        window.goto(f"http://{comfy.address}/")
        window.until(f"!window.left && {READY}", 300)
        window.until(f"Boolean(window.LiteGraph.vueNodesMode) === {json.dumps(newer)}", 60)

    use(request.param == "newer")
    yield request.param
    use(False)


def cut(window, renderer):
    """Texts on nodes in view that are cut off."""
    window.resize(1900, 1400)
    window.evaluate(STATIC % LOOK)
    if renderer == "newer":
        # it leaves out what it takes to be outside the window, which it looks at when the view moves
        window.until(STATIC % f"{LOOK}; return {THERE}", 60)
        time.sleep(1)  # nodes take their height
        return cut_texts(window, ".lg-node")
    written = window.evaluate(WRITTEN)
    assert len(written) > 10, "nothing is drawn"
    return [text for text in written if "…" in text or "..." in text]


def test_new_nodes_are_large_enough_for_their_words(window, renderer):
    assert window.evaluate(ADD % (json.dumps(NODES), COLUMNS, COLUMNS)) == len(NODES)
    assert cut(window, renderer) == []
    kind = "app.graph.nodes.find(n => n.type === 'UnlearnLoadDemoModel').widgets[0]"
    window.evaluate(f"{kind}.value = {kind}.options.values.at(-1)")
    assert cut(window, renderer) == []


@pytest.mark.parametrize("name", NAMES)
def test_templates_can_be_read_and_nothing_overlaps(window, renderer, name):
    assert window.evaluate(OPEN % (PACK, name)) > 3
    assert cut(window, renderer) == []
    assert window.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("width", [1280, 900])
def test_help_pages_fit_into_their_panel(window, renderer, width):
    if renderer == "classic":
        pytest.skip("the panel is the same in both")
    window.resize(width, 900)
    window.evaluate(ADD % (json.dumps(NODES), COLUMNS, COLUMNS))
    for node in NODES:
        window.evaluate(STATIC % (INFO % node))
        first = (ROOT / "web" / "docs" / f"{node}.md").read_text("utf-8").splitlines()[0].removeprefix("# ")
        window.until(f"document.querySelector('{HELP} h1')?.innerText === {json.dumps(first)}", 30)
        assert cut_texts(window, HELP) == [], node
    window.evaluate(STATIC % CLOSE)


def test_a_workflow_opens_with_its_own_sizes(window, renderer):
    """The newer renderer gave a node the height of the node of the same number in the workflow before it."""
    size = "app.graph.nodes.find(n => n.type === 'UnlearnForgetConcept').size[1]"
    heights = []
    for grown in (1500, 0):
        window.evaluate(OPEN % (PACK, "Forget one concept"))
        cut(window, renderer)
        heights.append(window.evaluate(size))
        node = size.removesuffix(".size[1]")
        window.evaluate(f"{grown} && {node}.setSize([360, {grown}])")
        time.sleep(1)
    assert heights[0] == heights[1]


def test_a_report_that_comes_back_with_its_tab_is_not_cut_off(window, renderer):
    """Its node is made anew, with the size that was saved."""
    panel = "app.graph.nodes.find(n => n.type === 'UnlearnForgetConcept').unlearnPanel"
    whole = f"{panel}.report.offsetHeight > 100 && {panel}.report.getBoundingClientRect().bottom"
    whole += f" <= {panel}.root.getBoundingClientRect().bottom + 1"
    window.evaluate(OPEN % (PACK, "Forget one concept"))
    output = json.dumps({"text": ["\n".join(f"line {n}" for n in range(12))]})
    window.evaluate(STATIC % LOOK)
    window.evaluate(f"app.nodeOutputs = {{[app.graph.nodes.find(n => n.unlearnPanel).id]: {output}}}")
    window.until(whole, 20)
    path = window.evaluate("app.extensionManager.workflow.activeWorkflow.path")
    window.evaluate(OPEN % (PACK, "Stack saved deltas"))
    while window.evaluate("app.extensionManager.workflow.activeWorkflow.path") != path:
        window.evaluate("app.extensionManager.command.execute('Workspace.NextOpenedWorkflow').then(() => 1)")
    time.sleep(1)  # nodes take their height
    window.until(whole, 20)
