"""Commands on a machine's directory as a thing to be kept: replay, journal, fsck, backup, restore, export, import.

Each imports what it needs when it runs. Not here: what they do (llmos/storage.py, llmos/replay.py,
drivers/disk/parcel.py), a machine that runs (machine.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from kernel.errors import BadInput
from llmos import tables
from llmos.commands.options import (
    PATH,
    cpu_option,
    dir_option,
    home,
    json_option,
    model_option,
    proc_argument,
    where_argument,
)
from llmos.commands.output import Paced, coloured, columns, print_json, print_lines, said, show, tell


@click.command()
@where_argument
@click.option("--until", type=click.IntRange(min=0), default=0, help="Stop at this log number and print the machine.")
@click.option("--diff", is_flag=True, help="Of a step that differs: what it did then and now.")
@click.option("--trace", "trace_file", metavar="FILE", type=PATH, help="Write a trace of it that Perfetto opens.")
@json_option
def replay(where: Path | None, until: int, diff: bool, trace_file: Path | None, as_json: bool) -> int:
    """\b
    Examples:
      llmos replay --until 3
      llmos replay ~/agents --diff --json

    Take the events of a journal again, without a model, and compare the state hash after every step with the one it had
    then. It starts at the last checkpoint, and reads only. Exit status 1 if a step comes out otherwise, and where.
    """
    from llmos import replay as module
    from llmos.storage import reader
    from llmos.tracks import Tracks

    tracks = Tracks() if trace_file is not None else None
    with reader(home(where)) as disk, Paced() as progress:
        found = module.replay(
            disk, until, diff, lambda lsn, end: progress.tell(f"replayed up to {lsn} of {end}"), tracks
        )
    if tracks is not None and trace_file is not None and (lost := tracks.write(trace_file)):
        said(f"{trace_file}: {lost} events more than a trace holds were left out; --until takes fewer")
    if as_json:
        print_json(found)
    else:
        if found.machine is not None:
            print_lines(tables.replayed(found.machine, colour=coloured(), width=columns()))
        if found.diverged is None:
            show(f"ok: {found.steps} steps after {found.start}, to {found.lsn}, hash {found.hash}")
        else:
            show(f"diverged at {found.diverged['lsn']}: {found.diverged['why']}")
            for name in ("event", "notes_then", "notes_now", "records"):
                if name in found.diverged and (diff or name == "event"):
                    show(f"  {name}: {found.diverged[name]}")
    return 0 if found.ok else 1


@click.group(no_args_is_help=False)
def journal() -> None:
    """\b
    Examples:
      llmos journal compact
      llmos journal compact ~/agents --json

    The journal of a machine: every event it took, from which `llmos replay` takes it again.
    """


@journal.command("compact", short_help="Cut the journal at a checkpoint.")
@where_argument
@json_option
def compact(where: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos journal compact
      llmos journal compact ~/agents --json

    Keep a consistent copy of the state, from which a replay can start, and drop the journal before it. On a running
    machine the journal goes bit by bit, and its pages are used again; on one that does not run, the file shrinks, too.
    """
    from drivers.door import wire
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
        show(f"checkpoint at {found.lsn}; the journal before it is being cut")
    else:
        sizes = f"data.mdb {found.bytes_before / 1e6:.1f} MB, now {found.bytes_after / 1e6:.1f} MB"
        show(f"checkpoint at {found.lsn}, {found.entries} journal entries cut; {sizes}")


@click.command()
@where_argument
@json_option
def fsck(where: Path | None, as_json: bool) -> int:
    """\b
    Examples:
      llmos fsck
      llmos fsck ~/agents --json

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
        show(f"data.mdb: {found.file.damage}")
    else:
        show(f"data.mdb: {found.file.pages} pages whole, {found.file.checked} checksums right")
    if found.records is not None:
        seen = found.records
        counts = f"{seen.processes} processes, {seen.pages} pages, {seen.journal} journal entries"
        show(f"records: {counts}, step {seen.lsn}, state {seen.hash}")
        for finding in seen.findings:
            show(f"  {finding}")
    for finding in found.index or ["as the pages are"]:
        show(f"index: {finding}")
    show(f"{'ok' if found.ok else 'not well'}, {found.seconds} s")
    return 0 if found.ok else 1


@click.command()
@click.argument("where", metavar="DIR", type=PATH, help="The machine's directory.")
@click.argument("file", metavar="FILE", type=PATH, help="The backup; it must not exist yet.")
@json_option
def backup(where: Path, file: Path, as_json: bool) -> None:
    """\b
    Examples:
      llmos backup ~/.local/share/llmos agents.mdb
      llmos backup ~/agents "agents-$(date +%F).mdb" --json

    Copy the state of one moment to a file, by LMDB's own copy, and look through the copy. The kernel may run and goes
    on meanwhile. Indexes are not in it; a restored machine builds them again.
    """
    from llmos import storage

    found = storage.backup(home(where), file, tell)
    if as_json:
        print_json(found)
    else:
        held = f"{found.processes} processes, {found.pages} pages, step {found.lsn}, state {found.hash}"
        show(f"{found.file}: {found.bytes / 1e6:.1f} MB, {held}")


@click.command()
@click.argument("file", metavar="FILE", type=PATH, help="A file that `llmos backup` made.")
@click.argument("where", metavar="DIR", type=PATH, help="The directory to make.")
@click.option("--force", is_flag=True, help="Move aside what the directory holds.")
@json_option
def restore(file: Path, where: Path, force: bool, as_json: bool) -> None:
    """\b
    Examples:
      llmos restore agents.mdb ~/agents
      llmos restore agents.mdb ~/agents --force

    Look through a backup and make a machine's directory of it. With --force the data.mdb that lies there is kept under
    another name. The indexes are built again when the machine is booted.
    """
    from llmos import storage

    found = storage.restore(file, home(where), force, tell)
    if as_json:
        print_json(found)
    else:
        held = f"{found.processes} processes, {found.pages} pages, step {found.lsn}"
        show(f"{home(where)}: {held}; boot it with: llmos boot --dir {home(where)}")


@click.command()
@proc_argument
@click.argument("file", metavar="FILE", type=PATH, help="JSON Lines; gzipped if the name ends in .gz.")
@dir_option
def export(proc: str, file: Path, directory: Path | None) -> None:
    """\b
    Examples:
      llmos export main main.jsonl
      llmos export tutor tutor.jsonl.gz --dir ~/agents

    Write one process, with everything it knows, to a portable file (docs/durability.md has the format). The process
    stays as it is, and the kernel may run.
    """
    import time

    from drivers.disk import parcel
    from llmos import storage

    with storage.reader(home(directory)) as disk:
        count = parcel.write(disk, storage.process(disk, proc), file, time.time_ns())
    show(f"{file}: {count} pages")


@click.command("import")
@click.argument("file", metavar="FILE", type=PATH, help="A file that `llmos export` made.")
@click.option("--name", default="", help="The name it gets, if not the one it had.")
@dir_option
@model_option
@cpu_option
def import_(file: Path, name: str, directory: Path | None, model: str | None, cpu: str | None) -> None:
    """\b
    Examples:
      llmos import main.jsonl --name main2 --cpu scripted
      llmos import tutor.jsonl.gz --dir ~/copy --cpu scripted

    Make a process of an exported file, with its memory, its timers and the messages that it had not read. A kernel is
    started for it if none runs. Whoever made the file, nothing in it but the process's instructions and core memory
    stands where the kernel speaks.
    """
    from functools import partial

    from drivers.disk import parcel
    from llmos.client import run
    from llmos.daemon import Options, take_over

    parcel.read(file)  # here, where a file that is none costs no kernel
    answer = run(partial(take_over, home(directory), file.absolute(), name, Options(model, None, cpu), tell))
    show(f"process {answer.pid}, at log number {answer.lsn}")
