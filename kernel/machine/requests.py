"""What a client may ask of a machine: measured first, then submitted, once for a message id.

Guarantees: whoever has an answer from here has it from the disk. A text with a `mid` is applied once, however often and
by however many it is sent; the second sender gets the answer of the first. Text is measured before its event is made,
in a thread where it is long, so the loop never waits for a tokenizer.
Not here: what an event means (core.py), when it is stepped (loop.py), what only reads (views.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final, ParamSpec, TypeVar

import msgspec
import trio

from kernel import removal
from kernel.errors import BadInput, Busy, Stopped
from kernel.event import (
    Acked,
    AnyEvent,
    Changed,
    CoreWritten,
    Filed,
    Forked,
    Halted,
    Imported,
    Killed,
    Messaged,
    Renamed,
    Spawned,
)
from kernel.life import OTHERWISE
from kernel.limits import INDEX_LAG_MAX, INDEX_WAIT_S, MESSAGE_BYTES_MAX, MID_CHARS_MAX, READERS_MAX
from kernel.machine import arrival, documents, views
from kernel.machine.cpus import Cpus
from kernel.machine.documents import Piece
from kernel.machine.measures import page_tokens_max
from kernel.memory.measure import Part
from kernel.memory.page import Source
from kernel.ports import Disk, Index
from kernel.records import DOCUMENTS
from kernel.rights import Limits, Verdict
from kernel.sampling import Sampling
from kernel.settings import Settings
from kernel.spec import Spec
from kernel.state import InstructionSet, Kernel

SUIT: Final = ("calls", "system")  # of a process, what a machine can choose if nobody does
MASKS: Final = {"all": True, "default": False}  # words for a mask: every syscall, or what suits the model
PATIENCE_S: Final = 20.0  # how long a change of what stands in a prompt waits for a turn to end
AGAIN_S: Final = 0.1  # between two looks whether it has
LABEL_TOKENS: Final = 16  # of a page that a document's label leaves to its text, about
LONG_CHARS: Final = 2_000  # a longer text is measured in a thread: tokenising 1 MB takes seconds


class Answer(msgspec.Struct, frozen=True):
    """What became of a submitted event, after its commit. `refused`: why nothing has changed."""

    lsn: int
    refused: BadInput | None = None
    pid: int = 0
    duplicate: bool = False

    @property
    def error(self) -> str:
        """Why it was refused, in one line; "" if it was not."""
        return str(self.refused or "")


class Waiter:
    """Who waits for an answer; it is given one, or a failure, once."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._answer: Answer | None = None
        self._failure: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it need not wait any more."""
        return self._done.is_set()

    def give(self, answer: Answer) -> None:
        """This is the answer."""
        self._answer = answer
        self._done.set()

    def fail(self, failure: BaseException) -> None:
        """There will be none."""
        self._failure = failure
        self._done.set()

    async def wait(self) -> Answer:
        """The answer. Raises BadInput if there is none."""
        await self._done.wait()
        if self._failure is not None:
            raise Stopped(f"the kernel stopped: {self._failure}")
        assert self._answer is not None
        return self._answer


Submit = Callable[[AnyEvent], Awaitable[Answer]]
"""Hand in an event and wait for its commit. Raises BadInput if it cannot be taken."""


T = TypeVar("T")
P = ParamSpec("P")


class Readers:
    """What clients read of the disk: in threads, READERS_MAX at once, in the order they came, and never in the loop.

    Each reading is to be a bounded piece: whoever wants more comes back, behind those who wait.
    """

    def __init__(self, disk: Disk) -> None:
        self._blocking = disk.blocking
        self._free = trio.CapacityLimiter(READERS_MAX)

    @property
    def waiting(self) -> int:
        """How many wait until a thread is free."""
        return self._free.statistics().tasks_waiting

    async def __call__(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `read` gives; it reads the disk and nothing else of the machine."""
        if not self._blocking:
            return read(*args, **kwargs)
        return await trio.to_thread.run_sync(partial(read, *args, **kwargs), limiter=self._free)


class Requests:
    """What clients ask of one machine. `submit` may be replaced, to see or to change what is asked."""

    def __init__(
        self,
        kernel: Kernel,
        cpus: Cpus,
        iset: InstructionSet,
        disk: Disk,
        index: Index,
        settings: Settings,
        submit: Submit,
    ) -> None:
        self._kernel, self._cpus, self._iset = kernel, cpus, iset
        self._disk, self._index, self._settings = disk, index, settings
        self.submit = submit
        self._removing = trio.Lock()
        self._putting = trio.Lock()  # which version a document is depends on those that are there
        self._inflight: dict[str, Waiter] = {}  # by `mid`
        self._followed = False  # the indexes have been within INDEX_LAG_MAX pages since boot

    async def message(self, proc: str | int, mid: str, text: str) -> Answer:
        """A user's message. The same `mid` again is answered as a duplicate and changes nothing.

        Raises BadInput in one line for a text that is empty, too long or no UTF-8, and for an unknown process.
        """
        pid = views.find(self._kernel, proc)
        if mid.startswith(DOCUMENTS):
            raise BadInput(f"message id {mid}: those that begin with {DOCUMENTS} are of documents")

        async def event() -> AnyEvent:
            return Messaged(source="user", pid=pid, mid=mid, parts=await self._measured(pid, [text]))

        return await self._once(pid, mid, [text], event)

    async def file(self, proc: str | int, texts: Sequence[str], mid: str = "") -> Answer:
        """Put texts into the archive of a process, once for a `mid`. Raises BadInput as `message` does."""
        pid = views.find(self._kernel, proc)

        async def event() -> AnyEvent:
            return Filed(source="user", pid=pid, mid=mid, parts=await self._measured(pid, texts))

        return await self._once(pid, mid, texts, event)

    async def put(
        self, proc: str | int, path: str, digest: str, part: int, parts: int, pieces: Sequence[Piece], paged: bool
    ) -> Answer:
        """Put a part of a document into the archive of a process: of a new version, if the newest has another `digest`.

        One that is there is answered as a duplicate. Raises BadInput as `message` does.
        """
        pid = views.find(self._kernel, proc)
        documents.check(path, part, parts, pieces)
        async with self._putting:
            version = documents.version_for(self._disk, pid, path, digest, first=not part)
            mid = documents.mid(pid, path, version, digest, part, parts)

            async def event() -> AnyEvent:
                found: list[Part] = []
                sources: list[Source] = []
                for piece in pieces:
                    divided = await self._measured(pid, [piece.text], less=LABEL_TOKENS)
                    found += divided
                    sources += documents.placed(piece, divided, path, version, paged=paged)
                return Filed(source="user", pid=pid, mid=mid, parts=tuple(found), sources=tuple(sources))

            return await self._once(pid, mid, [piece.text for piece in pieces], event)

    async def _once(self, pid: int, mid: str, texts: Sequence[str], event: Callable[[], Awaitable[AnyEvent]]) -> Answer:
        """Submit what is made of texts, unless such an event of that `mid` is committed or on its way."""
        for text in texts:
            check_text(text)
        if len(mid) > MID_CHARS_MAX or not mid.isascii():
            raise BadInput(f"message id of {len(mid)} characters; at most {MID_CHARS_MAX} ASCII characters are allowed")
        if mid:
            if mid in self._inflight:
                first = await self._inflight[mid].wait()
                return msgspec.structs.replace(first, duplicate=first.refused is None)
            if self._disk.get("mid", mid.encode()) is not None:
                return Answer(self._kernel.counters.lsn, pid=pid, duplicate=True)
        waiter = Waiter()
        if mid:
            self._inflight[mid] = waiter
        try:
            await self._index_follows()
            answer = await self.submit(await event())
        except BaseException as exc:
            waiter.fail(exc)
            raise
        else:
            waiter.give(answer)
        finally:
            self._inflight.pop(mid, None)
        return answer

    async def _measured(self, pid: int, texts: Sequence[str], less: int = 0) -> tuple[Part, ...]:
        """Texts in parts of a page at most, or `less`."""
        layout, page_tokens = self._cpus.layouts[self._kernel.model_of(pid)], page_tokens_max(self._settings) - less
        parts: list[Part] = []
        for text in texts:
            if len(text) > LONG_CHARS:
                parts += await trio.to_thread.run_sync(layout, text, page_tokens)
            else:
                parts += layout(text, page_tokens)
        return tuple(parts)

    async def _index_follows(self) -> None:
        """Slow a sender down to what the indexes can follow. Raises BadInput where they do not for a while.

        Not before they have caught up after boot: where they are built anew nobody could send for minutes.
        """
        began = trio.current_time()
        self._followed = self._followed or self._index.lag() <= INDEX_LAG_MAX
        while self._followed and self._index.lag() > INDEX_LAG_MAX:
            if trio.current_time() - began > INDEX_WAIT_S:
                raise Busy(f"queue full: the indexes are {self._index.lag()} pages behind", 5)
            await trio.sleep(0.05)

    async def spawn(self, spec: Spec, suit: Collection[str] = SUIT, given: Collection[str] = ()) -> Answer:
        """Make a process, or start a dead one again. What `suit` names, if left empty, is as suits its model.

        `given`: what was chosen though it is as by default; a dead process that has another is not started.
        """
        spec = msgspec.structs.replace(spec, calls=self._mask(spec.calls, spec.model))
        known = spec.name in self._kernel.names
        given = [name for name in OTHERWISE if known and (name in given or getattr(spec, name))]
        return await self.submit(Spawned(source="user", spec=self.suited(spec, suit), given=tuple(given)))

    def suited(self, spec: Spec, suit: Collection[str] = SUIT) -> Spec:
        """Choices, with what `suit` names and nobody chose as suits the model."""
        own = {"calls": self._mask(("default",), spec.model), "system": self._iset.system}
        return msgspec.structs.replace(spec, **{field: own[field] for field in suit if not getattr(spec, field)})

    def _mask(self, calls: tuple[str, ...], model: str) -> tuple[str, ...]:
        """A mask in names of syscalls, of which some may be given by the words of MASKS."""
        found: list[str] = []
        for call in calls:
            full = call in MASKS and (MASKS[call] or self._cpus.of.get(model, self._cpus.of[""]).full_mask)
            found += self._iset.default_mask(full) if call in MASKS else (call,)
        return tuple(dict.fromkeys(found))

    async def change(
        self,
        proc: str | int,
        system: str | None = None,
        calls: tuple[str, ...] | None = None,
        nice: int | None = None,
        abort: bool | None = None,
        sampling: Sampling | None = None,
        think: str | None = None,
        limits: Limits | None = None,
        tainted: dict[str, Verdict] | None = None,
        archives: tuple[str, ...] | None = None,
    ) -> Answer:
        """Change what a process is made of: all that is not None, at once. Waits for a turn to end, PATIENCE_S."""
        pid = views.find(self._kernel, proc)
        mask = None if calls is None else self._mask(calls, self._kernel.model_of(pid))
        wanted = Changed(
            source="user",
            pid=pid,
            system=system,
            calls=mask,
            nice=nice,
            abort=abort,
            sampling=sampling,
            think=think,
            limits=limits,
            tainted=tainted,
            archives=archives,
        )
        return await self.patiently(wanted)

    async def write_core(self, proc: str | int, block: str, text: str, seen: str) -> Answer:
        """Set a core block (an empty text: remove it) if what stands there has digest `seen`. Waits like `change`."""
        pid = views.find(self._kernel, proc)
        return await self.patiently(CoreWritten(source="user", pid=pid, block=block, text=text, seen=seen))

    async def rename(self, proc: str | int, name: str) -> Answer:
        """Give a process another name."""
        return await self.submit(Renamed(source="user", pid=views.find(self._kernel, proc), name=name))

    async def remove(self, proc: str | int) -> Answer:
        """Let a dead process go for good, with all that the disk has of it alone. One after another.

        Waits as `change` does for what is still under way. Raises BadInput for one that lives.
        """
        pid, until = views.find(self._kernel, proc), trio.current_time() + PATIENCE_S
        async with self._removing:
            while True:  # ends: refused for good, done, or out of patience
                try:
                    removal.over(self._kernel, pid)  # before all pages are read
                except Busy:
                    if trio.current_time() > until:
                        raise
                    await trio.sleep(AGAIN_S)
                    continue
                survey = removal.surveyor(self._kernel, pid)
                if self._disk.blocking:  # it reads all pages
                    event = await trio.to_thread.run_sync(survey.made, self._disk)
                else:
                    event = survey.made(self._disk)
                answer = await self.submit(msgspec.structs.replace(event, source="user"))
                if not isinstance(answer.refused, Busy) or trio.current_time() > until:
                    return answer

    async def patiently(self, event: AnyEvent) -> Answer:
        """Submit what is refused while something is under way, until it is over or PATIENCE_S have passed."""
        until = trio.current_time() + PATIENCE_S
        while True:
            answer = await self.submit(event)
            if not isinstance(answer.refused, Busy) or trio.current_time() > until:
                return answer
            await trio.sleep(AGAIN_S)

    async def take_over(self, event: Imported) -> Answer:
        """A process from another machine, as far as it is believed; what was resident is measured by its model here."""
        if event.spec.model not in self._cpus.of:
            event = msgspec.structs.replace(event, spec=msgspec.structs.replace(event.spec, model=""))
        layout, window = self._cpus.layouts[event.spec.model], self._settings.window

        def believed() -> Imported:
            return arrival.measured(arrival.admitted(event), layout, window, page_tokens_max(self._settings))

        found = await trio.to_thread.run_sync(believed)
        return await self.submit(msgspec.structs.replace(found, source="user"))

    async def fork(self, proc: str | int, name: str, before: int = 0) -> Answer:
        """A copy of an idle process under a new name: it sees what the parent sees, and its KV costs no prefill.

        `before`: a page of its queue that is to be as if it had not come, with all behind it.
        """
        pid = views.find(self._kernel, proc)
        return await self.submit(Forked(source="user", pid=pid, name=name, before=before))

    async def kill(self, proc: str | int, status: str = "killed", *, group: bool = False) -> Answer:
        """Raise KILL on a process, or on its whole process group."""
        pid = views.find(self._kernel, proc)
        return await self.submit(Killed(source="user", pid=pid, status=status, group=group))

    async def halt(self, proc: str | int) -> Answer:
        """End the turn that a process is in."""
        return await self.submit(Halted(source="user", pid=views.find(self._kernel, proc)))

    async def acknowledge(self, pid: int, upto: int) -> Answer:
        """All messages of a process up to `upto` have been shown."""
        return await self.submit(Acked(source="user", pid=pid, upto=upto))


def check_text(text: str) -> None:
    """Raises BadInput, in one line, for a message that is empty, too long or no UTF-8."""
    if not text.strip():
        raise BadInput("the message is empty; say something")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        raise BadInput(f"the message is no valid UTF-8 (character {exc.start + 1}); send it as UTF-8") from exc
    if size > MESSAGE_BYTES_MAX:
        raise BadInput(f"the message has {size} bytes; at most {MESSAGE_BYTES_MAX} are allowed: send it in parts")
