"""What every policy must hold: ours in the property tests, and one's own by `llmos policies --check`.

A policy is played with as a pager would play: pages are wanted, arrive, leave and are dropped, pins and capacity
change, and it goes on from its state. Hypothesis draws the plays and makes what breaks a law as small as it can be.
Growth is looked at over one long string from a seed, in lines of Python that run and in bytes of what is kept: nothing
is timed, but that a play comes to an end at all.
Not here: the rules that hold at each call (llmos/policies.py `Watched`).
"""

from __future__ import annotations

import functools
import gc
import random
import signal
import sys
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType, FunctionType, ModuleType
from typing import Any, Final, Literal

import msgspec

from kernel.errors import BadInput
from kernel.memory.page import Kind
from kernel.memory.policy import Maker
from llmos.policies import Broken, Watched

EXAMPLES: Final = 300
PAGES: Final = 9  # of a play
CAPACITY: Final = 60
KINDS: Final = (Kind.MESSAGE, Kind.RESULT, Kind.SYSCALL)
LAWS: Final = {
    "runs": "takes every call, comes back from each and dies of none",
    "pinned": "never evicts a pinned page",
    "holds": "evicts pages that it holds, each of them once",
    "enough": "frees what was asked for, unless all that is left is pinned",
    "deterministic": "the same calls have the same victims",
    "state": "goes on from its state, after msgpack, as if nothing had been",
    "bounded": "its state, what it keeps, and its work for an access do not grow with what it has seen",
}
KEPT: Final = ("state", "bounded")  # of policies that keep a state
LONG: Final = 6_000  # accesses of the long string
TRIES: Final = 20  # of a play that has broken a law
GROWTH: Final = 1.5  # of its last part over an earlier one
STUCK_S: Final = 10.0  # a play takes milliseconds: one that takes so long has no end
STUCK_LONG_S: Final = 120.0  # and a quarter of the long string, which takes less than a second


class _Stuck(BaseException):
    """A play has no end. No Exception: nothing that a policy or Hypothesis does about those is done about it."""


class Act(msgspec.Struct, frozen=True):
    """What a pager does next: a page is wanted, or is dropped; `tokens` are evicted; or that is the capacity now."""

    what: Literal["want", "drop", "evict", "resize"]
    page: int
    tokens: int
    pinned: frozenset[int] = frozenset()


class Play(msgspec.Struct, frozen=True):
    """Sizes of pages 1 to PAGES, and what is done."""

    sizes: tuple[int, ...]
    acts: tuple[Act, ...]


class Finding(msgspec.Struct, frozen=True):
    """A law, and the smallest case that breaks it; "" if none was found."""

    law: str
    says: str
    broken: str


def played(make: Maker, play: Play, *, restart: bool = False, log: list[str] | None = None) -> list[list[int]]:
    """The victims of each eviction; with `restart` the policy goes on from its state before each act.

    Raises Broken for a call that breaks a rule.
    """
    watched = Watched("", make, CAPACITY, None, log)
    found: list[list[int]] = []

    def room(tokens: int, pinned: frozenset[int]) -> None:
        excess = sum(watched.held.values()) + tokens - watched.capacity
        if excess > 0:
            found.append(watched.evict(excess, pinned))

    for act in play.acts:
        if restart:
            watched = Watched("", make, watched.capacity, _packed(watched), log)
        match act.what:
            case "want" if act.page in watched.held:
                watched.hit(act.page)
            case "want":
                watched.miss(act.page)
                tokens = play.sizes[act.page - 1]
                room(tokens, act.pinned)
                watched.admit(act.page, tokens, KINDS[act.page % 3])
            case "drop":
                watched.drop(act.page)
            case "evict":
                found.append(watched.evict(act.tokens, act.pinned))
            case "resize":
                watched.capacity = act.tokens
                room(0, act.pinned)
    return found


def _packed(watched: Watched) -> Any:
    state = watched.state()
    try:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(state))
    except (TypeError, ValueError, OverflowError) as exc:
        raise Broken("state", f"its state is not made of plain lists and numbers: {exc}") from exc


def judge(make: Maker, play: Play, laws: Sequence[str], log: list[str] | None = None) -> None:
    """Raises Broken if a play breaks one of the laws."""
    first = played(make, play, log=log)
    if "deterministic" in laws and (again := played(make, play)) != first:
        raise Broken("deterministic", f"{_told(log)}: victims {first}, and then {again}")
    if "state" in laws and (gone_on := played(make, play, restart=True)) != first:
        raise Broken("state", f"{_told(log)}: victims {first}, and gone on from its state before each act {gone_on}")


def _told(log: list[str] | None) -> str:
    return " ".join(log or ())


@contextmanager
def _ending(within_s: float) -> Iterator[None]:
    """Raises _Stuck in what has not come to an end by then; only in a main thread, for it is a signal's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stuck(*_: object) -> None:
        raise _Stuck

    before = signal.signal(signal.SIGALRM, stuck)
    signal.setitimer(signal.ITIMER_REAL, within_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(make: Maker, laws: Sequence[str] = tuple(LAWS), examples: int = EXAMPLES) -> list[Finding]:
    """Every law, and the smallest case found that breaks it. Raises BadInput if Hypothesis is not here.

    Of a policy that does not come back from a call no other law is looked at.
    """
    plain = [law for law in laws if law != "bounded"]
    broken: dict[str, str] = {}
    last: list[Play] = []
    try:
        while (found := _smallest(make, plain, broken, examples, last)) is not None:  # until no other is found broken
            law, play = found
            broken[law] = _said(make, play, plain)
        if "bounded" in laws and not broken:
            try:
                bounded(make)
            except Broken as exc:
                broken[exc.rule] = str(exc)
    except _Stuck:
        return [Finding("runs", LAWS["runs"], f"{_unended(make, last[-1])} has not come back within {STUCK_S:g} s")]
    return [Finding(law, LAWS[law], broken.get(law, "")) for law in laws]


def _unended(make: Maker, play: Play) -> str:
    """The calls of a play that has no end, to the last."""
    log: list[str] = []
    try:
        with _ending(STUCK_S):
            played(make, play, log=log)
    except _Stuck:
        pass
    return _told(log)


def _said(make: Maker, play: Play, laws: Sequence[str]) -> str:
    for _ in range(TRIES):  # it may be one that breaks by chance
        log: list[str] = []
        try:
            judge(make, play, laws, log)
        except Broken as exc:
            return str(exc)
    return f"sometimes, after {_told(log)}"


def _smallest(
    make: Maker, laws: Sequence[str], known: Container[str], examples: int, last: list[Play]
) -> tuple[str, Play] | None:
    """The first law found broken that is not `known`, and the smallest play that breaks it; `last`: the last play."""
    try:
        import hypothesis
        from hypothesis import HealthCheck, Phase
        from hypothesis.errors import NoSuchExample
    except ImportError as exc:
        raise BadInput("--check needs Hypothesis: pip install 'llmos[fuzz]'") from exc
    first: list[str] = []  # the law that is broken in what is made smaller

    def breaks(play: Play) -> bool:
        last[:] = [play]
        try:
            with _ending(STUCK_S):
                judge(make, play, laws)
        except Broken as exc:
            if not first and exc.rule not in known:
                first.append(exc.rule)
            return exc.rule in first
        return False

    settings = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        play: Play = hypothesis.find(_plays(), breaks, settings=settings, random=random.Random(0))
    except NoSuchExample:
        return None
    at = 0
    while at < len(play.acts):  # ends: each round takes an act away, or goes on to the next
        less = msgspec.structs.replace(play, acts=play.acts[:at] + play.acts[at + 1 :])
        if breaks(less):
            play = less
        else:
            at += 1
    return first[0], play


@functools.cache
def _plays() -> Any:
    from hypothesis import strategies as st

    page = st.integers(1, PAGES)
    pinned = st.frozensets(page, max_size=3)
    some = st.integers(1, CAPACITY)
    want = st.builds(Act, st.just("want"), page, st.just(0), pinned)
    evict = st.builds(Act, st.just("evict"), st.just(0), some, pinned)
    drop = st.builds(Act, st.just("drop"), page, st.just(0))
    resize = st.builds(Act, st.just("resize"), st.just(0), some)
    some_acts = st.lists(st.one_of(want, want, want, want, evict, drop, resize))  # a list is short by itself
    acts = st.tuples(*[some_acts] * 5).map(lambda lists: tuple(act for acts in lists for act in acts))
    sizes = st.tuples(*[st.integers(1, 20)] * PAGES)
    return st.builds(Play, sizes, acts)


def bounded(make: Maker) -> None:
    """Raises Broken if state, work or memory grow with a string whose pages are wanted again, or never again.

    Memory is looked at over two strings on end: what is bounded at a thousand of something is so only then.
    """
    rng = random.Random("laws")
    watched = Watched("", make, 1_000)
    states: list[int] = []
    work: list[int] = []
    kept: list[int] = []
    quarter = LONG // 4
    for part in range(8):
        pages = [rng.randint(1, 150) if at % 3 else 1_000 + part * quarter + at for at in range(quarter)]
        lines = _Lines()
        try:
            with _ending(STUCK_LONG_S), lines if part < 4 else nullcontext():
                for page in pages:
                    _wanted(watched, page)
        except _Stuck:
            raise Broken("runs", f"{quarter:,} accesses had no end within {STUCK_LONG_S:g} s") from None
        if part < 4:
            work.append(lines.count)
            states.append(len(msgspec.msgpack.encode(_packed(watched))))
        if part == 3:
            _grown("state", "bytes of state", states)
            _grown("work", "lines of Python", work)
        if part % 2:
            kept.append(_size(watched.policy))
    _grown("memory", "bytes", kept)


def _wanted(watched: Watched, page: int, tokens: int = 10) -> None:
    """A page is wanted, by a pager that makes room for many at once."""
    if page in watched.held:
        watched.hit(page)
        return
    watched.miss(page)
    if sum(watched.held.values()) + tokens > watched.capacity:
        watched.evict(watched.capacity // 10, ())
    watched.admit(page, tokens, KINDS[page % 3])


def _grown(what: str, unit: str, row: list[int]) -> None:
    """Raises Broken if the last of four is larger than the second."""
    if row[3] > GROWTH * row[1] + 64:
        shown = ", ".join(f"{one:,}" for one in row)
        raise Broken("bounded", f"its {what} grows: {shown} {unit} in the quarters of a long string")


def _size(policy: object) -> int:
    """Bytes of all that a policy holds."""
    seen: dict[int, object] = {}
    found = [policy]
    while found:  # ends: each object is looked at once
        one = found.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType):
            seen[id(one)] = one
            found += gc.get_referents(one)
    return sum(sys.getsizeof(one) for one in seen.values())


class _Lines:
    """Counts lines of Python that run meanwhile, but for the watch's own."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> _Lines:
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, given: Any) -> Callable[[FrameType, str, Any], Any] | None:
        return None if frame.f_code.co_filename in (__file__, WATCHED) else self._ran

    def _ran(self, frame: FrameType, event: str, given: Any) -> Callable[[FrameType, str, Any], Any]:
        self.count += event == "line"
        return self._ran


WATCHED: Final = sys.modules[Watched.__module__].__file__
