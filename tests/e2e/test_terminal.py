"""The chat on a real terminal, and several chats with one process, against a daemon whose scripted CPU echoes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.door import wire
from kernel.text import UNSEEN
from llmos.ask import SOCKET, call
from tests.e2e.daemons import ChatProcess, TerminalChat, command, kill_daemon, llmos, shown

CTRL_C, UP, ALT_ENTER = "\x03", "\x1b[A", "\x1b\r"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A machine whose kernel runs."""
    directory = tmp_path_factory.mktemp("terminal") / "machine"
    process = subprocess.Popen(
        command(directory, "boot", "--cpu", "scripted", "--window", "32768", "--set", "cpu.reply=4000"),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield directory
    kill_daemon(directory)
    process.communicate()


def told(directory: Path, proc: str) -> list[str]:
    """What users have said to a process."""
    pages = call(directory / SOCKET, wire.History(id=0, proc=proc, limit=99), wire.Pages).pages
    return [page.text for page in pages if page.origin == "user"]


def test_a_chat_says_what_it_talks_to_streams_and_is_left_by_ctrl_d(directory: Path) -> None:
    chat = TerminalChat(directory, "anna")
    chat.shows("anna: scripted, window 32,768; /help tells what else there is")
    chat.type("hello\r")
    chat.shows("\x1b[2m\u00b7 interrupt: USER\x1b[0m")
    chat.shows("anna works")
    chat.shows("\x1b[1;36manna> \x1b[0myou said: hello")
    chat.type("\x04")
    assert chat.left() == 0


def test_a_paste_is_one_message_and_nothing_is_cut(directory: Path) -> None:
    chat = TerminalChat(directory, "berta")
    chat.shows("/help")
    pasted = "\n".join(f"line {number} of what was pasted, {'x' * 70}" for number in range(60))
    assert len(pasted) > 4_095
    chat.type(f"\x1b[200~{pasted}\x1b[201~")
    chat.type("\r")
    chat.shows("\x1b[1;36mberta> ")
    chat.type(f"typed{ALT_ENTER}in two lines\r")
    chat.shows("you said: typed")
    assert "".join(told(directory, "berta")) == f"{pasted}typed\nin two lines"
    chat.type("/quit\r")
    assert chat.left() == 0


def test_the_first_ctrl_c_stops_the_reply_and_the_second_leaves(directory: Path) -> None:
    chat = TerminalChat(directory, "clara")
    chat.shows("/help")
    chat.type("tell me " * 1_600 + "\r")
    chat.shows("\x1b[0;36;1mclara> ")  # it streams
    chat.type(CTRL_C)
    chat.shows("turn: stopped by the user")
    assert json.loads(llmos(directory, "ps", "--json").stdout)["processes"]
    chat.type("again\r")
    chat.shows("\x1b[1;36mclara> \x1b[0myou said: again")
    chat.type(CTRL_C)
    chat.shows("Ctrl-C again leaves")
    chat.type(CTRL_C)
    assert chat.left() == 0
    (view,) = call(directory / SOCKET, wire.Ps(id=0, proc="clara"), wire.Processes).processes
    assert view.state == "idle"
    replies = call(directory / SOCKET, wire.Outbox(id=0, proc="clara", since=0), wire.Messages).messages
    assert [message.text for message in replies] == ["you said: again"]


def test_what_was_typed_is_there_in_the_next_chat_and_is_its_owners_alone(directory: Path) -> None:
    for keys in ("remember this line\r", f"{UP}{UP}\r"):
        chat = TerminalChat(directory, "dora")
        chat.shows("/help")
        chat.type(keys)
        chat.shows("\x1b[1;36mdora> \x1b[0myou said: remember this line")
        chat.type("/quit\r")
        assert chat.left() == 0
    assert told(directory, "dora") == ["remember this line"] * 2
    assert stat.S_IMODE(os.stat(directory / "chat.history").st_mode) == 0o600


def test_a_signal_ends_a_chat_and_gives_the_terminal_back(directory: Path) -> None:
    chat = TerminalChat(directory, "emma")
    chat.shows("/help")
    chat.process.send_signal(signal.SIGTERM)
    assert chat.left() == 0
    assert b"\x1b[?2004l" in chat.out  # no more bracketed paste


def test_a_dumb_terminal_gets_lines(directory: Path) -> None:
    chat = TerminalChat(directory, "frida", TERM="dumb")
    chat.shows("/help")
    chat.type("hello\n")
    chat.shows("frida> you said: hello\r\n")
    chat.process.send_signal(signal.SIGINT)
    chat.shows("Ctrl-C again leaves")
    chat.process.send_signal(signal.SIGINT)
    assert chat.left() == 0
    assert not UNSEEN.search(chat.out.decode().replace("\r\n", "\n"))


def test_several_chats_with_one_process_show_the_same_conversation(directory: Path) -> None:
    chats = [ChatProcess(directory, "gerda") for _ in range(2)]
    for chat in chats:
        shown(chat, "/help tells")
    for number, (one, other) in enumerate([chats, chats[::-1]]):
        one.say(f"message {number}")
        for chat in chats:
            shown(chat, f"gerda> you said: message {number}\n")
        shown(one, f"you> message {number}\n")
        shown(other, f"you, elsewhere> message {number}\n")
    assert llmos(directory, "send", "gerda", "from a command", "--wait").stdout == "you said: from a command\n"
    for chat in chats:
        shown(chat, "you, elsewhere> from a command\n")
        shown(chat, "gerda> you said: from a command\n")
        assert chat.close() == 0
        lines = [line for line in chat.text.splitlines() if line.startswith("gerda> ") and "struck" not in line]
        assert len(lines) == 3


def test_a_chat_that_was_away_shows_what_others_said_and_read_meanwhile(directory: Path) -> None:
    chat = ChatProcess(directory, "hanna")
    chat.say("before")
    shown(chat, "hanna> you said: before\n")
    chat.process.send_signal(signal.SIGSTOP)
    for number in range(3):
        assert llmos(directory, "send", "hanna", f"meanwhile {number}", "--wait").returncode == 0
    chat.process.send_signal(signal.SIGCONT)
    for number in range(3):
        shown(chat, f"you, elsewhere> meanwhile {number}\n")
        shown(chat, f"hanna> you said: meanwhile {number}\n")
    assert chat.close() == 0


def test_commands_of_a_chat(directory: Path) -> None:
    assert llmos(directory, "spawn", "ida", "--block", "persona=You are Ida.").returncode == 0
    found = llmos(directory, "chat", "ida", text="hello\n/retry\n/continue\n/model\n/core\n/help\n")
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("ida> you said: hello\n") == 2
    assert "ida> you said: Please go on.\n" in found.stdout
    assert "scripted, window 32,768; this machine has scripted" in found.stdout
    assert "persona: You are Ida.\n" in found.stdout
    assert "/retry     send your last message again" in found.stdout
    assert told(directory, "ida") == ["hello", "hello", "Please go on."]
    again = llmos(directory, "chat", "ida", text="/retry\n")
    assert "ida> you said: Please go on.\n" in again.stdout


def test_a_long_message_is_sent_again_whole_by_a_chat_that_did_not_send_it(directory: Path) -> None:
    long = " ".join(map(str, range(4_000)))
    assert llmos(directory, "send", "jana", "-", "--wait", text=long).returncode == 2  # there is none yet
    assert llmos(directory, "spawn", "jana").returncode == 0
    assert llmos(directory, "send", "jana", "before", "--wait").returncode == 0
    assert llmos(directory, "send", "jana", "-", "--wait", text=long).returncode == 0
    assert llmos(directory, "chat", "jana", text="/retry\n").returncode == 0
    assert len(told(directory, "jana")) > 4
    assert "".join(told(directory, "jana")) == "before" + long + long
