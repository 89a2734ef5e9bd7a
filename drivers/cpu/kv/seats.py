"""Seats: whose tokens are in which sequence of the KV cache, what may be reused, and what goes where room is wanted.

Pure: it decides and counts; Cells (the model's KV cache) and Images (the store beside it) carry it out.

Guarantees:
- A process has at most one seat. A seat's tokens are exactly those whose keys and values its sequence holds, from 0 on.
- Where sequences share cells (`capacity`), the cells in use and those that running processes may still come to need
  never exceed it: `place` pages out who rests, least recently used first, or says that there is no room now.
- A shared cell is never written: a sequence only ever grows at its end, with cells of its own.
- `shift`: what stands behind a page that is gone may keep its KV, moved up: cheaper, and no longer what a prompt
  without that page gives. Never for shared cells. Something new may stand in its place, a chunk at most, but not
  where each has a stream of its own.
- `exact`: what a process finds evaluated is its own work, or work that every process would have done in the same
  batches: `grain` tokens each, from position 0 on. Who else is there then makes no difference to its logits.
Not here: batches (llama/steps.py), files (images.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import count
from typing import Final, Protocol

import msgspec

SPLICES_MAX: Final = 4  # a prompt: what was recalled for the last turn, and a batch that was evicted, are two


class Image(msgspec.Struct, frozen=True):
    """The KV state of a process: `data` is what `Cells.read` gave when exactly `tokens` were evaluated."""

    tokens: list[int]
    common: int  # how many of them, from the front, are work of full grains
    data: object  # a writable buffer of bytes


class Cells(Protocol):
    """A KV cache with one sequence a seat."""

    def trim(self, seat: int, upto: int) -> bool:
        """Remove positions from `upto` on. False if it cannot remove a part; then all of them are gone."""
        ...

    def share(self, source: int, seat: int, upto: int) -> bool:
        """Give the empty `seat` the first `upto` positions of `source`. False: it stayed empty."""
        ...

    def splice(self, seat: int, start: int, end: int, tokens: Sequence[int]) -> bool:
        """Put `tokens` in place of the positions from `start` to `end`; what follows moves up or down.

        The move is carried out with the seat's next batch: until then its state must not be read. False: it is empty.
        """
        ...

    def read(self, seat: int) -> object:
        """The state of a sequence, as bytes."""
        ...

    def write(self, seat: int, data: object) -> bool:
        """Make the state of a sequence what was read. False: it is empty now."""
        ...


class Images(Protocol):
    """Where KV states go that have no seat."""

    keeps: bool  # False: nothing is ever kept, so nothing need be read

    def match(self, pid: int, tokens: Sequence[int]) -> int:
        """How many of `tokens`, from the front, the image of `pid` has; 0 without an image."""
        ...

    def load(self, pid: int) -> Image | None:
        """The image of `pid`, checked; None if there is none that can be trusted."""
        ...

    def save(self, pid: int, image: Image) -> None:
        """Keep it, in place of the last; may be lost."""
        ...

    def link(self, parent: int, child: int) -> None:
        """Give `child` the image of `parent`, if there is one."""
        ...


@dataclass(slots=True)
class Seat:
    """One sequence: of which process, with which tokens evaluated."""

    number: int
    pid: int = 0  # 0: nobody's
    tokens: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)  # the names of the cells that hold them, where cells are counted
    common: int = 0  # tokens from the front that are work of full grains
    saved: int = -1  # how many tokens its image has, if that is exactly what it began with
    limit: int = 0  # positions that its run may come to need; 0: nobody runs in it
    used: int = 0  # when somebody last ran in it
    moved: bool = False  # some of it was moved, which the next batch carries out
    filled: int = 0  # tokens evaluated for moves, that no run has accounted for yet


class Placed(msgspec.Struct, frozen=True):
    """Where a run is to go on: `kept` tokens are evaluated, `restored` of them from an image, `shared` from another."""

    seat: int
    kept: int
    restored: int = 0
    shared: int = 0
    filled: int = 0  # of `kept`, evaluated in being placed, between what was moved


class Seats:
    """The seats of one KV cache."""

    def __init__(
        self,
        number: int,
        cells: Cells,
        images: Images,
        *,
        grain: int,
        exact: bool,
        capacity: int = 0,
        partly: bool = True,
        whole: bool = False,
        shift: bool = False,
    ) -> None:
        """`capacity`: cells that the seats share; 0: each has its own. `partly`: False for a cache without trimming.

        `whole`: a state that was read, written and then cut back is of no use, though a sequence may be cut back.
        """
        self._shift = shift
        self._images_partly = partly and not whole
        self._copies_partly = self._images_partly or (partly and capacity > 0)  # shared cells are not read
        self.seats = [Seat(n) for n in range(number)]
        self._cells, self._images = cells, images
        self._grain, self._exact, self._capacity, self._partly = grain, exact, capacity, partly
        self._of: dict[int, Seat] = {}
        self._refs: Counter[int] = Counter()  # seats that hold each cell
        self._names, self._ticks = count(1), count(1)

    @property
    def cells_used(self) -> int:
        """Cells in use, shared ones once."""
        return len(self._refs) if self._capacity else sum(len(seat.tokens) for seat in self.seats)

    def place(self, pid: int, tokens: Sequence[int], limit: int) -> Placed | None:
        """A seat for `pid` with the longest usable prefix of `tokens`, less the last, whose logits are wanted.

        It may grow to `limit` positions until `leave`. None: there is no room before somebody leaves.
        """
        wanted = list(tokens[:-1])
        seat = self._of.get(pid)
        if seat is not None and seat.limit:
            return None  # its run of an earlier life, which was killed, has not ended yet
        if seat is not None and self._shift:
            self._move(seat, wanted)
        kept = 0 if seat is None else self._usable(seat, common(seat.tokens, wanted))
        restored = self._images.match(pid, wanted) if kept < len(wanted) else 0
        if not self._images_partly:
            image = self._images.load(pid) if restored else None
            restored = restored if image is not None and len(image.tokens) == restored else 0
        source, shared = self._source(seat, wanted) if not (self._exact and max(kept, restored)) else (None, 0)
        if shared <= max(kept, restored):
            source, shared = None, 0
        if restored <= max(kept, shared):
            restored = 0
        best = max(kept, restored, shared)
        target = seat or self._free(source)
        if target is None:
            return None
        if target is not seat and target.pid:
            self.save(target)  # and what it holds may yet be the source
            self._disown(target)
        stays = best if target is source else kept
        if not self._trim(target, stays) and stays == best:
            best = 0  # the cache cannot forget a part: all is to be evaluated again
            source, shared = None, 0
        if source is target:
            shared, source = best, None
        if not self._reserve(target, source, max(limit, len(tokens)), 0 if restored else best):
            return None
        if source is not None and shared > len(target.tokens):
            self._trim(target, 0)
            if self._cells.share(source.number, target.number, shared):
                self._hold(target, source.tokens[:shared], source.cells[:shared], min(source.common, shared))
            elif self._reserve(target, None, max(limit, len(tokens)), 0):
                shared = 0
            else:
                return None
        elif restored:
            restored = self._restore(target, pid, wanted, max(limit, len(tokens)))
        target.pid, target.limit, target.used = pid, max(limit, len(tokens)), next(self._ticks)
        self._of[pid] = target
        if restored and self._shift:
            self._move(target, wanted)
            self._trim(target, common(target.tokens, wanted))
        filled, target.filled = target.filled, 0
        return Placed(target.number, len(target.tokens), restored=restored, shared=shared, filled=filled)

    def evaluated(self, number: int, tokens: Sequence[int]) -> None:
        """The next positions of a seat now hold `tokens`, evaluated in one batch."""
        seat = self.seats[number]
        seat.moved = False
        if len(tokens) == self._grain and seat.common == len(seat.tokens):
            seat.common += self._grain
        seat.tokens += tokens
        assert len(seat.tokens) <= seat.limit, f"seat {number} has grown past what was reserved"
        if self._capacity:
            names = [next(self._names) for _ in tokens]
            seat.cells += names
            self._refs.update(names)

    def leave(self, number: int) -> None:
        """The run in a seat has ended; what is evaluated stays until the room is wanted."""
        self.seats[number].limit = 0

    def forget(self, number: int) -> None:
        """What a seat holds is not to be trusted, or not wanted."""
        seat = self.seats[number]
        self._trim(seat, 0)
        self._disown(seat)

    def drop(self, pid: int) -> None:
        """A process is no more: the seats that it has, its own and that of what it was asked apart, are empty."""
        for one in (pid, -pid):
            if one in self._of:
                self.forget(self._of[one].number)

    def save(self, seat: Seat) -> None:
        """Have an image of what a seat holds, unless there is one."""
        if seat.moved:
            self._trim(seat, 0)
        if self._images.keeps and seat.pid > 0 and seat.tokens and seat.saved != len(seat.tokens):
            data = self._cells.read(seat.number)
            self._images.save(seat.pid, Image(list(seat.tokens), seat.common, data))
            seat.saved = len(seat.tokens)

    def unsaved(self, least: int = 1) -> Seat | None:
        """A seat where nobody runs and that has at least `least` tokens which its image lacks."""
        for seat in self.seats:
            if (
                self._images.keeps
                and seat.pid > 0
                and not seat.limit
                and seat.tokens
                and len(seat.tokens) - max(seat.saved, 0) >= least
            ):
                return seat
        return None

    def fork(self, parent: int, child: int) -> int:
        """Give `child`, which has nothing, all that `parent` has evaluated; returns how many tokens it finds."""
        source = self._of.get(parent)
        if source is None or source.moved:
            self._images.link(parent, child)
            return 0
        target = next((seat for seat in self.seats if not seat.pid), None)
        if target is None or not self._reserve(target, source, len(source.tokens), len(source.tokens)):
            self.save(source)
            self._images.link(parent, child)
            return len(source.tokens)
        self._trim(target, 0)
        if not self._cells.share(source.number, target.number, len(source.tokens)):
            return 0
        self._hold(target, list(source.tokens), list(source.cells), source.common)
        target.pid, target.used = child, next(self._ticks)
        self._of[child] = target
        return len(target.tokens)

    # How it is done

    def _usable(self, seat: Seat, upto: int) -> int:
        """`upto`, or 0 where a seat cannot be cut back to it."""
        return upto if self._partly or upto == len(seat.tokens) else 0

    def _source(self, own: Seat | None, wanted: list[int]) -> tuple[Seat | None, int]:
        """The other seat with the longest prefix that may be shared."""
        best, most = None, 0
        for seat in self.seats:
            if seat is own or not seat.tokens or seat.moved:
                continue
            upto = common(seat.tokens, wanted)
            if self._exact:
                upto = min(upto, seat.common) // self._grain * self._grain
            if not self._copies_partly and upto < len(seat.tokens):
                continue
            if upto > most:
                best, most = seat, upto
        return best, most

    def _free(self, source: Seat | None) -> Seat | None:
        """A seat for a process that has none: an empty one, or that of who rested longest, `source` last."""
        resting = [seat for seat in self.seats if not seat.limit]
        return min(resting, key=lambda seat: (seat is source, bool(seat.tokens), seat.used), default=None)

    def _reserve(self, target: Seat, source: Seat | None, limit: int, found: int) -> bool:
        """Make room for `target` to grow to `limit`, of which `found` are cells that are there already."""
        if not self._capacity:
            return True
        while self._left() < limit - found:  # ends: each pass empties a seat
            resting = [one for one in self.seats if one.tokens and not one.limit and one not in (target, source)]
            if not resting:
                return False
            victim = min(resting, key=lambda seat: seat.used)
            self.save(victim)
            self.forget(victim.number)
        return True

    def _left(self) -> int:
        """Cells that nobody has, nor may come to need."""
        return self._capacity - len(self._refs) - sum(one.limit - len(one.tokens) for one in self.seats if one.limit)

    def _restore(self, target: Seat, pid: int, wanted: list[int], limit: int) -> int:
        """Bring the image of `pid` into `target`, cut back to what is wanted; how many tokens that gave."""
        image = self._images.load(pid)
        if image is None:
            return 0
        self._trim(target, 0)
        if self._capacity and not self._reserve(target, None, max(limit, len(image.tokens)), 0):
            return 0  # the image is longer than what is left
        if not self._cells.write(target.number, image.data):
            return 0
        names = [next(self._names) for _ in image.tokens] if self._capacity else []
        self._hold(target, list(image.tokens), names, image.common)
        target.saved = len(image.tokens)
        if not self._shift:
            self._trim(target, common(image.tokens, wanted))
        return min(len(target.tokens), common(image.tokens, wanted))

    def _move(self, seat: Seat, wanted: list[int]) -> None:
        """Have a seat begin like `wanted` for longer, by splices."""
        for _ in range(SPLICES_MAX):
            start = common(seat.tokens, wanted)
            if not self._partly or not 0 < start < len(wanted) or start == len(seat.tokens):
                break
            old, new = seat.tokens[start:], wanted[start : start + self._grain + len(seat.tokens)]
            block = SequenceMatcher(None, old, new, autojunk=False).find_longest_match()
            if block.size < self._grain or block.b >= (1 if self._exact else self._grain):
                break
            if any(self._refs[cell] > 1 for cell in seat.cells[start:]):
                break
            end, fill = start + block.a, wanted[start : start + block.b]
            self._trim(seat, end + block.size)
            if self._capacity and self._left() < len(fill):
                break
            if not self._cells.splice(seat.number, start, end, fill):
                self._trim(seat, 0)
                break
            for cell in seat.cells[start:end]:
                del self._refs[cell]
            names = [next(self._names) for _ in fill] if self._capacity else []
            self._refs.update(names)
            seat.tokens[start:end] = fill
            seat.cells[start:end] = names
            seat.common, seat.saved, seat.moved = min(seat.common, start // self._grain * self._grain), -1, True
            seat.filled += len(fill)

    def _hold(self, seat: Seat, tokens: list[int], cells: list[int], same: int) -> None:
        """An empty seat now holds `tokens`."""
        seat.tokens, seat.cells, seat.common, seat.saved = tokens, cells, same, -1
        self._refs.update(cells)

    def _trim(self, seat: Seat, upto: int) -> bool:
        """Cut a seat back. False if the cache could not, and the seat is empty."""
        if upto >= len(seat.tokens):
            return True
        done = self._cells.trim(seat.number, upto)
        if not done:
            upto = 0
        seat.moved &= upto > 0
        for cell in seat.cells[upto:]:
            self._refs[cell] -= 1
            if not self._refs[cell]:
                del self._refs[cell]
        del seat.tokens[upto:], seat.cells[upto:]
        seat.common = min(seat.common, upto // self._grain * self._grain)
        seat.saved = -1
        return done

    def _disown(self, seat: Seat) -> None:
        self._of.pop(seat.pid, None)
        seat.pid, seat.saved = 0, -1


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common prefix of two lists."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # ends: the range halves; [:low] is equal, [:high] is not
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
