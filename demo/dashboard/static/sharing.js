// Which models hold which units: one row a model, one column a unit, as wide as its bytes.

import { bytes, draw, make, nodesText, OTHER } from "./words.js";

const WIDTH = 1000;
const ROW = 22; // as in style.css

export class Sharing {
  constructor(box, onUnit) {
    this.box = box;
    this.onUnit = onUnit;
    this.chosen = null;
  }

  start(run, families) {
    this.run = run;
    this.families = families;
    const units = run.unit_bytes.map((_, unit) => unit).filter((unit) => families.owners.has(unit));
    const rank = (unit) => [families.ofUnit.get(unit) < 0 ? 99 : families.ofUnit.get(unit), -families.owners.get(unit).length, unit];
    units.sort((one, other) => {
      const [a, b] = [rank(one), rank(other)];
      return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
    });
    const total = units.reduce((sum, unit) => sum + run.unit_bytes[unit], 0) || 1;
    this.places = new Map();
    let left = 0;
    for (const unit of units) {
      const wide = (WIDTH * run.unit_bytes[unit]) / total;
      this.places.set(unit, [left, wide]);
      left += wide;
    }
    this.order = units;
    this.total = total;
    this.paint();
  }

  paint() {
    const { run, families } = this;
    const models = [...run.models].sort((one, other) => families.familyOfModel.get(one.name) - families.familyOfModel.get(other.name));
    const height = models.length * ROW + 30;
    const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", class: "matrix", height, role: "img", "aria-label": "which models hold which units" });
    models.forEach((model, row) => {
      const colour = families.colour(families.familyOfModel.get(model.name));
      const own = new Set(model.units);
      for (const [from, to, shared] of this.runs(own)) {
        svg.append(draw("rect", { x: from, y: row * ROW + 2, width: Math.max(0.6, to - from), height: ROW - 4, fill: colour, opacity: shared ? 1 : 0.45 }));
      }
    });
    this.holders = draw("g");
    this.mark = draw("rect", { class: "chosen", y: 0, width: 0, height: height });
    svg.append(this.holders, this.mark);
    const narrow = matchMedia("(max-width: 900px)").matches;
    const labels = make("div", { class: "labels" }, ...models.map((model) => make("span", { text: narrow ? model.name.split("/").pop() : model.name, title: `${model.name}: ${model.kind}, ${bytes(model.raw_bytes)}` })), make("span", { class: "note", text: "in caches" }));
    const picture = make("div", { class: "picture" }, svg);
    const raw = run.models.reduce((sum, model) => sum + model.raw_bytes, 0);
    const note = make("p", { class: "note", text: `${run.models.length} models of ${bytes(raw)} are ${this.order.length} units of ${bytes(this.total)} (${(100 * this.total / raw).toFixed(0)} %); full colour: held by several models. Choose a place to see why its unit is where it is.` });
    this.box.replaceChildren(make("div", { class: "sharing" }, labels, picture), note);
    svg.addEventListener("click", (event) => {
      const frame = svg.getBoundingClientRect();
      const unit = this.unitAt((WIDTH * (event.clientX - frame.left)) / frame.width);
      if (unit !== null) this.onUnit(unit);
    });
    this.bottom = models.length * ROW + 6;
  }

  // Neighbouring units of a model as one stretch, split where sharing begins or ends.
  runs(own) {
    const found = [];
    for (const unit of this.order) {
      if (!own.has(unit)) continue;
      const [left, wide] = this.places.get(unit);
      const shared = this.families.owners.get(unit).length > 1;
      const last = found[found.length - 1];
      if (last && Math.abs(last[1] - left) < 1e-6 && last[2] === shared) last[1] = left + wide;
      else found.push([left, left + wide, shared]);
    }
    return found;
  }

  unitAt(x) {
    for (const unit of this.order) {
      const [left, wide] = this.places.get(unit);
      if (x >= left && x < left + wide) return unit;
    }
    return null;
  }

  choose(unit) {
    this.chosen = unit;
    const place = this.places.get(unit);
    if (!place || !this.mark) return;
    this.mark.setAttribute("x", place[0] - 1);
    this.mark.setAttribute("width", place[1] + 2);
  }

  // Below the models: how many caches hold each unit.
  show(state) {
    const key = [...state.nodes.values()].map((node) => `${node.heldBytes}:${node.held.size}`).join();
    if (key === this.key) return;
    this.key = key;
    const copies = new Map();
    for (const node of state.nodes.values()) {
      for (const unit of node.held) copies.set(unit, (copies.get(unit) || 0) + 1);
    }
    const parts = [];
    for (const unit of this.order) {
      const count = copies.get(unit);
      if (!count) continue;
      const [left, wide] = this.places.get(unit);
      const last = parts[parts.length - 1];
      if (last && last.count === count && Math.abs(last.to - left) < 1e-6) last.to = left + wide;
      else parts.push({ from: left, to: left + wide, count });
    }
    const most = state.nodes.size || 1;
    this.holders.replaceChildren(...parts.map(({ from, to, count }) => draw("rect", { x: from, y: this.bottom, width: Math.max(0.6, to - from), height: 20, fill: OTHER, opacity: 0.25 + (0.75 * count) / most })));
  }
}

// Why a unit is where it is: decisions, transfers and broadcasts that named it.
export function explain(box, unit, node, lines, state, families, run) {
  if (unit === null) return;
  const owners = families.owners.get(unit) || [];
  const holders = [...state.nodes].filter(([, one]) => one.held.has(unit)).map(([number]) => number);
  const told = [];
  for (const line of lines) {
    const at = `${line.at_s.toFixed(2)} s, slot ${line.slot}`;
    if (line.kind === "decided" && (node === null || line.node === node)) {
      const place = line.added.indexOf(unit);
      if (place >= 0) {
        const worth = line.worth.length ? `, worth ${line.worth[place].toPrecision(3)} to it` : "";
        told.push([at, `node ${line.node} took it into its cache${worth}: ${line.why}`]);
      }
      if (line.dropped.includes(unit)) told.push([at, `node ${line.node} dropped it: ${line.why}`]);
    } else if (line.kind === "transferred" && line.unit === unit && (node === null || line.target === node)) {
      told.push([at, `${line.why_not ? "did not come" : "came"} to node ${line.target} from ${nodesText([line.source])} (${line.cause}${line.why_not ? `: ${line.why_not}` : ""})`]);
    } else if (line.kind === "broadcast" && line.units.includes(unit) && (node === null || line.holders.includes(node))) {
      told.push([at, `sent by ${nodesText(line.holders)} to ${line.users.length} users`]);
    }
  }
  const where = holders.length ? `now in ${nodesText(holders)}` : "now in no cache";
  const head = make("p", {}, make("strong", { text: `unit ${unit}` }), `: ${bytes(run.unit_bytes[unit])}, part of ${owners.length} of ${run.models.length} models, ${where}`);
  const who = make("p", { class: "note", text: owners.join(", ") });
  const list = make("ol", {}, ...told.slice(-60).reverse().map(([at, text]) => make("li", {}, make("span", { class: "at", text: at }), ` ${text}`)));
  box.replaceChildren(head, who, told.length ? list : make("p", { class: "note", text: "nothing has named it yet" }));
}
