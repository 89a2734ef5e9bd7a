"""The probes by which a model's profile is made, read from probes.toml, and which answer to one is right.

Right is what was emitted, by code and not by another model: the first instruction of a fresh process, pages of the
manual that it asks for excepted.
- speak: it says something; no call, no end of the turn, no instruction in the text, and no line of what it was told.
- remember: `remember`, with every word that matters in its text.
- search: `search`, with one of the words that matter in its query.
- timer: `set_timer`, in exactly so many seconds and not again after that, with one of the words in its text.
- answer: after a search whose result is in view it speaks, as above, with every word that matters.
Words are compared whole, in any case, and without the ending of a plural; `a|b` is either.
Not here: who asks (asking.py), what is made of it (choice.py).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from kernel.errors import BadInput, SyscallError
from syscalls.abi import Remember, Search, SendMessage, SetTimer
from syscalls.decode import decode, meant

FILE: Final = Path(__file__).with_name("probes.toml")
MASK: Final = ("send_message", "remember", "search", "read", "set_timer", "yield")
LINE_CHARS: Final = 24  # of a line of the manual or the instructions that, said to the user, is a recital

Half = Literal["choose", "report"]
Kind = Literal["speak", "remember", "search", "timer", "answer"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Said = Annotated[str, Meta(min_length=1, max_length=200)]
Word = Annotated[str, Meta(pattern=r"^[a-z0-9|]+$")]

_WORD: Final = re.compile(r"[^\W_]+")


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Probe(_Strict, frozen=True):
    """What a user says, and what must stand in the answer; `page` and `query`: the result of a search before it."""

    say: Said
    words: tuple[Word, ...] = ()
    seconds: int = 0
    page: str = ""
    query: str = ""


class _Set(_Strict, frozen=True):
    speak: tuple[Probe, ...]
    remember: tuple[Probe, ...]
    search: tuple[Probe, ...]
    timer: tuple[Probe, ...]
    answer: tuple[Probe, ...]


class Probes(_Strict, frozen=True):
    """Both halves: what the manner is chosen by, and what is only reported."""

    choose: _Set
    report: _Set

    def of(self, half: Half, kinds: Sequence[Kind] = KINDS) -> Iterator[tuple[Kind, Probe]]:
        """The probes of a half, kind by kind."""
        for kind in kinds:
            for probe in getattr(getattr(self, half), kind):
                yield kind, probe


@functools.cache
def probes(path: Path = FILE) -> Probes:
    """What `path` holds. Raises BadInput naming the place for a file that is not such a one."""
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=Probes)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadInput(f"{path}: {exc}; is llmos installed whole?") from exc
    for half in get_args(Half):
        for kind, probe in found.of(half):
            whole = bool(probe.words) == (kind != "speak") and bool(probe.seconds) == (kind == "timer")
            if not whole or bool(probe.page) != (kind == "answer") or bool(probe.query) != (kind == "answer"):
                raise BadInput(f"{path}: {half}, {kind}: {probe.say!r} lacks something, or has too much")
    return found


def asks(text: str) -> bool:
    """Whether an instruction asks for a page of the manual, after which the next one counts."""
    return meant(text) == "help"


def right(kind: Kind, probe: Probe, text: str, encoding: str, told: str, *, truncated: bool = False) -> bool:
    """Whether an instruction is the right answer to a probe of a kind, by a process that was told `told`."""
    try:
        call = decode(text, encoding, (*MASK, "help"), truncated)
    except SyscallError:
        return False
    if isinstance(call, SendMessage):
        said = not _recited(call.text, told) and all(_stands(word, call.text) for word in probe.words)
        return said and kind in ("speak", "answer")
    if isinstance(call, Remember):
        return kind == "remember" and all(_stands(word, call.text) for word in probe.words)
    if isinstance(call, Search):
        return kind == "search" and any(_stands(word, call.query) for word in probe.words)
    if isinstance(call, SetTimer):
        once = call.seconds == probe.seconds and not call.every
        return kind == "timer" and once and any(_stands(word, call.text) for word in probe.words)
    return False


def _recited(text: str, told: str) -> bool:
    """Whether what is said to the user is an instruction, or a line of what the process was told."""
    if re.search(r'"op"|\{"', text):
        return True
    lines = (line.strip() for line in told.splitlines())
    return any(len(line) >= LINE_CHARS and line in text for line in lines)


def _stands(word: str, text: str) -> bool:
    """Whether a word, or one of several between bars, stands in a text."""
    found = {_stem(one) for one in _WORD.findall(text.lower())}
    return any(_stem(one) in found for one in word.split("|"))


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word
