"""/v1/models and /v1/embeddings: the processes that may be spoken to, and texts as vectors.

Vectors are those of the index (`disk.embedder`); the embedder is loaded at the first request for one, and is a second
one beside the index's own, in this process. Not here: what is said to a process (asking.py).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import trio
from starlette.requests import Request
from starlette.responses import Response

from drivers.door.http import errors
from drivers.door.http.errors import Refusal
from drivers.door.http.given import Userland
from drivers.door.http.native import fields
from drivers.door.http.openai.asking import Asking
from drivers.door.http.openai.shapes import NEW
from kernel import records
from kernel.limits import NS
from kernel.process import Process, State

if TYPE_CHECKING:
    from drivers.index.ranking import Embedder

INPUTS_MAX: Final = 2_048  # texts of one request
EMBEDDER: Final = "embedder"
"""What the embedder is called, whichever it is."""
PARAMETERS: Final = frozenset(("input", "model", "encoding_format", "dimensions", "user"))


class Models:
    """What may be spoken to."""

    def __init__(self, asking: Asking) -> None:
        self._asking, self._machine = asking, asking.machine

    async def list(self, request: Request) -> Response:
        """All of them: processes, and `new:` ones."""
        procs = [proc for proc in self._machine.kernel.procs.values() if not proc.thread and proc.name[0] != "~"]
        made = [self._process(proc) for proc in procs] + [
            self._persona(name) for name in self._asking.making.personas()
        ]
        return errors.json({"object": "list", "data": [*made, {**_model(EMBEDDER, 0), "context_length": None}]})

    async def get(self, request: Request) -> Response:
        """One."""
        name = str(request.path_params["id"])
        if name.startswith(NEW) and name.removeprefix(NEW) in self._asking.making.personas():
            return errors.json(self._persona(name.removeprefix(NEW)))
        return errors.json(self._process(self._asking.making.process(name)))

    def _process(self, proc: Process) -> dict[str, Any]:
        text = proc.space.text
        row = self._machine.disk.get("page", records.key(text.page)) if text is not None else None
        born = records.page_of(row, self._machine.disk.get).at // NS if row is not None else 0
        model = self._machine.kernel.models[self._machine.kernel.model_of(proc.pid)].title
        lives = proc.state is not State.ZOMBIE
        return {**self._sized(_model(proc.name, born)), "llmos": {"pid": proc.pid, "model": model, "lives": lives}}

    def _persona(self, name: str) -> dict[str, Any]:
        return self._sized(_model(f"{NEW}{name}", 0))

    def _sized(self, model: dict[str, Any]) -> dict[str, Any]:
        window = self._machine.settings.window
        return {**model, "context_length": window, "max_model_len": window}


class Embeddings:
    """Texts as vectors."""

    def __init__(self, userland: Userland) -> None:
        self._made, self._embedder = userland.embedder, None
        self._loading = trio.Lock()

    _embedder: Embedder | None

    async def create(self, request: Request) -> Response:
        """Answer a request."""
        body = fields(await errors.read(request))
        unknown = next((name for name in body if name not in PARAMETERS), None)
        if unknown is not None:
            raise Refusal(400, f"{unknown[:80]} is not known here", code="unknown_parameter", param=unknown[:80])
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and one for one in texts):
            raise Refusal(400, "input: must be a text, or a list of texts", code="invalid_value", param="input")
        if len(texts) > INPUTS_MAX:
            why = f"input: {len(texts)} texts; at most {INPUTS_MAX} are allowed"
            raise Refusal(400, why, code="invalid_value", param="input")
        how = body.get("encoding_format") or "float"
        if how not in ("float", "base64"):
            raise Refusal(400, "encoding_format: float or base64", code="invalid_value", param="encoding_format")
        async with self._loading:
            if self._embedder is None:
                self._embedder = await trio.to_thread.run_sync(self._made)
        embedder = self._embedder
        if body.get("model") not in (EMBEDDER, embedder.name):
            why = f"no embedder {str(body.get('model'))[:80]!r}; there is {EMBEDDER}, which is {embedder.name}"
            raise Refusal(404, why, code="model_not_found", param="model")
        if body.get("dimensions") not in (None, embedder.dim):
            why = f"dimensions: this embedder has {embedder.dim}"
            raise Refusal(400, why, code="invalid_value", param="dimensions")
        vectors = await trio.to_thread.run_sync(embedder.embed, texts)
        counted = sum(await trio.to_thread.run_sync(self._counted, texts))
        made = [
            vector.tolist() if how == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()
            for vector in vectors
        ]
        data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(made)]
        cost = {"prompt_tokens": counted, "total_tokens": counted}
        return errors.json({"object": "list", "model": embedder.name, "data": data, "usage": cost})

    def _counted(self, texts: list[str]) -> list[int]:
        """Tokens of each text, by an embedder that counts."""
        count = getattr(self._embedder, "count", None)
        return list(count(texts)) if count is not None else [0]


def _model(name: str, born: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": born, "owned_by": "llmos"}
