"""Documents: files as pieces with their places, versions on disk, what a process finds, opens and recalls of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.cpu.scripted import echo, play
from drivers.disk import parcel
from kernel import records
from kernel.audit import audit
from kernel.errors import BadInput
from kernel.event import Filed, Hit
from kernel.machine import arrival, documents
from kernel.machine.documents import Piece
from kernel.memory.page import LOW, FilePage, Kind, Origin, Page, Role, Source
from kernel.memory.prompt import RECALL_END, label, labelled, line
from kernel.replay import Replay
from llmos.documents import apart, code, markdown
from llmos.documents.pieces import MOST, lines_of, paragraphs, pieces
from llmos.documents.read import files, read
from syscalls.abi import FULL, NAMES
from syscalls.manual import manual
from syscalls.table import Table
from tests.fakes import ONLY_SPEAK, Rig, op

MANUAL = """\
# The pump

It weighs 41 kg and stands on four feet.

## Cleaning

Clean the pump every week with soft water.
Let it dry for an hour.

## Noise

At full load it makes 62 decibels.
"""
READER = ("send_message", "read", "open", "find")


def put(rig: Rig, pid: int, path: str, text: str, *, version: int = 0) -> None:
    """A Markdown document in a process's archive, as a machine's `put` makes it."""
    lines = lines_of(text)
    found = pieces(lines, markdown.blocks(text))
    digest = f"{zlib.crc32(text.encode()):012x}"
    version = version or documents.version_for(rig.disk, pid, path, digest, first=True)
    parts, sources = [], []
    for piece in found:
        divided = rig.cpus(piece.text, 60, "")
        parts += divided
        sources += documents.placed(piece, divided, path, version, paged=False)
    mid = documents.mid(pid, path, version, digest, 0, 1)
    step = rig.do(Filed(source="user", pid=pid, mid=mid, parts=tuple(parts), sources=tuple(sources)))
    assert not step.error


def reading(*calls: str, text: str = MANUAL) -> Rig:
    """A process that makes these calls with a manual in its archive."""
    rig = Rig(play([*calls, op("send_message", text="done")]))
    pid = rig.spawn(mask=READER)
    put(rig, pid, "docs/manual.md", text)
    rig.say(pid, "hm")
    return rig


def results(rig: Rig) -> list[str]:
    """What the kernel answered, oldest first."""
    return [page.text for page in map(rig.page, range(1, rig.kernel.counters.page + 1)) if page.kind is Kind.RESULT]


# Files as pieces


def test_markdown_has_its_headings_and_the_lines_it_stands_in() -> None:
    found = pieces(lines_of(MANUAL), markdown.blocks(MANUAL))
    assert [(one.first, one.last, one.headings) for one in found] == [
        (3, 3, ("The pump",)),
        (7, 8, ("The pump", "Cleaning")),
        (12, 12, ("The pump", "Noise")),
    ]
    assert found[1].text == "\n".join(MANUAL.splitlines()[6:8])


def test_a_heading_with_nothing_below_it_is_a_piece_of_its_own() -> None:
    text = "# One\n\n# Two\n\ntext\n\n# Three\n"
    found = pieces(lines_of(text), markdown.blocks(text))
    assert [(one.text, one.headings) for one in found] == [
        ("# One", ("One",)),
        ("text", ("Two",)),
        ("# Three", ("Three",)),
    ]


def test_python_is_divided_by_function_and_class_and_other_code_at_blank_lines() -> None:
    text = "import os\n\n@cached\ndef one(a):\n\n    return a\n\n\n"
    text += "class Two:\n    x = 1\n\n    def three(self):\n        pass\n"
    found = pieces(lines_of(text), code.blocks(lines_of(text), python=True))
    assert [(one.first, one.last, one.headings) for one in found] == [
        (1, 1, ()),
        (3, 6, ("one",)),
        (9, 10, ("Two",)),
        (12, 13, ("Two", "three")),
    ]
    broken = code.blocks(["def one(:", "", "x = 1"], python=True)
    assert [(one.first, one.last) for one in broken] == [(1, 1), (3, 3)]


@given(st.text(st.sampled_from("ab. \n\t#-`>|é中\r\u2028"), max_size=3_000), st.booleans())
def test_pieces_stand_where_they_say_are_bounded_and_leave_out_no_word(text: str, marked: bool) -> None:
    lines = lines_of(text)
    found = pieces(lines, markdown.blocks("\n".join(lines)) if marked else paragraphs(lines))
    for one in found:
        assert one.text in "\n".join(lines[one.first - 1 : one.last])
        assert one.text.strip()
        assert len(one.text) <= MOST * 5 // 4
    assert [one.first for one in found] == sorted(one.first for one in found)
    if not marked:
        kept = "".join("".join(one.text for one in found).split())
        assert kept == "".join("\n".join(lines).split())


def pdf(*pages: str, locked: bool = False) -> bytes:
    """A PDF with a line of text on each page."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = " ".join(f"{3 + 2 * at} 0 R" for at in range(len(pages)))
    objects.append(f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode())
    font = "<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
    for at, text in enumerate(pages):
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents {4 + 2 * at} 0 R/Resources{font}>>".encode()
        )
        stream = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode()
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, body)
    begins = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    lock = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O(%b)/U(%b)>>/ID[(ab)(ab)]" % (b"o" * 32, b"u" * 32)
    trailer = b"/Size %d/Root 1 0 R%b" % (len(objects) + 1, lock if locked else b"")
    return bytes(out) + b"trailer<<%b>>\nstartxref\n%d\n%%%%EOF" % (trailer, begins)


def test_a_pdf_is_read_in_another_process_and_says_the_page(tmp_path: Path) -> None:
    path = tmp_path / "two.pdf"
    path.write_bytes(pdf("The lamp is green.", "The pump weighs 41 kg."))
    found = read(path, "two.pdf")
    assert found.paged
    assert [(one.text, one.first) for one in found.pieces] == [("The lamp is green.", 1), ("The pump weighs 41 kg.", 2)]


def test_what_cannot_be_read_is_one_line_that_says_why(tmp_path: Path) -> None:
    cases = {
        "locked.pdf": (pdf("x", locked=True), "encrypted"),
        "broken.pdf": (b"%PDF-1.4\n" + struct.pack("<64Q", *range(64)), "no whole PDF"),
        "program": (b"\x7fELF\0\0\1", "binary"),
        "latin.txt": ("caf\xe9 au lait".encode("latin-1"), "no UTF-8 (byte 4)"),
        "empty.md": (b" \n", "empty"),
    }
    for name, (content, why) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=name) as caught:
            read(tmp_path / name, name)
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_web_page_is_read_without_its_navigation_and_says_the_line(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura", exc_type=ImportError, reason="trafilatura, or what it needs, is not installed")
    story = "The pump weighs 41 kg, and it stands on four feet of brass which were cast in the yard behind the mill."
    path = tmp_path / "page.html"
    path.write_text(
        f"<html><body>\n<nav><a href='x'>Home and away</a></nav>\n<article>\n<h1>The pump</h1>\n<p>{story}</p>\n"
        f"<h2>Cleaning</h2>\n<p>Once a week it is cleaned with\nsoft water, and then it is left alone to dry.</p>\n"
        "</article></body></html>"
    )
    found = read(path, "page.html").pieces
    assert not any("Home" in one.text for one in found)
    assert [(one.first, one.last, one.headings) for one in found] == [
        (5, 5, ("The pump",)),
        (7, 8, ("The pump", "Cleaning")),
    ]


def test_a_reader_that_is_killed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PATIENCE_S", 0.0)
    assert "took more than" in apart.read("pdf", pdf("x")).why


def test_folders_and_patterns_mean_the_documents_in_them_and_no_links(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "no.bin", ".hidden.md", "sub/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "out.md").symlink_to("/etc/hostname")
    assert [path.name for path in files([str(tmp_path)])] == ["a.txt", "b.md", "c.py"]
    assert [path.name for path in files([f"{tmp_path}/*.md", f"{tmp_path}/a.txt"])] == ["b.md", "out.md", "a.txt"]
    with pytest.raises(BadInput, match="no such file"):
        files([str(tmp_path / "none.md")])


# On disk


def test_a_page_of_a_document_says_where_it_stands_and_other_pages_are_stored_as_ever() -> None:
    rig = reading()
    found = [
        page for number in range(1, rig.kernel.counters.page + 1) if isinstance(page := rig.page(number), FilePage)
    ]
    assert [page.source and (page.source.first, page.source.headings[-1]) for page in found] == [
        (3, "The pump"),
        (7, "Cleaning"),
        (12, "Noise"),
    ]
    assert all(page.origin is Origin.FILE for page in found)
    assert found[1].searched.startswith("The pump / Cleaning: Clean the pump")
    assert audit(rig.disk).findings == []


def test_a_changed_file_is_a_new_version_and_the_same_one_is_none() -> None:
    rig = reading()
    pid = rig.kernel.names["p"]
    assert (
        documents.version_for(rig.disk, pid, "docs/manual.md", f"{zlib.crc32(MANUAL.encode()):012x}", first=True) == 1
    )
    put(rig, pid, "docs/manual.md", MANUAL.replace("41", "43"))
    put(rig, pid, "docs/manual.md", MANUAL)  # as it was once: the newest again
    found = documents.listed(rig.disk, pid)
    assert [(one.version, one.newest, one.whole) for one in found] == [
        (1, False, True),
        (2, False, True),
        (3, True, True),
    ]
    assert [page.source.first for page in documents.pages(rig.disk, found[0]) if page.source] == [3, 7, 12]


def test_parts_stand_in_the_lines_they_were_divided_at() -> None:
    rig = Rig(echo)
    text = "\n".join(f"line {number} of a long paragraph" for number in range(1, 30))
    parts = rig.cpus(text, 60, "")
    placed = documents.placed(Piece(text, 11, 39), parts, "a.txt", 1, paged=False)
    assert len(placed) > 2
    assert (placed[0].first, placed[-1].last) == (11, 39)
    for part, source in zip(parts, placed, strict=True):
        numbers = [int(word) + 10 for word in part.text.split() if word.isdigit()]
        assert source.first <= numbers[0]
        assert numbers[-1] <= source.last


# What a process finds and opens


def test_open_shows_what_a_document_contains_and_its_text_at_a_heading_or_line() -> None:
    rig = reading(op("open"), op("open", path="manual.md"), op("open", path="manual.md", at="cleaning"))
    listed, contents, opened, *_ = (one for one in results(rig) if not one.startswith("Clean"))
    assert listed == "documents:\ndocs/manual.md"
    assert contents.splitlines()[1:] == ["line 3: The pump", "line 7:   Cleaning", "line 12:   Noise"]
    assert opened.startswith("lines 7 to 8 of docs/manual.md, version 1: pages ")
    quotes = [page for page in map(rig.page, range(1, rig.kernel.counters.page + 1)) if page.text == contents]
    assert [page.origin for page in quotes] == [Origin.FILE], "its headings are a file's, in the kernel's frame"
    (page,) = [page for page in rig.jobs[-1].pages if "soft water" in page.page.text]
    assert page.role is Role.USER
    assert rig.cpu.detokenize(page.ids).startswith("[file Cleaning]\nClean the pump")
    rig = reading(op("open", path="manual.md", at="12"))
    assert results(rig)[-1].startswith("line 12 of docs/manual.md")


def test_what_others_have_of_the_same_document_is_theirs_though_it_was_put_right_behind() -> None:
    rig = Rig(play([op("open", path="docs/manual.md", at="1"), op("send_message", text="done")]))
    pid, other = rig.spawn(mask=READER), rig.spawn("other", mask=READER)
    put(rig, pid, "docs/manual.md", MANUAL)
    put(rig, other, "docs/manual.md", MANUAL)
    for reader in (pid, other):
        (mine,) = documents.listed(rig.disk, reader)
        assert {page.pid for page in documents.pages(rig.disk, mine)} == {reader}
    rig.say(pid, "hm")
    read = {page.id for page in map(rig.page, rig.proc(pid).space.resident()) if page.origin is Origin.FILE}
    assert read == {page.id for page in documents.pages(rig.disk, documents.listed(rig.disk, pid)[0])}


def test_open_says_how_to_go_on_and_never_overflows_the_window() -> None:
    text = "# Long\n\n" + "\n\n".join(f"Paragraph {number} says " + "many words " * 30 for number in range(40))
    calls = [op("open", path="manual.md", at="Long")]
    rig = reading(*calls, text=text)
    seen, cursor = set[int](), 0
    for _ in range(60):  # ends with the last part
        told = next(one for one in reversed(results(rig)) if " are in view" in one)
        seen |= {int(word) for word in told.split("pages ")[1].split(" are")[0].split(", ")}
        if "cursor" not in told:
            break
        cursor = int(told.rsplit(" ", 1)[1])
        rig = reading(*calls, op("open", path="manual.md", at="Long", cursor=cursor), text=text)
        assert rig.proc(1).space.used() <= rig.kernel.budgets(rig.proc(1)).queue
    (document,) = documents.listed(rig.disk, 1)
    assert seen == {page.id for page in documents.pages(rig.disk, document)}


def test_a_document_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    rig = reading(op("open", path="other.md"))
    assert results(rig)[-1] == "error: 'other.md' is no document; documents are: docs/manual.md"
    assert rig.proc(1).accounts.syscalls > 0


def test_find_cites_path_and_line_and_says_of_which_version() -> None:
    rig = Rig(play([op("find", query="decibels at full load"), op("send_message", text="done")]))
    pid = rig.spawn(mask=READER)
    put(rig, pid, "docs/manual.md", MANUAL)
    put(rig, pid, "docs/manual.md", MANUAL.replace("62", "59"))
    rig.say(pid, "hm")
    found = results(rig)[0].splitlines()
    assert "[file] The pump / Noise: At full load it makes 59 decibels. (page " in "\n".join(found)
    assert any(one.endswith("docs/manual.md line 12)") for one in found)
    assert any(one.endswith("docs/manual.md line 12, of version 1, which is older than 2)") for one in found)


def test_find_looks_in_documents_alone_and_in_the_one_that_is_named() -> None:
    rig = reading(op("find", query="pump", path="docs/other.md"), op("find", query="pump"))
    rig.do(Filed(source="user", pid=1, parts=rig.cpus("a pump that no document has", 60, "")))
    assert results(rig)[0] == "no new results"
    assert results(rig)[1].startswith("3 results")


def test_what_a_process_that_reads_does_replays() -> None:
    rig = Rig(play([op("find", query="noise"), op("open", path="manual.md"), op("send_message", text="ok")]))
    replay = Replay(rig.disk, Table())
    pid = rig.spawn(mask=READER)
    put(rig, pid, "manual.md", MANUAL)
    rig.say(pid, "hm")
    assert not any(taken.why for taken in replay.steps())
    assert replay.kernel.hash == rig.kernel.hash


def test_a_full_mask_has_none_of_the_calls_that_are_given_by_name() -> None:
    assert set(NAMES) - set(FULL) >= {"open", "find"}
    assert Table().default_mask(True) == FULL
    assert not {"open", "find"} & set(manual(FULL, "json", "short").replace(":", " ").split())
    assert '"op":"open"' in manual(READER, "json", "whole")


# What is not the user's says so


def recalled(rig: Rig, text: str) -> list[str]:
    """The lines of the recall block and the message, as the first prompt of a turn has them."""
    rig.jobs.clear()
    rig.say(1, text)
    prompt = rig.cpu.detokenize(rig.jobs[0].prompt)
    return prompt[: prompt.index(text) + len(text)].split(RECALL_END)


def test_a_recalled_page_of_a_file_says_so_and_a_users_line_is_as_it_was() -> None:
    rig = Rig(echo, "window=1024", "cpu.reply=100")
    pid = rig.spawn(mask=ONLY_SPEAK)
    rig.say(pid, "the harbour master keeps a lighthouse key under the blue stone")
    for n in range(40):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    rig.do(Filed(source="user", pid=pid, parts=rig.cpus("the lighthouse key is of brass", 60, "")))
    lines = recalled(rig, "lighthouse key?")
    assert any(one.endswith("the harbour master keeps a lighthouse key under the blue stone") for one in lines)
    lines += recalled(rig, "brass lighthouse key?")
    assert any(one.endswith("[file] the lighthouse key is of brass") for one in lines)
    assert not any("[file] the harbour" in one for one in lines)


def test_for_a_question_for_a_time_what_was_said_is_dated_and_no_document_for_that_was_put_at_some_time() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "the old lighthouse was painted white again")
    said = rig.proc(pid).space.queue[0].page
    put(rig, pid, "harbour.md", "# Crane\n\nThe steam crane was raised beside the dry dock by two engineers.\n")
    crane = rig.kernel.counters.page
    hits = [Hit(number, 1, Role.USER, 0, 0, 0.5, 0.5, "", dated=True) for number in (said, crane)]
    spoken, read_ = rig.pages.sized(hits)
    assert (spoken.dated, read_.dated) == (True, False)
    assert [read_] == rig.pages.sized([msgspec.structs.replace(hits[1], dated=False)])


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=80),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=60), max_size=2),
    st.sampled_from(["", "\u2028", "\n", "\r", "\x85", "\x0b", "\x1c", "\n[file] ", "] ", "\n\n"]),
)
def test_no_text_ends_the_line_that_says_whose_it_is(text: str, headings: list[str], between: str) -> None:
    source = Source("a\u2029]b.md", 1, 1, 1, False, tuple(headings))
    page = FilePage(1, 1, 1, Kind.ARCHIVE, Origin.FILE, Role.USER, "archive", 0, text, source=source)  # type: ignore[arg-type]
    shown = labelled(page, line(text + between + text, None))
    assert shown.startswith("[file")
    assert len(shown.rstrip("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029").splitlines()) == 1
    assert "]" not in label(page)[:-1]
    assert "[" not in label(page)[1:]


def test_only_what_is_not_the_users_nor_the_processs_own_has_a_label() -> None:
    def of(origin: Origin, role: Role = Role.USER) -> str:
        return label(Page(1, 1, 1, Kind.MESSAGE, origin, role, "recall", 0, "x"))  # type: ignore[arg-type]

    assert {origin for origin in Origin if of(origin)} == set(LOW)
    assert not any(of(origin, Role.ASSISTANT) or of(origin, Role.SYSTEM) for origin in Origin), "they have frames"


def test_the_sizes_of_labelled_pages_are_those_of_the_prompt() -> None:
    rig = reading(op("open", path="manual.md", at="Noise"), op("read", pages=[3]))
    rig.say(1, "what noise does it make at full load?")
    run, job = rig.proc(1), rig.jobs[-1]
    assert any(page.recalled for page in rig.jobs[-1].pages) or run.space.used()
    assert len(job.prompt) <= run.space.size() + rig.kernel.costs(run).begin + rig.kernel.costs(run).generate


def test_a_small_model_is_shown_one_part_of_a_document_in_order_and_next_to_the_question() -> None:
    text = "# Pump\n\n" + "The pump of brass weighs 41 kg. " * 12 + "\n\n# Belt\n\nThe belt weighs 12 kg.\n"
    rig = Rig(echo, encoding="prose")
    pid = rig.spawn(mask=ONLY_SPEAK)
    put(rig, pid, "manual.md", text)
    rig.do(Filed(source="user", pid=pid, parts=rig.cpus("brass pumps have weighed on us", 60, "")))
    rig.say(pid, "what do pumps of brass weigh?")
    shown = [page.page for page in rig.jobs[0].pages if page.recalled]
    filed = [page for page in shown if isinstance(page, FilePage)]
    assert filed
    assert {page.source.headings for page in filed if page.source} == {("Pump",)}
    assert [page.id for page in filed] == sorted(page.id for page in filed)
    assert shown[-len(filed) :] == filed


def test_an_export_has_its_documents_and_an_import_finds_opens_and_lists_them(tmp_path: Path) -> None:
    rig = Rig(echo)
    pid = rig.spawn("main", READER)
    put(rig, pid, "books/manual.md", MANUAL)
    rig.say(pid, "hm")
    put(rig, pid, "books/manual.md", MANUAL.replace("41 kg", "43 kg"))
    put(rig, pid, "notes.md", "# Notes\n\nThe larch is old.\n")
    parcel.write(rig.disk, pid, tmp_path / "main.jsonl", 7)

    here = Rig(
        play(
            [
                op("find", query="decibels at full load"),
                op("open", path="manual.md"),
                op("open", path="manual.md", at="Noise"),
                op("send_message", text="So it is."),
            ]
        )
    )
    here.spawn("other")  # so that numbers are others here
    event = arrival.measured(
        arrival.admitted(parcel.read(tmp_path / "main.jsonl", "twin")), here.cpus.layouts[""], 2048, 200
    )
    assert not here.do(event).error
    twin = here.kernel.names["twin"]
    then, now = documents.listed(rig.disk, pid), documents.listed(here.disk, twin)
    assert [(one.path, one.version) for one in now] == [("books/manual.md", 1), ("books/manual.md", 2), ("notes.md", 1)]
    for before, after in zip(then, now, strict=True):
        assert (before.digest, before.of, before.whole, before.newest) == (
            after.digest,
            after.of,
            after.whole,
            after.newest,
        )
        mine, theirs = (list(documents.pages(disk, one)) for disk, one in ((rig.disk, before), (here.disk, after)))
        assert [(page.text, page.source, page.searched) for page in mine] == [
            (page.text, page.source, page.searched) for page in theirs
        ]
    assert documents.version_for(here.disk, twin, "notes.md", now[2].digest, first=True) == 1, "the same content again"
    here.say(twin, "What does it say?")
    found = [page.text for page in everything(here, twin) if page.kind == "result" and page.role is Role.SYSTEM]
    assert "manual.md line" in found[0]
    assert "[file Noise]" not in found[0]
    assert found[1].startswith("contents of books/manual.md, version 2:\nline 3: The pump")
    assert "are in view" in found[2]
    assert not any(taken.why for taken in Replay(here.disk, Table()).steps())
    assert audit(here.disk).findings == []


def everything(rig: Rig, pid: int) -> list[Page]:
    found = [records.page_of(row, rig.disk.get) for _, row in rig.disk.scan("page")]
    return [page for page in found if page.pid == pid]
