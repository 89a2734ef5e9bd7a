"""The interrupt controller: what may be raised from outside, in which order it comes, when it is pushed back."""

from kernel.interrupts import Line, Pending, take


def test_lines_are_delivered_by_priority_and_one_user_message_begins_a_turn() -> None:
    pending = [
        Pending(Line.TIMER, 1, 0),
        Pending(Line.USER, 2, 0),
        Pending(Line.USER, 3, 0),
        Pending(Line.MEMORY, 4, 0),
    ]
    assert [one.n for one in take(pending, (), fresh_turn=True)] == [4, 2, 1]
    assert [one.n for one in pending] == [3]
    assert [one.n for one in take(pending, (), fresh_turn=False)] == [3]
