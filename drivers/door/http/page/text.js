// Text of others as it may be shown: a string becomes a text node, never markup, never a link.
//
// The rule is that of kernel/text.py, seen instead of replaced: what would move a cursor, turn a line round or hide
// is written as its number, and every such text stands in an isolate of its own direction.
// Nothing is drawn anew under a finger: a place that is pressed is filled when it is let go, so a click is never lost.
// Not here: what is shown where.

const UNSEEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e" +
  "\\u2060-\\u2069\\ufeff\\u{e0000}-\\u{e007f}]", "gu");

const number = (one) => `\u27e8U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`;

/** `text` with all that is not to be obeyed made visible. */
export const shown = (text) => String(text ?? "").replace(UNSEEN, number);

/** The same on one line, cut at `most` characters. */
export function line(text, most = 160) {
  const flat = shown(String(text ?? "").slice(0, 2 * most).replace(/\s+/g, " ").trim());
  return flat.length > most ? `${flat.slice(0, most)}\u2026` : flat;
}

const present = (one) => one !== null && one !== undefined && one !== false;

/** An element: `set` has properties, `on`: listeners, `data`: data attributes, `aria-...`: attributes. */
export function el(tag, set = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(set)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") Object.entries(value).forEach(([event, call]) => made.addEventListener(event, call));
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(present));
  return made;
}

/** A text of somebody else's, in an isolate. */
export const foreign = (text, className = "") =>
  el("bdi", { className: `foreign ${className}`.trim(), dir: "auto", textContent: shown(text) });

/** The same on one line. */
export const brief = (text, most) => el("bdi", { className: "foreign", dir: "auto", textContent: line(text, most) });

/** A text of somebody else's in which words are marked. */
export function marked(text, words) {
  const whole = shown(text.replace(/\s+/g, " "));
  const lower = whole.toLowerCase();
  const made = el("bdi", { className: "foreign", dir: "auto" });
  let at = 0;
  while (at < whole.length) {
    const next = words.map((word) => [lower.indexOf(word, at), word]).filter(([place]) => place >= 0);
    if (!next.length || lower.length !== whole.length) break;
    const [place, word] = next.reduce((one, other) => (other[0] < one[0] ? other : one));
    made.append(whole.slice(at, place), el("mark", { textContent: whole.slice(place, place + word.length) }));
    at = place + word.length;
  }
  made.append(whole.slice(at));
  return made;
}

const later = new Map(); // places that are pressed, and what they are to be filled with
let pressed = null;

document.addEventListener("pointerdown", (event) => {
  if (event.button === 0) pressed = event.target; // of a menu's the end may never be told
}, true);
for (const ends of ["pointerup", "pointercancel"]) {
  document.addEventListener(ends, () => setTimeout(released), true); // the click comes before that
}

function released() {
  pressed = null;
  for (const [place, children] of later) fill(place, ...children);
  later.clear();
}

/** Put these in the place of what stands in an element; once it is let go, where it is pressed. */
export function fill(place, ...children) {
  if (pressed && place.contains(pressed)) later.set(place, children);
  else place.replaceChildren(...children.filter(present));
}

/** The same at once, and what stands there already and is to stay is not touched. */
export function keep(place, ...children) {
  const wanted = children.filter(present);
  for (const one of [...place.childNodes]) if (!wanted.includes(one)) one.remove();
  wanted.forEach((one, at) => one !== place.childNodes[at] && place.insertBefore(one, place.childNodes[at] ?? null));
}

/** A table with a header; rows are lists of nodes and strings. `numeric`: columns set right. */
export function table(caption, head, rows, numeric = []) {
  const cell = (tag) => (one, at) =>
    el(tag, { className: numeric.includes(at) ? "number" : "", scope: tag === "th" ? "col" : undefined }, one ?? "");
  return el("table", {},
    el("caption", { className: "unseen", textContent: caption }),
    el("thead", {}, el("tr", {}, ...head.map(cell("th")))),
    el("tbody", {}, ...rows.map((row) => el("tr", row.set ?? {}, ...(row.cells ?? row).map(cell("td"))))));
}

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
export const clock = (ns) => new Date(ns / 1e6).toLocaleTimeString("en-GB");
export const day = (ns) => new Date(ns / 1e6).toLocaleString("en-GB");

/** How long ago, in one unit. */
export function ago(ns) {
  const s = Math.max(0, (Date.now() - ns / 1e6) / 1000);
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([size]) => s >= size) ?? [1, "s"];
  return `${Math.floor(s / size)} ${unit}`;
}
