// What the nodes show on themselves: loss curve, phase and time left while they learn, a before/after slider afterwards.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const COMPARING = new Set(["UnlearnForgetConcept", "UnlearnBeforeAfter"]);
const SVG = "http://www.w3.org/2000/svg";
const CURVE = { width: 300, height: 64 };

function element(tag, style, parent) {
  const made = document.createElement(tag);
  Object.assign(made.style, style);
  parent?.append(made);
  return made;
}

/** One line for what the job is doing: "training, 42 %, 31 s left". */
function inWords(report) {
  const left = report.seconds_left == null ? "" : `, ${Math.ceil(report.seconds_left)} s left`;
  return `${report.message || report.phase}, ${Math.round(100 * report.fraction)} %${left}`;
}

/** Points of a curve through `values` in the box of CURVE, the largest value at its top. */
function points(values) {
  const top = Math.max(...values, 1e-12);
  const step = CURVE.width / Math.max(1, values.length - 1);
  return values.map((v, i) => `${(i * step).toFixed(1)},${(CURVE.height * (1 - v / top)).toFixed(1)}`).join(" ");
}

class Panel {
  constructor() {
    this.root = element("div", { width: "100%", color: "var(--input-text, #ccc)", font: "12px sans-serif" });
    this.line = element("div", { minHeight: "16px" }, this.root);
    this.bar = element("div", { height: "4px", width: "0", background: "#4a8", borderRadius: "2px" }, this.root);
    this.curves = document.createElementNS(SVG, "svg");
    this.curves.setAttribute("viewBox", `0 0 ${CURVE.width} ${CURVE.height}`);
    this.curves.style.width = "100%";
    this.curves.style.display = "none";
    this.lines = { forget: this.curve("#e66"), keep: this.curve("#4a8") };
    this.root.append(this.curves);
    this.compare = element("div", { position: "relative", display: "none", overflow: "hidden" }, this.root);
    this.before = element("img", { width: "100%", display: "block" }, this.compare);
    this.after = element("img", { width: "100%", position: "absolute", left: "0", top: "0" }, this.compare);
    this.slider = element("input", { width: "100%", display: "none" }, this.root);
    Object.assign(this.slider, { type: "range", min: 0, max: 100, value: 50, title: "left: after, right: before" });
    this.slider.addEventListener("input", () => this.cut());
    this.reset();
  }

  curve(colour) {
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("fill", "none");
    line.setAttribute("stroke", colour);
    line.setAttribute("stroke-width", "1.5");
    this.curves.append(line);
    return line;
  }

  reset() {
    this.losses = { forget: [], keep: [] };
  }

  progress(report) {
    if (report.phase === "sampling" && report.message) this.reset();
    if (report.message) this.doing = report.message;
    this.line.textContent = inWords({ ...report, message: this.doing });
    this.bar.style.width = `${100 * report.fraction}%`;
    for (const [name, values] of Object.entries(this.losses)) {
      if (report.losses?.[name] === undefined) continue;
      values.push(report.losses[name]);
      this.lines[name].setAttribute("points", points(values));
      this.curves.style.display = "block";
    }
  }

  finished(message) {
    this.bar.style.width = "0";
    if (message.text) {
      this.line.style.whiteSpace = "pre-wrap";
      this.line.textContent = message.text.join("");
    }
    const [before] = message.unlearn_before ?? [];
    const [after] = message.unlearn_after ?? [];
    if (!before || !after) return;
    this.before.src = address(before);
    this.after.src = address(after);
    this.compare.style.display = this.slider.style.display = "block";
    this.cut();
  }

  cut() {
    this.after.style.clipPath = `inset(0 ${100 - this.slider.value}% 0 0)`;
  }
}

/** Where the server shows a temporary picture. */
function address(file) {
  return api.apiURL(`/view?${new URLSearchParams(file)}`);
}

app.registerExtension({
  name: "unlearn",

  setup() {
    api.addEventListener("unlearn.progress", ({ detail }) => {
      const node = app.graph?.getNodeById?.(Number(detail.node)) ?? app.graph?.getNodeById?.(detail.node);
      node?.unlearnPanel?.progress(detail);
    });
  },

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!COMPARING.has(nodeData.name)) return;
    const created = nodeType.prototype.onNodeCreated;
    nodeType.prototype.onNodeCreated = function () {
      const result = created?.apply(this, arguments);
      if (this.addDOMWidget) {
        this.unlearnPanel = new Panel();
        this.addDOMWidget("unlearn_panel", "unlearn", this.unlearnPanel.root, { serialize: false });
      }
      return result;
    };
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      executed?.apply(this, arguments);
      this.unlearnPanel?.finished(message);
    };
  },
});
