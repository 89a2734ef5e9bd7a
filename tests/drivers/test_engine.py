"""The llama CPU with company, on SmolLM2-135M: slots, exactness, paging, shared prefixes, aborted chunks, few cells."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from drivers.disk.lmdb import LmdbDisk
from drivers.index.none import NoIndex
from kernel.boot import Board, boot
from kernel.errors import DeviceError
from kernel.event import Outcome, Trapped
from kernel.machine.loop import Machine
from kernel.process import State
from kernel.settings import Cpu as CpuSettings
from kernel.settings import Settings, apply
from kernel.spec import Spec
from llmos import models
from syscalls.table import Table

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from bench.cpu.preempt import campaign  # noqa: E402  (after importorskip: it imports llama_cpp)
from bench.cpu.rig import Rig, opened  # noqa: E402
from drivers.cpu.llama.engine import LlamaCpu  # noqa: E402

pytestmark = pytest.mark.gguf
WINDOW = 768
DETERMINISTIC, THROUGHPUT = "deterministic", "throughput"


@pytest.fixture(scope="module")
def model() -> Path:
    return models.find("smollm2-135m")


def together(rig: Rig, jobs: list[Callable[[int], None]]) -> dict[int, Trapped]:
    """Run jobs at once, a slot each; their traps by process."""
    for slot, job in enumerate(jobs):
        job(slot)
    return {trap.pid: trap for trap in (rig.wait() for _ in jobs)}


def test_preempted_paged_out_and_restarted_runs_emit_what_uninterrupted_ones_emit(model: Path) -> None:
    for temperature in (0.0, 0.9):
        found = campaign(model, CpuSettings(temperature=temperature, seed=5), 1, seed=41, processes=4)
        assert (found.differ, found.runs) == (0, 4)
        assert found.points >= 8
        assert found.restored > 3


def test_whoever_else_runs_an_exact_run_emits_the_same(model: Path) -> None:
    with opened(model, CpuSettings(), WINDOW) as rig:
        prompts = [rig.text(n, 30 + 70 * n) for n in range(4)]
        alone = [rig.run(10 + n, prompts[n], reply=20).ids for n in range(4)]
        assert all(trap.shared == 0 for trap in [rig.run(20, rig.text(9, 80), reply=1)])
        found = together(
            rig,
            [lambda slot, n=n: rig.start(slot, 30 + n, prompts[n], reply=20) for n in range(4)],  # type: ignore[misc]
        )
        assert [found[30 + n].ids for n in range(4)] == alone


def test_a_prefix_that_is_shared_is_not_evaluated_and_changes_nothing(model: Path) -> None:
    for mode in (DETERMINISTIC, THROUGHPUT):
        with opened(model, CpuSettings(mode=mode), WINDOW) as rig:  # type: ignore[arg-type]
            system = rig.text(1, 300)
            one, other = (*system, *rig.text(2, 30)), (*system, *rig.text(3, 30))
            fresh = rig.run(1, other, reply=12)
            rig.run(1, rig.text(7, 400), reply=1)  # and it is gone
            first = rig.run(2, one, reply=12)
            second = rig.run(3, other, reply=12)
            assert (fresh.shared, first.shared) == (0, 0)
            if mode == DETERMINISTIC:
                assert (second.shared, second.prefill) == (256, len(other) - 256)  # whole chunks: 2 of 128
                assert second.ids == fresh.ids
            else:
                assert (second.shared, second.prefill) == (300, len(other) - 300)


def test_a_long_prompt_does_not_stall_who_decodes(model: Path) -> None:
    for mode in (DETERMINISTIC, THROUGHPUT):
        with opened(model, CpuSettings(mode=mode), WINDOW) as rig:  # type: ignore[arg-type]
            rig.start(0, 1, rig.text(1, 20), reply=60, grammar="start: /[a-z ]{400}/\n")
            while not rig.streamed:  # ends at its first token
                time.sleep(0.01)
            rig.start(1, 2, rig.text(2, 700), reply=1)
            before = len(rig.streamed)
            traps = [rig.wait(), rig.wait()]
            assert {trap.pid: trap.prefill for trap in traps}[2] == 700
            others = [one.pid for one in rig.streamed[before:]]
            assert others.index(2) >= 4, "the long prompt was read in one piece"  # 6 chunks, a token beside each


def test_a_stop_aborts_a_chunk_which_is_evaluated_again(model: Path) -> None:
    with opened(model, CpuSettings(chunk=512), WINDOW) as rig:
        prompt = rig.text(1, 700)
        rig.start(0, 2, prompt, reply=8)
        time.sleep(0.4)  # in its first chunk, which takes seconds
        began = time.monotonic()
        rig.cpu.preempt(0)
        trap = rig.wait()
        took = time.monotonic() - began
        if not rig.cpu.steps.aborted:
            pytest.skip("the machine was too fast or too slow for the moment")
        assert (trap.outcome, trap.prefill, trap.ids) == (Outcome.PREEMPTED, 0, ())
        assert took < 2.0  # a chunk takes longer, were it not aborted
        again = rig.run(2, prompt, reply=8)
        assert again.prefill == 700
    with opened(model, CpuSettings(chunk=512), WINDOW) as rig:
        assert rig.run(2, prompt, reply=8).ids == again.ids


def test_a_process_without_a_seat_finds_its_kv_in_an_image(model: Path, tmp_path: Path) -> None:
    prompts: dict[int, tuple[int, ...]] = {}
    with opened(model, CpuSettings(slots=1), WINDOW, tmp_path) as rig:
        for pid in (1, 2, 3):
            prompts[pid] = rig.text(pid, 200)
            assert rig.run(pid, prompts[pid], reply=4).restored == 0
        trap = rig.run(1, (*prompts[1], *rig.text(9, 10)), reply=4)
        assert (trap.restored, trap.prefill) == (200, 10)
    with opened(model, CpuSettings(slots=1), WINDOW, tmp_path) as rig:  # a kernel that restarts
        trap = rig.run(3, prompts[3], reply=4)
        assert (trap.restored, trap.prefill, rig.cpu.images.dropped) == (199, 1, 0)
    with opened(model, CpuSettings(slots=1), 512, tmp_path) as rig:  # another window: other images
        assert rig.cpu.images.dropped == 3
        assert rig.run(2, prompts[2], reply=4).restored == 0


def test_a_process_that_is_forgotten_leaves_no_seat_and_no_image(model: Path, tmp_path: Path) -> None:
    with opened(model, CpuSettings(slots=1), WINDOW, tmp_path) as rig:
        for pid in (1, 2, 3):  # one has a seat, the others images
            rig.run(pid, rig.text(pid, 200), reply=4)
        for pid in (1, 3):
            rig.cpu.forget(pid)
        trap = rig.run(2, rig.text(2, 200), reply=4)
        assert (trap.restored, trap.prefill) == (199, 1)
        rig.cpu.images.flush()
        assert set(rig.cpu.images.sizes()) <= {2}
        assert {path.name for path in tmp_path.glob("*.kv")} <= {"2.kv"}
        trap = rig.run(3, rig.text(3, 200), reply=4)
        assert (trap.restored, trap.shared) == (0, 0)


def test_where_cells_are_short_runs_wait_and_none_fails(model: Path, tmp_path: Path) -> None:
    settings = CpuSettings(mode=THROUGHPUT, slots=4, cells=WINDOW)
    with opened(model, settings, WINDOW, tmp_path) as rig:
        prompts = {pid: rig.text(pid, 280) for pid in range(1, 9)}
        for round_ in range(2):
            for half in (range(1, 5), range(5, 9)):
                found = together(
                    rig,
                    [lambda slot, pid=pid: rig.start(slot, pid, prompts[pid], reply=6) for pid in half],  # type: ignore[misc]
                )
                assert {trap.outcome for trap in found.values()} == {Outcome.SYSCALL}
                assert rig.cpu.seats.cells_used <= WINDOW
                assert not round_ or all(trap.prefill < 10 for trap in found.values())


def test_a_run_that_waits_for_a_seat_can_be_stopped(model: Path) -> None:
    with opened(model, CpuSettings(mode=THROUGHPUT, slots=2, cells=WINDOW), WINDOW) as rig:
        rig.start(0, 1, rig.text(1, 600), reply=100, grammar="start: /[a-z ]{900}/\n")
        rig.start(1, 2, rig.text(2, 600), reply=100)
        time.sleep(0.2)
        rig.cpu.preempt(1)
        trap = rig.wait()
        assert (trap.pid, trap.outcome, trap.prefill) == (2, Outcome.PREEMPTED, 0)
        assert rig.wait().pid == 1


def test_children_begin_with_all_their_parent_has_evaluated(model: Path, tmp_path: Path) -> None:
    for mode, seats in ((DETERMINISTIC, 2), (THROUGHPUT, 4)):
        with opened(model, CpuSettings(mode=mode, slots=seats), WINDOW, tmp_path / mode) as rig:  # type: ignore[arg-type]
            prompt = rig.text(1, 333)
            parent = rig.run(1, prompt, reply=1)
            assert parent.kv == 333
            used = rig.cpu.seats.cells_used
            for child in range(2, 8):
                rig.cpu.fork(1, child)
            outcomes = []
            for child in range(2, 8):
                trap = rig.run(child, (*prompt, *rig.text(child, 7)), reply=6)
                outcomes.append(trap.prefill)
            assert outcomes == [7] * 6
            if mode == THROUGHPUT:
                assert rig.cpu.seats.cells_used < 1.3 * used


def test_what_stands_behind_a_dropped_part_is_moved_and_not_evaluated_again(model: Path, tmp_path: Path) -> None:
    for mode, put in ((DETERMINISTIC, 0), (THROUGHPUT, 30)):
        settings = CpuSettings(mode=mode, drop="shift", slots=1, seats=1)  # type: ignore[arg-type]
        with opened(model, settings, WINDOW, tmp_path / mode) as rig:
            head, gone, rest, new = (rig.text(n, size) for n, size in ((1, 128), (2, 90), (3, 250), (4, 9)))
            first = rig.run(1, (*head, *gone, *rest), reply=12)
            prompt = (*head, *rig.text(5, put), *rest, *new)
            second = rig.run(1, prompt, reply=12)
            assert (first.prefill, second.prefill, second.kv) == (468, put + 9, len(prompt) + len(second.ids) - 1)
            assert rig.run(2, gone, reply=1).prefill == 90  # and the first is paged out as it was moved
            third = rig.run(1, (*prompt, *new), reply=12)
            assert (third.restored, third.prefill) == (len(prompt), 9)
        with opened(model, CpuSettings(mode=mode), WINDOW, tmp_path / mode) as rig:  # type: ignore[arg-type]
            assert rig.cpu.images.dropped == 2, "what was moved is taken for exact"


def test_what_cannot_be_a_run_fails_alone(model: Path) -> None:
    with opened(model, CpuSettings(), WINDOW) as rig:
        good = rig.text(1, 50)
        rig.start(0, 1, good, reply=20)
        rig.start(1, 2, good, grammar="start: (((")
        rig.start(2, 3, (), reply=4)
        rig.start(3, 4, good, reply=WINDOW)
        ended: dict[int, Trapped] = {}
        for _ in range(4):
            trap = rig.traps.get(timeout=300)
            assert isinstance(trap, Trapped)
            ended[trap.pid] = trap
        assert {pid: trap.outcome for pid, trap in ended.items()} == {
            1: Outcome.SYSCALL,
            2: Outcome.FAILED,
            3: Outcome.FAILED,
            4: Outcome.FAILED,
        }


def test_a_bug_in_a_run_stops_the_machine_with_the_reason_and_kills_no_process(model: Path, tmp_path: Path) -> None:
    cpu = LlamaCpu(model)

    def broken(_token: int) -> bytes:
        raise TypeError("a None where a token was")

    kept: list[Machine] = []

    async def main() -> None:
        settings = apply(Settings(), ["memory.fault=false", "window=1024"])
        board = Board(cpu=cpu, disk=LmdbDisk(tmp_path), index=NoIndex(), settings=settings)
        kept.append(machine := await boot(board, Table()))
        cpu.vocabulary.piece = broken  # type: ignore[method-assign]
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(machine.run)
                pid = (await machine.requests.spawn(Spec("p", ("send_message",)))).pid
                await machine.requests.message(pid, "", "Hello.")
                await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert caught.group_contains(DeviceError, match="has broken down: TypeError: a None where a token was")
    (proc,) = kept[0].kernel.procs.values()
    assert (proc.state, proc.failed_row) == (State.RUNNING, 1)  # and goes on at the next boot
