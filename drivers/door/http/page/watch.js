// What happens to memory and turns, as it happens: a live log of evictions, faults, interrupts and what else is noted.
//
// Bounded: the last LINES_MAX lines. Not here: the past (timeline.js).

import { clock, count, el, line } from "./text.js";

const LINES_MAX = 150;
const PAGES_MAX = 8;
const MEMORY = ["evict", "fault", "fold", "summary", "fact"];

/** A note in words, with buttons for the pages that it names. */
export function told(note, show) {
  const parts = [el("b", { textContent: note.line !== undefined ? `${note.what} ${lineName(note.line)}` : note.what })];
  const pages = note.pages ?? [];
  if (pages.length && MEMORY.includes(note.what)) parts.push(` ${count(pages.length, "page")},`);
  if (note.tokens) parts.push(` ${count(note.tokens, "token")}`);
  if (note.text) parts.push(` ${line(note.text, 120)}`);
  if (note.ns) parts.push(` after ${(note.ns / 1e6).toFixed(1)} ms`);
  pages.slice(0, PAGES_MAX).forEach((page) => parts.push(" ", el("button", {
    type: "button", className: "link", textContent: page, title: `show page ${page}`, on: { click: () => show(page) } })));
  if (pages.length > PAGES_MAX) parts.push(` and ${pages.length - PAGES_MAX} more`);
  return parts;
}

const LINES = ["KILL", "MEMORY", "USER", "IPC", "CHILD", "TIMER", "DEVICE"];
/** The name of an interrupt line by its number, as events have it. */
export const lineName = (number) => LINES[number] ?? String(number);

export class Watch {
  constructor(place, show) {
    this.place = place;
    this.show = show;
  }

  /** Another process is watched, of which this was the last that happened. */
  open(entries) {
    this.place.replaceChildren();
    entries.forEach((entry) => this.entry(entry));
  }

  /** Something happened. */
  entry(entry) {
    for (const note of entry.notes) {
      this.place.prepend(el("li", { data: { what: note.what } },
        el("time", { textContent: clock(entry.at) }), " ", ...told(note, this.show)));
    }
    while (this.place.childElementCount > LINES_MAX) this.place.lastElementChild.remove();
  }
}
