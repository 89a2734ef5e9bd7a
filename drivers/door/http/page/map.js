// The memory map: the window as it is in the prompt, page by page in proportion to tokens.
//
// Colour is the segment, texture the origin, paleness the age of what is queued; a bar below says how often a page was
// drawn on, a frame that it is pinned. What came since the last look lights up, what left falls out. Above BLOCKS_MAX
// pages neighbours of a segment share a block, so a window of any size is drawn. A table beside it says the same.
// Not here: what is told of one page (page.js), the log (watch.js).

import { gathered, read } from "./api.js";
import { ago, brief, count, el, fill, table } from "./text.js";

export const SEGMENTS = ["text", "data", "queue", "recall", "turn"];
const LETTER = {
  user: "U", process: "P", kernel: "K", file: "F", import: "I", peer: "E", tool: "T", derived: "D",
};
const ROWS = { wide: 8, narrow: 12 };
const BLOCKS_MAX = 1000;
const TABLE_PART = 200;
const GHOSTS_MAX = 40;
const LETTER_PX = 13;
const FREE_PX = 190;

export class MemoryMap {
  /** `show`: called with a page's number. */
  constructor(place, show) {
    this.show = show;
    this.place = place.querySelector("#map");
    this.blocks = el("div");
    this.ghosts = el("div");
    this.place.append(this.blocks, this.ghosts);
    this.legend = place.querySelector("#legend");
    this.rows = place.querySelector("#pages");
    this.title = place.querySelector("#map-title");
    this.refresh = gathered(() => this.#load(), 100);
    this.place.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.space && this.#draw(false)).observe(this.place);
  }

  /** The memory of another process, of whose past `journal` knows. */
  async open(name, journal) {
    this.name = name;
    this.journal = journal;
    this.space = null;
    this.known = null;
    this.shown = TABLE_PART;
    fill(this.blocks);
    fill(this.ghosts);
    await this.#load();
  }

  /** In which segment a page is in view, with its row; null if it is not. */
  find(page) {
    for (const segment of this.space?.segments ?? []) {
      const row = segment.pages.find(([number]) => number === page);
      if (row) return { segment: segment.name, row };
    }
    return null;
  }

  async #load() {
    const name = this.name;
    if (!name) return;
    const found = await read("pmap", { proc: name, texts: true }).catch(() => null);
    if (found === null || name !== this.name) return;
    this.space = found.map;
    this.texts = found.texts;
    this.about = found.about;
    this.#draw(true);
  }

  /** Blocks of the window in prompt order, then what of it is free; their tokens come to the window. */
  #blocks() {
    const hits = this.journal.hits();
    const of = Object.fromEntries(this.space.segments.map((one) => [one.name, one]));
    const total = this.space.segments.reduce((sum, one) => sum + one.pages.length, 0);
    const bin = Math.ceil(total / BLOCKS_MAX);
    const blocks = [];
    for (const name of SEGMENTS) {
      const pages = of[name]?.pages ?? [];
      for (let at = 0; at < pages.length; at += bin) {
        const some = pages.slice(at, at + bin);
        const [page, kind] = some[0];
        blocks.push({
          segment: name, page, kind, pages: some, tokens: some.reduce((sum, row) => sum + row[3], 0),
          pinned: some.some((row) => row[4]), origin: this.about[page]?.origin ?? "kernel", at: this.about[page]?.at ?? 0,
          hits: some.reduce((sum, row) => sum + (hits.get(row[0]) ?? 0), 0),
        });
      }
    }
    const used = (name) => (of[name]?.pages ?? []).reduce((sum, row) => sum + row[3], 0);
    const left = (name) => Math.max(0, (of[name]?.capacity ?? 0) - used(name));
    const free = [
      ["queue", Math.max(0, left("queue") - used("turn")), "free for the queue"],
      ["recall", left("recall"), "kept for what is recalled"], ["data", left("data"), "kept for core memory"],
    ];
    let rest = this.space.window - blocks.reduce((sum, one) => sum + one.tokens, 0);
    for (const [segment, tokens, says] of free) {
      const fits = Math.min(tokens, rest);
      if (fits > 0) blocks.push({ segment, free: says, tokens: fits });
      rest -= fits;
    }
    if (rest > 0) blocks.push({ segment: "reply", free: "kept for the reply and its frame", tokens: rest });
    return blocks;
  }

  #draw(news) {
    const width = this.place.clientWidth;
    if (!width) return;
    const blocks = this.#blocks();
    const rows = width < 520 ? ROWS.narrow : ROWS.wide;
    const row = this.space.window / rows;
    const before = this.known;
    const now = new Map(blocks.filter((one) => !one.free).flatMap((one) => one.pages.map(([page]) => [page, one])));
    const ages = blocks.filter((one) => one.at).map((one) => one.at).sort((a, b) => a - b);
    const focused = this.place.contains(document.activeElement) ? Number(document.activeElement.dataset.page) : 0;
    const drawn = [];
    let at = 0;
    for (const one of blocks) {
      const came = news && before && !one.free && one.pages.some(([page]) => !before.has(page));
      one.age = ages.length > 1 && ["queue", "turn"].includes(one.segment) ? 1 - ages.indexOf(one.at) / (ages.length - 1) : 0;
      one.places = pieces(at, one.tokens, row);
      drawn.push(...this.#elements(one, rows, width, came));
      at += one.tokens;
    }
    const gone = news && before
      ? [...before].filter(([page, one]) => !now.has(page) && one.pages[0][0] === page).slice(0, GHOSTS_MAX) : [];
    this.ghosts.append(...gone.flatMap(([, one]) => this.#ghost(one, rows)));
    if (news) this.known = now;
    fill(this.blocks, ...drawn);
    this.place.style.setProperty("--rows", rows);
    const target = this.place.querySelector(`button[data-page="${focused || this.at || 0}"]`)
      ?? this.place.querySelector("button");
    if (target) target.tabIndex = 0;
    if (focused) target?.focus();
    this.#say(blocks);
  }

  #elements(one, rows, width, came) {
    return one.places.map((piece, at) => {
      const first = at === 0;
      const name = one.free ? "div" : first ? "button" : "span";
      const made = el(name, {
        className: `block ${one.free ? "free" : one.origin} ${one.pinned ? "pinned" : ""} ${came ? "came" : ""}`,
        data: { segment: one.segment, ...(one.free ? {} : { page: one.page }) },
        title: one.free ? `${count(one.tokens, "token")} ${one.free}` : this.#title(one),
        ...(name === "button" ? { type: "button", tabIndex: -1, "aria-label": this.#title(one),
          on: { click: () => this.show(one.page) } } : { "aria-hidden": "true" }),
      });
      place(made, piece, rows);
      if (one.free) {
        if (first && piece.width * width > FREE_PX) made.append(el("i", { textContent: one.free }));
        return made;
      }
      made.style.setProperty("--age", one.age.toFixed(2));
      if (one.hits) made.style.setProperty("--hits", Math.min(3, one.hits));
      if (first && piece.width * width > LETTER_PX) made.append(el("i", { textContent: LETTER[one.origin] ?? "?" }));
      return made;
    });
  }

  /** What has left, as it was, for a moment. */
  #ghost(one, rows) {
    return one.places.map((piece) => {
      const made = el("span", { className: `block ghost ${one.origin}`, "aria-hidden": "true",
        data: { segment: one.segment } });
      made.addEventListener("animationend", () => made.remove());
      setTimeout(() => made.remove(), 2000);
      place(made, piece, rows);
      return made;
    });
  }

  #title(one) {
    const what = one.pages.length > 1 ? `pages ${one.page} to ${one.pages.at(-1)[0]}` : `page ${one.page}`;
    return `${what}: ${one.segment}, ${one.kind} of ${one.origin}, ${count(one.tokens, "token")}` +
      `${one.at ? `, ${ago(one.at)} old` : ""}${one.pinned ? ", pinned" : ""}` +
      `${one.hits ? `, drawn on ${count(one.hits, "time")}` : ""}`;
  }

  #say(blocks) {
    const used = blocks.filter((one) => !one.free).reduce((sum, one) => sum + one.tokens, 0);
    this.title.textContent = `${used.toLocaleString("en")} of ${count(this.space.window, "token")}`;
    fill(this.legend, ...this.space.segments.map((one) => {
      const tokens = one.pages.reduce((sum, row) => sum + row[3], 0);
      return el("li", { data: { segment: one.name } }, el("span", { className: "swatch", "aria-hidden": "true" }),
        `${one.name} `, el("b", { textContent: tokens.toLocaleString("en") }),
        el("span", { className: "dim", textContent: ` of ${one.capacity.toLocaleString("en")}` }));
    }));
    if (this.rows.closest("details").open) this.table();
  }

  /** The same as rows. */
  table() {
    if (!this.space) return;
    const hits = this.journal.hits();
    const all = this.space.segments.flatMap((one) => one.pages.map((row) => [one.name, row]));
    const rows = all.slice(0, this.shown).map(([segment, [page, kind, , tokens, pinned]]) => [
      el("button", { type: "button", className: "quiet", textContent: page, on: { click: () => this.show(page) } }),
      segment, kind, this.about[page]?.origin ?? "", String(tokens), this.about[page] ? ago(this.about[page].at) : "",
      String(hits.get(page) ?? ""), pinned ? "pinned" : "", brief(this.texts[page] ?? "", 90),
    ]);
    const head = ["Page", "Segment", "Kind", "Origin", "Tokens", "Age", "Hits", "Pin", "Text"];
    fill(this.rows, table("Pages in view, in prompt order", head, rows, [0, 4, 6]),
      all.length > this.shown && el("button", { type: "button", className: "quiet",
        textContent: `More of ${all.length}`,
        on: { click: () => {
          this.shown += TABLE_PART;
          this.table();
        } } }));
  }

  #key(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by && !["Home", "End"].includes(event.key)) return;
    const all = [...this.place.querySelectorAll("button")];
    const at = all.indexOf(document.activeElement);
    const next = event.key === "Home" ? all[0] : event.key === "End" ? all.at(-1) : all[at + by];
    if (at < 0 || !next) return;
    event.preventDefault();
    all[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  /** The page whose details are shown. */
  chosen(page) {
    this.at = page;
    for (const one of this.place.querySelectorAll("[data-page]")) {
      one.classList.toggle("chosen", Number(one.dataset.page) === page);
    }
  }
}

/** Where `tokens` from token `at` on stand in rows of so many: {row, left, width}, as shares of a row. */
export function pieces(at, tokens, row) {
  const found = [];
  while (tokens > 1e-9) {
    const number = Math.floor(at / row + 1e-9);
    const here = Math.min(tokens, (number + 1) * row - at);
    found.push({ row: number, left: (at - number * row) / row, width: here / row });
    at += here;
    tokens -= here;
  }
  return found;
}

function place(made, piece, rows) {
  made.style.left = `${100 * piece.left}%`;
  made.style.width = `${100 * piece.width}%`;
  made.style.top = `${(100 * piece.row) / rows}%`;
  made.style.height = `${100 / rows}%`;
}
