"""From pages to the ids of a prompt, and from text to pages: the two places where a template's frame meets a page.

A prompt is begin, each page in its role's frame, then the generation prompt. Recalled pages are lines of one block
inside the frame of the user's message they were recalled for: small models answer from what stands in the user's own
words far better than from a block of its own (docs/numbers.md). `costs` says the same in numbers; a test holds both
together. Page ids are never tokenised again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from kernel.memory import times
from kernel.memory.measure import Costs, Frame, Part, Visible
from kernel.memory.page import LOW, FilePage, Kind, Page, Role
from kernel.text import one_line

RECALL_HEAD = ""  # a heading, labels and an empty line gained nothing or cost answers with small models
RECALL_LABEL = {Role.USER: "", Role.ASSISTANT: "You said: ", Role.SYSTEM: "Note: "}
RECALL_END = "\n"  # after each line
RECALL_TAIL = ""  # between the block and the message
LABELS: Final = {origin: f"[{origin}]" for origin in LOW}
"""What stands before a text in a user's frame that is not the user's, nor the process's own."""
LABELS_CACHED: Final = 256  # whose ids are kept
NAME_SHOWN: Final = 48  # characters of what of a document stands in a label
_ENDS: Final = str.maketrans("[]", "()")  # of a label: no name has them

Tokenize = Callable[[str], tuple[int, ...]]


def label(page: Page) -> str:
    """What stands before the text of a page wherever a process sees it; "" for what users and the process said.

    Of a document it names the part that the page is of, which small models answer better with than without any label
    (docs/numbers.md, "Labels"). A text can neither end its label's reach nor begin another's: a line of the block ends
    with the text, and a page by itself with its frame.
    """
    found = LABELS.get(page.origin, "") if page.role is Role.USER else ""
    if not isinstance(page, FilePage) or page.source is None or not found:
        return found
    source = page.source
    name = source.headings[-1] if source.headings else source.path.rpartition("/")[2]
    return f"{found[:-1]} {one_line(name).translate(_ENDS)[:NAME_SHOWN].strip()}]"


def labelled(page: Page, text: str) -> str:
    """A text of a page's as it stands in a line, behind the page's label. Tokenised as one: words begin as they do."""
    before = label(page)
    return f"{before} {text}" if before else text


def line(text: str, at: int | None) -> str:
    """A recalled text as one line of the block: no text of a page can begin a line of its own.

    With `at`, when it was said (ns UTC), for a message that asks for a time: its day stands before it, and behind what
    names days only from there ("yesterday", "last May") stand those days.
    """
    if at is not None:
        text = f"[{times.spoken(times.day_of(at))}] {times.glossed(text, at)}"
    return " ".join(text.splitlines()) if len(text.splitlines()) > 1 else text


def recalled(page: Visible) -> str:
    """A recalled page as its line of the block, whose ids `Layout.render` puts there."""
    text = line(page.text, page.page.at if page.dated else None)
    return RECALL_LABEL[page.role] + labelled(page.page, text) + RECALL_END


def told(page: Visible) -> str:
    """A page that is not recalled, as it stands in its frame: its label is a line of its own."""
    before = label(page.page)
    return f"{before}\n{page.text}" if before else page.text


class Layout:
    """A model's frame with the recall block's parts, as ids."""

    def __init__(self, frame: Frame, tokenize: Tokenize, measure: str) -> None:
        """`measure` is the hash under which sizes are comparable."""
        self.frame = frame
        self._plain = frame if frame.plain is None else msgspec.structs.replace(frame, generate=frame.plain)
        self._thinking = frame if frame.lead is None else msgspec.structs.replace(frame, generate=frame.lead)
        self.tokenize = tokenize
        self.head, self.tail = (tokenize(text) if text else () for text in (RECALL_HEAD, RECALL_TAIL))
        self.label = {role: tokenize(text) if text else () for role, text in RECALL_LABEL.items()}
        self._of_label = lru_cache(LABELS_CACHED)(tokenize)
        self.line_end = tokenize(RECALL_END)
        role, begin, bare = _most(frame)
        self.costs = Costs(
            measure=measure,
            begin=begin,
            bare=bare,
            role=role,
            generate=max(len(one.generate) for one in (self._plain, self._thinking)),
            recall=len(self.head) + len(self.tail),
            recalled={role: len(self.label[role]) + len(self.line_end) for role in Role},
            labels={origin: len(tokenize(f"{text}\n")) for origin, text in LABELS.items()},
        )

    def labelled(self, page: Page, ids: Sequence[int]) -> Sequence[int]:
        """The ids of a page that is not recalled, behind those of its label: see `told`."""
        text = label(page)
        return (*self._of_label(f"{text}\n"), *ids) if text else ids

    def label_size(self, page: Page) -> int:
        """Tokens that `labelled` adds."""
        text = label(page)
        return len(self._of_label(f"{text}\n")) if text else 0

    def render(self, pages: Iterable[Visible], *, thinks: bool = False) -> tuple[int, ...]:
        """The prompt of `pages` in order, generation prompt last: that of an answer which may begin with thought, or
        of one which may not. A thought whose answer has left is left out.
        """
        pages, thoughts = _with_thoughts(tuple(pages))
        roles = [page.role for page in pages if not page.recalled]
        after = iter((self._thinking if thinks else self._plain).around(roles, thought=thoughts))
        out: list[int] = list(next(after))
        lines: list[int] = []
        for page in pages:
            if page.recalled:
                lines += self.label[page.role]
                lines += page.ids
                lines += self.line_end
                continue
            if lines:
                out += self.head
                out += lines
                out += self.tail
                lines = []
            out += page.ids
            out += next(after)
        assert not lines, "recalled pages without the message they were recalled for"
        return tuple(out)

    def __call__(self, text: str, tokens_max: int) -> tuple[Part, ...]:
        """Split `text` at characters, at spaces if possible, into parts of `tokens_max` tokens: see measure.Measure."""
        ids = self._ids(text)
        if len(ids) <= tokens_max:
            return (Part(text, ids),)
        parts: list[Part] = []
        rest = text
        per_char = len(ids) / len(text)
        while rest:  # each round takes at least one character
            part = self._head_of(rest, tokens_max, per_char)
            parts.append(part)
            rest = rest[len(part.text) :]
        return tuple(parts)

    def _ids(self, text: str) -> tuple[int, ...]:
        """The ids of a page's text, as the template writes it."""
        return self.tokenize(text.strip() if self.frame.trims else text)

    def _head_of(self, text: str, tokens_max: int, per_char: float) -> Part:
        chars = min(len(text), max(1, int(tokens_max / per_char)))
        while True:  # ends: chars shrinks to 1, and one character has at most a few byte tokens
            cut = chars
            if cut < len(text):
                space = text.rfind(" ", max(1, cut // 2), cut)
                cut = space if space > 0 else cut
            ids = self._ids(text[:cut])
            if len(ids) <= tokens_max or chars == 1:
                return Part(text[:cut], ids)
            chars = max(1, min(chars - 1, int(chars * tokens_max / len(ids))))


def _with_thoughts(pages: tuple[Visible, ...]) -> tuple[tuple[Visible, ...], list[int]]:
    """The pages with each thought in front of its answer, as one; which of the texts in frames those are."""
    if not any(page.page.kind is Kind.THOUGHT for page in pages):
        return pages, []
    found: list[Visible] = []
    led: list[int] = []
    before: Sequence[int] = ()
    for page in pages:
        if page.page.kind is Kind.THOUGHT:
            before = page.ids
            continue
        if before and page.role is Role.ASSISTANT and not page.recalled:
            led.append(sum(not one.recalled for one in found))
            page = msgspec.structs.replace(page, ids=(*before, *page.ids))
        before = ()
        found.append(page)
    return tuple(found), led


def _most(frame: Frame) -> tuple[dict[Role, int], int, int]:
    """Tokens of a page by role, of what comes once, and of what comes once more where no text segment leads.

    A frame with a head, or with texts in one turn, adds no more than this, whatever pages lead or follow.
    """
    role = {one: len(frame.prefix[one]) + len(frame.suffix[one]) for one in Role}
    if frame.again is not None:
        role[Role.USER] = max(role[Role.USER], len(frame.again))
    if frame.head is None:
        return role, len(frame.begin), 0
    head = frame.head
    role[Role.SYSTEM] = max(role[Role.SYSTEM], len(head.between))
    last = max(len(head.end), len(head.joined or ()) - len(frame.prefix[Role.USER]))
    begin = max(0, len(head.begin) + last - role[Role.SYSTEM])
    return role, begin, max(0, len(frame.begin) - begin)
