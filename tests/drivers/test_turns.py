"""Runs on the llama CPU's rooms without a model: who is evaluated next, stops, failures, and a bug in one run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from drivers.cpu.kv.images import NoImages  # noqa: E402  (after importorskip, as below)
from drivers.cpu.kv.seats import Image, Seats  # noqa: E402
from drivers.cpu.llama import turns  # noqa: E402
from drivers.cpu.llama.buffers import Buffers  # noqa: E402
from drivers.cpu.llama.cells import KvCells  # noqa: E402
from drivers.cpu.llama.cores import Cores  # noqa: E402
from drivers.cpu.llama.plan import batches  # noqa: E402
from drivers.cpu.llama.seen import Seen  # noqa: E402
from drivers.cpu.llama.sizes import FEW, Sizes, sizes  # noqa: E402
from drivers.cpu.llama.slots import Slots  # noqa: E402
from drivers.cpu.llama.steps import Steps  # noqa: E402
from drivers.cpu.llama.turns import Turns  # noqa: E402
from drivers.cpu.recommended import SENSIBLE  # noqa: E402
from kernel.errors import DeviceError  # noqa: E402
from kernel.event import AnyEvent, Outcome, Tag, Trapped  # noqa: E402
from kernel.memory.page import Kind, Role  # noqa: E402
from kernel.ports import Job, Streamed  # noqa: E402
from kernel.settings import Cpu as CpuSettings  # noqa: E402
from tests.drivers.library import Library, Words, next_token  # noqa: E402

MODES = ["deterministic", "throughput"]
JOB = Job(slot=0, tag=Tag(1, 1, 1), pages=(), prompt=(1,), ids=(), grammar=None, quantum=99, reply=5, window=90)


class Keeping(NoImages):
    """Images that are asked for and lost."""

    keeps = True

    def save(self, pid: int, image: Image) -> None:
        pass


class Engine:
    """The rooms of an engine over the fake library; `turn` is called by hand, or by a thread of `cores`."""

    def __init__(
        self,
        mode: str = MODES[0],
        slots: int = 3,
        cells: int = 0,
        stream: Callable[[Streamed], None] | None = None,
    ) -> None:
        settings = CpuSettings(
            mode=mode, slots=slots, cells=cells, chunk=32, temperature=0.0, repeat=1.0  # type: ignore[arg-type]
        )  # fmt: skip
        self.sizes = sizes(settings, 90)
        self.library = Library(self.sizes.sequences, streams=self.sizes.exact)
        self.slots, self.cores, self.posted = Slots(slots, "words"), Cores(), queue.SimpleQueue[AnyEvent]()
        self.library.abort = self.slots.abort  # type: ignore[assignment]
        kv = KvCells(self.library, Buffers(), exact=self.sizes.exact, aside=self.sizes.seats)
        grain, exact, capacity = self.sizes.chunk, self.sizes.exact, self.sizes.cells
        images = Keeping()
        self.seats = Seats(self.sizes.seats, kv, images, grain=grain, exact=exact, capacity=capacity)
        self.steps = Steps(self.library, kv, self.seats, self.slots, partly=True)  # type: ignore[arg-type]
        self.words, self.streamed = Words(), list[Streamed]()
        self.turns = Turns(
            self.slots, self.seats, images, self.steps, self.sizes, self.words, settings, self.cores,  # type: ignore[arg-type]
            recommended=SENSIBLE, post=self.posted.put, stream=stream or self.streamed.append,
        )  # fmt: skip
        self.slots.open()

    def start(self, slot: int, pid: int, prompt: list[int], **more: object) -> None:
        job = msgspec.structs.replace(JOB, slot=slot, tag=Tag(pid, 1, 1), prompt=tuple(prompt), **more)
        self.slots.take(job)
        self.turns.tell(job)

    def wait(self) -> Trapped:
        done = self.posted.get(timeout=10)
        assert isinstance(done, Trapped)
        return done

    def rest(self) -> dict[int, Trapped]:
        """Turns until there is nothing to do; the traps by process."""
        while self.turns.turn():
            pass
        traps = [self.wait() for _ in range(self.posted.qsize())]
        return {trap.pid: trap for trap in traps}


def says(prompt: list[int], count: int) -> list[int]:
    said: list[int] = []
    for _ in range(count):
        said.append(next_token([*prompt, *said]))
    return said


@pytest.mark.parametrize("mode", MODES)
def test_every_run_says_what_the_model_says_whoever_else_runs(mode: str) -> None:
    engine, prompts = Engine(mode), {pid: [pid + n for n in range(9 * pid)] for pid in (1, 2, 3, 4, 5)}
    for pids in ((1, 2, 3), (3, 4, 5), (5, 1, 2)):
        for slot, pid in enumerate(pids):
            engine.start(slot, pid, prompts[pid])
        for pid, trap in engine.rest().items():
            said = says(prompts[pid], 5)
            assert (trap.outcome, list(trap.ids), trap.truncated) == (Outcome.SYSCALL, said, True)
            prompts[pid] += [*said, pid]


def test_a_chunk_is_cut_off_for_a_stop_and_evaluated_anew_to_its_end() -> None:
    engine, prompt = Engine(), list(range(50))
    engine.library.during = lambda: engine.slots.stop(0)
    engine.start(0, 1, prompt)
    trap = engine.rest()[1]
    assert (trap.outcome, trap.prefill, engine.steps.aborted) == (Outcome.PREEMPTED, 0, 1)

    def another() -> None:
        if len(engine.library.batches[-1][-1].tokens) > FEW:
            engine.slots.stop(1)

    engine.library.during = another  # another's stop cuts it off as well, and once
    engine.start(0, 1, prompt)
    engine.start(1, 2, [7])
    traps = engine.rest()
    assert (list(traps[1].ids), traps[1].prefill, engine.steps.aborted) == (says(prompt, 5), 50, 2)
    assert traps[2].outcome is Outcome.PREEMPTED


def test_a_chunk_that_was_cut_off_once_is_evaluated_to_its_end_whoever_asks() -> None:
    engine, prompt = Engine(), list(range(30))

    def another() -> None:  # each chunk of process 1 meets a new job that is to stop
        if len(engine.library.batches[-1][-1].tokens) > FEW:
            engine.start(1, 2, [7])
            engine.slots.stop(1)

    engine.library.during = another
    engine.start(0, 1, prompt)
    trap = engine.rest()[1]
    sizes = [len(batch[-1].tokens) for batch in engine.library.batches if len(batch[-1].tokens) > FEW]
    assert (list(trap.ids), sizes, engine.steps.aborted) == (says(prompt, 5), [30, 30], 1)


def test_who_waits_for_cells_is_not_overtaken() -> None:
    engine = Engine("throughput", slots=4, cells=90)
    for pid in (1, 2, 3, 4):  # each needs more than half of them
        engine.start(pid - 1, pid, [pid] * 50, reply=4 + pid)
    assert list(engine.rest()) == [1, 2, 3, 4]


def test_a_batch_that_fails_ends_its_runs_and_their_seats_are_not_trusted() -> None:
    engine = Engine()
    engine.start(0, 1, [1, 2, 3])
    engine.start(1, 2, [1, 2, 4])
    engine.library.codes = [-3]
    traps = engine.rest()
    assert (traps[1].outcome, traps[2].outcome) == (Outcome.FAILED, Outcome.SYSCALL)
    assert "llama_decode gives -3" in traps[1].error
    prompt = list(range(40))
    engine.start(0, 1, prompt)
    engine.library.codes = [0, -3]  # the second of its chunks
    assert engine.rest()[1].outcome is Outcome.FAILED
    engine.start(0, 1, prompt)
    trap = engine.rest()[1]
    assert (trap.prefill, list(trap.ids)) == (40, says(prompt, 5))


def test_what_cannot_be_read_is_not_kept_and_costs_nobody_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "IDLE_TOKENS", 8)
    engine = Engine(slots=1)
    engine.start(0, 1, list(range(40)))
    engine.rest()
    engine.library.unreadable = {0}
    engine.start(0, 2, [9])  # its seat is the one that process 1 would be saved from
    assert engine.rest()[2].outcome is Outcome.FAILED
    engine.turns.fork(1, 3)
    engine.start(0, 1, list(range(40)))
    assert list(engine.rest()[1].ids) == says(list(range(40)), 5)
    assert engine.turns.rest()
    assert not engine.turns.rest()
    engine.cores.join(engine.turns)
    engine.turns.tell(None)
    assert engine.turns.ended.wait(10)


def test_a_bug_in_one_run_fails_all_of_them_with_the_reason_and_ends_the_engine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(one: Streamed) -> None:
        if one.pid == 2 and one.offset == 1:
            raise TypeError("a None where a page was")

    engine = Engine(stream=broken)
    engine.cores.join(engine.turns)
    for pid in (1, 2, 3):
        engine.start(pid - 1, pid, [pid], reply=60)
    traps = [engine.wait() for _ in range(3)]
    assert {trap.pid for trap in traps} == {1, 2, 3}
    assert {(trap.outcome, trap.error) for trap in traps} == {(Outcome.FAILED, "TypeError: a None where a page was")}
    assert engine.turns.ended.wait(10)  # who closes it does not wait for ever
    with pytest.raises(DeviceError, match="engine of words has broken down: TypeError: a None"):
        engine.start(0, 1, [1])
    assert engine.posted.empty()
    assert "in broken" in capsys.readouterr().err  # where it happened


# Who is decoded next.


def run(pending: int, kv: int = 0, served: int = 0) -> SimpleNamespace:
    return SimpleNamespace(pending=[0] * pending, kv=kv, served=served)


def planned(mode: str) -> Sizes:
    return sizes(CpuSettings(mode=mode, slots=4, chunk=32), 512)  # type: ignore[arg-type]


@given(
    mode=st.sampled_from(MODES),
    runs=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 100), st.integers(0, 9)), max_size=4),
)
def test_a_step_has_all_that_decode_and_one_chunk_and_fits_its_batch(
    mode: str, runs: list[tuple[int, int, int]]
) -> None:
    of = planned(mode)
    some = [run(*one) for one in runs]
    made = batches(some, of)
    parts = [(id(one), count) for batch in made for one, count in batch.parts]
    few = {id(one) for one in some if len(one.pending) <= FEW}
    assert few <= {one for one, _ in parts}
    assert len(parts) == len(few) + any(len(one.pending) > FEW for one in some)
    assert len({one for one, _ in parts}) == len(parts)
    assert all(0 < sum(count for _, count in batch.parts) <= of.batch for batch in made)
    assert all(len(batch.parts) == 1 for batch in made) or not of.exact
    assert [batch.reads for batch in made][:-1] == [None] * (len(made) - 1)  # who decodes does not wait for a prompt


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_exact_batches_are_cut_at_the_same_positions_however_a_text_came(pieces: list[int]) -> None:
    of, at = planned("deterministic"), 0
    for piece in pieces:  # as prompts that grow, each evaluated to its end
        left = piece
        while left:
            count = of.due(left, at)
            assert 0 < count <= of.chunk
            assert (at + count) % of.chunk == 0 or count == left
            assert at // of.chunk == (at + count - 1) // of.chunk
            at, left = at + count, left - count


def test_prompts_take_turns_by_the_chunk() -> None:
    of = planned("throughput")
    runs = [run(100), run(300), run(1)]
    read: list[int] = []
    for tick in range(1, 9):
        (batch,) = batches(runs, of)
        assert batch.reads is not None
        read.append(runs.index(batch.reads))
        batch.reads.served = tick
        del batch.reads.pending[: dict((id(one), n) for one, n in batch.parts)[id(batch.reads)]]
    assert read == [0, 1, 0, 1, 0, 1, 1, 1]  # 100 tokens are three chunks, and few


# The slots, as all threads see them.


def test_the_flag_is_up_only_while_a_decode_may_be_cut_off() -> None:
    slots = Slots(2, "words")
    with pytest.raises(DeviceError):
        slots.take(JOB)  # not opened
    slots.open()
    slots.take(JOB)
    slots.take(msgspec.structs.replace(JOB, slot=1))
    assert slots.begin(abortable=False)
    slots.stop(0)
    assert slots.abort.value == b""
    slots.end()
    assert not slots.begin(abortable=True)  # asked for before
    assert slots.free(0)
    assert slots.begin(abortable=True)
    slots.stop(0)  # nobody is there
    assert slots.abort.value == b""
    slots.stop(1)
    assert slots.abort.value == b"x"
    slots.end()
    assert slots.abort.value == b""


def test_a_job_is_given_back_once_whatever_thread_breaks_or_closes() -> None:
    for _ in range(50):
        slots, taken = Slots(4, "words"), list[int]()
        slots.open()

        def take(slots: Slots = slots, taken: list[int] = taken) -> None:
            for slot in range(4):
                try:
                    slots.take(msgspec.structs.replace(JOB, slot=slot))
                except DeviceError:
                    return
                taken.append(slot)

        thread = threading.Thread(target=take)
        thread.start()
        back = [job.slot for job in slots.broke("TypeError")]
        thread.join()
        assert back == taken
        assert slots.broke("again") == []
        assert slots.close()
        assert not slots.close()


def test_work_done_again_is_that_of_pages_seen_before_beyond_what_was_kept() -> None:
    def page(number: int, tokens: int, recalled: bool = False) -> SimpleNamespace:
        of = SimpleNamespace(id=number, of=0, kind=Kind.MESSAGE)
        return SimpleNamespace(page=of, role=Role.USER, ids=(0,) * tokens, recalled=recalled)

    seen = Seen(Words.frame)  # three tokens around each page
    assert seen.again(1, [page(1, 10), page(2, 20), page(9, 5, recalled=True)], 0) == 0
    seen.fork(1, 2)
    assert seen.again(1, [page(1, 10), page(3, 5), page(9, 5, recalled=True)], 0) == 13
    assert seen.again(1, [page(1, 10), page(3, 5)], 15) == 6
    assert seen.again(2, [page(2, 20)], 0) == 23
    assert seen.again(-2, [page(2, 20)], 0) == 0
    seen.forget(2)
    assert seen.again(2, [page(2, 20)], 0) == seen.again(-2, [page(2, 20)], 0) == 0
