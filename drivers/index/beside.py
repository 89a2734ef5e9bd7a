"""The index beside the kernel: an Index whose work is done by another process, so that the kernel's loop never waits
for the interpreter's lock while words are counted and vectors compared.

The process runs fused.FusedIndex on the same directory: it reads committed pages from the disk by itself, and is told
only how far they go. Lines between the two are msgpack with a length in front. It ends when its standard input does, so
a killed kernel leaves nothing behind; a new one waits for `index.lock` before it touches the files. When it dies it is
started again and asked again what it had not answered; after DEATHS_MAX deaths searches are answered late and empty, as
those of a damaged index are.
Not here: what the index does (fused.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeAlias

import msgspec

from kernel import failpoint
from kernel.errors import BadInput
from kernel.event import AnyEvent, Find, Search, Searched, SearchOf
from kernel.ports import Post, Reads, Sized

if TYPE_CHECKING:
    from drivers.embed.server import Served
    from drivers.index.ranking import Embedder

DEATHS_MAX: Final = 3  # in one life of the kernel
CLOSE_S: Final = 15.0  # what `close` waits for at most; the index itself goes on applying for less
LOCK_S: Final = 30.0  # how long a new process waits for an old one to let go of the files
LENGTH: Final = struct.Struct("<I")


class Fed(msgspec.Struct, tag=True, array_like=True):
    """To the index: pages up to this id are committed."""

    upto: int


class Ask(msgspec.Struct, tag=True, array_like=True):
    """To the index: a search, whose deadline counts from when it is heard."""

    what: Search | Find | SearchOf


class Close(msgspec.Struct, tag=True, array_like=True):
    """To the index: apply what was fed, save, end."""


class Applied(msgspec.Struct, tag=True, array_like=True):
    """From the index: the last page applied, its first error, whether it rests, and whether it began anew.

    And the last page that has its vectors, and why others have none.
    """

    page: int
    damaged: str
    idle: bool = False
    anew: bool = False
    embedded: int = 0
    trouble: str = ""


class Found(msgspec.Struct, tag=True, array_like=True):
    """From the index: an answer, whose hits have no token counts yet."""

    answer: Searched


Down: TypeAlias = Fed | Ask | Close
Up: TypeAlias = Applied | Found


class Given(msgspec.Struct, frozen=True):
    """What the other process is made with; `gguf` and `served` (JSON) are embedders, else it is WordLlama."""

    path: bytes
    exact_max: int
    gguf: bytes = b""
    served: bytes = b""


class IndexBeside:
    """A ports.Index in a process of its own, in `disk`'s folder `path`. Its methods never wait, `close` excepted."""

    def __init__(
        self,
        path: str | Path,
        disk: Reads,
        exact_max: int = 4096,
        embedder: Path | Served | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`exact_max`: vectors of a process and area up to which vector search is exact. `embedder`: a GGUF or a server
        that gives the vectors, instead of WordLlama. `tell` gets a line when they cannot be had, and when they can
        again, on any thread."""
        self.applied = 0
        self.trouble = ""  # why pages have no vectors yet, and how many, while they cannot be had
        self.damaged = ""  # the index's first error; the next start rebuilds
        self.idle = False  # its graphs and segments are tidy, too
        self.anew = False  # it began with nothing, for what lay there was not to be trusted
        self._disk, self._say = disk, tell
        gguf = os.fsencode(embedder) if isinstance(embedder, Path) else b""
        served = b"" if gguf or embedder is None else msgspec.json.encode(embedder)
        self._given = Given(os.fsencode(path), exact_max, gguf, served)
        self._lock = threading.Lock()  # guards what follows
        self._fed = 0
        self._out = bytearray()  # lines for the other process that its pipe has no room for
        self._asked: dict[tuple[int, int], Search] = {}
        self._deaths = 0
        self._closing = False
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, post: Post, sized: Sized) -> None:
        """Catch up with the truth and begin to answer; `sized` gives hits the token counts that they carry."""
        self._post, self._sized = post, sized
        last = self._disk.scan("page", reverse=True, limit=1)
        self._fed = int.from_bytes(last[0][0], "big") if last else 0
        self._child = self._spawn()
        self._listener = threading.Thread(target=self._listen, name="index", daemon=True)
        self._listener.start()

    def feed(self, upto: int) -> None:
        """Pages up to this id are committed; returns at once."""
        with self._lock:
            self._fed = max(self._fed, upto)
            self._tell(Fed(upto))

    def search(self, what: Search) -> None:
        """Answer with one Searched event once `what.upto` is applied, or late after its deadline."""
        with self._lock:
            if self._child is not None:
                self._asked[what.pid, what.req] = what
                self._tell(Ask(what))
                return
        self._post(Searched(pid=what.pid, req=what.req, late=True))

    def lag(self) -> int:
        """Pages fed and not yet applied, by their ids."""
        return max(0, self._fed - self.applied)

    def close(self) -> None:
        """Apply what was fed, for a while at most; save, stop. Searches that still wait are not answered."""
        with self._lock:
            child = self._child
            if child is None or self._closing:
                return
            self._closing = True
            self._tell(Close())
        self._listener.join(CLOSE_S)
        if self._listener.is_alive():
            child.kill()
            self._listener.join()

    def _spawn(self) -> subprocess.Popen[bytes]:
        """The other process: of this interpreter, in a session of its own, for Ctrl-C is not meant for it."""
        given = msgspec.json.encode(self._given).decode()
        command = [sys.executable, "-P", "-m", "drivers.index.beside", given]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdin is not None
        os.set_blocking(child.stdin.fileno(), False)
        return child

    def _tell(self, line: Down) -> None:
        """Send a line, under the lock, without waiting."""
        self._out += _packed(line)
        self._flush()

    def _flush(self) -> None:
        """Write what the pipe takes. The rest follows with the next line heard: who reads a full pipe answers."""
        if self._child is None or self._child.stdin is None:
            return
        with contextlib.suppress(OSError):  # full for now; or its reader is dead, which the listener sees
            del self._out[: os.write(self._child.stdin.fileno(), self._out)]

    def _listen(self) -> None:
        """The listener's life: hands answers on, starts a dead process again; ends with `close` or the last death."""
        while (child := self._child) is not None:
            assert child.stdout is not None
            for raw in _lines(child.stdout):
                self._hear(_up.decode(raw))
            child.wait()
            with self._lock:
                for pipe in (child.stdin, child.stdout):
                    assert pipe is not None
                    pipe.close()
                if self._closing:
                    self._child = None
                    return
                self.damaged = self.damaged or f"the index's process ended with status {child.returncode}"
                self._deaths += 1
                self._out.clear()
                self._child = None
                if self._deaths < DEATHS_MAX:
                    with contextlib.suppress(OSError):
                        self._child = self._spawn()
                asked = list(self._asked.values())
                if self._child is not None:
                    self._tell(Fed(self._fed))
                    for what in asked:
                        self._tell(Ask(what))
                else:
                    self._asked.clear()
        for what in asked:
            self._post(Searched(pid=what.pid, req=what.req, late=True))

    def _hear(self, line: Up) -> None:
        with self._lock:
            self._flush()
        match line:
            case Applied():
                self.applied, self.idle, self.anew = line.page, line.idle, line.anew
                before, self.trouble = self.trouble, _trouble(line)
                if bool(before) != bool(self.trouble):
                    self._say(f"index: {self.trouble or 'vectors can be had again'}")
                self.damaged = self.damaged or line.damaged
            case Found():
                answer = line.answer
                with self._lock:
                    if self._asked.pop((answer.pid, answer.req), None) is None:
                        return
                self._post(msgspec.structs.replace(answer, hits=tuple(self._sized(answer.hits))))


_up: Final[msgspec.msgpack.Decoder[Up]] = msgspec.msgpack.Decoder(Up)
_down: Final[msgspec.msgpack.Decoder[Down]] = msgspec.msgpack.Decoder(Down)


def _trouble(line: Applied) -> str:
    """What is said of an index whose vectors cannot be had."""
    waiting = line.page - line.embedded
    return f"{line.trouble}; searches go by words, and {waiting} pages wait for vectors" if line.trouble else ""


def _packed(line: Down | Up) -> bytes:
    raw = msgspec.msgpack.encode(line)
    return LENGTH.pack(len(raw)) + raw


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """What comes, until it ends or ends within a line."""
    while len(head := stream.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        raw = stream.read(length)
        if len(raw) < length:
            return
        yield raw


# The other process


def main(given: Given, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Index a directory until `requests` end: after a Close with all applied, at once where the kernel is gone."""
    from drivers.disk.lmdb import LmdbReader
    from drivers.index.fused import FusedIndex

    writing, path = threading.Lock(), Path(os.fsdecode(given.path))

    def say(line: Up) -> None:
        with writing, contextlib.suppress(BrokenPipeError):
            answers.write(_packed(line))
            answers.flush()

    def post(event: AnyEvent) -> None:
        assert isinstance(event, Searched)
        say(Found(event))

    with _locked(path / "index.lock"):
        disk = LmdbReader(path)
        index = FusedIndex(path, disk, _embedder(given), given.exact_max)

        def changed() -> None:
            state = index.applied, index.damaged, index.idle, index.anew, index.embedded, index.trouble
            say(Applied(*state))

        index.start(post, list, changed)
        told = False
        for raw in _lines(requests):
            match _down.decode(raw):
                case Fed(upto):
                    index.feed(upto)
                case Ask(what):
                    index.search(what)
                case Close():
                    told = True
                    break
        index.close(at_once=not told)
        changed()
        disk.close()


def _embedder(given: Given) -> Embedder:
    if given.served:
        from drivers.embed.server import Served, ServerEmbedder

        return ServerEmbedder(msgspec.json.decode(given.served, type=Served), tell=_tell)
    if not given.gguf:
        from drivers.embed.wordllama import WordLlamaEmbedder

        return WordLlamaEmbedder()
    from drivers.embed.gguf import GgufEmbedder

    return GgufEmbedder(Path(os.fsdecode(given.gguf)))


def _tell(line: str) -> None:
    print(f"llmos: index: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold `file` locked; wait for who holds it. Raises TimeoutError."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    until = time.monotonic() + LOCK_S
    try:
        while True:  # ends with the lock, or in LOCK_S
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(f"{file} is held by another process") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(fd)


if __name__ == "__main__":
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no line of ours
    os.umask(0o077)  # whoever started the kernel: SQLite's files hold what was said
    failpoint.arm_from_environment()
    try:
        main(msgspec.json.decode(sys.argv[1], type=Given), sys.stdin.buffer, lines)
    except (BadInput, OSError) as exc:  # the truth, or its directory, went away
        sys.exit(f"llmos: index: {exc}")
