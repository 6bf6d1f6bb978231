// Hands what the server says of a run to the panels of the pack's nodes.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeNamed, nodeOf, outputName, panelOn, withoutPreview, wordsOf } from "./panel.js";
import { isElsewhere } from "./runs.js";
import { text } from "./texts.js";

/** Nodes that have a panel from the start, and those that get one when they have something to say. */
const PANEL = new Set(["UnlearnForgetConcept", "UnlearnBeforeAfter", "UnlearnBalance"]);
const SPEAKING = new Set([...PANEL, "UnlearnSaveDelta", "UnlearnStack", "UnlearnApply", "UnlearnLoadDelta"]);
/** Milliseconds after the end of a run at which its rough picture is taken off. */
const LATE = [0, 500, 2000];
/** Milliseconds after which an opened node is laid out. */
const SETTLED = 100;
const STOPPED = ["stopped", "Stopped. Run goes on from here."];
const ENDED = ["ended", "Stopped."];

/** Milliseconds for which a toast stays. */
const SHOWN = 10000;

/** Take the rough picture off, now and when one that is still being unpacked has come. */
function tidy(node) {
  for (const wait of LATE) setTimeout(() => withoutPreview(node), wait);
}

/** The newer renderer gives a node that is opened the height of the node of that number in the workflow before it. */
function asSaved(node, size) {
  if (!window.LiteGraph.vueNodesMode || !node.graph) return;
  node.setSize(size);
  // what it says may need more
  if (node.unlearnPanel?.report.textContent) node.unlearnPanel.resized();
}

/** Show on a node what it had to say at the end of a run. */
function show(node, message) {
  if (message.text || message.unlearn_before || node.unlearnPanel) panelOn(node)?.finished(message);
}

/** The page keeps the end of a run elsewhere as that of the node of the same number here: put this one's own back. */
function keepOwn(node) {
  const own = node.unlearnPanel?.shown;
  if (own) app.nodeOutputs[outputName(node)] = own;
  else delete app.nodeOutputs[outputName(node)];
}

/** The end of a node, in the workflow that is open or in another one. */
function ended({ node: id, display_node: shownAs, output, prompt_id: run }) {
  const node = nodeOf(shownAs || id);
  if (!SPEAKING.has(node?.type)) return;
  if (PANEL.has(node.type)) tidy(node);
  if (isElsewhere(run)) return keepOwn(node);
  show(node, output ?? {});
  announce(id, node, output ?? {});
}

/** Say in a toast what a node has to say where its panel is out of sight: in a subgraph, and in the form of an app. */
function announce(id, node, message) {
  const outer = String(id).includes(":") ? nodeOf(String(id).split(":")[0]) : null;
  const words = wordsOf(message);
  if (!words || !(outer || app.graph.extra?.linearMode)) return;
  app.extensionManager?.toast?.add?.({ severity: "info", summary: (outer ?? node).title, detail: words, life: SHOWN });
}

app.registerExtension({
  name: "unlearn",

  setup() {
    const panelOf = (id, run) => (isElsewhere(run) ? null : nodeOf(id)?.unlearnPanel);
    api.addEventListener("unlearn.progress", ({ detail }) => panelOf(detail.node, detail.prompt_id)?.progress(detail));
    api.addEventListener("unlearn.note", ({ detail }) => panelOf(detail.node, detail.prompt_id)?.told(detail.text));
    api.addEventListener("execution_interrupted", ({ detail }) => {
      const panel = panelOf(detail?.node_id, detail?.prompt_id);
      panel?.ended(text(...(panel.goesOn ? STOPPED : ENDED)));
      if (panel) tidy(nodeOf(detail.node_id));
    });
    api.addEventListener("executed", ({ detail }) => detail && ended(detail));
  },

  /** The page makes all nodes anew when a tab is opened again, a change is undone or a run of before is looked at. */
  onNodeOutputsUpdated(outputs) {
    for (const [name, output] of Object.entries(outputs ?? {})) {
      const node = nodeNamed(name);
      if (SPEAKING.has(node?.type) && (output?.text || output?.unlearn_before)) show(node, output);
    }
  },

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!SPEAKING.has(nodeData.name)) return;
    const created = nodeType.prototype.onNodeCreated;
    nodeType.prototype.onNodeCreated = function () {
      const result = created?.apply(this, arguments);
      if (PANEL.has(nodeData.name)) panelOn(this);
      return result;
    };
    const configured = nodeType.prototype.onConfigure;
    nodeType.prototype.onConfigure = function (saved) {
      configured?.apply(this, arguments);
      if (saved?.size && PANEL.has(nodeData.name)) setTimeout(() => asSaved(this, [saved.size[0], saved.size[1]]), SETTLED);
    };
  },
});
