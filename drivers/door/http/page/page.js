// One page: its text, where it is, why it is there and why it left; pinned, unpinned, evicted, brought in.
//
// Not here: where it stands in the window (map.js).

import { change, read } from "./api.js";
import { brief, count, day, el, fill, foreign } from "./text.js";

const TEXT_CHARS = 8000;

export class PageDetails {
  /** `find`: where a page is in view; `chosen`: called with the page that is shown, 0 for none. */
  constructor(place, find, chosen, say) {
    this.place = place;
    this.find = find;
    this.chosen = chosen;
    this.say = say;
  }

  /** Nothing is shown. */
  close() {
    this.page = 0;
    this.place.hidden = true;
    this.chosen(0);
  }

  /** Show a page of a process. */
  async open(proc, page) {
    this.proc = proc;
    this.page = page;
    await this.refresh();
    this.place.scrollIntoView({ block: "nearest" });
    this.place.focus({ preventScroll: true });
  }

  /** What is shown, as it is now. */
  async refresh() {
    const { proc, page } = this;
    if (!page) return;
    try {
      const [cat, told] = await Promise.all([read("cat", { proc, page }), read("explain", { proc, page })]);
      if (proc === this.proc && page === this.page) this.#draw(cat, told);
    } catch (refused) {
      this.say(refused.message, true);
      this.close();
    }
  }

  #draw(cat, told) {
    const [number, , seq, kind, origin, role, , at, text] = cat.page;
    const seen = this.find(number);
    const pinned = seen?.row[4] ?? false;
    const queued = seen && ["queue", "turn"].includes(seen.segment);
    const act = (how, label, title) => el("button", { type: "button", textContent: label, title,
      on: { click: () => this.#keep(how) } });
    this.chosen(number);
    this.place.hidden = false;
    fill(this.place,
      el("header", {},
        el("h3", { textContent: `Page ${number}` }),
        queued && (pinned ? act("unpin", "Unpin", "it may leave again") : act("pin", "Pin", "it does not leave")),
        queued && !pinned && act("evict", "Evict", "it leaves the window now, and stays on disk"),
        !seen && act("bring", "Bring in", "it comes to the end of the window now"),
        el("button", { type: "button", className: "quiet", textContent: "Close", on: { click: () => this.close() } })),
      el("p", { className: "facts" },
        el("span", { className: "tag", data: { segment: seen?.segment ?? "" },
          textContent: seen ? `in view: ${seen.segment}` : "not in view" }),
        ` ${kind} of ${origin}, as ${role}; number ${seq} of its process; ${day(at)}` +
        `${seen ? `; ${count(seen.row[3], "token")}` : ""}${pinned ? "; pinned" : ""}`),
      el("div", { className: "whole", tabIndex: 0, role: "region", "aria-label": "Text of the page" },
        foreign(text.slice(0, TEXT_CHARS))),
      cat.chars > TEXT_CHARS && el("p", { className: "dim",
        textContent: `${cat.chars.toLocaleString("en")} characters; llmos cat shows all of them` }),
      el("h4", { textContent: "Why" }),
      !told.whole && el("p", { className: "dim", textContent: "What was before is in no journal any more." }),
      el("ol", { className: "because" }, ...told.because.map((one) => el("li", {},
        el("time", { textContent: day(one.at) }), " ", ...because(one, told.heads, (page) => this.open(this.proc, page))))));
  }

  async #keep(how) {
    try {
      await change("keep", { proc: this.proc, page: this.page, how });
      this.say({ pin: "Pinned.", unpin: "Not pinned any more.", evict: "Evicted; it is on disk.", bring: "Brought in." }[how]);
    } catch (refused) {
      this.say(refused.message, true);
    }
  }
}

/** One thing that happened to a page, in words, with the pages that it names. */
function because(one, heads, show) {
  const pages = (one.pages ?? []).slice(0, 12);
  const links = pages.map((page) => el("button", { type: "button", className: "link", textContent: `page ${page}`,
    title: `show page ${page}`, on: { click: () => show(page) } }));
  const quoted = [" \u201c", brief(one.text, 90), "\u201d"];
  const beside = pages.length ? [", with ", ...joined(links)] : [];
  switch (one.why) {
    case "came":
      return ["came as a message"];
    case "said":
      return ["said in answer to", ...quoted,
        ...(pages.length ? [", and drew on ", ...joined(links, (at) => [" ", brief(heads[pages[at]], 60)])]
          : [", and drew on no page in view"])];
    case "made":
      return ["made by ", brief(one.text)];
    case "recalled":
      return ["recalled for", ...quoted, `: likely ${(one.score ?? 0).toFixed(2)}, ${count(one.tokens ?? 0, "token")}`,
        ...beside];
    case "read":
      return ["read by the process, in answer to", ...quoted];
    case "brought":
      return ["brought in by somebody outside"];
    case "drew":
      return ["drawn on by", ...quoted];
    case "left":
      return [`left to make room (${count(one.tokens ?? 0, "token")} in all), for`, ...quoted, ...beside];
    default:
      return [one.why];
  }
}

const joined = (links, after = () => []) => links.flatMap((one, at) => [at ? ", " : "", one, ...after(at)]);
