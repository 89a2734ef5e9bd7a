// What the open process, or one that it waits for, asks its user: a call that waits until somebody lets it or does not;
// and which others ask something.
//
// Guarantee: the notice is made of what the machine says of the call, never of what a process says, and an answer is to
// the question that is shown and to no other. Not here: by which policy it asks (rights.js).

import { change, gathered, read } from "./api.js";
import { brief, el, fill, foreign } from "./text.js";

const PAGES_MAX = 12;
const OTHERS_MAX = 5;

export class Consent {
  /** `go`: called with the name of a process; `show`: and with a page; `answered`: when a question may be gone. */
  constructor(place, go, show, answered, say) {
    this.place = place.querySelector("#question");
    this.others = place.querySelector("#others");
    this.go = go;
    this.show = show;
    this.answered = answered;
    this.say = say;
    this.asks = 0;
    this.told = "";
    this.found = [];
    this.named = "";
    this.refresh = gathered(() => this.#load(), 40);
  }

  /** Who asks, by number: the open process, or one that it waits for; 0: nobody. */
  look(asks) {
    this.asks = asks;
    this.refresh();
    this.#named();
  }

  /** All processes that are known, of which some may ask. */
  seen(found) {
    this.found = found;
    this.#named();
  }

  #named() {
    const names = this.found.filter((one) => one.asks === one.pid && one.pid !== this.asks).map((one) => one.name);
    if (JSON.stringify(names) === this.named) return;
    this.named = JSON.stringify(names);
    const more = names.length - OTHERS_MAX;
    fill(this.others, names.length > 0 && el("span", {}, "Others ask: ",
      ...names.slice(0, OTHERS_MAX).flatMap((name, at) => [at ? ", " : "",
        el("button", { type: "button", className: "link", on: { click: () => this.go(name) } }, brief(name, 60))]),
      more > 0 && ` and ${more} more`));
  }

  async #load() {
    const asks = this.asks;
    const found = asks ? await read("caps", { proc: asks }).catch(() => null) : null;
    if (asks !== this.asks) return;
    const asked = found?.rights.asks ?? null;
    const told = asked ? `${asked.pid}.${asked.req}` : "";
    if (told === this.told) return;
    this.told = told;
    fill(this.place, asked && this.#notice(asked, found));
  }

  #notice(asked, found) {
    const more = asked.low.length - PAGES_MAX;
    const answer = (label, yes, className) => el("button", { type: "button", className, textContent: label,
      on: { click: () => this.#answer(asked, yes) } });
    return el("section", { className: "asks", "aria-label": "A question" },
      el("h3", {}, brief(asked.name, 60), " asks whether it may do this"),
      el("div", { className: "whole", tabIndex: 0, role: "region", "aria-label": "The call" }, foreign(asked.text)),
      el("p", {}, "Its policy is to ask before ", el("code", {}, brief(asked.call, 80)),
        " while text that is not yours is in view:"),
      el("ul", {}, ...asked.low.slice(0, PAGES_MAX).map((page) => el("li", {},
        el("button", { type: "button", className: "link", textContent: `page ${page}`, title: `show page ${page}`,
          on: { click: () => this.show(asked.name, page) } }),
        ` of ${found.about[page]?.origin ?? "somebody"}: `, brief(found.texts[page], 120))),
      more > 0 && el("li", { className: "dim", textContent: `and ${more} more` })),
      el("p", { className: "answers" }, answer("Allow once", true), answer("Deny", false, "quiet")));
  }

  async #answer(asked, yes) {
    this.place.querySelectorAll(".answers button").forEach((button) => (button.disabled = true));
    try {
      await change("allow", { proc: asked.pid, req: asked.req, yes });
      this.say(yes ? "Allowed, this once." : "Denied.");
    } catch (refused) {
      this.say(refused.message, true);
    }
    this.told = "?"; // whatever is asked now is drawn anew
    this.answered();
  }
}
