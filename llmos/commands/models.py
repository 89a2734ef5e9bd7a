"""`llmos models`: which models are here, what one of them is, and its removal; how one is best spoken to."""

from __future__ import annotations

from pathlib import Path

import click

from kernel.errors import BadInput
from kernel.text import one_line
from llmos.commands.options import PATH, json_option, set_option
from llmos.commands.output import columns, print_json, print_lines, show


@click.group(no_args_is_help=False, invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """\b
    Examples:
      llmos models list
      llmos models show smollm2-135m

    The models directory ($LLMOS_HOME/models, or ~/.cache/llmos/models); without a command: its list.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_, as_json=False)


@models.command("list", short_help="The models that are here, and those that can be pulled by name.")
@json_option
def list_(as_json: bool) -> None:
    """\b
    Examples:
      llmos models list
      llmos models list --json

    The models that are here, and those that `llmos pull NAME` brings. `needs` is the memory for one process of 4,096
    tokens, `context` what the model was trained to see.
    """
    import msgspec

    from drivers.cpu.llama.memory import available
    from llmos import cards, tables

    found, free = cards.every(), available()
    if as_json:
        print_json({"models": msgspec.to_builtins(found), "memory_free": free})
    else:
        print_lines(tables.models(found, free=free, width=columns()))


@models.command("show", short_help="What a model's file says of it.")
@click.argument("name", metavar="NAME", help="A model that is here, or a GGUF file.")
@json_option
def show_(name: str, as_json: bool) -> None:
    """\b
    Examples:
      llmos models show smollm2-135m
      llmos models show tiny --json

    What a model's file says of it, where it came from, and what it would take. It is not loaded.
    """
    import msgspec

    from llmos import cards, tables
    from llmos import models as shelf

    found = cards.card(shelf.find(name))
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        print_lines(tables.model(found, width=columns()))


@models.command("rm", short_help="Remove a model's file.")
@click.argument("name", metavar="NAME", help="A model of the models directory.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(name: str, yes: bool) -> None:
    """\b
    Examples:
      llmos models rm tiny --yes
      llmos models rm tiny.gguf --yes

    Remove a model's file from the models directory. A machine that runs on it goes on until it is stopped.
    """
    from llmos import models as shelf
    from llmos import tables

    path = shelf.own(name)
    called = one_line(shelf.name_of(path))
    what = f"model {called} ({tables.megabytes(shelf.size_of(path))})"
    if not yes and not click.confirm(f"Remove {what}?", err=True):
        raise BadInput(f"model {called} is kept; --yes removes it without a question")
    shelf.remove(path)
    show(f"removed {what}")


@click.command()
@click.argument("model", metavar="MODEL", help="A GGUF file, or the name of a pulled model.")
@click.option("--probes", type=click.Choice(["60", "100"]), default="60", help="60 choose; 100 others are reported.")
@click.option("--encoding", "encodings", type=click.Choice(["json", "prose"]), multiple=True, help="Only this one.")
@click.option("--manual", "manuals", type=click.Choice(["whole", "worked", "short"]), multiple=True, help="Only this.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(["speak", "remember", "search", "timer", "answer"]),
    multiple=True,
    help="Only probes of this kind.",
)
@click.option("--anew", is_flag=True, help="Forget what was answered before.")
@click.option("--out", type=PATH, help="Write the profile to this file.")
@set_option
@json_option
def profile(
    model: str,
    probes: str,
    encodings: tuple[str, ...],
    manuals: tuple[str, ...],
    kinds: tuple[str, ...],
    anew: bool,
    out: Path | None,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """\b
    Examples:
      llmos profile smollm2-135m
      llmos profile tiny --encoding prose --manual short --kind speak --json

    Measure how a model is best told its syscalls, and have it told so from the next boot on. In each of two encodings
    and three forms of the manual 60 probes are put to it, 12 of a kind: it is to speak where nothing is to be done, to
    remember, to search, to set a timer, and to answer from a result. The manner with the most right answers is written
    down beside the models. With --probes 100 it is then asked 100 others, 20 of a kind, in that manner and in the best
    of the other encoding; they decide nothing. Answers are kept: a command that was interrupted goes on.
    """
    from llmos.profile import making

    making.run(
        model,
        count=int(probes),
        encodings=encodings or ("json", "prose"),
        manuals=manuals or ("whole", "worked", "short"),
        kinds=making.chosen(kinds),
        changes=changes,
        anew=anew,
        out=out,
        as_json=as_json,
    )
