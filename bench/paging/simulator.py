"""A window that holds no text: a reference string goes through a policy, and what it costs comes out.

The rules are the pager's (kernel/memory/pager.py): residency is mandatory, eviction is a batch down to the low-water
mark, the turn's own pages go last, recalled pages stand apart and are dropped after the turn. A page larger than the
queue is resident for its turn only; one larger than the budget is a fault each time, for every policy alike.

The prompt is the queue in order of admission, and its KV cache survives up to the first page that left: what stands
behind it is prefilled again, once a turn. Costs are in prefilled tokens: a fault costs its tokens once, a resident
token KEEP a generated token.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec

from bench.paging.trace import GENERATED, Part, Ref, Turn
from kernel.memory.pager import batch
from kernel.memory.policy import Policy
from kernel.memory.split import Split

# Qwen2.5 0.5B, 2 cores (numbers.md): a resident token's keys and values are 12 kB beside 491 MB of weights read a
# generated token, which takes as long as 4.2 prefilled ones: 12e3 / 491e6 * 4.2.
KEEP: Final = 1e-4
Pager = Literal["search", "perfect", "live"]  # live: machine.py
Path = Literal["area", "queue", "drawn"]


class Options(msgspec.Struct, frozen=True):
    """The axes beside policy and budget. `recall` None: the share is the split's, found while running."""

    low: float = 0.5
    recall: float | None = 0.25
    pager: Pager = "search"
    path: Path = "area"
    local: bool = False  # each process has an equal part of the budget and a policy of its own
    label: int = 0  # tokens that a page has more in the recall area than in the queue


class Counts(msgspec.Struct):
    """What a run adds up to; sums of parts are sums of these."""

    faults: int = 0
    references: int = 0
    fault_tokens: int = 0
    reference_tokens: int = 0
    questions: int = 0
    complete: int = 0
    arrived: int = 0  # tokens admitted to the queue
    prefilled: int = 0  # those, and what was prefilled again behind what left
    recalled: int = 0  # tokens brought into the recall area
    evictions: int = 0
    kept: float = 0.0  # KEEP * resident tokens * generated tokens

    @property
    def cost(self) -> float:
        """In prefilled tokens: faults, what recall brought in, and what stayed."""
        return self.fault_tokens + self.recalled + self.kept

    def add(self, other: Counts) -> None:
        """Sum."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Stretches:
    """References and faults of consecutive stretches of turns, which are the same for all policies: at most MOST."""

    MOST: Final = 32

    def __init__(self) -> None:
        self._ends: list[tuple[int, int]] = []  # references and faults up to the end of each
        self._length, self._turns = 1, 0  # of a stretch; since the last end
        self._last = (0, 0)

    def turn(self, counts: Counts) -> None:
        """A turn is over."""
        self._last = (counts.references, counts.faults)
        self._turns += 1
        if self._turns == self._length:
            self._turns = 0
            self._ends.append(self._last)
            if len(self._ends) == self.MOST:  # two become one
                self._ends, self._length = self._ends[1::2], 2 * self._length

    def found(self) -> tuple[tuple[int, int], ...]:
        """(references, faults) of each stretch with a reference."""
        ends = [(0, 0), *self._ends, *([self._last] if self._turns else [])]
        pairs = itertools.pairwise(ends)
        return tuple((end[0] - start[0], end[1] - start[1]) for start, end in pairs if end[0] > start[0])


def run(
    part: Part,
    make: Callable[[int], Policy],
    budget: int,
    options: Options,
    stretches: Stretches | None = None,
) -> Counts:
    """The counts of one part. `make` gets the queue's capacity in tokens."""
    counts = Counts()
    count = part.pids if options.local else 1
    memories = [Memory(make, budget // count, options, part.pins, counts, prefix=part.prefix) for _ in range(count)]
    rank = part.rank if options.pager == "search" else None
    for index, turn in enumerate(part.turns()):
        memory = memories[turn.pid % count]
        memory.turn(turn, rank(index, turn) if rank and turn.query else ())
        if stretches is not None:
            stretches.turn(counts)
        if count > 1:  # the others' pages stay resident meanwhile
            counts.kept += KEEP * GENERATED * sum(other.used for other in memories if other is not memory)
    return counts


class Memory:
    """One queue, its policy and its recall area. `used` + `recalled` never exceeds `budget`."""

    def __init__(
        self,
        make: Callable[[int], Policy],
        budget: int,
        options: Options,
        pins: frozenset[int],
        counts: Counts,
        *,
        prefix: bool = False,
    ) -> None:
        self.budget = budget
        self.prefix = prefix
        self.options = options
        self.pins = pins
        self.counts = counts
        self.split = Split(budget) if options.recall is None and options.pager == "search" else None
        self.full = self.split is None  # what was never evicted need not be recalled: all is queue until it is full
        self.room = int(budget * (options.recall or 0.0))  # of the recall area
        self.queue = budget - self.room
        self.policy = make(self.queue)
        self.resident: dict[int, int] = {}  # page -> place in the order of admission
        self.used = 0
        self.recall: dict[int, int] = {}  # page -> tokens
        self.recalled = 0
        self.prompt = Prompt()
        self.born: dict[int, int] = {}  # page -> tokens admitted before it, for its age
        self.arrived = 0
        self.sizes: dict[int, int] = {}  # pages that arrived: what a search can find

    def turn(self, turn: Turn, ranking: Sequence[int] = ()) -> tuple[int, ...]:
        """Arrivals, recall, references; then the model generates, and recall is dropped. What was recalled."""
        counts, own = self.counts, set(self.pins)
        for ref in turn.new:
            self.sizes[ref.page] = ref.tokens
            if ref.page not in self.resident:
                self._bring(ref, own)
            own.add(ref.page)
        if ranking:
            self._recall(ranking, own)
        if turn.query or turn.refs:
            missing = 0
            lost = self._lost(turn.refs) if self.prefix else ()
            if self.prefix:
                own.update(ref.page for ref in turn.refs)
            for ref in turn.refs:
                there = ref.page in self.resident
                missing += self._reference(ref, own, of_use=ref.page not in lost)
                if not there:  # it came in this turn
                    own.add(ref.page)
            counts.questions += 1
            counts.complete += not missing
        counts.prefilled += self.prompt.settle()
        counts.kept += KEEP * GENERATED * (self.used + self.recalled)
        if self.split is not None and ranking and turn.refs:
            self._learn(ranking, turn)
        recalled = tuple(self.recall)
        for ref in turn.said:
            self.sizes[ref.page] = ref.tokens
            self._bring(ref, own)
            own.add(ref.page)
        wanted = {ref.page: ref for ref in turn.refs} if self.options.path == "drawn" else {}
        drawn = [wanted[page] for page in self.recall if page in wanted]
        self.recall.clear()
        self.recalled = 0
        for ref in drawn:  # what the turn drew on joins the queue
            if ref.page not in self.resident:
                self._bring(ref, own)
        return recalled

    def _lost(self, refs: Sequence[Ref]) -> set[int]:
        """Pages of a prompt that stand behind one that is missing: though they are there, they must be made again."""
        missing = [ref.page not in self.resident for ref in reversed(refs)]
        return {ref.page for ref in tuple(reversed(refs))[missing.index(True) :]} if any(missing) else set()

    def _reference(self, ref: Ref, own: set[int], *, of_use: bool = True) -> bool:
        """True if it faults."""
        counts = self.counts
        counts.references += 1
        counts.reference_tokens += ref.tokens
        if ref.page in self.resident:
            self.policy.hit(ref.page)
            if not of_use:
                counts.faults += 1
                counts.fault_tokens += ref.tokens
            return not of_use
        if ref.page in self.recall:
            self.policy.miss(ref.page)
            return False
        if self.options.pager == "perfect":  # after a search nobody is told of what it did not find
            self.policy.miss(ref.page)
        counts.faults += 1
        counts.fault_tokens += ref.tokens
        if self.options.pager == "perfect":
            self._bring(ref, own, recall=bool(self.room) and self.options.path != "queue")
        return True

    def _bring(self, ref: Ref, own: set[int], *, recall: bool = False) -> None:
        """Make a page resident: in the queue, or for this turn."""
        if ref.tokens > self.budget:
            return
        if recall or ref.tokens > self.queue:
            while self.recall and self.recalled + ref.tokens > max(self.room, ref.tokens):
                self.recalled -= self.recall.pop(next(iter(self.recall)))
            excess = self.used + self.recalled + ref.tokens - self.budget
            if excess > 0 and not self._evict(excess, excess, own):
                return
            self.recall[ref.page] = ref.tokens
            self.recalled += ref.tokens
            if recall:
                self.counts.recalled += ref.tokens
            return
        if not self.full and self.used + ref.tokens > self.queue:
            self.full = True
            self._divide()
        goal = batch(self.used, ref.tokens, self.queue, self.options.low)
        if goal and not self._evict(goal, self.used + ref.tokens - self.queue, own):
            return
        over = self.used + self.recalled + ref.tokens - self.budget
        while over > 0 and self.recall:  # recall gives way to what must be there
            tokens = self.recall.pop(next(iter(self.recall)))
            self.recalled -= tokens
            over -= tokens
        self.policy.admit(ref.page, ref.tokens, ref.kind)
        self.born[ref.page] = self.arrived
        self.arrived += ref.tokens
        self.resident[ref.page] = self.prompt.append(ref.tokens)
        self.used += ref.tokens
        self.counts.arrived += ref.tokens

    def _evict(self, goal: int, excess: int, own: set[int]) -> bool:
        """As the pager does: the turn's own pages only if all others are gone. False if the pins leave no room."""
        freed = self._gone(self.policy.evict(goal, own))
        if freed < excess:
            freed += self._gone(self.policy.evict(excess - freed, self.pins))
        return freed >= excess

    def _gone(self, victims: list[int]) -> int:
        freed = 0
        for page in victims:
            freed += self.prompt.remove(self.resident.pop(page))
        self.used -= freed
        self.counts.evictions += len(victims)
        return freed

    def _recall(self, ranking: Iterable[int], own: set[int]) -> None:
        """Bring in what a search found, best first, as far as the room goes."""
        sizes, room = self.sizes, min(self.room, self.budget - self.used)
        if self.options.path == "queue":
            for page in ranking:
                if page not in self.resident and sizes[page] <= room:
                    room -= sizes[page]
                    self.counts.recalled += sizes[page]
                    self._bring(Ref(page, sizes[page]), own)
                    own.add(page)
            return
        for page in ranking:
            if page not in self.resident:
                tokens = sizes[page] + self.options.label
                if self.recalled + tokens <= room:
                    self.recall[page] = tokens
                    self.recalled += tokens
                elif room - self.recalled < 8:  # hardly a page is smaller
                    break
        self.counts.recalled += self.recalled

    def _learn(self, ranking: Sequence[int], turn: Turn) -> None:
        """Tell the split at which age and place each wanted page was that came into view, and follow it."""
        assert self.split is not None
        seen = [ref for ref in turn.refs if ref.page in self.resident or ref.page in self.recall]
        wanted = {ref.page for ref in seen}
        ahead: list[tuple[float, int]] = []
        found: dict[int, int] = {}  # page -> how many were ranked before it
        for page in ranking:
            if page in wanted:
                found[page] = len(ahead)
            ahead.append((self._age(page), self.sizes[page]))
        for ref in seen:
            before = ahead[: found[ref.page]] if ref.page in found else None
            self.split.observe(self._age(ref.page), ref.tokens, before, self.options.low)
        if self.split.settle() and self.full:
            self._divide()

    def _age(self, page: int) -> float:
        return self.arrived - self.born[page] if page in self.born else float("inf")

    def _divide(self) -> None:
        """Give recall the share that the split has found."""
        assert self.split is not None
        self.room = int(self.budget * self.split.share)
        self.queue = self.policy.capacity = self.budget - self.room
        if self.used > self.queue:
            self._evict(self.used - self.queue, 0, set(self.pins))


class Prompt:
    """The queue in prompt order, as far as its KV cache is concerned: sums behind a place in O(BLOCK)."""

    BLOCK: Final = 256

    def __init__(self) -> None:
        self.tokens: list[int] = []  # by place; 0: has left
        self.blocks: list[int] = []
        self.fresh = 0  # tokens that came in this turn, whether they stayed or not
        self.here = 0  # those that stayed
        self.mark = 0  # places from here on are of this turn
        self.cut = -1  # the first place that has changed in this turn, -1: none

    def append(self, tokens: int) -> int:
        """At the end; its place."""
        place = len(self.tokens)
        if place % self.BLOCK == 0:
            self.blocks.append(0)
        self.tokens.append(tokens)
        self.blocks[-1] += tokens
        self.fresh += tokens
        self.here += tokens
        return place

    def remove(self, place: int) -> int:
        """It leaves; its tokens."""
        tokens = self.tokens[place]
        self.tokens[place] = 0
        self.blocks[place // self.BLOCK] -= tokens
        if place >= self.mark:
            self.here -= tokens
        elif self.cut < 0 or place < self.cut:
            self.cut = place
        return tokens

    def settle(self) -> int:
        """The turn's prefill: what is new, and what stands behind the first change."""
        total = self.fresh
        if self.cut >= 0:
            block = self.cut // self.BLOCK
            behind = sum(self.blocks[block + 1 :]) + sum(self.tokens[self.cut : (block + 1) * self.BLOCK])
            total += behind - self.here  # what is new stands behind it, too
        self.fresh, self.here, self.mark, self.cut = 0, 0, len(self.tokens), -1
        return total
