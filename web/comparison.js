// Pictures of a node before and after, pair by pair on top of each other, all cut by one slider: before on its left.

import { api } from "../../scripts/api.js";
import { element } from "./elements.js";
import { text } from "./texts.js";

const OVERLAY = { position: "absolute", pointerEvents: "none" };
const NARROWEST = 104;

/** Where the server shows a temporary picture. */
function address(file) {
  return api.apiURL(`/view?${new URLSearchParams(file)}`);
}

export class Comparison {
  /** loaded: called when a picture has come and the whole may need another height. */
  constructor(parent, loaded) {
    this.loaded = loaded;
    this.root = element("div", { display: "none" }, parent);
    this.root.className = "unlearn-compare";
    const tools = element("div", { display: "flex", gap: "6px", alignItems: "center", margin: "2px 0" }, this.root);
    element("span", {}, tools).textContent = text("before", "before");
    this.slider = element("input", { flex: "1", minWidth: "60px" }, tools);
    const ariaLabel = text("beforeOrAfter", "before or after");
    Object.assign(this.slider, { type: "range", min: 0, max: 100, value: 50, ariaLabel });
    element("span", {}, tools).textContent = text("after", "after");
    const columns = `repeat(auto-fill, minmax(${NARROWEST}px, 1fr))`;
    this.pairs = element("div", { display: "grid", gap: "6px", gridTemplateColumns: columns }, this.root);
    this.slider.addEventListener("input", () => this.cut());
    for (const kind of ["pointerdown", "pointermove", "pointerup"]) {
      this.pairs.addEventListener(kind, (event) => this.drag(event));
      // else the page would move its canvas
      this.slider.addEventListener(kind, (event) => event.stopPropagation());
    }
    this.cut();
  }

  /** before, after: files of the server, as many as there are prompts. */
  show(before, after, prompts) {
    this.pairs.replaceChildren(...before.map((file, i) => this.pair(file, after[i], prompts[i] ?? "")));
    this.root.style.display = "block";
  }

  hide() {
    this.root.style.display = "none";
  }

  pair(before, after, prompt) {
    const figure = element("figure", { margin: "0" });
    const frame = element("div", { position: "relative", cursor: "ew-resize" }, figure);
    frame.className = "unlearn-frame";
    const whole = { width: "100%", display: "block", pointerEvents: "none" };
    const below = element("img", whole, frame);
    const above = element("img", { ...whole, ...OVERLAY, left: "0", top: "0", height: "100%" }, frame);
    above.style.clipPath = "inset(0 0 0 var(--cut))";
    const alt = (word) => `${text(word, word)}: ${prompt}`;
    Object.assign(below, { src: address(before), alt: alt("before"), onload: () => this.loaded() });
    Object.assign(above, { src: address(after), alt: alt("after") });
    const edge = { top: "0", bottom: "0", width: "2px", left: "calc(var(--cut) - 1px)", background: "#fff" };
    element("div", { ...OVERLAY, ...edge, boxShadow: "0 0 3px #000" }, frame);
    element("figcaption", { lineHeight: "1.2", opacity: "0.85", overflowWrap: "anywhere" }, figure).textContent = prompt;
    return figure;
  }

  drag(event) {
    event.stopPropagation();
    if (event.type === "pointerdown") {
      this.held = event.target.closest(".unlearn-frame");
      this.held?.setPointerCapture(event.pointerId);
    }
    if (!(event.buttons & 1) || !this.held) return;
    const box = this.held.getBoundingClientRect();
    this.slider.value = (100 * (event.clientX - box.left)) / box.width;
    this.cut();
  }

  cut() {
    this.root.style.setProperty("--cut", `${this.slider.value}%`);
  }
}
