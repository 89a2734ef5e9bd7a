"""What docstrings and pages say of the tree is so."""

from tests import states


def test_the_page_on_processes_is_what_the_table_of_moves_draws() -> None:
    assert states.PAGE.read_text() == states.document(), "run `make docs`"
