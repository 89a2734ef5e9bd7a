"""Vectors that somebody else makes: a batch of passages at a time, by a thread of its own, while the index goes on.

Guarantee: a batch that was begun is asked for again and again until its vectors are here, or `close`.
Caller's duty: one batch at a time, by one thread.
Not here: which pages a batch has, what becomes of its vectors (fused.py), how long an embedder is left alone after a
fault (embed/server.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol, runtime_checkable

from drivers.index.hnsw import Floats
from kernel.errors import DeviceError

AGAIN_S: Final = 0.01  # between two tries, at least


@runtime_checkable
class Distant(Protocol):
    """An embedder somewhere else, which may be slow, or gone for a while. Any thread."""

    name: str
    dim: int
    trouble: str  # the last request's fault; "": it was answered

    def embed(self, texts: Sequence[str]) -> Floats:
        """(n, dim) float32, of unit vectors. Raises DeviceError."""
        ...

    def query(self, texts: Sequence[str]) -> Floats:
        """The same, soon or not at all. Raises DeviceError."""
        ...

    def rest_s(self) -> float:
        """How long it is not to be asked after a fault, in seconds."""
        ...

    def close(self) -> None:
        """Break off what is under way."""
        ...


class Late:
    """A thread that has one batch at a time embedded; `wake` is called on it when one is done, or cannot be for now."""

    def __init__(self, embedder: Distant, wake: Callable[[], None]) -> None:
        self.busy = False  # a batch was begun and not taken
        self._embedder, self._wake = embedder, wake
        self._texts: list[str] = []
        self._vectors: Floats | None = None
        self._bug: Exception | None = None
        self._given, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, name="vectors", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether there are vectors to take."""
        return self._vectors is not None or self._bug is not None

    @property
    def trouble(self) -> str:
        """Why vectors cannot be had now; "": they can."""
        return self._embedder.trouble

    def begin(self, texts: Sequence[str]) -> None:
        """Have texts embedded."""
        assert not self.busy, "one batch at a time"
        self.busy, self._texts = True, list(texts)
        self._given.set()
        if self._thread.ident is None:
            self._thread.start()

    def take(self) -> Floats:
        """The vectors of the batch. Raises what the embedder should not have raised."""
        if self._bug is not None:
            raise self._bug
        vectors, self._vectors, self.busy = self._vectors, None, False
        assert vectors is not None, "it is ready"
        return vectors

    def close(self) -> None:
        """Give up."""
        self._stop.set()
        self._given.set()
        self._embedder.close()
        if self._thread.ident is not None:
            self._thread.join()

    def _serve(self) -> None:
        while self._given.wait() and not self._stop.is_set():
            self._given.clear()
            while not self._stop.is_set():  # ends with the vectors, or with `close`
                try:
                    self._vectors = self._embedder.embed(self._texts)
                    break
                except DeviceError:
                    self._wake()
                    self._stop.wait(max(AGAIN_S, self._embedder.rest_s()))
                except Exception as exc:  # a bug
                    self._bug = exc
                    break
            self._wake()
