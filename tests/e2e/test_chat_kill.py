"""kill -9 of chats and daemons: nothing acknowledged or shown as final is missing or comes twice."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.door import wire
from llmos.ask import SOCKET, call
from tests.e2e.daemons import ChatProcess, command, daemon_pid, eventually, kill_daemon, llmos, shown

KILLS = 10
STRUCK = " [struck out]"
SAID = "you said: "


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A data directory; whatever daemon is left there is killed."""
    yield tmp_path / "machine"
    kill_daemon(tmp_path / "machine")


class Transcript:
    """What chats printed, one after the other: what was acknowledged, final, struck out, history."""

    def __init__(self, *texts: str) -> None:
        lines = [line for text in texts for line in text.split("\n")[:-1]]  # what has no end is not final
        said = [line.removeprefix("main> ") for line in lines if line.startswith("main> ")]
        self.sent = [line.removeprefix("you> ") for line in lines if line.startswith("you> ")]
        self.final = [line for line in said if not line.endswith(STRUCK)]
        self.struck = [line.removesuffix(STRUCK) for line in said if line.endswith(STRUCK)]
        self.history = [line.removeprefix("| main> ") for line in lines if line.startswith("| main> ")]


def half_shown(chat: ChatProcess) -> bool:
    """A reply stands on the screen in part."""
    last = chat.text.rsplit("\n", 1)[-1]
    return last.startswith(f"main> {SAID}") and len(last) > len(f"main> {SAID}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_kills_at_random_moments_lose_nothing_and_say_nothing_twice(directory: Path, seed: int) -> None:
    draw = random.Random(seed)
    numbers = iter(range(1_000))

    def line() -> str:
        return f"line {next(numbers):03} " + " ".join(draw.choices(["sun", "moon", "tide", "harbour"], k=6))

    ended: list[str] = []
    chat = ChatProcess(directory)
    for _ in range(KILLS):
        for _ in range(2):
            chat.say(line())
        shown(chat, "you> ")
        time.sleep(draw.uniform(0, 1.5))
        if draw.random() < 0.5:
            kill_daemon(directory)  # if one is there: it may be starting
        else:
            chat.kill()
            ended.append(chat.text)
            chat = ChatProcess(directory)
    last = line()
    chat.say(last)
    shown(chat, f"main> {SAID}{last}\n")
    before_stop = call(directory / SOCKET, wire.History(id=0, proc="main", limit=1_000), wire.Pages).pages
    assert chat.close() == 0, chat.errors
    seen = Transcript(*ended, chat.text)

    stored = Counter(page.searched for page in before_stop if page.origin == "user")
    assert [text for text, many in stored.items() if many > 1] == []  # none was applied twice
    assert set(seen.sent) <= set(stored)  # none that was acknowledged is missing
    replies = Counter(page.searched for page in before_stop if page.origin == "process")
    assert replies == Counter(SAID + text for text in stored)
    assert [text for text, many in Counter(seen.final).items() if many > 1] == []
    for text in stored:
        assert SAID + text in seen.final + seen.history, f"{text} was never shown"
    for text in seen.struck:
        assert any(final.startswith(text) for final in seen.final + seen.history), f"{text} was not said again"


@pytest.mark.slow
def test_a_half_shown_reply_is_struck_out_and_said_again_when_the_daemon_dies(directory: Path) -> None:
    chat = ChatProcess(directory)
    text = "a line that is long enough to be cut off in the middle of its echo, for it takes half a second"
    chat.say(text)
    eventually(lambda: half_shown(chat))
    assert kill_daemon(directory)
    shown(chat, f"main> {SAID}{text}\n")
    assert chat.close() == 0, chat.errors
    seen = Transcript(chat.text)
    assert len(seen.struck) == 1
    assert (SAID + text).startswith(seen.struck[0])
    assert seen.final == [SAID + text]
    assert seen.sent == [text]


@pytest.mark.slow
def test_a_reply_that_nobody_saw_is_shown_by_the_next_chat_once(directory: Path) -> None:
    chat = ChatProcess(directory)
    chat.say("who is there to hear it")
    shown(chat, "you> ")
    chat.kill()
    printed = [chat.text]
    for _ in range(2):
        chat = ChatProcess(directory, "--keep")
        chat.say("next")
        shown(chat, f"main> {SAID}next\n")
        assert chat.close() == 0, chat.errors
        printed.append(chat.text)
    seen = Transcript(*printed)
    assert seen.final.count(SAID + "who is there to hear it") == 1
    assert SAID + "who is there to hear it" in Transcript(printed[2]).history


@pytest.mark.slow
def test_a_killed_process_keeps_its_memory_and_is_started_again_by_chat(directory: Path) -> None:
    chat = ChatProcess(directory, "--keep")
    chat.say("remember me")
    shown(chat, f"main> {SAID}remember me\n")
    assert llmos(directory, "kill", "main").returncode == 0
    chat.say("are you there")
    shown(chat, f"main> {SAID}are you there\n")
    assert chat.close() == 0, chat.errors
    assert "main was dead (killed); it is started again and has its memory" in chat.text
    pages = call(directory / SOCKET, wire.History(id=0, proc="main", limit=9), wire.Pages).pages
    assert [page.searched for page in pages if page.origin == "user"] == ["remember me", "are you there"]


def test_a_kernel_that_a_chat_starts_in_the_place_of_the_users_own_stays_when_it_leaves(directory: Path) -> None:
    own = subprocess.Popen(command(directory, "boot", "--cpu", "scripted"), stdout=subprocess.PIPE)
    assert own.stdout is not None
    own.stdout.readline()
    chat = ChatProcess(directory)
    chat.say("hello")
    shown(chat, "main> you said: hello\n")
    own.kill()
    own.communicate()
    shown(chat, "starting the kernel again")
    chat.say("again")
    shown(chat, "main> you said: again\n")
    chat.say("/quit")
    assert chat.close() == 0, chat.errors
    assert daemon_pid(directory)
    assert "main" in llmos(directory, "ps").stdout


@pytest.mark.slow
def test_a_daemon_that_chat_started_ends_with_it_and_one_that_ran_before_does_not(directory: Path) -> None:
    chat = ChatProcess(directory)
    chat.say("hello")
    shown(chat, f"main> {SAID}hello\n")
    assert chat.kill(2) == 0, chat.errors  # Ctrl-C
    assert daemon_pid(directory) == 0
    for arguments in (["--keep"], []):
        chat = ChatProcess(directory, *arguments)
        chat.say("hello again")
        shown(chat, f"main> {SAID}hello again\n")
        assert chat.close() == 0, chat.errors
        assert daemon_pid(directory) != 0
    assert llmos(directory, "stop").returncode == 0
    with contextlib.suppress(FileNotFoundError):
        assert daemon_pid(directory) == 0
