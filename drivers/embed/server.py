"""Texts to vectors by a server of the OpenAI protocol: /v1/embeddings of llama-server, vLLM, Ollama, LM Studio, others.

Guarantees: what `embed` and `query` give is one unit vector a text, of the dimension and of the model that the index
was made with; whatever else a server sends (bad JSON, NaN, too few vectors, another dimension, another model under the
same name) is a Fault in one line. Each request has SAMPLE behind its texts, whose vector tells the model, so that one
that was exchanged is found before any vector of its is believed. A text that the server takes in no length has zeros,
and is found by its words: it holds up no other. A server that failed is left alone for a time, twice as long each time
in a row, or as long as it says.
Not here: when a page is embedded, and what is searched meanwhile (index/late.py), HTTP (remote/transport.py).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from drivers.cpu.openai.discovery import models
from drivers.embed.unit import to_unit
from drivers.remote.address import Address, key
from drivers.remote.transport import Cancelled, Fault, Link, Patience
from kernel.errors import BadInput, some

PATH: Final = "/v1/embeddings"
SAMPLE: Final = "The boat lies in Ghent; 42 of them left on May 3rd."
SAME: Final = 0.98  # cosine of SAMPLE's vectors from which on a model is the same one, its weights' rounding aside
DIM_MAX: Final = 1 << 16  # numbers of a vector
BATCH: Final = 16  # texts of a request: a query may have to wait behind one
CHARS_MAX: Final = 8_192  # of a text; what is beyond is left out
AGAIN: Final = "boot again to take it"
CUTS: Final = 4  # how often a text that is not taken is asked for, half as long each time
TRIED: Final = Patience(first_s=120.0, stall_s=30.0, whole_s=120.0)  # at boot: it may load its model
PAGES: Final = Patience(first_s=120.0, stall_s=30.0, whole_s=300.0)
QUERY: Final = Patience(connect_s=1.0, first_s=3.0, stall_s=1.0, whole_s=4.0)  # a search waits for it

Vectors = npt.NDArray[np.float32]


class Known(msgspec.Struct, frozen=True):
    """A model of a server as it was found: what keys an index. `sample`: SAMPLE's unit vector in halves."""

    model: str
    dim: int
    sample: bytes

    @property
    def name(self) -> str:
        """What an index is known by that was made with it."""
        digest = hashlib.blake2b(self.sample, digest_size=6).hexdigest()
        return f"server-{self.model}-{self.dim}-{digest}-2"  # 2: of unit.py

    def like(self, vector: Vectors) -> bool:
        """Whether SAMPLE's vector (dim,) is that of the same model."""
        own = np.frombuffer(self.sample, np.float16).astype(np.float64)
        return len(vector) == self.dim and float(np.vecdot(own, vector.astype(np.float64))) >= SAME


class Served(msgspec.Struct, frozen=True):
    """An embedder on a server: where, and what."""

    address: Address
    known: Known


def find(address: Address, wanted: str, last: Known | None) -> tuple[Known, str]:
    """What a server embeds with: its model `wanted`, or "": the last one, or the first that it has.

    `last`: what this machine's index was made with; it stays as it is where the model is still that one, and where the
    server does not answer, which the second value says then. Raises BadInput if it cannot be used.
    """
    link = Link(address, key(), TRIED)
    if last is not None and wanted not in ("", last.model):
        last = None
    try:
        model = _model(link, wanted, last)
        (vector,) = asked(link, model, [SAMPLE])
    except Fault as fault:
        if last is None or not fault.again:
            raise BadInput(f"disk.embedder: {fault}") from fault
        return last, str(fault)
    if not vector.any():
        raise BadInput(f"disk.embedder: {address}: its model {model} gives a vector of zeros, so it cannot embed")
    if last is not None and last.model == model and last.like(vector):
        return last, ""
    return Known(model, len(vector), vector.astype(np.float16).tobytes()), ""


def _model(link: Link, wanted: str, last: Known | None) -> str:
    """The model's name, as the server has it. Raises Fault."""
    names = [one.name for one in models(link)]
    chosen = wanted or (last.model if last is not None and last.model in names else "")
    if chosen and chosen not in names:
        raise link.fault(f"it has no model {chosen}; it has {some(names)} (URL#MODEL takes one)", again=False)
    if not names:
        raise link.fault("it has no model", again=False)
    return chosen or names[0]


class _Row(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Row]


def asked(link: Link, model: str, texts: Sequence[str]) -> Vectors:
    """The unit vectors of `texts`, (n, dim) float32, of finite numbers, by one request. Raises Fault, Cancelled."""
    body = {"model": model, "input": list(texts), "encoding_format": "float"}
    try:
        rows = msgspec.convert(link.ask(PATH, body), type=_Answer).data
    except msgspec.ValidationError as exc:
        raise link.fault(f"its answer to {PATH} is none: {exc}") from exc
    if len(rows) != len(texts):
        raise link.fault(f"{len(rows)} vectors came for {len(texts)} texts")
    if all(row.index is not None for row in rows):
        rows.sort(key=lambda row: row.index or 0)
        if [row.index for row in rows] != list(range(len(rows))):
            raise link.fault("its vectors are numbered otherwise than the texts")
    dim = len(rows[0].embedding)
    if not 0 < dim <= DIM_MAX or any(len(row.embedding) != dim for row in rows):
        raise link.fault(f"its vectors have {some([str(len(row.embedding)) for row in rows])} numbers")
    found = np.array([row.embedding for row in rows], np.float64)
    with np.errstate(over="ignore"):
        vectors = found.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise link.fault("a vector came with a number that is none, or is too large")
    to_unit(vectors)
    return vectors


class ServerEmbedder:
    """Embeds with a server's model. Any thread; `close` may be called while others wait in it."""

    def __init__(
        self,
        served: Served,
        *,
        pages: Patience = PAGES,
        query: Patience = QUERY,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`tell` gets a line for the first text that has no vector."""
        address, known = served.address, served.known
        self.name, self.dim = known.name, known.dim
        self.trouble = ""  # the last request's fault; "": it was answered
        self._address, self._known, self._key = address, known, key()
        self._pages, self._query, self._tell = pages, query, tell
        self._lock = threading.Lock()  # guards what follows
        self._failed = 0  # requests in a row
        self._not_before = 0.0  # of time.monotonic
        self._links: set[Link] = set()
        self._closed = self._told = False

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`: (n, dim) float32; zeros for one without words. Raises Fault."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        there = [at for at, text in enumerate(texts) if text.strip()]
        for first in range(0, len(there), BATCH):
            some_of = there[first : first + BATCH]
            vectors[some_of] = self._sure([_taken(texts[at]) for at in some_of])
        return vectors

    def query(self, texts: Sequence[str]) -> Vectors:
        """The same of what a search waits for, with less patience; a server that is left alone is not asked."""
        if self.rest_s() > 0:
            raise Fault(self.trouble)
        return self._asked([_taken(text) for text in texts], self._query)

    def rest_s(self) -> float:
        """How long it is left alone yet, in seconds."""
        return max(0.0, self._not_before - time.monotonic())

    def close(self) -> None:
        """Break off what is asked, and whatever is asked later."""
        with self._lock:
            self._closed = True
            for link in self._links:
                link.cancel()

    def _sure(self, texts: list[str]) -> Vectors:
        """Vectors of texts; one by one where the server is well and does not answer to all of them."""
        try:
            return self._asked(texts, self._pages)
        except Fault as fault:
            if fault.after_s or not texts:
                raise
            self._asked([], self._pages)  # raises if it is not the texts
        return np.stack([self._alone(text) for text in texts])

    def _alone(self, text: str) -> Vectors:
        """The vector of one text, or of its beginning; zeros if the server takes none of it."""
        what = ""
        for _ in range(CUTS):
            try:
                return self._asked([text], self._pages)[0]  # type: ignore[no-any-return]  # numpy's rows
            except Fault as fault:
                what = str(fault)
                self._asked([], self._pages)
            text = text[: max(1, len(text) // 2)]
        with self._lock:
            new, self._told = not self._told, True
        if new:
            self._tell(f"a text has no vector and is found by its words alone: {what}")
        return np.zeros(self.dim, np.float32)

    def _asked(self, texts: list[str], patience: Patience) -> Vectors:
        """One request: the vectors of `texts`, if SAMPLE's is what it was. Raises Fault."""
        link = Link(self._address, self._key, patience)
        with self._lock:
            self._links.add(link)
            if self._closed:
                link.cancel()
        try:
            vectors = asked(link, self._known.model, [*texts, SAMPLE])
            if not self._known.like(vectors[-1]):
                dim = "" if vectors.shape[1] == self.dim else f", of {vectors.shape[1]} numbers and not {self.dim}"
                raise link.fault(f"it has another model than before under the name {self._known.model}{dim}; {AGAIN}")
        except Cancelled as exc:
            raise Fault(f"{self._address}: it is asked no more") from exc
        except Fault as fault:
            self._rest(fault)
            raise
        finally:
            with self._lock:
                self._links.discard(link)
        with self._lock:
            self._failed, self._not_before, self.trouble = 0, 0.0, ""
        return vectors[:-1]

    def _rest(self, fault: Fault) -> None:
        """It failed, and is left alone for a while."""
        first, most = self._pages.back_off_s
        with self._lock:
            self._failed, self.trouble = self._failed + 1, str(fault)
            rest_s = max(fault.after_s, min(first * 2 ** min(self._failed - 1, 16), most))
            self._not_before = time.monotonic() + rest_s


def _taken(text: str) -> str:
    """As much of a text as is sent, as any library takes it."""
    return text[:CHARS_MAX].encode("utf-8", "replace").decode()
