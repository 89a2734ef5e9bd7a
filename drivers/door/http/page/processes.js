// The processes of the machine: a list in parts, one made, killed, removed.
//
// Not here: the one that is open (main.js).

import { change, gathered, read } from "./api.js";
import { brief, count, el, fill } from "./text.js";

const EVERY_MS = 4000;

export class Processes {
  /** `place`: the navigation; `open`: called with a name; `seen`: with all that are known, now and then. */
  constructor(place, open, seen, say) {
    this.open = open;
    this.seen = seen;
    this.say = say;
    this.list = place.querySelector("#processes");
    this.more = place.querySelector("#more-processes");
    this.form = place.querySelector("#make");
    this.found = [];
    this.parts = 1;
    this.refresh = gathered(() => this.#load(), 60);
    this.more.addEventListener("click", () => {
      this.parts += 1;
      this.refresh();
    });
    this.form.addEventListener("submit", (event) => this.#make(event));
    setInterval(() => document.hidden || this.refresh(), EVERY_MS);
  }

  /** Which one is open. */
  chosen(name) {
    this.name = name;
    this.#show();
  }

  async #load() {
    const found = [];
    let more = true;
    for (let part = 0; part < this.parts && more; part += 1) {
      const answer = await read("ps", { after: found.at(-1)?.pid ?? 0 }).catch(() => null);
      if (answer === null) return;
      found.push(...answer.processes);
      more = answer.more;
    }
    this.found = found;
    this.rest = more;
    this.#show();
    this.seen(found);
  }

  #show() {
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    fill(this.list, ...this.found.map((one) => this.#row(one)));
    this.more.hidden = !this.rest;
    if (focused !== null) [...this.list.querySelectorAll("button")].find((b) => b.dataset.name === focused)?.focus();
  }

  #row(one) {
    const share = one.memory.queue ? Math.round((100 * one.memory.used) / one.memory.queue) : 0;
    const full = el("span", { className: "full", "aria-hidden": "true" }, el("span", {}));
    full.firstChild.style.width = `${share}%`;
    const asks = one.asks === one.pid;
    return el("li", {},
      el("button", {
        type: "button", className: "proc", data: { name: one.name, state: asks ? "asks" : one.state },
        "aria-current": one.name === this.name ? "page" : undefined,
        title: `process ${one.pid}, ${one.state}${one.status ? `: ${one.status}` : ""}; ${share} % of its queue is full`,
        on: { click: () => this.open(one.name) },
      },
      el("span", { className: "name" }, brief(one.name, 60)),
      el("span", { className: "state", textContent: asks ? "asks" : one.state }), full));
  }

  async #make(event) {
    event.preventDefault();
    const given = new FormData(this.form);
    const name = String(given.get("name")).trim();
    const spec = { name };
    if (String(given.get("system")).trim()) spec.system = String(given.get("system"));
    if (String(given.get("human")).trim()) spec.blocks = { human: String(given.get("human")) };
    try {
      await change("spawn", { spec });
    } catch (refused) {
      this.say(refused.message, true);
      return;
    }
    this.form.reset();
    this.form.closest("details").open = false;
    this.refresh();
    this.open(name);
  }

  /** Kill a process, or remove a dead one for good. */
  async end(view) {
    const dead = view.state === "zombie";
    const asked = dead
      ? `Remove ${view.name} for good, with ${count(view.memory.pages, "page")} of memory?`
      : `Kill ${view.name}? Its memory is kept.`;
    if (!window.confirm(asked)) return false;
    await change(dead ? "remove" : "kill", { proc: view.name });
    this.refresh();
    return dead;
  }

  /** The process before or after the one that is open. */
  beside(by) {
    const at = this.found.findIndex((one) => one.name === this.name);
    const next = this.found[at + by];
    if (next) this.open(next.name);
  }
}
