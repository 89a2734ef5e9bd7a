"""What may be shown of a text of others: nothing in it moves a cursor, colours a screen or turns a line round."""

import ast
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.text import UNSEEN, escaped, one_line, printable

ROOT = Path(__file__).parents[2]
HOSTILE = ["\x1b[2J", "\x9b31m", "\x07", "\r", "\x7f", "\u202e", "\u2066", "\x00", "\x85"]
ANY = st.text() | st.lists(st.sampled_from([*HOSTILE, "a", "é", "\n", "\t"])).map("".join)
PRINTERS = {Path("llmos/commands/output.py"), Path("llmos/console/screen.py")}
"""What may write to a terminal: the one knows the rule, the other is given text that the rule has passed."""


@pytest.mark.parametrize("text", HOSTILE)
def test_no_sequence_of_a_text_reaches_the_terminal(text: str) -> None:
    assert UNSEEN.search(text)
    assert not UNSEEN.search(printable(f"before{text}after"))


@given(ANY)
def test_what_is_shown_has_as_many_characters_and_is_shown_again_as_it_is(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert printable(shown) == shown
    assert not UNSEEN.search(shown)
    assert all(a == b for a, b in zip(text, shown, strict=True) if not UNSEEN.match(a))


@given(ANY)
def test_one_line_is_one(text: str) -> None:
    assert len(one_line(f"x{text}").splitlines()) == 1
    assert not UNSEEN.search(one_line(text))


@given(ANY.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_json_keeps_every_character_and_shows_none_that_is_not_to_be_seen(text: str) -> None:
    shown = escaped(msgspec.json.encode({"text": text, text: 1}).decode())
    assert not UNSEEN.search(shown)
    assert json.loads(shown) == {"text": text, text: 1}


def test_nothing_prints_past_the_rule() -> None:
    for path in [*(ROOT / "llmos").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        if path.relative_to(ROOT) in PRINTERS:
            continue
        called = {
            ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        }
        past = called & {"print", "sys.stdout.write", "sys.stderr.write", "click.echo", "Console().print"}
        assert not past, f"{path.relative_to(ROOT)}: {past}; llmos/commands/output.py prints"
