"""Tables as lines: aligned whatever the text, cut where a terminal ends, and no text moves the cursor."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.machine.views import MemoryView, ProcessView
from kernel.process import Accounts, State
from kernel.text import UNSEEN
from llmos.tables import Styled, aligned, ps, vmstat


def test_numbers_stand_to_the_right_and_names_to_the_left() -> None:
    assert aligned(["PID", "NAME"], [["1", "main"], ["12", "x"]], left=("NAME",), width=80) == [
        "PID  NAME",
        "  1  main",
        " 12  x",
    ]


def test_wide_characters_take_two_columns() -> None:
    first, second = aligned(["", ""], [["日本", "x"], ["abcd", "x"]], left=("",), width=80)
    assert (first, second) == ("日本  x", "abcd  x")


def test_the_last_column_is_cut_where_the_terminal_ends_and_no_other() -> None:
    told = aligned(["A", "B"], [["long name", "as long as it is"]], left=("A", "B"), width=24)
    assert told[1] == "long name  as long as i…"


def test_colours_take_no_room() -> None:
    plain = aligned(["A", "B"], [[Styled("x", "32"), "y"]], left=("A",), width=80)
    styled = aligned(["A", "B"], [[Styled("x", "32"), "y"]], left=("A",), colour=True, width=80)
    assert [line.replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "") for line in styled] == plain


def test_columns_that_can_be_spared_go_before_any_other_is_cut() -> None:
    names, row = ["A", "B", "C", "D"], ["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc", "the end of it"]
    told = aligned(names, [row], left=names, spare=("C", "B"), width=40)
    assert told[0].split() == ["A", "B", "D"]
    told = aligned(names, [row], left=names, spare=("C", "B"), width=28)
    assert told[0].split() == ["A", "D"]
    assert aligned(names, [row], left=names, spare=("C", "B"), width=60)[0].split() == names


def test_what_is_too_wide_even_then_is_cut_and_the_last_column_keeps_its_room() -> None:
    told = aligned(["NAME", "STATUS"], [["n" * 60, "s" * 200]], left=("NAME", "STATUS"), width=40)
    assert [len(line) for line in told] == [len(told[0]), 40]
    assert "…" in told[1].split()[0]
    assert told[1].endswith("s…")


def test_a_column_that_wraps_loses_nothing() -> None:
    text = "as many words as it takes to say what this policy does"
    told = aligned(["A", "B"], [["x", text]], left=("A", "B"), width=20, wrap=True)
    assert " ".join(line[3:] for line in told[1:]) == text
    assert max(map(len, told)) <= 20


def test_where_nobody_looks_at_a_terminal_nothing_is_cut_and_tabs_part_the_columns() -> None:
    row = ["x" * 300, "two\tand\nthree", "z"]
    told = aligned(["A", "B", "C"], [row], left=("A",), spare=("A", "B"))
    assert told == ["A\tB\tC", f"{row[0]}\ttwo and three\tz"]


def processes(name: str, status: str) -> list[ProcessView]:
    memory = MemoryView(1234, 1620, 31, 123_456)
    accounts = Accounts(turns=1234, syscalls=12_345, faults=12_345, evictions=123_456)
    return [
        ProcessView(
            1, name, State.ZOMBIE, status, ("send_message",), "smollm2", accounts, memory, 0, 12, 0, 0, "prose"
        ),
        ProcessView(2, "b", State.RUNNING, "", ("send_message",), "smollm2", accounts, memory, 0, 0, 0, 0, "prose"),
    ]


@pytest.mark.parametrize("name", ["main", "n" * 64])
def test_ps_fits_eighty_columns_and_a_long_status_hides_no_other(name: str) -> None:
    told = ps(processes(name, "5 illegal instructions in a row; the last: " + "x" * 400), width=80)
    assert max(map(len, told)) <= 80
    assert {"PID", "NAME", "STATE", "STATUS"} <= set(told[0].split())
    assert "zombie" in told[1]
    assert "5 illegal" in told[1]


@pytest.mark.parametrize("told", [ps, vmstat])
def test_every_width_of_a_terminal_is_kept(told: Callable[..., list[str]]) -> None:
    for width in range(40, 200):
        assert max(map(len, told(processes("main", "why it died " * 20), width=width))) <= width


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=4), st.integers(0, 30))
def test_what_is_shown_moves_no_cursor(rows: list[tuple[str, str]], width: int) -> None:
    for line in aligned(["A", "B"], rows, left=("A",), width=width):
        assert not UNSEEN.search(line)
        assert "\n" not in line
