"""The conversation on a screen, without daemon or terminal: what is final, what is struck out, what comes once."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from drivers.door import wire
from kernel.errors import BadInput
from kernel.event import Message, Note, Tag, What
from kernel.interrupts import Line
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.ports import Streamed
from kernel.text import printable
from llmos.ask import Refused
from llmos.console.chat import Chat, read_lines, started
from llmos.console.conversation import Conversation, history
from llmos.console.editor import HISTORY_MAX, Typed
from llmos.console.screen import Plain
from llmos.daemon import Options
from syscalls.spoken import spoken


def conversation(encoding: str = "prose") -> tuple[Conversation, io.StringIO]:
    out = io.StringIO()
    talk = Conversation(Plain(out), "main")
    talk.pid, talk.encoding = 1, encoding
    return talk, out


def stream(talk: Conversation, *texts: str, instr: int = 1, attempt: int = 1, offset: int = 0) -> None:
    for index, text in enumerate(texts):
        talk.token(Streamed(Tag(1, instr, attempt), offset + index, text))


def finish(talk: Conversation, text: str, seq: int = 1, instr: int = 1) -> bool:
    message = Message(1, seq, 0, text, ("m",), instr)
    if talk.message(message):
        talk.final(message)
        return True
    return False


class Thinks(Plain):
    """Notes what it is to show of thoughts."""

    def __init__(self, out: io.StringIO) -> None:
        super().__init__(out)
        self.thoughts: list[str] = []

    def thinks(self, who: str, text: str) -> None:
        self.thoughts.append(f"{who}: {text}")


def test_what_is_thought_is_shown_apart_and_the_reply_after_it_from_its_beginning() -> None:
    out = io.StringIO()
    screen = Thinks(out)
    talk = Conversation(screen, "main")
    talk.pid, talk.encoding = 1, "prose"
    for offset, text in ((1, "they "), (2, "greet\x1b[2J")):
        talk.token(Streamed(Tag(1, 1, 1), offset, text, thought=True))
    assert screen.thoughts == ["main: they ", f"main: they {printable('greet' + chr(27) + '[2J')}"]
    assert "\x1b" not in screen.thoughts[-1]
    assert out.getvalue() == ""
    stream(talk, "Hel", "lo")
    assert out.getvalue() == "main> Hello"
    assert finish(talk, "Hello")
    assert out.getvalue() == "main> Hello\n"
    talk.token(Streamed(Tag(1, 2, 1), 0, "again", thought=True))
    assert screen.thoughts[-1] == "main: again"


def test_a_reply_is_shown_as_it_comes_and_has_its_end_only_when_it_is_final() -> None:
    talk, out = conversation()
    stream(talk, "Hel", "lo")
    assert out.getvalue() == "main> Hello"
    message = Message(1, 1, 0, "Hello there", ("m",), 1)
    assert talk.message(message)
    assert out.getvalue() == "main> Hello there"
    assert talk.answered == set()
    talk.final(message)
    assert out.getvalue() == "main> Hello there\n"
    assert talk.answered == {"m"}


def test_a_message_is_shown_once_by_its_number() -> None:
    talk, out = conversation()
    assert finish(talk, "one", seq=1)
    assert not finish(talk, "one", seq=1)
    assert finish(talk, "two", seq=2, instr=2)
    assert out.getvalue() == "main> one\nmain> two\n"


def test_an_attempt_that_is_superseded_is_struck_out_and_said_again() -> None:
    talk, out = conversation()
    stream(talk, "Hel")
    stream(talk, "Hel", "lo", attempt=2)
    finish(talk, "Hello")
    assert out.getvalue() == "main> Hel [struck out]\nmain> Hello\n"


def test_tokens_of_an_attempt_that_was_superseded_are_dropped() -> None:
    talk, out = conversation()
    stream(talk, "new", attempt=2)
    stream(talk, "old", attempt=1, offset=5)
    finish(talk, "new one")
    assert out.getvalue() == "main> new one\n"


def test_a_lost_connection_strikes_out_what_has_no_message() -> None:
    talk, out = conversation()
    stream(talk, "Hel")
    talk.lost()
    assert out.getvalue() == "main> Hel [struck out]\n"
    stream(talk, "Hello", attempt=2)
    finish(talk, "Hello")
    assert out.getvalue() == "main> Hel [struck out]\nmain> Hello\n"


def test_tokens_whose_beginning_was_missed_are_left_to_the_message() -> None:
    talk, out = conversation()
    stream(talk, "lo the", "re", offset=2)
    assert out.getvalue() == ""
    finish(talk, "Hello there")
    assert out.getvalue() == "main> Hello there\n"


def test_a_message_other_than_what_was_streamed_is_said_instead() -> None:
    talk, out = conversation()
    stream(talk, "Hallo")
    finish(talk, "Hello")
    assert out.getvalue() == "main> Hallo [struck out]\nmain> Hello\n"


def test_a_process_that_dies_in_mid_reply_has_its_reply_struck_out() -> None:
    talk, out = conversation()
    stream(talk, "Hel")
    talk.note(Note(What.EXIT, 1, text="killed"))
    assert out.getvalue() == "main> Hel [struck out]\n· exit: killed\n"


def test_notes_wait_until_a_reply_is_whole() -> None:
    talk, out = conversation()
    stream(talk, "Hel")
    talk.note(Note(What.EVICT, 1, pages=(3, 4), tokens=640))
    talk.note(Note(What.INTERRUPT, 1, line=Line.MEMORY))
    talk.note(Note(What.FAULT, 2, pages=(3, 4), tokens=640))  # another process's
    finish(talk, "Hello")
    assert out.getvalue() == "main> Hello\n· evict: 2 pages, 640 tokens\n· interrupt: MEMORY\n"


def test_a_syscall_is_not_said_and_the_text_of_send_message_is() -> None:
    talk, out = conversation("json")
    stream(talk, '{"op":"sea', 'rch","query":"x"}')
    stream(talk, '{"op":"send_mess', 'age","text":"He said \\', '"hi\\" \\u00', "e9", '"}', instr=2)
    assert out.getvalue() == 'main> He said "hi" é'
    finish(talk, 'He said "hi" é', instr=2)
    talk.encoding = "prose"
    stream(talk, '!{"op":"search","query":"x"}', instr=3)
    assert out.getvalue() == 'main> He said "hi" é\n'


@given(st.text(min_size=1), st.booleans())
def test_what_is_said_grows_with_what_was_emitted_and_ends_as_the_message(text: str, ascii_only: bool) -> None:
    raw = json.dumps({"op": "send_message", "text": text}, ensure_ascii=ascii_only, separators=(",", ":"))
    prefixes = [spoken(raw[:end], "json") for end in range(len(raw) + 1)]
    assert all(b.startswith(a) for a, b in zip(prefixes, prefixes[1:], strict=False))
    assert prefixes[-1] == text


@given(st.text())
def test_prose_is_said_as_the_kernel_will_say_it(raw: str) -> None:
    assert spoken(raw, "prose", only_speaks=True) == raw.strip()
    if not raw.startswith("!"):
        assert spoken(raw, "prose") == raw.strip()


@given(st.text())
def test_no_text_moves_the_cursor(text: str) -> None:
    assert not any(c < " " and c not in "\n\t" or "\x7f" <= c <= "\x9f" for c in printable(text))


def test_what_came_from_elsewhere_waits_until_a_reply_is_whole() -> None:
    talk, out = conversation()
    stream(talk, "half a")
    talk.heard("from\x1b[2J another chat")
    assert out.getvalue() == "main> half a"
    finish(talk, "half a reply")
    assert out.getvalue() == "main> half a reply\nyou, elsewhere> from\ufffd[2J another chat\n"


class Answers:
    """A client whose daemon knows one address space."""

    async def ask(self, request: wire.Pmap, answer: type[wire.Mapped]) -> wire.Mapped:
        space = {"pid": request.proc, "name": "main", "window": 2048, "segments": [], "budgets": {}}
        return msgspec.convert({"id": 0, "map": space}, answer)


@pytest.mark.parametrize(("colour", "shown", "hidden"), [(True, "░", ". free"), (False, ". free", "░")])
async def test_pmap_tells_by_letters_where_there_are_no_colours(colour: bool, shown: str, hidden: str) -> None:
    out = io.StringIO()
    screen = Plain(out)
    screen.colour = colour
    chat = Chat(Path("nowhere"), "main", Options(), screen, keep=False, one_by_one=False)
    await chat._command(Answers(), "/pmap")  # type: ignore[arg-type]
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).split())
    assert shown in text
    assert hidden not in text


def page(number: int, origin: Origin, text: str) -> Page:
    role = Role.USER if origin is Origin.USER else Role.ASSISTANT
    return Page(number, 1, number, Kind.MESSAGE, origin, role, Area.RECALL, 0, text)


def test_history_leaves_out_what_is_still_unread_and_cuts_all_but_the_last() -> None:
    pages = [
        page(1, Origin.USER, "x" * 1_000),
        page(2, Origin.PROCESS, "same"),
        page(3, Origin.USER, "y" * 1_000),
        page(4, Origin.PROCESS, "same"),
    ]
    found = history(pages, [Message(1, 2, 0, "same")])
    assert [(one.id, len(text)) for one, text in found] == [(1, 304), (2, 4), (3, 1_000)]


@pytest.mark.parametrize("ending", [b"", b"\n"])
async def test_every_line_of_a_file_is_read_and_broken_utf8_is_kept_as_such(tmp_path: Path, ending: bytes) -> None:
    (tmp_path / "lines").write_bytes(b"one\n\xff\nthree" + ending)
    send, receive = trio.open_memory_channel[str](10)
    fd = os.open(tmp_path / "lines", os.O_RDONLY)
    await read_lines(fd, send)
    os.close(fd)
    lines = [line async for line in receive]
    assert [line for line in lines if line] == ["one", "\udcff", "three"]


async def test_a_line_without_an_end_is_refused() -> None:
    fd = os.open("/dev/zero", os.O_RDONLY)
    send, _ = trio.open_memory_channel[str](10)
    with pytest.raises(BadInput, match="more than"):
        await read_lines(fd, send)
    os.close(fd)


@pytest.mark.parametrize(("code", "fine"), [("exists", True), ("busy", False), ("", False)])
def test_a_process_that_another_chat_has_made_meanwhile_is_taken(code: str, fine: bool) -> None:
    class Late:
        async def ask(self, request: object, answer: object) -> None:
            raise Refused("no", None, code)

    if fine:
        trio.run(started, Late(), "gerda")
    else:
        with pytest.raises(Refused):
            trio.run(started, Late(), "gerda")


def test_what_was_typed_is_kept_newest_first_within_a_bound_and_a_broken_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "history"
    typed = Typed(file)
    assert list(typed.load_history_strings()) == []
    for number in range(HISTORY_MAX + 5):
        typed.store_string(f"line\n{number}")
    file.write_bytes(file.read_bytes() + b'"half a li')
    assert list(Typed(file).load_history_strings())[:2] == [f"line\n{HISTORY_MAX + 4}", f"line\n{HISTORY_MAX + 3}"]
    assert len(file.read_bytes().splitlines()) == HISTORY_MAX - 1
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_text_of_a_long_page_comes_in_parts() -> None:
    page = Page(5, 1, 1, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, 0, "abc")
    request = wire.Cat(id=0, proc=1, page=5)
    first = wire.Paged(id=1, page=page, chars=5)
    rest = wire.onward(request, first)
    assert rest == wire.Cat(id=0, proc=1, page=5, start=3)
    last = wire.Paged(id=2, page=msgspec.structs.replace(page, text="de"), chars=5)
    assert wire.onward(rest, last) is None
    assert wire.joined(first, last) == wire.Paged(id=1, page=msgspec.structs.replace(page, text="abcde"), chars=5)
