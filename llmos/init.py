"""Init: wires a board from a data directory and boots it.

A directory remembers its model and its settings; what is given on the command line replaces them and is recorded when
the boot has succeeded, so a refused one leaves the directory as it was.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from drivers.device.given import Given
from drivers.door.http.given import Live, Userland
from drivers.remote.address import embedder, remote
from kernel import formats
from kernel.boot import Board, boot
from kernel.errors import BadInput, KernelPanic
from kernel.machine.clock import Sources
from kernel.machine.loop import Machine
from kernel.ports import Cpu, Device, Disk, Record
from kernel.records import CURRENT
from kernel.settings import Settings, apply
from kernel.state import InstructionSet
from llmos.commands.output import said, show
from llmos.scenario import shipped
from syscalls.spoken import spoken
from syscalls.table import Table

if TYPE_CHECKING:
    from drivers.embed.server import Served
    from drivers.index.ranking import Embedder

PANICS_MAX = 4  # after so many in one life of the daemon a person has to look
DEFAULT_MODEL = "smollm2-135m"
SERVED = b"served"  # the key of the model that servers had,
EMBEDDED = b"embedded"  # and of that of a server that made vectors
OWN = (
    "data.mdb*",
    "lock.mdb",
    "kernel.*",
    "http.token",
    "llmos.toml",
    "chat.history",
    "index.*",
    "*.hnsw",
    "p*.part",
    "damaged",
    "kv",
    "kv-*",
    "kv/*",
    "kv-*/*",
)  # a machine's files


def recorded(disk: Disk) -> tuple[Settings, str, str]:
    """Settings, model and CPU that a directory was last booted with; defaults for a new one.

    The model is a GGUF's, whatever the CPU was: that of servers stands apart (SERVED).
    """
    row, model, cpu = (disk.get("set", name) for name in (b"settings", b"model", b"cpu"))
    try:
        settings = Settings() if row is None else msgspec.msgpack.decode(row, type=Settings)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadInput(f"the recorded settings cannot be read ({exc}); was another version of llmos here?") from exc
    return settings, (model or b"").decode(), (cpu or b"llama").decode()


def processor(cpu: str, model: str, settings: Settings, images: Path) -> Cpu:
    """The CPU driver of a name: `llama` over a GGUF, servers by their URLs, or `scripted`, which echoes.

    `images`: the folder of its KV images.
    """
    if remote(cpu):
        from drivers.cpu.openai.engine import OpenAiCpu

        return OpenAiCpu(cpu, model, settings.cpu, tell=said)
    if cpu == "scripted":
        from drivers.cpu.scripted import ScriptedCpu, echo

        return ScriptedCpu(echo, token_s=0.01)
    if cpu != "llama":
        raise BadInput(f"--cpu {cpu}: no such CPU; there are llama, scripted, and servers by http://HOST:PORT")
    from drivers.cpu.llama.engine import LlamaCpu
    from drivers.cpu.recommended import SENSIBLE
    from llmos.models import entry, find

    path = find(model or DEFAULT_MODEL)
    known = entry(path)
    drawn = known.drawn if known is not None else SENSIBLE
    driver = LlamaCpu(path, settings.cpu, images, drawn)
    for line in driver.off:
        said(f"{driver.model}: {line}")
    if not settings.cpu.rest_s:
        return driver
    from drivers.cpu.llama.model import Words
    from drivers.cpu.resting import RestingCpu

    def again() -> LlamaCpu:
        return LlamaCpu(path, settings.cpu, images, drawn)

    return RestingCpu(driver, again, Words(path), settings.cpu.rest_s)


def embedding_model(settings: Settings, last: bytes | None = None) -> Path | Served | None:
    """The GGUF or server that gives the index its vectors, or None for WordLlama. Raises BadInput if it cannot.

    `last`: the record of what a server had when this directory was last booted with one.
    """
    chosen = settings.disk.embedder
    if chosen == "wordllama":
        return None
    if remote(chosen):
        return _serving(chosen, last)
    from drivers.cpu import gguf
    from drivers.cpu.llama.trial import tried
    from drivers.embed.gguf import GgufEmbedder
    from llmos.models import find

    path = find(chosen)
    GgufEmbedder(path)  # it would be too late in the index's process
    tried(path, gguf.read(path))
    return path


def _serving(setting: str, last: bytes | None) -> Served:
    """The server of `disk.embedder`; one that does not answer yet is waited for, if it is known what it had."""
    from drivers.embed.server import Known, Served, find

    address, wanted = embedder(setting)
    known: Known | None = None
    with contextlib.suppress(msgspec.DecodeError):
        known = msgspec.json.decode(last or b"", type=Known)
    found, fault = find(address, wanted, known)
    if fault:
        said(f"index: {fault}; searches go by words until it answers")
    elif known is not None and found != known:
        said(f"index: {address} makes other vectors than before; it is built anew")
    return Served(address, found)


def tighten(directory: Path) -> bool:
    """Let nobody but its owner into a machine's directory; whether that was new. Somebody else's stays as it is."""
    seen = directory.stat()
    if seen.st_uid != os.geteuid() or seen.st_mode & stat.S_ISVTX:
        return False
    own = [file for pattern in OWN for file in directory.glob(pattern) if not file.is_symlink()]
    loose = [path for path in (directory, *own) if path.stat().st_mode & 0o077]
    for path in loose:
        path.chmod(0o700 if path.is_dir() else 0o600)
    return bool(loose)


def device(tools: Mapping[str, Given]) -> Device | None:
    """What has these servers of tools. Raises BadInput where it cannot be."""
    if not tools:
        return None
    try:
        from drivers.device.mcp import McpTools
    except ModuleNotFoundError as exc:
        raise BadInput(f"tools need the package {exc.name}: pip install 'llmos[mcp]'") from exc
    return McpTools(tools)


@asynccontextmanager
async def powered(
    directory: Path,
    *,
    model: str | None = None,
    window: int | None = None,
    cpu: str | Cpu | None = None,
    changes: list[str] | None = None,
    clock: Sources | None = None,
    table: InstructionSet | None = None,
    tools: Mapping[str, Given] | None = None,
) -> AsyncIterator[Machine]:
    """A machine on `directory`, running; drained, stopped and closed at the end. Raises BadInput in one line.

    `cpu` None: as recorded, and llama where a model is given, unless servers are recorded: nothing else runs one.
    `clock`: what its times are read from, the host's if it is None; `table`: the instruction set, llmos's own likewise;
    `tools`: servers of tools by name.
    The whole process makes files for its user alone from then on.
    """
    from drivers.disk.lmdb import LmdbDisk
    from drivers.disk.seal import boot_of_host
    from drivers.index.beside import IndexBeside

    os.umask(0o077)
    probe = LmdbDisk(directory)
    try:
        if tighten(directory):
            said(f"{directory}: others could read it; now its owner alone can")
        settings, last_model, last_cpu = recorded(probe)
        served = (probe.get("set", SERVED) or b"").decode()
        embedded = probe.get("set", EMBEDDED)
        form = formats.of(probe)
    finally:
        probe.close()
    settings = apply(settings, [*([f"window={window}"] if window else []), *(changes or [])])
    if cpu is None:
        cpu = "llama" if model and not remote(last_cpu) else last_cpu
    by_servers = isinstance(cpu, str) and remote(cpu)
    chosen = model or (served if by_servers else last_model)
    disk = LmdbDisk(directory, sync=settings.disk.sync)
    try:
        vectors = embedding_model(settings, embedded)
        board = Board(
            cpu=processor(cpu, chosen, settings, directory / "kv") if isinstance(cpu, str) else cpu,
            others={
                name: processor(cpu if isinstance(cpu, str) else "llama", file, settings, directory / f"kv-{name}")
                for name, file in sorted(settings.models.items())
            },
            disk=disk,
            index=IndexBeside(directory, disk, settings.disk.exact_max, vectors, tell=said),
            settings=settings,
            clock=clock or Sources(host=boot_of_host()),
            tools=device(tools or {}),
        )
        machine = await boot(board, table or Table())
        if form is not CURRENT:
            said(f"{directory}: format {form.number} was brought up to {CURRENT.number}")
        kept = {SERVED: board.cpu.model} if by_servers else {b"model": chosen}
        kept |= {b"cpu": cpu} if isinstance(cpu, str) else {}
        rows = [Record("set", name, value.encode()) for name, value in kept.items()]
        if vectors is not None and not isinstance(vectors, Path):
            rows.append(Record("set", EMBEDDED, msgspec.json.encode(vectors.known)))
        await machine.commit(rows)
    except BaseException:
        disk.close()
        raise
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        try:
            yield machine
        finally:
            machine.stop()  # `run` drains and returns, and the nursery with it


async def serve(
    directory: Path,
    model: str | None,
    window: int | None,
    cpu: str | None,
    changes: list[str],
    ready: Callable[[list[str]], None],
    http: Live | None = None,
    tools: Mapping[str, Given] | None = None,
) -> None:
    """The daemon: a machine and its doors, until a signal or a client stops it. After a panic it boots again.

    `ready` is called with the URLs at which it is served, if there are any.
    """
    from drivers.door.socket import serve as serve_socket

    for again in range(PANICS_MAX + 1):
        try:
            async with (
                powered(directory, model=model, window=window, cpu=cpu, changes=changes, tools=tools) as machine,
                trio.open_nursery() as nursery,
            ):
                await nursery.start(serve_socket, machine, directory / "kernel.sock")
                ready(await _served(nursery, machine, directory, http))
                await machine.stopped()
                nursery.cancel_scope.cancel()
            return
        except* KernelPanic as panics:
            if again == PANICS_MAX:
                raise
            show(f"llmos: panic: {_first(panics)}; booting again from the last commit", flush=True)


async def _served(nursery: trio.Nursery, machine: Machine, directory: Path, http: Live | None) -> list[str]:
    """Open the HTTP door, if one is wanted; its URLs."""
    if http is None or not http.now.listen:
        return []
    try:
        from drivers.door.http.site import serve as serve_http
    except ModuleNotFoundError as exc:
        raise BadInput(f"--http needs the package {exc.name}: pip install 'llmos[http]'") from exc
    traces: dict[str, Callable[[], bytes]] = {
        name: partial(shipped.traced, path) for name, path in shipped.found().items()
    }
    userland = Userland(spoken, lambda: embedding(machine.settings), traces)
    urls: list[str] = await nursery.start(serve_http, machine, directory, http, userland)
    return urls


def embedding(settings: Settings) -> Embedder:
    """An embedder like the index's, for this process."""
    from drivers.embed.server import Served, ServerEmbedder

    found = embedding_model(settings)
    if found is None:
        from drivers.embed.wordllama import WordLlamaEmbedder

        return WordLlamaEmbedder()
    if isinstance(found, Served):
        return ServerEmbedder(found, tell=said)
    from drivers.embed.gguf import GgufEmbedder

    return GgufEmbedder(found)


def _first(group: BaseExceptionGroup[KernelPanic]) -> BaseException:
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one
