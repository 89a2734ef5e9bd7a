"""Who has a slot: one at a time, for a quantum, and the instruction goes on where it was."""

from drivers.cpu.scripted import echo
from tests.fakes import Rig


def test_a_quantum_preempts_and_the_instruction_goes_on_where_it_was() -> None:
    rig = Rig(echo, "sched.quantum=5", slots=1)
    one, two = rig.spawn("one"), rig.spawn("two")
    rig.say(one, "a sentence of some length", "a", pump=False)
    rig.say(two, "another sentence of the same sort", "b", pump=False)
    rig.pump()
    assert {message.text for message in rig.messages} == {
        "you said: a sentence of some length",
        "you said: another sentence of the same sort",
    }
    order = [job.pid for job in rig.jobs]
    assert order[:6] == [one, two, one, two, one, two]  # round robin
    assert all(job.instr == 1 and job.tag.attempt == 1 for job in rig.jobs)
