"""Errors, sorted by whose fault they are.

SyscallError is the process's and becomes a page it reads; DeviceError is a driver's, raised `from` the library's own;
BadInput is the user's: one line, exit status 2. KernelPanic is ours and deliberately not a KernelError, so that no
handler of the others swallows it: the machine stops, and boot goes on from the last commit.
"""

from collections.abc import Iterable


class KernelError(Exception):
    """Base of every error that has an owner other than the kernel."""


class SyscallError(KernelError):
    """The process asked for what it may not have; the text goes to the model: what was wrong, what is allowed."""


class DeviceError(KernelError):
    """A driver failed; the kernel retries, or tells the process that waits."""


class BadInput(KernelError):
    """What a user or client gave cannot be used; one line that names it and what is allowed."""


class KernelPanic(Exception):
    """The kernel found itself in a state that cannot be; nothing after it is trusted."""


def some(values: Iterable[object]) -> str:
    """A list for an error message: at most a dozen values, or that there are none."""
    found = [str(value) for value in values]
    return ", ".join(found[:12]) + (", ..." if len(found) > 12 else "") if found else "none"
