"""Compiled grammars of a vocabulary: Lark text to a matcher that has consumed nothing, from a bounded cache.

Guarantee: what llguidance cannot compile, or makes nothing of, is a DeviceError. Its matchers raise for misuse alone,
and say of all else that they are in error.
Caller's duty: one thread at a time; no matcher is used after `close`.
Not here: what a matcher is asked (run.py), where the text of a grammar comes from.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import llguidance
import llguidance.llamacpp

from drivers.cpu.llama.vocabulary import Vocabulary
from kernel.errors import DeviceError

KEPT_MAX: Final = 64  # one a capability mask


def unfit(grammar: str) -> str:
    """What is wrong with a grammar, whatever the vocabulary, in one line; "": nothing. Any thread."""
    found = str(llguidance.LLMatcher.validate_grammar(grammar)).splitlines()
    return found[0].partition(": ")[2] or found[0] if found else ""


class Grammars:
    """Not for several threads at once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._guide: Any = None  # llguidance's table of the vocabulary: takes a second, so built when first needed
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def matcher(self, grammar: str | None) -> Any:
        """A fresh matcher of `grammar`, or None for None. Raises DeviceError if llguidance cannot compile it."""
        if grammar is None:
            return None
        if self._guide is None:
            ends = sorted(self._vocabulary.ends)
            try:
                self._guide = llguidance.llamacpp.lltokenizer_from_vocab(self._vocabulary.handle, eos_token=ends)
            except (ValueError, RuntimeError) as exc:  # a token too long for it; what llguidance makes of the rest
                raise DeviceError(f"grammar: llguidance does not understand this vocabulary: {exc}") from exc
        if grammar not in self._kept:
            matcher = llguidance.LLMatcher(self._guide, grammar, log_level=0)
            if matcher.is_error():
                raise DeviceError(f"grammar: {matcher.get_error()}")
            self._kept[grammar] = matcher
            while len(self._kept) > KEPT_MAX:  # ends: each pass removes one
                self._kept.popitem(last=False)
        self._kept.move_to_end(grammar)
        return self._kept[grammar].deep_copy()

    def close(self) -> None:
        """Forget all, for llguidance's table refers to the vocabulary of a model that is about to be freed."""
        self._kept.clear()
        self._guide = None
