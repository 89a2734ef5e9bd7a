"""A text must not come to say what a template's frame says: where a turn begins, whose it is, where it ends.

Of control tokens that is the library's promise: plain text never yields one. Two kinds of marks are left. Tokens that
the vocabulary calls user-defined are parsed in plain text, too. And where a template's marks are no tokens of their
own, a text that has them yields the frame's own ids. Both are broken up where a text has them: it is tokenised in
pieces, so it stays the text that it was, in other ids.
Guarantee: no mark's token, and no mark's row of ids, is in what comes out, whatever the text.
Not here: which parts a frame has (frame.py), the library's tokenizer (vocabulary.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from kernel.errors import BadInput

Ids = tuple[int, ...]

NEVER: Final = "(?!)"  # the expression that nothing matches
CUTS: Final = 8  # places at which a mark of ordinary text is cut, from its beginning
AROUND: Final = ("{}", "a{}b", " {}\n", "\n{}x", "{0}{0}")  # how a mark may stand in a text


class Marks:
    """The marks of one frame. All methods may be called from any thread."""

    def __init__(self, encode: Callable[[str], Ids], tokens: Mapping[int, str], rows: Mapping[str, Ids]) -> None:
        """`tokens`: user-defined ones of the frame, with their texts; `rows`: its marks of ordinary text, with their
        ids in the frame; `encode` gives the ids of a plain text. Raises BadInput if a mark cannot be broken up."""
        self._encode, self._tokens = encode, frozenset(tokens)
        self._rows = {*rows.values(), *map(encode, rows)}
        self._texts = re.compile("|".join(map(re.escape, rows)) or NEVER)
        cuts = [(mark[:1], mark[1:]) for mark in tokens.values()]
        cuts += [(mark[:at], mark[at:]) for mark in rows for at in range(1, min(len(mark), CUTS + 1))]
        places = [f"(?<={re.escape(left)})(?={re.escape(right)})" for left, right in cuts]
        self._cuts = re.compile("|".join(places) or NEVER)
        for mark in rows:
            if any(self._says(self._broken(around.format(mark))) for around in AROUND):
                raise BadInput(
                    f"the mark {mark!r} of its chat template is ordinary text in its vocabulary, and cannot be told "
                    "from a user's; give a model whose marks are tokens of their own"
                )

    def tokenize(self, text: str) -> Ids:
        """Ids of a plain text, without a mark."""
        ids = self._encode(text)
        if not self._says(ids) and not self._texts.search(text):
            return ids
        ids = self._broken(text)
        return self._without(ids) if self._says(ids) else ids

    def _broken(self, text: str) -> Ids:
        return tuple(one for part in self._cuts.split(text) for one in self._encode(part))

    def _says(self, ids: Ids) -> bool:
        """Whether a mark is among `ids`."""
        if not self._tokens.isdisjoint(ids):
            return True
        return any(one == row[0] and ids[at : at + len(row)] == row for row in self._rows for at, one in enumerate(ids))

    def _without(self, ids: Ids) -> Ids:
        """`ids` without the last id of each mark that pieces have come together to."""
        kept: list[int] = []
        for one in ids:
            kept.append(one)
            if one in self._tokens or any(tuple(kept[-len(row) :]) == row for row in self._rows):
                kept.pop()
        return tuple(kept)
