"""Tools under whatever happens: nothing that may not be done twice is, and nothing of a use outlives who wanted it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.device.scripted import Scripted, ScriptedTools
from kernel.event import Granted, Halted, Killed, Note, Offered, Revoked, Spawned, Tool, What
from kernel.interrupts import Line
from kernel.ports import Job
from kernel.process import State
from kernel.spec import Spec
from syscalls.abi import FULL
from tests.fakes import PowerCut, Rig, op

TOOLS = (Tool("bank/pay"), Tool("bank/read", reads=True), Tool("other/set", again=True))
ACTIONS = ("say", "answer", "kill", "halt", "boot", "cut", "revoke", "grant", "offer", "gone", "tick")


def emit(job: Job) -> str:
    """Uses one tool after the other, what changes something more than once, and then says so."""
    pay, read, set_ = TOOLS
    tool = (pay, pay, read, pay, pay, pay, set_, set_, None)[(job.instr - 1) % 9]
    return op("send_message", text="done") if tool is None else op("use", tool=tool.name)


def act(rig: Rig, device: ScriptedTools, name: str, pid: int) -> None:
    """Let one thing happen; what cannot be at the moment is refused."""
    match name:
        case "say":
            rig.say(pid, "Go on.")
        case "answer":
            for key, told in list(device.waiting.items())[:1]:
                device.answer(key, told)
        case "kill":
            rig.do(Killed(source="user", pid=pid))
            rig.do(Spawned(source="user", spec=Spec(rig.proc(pid).name, calls=rig.proc(pid).spec.calls)))
        case "halt":
            rig.do(Halted(source="user", pid=pid))
        case "boot":
            rig.boot()
        case "cut":
            rig.cut_at = 2
        case "revoke":
            rig.do(Revoked(source="user", pid=pid, right="tool:bank/*"))
        case "grant":
            rig.do(Granted(source="user", pid=pid, right="tool:*"))
        case "offer":
            rig.do(Offered(source="device", server="bank", tools=TOOLS[:1]))
        case "gone":
            rig.do(Offered(source="device", server="other"))
        case "tick":
            rig.tick(10)
    rig.pump()


def used(rig: Rig, tool: str) -> int:
    """How often a use was committed, by the journal."""
    rows = [rig.kernel.form.entry(row).notes for _, row in rig.disk.scan("journal")]
    notes: list[Note] = [note for row in rows for note in row if note.what is What.TOOL]
    return sum(note.text == f"{tool} is used" for note in notes)


def unheard(rig: Rig, pid: int) -> int:
    """How often a process used bank/pay again, which had answered, and had heard nothing and used no other since."""
    paid = wrong = 0
    for _, row in rig.disk.scan("journal"):
        for note in rig.kernel.form.entry(row).notes:
            if note.pid != pid:
                continue
            if note.what is What.TOOL and note.text == "bank/pay is used":
                wrong += paid > 1
                paid = 1
            elif note.what is What.TOOL and note.text == "bank/pay answered":
                paid = 2
            elif note.what in (What.DELIVERED, What.TOOL) and note.line is not Line.MEMORY:
                paid = 0
    return wrong


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1)), max_size=25))
def test_no_power_cut_kill_or_stop_does_anything_twice_or_leaves_an_intent(steps: Sequence[tuple[str, int]]) -> None:
    device = ScriptedTools(tuple(Scripted(tool) for tool in TOOLS), holding=True)
    rig = Rig(emit, tools=device, slots=2)
    rig.pump()
    pids = [rig.spawn(f"p{n}", (*FULL, "use")) for n in range(2)]
    for pid in pids:
        rig.do(Granted(source="user", pid=pid, right="tool:*"))
    for name, who in steps:
        try:
            act(rig, device, name, pids[who])
        except PowerCut:
            rig.cut_at = 0
            rig.boot()
            rig.pump()
        assert len(rig.disk.scan("intent")) == sum(rig.proc(pid).wait is not None for pid in pids)
    rig.cut_at = 0
    assert not any(unheard(rig, pid) for pid in pids)
    assert [tool for tool, _ in device.done].count("bank/pay") <= used(rig, "bank/pay")
    for pid in pids:
        if rig.proc(pid).state is not State.ZOMBIE:
            rig.do(Killed(source="user", pid=pid))
    rig.pump()
    assert (rig.disk.scan("intent"), rig.disk.scan("used"), device.waiting) == ([], [], {})
