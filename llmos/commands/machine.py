"""Commands that make a machine run and stop, and what it needs: boot, chat, stop, pull, doctor,
settings, completion, demo.

Each imports what it needs when it runs. Not here: what is asked of a machine that runs (processes.py), its directory as
a thing to be kept (keeping.py).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from kernel.sampling import Sampling, read
from llmos.commands.options import (
    PATH,
    cpu_option,
    dir_option,
    home,
    json_option,
    model_option,
    sample_option,
    servers,
    set_option,
    socket_of,
    window_option,
)
from llmos.commands.output import coloured, columns, print_json, print_lines, progress, show


@click.command()
@dir_option
@model_option
@window_option
@cpu_option
@set_option
@click.option("--http", "listen", metavar="HOST:PORT", help="Serve HTTP there, too; a port alone is this machine's.")
def boot(
    directory: Path | None,
    model: str | None,
    window: int | None,
    cpu: str | None,
    changes: tuple[str, ...],
    listen: str | None,
) -> None:
    """\b
    Examples:
      llmos boot --model smollm2-135m --window 2048
      llmos boot --dir ~/agents --cpu scripted --set memory.policy=lru --http 127.0.0.1:8484

    Run the kernel in the foreground. SIGTERM or Ctrl-C drains and stops it. Model, CPU, window and settings are
    recorded in the directory and need not be given again. A file llmos.toml in the directory, or beside it, may have
    them, too (docs/settings.md); what is given here wins over it. --http serves OpenAI's protocol at /v1 and a native
    one at /api (docs/clients.md), for who has the token that `llmos token` prints.
    """
    from functools import partial

    from drivers.door.http.given import Http, address
    from llmos.client import run
    from llmos.daemon import Options, foreground

    if listen:
        address(listen)
    run(partial(foreground, home(directory), Options(model, window, cpu, changes, Http(listen or ""))))


@click.command()
@dir_option
@click.option("--new", is_flag=True, help="Make another one; who has the old one is shut out at once.")
@json_option
def token(directory: Path | None, new: bool, as_json: bool) -> None:
    """\b
    Examples:
      llmos token
      llmos token --dir ~/agents --new

    Print what lets a client in over HTTP (llmos boot --http); whoever has it may do what the machine's owner may. It is
    made at the first such boot, or here, in a file http.token that its owner alone may read.
    """
    from drivers.door.http import token as door

    file = home(directory) / door.FILE
    if new:
        door.renew(file)
    found = door.made(file)
    if as_json:
        print_json({"token": found})
    else:
        show(found)


@click.command()
@click.argument(
    "proc", metavar="[PROC]", default="main", required=False, help="A process by name or number; made if missing."
)
@dir_option
@model_option
@window_option
@cpu_option
@set_option
@sample_option
@click.option("--keep", is_flag=True, help="Leave a kernel that this chat started running.")
def chat(
    proc: str,
    directory: Path | None,
    model: str | None,
    window: int | None,
    cpu: str | None,
    changes: tuple[str, ...],
    sample: str | None,
    keep: bool,
) -> None:
    """\b
    Examples:
      llmos chat
      llmos chat tutor --cpu scripted --sample temperature=0.5,top_p=0.9

    Talk to a process. A kernel is started if none runs, and stopped at the end unless --keep; one that ran before is
    left alone, and so is one started in its place. A dead process is started again. Enter sends, Alt-Enter begins a new
    line, and what is pasted is one message. Ctrl-C stops the reply, and once more leaves; the process keeps its memory
    and the next chat goes on. A process that the chat makes draws its words as is recommended for its model, if no
    --sample says otherwise; one that was there before keeps its own way. /help lists the commands. Lines from a pipe
    are sent one by one, each when the reply to the last has come.
    """
    from functools import partial

    from llmos import config
    from llmos.client import run
    from llmos.console.chat import chat as console
    from llmos.daemon import Options

    chosen = None if sample is None else read(sample) or Sampling()
    where, given = home(directory), Options(model, window, cpu, changes)
    found = config.over(given, where)
    if found.cpu in (None, "llama") and (model is not None or not (where / "data.mdb").exists()):
        from kernel.errors import BadInput
        from llmos.init import DEFAULT_MODEL
        from llmos.models import find

        recorded = found.cpu is None and (where / "data.mdb").exists()  # the model may be one of servers
        with contextlib.suppress(BadInput) if recorded else contextlib.nullcontext():
            find(found.model or DEFAULT_MODEL, progress)  # here, where its progress is seen
    run(partial(console, where, proc, given, keep=keep, sampling=chosen))


@click.command()
@dir_option
def stop(directory: Path | None) -> None:
    """\b
    Examples:
      llmos stop
      llmos stop --dir ~/agents

    Drain and stop the kernel of a directory; returns when it is gone.
    """
    from functools import partial

    from llmos import daemon
    from llmos.client import run

    run(partial(daemon.stop, home(directory)))


@click.command()
@click.argument("what", metavar="NAME|URL|FILE|hf:REPO", help="A known model, or where a GGUF is.")
@click.option("--name", default="", help="What the model is called here, if not as its file.")
def pull(what: str, name: str) -> None:
    """\b
    Examples:
      llmos pull smollm2-135m
      llmos pull ./qwen2.5-0.5b.gguf

    Bring a model into the models directory and verify it. What it hashes to is remembered, and checked when it is used.
    hf:OWNER/REPO[:QUANT] is a GGUF of the Hugging Face hub (HF_TOKEN and HF_ENDPOINT count); Q4_K_M where it has one.
    """
    from llmos import models

    show(str(models.pull(what, progress, name=name)))


@click.command()
@dir_option
@click.option(
    "--cpu", metavar="URL[,URL]", help="Servers that are to run the model: they are looked at instead of llama."
)
@json_option
def doctor(directory: Path | None, cpu: str | None, as_json: bool) -> int:
    """\b
    Examples:
      llmos doctor
      llmos doctor --json

    Look at what is installed, and say what to do about what is missing. Exit status 1 if something must be done.
    """
    from llmos import doctor as clinic

    found = clinic.checks(home(directory), cpu or "")
    if as_json:
        print_json({"checks": found})
    else:
        print_lines(clinic.render(found, colour=coloured(), width=columns()))
    return 1 if any(check.state is clinic.State.FAIL for check in found) else 0


@click.command()
@click.argument("name", metavar="[NAME]", required=False, help="A setting, or a group of them; default: all.")
@dir_option
@json_option
def settings(name: str | None, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos settings memory
      llmos settings sched.quantum --json

    Name each setting with its default, what it may be, and what it means; and what it is on the machine that runs, if
    that is not the default. `--set NAME=VALUE` at `llmos boot` sets it.
    """
    from drivers.door import wire
    from llmos import ask
    from llmos import settings as catalogue

    found = catalogue.chosen(name)
    if as_json:
        print_json({"settings": found})
        return
    here = None
    with contextlib.suppress(ask.Disconnected):
        here = ask.call(socket_of(directory), wire.Info(id=0), wire.Serving).settings
    print_lines(catalogue.lines(found, here, columns()))


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]), help="bash, zsh or fish.")
def completion(shell: str) -> None:
    """\b
    Examples:
      llmos completion bash
      llmos completion fish

    Print what lets a shell complete commands and options: in ~/.bashrc or ~/.zshrc, eval "$(llmos completion bash)" or
    zsh; for fish, llmos completion fish > ~/.config/fish/completions/llmos.fish.
    """
    from click.shell_completion import get_completion_class

    from llmos.commands.app import COMPLETE, app

    made = get_completion_class(shell)
    assert made is not None, "click knows these"
    show(made(app, {}, "llmos", COMPLETE).source())


@click.command()
@click.option(
    "--model", help="A GGUF file, or the name of a pulled model; default smollm2-135m, or the server's first."
)
@click.option("--cpu", default="llama", show_default=True, callback=servers, help="llama, or servers as URL[,URL].")
@click.option("--seed", default=1, show_default=True, help="Of the facts and the talk.")
@click.option("--window", default=2048, show_default=True, help="Tokens of context.")
@click.option("--no-paging", is_flag=True, help="Evict the same pages and bring none back.")
@click.option("--dir", "keep", type=PATH, help="Keep the machine in this new data directory.")
@set_option
@json_option
def demo(
    model: str | None,
    cpu: str,
    seed: int,
    window: int,
    no_paging: bool,
    keep: Path | None,
    changes: tuple[str, ...],
    as_json: bool,
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
    run(model, cpu, seed=seed, window=window, changes=[*paging, *changes], keep=keep, as_json=as_json)
