// The classic renderer shows every widget, also those that ComfyUI marks as advanced and folds away elsewhere. Forget
// Settings folds its settings of the training there too, with a button that shows them.

import { app } from "../../scripts/app.js";
import { text } from "./texts.js";

const SETTINGS = "UnlearnForgetSettings";
const LABELS = {
  true: ["hideTraining", "Hide training settings"],
  false: ["showTraining", "Show training settings"],
};
/** The labels need more room than ComfyUI gives the node. */
const WIDTH = 380;

/** Fold or unfold the node. */
export function unfold(node, shown) {
  node.showAdvanced = shown;
  if (node.unlearnFold) node.unlearnFold.label = text(...LABELS[Boolean(shown)]);
  if (!window.LiteGraph.vueNodesMode) {
    // there the page gives a node the height of what it shows
    const [width, height] = node.computeSize();
    node.setSize([Math.max(WIDTH, width, node.size[0]), height]);
  }
  node.setDirtyCanvas?.(true, true);
}

function fold(node) {
  const folded = node.widgets.filter((w) => w.options?.advanced);
  if (!folded.length) return;
  node.unlearnUsual = folded.map((w) => [w, w.value]);
  // as advanced ones they would not be shown either, but the node would keep the room for them
  const hidden = { get: () => !node.showAdvanced && !window.LiteGraph.vueNodesMode, set() {}, configurable: true };
  for (const widget of folded) Object.defineProperty(widget, "hidden", hidden);
  // the other renderer folds them by itself, with a button of its own
  const options = { serialize: false, canvasOnly: true };
  node.unlearnFold = node.addWidget("button", "unlearn_fold", null, () => unfold(node, !node.showAdvanced), options);
  node.unlearnFold.serialize = false;
  unfold(node, false);
  // the other renderer gives a node at least this height, and more where its contents need it
  if (window.LiteGraph.vueNodesMode) node.setSize([Math.max(WIDTH, node.size[0]), 0]);
}

/** Whether a folded setting has another value than it usually has, or comes from another node. */
function isUsed(node) {
  const linked = new Set((node.inputs ?? []).filter((i) => i.widget && i.link != null).map((i) => i.widget.name));
  return (node.unlearnUsual ?? []).some(([widget, usual]) => widget.value !== usual || linked.has(widget.name));
}

/** Show the folded settings where one of them matters. */
export function unfoldUsed(node) {
  if (isUsed(node)) unfold(node, true);
}

app.registerExtension({
  name: "unlearn.folding",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== SETTINGS) return;
    const created = nodeType.prototype.onNodeCreated;
    nodeType.prototype.onNodeCreated = function () {
      const result = created?.apply(this, arguments);
      fold(this);
      return result;
    };
    const configured = nodeType.prototype.onConfigure;
    nodeType.prototype.onConfigure = function () {
      configured?.apply(this, arguments);
      unfoldUsed(this);
    };
  },
});
