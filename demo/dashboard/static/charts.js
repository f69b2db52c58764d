// Curves over time, drawn by uPlot.

/* global uPlot */

function colours() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return { text: value("--text"), grid: value("--line"), one: value("--blue"), two: value("--orange"), three: value("--green") };
}

function options(series, label, width, height) {
  const shade = colours();
  const axis = { stroke: shade.text, grid: { stroke: shade.grid, width: 1 }, ticks: { stroke: shade.grid, width: 1 }, font: "12px system-ui, sans-serif" };
  return {
    width, height,
    scales: { x: { time: false } },
    axes: [{ ...axis, values: (_, values) => values.map((value) => `${value} s`) }, { ...axis, size: 58, label, labelSize: 18, labelFont: "12px system-ui, sans-serif" }],
    series: [{ label: "at", value: (_, value) => (value === null ? "" : `${value.toFixed(2)} s`) }, ...series(shade)],
    cursor: { drag: { x: false, y: false } },
    legend: { live: true },
  };
}

export class Curve {
  constructor(box, series, label, height = 210) {
    this.box = box;
    this.make = () => {
      const width = Math.max(240, box.clientWidth);
      box.replaceChildren();
      this.plot = new uPlot(options(series, label, width, height), this.data || [[], ...series(colours()).map(() => [])], box);
    };
    this.make();
    new ResizeObserver(() => {
      if (this.plot && Math.abs(box.clientWidth - this.plot.width) > 2) this.plot.setSize({ width: Math.max(240, box.clientWidth), height });
    }).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.make);
  }

  set(data, key) {
    if (key === this.key) return;
    this.key = key;
    this.data = data;
    this.plot.setData(data);
  }
}

export const DELAY = (shade) => [
  { label: "as it came, s", stroke: shade.one, width: 0, points: { show: true, size: 7, fill: shade.one } },
  { label: "as computed, s", stroke: shade.two, width: 0, points: { show: true, size: 7, stroke: shade.two, width: 1.5 } },
];

export const BYTES = (shade) => [
  { label: "air, MB", stroke: shade.one, width: 2, points: { show: false } },
  { label: "nodes, MB", stroke: shade.two, width: 2, dash: [8, 4], points: { show: false } },
  { label: "cloud, MB", stroke: shade.three, width: 2, dash: [2, 3], points: { show: false } },
];

// Curves of all lines so far, extended as lines come; cut where the clock is.
export class Series {
  constructor() {
    this.clear();
  }

  clear() {
    this.delay = [[], [], []];
    this.bytes = [[0], [0], [0], [0]];
    this.deliveries = [];
  }

  add(line) {
    if (line.kind === "delivered") {
      this.delay[0].push(line.at_s);
      this.delay[1].push(line.delay_s);
      this.delay[2].push(line.computed_delay_s);
      this.deliveries.push(line);
    }
    const moved = line.kind === "broadcast" ? 1 : line.kind === "transferred" && !line.why_not ? (line.source === -1 ? 3 : 2) : 0;
    if (!moved) return;
    const last = this.bytes[0].length - 1;
    this.bytes[0].push(line.at_s);
    for (const column of [1, 2, 3]) {
      this.bytes[column].push(this.bytes[column][last] + (column === moved ? line.payload_bytes / 1e6 : 0));
    }
  }

  static upTo(times, at) {
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  cut(columns, at) {
    const count = Series.upTo(columns[0], at);
    const step = Math.max(1, Math.floor(count / 1500)); // more points than columns of the screen show nothing more
    if (count === columns[0].length && step === 1) return [columns, `${count}`];
    const keep = (column) => column.slice(0, count).filter((_, place) => place % step === 0 || place === count - 1);
    return [columns.map(keep), `${count}/${step}`];
  }
}
