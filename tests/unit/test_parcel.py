"""An export is read within bounds, whatever is in the file: one line, and nothing is held."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.disk import parcel
from kernel.errors import BadInput
from kernel.limits import IMPORT_PAGES_MAX
from tests.fakes import Rig, op

HEAD = {"format": "llmos-process", "version": 2, "spec": {"name": "p"}, "timers": [], "exported_at": 1, "lsn": 1}
PAGE = {"seq": 1, "kind": "message", "origin": "user", "role": "user", "area": "recall", "at": 1, "text": "hello"}


def made(*pages: object, head: object = HEAD) -> bytes:
    """An export of these lines, with the tail that fits them."""
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in (head, *pages))
    tail = {"pages": len(pages), "sha256": hashlib.sha256(lines).hexdigest()}
    return lines + json.dumps(tail, separators=(",", ":")).encode() + b"\n"


def refused(raw: bytes, tmp_path: Path) -> str:
    """The one line with which a file of these bytes is refused."""
    file = tmp_path / "x.jsonl"
    file.write_bytes(raw)
    with pytest.raises(BadInput) as caught:
        parcel.read(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_export_is_read_in_parts_of_any_size() -> None:
    raw = made(PAGE, {**PAGE, "text": "two\nlines"})
    for size in (1, 7, 100, len(raw)):
        reader = parcel.Reader("it")
        for at in range(0, len(raw), size):
            reader.take(raw[at : at + size])
        event = reader.done("other")
        assert (event.spec.name, [page.text for page in event.pages]) == ("other", ["hello", "two\nlines"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("at", -1),
        ("at", 1 << 63),
        ("at", 1 << 64),
        ("group", (1 << 64) - 1),
        ("seq", 10**400),
        ("text", ""),
        ("text", "x" * 300_000),
        ("gist", "x" * 300_000),
        ("kind", "core"),
        ("kind", "fact"),
        ("origin", "nobody"),
        ("where", "everywhere"),
        ("more", 1),
    ],
)
def test_a_page_beyond_its_bounds_is_refused(field: str, value: object, tmp_path: Path) -> None:
    assert refused(made({**PAGE, field: value}), tmp_path)


PLACE = {"path": "a.md", "version": 1, "first": 3, "last": 5, "digest": "0a1b2c3d4e5f"}
FILED = {**PAGE, "kind": "archive", "origin": "file", "area": "archive", "source": PLACE}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"path": ""}, "1 to 200 characters in one line"),
        ({"path": "a\nb"}, "in one line"),
        ({"path": "x" * 600}, "<= 200"),
        ({"version": 0}, ">= 1"),
        ({"version": 100_000}, "<= 99999"),
        ({"last": 2}, "stands from 3 to 2"),
        ({"first": 0}, ">= 1"),
        ({"headings": ["a\nb"]}, "heading 'a\\nb'"),
        ({"headings": ["a"] * 100}, "length"),
        ({"digest": "../../etc/pw"}, "matching"),
        ({"part": 2, "parts": 2}, "part 2 of 2"),
        ({"parts": 1 << 40}, "at most"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_a_place_in_a_document_that_cannot_be_is_refused(change: dict[str, object], why: str, tmp_path: Path) -> None:
    parcel.Reader("it").take(made(FILED))
    assert why in refused(made({**FILED, "source": {**PLACE, **change}}), tmp_path)


def test_a_document_is_a_files_and_each_part_of_it_begins_once(tmp_path: Path) -> None:
    assert "that of such is file" in refused(made({**FILED, "origin": "process"}), tmp_path)
    other = {**FILED, "source": {**PLACE, "version": 2}}
    assert "line 4 begins a part of a document that has begun before" in refused(made(FILED, other, FILED), tmp_path)
    going_on = {**FILED, "source": {key: value for key, value in PLACE.items() if key != "digest"}}
    (tmp_path / "x.jsonl").write_bytes(made(FILED, going_on, going_on, other))
    assert [bool(page.begins) for page in parcel.read(tmp_path / "x.jsonl").files] == [True, False, False, True]


@pytest.mark.parametrize(
    "timer",
    [
        {},
        {"due": 1, "every_ns": (1 << 64) - 1, "text": ""},
        {"due": 1, "every_ns": -1, "text": ""},
        {"due": 1, "every_ns": 1, "text": ""},
        {"due": -1, "every_ns": 0, "text": ""},
        {"due": 1 << 64, "every_ns": 0, "text": ""},
        {"due": 1, "every_ns": 0, "text": "x" * 10_000},
    ],
)
def test_a_timer_beyond_its_bounds_is_refused(timer: object, tmp_path: Path) -> None:
    assert "timers" in refused(made(head={**HEAD, "timers": [timer]}), tmp_path)
    assert refused(made(head={**HEAD, "timers": 65 * [{"due": 1, "every_ns": 0, "text": ""}]}), tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"\0" * 1_000,
        b"[" * 100_000,
        b'{"format":"llmos-process","version":2,"x":' + b"[" * 100_000,
        made(PAGE)[:-10],
        made(PAGE) + b"{}\n",
        made({**PAGE, "text": [[[[]]]]}),
        gzip.compress(made(PAGE), mtime=0)[:-9],
        gzip.compress(made(PAGE), mtime=0)[:-4] + b"abcd",
        b"\x1f\x8b" + b"\xff" * 100,
        b"\x1f\x8b",
        gzip.compress(made(PAGE), mtime=0)[:30] + b"garbage" * 10,
        b'{"format":"llmos-process","version":' + b"9" * 5_000 + b"}",
        made(PAGE).replace(b"hello", b"\xff\xfe"),
        made(PAGE).replace(b"hello", b"\\ud800"),
    ],
)
def test_corrupt_or_deeply_nested_files_are_one_line(raw: bytes, tmp_path: Path) -> None:
    assert refused(raw, tmp_path)


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "none", Path("a\0b")):
        with pytest.raises(BadInput):
            parcel.read(path)
    with pytest.raises(BadInput):
        parcel.write(Rig(lambda job: op("yield")).disk, 1, Path("a\0b"), 1)


def test_a_small_gzip_takes_no_more_memory_than_an_export_may(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.gz"
    zeros = gzip.compress(b"0" * (32 << 20))
    bomb.write_bytes(gzip.compress(json.dumps(HEAD).encode() + b"\n") + 100 * zeros)
    assert bomb.stat().st_size < 5 << 20
    code = "import sys\nfrom pathlib import Path\n"
    code += "from drivers.disk import parcel\nfrom kernel.errors import BadInput\n"
    code += "try: parcel.read(Path(sys.argv[1]))\nexcept BadInput as exc: print(exc)\n"
    code += "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    out = subprocess.run([sys.executable, "-c", code, str(bomb)], capture_output=True, text=True, check=True).stdout
    line, peak = out.splitlines()
    assert "line of more than" in line
    assert int(peak) < 200 << 10  # KiB


def test_bytes_and_pages_of_an_export_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps(PAGE).encode() + b"\n"
    reader = parcel.Reader("it")
    reader.take(json.dumps(HEAD).encode() + b"\n")
    reader.take(line * IMPORT_PAGES_MAX)
    with pytest.raises(BadInput, match=f"more than {IMPORT_PAGES_MAX} pages"):
        reader.take(line)
    monkeypatch.setattr(parcel, "IMPORT_BYTES_MAX", 1_000)
    reader = parcel.Reader("it")
    reader.take(json.dumps(HEAD).encode() + b"\n")
    reader.take(line)
    with pytest.raises(BadInput, match="more than 1000 bytes"):
        reader.take(line * 10)


def test_an_export_is_its_owners_alone_and_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(lambda job: op("send_message", text="fine"))
    pid = rig.spawn()
    rig.say(pid, "hello")
    old = os.umask(0)
    try:
        for name in ("p.jsonl", "p.jsonl.gz"):
            (tmp_path / f".{name}.4194305-1.part").write_text("left by a kill")
            parcel.write(rig.disk, pid, tmp_path / name, 7)
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
            assert parcel.read(tmp_path / name).pages
    finally:
        os.umask(old)
    monkeypatch.setattr(parcel, "IMPORT_BYTES_MAX", 100)
    with pytest.raises(BadInput, match="larger than an import"):
        parcel.write(rig.disk, pid, tmp_path / "large.jsonl", 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.jsonl", "p.jsonl.gz"]


def test_version_one_is_still_read(tmp_path: Path) -> None:
    head = {
        **{
            "format": "llmos-process",
            "version": 1,
            "name": "old",
            "mask": ["yield"],
            "system": "",
            "blocks": {"b": "x"},
        },
        **{"nice": 3, "abort": False, "timers": [{"due": 5, "every": 0, "text": "t"}], "exported_at": 1, "lsn": 2},
    }
    (tmp_path / "old.jsonl").write_bytes(made(PAGE, head=head))
    event = parcel.read(tmp_path / "old.jsonl")
    assert (event.spec.name, event.spec.blocks, event.timers[0].text, len(event.pages)) == ("old", {"b": "x"}, "t", 1)
