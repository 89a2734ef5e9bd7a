"""How processes begin and end: what is refused, what is kept, what is gone."""

import pytest

from drivers.cpu.scripted import echo
from kernel.event import Killed, Spawned
from kernel.process import TRANSITIONS, State
from kernel.spec import Spec
from tests.fakes import Rig


def test_every_state_can_be_killed_but_a_zombie() -> None:
    from kernel.process import Move

    assert [state for state in State if Move.KILL not in TRANSITIONS[state]] == [State.ZOMBIE]


def test_kill_takes_the_process_at_once_and_its_trap_changes_nothing_more() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello", pump=False)
    assert rig.proc(pid).state is State.RUNNING
    rig.do(Killed(source="user", pid=pid))
    rig.pump()
    assert rig.proc(pid).state is State.ZOMBIE
    assert rig.messages == []


def test_a_killed_process_keeps_its_memory_and_starts_again() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "my name is Ada")
    rig.do(Killed(source="user", pid=pid))
    refused = rig.say(pid, "are you there?")
    assert "is dead (killed)" in refused.error
    assert rig.spawn() == pid
    assert "my name is Ada" in rig.texts(pid)
    rig.say(pid, "and now?")
    assert rig.messages[-1].text == "you said: and now?"


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Spawned(spec=Spec("", calls=("yield",))), "process name"),
        (Spawned(spec=Spec("7", calls=("yield",))), "not a number"),
        (Spawned(spec=Spec("x", calls=())), "mask is empty"),
        (Spawned(spec=Spec("x", calls=("fly",))), "mask fly: syscalls are"),
        (Spawned(spec=Spec("p", calls=("yield",))), "exists and is idle"),
        (Spawned(spec=Spec("x", calls=("yield",), nice=20)), "nice 20: -20 to 19"),
        (Spawned(spec=Spec("x", calls=("yield",), blocks={"b": "x" * 5_000})), "core blocks of"),
        (Killed(pid=99), "no process 99; processes are p"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(event: Spawned | Killed, error: str) -> None:
    rig = Rig(echo)
    rig.spawn()
    lsn, state_hash = rig.kernel.counters.lsn, rig.kernel.hash
    step = rig.do(event)
    assert error in step.error
    assert "\n" not in step.error
    assert (rig.kernel.counters.lsn, rig.kernel.hash) == (lsn, state_hash)
