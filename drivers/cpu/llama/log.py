"""What llama.cpp complains of: its errors are kept, the rest is dropped, for the terminal belongs to the user.

llama.cpp has one log for all models and threads, so this is one, too: the reason given may be another engine's.
Caller's duty: `clear` before a call that may fail, `first` after it.
Not here: what a failure means (model.py, context.py, steps.py).
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Final

import llama_cpp

LOG_ERROR: Final = 4  # GGML_LOG_LEVEL_ERROR

_errors: Final[deque[str]] = deque(maxlen=8)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _data: object) -> None:
    if level == LOG_ERROR:
        _errors.append(text.decode(errors="replace").strip())


def listen() -> None:
    """Hear llama.cpp from now on."""
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))


def clear() -> None:
    """Forget what was said so far."""
    _errors.clear()


def first(otherwise: str) -> str:
    """The first complaint since `clear`, or else `otherwise`."""
    return _errors[0] if _errors else otherwise
