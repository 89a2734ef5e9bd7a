"""A model is loaded and spoken to in a process of its own before a kernel does it, for a model is a stranger's file.

llama.cpp ends its process where a file says what it did not expect, and a chat template is a program. The trial loads
the model, renders its template, tokenises and evaluates two tokens, under limits of time and memory; what becomes of
it is a verdict, or one line. A good verdict is kept by what it depends on (file, library, this code), so a model is
tried once. The template's frame comes from the trial: no kernel renders a template.
Caller's duty: the header was read (gguf.py), and there is memory for the file (memory.py).
`python -m drivers.cpu.llama.trial FILE` prints a word for each stage it begins and then a Verdict as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.metadata
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from drivers.cpu import gguf, verdicts
from drivers.cpu.llama.derive import derive
from drivers.cpu.llama.frame import TextFrame
from drivers.cpu.llama.thinking import Marks, thinking
from kernel.errors import BadInput
from kernel.memory import measure

TRIAL_S: Final = 120.0  # and as long as it takes to read the file at BYTES_S
BYTES_S: Final = 20 << 20  # bytes a second of a slow disk
SPARE_BYTES: Final = 1 << 30  # address space, beside the file twice: as it lies on disk, and as the library arranges it
TEMPLATE_S: Final = 2.0  # seconds of computing that a template has for all its probes
TEMPLATE_BYTES: Final = 256 << 20
CELLS: Final = 256  # tokens of the context that two are evaluated in
WHOLE_BYTES: Final = 16 << 20  # a file up to this size is known by its content, a larger one by its header and time
SAID_MAX: Final = 300  # characters of a library's complaint that are passed on
PROBE: Final = "a <|user|> \u00e9\u4e16\U0001f600\n\x00 [INST]"
LIBRARIES: Final = ("llama-cpp-python", "jinja2")
HERE: Final = tuple(
    f"{name}.py" for name in ("trial", "derive", "frame", "named", "template", "thinking", "vocabulary")
)
"""Code that a verdict depends on, with kernel/memory/measure.py."""


class Verdict(msgspec.Struct, frozen=True):
    """Of a model that can be loaded and evaluated. `why`: why it has no frame to speak in, "" if it has one."""

    frame: TextFrame | None = None
    why: str = ""
    named: str = ""  # the frame's name, if it is one of those, unchecked
    dated: bool = False  # its template says a date, which the frame leaves out
    thinks: Marks | None = None  # between which marks it thinks, as far as its template shows
    broken: str = ""  # it cannot be loaded: such a verdict reaches nobody, it is the line

    def notes(self) -> tuple[str, ...]:
        """What is said of its frame on boot, a line each."""
        lines = []
        if self.named:
            lines.append(f"its chat template cannot be read; the frame {self.named} is taken for its marks, unchecked")
        if self.dated:
            lines.append("the date that its chat template says is left out: it would break every prefix once a day")
        return tuple(lines)


def tried(path: Path, header: gguf.Header) -> Verdict:
    """The verdict on the model at `path`, with that header. Raises BadInput if it cannot be loaded or evaluated."""
    key = _key(path, header)
    if kept := verdicts.get(key):
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(kept, type=Verdict)
    found = _try(path, header.size)
    if found.broken:
        raise BadInput(f"model {path}: {found.broken}; pull the file again, or another")
    verdicts.put(key, msgspec.json.encode(found))
    return found


def _key(path: Path, header: gguf.Header) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    for file in gguf.files(path):
        small, changed = header.size <= WHOLE_BYTES, file.stat().st_mtime_ns
        hashed.update(file.read_bytes() if small else repr((changed, header)).encode())
    hashed.update(repr([header.size, *map(importlib.metadata.version, LIBRARIES)]).encode())
    for code in (*(Path(__file__).parent / name for name in HERE), Path(measure.__file__)):
        hashed.update(code.read_bytes())
    return hashed.hexdigest()


def _try(path: Path, size: int) -> Verdict:
    command = [sys.executable, "-P", "-m", "drivers.cpu.llama.trial", os.fspath(path)]
    patience_s = TRIAL_S + size / BYTES_S
    try:
        done = subprocess.run(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience_s,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        return Verdict(broken=f"{_stage(exc.stdout or b'')} took more than {patience_s:.0f} s")
    if not done.returncode:
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Verdict)
    stage = _stage(done.stdout)
    if stage == TEMPLATE:
        return Verdict(broken=f"{stage} took more than {TEMPLATE_S:.0f} s or {TEMPLATE_BYTES >> 20} MiB")
    return Verdict(broken=f"llama.cpp broke off: {stage} ended with {_reason(done)}")


def _stage(printed: bytes) -> str:
    """What the trial was at."""
    return (printed.decode(errors="replace").splitlines() or ["starting"])[-1]


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    """Why a trial ended, as far as it said."""
    said = done.stderr.decode(errors="replace")
    if found := re.search(r"GGML_ASSERT\(.*\) failed|what\(\): .*", said):
        return found[0][:SAID_MAX]
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    return (said.strip().splitlines() or [f"status {done.returncode}"])[-1][:SAID_MAX]


# The process of its own

LOADING, TEMPLATE, VOCABULARY, EVALUATING = "loading it", "rendering its chat template", "its vocabulary", "using it"


def main(path: Path) -> Verdict:
    """Try the model, saying what is begun."""
    import llama_cpp

    from drivers.cpu.llama import log
    from drivers.cpu.llama.vocabulary import bos_of, text_of

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    header = gguf.read(path)
    with _limited(space(2 * header.size + SPARE_BYTES)):
        _say(LOADING)
        log.listen()
        params = llama_cpp.llama_model_default_params()
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
        params.n_gpu_layers = 0
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            return Verdict(broken=f"llama.cpp cannot load it ({log.first('it gives no reason')})")
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        _say(TEMPLATE)
        bos, eos = bos_of(vocabulary, header), llama_cpp.llama_vocab_eos(vocabulary)
        texts = text_of(vocabulary, bos), text_of(vocabulary, eos)
        found = framed(header.text("tokenizer.chat_template"), *texts)
        _say(VOCABULARY)
        tokens = _tokens(vocabulary)
        _say(EVALUATING)
        return _evaluated(model, tokens, embeds=found.frame is None) or found


def _say(stage: str) -> None:
    print(stage, flush=True)


def framed(source: str, bos: str, eos: str) -> Verdict:
    """The frame of a template, as `derive.derive` has it. A template that takes too much ends this process."""
    if not source:
        return Verdict(why="it has no chat template; give an instruct model")
    try:
        with bounded():
            found = derive(source, bos, eos)
            return Verdict(frame=found.frame, named=found.named, dated=found.dated, thinks=thinking(source))
    except BadInput as exc:
        return Verdict(why=str(exc))


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Hold this process to the time and memory that a template has; beyond them it ends."""
    with _limited(space(TEMPLATE_BYTES)):
        signal.setitimer(signal.ITIMER_PROF, TEMPLATE_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def _tokens(vocabulary: Any) -> list[int]:
    """Two tokens to evaluate; every piece is asked for, and a text is tokenised."""
    import llama_cpp

    count, buffer = llama_cpp.llama_vocab_n_tokens(vocabulary), ctypes.create_string_buffer(256)
    for token in range(count):
        llama_cpp.llama_token_to_piece(vocabulary, token, buffer, len(buffer), 0, False)
    raw, out = PROBE.encode(), (llama_cpp.llama_token * 256)()
    for special in (False, True):
        llama_cpp.llama_tokenize(vocabulary, raw, len(raw), out, len(out), False, special)
    first = llama_cpp.llama_vocab_bos(vocabulary)
    return [max(0, first), min(1, count - 1)]


def _evaluated(model: Any, tokens: list[int], *, embeds: bool) -> Verdict | None:
    """None if two tokens can be evaluated."""
    import llama_cpp

    from drivers.cpu.llama import log

    log.clear()
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = CELLS
    params.embeddings = embeds
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        return Verdict(broken=f"llama.cpp makes no context for it ({log.first('it gives no reason')})")
    array = (llama_cpp.llama_token * len(tokens))(*tokens)
    evaluate = llama_cpp.llama_encode if llama_cpp.llama_model_has_encoder(model) else llama_cpp.llama_decode
    code = evaluate(context, llama_cpp.llama_batch_get_one(array, len(tokens)))
    if code:
        return Verdict(broken=f"llama.cpp cannot evaluate it ({log.first(f'code {code}')})")
    return None


@contextlib.contextmanager
def _limited(space: int) -> Iterator[None]:
    """Hold this process to so many bytes of address space meanwhile."""
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [one for one in (space, before, hard) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds, default=resource.RLIM_INFINITY), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def space(more: int) -> int:
    """A limit of address space: what this process has by now and `more` bytes; none where that is not told."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + more
    except (OSError, ValueError):
        return resource.RLIM_INFINITY


if __name__ == "__main__":
    print(msgspec.json.encode(main(Path(sys.argv[1]))).decode(), flush=True)
    os._exit(0)  # a library that was given nonsense need not come to its own end
