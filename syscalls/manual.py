"""The manual that the model reads, whole or in short, the page of one call, and docs/syscalls.md for people.

All derive from the ABI. Not here: which form suits a model (its profile), who is shown a page when (kernel/trap.py).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final, Literal, get_args

import msgspec

from kernel.errors import some
from syscalls.abi import SYSCALLS, TRAP_MARK, Syscall

Form = Literal["whole", "worked", "short"]
MANY: Final = 8  # calls above which a process that may ask for the rest sees the short form
SHARE: Final = 1 / 8  # of a window; a manual that takes more is short, likewise
CHARS: Final = 3  # of a token of a manual, about


def form(mask: tuple[str, ...], wanted: str, suits: str, window: int) -> Form:
    """The form of the manual of a process, as `wanted`, or where that is auto by how many calls it has.

    Many, or such as would take much of the window, are told in short if `help` is one of them; few as `suits` the
    model.
    """
    for one in get_args(Form):
        if wanted == one:
            found: Form = one
            return found
    much = len(mask) > MANY or len(manual(mask, "json", "whole")) > SHARE * CHARS * window
    return form(mask, "short" if much and "help" in mask else suits or "whole", "", window)


@functools.lru_cache(maxsize=256)
def manual(mask: tuple[str, ...], encoding: str, form: Form) -> str:
    """One line a syscall; empty where there is nothing to choose (prose, `send_message` alone).

    whole: its example, and what it does; worked: when it is right, then what users say and how that is answered; short:
    its name alone, and what it does.
    """
    prose, speaks = encoding == "prose", "send_message" in mask
    if prose and mask == ("send_message",):
        return ""
    calls = [name for name in SYSCALLS if name in mask and not (prose and name == "send_message")]
    mark = TRAP_MARK if prose else ""
    one = f"exactly one line that starts with {mark}" if prose else "exactly one JSON object"
    talk = "plain text to talk to the user, or with " if prose and speaks else ""
    match form:
        case "whole":
            what = "exactly one of these lines to act:" if talk else f"{one}, one of:"
            lines = [_line(name, encoding) for name in calls]
            return "\n".join([f"Reply with {talk}{what}", *lines])
        case "short":
            lines = [_line(name, encoding) if name == "help" else f"{name}: {_briefly(name)}" for name in calls]
            return "\n".join([f'Reply with {talk}{one}, {mark}{{"op":NAME,...}}, where NAME is one of:', *lines])
        case "worked":
            lines = [_when(name, encoding) for name in calls]
            worked = [line for name in SYSCALLS if name in mask for line in _worked(name, encoding)]
            result = f"If a result stands there: tell the user what it says{_told(encoding)}" if speaks else ""
            return "\n".join(
                [f"Reply with {talk}{one}, as it fits. If the user", *lines]
                + (["Examples:", *worked] if worked else [])
                + ([result] if result else [])
            )


def _line(name: str, encoding: str) -> str:
    return f"{_written(SYSCALLS[name].example, encoding)}  {_summary(name)}"


def _written(call: str, encoding: str) -> str:
    return TRAP_MARK + call if encoding == "prose" else call


def _when(name: str, encoding: str) -> str:
    """When a call is right; what it does, for one that no user asks for."""
    call = SYSCALLS[name]
    return f"- {call.when}: {_written(call.example, encoding)}" if call.when else f"- {_line(name, encoding)}"


def _worked(name: str, encoding: str) -> Iterator[str]:
    """What users say for which a call is right, and how each is answered."""
    for said, call in SYSCALLS[name].worked:
        spoken = encoding == "prose" and name == "send_message"
        yield f"User: {said}"
        yield f"You: {msgspec.json.decode(call)['text'] if spoken else _written(call, encoding)}"


def _told(encoding: str) -> str:
    return "." if encoding == "prose" else ': {"op":"send_message","text":"Miso."}'


def _summary(name: str) -> str:
    doc = SYSCALLS[name].__doc__ or ""
    return doc.strip().splitlines()[0]


def _briefly(name: str) -> str:
    """What it does, without what can be said with it."""
    return re.split(r"[;,.:]", _summary(name), maxsplit=1)[0]


@functools.lru_cache(maxsize=64)
def page(name: str, encoding: str) -> str:
    """The manual's page of one syscall: its example, what it does, and its fields with their bounds.

    Whose archive it means is said by `sharing`, to those who may name another's.
    """
    call = SYSCALLS[name]
    lines = [_line(name, encoding)]
    for field, spec, default in _fields(call):
        if field == "whose":
            continue
        bounds = _bounds(spec)
        said = f"{field}: {_type(spec).replace('`', '')}{', ' if bounds else ''}{bounds}"
        lines.append(said if default is None else f"{said}; {default} if left out")
    if call.one_of:
        lines.append(f"It needs {' or '.join(call.one_of)}, and not both.")
    lines.append("Its result comes back." if call.returns else "It ends the turn.")
    return "\n".join(lines)


def sharing(mask: tuple[str, ...], archives: tuple[tuple[str, str], ...]) -> str:
    """What the manual says of others' archives: which calls take `whose`, and of whom. "": there are none for them."""
    lines = []
    for verb in dict.fromkeys(verb for verb, _ in archives):
        calls = [name for name in SYSCALLS if name in mask and SYSCALLS[name].shared == verb]
        names = some(name for one, name in archives if one == verb)
        if calls:
            lines.append(f'With "whose" as its last field, {" or ".join(calls)} means another\'s archive: {names}.')
    return "\n".join(lines)


def document() -> str:
    """docs/syscalls.md."""
    lines = [
        "# Syscalls",
        "",
        "Generated from `syscalls/abi.py` by `make docs`; a test compares. A process may emit what its mask names.",
        f"In the `json` encoding an instruction is one JSON object; in `prose` a first character `{TRAP_MARK}` starts",
        "one, and anything else is `send_message`.",
        "",
    ]
    for name, call in SYSCALLS.items():
        lines += [f"## {name}", "", _summary(name), "", "```json", call.example, "```", ""]
        rows = _fields(call)
        if rows:
            lines += ["| field | type | bounds | default |", "|---|---|---|---|"]
            lines += [
                f"| `{field}` | {_type(spec)} | {_bounds(spec)} | {'required' if default is None else f'`{default}`'} |"
                for field, spec, default in rows
            ]
            lines.append("")
        if call.one_of:
            lines += [f"It needs {' or '.join(f'`{field}`' for field in call.one_of)}, and not both.", ""]
        if call.own:
            lines += ["Of the kernel's own threads alone.", ""]
        if call.shared:
            lines += [f"`whose` names another process's archive, with the right `{call.shared}:PROCESS`.", ""]
        if call.granted:
            lines += ["Of processes that were given it by name alone.", ""]
        lines += ["Continues the turn with its result." if call.returns else "Ends the turn.", ""]
    return "\n".join(lines)


def _fields(call: type[Syscall]) -> list[tuple[str, dict[str, object], str | None]]:
    """A syscall's fields, each with its schema and its default as JSON, None for one that is required."""
    body = msgspec.json.schema(call)["$defs"][call.__name__]
    return [
        (field, spec, None if field in body["required"] else msgspec.json.encode(spec.get("default")).decode())
        for field, spec in body["properties"].items()
        if field != "op"
    ]


def _type(spec: dict[str, object]) -> str:
    if "enum" in spec:
        values = spec["enum"]
        assert isinstance(values, list)
        return " or ".join(f"`{value}`" for value in values)
    return str(spec.get("type", "any"))


def _bounds(spec: dict[str, object]) -> str:
    words = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "minItems": "at least {} items",
        "maxItems": "at most {} items",
    }
    return ", ".join(text.format(spec[key]) for key, text in words.items() if key in spec)
