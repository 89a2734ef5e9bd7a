"""Shares of the state hash: what a write takes out is what was put in, in whichever form it is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.records import key
from kernel.shares import BYTES, NOTHING, Shares

GONE = 0


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from(["say", "skip", "let go", "again"]))))
def test_rows_that_come_at_the_end_and_go_from_the_front_have_the_shares_of_a_dict(does: list[tuple[int, str]]) -> None:
    shares, known = Shares(), dict[bytes, int]()
    last = {1: 4, 2: 7}
    for n, (pid, what) in enumerate(does):
        mine = sorted(row for row in known if row[:8] == key(pid))
        if what in ("say", "skip"):
            last[pid] += 1 if what == "say" else 3  # as a table has it that lost rows
            row, share = key(pid, last[pid]), (n + 1) << 8 * (n % 15)
        elif mine:
            row, share = (mine[0], GONE) if what == "let go" else (mine[-1], (n + 1) << 64)
        else:
            continue
        assert shares.put("outbox", row, share) == known.pop(row, GONE)
        if share:
            known[row] = share
        for one in (key(pid, number) for number in range(last[pid] + 2)):
            assert shares.get("outbox", one) == known.get(one, GONE)


def test_a_message_that_nobody_acknowledges_takes_sixteen_bytes() -> None:
    shares = Shares()
    for number in range(1, 4_097):
        shares.put("outbox", key(1, number), number)
    (row,) = shares._rows.values()
    assert len(row.shares) == 4_096 * BYTES
    for number in range(1, 4_097):
        assert shares.put("outbox", key(1, number), GONE) == number
        assert row.shares[:BYTES] != NOTHING
    assert not shares._rows


def test_a_record_of_another_table_has_its_share_until_it_goes() -> None:
    shares = Shares()
    assert [shares.put("timer", key(3), share) for share in (5, 6, GONE, 7)] == [GONE, 5, 6, GONE]
    assert shares.get("timer", key(3)) == 7
    assert shares.keys("timer") == {key(3)}
    assert shares.keys("shared") == set()
