"""Where a thought ends is a function of the ids, however they were cut into tokens, and whatever was wanted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.cpu.llama.thought import Marks, Thought
from kernel.event import Thought as Granted

PIECES = [
    *(
        b"a",
        b"b ",
        b"<",
        b"</",
        b"</th",
        b"think",
        b"ink",
        b">",
        b"think>",
        b">\n",
        b">\n\n",
        b"\n",
        b"\n\n",
        b"x>",
        b"",
    ),
    *(b"/", b"t", b"h", b"i", b"n", b"k"),
]
MARK, THEN = b"</think>", b"\n\n"
END = len(PIECES)  # the model ends its turn


def encode(text: str) -> tuple[int, ...]:
    """The longest piece that fits, again and again."""
    raw, found = text.encode(), []
    while raw:
        token = max(
            (n for n, piece in enumerate(PIECES) if piece and raw.startswith(piece)), key=lambda n: len(PIECES[n])
        )
        found.append(token)
        raw = raw[len(PIECES[token]) :]
    return tuple(found)


def marks(*, token: bool, first: bool | None) -> Marks:
    """Marks that are text, or a token each (the one without a text)."""
    if token:
        return Marks((14,), (14,), encode("\n\n"), (14, 14), opens=14, closes=14, text=b"", then_text=THEN, first=first)
    mark = encode(MARK.decode())
    return Marks((0,), mark, encode("\n\n"), (0, *mark), opens=-1, closes=-1, text=MARK, then_text=THEN, first=first)


def machine(how: Marks, most: int | None) -> Thought:
    granted = None if most is None else Granted(most)
    return Thought(how, granted, lambda token: PIECES[token], encode)


wanted = st.lists(st.integers(0, END), max_size=60)


@given(wanted, st.integers(1, 12) | st.none(), st.booleans(), st.sampled_from([True, False, None]))
def test_a_thought_that_was_stopped_anywhere_goes_on_as_if_it_had_not_been(
    wants: list[int], most: int | None, token: bool, first: bool | None
) -> None:
    how = marks(token=token, first=first)
    live = machine(how, most)
    ids: list[int] = []
    told = b""

    def force() -> None:
        nonlocal told
        while live.forced:
            ids.append(live.forced[0])
            told += live.feed(ids[-1]) or b""

    force()
    for want in wants:
        if live.over:
            break
        if want == END:
            if live.inside:
                live.cut()
        elif live.fits(want):
            ids.append(want)
            told += live.feed(want) or b""
        force()
        again = machine(how, most)
        text = b"".join(again.feed(one) or b"" for one in ids)
        assert (again.count, again.over, again.inside, list(again.forced)) == (live.count, live.over, live.inside, [])
        assert again.text == live.text
        assert live.text.startswith(text) or again.over
        assert live.text.startswith(told)
    assert token or MARK not in live.text
    if most is not None:
        most_ids = most + len(how.open) + 2 * (len(how.mark) + len(how.then))
        assert live.count <= max(most_ids, len(how.off))
    if live.over and live.count:
        said = b"".join(PIECES[one] for one in ids[: live.count])
        assert token or said.endswith(MARK + THEN) or ids[: live.count] == list(how.off)
