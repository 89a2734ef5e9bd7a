"""Whatever processes do to each other: no child has more than its parent, no letter is lost, and nothing is left."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import records, removal, rights
from kernel.audit import audit as audited
from kernel.event import AnyEvent, Filed, Forked, Granted, Imported, Killed, Renamed, Revoked, Spawned
from kernel.memory.page import Page
from kernel.process import OUTSIDE, Fate, Process, State
from kernel.rights import VERDICTS, Limits
from kernel.spec import Spec
from kernel.state import Step
from tests.fakes import PowerCut, Rig, op
from tests.unit.test_shared import ALL

NAMES = ("a", "b", "c")
RIGHTS = (
    *("read:*", "write:root/*", "send:*", "send:root*", "send:other", "kill:root/*", "wait:other"),
    *("search:*", "search:root", "search:other", "remember:root*", "remember:other"),
    *("send:root/a", "read:root/plan", "write:other/plan", "kill:other/*"),
)
PLACES = ("root", "other", "third")  # names that are given, taken and given to another
patterns = st.sampled_from(
    ["*", "send*", "send", "send:*", "send:a", "send:a*", "send:ab", "send:ab*", "remember", "rem*", "tool:x/*"]
)
policies = st.dictionaries(patterns, st.sampled_from(VERDICTS), max_size=5)
calls = st.sampled_from(["send", "send:a", "send:ab", "send:abc", "send:b", "remember", "exit", "tool:x/y", "kill:a"])


@given(policies, policies, calls)
def test_the_stricter_of_two_policies_lets_through_only_what_both_do(one: dict, other: dict, call: str) -> None:
    both = max(rights.verdict(one, call), rights.verdict(other, call), key=VERDICTS.index)
    assert rights.verdict(rights.stricter(one, other), call) == both


limits = st.builds(Limits, **{name: st.integers(0, 9) for name in Limits.__struct_fields__})


@given(limits, limits)
def test_limits_within_others_are_no_looser(one: Limits, other: Limits) -> None:
    found = rights.within(one, other)
    for name in Limits.__struct_fields__:
        assert (getattr(found, name) or 99) <= min(getattr(one, name) or 99, getattr(other, name) or 99)


class World:
    """Processes that do at random what they may, under a hand that kills, grants, revokes and cuts the power."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(f"family/{seed}")
        self.sent = 0
        self.rig = Rig(self.emit, "window=4096", "sched.quantum=30", slots=self.rng.choice([1, 2]))
        for name in ("root", "other"):
            verdicts = [self.rng.choice(VERDICTS) for _ in range(3)]
            policy = {"remember": verdicts[0], "kill": "deny", "send:other": verdicts[1], "send": verdicts[2]}
            policy = policy if name == "root" else {}
            mapped = {"archives": ("other",)} if name == "root" else {}
            self.rig.spawn(name, ALL, limits=Limits(children=3, day_tokens=60_000), tainted=policy, **mapped)
        self.rig.do(Granted(source="user", pid=1, right="search:other"))
        self.meant: dict[tuple[int, int], int] = {}

    def meanings(self) -> list[str]:
        """Rights over one process, or its block, that are over another than they were a step before."""
        kernel, found, wrong = self.rig.kernel, dict[tuple[int, int], int](), []
        for proc in kernel.procs.values():
            for grant in proc.grants:
                verb, _, thing = grant.right.partition(":")
                block = kernel.shared.get(thing) if verb in ("read", "write") else None
                found[proc.pid, grant.id] = block.owner if block is not None else kernel.names.get(thing, 0)
                before = self.meant.get((proc.pid, grant.id), 0) if verb not in ("read", "write") or block else 0
                if before and before != found[proc.pid, grant.id]:
                    wrong.append(f"{grant.right} of {proc.name} was over {before}")
        self.meant = found
        return wrong

    def emit(self, job: object) -> str:
        rng = self.rng
        match rng.randint(0, 13):
            case 0 | 1:
                return op(
                    "spawn",
                    name=rng.choice(NAMES),
                    task=rng.choice(["", "work"]),
                    calls=rng.choice([[], ["send", "yield"], ["spawn", "exit", "wait"]]),
                    rights=rng.choice([[], [rng.choice(RIGHTS)]]),
                    limits=rng.choice([{}, {"children": 2, "mailbox": 3}]),
                )
            case 2:
                return op("fork", name=rng.choice(NAMES), task="the other way")
            case 3 | 4:
                self.sent += 1
                return op("send", to=rng.choice(["parent", *NAMES, "other"]), text=f"letter {self.sent}")
            case 5:
                return op("wait", child=rng.choice(["", *NAMES]), seconds=rng.choice([0, 5]))
            case 6:
                return op("kill", process=rng.choice([*NAMES, "other"]))
            case 7:
                return op("exit", status="over")
            case 8:
                return op(rng.choice(["grant", "revoke"]), child=rng.choice(NAMES), right=rng.choice(RIGHTS))
            case 9:
                whose = rng.choice(["", "root", "other", "parent", "a"])
                if rng.random() < 0.5:
                    return op("remember", text="a larch", whose=whose)
                return op(rng.choice(["search", "find"]), query="larch", whose=whose)
            case 10:
                return op("set_timer", seconds=5, text="tea")
            case 11 | 12:
                block = rng.choice(["root/plan", "other/plan", "root/a/plan"])
                if rng.random() < 0.5:
                    return op("look", block=block, follow=rng.random() < 0.5)
                return op("write", block=block, text=rng.choice(["", "oaks", "larches"]), version=rng.randint(0, 3))
            case _:
                return op("yield")

    def outside(self) -> None:
        """Something that a user does."""
        rng, rig = self.rng, self.rig
        pid = rng.choice(list(rig.kernel.procs))
        proc = rig.proc(pid)
        match rng.randint(0, 10):
            case 0 | 1 | 2:
                if proc.state is not State.ZOMBIE:
                    rig.say(pid, "go on with a larch", pump=False)
            case 3:
                rig.do(Killed(source="user", pid=pid, group=rng.random() < 0.3))
            case 4:
                rig.do(Granted(source="user", pid=pid, right=rng.choice(RIGHTS)))
            case 5:
                rig.do(Revoked(source="user", pid=pid, right=rng.choice(RIGHTS)))
            case 6:
                rig.do(Filed(source="user", pid=pid, parts=rig.cpus("a page of a file, on a larch", 50, "")))
            case 7:
                rig.do(Forked(source="user", pid=pid, name=f"copy{rig.kernel.counters.page}"))
            case 8:
                rig.do(Renamed(source="user", pid=pid, name=rng.choice([*PLACES, "third/a"])))
            case 9:
                spec = Spec(rng.choice(PLACES), ALL, archives=rng.choice([(), PLACES]))
                rig.do(rng.choice([Spawned(source="user", spec=spec), Imported(source="user", spec=spec, pages=())]))
            case _:
                rig.do(Killed(source="user", pid=pid))
                if proc.parent == OUTSIDE and sum(one.parent == OUTSIDE for one in rig.kernel.procs.values()) > 1:
                    rig.do(removal.surveyor(rig.kernel, pid).made(rig.disk))


def beyond(parent: Process, child: Process) -> list[str]:
    """What a child may that its parent may not."""
    found = [call for call in child.spec.calls if call not in parent.spec.calls]
    found += [name for name in child.spec.archives if name not in parent.spec.archives]
    for grant in child.grants:
        if grant.by == parent.pid and grant.of and not any(one.id == grant.of for one in parent.grants):
            found.append(f"{grant.right}, of a grant that is gone")
    wide = rights.within(child.spec.limits, parent.spec.limits) != child.spec.limits
    lax = rights.stricter(child.spec.tainted, parent.spec.tainted) != dict(child.spec.tainted)
    return found + ["limits"] * wide + ["policy"] * lax


@pytest.mark.parametrize("seed", range(30))
def test_no_sequence_gives_a_process_more_than_its_parent_and_no_letter_is_lost_or_doubled(seed: int) -> None:
    world = World(seed)
    rig, rng = world.rig, world.rng
    for _ in range(60):
        world.rig.cut_at = rng.choice([0, 0, 0, rng.randint(1, 9)])
        try:
            world.outside()
            rig.pump(rng.randint(1, 25))
            rig.tick(rng.choice([0, 1, 6]))
            if rng.random() < 0.5 and not any(slot.pid in rig.reaped for slot in rig.kernel.slots):
                rig.reap()
        except PowerCut:
            rig.cut_at = 0
            rig.boot()
            rig.program = rig.cpu.program = world.emit
        for proc in rig.kernel.procs.values():
            parent = rig.kernel.procs.get(proc.parent)
            assert parent is None or proc.reaped or not beyond(parent, proc)
            pending = [page for one in proc.pending for page, _ in one.pages]
            assert len(pending) == len(set(pending)), "doubled"
            for letter in proc.letters:
                if letter.fate is Fate.ACCEPTED:
                    reader = rig.proc(letter.to)
                    assert any(letter.id == page for one in reader.pending for page, _ in one.pages), "lost"


@pytest.mark.parametrize("seed", range(20))
def test_killing_everybody_at_any_time_leaves_nothing_behind(seed: int) -> None:
    world = World(100 + seed)
    rig, rng = world.rig, world.rng
    for _ in range(12):
        world.outside()
        rig.pump(rng.randint(1, 25))
    for pid in list(rig.kernel.procs):
        if pid in rig.kernel.procs and rig.proc(pid).state is not State.ZOMBIE:
            rig.do(Killed(source="user", pid=pid))
    rig.pump()
    rig.tick(10)
    rig.reap()
    assert not rig.kernel.timers
    assert not rig.kernel.busy
    assert not rig.kernel.posted
    assert not any(slot.pid for slot in rig.kernel.slots)
    assert all(proc.parent == OUTSIDE for proc in rig.kernel.procs.values()), "children are gone"
    mine = set(rig.kernel.procs)
    pages = [msgspec.msgpack.decode(row, type=Page) for _, row in rig.disk.scan("page")]
    shown = {page.of for page in pages}  # by a copy, whose memory they are, too
    assert {page.pid for page in pages if page.id not in shown} <= mine | {0}
    for table in ("outbox", "audit", "said"):
        assert {records.unkey(key)[0] for key, _ in rig.disk.scan(table)} <= mine, table


@pytest.mark.parametrize("seed", range(30))
def test_a_right_is_over_the_same_process_whoever_is_renamed_removed_made_imported_or_forked(seed: int) -> None:
    world = World(200 + seed)
    rig, rng, do = world.rig, world.rng, world.rig.do

    def watched(event: AnyEvent) -> Step:
        step = do(event)
        assert not world.meanings(), step.event
        return step

    rig.do = watched  # type: ignore[method-assign]
    for _ in range(60):
        world.outside()
        rig.pump(rng.randint(1, 25))
        if rng.random() < 0.5 and not any(slot.pid in rig.reaped for slot in rig.kernel.slots):
            rig.reap()
    assert not audited(rig.disk).findings
