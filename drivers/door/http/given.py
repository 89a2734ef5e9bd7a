"""What a machine's owner chooses of its HTTP door; importing it costs no server.

Not here: where it is written (llmos/config.py), what is done with it (site.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from kernel.errors import BadInput
from kernel.spec import Name, Spec

if TYPE_CHECKING:
    from drivers.index.ranking import Embedder

PORT_MAX = 65_535
Words = Annotated[tuple[Name, ...], Meta(max_length=64)]


class Spoken(Protocol):
    """What of an instruction, as far as it was emitted, is being said; syscalls/spoken.py."""

    def __call__(self, raw: str, encoding: str, *, only_speaks: bool = False) -> str:
        """Grows with `raw`."""
        ...


class Userland(msgspec.Struct, frozen=True):
    """What the door needs of those who know syscalls, models and scenarios."""

    spoken: Spoken
    embedder: Callable[[], Embedder]  # as the index's; called once, in a thread
    scenarios: dict[str, Callable[[], bytes]] = {}  # traces of those that come with llmos; called in a thread


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `http` of llmos.toml; `listen` is also `--http`. "" is nowhere."""

    listen: Name = ""  # HOST:PORT
    hosts: Words = ()  # names that a request may give as Host, besides localhost and addresses
    origins: Words = ()  # of pages elsewhere that may ask, as https://HOST
    personas: dict[Name, Spec] = {}  # what `new:NAME` makes a process of
    log: Literal["all", "errors", "none"] = "errors"  # which requests have a line on standard error


class Live:
    """The choices of a door that serves, as they are `now`: what needs no restart may be put in their place."""

    def __init__(self, now: Http) -> None:
        self.now = now


def address(listen: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, [HOST]:PORT, :PORT or PORT; without a host it is this machine alone."""
    host, colon, port = listen.rpartition(":")
    if not colon:
        host, port = ("", listen) if listen.isdigit() else (listen, "")
    if not (port.isascii() and port.isdigit() and int(port) <= PORT_MAX):
        raise BadInput(f"--http {listen[:80]}: HOST:PORT is wanted, such as 127.0.0.1:8484")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)
