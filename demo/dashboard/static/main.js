// Puts the page together: the feed fills the history, the clock says when, and the panels show it.

import { History } from "./fold.js";
import { Clock, follow } from "./feed.js";
import { EdgeMap } from "./map.js";
import { showCaches, showDeliveries, showLegend, showSchemes, showTicker, showWire } from "./panels.js";
import { BYTES, Curve, DELAY, Series } from "./charts.js";
import { explain, Sharing } from "./sharing.js";
import { Live } from "./live.js";
import { clockTime, familiesOf } from "./words.js";

const find = (id) => document.getElementById(id);
const SPEEDS = [0.25, 0.5, 1, 2, 5, 10, 30, 100];
const MOST_MOVES = 24; // on the map at once
const LINGER_S = 1.2; // how long a move stays on the map at speed 1, s of the log

const history = new History();
const series = new Series();
const clock = new Clock();
let families = null;
let shown = -1;
let filter = "";
let report = null;
let dirty = true;

const map = new EdgeMap(find("map"), (node) => { find("node").value = String(node); showWhy(); });
const sharing = new Sharing(find("sharing"), (unit) => { find("unit").value = String(unit); showWhy(); });
const delayCurve = new Curve(find("delay-curve"), DELAY, "s");
const bytesCurve = new Curve(find("bytes-curve"), BYTES, "MB");
const live = new Live(find("live-panel"));

function begin(run) {
  families = familiesOf(run);
  map.start(run);
  sharing.start(run, families);
  showLegend(find("legend"), families);
  const facts = [
    `${run.nodes.length} nodes`, `${run.num_users} users`, `${run.models.length} models`, `scheme ${run.scheme}`,
    ...(run.runtime === "computed" ? ["real bytes at computed times"] : [`runtime ${run.runtime}`, `links ${run.links}`, `loss ${run.loss}`]),
    `seed ${run.seed}`,
  ];
  find("facts").textContent = facts.join(" · ");
  find("node").replaceChildren(new Option("any node", ""), ...run.nodes.map((about) => new Option(`node ${about.node}`, String(about.node))));
  find("unit").max = String(run.unit_bytes.length - 1);
  document.body.classList.add("running");
}

function clear() {
  history.clear();
  series.clear();
  shown = -1;
  families = null;
  clock.at = 0;
  document.body.classList.remove("running");
}

function onLines(lines, anew) {
  if (anew) clear();
  history.add(lines);
  for (const line of lines) {
    series.add(line);
    if (line.kind === "started") begin(line);
  }
  dirty = true;
}

function onState(state, about) {
  const text = { connected: about && about.live ? "live" : "log", away: "no server: trying again", broken: "the log cannot be read" }[state];
  find("status").textContent = state === "broken" ? `${text}: ${about.message}` : text;
  find("status").className = state;
  if (state === "connected") {
    live.offer(about);
    if (about.report) fetch("data/schemes.json").then((answer) => answer.json()).then((found) => { report = found; dirty = true; });
  }
}

function movesAt(at) {
  const moves = [];
  const linger = Math.max(0.35, LINGER_S * clock.speed);
  for (let place = history.count - 1; place >= 0 && moves.length < MOST_MOVES; place -= 1) {
    const line = history.lines[place];
    const age = (at - line.at_s) / linger;
    if (age > 1) break;
    if (line.kind === "broadcast" || line.kind === "transferred") moves.push({ line, age: Math.max(0, age) });
  }
  return moves;
}

function show(now) {
  requestAnimationFrame(show);
  const end = history.endS;
  const at = clock.tick(now, end);
  const count = history.upTo(at);
  const moved = count !== shown;
  if (!moved && !dirty && !map.drawn.size) return showTime(at, end);
  if (document.hidden) return undefined;
  history.seek(count);
  if (families && history.state.run) {
    map.show(history.state, movesAt(history.state.ended ? at : at + clock.idle));
    if (moved || dirty) showPanels(at);
  }
  shown = count;
  dirty = false;
  return showTime(at, end);
}

let lastPanels = 0;

function showPanels(at) {
  const now = performance.now();
  if (now - lastPanels < 120 && !clock.live) return;
  lastPanels = now;
  const { state } = history;
  const run = state.run;
  const deliveries = series.deliveries.slice(0, state.totals.deliveries);
  showTicker(find("ticker"), history.lines.slice(Math.max(0, history.count - 60), history.count));
  showCaches(find("caches"), run, state, families, run.unit_bytes);
  showWire(find("wire"), state, deliveries, families.rawBytes);
  showDeliveries(find("deliveries"), find("deliveries-note"), deliveries, families.rawBytes, filter);
  showSchemes(find("schemes"), deliveries, report, run);
  sharing.show(state);
  delayCurve.set(...series.cut(series.delay, at));
  bytesCurve.set(...series.cut(series.bytes, at));
  find("slot").textContent = state.slot < 0 ? "" : `slot ${state.slot} of ${run.num_slots}`;
}

function showTime(at, end) {
  const slider = find("time");
  if (document.activeElement !== slider || clock.playing) {
    slider.max = String(Math.max(end, 0.001));
    slider.value = String(at);
  }
  const text = `${clockTime(at)} of ${clockTime(end)}`;
  if (find("clock").textContent !== text) find("clock").textContent = text;
  find("play").textContent = clock.playing ? "Pause" : "Play";
  find("go-live").disabled = clock.live && clock.playing;
}

function showWhy() {
  if (!families) return;
  const { state } = history;
  const node = find("node").value === "" ? null : Number(find("node").value);
  if (find("unit").value === "" && node !== null) {
    const [largest] = [...state.nodes.get(node).held].sort((one, other) => state.run.unit_bytes[other] - state.run.unit_bytes[one]);
    if (largest !== undefined) find("unit").value = String(largest);
  }
  const unit = find("unit").value === "" ? null : Number(find("unit").value);
  sharing.choose(unit);
  explain(find("why"), unit, node, history.lines.slice(0, history.count), state, families, state.run);
}

function setSpeed(speed) {
  clock.speed = speed;
  find("speed").value = String(speed);
}

function stepLine(by) {
  clock.playing = false;
  const count = Math.max(1, Math.min(history.lines.length, history.upTo(clock.at) + by));
  if (history.lines.length) clock.seek(history.lines[count - 1].at_s, history.endS);
}

function stepSlot(by) {
  const starts = history.lines.filter((line) => line.kind === "slotbegan").map((line) => line.at_s);
  const next = by > 0 ? starts.find((at) => at > clock.at + 1e-9) : starts.reverse().find((at) => at < clock.at - 0.2);
  clock.seek(next === undefined ? (by > 0 ? history.endS : 0) : next, history.endS);
}

const KEYS = {
  " ": () => { clock.playing = !clock.playing; },
  ArrowRight: (event) => (event.shiftKey ? stepSlot(1) : stepLine(1)),
  ArrowLeft: (event) => (event.shiftKey ? stepSlot(-1) : stepLine(-1)),
  "+": () => setSpeed(SPEEDS[Math.min(SPEEDS.length - 1, SPEEDS.indexOf(clock.speed) + 1)]),
  "-": () => setSpeed(SPEEDS[Math.max(0, SPEEDS.indexOf(clock.speed) - 1)]),
  l: () => clock.goLive(),
  Home: () => clock.seek(0, history.endS),
  "?": () => { const help = find("help"); help.hidden = !help.hidden; },
};

document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "TEXTAREA", "BUTTON", "A"].includes(event.target.tagName);
  if (typing && !(event.target.id === "time" && event.key.length > 1)) return;
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act(event);
});
find("speed").append(...SPEEDS.map((speed) => new Option(`${speed} ×`, String(speed))));
setSpeed(1);
find("speed").addEventListener("change", () => { clock.speed = Number(find("speed").value); });
find("play").addEventListener("click", () => { clock.playing = !clock.playing; });
find("go-live").addEventListener("click", () => clock.goLive());
find("time").addEventListener("input", () => clock.seek(Number(find("time").value), history.endS));
find("filter").addEventListener("input", () => { filter = find("filter").value.trim().toLowerCase(); dirty = true; });
find("node").addEventListener("change", showWhy);
find("unit").addEventListener("input", showWhy);
find("help-button").addEventListener("click", () => KEYS["?"]());

follow({ onLines, onState });
requestAnimationFrame(show);

window.pbcast = { history, clock, series }; // for tests and the curious
