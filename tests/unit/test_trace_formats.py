"""Traces in files: every form is read, each rule of docs/paging.md holds, and a mistake is one line with its row."""

import gzip
import importlib.util
from pathlib import Path
from random import Random

import pytest

from bench.attack.mutate import mutated
from bench.paging import formats
from bench.paging.formats import RECORD, Reading
from kernel.errors import BadInput


def read(path: Path, raw: bytes, columns: str = "", *, unit: bool = False) -> list[tuple[int, int]]:
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    how = Reading(formats.columns(columns) if columns else None, unit)
    return [ref[:2] for turn in formats.read(path, how) for ref in (*turn.new, *turn.refs)]


def name(text: str) -> int:
    return formats._named(text)


def requests(*rows: tuple[int, int, int]) -> bytes:
    return b"".join(RECORD.pack(time, page, size, -1) for time, page, size in rows)


GOOD = {
    "plain.txt": (b"\xef\xbb\xbf7\n\n# a comment\n*\nabc\n7\n", "", [(7, 1), (name("abc"), 1), (7, 1)]),
    "plain.trace.gz": (b"1\r\n2\r\n", "", [(1, 1), (2, 1)]),
    "arc.lis": (b"100 3 0 1\n7 1 0 2\n", "", [(100, 1), (101, 1), (102, 1), (7, 1)]),
    "own.csv": (b"\xef\xbb\xbfpage,tokens\n3,9\n", "", [(3, 9)]),
    "one.csv": (b"4 30\n5  40\n", "page=1,size=2", [(4, 30), (5, 40)]),
    "named.csv": (b"when;key;bytes\n1;k;5\n2;8;6\n", "page=key,size=bytes,time=when", [(name("k"), 5), (8, 6)]),
    "headed.csv": (b"time,id,size\n1,9,5\n", "page=2,size=3", [(9, 5)]),
    "sim.csv": (b"# time, id, size, next\n0, 12, 512, -1\n1, 13, 4096, -1\n", "libcachesim", [(12, 512), (13, 4096)]),
    "spelled.csv": (b"0,12,512\n", "time-col=1,obj-id-col=2,obj-size-col=3", [(12, 512)]),
    "twitter.sort": (b"0,q:8Z-,10,90,4,get,0\n0,7,1,0,9,set,60\n", "twitter", [(name("q:8Z-"), 100), (7, 1)]),
    "a.jsonl": (b'\xef\xbb\xbf{"new":[[1,5,"message"]]}\n{"refs":[[1,5,"message"]]}', "", [(1, 5), (1, 5)]),
    "a.oracleGeneral.bin": (requests((1, 5, 7), (1, (1 << 64) - 1, 8)), "", [(5, 7), ((1 << 64) - 1, 8)]),
}


@pytest.mark.parametrize("file", GOOD)
def test_every_form_of_trace_is_read(file: str, tmp_path: Path) -> None:
    raw, columns, wanted = GOOD[file]
    assert read(tmp_path / file, raw, columns) == wanted


WRONG = {
    "a column that is not there, and never size 1": ("a.csv", b"page\n1\n", "", r"a.csv:1: no column tokens"),
    "a column that the heading has not": ("a.csv", b"k,v\n1,2\n", "page=k,size=w", r"a.csv:1: no column w; there"),
    "a row with a column less": ("a.csv", b"1,2\n1\n", "page=1,size=2", r"a.csv:2: 1 columns, where 2 are needed"),
    "no size is named": ("a.csv", b"1,2\n", "page=1", r"no size; add size=COLUMN, or --unit"),
    "size 0": ("a.csv", b"1,2\n1,0\n", "page=1,size=2", r"a.csv:2: page 1 of 0 tokens"),
    "size 0 in own": ("a.csv", b"page,tokens\n1,0\n", "", r"a.csv:2: page 1 of 0 tokens"),
    "size 0 in oracleGeneral": ("a.oracleGeneral", requests((1, 5, 1), (2, 5, 0)), "", r"oracleGeneral:2: page 5 of 0"),
    "a size beyond 32 bits": ("a.csv", b"1,4294967296\n", "page=1,size=2", r"a.csv:1: page 1 of 4294967296"),
    "a negative size": ("a.csv", b"1,5\n1,-3\n", "page=1,size=2", r"a.csv:2: '-3' is no number"),
    "a page beyond 64 bits": ("a.txt", b"1\n18446744073709551616\n", "", r"a.txt:2: page 18446744073709551616"),
    "a negative page": ("a.txt", b"1\n-1\n", "", r"a.txt:2: page '-1'; it is 0 to"),
    "a page with a point": ("a.txt", b"1.5\n", "", r"a.txt:1: page '1.5'"),
    "two words in a line": ("a.txt", b"1\n2 3\n", "", r"a.txt:2: more than an id; --columns page=1"),
    "times that go back": ("a.csv", b"5,1,1\n4,1,1\n", "libcachesim", r"a.csv:2: time 4 is before 5"),
    "times that go back in oracleGeneral": (
        "a.oracleGeneral", requests((5, 1, 1), (4, 1, 1)), "", r"oracleGeneral:2: time 4 is before 5"
    ),
    "a time that is none": ("a.csv", b"5,1,1\nnan,1,1\n", "libcachesim", r"a.csv:2: time 'nan' is no number"),
    "a time that is not there": ("a.csv", b"5,1,1\n,1,1\n", "libcachesim", r"a.csv:2: time '' is no number"),
    "half a record": ("a.oracleGeneral", requests((5, 1, 1))[:-1], "", r"ends inside a record"),
    "blocks without number": ("a.lis", b"5 1 0 0\n5\n", "", r"a.lis:2: a line is the first block and how many"),
    "no blocks": ("a.lis", b"5 0 0 0\n", "", r"a.lis:1: 0 blocks; 1 to"),
    "blocks beyond the last": ("a.lis", b"18446744073709551615 2 0 0\n", "", r"a.lis:1: page 18446744073709551616"),
    "nothing": ("a.txt", b"\n# nothing\n", "", r"a.txt: there is no reference"),
    "UTF-16": ("a.csv", "page,tokens\n1,2\n".encode("utf-16"), "", r"a.csv:1: it is UTF-16"),
    "no UTF-8": ("a.txt", b"1\n\xff\xfe\n", "", r"a.txt:2: 'utf-8' codec"),
    "JSON of size 0": ("a.jsonl", b'{"refs":[]}\n{"refs":[[1,0,"message"]]}', "", r"a.jsonl:2: page 1 of 0"),
    "a kind that is none": ("a.csv", b"page,tokens,kind\n1,2,x\n", "", r"a.csv:2: 'x' is not a valid Kind"),
    "what is neither": ("a.csv", b"page,tokens,what\n1,2,x\n", "", r"a.csv:2: what 'x'; it is new or ref"),
}  # fmt: skip


@pytest.mark.parametrize("why", WRONG)
def test_what_cannot_be_read_is_one_line_with_file_and_row(why: str, tmp_path: Path) -> None:
    file, raw, columns, says = WRONG[why]
    with pytest.raises(BadInput, match=says) as caught:
        read(tmp_path / file, raw, columns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("columns", ["", "page", "size=3", "page=1,page=2", "page=1,what=2", "page=1\n,size=", "page="])
def test_columns_that_say_nothing_are_refused(columns: str) -> None:
    with pytest.raises(BadInput, match=r"^--columns"):
        formats.columns(columns)


def test_columns_are_those_of_a_csv_and_unit_makes_every_page_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="those of a CSV, and this is lis"):
        read(tmp_path / "a.lis", b"1 1 0 0", "page=1,size=2")
    assert read(tmp_path / "a.csv", b"page\n4\n", unit=True) == [(4, 1)]
    assert read(tmp_path / "b.csv", b"9,4\n", "page=2", unit=True) == [(4, 1)]
    assert read(tmp_path / "a.oracleGeneral", requests((1, 4, 0)), unit=True) == [(4, 1)]
    assert read(tmp_path / "a.jsonl", b'{"refs":[[1,50,"message"]]}', unit=True) == [(1, 1)]


def test_zst_is_unpacked_or_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    if importlib.util.find_spec("backports") is None or importlib.util.find_spec("backports.zstd") is None:
        with pytest.raises(BadInput, match=r"pip install 'llmos\[bench\]'"):
            read(path, b"")
        return
    from backports import zstd

    assert read(path, zstd.compress(b"5\n6\n")) == [(5, 1), (6, 1)]
    for raw in (zstd.compress(b"5\n" * 100)[:-4], b"no frame"):
        with pytest.raises(BadInput, match=r"a\.txt\.zst"):
            read(path, raw)
    with pytest.raises(BadInput, match="written plain"):
        formats.writable(path)


def test_of_two_thousand_malformed_traces_each_is_read_or_one_line(tmp_path: Path) -> None:
    draw = Random(1)
    pool = [raw for raw, _, _ in GOOD.values()]
    said = []
    for n in range(2_000):
        file = draw.choice(list(GOOD))
        raw, columns, _ = GOOD[file]
        broken = mutated(draw, raw, pool)
        try:
            for page, size in read(tmp_path / file, broken, columns, unit=n % 7 == 0):
                assert 0 <= page < 1 << 64
                assert 1 <= size < 1 << 32
        except BadInput as exc:
            said.append((str(tmp_path / file), str(exc)))
    assert len(said) > 500
    assert all(told.startswith(file) and "\n" not in told and len(told) < 700 for file, told in said)
