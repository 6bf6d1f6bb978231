// Hands what the server says of a run to the panels of the pack's nodes.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeOf, panelOn, withoutPreview, wordsOf } from "./panel.js";
import { text } from "./texts.js";

/** Nodes that have a panel from the start, and those that get one when they have something to say. */
const PANEL = new Set(["UnlearnForgetConcept", "UnlearnBeforeAfter", "UnlearnBalance"]);
const SPEAKING = new Set([...PANEL, "UnlearnSaveDelta", "UnlearnStack", "UnlearnApply", "UnlearnLoadDelta"]);
/** Milliseconds after the end of a run at which its rough picture is taken off. */
const LATE = [0, 500, 2000];
/** Milliseconds after which an opened node is laid out. */
const SETTLED = 100;
const STOPPED = ["stopped", "Stopped. Run goes on from here."];

/** Milliseconds for which a toast stays. */
const SHOWN = 10000;

/** Take the rough picture off, now and when one that is still being unpacked has come. */
function tidy(node) {
  for (const wait of LATE) setTimeout(() => withoutPreview(node), wait);
}

/** The newer renderer gives a node that is opened the height of the node of that number in the workflow before it. */
function asSaved(node, size) {
  if (window.LiteGraph.vueNodesMode && node.graph && !node.unlearnPanel?.report.textContent) node.setSize(size);
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
    const panelOf = (id) => nodeOf(id)?.unlearnPanel;
    api.addEventListener("unlearn.progress", ({ detail }) => panelOf(detail.node)?.progress(detail));
    api.addEventListener("unlearn.note", ({ detail }) => panelOf(detail.node)?.told(detail.text));
    api.addEventListener("execution_interrupted", ({ detail }) => {
      panelOf(detail?.node_id)?.ended(text(...STOPPED));
      if (panelOf(detail?.node_id)) tidy(nodeOf(detail.node_id));
    });
    api.addEventListener("executed", ({ detail }) => {
      const node = nodeOf(detail?.node);
      if (!SPEAKING.has(node?.type)) return;
      if (PANEL.has(node.type)) tidy(node);
      announce(detail.node, node, detail.output ?? {});
    });
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
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      executed?.apply(this, arguments);
      if (message?.text || message?.unlearn_before || this.unlearnPanel) panelOn(this)?.finished(message ?? {});
    };
  },
});
