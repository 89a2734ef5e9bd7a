// The native API: what is asked, what is changed, and what happens.
//
// Guarantee: events of a Follower come in order and none twice; one that lost its machine comes back by number, and
// says so, for what is shown is then asked for anew. Not here: what an answer means.

const AGAIN_MS = [400, 1000, 2000, 4000];
const asked = new Set(); // what is being read
let silence = null; // until when nothing is

/** The machine said no, or is not there (status 0). */
export class Refused extends Error {
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** What only reads: /api/OP with a query; fields that are undefined are left out. */
export async function read(op, query = {}) {
  await silence;
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const answer = answered(fetch(`/api/${op}?${new URLSearchParams(given)}`));
  asked.add(answer);
  try {
    return await answer;
  } finally {
    asked.delete(answer);
  }
}

/** What `work` gives, while nothing is read: what it takes away is asked about by nobody. */
export async function alone(work) {
  let over;
  silence = new Promise((known) => (over = known));
  await Promise.allSettled(asked);
  try {
    return await work();
  } finally {
    silence = null;
    over();
  }
}

/** What changes something: /api/OP with an object. */
export const change = (op, body) =>
  answered(fetch(`/api/${op}`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  }));

async function answered(asked) {
  let response;
  try {
    response = await asked;
  } catch {
    throw new Refused(0, "the machine does not answer");
  }
  if (response.ok) return response.json();
  const error = (await response.json().catch(() => ({}))).error ?? {};
  throw new Refused(response.status, error.message ?? `status ${response.status}`, error.code ?? "");
}

/** A message id that nobody has had. */
export const newId = () => `page.${crypto.getRandomValues(new Uint32Array(3)).join(".")}`;

/** What happens to one process, as it happens. `on`: entry, said, token, standing(state), back. */
export class Follower {
  constructor(on) {
    this.on = on;
    this.source = null;
    this.since = null;
    this.tries = 0;
  }

  /** Follow a process from now on, and no other. Comes back when nothing can be missed any more. */
  open(proc) {
    this.close();
    this.proc = proc;
    this.since = null;
    this.tries = 0;
    return new Promise((known) => this.#connect(known));
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  #connect(known = () => {}) {
    const query = new URLSearchParams({ proc: this.proc, ...(this.since === null ? {} : { since: this.since }) });
    const source = new EventSource(`/api/events?${query}`);
    this.source = source;
    const lost = this.tries > 0;
    const listen = (name, take) => source.addEventListener(name, (event) => {
      if (this.source === source) take(JSON.parse(event.data), Number(event.lastEventId));
    });
    this.on.standing("connecting");
    listen("ok", (_, number) => {
      this.since = number; // the machine's word: what is in no journal any more is asked for anew
      this.tries = 0;
      this.on.standing("live");
      known();
      if (lost) this.on.back();
    });
    listen("logged", ({ entry }) => {
      if (entry.lsn <= this.since) return;
      this.since = entry.lsn;
      this.on.entry(entry);
    });
    listen("said", ({ message }) => this.on.said(message));
    listen("token", ({ streamed }) => this.on.token(streamed));
    listen("ended", () => this.#again());
    source.onerror = () => {
      known();
      this.#again();
    };
  }

  #again() {
    this.close();
    this.on.standing("lost");
    this.timer = setTimeout(() => this.#connect(), AGAIN_MS[Math.min(this.tries++, AGAIN_MS.length - 1)]);
  }
}

/** A call that is made once for many requests of it within `ms`, and never twice at a time. */
export function gathered(call, ms = 120) {
  let timer = null;
  let busy = false;
  let wanted = false;
  const run = async () => {
    timer = null;
    busy = true;
    wanted = false;
    try {
      await call();
    } finally {
      busy = false;
      if (wanted) ask();
    }
  };
  const ask = () => {
    wanted = true;
    if (!busy && timer === null) timer = setTimeout(run, ms);
  };
  return ask;
}
