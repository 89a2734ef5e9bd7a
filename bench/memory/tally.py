"""What became of planted facts: how many were in view, answered, and answered from the right page.

in_view         the page of the newest statement stands in the prompt
right           the reply says the newest value and no older one; null without a model
older_in_view   of corrected facts in view: those with an older statement beside the newest;
newest_behind   of these: those whose newest statement stands behind all older ones, nearer to the question
Not here: what is right (newest.py), what counts as in view (shown.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.memory.live import Asked
from bench.memory.shown import shown


class Outcome(msgspec.Struct, frozen=True):
    """A question, whether its page was in view, and whether the reply was right, if a model gave it."""

    asked: Asked
    in_view: bool
    right: bool | None


class Corrected(msgspec.Struct, frozen=True):
    """Questions about facts that were corrected."""

    asked: int
    in_view: int
    right: int | None
    older_in_view: int
    newest_behind: int


class Part(msgspec.Struct, frozen=True):
    """Questions in one language."""

    asked: int
    in_view: int
    right: int | None
    from_right_page: int | None


class Planted(msgspec.Struct, frozen=True):
    """All questions about planted facts."""

    asked: int
    in_view: int
    right: int | None
    from_right_page: int | None
    corrected: Corrected
    by_language: dict[str, Part]


def planted(outcomes: Sequence[Outcome]) -> Planted:
    """The counts of some outcomes."""
    corrected = [one for one in outcomes if one.asked.older]
    behind = [one.asked for one in corrected if one.in_view and _older(one.asked)]
    found = _part(outcomes)
    return Planted(
        **msgspec.structs.asdict(found),
        corrected=Corrected(
            asked=len(corrected),
            in_view=sum(one.in_view for one in corrected),
            right=_part(corrected).right,
            older_in_view=len(behind),
            newest_behind=sum(map(_newest_behind, behind)),
        ),
        by_language={
            language: _part([one for one in outcomes if one.asked.question.category == language])
            for language in sorted({one.asked.question.category for one in outcomes})
        },
    )


def _part(outcomes: Sequence[Outcome]) -> Part:
    judged = [one for one in outcomes if one.right is not None]
    return Part(
        asked=len(outcomes),
        in_view=sum(one.in_view for one in outcomes),
        right=sum(bool(one.right) for one in judged) if judged else None,
        from_right_page=sum(bool(one.right) and one.in_view for one in judged) if judged else None,
    )


def _older(asked: Asked) -> bool:
    return any(shown(one, asked.visible) for one in asked.older)


def _newest_behind(asked: Asked) -> bool:
    places = {one.page: at for at, one in enumerate(asked.visible)}  # a page that is shown twice: the last
    newest = [places[page] for one in asked.evidence for page, _ in one.pages if page in places]
    older = [places[page] for one in asked.older for page, _ in one.pages if page in places]
    return max(newest) > max(older)
