"""The command `llmos`: its table of contents, and what a command's end means to the shell.

Guarantees: a command's module is imported when that command runs, and `--help` imports none, for its lines stand here;
an error of the user's is one line on standard error and exit status 2.
On click rather than typer, which imports pydantic with its first call and costs 75 ms where click costs 7.
CONTENTS is all that is loaded by name; what it names of bench/ is the one thing of bench that llmos knows.
Not here: options (options.py), printing (output.py), any command.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from kernel.errors import KernelError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

CONTENTS: Final[dict[str, tuple[str, str]]] = {
    "boot": ("llmos.commands.machine:boot", "Run the kernel in the foreground."),
    "chat": ("llmos.commands.machine:chat", "Talk to a process; start a kernel if none runs."),
    "ps": ("llmos.commands.processes:ps", "List the processes."),
    "vmstat": ("llmos.commands.processes:vmstat", "What the model had to evaluate, and what it was spared."),
    "irqs": ("llmos.commands.processes:irqs", "Interrupts by line, and how long they take."),
    "spawn": ("llmos.commands.processes:spawn", "Make a process, or start a dead one again."),
    "send": ("llmos.commands.processes:send", "Send a message to a process."),
    "put": ("llmos.commands.documents:put", "Put documents into a process's archive."),
    "ask": ("llmos.commands.documents:ask", "Answer a question from documents."),
    "fork": ("llmos.commands.processes:fork", "Copy a process as it stands."),
    "set": ("llmos.commands.changing:set_", "Show or change what a process is made of."),
    "core": ("llmos.commands.changing:core", "Show or write a process's core memory."),
    "mem": ("llmos.commands.memory:mem", "What core memory and facts were, and bring it back."),
    "rename": ("llmos.commands.changing:rename", "Give a process another name."),
    "kill": ("llmos.commands.processes:kill", "Kill a process; its memory is kept."),
    "rm": ("llmos.commands.changing:rm", "Remove a dead process for good, with its memory."),
    "caps": ("llmos.commands.rights:caps", "Show, give or take what a process may do."),
    "allow": ("llmos.commands.rights:allow", "Let a process make the call that it asks for."),
    "audit": ("llmos.commands.rights:audit", "List calls made under the eyes of others."),
    "graph": ("llmos.commands.rights:graph", "Who made whom, and who waits for whom."),
    "dmesg": ("llmos.commands.processes:dmesg", "Print the kernel's log."),
    "strace": ("llmos.commands.processes:strace", "Print what a process called, and what came of it."),
    "pmap": ("llmos.commands.processes:pmap", "Draw the address space of a process."),
    "cat": ("llmos.commands.processes:cat", "Print the text of a page."),
    "why": ("llmos.commands.processes:why", "Tell what happened to a page, and what a message drew on."),
    "facts": ("llmos.commands.processes:facts", "List the facts found in what has left a process's view."),
    "tools": ("llmos.commands.tools:tools", "List the servers of tools, and what they offer."),
    "token": ("llmos.commands.machine:token", "Print what lets a client in over HTTP."),
    "launch": ("llmos.commands.web:launch", "Settings with which a known client reaches a machine."),
    "service": ("llmos.commands.web:service", "A machine as a service of systemd's."),
    "stop": ("llmos.commands.machine:stop", "Drain and stop the kernel."),
    "replay": ("llmos.commands.keeping:replay", "Take a machine's journal again, and compare."),
    "journal": ("llmos.commands.keeping:journal", "The journal of a machine."),
    "fsck": ("llmos.commands.keeping:fsck", "Look through a machine's directory."),
    "backup": ("llmos.commands.keeping:backup", "Copy a machine to a file, while it runs."),
    "restore": ("llmos.commands.keeping:restore", "Bring a backup back."),
    "export": ("llmos.commands.keeping:export", "Write a process with all its memory to a file."),
    "import": ("llmos.commands.keeping:import_", "Make a process of an exported file."),
    "pull": ("llmos.commands.machine:pull", "Bring a model into the models directory."),
    "profile": ("llmos.commands.models:profile", "Measure how a model is best told its syscalls."),
    "models": ("llmos.commands.models:models", "The models that are here."),
    "doctor": ("llmos.commands.machine:doctor", "Look at what is installed and what is missing."),
    "settings": ("llmos.commands.machine:settings", "Name each setting, its default, range and meaning."),
    "completion": ("llmos.commands.machine:completion", "Print what lets a shell complete llmos's lines."),
    "demo": ("llmos.commands.machine:demo", "Facts told, evicted, and asked for."),
    "run": ("llmos.commands.scenario:run", "Play a scenario in virtual time."),
    "policies": ("bench.commands:policies", "Paging policies, and what each does."),
    "trace": ("bench.commands:trace", "Reference strings for `llmos bench paging`."),
    "bench": ("bench.commands:bench", "Measure this machine."),
}
"""By name: where the command is, as module:attribute, and its line in `llmos --help`."""


COMPLETE: Final = "_LLMOS_COMPLETE"
"""The variable by which a shell asks how a line may go on."""


class Contents(click.Group):
    """A group whose commands are those of CONTENTS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which they are told."""
        return list(CONTENTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, its module imported; None if there is none of this name."""
        if cmd_name not in CONTENTS:
            return None
        module, _, attribute = CONTENTS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command), f"{cmd_name}: {module}:{attribute} is no command"
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin like this, without their modules."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=line) for name, (_, line) in CONTENTS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands' lines, without their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in CONTENTS.items()])


@click.group(cls=Contents, no_args_is_help=False)
@click.version_option(package_name="llmos", message="%(prog)s %(version)s")
def app() -> None:
    """\b
    Examples:
      llmos chat            # talk to a process; a kernel is started if none runs
      llmos demo            # ten facts told, evicted, and asked for

    An operating system kernel whose CPU is a language model.
    """


def every(group: click.Group = app, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A group and all below it, each with its words after `llmos`; imports every command's module."""
    yield path, group
    context = click.Context(group, info_name="llmos")
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None, name
        if isinstance(found, click.Group):
            yield from every(found, (*path, name))
        else:
            yield (*path, name), found


def main() -> None:
    """The entry point: exit status 0; 1: llmos is at fault; 2: the user can put it right; 130: Ctrl-C.

    What a command makes is its owner's alone, whatever the umask was: machines, backups and exports hold what was said.
    """
    os.umask(0o077)
    if COMPLETE in os.environ:  # a shell asks, by the script of `llmos completion`
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(app, {}, "llmos", COMPLETE, os.environ[COMPLETE]))
    sys.exit(status(sys.argv[1:] or ["--help"]))


def status(arguments: list[str]) -> int:
    """The exit status of a command line, once it has run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another
    try:
        return _run(arguments)
    except click.ClickException as exc:
        return _refused(f"{exc.format_message().rstrip('.')}; see --help")
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except KernelError as exc:
        return _refused(str(exc))
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:  # `llmos dmesg | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as exc:  # a path that cannot be, a disk that is full: the host's words say what
        return _refused(f"{exc.filename}: {exc.strerror}" if exc.filename is not None else str(exc.strerror or exc))
    except Exception as exc:  # what is not the user's keeps its traceback, which may quote anybody
        from llmos.commands.output import show

        show("".join(traceback.format_exception(exc)), error=True)
        return 1


def _run(arguments: list[str]) -> int:
    """The command's exit status. Raises what it raises; an error that trio's nurseries have wrapped, as itself."""
    if "LLMOS_FAILPOINTS" in os.environ:
        from kernel import failpoint

        failpoint.arm_from_environment()
    try:
        with app.make_context("llmos", list(arguments)) as context:
            found = app.invoke(context)
    except BaseExceptionGroup as group:
        from llmos.client import leaf

        cause = leaf(group)
        if isinstance(cause, KernelError | OSError | KeyboardInterrupt):
            raise cause from None
        raise  # what is not the user's keeps its traceback
    sys.stdout.flush()
    return found if isinstance(found, int) else 0


def _refused(line: str) -> int:
    from llmos.commands.output import said

    said(" ".join(line.split()))
    return 2
