"""From what the CPU emitted to a syscall. Any text is a syscall or a SyscallError, whatever it is."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import msgspec

from kernel.errors import Illegal, SyscallError
from syscalls.abi import SYSCALLS, TEXT_CHARS_MAX, TRAP_MARK, AnySyscall, SendMessage

CALL_CHARS_MAX: Final = 120  # of a call in words; of a longer one the head, and a hash that tells it from its like

OP_CHARS_MAX: Final = 200  # within which a call has said what it is

_OP: Final = re.compile(r'"op"\s*:\s*"(\w+)"')
_decoder: msgspec.json.Decoder[AnySyscall] = msgspec.json.Decoder(AnySyscall)  # built once; strict: "3" is no page


def decode(text: str, encoding: str, mask: tuple[str, ...], truncated: bool) -> AnySyscall:
    """Parse one instruction that `mask` allows. Raises SyscallError naming what was wrong and what is allowed."""
    call = parse(text, encoding, mask, truncated)
    allowed(call, mask)
    return call


def parse(text: str, encoding: str, mask: tuple[str, ...], truncated: bool) -> AnySyscall:
    """Parse one instruction, of a process whose mask is this. Raises Illegal for what is none.

    In the prose encoding a text that does not start with the trap mark is `send_message`, as is any text of a process
    that may emit nothing else.
    """
    if encoding == "prose" and (mask == ("send_message",) or not text.startswith(TRAP_MARK)):
        said = text.strip()
        if not said:
            raise Illegal("the message is empty; say something")
        return SendMessage(said[:TEXT_CHARS_MAX])
    if truncated:
        raise Illegal("the syscall was cut off at the reply limit; shorter texts are allowed")
    raw = text.removeprefix(TRAP_MARK) if encoding == "prose" else text
    try:
        call = _decoder.decode(raw.encode("utf-8", "replace"))
    except RecursionError as exc:
        raise Illegal("it is nested too deeply") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Illegal(f"{exc}; allowed are {', '.join(mask)}") from exc
    if call.one_of and sum(bool(getattr(call, field)) for field in call.one_of) != 1:
        what = name_of(call).rpartition("_")[2]
        raise Illegal(f"a {what} needs {' or '.join(call.one_of)}, and not both")
    return call


def allowed(call: AnySyscall, mask: tuple[str, ...]) -> None:
    """Refuse a call that the mask does not name. Raises SyscallError."""
    if name_of(call) not in mask:
        raise SyscallError(f"{name_of(call)} is not allowed here; allowed are {', '.join(mask)}")


def meant(text: str) -> str:
    """The name of the syscall that a text, which is perhaps none, was meant to be; "" if it names none."""
    found = _OP.search(text[:OP_CHARS_MAX])
    return found[1] if found and found[1] in SYSCALLS else ""


def in_words(call: AnySyscall) -> str:
    """A call as people read it, its name first; equal ones give equal words, others give others."""
    said = f"{name_of(call)} {msgspec.json.encode(arguments(call)).decode()}"
    if len(said) <= CALL_CHARS_MAX:
        return said
    end = f" ... {hashlib.blake2b(said.encode(), digest_size=4).hexdigest()}"
    return said[: CALL_CHARS_MAX - len(end)] + end


def arguments(call: AnySyscall) -> dict[str, Any]:
    """What a call says, defaults left out."""
    fields, defaults = call.__struct_fields__, call.__struct_defaults__
    unsaid = dict(zip(fields[len(fields) - len(defaults) :], defaults, strict=True))
    return {name: value for name in fields if (value := getattr(call, name)) != unsaid.get(name)}


def name_of(call: AnySyscall) -> str:
    """The name of a syscall on the wire."""
    tag = type(call).__struct_config__.tag
    assert tag in SYSCALLS
    return str(tag)
