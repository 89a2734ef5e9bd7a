// What the open process may do: rights that it holds, limits and what is used of them, what becomes of its calls under
// others' eyes; the audit of such calls, newest first; and who waits for whom.
//
// Guarantee: one choice is changed of those that the machine has then, and what somebody is typing stays.
// Bounded: AUDIT_MAX calls, EDGES_MAX lines. Not here: a call that is asked about now (consent.js).

import { change, gathered, read } from "./api.js";
import { brief, count, day, el, fill, table } from "./text.js";

const PART = 100;
const AUDIT_MAX = 500;
const EDGES_MAX = 200;
const PAGES_MAX = 8;
const LIMITS = {
  turn_tokens: "tokens of a turn", turn_syscalls: "calls of a turn", day_tokens: "tokens of a day, with its children",
  pages: "pages", children: "children", timers: "timers", mailbox: "undelivered interrupts", tools: "tool calls of a turn",
};
const VERDICTS = ["allow", "ask", "deny"];

export class Rights {
  /** `go`: called with the name of a process; `show`: with a page. */
  constructor(place, go, show, say) {
    this.place = place;
    this.go = go;
    this.show = show;
    this.say = say;
    this.at = (id) => place.querySelector(`#${id}`);
    this.refresh = gathered(() => this.#load(), 300);
    this.#form("grant", (given) => change("grant", { proc: this.name, right: given.get("right").trim() }));
    this.#form("new-policy", (given) => this.#policy(given.get("call").trim(), given.get("verdict")));
    this.at("older-calls").addEventListener("click", () => {
      this.rows = Math.min(AUDIT_MAX, this.rows + PART);
      this.#load();
    });
  }

  /** Those of another process. */
  async open(name) {
    this.name = name;
    this.rows = PART;
    this.told = {};
    this.limits = new Map();
    fill(this.at("limits"));
    await this.#load();
  }

  async #load() {
    const name = this.name;
    if (!name || this.place.hidden) return;
    let found;
    let edges;
    let calls;
    try {
      [found, { edges }] = await Promise.all([read("caps", { proc: name }).then((held) => held.rights), read("graph")]);
      ({ calls } = await read("audit", { proc: name, since: Math.max(0, found.audits - this.rows), limit: this.rows }));
    } catch (refused) {
      if (refused.status !== 404) this.say(refused.message, true);
      return;
    }
    if (name !== this.name) return;
    this.at("older-calls").hidden = found.audits <= this.rows || this.rows >= AUDIT_MAX;
    this.#anew("held", found.grants, (grants) => this.#held(grants));
    this.#anew("may", [found.parent, found.calls], () => this.#may(found));
    this.#anew("policy", found.tainted, (policy) => this.#policies(policy));
    this.#anew("audit", calls, () => this.#audit(calls.toReversed()));
    this.#anew("edges", edges, () => this.#edges(edges));
    this.#limits(found);
  }

  /** Draw a part if it is another than it was. */
  #anew(id, value, draw) {
    const told = JSON.stringify(value);
    if (told === this.told[id]) return;
    this.told[id] = told;
    fill(this.at(id), draw(value));
  }

  #may(found) {
    const by = found.parent ? [" It was made by ", this.#process(found.parent), "."] : [];
    return el("span", {}, `It may emit ${count(found.calls.length, "call")}: ${found.calls.join(", ")}.`, ...by);
  }

  #held(grants) {
    if (!grants.length) return el("p", { className: "empty", textContent: "It holds none: it may address its kin alone." });
    return table("Rights held", ["right", "given by", ""], grants.map((one) => [
      brief(one.right, 120), one.by ? this.#process(one.by) : "you",
      el("button", { type: "button", className: "quiet", textContent: "Revoke", "aria-label": `Revoke ${one.right}`,
        on: { click: () => this.#do(change("revoke", { proc: this.name, right: one.right })) } })]));
  }

  /** A row a limit: drawn once, so that what is being typed stays. */
  #limits(found) {
    if (!this.limits.size) {
      fill(this.at("limits"), table("Limits", ["limit", "used", "allowed"], Object.entries(LIMITS).map(([key, says]) => {
        const used = el("span");
        const box = el("input", { type: "number", min: 0, step: 1, placeholder: "no limit", "aria-label": `Limit of ${says}` });
        const save = el("button", { type: "submit", className: "quiet", textContent: "Save", hidden: true });
        const row = { used, box, save, value: 0 };
        box.addEventListener("input", () => (save.hidden = Number(box.value) === row.value));
        this.limits.set(key, row);
        return [says, used, el("form", { className: "inline", on: { submit: (event) => {
          event.preventDefault();
          this.#do(this.#limit(key, Number(box.value)));
        } } }, box, save)];
      }), [1]));
    }
    for (const [key, row] of this.limits) {
      const value = found.limits[key] ?? 0;
      row.used.textContent = (found.used[key] ?? 0).toLocaleString("en");
      if (Number(row.box.value) === row.value) row.box.value = value || "";
      row.value = value;
      row.save.hidden = Number(row.box.value) === value;
    }
  }

  #policies(policy) {
    const entries = Object.entries(policy);
    if (!entries.length) return el("p", { className: "empty", textContent: "None: such a call is made, and kept in the audit." });
    return table("Policy", ["call", "is", ""], entries.map(([call, verdict]) => [
      brief(call, 120),
      el("select", { "aria-label": `What becomes of ${call}`,
        on: { change: (event) => this.#do(this.#policy(call, event.target.value)) } },
      ...VERDICTS.map((one) => el("option", { value: one, textContent: one, selected: one === verdict }))),
      el("button", { type: "button", className: "quiet", textContent: "Remove", "aria-label": `Remove ${call}`,
        on: { click: () => this.#do(this.#policy(call, null)) } })]));
  }

  #audit(calls) {
    if (!calls.length) return el("p", { className: "empty", textContent: "Nothing: no such call was made." });
    return table("Audit", ["when", "call", "verdict", "why", "not yours, and in view"], calls.map((one) => ({
      set: { data: { verdict: one.verdict } },
      cells: [
        el("time", { textContent: day(one.at) }), brief(one.call, 160),
        el("span", { className: "verdict", textContent: one.verdict }), brief([one.why, ...one.rights].filter(Boolean).join("; "), 120),
        el("span", {}, one.origins.join(", "), ...one.low.slice(0, PAGES_MAX).flatMap((page) => [" ",
          el("button", { type: "button", className: "link", textContent: page, title: `show page ${page}`,
            on: { click: () => this.show(page) } })]),
        one.low.length > PAGES_MAX && ` and ${one.low.length - PAGES_MAX} more`),
      ] })));
  }

  #edges(edges) {
    if (!edges.length) return el("p", { className: "empty", textContent: "Nobody made another, waits or has written." });
    const says = { parent: "made", waits: "waits for", letter: "wrote to" };
    const rows = edges.slice(0, EDGES_MAX).map((one) => [this.#process(one.of), says[one.kind] ?? one.kind,
      el("span", {}, this.#process(one.to), one.letter ? ` (message ${one.letter}${one.fate ? `, ${one.fate}` : ""})` : "")]);
    const more = edges.length - EDGES_MAX;
    return el("div", {}, table("Who waits for whom", ["process", "", "process"], rows),
      more > 0 && el("p", { className: "dim", textContent: `and ${more} more; llmos graph has them` }));
  }

  #process(name) {
    return el("button", { type: "button", className: "link", on: { click: () => this.go(name) } }, brief(name, 60));
  }

  async #limit(key, value) {
    const { limits } = (await read("caps", { proc: this.name })).rights;
    return change("set", { proc: this.name, limits: { ...limits, [key]: value } });
  }

  /** One entry of the policy; null: none. */
  async #policy(call, verdict) {
    const tainted = { ...(await read("caps", { proc: this.name })).rights.tainted };
    if (verdict === null) delete tainted[call];
    else tainted[call] = verdict;
    return change("set", { proc: this.name, tainted });
  }

  /** Wait for a change; whether it was made. */
  async #do(changing) {
    const done = await changing.then(() => true, (refused) => {
      this.say(refused.message, true);
      this.told = {};
    });
    this.refresh();
    return done;
  }

  #form(id, submitted) {
    const form = this.at(id);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (await this.#do(submitted(new FormData(form)))) form.reset();
    });
  }
}
