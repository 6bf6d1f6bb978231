// The drawing on a node: phase, time left and a loss curve while it works, then before against after and what it says.

import { app } from "../../scripts/app.js";
import { Comparison } from "./comparison.js";
import { element, shape } from "./elements.js";
import { phaseText, text } from "./texts.js";

const CURVE = { width: 300, height: 64 };
/** A colour as small text has to be, which can be read on the page's light and on its dark. */
const readable = (colour) => `color-mix(in srgb, ${colour} 60%, var(--input-text, #ccc))`;
const COLOURS = { forget: readable("#e0605a"), keep: readable("#4fae82") };
const WORDS = { forget: ["forgetting", "forgetting"], keep: ["keeping", "keeping the rest"] };
/** Of a sentence that says why a node did not run. */
const REFUSED = readable("#ff3b30");
/** Milliseconds after which a new panel is laid out. */
const SETTLED = 300;
const HEIGHTS = { idle: 26, learning: 124 };

/** "45 s", "3 min 5 s". */
function duration(seconds) {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Points of a curve through `values` in the box of CURVE, `top` at its upper edge. */
function points(values, top) {
  const step = CURVE.width / Math.max(1, values.length - 1);
  return values.map((v, i) => `${(i * step).toFixed(1)},${(CURVE.height * (1 - v / top)).toFixed(1)}`).join(" ");
}

/** What a node says at its end. */
export function wordsOf(message) {
  const folders = (message.unlearn_folder ?? []).map((folder) => `${text("in", "in")} ${folder}`);
  return [...(message.text ?? []), ...folders].join("\n");
}

export class Panel {
  /** resized: called when the panel needs another height. */
  constructor(resized) {
    this.resized = resized;
    this.height = HEIGHTS.idle;
    const small = { font: "11px sans-serif", color: "var(--input-text, #ccc)" };
    const box = { width: "100%", boxSizing: "border-box", overflow: "hidden", position: "relative" };
    this.root = element("div", { ...small, ...box });
    this.root.className = "unlearn-panel";
    const head = element("div", { display: "flex", justifyContent: "space-between", gap: "8px" }, this.root);
    this.doing = element("span", {}, head);
    this.left = element("span", { whiteSpace: "nowrap", opacity: "0.75" }, head);
    this.track = element("div", { height: "3px", margin: "3px 0", background: "#8883" }, this.root);
    this.bar = element("div", { height: "100%", width: "0", background: COLOURS.keep }, this.track);
    this.makeCurves();
    const words = { whiteSpace: "pre-wrap", marginTop: "4px", userSelect: "text" };
    this.refusal = element("div", { ...words, color: REFUSED }, this.root);
    this.results = element("div", {}, this.root);
    this.comparison = new Comparison(this.results, () => this.fit());
    this.report = element("div", words, this.results);
    this.reset();
    // what comes to an end outside the window has no height until it is seen
    const seen = new ResizeObserver(() => this.fit());
    for (const part of [this.refusal, this.comparison.root, this.report]) seen.observe(part);
  }

  makeCurves() {
    this.chart = element("div", { display: "none" }, this.root);
    const box = { viewBox: `0 0 ${CURVE.width} ${CURVE.height}`, preserveAspectRatio: "none" };
    this.curves = shape("svg", box, this.chart);
    Object.assign(this.curves.style, { width: "100%", height: `${CURVE.height}px`, display: "block" });
    const legend = element("div", { display: "flex", gap: "12px" }, this.chart);
    this.lines = {};
    this.values = {};
    for (const [name, stroke] of Object.entries(COLOURS)) {
      const line = { fill: "none", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" };
      this.lines[name] = shape("polyline", line, this.curves);
      this.lines[name].style.stroke = stroke;
      this.values[name] = element("span", { color: stroke }, legend);
    }
    this.step = element("span", { marginLeft: "auto", opacity: "0.75" }, legend);
  }

  reset() {
    this.losses = { forget: [], keep: [] };
    this.phase = "";
    this.chart.style.display = "none";
    this.ended("");
  }

  /** What an earlier run has given is not to stand under the words of this one. */
  showNothing() {
    this.comparison.hide();
    this.report.textContent = "";
    this.write("");
  }

  /** Put a sentence where it says why the node did not run, "" for none. */
  write(sentence) {
    this.refusal.textContent = sentence;
    this.results.style.display = "";
  }

  progress(report) {
    // a second run of the same node starts at zero again, and so does the curve of the next concept of a list
    if (report.fraction < this.fraction || report.part !== this.part) {
      this.reset();
      if (!report.part) this.showNothing();
    }
    this.track.style.visibility = "visible";
    this.fraction = report.fraction;
    this.part = report.part;
    this.goesOn = report.goes_on;
    if (report.message) this.phase = phaseText(report);
    this.doing.textContent = this.phase || phaseText(report);
    const left = report.seconds_left == null ? "" : `, ${duration(report.seconds_left)} ${text("left", "left")}`;
    this.left.textContent = `${Math.round(100 * report.fraction)} %${left}`;
    this.bar.style.width = `${100 * report.fraction}%`;
    if (report.losses?.forget !== undefined) this.plot(report.losses);
    this.fit();
  }

  plot(losses) {
    for (const [name, values] of Object.entries(this.losses)) values.push(losses[name]);
    const top = Math.max(...this.losses.forget, ...this.losses.keep, 1e-12);
    for (const [name, values] of Object.entries(this.losses)) {
      this.lines[name].setAttribute("points", points(values, top));
      this.values[name].textContent = `${text(...WORDS[name])} ${values.at(-1).toExponential(1)}`;
    }
    this.step.textContent = `${text("step", "step")} ${this.losses.forget.length}`;
    this.chart.style.display = "block";
  }

  ended(words) {
    this.fraction = 0;
    this.part = null;
    this.track.style.visibility = "hidden";
    this.doing.textContent = words;
    this.left.textContent = "";
    this.bar.style.width = "0";
  }

  /** Say why the node will not run, while an earlier run may still be on; "" takes it away again. */
  refused(sentence) {
    this.write(sentence);
    // in the place of an earlier run's results, which come back when it is taken away
    if (sentence && this.part === null) this.results.style.display = "none";
    this.fit();
  }

  /** Say why the run has ended in this node. */
  failed(sentence) {
    this.ended("");
    this.showNothing();
    this.refused(sentence);
  }

  /** Say before the work begins how the request was understood. */
  told(sentences) {
    this.reset();
    this.showNothing();
    this.part = 0;
    this.report.textContent = sentences;
    this.fit();
  }

  finished(message) {
    this.shown = message;
    this.ended("");
    this.results.style.display = "";
    this.report.textContent = wordsOf(message);
    const { unlearn_before: before, unlearn_after: after, unlearn_prompts: prompts } = message;
    if (before?.length) this.comparison.show(before, after, prompts);
    else this.comparison.hide();
    this.fit();
  }

  /** Ask for the height that the contents need now. */
  fit() {
    let height = this.chart.style.display === "none" ? HEIGHTS.idle : HEIGHTS.learning;
    height = Math.max(height, ...[...this.root.children].map((part) => part.offsetTop + part.offsetHeight));
    if (Math.abs(height - this.height) < 4) return;
    this.height = height;
    this.resized();
  }
}

/** A node by its id in a run, "4", or "7:4" for node 4 inside subgraph node 7. */
export function nodeOf(id) {
  let graph = app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById?.(Number(part)) ?? graph?.getNodeById?.(part);
    graph = node?.subgraph;
  }
  return node;
}

/** The name under which the page keeps a node's outputs: "4", or "UUID:4" for node 4 of the subgraph of that id. */
export function outputName(node) {
  return node.graph && node.graph !== app.graph ? `${node.graph.id}:${node.id}` : `${node.id}`;
}

/** A node by that name. */
export function nodeNamed(name) {
  const [outer, id] = String(name).split(":");
  const subgraph = app.graph.subgraphs?.get(outer);
  return subgraph ? subgraph.getNodeById?.(Number(id)) : nodeOf(name);
}

/** The page's store of rough pictures; its newer renderer shows what is there, whatever `app` has. */
function roughPictures() {
  return document.getElementById("vue-app")?.__vue_app__?.config.globalProperties.$pinia?._s?.get("nodeOutput");
}

/** Take the run's last rough picture off a node: the page would keep it below the finished ones. */
export function withoutPreview(node) {
  const name = outputName(node);
  roughPictures()?.revokePreviewsByLocatorId?.(name);
  delete app.nodePreviewImages?.[name];
  node.imgs = undefined;
  const at = node.widgets?.findIndex((widget) => widget.name === "$$canvas-image-preview") ?? -1;
  if (at < 0) return;
  node.widgets[at].onRemove?.();
  node.widgets.splice(at, 1);
  node.setSize([node.size[0], node.computeSize()[1]]);
}

/** The node's panel, made now where it has none yet. */
export function panelOn(node) {
  if (!node.unlearnPanel && node.addDOMWidget) addPanel(node);
  return node.unlearnPanel;
}

function addPanel(node) {
  const panel = new Panel(() => {
    const [, height] = node.computeSize();
    // a node that somebody has drawn larger stays so; else it gives back what the panel no longer needs
    const own = node.size[1] > (panel.asked ?? 0) + 1 ? node.size[1] : 0;
    panel.asked = height;
    // what it says is set in as many lines as its width takes: a wider node would lie on the one beside it
    node.setSize([node.size[0], Math.max(height, own)]);
    node.setDirtyCanvas?.(true, true);
  });
  node.unlearnPanel = panel;
  const size = { getMinHeight: () => panel.height, margin: 4 };
  const widget = node.addDOMWidget("unlearn_panel", "unlearn", panel.root, { serialize: false, ...size });
  // the option keeps it out of what is run, this out of what is saved
  widget.serialize = false;
  // what is written before the page has laid it out has no height yet
  setTimeout(() => panel.fit(), SETTLED);
}
