"""The manual page that the model reads, and docs/syscalls.md for people; both derive from the ABI."""

from __future__ import annotations

import functools

import msgspec

from syscalls.abi import SYSCALLS, TRAP_MARK


@functools.lru_cache(maxsize=256)
def manual(mask: tuple[str, ...], encoding: str) -> str:
    """One line a syscall, with its example; empty where there is nothing to choose (prose, `send_message` alone)."""
    prose = encoding == "prose"
    if prose and mask == ("send_message",):
        return ""
    calls = [name for name in SYSCALLS if name in mask and not (prose and name == "send_message")]
    lines = [f"{TRAP_MARK if prose else ''}{SYSCALLS[name].example}  {_summary(name)}" for name in calls]
    if not prose:
        return "\n".join(["Reply with exactly one JSON object, one of:", *lines])
    if "send_message" not in mask:
        return "\n".join([f"Reply with exactly one line that starts with {TRAP_MARK}, one of:", *lines])
    return "\n".join(["Reply with plain text to talk to the user, or with exactly one of these lines to act:", *lines])


def _summary(name: str) -> str:
    doc = SYSCALLS[name].__doc__ or ""
    return doc.strip().splitlines()[0]


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
        schema = msgspec.json.schema(call)
        body = schema["$defs"][call.__name__]
        rows = [(field, spec) for field, spec in body["properties"].items() if field != "op"]
        if rows:
            lines += ["| field | type | bounds | default |", "|---|---|---|---|"]
            lines += [
                f"| `{field}` | {_type(spec)} | {_bounds(spec)} | {_default(field, spec, body)} |"
                for field, spec in rows
            ]
            lines.append("")
        if call.one_of:
            lines += [f"It needs {' or '.join(f'`{field}`' for field in call.one_of)}, and not both.", ""]
        if call.own:
            lines += ["Of the kernel's own threads alone.", ""]
        lines += ["Continues the turn with its result." if call.returns else "Ends the turn.", ""]
    return "\n".join(lines)


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


def _default(field: str, spec: dict[str, object], body: dict[str, object]) -> str:
    required = body.get("required", [])
    assert isinstance(required, list)
    return "required" if field in required else f"`{msgspec.json.encode(spec.get('default')).decode()}`"
