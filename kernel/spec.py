"""What a process is made of, as far as whoever starts it may choose.

Carried whole: by the event that makes a process, the protocol, an export's head, scenarios, and the PCB, whose `spec`
has the core blocks as they are now. Not here: what is allowed (life.py), what is chosen where nobody says
(machine/requests.py).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from kernel.errors import BadInput
from kernel.limits import (
    BLOCKS_MAX,
    CALLS_MAX,
    NAME_TEXT_MAX,
    NICE_MAX,
    NICE_MIN,
    POLICY_MAX,
    SPEC_CHARS_MAX,
    TAKEN_MAX,
)
from kernel.rights import Limits, Right, Verdict
from kernel.sampling import Sampling

Name: TypeAlias = Annotated[str, Meta(max_length=NAME_TEXT_MAX)]
SpecText: TypeAlias = Annotated[str, Meta(max_length=SPEC_CHARS_MAX)]
Names: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=CALLS_MAX)]
Blocks: TypeAlias = Annotated[dict[Name, SpecText], Meta(max_length=BLOCKS_MAX)]
Think: TypeAlias = Annotated[str, Meta(pattern=r"^(auto|off|on|[1-9][0-9]{0,5})$")]
Policy: TypeAlias = Annotated[dict[Right, Verdict], Meta(max_length=POLICY_MAX)]
Taken: TypeAlias = Annotated[dict[Right, Name], Meta(max_length=TAKEN_MAX)]
Nice: TypeAlias = Annotated[int, Meta(ge=NICE_MIN, le=NICE_MAX)]


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The choices. `model` "" is the machine's first."""

    name: Name
    calls: Names = ()  # names of the syscalls it may emit
    system: SpecText = ""  # system instructions, which stand behind the manual
    blocks: Blocks = {}  # core memory
    nice: Nice = 0  # the higher, the smaller its share of the CPU
    abort: bool = False  # a user's message stops what it is emitting, and the turn goes on with it in view
    model: Name = ""  # which of the machine's
    sampling: Sampling | None = None  # how its words are drawn; None: as the machine's settings say
    think: Think = "auto"  # before an instruction: as the model's template has it, off, on, or on up to so many tokens
    limits: Limits = Limits()  # what it may use
    tainted: Policy = {}  # what becomes of a call while what is not the user's is in view
    archives: Names = ()  # of other processes, from which it recalls as from its own, as far as it may search them
    taken: Taken = {}  # rights that it has lost, and who took each; the kernel's to say, and nobody's to choose


def digest(text: str) -> str:
    """What tells a text from another one; of no text, that of an empty one."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def within(spec: Spec) -> None:
    """Raises BadInput for choices beyond the bounds of their types: a record of them could be written and not read."""
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=Spec)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as exc:
        raise BadInput(f"process {spec.name[:80]!r}: {exc}") from exc
