// A scenario played back from its trace, as `llmos run SCENARIO --trace FILE` writes it: slots, windows, what happened.
//
// A file is read here and goes nowhere; those that come with llmos are played by the daemon, in virtual time. Bounded: BYTES_MAX of file, EVENTS_MAX of what happened.
// Not here: the machine that is served.

import { el, fill, line, table } from "./text.js";
import { says, svg } from "./svg.js";

const BYTES_MAX = 32 << 20;
const EVENTS_MAX = 20000;
const RUNS_MAX = 3000;
const AROUND = 12;
const WIDE = 1000;
const LANE = 20;
const TICK_MS = 120;

export class Playback {
  constructor(place, say) {
    this.say = say;
    this.place = place;
    this.file = place.querySelector("#trace");
    this.stage = place.querySelector("#stage");
    this.slider = place.querySelector("#moment");
    this.at = place.querySelector("#moment-at");
    this.play = place.querySelector("#play");
    this.lanes = place.querySelector("#slots");
    this.windows = place.querySelector("#windows");
    this.rows = place.querySelector("#moments");
    this.shipped = place.querySelector("#shipped");
    this.file.addEventListener("change", () => this.#read(this.file.files[0]));
    this.file.addEventListener("click", () => (this.file.value = "")); // the same one again is read again
    this.shipped.addEventListener("change", () => this.#fetch(this.shipped.value));
    this.slider.addEventListener("input", () => this.#show());
    this.play.addEventListener("click", () => this.#toggle());
  }

  async #read(file) {
    if (!file) return;
    try {
      if (file.size > BYTES_MAX) throw new Error(`a trace has ${BYTES_MAX >> 20} MiB at most`);
      this.#begin(parsed(JSON.parse(await file.text())));
      this.shipped.value = "";
    } catch (error) {
      this.say(`${line(file.name, 40)} is no trace: ${line(error.message, 120)}`, true);
    }
  }

  async #fetch(name) {
    const found = name && (await served(`scenarios/${encodeURIComponent(name)}.json`));
    if (found) this.#begin(parsed(found));
  }

  #begin(trace) {
    this.#pause();
    this.trace = trace;
    this.stage.hidden = false;
    this.slider.max = this.trace.events.length - 1;
    this.slider.value = 0;
    this.#draw();
    this.#show();
  }

  /** The part is looked at. */
  async open() {
    if (this.shipped.options.length > 1) return;
    const names = (await served("scenarios.json")) ?? [];
    this.shipped.append(...names.map((name) => el("option", { value: name, textContent: name })));
  }

  #toggle() {
    if (this.timer) return this.#pause();
    if (Number(this.slider.value) >= Number(this.slider.max)) this.slider.value = 0;
    this.play.textContent = "Pause";
    this.timer = setInterval(() => {
      this.slider.value = Number(this.slider.value) + 1;
      this.#show();
      if (Number(this.slider.value) >= Number(this.slider.max) || this.place.hidden) this.#pause();
    }, TICK_MS);
    return undefined;
  }

  #pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "Play";
  }

  #draw() {
    const { runs, slots, end } = this.trace;
    const height = slots.length * LANE;
    this.cursor = svg("line", { y1: 0, y2: height, class: "cursor" });
    const drawn = svg("svg", { viewBox: `0 0 ${WIDE} ${height}`, preserveAspectRatio: "none", class: "slots",
      height, role: "img", "aria-label": `${runs.length} runs in ${slots.length} slots` });
    const names = [...new Set(runs.map((one) => one.name))];
    for (const one of runs) {
      drawn.append(svg("rect", {
        x: (WIDE * one.ts) / end, width: Math.max(0.6, (WIDE * one.dur) / end), y: slots.indexOf(one.tid) * LANE + 3,
        height: LANE - 6, class: `run hue${names.indexOf(one.name) % 5}`,
      }, says(`slot ${one.tid - 1}: ${line(one.name, 60)}`)));
    }
    drawn.append(this.cursor);
    fill(this.lanes, drawn, el("p", { className: "key" }, ...names.slice(0, 10).map((name, at) =>
      el("span", {}, el("span", { className: `swatch hue${at % 5}`, "aria-hidden": "true" }), line(name, 40)))));
  }

  #show() {
    const { events, counters, runs, end } = this.trace;
    const at = Number(this.slider.value);
    const now = events[at]?.ts ?? 0;
    this.at.textContent = `${(now / 1e6).toFixed(3)} s, event ${at + 1} of ${events.length}`;
    this.slider.setAttribute("aria-valuetext", this.at.textContent);
    this.cursor.setAttribute("x1", (WIDE * now) / end);
    this.cursor.setAttribute("x2", (WIDE * now) / end);
    const running = new Set(runs.filter((one) => one.ts <= now && now < one.ts + one.dur).map((one) => one.name));
    fill(this.windows, ...[...counters].map(([name, series]) => {
      const last = series.points.findLast(([ts]) => ts <= now)?.[1] ?? 0;
      const bar = el("span", { className: "gauge", "aria-hidden": "true" }, el("span", {}));
      bar.firstChild.style.width = `${(100 * last) / Math.max(1, series.most)}%`;
      const runsNow = running.has(name.replace("window of ", ""));
      return el("li", { className: runsNow ? "running" : "" }, el("span", { textContent: line(name, 40) }), bar,
        el("span", { className: "number", textContent: `${last} tokens${runsNow ? ", running" : ""}` }));
    }));
    const from = Math.max(0, at - AROUND);
    const rows = events.slice(from, at + 1).reverse().map((one, place) => ({
      set: { className: place === 0 ? "now" : "" },
      cells: [`${(one.ts / 1e6).toFixed(3)}`, line(one.name, 60), line(one.args?.text ?? "", 120)],
    }));
    fill(this.rows, table("What happened up to now, newest first", ["Seconds", "What", "Text"], rows, [0]));
  }
}

const served = (path) => fetch(`/page/${path}`).then((found) => (found.ok ? found.json() : null)).catch(() => null);

/** A trace as it is played. Throws an Error that says what is wrong with it. */
export function parsed(found) {
  const all = Array.isArray(found) ? found : found?.traceEvents;
  if (!Array.isArray(all)) throw new Error("it has no traceEvents");
  const valid = all.filter((one) => one && typeof one.name === "string" && Number.isFinite(one.ts));
  const named = valid.filter((one) => one.ph === "M" && one.name === "process_name");
  const processes = new Map(named.map((one) => [one.pid, String(one.args?.name ?? "")]));
  const marks = valid.filter((one) => one.ph === "i" || (one.ph === "X" && one.dur === 0)).slice(0, EVENTS_MAX);
  const events = marks.map((one) => ({ ...one, name: `${one.name} · ${processes.get(one.pid) ?? ""}` }));
  const runs = valid.filter((one) => one.cat === "run" && Number.isFinite(one.dur)).slice(0, RUNS_MAX);
  if (!events.length) throw new Error("nothing happens in it");
  const counters = new Map();
  for (const one of valid.filter((each) => each.ph === "C" && each.name === "queue")) {
    const name = `window of ${processes.get(one.pid) ?? ""}`;
    const series = counters.get(name) ?? { points: [], most: 0 };
    const tokens = Number(one.args?.tokens) || 0;
    series.points.push([one.ts, tokens]);
    series.most = Math.max(series.most, tokens);
    counters.set(name, series);
  }
  const end = Math.max(1, ...events.slice(-1).map((one) => one.ts), ...runs.slice(-50).map((one) => one.ts + one.dur));
  return { events, runs, counters, end, slots: [...new Set(runs.map((one) => one.tid))].sort((a, b) => a - b) };
}
