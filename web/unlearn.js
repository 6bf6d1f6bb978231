// Hands what the server says of a run to the panels of the pack's nodes.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeOf, outerOf, panelOn, panelsOf, withoutPreview } from "./panel.js";

/** Nodes that have a panel from the start, and those that get one when they have something to say. */
const PANEL = new Set(["UnlearnForgetConcept", "UnlearnBeforeAfter"]);
const SPEAKING = new Set([...PANEL, "UnlearnSaveDelta", "UnlearnStack", "UnlearnApply", "UnlearnLoadDelta"]);
/** Milliseconds after the end of a run at which its rough picture is taken off. */
const LATE = [0, 500, 2000];
const STOPPED = "Stopped. Run goes on from here.";

/** Take the rough picture off, now and when one that is still being unpacked has come. */
function tidy(id, node) {
  for (const one of [node, outerOf(id)].filter(Boolean)) {
    for (const wait of LATE) setTimeout(() => withoutPreview(one), wait);
  }
}

app.registerExtension({
  name: "unlearn",

  setup() {
    const each = (id, call) => panelsOf(id).forEach(call);
    api.addEventListener("unlearn.progress", ({ detail }) => each(detail.node, (panel) => panel.progress(detail)));
    api.addEventListener("unlearn.note", ({ detail }) => each(detail.node, (panel) => panel.told(detail.text)));
    api.addEventListener("execution_interrupted", ({ detail }) => {
      each(detail?.node_id, (panel) => panel.ended(STOPPED));
      const node = nodeOf(detail?.node_id);
      if (node?.unlearnPanel) tidy(detail.node_id, node);
    });
    api.addEventListener("executed", ({ detail }) => {
      const node = nodeOf(detail?.node);
      const outer = outerOf(detail?.node);
      if (!SPEAKING.has(node?.type)) return;
      if (PANEL.has(node.type)) tidy(detail.node, node);
      if (outer && detail.output) panelOn(outer)?.finished(detail.output, detail.node);
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
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      executed?.apply(this, arguments);
      if (message?.text || message?.unlearn_before || this.unlearnPanel) panelOn(this)?.finished(message ?? {});
    };
  },
});
