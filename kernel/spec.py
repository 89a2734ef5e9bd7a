"""What a process is made of, as far as whoever starts it may choose.

Carried whole: by the event that makes a process, the protocol, an export's head, scenarios, and the PCB, whose `spec`
has the core blocks as they are now. Not here: what is allowed (life.py), what is chosen where nobody says
(machine/requests.py).
"""

from __future__ import annotations

import hashlib

import msgspec


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The choices. `model` "" is the machine's first."""

    name: str
    calls: tuple[str, ...] = ()  # names of the syscalls it may emit
    system: str = ""  # system instructions, which stand behind the manual
    blocks: dict[str, str] = {}  # core memory
    nice: int = 0  # -20 to 19: the higher, the smaller its share of the CPU
    abort: bool = False  # a user's message stops what it is emitting, and the turn goes on with it in view
    model: str = ""  # which of the machine's


def digest(text: str) -> str:
    """What tells a text from another one; of no text, that of an empty one."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
