// Prefill saved, and pages that came and went, as curves over the runs of a process; the same runs as a table.
//
// Not here: where runs come from (journal.js), how a curve is drawn (vendor/: uPlot).

import uPlot from "./vendor/uPlot.esm.js";
import { gathered } from "./api.js";
import { clock, el, fill, table } from "./text.js";

const RUNS_MAX = 1000;
const ROWS_MAX = 100;
const HEIGHT = 210;
const STEPS = [1, 2, 5].flatMap((one) => [1, 10, 100, 1000, 10000, 100000].map((by) => one * by)).sort((a, b) => a - b);

export class Curves {
  constructor(place) {
    this.place = place;
    this.prefill = place.querySelector("#prefill");
    this.moved = place.querySelector("#moved");
    this.saved = place.querySelector("#saved");
    this.rows = place.querySelector("#runs");
    this.plots = [];
    this.refresh = gathered(async () => this.draw(), 400);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(place);
  }

  /** Another process. */
  open(journal) {
    this.journal = journal;
    this.draw();
  }

  /** The curves of what is known, if they can be seen. */
  draw() {
    if (!this.journal || this.place.hidden || !this.place.clientWidth) return;
    const runs = this.journal.runs().slice(-RUNS_MAX);
    const total = runs.reduce((sum, one) => sum + one.prompt, 0);
    const evaluated = runs.reduce((sum, one) => sum + one.prefill, 0);
    fill(this.saved, runs.length
      ? `${(100 * (1 - evaluated / total)).toFixed(1)} % of ${total.toLocaleString("en")} prompt tokens in ` +
        `${runs.length} runs were in KV already and not evaluated again.`
      : "It has not run yet.");
    this.plots.forEach((one) => one.destroy());
    fill(this.prefill);
    fill(this.moved);
    this.plots = runs.length ? [this.#prefill(runs), this.#moved()] : [];
    this.#table(runs);
  }

  #prefill(runs) {
    const x = runs.map((_, at) => at + 1);
    return plot(this.prefill, "run", [
      { label: "prompt", stroke: colour("--queue"), fill: colour("--queue-pale") },
      { label: "evaluated", stroke: colour("--recall"), fill: colour("--recall-pale") },
    ], [x, runs.map((one) => one.prompt), runs.map((one) => one.prefill)]);
  }

  /** Counts as they stood at each run: pages since the first step that is known. */
  #moved() {
    let [faults, evictions] = [0, 0];
    const points = [];
    for (const entry of this.journal.entries) {
      for (const note of entry.notes) {
        if (note.what === "fault") faults += note.pages?.length ?? 0;
        if (note.what === "evict") evictions += note.pages?.length ?? 0;
      }
      if (entry.ran?.prompt) points.push([faults, evictions]);
    }
    const last = points.slice(-RUNS_MAX);
    return plot(this.moved, "run", [
      { label: "pages brought in", stroke: colour("--recall") },
      { label: "pages evicted", stroke: colour("--queue"), dash: [6, 4] },
    ], [last.map((_, at) => at + 1), last.map(([one]) => one), last.map(([, other]) => other)]);
  }

  #table(runs) {
    const rows = runs.slice(-ROWS_MAX).reverse().map((one) => [
      String(one.lsn), clock(one.at), one.prompt.toLocaleString("en"), one.prefill.toLocaleString("en"),
      `${(100 * (1 - one.prefill / one.prompt)).toFixed(0)} %`, one.decoded.toLocaleString("en")]);
    fill(this.rows, table("Runs, newest first", ["Step", "Time", "Prompt", "Evaluated", "Saved", "Emitted"], rows,
      [0, 2, 3, 4, 5]));
  }
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function plot(place, unit, series, data) {
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 }, font: "11px system-ui" };
  const key = el("p", { className: "key" }, ...series.map((one) => {
    const swatch = el("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.background = one.stroke;
    return el("span", {}, swatch, one.label);
  }), el("span", { className: "dim", textContent: `by ${unit}` }));
  place.append(key);
  return new uPlot({
    width: Math.max(200, place.clientWidth), height: HEIGHT, legend: { show: false }, cursor: { show: false },
    scales: { x: { time: false } }, axes: [{ ...axis, incrs: STEPS }, { ...axis, size: 54, incrs: STEPS }],
    series: [{}, ...series.map((one) => ({ width: 2, points: { show: data[0].length < 40, size: 5 }, ...one }))],
  }, data, place);
}
