// Workflows from before Forget Settings: their Forget Concept had every setting as a widget of its own. On loading,
// values that Forget Concept still has go into its widgets, all others into a Forget Settings node above it.
// Others have the panel's value, "", behind those of a node's widgets, where there may be a newer widget by now.

import { app } from "../../scripts/app.js";
import { unfoldUsed } from "./folding.js";

const FORGET = "UnlearnForgetConcept";
const SETTINGS = "UnlearnForgetSettings";
/** Names of the old node's widgets in the order in which their values are saved. */
// prettier-ignore
const OLD_WIDGETS = [
  "concept", "anchor", "keep", "kind", "seed", "steps", "strength", "resolution", "rank", "learning_rate", "batch",
  "layers", "forget_weight", "overshoot", "keep_weight", "drift_weight", "guard_weight", "null_space", "closed_form",
  "sampling_steps", "latents_per_prompt", "guidance", "checkpointing", "memory", "check",
];
/** Room between the two nodes, with the title of the lower one. */
const GAP = 60;
/** [node, its old values by name] of nodes that still need a Forget Settings node. */
const waiting = [];

/** A saved node without the value of its panel. "" may be a text's own; no other widget has it. */
function withoutPanel(saved, widgets) {
  const values = saved.widgets_values;
  if (!Array.isArray(values) || values.at(-1) !== "") return saved;
  const last = widgets.filter((w) => w.serialize !== false)[values.length - 1];
  const isText = typeof last?.value === "string" && last.type !== "combo";
  return isText ? saved : { ...saved, widgets_values: values.slice(0, -1) };
}

/** {name: value} of an old node's saved values by today's names, null for those of today. */
function oldValues(saved) {
  if (!Array.isArray(saved) || saved.length < OLD_WIDGETS.length) return null;
  const values = Object.fromEntries(OLD_WIDGETS.map((name, i) => [name, saved[i]]));
  values.preservation_weight = values.guard_weight;
  values.quality = values.check === false ? "quick" : "normal";
  return values;
}

/** A Forget Settings node with the values that differ from its own, wired into `node`; none where none differs. */
function addSettings(node, values) {
  const settings = window.LiteGraph.createNode(SETTINGS);
  if (!settings || !node.graph) return;
  const changed = settings.widgets.filter((w) => values[w.name] != null && values[w.name] !== w.value);
  if (!changed.length) return;
  for (const widget of changed) widget.value = values[widget.name];
  unfoldUsed(settings);
  settings.pos = [node.pos[0], node.pos[1] - settings.size[1] - GAP];
  node.graph.add(settings);
  settings.connect(0, node, "settings");
}

app.registerExtension({
  name: "unlearn.old_workflows",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("Unlearn")) return;
    const configure = nodeType.prototype.configure;
    nodeType.prototype.configure = function (saved) {
      const values = nodeData.name === FORGET ? oldValues(saved.widgets_values) : null;
      if (!values) return configure.call(this, withoutPanel(saved, this.widgets ?? []));
      const widgets = this.widgets.filter((w) => w.name in values);
      const result = configure.call(this, { ...saved, widgets_values: widgets.map((w) => values[w.name]) });
      waiting.push([this, values]);
      return result;
    };
  },

  afterConfigureGraph() {
    for (const [node, values] of waiting.splice(0)) addSettings(node, values);
  },
});
