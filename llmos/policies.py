"""Policies of one's own: a class in a file, named `mine.py:Mine`, and what is held against what it does.

The file's text goes along with the name, so that a sweep's processes, and machines elsewhere, run the same one; it may
import what is installed there, and nothing that lies beside it.
Guarantee: a policy of a file is watched. What it dies of, and a rule of the contract that it breaks, is `Broken` with
the call that did it. Not here: the contract (kernel/memory/policy/contract.py), looking for the smallest case that
breaks a rule (bench/paging/laws.py).
"""

from __future__ import annotations

import functools
import hashlib
import sys
import traceback
import types
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, Final

import msgspec

from kernel.errors import BadInput
from kernel.memory.page import Kind
from kernel.memory.policy import POLICIES, Described, Maker, Policy, described

VERBS: Final = ("miss", "admit", "hit", "evict", "drop", "state")


class Broken(Exception):
    """A policy did what none may. `rule` is which rule that breaks, in a word."""

    def __init__(self, rule: str, said: str) -> None:
        super().__init__(said)
        self.rule = rule


class Own(msgspec.Struct, frozen=True):
    """A policy of a file: as it was named, and what the file says."""

    name: str
    source: str

    @property
    def digest(self) -> str:
        """Names what the file says."""
        return hashlib.blake2b(self.source.encode(), digest_size=6).hexdigest()


def is_own(name: str) -> bool:
    """Whether a policy's name is that of a class in a file."""
    return ":" in name


def read(name: str) -> Own:
    """The file of `FILE:CLASS`. Raises BadInput if there is none."""
    path = Path(name.rpartition(":")[0]).expanduser()
    try:
        return Own(name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"--policy {name}: {getattr(exc, 'strerror', None) or 'no text'}; give FILE.py:CLASS") from exc


def use(own: Own) -> Described:
    """Make a file's policy known by name in this process, under watch. Raises BadInput for what is none."""
    found = plain(own)
    POLICIES[own.name] = msgspec.structs.replace(found, make=functools.partial(Watched, own.name, found.make))
    return POLICIES[own.name]


@functools.cache
def plain(own: Own) -> Described:
    """A file's policy as it stands there. Raises BadInput for what is none."""
    path, _, wanted = own.name.rpartition(":")
    module = types.ModuleType(f"llmos_policy_{own.digest}")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses look themselves up
    try:
        exec(compile(own.source, path, "exec"), module.__dict__)
    except BaseException as exc:
        if isinstance(exc, KeyboardInterrupt):
            raise
        raise BadInput(f"--policy {own.name}: {_why(exc, path)}") from exc
    found = getattr(module, wanted, None)
    if found is None:
        here = sorted(
            name for name, one in vars(module).items() if isinstance(one, type) and one.__module__ == module.__name__
        )
        raise BadInput(f"--policy {own.name}: no {wanted} there; its classes are {', '.join(here) or 'none'}")
    listed = described(found)
    try:
        policy = Watched(own.name, listed.make, 1_000).policy
    except Broken as exc:
        raise BadInput(f"--policy {own.name}: it takes (capacity, state=None): {exc}") from exc
    missing = [verb for verb in VERBS if not callable(getattr(policy, verb, None))]
    if missing:
        raise BadInput(f"--policy {own.name}: no {', '.join(missing)}; a policy has {', '.join(VERBS)}")
    return listed


def _why(exc: BaseException, path: str) -> str:
    """What something died of, in a line, and where in the file."""
    lines = [one.lineno for one in traceback.extract_tb(exc.__traceback__) if one.filename == path]
    line = exc.lineno if isinstance(exc, SyntaxError) else lines[-1] if lines else None
    said = exc.msg if isinstance(exc, SyntaxError) else str(exc).partition("\n")[0]
    return f"{type(exc).__name__}: {said[:200]}" + (f" ({Path(path).name}, line {line})" if line else "")


class Watched:
    """A policy under watch: what it holds, what it evicts, and that it never evicts what it must not.

    With a `log` the calls are noted there, as they would be written.
    """

    def __init__(self, name: str, make: Maker, capacity: int, state: Any = None, log: list[str] | None = None) -> None:
        """Make it, or one that goes on from what `state` gave. Raises Broken if that cannot be."""
        held, inside = state or ((), None)
        self.name, self.log = name, log
        self.held: dict[int, int] = {page: tokens for page, tokens in held}
        given = (capacity,) if state is None else (capacity, "state")
        self.policy: Policy = self._call("Policy", lambda: make(capacity, inside), *given)

    @property
    def capacity(self) -> int:
        """The policy's own."""
        return self.policy.capacity

    @capacity.setter
    def capacity(self, tokens: int) -> None:
        self.policy.capacity = tokens

    def miss(self, page: int) -> None:
        """See Policy."""
        assert page not in self.held
        self._call("miss", lambda: self.policy.miss(page), page)

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """See Policy."""
        assert page not in self.held
        self.held[page] = tokens
        self._call("admit", lambda: self.policy.admit(page, tokens, kind), page, tokens)

    def hit(self, page: int) -> None:
        """See Policy."""
        assert page in self.held
        self._call("hit", lambda: self.policy.hit(page), page)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """See Policy. Raises Broken for a victim that is none, or too few."""
        shown = sorted(page for page in self.held if page in pinned)
        victims = self._call("evict", lambda: self.policy.evict(tokens, pinned), tokens, shown)
        if not isinstance(victims, list) or not all(isinstance(page, int) for page in victims):
            raise Broken("holds", f"{self._said()} gave {victims!r:.80}, which is no list of pages")
        freed = 0
        for page in victims:
            if page not in self.held:
                twice = "twice" if victims.count(page) > 1 else "which it does not hold"
                raise Broken("holds", f"{self._said()} gave {victims}: page {page}, {twice}")
            if page in pinned:
                raise Broken("pinned", f"{self._said()} gave {victims}: page {page} is pinned")
            freed += self.held.pop(page)
        left = [page for page in self.held if page not in pinned]
        if freed < tokens and left:
            raise Broken("enough", f"{self._said()} gave {victims}: {freed} of {tokens} tokens, and {left} could go")
        return victims

    def drop(self, page: int) -> None:
        """See Policy."""
        self.held.pop(page, None)
        self._call("drop", lambda: self.policy.drop(page), page)

    def state(self) -> Any:
        """What it holds, and the policy's own."""
        return [list(self.held.items()), self._call("state", self.policy.state)]

    def _call(self, verb: str, what: Callable[[], Any], *given: Any) -> Any:
        if self.log is not None:
            shown = ["{" + ", ".join(map(str, one)) + "}" if isinstance(one, list) else str(one) for one in given]
            self.log.append(f"{verb}({', '.join(shown)})")
        try:
            return what()
        except (Exception, SystemExit) as exc:
            raise Broken("runs", f"{self._said(verb)} died of {_why(exc, self.name.rpartition(':')[0])}") from exc

    def _said(self, verb: str = "evict") -> str:
        return " ".join(self.log) if self.log is not None else verb
