"""Several models on one machine: who runs where, what counts how, and what a boot with other models does."""

import json
from collections.abc import Sequence
from random import Random

import msgspec

from drivers.cpu.scripted import CONTROL, FRAME, ScriptedCpu, echo, play
from kernel import checkpoint, core
from kernel.audit import audit
from kernel.event import Forked, Killed, Outcome, Run, Spawned, Tag, Trapped
from kernel.memory.page import Role
from kernel.process import State
from kernel.replay import Replay
from kernel.settings import Settings, apply
from kernel.spec import Spec
from syscalls.table import Table
from tests.fakes import Rig

MASK = ("send_message", "remember")


class ByteCpu(ScriptedCpu):
    """A model with a token a byte and a longer frame: three times the tokens of the other one."""

    model = "bytes"
    frame = msgspec.structs.replace(
        FRAME, prefix={role: (CONTROL + 40, CONTROL + 41 + n, CONTROL + 49) for n, role in enumerate(Role)}
    )

    def measure_id(self) -> str:
        return "bytes1"

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(1 << 24 | byte for byte in text.encode("utf-8", "replace"))


def two(*changes: str, others: Sequence[str] = ("small",), slots: int = 1) -> Rig:
    return Rig(
        echo,
        "window=4096",
        "cpu.reply=200",
        *changes,
        slots=slots,
        others={name: lambda: ByteCpu(echo, slots=2, encoding="json") for name in others},
    )


def test_a_process_runs_on_the_model_it_names_and_is_counted_by_it() -> None:
    rig = two()
    first, second = rig.spawn("first"), rig.spawn("second", model="small")
    for pid in (first, second):
        rig.say(pid, "how do the two of you count?")
    one, other = rig.jobs
    assert (one.pid, other.pid, one.slot) == (first, second, 0)
    assert other.slot in (1, 2)  # numbered through
    for job, model in ((one, ""), (other, "small")):
        cpu = rig.cpus.of[model]
        assert tuple(job.pages[-1].ids) == cpu.tokenize("how do the two of you count?")
        assert job.prompt == rig.cpus.layouts[model].render(job.pages)
        assert job.prompt[1 : 1 + len(cpu.frame.prefix[Role.SYSTEM])] == cpu.frame.prefix[Role.SYSTEM]
    assert [message.text for message in rig.messages] == ["you said: how do the two of you count?"] * 2
    sizes = {pid: rig.kernel.procs[pid].space.used() for pid in (first, second)}
    assert sizes[second] > 2 * sizes[first]
    assert core.check(rig.kernel) is None
    assert audit(rig.disk).findings == []


def test_an_unknown_model_is_refused_and_a_dead_process_keeps_its_own() -> None:
    rig = two()
    error = rig.do(Spawned(source="user", spec=Spec("p", calls=("yield",), model="large"))).error
    assert error == "model large: beside the first there are small"
    pid = rig.spawn("p", model="small")
    rig.do(Killed(source="user", pid=pid, status="done"))
    error = rig.do(Spawned(source="user", spec=Spec("p", calls=("yield",), model="other"))).error
    assert "model other" in error
    assert rig.do(Spawned(source="user", spec=Spec("p", calls=("yield",)))).pid == pid
    assert rig.proc(pid).spec.model == "small"


def test_models_do_not_wait_for_each_others_slots() -> None:
    rig = two("sched.policy=mlfq")
    rig.answering = False  # all slots stay busy
    pids = [rig.spawn(f"p{n}", model="small" if n % 2 else "") for n in range(8)]
    runs: list[Run] = []
    for pid in pids:
        runs += [one for one in rig.say(pid, "go").effects if isinstance(one, Run)]
    assert [(run.slot, run.model) for run in runs] == [(0, ""), (1, "small"), (2, "small")]
    states = [rig.proc(pid).state for pid in pids]
    assert states.count(State.RUNNING) == 3
    done = Trapped(source="cpu", slot=2, tag=Tag(runs[2].pid, 1, 1), outcome=Outcome.PREEMPTED)
    step = rig.do(done)
    (again,) = [one for one in step.effects if isinstance(one, Run)]
    assert (again.slot, again.model) == (2, "small")
    assert rig.proc(again.pid).spec.model == "small"


def test_a_boot_without_the_model_measures_its_processes_anew_and_back() -> None:
    for seed in range(10):
        rng = Random(seed)
        rig = two("window=4096" if seed % 2 else "window=2048")
        here, there = rig.others, dict[str, object]()
        pids = [rig.spawn(f"p{n}", model=rng.choice(("", "small")), mask=MASK, blocks={"b": "tea"}) for n in range(3)]
        child = rig.do(Forked(source="user", pid=pids[0], name="fork")).pid
        assert rig.proc(child).spec.model == rig.proc(pids[0]).spec.model
        for n in range(60):
            pid = rng.choice([*pids, child])
            if rng.random() < 0.1:
                rig.others = here if not rig.others else there  # type: ignore[assignment]
                before = {pid: rig.texts(pid) for pid in pids if not rig.proc(pid).spec.model}
                rig.boot()
                core.check(rig.kernel)
                assert {pid: rig.texts(pid) for pid in before} == before  # who names none has nothing measured anew
                rig.pump()
            said = f"message {n} about the river and its {n} boats"
            rig.say(pid, said)
            assert rig.messages[-1].text == f"you said: {said}"
            job, layout = rig.jobs[-1], rig.cpus.layouts[rig.kernel.model_of(pid)]
            assert job.prompt == layout.render(job.pages)
            sized = sum(entry.tokens for entry in rig.proc(pid).space.queue)
            placed = sum(
                len(layout.tokenize(rig.page(entry.page).text)) + layout.costs.role[entry.role]
                for entry in rig.proc(pid).space.queue
            )
            assert sized == placed
        again = Replay(rig.disk, Table())
        assert [taken.why for taken in again.steps() if taken.why] == []
        assert again.kernel.hash == rig.kernel.hash
        assert audit(rig.disk).findings == []


def test_a_replay_goes_on_from_a_checkpoint_with_the_slots_of_both_models() -> None:
    rig = two()
    pid = rig.spawn("p", model="small")
    rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))
    rig.say(pid, "after the checkpoint")
    again = Replay(rig.disk, Table())
    assert again.start > 0
    assert [slot.model for slot in again.kernel.slots] == ["", "small", "small"]
    assert not any(taken.why for taken in again.steps())


def test_a_directory_of_a_version_with_one_model_is_taken_over() -> None:
    rig = Rig(play([json.dumps({"op": "send_message", "text": "yes"})]), "window=2048")
    pid = rig.spawn(blocks={"b": "tea"})
    rig.say(pid, "hello")
    row = msgspec.structs.replace(checkpoint.records(rig.disk, None)[0])
    assert row.table == "base"
    rig.disk.commit([msgspec.structs.replace(row, table="set", key=b"measure", value=b"another")])
    before = rig.texts(pid)
    rig.boot()
    booted = rig.kernel.config
    assert booted is not None
    assert (booted.anew, rig.texts(pid)) == ((pid,), before)


def test_models_are_settings_of_their_own() -> None:
    settings = apply(Settings(), ["models.small=smollm2-135m", "models.big=q.gguf"])
    assert settings.models == {"small": "smollm2-135m", "big": "q.gguf"}
    assert apply(settings, ["models.small="]).models == {"big": "q.gguf"}
