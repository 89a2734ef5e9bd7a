"""Commands that ask a machine that runs: ps, vmstat, irqs, spawn, send, fork, kill, dmesg, strace, pmap, cat,
facts.

Guarantee: each costs one plain socket and the protocol's structs, no event loop; rich where a picture is drawn (pmap).
Not here: what changes a process (changing.py), how a request travels (llmos/ask.py), what a table says
(llmos/tables.py).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import click
import msgspec

from drivers.door import wire
from kernel.errors import BadInput
from kernel.sampling import read
from kernel.spec import Spec, Think
from llmos import ask, tables
from llmos.commands.options import dir_option, json_option, proc_argument, sample_option, socket_of, typed
from llmos.commands.output import coloured, columns, print_json, print_lines, print_rich, said, show

NO_REPLY: Final = 3  # exit status of `send --wait`
TIMEOUT_S_MAX: Final = 366 * 86_400
PATIENCE_S: Final = 10.0  # how long `send` goes on trying to reach a daemon that died


@click.command()
@dir_option
@json_option
def ps(directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos ps
      llmos ps --json

    List the processes.
    """
    found = ask.call(socket_of(directory), wire.Ps(id=0), wire.Processes)
    if as_json:
        print_json({"processes": [tables.process(one) for one in found.processes]})
    else:
        print_lines(tables.ps(found.processes, colour=coloured(), width=columns()))


@click.command()
@click.argument("proc", metavar="[PROC]", required=False, help="One process; default: all.")
@dir_option
@json_option
def vmstat(proc: str | None, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos vmstat
      llmos vmstat main --json

    Tokens of prompts by process: evaluated for the first time (new), again because a prefix broke or KV was lost, and
    not at all, because their KV came from an image (restored) or another process (shared). `llmos dmesg` has each run.
    """
    found = ask.call(socket_of(directory), wire.Ps(id=0, proc=proc), wire.Processes).processes
    if as_json:
        print_json({"processes": [tables.evaluated(one) for one in found]})
    else:
        print_lines(tables.vmstat(found, colour=coloured(), width=columns()))


@click.command()
@dir_option
@json_option
def irqs(directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos irqs
      llmos irqs --json

    Interrupts since the daemon booted: from raised to delivered, and to the first token after that.
    """
    found = ask.call(socket_of(directory), wire.Irqs(id=0), wire.Interrupts)
    if as_json:
        print_json({"lines": {name: tables.account(one) for name, one in found.lines.items()}})
    else:
        print_lines(tables.irqs(found.lines, colour=coloured(), width=columns()))


@click.command()
@click.argument("name", metavar="NAME", help="Its name; that of a dead process starts it again.")
@click.option("--mask", metavar="A,B", help="The syscalls it may emit, or all; default: as suits the model.")
@click.option("--block", multiple=True, metavar="NAME=TEXT", help="A block of core memory.")
@click.option("--system", help="Instructions before the manual.")
@click.option(
    "--nice",
    type=int,
    metavar="N",
    help="-20 to 19, default 0: the higher, the smaller its share under sched.policy fair.",
)
@click.option("--abort", is_flag=True, help="A new message stops what it is saying.")
@click.option("--think", metavar="WHAT", help="Before it answers: auto (as its model does), off, on, or N tokens.")
@click.option("--model", default="", metavar="NAME", help="Which of the machine's models (--set models.NAME=GGUF).")
@sample_option
@dir_option
@json_option
def spawn(
    name: str,
    mask: str | None,
    block: tuple[str, ...],
    system: str | None,
    nice: int | None,
    abort: bool,
    think: str | None,
    model: str,
    sample: str | None,
    directory: Path | None,
    as_json: bool,
) -> None:
    """\b
    Examples:
      llmos spawn tutor --block persona="You teach chess."
      llmos spawn clerk --mask search,send_message --nice 5 --json

    Make a process, or start a dead one again, as it was, with its memory; `llmos set` and `llmos core` change it.
    """
    blocks: dict[str, str] = {}
    for one in block:
        key, found, text = one.partition("=")
        if not found or not key:
            raise BadInput(f"--block {one}: NAME=TEXT is wanted")
        blocks[key] = text
    names = None if mask is None else syscalls_of(mask)
    sampling = None if sample is None else read(sample)
    spec = Spec(name, names or (), system or "", blocks, nice or 0, abort, model, sampling, think_of(think or "auto"))
    suit = (*(("calls",) if names is None else ()), *(("system",) if system is None else ()))
    given = (*(("system",) if system is not None else ()), *(("nice",) if nice is not None else ()))
    given = (*given, *(("sampling",) if sample is not None else ()))
    given = (*given, *(("think",) if think is not None else ()))
    request = wire.Spawn(id=0, spec=spec, suit=suit, given=given)
    ok = ask.call(socket_of(directory), request, wire.Ok)
    if as_json:
        print_json({"pid": ok.pid, "name": name, "lsn": ok.lsn})
    else:
        show(f"{name} is process {ok.pid}")


def think_of(text: str) -> str:
    """What a process is to think before it answers. Raises BadInput."""
    try:
        return msgspec.convert(text, Think)
    except msgspec.ValidationError as exc:
        raise BadInput(f"think {text}: auto, off, on, or a number of tokens up to 999999 is wanted") from exc


def syscalls_of(mask: str) -> tuple[str, ...]:
    """The names in a mask."""
    return tuple(call.strip() for call in mask.split(","))


@click.command()
@proc_argument
@click.argument("text", metavar="TEXT", help="What to say; - reads it from standard input.")
@click.option("--mid", help="Message id: the same one again is applied once.")
@click.option("--wait", is_flag=True, help="Wait for the reply and print it; exit status 3 if there is none.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, max=TIMEOUT_S_MAX),
    help="With --wait: no longer than this; default: as long as it takes.",
)
@dir_option
@json_option
def send(
    proc: str,
    text: str,
    mid: str | None,
    wait: bool,
    timeout: float | None,
    directory: Path | None,
    as_json: bool,
) -> int:
    """\b
    Examples:
      llmos send main "What did I tell you about Marta?" --wait
      llmos send main - --mid report-7 < report.txt

    Send a message to a process. It is on disk when this returns. With --wait the reply is printed, also where a chat
    or another client has read it first; the same --mid again finds it later. Exit status 3 if there is none, and a line
    that says why: the turn ended without a message, the process died, the kernel stopped, or the time was over.
    """
    import msgspec

    from kernel.machine.held import Asking, question

    text = typed() if text == "-" else text
    number, path = mid or ask.new_mid(), socket_of(directory)
    patience_s = PATIENCE_S if path.exists() else 0.0  # a kernel that was stopped takes its socket with it
    if not wait:
        ok = ask.send(path, proc, text, number, patience_s)
        if as_json:
            print_json({"mid": number, "pid": ok.pid, "lsn": ok.lsn, "duplicate": ok.duplicate})
        else:
            show(f"{'had' if ok.duplicate else 'has'} it: message {number}")
        return 0

    def tell(asked: Asking) -> None:
        said(f"{question(asked)}; llmos allow {asked.name} [--no]")

    found = ask.converse(path, proc, text, number, patience_s, math.inf if timeout is None else timeout, tell)
    if as_json:
        ok = found.ok
        sent = {"mid": number, "pid": ok.pid, "lsn": ok.lsn, "duplicate": ok.duplicate}
        print_json(sent | {"messages": msgspec.to_builtins(found.messages), "missing": found.missing})
    for message in () if as_json else found.messages:
        show(message.text)
    if found.missing is not None:
        said(f"no reply to message {number}: {found.why}")
        return NO_REPLY
    return 0


@click.command()
@proc_argument
@click.argument("name", metavar="NAME", help="The copy's name.")
@dir_option
def fork(proc: str, name: str, directory: Path | None) -> None:
    """\b
    Examples:
      llmos fork main trial
      llmos fork 1 "main before the trip"

    Copy an idle process under another name: its core memory and all that it has in view, token for token, so that
    nothing is evaluated again. Timers, waiting messages and what it has on disk alone stay with the first.
    """
    made = ask.call(socket_of(directory), wire.Fork(id=0, proc=proc, name=name), wire.Ok)
    show(f"process {made.pid}")


@click.command()
@proc_argument
@click.option("--group", is_flag=True, help="And all that it has made, and they.")
@dir_option
def kill(proc: str, group: bool, directory: Path | None) -> None:
    """\b
    Examples:
      llmos kill main
      llmos kill 3 --group

    Kill a process. Its memory is kept: `spawn` or `chat` of the same name start it again. That of processes which it
    has made goes with them.
    """
    ask.call(socket_of(directory), wire.Kill(id=0, proc=proc, group=group), wire.Ok)


@click.command()
@click.option("--since", type=click.IntRange(min=0), help="After this log number; default: the last 200.")
@click.option("--follow", "-f", is_flag=True, help="Go on as things happen.")
@dir_option
@json_option
def dmesg(since: int | None, follow: bool, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos dmesg --follow
      llmos dmesg --since 0 --json

    Print the kernel's log: interrupts, faults, evictions, runs, from the journal.
    """
    from llmos.log import show

    show(socket_of(directory), since, follow=follow, as_json=as_json)


@click.command()
@proc_argument
@click.option("--texts", is_flag=True, help="With the beginnings of the pages' texts.")
@dir_option
@json_option
def pmap(proc: str, texts: bool, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos pmap main --texts
      llmos pmap 1 --json

    Draw the address space of a process: the window as a bar of its segments, then its pages.
    """
    found = ask.call(socket_of(directory), wire.Pmap(id=0, proc=proc, texts=texts), wire.Mapped)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(found.map) | ({"texts": found.texts} if texts else {}))
        return
    if not columns():
        print_lines(tables.pmap(found.map, found.texts))
        return
    from llmos import pictures

    print_rich(pictures.pmap(found.map, colour=coloured(), texts=found.texts))


@click.command()
@proc_argument
@click.argument("page", metavar="PAGE", type=click.IntRange(min=1), help="The page's number.")
@dir_option
@json_option
def cat(proc: str, page: int, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos cat main 2
      llmos cat 1 2 --json

    Print the text of a page of a process, in view or not; `pmap`, `strace` and `facts` name pages.
    """
    found = ask.call(socket_of(directory), wire.Cat(id=0, proc=proc, page=page), wire.Paged).page
    if as_json:
        import msgspec

        print_json(msgspec.structs.asdict(found))
    else:
        show(found.text)


@click.command()
@proc_argument
@click.argument(
    "page", metavar="[PAGE]", type=click.IntRange(min=1), required=False, help="Default: what it said last."
)
@dir_option
@json_option
def why(proc: str, page: int | None, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos why main
      llmos why main 2 --json

    Tell what happened to a page of a process, as the journal has it: who brought it, what it was recalled for and how
    likely it was wanted, which instructions drew on it, when it left and for what. Of what the process said: which
    pages it drew on. That is a guess, by words that they share.
    """
    found = ask.call(socket_of(directory), wire.Explain(id=0, proc=proc, page=page or 0), wire.Explained)
    from llmos import why as told

    if as_json:
        print_json(told.explained(found))
    else:
        print_lines(told.lines(found))


@click.command()
@proc_argument
@click.option("--follow", "-f", is_flag=True, help="Go on as it makes more.")
@click.option(
    "--last", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="How many of the past."
)
@dir_option
@json_option
def strace(proc: str, follow: bool, last: int, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos strace main --follow
      llmos strace main --last 1000 --json

    Print what a process called: when, with which arguments, what the kernel answered, the tokens that the call was made
    of, and how long its result took. `?` is what could not be decoded.
    """
    from llmos.trace import show

    show(socket_of(directory), proc, last, follow=follow, as_json=as_json)


@click.command()
@proc_argument
@dir_option
@json_option
def facts(proc: str, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos facts main
      llmos facts main --json

    List what reflection found in pages that have left a process's view (`--set memory.reflect=true`), oldest first:
    when it was said, when it holds, the pages it stands in, and what corrects it.
    """
    found = ask.call(socket_of(directory), wire.Facts(id=0, proc=proc), wire.Found)
    if as_json:
        print_json({"facts": [tables.fact(one) for one in found.facts]})
    else:
        print_lines(tables.facts(found.facts, colour=coloured(), width=columns()))
