"""The command that asks a machine for its servers of tools."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from drivers.door import wire
from llmos import ask, tables
from llmos.commands.options import dir_option, json_option, socket_of
from llmos.commands.output import coloured, columns, print_json, print_lines


@click.command()
@dir_option
@json_option
def tools(directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos tools
      llmos tools --dir ~/agents --json

    List the servers of tools that llmos.toml names (docs/tools.md): whether each is up, why not and when it is started
    again, and the tools it offers. Of those marked reads (they change nothing) and again (done twice is as done once) a
    use that a crash cut off is begun anew; of the others the process is told that nobody knows.
    """
    found = ask.call(socket_of(directory), wire.Tools(id=0), wire.Toolbox)
    if as_json:
        print_json({"servers": msgspec.to_builtins(found.servers)})
    else:
        print_lines(tables.tools(found.servers, colour=coloured(), width=columns()))
