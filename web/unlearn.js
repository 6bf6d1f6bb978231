// Hands what the server says of a run to the panels of the pack's nodes.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeOf, panelOn, withoutPreview } from "./panel.js";

/** Nodes that have a panel from the start, and those that get one when they have something to say. */
const PANEL = new Set(["UnlearnForgetConcept", "UnlearnBeforeAfter"]);
const SPEAKING = new Set([...PANEL, "UnlearnSaveDelta", "UnlearnStack", "UnlearnApply", "UnlearnLoadDelta"]);
/** Milliseconds after the end of a run at which its rough picture is taken off. */
const LATE = [0, 500, 2000];
const STOPPED = "stopped; finished concepts stay in the cache";

app.registerExtension({
  name: "unlearn",

  setup() {
    api.addEventListener("unlearn.progress", ({ detail }) => nodeOf(detail.node)?.unlearnPanel?.progress(detail));
    api.addEventListener("unlearn.note", ({ detail }) => nodeOf(detail.node)?.unlearnPanel?.told(detail.text));
    api.addEventListener("execution_interrupted", ({ detail }) => nodeOf(detail?.node_id)?.unlearnPanel?.ended(STOPPED));
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
      // now, and when a picture that is still being unpacked has come
      if (PANEL.has(nodeData.name)) for (const wait of LATE) setTimeout(() => withoutPreview(this), wait);
      if (message?.text || message?.unlearn_before || this.unlearnPanel) panelOn(this)?.finished(message ?? {});
    };
  },
});
