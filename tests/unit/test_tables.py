"""Tables as lines: aligned whatever the text, cut where a terminal ends, and no text moves the cursor."""

from hypothesis import given
from hypothesis import strategies as st

from llmos.tables import Styled, aligned


def test_numbers_stand_to_the_right_and_names_to_the_left() -> None:
    assert aligned(["PID", "NAME"], [["1", "main"], ["12", "x"]], left=("NAME",)) == [
        "PID  NAME",
        "  1  main",
        " 12  x",
    ]


def test_wide_characters_take_two_columns() -> None:
    first, second = aligned(["", ""], [["日本", "x"], ["abcd", "x"]], left=("",))
    assert (first, second) == ("日本  x", "abcd  x")


def test_the_last_column_is_cut_where_the_terminal_ends_and_no_other() -> None:
    assert (
        aligned(["A", "B"], [["long name", "as long as it is"]], left=("A", "B"), width=20)[1] == "long name  as long …"
    )
    assert aligned(["A", "B"], [["long name", "gone"]], left=("A", "B"), width=5)[1] == "long name"


def test_colours_take_no_room() -> None:
    plain = aligned(["A", "B"], [[Styled("x", "32"), "y"]], left=("A",))
    styled = aligned(["A", "B"], [[Styled("x", "32"), "y"]], left=("A",), colour=True)
    assert [line.replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "") for line in styled] == plain


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=4), st.integers(0, 30))
def test_what_is_shown_is_printable(rows: list[tuple[str, str]], width: int) -> None:
    for line in aligned(["A", "B"], rows, left=("A",), width=width):
        assert line.isprintable()
