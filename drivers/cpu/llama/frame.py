"""What a chat template puts around a text, as text: its frame, and the prompt that the frame makes of a conversation.

A kernel builds prompts page by page, so it needs a template as a sum (`kernel.memory.measure.Sum`). What a template
does to a text before it puts it down stands here, too: white space at its ends, and thought in answers.
Not here: how a frame is found (derive.py), tokens (vocabulary.py tokenises the parts, with control tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from kernel.memory.measure import Sum
from kernel.memory.page import Role

Message = tuple[Role, str]


class Trim(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What is taken off the two ends of a text: these characters, or all white space (None)."""

    left: str | None = ""
    right: str | None = ""

    def __call__(self, text: str) -> str:
        """The text without it."""
        return text.lstrip(self.left).rstrip(self.right)


NOTHING: Final = Trim()
WHITE: Final = Trim(None, None)


class Past(msgspec.Struct, frozen=True):
    """What becomes of thought in an answer that is past: all up to `close` goes, and `trim` off what is left.

    Where the thought is `kept`, it takes the place of the empty one that stands before an answer without.
    """

    close: str
    trim: Trim = NOTHING
    kept: str = ""


class Thinks(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a model thinks before it answers. All but `mark` are said by the frame, with control tokens."""

    mark: str  # what ends a thought
    open: str  # begins one, behind `lead`
    close: str = ""  # stands between the mark and the answer
    off: str = ""  # stands behind `lead` where there is to be no thought; "": the answer is generated from `plain`
    first: bool | None = None  # the template begins a thought (True), or has none (False); None: the model decides


class TextFrame(Sum[str], frozen=True, omit_defaults=True):
    """A chat template as text; vocabulary.py makes a `kernel.memory.measure.Frame` of it."""

    trim: dict[Role, Trim] = {}
    joined: Trim | None = None  # of a user's text that stands in one turn with system texts, if that is another
    past: Past | None = None
    thinks: Thinks | None = None

    def said(self, role: Role, text: str) -> str:
        """A text as the template puts it down."""
        text = self.trim.get(role, NOTHING)(text)
        if role is Role.ASSISTANT and self.past and not self.past.kept and self.past.close in text:
            return self.past.trim(text.split(self.past.close)[-1])
        return text

    def join(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        """The prompt that this frame makes of `messages`."""
        around = self.around([role for role, _ in messages], generate=generate)
        for n, (role, text) in enumerate(messages):
            if role is Role.ASSISTANT and self.past and self.past.kept and self.past.close in text:
                around[n] = around[n].removesuffix(self.past.kept)
        texts = [self.said(role, text) for role, text in messages]
        first = next((n for n, (role, _) in enumerate(messages) if role is not Role.SYSTEM), 0)
        if self.joined is not None and first and messages[first][0] is Role.USER:
            texts[first] = self.joined(messages[first][1])
        return around[0] + "".join(text + after for text, after in zip(texts, around[1:], strict=True))

    def parts(self) -> list[str]:
        """Every piece of text that the frame adds."""
        head = [self.head.begin, self.head.between, self.head.end, self.head.joined or ""] if self.head else []
        thinks = self.thinks
        thought = [thinks.open, thinks.mark + thinks.close, thinks.off] if thinks else []
        own = [self.begin, *self.prefix.values(), *self.suffix.values(), self.generate]
        return [*own, *head, self.again or "", *thought]
