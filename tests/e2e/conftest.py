"""Chats that a failed test leaves are ended, so that one failure is one failure."""

from collections.abc import Iterator

import pytest

from tests.e2e.daemons import ChatProcess, TerminalChat


@pytest.fixture(autouse=True)
def _no_chat_is_left() -> Iterator[None]:
    yield
    while ChatProcess.running:
        ChatProcess.running[-1].kill()
    while TerminalChat.running:
        TerminalChat.running[-1].process.kill()
        TerminalChat.running[-1].left()
