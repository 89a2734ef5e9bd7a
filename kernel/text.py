"""Text of others as it may be shown: what would move a cursor, colour a screen or turn a line round is replaced.

Users, models, files and their names say what they like, and whoever prints it prints it on somebody's terminal. The
rule stands here once: control characters (line ends and tabs excepted), DEL, C1, and the characters that override the
direction of a line are replaced by U+FFFD. All else stays, whatever the script.
Not here: who prints (llmos/commands/output.py, llmos/console).
"""

from __future__ import annotations

import re
from typing import Final

UNSEEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What must not reach a terminal from a text of others."""
REPLACED: Final = "\ufffd"
_BREAKS: Final = re.compile("[\t-\r\x1c-\x1e\x85\u2028\u2029]")
_UNSEEN_IN_JSON: Final = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # JSON itself escapes those below a space


def printable(text: str) -> str:
    """`text` as it may be shown, of as many characters. Again it changes nothing."""
    return UNSEEN.sub(REPLACED, text)


def one_line(text: str) -> str:
    """`text` as it may be shown in one line: what breaks lines is a space, and so is a tab."""
    return printable(_BREAKS.sub(" ", text))


def escaped(json: str) -> str:
    """JSON that means the same and may be shown: it keeps every character, as an escape."""
    return _UNSEEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", json)
