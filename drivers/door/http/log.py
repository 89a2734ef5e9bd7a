"""The door's log: a line a request on standard error, for people on a terminal, as JSON elsewhere.

Guarantee: each line names its request by the id that its client has (X-Request-Id), and none has a query, where a token
may stand. What others sent is shown as kernel/text.py lets it be seen.
Not here: what failed as nobody foresaw (drivers/door/desk.py `broken`, under the same id).
"""

from __future__ import annotations

import sys
from typing import Final

import structlog

from drivers.door.http.given import Live
from kernel.text import printable

PATH_CHARS: Final = 200
LEAST: Final = {"all": 0, "errors": 400, "none": 1_000}
"""By which requests are logged, the least status of those."""


class Log:
    """Of one door."""

    def __init__(self, given: Live) -> None:
        self._given = given
        shown = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), shown],
        )

    def answered(self, ident: str, method: str, path: str, status: int, seconds: float, client: str) -> None:
        """A request has its answer; of a stream, its end."""
        if status < LEAST[self._given.now.log]:
            return
        tell = self._log.error if status >= 500 else self._log.warning if status >= 400 else self._log.info
        tell(
            "request",
            request_id=ident,
            method=printable(method[:20]),
            path=printable(path[:PATH_CHARS]),
            status=status,
            ms=round(1e3 * seconds, 1),
            client=client,
        )
