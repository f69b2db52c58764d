// Panels that are lists, bars and tables.

import { bytes, draw, make, ofBytes, receivedBytes, seconds } from "./words.js";
import { sentence } from "./map.js";

const SHOWN = 14; // sentences in the list of what happened
const ROWS = 200; // rows of a table on the page; all are in the data

export function showTicker(list, lines) {
  const told = [];
  for (let at = lines.length - 1; at >= 0 && told.length < SHOWN; at -= 1) {
    const text = sentence(lines[at]);
    if (text) told.push([lines[at].seq, lines[at].kind, lines[at].at_s, text]);
  }
  const newest = told.length ? String(told[0][0]) : "";
  if (list.dataset.newest === newest) return;
  list.dataset.newest = newest;
  list.replaceChildren(...told.map(([, kind, at, text]) => (
    make("li", { class: kind }, make("span", { class: "at", text: `${at.toFixed(2)} s` }), ` ${text}`)
  )));
}

// Bytes of each family in each cache. Units of several families count as shared.
export function showCaches(box, run, state, families, unitBytes) {
  const width = 1000;
  if (box.dataset.seed !== `${run.seed}-${run.nodes.length}`) {
    box.dataset.seed = `${run.seed}-${run.nodes.length}`;
    box.replaceChildren(...run.nodes.map((about) => {
      const bar = draw("svg", { viewBox: `0 0 ${width} 44`, preserveAspectRatio: "none", class: "bar", role: "img" });
      return make("div", { class: "cache", "data-node": about.node }, make("span", { class: "label", text: `node ${about.node}` }), bar, make("span", { class: "value" }));
    }));
  }
  for (const row of box.children) {
    const about = run.nodes.find((one) => String(one.node) === row.dataset.node);
    const node = state.nodes.get(about.node);
    const sums = new Map();
    for (const unit of node.held) {
      const family = families.ofUnit.has(unit) ? families.ofUnit.get(unit) : -1;
      sums.set(family, (sums.get(family) || 0) + unitBytes[unit]);
    }
    const key = `${node.heldBytes}:${node.held.size}:${[...sums].join()}`;
    if (row.dataset.key === key) continue;
    row.dataset.key = key;
    let left = 0;
    const parts = [draw("rect", { class: "room", width, height: 44 })];
    for (const [family, size] of [...sums].sort((one, other) => one[0] - other[0])) {
      const wide = (width * size) / about.capacity_bytes;
      const name = family < 0 ? "several families" : families.roots[family];
      const part = draw("rect", { x: left, width: wide, height: 44, fill: families.colour(family) });
      part.append(draw("title", { text: `${name}: ${bytes(size)}` }));
      parts.push(part);
      left += wide;
    }
    row.children[1].replaceChildren(...parts);
    row.children[2].textContent = ofBytes(node.heldBytes, about.capacity_bytes) + (node.fault ? `, ${node.fault}` : "");
  }
}

export function showLegend(box, families) {
  const items = families.roots.map((name, family) => [name, families.colour(family)]);
  if ([...families.ofUnit.values()].includes(-1)) items.push(["several families", families.colour(-1)]);
  box.replaceChildren(...items.map(([name, colour]) => {
    const mark = draw("svg", { viewBox: "0 0 10 10", class: "mark" }, draw("rect", { width: 10, height: 10, fill: colour }));
    return make("span", {}, mark, ` ${name}`);
  }));
}

export function showWire(box, state, deliveries, rawBytes) {
  const totals = state.totals;
  const timed = state.run.runtime !== "computed"; // a plain run makes no datagrams and sends no reports
  const whole = deliveries.reduce((sum, line) => sum + (rawBytes.get(line.model) || 0), 0);
  const received = deliveries.reduce((sum, line) => sum + line.received_bytes, 0);
  const unicast = deliveries.reduce((sum, line) => sum + line.unicast_weight_bytes, 0);
  const rows = [
    ["cloud → nodes", totals.originBytes, "cloud"],
    ["node → node", totals.backhaulBytes, "peer"],
    ["on the air, each block once", totals.broadcastBytes, "air"],
    ["… as Ethernet frames", totals.wireBytes, "air"],
    ["… of it repair", totals.repairBytes, "repair"],
    ["to single devices", unicast, "device"],
    ["reports between nodes", totals.messageBytes, "peer"],
  ].filter(([name]) => timed || !/Ethernet|repair|reports/.test(name));
  const most = Math.max(1, ...rows.map(([, size]) => size));
  const key = rows.map(([, size]) => size).join() + deliveries.length;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const last = deliveries[deliveries.length - 1];
  const head = make("p", { class: "big" });
  if (deliveries.length) {
    head.append(make("strong", { text: receivedBytes(received, whole) }), `: ${deliveries.length} deliveries, all devices together`);
    const own = receivedBytes(last.received_bytes, rawBytes.get(last.model) || 0);
    box.replaceChildren(head, make("p", { class: "note", text: `the last one, ${last.model}: ${own}` }));
  } else box.replaceChildren(head, make("p", { class: "note", text: "nothing delivered yet" }));
  for (const [name, size, kind] of rows) {
    const bar = draw("svg", { viewBox: "0 0 1000 30", preserveAspectRatio: "none", class: "bar", role: "img", "aria-label": `${name}: ${bytes(size)}` });
    bar.append(draw("rect", { class: "room", width: 1000, height: 30 }), draw("rect", { class: `wire-${kind}`, width: (1000 * size) / most, height: 30 }));
    box.append(make("div", { class: "cache" }, make("span", { class: "label", text: name }), bar, make("span", { class: "value", text: bytes(size) })));
  }
}

export function showDeliveries(body, note, deliveries, rawBytes, filter) {
  const shown = filter ? deliveries.filter((line) => `${line.model} user ${line.user} ${line.answer}`.toLowerCase().includes(filter)) : deliveries;
  const key = `${shown.length}|${filter}|${shown.length ? shown[shown.length - 1].seq : ""}`;
  if (body.dataset.key === key) return;
  body.dataset.key = key;
  const rows = shown.slice(-ROWS).reverse().map((line) => {
    const equal = line.inference_equal === null ? "not run" : line.inference_equal ? "equal" : "DIFFERS";
    const cells = [
      line.slot, `user ${line.user}`, line.model, seconds(line.delay_s), seconds(line.computed_delay_s),
      receivedBytes(line.received_bytes, rawBytes.get(line.model) || 0), line.files_sha256.slice(0, 12),
      line.sha256_ok ? "✓ equal" : "✗ DIFFERS", equal, line.answer,
    ];
    const row = make("tr", { class: line.sha256_ok && line.inference_equal !== false ? "" : "bad" });
    row.append(...cells.map((cell, at) => make("td", { class: NUMERIC.has(at) ? "number" : at === 6 ? "hash" : at === 9 ? "answer" : "", text: cell, ...(at === 6 ? { title: line.files_sha256 } : {}), ...(at === 9 ? { title: line.answer } : {}) })));
    return row;
  });
  body.replaceChildren(...rows);
  note.textContent = shown.length > ROWS ? `the newest ${ROWS} of ${shown.length}` : `${shown.length} deliveries`;
}

const NUMERIC = new Set([0, 3, 4, 5]);

// Delays: this run's deliveries, and, where a report lies beside the log, each scheme of it.
export function showSchemes(box, deliveries, report, run) {
  const width = Math.max(280, box.clientWidth);
  const key = `${deliveries.length}|${report ? report.schemes.length : 0}|${width}`;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const rows = schemeRows(deliveries, report, run);
  if (!rows.length) {
    box.replaceChildren(make("p", { class: "note", text: "no delivery yet" }));
    return;
  }
  const most = Math.max(...rows.map((row) => row.high));
  const left = Math.min(210, 0.42 * width);
  const step = 26;
  const svg = draw("svg", { width, height: rows.length * step + 8, role: "img", "aria-label": "mean delay of each scheme and its 95th percentile" });
  const x = (value) => left + ((width - left - 62) * value) / most;
  rows.forEach((row, at) => {
    const y = 14 + at * step;
    svg.append(
      draw("text", { x: left - 10, y: y + 5, "text-anchor": "end", text: row.name }),
      draw("line", { class: "whisker", x1: x(row.low), y1: y, x2: x(row.high), y2: y }),
      draw("circle", { class: row.here ? "dot here" : "dot", cx: x(row.mean), cy: y, r: 5.5 }),
      draw("text", { class: "figure", x: x(row.high) + 9, y: y + 5, text: `${row.mean.toFixed(2)} s` }),
    );
  });
  box.replaceChildren(svg, make("p", { class: "note", text: "dot and number: mean; line: from the least (here) or the best world (computed) to the 95th percentile" }));
}

function schemeRows(deliveries, report, run) {
  const rows = report ? report.schemes.map((row) => ({ ...row })) : [];
  if (!deliveries.length) return rows;
  const sorted = deliveries.map((line) => line.delay_s).sort((one, other) => one - other);
  const mean = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
  const high = sorted[Math.min(sorted.length - 1, Math.floor(0.95 * sorted.length))];
  const how = run.runtime === "computed" ? "these slots" : "as it came";
  return [{ name: `${run.scheme}, ${how}`, mean, high, low: sorted[0], here: true }, ...rows];
}
