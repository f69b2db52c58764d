// Names, numbers and colours as they are shown.

export const SVG = "http://www.w3.org/2000/svg";
// Okabe and Ito: told apart with any colour vision, on light and on dark.
export const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a300", "#8c6d31"];
export const OTHER = "#8a8a8a";

export function bytes(size) {
  if (size === 0) return "0 B";
  for (const [unit, scale] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (size >= scale) return `${trimmed(size / scale)} ${unit}`;
  }
  return `${size} B`;
}

function trimmed(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

// "7 of 91 MB": two sizes in one unit.
export function ofBytes(part, whole) {
  const scale = whole >= 1e9 ? ["GB", 1e9] : whole >= 1e6 ? ["MB", 1e6] : whole >= 1e3 ? ["kB", 1e3] : ["B", 1];
  const digits = (value) => (value === 0 || value >= 10 || scale[1] === 1 ? value.toFixed(0) : value.toFixed(1));
  return `${digits(part / scale[1])} of ${digits(whole / scale[1])} ${scale[0]}`;
}

// An adapter comes with the base that it needs, which is more than its own files.
export function receivedBytes(part, whole) {
  return part <= whole ? ofBytes(part, whole) : `${bytes(part)} with bases (files: ${bytes(whole)})`;
}

export function rate(bits) {
  return bits >= 1e9 ? `${trimmed(bits / 1e9)} Gbit/s` : `${trimmed(bits / 1e6)} Mbit/s`;
}

export function seconds(value) {
  return value >= 100 ? `${value.toFixed(0)} s` : value >= 1 ? `${value.toFixed(2)} s` : `${(1000 * value).toFixed(0)} ms`;
}

export function clockTime(value) {
  const minutes = Math.floor(value / 60);
  const rest = value - 60 * minutes;
  return minutes ? `${minutes}:${rest.toFixed(1).padStart(4, "0")}` : `${rest.toFixed(2)} s`;
}

export function nodesText(numbers) {
  const names = numbers.map((number) => (number === -1 ? "the cloud" : `${number}`));
  if (numbers.length === 1) return numbers[0] === -1 ? "the cloud" : `node ${names[0]}`;
  return `nodes ${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

export function usersText(numbers) {
  const names = numbers.map((number) => `${number}`);
  if (numbers.length > 6) return `${numbers.length} users`;
  return numbers.length === 1 ? `user ${names[0]}` : `users ${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

export function unitsText(units) {
  if (units.length === 1) return `unit ${units[0]}`;
  return units.length > 4 ? `${units.length} units` : `units ${units.join(", ")}`;
}

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  setAll(element, attributes);
  element.append(...children);
  return element;
}

export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  setAll(element, attributes);
  element.append(...children);
  return element;
}

function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else element.setAttribute(name, value);
  }
}

// Families of a run: models under their outermost base, and the family of each unit; -1 for units of several.
export function familiesOf(run) {
  const byName = new Map(run.models.map((model) => [model.name, model]));
  const rootOf = (model) => {
    let at = model;
    for (let steps = 0; at.base && byName.has(at.base) && steps < 100; steps += 1) at = byName.get(at.base);
    return at.name;
  };
  const roots = [...new Set(run.models.map(rootOf))];
  const ofUnit = new Map();
  const owners = new Map();
  for (const model of run.models) {
    const family = roots.indexOf(rootOf(model));
    for (const unit of model.units) {
      ofUnit.set(unit, ofUnit.has(unit) && ofUnit.get(unit) !== family ? -1 : family);
      if (!owners.has(unit)) owners.set(unit, []);
      owners.get(unit).push(model.name);
    }
  }
  const colour = (family) => (family < 0 || family >= COLOURS.length ? OTHER : COLOURS[family]);
  const familyOfModel = new Map(run.models.map((model) => [model.name, roots.indexOf(rootOf(model))]));
  return { roots, ofUnit, owners, colour, familyOfModel, rawBytes: new Map(run.models.map((m) => [m.name, m.raw_bytes])) };
}
