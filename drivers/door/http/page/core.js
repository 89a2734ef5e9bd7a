// Core memory, edited in place: a block is written over what was seen, never over what somebody wrote meanwhile.
//
// Guarantee: what the user is writing stays when the machine writes, too, and is said to be another then.
// Not here: other pages (page.js).

import { change, gathered, read } from "./api.js";
import { brief, count, day, el, fill, foreign } from "./text.js";

const HISTORY_MAX = 100;
const BY = {
  before: "stood there:", begun: "it was made with", fork: "its parent had", outside: "you wrote", process: "it wrote",
  reflection: "reflection wrote",
};

export class Core {
  constructor(place, say) {
    this.place = place;
    this.say = say;
    this.blocks = place.querySelector("#blocks");
    this.used = place.querySelector("#core-used");
    this.history = place.querySelector("#core-history");
    this.form = place.querySelector("#new-block");
    this.refresh = gathered(() => this.#load(), 150);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = new FormData(this.form);
      const block = String(given.get("block")).trim();
      this.#write(block, String(given.get("text")), this.digests.get(block) ?? this.digests.get(""))
        .then((done) => done && this.form.reset());
    });
  }

  /** The core memory of another process. */
  async open(name) {
    this.name = name;
    this.told = null;
    this.cards = new Map();
    fill(this.blocks);
    await this.#load();
  }

  /** A fact was found: the history has more, though the blocks are as they were. */
  found() {
    this.told = null;
    this.refresh();
  }

  async #load() {
    const name = this.name;
    if (!name) return;
    const found = await read("describe", { proc: name }).catch(() => null);
    if (found === null || name !== this.name) return;
    this.made = found.process;
    this.texts = new Map(Object.entries(this.made.spec.blocks ?? {})); // a block may be called as what any object has
    this.digests = new Map(Object.entries(this.made.digests));
    this.used.textContent = `${this.made.core.toLocaleString("en")} of ${count(this.made.core_max, "token")}`;
    for (const [block, card] of this.cards) {
      if (!this.texts.has(block)) {
        card.element.remove();
        this.cards.delete(block);
      }
    }
    for (const [block, text] of this.texts) {
      if (!this.cards.has(block)) this.#card(block);
      this.cards.get(block).take(text, this.digests.get(block));
    }
    this.blocks.dataset.empty = this.texts.size ? "" : "There are no blocks yet.";
    const now = JSON.stringify([name, this.made.digests]);
    if (this.place.hidden || now === this.told) return;
    this.told = now;
    await this.#versions();
  }

  #card(block) {
    const box = el("textarea", { rows: 4, spellcheck: false, "aria-label": `Core block ${block}` });
    const state = el("span", { className: "dim", role: "status" });
    const save = el("button", { type: "button", textContent: "Save", disabled: true,
      on: { click: () => this.#write(block, box.value, card.seen) } });
    const undo = el("button", { type: "button", className: "quiet", textContent: "Undo", hidden: true,
      on: { click: () => {
        [box.value, card.seen] = [card.text, card.digest];
        edited();
      } } });
    const drop = el("button", { type: "button", className: "quiet", textContent: "Remove",
      on: { click: () => window.confirm(`Remove block ${block}?`) && this.#write(block, "", card.digest) } });
    const edited = () => {
      const changed = box.value !== card.text;
      save.disabled = !changed || !box.value.trim();
      undo.hidden = !changed;
      state.textContent = !changed ? "" : card.seen === card.digest ? "not saved" : "written meanwhile by somebody else";
    };
    box.addEventListener("input", edited);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !save.disabled) save.click();
    });
    const card = {
      element: el("article", { className: "core", data: { block } },
        el("header", {}, el("h3", {}, foreign(block)), state, undo, drop, save), box),
      take(text, digest) {
        if (digest === card.digest) return;
        if (text === card.written) card.seen = digest; // what is being written goes on from there
        const untouched = card.text === undefined || box.value === card.text || box.value === text;
        [card.text, card.digest] = [text, digest];
        if (untouched) [box.value, card.seen] = [text, digest];
        edited();
      },
    };
    this.cards.set(block, card);
    this.blocks.append(card.element);
  }

  async #write(block, text, seen) {
    const card = this.cards.get(block);
    if (card) card.written = text;
    try {
      await change("core", { proc: this.name, block, text, seen });
    } catch (refused) {
      this.say(refused.message, true);
      return false;
    }
    this.say(text ? `Block ${block} is saved.` : `Block ${block} is removed.`);
    this.refresh();
    return true;
  }

  /** The versions of each block, and facts: read of the journal, so only where they are looked at. */
  async #versions() {
    const name = this.name;
    const found = await read("mem", { proc: name, limit: HISTORY_MAX }).catch(() => null);
    if (found === null || name !== this.name) return;
    fill(this.history, ...found.changes.toReversed().map((one) => this.#version(one)),
      !found.changes.length && el("li", { className: "empty", textContent: "Nothing was written yet." }),
      !found.whole && el("li", { className: "empty", textContent: "What was before is in no journal any more." }),
      found.more && el("li", { className: "empty", textContent: "llmos mem log has older ones." }));
  }

  #version(one) {
    const what = one.page ? "fact" : one.block;
    const now = this.texts.get(one.block) ?? "";
    const old = !one.page && one.lsn > 0 && (one.text ?? "") !== now;
    return el("li", {},
      el("time", { textContent: one.at ? day(one.at) : "earlier" }), ` ${BY[one.by] ?? one.by} `, brief(what, 60), " ",
      old && el("button", { type: "button", className: "quiet", textContent: "Restore",
        title: "write the block anew as it was then", on: { click: () => this.#restore(one) } }),
      one.text ? foreign(one.text, "version") : el("p", { className: "dim", textContent: "removed" }));
  }

  async #restore(one) {
    try {
      await change("revert", { proc: this.name, block: one.block, lsn: one.lsn });
      this.say(`Block ${one.block} is as it was.`);
    } catch (refused) {
      this.say(refused.message, true);
    }
    this.refresh();
  }
}
