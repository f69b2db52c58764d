// The map: nodes and users where they are, and what is on its way between them.

import { ORIGIN } from "./fold.js";
import { draw, nodesText, ofBytes, rate, unitsText, usersText, bytes } from "./words.js";

const SIDE = 1000; // of the drawing, for the run's square
const EDGE = 70;
const CLOUD = [SIDE / 2, -52];

export class EdgeMap {
  constructor(svg, onNode) {
    this.svg = svg;
    this.onNode = onNode;
    this.moves = draw("g", { class: "moves" });
    this.users = draw("g");
    this.nodes = draw("g");
    svg.append(this.moves, this.users, this.nodes);
    this.drawn = new Map();
    this.run = null;
  }

  start(run) {
    this.run = run;
    this.users.replaceChildren();
    this.nodes.replaceChildren();
    this.drawn.clear();
    this.svg.setAttribute("viewBox", `${-EDGE} ${-EDGE - 40} ${SIDE + 2 * EDGE} ${SIDE + 2 * EDGE + 40}`);
    const cloud = draw("g", { transform: `translate(${CLOUD})` });
    cloud.append(
      draw("rect", { class: "cloud", x: -62, y: -24, width: 124, height: 44, rx: 20 }),
      draw("text", { class: "name", y: 6, "text-anchor": "middle", text: "cloud" }),
    );
    this.nodes.append(cloud);
    this.nodeParts = new Map();
    for (const about of run.nodes) this.nodeParts.set(about.node, this.addNode(about));
    this.userParts = new Map();
  }

  at(x, y) {
    const scale = SIDE / this.run.area_m;
    return [x * scale, SIDE - y * scale];
  }

  addNode(about) {
    const [x, y] = this.at(about.x_m, about.y_m);
    const group = draw("g", { class: "node", transform: `translate(${x} ${y})`, tabindex: 0, role: "button" });
    const level = draw("rect", { class: "level", x: -34, y: -34, width: 68, height: 68 });
    const title = draw("title");
    group.append(
      draw("rect", { class: "box", x: -34, y: -34, width: 68, height: 68, rx: 10 }), level,
      draw("text", { class: "number", y: 11, "text-anchor": "middle", text: about.node }), title,
    );
    group.addEventListener("click", () => this.onNode(about.node));
    group.addEventListener("keydown", (event) => { if (event.key === "Enter") this.onNode(about.node); });
    this.nodes.append(group);
    return { group, level, title, x, y, about };
  }

  userPart(number) {
    if (!this.userParts.has(number)) {
      const group = draw("g", { class: "user" });
      const title = draw("title");
      group.append(draw("circle", { r: 21 }), draw("text", { y: 8, "text-anchor": "middle", text: number }), title);
      this.users.append(group);
      this.userParts.set(number, { group, title });
    }
    return this.userParts.get(number);
  }

  show(state, moves) {
    for (const [number, node] of state.nodes) {
      const part = this.nodeParts.get(number);
      if (!part) continue;
      const share = Math.min(1, node.heldBytes / part.about.capacity_bytes || 0);
      part.level.setAttribute("y", 34 - 68 * share);
      part.level.setAttribute("height", 68 * share);
      part.group.classList.toggle("fault", Boolean(node.fault));
      const how = node.fault ? `; ${node.fault}` : "";
      set(part.title, `node ${number}: ${ofBytes(node.heldBytes, part.about.capacity_bytes)} cached${how}`);
      part.group.setAttribute("aria-label", part.title.textContent);
    }
    for (const [number, device] of state.devices) {
      if (device.xy.length < 2) continue;
      const part = this.userPart(number);
      const [x, y] = this.at(device.xy[0], device.xy[1]);
      part.group.setAttribute("transform", `translate(${x} ${y})`);
      part.group.classList.toggle("waiting", device.waiting.length > 0);
      part.group.classList.toggle("fault", Boolean(device.fault));
      const wants = device.waiting.map(([, model]) => model).join(", ");
      set(part.title, `user ${number}${wants ? `: waits for ${wants}` : ""}; ${device.delivered} models came`);
    }
    this.showMoves(state, moves);
  }

  showMoves(state, moves) {
    const there = new Set(moves.map(({ line }) => line.seq));
    for (const [seq, element] of this.drawn) {
      if (!there.has(seq)) {
        element.remove();
        this.drawn.delete(seq);
      }
    }
    for (const { line, age } of moves) {
      if (!this.drawn.has(line.seq)) {
        const element = this.moveOf(state, line);
        if (!element) continue;
        this.moves.append(element);
        this.drawn.set(line.seq, element);
      }
      this.drawn.get(line.seq).setAttribute("opacity", (1 - 0.75 * age).toFixed(2));
    }
  }

  place(number) {
    if (number === ORIGIN) return CLOUD;
    const part = this.nodeParts.get(number);
    return part ? [part.x, part.y] : CLOUD;
  }

  moveOf(state, line) {
    if (line.kind === "transferred") {
      const [x1, y1] = this.place(line.source);
      const [x2, y2] = this.place(line.target);
      const bend = 0.12;
      const [cx, cy] = [(x1 + x2) / 2 - bend * (y2 - y1), (y1 + y2) / 2 + bend * (x2 - x1)];
      const path = `M${x1} ${y1}Q${cx} ${cy} ${x2} ${y2}`;
      return draw("path", { class: `copy ${line.cause}${line.why_not ? " failed" : ""}`, d: path, "marker-end": "url(#tip)" });
    }
    if (line.kind !== "broadcast") return null;
    const second = (line.together || []).length && line.number % 2 ? " second" : "";
    const group = draw("g", { class: `cast${line.is_repair ? " repair" : ""}${second}` });
    for (const holder of line.holders) {
      const [x1, y1] = this.place(holder);
      group.append(draw("circle", { class: "wave", cx: x1, cy: y1, r: 58 }));
      for (const user of line.users) {
        const device = state.devices.get(user);
        if (!device || device.xy.length < 2) continue;
        const [x2, y2] = this.at(device.xy[0], device.xy[1]);
        const lost = (line.missed || []).includes(user);
        group.append(draw("line", { class: lost ? "lost" : "", x1, y1, x2, y2 }));
      }
    }
    return group;
  }
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// How far a rate is from what no beam of these holders can exceed.
function below(share) {
  const percent = 100 * Math.max(0, 1 - share);
  return percent < 0.005 ? "at its bound" : `${percent.toFixed(2)} % below its bound`;
}

// What was on the air at the same time, to other users, and what that has cost this one.
function beside(line) {
  if (!(line.together || []).length) return "";
  const share = line.alone_bit_s ? ` (${Math.round((100 * line.rate_bit_s) / line.alone_bit_s)} % of alone)` : "";
  return `${share}, number ${line.number} together with ${line.together.join(", ")}`;
}

// What happened, as a sentence: who sent what to whom, how fast, and how far from the bound.
export function sentence(line) {
  switch (line.kind) {
    case "transferred": {
      const what = `${unitsText([line.unit])} (${bytes(line.payload_bytes)})`;
      const why = { update: "for the cache", serve: "to be sent", repair: "to repair" }[line.cause] || line.cause;
      if (line.why_not) return `${nodesText([line.target])} did not get ${what} from ${nodesText([line.source])}: ${line.why_not}`;
      return `${nodesText([line.source])} → ${nodesText([line.target])}: ${what}, ${why}`;
    }
    case "broadcast": {
      const bound = line.bound_bit_s > 0 ? `, ${below(line.rate_bit_s / line.bound_bit_s)}` : "";
      const lost = (line.missed || []).length ? `; missed by ${usersText(line.missed)}` : "";
      const what = `${unitsText(line.units)} (${bytes(line.payload_bytes)})`;
      return `${nodesText(line.holders)} ⇒ ${usersText(line.users)}: ${what} at ${rate(line.rate_bit_s)}${beside(line) || bound}${lost}`;
    }
    case "delivered":
      return `user ${line.user} has ${line.model} after ${line.delay_s.toFixed(2)} s, ${line.sha256_ok ? "hashes equal" : "HASHES DIFFER"}`;
    case "requested":
      return `user ${line.user} asks node ${line.node} for ${line.model}`;
    case "decided":
      return `node ${line.node} keeps ${line.added.length} more units, drops ${line.dropped.length} (${line.why})`;
    case "answered":
      return `user ${line.user} runs ${line.model}: ${line.answer}`;
    case "rejected":
      return `${line.place} was given wrong bytes and kept nothing: ${line.why}`;
    case "faulted":
      return `fault: ${line.fault} at ${line.place} ${line.about || ""}`;
    case "recovered":
      return `${line.place} works again after ${line.recovered_s.toFixed(2)} s (${line.fault})`;
    case "slotbegan":
      return `slot ${line.slot} begins`;
    case "ended":
      return `the run is over: ${line.deliveries} of ${line.requests} requests delivered`;
    default:
      return null;
  }
}
