// The talk with a process: what was said, what is being said, and what is said next.
//
// Guarantee: what was said is what the machine has of it, asked for anew when something was; a streamed reply and a
// message that is being sent stand below it until it has them, so nothing stands twice, whatever was missed. What stands
// there is not drawn anew, so what the user is writing in it stays.
// Another past is a fork: the process stays as it is. Not here: what comes as it happens (api.js).

import { change, gathered, newId, read } from "./api.js";
import { brief, clock, day, el, fill, foreign, keep } from "./text.js";
import { spoken } from "./spoken.js";

const LAST = 40;
const MOST = 400;
const THOUGHT_CHARS = 2000;
const FORKS_MAX = 1000;

export class Chat {
  /** `go`: opens a process by name; `taken`: whether a name is known to be; `say`: a line for the user. */
  constructor(place, go, taken, say) {
    this.go = go;
    this.taken = taken;
    this.say = say;
    this.log = place.querySelector("#talk");
    this.form = place.querySelector("#say");
    this.box = this.form.querySelector("textarea");
    this.stop = place.querySelector("#stop");
    this.pages = [];
    this.sending = new Map();
    this.streaming = el("article", { className: "message process streaming", hidden: true, "aria-busy": "true" });
    this.earlier = el("button", { type: "button", className: "quiet", textContent: "Earlier messages",
      on: { click: () => this.#earlier() } });
    this.done = 0;
    this.lost();
    this.refresh = gathered(() => this.#load(), 60);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(this.box.value);
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.form.requestSubmit();
      }
    });
    this.stop.addEventListener("click", () => this.#halt());
  }

  /** Talk with another process, of whose mask and encoding `view` knows; `told`: when the last thing happened to it
   * that came as an event. */
  async open(view, told) {
    this.view = view;
    this.told = told;
    this.pages = [];
    this.limit = LAST;
    this.sending = new Map();
    this.drawn = new Map(); // by what it is of: an article, and of what it was made
    this.done = 0;
    this.lost();
    this.busy(view.state);
    await this.#load();
  }

  /** Where the process stands. */
  busy(state) {
    const rests = ["idle", "zombie"].includes(state);
    this.state = state;
    this.stop.hidden = rests;
    this.#draw();
  }

  /** Tokens came. Those of an attempt whose beginning was missed are left to its message, and so are those that are
   * late: of what stands in the history already. */
  token(streamed) {
    const [, instr, attempt] = streamed.tag;
    const now = this.reply;
    if (instr <= this.done || (this.pages.findLast((one) => one.origin !== "user")?.at ?? 0) > this.told) return;
    if (now && (instr < now.instr || (instr === now.instr && attempt < now.attempt))) return;
    if (!now || now.instr !== instr || now.attempt !== attempt) {
      this.reply = { instr, attempt, raw: null, thought: "", after: this.pages.at(-1)?.page ?? 0 };
    }
    if (streamed.thought) this.reply.thought = (this.reply.thought + streamed.text).slice(-THOUGHT_CHARS);
    else if (streamed.offset === 0) this.reply.raw = streamed.text;
    else if (this.reply.raw !== null) this.reply.raw += streamed.text;
    this.#stream();
  }

  /** A message is final. */
  said(message) {
    if (!this.reply || message.instr >= this.reply.instr) this.over = message.instr;
    this.refresh();
  }

  /** Something happened to the process. */
  entry(entry) {
    const ends = entry.notes.some((note) => ["turn", "exit", "abort"].includes(note.what));
    if (ends) this.over = Infinity;
    if (entry.heard || ends || entry.notes.some((note) => note.what === "delivered")) this.refresh();
  }

  /** What was half said may be said again. */
  lost() {
    this.reply = null;
    this.over = 0;
  }

  async #load() {
    if (!this.view) return;
    const name = this.view.name;
    const over = this.over;
    const found = await read("history", { proc: name, limit: this.limit }).catch(() => null);
    if (found === null || name !== this.view.name) return;
    this.pages = gather(found.pages);
    this.more = found.pages.length >= this.limit && this.limit < MOST;
    if (this.reply && this.#stands()) this.done = this.reply.instr;
    if (this.reply && Math.max(over, this.done) >= this.reply.instr) this.reply = null;
    if (over === Infinity) this.over = 0;
    for (const [mid, one] of this.sending) if (one.taken) this.sending.delete(mid);
    this.#draw();
    this.#acknowledge();
  }

  /** Whether what is being said stands in the history already, of which the event is yet to come. */
  #stands() {
    const last = this.pages.at(-1);
    return last && last.origin !== "user" && last.page > this.reply.after && last.text.startsWith(this.#said());
  }

  /** What of the reply is being said. */
  #said() {
    const raw = this.reply?.raw;
    return raw ? spoken(raw, this.view.encoding, this.view.calls.join() === "send_message") : "";
  }

  async #acknowledge() {
    if (document.hidden) return;
    const found = await read("ps", { proc: this.view.name }).catch(() => null);
    const one = found?.processes[0];
    if (one?.outbox) await change("ack", { pid: one.pid, upto: one.acked + one.outbox }).catch(() => null);
  }

  #draw() {
    if (!this.view) return;
    const near = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80;
    const last = this.pages.findLastIndex((one) => one.origin === "user");
    const before = this.drawn;
    this.drawn = new Map();
    const article = (key, of, make) => {
      const stood = before.get(key);
      const same = stood && (stood.of === of || stood.made.querySelector(".edit"));
      this.drawn.set(key, same ? stood : { of, made: make() });
      return this.drawn.get(key).made;
    };
    keep(this.log,
      this.more && this.earlier,
      !this.pages.length && !this.sending.size && el("p", { className: "empty", textContent: "Nothing was said yet." }),
      ...this.pages.map((one, at) => article(one.page, `${one.text.length} ${this.state === "idle"} ${at === last}`,
        () => this.#message(one, at === last))),
      ...[...this.sending].map(([mid, one]) => article(mid, one.why ?? "", () => this.#unsent(mid, one))),
      this.streaming);
    this.#stream();
    if (near) this.log.scrollTop = this.log.scrollHeight;
  }

  #stream() {
    const one = this.reply;
    const text = this.#said();
    const near = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80;
    this.streaming.hidden = !text && !one?.thought;
    if (this.streaming.hidden) fill(this.streaming);
    else {
      const open = this.streaming.querySelector("details")?.open;
      fill(this.streaming,
        one.thought && el("details", { className: "thought", open }, el("summary", { textContent: "thinking" }),
          foreign(one.thought)),
        foreign(text));
    }
    if (near) this.log.scrollTop = this.log.scrollHeight;
  }

  #message(one, last) {
    const mine = one.origin === "user";
    const again = mine && this.state === "idle" && [
      last && el("button", { type: "button", className: "quiet", textContent: "Retry",
        title: "answer this message again, in a fork", on: { click: () => this.#fork(one, one.text) } }),
      el("button", { type: "button", className: "quiet", textContent: "Edit",
        title: "say something else here, in a fork", on: { click: (event) => this.#edit(one, event) } }),
    ];
    return el("article", { className: `message ${mine ? "user" : one.origin}`, data: { page: one.page } },
      foreign(one.text),
      el("footer", {},
        mine ? "you" : ["process", "derived"].includes(one.origin) ? brief(this.view.name, 40) : one.origin,
        el("time", { textContent: clock(one.at), title: day(one.at) }), ...(again || [])));
  }

  #unsent(mid, one) {
    return el("article", { className: "message user unsent" }, foreign(one.text),
      el("footer", {}, el("span", { textContent: one.why ? `not sent: ${one.why}` : "sending" }),
        one.why && el("button", { type: "button", className: "quiet", textContent: "Send again",
          on: { click: () => this.#deliver(mid) } })));
  }

  async #send(text) {
    if (!text.trim() || !this.view) return;
    const mid = newId();
    this.sending.set(mid, { text });
    this.box.value = "";
    this.log.scrollTop = this.log.scrollHeight;
    await this.#deliver(mid);
  }

  /** A message is applied once: it keeps its id, however often it is sent. */
  async #deliver(mid) {
    const one = this.sending.get(mid);
    one.why = "";
    this.#draw();
    try {
      await change("send", { proc: this.view.name, mid, text: one.text });
      one.taken = true;
    } catch (refused) {
      one.why = refused.message;
    }
    this.refresh();
    this.#draw();
  }

  async #halt() {
    await change("halt", { proc: this.view.name }).catch((refused) => this.say(refused.message, true));
  }

  async #earlier() {
    this.limit = Math.min(MOST, 2 * this.limit);
    await this.#load();
  }

  #edit(one, event) {
    const article = event.target.closest("article");
    if (article.querySelector(".edit")) return;
    const box = el("textarea", { rows: 3, value: one.text, "aria-label": "What is to be said here instead" });
    const form = el("form", { className: "edit", on: {
      submit: (sent) => {
        sent.preventDefault();
        if (box.value.trim()) this.#fork(one, box.value);
      },
    } }, box, el("button", { textContent: "Say this in a fork" }),
    el("button", { type: "button", className: "quiet", textContent: "Cancel", on: { click: () => {
      form.remove();
      this.#draw();
    } } }));
    article.append(form);
    box.focus();
  }

  /** A fork that has not heard a message is told `text` instead. */
  async #fork(one, text) {
    const stem = this.view.name.replace(/~\d+$/, "");
    for (let number = 1; number < FORKS_MAX; number += 1) {
      const name = `${stem}~${number}`;
      if (this.taken(name)) continue;
      try {
        await change("fork", { proc: this.view.name, name, before: one.page });
      } catch (refused) {
        if (refused.code === "exists") continue;
        this.say(refused.message, true);
        return;
      }
      this.say(`${name} goes on from there; ${this.view.name} stays as it is.`);
      await this.go(name);
      await this.#send(text);
      return;
    }
  }
}

/** Messages of pages, oldest first: a long one of the user's has several. */
function gather(pages) {
  const found = [];
  for (const [page, , , , origin, , , at, text, gist] of pages) {
    const before = found.at(-1);
    if (before && origin === "user" && before.origin === "user" && before.at === at) before.text += text;
    else found.push({ page, origin, at, text: gist || text });
  }
  return found;
}
