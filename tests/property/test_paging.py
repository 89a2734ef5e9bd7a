"""The pager against a model that never evicts: whatever is said, pinned, evicted and read, nothing is lost."""

import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kernel import records
from kernel.event import Forked, What
from kernel.memory.page import Kind, Origin
from kernel.memory.policy import POLICIES
from kernel.ports import Job
from kernel.process import State
from tests.fakes import Rig

words = st.sampled_from(["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "jetty"])
texts = st.lists(words, min_size=1, max_size=120).map(" ".join)


class PagerAgainstModel(RuleBasedStateMachine):
    """The program emits what the rules queued; the model is the list of all that was said."""

    @initialize(
        policy=st.sampled_from(sorted(POLICIES)),
        low=st.sampled_from([0.2, 0.5, 0.8]),
        stub=st.sampled_from(["stub", "nothing"]),
        window=st.sampled_from([2048, 3000]),
        share=st.sampled_from(["fixed", "learned"]),
        join=st.booleans(),
    )
    def boot(self, policy: str, low: float, stub: str, window: int, share: str, join: bool) -> None:
        self.todo: list[str] = []
        self.rig = Rig(
            self.program,
            f"memory.policy={policy}",
            f"memory.low={low}",
            f"memory.on_evict={stub}",
            f"memory.share={share}",
            f"memory.join={str(join).lower()}",
            f"window={window}",
            "cpu.reply=120",
        )
        self.pid = self.rig.spawn()
        self.said: dict[str, str] = {}  # mid -> text: a machine that never evicts
        self.blocks: dict[str, str] = {}

    def program(self, job: Job) -> str:
        return self.todo.pop(0) if self.todo else '{"op":"send_message","text":"ok"}'

    def op(self, name: str, **fields: object) -> None:
        self.todo.append(json.dumps({"op": name, **fields}, separators=(",", ":")))

    @rule(text=texts)
    def say(self, text: str) -> None:
        mid = f"m{len(self.said)}"
        step = self.rig.say(self.pid, text, mid)
        assert not step.error
        self.said[mid] = text

    @rule(block=st.sampled_from(["persona", "human"]), text=words)
    def core(self, block: str, text: str) -> None:
        self.op("core_append", block=block, text=text)

    @rule(text=texts.map(lambda text: text[:200]))
    def remember(self, text: str) -> None:
        self.op("remember", text=text)

    @rule(query=words)
    def search(self, query: str) -> None:
        self.op("search", query=query)

    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(["pin", "unpin", "read", "evict"]))
        page = data.draw(st.integers(1, self.rig.kernel.counters.page + 3))
        self.op(name, **({"page": page} if name in ("pin", "unpin") else {"pages": [page]}))

    @rule()
    def fork(self) -> None:
        """Go on with a copy of the process, in which nothing is missing either."""
        before = self.rig.texts(self.pid)
        self.pid = self.rig.do(Forked(source="user", pid=self.pid, name=f"p{self.pid + 1}")).pid
        assert self.rig.texts(self.pid) == before

    @rule()
    def reboot(self) -> None:
        before = self.rig.kernel.hash, self.rig.texts(self.pid)
        self.rig.boot()
        assert self.rig.texts(self.pid) == before[1]
        self.rig.pump()

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "rig"):
            return
        rig, proc = self.rig, self.rig.proc(self.pid)
        assert proc.state is State.IDLE
        pages = [rig.page(number) for number in range(1, rig.kernel.counters.page + 1)]
        for mid, text in self.said.items():
            row = rig.disk.get("mid", mid.encode())
            assert row is not None
            first = records.unkey(row)[1]
            stored = ""
            for page in pages[first - 1 :]:
                stored += page.text
                if stored == text:
                    break
                assert text.startswith(stored), f"{mid} is torn: {stored!r}"
        users = [page.text for page in pages if page.origin is Origin.USER and not page.of]
        assert "".join(users) == "".join(self.said.values())
        for pid in rig.kernel.procs:
            seqs = [message.seq for message in rig.messages if message.pid == pid]
            assert seqs == sorted(set(seqs))

    @invariant()
    def the_window_holds(self) -> None:
        if not hasattr(self, "rig"):
            return
        for job in self.rig.jobs:
            assert len(job.prompt) + job.reply <= job.window
        self.rig.jobs.clear()

    @invariant()
    def prompt_order_is_age_order_and_groups_are_whole(self) -> None:
        if not hasattr(self, "rig"):
            return
        queue = [entry for entry in self.rig.proc(self.pid).space.queue if entry.kind is not Kind.STUB]
        fresh = [entry.page for entry in queue if entry.kind is not Kind.RESULT and self.rig.page(entry.page).pid]
        said = [page for page in fresh if self.rig.page(page).kind is Kind.MESSAGE]
        notes = [note for _, row in self.rig.disk.scan("journal") for note in records.CURRENT.entry(row).notes]
        left = {page for note in notes if note.what is What.EVICT for page in note.pages}  # it may have joined again
        alone = {entry.page for entry in queue if entry.group == 0}
        first_entries = [page for page in said if page in alone and page not in left]
        assert first_entries == sorted(first_entries)


PagerAgainstModel.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_the_pager_against_a_model_that_never_evicts = PagerAgainstModel.TestCase
