"""The accessed bits of a machine, as an MMU reports them: which pages in view the text of an instruction drew on.

A run's end is marked where it enters the machine, before its step, and journaled so; a replay computes nothing. What
stands in the text segment, in core memory and in the turn itself explains a word before any page does. A driver that
knows more than words say reports pages of its own, and is believed.
Not here: the rule (memory/attribution.py), what the kernel does with it (paging/accessed.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

import msgspec

from kernel import dispatch
from kernel.event import AnyEvent, Outcome, Trapped
from kernel.limits import ORIGINS_CACHED_MAX, WORDS_CACHED_MAX
from kernel.machine.pages import Pages
from kernel.memory import attribution
from kernel.memory.page import LOW, UNRANKED, Kind, Role
from kernel.memory.words import terms
from kernel.process import Process, State
from kernel.state import Kernel


class Accessed:
    """What marks the events of one machine; it keeps the words of pages, the least recently wanted go first."""

    def __init__(self, kernel: Kernel, pages: Pages) -> None:
        self._kernel, self._pages = kernel, pages
        self._words: OrderedDict[int, frozenset[str]] = OrderedDict()
        self._lows: dict[int, bool] = {}  # whether a page is not the user's

    def marked(self, event: AnyEvent) -> AnyEvent:
        """An event as the kernel is to have it: the end of an awaited instruction with what its text drew on, and
        with the pages in view that are not the user's.

        O(words of the text x pages in view).
        """
        if not isinstance(event, Trapped) or event.outcome is not Outcome.SYSCALL:
            return event
        proc = self._kernel.procs.get(event.pid)
        if proc is None or proc.state is not State.RUNNING or proc.tag != event.tag:
            return event
        if low := self._low_in_view(proc):
            event = msgspec.structs.replace(event, low=low)
        return event if event.drew else self._drawing(event, proc)

    def _low_in_view(self, proc: Process) -> tuple[int, ...]:
        """Pages in view, core memory among them, that are not the user's or quote such, in prompt order."""
        space = proc.space
        quoted = {entry.page: entry.shows for entry in space.queue}
        apart = dispatch.apart(self._kernel, proc)
        seen = [placed.page for placed in space.placed(apart=apart)]
        low = self._low({*seen, *(page for one in seen for page in quoted.get(one, ()))})
        return tuple(one for one in seen if one in low or not low.isdisjoint(quoted.get(one, ())))

    def _low(self, numbers: Collection[int]) -> set[int]:
        """Those of some pages that are not the user's."""
        missing = [number for number in numbers if number not in self._lows]
        for number, origin in zip(missing, self._pages.origins(missing), strict=True):
            self._lows[number] = origin in LOW
        found = {number for number in numbers if self._lows[number]}
        while len(self._lows) > ORIGINS_CACHED_MAX:
            self._lows.pop(next(iter(self._lows)))
        return found

    def _drawing(self, event: Trapped, proc: Process) -> Trapped:
        """The event with the pages that its text drew on."""
        space = proc.space
        turn = space.queue[space.turn :]
        question = [one.page for one in turn if one.kind is Kind.MESSAGE and one.role is Role.USER]
        told = [one.page for one in turn if one.page not in question]
        told += [head.page for head in (space.text, space.data) if head is not None]
        earlier = space.earlier(apart=dispatch.apart(self._kernel, proc))
        before = [one.page for one in earlier if one.kind not in UNRANKED]
        before += [one.page for one in space.recall]
        words = self._of([*question, *told, *before], self._kernel.model_of(event.pid))
        asked = frozenset[str]().union(*(words[page] for page in question))
        said = terms(event.text).difference(*(words[page] for page in told))
        seen = {page: words[page] for page in before}
        drew = attribution.drawn(seen, attribution.holders(seen, asked | said), asked, said)
        return msgspec.structs.replace(event, drew=tuple(drew)) if drew else event

    def _of(self, numbers: Iterable[int], model: str) -> dict[int, frozenset[str]]:
        """The words of pages in view of a process of that model."""
        found: dict[int, frozenset[str]] = {}
        missing = []
        for number in numbers:
            if number in self._words:
                found[number] = self._words[number]
                self._words.move_to_end(number)
            else:
                missing.append(number)
        for number, text in zip(missing, self._pages.searched(missing, model), strict=True):
            found[number] = self._words[number] = terms(text)
        while len(self._words) > WORDS_CACHED_MAX:
            self._words.popitem(last=False)
        return found
