// The console: which process is open, which part is looked at, and who hears of what happens.
//
// Not here: what each part shows (the module of its name).

import { Follower, Refused, alone, change, gathered, read } from "./api.js";
import { Chat } from "./chat.js";
import { Consent } from "./consent.js";
import { Core } from "./core.js";
import { Curves } from "./curves.js";
import { Journal } from "./journal.js";
import { listen } from "./keys.js";
import { MemoryMap } from "./map.js";
import { PageDetails } from "./page.js";
import { Playback } from "./playback.js";
import { Processes } from "./processes.js";
import { Rights } from "./rights.js";
import { Search } from "./search.js";
import { brief, el, fill, line } from "./text.js";
import { TimeLine } from "./timeline.js";
import { Watch } from "./watch.js";

const SAID_MS = 6000;
const WATCHED = 12; // steps of the past that are shown with what happens
const $ = (id) => document.getElementById(id);
const TABS = ["chat", "memory", "core", "rights", "time", "curves", "search", "playback"];
const wide = matchMedia("(min-width: 62rem)");

let journal = null;
let view = null;
let opening = 0;
let settled = 0; // the last opening of which all is there

const processes = new Processes($("nav"), open, (found) => {
  const mine = found.find((one) => one.pid === view?.pid);
  if (mine && mine.asks !== consent.asks) look(); // a list may be older than what is known
  consent.seen(found);
}, say);
const details = new PageDetails($("page"), (page) => map.find(page), (page) => map.chosen(page), say);
const map = new MemoryMap($("memory"), showPage);
const watch = new Watch($("watch"), showPage);
const chat = new Chat($("chat"), open, (name) => processes.found.some((one) => one.name === name), say);
const core = new Core($("core"), say);
const shown = async (name, page) => {
  if (name !== view?.name) await open(name);
  choose("memory");
  showPage(page);
};
const consent = new Consent($("asks"), open, shown, () => {
  look();
  processes.refresh();
}, say);
const rights = new Rights($("rights"), open, (page) => shown(view.name, page), say);
const time = new TimeLine($("time"), (page) => shown(view.name, page));
const curves = new Curves($("curves"));
const search = new Search($("search"), (pid) => processes.found.find((one) => one.pid === pid)?.name, shown);
const playback = new Playback($("playback"), say);

const follower = new Follower({
  standing(state) {
    $("link").textContent = { live: "live", lost: "connection lost, trying again", connecting: "connecting" }[state];
    $("link").dataset.state = state;
    if (state === "lost") {
      chat.lost();
      knock();
    }
  },
  entry(entry) {
    chat.told = entry.at;
    if (!journal?.add(entry)) return;
    watch.entry(entry);
    chat.entry(entry);
    look();
    map.refresh();
    if (entry.notes.some((note) => ["change", "fold", "run"].includes(note.what))) core.refresh();
    if (entry.notes.some((note) => note.what === "fact")) core.found();
    rights.refresh();
    time.refresh();
    curves.refresh();
    if (details.page && entry.notes.some((note) => note.pages?.includes(details.page) || note.what === "change")) {
      detail();
    }
    if (entry.notes.some((note) => ["spawn", "fork", "remove", "exit", "call"].includes(note.what))) processes.refresh();
  },
  said: (message) => chat.said(message),
  token: (streamed) => chat.token(streamed),
  back: () => refreshed(),
});
const detail = gathered(() => details.refresh(), 250);

/** Where the open process stands. */
const look = gathered(async () => {
  if (settled !== opening) return; // it looks itself at its end
  const name = view.name;
  const found = await read("ps", { proc: name }).catch((refused) => refused);
  if (name !== view.name || settled !== opening) return;
  if (found instanceof Refused) {
    if (found.status === 404) say(`${name} is not there any more.`, true);
    return;
  }
  standing(found.processes[0]);
}, 80);

function standing(found) {
  view = found;
  chat.view = found;
  chat.busy(found.state);
  fill($("title"), brief(found.name, 60));
  fill($("about"), el("span", { className: "state", data: { state: found.state }, textContent: found.state }),
    ` ${line(found.model, 40)}; ${found.memory.resident} of ${found.memory.pages} pages in view; ` +
    `${found.accounts.evictions ?? 0} evicted, ${found.accounts.faults ?? 0} brought in`);
  $("end").textContent = found.state === "zombie" ? "Remove" : "Kill";
  $("end").hidden = false;
  $("start").hidden = found.state !== "zombie";
  consent.look(found.asks);
}

/** Look at another process. */
async function open(name) {
  const mine = (opening += 1);
  try {
    const found = (await read("ps", { proc: name })).processes[0];
    if (mine !== opening) return;
    if (!processes.found.some((one) => one.name === name)) processes.refresh();
    journal = new Journal(name);
    details.close();
    view = found;
    processes.chosen(name);
    $("empty").hidden = true;
    document.body.classList.add("opened");
    history.replaceState(null, "", `#${encodeURIComponent(name)}`);
    await follower.open(name);
    await journal.load();
    if (mine !== opening) return;
    const told = journal.entries.findLast((one) => one.lsn <= follower.since)?.at ?? 0;
    await Promise.all([chat.open(found, told), map.open(name, journal), core.open(name), rights.open(name)]);
    if (mine !== opening) return;
    settled = mine;
    standing(found);
    look(); // what happened between the first question and the first event was told to nobody
    watch.open(journal.entries.slice(-WATCHED));
    search.open(name);
    time.open(journal);
    curves.open(journal);
  } catch (refused) {
    if (!(refused instanceof Refused)) throw refused;
    if (mine === opening && view?.name !== name) settled = mine; // the one before is still there
    say(refused.message, true);
  }
}

/** After a connection was lost: all that is shown, asked for anew. */
async function refreshed() {
  machine();
  processes.refresh();
  if (!view) return;
  if (settled !== opening) {
    await open(view.name);
    return;
  }
  await journal.load().catch(() => null);
  chat.refresh();
  map.refresh();
  core.refresh();
  rights.refresh();
  look();
  time.draw();
  curves.draw();
  detail();
}

function showPage(page) {
  if (view) details.open(view.name, page);
}

/** Whether the token is still the machine's: else the page asks for it again. */
async function knock() {
  const refused = await read("info").then(() => null, (error) => error);
  if (refused?.status === 401) location.reload();
}

async function machine() {
  const found = await read("info").catch(() => null);
  if (found) fill($("machine"), `${line(found.model, 60)}, window ${found.window.toLocaleString("en")}`);
}

/** Look at another part. */
function choose(name) {
  const tab = name === "chat" && wide.matches ? "memory" : name;
  document.body.dataset.tab = tab;
  for (const one of TABS) {
    $(`tab-${one}`).setAttribute("aria-selected", one === tab);
    $(`tab-${one}`).tabIndex = one === tab ? 0 : -1;
    $(one).hidden = one !== tab && !(one === "chat" && wide.matches);
  }
  time.draw();
  curves.draw();
  if (name === "chat") $("box").focus();
  if (name === "playback") playback.open();
  if (name === "core" && view) core.refresh();
  if (name === "rights" && view) rights.refresh();
  if (name === "search") $("search-form").elements.text.focus();
}

let unsay = null;
/** A line for the user. */
function say(text, wrong = false) {
  clearTimeout(unsay);
  fill($("said"), line(text, 300));
  $("said").dataset.wrong = wrong;
  $("said").hidden = false;
  unsay = setTimeout(() => ($("said").hidden = true), wrong ? 2 * SAID_MS : SAID_MS);
}

for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => choose(name));
$("tabs").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const shown = TABS.filter((name) => $(`tab-${name}`).offsetParent !== null);
  const next = shown[shown.indexOf(document.body.dataset.tab) + by];
  if (next) {
    choose(next);
    $(`tab-${next}`).focus();
  }
});
wide.addEventListener("change", () => choose(document.body.dataset.tab));
$("table").addEventListener("toggle", () => map.table());
$("end").addEventListener("click", async () => {
  const one = view;
  const end = () => processes.end(one).catch((refused) => say(refused.message, true));
  if (one.state !== "zombie") await end();
  else {
    follower.close();
    await alone(async () => {
      if (!(await end())) return;
      location.hash = "";
      location.reload();
      await new Promise(() => {}); // the page goes
    });
    follower.open(one.name);
  }
  look();
});
$("start").addEventListener("click", async () => {
  await change("spawn", { spec: { name: view.name } }).catch((refused) => say(refused.message, true));
  look();
  processes.refresh();
});
$("help").addEventListener("click", () => $("keys").showModal());
listen([
  ["?", "these keys", () => $("keys").showModal()],
  ["n", "make a process", () => {
    $("make-details").open = true;
    $("make").elements.name.focus();
  }],
  ["j", "the next process", () => processes.beside(1)],
  ["k", "the process before", () => processes.beside(-1)],
  ["c", "write a message", () => choose("chat") ?? $("box").focus()],
  ["m", "the memory map", () => choose("memory") ?? $("map").querySelector("[tabindex='0']")?.focus()],
  ["b", "core memory", () => choose("core")],
  ["r", "rights, limits and the audit", () => choose("rights")],
  ["q", "what is asked", () => $("asks").querySelector(".answers button")?.focus()],
  ["t", "the time line", () => choose("time")],
  ["v", "the curves", () => choose("curves")],
  ["/", "search", () => choose("search")],
  ["p", "play a scenario back", () => choose("playback")],
  ["Escape", "close the page that is shown", () => details.close()],
], $("keys"), $("key-list"));

machine();
processes.refresh();
choose(wide.matches ? "memory" : "chat");
const named = new URLSearchParams(`name=${location.hash.slice(1)}`).get("name");
if (named) open(named);
else {
  read("ps").then((found) => found.processes.length && open(found.processes[0].name)).catch(() => null);
}
