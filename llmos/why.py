"""What happened to a page, as `llmos why` tells it: lines for people, fields for programs.

Not here: how it is found out (kernel/machine/why.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, assert_never

import msgspec

from drivers.door.wire import Explained
from kernel.limits import NS
from kernel.machine.why import PAGES_MAX, Because, Why
from kernel.text import one_line
from llmos import tables

QUOTED_CHARS: Final = 72  # of a text of which the beginning is shown


def explained(found: Explained) -> dict[str, Any]:
    """What happened to a page, for JSON."""
    page = found.page
    about = {"page": page.id, "kind": page.kind, "origin": page.origin, "at": page.at, "text": page.text}
    happened = [{"why": one.why, **msgspec.to_builtins(one)} for one in found.because]
    return {**about, "segment": found.segment, "because": happened, "heads": found.heads, "whole": found.whole}


def lines(found: Explained) -> list[str]:
    """The same as lines: the page, then what happened to it, oldest first, and the pages that this names."""
    page = found.page
    where = f"in view ({found.segment})" if found.segment else "not in view"
    told = [f"page {page.id}, {page.kind} of {page.origin}, {where}: {_quoted(page.text)}"]
    if not found.whole:
        told.append("  what was before is in no journal any more")
    for one in found.because:
        told.append(f"  {datetime.fromtimestamp(one.at / NS, UTC).isoformat(timespec='seconds')}  {_because(one)}")
        if one.why is Why.SAID:
            told += [f"      page {number}: {_quoted(found.heads.get(number, ''))}" for number in one.pages[:PAGES_MAX]]
            told += [f"      thought: {_quoted(one.thought)}"] if one.thought else []
    return [one_line(line) for line in told]


def _because(one: Because) -> str:
    """What happened, in words."""
    match one.why:
        case Why.CAME:
            return f"came as message {one.text}" if one.text else "came as a message"
        case Why.SAID:
            drew = f"drew on {tables.plural(len(one.pages), 'page')}" if one.pages else "drew on no page in view"
            return f"said in answer to {_quoted(one.text)}: {drew}"
        case Why.MADE:
            return f"made by {one.text}"
        case Why.RECALLED:
            beside = f", with {tables.plural(len(one.pages), 'other')}" if one.pages else ""
            size = tables.plural(one.tokens, "token")
            return f"recalled for {_quoted(one.text)}: likely {one.score:.2f}, {size}{beside}"
        case Why.READ:
            return f"read by the process, in answer to {_quoted(one.text)}"
        case Why.BROUGHT:
            return "brought in by somebody outside"
        case Why.DREW:
            return f"drawn on by {_quoted(one.text)}"
        case Why.LEFT:
            beside = f" with {tables.plural(len(one.pages), 'other')}, {tables.plural(one.tokens, 'token')} in all"
            return f"left{beside if one.pages else ''}, for {_quoted(one.text)}"
        case _:
            assert_never(one.why)


def _quoted(text: str) -> str:
    """How a text begins, on one line."""
    flat = " ".join(text.split())
    return f'"{flat[:QUOTED_CHARS]}{"..." if len(flat) > QUOTED_CHARS else ""}"'
