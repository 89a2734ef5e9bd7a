"""The KV cache as seats see it, over a library that is strict about positions, streams and states."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from drivers.cpu.llama.buffers import Buffers  # noqa: E402  (after importorskip, as below)
from drivers.cpu.llama.cells import KvCells, Part  # noqa: E402
from kernel.errors import DeviceError  # noqa: E402
from tests.drivers.library import Library  # noqa: E402

SEATS = 4


def rig(*, exact: bool, partly: bool = True) -> tuple[Library, KvCells]:
    library = Library(SEATS if exact else SEATS + 1, streams=exact, partly=partly)
    return library, KvCells(library, Buffers(), exact=exact, aside=SEATS)


@pytest.mark.parametrize("exact", [True, False])
def test_every_seat_holds_what_was_done_to_it_and_nothing_that_was_done_to_others(exact: bool) -> None:
    rng = Random(5)
    library, cells = rig(exact=exact)
    plain: list[list[int]] = [[] for _ in range(SEATS)]
    moved = set[int]()
    done = dict.fromkeys(["grow", "trim", "share", "splice", "write"], 0)
    for _ in range(6_000):
        seat, other = rng.sample(range(SEATS), 2)
        tokens = plain[seat]
        what = rng.choice(list(done))
        if what == "grow":
            new = [rng.randrange(60) for _ in range(rng.randrange(1, 6))]
            assert library.decode([Part(seat, len(tokens), new)]) == 0
            tokens += new
            moved.clear()
        elif what == "trim":
            upto = rng.choice([0, rng.randrange(len(tokens) + 1)])
            assert cells.trim(seat, upto)
            del tokens[upto:]
        elif what == "share" and not plain[other] and tokens and seat not in moved:
            upto = rng.randrange(1, len(tokens) + 1)
            assert cells.share(seat, other, upto)
            plain[other] = tokens[:upto]
        elif what == "splice" and len(tokens) > 3:
            start = rng.randrange(1, len(tokens) - 1)
            end = rng.randrange(start + 1, len(tokens))
            if library.shared(seat, start):
                continue
            fill = [] if exact else [rng.randrange(60) for _ in range(rng.randrange(4))]
            assert cells.splice(seat, start, end, fill)
            tokens[start:end] = fill
            moved.add(seat)
        elif what == "write" and not plain[other] and seat not in moved:
            assert cells.write(other, cells.read(seat))
            plain[other] = list(tokens)
        else:
            continue
        done[what] += 1
        assert [library.content(n) for n in range(SEATS)] == plain
        assert exact or not library.rows[SEATS], "what waits for a splice is nobody's afterwards"
    assert min(done.values()) > 80, done


def test_where_a_part_cannot_be_removed_all_of_it_goes_and_is_said_to_be_gone() -> None:
    library, cells = rig(exact=True, partly=False)
    for seat in (0, 1):
        library.decode([Part(seat, 0, [1, 2, 3])])
    assert cells.trim(0, 3)
    assert not cells.trim(0, 2)
    assert (library.content(0), library.content(1)) == ([], [1, 2, 3])
    assert not cells.share(1, 2, 2)  # the copy is whole, and cannot be cut
    assert (library.content(1), library.content(2)) == ([1, 2, 3], [])


def test_a_splice_that_cannot_be_evaluated_leaves_an_empty_seat_and_who_shares_its_cells_as_it_was() -> None:
    library, cells = rig(exact=False)
    library.decode([Part(0, 0, list(range(9)))])
    assert cells.share(0, 1, 6)
    library.codes = [1]  # no cells
    assert not cells.splice(0, 2, 4, [50, 51, 52])
    assert (library.content(0), library.content(1), library.rows[SEATS]) == ([], list(range(6)), {})


def test_a_state_that_cannot_be_read_is_the_devices_failure() -> None:
    library, cells = rig(exact=True)
    library.decode([Part(0, 0, [1, 2, 3])])
    library.unreadable.add(0)
    with pytest.raises(DeviceError, match="0 of 12 bytes"):
        cells.read(0)

    class Full(Buffers):
        def take(self, size: int) -> object:
            raise MemoryError

    with pytest.raises(DeviceError, match="no memory for 12 bytes"):
        KvCells(library, Full(), exact=True, aside=SEATS).read(0)


def test_a_state_that_cannot_be_written_leaves_nothing() -> None:
    library, cells = rig(exact=True)
    assert not cells.write(0, np.array([5, 6, -1], "<i4").tobytes())
    assert library.content(0) == []


@pytest.mark.parametrize("exact", [True, False])
def test_where_layers_slide_nothing_is_cut_back_to_what_would_see_what_is_gone(exact: bool) -> None:
    library = Library(SEATS if exact else SEATS + 1, streams=exact)
    cells = KvCells(library, Buffers(), exact=exact, aside=SEATS, sliding=4)
    for upto, whole in ((9, True), (8, True), (7, False), (1, False), (0, True)):
        library.rows[0].clear()
        assert library.decode([Part(0, 0, list(range(10)))]) == 0
        for gone in range(5):
            del library.rows[0][gone]  # as the library does by itself
        assert cells.trim(0, upto) is whole
        assert sorted(library.rows[0]) == (list(range(5, upto)) if whole else [])
    for upto in (9, 3):
        library.rows[0].clear()
        library.rows[1].clear()
        assert library.decode([Part(0, 0, list(range(10)))]) == 0
        if not exact:
            for gone in range(5):
                del library.rows[0][gone]
            assert cells.share(0, 1, upto) is (upto == 9)
            assert bool(library.rows[1]) is (upto == 9)
