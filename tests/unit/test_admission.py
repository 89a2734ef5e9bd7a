"""Load control: who may compete for the CPU, who has to wait outside, and who comes back."""

from hypothesis import given
from hypothesis import strategies as st

from kernel.event import Note
from kernel.process import State
from kernel.scheduler.admission import Admission
from tests.fakes import Rig


def hundred(pid: int) -> int:
    return 100


def test_the_tokens_in_flight_are_limited_and_one_is_inside_whatever_its_size() -> None:
    gate = Admission(flight=250, span=0)
    assert [gate.enter(pid, 0, hundred) for pid in (1, 2, 3)] == [True, True, False]
    assert gate.next(hundred) is None
    gate.leave(1)
    assert gate.next(hundred) == 3
    assert Admission(flight=1, span=0).enter(1, 0, hundred)


def test_who_matters_more_comes_in_and_who_matters_least_goes_out() -> None:
    gate = Admission(flight=200, span=0)
    assert gate.enter(1, 5, hundred)
    assert gate.enter(2, 0, hundred)
    assert not gate.enter(3, 5, hundred)
    assert gate.enter(4, 0, hundred)
    assert gate.victim(hundred) == 1
    assert gate.victim(hundred) is None
    assert not gate.enter(1, 5, hundred)
    gate.leave(2)
    assert gate.next(hundred) == 3  # of equals, who came first


def test_a_span_of_waste_lowers_the_number_inside_until_nobody_waits() -> None:
    gate = Admission(flight=0, span=1_000)
    for pid in (1, 2, 3):
        assert gate.enter(pid, 0, hundred)
    assert gate.observe(999, 900) == 0.0
    assert gate.observe(1, 0) == 0.9
    assert gate.victim(hundred) == 3
    assert gate.victim(hundred) is None
    assert not gate.enter(4, 0, hundred)
    gate.leave(1)
    assert gate.next(hundred) == 3
    assert gate.next(hundred) is None
    gate.leave(2)
    assert gate.next(hundred) == 4
    gate.leave(3)  # and nobody waits any more
    assert all(gate.enter(pid, 0, hundred) for pid in (5, 6, 7))
    assert gate.victim(hundred) is None


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(-2, 2), st.booleans()), max_size=60),
    st.sampled_from([0, 150, 350]),
)
def test_nobody_is_in_two_places_and_somebody_is_inside(moves: list[tuple[int, int, bool]], flight: int) -> None:
    gate = Admission(flight, 500)
    nice: dict[int, int] = {}

    def size(pid: int) -> int:
        return 50 + 30 * pid

    for pid, how, leaves in moves:
        if leaves:
            gate.leave(pid)
            nice.pop(pid, None)
        else:
            gate.enter(pid, nice.setdefault(pid, how), size)
        gate.observe(100, 70)
        while gate.victim(size) is not None:
            pass
        while gate.next(size) is not None:
            pass
        inside = {pid for pid in nice if gate.enter(pid, nice[pid], size)}
        assert inside | set(gate.outside) == set(nice)
        assert not inside & set(gate.outside)
        assert bool(inside) == bool(nice)


def notes(rig: Rig) -> list[Note]:
    from tests.property.test_interrupts import journal

    return [note for entry in journal(rig) for note in entry.notes]


def answering(kv: int, *changes: str) -> Rig:
    rig = Rig(
        lambda job: '{"op":"send_message","text":"%s"}' % ("y" * 360),
        "sched.quantum=8",
        "cpu.manual=whole",
        *changes,
        kv=kv,
    )
    for pid in [rig.spawn(f"p{n}") for n in range(4)]:
        rig.say(pid, "go on", pump=False)
    rig.pump()
    return rig


def test_a_machine_that_thrashes_suspends_and_all_are_answered() -> None:
    rig = answering(1)
    assert [note.what for note in notes(rig) if note.what in ("thrash", "suspend", "resume")][:2] == [
        "thrash",
        "suspend",
    ]
    assert len(rig.messages) == 4
    assert all(rig.proc(pid).state is State.IDLE for pid in rig.kernel.procs)


def test_a_cache_for_all_never_thrashes_and_suspend_false_only_watches() -> None:
    assert not [note for note in notes(answering(1 << 20)) if note.what in ("thrash", "suspend")]
    assert not [note for note in notes(answering(1, "sched.suspend=false")) if note.what in ("thrash", "suspend")]


def test_a_limit_on_tokens_in_flight_runs_them_one_after_the_other_with_less_prefill() -> None:
    limited, free = answering(1, "sched.flight=1000"), answering(1, "sched.suspend=false")
    assert len(limited.messages) == len(free.messages) == 4

    def prefill(rig: Rig) -> int:
        return sum(proc.accounts.prefill for proc in rig.kernel.procs.values())

    assert 5 * prefill(limited) < prefill(free)


def test_a_suspended_process_is_judged_anew_after_a_power_cut() -> None:
    rig = Rig(
        lambda job: '{"op":"send_message","text":"%s"}' % ("y" * 360),
        "sched.quantum=8",
        "sched.flight=1000",
        "cpu.manual=whole",
    )
    for pid in [rig.spawn(f"p{n}") for n in range(3)]:
        rig.say(pid, "go on", pump=False)
    rig.pump(2)
    assert State.SUSPENDED in {proc.state for proc in rig.kernel.procs.values()}
    rig.boot()
    rig.pump()
    assert len(rig.messages) == 3
    assert {proc.state for proc in rig.kernel.procs.values()} == {State.IDLE}
