// The state of a run at a time: the lines of its event log, folded. Mirrors demo/emulation/log/fold.py; a test compares them.

export const ORIGIN = -1;
const EVERY = 400; // lines between two kept states, from which seeking starts

export function emptyState() {
  return {
    at: 0, seq: -1, slot: -1, run: null, ended: null, onAir: null,
    nodes: new Map(), devices: new Map(),
    totals: {
      requests: 0, deliveries: 0, originBytes: 0, backhaulBytes: 0, broadcastBytes: 0,
      wireBytes: 0, repairBytes: 0, messageBytes: 0, rejected: 0,
    },
  };
}

function emptyNode() {
  return { held: new Set(), heldBytes: 0, decisions: 0, messageBytes: 0, requests: 0, fault: "" };
}

function emptyDevice() {
  return { xy: [], waiting: [], delivered: 0, received: 0, unicast: 0, fault: "" };
}

function nodeOf(state, number) {
  if (!state.nodes.has(number)) state.nodes.set(number, emptyNode());
  return state.nodes.get(number);
}

function deviceOf(state, number) {
  if (!state.devices.has(number)) state.devices.set(number, emptyDevice());
  return state.devices.get(number);
}

function copyOf(state) {
  const nodes = new Map([...state.nodes].map(([n, one]) => [n, { ...one, held: new Set(one.held) }]));
  const devices = new Map([...state.devices].map(([n, one]) => [n, { ...one, waiting: [...one.waiting] }]));
  return { ...state, nodes, devices, totals: { ...state.totals } };
}

function placeOf(state, text) {
  const [kind, number] = text.split(" ");
  if (!/^\d+$/.test(number || "")) return null;
  if (kind === "node") return nodeOf(state, Number(number));
  return kind === "device" ? deviceOf(state, Number(number)) : null;
}

const STEPS = {
  started(state, event) {
    state.run = event;
    state.nodes = new Map(event.nodes.map((about) => [about.node, emptyNode()]));
    state.devices = new Map(Array.from({ length: event.num_users }, (_, user) => [user, emptyDevice()]));
  },
  slotbegan(state, event) {
    state.slot = event.slot;
    state.onAir = null;
    event.user_xy.forEach((place, user) => { deviceOf(state, user).xy = place; });
  },
  decided(state, event) {
    const node = nodeOf(state, event.node);
    for (const unit of event.dropped) node.held.delete(unit);
    for (const unit of event.added) node.held.add(unit);
    node.heldBytes = event.held_bytes;
    node.decisions += 1;
  },
  requested(state, event) {
    nodeOf(state, event.node).requests += 1;
    deviceOf(state, event.user).waiting.push([event.slot, event.model]);
    state.totals.requests += 1;
  },
  reported(state, event) {
    nodeOf(state, event.node).messageBytes += event.sent_bytes;
    state.totals.messageBytes += event.sent_bytes;
  },
  planned(state, event) {
    state.slot = event.slot;
  },
  transferred(state, event) {
    if (event.why_not) return;
    state.totals[event.source === ORIGIN ? "originBytes" : "backhaulBytes"] += event.payload_bytes;
  },
  broadcast(state, event) {
    state.onAir = event;
    state.totals.broadcastBytes += event.payload_bytes;
    state.totals.wireBytes += event.wire_bytes;
    state.totals.repairBytes += event.repair_bytes;
    for (const user of event.users) {
      if (!(event.missed || []).includes(user)) deviceOf(state, user).received += event.payload_bytes;
    }
  },
  delivered(state, event) {
    const device = deviceOf(state, event.user);
    const at = device.waiting.findIndex(([slot, model]) => slot === event.slot && model === event.model);
    if (at >= 0) device.waiting.splice(at, 1);
    device.delivered += 1;
    device.unicast += event.unicast_weight_bytes;
    state.totals.deliveries += 1;
  },
  answered(state, event) {
    deviceOf(state, event.user).unicast += event.unicast_weight_bytes;
  },
  rejected(state) {
    state.totals.rejected += 1;
  },
  faulted(state, event) {
    const place = placeOf(state, event.place);
    if (place) place.fault = event.fault;
  },
  recovered(state, event) {
    const place = placeOf(state, event.place);
    if (place) place.fault = "";
  },
  ended(state, event) {
    state.ended = event;
  },
};

export function take(state, line) {
  state.at = line.at_s;
  state.seq = line.seq;
  const step = STEPS[line.kind];
  if (step) step(state, line);
}

// All lines that have come, and the state at any of them.
export class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.lines = [];
    this.kept = [[0, emptyState()]]; // [number of lines folded, state]
    this.state = emptyState();
    this.count = 0; // lines that `state` has taken
  }

  get endS() {
    return this.lines.length ? this.lines[this.lines.length - 1].at_s : 0;
  }

  add(lines) {
    for (const line of lines) this.lines.push(line);
  }

  // Number of lines written up to a time.
  upTo(seconds) {
    let low = 0;
    let high = this.lines.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.lines[middle].at_s <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Go to the state after so many lines; gives the lines that were taken if it went forward from where it was.
  seek(count) {
    if (count < this.count) {
      let from = this.kept.length - 1;
      while (this.kept[from][0] > count) from -= 1;
      const [at, state] = this.kept[from];
      this.state = copyOf(state);
      this.count = at;
    }
    const start = this.count;
    while (this.count < count) {
      take(this.state, this.lines[this.count]);
      this.count += 1;
      if (this.count - this.kept[this.kept.length - 1][0] >= EVERY) this.kept.push([this.count, copyOf(this.state)]);
    }
    return this.lines.slice(start, count);
  }
}
