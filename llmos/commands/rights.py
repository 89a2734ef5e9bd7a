"""Commands about what a process may do: caps, allow, audit, graph.

Not here: limits and policy, which are choices like any (changing.py), what a right is (kernel/rights.py).
"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from drivers.door import wire
from llmos import ask, tables
from llmos.commands.options import dir_option, json_option, proc_argument, socket_of
from llmos.commands.output import coloured, columns, print_json, print_lines, show


@click.command()
@proc_argument
@click.option("--grant", multiple=True, metavar="RIGHT", help="Give it: VERB:OBJECT, such as send:reviewer or send:*.")
@click.option("--revoke", multiple=True, metavar="RIGHT", help="Take it, and from whom it gave it to.")
@dir_option
@json_option
def caps(proc: str, grant: tuple[str, ...], revoke: tuple[str, ...], directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos caps main
      llmos caps main --grant "send:*" --json

    Show what a process may emit and address, who gave it that, what it may use and has used, and what becomes of its
    calls while text that is not the user's is in view. With --grant and --revoke, change it first, also in mid-turn.
    """
    path = socket_of(directory)
    for right in revoke:
        ask.call(path, wire.Revoke(id=0, proc=proc, right=right), wire.Ok)
    for right in grant:
        ask.call(path, wire.Grant(id=0, proc=proc, right=right), wire.Ok)
    found = ask.call(path, wire.Caps(id=0, proc=proc), wire.Held).rights
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        print_lines(tables.rights(found, colour=coloured(), width=columns()))


@click.command()
@proc_argument
@click.option("--no", is_flag=True, help="Refuse it.")
@dir_option
def allow(proc: str, no: bool, directory: Path | None) -> None:
    """\b
    Examples:
      llmos allow main
      llmos allow main --no

    Let a process make the call that it asks for, or refuse it: one that its policy asks about (`llmos set PROC
    tainted.CALL=ask`) while text that is not yours is in view. `llmos caps PROC` shows it.
    """
    path = socket_of(directory)
    asked = ask.call(path, wire.Caps(id=0, proc=proc), wire.Held).rights.asks
    number = asked.req if asked is not None else 0
    ask.call(path, wire.Allow(id=0, proc=proc, req=number, yes=not no), wire.Ok)
    if asked is not None:
        show(f"{'refused' if no else 'allowed'}: {asked.text}")


@click.command()
@proc_argument
@dir_option
@json_option
def audit(proc: str, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos audit main
      llmos audit main --json

    List the calls that a process made while text that is not the user's was in view, or that it may not make: what
    became of each, by whose right, and the pages that were in view (`llmos cat PROC PAGE`).
    """
    found = ask.call(socket_of(directory), wire.Audit(id=0, proc=proc), wire.Audited).calls
    if as_json:
        print_json({"calls": [tables.audited(one) for one in found]})
    else:
        print_lines(tables.audit(found, colour=coloured(), width=columns()))


@click.command()
@dir_option
@json_option
def graph(directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos graph
      llmos graph --json

    Show which process made which, who waits for whom, and which messages between them are without an answer.
    """
    found = ask.call(socket_of(directory), wire.Graph(id=0), wire.Edges).edges
    if as_json:
        print_json({"edges": msgspec.to_builtins(found)})
    else:
        print_lines(tables.graph(found, colour=coloured(), width=columns()))
