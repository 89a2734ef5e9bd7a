"""The desk: a request goes in, its answer comes out. All doors share it; each has its own way to read and write.

Guarantees: an answer to what changes the machine comes after the commit. What cannot be done raises KernelError, and
then nothing has changed; `failed` makes a refusal of it.
Not here: framing, hello and who may come in (socket.py), the structs (wire.py), what a request means (the kernel).
"""

from __future__ import annotations

import os
import sys
import traceback
import uuid
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar, assert_never

import msgspec
import trio

from drivers.door import wire
from drivers.door.arriving import Arriving
from kernel import manner
from kernel.errors import BadInput, Busy, Stopped, in_one_line, some
from kernel.event import Consented, Granted, Message, Revoked
from kernel.limits import AUDITS_MAX, MESSAGE_BYTES_MAX
from kernel.machine import documents, held, replies, views, why
from kernel.machine.chronicle import Chronicle, newest
from kernel.machine.feed import Published
from kernel.machine.loop import Machine
from kernel.machine.pages import kept
from kernel.machine.replies import Reply, Sent, Standing
from kernel.machine.requests import Answer
from kernel.machine.views import Entry
from kernel.memory.page import Page
from kernel.ports import Reads
from kernel.process import State
from kernel.spec import digest
from kernel.text import printable

CHANGES: Final = (
    "system",
    "calls",
    "nice",
    "abort",
    "sampling",
    "think",
    "limits",
    "tainted",
    "archives",
)  # of a process
PIECES_MAX: Final = 32  # of the journal or of the pages that one request reads: each takes some milliseconds
COMMIT_S: Final = 0.002  # between two looks at whether a commit is done: it takes milliseconds


T = TypeVar("T")


async def carry_out(machine: Machine, request: wire.AnyCommand, arriving: Arriving) -> wire.AnyAnswer:
    """Do what is asked. Raises KernelError if it cannot be done; then nothing has changed.

    `arriving`: what the same client has sent of an export. Stop is answered and not obeyed: whoever has sent the answer
    calls `machine.stop`.
    """
    kernel, asked, number = machine.kernel, machine.requests, request.id
    match request:
        case wire.Send():
            return done(number, await asked.message(request.proc, request.mid, request.text))
        case wire.Spawn():
            return done(number, await _spawn(machine, request))
        case wire.Fork():
            return done(number, await asked.fork(request.proc, request.name, request.before))
        case wire.Describe():
            return wire.Made(id=number, process=views.described(kernel, request.proc))
        case wire.Set():
            check_size(request.system or "")
            changes = {name: getattr(request, name) for name in CHANGES}
            return done(number, await asked.change(request.proc, **changes))
        case wire.Core():
            check_size(request.text)
            return done(number, await asked.write_core(request.proc, request.block, request.text, request.seen))
        case wire.Revert():
            return done(number, await _reverted(machine, request))
        case wire.Keep():
            pid = views.find(kernel, request.proc)
            return done(number, await asked.patiently(kept(machine.pages, pid, request.page, request.how)))
        case wire.Rename():
            return done(number, await asked.rename(request.proc, request.name))
        case wire.Kill():
            return done(number, await asked.kill(request.proc, group=request.group))
        case wire.Grant():
            pid = views.find(kernel, request.proc)
            return done(number, await asked.submit(Granted(source="user", pid=pid, right=request.right)))
        case wire.Revoke():
            pid = views.find(kernel, request.proc)
            return done(number, await asked.submit(Revoked(source="user", pid=pid, right=request.right)))
        case wire.Allow():
            pid = views.find(kernel, request.proc)
            req = request.req or kernel.procs[pid].req
            return done(number, await asked.submit(Consented(source="user", pid=pid, req=req, yes=request.yes)))
        case wire.Remove():
            return done(number, await _remove(machine, request))
        case wire.Halt():
            return done(number, await asked.halt(request.proc))
        case wire.Ack():
            return done(number, await asked.acknowledge(request.pid, request.upto))
        case wire.Compact():
            return done(number, await machine.compact())
        case wire.Import():
            return await _import(machine, request, arriving)
        case wire.Stop():
            return wire.Ok(id=number, lsn=kernel.counters.lsn)
        case wire.Ps():
            if request.proc is None:
                found = views.processes(kernel, request.after, views.PROCESSES_PIECE)
                more = bool(found) and found[-1].pid < max(kernel.procs)
                return wire.Processes(id=number, processes=tuple(found), more=more)
            return wire.Processes(id=number, processes=(views.process(kernel, request.proc),))
        case wire.Irqs():
            lines = {line.name.lower(): account for line, account in machine.latency.lines.items()}
            return wire.Interrupts(id=number, lines=lines)
        case wire.Pmap():
            return _mapped(machine, request)
        case wire.Strace():
            return await _traced(machine, request)
        case wire.Cat():
            page = views.page(kernel, machine.disk, request.proc, request.page)
            text = page.text[request.start : request.start + wire.CAT_CHARS_MAX]
            return wire.Paged(id=number, page=msgspec.structs.replace(page, text=text), chars=len(page.text))
        case wire.Explain():
            return await _explained(machine, request)
        case wire.Dmesg():
            lsn = kernel.counters.lsn
            entries, upto = await machine.readers(views.log_piece, machine.disk, request.since, request.limit)
            upto = max(upto, lsn) if upto == request.since else upto
            return wire.Entries(id=number, entries=tuple(entries), upto=upto, lsn=max(lsn, upto))
        case wire.Past():
            return await _past(machine, request)
        case wire.Grep():
            return await _matched(machine, request)
        case wire.Outbox():
            pid = views.find(kernel, request.proc)
            if request.since is not None:
                after = max(request.since, request.after)
                messages, more = await machine.readers(replies.said, machine.disk, pid, after)
            else:
                proc = kernel.procs[pid]
                after, upto = max(request.after, proc.acked), proc.said
                messages, more = await machine.readers(views.outbox_piece, machine.disk, pid, after, upto)
            return wire.Messages(id=number, messages=tuple(messages), more=more)
        case wire.Wait():
            return await _wait(machine, request)
        case wire.History():
            return await _history(machine, request)
        case wire.Facts():
            return await _facts(machine, request)
        case wire.Mem():
            return await _remembered(machine, request)
        case wire.Caps():
            return await _held(machine, request)
        case wire.Graph():
            return wire.Edges(id=number, edges=tuple(held.graph(kernel)))
        case wire.Audit():
            proc = kernel.procs[views.find(kernel, request.proc)]
            since = max(request.since, proc.audits - AUDITS_MAX)
            calls = await machine.readers(held.audit, machine.disk, proc.pid, proc.audits, since, request.limit)
            more = bool(calls) and calls[-1].n < proc.audits
            return wire.Audited(id=number, calls=tuple(calls), more=more)
        case wire.Put():
            place = (request.path, request.digest, request.part, request.parts)
            return done(number, await asked.put(request.proc, *place, request.pieces, request.paged))
        case wire.Documents():
            pid = views.find(kernel, request.proc)
            shelved = await machine.readers(documents.listed, machine.disk, pid)
            shown = tuple(documents.view(one) for one in shelved[-wire.DOCUMENTS_MAX :])
            return wire.Shelf(id=number, documents=shown)
        case wire.Tools():
            return wire.Toolbox(id=number, servers=tuple(views.servers(kernel, machine.tools)))
        case wire.Info():
            return _serving(machine, number)
        case _:
            assert_never(request)


async def _spawn(machine: Machine, request: wire.Spawn) -> Answer:
    spec = request.spec
    check_size(spec.system, *spec.blocks, *spec.blocks.values())
    return await machine.requests.spawn(spec, request.suit, request.given)


async def _remove(machine: Machine, request: wire.Remove) -> Answer:
    kernel, pid = machine.kernel, views.find(machine.kernel, request.proc)
    if request.kill and kernel.procs[pid].state is not State.ZOMBIE:
        await machine.requests.kill(pid)
    return await machine.requests.remove(pid)


def check_size(*texts: str) -> None:
    """Raises BadInput for more instructions and core memory than a request may bring."""
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if size > MESSAGE_BYTES_MAX:
        raise BadInput(f"blocks and system have {size} bytes; at most {MESSAGE_BYTES_MAX} are allowed")


async def _import(machine: Machine, request: wire.Import, arriving: Arriving) -> wire.AnyAnswer:
    arriving.take(request.part, first=request.first)
    if not request.last:
        return wire.Ok(id=request.id, lsn=machine.kernel.counters.lsn)
    try:
        return done(request.id, await machine.requests.take_over(arriving.done(request.name)))
    finally:
        arriving.drop()


async def look_up(machine: Machine, mid: str) -> tuple[Sent, Reply]:
    """A message as the kernel knows it, and what the disk says of it, when that has the same steps.

    Raises Unknown if there is none of that id.
    """
    sent = replies.sent(machine.kernel, machine.disk, mid)
    while replies.committed(machine.disk) < sent.lsn:  # ends with the commit under way, or with the machine
        await trio.sleep(COMMIT_S)
    return sent, await machine.readers(replies.reply, machine.disk, mid, sent)


async def _wait(machine: Machine, request: wire.Wait) -> wire.Replied:
    """The reply to a message, when it is there, or nothing more can come, or the time is over.

    Raises Stopped when the machine stops before that.
    """
    kernel, mid = machine.kernel, request.mid
    async with machine.feed.subscribe(-1) as published:  # from here on nothing is missed
        with trio.move_on_after(request.within_s) as patience:
            while True:  # until there may be no more, or patience ends
                sent, found = await look_up(machine, mid)
                if found.standing is not Standing.OPEN:
                    break
                if _asks_anew(machine, sent.pid, request):
                    break
                async for item in published:
                    if isinstance(item, Message) and mid in item.answers:
                        break
                    if (
                        isinstance(item, Entry)
                        and any(note.pid == sent.pid for note in item.notes)
                        and (
                            replies.sent(machine.kernel, machine.disk, mid).standing is not Standing.OPEN
                            or _asks_anew(machine, sent.pid, request)
                        )
                    ):
                        break
                else:
                    if machine.stopping:
                        raise Stopped("the kernel is stopping; ask again when it is up")
                    break  # too slow a reader: ask again
        if patience.cancelled_caught:
            sent, found = await look_up(machine, mid)
    asks = held.asking(kernel, sent.pid) if found.standing is Standing.OPEN else None
    return wire.Replied(id=request.id, pid=sent.pid, reply=found, acked=kernel.proc(sent.pid).acked, asks=asks)


def _asks_anew(machine: Machine, pid: int, request: wire.Wait) -> bool:
    """Whether who waits for a process's reply is to hear that consent is asked for."""
    found = held.asking(machine.kernel, pid)
    return found is not None and request.asked is not None and found.req != request.asked


async def _held(machine: Machine, request: wire.Caps) -> wire.Held:
    found = held.rights(machine.kernel, request.proc)
    pages = found.asks.low if found.asks is not None else ()
    read = await machine.readers(views.looked_up, machine.disk, pages)
    return wire.Held(
        id=request.id,
        rights=found,
        texts={number: page.searched[: views.HEAD_CHARS] for number, page in read.items()},
        about={number: views.About(page.origin, page.at) for number, page in read.items()},
    )


def _mapped(machine: Machine, request: wire.Pmap) -> wire.Mapped:
    found = views.pmap(machine.kernel, request.proc)
    pages = [row.page for segment in found.segments for row in segment.pages] if request.texts else []
    read = views.looked_up(machine.disk, pages)
    return wire.Mapped(
        id=request.id,
        map=found,
        texts={number: page.text[: views.HEAD_CHARS] for number, page in read.items()},
        about={number: views.About(page.origin, page.at) for number, page in read.items()},
    )


async def _backwards(
    machine: Machine, read: Callable[[int, int], tuple[list[T], int]], before: int, limit: int
) -> tuple[list[T], int]:
    """Up to `limit` of what `read` finds before a number, in PIECES_MAX pieces, and where to go on (0: nowhere)."""
    found: list[T] = []
    for _ in range(PIECES_MAX):
        more, before = await machine.readers(read, before, limit - len(found))
        found += more
        if not before or len(found) == limit:
            break
    return found, before


async def _past(machine: Machine, request: wire.Past) -> wire.Happened:
    pid, before = views.find(machine.kernel, request.proc), request.before or machine.kernel.counters.lsn + 1
    found, before = await _backwards(machine, partial(views.past_piece, machine.disk, pid), before, request.limit)
    return wire.Happened(id=request.id, entries=tuple(found[::-1]), before=before)


async def _matched(machine: Machine, request: wire.Grep) -> wire.Matched:
    pid = 0 if request.proc is None else views.find(machine.kernel, request.proc)
    words = request.text.lower().split()
    if not words:
        raise BadInput("there is nothing to look for; give a word")
    read = partial(views.grep_piece, machine.disk, words, pid)
    found, before = await _backwards(machine, read, request.before, request.limit)
    return wire.Matched(id=request.id, matches=tuple(found), before=before)


async def _traced(machine: Machine, request: wire.Strace) -> wire.Traced:
    kernel = machine.kernel
    proc = kernel.procs[views.find(kernel, request.proc)]
    read = partial(
        views.calls,
        machine.disk,
        proc.pid,
        kernel.costs(proc).measure,
        since=request.since,
        upto=request.upto or kernel.counters.page,
        limit=request.limit,
        bytes_max=wire.CALLS_BYTES_MAX,
    )
    calls = await machine.readers(read)
    return wire.Traced(id=request.id, calls=tuple(calls), encoding=manner.writes(kernel, proc))


async def _explained(machine: Machine, request: wire.Explain) -> wire.Explained:
    kernel, disk = machine.kernel, machine.disk
    pid, number = views.find(kernel, request.proc), request.page
    if not number:
        number = await machine.readers(why.last_said, disk, pid, kernel.procs[pid].said)
    page = views.page(kernel, disk, pid, number)
    found: list[why.Because] = []
    before = kernel.counters.lsn + 1
    while before:  # ends: each piece ends earlier
        happened, before = await machine.readers(why.piece, disk, page, before)
        found += happened
        if len(found) > why.BECAUSE_MAX:
            break
    for at, one in enumerate(found):
        asked, before = one.text, one.lsn if one.why in why.FOR_A_MESSAGE else 0
        while before and not asked:  # ends: likewise
            asked, before = await machine.readers(why.message, disk, page.pid, before)
        found[at] = msgspec.structs.replace(one, text=asked)
    named = sorted({number for one in found for number in one.pages[: why.PAGES_MAX]})
    where = {row.page: one.name for one in views.pmap(kernel, pid).segments for row in one.pages}
    return wire.Explained(
        id=request.id,
        page=msgspec.structs.replace(page, text=page.text[: views.HEAD_CHARS]),
        segment=where.get(page.id, ""),
        because=tuple(found[: why.BECAUSE_MAX][::-1]),
        heads=views.heads(disk, named),
        whole=any(one.why in why.BEGINS for one in found),
    )


async def _history(machine: Machine, request: wire.History) -> wire.Pages:
    pid = views.find(machine.kernel, request.proc)
    upto = request.upto or views.newest(machine.kernel, machine.disk, pid)
    pages, more = await machine.readers(_last, machine.disk, pid, request.limit, upto)
    return wire.Pages(id=request.id, pages=pages, more=more)


def _last(disk: Reads, pid: int, limit: int, upto: int) -> tuple[tuple[Page, ...], bool]:
    """The last messages as far as a line holds them, and whether it was the line that ended them."""
    pages = views.history(disk, pid, limit, upto)
    left = wire.PAGES_BYTES_MAX
    for at in range(len(pages) - 1, -1, -1):
        left -= len(msgspec.json.encode(pages[at]))
        if left < 0 and at < len(pages) - 1:
            return tuple(pages[at + 1 :]), True
    return tuple(pages), False


async def _facts(machine: Machine, request: wire.Facts) -> wire.Found:
    pid = views.find(machine.kernel, request.proc)
    facts = await machine.readers(views.facts, machine.disk, pid, request.limit)
    return wire.Found(id=request.id, facts=tuple(facts))


async def _chronicle(machine: Machine, proc: str | int, upto: int) -> Chronicle:
    """What the journal says of a process's core memory and facts, read to step `upto` (0: to the last one)."""
    kernel = machine.kernel
    if upto > kernel.counters.lsn:
        raise BadInput(f"log number {upto} is yet to come; the last is {kernel.counters.lsn}")
    found = await machine.readers(Chronicle, machine.disk, kernel.iset, views.find(kernel, proc), upto)
    while await machine.readers(found.piece):  # ends: each piece is later, and a journal is cut now and then
        pass
    return found


async def _remembered(machine: Machine, request: wire.Mem) -> wire.Memories:
    upto = request.upto or machine.kernel.counters.lsn
    found = await _chronicle(machine, request.proc, upto)
    return memories(request.id, views.find(machine.kernel, request.proc), upto, found, request.limit)


def memories(number: int, pid: int, upto: int, found: Chronicle, limit: int) -> wire.Memories:
    """What a journal that was read to step `upto` says, for a client."""
    changes, more = newest(found.changes, limit, wire.PAGES_BYTES_MAX)
    return wire.Memories(
        id=number, pid=pid, upto=upto, blocks=found.blocks, changes=changes, more=more, whole=found.whole
    )


async def _reverted(machine: Machine, request: wire.Revert) -> Answer:
    if not request.lsn:
        raise BadInput("at log number 0 there was nothing; `llmos mem log` has those of each version")
    text = (await _chronicle(machine, request.proc, request.lsn)).blocks.get(request.block, "")
    blocks = views.described(machine.kernel, request.proc).spec.blocks
    if not text and request.block not in blocks:
        raise BadInput(f"no block {request.block}, neither at {request.lsn} nor now; blocks are {some(blocks)}")
    seen = digest(blocks.get(request.block, ""))
    return await machine.requests.write_core(request.proc, request.block, text, seen)


def _serving(machine: Machine, number: int) -> wire.Serving:
    kernel, index = machine.kernel, machine.index
    assert kernel.config is not None  # a machine is made by boot, whose first step sets it
    return wire.Serving(
        id=number,
        os_pid=os.getpid(),
        lsn=kernel.counters.lsn,
        model=" and ".join(model.title for model in kernel.models.values()),
        window=machine.settings.window,
        encoding=kernel.config.encoding,
        settings=machine.settings,
        pages=kernel.counters.page,
        indexed=min(index.applied, kernel.counters.page),
        anew=index.anew,
        damaged=index.damaged,
        trouble=index.trouble,
    )


def pushed(item: Published, request: wire.Subscribe, pid: int) -> wire.AnyPush | None:
    """What a subscription to process `pid` (0: to all) hears of something that happened; None: nothing."""
    if isinstance(item, Entry):
        entry = views.of_process(views.unheard(item) if request.log else item, pid)
        return None if entry is None else wire.Logged(entry=entry)
    if request.log or (pid and item.pid != pid):
        return None
    return wire.Said(message=item) if isinstance(item, Message) else wire.Token(streamed=item)


def done(number: int, answer: Answer) -> wire.Ok | wire.Failed:
    """What became of a submitted event, for the client."""
    if answer.refused is not None:
        return failed(number, answer.refused)
    return wire.Ok(id=number, lsn=answer.lsn, pid=answer.pid, duplicate=answer.duplicate)


def failed(number: int, error: Exception) -> wire.Failed:
    """A refusal in one line, and what programs tell refusals apart by."""
    why = next((code for code, kind in wire.CODES.items() if isinstance(error, kind)), "")
    after_s = error.retry_after_s if isinstance(error, Busy) else None
    return wire.Failed(id=number, error=in_one_line(error), code=why, retry_after_s=after_s)


def broken(number: int, exc: Exception, ident: str = "") -> wire.Failed:
    """The answer to a request that failed as nobody foresaw; what it was is printed, under the id that it names."""
    ident = ident or uuid.uuid4().hex[:8]
    print(f"llmos: request {ident} failed:", file=sys.stderr)
    print(printable("".join(traceback.format_exception(exc))), file=sys.stderr)
    return wire.Failed(id=number, error=f"the request failed in the kernel, which goes on; its log has it as {ident}")
