"""Errors, sorted by whose fault they are.

SyscallError is the process's and becomes a page it reads; DeviceError is a driver's, raised `from` the library's own;
BadInput is the user's: one line, exit status 2; refusals that programs tell apart are classes of their own, so that
nobody reads prose. KernelPanic is ours and deliberately not a KernelError, so that no handler of the others swallows
it: the machine stops, and boot goes on from the last commit.
"""

from collections.abc import Iterable
from typing import Final

LINE_CHARS_MAX: Final = 1_000  # of an error's line


class KernelError(Exception):
    """Base of every error that has an owner other than the kernel."""


class SyscallError(KernelError):
    """The process asked for what it may not have; the text goes to the model: what was wrong, what is allowed."""


class Illegal(SyscallError):
    """What the CPU emitted is no call at all: it cannot be decoded."""


class DeviceError(KernelError):
    """A driver failed; the kernel retries, or tells the process that waits."""


class BadInput(KernelError):
    """What a user or client gave cannot be used; one line that names it and what is allowed, whatever it quotes."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class Busy(BadInput):
    """It may be given again, after `retry_after_s` seconds: a queue was full."""

    def __init__(self, what: str, retry_after_s: float) -> None:
        """`what` is full; the error says when to come back."""
        super().__init__(f"{what}; retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class Unknown(BadInput):
    """What is named is not there."""


class Exists(BadInput):
    """What was to be made is there already."""


class InUse(BadInput):
    """Another kernel holds the directory."""


class Stopped(BadInput):
    """The kernel is stopping, or has stopped."""


class KernelPanic(Exception):
    """The kernel found itself in a state that cannot be; nothing after it is trusted."""


def some(values: Iterable[object]) -> str:
    """A list for an error message: at most a dozen values, or that there are none."""
    found = [str(value) for value in values]
    return ", ".join(found[:12]) + (", ..." if len(found) > 12 else "") if found else "none"


def in_one_line(error: Exception, most: int = LINE_CHARS_MAX) -> str:
    """What an error says in one line of at most so many characters: it may quote what somebody sent."""
    said = " ".join(str(error).split())
    return said if len(said) <= most else f"{said[: most // 2]} ... {said[-most // 2 :]}"
