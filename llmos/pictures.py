"""What the terminal shows of a machine: `ps`, `irqs`, `dmesg`, and `pmap`, the address space as a bar of cells.

Pure functions from views to rich renderables and lines; nothing here asks a daemon. Where colours are off, letters
tell the segments apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kernel.event import Note, What
from kernel.machine.latency import Account, Histogram
from kernel.machine.views import Entry, Map, ProcessView
from kernel.process import State

NS: Final = 1_000_000_000
BAR_CELLS: Final = 72  # one row of the bar; the window is ROWS of them
BAR_ROWS: Final = 3
PAGES_SHOWN: Final = 400  # rows of the table of pages; a window holds 10 to 200
PS_COLUMNS: Final = (
    *("PID", "NAME", "STATE", "TURNS", "CALLS", "QUEUE", "USED"),
    *("RESIDENT", "PAGES", "FAULTS", "EVICTED", "UNREAD"),
)

STYLES: Final[dict[str, str]] = {
    "text": "blue",
    "data": "magenta",
    "queue": "green",
    "recall": "yellow",
    "turn": "cyan",
    "free": "bright_black",
    "reply": "red",
}
LETTERS: Final[dict[str, str]] = {
    "text": "T",
    "data": "D",
    "queue": "Q",
    "recall": "R",
    "turn": "N",
    "free": ".",
    "reply": "r",
}
STATES: Final[dict[State, str]] = {
    State.RUNNING: "bold green",
    State.READY: "green",
    State.BLOCKED: "yellow",
    State.IDLE: "",
    State.SUSPENDED: "magenta",
    State.ZOMBIE: "red",
}


def plural(count: int, what: str) -> str:
    """'1 page', '3 pages'."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def ps(processes: Iterable[ProcessView]) -> RenderableType:
    """One line a process; its model where there are several."""
    processes = list(processes)
    several = len({one.model for one in processes}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in PS_COLUMNS:
        table.add_column(name, justify="left" if name in ("NAME", "STATE", "USED") else "right", no_wrap=True)
    if several:
        table.add_column("MODEL", no_wrap=True)
    table.add_column("STATUS", overflow="ellipsis", no_wrap=True)
    for one in processes:
        share = one.queue_used / one.queue_max if one.queue_max else 0.0
        table.add_row(
            str(one.pid),
            Text(one.name),
            Text(one.state.value, STATES[one.state]),
            str(one.turns),
            str(one.syscalls),
            f"{one.queue_used}/{one.queue_max}",
            Text("█" * round(10 * share) + "░" * (10 - round(10 * share)), "yellow" if share >= 0.7 else "green"),
            str(one.resident),
            str(one.pages),
            str(one.faults),
            str(one.evictions),
            str(one.outbox),
            *([Text(one.model)] if several else []),
            Text(one.status),
        )
    return table


def evaluated(one: ProcessView) -> dict[str, object]:
    """What a process made the model evaluate, in tokens, as JSON has it."""
    made = one.entered + one.emitted
    return {
        "pid": one.pid,
        "name": one.name,
        "turns": one.turns,
        "entered": one.entered,
        "emitted": one.emitted,
        "recalled": one.recalled,
        "prefill": one.prefill,
        "new": one.prefill - one.again,
        "reprefilled": one.again,
        "restored": one.restored,
        "shared": one.shared,
        "prefill_per_new_token": round((one.prefill - one.recalled) / made, 3) if made else None,
    }


def vmstat(processes: Iterable[ProcessView]) -> RenderableType:
    """One line a process: what was evaluated, and what was spared."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "PID",
        "NAME",
        "TURNS",
        "ENTERED",
        "EMITTED",
        "RECALLED",
        "NEW",
        "AGAIN",
        "RESTORED",
        "SHARED",
        "RATIO",
    ):
        table.add_column(name, justify="left" if name == "NAME" else "right", no_wrap=True)
    for one in processes:
        ratio = evaluated(one)["prefill_per_new_token"]
        counts = (one.entered, one.emitted, one.recalled, one.prefill - one.again, one.again, one.restored, one.shared)
        table.add_row(
            str(one.pid), Text(one.name), str(one.turns), *map(str, counts), "" if ratio is None else f"{ratio:.2f}"
        )
    return table


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


def irqs(lines: Mapping[str, Account]) -> RenderableType:
    """One line an interrupt line, with its histograms from 1 us to 1,000 s."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "LINE",
        "RAISED",
        "DELIVERED",
        "COALESCED",
        "P50 MS",
        "P99 MS",
        "TO DELIVERY",
        "P50 MS",
        "P99 MS",
        "TO TOKEN",
    ):
        table.add_column(name, justify="left" if name in ("LINE", "TO DELIVERY", "TO TOKEN") else "right", no_wrap=True)
    for name, one in lines.items():
        row = [name, str(one.raised), str(one.delivered), str(one.coalesced)]
        for histogram in (one.to_delivery, one.to_token):
            any_ = any(histogram.counts)
            row += [f"{histogram.quantile_ms(share):.1f}" if any_ else "" for share in (0.5, 0.99)]
            row.append(_spark(histogram.counts[:31]))
        table.add_row(*row)
    return table


def replayed(machine: Mapping[str, Any]) -> list[RenderableType]:
    """The machine at a step of a replay: its processes, then the pages and pending interrupts of each."""
    when = datetime.fromtimestamp(machine["now"] / 1e9, UTC).isoformat(timespec="milliseconds")
    running = {slot["pid"]: f" in slot {n}" for n, slot in enumerate(machine["slots"]) if slot["pid"]}
    found: list[RenderableType] = [Text(f"step {machine['lsn']}, {when}")]
    for proc in machine["processes"]:
        waits = f", waits for {proc['wait']['type'].lower()} {proc['wait']['req']}" if proc["wait"] else ""
        state = f"{proc['state']}{running.get(proc['pid'], '')}{waits}"
        said = f"said {proc['said']}, {proc['acked']} acknowledged"
        found.append(Text(f"\n{proc['name']} ({proc['pid']}): {state}, instruction {proc['instr']}, {said}"))
        table = Table(box=None, pad_edge=True, header_style="bold")
        for column in ("SEGMENT", "PAGE", "KIND", "TOKENS", "", "TEXT"):
            table.add_column(column, justify="right" if column in ("PAGE", "TOKENS") else "left", no_wrap=True)
        for segment, pages in proc["pages"].items():
            for page in pages:
                pinned = "pinned" if page["pinned"] else ""
                text = " ".join(page["text"].split())
                table.add_row(segment, str(page["page"]), page["kind"], str(page["tokens"]), pinned, Text(text[:80]))
        found.append(table)
        for one in proc["pending"]:
            found.append(Text(f"  pending: {one['line']}, pages {one['pages']}"))
    for timer in machine["timers"]:
        due = datetime.fromtimestamp(timer["due"] / 1e9, UTC).isoformat(timespec="seconds")
        found.append(Text(f"timer {timer['timer']} of process {timer['pid']}: {due} {timer['text']}"))
    return found


def _spark(counts: Sequence[int]) -> str:
    """Counts as bars of a character each, the tallest full."""
    top = max(counts)
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // top)] for count in counts) if top else ""


class Stretch(msgspec.Struct, frozen=True):
    """A part of the window: `tokens` of a segment, or of the free room kept for it."""

    segment: str
    tokens: int
    used: bool


def stretches(space: Map) -> list[Stretch]:
    """The window from its first token to its last, in prompt order; the sum is the window."""
    used = {segment.name: sum(page.tokens for page in segment.pages) for segment in space.segments}
    capacity = {segment.name: segment.capacity for segment in space.segments}
    queue = capacity.get("queue", 0)
    found = [
        Stretch("text", used.get("text", 0), used=True),
        Stretch("data", used.get("data", 0), used=True),
        Stretch("data", max(0, capacity.get("data", 0) - used.get("data", 0)), used=False),
        Stretch("queue", used.get("queue", 0), used=True),
        Stretch("recall", used.get("recall", 0), used=True),
        Stretch("recall", max(0, capacity.get("recall", 0) - used.get("recall", 0)), used=False),
        Stretch("turn", used.get("turn", 0), used=True),
        Stretch("free", max(0, queue - used.get("queue", 0) - used.get("turn", 0)), used=False),
    ]
    found.append(Stretch("reply", max(0, space.window - sum(one.tokens for one in found)), used=False))
    return [one for one in found if one.tokens]


def cells(parts: Sequence[Stretch], count: int) -> list[Stretch]:
    """`count` cells in proportion to tokens, each the stretch that it belongs to; the largest remainders round up.

    Every stretch has at least one cell if there are enough: what is there is seen.
    """
    window = sum(part.tokens for part in parts)
    exact = [part.tokens * count / window for part in parts]
    whole = [max(1, int(share)) for share in exact]
    order = sorted(range(len(parts)), key=lambda i: exact[i] - whole[i], reverse=True)
    while (rest := count - sum(whole)) > 0:  # each round gives a cell to each of at least one part
        for index in order[:rest]:
            whole[index] += 1
    while sum(whole) > count and max(whole) > 1:  # those that were given a cell too many take it from the largest
        whole[whole.index(max(whole))] -= 1
    return [part for part, n in zip(parts, whole, strict=True) for _ in range(n)][:count]


def pmap(space: Map, *, colour: bool) -> RenderableType:
    """The address space as a picture: the window as a bar, its segments, its pages."""
    parts = stretches(space)
    title = Text(f"{space.name} ({space.pid}): window of {space.window:,} tokens")
    return Group(title, Text(), *_bar(parts, colour), Text(), _legend(space, parts, colour), Text(), _pages(space))


def _bar(parts: Sequence[Stretch], colour: bool) -> list[Text]:
    row = [(_cell(one, colour), STYLES[one.segment]) for one in cells(parts, BAR_CELLS * BAR_ROWS)]
    lines = []
    for start in range(0, len(row), BAR_CELLS):
        line = Text("  ")
        for glyph, style in row[start : start + BAR_CELLS]:
            line.append(glyph, style)
        lines.append(line)
    return lines


def _cell(one: Stretch, colour: bool) -> str:
    if colour:
        return "█" if one.used else "░"
    return LETTERS[one.segment] if one.used else LETTERS["reply"] if one.segment == "reply" else LETTERS["free"]


def _legend(space: Map, parts: Sequence[Stretch], colour: bool) -> RenderableType:
    table = Table(box=None, pad_edge=True, header_style="bold")
    for name in ("", "SEGMENT", "TOKENS", "OF", "PAGES"):
        table.add_column(name, justify="right" if name in ("TOKENS", "OF", "PAGES") else "left")
    for segment in space.segments:
        tokens = sum(page.tokens for page in segment.pages)
        swatch = Text(_cell(Stretch(segment.name, 1, used=True), colour), STYLES[segment.name])
        table.add_row(swatch, segment.name, str(tokens), str(segment.capacity), str(len(segment.pages)))
    free = sum(one.tokens for one in parts if one.segment == "free")
    reply = sum(one.tokens for one in parts if one.segment == "reply")
    for name, label, tokens in (("free", "free", free), ("reply", "reply and frame", reply)):
        swatch = Text(_cell(Stretch(name, 1, used=False), colour), STYLES[name])
        table.add_row(swatch, label, str(tokens), "", "")
    return table


def _pages(space: Map) -> RenderableType:
    table = Table(box=None, pad_edge=True, header_style="bold")
    for name in ("PAGE", "SEGMENT", "KIND", "ROLE", "TOKENS", ""):
        table.add_column(name, justify="right" if name in ("PAGE", "TOKENS") else "left")
    rows = [(segment.name, page) for segment in space.segments for page in segment.pages]
    for name, one in rows[:PAGES_SHOWN]:
        shown = (one.kind.value, one.role.value, str(one.tokens), "pinned" if one.pinned else "")
        table.add_row(str(one.page), Text(name, STYLES[name]), *shown)
    if len(rows) > PAGES_SHOWN:
        table.add_row("...", f"{len(rows) - PAGES_SHOWN} more; --json lists them", "", "", "", "")
    return table


def describe(note: Note) -> str:
    """A note in a few words: 'evict: 12 pages, 640 tokens'."""
    what = note.what
    if what is What.INTERRUPT:
        return f"interrupt: {note.line.name if note.line is not None else 'none'}"
    if what is What.DELIVERED:
        pages = f", {plural(len(note.pages), 'page')}" if note.pages else ""
        return f"delivered: {note.line.name if note.line is not None else 'none'}{pages}"
    if what is What.FAULT:
        return f"fault: {plural(len(note.pages), 'page')}, {plural(note.tokens, 'token')} brought in"
    if what is What.EVICT:
        return f"evict: {plural(len(note.pages), 'page')}, {plural(note.tokens, 'token')}"
    if what is What.FOLD:
        return f"fold: core memory, {plural(note.tokens, 'token')} of writes"
    found = [f"{plural(note.tokens, 'token')}"] if note.tokens or what is What.RUN else []
    if note.pages:
        found.append(plural(len(note.pages), "page"))
    if note.text:
        found.append(" ".join(note.text.split()))
    return f"{what}: {', '.join(found)}" if found else what


def dmesg(entry: Entry, names: dict[int, str]) -> list[str]:
    """The lines of an entry: log number, local time, whom it concerns, what happened."""
    seconds, ns = divmod(entry.at, NS)
    when = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{ns // 1_000_000:03d}"
    return [
        f"[{entry.lsn:>6}] {when} {names.get(note.pid, str(note.pid)) if note.pid else 'kernel'}: {describe(note)}"
        for note in entry.notes
    ]
