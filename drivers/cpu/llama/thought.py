"""Where a thought begins and ends among the ids that a run emits: a function of those ids, so nothing else is kept.

It may begin a run, is bounded in tokens, and is always closed as the template closes it: a model that has ended its
turn instead, or has thought long enough, has the marks put in its mouth. Behind it comes the instruction.
Not here: what the marks are (derive.py), how a token is picked (run.py), what becomes of a thought (kernel/paging).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kernel.event import Thought as Granted


class Marks(NamedTuple):
    """How a model thinks, in its tokens. `opens` and `closes`: tokens that do it by themselves; -1: none does."""

    open: tuple[int, ...]
    mark: tuple[int, ...]  # what ends a thought,
    then: tuple[int, ...]  # and what stands between that and the instruction
    off: tuple[int, ...]  # what stands in the place of a thought, where there is to be none
    opens: int
    closes: int
    text: bytes  # what `mark` reads, where no token closes; and `then`
    then_text: bytes
    first: bool | None  # see frame.Thinks


class Thought:
    """The thought of one run. `count`: how many of its ids are thought, from the front."""

    def __init__(
        self,
        marks: Marks | None,
        granted: Granted | None,
        piece: Callable[[int], bytes],
        encode: Callable[[str], Sequence[int]],
    ) -> None:
        """`granted`: None where it is not to think."""
        self._marks, self._piece, self._encode = marks, piece, encode
        self._most = granted.most if granted else 0
        self._held = b""  # the beginning of a mark, as it may be
        self._holding: list[int] = []  # bytes of the tokens that are in it, if only in part
        self._begins = b""  # what begins a thought
        self._said_last = b""  # how the instruction ends so far
        self._said = 0  # tokens between the marks, those left out
        self.count = 0
        self.text = b""  # what was thought
        self.forced: deque[int] = deque()  # to be emitted next, whatever the model wants
        self.choosing = self.inside = False
        if marks is None:
            return
        self._begins = b"".join(map(piece, marks.open)).strip()
        wanted = granted is not None and (granted.must or marks.first is True)
        if wanted:
            self.forced.extend(marks.open)
            self.inside = True
        elif granted is None or marks.first is False:
            self.forced.extend(marks.off)
        else:
            self.choosing = marks.opens >= 0

    @property
    def over(self) -> bool:
        """Whether what comes now is the instruction."""
        return not (self.forced or self.choosing or self.inside)

    def feed(self, token: int) -> bytes | None:
        """A token was emitted. None: it is of the instruction; else what was thought with it, without marks."""
        if self.over:
            self._hears(token)
            return None
        assert self._marks is not None, "else it is over from the start"
        if self.choosing:
            self.choosing = False
            if token != self._marks.opens:
                self._hears(token)
                return None
            self.count, self.inside = 1, True
            self.forced.extend(self._marks.open[1:])
            return b""
        self.count += 1
        if self.forced:
            self.forced.popleft()
            return b""
        return self._thinks(token)

    def _thinks(self, token: int) -> bytes:
        """A token between the marks."""
        assert self._marks is not None, "else it is over from the start"
        if token == self._marks.closes:
            return self._end(self._held, b"")
        piece, mark = self._piece(token), self._marks.text
        self._held += piece
        self._holding.append(len(piece))
        before, found, behind = self._held.partition(mark) if mark else (b"", b"", b"")
        if found:
            return self._end(before, behind)
        begun = next((n for n in range(min(len(mark) - 1, len(self._held)), 0, -1) if self._held.endswith(mark[:n])), 0)
        sure, self._held = self._held[: len(self._held) - begun], self._held[len(self._held) - begun :]
        self.text += sure
        while self._holding and sum(self._holding) - self._holding[0] >= begun:  # ends: it becomes shorter
            del self._holding[0]
            self._said += 1
        if self._said >= self._most:
            self.cut()
        return sure

    def _hears(self, token: int) -> None:
        """A token of the instruction, in which no mark of ordinary text is to come up."""
        if self._marks is not None and self._marks.text:
            self._said_last = (self._said_last + self._piece(token))[-2 * len(self._marks.text) :]

    def fits(self, token: int) -> bool:
        """Whether a token may be emitted now: none may end the thought and say more than the template then does.

        Nor may an instruction say the mark, where that is ordinary text: who has thought is tempted to.
        """
        if self._marks is None or not self._marks.text:
            return True
        if self.over:
            said = self._said_last + self._piece(token)
            return self._marks.text not in said and (not self._begins or self._begins not in said)
        if not self.inside:
            return True
        _, found, behind = (self._held + self._piece(token)).partition(self._marks.text)
        return not found or self._marks.then_text.startswith(behind)

    def cut(self) -> None:
        """No more of it: the marks that close it come next, or what is left of them."""
        assert self._marks is not None, "else it is over from the start"
        self.inside = False
        begun, self._held = self._held, b""
        rest = self._marks.text.removeprefix(begun).decode(errors="replace")
        self.forced.extend((*(self._encode(rest) if begun else self._marks.mark), *self._marks.then))

    def _end(self, before: bytes, behind: bytes) -> bytes:
        """Its mark was emitted, and `behind` it what the template says there in part."""
        assert self._marks is not None, "else it is over from the start"
        self.inside = False
        self.text, self._held = self.text + before, b""
        if not behind:
            self.forced.extend(self._marks.then)
        elif rest := self._marks.then_text.removeprefix(behind):
            self.forced.extend(self._encode(rest.decode(errors="replace")))
        return before
