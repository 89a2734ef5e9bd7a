// What is known of the past of a process: the last entries of its log, and what follows from them.
//
// Bounded: ENTRIES_MAX entries, asked for in parts; `whole` says that nothing is before the first.
// Not here: how it is shown (timeline.js, curves.js, map.js).

import { read } from "./api.js";

export const FIRST = 400;
export const ENTRIES_MAX = 4000;

export class Journal {
  /** The past of a process, to be loaded. */
  constructor(proc) {
    this.proc = proc;
    this.entries = [];
    this.before = 0;
    this.whole = false;
  }

  /** The last entries, in the place of those that are known; what happened meanwhile stays behind them. */
  async load() {
    const found = await read("past", { proc: this.proc, limit: FIRST });
    const last = found.entries.at(-1)?.lsn ?? 0;
    this.entries = [...found.entries, ...this.entries.filter((entry) => entry.lsn > last)];
    this.before = found.before;
    this.whole = !found.before;
  }

  /** What was before. */
  async older() {
    if (this.whole) return;
    const found = await read("past", { proc: this.proc, limit: FIRST, before: this.before });
    this.entries = [...found.entries, ...this.entries].slice(0, ENTRIES_MAX);
    this.before = found.before;
    this.whole = !found.before || this.entries.length >= ENTRIES_MAX;
  }

  /** Something happened; false if it is known. */
  add(entry) {
    if (this.entries.length && entry.lsn <= this.entries.at(-1).lsn) return false;
    this.entries.push(entry);
    if (this.entries.length > ENTRIES_MAX) {
      this.entries = this.entries.slice(-FIRST);
      this.before = this.entries[0].lsn;
      this.whole = false;
    }
    return true;
  }

  /** All notes, oldest first, each with when it was: [entry, note]. */
  notes() {
    return this.entries.flatMap((entry) => entry.notes.map((note) => [entry, note]));
  }

  /** By page, how often instructions drew on it, as far as the past is known. */
  hits() {
    const found = new Map();
    for (const page of this.entries.flatMap((entry) => entry.ran?.drew ?? [])) {
      found.set(page, (found.get(page) ?? 0) + 1);
    }
    return found;
  }

  /** Runs of the CPU: number, tokens of the prompt and those of it that were evaluated. */
  runs() {
    return this.entries.filter((entry) => entry.ran?.prompt).map((entry) => ({
      lsn: entry.lsn, at: entry.at, prompt: entry.ran.prompt, prefill: entry.ran.prefill ?? 0,
      decoded: entry.ran.decoded ?? 0,
    }));
  }
}
