"""The command `llmos`. Thin: each command imports what it needs when it runs, so that `--help` costs little.

Errors of the user's are one line on standard error and exit status 2; data goes to standard output, `--json` as one
object (dmesg: one a line).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="""\b
Examples:
  llmos chat                        talk to a process; a kernel is started if none runs
  llmos demo                        ten facts told, evicted, and asked for

An operating system kernel whose CPU is a language model.""",
)
bench = typer.Typer(
    rich_markup_mode=None,
    help="""\b
Examples:
  llmos bench kernel --processes 16 --seconds 20
  llmos bench nested-kv --model smollm2-135m --levels 1-2

Measure this machine.""",
)
traces = typer.Typer(
    rich_markup_mode=None,
    help="""\b
Examples:
  llmos trace record ~/.local/share/llmos mine.jsonl.gz
  llmos trace convert mine.jsonl.gz mine.oracleGeneral.bin

Reference strings for `llmos bench paging`.""",
)
journal = typer.Typer(
    rich_markup_mode=None,
    help="""\b
Examples:
  llmos journal compact
  llmos journal compact /srv/agents --json

The journal of a machine: every event it took, from which `llmos replay` takes it again.""",
)
app.add_typer(traces, name="trace", short_help="Reference strings for `llmos bench paging`.")
app.add_typer(journal, name="journal", short_help="The journal of a machine.")
app.add_typer(bench, name="bench", short_help="Measure this machine.")

Dir = Annotated[Path | None, typer.Option("--dir", help="Data directory; default $LLMOS_DIR, or ~/.local/share/llmos.")]
Model = Annotated[str | None, typer.Option("--model", help="A GGUF file, or the name of a pulled model.")]
Window = Annotated[int | None, typer.Option("--window", help="Tokens of context that a process has.")]
Cpu = Annotated[str, typer.Option("--cpu", help="llama, or scripted, which echoes.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as memory.policy=lru.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Proc = Annotated[str, typer.Argument(metavar="PROC", help="A process by name or number.")]
Where = Annotated[Path | None, typer.Argument(metavar="DIR", help="The machine's directory; as --dir elsewhere.")]

PATIENCE_S = 10.0  # how long `send` goes on trying to reach a daemon that died


def home(given: Path | None) -> Path:
    """The data directory: as given, of the environment, or the default; absolute."""
    chosen = given or os.environ.get("LLMOS_DIR")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".local" / "share" / "llmos"


def socket_of(given: Path | None) -> Path:
    """The control socket of a data directory."""
    from llmos.ask import SOCKET

    return home(given) / SOCKET


@app.command(short_help="Run the kernel in the foreground.")
def boot(
    directory: Dir = None, model: Model = None, window: Window = None, cpu: Cpu = "llama", changes: Changes = None
) -> None:
    """\b
    Examples:
      llmos boot --model smollm2-135m --window 2048
      llmos boot --dir /srv/agents --set memory.policy=lru --set disk.sync=full

    Run the kernel in the foreground. SIGTERM or Ctrl-C drains and stops it. Model, window and settings are recorded in
    the directory and need not be given again.
    """
    from functools import partial

    from llmos.client import run
    from llmos.daemon import Options, foreground

    run(partial(foreground, home(directory), Options(model, window, cpu, tuple(changes or ()))))


@app.command(short_help="Talk to a process; start a kernel if none runs.")
def chat(
    proc: Annotated[str, typer.Argument(metavar="PROC", help="A process by name or number; made if missing.")] = "main",
    directory: Dir = None,
    model: Model = None,
    window: Window = None,
    cpu: Cpu = "llama",
    changes: Changes = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave a kernel that this chat started running.")] = False,
) -> None:
    """\b
    Examples:
      llmos chat
      llmos chat tutor --model qwen.gguf --window 4096

    Talk to a process. A kernel is started if none runs, and stopped at the end unless --keep; one that ran before is
    left alone. Ctrl-C leaves the chat; the process keeps its memory and the next chat goes on. A dead process is
    started again. Lines from a pipe are sent one by one, each when the reply to the last has come.
    """
    from functools import partial

    from llmos.client import run
    from llmos.console.chat import chat as console
    from llmos.daemon import Options

    where = home(directory)
    if cpu == "llama" and (model is not None or not (where / "data.mdb").exists()):
        from llmos.init import DEFAULT_MODEL
        from llmos.models import find

        find(model or DEFAULT_MODEL, progress)  # here, where its progress is seen
    options = Options(model, window, cpu, tuple(changes or ()))
    run(partial(console, where, proc, options, keep=keep))


@app.command(short_help="List the processes.")
def ps(directory: Dir = None, as_json: Json = False) -> None:
    """\b
    Examples:
      llmos ps
      llmos ps --json

    List the processes.
    """
    from drivers.door import wire
    from llmos import tables
    from llmos.ask import call

    found = call(socket_of(directory), wire.Ps(id=0), wire.Processes)
    if as_json:
        print_json({"processes": found.processes})
    else:
        print_lines(tables.ps(found.processes, colour=coloured(), width=columns()))


@app.command(short_help="What the model had to evaluate, and what it was spared.")
def vmstat(
    proc: Annotated[str | None, typer.Argument(metavar="[PROC]", help="One process; default: all.")] = None,
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos vmstat
      llmos vmstat main --json

    Tokens of prompts by process: evaluated for the first time (new), again because a prefix broke or KV was lost, and
    not at all, because their KV came from an image (restored) or another process (shared). `llmos dmesg` has each run.
    """
    from drivers.door import wire
    from llmos import tables
    from llmos.ask import call

    found = call(socket_of(directory), wire.Ps(id=0, proc=proc), wire.Processes).processes
    if as_json:
        print_json({"processes": [tables.evaluated(one) for one in found]})
    else:
        print_lines(tables.vmstat(found, colour=coloured()))


@app.command(short_help="Interrupts by line, and how long they take.")
def irqs(directory: Dir = None, as_json: Json = False) -> None:
    """\b
    Examples:
      llmos irqs
      llmos irqs --json

    Interrupts since the daemon booted: from raised to delivered, and to the first token after that.
    """
    from drivers.door import wire
    from llmos import tables
    from llmos.ask import call

    found = call(socket_of(directory), wire.Irqs(id=0), wire.Interrupts)
    if as_json:
        print_json({"lines": {name: tables.account(one) for name, one in found.lines.items()}})
    else:
        print_lines(tables.irqs(found.lines, colour=coloured()))


@app.command(short_help="Make a process, or start a dead one again.")
def spawn(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name; that of a dead process starts it again.")],
    mask: Annotated[
        str | None, typer.Option("--mask", metavar="A,B", help="The syscalls it may emit; default: as suits the model.")
    ] = None,
    block: Annotated[
        list[str] | None, typer.Option("--block", metavar="NAME=TEXT", help="A block of core memory.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="Instructions before the manual.")] = None,
    nice: Annotated[
        int,
        typer.Option(
            "--nice", metavar="N", help="-20 to 19: the higher, the smaller its share under sched.policy fair."
        ),
    ] = 0,
    abort: Annotated[bool, typer.Option("--abort", help="A new message stops what it is saying.")] = False,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="Which of the machine's models (--set models.NAME=GGUF).")
    ] = "",
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos spawn tutor --block persona="You teach chess."
      llmos spawn clerk --mask search,send_message --model small --json

    Make a process, or start a dead one again with its memory.
    """
    from drivers.door import wire
    from kernel.errors import BadInput
    from llmos.ask import call

    blocks: dict[str, str] = {}
    for one in block or ():
        key, found, text = one.partition("=")
        if not found or not key:
            raise BadInput(f"--block {one}: NAME=TEXT is wanted")
        blocks[key] = text
    names = None if mask is None else tuple(call.strip() for call in mask.split(","))
    request = wire.Spawn(id=0, name=name, mask=names, blocks=blocks, system=system, nice=nice, abort=abort, model=model)
    ok = call(socket_of(directory), request, wire.Ok)
    if as_json:
        print_json({"pid": ok.pid, "name": name, "lsn": ok.lsn})
    else:
        print(f"{name} is process {ok.pid}")


@app.command(short_help="Send a message to a process.")
def send(
    proc: Proc,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say; - reads it from standard input.")],
    mid: Annotated[str | None, typer.Option("--mid", help="Message id: the same one again is applied once.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the reply and print it.")] = False,
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos send main "What did I tell you about Marta?" --wait
      llmos send main - --mid report-7 < report.txt

    Send a message to a process. It is on disk when this returns.
    """
    import msgspec

    from kernel.errors import BadInput
    from kernel.event import Message
    from llmos import ask

    if text == "-":
        try:
            text = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as exc:
            raise BadInput(f"standard input is no valid UTF-8 (byte {exc.start + 1}); send it as UTF-8") from exc
    number, path = mid or ask.new_mid(), socket_of(directory)
    patience_s = PATIENCE_S if path.exists() else 0.0  # a kernel that was stopped takes its socket with it
    messages: list[Message] = []
    if wait:
        ok, messages = ask.converse(path, proc, text, number, patience_s)
    else:
        ok = ask.send(path, proc, text, number, patience_s)
    if as_json:
        found = {"mid": number, "pid": ok.pid, "lsn": ok.lsn, "duplicate": ok.duplicate}
        print_json(found | ({"messages": msgspec.to_builtins(messages)} if wait else {}))
        return
    for message in messages:
        print(message.text)
    if wait and not messages:
        print("llmos: the turn ended without a reply", file=sys.stderr)
    elif not wait:
        print(f"{'had' if ok.duplicate else 'has'} it: message {number}")


@app.command(short_help="Copy a process as it stands.")
def fork(
    proc: Proc,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The copy's name.")],
    directory: Dir = None,
) -> None:
    """\b
    Examples:
      llmos fork main trial
      llmos fork 1 "main before the trip"

    Copy an idle process under another name: its core memory and all that it has in view, token for token, so that
    nothing is evaluated again. Timers, waiting messages and what it has on disk alone stay with the first.
    """
    from drivers.door import wire
    from llmos.ask import call

    made = call(socket_of(directory), wire.Fork(id=0, proc=proc, name=name), wire.Ok)
    print(f"process {made.pid}")


@app.command(short_help="Kill a process; its memory is kept.")
def kill(proc: Proc, directory: Dir = None) -> None:
    """\b
    Examples:
      llmos kill main
      llmos kill 3

    Kill a process. Its memory is kept: `spawn` or `chat` of the same name start it again.
    """
    from drivers.door import wire
    from llmos.ask import call

    call(socket_of(directory), wire.Kill(id=0, proc=proc), wire.Ok)


@app.command(short_help="Print the kernel's log.")
def dmesg(
    since: Annotated[
        int | None, typer.Option("--since", min=0, help="After this log number; default: the last 200.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as things happen.")] = False,
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos dmesg --follow
      llmos dmesg --since 0 --json

    Print the kernel's log: interrupts, faults, evictions, runs, from the journal.
    """
    from llmos.log import show

    show(socket_of(directory), since, follow=follow, as_json=as_json)


@app.command(short_help="Draw the address space of a process.")
def pmap(proc: Proc, directory: Dir = None, as_json: Json = False) -> None:
    """\b
    Examples:
      llmos pmap main
      llmos pmap 1 --json

    Draw the address space of a process: the window as a bar of its segments, then its pages.
    """
    from drivers.door import wire
    from llmos import pictures
    from llmos.ask import call

    found = call(socket_of(directory), wire.Pmap(id=0, proc=proc), wire.Mapped).map
    if as_json:
        print_json(found)
    else:
        print_rich(pictures.pmap(found, colour=coloured()))


@app.command(short_help="Drain and stop the kernel.")
def stop(directory: Dir = None) -> None:
    """\b
    Examples:
      llmos stop
      llmos stop --dir /srv/agents

    Drain and stop the kernel of a directory; returns when it is gone.
    """
    from llmos import client, daemon

    client.run(lambda: daemon.stop(home(directory)))


@app.command(short_help="Take a machine's journal again, and compare.")
def replay(
    where: Where = None,
    until: Annotated[int, typer.Option("--until", min=0, help="Stop at this log number and print the machine.")] = 0,
    diff: Annotated[bool, typer.Option("--diff", help="Of a step that differs: what it did then and now.")] = False,
    as_json: Json = False,
) -> int:
    """\b
    Examples:
      llmos replay ~/.local/share/llmos --until 1200
      llmos replay /srv/agents --diff --json

    Take the events of a journal again, without a model, and compare the state hash after every step with the one it had
    then. It starts at the last compaction, and reads only. Exit status 1 if a step comes out otherwise, and where.
    """
    from llmos import pictures
    from llmos import replay as module
    from llmos.storage import reader

    with reader(home(where)) as disk:
        found = module.replay(disk, until, diff, lambda lsn, end: tell(f"replayed up to {lsn} of {end}"))
    if as_json:
        print_json(found)
    else:
        if found.machine is not None:
            for picture in pictures.replayed(found.machine):
                print_rich(picture)
        if found.diverged is None:
            print(f"ok: {found.steps} steps after {found.start}, to {found.lsn}, hash {found.hash}")
        else:
            print(f"diverged at {found.diverged['lsn']}: {found.diverged['why']}")
            for name in ("event", "notes_then", "notes_now", "records"):
                if name in found.diverged and (diff or name == "event"):
                    print(f"  {name}: {found.diverged[name]}")
    return 0 if found.ok else 1


@journal.command("compact", short_help="Cut the journal at a checkpoint.")
def journal_compact(where: Where = None, as_json: Json = False) -> None:
    """\b
    Examples:
      llmos journal compact
      llmos journal compact /srv/agents --json

    Keep a consistent copy of the state, from which a replay can start, and drop the journal before it. On a running
    machine the journal goes bit by bit, and its pages are used again; on one that does not run, the file shrinks, too.
    """
    from drivers.door import wire
    from kernel.errors import BadInput
    from llmos import storage
    from llmos.ask import SOCKET, call

    directory = home(where)
    if storage.in_use(directory):
        size = (directory / "data.mdb").stat().st_size
        done = call(directory / SOCKET, wire.Compact(id=0), wire.Ok)
        found = storage.Compacted(done.lsn, 0, size, (directory / "data.mdb").stat().st_size, running=True)
    else:
        found = storage.compact(directory, tell)
    if not found.lsn:
        raise BadInput(f"{directory} holds no step yet: there is nothing to cut")
    if as_json:
        print_json(found)
    elif found.running:
        print(f"checkpoint at {found.lsn}; the journal before it is being cut")
    else:
        sizes = f"data.mdb {found.bytes_before / 1e6:.1f} MB, now {found.bytes_after / 1e6:.1f} MB"
        print(f"checkpoint at {found.lsn}, {found.entries} journal entries cut; {sizes}")


@app.command(short_help="Look through a machine's directory.")
def fsck(where: Where = None, as_json: Json = False) -> int:
    """\b
    Examples:
      llmos fsck
      llmos fsck /srv/agents --json

    Look through a directory: the structure and all checksums of data.mdb, every reference between records, counts, the
    state hash, and the indexes against the pages. Of a running machine it looks through a snapshot. Nothing is changed.
    Exit status 0 if all is well, 1 if not; indexes are derived, and what is wrong with them heals at the next start.
    """
    from llmos import storage

    found = storage.check(home(where), tell)
    if as_json:
        print_json(found)
        return 0 if found.ok else 1
    if found.file.damage:
        print(f"data.mdb: {found.file.damage}")
    else:
        print(f"data.mdb: {found.file.pages} pages whole, {found.file.checked} checksums right")
    if found.records is not None:
        seen = found.records
        counts = f"{seen.processes} processes, {seen.pages} pages, {seen.journal} journal entries"
        print(f"records: {counts}, step {seen.lsn}, state {seen.hash}")
        for finding in seen.findings:
            print(f"  {finding}")
    for finding in found.index or ["as the pages are"]:
        print(f"index: {finding}")
    print(f"{'ok' if found.ok else 'not well'}, {found.seconds} s")
    return 0 if found.ok else 1


@app.command(short_help="Copy a machine to a file, while it runs.")
def backup(
    where: Annotated[Path, typer.Argument(metavar="DIR", help="The machine's directory.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup; it must not exist yet.")],
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos backup ~/.local/share/llmos agents.mdb
      llmos backup /srv/agents /backup/$(date +%F).mdb --json

    Copy the state of one moment to a file, by LMDB's own copy, and look through the copy. The kernel may run and goes
    on meanwhile. Indexes are not in it; a restored machine builds them again.
    """
    from llmos import storage

    found = storage.backup(home(where), file, tell)
    if as_json:
        print_json(found)
    else:
        held = f"{found.processes} processes, {found.pages} pages, step {found.lsn}, state {found.hash}"
        print(f"{found.file}: {found.bytes / 1e6:.1f} MB, {held}")


@app.command(short_help="Bring a backup back.")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `llmos backup` made.")],
    where: Annotated[Path, typer.Argument(metavar="DIR", help="The directory to make.")],
    force: Annotated[bool, typer.Option("--force", help="Move aside what the directory holds.")] = False,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos restore agents.mdb /srv/agents
      llmos restore agents.mdb /srv/agents --force

    Look through a backup and make a machine's directory of it. With --force the data.mdb that lies there is kept under
    another name. The indexes are built again when the machine is booted.
    """
    from llmos import storage

    found = storage.restore(file, home(where), force, tell)
    if as_json:
        print_json(found)
    else:
        held = f"{found.processes} processes, {found.pages} pages, step {found.lsn}"
        print(f"{home(where)}: {held}; boot it with: llmos boot --dir {home(where)}")


@app.command(short_help="Write a process with all its memory to a file.")
def export(
    proc: Proc,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines; gzipped if the name ends in .gz.")],
    directory: Dir = None,
) -> None:
    """\b
    Examples:
      llmos export main main.jsonl
      llmos export tutor tutor.jsonl.gz --dir /srv/agents

    Write one process, with everything it knows, to a portable file (docs/durability.md has the format). The process
    stays as it is, and the kernel may run.
    """
    import time

    from drivers.disk import parcel
    from kernel.errors import BadInput
    from llmos import storage

    with storage.reader(home(directory)) as disk:
        names = storage.processes(disk)
        if proc not in names and not (proc.isdigit() and int(proc) in names.values()):
            raise BadInput(f"no process {proc!r}; processes are {', '.join(list(names)[:12]) or 'none'}")
        pid = names.get(proc) or int(proc)
        count = parcel.write(disk, pid, file, time.time_ns())
    print(f"{file}: {count} pages")


@app.command("import", short_help="Make a process of an exported file.")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `llmos export` made.")],
    name: Annotated[str, typer.Option("--name", help="The name it gets, if not the one it had.")] = "",
    directory: Dir = None,
    model: Model = None,
    cpu: Cpu = "llama",
) -> None:
    """\b
    Examples:
      llmos import main.jsonl --name main2
      llmos import tutor.jsonl.gz --dir /srv/other

    Make a process of an exported file, with its memory, its timers and the messages that it had not read. A kernel is
    started for it if none runs. The file is believed: import what you, or somebody you trust, exported.
    """
    from functools import partial

    from drivers.disk import parcel
    from llmos.client import run
    from llmos.daemon import Options, take_over

    parcel.read(file)  # here, where a file that is none costs no kernel
    answer = run(partial(take_over, home(directory), file.absolute(), name, Options(model, None, cpu), tell))
    print(f"process {answer.pid}, at log number {answer.lsn}")


@app.command(short_help="Bring a model into the models directory.")
def pull(
    what: Annotated[str, typer.Argument(metavar="NAME|URL|FILE", help="A known model, or where a GGUF is.")],
) -> None:
    """\b
    Examples:
      llmos pull smollm2-135m
      llmos pull ./qwen2.5-0.5b-instruct-q4_k_m.gguf

    Bring a model into the models directory and verify it.
    """
    from llmos import models

    print(models.pull(what, progress))


@app.command(short_help="Look at what is installed and what is missing.")
def doctor(directory: Dir = None, as_json: Json = False) -> None:
    """\b
    Examples:
      llmos doctor
      llmos doctor --json

    Look at what is installed, and say what to do about what is missing. Exit status 1 if something must be done.
    """
    from llmos import doctor as clinic

    found = clinic.checks(home(directory))
    if as_json:
        print_json({"checks": found})
    else:
        print_lines(clinic.render(found, colour=coloured()))
    if any(check.state is clinic.State.FAIL for check in found):
        raise typer.Exit(1)


@app.command(short_help="Facts told, evicted, and asked for.")
def demo(
    model: Annotated[str, typer.Option("--model", help="A GGUF file, or the name of a pulled model.")] = "smollm2-135m",
    seed: Annotated[int, typer.Option("--seed", help="Of the facts and the talk.")] = 1,
    window: Annotated[int, typer.Option("--window", help="Tokens of context.")] = 2048,
    no_paging: Annotated[bool, typer.Option("--no-paging", help="Evict the same pages and bring none back.")] = False,
    keep: Annotated[Path | None, typer.Option("--dir", help="Keep the machine in this new data directory.")] = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos demo
      llmos demo --seed 3 --set cpu.drop=shift --json

    Tell ten facts scattered through a conversation of 6,000 tokens, so that each is evicted, then ask for each in other
    words. An answer counts when the gold words stand in a reply of at most 60 tokens.

    \b
    resident       questions whose fact stood in the context when asked
    recalled_right right answers
    entered        tokens of pages from outside at their first entry
    recalled       tokens brought in by faults
    emitted        tokens decoded
    prefill        tokens the CPU evaluated as prompt
    max_kv_tokens  the driver's highest KV position, reply included
    """
    from llmos.demo.demo import run

    if keep is not None and keep.exists() and any(keep.iterdir()):
        from kernel.errors import BadInput

        raise BadInput(f"--dir {keep}: the demo wants a new directory, and this one is not empty")
    paging = [] if not no_paging else ["memory.fault=false"]
    run(model=model, seed=seed, window=window, changes=[*paging, *(changes or [])], keep=keep, as_json=as_json)


@bench.command("kernel", short_help="Durable syscalls a second.")
def bench_kernel(
    processes: Annotated[int, typer.Option("--processes", min=1, max=4096)] = 16,
    sync: Annotated[str, typer.Option("--sync", help="full, group or off.")] = "group",
    seconds: Annotated[float, typer.Option("--seconds", min=0.1)] = 20.0,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos bench kernel
      llmos bench kernel --processes 64 --sync off --seconds 10 --json

    Durable syscalls a second of scripted CPUs, with indexes, beside the bare loop.
    """
    from bench.kernel import run

    run(processes, sync, seconds, as_json)


@bench.command("cpu", short_help="The llama CPU: restore, batches, preemption, forks.")
def bench_cpu(
    model: Annotated[str, typer.Option("--model", help="A GGUF file, or the name of a pulled model.")] = "smollm2-135m",
    full: Annotated[
        bool, typer.Option("--full", help="More sizes, turns and preemptions, in 20 to 60 minutes.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare with the stored baseline; exit 1 if worse.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Store the figures as the model's baseline.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of conversation, preemptions and sampling.")] = 1,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos bench cpu --model smollm2-135m --json
      llmos bench cpu --model qwen.gguf --full --check

    What KV paging, shared batches, preemption and forks cost and save on a model, as ratios measured in one run of
    5 to 20 minutes. docs/numbers.md says what each figure is.
    """
    from bench.cpu.run import run

    raise typer.Exit(run(model, full=full, check=check, keep=keep, seed=seed, as_json=as_json))


@bench.command("crash", short_help="Kill the machine wherever it can be killed.")
def bench_crash(
    points: Annotated[str, typer.Option("--points", help="all, or failpoints separated by commas.")] = "all",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Workloads 1 to N.")] = 1,
    sabotage: Annotated[str, typer.Option("--sabotage", help="Break the kernel on purpose; it must be noticed.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many runs, drawn from all; 0: all.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="Runs at a time; 0: one a core.")] = 0,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos bench crash --points all --seeds 5 --json
      llmos bench crash --sabotage skip-outbox --limit 60

    Run a workload with every syscall, timers and a client that connects again; kill it at every failpoint, start it
    again, and look for what is lost, done twice or other than a replay of its journal. Exit status 1 if anything is
    found; with --sabotage (ack-before-commit, apply-twice, skip-outbox, stale-index) if nothing is.
    """
    from bench.crash.run import run

    raise typer.Exit(run(points, seeds, sabotage, limit, jobs, as_json))


@bench.command("recovery", short_help="Boot, indexes and turns of a machine with a long past.")
def bench_recovery(
    processes: Annotated[int, typer.Option("--processes", min=1)] = 10_000,
    pages: Annotated[int, typer.Option("--pages", min=20_000)] = 1_000_000,
    where: Annotated[Path | None, typer.Option("--keep", metavar="DIR", help="Fill this folder, or use it.")] = None,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos bench recovery --processes 1000 --pages 100000
      llmos bench recovery --keep /var/tmp/long --json

    Fill a directory, build its indexes from nothing, compact it, boot it after a clean end and after a kill, and take
    turns in the process that has most of the pages. With a million pages it takes half an hour.
    """
    from bench.recovery import run

    run(processes, pages, where, as_json)


@bench.command("sched", short_help="What the scheduling policies do to those who wait.")
def bench_sched(
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Seeds 1 to this one.")] = 5,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos bench sched
      llmos bench sched --seeds 1 --json

    Runs 40 interactive processes, 8 batch ones, 4 blocked ones and a runaway under each policy, in virtual time.
    """
    from bench.sched import run

    run(seeds, as_json)


@bench.command("interrupts", short_help="A storm of interrupts, and a week of timers.")
def bench_interrupts(
    processes: Annotated[int, typer.Option("--processes", min=1, max=100_000, help="Of the storm.")] = 1_000,
    interrupts: Annotated[int, typer.Option("--interrupts", min=1, max=10_000_000, help="Of the storm.")] = 100_000,
    days: Annotated[float, typer.Option("--days", min=0.05, max=366, help="Of hourly timers.")] = 7.0,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos bench interrupts --json
      llmos bench interrupts --processes 100 --interrupts 1000 --days 1

    In virtual time: what a storm over many processes loses (nothing), and how long a week of timers takes.
    """
    from bench.interrupts import run

    run(processes, interrupts, days, as_json)


@bench.command("paging", short_help="Paging policies beside the optimum.")
def bench_paging(
    workload: Annotated[str, typer.Option("--workload", help="By name, or a trace file.")] = "",
    policy: Annotated[str, typer.Option("--policy", help="`llmos policies` lists them; several with commas.")] = "ours",
    budget: Annotated[int, typer.Option("--budget", min=1, help="Tokens of queue and recall.")] = 4096,
    low: Annotated[float | None, typer.Option("--low-water", min=0.0, max=1.0, help="1: page by page.")] = None,
    recall: Annotated[str, typer.Option("--recall", help="Share of the budget that recall has, or auto.")] = "",
    pager: Annotated[str, typer.Option("--pager", help="search, or perfect: each fault is brought in.")] = "",
    path: Annotated[str, typer.Option("--path", help="Recalled pages: area, queue, or drawn.")] = "",
    local: Annotated[bool, typer.Option("--local", help="Each process has its part of the budget.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 1,
    data: Annotated[Path | None, typer.Option("--data", help="The benchmark data; default $LLMOS_DATA.")] = None,
    no_bounds: Annotated[bool, typer.Option("--no-bounds", help="Leave the optimum out.")] = False,
    sweep: Annotated[Path | None, typer.Option("--sweep", metavar="DIR", help="All cells, into DIR; resumes.")] = None,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos bench paging --workload locomo-live --policy lru --budget 4096 --json
      llmos bench paging --workload synthetic/zipf --policy ours,lru,gdsf --budget 8192
      llmos bench paging --workload loop --policy lirs --budget 500
      llmos bench paging --sweep out

    \b
    One cell: a workload goes through a policy, and stands beside the optimum.
    Without data: synthetic/zipf, loop, scan, phase, sized, thrash, and own.
    With it: locomo-late, locomo-live, docs, nested-kv, git, git/h11, git/msgspec,
    git/trio, mix, cloudphysics, lirs, and each of its traces by name.
    \b
    faults       references to pages that were not resident; hit = 1 - faults / references
    opt_hit      the best that demand paging can do with all of the budget
    regret_pp    opt_hit - hit in percentage points; a search can bring it below 0
    cost_ratio   tokens of faults and recall, and of keeping, over the least possible
    prefill_amplification   prefill of the queue over tokens that arrived, recall apart
    \b
    --path area   recalled pages stand apart and are dropped after the turn
           drawn  those of them that the turn drew on join the queue (ours; perfect pager)
           queue  all of them join the queue
    """
    from kernel.errors import BadInput

    if sweep is not None:
        from bench.paging.sweep import sweep as run_sweep

        run_sweep(sweep, data, seed)
        return
    if not workload:
        raise BadInput("--workload is missing; --help names them, and --sweep DIR runs all cells")
    from bench.paging.run import run

    run(workload, policy, budget, low, recall, pager, path, local, seed, data, not no_bounds, as_json)


@traces.command("record", short_help="What a process drew on, from its machine's directory.")
def trace_record(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A data directory; a kernel may run on it.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="To write: .jsonl, .csv or .oracleGeneral, or with .gz.")
    ],
    process: Annotated[str, typer.Option("--process", metavar="PROC", help="By name or number.")] = "",
) -> None:
    """\b
    Examples:
      llmos trace record ~/.local/share/llmos mine.jsonl.gz
      llmos trace record work mine.csv --process main
      llmos bench paging --workload mine.jsonl.gz --policy lru

    Write what a process was told and said, and which pages its replies drew on, as a reference string. JSONL holds the
    texts, so that searches can be simulated; the other formats hold numbers only.
    """
    from bench.paging import record, trace

    trace.format_of(file)
    turns, texts = record.record(directory, process)
    count = trace.write_jsonl(turns, file, texts) if trace.format_of(file) == "jsonl" else trace.write(turns, file)
    typer.echo(f"{file}: {len(turns)} turns, {sum(len(turn.refs) for turn in turns)} references, {count} pages in all")


@traces.command("git", short_help="Commits as tasks over a repository.")
def trace_git(
    repository: Annotated[Path, typer.Argument(metavar="REPO", help="A local clone.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To write, .jsonl or .jsonl.gz.")],
    suffixes: Annotated[str, typer.Option("--suffixes", help="Of the files that count.")] = ".py,.c,.h,.rs,.go,.js,.ts",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Commits, the oldest first; 0: all.")] = 0,
) -> None:
    """\b
    Examples:
      llmos trace git ~/src/trio trio.jsonl.gz
      llmos bench paging --workload trio.jsonl.gz --policy gdsf

    Each commit is a task that reads the windows of 100 lines it changes. Texts are not written.
    """
    from bench.paging import repository as maker
    from bench.paging import trace

    turns = maker.tasks(repository, tuple(one for one in suffixes.split(",") if one), limit)
    count = trace.write(turns, file)
    typer.echo(f"{file}: {len(turns)} tasks, {count} references")


@traces.command("convert", short_help="From one format to another.")
def trace_convert(
    source: Annotated[Path, typer.Argument(metavar="FROM")],
    target: Annotated[Path, typer.Argument(metavar="TO", help=".oracleGeneral.bin, .csv or .jsonl, or these and .gz.")],
) -> None:
    """\b
    Examples:
      llmos trace convert cloudPhysicsIO.oracleGeneral.bin.gz blocks.csv
      llmos trace convert mine.jsonl.gz mine.oracleGeneral.bin

    Formats are told by the names: libCacheSim's oracleGeneral, CSV, and JSONL. In oracleGeneral arrivals are requests.
    """
    from bench.paging import trace

    trace.format_of(target)
    typer.echo(f"{target}: {trace.write(trace.read(source), target)} pages")


@app.command("policies", short_help="Paging policies, and what each does.")
def list_policies(as_json: Json = False) -> None:
    """\b
    Examples:
      llmos policies
      llmos chat --set memory.policy=gdsf

    Those marked live can be a machine's memory.policy; all of them run in `llmos bench paging`.
    """
    import json

    from bench.paging.field import EVERY
    from kernel.memory.policy import POLICIES

    rows = [
        {"name": name, "live": name in POLICIES, "does": one.does, "reference": one.reference, "cost": one.cost}
        for name, one in EVERY.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("policy", "live", "what it does", "reference", "an access")
    for row in rows:
        table.add_row(*("live" if value is True else str(value or "") for value in row.values()))
    Console().print(table)


@bench.command("nested-kv", short_help="The MemGPT paper's nested look-ups.")
def bench_nested_kv(
    model: Annotated[str, typer.Option("--model", help="A GGUF file, or the name of a pulled model.")] = "smollm2-135m",
    levels: Annotated[str, typer.Option("--levels", metavar="A-B", help="Look-ups in a row.")] = "1-4",
    samples: Annotated[int, typer.Option("--samples", min=1, help="A level.")] = 20,
    window: Annotated[int, typer.Option("--window", help="Tokens of context.")] = 2048,
    data: Annotated[Path | None, typer.Option("--data", help="The nested_kv folder; default $LLMOS_DATA.")] = None,
    as_json: Json = False,
) -> None:
    """\b
    Examples:
      llmos bench nested-kv --model qwen.gguf --levels 1-4
      llmos bench nested-kv --levels 1-1 --samples 4 --json

    The nested key-value look-ups of the MemGPT paper: every search is emitted by the model.
    """
    from bench.nested_kv import run
    from kernel.errors import BadInput

    first, dash, last = levels.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()) or not 0 < int(first) <= int(last or first) <= 4:
        raise BadInput(f"--levels {levels}: A-B is wanted, of 1 to 4")
    wanted = range(int(first), int(last or first) + 1)
    run(model=model, levels=tuple(wanted), samples=samples, window=window, data=data, as_json=as_json)


@app.command(name="run", short_help="Play a scenario in virtual time.")
def run_scenario(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A TOML file, or the name of one that comes with llmos.")],
    cpu: Annotated[str, typer.Option("--cpu", help="scripted, or a model: a GGUF file or a pulled name.")] = "scripted",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the scenario's own.")] = None,
    trace_file: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Write a trace that Perfetto opens.")
    ] = None,
    everything: Annotated[bool, typer.Option("--timeline", help="Print everything that happened.")] = False,
    keep: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Keep the machine here: a new one.")] = None,
    as_json: Json = False,
) -> int:
    """\b
    Examples:
      llmos run storm --timeline
      llmos run mine.toml --cpu smollm2-135m --trace mine.trace.json --json

    Play a scenario with scripted CPUs in virtual time: the same file and seed give the same hash everywhere. With a
    model the same file is played in real time, and the model decides what the processes say. The exit status is 1 if
    an expectation is broken. The format is described in docs/scenarios.md.
    """
    import time

    import msgspec

    from kernel.errors import BadInput
    from llmos.scenario import format as scenario
    from llmos.scenario import timeline
    from llmos.scenario import virtual as play

    began = time.perf_counter()
    builtin = {path.stem: path for path in sorted((Path(__file__).parents[1] / "scenarios").glob("*.toml"))}
    path = Path(file)
    if not path.exists():
        if file not in builtin:
            raise BadInput(f"{file}: no such file; scenarios that come with llmos are {', '.join(builtin)}")
        path = builtin[file]
    wanted = scenario.read(path)
    if keep is not None and (keep / "data.mdb").exists():
        raise BadInput(f"--dir {keep} holds a machine already; name a new directory")
    if cpu != "scripted":
        from llmos.scenario import real as live

        ran = live.play(wanted, cpu, seed, said, keep)
    elif keep is not None:
        from contextlib import closing

        from drivers.disk.lmdb import LmdbDisk

        with closing(LmdbDisk(keep, sync="off")) as disk:
            ran = play.play(wanted, seed, disk)
    else:
        ran = play.play(wanted, seed)
    if trace_file is not None:
        try:
            trace_file.write_bytes(msgspec.json.encode({"traceEvents": list(timeline.trace(ran))}))
        except OSError as exc:
            raise BadInput(f"--trace {trace_file}: {exc.strerror}; name a file that can be written") from exc
    if as_json:
        found = {"ok": ran.ok, "events": ran.events, "hash": ran.hash, "virtual_s": ran.virtual_s}
        found |= {"wall_s": round(time.perf_counter() - began, 3), "interrupts": ran.interrupts}
        print_json(found | ({} if ran.ok else {"broken": ran.broken}))
        return 0 if ran.ok else 1
    print(f"{wanted.title}. {wanted.teaches}")
    if everything:
        for one in ran.timeline:
            print(f"  {one}")
    if ran.ok:
        kind = "virtual" if cpu == "scripted" else "real"
        print(f"ok: {ran.events} events in {ran.virtual_s:g} s of {kind} time, hash {ran.hash}")
        return 0
    print(f"broken: expected {ran.broken}")
    return 1


def progress(what: str, done: int, total: int) -> None:
    """A line on standard error that is redrawn on a terminal, and printed once at the end elsewhere."""
    share = f" {done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else f" {done / 1e6:,.0f} MB" if done else ""
    over = total > 0 and done >= total
    if sys.stderr.isatty():
        print(f"\r\x1b[Kllmos: {what}{share}", end="\n" if over else "", file=sys.stderr, flush=True)
    elif over:
        print(f"llmos: {what}{share}", file=sys.stderr, flush=True)


def said(what: str) -> None:
    """A line on standard error."""
    print(f"llmos: {what}", file=sys.stderr, flush=True)


def tell(what: str) -> None:
    """What is being done, on standard error, redrawn on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[Kllmos: {what} ... ", end="", file=sys.stderr, flush=True)
    else:
        said(what)


def coloured() -> bool:
    """Whether standard output takes colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def columns() -> int:
    """Columns of the terminal that standard output is, or 0 if it is none."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0


def print_lines(lines: Iterable[str]) -> None:
    """A table, or whatever else is lines."""
    for line in lines:
        print(line)


def print_rich(what: RenderableType) -> None:
    """A table or a picture; in full width where nobody looks at a terminal."""
    from rich.console import Console

    (Console() if sys.stdout.isatty() else Console(width=160)).print(what)


def print_json(what: Any) -> None:
    """One JSON object on one line."""
    import msgspec

    print(msgspec.json.encode(what).decode())


def main() -> None:
    """The entry point: exit status 0, 2 for what the user can put right, 130 for Ctrl-C."""
    sys.exit(_status(sys.argv[1:] or ["--help"]))


def _status(arguments: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another
    try:
        if "LLMOS_FAILPOINTS" in os.environ:
            from kernel import failpoint

            failpoint.arm_from_environment()
        found = app(arguments, standalone_mode=False, prog_name="llmos")
        sys.stdout.flush()
    except typer.TyperException as exc:
        return _refused(f"{exc.format_message()}; see --help")
    except typer.Exit as exc:
        return exc.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # `llmos dmesg | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, BaseExceptionGroup) as exc:  # the last ditch: what is not the user's keeps its traceback
        from kernel.errors import KernelError
        from llmos.client import leaf

        cause = leaf(exc)
        if isinstance(cause, KeyboardInterrupt):
            return 130
        if not isinstance(cause, KernelError):
            raise
        return _refused(str(cause))
    return found if isinstance(found, int) else 0


def _refused(line: str) -> int:
    print(f"llmos: {' '.join(line.split())}", file=sys.stderr)
    return 2
