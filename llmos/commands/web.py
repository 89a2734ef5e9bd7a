"""Commands for who serves a machine and who reaches it: launch, service.

Each imports what it needs when it runs. Not here: what is served (drivers/door/http), what is written (llmos/launch.py,
llmos/service.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from kernel.errors import BadInput
from llmos.commands.options import PATH, cpu_option, dir_option, home, json_option, model_option, set_option
from llmos.commands.output import print_json, said, show

name_option = click.option("--name", default="llmos", show_default=True, help="The service's name.")


@click.command()
@click.argument("client", metavar="[CLIENT]", required=False, help="openwebui, llm, librechat, continue or zed.")
@click.option("--url", default="http://127.0.0.1:8484", show_default=True, help="Where the machine is served.")
@click.option("--proc", "procs", multiple=True, metavar="NAME", help="A process that it is to find; default: main.")
@click.option("--write", "file", type=PATH, help="Write them to a file, which must not exist yet.")
@dir_option
@json_option
def launch(
    client: str | None, url: str, procs: tuple[str, ...], file: Path | None, directory: Path | None, as_json: bool
) -> None:
    """\b
    Examples:
      llmos launch llm
      llmos launch continue --proc main --proc second --write continue.yaml

    Print the settings that a known client needs to talk to processes of a machine that is served over HTTP (`llmos boot
    --http`), or write them to a file that its owner alone may read: they have the token. Without a client, name them.
    """
    from drivers.disk import whole
    from drivers.door.http import token as door
    from llmos.launch import CLIENTS, Reach

    if client is None:
        if as_json:
            print_json({"clients": {name: one.title for name, one in CLIENTS.items()}})
        else:
            show("\n".join(f"{name}: {one.title}; its settings are {one.place}" for name, one in CLIENTS.items()))
        return
    if client not in CLIENTS:
        raise BadInput(f"client {client}: known are {', '.join(CLIENTS)}")
    one = CLIENTS[client]
    models = (*(procs or ("main",)), "new:default")
    text = one.settings(Reach(url.rstrip("/"), door.made(home(directory) / door.FILE), models))
    if file is not None:
        if file.exists():
            raise BadInput(f"{file} is there already; what it has is yours: without --write they are printed")
        whole.write(file, f"{text}\n".encode())
    if as_json:
        print_json({"client": client, "place": one.place, "file": str(file) if file else None, "settings": text})
    elif file is not None:
        show(f"{file}: for {one.title}, whose settings are {one.place}")
    else:
        said(f"for {one.title}: {one.place}")
        show(text)


@click.group(no_args_is_help=False)
def service() -> None:
    """\b
    Examples:
      llmos service install --print
      llmos service status

    A machine as a service of systemd's, of the user's own: it starts with the session, is drained when it is stopped,
    and comes back when it fails. `loginctl enable-linger` has it run without a session.
    """


@service.command("install", short_help="Write the unit, and start it.")
@click.option("--print", "only", is_flag=True, help="Print the unit, and write nothing.")
@click.option("--no-start", is_flag=True, help="Write it, and start nothing.")
@click.option("--http", "listen", metavar="HOST:PORT", help="As `llmos boot` has it, like what follows.")
@model_option
@cpu_option
@set_option
@name_option
@dir_option
def install(
    only: bool,
    no_start: bool,
    listen: str | None,
    model: str | None,
    cpu: str | None,
    changes: tuple[str, ...],
    name: str,
    directory: Path | None,
) -> None:
    """\b
    Examples:
      llmos service install --print --http 127.0.0.1:8484
      llmos service install --dir ~/agents --name agents --no-start

    Write a unit that boots the machine of a directory, and start it, now and with each session. What stands in the
    directory's llmos.toml need not be said here.
    """
    from drivers.door.http.given import address
    from llmos import service as module

    if listen:
        address(listen)
    given = (("--http", listen), ("--model", model), ("--cpu", cpu), *(("--set", change) for change in changes))
    boot = [word for option, value in given if value for word in (option, value)]
    text = module.unit(boot, home(directory))
    if only:
        show(text.rstrip("\n"))
        return
    path = module.install(name, text, start=not no_start)
    show(f"{path}: " + ("it is started with `systemctl --user enable --now`" if no_start else "started"))


@service.command("status", short_help="What systemd says of it.")
@name_option
@json_option
def status(name: str, as_json: bool) -> int:
    """\b
    Examples:
      llmos service status
      llmos service status --name agents --json

    Print what systemd says of the service. Exit status 3 if it does not run.
    """
    from llmos import service as module

    text, code = module.status(name)
    if as_json:
        print_json({"service": name, "running": code == 0, "says": text})
    else:
        show(text)
    return code


@service.command("logs", short_help="What it wrote last.")
@click.option(
    "--last", type=click.IntRange(1, 100_000), default=50, show_default=True, metavar="N", help="So many lines."
)
@name_option
@json_option
def logs(last: int, name: str, as_json: bool) -> None:
    """\b
    Examples:
      llmos service logs
      llmos service logs --last 200 --name agents

    Print the last lines that the service wrote, as systemd's journal has them.
    """
    from llmos import service as module

    show(module.logs(name, last, as_json=as_json))
