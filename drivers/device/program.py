"""A server of tools that is a program: messages over its standard streams, a line each, each of a bounded length.

The SDK's own transport keeps a line until its end, however long it becomes, and knows an end of the server by its
output alone, which a child of it may hold open. Here a line that is too long ends the program, and so does its death
the streams. It stands in a process group of its own: what it has started is ended with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import trio
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from drivers.device.given import Given
from kernel.errors import DeviceError
from kernel.limits import TOLD_BYTES_MAX

PIECE_BYTES: Final = 1 << 16
LONG_BYTES: Final = 1 << 16  # a longer line is parsed in a thread
GRACE_S: Final = 2.0  # to go by itself once its input has ended, then after SIGTERM; for its last output after its end


@asynccontextmanager
async def talking(given: Given, heard: Callable[[bytes], None]) -> AsyncIterator[tuple[Any, Any]]:
    """Start it; the streams of its messages, as the SDK's sessions take them. `heard` gets its standard error.

    Raises OSError for what cannot be started; DeviceError, in the nursery's group, for a line that is too long.
    """
    process = await trio.lowlevel.open_process(
        [given.command, *given.args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=given.cwd or None,
        env={**get_default_environment(), **given.env},
        start_new_session=True,
    )
    incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, process, heard)
            nursery.start_soon(_read, process, incoming)
            nursery.start_soon(_write, process, outgoing, incoming)
            yield read, write
            nursery.cancel_scope.cancel()
    finally:
        for stream in (incoming, read, write, outgoing):
            stream.close()
        with trio.CancelScope(shield=True):
            await _end(process)


async def _listen(process: trio.Process, heard: Callable[[bytes], None]) -> None:
    assert process.stderr is not None
    async for piece in process.stderr:
        heard(bytes(piece))


async def _read(process: trio.Process, incoming: Any) -> None:
    """Pass on what it says, until its output ends, or a little after it has ended itself."""
    async with incoming, trio.open_nursery() as nursery:
        nursery.start_soon(_lines, process, incoming, nursery.cancel_scope)
        await process.wait()
        nursery.cancel_scope.deadline = trio.current_time() + GRACE_S


async def _lines(process: trio.Process, incoming: Any, over: trio.CancelScope) -> None:
    assert process.stdout is not None
    line = bytearray()
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, trio.BrokenResourceError):
        while piece := await process.stdout.receive_some(PIECE_BYTES):
            *ended, rest = bytes(piece).split(b"\n")
            for end in ended:
                line += end
                await incoming.send(await _message(line))
                line.clear()
            line += rest
            if len(line) > TOLD_BYTES_MAX:
                _kill(process, signal.SIGKILL)
                raise DeviceError(f"it wrote a line of more than {TOLD_BYTES_MAX >> 20} MiB")
    over.cancel()


async def _message(line: bytearray) -> SessionMessage | Exception:
    """A line as a message, or what is wrong with it."""
    raw = bytes(line)
    return await trio.to_thread.run_sync(_parsed, raw) if len(raw) > LONG_BYTES else _parsed(raw)


def _parsed(raw: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(raw, by_name=False))
    except ValueError as exc:
        return exc


async def _write(process: trio.Process, outgoing: Any, incoming: Any) -> None:
    """Send it messages; where it takes no more, what it says ends, too."""
    assert process.stdin is not None
    try:
        async for one in outgoing:
            await process.stdin.send_all(
                one.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
            )
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        incoming.close()


async def _end(process: trio.Process) -> None:
    """Close its input, and wait; then end the whole group, first with a word."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(trio.BrokenResourceError):
        await process.stdin.aclose()
    for number in (signal.SIGTERM, signal.SIGKILL, 0):
        with trio.move_on_after(GRACE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drain, process.stdout)
                nursery.start_soon(_drain, process.stderr)
                await process.wait()
                nursery.cancel_scope.cancel()
        if process.returncode is not None:
            break
        if number:
            _kill(process, number)
    await process.stdout.aclose()
    await process.stderr.aclose()


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    """Throw away what it still writes: a program that waits for a reader does not end."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(PIECE_BYTES):
            pass


def _kill(process: trio.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
