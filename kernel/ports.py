"""What a machine must offer: Protocols of CPU, disk, index, and of the device that has tools.

A driver raises DeviceError and nothing else, posts its completions as events through the function it was started
with, and knows neither a syscall nor a process's meaning. All completions may be posted from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from kernel.event import Act, Acted, AnyEvent, Hit, Search, Tag, Thought
from kernel.memory.measure import Frame, Visible
from kernel.sampling import Sampling

Post = Callable[[AnyEvent], None]
"""Hand an event to the machine; never blocks; the machine stamps source, number and, where it is 0, time."""


Sized = Callable[[Sequence[Hit]], list[Hit]]
"""Give hits the tokens of what they show, and of their whole pages."""


class Form(msgspec.Struct, frozen=True):
    """What a message of a process is to be: an object of one of these JSON schemas (as JSON), or with `prose` text."""

    schemas: tuple[str, ...]
    prose: bool = False  # that begins otherwise than an object


class Wish(msgspec.Struct, frozen=True):
    """How one message is to be answered, as far as its sender says; the rest is the process's."""

    form: Form | None = None
    seed: int | None = None  # of draws: from the same view the same answer, whoever's it is
    sampling: Sampling | None = None


class Job(msgspec.Struct, frozen=True):
    """One dispatch: the prompt as pages and as the ids they make, and how far the CPU may go."""

    slot: int
    tag: Tag
    pages: tuple[Visible, ...]
    prompt: tuple[int, ...]  # frame and pages, generation prompt last
    ids: tuple[int, ...]  # emitted before a preemption
    grammar: str | None  # Lark for llguidance; None: any non-empty text
    quantum: int
    reply: int
    window: int
    apart: bool = False  # another prompt than the process's own, whose KV is to be kept
    sampling: Sampling | None = None  # what was chosen of how words are drawn; the rest is the settings' or the model's
    thought: Thought | None = None  # what may come before the instruction, beside `reply`; None: nothing
    seed: int | None = None  # of this run's draws; None: the settings' one, which differs by process and instruction

    @property
    def kv(self) -> int:
        """Whose KV it evaluates: the process's, or for a job apart another one, as a negative number."""
        return -self.tag.pid if self.apart else self.tag.pid

    @property
    def pid(self) -> int:
        """Whose run it is."""
        return self.tag.pid

    @property
    def instr(self) -> int:
        """Which instruction of the process it is."""
        return self.tag.instr


class Manner(msgspec.Struct, frozen=True):
    """How processes that may do more than speak are best spoken to, where that was measured; "": nobody knows."""

    encoding: str = ""  # "json" or "prose"; "": as those that only speak
    manual: str = ""  # a form of the manual, as the setting cpu.manual names them


class Streamed(msgspec.Struct, frozen=True):
    """Tokens as they come, past the kernel: `offset` counts those of the instruction, or of a thought, before them."""

    tag: Tag
    offset: int
    text: str
    thought: bool = False  # it is no part of the instruction

    @property
    def pid(self) -> int:
        """Who emitted them."""
        return self.tag.pid


class Cpu(Protocol):
    """A processor with `slots` hardware threads. `start` and `preempt` never block; answers are Trapped events.

    One that cannot go on in the middle of an instruction ends a run with it, whatever the quantum, and a run that is
    preempted without ids: it is begun anew, as another attempt.
    """

    slots: int
    window_max: int  # the model's own limit
    model: str
    encoding: str  # the encoding that suits the model: "json" or "prose"
    full_mask: bool  # False: too small to choose among syscalls; send_message alone is the default mask
    manner: Manner
    frame: Frame

    def measure_id(self) -> str:
        """Hash of vocabulary and frame: sizes and ids are comparable under equal hashes only."""
        ...

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of `text` as plain text: never a control token. Callable from any thread."""
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of `ids`; broken UTF-8 becomes U+FFFD."""
        ...

    def holds(self, grammar: str) -> str:
        """Why what it emits cannot be held to a grammar of a client's making, in one line; "": it can. Any thread."""
        ...

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """Make room for `window` tokens a slot. Raises BadInput if the model or the memory cannot."""
        ...

    def start(self, job: Job) -> None:
        """Run `job` in its slot; exactly one Trapped follows."""
        ...

    def expect(self, pid: int) -> None:
        """A hint: `pid` is likely to be started next, so what it needs may be brought near. Returns at once."""
        ...

    def fork(self, parent: int, child: int) -> None:
        """A hint: `child`, which has never run, sees what `parent` saw, so it may have its KV. Returns at once."""
        ...

    def forget(self, pid: int) -> None:
        """`pid` is no more: what is kept of it goes, on disk too. Returns at once."""
        ...

    def preempt(self, slot: int) -> None:
        """Stop the slot at its next token or prefill chunk; its Trapped says Preempted. No effect on an idle slot."""
        ...

    def close(self) -> None:
        """Stop all slots and free the model."""
        ...


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One key of one table to be written; None deletes it."""

    table: str
    key: bytes
    value: bytes | None


class Reads(Protocol):
    """Ordered tables of bytes, as committed. Every method is complete when it returns."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The committed value of a key."""
        ...

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values of several keys, in one read."""
        ...

    def scan(
        self, table: str, start: bytes = b"", *, reverse: bool = False, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        """Committed pairs from `start` on in key order (`reverse`: from the end, or from `start` down); 0: all."""
        ...

    def size(self, table: str) -> int:
        """Bytes that a table takes of the disk, about; O(1)."""
        ...


class Disk(Reads, Protocol):
    """The truth: tables written in transactions."""

    blocking: bool  # True: call `commit` in a worker thread

    def commit(self, records: Sequence[Record]) -> None:
        """Write all or nothing, in order; on return it is as durable as `disk.sync` says. Raises DeviceError."""
        ...

    def close(self) -> None:
        """Flush and let go of the directory."""
        ...


class Index(Protocol):
    """Derived indexes over pages: applies committed pages in order, searches, rebuilds itself from the truth."""

    applied: int  # last page id applied
    anew: bool  # it began with nothing in this life, for what there was is missing or not to be trusted
    damaged: str  # what went wrong with it, "" if nothing did; the next start builds it anew
    trouble: str  # why pages wait for their vectors and searches go by words for now, "" if they do not
    idle: bool  # what was fed is applied, and it has no work left of its own (merging, graphs)

    def start(self, post: Post, sized: Sized) -> None:
        """Catch up with the truth and begin to answer; `sized` gives hits the token counts that they carry."""
        ...

    def feed(self, upto: int) -> None:
        """Pages up to this id are committed; returns at once."""
        ...

    def search(self, what: Search) -> None:
        """Answer with one Searched event once `what.upto` is applied, or late after its deadline."""
        ...

    def lag(self) -> int:
        """Pages fed and not yet applied."""
        ...

    def close(self) -> None:
        """Apply what was fed, save, stop."""
        ...


class Told(msgspec.Struct, frozen=True):
    """What a tool answered to a use; or why it did not, in words of the driver's own (`error`)."""

    pid: int
    req: int
    tool: str
    text: str = ""
    failed: bool = False  # the text is why it could not do it
    error: str = ""


Measured = Callable[[Told], Acted]
"""Make the event of an answer; may take seconds for a long one, on any thread."""


class Server(msgspec.Struct, frozen=True):
    """A server of tools as it stands now."""

    name: str
    state: str  # "up", "starting", "down"
    why: str = ""  # it is down
    again_s: float = 0.0  # until it is started again; 0: nobody waits for that
    tools: int = 0  # that it offers
    left_out: int = 0  # of its tools, those that cannot be named or are too many
    calls: int = 0  # under way


class Device(Protocol):
    """Servers of tools. An answer, of any outcome, is one Acted; tools that a server offers are Offered.

    It is told of a use after its intent is on disk. A server that ends is started again, and what it was used for is
    answered with why at once.
    """

    names: tuple[str, ...]  # of its servers, whether they are up or not

    def start(self, post: Post, measured: Measured) -> None:
        """Begin to answer; `run` follows."""
        ...

    async def run(self) -> None:
        """Its life, in the machine's nursery, until that is cancelled; then all servers are ended."""
        ...

    def act(self, what: Act) -> None:
        """Use a tool. Returns at once; exactly one Acted follows, unless `desist` comes first."""
        ...

    def desist(self, pid: int, req: int) -> None:
        """Nobody waits for that use any more: it is not begun, or cancelled; its server stays. Returns at once."""
        ...

    def seen(self) -> tuple[Server, ...]:
        """Its servers as they stand."""
        ...
