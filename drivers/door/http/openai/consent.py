"""A question of the kernel's to the user of a client: whether a process may make the call that it waits with.

A client is told by a refusal (403, `consent_required`), which no text of a process's can be, at once and in a stream,
too. It says what is to be called, and how that is answered: by a message that is `/allow CODE` or `/deny CODE` and
nothing else, or in any other door. What is answered so resumes: its reply is that of the message which waited, and so
is that of the same request again.
Guarantees: a code is of one question, and made with the machine's token; no process has it in view, so no text of a
process's, a file's or a tool's can be an answer. An answer is no message: no process is told it, and no history has it.
Not here: what is asked and decided (kernel/guard.py), how the others learn of it (desk.py).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from drivers.door.http.errors import Refusal
from drivers.door.http.openai import past
from drivers.door.http.openai.past import Known, Turn
from drivers.door.http.openai.shapes import Wanted
from kernel.event import Consented
from kernel.machine import held
from kernel.machine.loop import Machine
from kernel.process import Consent, asker

CODE_BYTES: Final = 8
_ANSWER: Final = re.compile(r"\s*/(allow|deny)[ \t]+([0-9a-f]{16})\s*")


class Questions:
    """Those of one machine, for the clients of one door."""

    def __init__(self, machine: Machine, token: Callable[[], str]) -> None:
        """`token`: the machine's, as it is now."""
        self._machine, self._token = machine, token

    def of(self, pid: int) -> Refusal | None:
        """What a client that waits for a process is to be told: what it, or one that it waits for, asks."""
        asked = held.asking(self._machine.kernel, pid)
        if asked is None:
            return None
        code = self._code(asked.pid, asked.req)
        how = f"A message that is /allow {code} and nothing else lets it, /deny {code} does not, and so do the console"
        why = f"[kernel] {held.question(asked)}. {how} and `llmos allow`. Then the same request has the reply."
        return Refusal(403, why, code="consent_required")

    async def answered(self, wanted: Wanted) -> Known | None:
        """Decide as a message says; which message of this door waited for that. None if it is no answer to a question.

        Raises Refusal for an answer to a question that nobody asks, or for which nobody waited here, and then it was
        decided all the same in the second case.
        """
        found = _ANSWER.fullmatch(wanted.text)
        if found is None:
            return None
        asked = next((one for one in self._asked() if hmac.compare_digest(self._code(*one), found[2])), None)
        if asked is None:
            if wanted.turns:  # the answer to this answer was lost: it is that of the message before
                return None
            raise Refusal(404, f"nobody asks for {found[2]} (any more)", code="not_found")
        waited = self._waited(asked[0], wanted.turns)
        decided = Consented(source="user", pid=asked[0], req=asked[1], yes=found[1] == "allow")
        answer = await self._machine.requests.submit(decided)
        if answer.refused is not None:
            raise answer.refused
        if waited is None:
            raise Refusal(409, "[kernel] It is decided; no message of this door waited for that.", code="decided")
        return waited

    def _asked(self) -> list[tuple[int, int]]:
        procs = self._machine.kernel.procs.values()
        return [(proc.pid, proc.req) for proc in procs if isinstance(proc.wait, Consent)]

    def _waited(self, asked: int, turns: Sequence[Turn]) -> Known | None:
        """The message of this door that waits for a process's consent: the client's last, or the last there is."""
        kernel = self._machine.kernel
        waits = [one for one in kernel.procs.values() if (asks := asker(kernel.procs, one)) and asks.pid == asked]
        mids = [(one.pid, mid) for one in waits for mid in (*one.answers, *(other.mid for other in one.pending))]
        known = [Known(mid, pid, 0) for pid, mid in mids if past.is_own(mid)]
        last = past.own(folded(turns)[-1].user) if turns else ""
        found = [one for one in known if one.mid.split(".")[2] == last] or known
        return found[-1] if found else None

    def _code(self, pid: int, req: int) -> str:
        key = self._token().encode()[:64]
        return hashlib.blake2b(b"llmos consent %d.%d" % (pid, req), key=key, digest_size=CODE_BYTES).hexdigest()


def without(wanted: Wanted) -> Wanted:
    """A request as if its client had answered no question: what came of an answer came of the message before it."""
    turns = folded(wanted.turns)
    if turns and _ANSWER.fullmatch(wanted.text):
        return msgspec.structs.replace(wanted, turns=turns[:-1], text=turns[-1].user)
    return msgspec.structs.replace(wanted, turns=turns) if turns != wanted.turns else wanted


def folded(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """A history without answers to questions."""
    found: list[Turn] = []
    for turn in turns:
        if not _ANSWER.fullmatch(turn.user):
            found.append(turn)
        elif found:
            found[-1] = Turn(found[-1].user, turn.assistant)
    return tuple(found)
