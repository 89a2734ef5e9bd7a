"""Options and arguments that several commands have, and the directory they mean.

Guarantee: importing this costs click and nothing of the machine's. Not here: what is printed (output.py), which
commands there are (app.py).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

PATH: Final = click.Path(path_type=Path)

dir_option = click.option(
    "--dir", "directory", type=PATH, help="Data directory; default $LLMOS_DIR, or ~/.local/share/llmos."
)
model_option = click.option("--model", help="A GGUF file, the name of a pulled model, or a server's own.")
window_option = click.option("--window", type=int, help="Tokens of context that a process has.")


def servers(_: click.Context, __: click.Parameter, cpu: str | None) -> str | None:
    """A `--cpu` as it may be handed on: URLs with credentials are refused before any process has them in its name."""
    if cpu is not None and "://" in cpu:
        from drivers.remote.address import addresses

        addresses(cpu)
    return cpu


def changed(_: click.Context, __: click.Parameter, changes: tuple[str, ...]) -> tuple[str, ...]:
    """All `--set`, likewise."""
    for change in changes:
        if change.startswith("disk.embedder=") and "://" in change:
            from drivers.remote.address import embedder

            embedder(change.partition("=")[2])
    return changes


cpu_option = click.option(
    "--cpu",
    callback=servers,
    help="llama, servers as URL[,URL], or scripted, which echoes; default: as the directory has it, or llama.",
)
set_option = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    callback=changed,
    help="A setting, such as memory.policy=lru.",
)
sample_option = click.option(
    "--sample",
    metavar="model|greedy|machine|KEY=VALUE,...",
    help="How its words are drawn: model: as is recommended for it; machine: as cpu.* say; or temperature, top_k, "
    "top_p, min_p, repeat (a penalty), recent (of how many tokens).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
proc_argument = click.argument("proc", metavar="PROC", help="A process by name or number.")
where_argument = click.argument(
    "where", metavar="[DIR]", required=False, type=PATH, help="The machine's directory; as --dir elsewhere."
)


def home(given: Path | None) -> Path:
    """The data directory: as given, of the environment, or the default; absolute."""
    chosen = given or os.environ.get("LLMOS_DIR")
    return Path(os.path.expanduser(chosen)).absolute() if chosen else Path.home() / ".local" / "share" / "llmos"


def socket_of(given: Path | None) -> Path:
    """The control socket of a data directory."""
    from llmos.ask import SOCKET

    return home(given) / SOCKET


def typed() -> str:
    """All of standard input. Raises BadInput if it is no UTF-8."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        from kernel.errors import BadInput

        raise BadInput(f"standard input is no valid UTF-8 (byte {exc.start + 1}); send it as UTF-8") from exc
