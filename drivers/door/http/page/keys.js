// Keys: what each does stands here once, and the dialog that "?" opens lists it.

import { el, fill } from "./text.js";

/** Listen for keys outside of fields. `bindings`: [key, meaning, call]. */
export function listen(bindings, dialog, list) {
  const shownAs = (key) => ({ Escape: "Esc" }[key] ?? key);
  fill(list, ...bindings.flatMap(([key, meaning]) => [
    el("dt", {}, el("kbd", { textContent: shownAs(key) })), el("dd", { textContent: meaning })]),
  el("dt", {}, el("kbd", { textContent: "Arrows" })), el("dd", { textContent: "in the map or the tabs: the next one" }),
  el("dt", {}, el("kbd", { textContent: "Enter" })), el("dd", { textContent: "send; Shift-Enter begins a new line" }),
  el("dt", {}, el("kbd", { textContent: "Ctrl-Enter" })), el("dd", { textContent: "save a core block" }));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    const writing = event.target.closest("input, textarea, select");
    if (writing && event.key !== "Escape") return;
    const found = bindings.find(([key]) => key === event.key);
    if (!found) return;
    if (event.key !== "Escape") event.preventDefault();
    found[2]();
    if (writing) event.target.blur();
  });
}
