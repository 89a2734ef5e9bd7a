"""What is told of a machine as lines of text: `ps`, `vmstat`, `irqs`, `dmesg`, and the table they are set in.

Pure functions from views to lines and to what `--json` prints; nothing here asks a daemon, and nothing imports rich,
which would cost a command more than its answer. Guarantee: what is in a line is as kernel/text.py lets it be seen. Not
here: the address space as a picture (pictures.py).
"""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from unicodedata import combining, east_asian_width

import msgspec

from kernel.errors import SyscallError
from kernel.event import Note, What
from kernel.limits import NS
from kernel.machine.documents import DocumentView
from kernel.machine.held import AuditView, Edge, Rights
from kernel.machine.latency import Account, Histogram
from kernel.machine.views import Called, Described, Entry, FactView, Map, ProcessView, ServerView
from kernel.process import State
from kernel.sampling import written
from kernel.text import one_line

if TYPE_CHECKING:
    from llmos.cards import Card

LATE: Final = 0.7  # of the queue: from here its bar is yellow
GAP: Final = "  "  # between columns
LAST_LEAST: Final = 12  # columns of a terminal that the last column has before others go for it
SHORT_CHARS: Final = 120  # of a text of which the beginning is shown
CUT_LEAST: Final = 8  # and that one which is cut keeps

BOLD: Final = "1"  # SGR, as ECMA-48 numbers them
GREEN: Final = "32"
YELLOW: Final = "33"
STATES: Final[dict[State, str]] = {
    State.RUNNING: "1;32",
    State.READY: GREEN,
    State.BLOCKED: YELLOW,
    State.SUSPENDED: "35",
    State.ZOMBIE: "31",
}


class Styled(NamedTuple):
    """A cell with a colour."""

    text: str
    style: str


Cell = str | Styled


def aligned(
    names: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    left: Container[str] = (),
    spare: Sequence[str] = (),
    colour: bool = False,
    width: int = 0,
    wrap: bool = False,
) -> list[str]:
    """A table as lines: a head if any column has a name, then the rows; numbers to the right but for those in `left`.

    `width`: of the terminal. Where the table is wider, columns of `spare` go, the first named first, then the widest of
    `left` are cut, and the last column is cut at the terminal's end, or with `wrap` goes on in lines of its own.
    0: nobody looks at a terminal, so all of it stands there, with a tab between columns.
    """
    lines = [[Styled(name, BOLD) for name in names]] if any(names) else []
    lines += [[_cell(cell) for cell in row] for row in rows]
    if not width:
        return ["\t".join(cell.text for cell in line) for line in lines]
    widths = _fitted(names, [[_width(cell.text) for cell in line] for line in lines], left, spare, width)
    last = list(widths)[-1]
    room = width - sum(widths.values()) + widths[last] - len(GAP) * (len(widths) - 1)
    found = []
    for line in lines:
        text, style = line[last]
        ends = (textwrap.wrap(text, room) or [""]) if wrap and room > 1 else [_cut(text, room)]
        for number, end in enumerate(ends):
            shown = []
            for n, most in widths.items():
                cell = Styled(end, style) if n == last else line[n] if not number else Styled("", "")
                text = cell.text if n == last else _cut(cell.text, most)
                pad = " " * (most - _width(text))
                styled = f"\x1b[{cell.style}m{text}\x1b[0m" if colour and cell.style and text else text
                shown.append(styled + pad if names[n] in left else pad + styled)
            found.append(GAP.join(shown).rstrip())
    return found


def _fitted(
    names: Sequence[str], taken: Sequence[Sequence[int]], left: Container[str], spare: Sequence[str], width: int
) -> dict[int, int]:
    """The columns that a terminal has room for, and the width of each; the last one's is not made to fit."""
    widths = {n: max((line[n] for line in taken), default=0) for n in range(len(names))}
    last = len(names) - 1
    least = min(widths[last], LAST_LEAST)

    def over() -> int:
        return sum(widths.values()) - widths[last] + least + len(GAP) * (len(widths) - 1) - width

    for name in spare:
        if name in names and over() > 0:
            widths.pop(names.index(name), None)
    while over() > 0:  # each round takes from the widest that may be cut
        widest = max((n for n in widths if n != last and names[n] in left), key=widths.__getitem__, default=last)
        if widest == last or widths[widest] <= CUT_LEAST:
            break
        widths[widest] = max(CUT_LEAST, widths[widest] - over())
    return widths


def _cell(cell: Cell) -> Styled:
    text, style = cell if isinstance(cell, Styled) else (cell, "")
    return Styled(one_line(text), style)


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, room: int) -> str:
    """As much of a text as fits into `room` columns, with an ellipsis if that is not all."""
    if _width(text) <= room:
        return text
    text = text[: max(0, room)]
    while text and _width(text) >= room:  # each round takes a character
        text = text[:-1]
    return f"{text}…" if room > 0 else ""


def plural(count: int, what: str) -> str:
    """'1 page', '3 pages'."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


PS_SPARE: Final = (
    "RESIDENT",
    "EVICTED",
    "FAULTS",
    "CALLS",
    "USED",
    "PAGES",
    "SAMPLE",
    "MODEL",
    "UNREAD",
    "QUEUE",
    "TURNS",
)
"""Columns of `ps` that a narrow terminal does without, the first of them first."""


def ps(processes: Iterable[ProcessView], *, colour: bool = False, width: int = 0) -> list[str]:
    """One line a process; its model where there are several, its sampling where one has chosen.

    Where the terminal is narrow, what matters least goes.
    """
    processes = list(processes)
    several = len({one.model for one in processes}) > 1
    chosen = any(one.sampling is not None for one in processes)
    names = ["PID", "NAME", "STATE", "TURNS", "CALLS", "QUEUE", "USED", "RESIDENT", "PAGES", "FAULTS", "EVICTED"]
    names += ["UNREAD", *(["MODEL"] if several else []), *(["SAMPLE"] if chosen else []), "STATUS"]
    rows: list[list[Cell]] = []
    for one in processes:
        counts, memory = one.accounts, one.memory
        share = memory.used / memory.queue if memory.queue else 0.0
        full = round(10 * share)
        rows.append(
            [
                str(one.pid),
                one.name,
                Styled("asks", YELLOW) if one.asks == one.pid else Styled(one.state.value, STATES.get(one.state, "")),
                str(counts.turns),
                str(counts.syscalls),
                f"{memory.used}/{memory.queue}",
                Styled("█" * full + "░" * (10 - full) if width else f"{share:.0%}", YELLOW if share >= LATE else GREEN),
                str(memory.resident),
                str(memory.pages),
                str(counts.faults),
                str(counts.evictions),
                str(one.outbox),
                *([one.model] if several else []),
                *([written(one.sampling)] if chosen else []),
                one.status,
            ]
        )
    left = ("NAME", "STATE", "USED", "MODEL", "SAMPLE", "STATUS")
    return aligned(names, rows, left=left, spare=PS_SPARE, colour=colour, width=width)


def evaluated(one: ProcessView) -> dict[str, object]:
    """What a process made the model evaluate, in tokens, as JSON has it."""
    counts = one.accounts
    made = counts.entered + counts.emitted
    return {
        "pid": one.pid,
        "name": one.name,
        "turns": counts.turns,
        "entered": counts.entered,
        "emitted": counts.emitted,
        "recalled": counts.recalled,
        "prefill": counts.prefill,
        "new": counts.prefill - counts.again,
        "reprefilled": counts.again,
        "restored": counts.restored,
        "shared": counts.shared,
        "prefill_per_new_token": round((counts.prefill - counts.recalled) / made, 3) if made else None,
    }


def vmstat(processes: Iterable[ProcessView], *, colour: bool = False, width: int = 0) -> list[str]:
    """One line a process: what was evaluated, and what was spared."""
    names = ("PID", "NAME", "TURNS", "ENTERED", "EMITTED", "RECALLED", "NEW", "AGAIN", "RESTORED", "SHARED", "RATIO")
    rows = []
    for one in processes:
        counts, made = one.accounts, evaluated(one)
        tokens = [
            str(made[name]) for name in ("entered", "emitted", "recalled", "new", "reprefilled", "restored", "shared")
        ]
        ratio = made["prefill_per_new_token"]
        shown = "" if ratio is None else f"{ratio:.2f}"
        rows.append([str(one.pid), one.name, str(counts.turns), *tokens, shown])
    spare = ("SHARED", "RESTORED", "RECALLED", "TURNS", "EMITTED", "ENTERED")
    return aligned(names, rows, left=("NAME",), spare=spare, colour=colour, width=width)


def process(one: ProcessView) -> dict[str, object]:
    """A process as `ps --json` has it: one level of keys."""
    found = msgspec.to_builtins(one)
    accounts, memory, calls = msgspec.structs.asdict(one.accounts), found.pop("memory"), found.pop("calls")
    del found["accounts"], accounts["coalesced"]
    memory["queue_used"], memory["queue_max"] = memory.pop("used"), memory.pop("queue")
    return {**found, "mask": calls, "sampling": written(one.sampling), **accounts, **memory}


def described(made: Described) -> dict[str, object]:
    """What a process is made of, for JSON."""
    spec = made.spec
    return {
        "pid": made.pid,
        "name": spec.name,
        "model": made.model,
        "mask": spec.calls,
        "nice": spec.nice,
        "abort": spec.abort,
        "sampling": written(spec.sampling),
        "think": spec.think,
        "limits": msgspec.to_builtins(spec.limits),
        "tainted": spec.tainted,
        "archives": spec.archives,
        "system": spec.system,
        "blocks": spec.blocks,
    }


def choices(made: Described) -> str:
    """What a process is made of, as `llmos set` takes it; its instructions last."""
    spec = made.spec
    head = [f"model {made.model}", f"mask={','.join(spec.calls)}", f"nice={spec.nice}", f"abort={spec.abort}".lower()]
    rules = [f"limit.{name}={most}" for name, most in msgspec.to_builtins(spec.limits).items()]
    rules += [f"tainted.{call}={verdict}" for call, verdict in spec.tainted.items()]
    words = [f"archives={','.join(spec.archives)}", f"sample={written(spec.sampling)}", f"think={spec.think}"]
    return "\n".join([*head, *words, *rules, f"system={spec.system}"])


def fact(one: FactView) -> dict[str, object]:
    """A fact as `facts --json` has it, dates as text."""
    return {
        "fact": one.page,
        "subject": one.subject,
        "text": one.text,
        "said": _day(one.said),
        "holds": one.holds,
        "pages": one.rests,
        "origin": one.origin,
        "corrects": one.corrects or None,
        "corrected_by": one.corrected or None,
    }


def rights(found: Rights, *, colour: bool = False, width: int = 0) -> list[str]:
    """What a process may do, a line each."""
    limits, used = msgspec.to_builtins(found.limits), msgspec.to_builtins(found.used)
    rows: list[list[Cell]] = [["calls", ", ".join(found.calls)]]
    if found.parent:
        rows.append(["parent", found.parent])
    rows += [["right", f"{one.right} from {one.by or 'outside'}"] for one in found.grants]
    rows += [["limit", f"{name} {used.get(name, 0):,} of {most:,}"] for name, most in limits.items()]
    nothing = "in which it finds nothing: it has no right, or nobody is called so"
    rows += [["archive", name if may else f"{name}, {nothing}"] for name, may in found.archives.items()]
    rows += [["tainted", f"{call}: {verdict}"] for call, verdict in found.tainted.items()]
    if found.asks is not None:
        pages = ", ".join(map(str, found.asks.low))
        rows.append(["asks", Styled(f"{found.asks.text}, with pages {pages} in view", YELLOW)])
    return aligned(("", ""), rows, left=("",), colour=colour, width=width, wrap=True)


def audited(one: AuditView) -> dict[str, object]:
    """A call of the audit, for JSON."""
    return {**msgspec.to_builtins(one), "at": _moment(one.at, "seconds")}


def audit(found: Iterable[AuditView], *, colour: bool = False, width: int = 0) -> list[str]:
    """One line a call."""
    rows: list[list[Cell]] = [
        [
            str(one.n),
            _moment(one.at, "seconds"),
            Styled(one.verdict, GREEN if one.verdict in ("allowed", "granted") else YELLOW),
            " ".join((*one.origins, ",".join(map(str, one.low)))),
            one.call,
            "; ".join(filter(None, (one.why, *one.rights))),
        ]
        for one in found
    ]
    names = ("N", "AT", "VERDICT", "IN VIEW", "CALL", "WHY")
    return aligned(names, rows, left=names[1:], spare=("IN VIEW", "N"), colour=colour, width=width)


def graph(found: Iterable[Edge], *, colour: bool = False, width: int = 0) -> list[str]:
    """One line an edge."""
    words = {"parent": "made", "waits": "waits for", "letter": "wrote to"}
    rows = [
        [one.of, words[one.kind], one.to, f"message {one.letter} {one.fate or ''}".strip() if one.letter else ""]
        for one in found
    ]
    names = ("PROCESS", "", "PROCESS", "MESSAGE")
    return aligned(names, rows, left=names, colour=colour, width=width)


def _day(at: int) -> str:
    """The day of a time, as it is in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(at // NS))


def facts(found: Iterable[FactView], *, colour: bool = False, width: int = 0) -> list[str]:
    """One line a fact; what is corrected says by which."""
    rows = [
        [
            str(one.page),
            _day(one.said),
            one.holds,
            ",".join(map(str, one.rests)),
            one.origin.value,
            one.subject,
            one.text + (f" (corrected by {one.corrected})" if one.corrected else ""),
        ]
        for one in found
    ]
    names = ("FACT", "SAID", "HOLDS", "PAGES", "ORIGIN", "SUBJECT", "TEXT")
    return aligned(names, rows, left=names[1:], spare=("ORIGIN", "PAGES"), colour=colour, width=width)


def document(one: DocumentView) -> dict[str, object]:
    """A version of a document as `put --json` has it."""
    return {
        "path": one.path,
        "version": one.version,
        "put": _day(one.at),
        "page": one.page,
        "whole": one.whole,
        "newest": one.newest,
    }


def documents(found: Iterable[DocumentView], *, colour: bool = False, width: int = 0) -> list[str]:
    """One line a version of a document."""
    rows = [
        [
            one.path,
            str(one.version),
            _day(one.at),
            str(one.page),
            ("" if one.newest else "older") if one.whole else "not whole",
        ]
        for one in found
    ]
    return aligned(
        ("PATH", "VERSION", "PUT", "PAGE", "NOTE"), rows, left=("PATH", "PUT", "NOTE"), colour=colour, width=width
    )


def account(one: Account) -> dict[str, object]:
    """An interrupt line's account as JSON has it: latencies in milliseconds, buckets by their upper edges in us."""

    def summary(histogram: Histogram) -> dict[str, object]:
        return {
            "p50_ms": round(histogram.quantile_ms(0.5), 3),
            "p99_ms": round(histogram.quantile_ms(0.99), 3),
            "max_ms": round(histogram.largest_ns / 1e6, 3),
            "below_us": {str(2**n): count for n, count in enumerate(histogram.counts) if count},
        }

    return {
        "raised": one.raised,
        "delivered": one.delivered,
        "coalesced": one.coalesced,
        "to_delivery": summary(one.to_delivery),
        "to_token": summary(one.to_token),
    }


def tools(servers: Sequence[ServerView], *, colour: bool = False, width: int = 0) -> list[str]:
    """One line a server, then one line a tool of it."""
    rows = []
    for one in servers:
        seen = one.server
        again = f", starts again in {seen.again_s:.0f} s" if seen.state == "down" else ""
        left = f", {seen.left_out} left out" if seen.left_out else ""
        said = f"{seen.why}{again}" if seen.why else f"{plural(seen.tools, 'tool')}{left}"
        rows.append([seen.name, seen.state, said])
        for tool in one.tools:
            what = "reads" if tool.reads else "again" if tool.again else ""
            rows.append([f"  {tool.name}", what, tool.purpose])
    return aligned(("NAME", "STATE", "WHAT"), rows, left=("NAME", "STATE", "WHAT"), colour=colour, width=width)


def irqs(lines: Mapping[str, Account], *, colour: bool = False, width: int = 0) -> list[str]:
    """One line an interrupt line, with its histograms from 1 us to 1,000 s."""
    names = ("LINE", "RAISED", "DELIVERED", "COALESCED", "P50 MS", "P99 MS", "TO DELIVERY", "P50 TOKEN", "P99 TOKEN")
    rows = []
    for name, one in lines.items():
        row = [name, str(one.raised), str(one.delivered), str(one.coalesced)]
        for histogram in (one.to_delivery, one.to_token):
            any_ = any(histogram.counts)
            row += [f"{histogram.quantile_ms(share):.1f}" if any_ else "" for share in (0.5, 0.99)]
            row.append(_spark(histogram.counts[:31]))
        rows.append(row)
    spare = ("TO DELIVERY", "COALESCED", "DELIVERED")
    return aligned(
        (*names, "TO TOKEN"),
        rows,
        left=("LINE", "TO DELIVERY", "TO TOKEN"),
        spare=spare,
        colour=colour,
        width=width,
    )


def pmap(space: Map, texts: Mapping[int, str]) -> list[str]:
    """One line a page of an address space, where nobody looks at a terminal; with the texts' beginnings, if given."""
    rows = [
        [str(one.page), segment.name, one.kind, one.role, str(one.tokens), "pinned" if one.pinned else ""]
        + ([texts.get(one.page, "")] if texts else [])
        for segment in space.segments
        for one in segment.pages
    ]
    names = ("PAGE", "SEGMENT", "KIND", "ROLE", "TOKENS", "PINNED", *(("TEXT",) if texts else ()))
    return aligned(names, rows)


def replayed(machine: Mapping[str, Any], *, colour: bool = False, width: int = 0) -> list[str]:
    """The machine at a step of a replay: its processes, then the pages and pending interrupts of each, its timers."""
    running = {slot["pid"]: f" in slot {n}" for n, slot in enumerate(machine["slots"]) if slot["pid"]}
    found = [f"step {machine['lsn']}, {_moment(machine['now'], 'milliseconds')}"]
    for proc in machine["processes"]:
        waits = f", waits for {proc['wait']['type'].lower()} {proc['wait']['req']}" if proc["wait"] else ""
        state = f"{proc['state']}{running.get(proc['pid'], '')}{waits}"
        said = f"said {proc['said']}, {proc['acked']} acknowledged"
        name = one_line(f"{proc['name']} ({proc['pid']}): {state}, instruction {proc['instr']}, {said}")
        rows = [
            (segment, str(page["page"]), page["kind"], str(page["tokens"]), "pinned" if page["pinned"] else "", text)
            for segment, pages in proc["pages"].items()
            for page in pages
            for text in [" ".join(page["text"].split())]
        ]
        names = ("SEGMENT", "PAGE", "KIND", "TOKENS", "PINNED", "TEXT")
        left = ("SEGMENT", "KIND", "PINNED", "TEXT")
        found += ["", name, *aligned(names, rows, left=left, spare=("PINNED",), colour=colour, width=width)]
        found += [one_line(f"  pending: {one['line']}, pages {one['pages']}") for one in proc["pending"]]
    for timer in machine["timers"]:
        due = _moment(timer["due"], "seconds")
        found.append(one_line(f"timer {timer['timer']} of process {timer['pid']}: {due} {timer['text']}"))
    return found


def _moment(at: int, precision: str) -> str:
    """A time, as it is in UTC."""
    return datetime.fromtimestamp(at / NS, UTC).isoformat(timespec=precision)


def _spark(counts: Sequence[int]) -> str:
    """Counts as bars of a character each, the tallest full."""
    top = max(counts)
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // top)] for count in counts) if top else ""


def call(one: Called, encoding: str) -> dict[str, Any]:
    """A call as `strace --json` has it; one that cannot be decoded has no name, and the text as it was emitted."""
    from syscalls.decode import arguments, name_of, parse

    name, said = "", dict[str, Any](text=one.text)
    with contextlib.suppress(SyscallError):
        decoded = parse(one.text, encoding, (), truncated=False)
        name, said = name_of(decoded), arguments(decoded)
    return {
        "page": one.page,
        "at": one.at,
        "call": name,
        "arguments": said,
        "result": one.result or None,
        "tokens": one.tokens,
        "seconds": round(one.ns / NS, 3),
    }


def answered(calls: Sequence[Called], encoding: str) -> Sequence[Called]:
    """All but the last if that waits for its result yet: it is no call that ends a turn."""
    from syscalls.abi import SYSCALLS

    if not calls or calls[-1].result:
        return calls
    name = str(call(calls[-1], encoding)["call"])
    return calls if name and not SYSCALLS[name].returns else calls[:-1]


def strace(one: Called, encoding: str) -> list[str]:
    """The line of a call: local time, name, arguments, result, and what it took."""
    seen = call(one, encoding)
    seconds, ns = divmod(one.at, NS)
    when = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{ns // 1_000_000:03d}"
    said = ", ".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in seen["arguments"].items())
    took = f", {seen['seconds']:g} s" if one.result else ""
    shown = f"{seen['call'] or '?'}({_short(said)})" + (f" = {_short(one.result)}" if one.result else "")
    return [one_line(f"{when} {shown} <{plural(one.tokens, 'token')}{took}>")]


def _short(text: str) -> str:
    """The beginning of a text, in one line."""
    text = " ".join(text.split())
    return text if len(text) <= SHORT_CHARS else f"{text[:SHORT_CHARS]}..."


def describe(note: Note) -> str:
    """A note in a few words: 'evict: 12 pages, 640 tokens'."""
    what = note.what
    if what is What.INTERRUPT:
        return f"interrupt: {note.line.name if note.line is not None else 'none'}"
    if what is What.DELIVERED:
        pages = f", {plural(len(note.pages), 'page')}" if note.pages else ""
        return f"delivered: {note.line.name if note.line is not None else 'none'}{pages}"
    if what is What.FAULT:
        pages = plural(len(note.pages), "page") + (f" {one_line(note.text)}" if note.text else "")
        return f"fault: {pages}, {plural(note.tokens, 'token')} brought in"
    if what is What.EVICT:
        return f"evict: {plural(len(note.pages), 'page')}, {plural(note.tokens, 'token')}"
    if what is What.FOLD:
        return f"fold: core memory, {plural(note.tokens, 'token')} of writes"
    found = [f"{plural(note.tokens, 'token')}"] if note.tokens or what is What.RUN else []
    if note.pages:
        found.append(plural(len(note.pages), "page"))
    if note.text:
        found.append(one_line(" ".join(note.text.split())))
    return f"{what}: {', '.join(found)}" if found else what


def dmesg(entry: Entry, names: dict[int, str]) -> list[str]:
    """The lines of an entry: log number, local time, whom it concerns, what happened."""
    seconds, ns = divmod(entry.at, NS)
    when = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{ns // 1_000_000:03d}"
    return [
        f"[{entry.lsn:>6}] {when} {one_line(names.get(note.pid, str(note.pid)) if note.pid else 'kernel')}: "
        f"{describe(note)}"
        for note in entry.notes
    ]


def models(found: Sequence[Card], *, free: int | None = None, width: int = 0) -> list[str]:
    """The models that are here, and those that can be pulled; `free`: bytes of memory, None: unknown."""
    names = ("name", "size", "quantised", "file", "needs", "context", "licence", "")
    rows = [
        (
            one.name,
            one.size,
            one.quantisation,
            megabytes(one.bytes),
            megabytes(one.memory) if one.memory else "",
            f"{one.context:,}" if one.context else "",
            one.licence,
            one.broken or _advice(one, free),
        )
        for one in found
    ]
    return aligned(names, rows, left=("name", "size", "quantised", "licence", ""), width=width)


def _advice(one: Card, free: int | None) -> str:
    """What a model is good for, how it gets here, and whether it would fit."""
    if one.here:
        return one.good_for
    large = "" if free is None or one.memory <= free else "; more than is free here"
    return f"not here: {one.good_for}{large}"


def model(one: Card, *, width: int = 0) -> list[str]:
    """What a model's file says of it, a line each; what it does not say is left out."""
    said = {
        "name": one.name,
        "title": one.title,
        "architecture": one.architecture,
        "size": one.size,
        "quantised": one.quantisation,
        "context": f"{one.context:,} tokens" if one.context else "",
        "file": megabytes(one.bytes),
        "needs": f"{megabytes(one.memory)}, for one process of 4,096 tokens" if one.memory else "",
        "good for": one.good_for,
        "sampling": f"{one.sampling} ({_said_by(one)})" if one.sampling else "",
        "chat template": "yes" if one.template else "no: it can embed, and not be talked to",
        "licence": one.licence,
        "pulled from": one.source,
        "sha256": one.sha256,
        "broken": one.broken,
    }
    rows = [(name, text) for name, text in said.items() if text]
    return aligned(("", ""), rows, left=("",), width=width, wrap=True)


def _said_by(one: Card) -> str:
    """Who recommends how a model's words are drawn."""
    return {"the file": "as the file says", "llmos": "as llmos knows it"}.get(one.sampled_by, "nothing better is known")


def megabytes(size: int) -> str:
    """A number of bytes, for people."""
    return f"{size / 1e6:,.0f} MB"
