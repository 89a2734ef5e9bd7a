"""What a machine's owner chooses of its HTTP door; importing it costs no server.

Not here: where it is written (llmos/config.py), what is done with it (site.py).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from kernel.errors import BadInput
from kernel.spec import Name, Spec

PORT_MAX = 65_535
Words = Annotated[tuple[Name, ...], Meta(max_length=64)]


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `http` of llmos.toml; `listen` is also `--http`. "" is nowhere."""

    listen: Name = ""  # HOST:PORT
    hosts: Words = ()  # names that a request may give as Host, besides localhost and addresses
    origins: Words = ()  # of pages elsewhere that may ask, as https://HOST
    personas: dict[Name, Spec] = {}  # what `new:NAME` makes a process of


def address(listen: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, [HOST]:PORT, :PORT or PORT; without a host it is this machine alone."""
    host, colon, port = listen.rpartition(":")
    if not colon:
        host, port = ("", listen) if listen.isdigit() else (listen, "")
    if not (port.isascii() and port.isdigit() and int(port) <= PORT_MAX):
        raise BadInput(f"--http {listen[:80]}: HOST:PORT is wanted, such as 127.0.0.1:8484")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)
