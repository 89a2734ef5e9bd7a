"""Workloads of agents and services: transcripts in every form, calls and what they drew on, prefixes, samples."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bench.paging import blocks, field, runs, sampling, simulator, trace, workloads
from bench.paging.run import cell, options
from bench.paging.simulator import Counts, Options
from bench.paging.trace import Part, Ref, Turn
from kernel.errors import BadInput
from llmos.commands.app import status

OPENAI = [
    {"role": "system", "content": "You book boats."},
    {"role": "user", "content": "My id is zorro_17, find my booking."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "user", "arguments": '{"id":"zorro_17"}'}}],
    },
    {"role": "tool", "content": '{"bookings": ["XK42ZZ"], "card": "visa_9931"}'},
    {"role": "assistant", "content": "I found it. What next?"},
    {"role": "user", "content": [{"type": "text", "text": "Cancel it."}, {"type": "image_url", "image_url": {}}]},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "cancel", "arguments": '{"b":"XK42ZZ"}'}}],
    },
]
CLAUDE = [
    {"type": "summary", "summary": "boats"},
    {"type": "user", "isMeta": True, "message": {"role": "user", "content": "caveat"}},
    {"type": "user", "message": {"role": "user", "content": OPENAI[1]["content"]}},
    {
        "type": "assistant",
        "message": {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "zorro"},
                {"type": "tool_use", "id": "t", "name": "user", "input": {"id": "zorro_17"}},
            ],
        },
    },
    {
        "type": "user",
        "message": {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": OPENAI[3]["content"]}]}
            ],
        },
    },
    {
        "type": "assistant",
        "message": {"role": "assistant", "content": [{"type": "text", "text": "I found it. What next?"}]},
    },
    {"type": "user", "message": {"role": "user", "content": "Cancel it."}},
    {
        "type": "assistant",
        "message": {"role": "assistant", "content": [{"type": "tool_use", "name": "cancel", "input": {"b": "XK42ZZ"}}]},
    },
]


def lines(documents: list[Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in documents)


FILES = {
    "a.json": json.dumps(OPENAI),
    "b.json": json.dumps({"messages": OPENAI}),
    "c.json": json.dumps([{"messages": OPENAI}]),
    "d.jsonl": lines(OPENAI),
    "e.jsonl": lines([{"messages": OPENAI}]),
    "f.jsonl": "\ufeff" + lines(CLAUDE),
}


@pytest.mark.parametrize("name", FILES)
def test_a_call_draws_on_what_was_seen_before_in_every_form_of_transcript(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    (run,) = runs.read(tmp_path / name)
    texts, steps = runs.steps(run)
    assert len(texts) == 6
    assert [step.new for step in steps] == [(1,), (2, 3), (4, 5)]
    assert [step.drawn for step in steps] == [(), (), (3,)]  # XK42ZZ stood in the result, two turns ago
    assert [step.query for step in steps] == [OPENAI[1]["content"], "", "Cancel it."]


def test_a_folder_of_transcripts_is_a_workload_beside_its_optimum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("scipy")
    (tmp_path / "deep").mkdir()
    for name, text in FILES.items():
        (tmp_path / "deep" / name).write_text(text)
    (tmp_path / "gone.jsonl.gz").write_bytes(gzip.compress(FILES["d.jsonl"].encode()))
    command = ["bench", "paging", "--workload", f"{tmp_path}/", "--policy", "lru,ours", "--budget", "64", "--json"]
    assert status(command) == 0
    cells = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["references"] for one in cells] == [7, 7]
    assert all(0 <= one["hit"] <= 1 and one["opt_hit"] >= 0 for one in cells)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "a.jsonl:1: "),
        ('{"role": "user"}\n[[[', "a.jsonl:2: "),
        ('{"role": "user", "content": 7}', "a.jsonl:1: .*content int"),
        ('{"type": "user"}', "a.jsonl:1: .*message"),
        ('{"messages": 7}', "a.jsonl:1: no list"),
        ('{"messages": [7]}', "a.jsonl:1: "),
        ('{"role": "assistant", "content": "x", "tool_calls": [{}]}', "a.jsonl:1: .*name"),
        ("[" * 100_000, "a.jsonl:1: "),
        ('{"role": "user", "content": "hello"}', "nothing to page"),
    ],
)
def test_what_is_no_transcript_is_one_line_with_its_row(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(BadInput, match=says) as caught:
        workloads.transcripts(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_transcripts_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="0 files of runs"):
        workloads.transcripts(tmp_path)


def run(turns: list[Turn], policy: str, budget: int, *, prefix: bool) -> Counts:
    part = Part("x", lambda: turns, prefix=prefix)
    return simulator.run(
        part, lambda capacity: field.make(policy, capacity), budget, Options(1.0, 0.0, "perfect", "drawn")
    )


def test_a_block_behind_a_missing_one_is_of_no_use() -> None:
    def request(*pages: int) -> Turn:
        return Turn(refs=tuple(Ref(page, 1) for page in reversed(pages)))

    turns = [request(1, 2, 3), request(9), request(1, 2, 3)]
    assert run(turns, "fifo", 4, prefix=True).faults == 4
    out = [request(1, 2, 3), request(8, 9), request(1, 2, 3)]
    assert run(out, "lru", 4, prefix=True).faults == 3 + 2 + 1  # the end of the prompt has left, and only it
    bad = [Turn(refs=tuple(reversed(one.refs))) for one in out]  # touched from the front: the beginning leaves
    flags = [run(bad, "lru", 4, prefix=False).faults, run([*out[:2], request(2, 1, 3)], "lru", 4, prefix=True).faults]
    assert flags[0] >= 6
    assert flags[1] == 3 + 2 + 1


def test_requests_of_mooncake_are_read_from_the_end_of_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    good = '{"timestamp": 0, "input_length": 1100, "output_length": 3, "hash_ids": [0, 7, 8]}\n'
    path.write_text(good)
    (turn,) = blocks.part("m", path).turns()
    assert [ref[:2] for ref in turn.refs] == [(8, 76), (7, 512), (0, 512)]
    for bad in (
        '{"input_length": 1100, "hash_ids": [0, 7]}',
        '{"input_length": 5}',
        '{"input_length": 9, "hash_ids": [1, 1]}',
    ):
        path.write_text(good + bad)
        with pytest.raises(BadInput, match=r"m\.jsonl:2: ") as caught:
            list(blocks.part("m", path).turns())
        assert "\n" not in str(caught.value)


def test_samples_share_no_page_keep_all_references_to_one_and_tell_their_error() -> None:
    part = workloads.load("synthetic/zipf", None, 1, 4096).parts[0]
    some = sampling.samples(part, 0.25)
    pages = [{ref.page for turn in one.turns() for ref in turn.refs} for one in some]
    everything = {ref.page for turn in part.turns() for ref in turn.refs}
    assert len(some) == 4
    assert set.union(*pages) == everything
    assert sum(map(len, pages)) == len(everything)
    assert sum(len(turn.refs) for one in some for turn in one.turns()) == sum(len(turn.refs) for turn in part.turns())
    assert sampling.half_width([0.5]) is None
    assert sampling.half_width([0.4, 0.5, 0.6]) == pytest.approx(4.30 * 0.1 / 3**0.5)


def test_a_sampled_cell_is_near_the_whole_and_says_by_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = workloads.load("synthetic/zipf", None, 1, 20_000)
    asked = options(loaded, None, "", "", "", False, False)
    whole = cell(loaded, "lru", 20_000, asked, 1, None)
    part = cell(workloads.sampled(loaded, 0.25), "lru", 20_000, asked, 1, None)
    assert part.error_pp is not None
    assert abs(100 * (part.hit - whole.hit)) < part.error_pp + 1
    command = ["bench", "paging", "--workload", "synthetic/zipf", "--policy", "lru", "--budget", "20000", "--no-bounds"]
    assert status([*command, "--sample", "0.25"]) == 0
    assert " ± " in capsys.readouterr().out
    assert status([*command, "--sample", "0.9"]) == 2
    assert "a share of the pages" in capsys.readouterr().err
    assert status(["bench", "paging", "--workload", "own", "--policy", "lru", "--sample", "0.1", "--no-bounds"]) == 2
    assert "add --pager perfect" in capsys.readouterr().err


def test_a_page_has_the_size_it_first_came_with() -> None:
    turns = [Turn(new=(Ref(1, 5),)), Turn(refs=(Ref(1, 9), Ref(2, 3)))]
    assert [ref[:2] for turn in trace.one_size(turns) for ref in (*turn.new, *turn.refs)] == [(1, 5), (1, 5), (2, 3)]


def test_a_page_larger_than_the_budget_is_a_fault_each_time_and_nobody_leaves_for_it() -> None:
    turns = [Turn(refs=(Ref(page, size),)) for page, size in ((1, 4), (2, 50), (1, 4), (2, 50))]
    counts = run(turns, "lru", 10, prefix=False)
    assert (counts.faults, counts.evictions) == (3, 0)


def test_belady_is_the_bound_where_pages_have_one_size_and_is_refused_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace_ = tmp_path / "a.csv"
    string = [page for turn in workloads.load("synthetic/scan", None, 1, 0).parts[0].turns() for page in turn.refs]
    trace_.write_text("page,tokens\n" + "".join(f"{ref.page},{ref.tokens}\n" for ref in string[:2_000]))
    command = ["bench", "paging", "--workload", str(trace_), "--policy", "belady,lru", "--budget", "60", "--json"]
    assert status([*command, "--unit"]) == 0
    best, lru = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert best["bound"] == "belady"
    assert best["regret_pp"] == 0 < lru["regret_pp"]
    assert status(command) == 2
    assert "needs one size; --unit makes each 1" in capsys.readouterr().err
    assert status(["bench", "paging", "--workload", "own", "--policy", "belady"]) == 2
    assert "add --pager perfect" in capsys.readouterr().err
