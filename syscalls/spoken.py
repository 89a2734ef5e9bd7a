"""What of an instruction is being said, while it is emitted.

Not here: what a whole instruction is (decode.py).
"""

from __future__ import annotations

import json
import re

from syscalls.abi import TRAP_MARK

# A JSON string as far as it has come; a half escape or half a surrogate pair is left for the next token.
_SPOKEN = re.compile(
    r'\s*\{\s*"op"\s*:\s*"send_message"\s*,\s*"text"\s*:\s*"'
    r'((?:[^"\\]|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*)'
)


def spoken(raw: str, encoding: str, *, only_speaks: bool = False) -> str:
    """What of an instruction, as far as it was emitted, will be said: "" for a syscall that says nothing.

    Grows with `raw`: the result of a prefix is a prefix of the result. `only_speaks`: of a process whose mask has
    nothing else.
    """
    if encoding == "prose" and (only_speaks or not raw.startswith(TRAP_MARK)):
        return raw.strip()
    found = _SPOKEN.match(raw.removeprefix(TRAP_MARK) if encoding == "prose" else raw)
    return json.loads(f'"{found[1]}"', strict=False) if found else ""
