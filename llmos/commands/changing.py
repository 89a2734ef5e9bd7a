"""Commands that change what a process of a running machine is: set, core, rename, rm.

What stands in a prompt changes between two turns; the kernel waits for one to end. Not here: what may be changed, and
what becomes of the window (kernel/change.py), what a removal leaves (kernel/removal.py).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from drivers.door import wire
from kernel.errors import BadInput, KernelError
from kernel.process import State
from kernel.rights import VERDICTS, Limits, Verdict
from kernel.sampling import Sampling, read
from kernel.spec import digest
from kernel.text import one_line
from llmos import ask, tables
from llmos.commands.options import dir_option, json_option, proc_argument, socket_of, typed
from llmos.commands.output import print_json, show
from llmos.commands.processes import syscalls_of, think_of


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise BadInput(f"nice={text}: a whole number is wanted") from exc


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise BadInput(f"abort={text}: true or false is wanted")
    return text == "true"


SETTABLE: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {  # by name: the field of wire.Set, and its value
    "system": ("system", lambda text: typed().rstrip("\n") if text == "-" else text),
    "mask": ("calls", syscalls_of),
    "nice": ("nice", _number),
    "abort": ("abort", _flag),
    "sample": ("sampling", lambda text: read(text) or Sampling()),
    "think": ("think", think_of),
    "archives": ("archives", lambda text: tuple(part for part in text.split(",") if part)),
}
LIMIT: Final = "limit."
TAINTED: Final = "tainted."


def _limited(limits: Limits, name: str, text: str) -> Limits:
    """Limits with another one of that name."""
    if name not in Limits.__struct_fields__:
        raise BadInput(f"limit {name}: limits are {', '.join(Limits.__struct_fields__)}")
    try:
        return msgspec.convert(msgspec.to_builtins(limits) | {name: int(text)}, Limits)
    except (ValueError, msgspec.ValidationError) as exc:
        raise BadInput(f"{LIMIT}{name}={text}: a whole number is wanted, 0 for the machine's own bound") from exc


def _judged(policy: Mapping[str, Verdict], call: str, text: str) -> dict[str, Verdict]:
    """A policy with another verdict on a call; what is allowed, as all is that nobody names, is left out."""
    verdict = next((one for one in VERDICTS if one == text), None)
    if verdict is None or not call:
        raise BadInput(f"{TAINTED}{call}={text}: a call and {', '.join(VERDICTS)} are wanted")
    return {**policy, call: verdict}


@click.command("set")
@proc_argument
@click.argument(
    "changes",
    metavar="[KEY=VALUE]...",
    nargs=-1,
    help="system, mask, nice, abort, sample, think, archives, limit.NAME, tainted.CALL; none: show them.",
)
@dir_option
@json_option
def set_(proc: str, changes: tuple[str, ...], directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos set main
      llmos set main nice=5 system="Answer in one sentence."

    Change what a process is made of, dead or living, all at once: its instructions (system=- reads them from standard
    input), the syscalls that it may emit (a list, all, or default: as suits its model), its share of the CPU, whether a
    new message stops what it is saying, how its words are drawn (as --sample of `llmos spawn`), whether it thinks
    before it answers, if its model can (auto, off, on, or up to so many tokens). Instructions and mask stand first in
    the prompt, which is evaluated anew. limit.day_tokens=5000 and its like bound what it may use; tainted.remember=ask
    says what becomes of a call while text that is not yours is in view: allow, ask, deny (* is every call).
    archives=NAME,... has it recall from the archives of processes that it may search, too, as from its own.
    """
    path = socket_of(directory)
    if changes:
        fields: dict[str, Any] = {}
        merged = any(change.startswith((LIMIT, TAINTED)) for change in changes)
        spec = ask.call(path, wire.Describe(id=0, proc=proc), wire.Made).process.spec if merged else None
        for change in changes:
            key, found, value = change.partition("=")
            if spec is not None and found and key.startswith(LIMIT):
                fields["limits"] = _limited(fields.get("limits", spec.limits), key.removeprefix(LIMIT), value)
                continue
            if spec is not None and found and key.startswith(TAINTED):
                fields["tainted"] = _judged(fields.get("tainted", spec.tainted), key.removeprefix(TAINTED), value)
                continue
            if not found or key not in SETTABLE:
                raise BadInput(f"{change}: KEY=VALUE is wanted, of {', '.join(SETTABLE)}, {LIMIT}NAME, {TAINTED}CALL")
            name, value_of = SETTABLE[key]
            fields[name] = value_of(value)
        ask.call(path, wire.Set(id=0, proc=proc, **fields), wire.Ok)
    if changes and not as_json:
        return
    made = ask.call(path, wire.Describe(id=0, proc=proc), wire.Made).process
    if as_json:
        print_json(tables.described(made))
    else:
        show(tables.choices(made))


@click.command()
@proc_argument
@click.argument("block", metavar="[BLOCK]", required=False, help="Of core memory; default: all.")
@click.argument("text", metavar="[TEXT]", required=False, help="What it shall say; - reads it from standard input.")
@click.option("--edit", is_flag=True, help="Write it in $VISUAL or $EDITOR.")
@dir_option
@json_option
def core(proc: str, block: str | None, text: str | None, edit: bool, directory: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos core main
      llmos core main human "Likes tea."

    Show the core memory of a process, or write a block of it, unless somebody has written it meanwhile: then nothing is
    changed, and what was edited is kept. An empty text removes the block. What the process wrote since the last fold is
    in it.
    """
    path = socket_of(directory)
    made = ask.call(path, wire.Describe(id=0, proc=proc), wire.Made).process
    blocks = made.spec.blocks
    if edit and (block is None or text is not None):
        raise BadInput(
            f"--edit wants one block and no text; blocks of {made.spec.name} are {', '.join(blocks) or 'none'}"
        )
    if block is None or (text is None and not edit):
        if block is not None and block not in blocks:
            raise BadInput(f"no block {block}; blocks of {made.spec.name} are {', '.join(blocks) or 'none'}")
        shown = blocks if block is None else {block: blocks[block]}
        if as_json:
            print_json({"pid": made.pid, "blocks": shown, "tokens": made.core, "tokens_max": made.core_max})
        else:
            heads = ((f"[{name}]\n" if block is None else "") + text for name, text in shown.items())
            show("\n\n".join(heads))
        return
    old = blocks.get(block, "")
    kept = _edited(old) if edit else None
    if kept is not None:
        text = kept.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    elif text == "-":
        text = typed().rstrip("\n")
    assert text is not None
    if text != old:
        try:
            request = wire.Core(id=0, proc=made.pid, block=block, text=text, seen=digest(old))
            ask.call(path, request, wire.Ok)
        except KernelError as exc:
            raise exc if kept is None else BadInput(f"{exc}; your version is kept in {kept}") from exc
    if kept is not None:
        kept.unlink()
    if as_json:
        print_json({"pid": made.pid, "block": block, "changed": text != old})
    else:
        show("changed" if text != old else "not changed")


def _edited(text: str) -> Path:
    """The file of its own, for nobody else to read, in which the text was edited. Raises BadInput if it was not."""
    file, name = tempfile.mkstemp(prefix="llmos-core-", suffix=".txt")  # 0600
    path = Path(name)
    try:
        with os.fdopen(file, "w", encoding="utf-8") as out:
            out.write(text + "\n")
        click.edit(filename=name)
    except BaseException as exc:
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(exc, click.ClickException):
            raise BadInput(f"{exc.format_message()}; nothing is changed") from exc
        raise
    return path


@click.command()
@proc_argument
@click.argument("name", metavar="NAME", help="Its name from now on.")
@dir_option
def rename(proc: str, name: str, directory: Path | None) -> None:
    """\b
    Examples:
      llmos rename main assistant
      llmos rename 1 "main of last year"

    Give a process another name. Its number, its memory and whoever talks to it by number stay; rights over it, its
    blocks and its children are called by the new name.
    """
    ask.call(socket_of(directory), wire.Rename(id=0, proc=proc, name=name), wire.Ok)


@click.command()
@proc_argument
@click.option("--kill", is_flag=True, help="Kill it first if it lives.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dir_option
def rm(proc: str, kill: bool, yes: bool, directory: Path | None) -> None:
    """\b
    Examples:
      llmos rm third --kill --yes
      llmos rm second --yes --kill --dir ~/.local/share/llmos

    Remove a dead process for good: its pages, what searches find of them, its KV image, its messages. Pages that a fork
    of it shows stay the fork's. What was said to it stands in the journal, too, until `llmos journal compact`.
    """
    path = socket_of(directory)
    (found,) = ask.call(path, wire.Ps(id=0, proc=proc), wire.Processes).processes
    what = f"process {found.pid} ({one_line(found.name)}), with {tables.plural(found.memory.pages, 'page')}"
    if found.state is not State.ZOMBIE and not kill:
        raise BadInput(f"process {found.name} is {found.state}; --kill ends it first")
    if not yes and not click.confirm(f"Remove {what}, for good?", err=True):
        raise BadInput(f"process {found.name} is kept; --yes removes it without a question")
    ask.call(path, wire.Remove(id=0, proc=found.pid, kill=kill), wire.Ok)
    show(f"removed {what}; `llmos journal compact` lets the journal forget it, too")
