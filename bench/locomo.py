"""What LoCoMo's files say where two benches read them: which turns a question's evidence names.

Not here: what is made of a conversation (paging/workloads.py, memory/dialogues.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

EVIDENCE: Final = re.compile(r"D:?(\d+):0*(\d+)")  # `D8:6; D9:17`, `D:11:26` and `D30:05` occur


def named(evidence: Iterable[object]) -> list[tuple[int, int]]:
    """The turns that a question's evidence names, as (session, turn), in order, some perhaps twice."""
    return [(int(session), int(turn)) for text in evidence for session, turn in EVIDENCE.findall(str(text))]


def number(dia_id: str, session: int, place: int) -> tuple[int, int]:
    """The (session, turn) of a turn by its `dia_id`, or by where it stands if that says nothing."""
    found = EVIDENCE.search(dia_id)
    return (int(found[1]), int(found[2])) if found else (session, place)
