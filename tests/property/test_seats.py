"""Seats under random processes: a million operations on a KV cache that knows of each cell who holds it.

The fake cache is strict where llama.cpp is silent: a cell is written once, by one sequence; no more exist than there is
room for; a state that is read back is exactly what was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from drivers.cpu.kv.seats import Image, Placed, Seats, common

OPERATIONS = 1_000_000
SHAPES = [(exact, partly, False) for exact in (True, False) for partly in (True, False)]
SHAPES += [(exact, True, True) for exact in (True, False)]  # the last: KV is moved where pages are dropped
GRAIN = 4
WINDOW = 40
SEATS = 5


class FakeCells:
    """Sequences of cells, each cell with the token and the position that were written to it."""

    def __init__(self, seats: int, capacity: int, partly: bool) -> None:
        self.rows: list[list[int]] = [[] for _ in range(seats)]  # the names of each sequence's cells
        self.token: dict[int, int] = {}
        self.holders: dict[int, int] = {}
        self.capacity, self.partly, self.names = capacity, partly, 0
        self.spliced, self.unsettled = 0, set[int]()  # seats with a move that no batch has carried out

    def grow(self, seat: int, tokens: Sequence[int]) -> None:
        self.unsettled.discard(seat)
        for token in tokens:
            self.names += 1
            self.token[self.names] = token
            self.holders[self.names] = 1
            self.rows[seat].append(self.names)
        assert not self.capacity or len(self.holders) <= self.capacity, "out of cells"
        assert self.capacity or len(self.rows[seat]) <= WINDOW, "out of the window"

    def content(self, seat: int) -> list[int]:
        return [self.token[name] for name in self.rows[seat]]

    def trim(self, seat: int, upto: int) -> bool:
        done = self.partly or upto in (0, len(self.rows[seat]))
        upto = upto if done else 0
        if not upto:
            self.unsettled.discard(seat)
        for name in self.rows[seat][upto:]:
            self.holders[name] -= 1
            if not self.holders[name]:
                del self.holders[name], self.token[name]
        del self.rows[seat][upto:]
        return done

    def share(self, source: int, seat: int, upto: int) -> bool:
        assert not self.rows[seat]
        assert upto <= len(self.rows[source])
        assert self.partly or upto == len(self.rows[source])
        if self.capacity:
            self.rows[seat] = self.rows[source][:upto]
            for name in self.rows[seat]:
                self.holders[name] += 1
        else:
            assert source not in self.unsettled
            self.grow(seat, self.content(source)[:upto])
        return True

    def splice(self, seat: int, start: int, end: int, tokens: Sequence[int]) -> bool:
        assert len(tokens) <= (GRAIN if self.capacity else 0)
        row = self.rows[seat]
        self.spliced += 1
        assert all(self.holders[name] == 1 for name in row[start:]), "a shared cell is written"
        for name in row[start:end]:
            del self.holders[name], self.token[name]
        behind = row[end:]
        del row[start:]
        self.grow(seat, tokens)
        row += behind
        self.unsettled.add(seat)
        return True

    def read(self, seat: int) -> object:
        assert seat not in self.unsettled
        return tuple(self.content(seat))

    def write(self, seat: int, data: object) -> bool:
        assert isinstance(data, tuple)
        assert not self.rows[seat]
        self.grow(seat, data)
        return True


class FakeImages:
    """Images, of which some get lost."""

    keeps = True

    def __init__(self, rng: Random) -> None:
        self.rng, self.kept = rng, dict[int, Image]()

    def match(self, pid: int, tokens: Sequence[int]) -> int:
        return common(self.kept[pid].tokens, list(tokens)) if pid in self.kept else 0

    def load(self, pid: int) -> Image | None:
        if self.rng.random() < 0.02:
            self.kept.pop(pid, None)
        return self.kept.get(pid)

    def save(self, pid: int, image: Image) -> None:
        assert tuple(image.tokens) == image.data
        self.kept[pid] = image

    def link(self, parent: int, child: int) -> None:
        if parent in self.kept:
            self.kept[child] = self.kept[parent]


class World:
    """Processes that grow, are cut and forked; what each has evaluated is followed through seats and images."""

    def __init__(self, seed: int, exact: bool, partly: bool, shift: bool) -> None:
        self.rng = Random(seed)
        capacity = 0 if exact else 3 * WINDOW
        self.cells, self.images = FakeCells(SEATS, capacity, partly), FakeImages(self.rng)
        self.seats = Seats(
            SEATS, self.cells, self.images, grain=GRAIN, exact=exact, capacity=capacity, partly=partly, shift=shift
        )
        self.exact, self.capacity = exact, capacity
        self.text: dict[int, list[int]] = {}
        self.running: dict[int, tuple[Placed, list[int], int]] = {}  # by process: where, what is to be read, its limit
        self.next_pid = 1
        self.system = [[self.rng.randrange(3) for _ in range(14)] for _ in range(2)]
        self.waited = self.reused = self.filled = 0

    def operate(self) -> None:
        rng = self.rng
        choice = rng.random()
        if choice < 0.6 and self.running:
            self.evaluate(rng.choice(list(self.running)))
        elif choice < 0.68 and self.running:
            pid = rng.choice(list(self.running))
            self.seats.leave(self.running.pop(pid)[0].seat)
        elif choice < 0.93 and len(self.running) < SEATS:
            self.start(rng.randrange(1, 12))
        elif choice < 0.96:
            self.fork()
        elif choice < 0.98 and (resting := self.seats.unsaved(rng.randrange(1, 9))):
            self.seats.save(resting)
        elif resting_seats := [seat.number for seat in self.seats.seats if not seat.limit]:
            self.seats.forget(rng.choice(resting_seats))

    def start(self, pid: int) -> None:
        if pid in self.running:
            return
        rng = self.rng
        text = self.text.get(pid) or list(rng.choice(self.system))
        if rng.random() < 0.3 and len(text) > 1:  # an eviction: what stood in the middle is gone
            at = rng.randrange(1, len(text))
            del text[at : at + rng.randrange(1, 12)]
        text = [*text, *(rng.randrange(3) for _ in range(rng.randrange(1, 6)))][: WINDOW - 6]
        limit = min(WINDOW, len(text) + rng.randrange(1, 9))
        placed = self.seats.place(pid, text, limit)
        if placed is None:
            assert self.running, "there is no room, and nobody runs"
            self.waited += 1
            return
        self.text[pid] = text
        assert 0 <= placed.kept < len(text)
        assert placed.restored + placed.shared <= placed.kept
        assert not (self.exact and placed.shared % GRAIN)
        self.reused += placed.kept
        self.filled += placed.filled
        assert self.cells.content(placed.seat) == text[: placed.kept]
        self.running[pid] = (placed, text[placed.kept :], limit)

    def evaluate(self, pid: int) -> None:
        placed, pending, limit = self.running[pid]
        done = len(self.cells.rows[placed.seat])
        count = GRAIN - done % GRAIN if self.exact else self.rng.randrange(1, 7)
        if not pending and done < limit:
            pending.append(self.rng.randrange(3))  # it emits
            self.text[pid] = [*self.text[pid], pending[0]]
        batch, rest = pending[:count], pending[count:]
        if batch:
            self.cells.grow(placed.seat, batch)
            self.seats.evaluated(placed.seat, batch)
        self.running[pid] = (placed, rest, limit)

    def fork(self) -> None:
        parents = [pid for pid in self.text if pid not in self.running]
        children = [pid for pid in range(1, 12) if pid not in self.text]
        if parents and children:
            parent, child = self.rng.choice(parents), self.rng.choice(children)
            self.images.kept.pop(child, None)
            self.seats.fork(parent, child)
            self.text[child] = list(self.text[parent])
        elif self.text and self.rng.random() < 0.5:  # some process ends, and its number is used again
            ended = self.rng.choice(list(self.text))
            if ended not in self.running and all(seat.pid != ended for seat in self.seats.seats):
                del self.text[ended]
                self.images.kept.pop(ended, None)

    def check(self) -> None:
        """What the seats believe is what the cache holds, cell by cell."""
        seats, cells = self.seats, self.cells
        assert seats.cells_used == len(cells.holders)
        owners = [seat.pid for seat in seats.seats if seat.pid]
        assert len(owners) == len(set(owners))
        held = [name for row in cells.rows for name in row]
        assert len(held) == sum(cells.holders.values())  # no cell leaked
        assert set(held) == set(cells.holders)
        for seat in seats.seats:
            assert cells.content(seat.number) == seat.tokens
            assert len(seat.cells) == (len(seat.tokens) if self.capacity else 0)
        for pid, (placed, _, limit) in self.running.items():
            assert (seats.seats[placed.seat].pid, seats.seats[placed.seat].limit) == (pid, limit)
        for one in seats.seats:  # shared in the books is shared in the cache
            for other in seats.seats[: one.number]:
                same = set(cells.rows[one.number]) & set(cells.rows[other.number])
                assert len(set(one.cells) & set(other.cells)) == len(same)


@pytest.mark.parametrize(("exact", "partly", "shift"), SHAPES)
def test_no_cell_is_leaked_owned_twice_or_written_while_shared(exact: bool, partly: bool, shift: bool) -> None:
    each = OPERATIONS // len(SHAPES)
    for seed in range(10):
        world = World(seed, exact, partly, shift)
        for n in range(each // 10):
            world.operate()
            if n % 16 == 0:
                world.check()
        assert world.reused
        assert world.waited or exact
        assert bool(world.cells.spliced) == shift


def test_a_shared_prefix_costs_its_cells_once() -> None:
    images = FakeImages(Random(0))
    cells = FakeCells(9, 4 * WINDOW, True)
    seats = Seats(9, cells, images, grain=GRAIN, exact=False, capacity=4 * WINDOW)
    text = [n % 5 for n in range(30)]
    placed = seats.place(1, text, 31)
    assert placed == Placed(placed.seat if placed else -1, 0)
    cells.grow(placed.seat, text)
    seats.evaluated(placed.seat, text)
    seats.leave(placed.seat)
    for child in range(2, 10):
        assert seats.fork(1, child) == 30
    assert seats.cells_used == len(cells.holders) == 30
    for child in range(2, 10):
        found = seats.place(child, [*text, child], 32)
        assert found is not None
        assert (found.kept, found.restored, found.shared) == (30, 0, 0)
        cells.grow(found.seat, [child])
        seats.evaluated(found.seat, [child])
    assert seats.cells_used == len(cells.holders) == 38


def test_the_longest_common_prefix_is_found_at_any_length() -> None:
    rng = Random(3)
    for _ in range(2_000):
        one = [rng.randrange(3) for _ in range(rng.randrange(30))]
        other = [*one[: rng.randrange(31)], *(rng.randrange(3) for _ in range(rng.randrange(10)))]
        plain = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        assert common(one, other) == plain
