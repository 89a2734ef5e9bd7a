// Interrupts, timers, runs, syscalls, faults and evictions of a process, on a time line of steps.
//
// A step of the log is a column, for time itself is minutes of nothing and then much at once; its clock stands below.
// Bounded: the last COLUMNS_MAX steps in the picture, ROWS_MAX in the table. Not here: where steps come from
// (journal.js).

import { gathered } from "./api.js";
import { clock, day, el, fill, line, table } from "./text.js";
import { says, svg } from "./svg.js";
import { lineName, told } from "./watch.js";

const COLUMNS_MAX = 600;
const ROWS_MAX = 200;
const COLUMN = 9;
const LANE = 22;
const LEFT = 78;

/** Lanes from top to bottom, each with what stands in it. */
const LANES = [
  ["user", (note) => note.what === "delivered" && note.line === 2],
  ["timer", (note) => ["delivered", "coalesced"].includes(note.what) && note.line === 5],
  ["memory", (note) => note.what === "delivered" && note.line === 1],
  ["other", (note) => ["delivered", "interrupt"].includes(note.what) && [0, 3, 4, 6].includes(note.line)],
  ["run", (note) => note.what === "run"],
  ["syscall", (note) => note.what === "run" && called(note) && called(note) !== "send_message"],
  ["fault", (note) => note.what === "fault"],
  ["evict", (note) => ["evict", "fold"].includes(note.what)],
  ["trouble", (note) => ["error", "abort", "thrash", "suspend", "exit"].includes(note.what)],
];

/** The syscall that a run came to; "" for one that was preempted. */
const called = (note) => {
  const name = (note.text ?? "").split(",")[0];
  return ["preempted", "illegal", "failed", "syscall"].includes(name) ? "" : name;
};

export class TimeLine {
  constructor(place, show) {
    this.show = show;
    this.picture = place.querySelector("#lanes");
    this.rows = place.querySelector("#steps");
    this.more = place.querySelector("#older-steps");
    this.place = place;
    this.refresh = gathered(async () => this.draw(), 250);
    this.more.addEventListener("click", async () => {
      await this.journal.older().catch(() => null);
      this.draw();
    });
  }

  /** Another process. */
  open(journal) {
    this.journal = journal;
    this.draw();
  }

  /** The steps that are known, if they can be seen. */
  draw() {
    if (!this.journal || this.place.hidden) return;
    const entries = this.journal.entries.slice(-COLUMNS_MAX);
    const lanes = LANES.filter(([name, of]) => ["user", "run", "syscall", "fault", "evict"].includes(name)
      || entries.some((entry) => entry.notes.some(of)));
    const width = LEFT + Math.max(1, entries.length) * COLUMN + 20;
    const height = lanes.length * LANE + 24;
    const drawn = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `${entries.length} steps; the table below lists them` });
    lanes.forEach(([name], at) => {
      const y = at * LANE + LANE / 2;
      const label = svg("text", { x: 4, y: y + 4, class: "lane" });
      label.textContent = name;
      drawn.append(svg("line", { x1: LEFT, x2: width, y1: y, y2: y, class: "rule" }), label);
    });
    let told_at = -Infinity;
    entries.forEach((entry, at) => {
      const x = LEFT + at * COLUMN + COLUMN / 2;
      for (const note of entry.notes) {
        lanes.forEach(([name, of], lane) => {
          if (of(note)) drawn.append(mark(name, x, lane * LANE + LANE / 2, entry, note));
        });
      }
      if (x - told_at > 90) {
        const label = svg("text", { x, y: height - 6, class: "tick" });
        label.textContent = clock(entry.at);
        drawn.append(label);
        told_at = x;
      }
    });
    const end = this.picture.scrollLeft + this.picture.clientWidth >= this.picture.scrollWidth - 30;
    fill(this.picture, drawn);
    if (end || !this.drawn) this.picture.scrollLeft = this.picture.scrollWidth;
    this.drawn = true;
    this.more.hidden = this.journal.whole;
    this.#table(entries);
  }

  #table(entries) {
    const rows = entries.slice(-ROWS_MAX).reverse().flatMap((entry) => entry.notes.toReversed().map((note) => ({
      set: { data: { what: note.what } },
      cells: [String(entry.lsn), el("time", { textContent: clock(entry.at), title: day(entry.at) }),
        el("span", {}, ...told(note, this.show))],
    })));
    fill(this.rows, table("Steps, newest first", ["Step", "Time", "What happened"], rows, [0]));
  }
}

function mark(lane, x, y, entry, note) {
  const title = says(`step ${entry.lsn}, ${clock(entry.at)}: ${note.what}` +
    `${note.line !== undefined ? ` ${lineName(note.line)}` : ""} ${line(note.text ?? "", 80)}`);
  const set = { class: `mark ${lane}` };
  if (["fault", "user"].includes(lane)) {
    return svg("path", { ...set, d: `M${x} ${y - 6}l4.5 10h-9z` }, title);
  }
  if (["evict", "trouble"].includes(lane)) return svg("path", { ...set, d: `M${x} ${y + 6}l4.5 -10h-9z` }, title);
  if (lane === "run") return svg("rect", { ...set, x: x - 3.5, y: y - 6, width: 7, height: 12 }, title);
  return svg("circle", { ...set, cx: x, cy: y, r: 4 }, title);
}
