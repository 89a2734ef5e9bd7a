"""From what the CPU emitted to a syscall. Any text is a syscall or a SyscallError, whatever it is."""

from __future__ import annotations

import msgspec

from kernel.errors import SyscallError
from syscalls.abi import SYSCALLS, TEXT_CHARS_MAX, TRAP_MARK, AnySyscall, SendMessage

_decoder: msgspec.json.Decoder[AnySyscall] = msgspec.json.Decoder(AnySyscall)  # built once; strict: "3" is no page


def decode(text: str, encoding: str, mask: tuple[str, ...], truncated: bool) -> AnySyscall:
    """Parse one instruction. Raises SyscallError naming what was wrong and what `mask` allows.

    In the prose encoding a text that does not start with the trap mark is `send_message`, as is any text of a process
    that may emit nothing else.
    """
    call: AnySyscall
    if encoding == "prose" and (mask == ("send_message",) or not text.startswith(TRAP_MARK)):
        said = text.strip()
        if not said:
            raise SyscallError("the message is empty; say something")
        call = SendMessage(said[:TEXT_CHARS_MAX])
    elif truncated:
        raise SyscallError("the syscall was cut off at the reply limit; shorter texts are allowed")
    else:
        raw = text.removeprefix(TRAP_MARK) if encoding == "prose" else text
        try:
            call = _decoder.decode(raw.encode("utf-8", "replace"))
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise SyscallError(f"{exc}; allowed are {', '.join(mask)}") from exc
    name = name_of(call)
    if name not in mask:
        raise SyscallError(f"{name} is not allowed here; allowed are {', '.join(mask)}")
    return call


def name_of(call: AnySyscall) -> str:
    """The name of a syscall on the wire."""
    tag = type(call).__struct_config__.tag
    assert tag in SYSCALLS
    return str(tag)
