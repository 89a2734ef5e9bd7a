"""A real model in the whole machine: SmolLM2 talks, is paged, asked, preempted, and its directory changes hands."""

from collections.abc import Awaitable
from pathlib import Path

import pytest

from bench.tiny import mamba
from drivers.cpu.scripted import ScriptedCpu, echo
from kernel.errors import BadInput
from kernel.event import Message, Outcome
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.machine.requests import Answer
from kernel.machine.views import Entry
from kernel.spec import Spec
from llmos.demo.talk import conversation
from llmos.init import powered

pytestmark = [pytest.mark.gguf, pytest.mark.slow]
MODEL = "smollm2-135m"


async def say(machine: Machine, pid: int, mid: str, text: str) -> tuple[str, set[int]]:
    """The reply, and the pages that were brought in for it."""
    faulted: set[int] = set()
    async with machine.feed.subscribe(-1) as published:
        await machine.requests.message(pid, mid, text)
        async for item in published:
            if isinstance(item, Entry):
                faulted |= {page for note in item.notes if note.what == "fault" for page in note.pages}
            elif isinstance(item, Message) and mid in item.answers:
                return item.text, faulted
    raise AssertionError("the machine stopped")


async def test_an_evicted_fact_is_brought_in_for_its_question_and_the_window_holds(tmp_path: Path) -> None:
    async with powered(tmp_path, model=MODEL, window=1024, changes=["cpu.reply=24"]) as machine:
        pid = (await machine.requests.spawn(Spec("p"))).pid
        await say(machine, pid, "fact", "Ottilie moored the boat Kestrel at the old pier.")
        page = views.message_page(machine.disk, "fact")
        talk = conversation(7, facts=1, tokens=1500, count=lambda text: len(machine.cpus.layouts[""].tokenize(text)))
        for number, turn in enumerate(talk.turns):
            if page not in views.resident(machine.kernel, pid):
                break
            await say(machine, pid, f"m{number}", turn.text)
        assert page not in views.resident(machine.kernel, pid)
        reply, faulted = await say(machine, pid, "question", "What is the name of the vessel that belongs to Ottilie?")
        assert reply
        assert page in faulted
        (view,) = views.processes(machine.kernel)
        assert 0 < view.accounts.kv <= 1024
        assert view.accounts.prefill < 4 * (
            view.accounts.entered + view.accounts.emitted
        )  # the prefix is kept between turns
        for entry in views.log(machine.disk, 0, 10_000):
            for note in entry.notes:
                assert not note.text.startswith(Outcome.FAILED)


async def test_a_directory_opens_with_another_model_and_a_smaller_window(tmp_path: Path) -> None:
    cpu = ScriptedCpu(echo)
    async with powered(tmp_path, window=4096, cpu=cpu, changes=["cpu.reply=100"]) as machine:
        pid = (await machine.requests.spawn(Spec("p", ("send_message",), blocks={"human": "Ada, likes tea"}))).pid
        for number in range(30):
            await say(machine, pid, f"a{number}", f"message {number} about bread, boats and the weather of the week")
        before = len(views.resident(machine.kernel, pid))
    async with powered(tmp_path, model=MODEL, window=1024, changes=["cpu.reply=24"]) as machine:
        (view,) = views.processes(machine.kernel)
        assert view.memory.used <= view.memory.queue
        assert 0 < len(views.resident(machine.kernel, pid)) < before
        reply, _ = await say(machine, pid, "b", "Hello, are you there?")
        assert reply  # the kernel panics if the driver's position passes the window
        assert [page.text for page in views.history(machine.disk, pid, 2)] == ["Hello, are you there?", reply]


async def test_two_models_run_side_by_side_and_one_may_go_and_come_back(tmp_path: Path) -> None:
    mamba(tmp_path / "tiny.gguf")
    data, also = tmp_path / "data", f"models.tiny={tmp_path / 'tiny.gguf'}"
    async with powered(data, model=MODEL, window=1024, changes=["cpu.reply=24", "cpu.slots=1", also]) as machine:
        mask = ("send_message",)
        one = (await machine.requests.spawn(Spec("one", mask, system="Answer."))).pid
        other = (await machine.requests.spawn(Spec("other", mask, system="Answer.", model="tiny"))).pid
        with pytest.raises(BadInput, match="model large: beside the first there are tiny"):
            await refused(machine.requests.spawn(Spec("p", mask, model="large")))
        async with machine.feed.subscribe(-1) as published:  # at the same time
            await machine.requests.message(one, "m1", "Count to a hundred, slowly.")
            await machine.requests.message(other, "m2", "Count to a hundred, slowly.")
            said = {}
            async for item in published:
                if isinstance(item, Message):
                    said[item.pid] = item.text
                if len(said) == 2:
                    break
        seen = {view.pid: view for view in views.processes(machine.kernel)}
        assert seen[one].model != seen[other].model
        used = seen[other].memory.used
    async with powered(data, changes=["models.tiny="]) as machine:  # the model of the directory runs both
        assert (await say(machine, other, "m3", "Are you still there?"))[0]
        assert machine.kernel.model_of(other) == ""
        assert machine.kernel.config is not None
        assert machine.kernel.config.anew == (other,)
    async with powered(data, changes=[also]) as machine:
        assert machine.kernel.model_of(other) == "tiny"
        assert views.pmap(machine.kernel, other).budgets["queue"] > 0
        view = views.process(machine.kernel, other)
        assert view.memory.used > used
        assert (await say(machine, other, "m4", "And now?"))[0]


async def refused(answer: Awaitable[Answer]) -> None:
    """Raise what the kernel refused with."""
    raise BadInput((await answer).error)


async def test_a_window_larger_than_the_model_s_is_refused_and_the_directory_is_as_it_was(tmp_path: Path) -> None:
    async with powered(tmp_path, cpu=ScriptedCpu(echo)) as machine:
        pid = (await machine.requests.spawn(Spec("p"))).pid
        await say(machine, pid, "m", "hello")
    with pytest.raises(BadInput, match="window 100000 is larger than the model's"):
        async with powered(tmp_path, model=MODEL, window=100_000):
            pass
    async with powered(tmp_path, cpu=ScriptedCpu(echo)) as machine:
        assert machine.settings.window == 2048
        assert [view.name for view in views.processes(machine.kernel)] == ["p"]


async def test_two_processes_share_the_cpu_and_both_answer(tmp_path: Path) -> None:
    async with powered(tmp_path, model=MODEL, window=1024, changes=["cpu.reply=40", "sched.quantum=8"]) as machine:
        pids = [(await machine.requests.spawn(Spec(name))).pid for name in ("one", "two")]
        async with machine.feed.subscribe(-1) as published:
            for pid in pids:
                await machine.requests.message(pid, f"m{pid}", "Tell me about boats.")
            answered = set()
            async for item in published:
                if isinstance(item, Message):
                    answered.add(item.pid)
                    if answered == set(pids):
                        break
        entries = [note for entry in views.log(machine.disk, 0, 10_000) for note in entry.notes if note.what == "run"]
        assert any(note.text.startswith(Outcome.PREEMPTED) for note in entries)
