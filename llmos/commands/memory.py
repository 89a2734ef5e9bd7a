"""Commands on what a process remembered when: mem log, mem diff, mem restore.

Each imports what it needs when it runs. Not here: what core memory is now (changing.py), what is told (llmos/mem.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from kernel.errors import BadInput
from llmos.commands.options import dir_option, home, json_option, proc_argument, socket_of
from llmos.commands.output import coloured, columns, print_json, print_lines, show

version = click.IntRange(min=1)


@click.group(no_args_is_help=False)
def mem() -> None:
    """\b
    Examples:
      llmos mem log main
      llmos mem diff main

    The core memory of a process and the facts that were found for it, over time. A version is a log number: what was
    so after that step.
    """


@mem.command("log", short_help="Every version, with who wrote it.")
@proc_argument
@click.option("--before", type=version, help="Only what is older than this log number.")
@dir_option
@json_option
def log(proc: str, before: int | None, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos mem log main
      llmos mem log tutor --dir ~/agents --json

    List what changed a process's core memory, and the facts that reflection found, oldest first: when, by whom, and
    what the block says since. It is read from the journal, of a machine that runs or of one that does not; what was
    cut from the journal is told no more.
    """
    from llmos import mem as told

    found = told.remembered(home(directory), proc, before - 1 if before else 0)
    if as_json:
        print_json({"pid": found.pid, "whole": found.whole, "more": found.more, "changes": told.as_json(found.changes)})
    else:
        print_lines(told.log(found, colour=coloured(), width=columns()))


@mem.command("diff", short_help="What differs between two versions.")
@proc_argument
@click.argument("old", metavar="[OLD]", type=version, required=False, help="Default: before the last change.")
@click.argument("new", metavar="[NEW]", type=version, required=False, help="Default: now.")
@dir_option
@json_option
def diff(proc: str, old: int | None, new: int | None, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos mem diff main
      llmos mem diff tutor 3 --dir ~/agents --json

    Print what differs in core memory between two versions, block by block, and the facts that were found between them.
    """
    from kernel.machine.views import REMEMBERED_MAX
    from llmos import mem as told

    where = home(directory)
    old = old or told.before(where, proc)
    now = told.remembered(where, proc, new or 0, REMEMBERED_MAX)
    if not old:
        raise BadInput(f"nothing has changed core memory of process {proc} yet")
    then = told.remembered(where, proc, old)
    if as_json:
        sides = {"old": then.upto, "new": now.upto, "blocks_old": then.blocks, "blocks_new": now.blocks}
        print_json({"pid": now.pid, **sides, "facts": told.as_json(told.facts(then, now))})
    else:
        print_lines(told.diff(then, now))


@mem.command("restore", short_help="Write core memory anew as it was.")
@proc_argument
@click.argument("old", metavar="VERSION", type=version, help="A log number, as `llmos mem log` has them.")
@click.option("--block", help="This block alone; default: each that differs.")
@dir_option
@json_option
def restore(proc: str, old: int, block: str | None, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos mem restore main 4
      llmos mem restore tutor 4 --block human --dir ~/agents

    Write blocks of core memory anew as they were after that step; what they say now stays in the log as a version. It
    waits for a turn to end. Facts are a model's, and only a later one corrects them.
    """
    from drivers.door import wire
    from llmos import ask

    path = socket_of(directory)
    then, now = (ask.call(path, wire.Mem(id=0, proc=proc, upto=upto), wire.Memories) for upto in (old, 0))
    names = [block] if block is not None else list(dict.fromkeys((*then.blocks, *now.blocks)))
    changed = [name for name in names if then.blocks.get(name, "") != now.blocks.get(name, "")]
    if block is not None and block not in {*then.blocks, *now.blocks}:
        raise BadInput(f"no block {block}, neither at {old} nor now; blocks are {', '.join(now.blocks) or 'none'}")
    for name in changed:
        ask.call(path, wire.Revert(id=0, proc=now.pid, block=name, lsn=old), wire.Ok)
    if as_json:
        print_json({"pid": now.pid, "version": old, "changed": changed})
    else:
        show(f"as at {old}: {', '.join(changed)}" if changed else "not changed")
