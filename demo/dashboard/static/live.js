// Settings of a live run: choosing others starts it anew, and the page follows.

import { make } from "./words.js";

const CHOSEN = ["scheme", "capacity", "nodes", "faults"];

export class Live {
  constructor(panel) {
    this.panel = panel;
    this.form = panel.querySelector("form");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  offer(about) {
    this.panel.hidden = !about.live;
    if (!about.live) return;
    const scheme = this.form.elements.scheme;
    if (!scheme.options.length) scheme.append(...about.live.schemes.map((name) => new Option(name, name)));
    const faults = this.form.elements.faults;
    if (!faults.options.length) faults.append(...about.live.known_faults.map((name) => new Option(name, name)));
    for (const name of CHOSEN) this.form.elements[name].value = about.live[name];
  }

  async send() {
    const said = this.panel.querySelector("output");
    said.textContent = "starting…";
    const body = JSON.stringify(Object.fromEntries(CHOSEN.map((name) => [name, this.form.elements[name].value])));
    const answer = await fetch("live", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const found = await answer.json();
    said.replaceChildren(make("span", { text: answer.ok ? "started" : found.error }));
  }
}
