"""llmos, an operating system kernel whose CPU is a language model. `connect` is for programs that talk to a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmos.remote import Machine


def connect(url: str = "http://127.0.0.1:8484", token: str = "") -> Machine:
    """A machine that is served over HTTP (`llmos boot --http`); needs the extra `http`.

    `token`: as `llmos token` prints it; "": LLMOS_TOKEN of the environment.
    """
    from llmos.remote import Machine

    return Machine(url, token)
