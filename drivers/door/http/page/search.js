// Search over every page of every process: what was said, called, answered, remembered, summarised.
//
// Not here: what a process itself finds (its own searches are by meaning, too).

import { read } from "./api.js";
import { day, el, fill, marked, brief } from "./text.js";

const PART = 30;

export class Search {
  /** `show`: called with the name of a process and a page. `names`: a process's name by its number. */
  constructor(place, names, show) {
    this.form = place.querySelector("#search-form");
    this.found = place.querySelector("#found");
    this.state = place.querySelector("#search-state");
    this.more = place.querySelector("#more-found");
    this.names = names;
    this.show = show;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      fill(this.found);
      this.asked = { text: this.form.elements.text.value.trim(), number: (this.asked?.number ?? 0) + 1,
        proc: this.form.elements.here.checked ? this.name : undefined };
      this.count = 0;
      if (this.asked.text) this.#part(0);
    });
    this.more.addEventListener("click", () => this.#part(this.before));
  }

  /** The process that "this process" means. */
  open(name) {
    this.name = name;
  }

  async #part(before) {
    const { text, proc, number } = this.asked;
    this.state.textContent = "searching";
    this.more.hidden = true;
    let answer;
    try {
      answer = await read("grep", { text, proc, before, limit: PART });
    } catch (refused) {
      this.state.textContent = refused.message;
      return;
    }
    if (number !== this.asked.number) return;
    this.before = answer.before;
    this.count += answer.matches.length;
    this.more.hidden = !answer.before;
    this.state.textContent = `${this.count} found${answer.before ? " so far" : ""}`;
    const words = text.toLowerCase().split(/\s+/);
    this.found.append(...answer.matches.map((one) => this.#row(one, words)));
  }

  #row(one, words) {
    const name = this.names(one.pid) ?? String(one.pid);
    return el("li", {}, el("button", { type: "button", className: "match",
      on: { click: () => this.show(name, one.page) } },
    el("span", { className: "dim" }, brief(name, 40), ` page ${one.page}, ${one.kind} of ${one.origin}, ${day(one.at)}`),
    marked(one.text, words)));
  }
}
