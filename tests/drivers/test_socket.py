"""The control socket over a real machine: a kernel, a disk in memory and a scripted CPU."""

import gzip
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.cpu.scripted import Program, ScriptedCpu, echo, play
from drivers.disk.lmdb import LmdbDisk
from drivers.disk.memory import MemoryDisk
from drivers.door import arriving, socket, wire
from drivers.door.lines import READ_BYTES, Lines
from kernel.boot import Board, boot
from kernel.errors import BadInput
from kernel.event import Tag
from kernel.limits import IMPORT_PART_BYTES_MAX, READERS_MAX, SUBSCRIBER_QUEUE_MAX
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.memory.page import Origin
from kernel.ports import Disk, Record, Streamed
from kernel.settings import Settings
from kernel.spec import Spec
from llmos import ask
from llmos.client import Client, Disconnected, Refused, connect
from syscalls.table import Table
from tests.fakes import WordIndex

HELLO = b'{"op":"hello","version":2}\n'


@asynccontextmanager
async def machine(disk: Disk | None = None, program: Program = echo, token_s: float = 0.0) -> AsyncIterator[Machine]:
    """A running machine, drained and stopped at the end."""
    cpu = ScriptedCpu(program, token_s=token_s)
    disk = disk or MemoryDisk()
    running = await boot(Board(cpu, disk, WordIndex(disk), Settings()), Table())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        try:
            yield running
        finally:
            running.stop()


@asynccontextmanager
async def serving(path: Path, running: Machine) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(socket.serve, running, path)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Path]:
    """A daemon's socket; process `main` exists and echoes."""
    path = tmp_path / "kernel.sock"
    async with machine() as running, serving(path, running):
        async with connect(path) as client:
            await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        yield path


async def sent(path: Path, text: str, mid: str, patience_s: float = 0.0) -> wire.Ok:
    """A message as a command sends it, to `main`; from a thread, for it blocks."""
    return await trio.to_thread.run_sync(ask.send, path, "main", text, mid, patience_s)


async def raw_lines(path: Path, *sent: bytes, answers: int) -> list[dict[str, object]]:
    """What the daemon answers to bytes as they are."""
    stream = await trio.open_unix_socket(path)
    async with stream:
        for one in sent:
            await stream.send_all(one)
        lines = Lines(stream)
        return [json.loads(await lines.next() or b"null") for _ in range(answers)]


async def said(client: Client, many: int) -> list[str]:
    """The next final messages pushed."""
    found: list[str] = []
    with trio.fail_after(10):
        while len(found) < many:
            push = await client.receive()
            if isinstance(push, wire.Said):
                found.append(push.message.text)
    return found


async def test_a_message_is_acknowledged_answered_and_kept_until_its_reader_acknowledges_it(daemon: Path) -> None:
    async with connect(daemon) as client:
        await client.ask(wire.Subscribe(id=0, proc="main"), wire.Ok)
        ok = await client.ask(wire.Send(id=0, proc="main", mid="m1", text="hello"), wire.Ok)
        assert (ok.duplicate, ok.lsn > 0) == (False, True)
        assert await said(client, 1) == ["you said: hello"]
        (message,) = (await client.ask(wire.Outbox(id=0, proc="main"), wire.Messages)).messages
        assert (message.seq, message.answers) == (1, ("m1",))
        await client.ask(wire.Ack(id=0, pid=message.pid, upto=message.seq), wire.Ok)
        assert (await client.ask(wire.Outbox(id=0, proc="main"), wire.Messages)).messages == ()


async def test_an_acknowledgement_comes_after_the_commit(tmp_path: Path) -> None:
    disk, path = MemoryDisk(), tmp_path / "kernel.sock"
    async with machine(disk) as running, serving(path, running), connect(path) as client:
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        for number in range(20):
            await client.ask(wire.Send(id=0, proc="main", mid=f"m{number}", text="x"), wire.Ok)
            assert disk.get("mid", f"m{number}".encode()) is not None


async def test_a_spawn_is_made_as_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "kernel.sock"
    async with machine(MemoryDisk()) as running, serving(path, running), connect(path) as client:
        asked = wire.Spawn(id=0, spec=Spec("p", ("yield",), "Be brief.", {"b": "tea"}, nice=3, abort=True))
        proc = running.kernel.procs[(await client.ask(asked, wire.Ok)).pid]
        made = (proc.name, proc.spec.calls, proc.spec.blocks, proc.spec.system, proc.spec.nice, proc.spec.abort)
        assert made == ("p", ("yield",), {"b": "tea"}, "Be brief.", 3, True)
        with pytest.raises(Refused, match="model large: beside the first there are none"):
            await client.ask(wire.Spawn(id=0, spec=Spec("q", model="large")), wire.Ok)


async def test_the_same_message_id_is_applied_once(daemon: Path) -> None:
    for expected in (False, True, True):
        ok = await sent(daemon, "hello", "m1")
        assert ok.duplicate is expected
    async with connect(daemon) as client:
        pages = (await client.ask(wire.History(id=0, proc="main"), wire.Pages)).pages
        assert [page.searched for page in pages if page.origin == "user"] == ["hello"]


async def test_every_view_is_answered_with_the_id_of_its_request(daemon: Path) -> None:
    await sent(daemon, "hello", "m1")
    asked = [
        b'{"op":"ps","id":11}\n',
        b'{"op":"pmap","id":12,"proc":"main"}\n',
        b'{"op":"dmesg","id":13}\n',
        b'{"op":"history","id":14,"proc":1}\n',
        b'{"op":"info","id":15}\n',
        b'{"op":"outbox","id":16,"proc":"main"}\n',
        b'{"op":"ps","id":17,"proc":"nobody"}\n',
    ]
    _, *answers = await raw_lines(daemon, HELLO, *asked, answers=8)
    assert [(one["op"], one["id"]) for one in answers] == [
        ("processes", 11),
        ("mapped", 12),
        ("entries", 13),
        ("pages", 14),
        ("serving", 15),
        ("messages", 16),
        ("failed", 17),
    ]
    assert "nobody" in str(answers[-1]["error"])
    assert "main" in str(answers[-1]["error"])


async def test_another_version_is_refused_with_one_line(daemon: Path) -> None:
    (refusal,) = await raw_lines(daemon, b'{"op":"hello","version":99}\n', answers=1)
    assert refusal["op"] == "failed"
    assert "protocol 99 is not spoken here, 2 is: restart the daemon" in str(refusal["error"])
    (refusal,) = await raw_lines(daemon, b'{"op":"hello","version":1}\n', answers=1)
    assert "protocol 1 is not spoken here, 2 is: restart the client" in str(refusal["error"])
    (refusal,) = await raw_lines(daemon, b'{"op":"ps","id":1}\n', answers=1)
    assert "hello" in str(refusal["error"])


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (b"\n", "truncated"),
        (b"{\n", "truncated"),
        (b'{"op":"send","id":1,"proc":"main","mid":"x","text":"\xff"}\n', "UTF-8"),
        (b'{"op":"reboot","id":1}\n', "reboot"),
        (b'{"op":"kill","id":"1","proc":"main"}\n', "$.id"),
        (b'{"op":"kill","id":1,"proc":"main","force":true}\n', "force"),
        (b'{"op":"dmesg","id":1,"since":-1}\n', "$.since"),
        (b'{"op":"dmesg","id":1,"since":100000000000000000000}\n', "$.since"),
        (b'{"op":"kill","id":1,"proc":' + b"[" * 5_000 + b"\n", "$.proc"),
        (b'{"op":"hello","version":2}\n', "hello"),
        (b'{"op":"send","id":1,"proc":"main","mid":"x","text":" "}\n', "empty"),
        (b'{"op":"send","id":1,"proc":"main","mid":"x","text":"' + b"y" * 1_000_000 + b'"}\n', "1000000 bytes"),
        (b'{"op":"send","id":1,"proc":"main","mid":"x","text":"' + b"y" * 9_000_000 + b'"}\n', "longer than"),
        (b'{"op":"send","id":1,"proc":"main","mid":"' + b"m" * 99 + b'","text":"y"}\n', "message id"),
        (b'{"op":"spawn","id":1,"spec":{"name":"7"}}\n', "'7'"),
        (b'{"op":"spawn","id":1,"spec":{"name":"q","mask":["yield"]}}\n', "mask"),
        (b'{"op":"spawn","id":1,"spec":{"name":"q","calls":["fly"]}}\n', "fly"),
        (b'{"op":"spawn","id":1,"spec":{"name":"q","system":"' + b"y" * 300_000 + b'"}}\n', "300000 bytes"),
        (b'{"op":"ack","id":1,"pid":77,"upto":1}\n', "77"),
        ('{"op":"pmap","id":1,"proc":"\u00b2"}\n'.encode(), "no process"),
        ('{"op":"send","id":1,"proc":"\u0664\u0662","mid":"x","text":"y"}\n'.encode(), "no process"),
    ],
)
async def test_a_bad_line_is_answered_in_one_line_and_the_connection_and_the_kernel_go_on(
    daemon: Path, bad: bytes, named: str
) -> None:
    with trio.fail_after(10):
        _, refusal, after = await raw_lines(daemon, HELLO, bad, b'{"op":"ps","id":2}\n', answers=3)
    assert refusal["op"] == "failed"
    assert named in str(refusal["error"])
    assert "\n" not in str(refusal["error"])
    assert (after["op"], after["id"]) == ("processes", 2)


async def test_what_fails_as_nobody_foresaw_ends_the_request_alone_and_its_log_has_it(
    daemon: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(views, "pmap", fails)
    with trio.fail_after(10):
        asked = (HELLO, b'{"op":"pmap","id":1,"proc":"main"}\n', b'{"op":"ps","id":2}\n')
        _, refusal, after = await raw_lines(daemon, *asked, answers=3)
    assert (refusal["op"], refusal["id"], after["op"]) == ("failed", 1, "processes")
    ident = str(refusal["error"]).split()[-1]
    said = capsys.readouterr().err
    assert f"request {ident} failed" in said
    assert "ZeroDivisionError: by nothing" in said


async def test_a_full_mailbox_says_when_to_try_again(tmp_path: Path) -> None:
    path = tmp_path / "kernel.sock"
    async with machine(token_s=0.005) as running, serving(path, running), connect(path) as client:
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)

        async def fill() -> None:
            for number in range(1_000):
                await client.ask(wire.Send(id=0, proc="main", mid=f"m{number}", text="x"), wire.Ok)

        with pytest.raises(Refused) as refused:
            await fill()
        assert refused.value.retry_after_s == 5
        await client.ask(wire.Kill(id=0, proc="main"), wire.Ok)


async def test_nothing_of_a_line_beyond_the_bound_is_held() -> None:
    near, far = trio.testing.memory_stream_pair()
    lines = Lines(far)  # type: ignore[arg-type]  # any receive stream will do
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            for _ in range(100):
                await near.send_all(b"x" * READ_BYTES)
            await near.send_all(b"\nnext\n")

        nursery.start_soon(flood)
        with pytest.raises(BadInput, match="longer than"):
            await lines.next()
        assert await lines.next() == b"next"
        assert len(lines._buffer) <= wire.LINE_BYTES_MAX


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary() | st.from_regex(rb'\{"op":"(send|kill|dmesg)","id":.{0,40}\}', fullmatch=True))
def test_any_bytes_are_a_request_or_bad_input(raw: bytes) -> None:
    with suppress(BadInput):
        wire.decode_request(raw)


async def test_a_subscription_resumes_from_a_number_without_a_gap_or_a_double(daemon: Path) -> None:
    async def entries(since: int, many: int) -> list[int]:
        found: list[int] = []
        async with connect(daemon) as client:
            await client.ask(wire.Subscribe(id=0, since=since), wire.Ok)
            with trio.fail_after(10):
                while len(found) < many:
                    push = await client.receive()
                    if isinstance(push, wire.Logged):
                        found.append(push.entry.lsn)
        return found

    for number in range(5):
        await sent(daemon, f"message {number}", f"m{number}")
    async with connect(daemon) as client:
        log = await client.ask(wire.Dmesg(id=0), wire.Entries)
    everything = [entry.lsn for entry in log.entries]
    first = await entries(0, 4)
    rest = await entries(first[-1], len(everything) - 4)
    assert first + rest == everything
    assert log.upto == log.lsn


async def test_a_subscription_to_one_process_has_nothing_of_another(daemon: Path) -> None:
    async with connect(daemon) as client:
        other = (await client.ask(wire.Spawn(id=0, spec=Spec("other")), wire.Ok)).pid
        await client.ask(wire.Subscribe(id=0, proc="other"), wire.Ok)
        await client.ask(wire.Send(id=0, proc="main", mid="m1", text="not for you"), wire.Ok)
        await client.ask(wire.Send(id=0, proc="other", mid="m2", text="for you"), wire.Ok)
        with trio.fail_after(10):
            while True:  # until the message comes
                push = await client.receive()
                if isinstance(push, wire.Logged):
                    assert {note.pid for note in push.entry.notes} <= {0, other}
                if isinstance(push, wire.Said):
                    assert push.message.text == "you said: for you"
                    break


async def test_tokens_are_pushed_before_their_message_and_make_its_text(tmp_path: Path) -> None:
    path = tmp_path / "kernel.sock"
    async with machine(token_s=0.001) as running, serving(path, running), connect(path) as client:
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        await client.ask(wire.Subscribe(id=0, proc="main"), wire.Ok)
        await client.ask(wire.Send(id=0, proc="main", mid="m1", text="hello"), wire.Ok)
        tokens = ""
        with trio.fail_after(10):
            while not isinstance(push := await client.receive(), wire.Said):
                if isinstance(push, wire.Token):
                    tokens += push.streamed.text
        assert json.loads(tokens)["text"] == push.message.text


async def test_a_subscriber_that_does_not_read_is_cut_off_and_the_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "WRITE_S", 0.2)
    path = tmp_path / "kernel.sock"
    async with machine() as running, serving(path, running), connect(path) as client:
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        stuck = await trio.open_unix_socket(path)
        await stuck.send_all(HELLO + b'{"op":"subscribe","id":1,"since":0}\n')  # and reads nothing
        for number in range(400):
            await client.ask(wire.Send(id=0, proc="main", mid=f"m{number}", text="y" * 400), wire.Ok)
        with trio.fail_after(30):
            while running.feed.subscribers:
                await trio.sleep(0.05)
        await client.ask(wire.Ps(id=0), wire.Processes)
        async with stuck:
            with trio.fail_after(30):
                while await stuck.receive_some():  # what was on its way, then the end
                    pass


async def test_a_subscriber_that_falls_behind_the_bound_is_told_where_to_resume(tmp_path: Path) -> None:
    path = tmp_path / "kernel.sock"
    async with machine() as running, serving(path, running), connect(path) as client:
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        await client.ask(wire.Subscribe(id=0), wire.Ok)
        async with connect(path) as other:
            before = (await other.ask(wire.Info(id=0), wire.Serving)).lsn
            await other.ask(wire.Send(id=0, proc="main", mid="", text="hello"), wire.Ok)
            await other.ask(wire.Info(id=0), wire.Serving)
        for number in range(SUBSCRIBER_QUEUE_MAX + 2_000):  # in one go: nobody can read in between
            running.feed.publish(Streamed(Tag(1, 1, 1), number, "x"))
        with trio.fail_after(20):
            while not isinstance(push := await client.receive(), wire.Ended):
                pass
        assert push.since > before
        assert f"subscribe again from {push.since}" in push.error


async def test_a_daemon_that_stops_says_so_and_clients_see_the_end(tmp_path: Path) -> None:
    path = tmp_path / "kernel.sock"
    async with trio.open_nursery() as nursery:
        disk = MemoryDisk()
        running = await boot(Board(ScriptedCpu(echo), disk, WordIndex(disk), Settings()), Table())
        nursery.start_soon(running.run)
        async with serving(path, running), connect(path) as client:
            await client.ask(wire.Subscribe(id=0), wire.Ok)
            await client.ask(wire.Stop(id=0), wire.Ok)
            with trio.fail_after(10):
                while not isinstance(push := await client.receive(), wire.Ended):
                    pass
            assert "stopping" in push.error
            with pytest.raises(Disconnected):
                await client.ask(wire.Ps(id=0), wire.Processes)
    assert not path.exists()


async def test_a_path_longer_than_a_socket_address_is_served_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    async with machine() as running, serving(deep / "kernel.sock", running), connect(deep / "kernel.sock") as client:
        assert (await client.ask(wire.Info(id=0), wire.Serving)).model == "scripted"


async def test_a_dead_kernels_socket_is_replaced_and_only_its_owner_may_connect(tmp_path: Path) -> None:
    path = tmp_path / "kernel.sock"
    left = trio.socket.socket(trio.socket.AF_UNIX)
    await left.bind(str(path))
    left.close()
    with pytest.raises(Disconnected, match="no llmos runs"):
        async with connect(path):
            pass
    async with machine() as running, serving(path, running), connect(path) as client:
        assert path.stat().st_mode & 0o777 == 0o600
        await client.ask(wire.Info(id=0), wire.Serving)


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    async with machine() as running:
        with pytest.raises(BadInput, match="nowhere"):
            await socket.serve(running, tmp_path / "nowhere" / "kernel.sock")


async def test_more_clients_than_allowed_are_told_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "CONNECTIONS_MAX", 2)
    path = tmp_path / "kernel.sock"
    async with machine() as running, serving(path, running):
        async with connect(path) as one, connect(path) as other:
            for client in (one, other):
                await client.ask(wire.Subscribe(id=0), wire.Ok)
            with pytest.raises(Refused, match="2 clients are connected, and none is idle"):
                async with connect(path):
                    pass
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with connect(path):
            pass


async def test_idle_connections_lock_nobody_out_and_the_oldest_makes_room_with_a_line(
    daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "CONNECTIONS_MAX", 6)
    monkeypatch.setattr(socket, "SUBSCRIBERS_MAX", 3)
    idle = []
    for _ in range(8):
        stream = await trio.open_unix_socket(daemon)
        await stream.send_all(HELLO)
        lines = Lines(stream)
        assert json.loads(await lines.next() or b"")["op"] == "hello"
        idle.append((stream, lines))
    async with connect(daemon) as client:
        assert (await client.ask(wire.Ps(id=0), wire.Processes)).processes[0].name == "main"
        ended = [json.loads(await lines.next() or b"") for _, lines in idle[:3]]
        assert [(line["id"], line["code"]) for line in ended] == [(0, "busy")] * 3
        assert "closed: it asked nothing for" in str(ended[0]["error"])
        await idle[7][0].send_all(b'{"op":"ps","id":4}\n')
        assert json.loads(await idle[7][1].next() or b"")["id"] == 4, "the newest is there"
        for number in range(3, 6):
            await idle[number][0].send_all(b'{"op":"subscribe","id":1}\n')
            assert json.loads(await idle[number][1].next() or b"")["op"] == "ok"
        await idle[6][0].send_all(b'{"op":"subscribe","id":1}\n')
        refused = json.loads(await idle[6][1].next() or b"")
        assert (refused["op"], refused["code"]) == ("failed", "busy")
        for _ in range(10):  # who follows does not go, and others get in
            assert await trio.to_thread.run_sync(ask.call, daemon, wire.Info(id=0), wire.Serving)
        await idle[3][0].send_all(b'{"op":"ps","id":9}\n')
        assert json.loads(await idle[3][1].next() or b"")["id"] == 9
    for stream, _ in idle:
        await stream.aclose()


async def test_thirty_heavy_readers_do_not_hold_a_light_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, disk, read = tmp_path / "kernel.sock", LmdbDisk(tmp_path / "disk", sync="off"), views.log_piece
    disk_reads, done = threading.Semaphore(0), 0

    def slow(*what: Any) -> tuple[list[views.Entry], int]:
        nonlocal done
        assert disk_reads.acquire(timeout=60)
        done += 1
        return read(*what)

    monkeypatch.setattr(views, "log_piece", slow)
    async with machine(disk) as running, serving(path, running):
        async with connect(path) as client:
            for number in range(30):
                await client.ask(wire.Spawn(id=0, spec=Spec(f"p{number}")), wire.Ok)
        finished = []

        async def heavy(number: int) -> None:
            async with connect(path) as client:
                for _ in range(4):
                    await client.ask(wire.Dmesg(id=0, limit=5), wire.Entries)
                finished.append(number)

        async with connect(path) as light, trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(heavy, number)
            with trio.fail_after(30):
                while running.readers.waiting < 30 - READERS_MAX:
                    await trio.sleep(0.01)
                for _ in range(10):
                    assert len((await light.ask(wire.Ps(id=0), wire.Processes)).processes) == 30
                assert done == 0, "it waits for nothing that is being read, nor for who waits"
                disk_reads.release(60)
                while done < 60:
                    await trio.sleep(0.01)
            assert not finished, "they take turns: none is done before the others"
            disk_reads.release(60)
        assert sorted(finished) == list(range(30))


async def test_a_large_answer_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PROCESSES_PIECE", 3)
    monkeypatch.setattr(views, "OUTBOX_BYTES", 300)
    path = tmp_path / "kernel.sock"
    asked: list[wire.AnyCommand] = []
    carry_out = socket.desk.carry_out

    async def noted(machine: Machine, request: wire.AnyCommand, *more: Any) -> wire.AnyAnswer:
        asked.append(request)
        return await carry_out(machine, request, *more)

    monkeypatch.setattr(socket.desk, "carry_out", noted)
    async with machine() as running, serving(path, running), connect(path) as client:
        for number in range(8):
            await client.ask(wire.Spawn(id=0, spec=Spec(f"p{number}")), wire.Ok)
        await client.ask(wire.Subscribe(id=0, proc="p0"), wire.Ok)
        for number in range(12):
            await client.ask(wire.Send(id=0, proc="p0", mid=f"m{number}", text=f"text {number}"), wire.Ok)
            await said(client, 1)
        for waiting in (client.ask, lambda *what: trio.to_thread.run_sync(ask.call, path, *what)):
            asked.clear()
            found = await waiting(wire.Ps(id=0), wire.Processes)
            assert [view.name for view in found.processes] == [f"p{number}" for number in range(8)]
            assert not found.more
            assert [request.after for request in asked] == [0, 3, 6]  # type: ignore[union-attr]
            kept = await waiting(wire.Outbox(id=0, proc="p0"), wire.Messages)
            assert [message.text for message in kept.messages] == [f"you said: text {number}" for number in range(12)]
            assert len(asked) > 5


async def test_the_log_is_read_in_pieces_and_from_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "LOG_PIECE", 20)
    path, disk = tmp_path / "kernel.sock", MemoryDisk()
    async with machine(disk) as running, serving(path, running), connect(path) as client:
        for number in range(50):
            await client.ask(wire.Spawn(id=0, spec=Spec(f"p{number}")), wire.Ok)
        first = await client.ask(wire.Dmesg(id=0), wire.Entries)
        assert (first.upto, first.lsn > first.upto) == (20, True)
        await client.ask(wire.Compact(id=0), wire.Ok)
        while disk.scan("journal"):
            await trio.sleep(0.01)
        await client.ask(wire.Spawn(id=0, spec=Spec("last")), wire.Ok)
        found = await client.ask(wire.Dmesg(id=0), wire.Entries)
        assert (found.upto, found.lsn) == (running.kernel.counters.lsn,) * 2
        assert [note.what for entry in found.entries for note in entry.notes] == ["spawn"]


async def test_sending_goes_on_over_a_daemon_that_dies_and_comes_back(tmp_path: Path) -> None:
    path, disk = tmp_path / "kernel.sock", MemoryDisk()
    acknowledged: list[wire.Ok] = []

    async def first_life() -> None:
        async with machine(disk) as running, serving(path, running), connect(path) as client:
            await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)

    async def sender() -> None:
        acknowledged.append(await sent(path, "hello", "m1", patience_s=20))

    await first_life()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await trio.sleep(0.3)  # the daemon is away and the sender has tried
        assert acknowledged == []
        async with machine(disk) as running, serving(path, running):
            with trio.fail_after(20):
                while not acknowledged:
                    await trio.sleep(0.05)
    assert acknowledged[0].duplicate is False


def exported(name: str = "guest", pages: int = 3) -> bytes:
    """An export's lines."""
    page = {"kind": "message", "origin": "user", "role": "user", "area": "recall", "at": 1}
    head = {"format": "llmos-process", "version": 2, "spec": {"name": name, "calls": ["send_message"]}}
    lines = [json.dumps({**head, "timers": [], "exported_at": 1, "lsn": 1})]
    lines += [json.dumps({"seq": n + 1, **page, "text": f"line {n} of {name}"}) for n in range(pages)]
    raw = "".join(f"{line}\n" for line in lines).encode()
    return raw + b'{"pages":%d,"sha256":"%s"}\n' % (pages, sha256(raw).hexdigest().encode())


async def imported(client: Client, raw: bytes, size: int, name: str = "") -> wire.Ok:
    """What the daemon says to an export in parts of `size` bytes."""
    for at in range(0, len(raw), size):
        await client.ask(wire.Import(id=0, part=raw[at : at + size], first=at == 0), wire.Ok)
    return await client.ask(wire.Import(id=0, part=b"", last=True, name=name), wire.Ok)


async def test_an_export_comes_in_over_the_socket_in_parts(daemon: Path) -> None:
    async with connect(daemon) as client:
        ok = await imported(client, exported(), 50)
        pages = (await client.ask(wire.History(id=0, proc="guest"), wire.Pages)).pages
        assert [page.text for page in pages] == [f"line {n} of guest" for n in range(3)]
        assert (await imported(client, exported(), 10_000, "twin")).pid == ok.pid + 1
        with pytest.raises(Refused, match="process guest exists"):
            await imported(client, exported(), 50)
        assert (await imported(client, exported("third"), 1_000)).pid == ok.pid + 2


async def test_a_history_longer_than_a_line_comes_in_parts(daemon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAGES_BYTES_MAX", 50_000)
    long = ["".join(f"{n}.{word} " for word in range(6_000)) for n in range(4)]
    async with connect(daemon) as client:
        for number, text in enumerate(long):
            await client.ask(wire.Send(id=0, proc="main", mid=f"long {number}", text=text), wire.Ok)
        request = wire.History(id=0, proc="main", limit=wire.HISTORY_MAX)
        pages = (await client.ask(request, wire.Pages)).pages
        assert sum(len(page.text) for page in pages) > wire.PAGES_BYTES_MAX
        told = "".join(page.text for page in pages if page.origin is Origin.USER)
        assert told.endswith("".join(long))
        ids = [page.id for page in pages]
        assert ids == sorted(set(ids))
        assert (await client.ask(msgspec.structs.replace(request, limit=3), wire.Pages)).pages == pages[-3:]


async def test_the_daemon_opens_no_path_that_a_client_names(daemon: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    named = [str(pipe), "/dev/zero", "a\0b"]
    lines = [json.dumps({"op": "import", "id": n, "path": path}).encode() + b"\n" for n, path in enumerate(named)]
    with trio.fail_after(10):
        _, *answers = await raw_lines(daemon, HELLO, *lines, b'{"op":"ps","id":9}\n', answers=5)
    assert [one["op"] for one in answers] == ["failed", "failed", "failed", "processes"]


async def test_what_is_refused_of_an_export_leaves_nothing_and_the_connection_goes_on(daemon: Path) -> None:
    raw = exported()
    bad = [
        raw[:-9],
        raw.replace(b"line 1", b"line 9"),
        b"{}\n",
        b"[" * 90_000 + b"\n",
        raw + raw,
        b"",
        gzip.compress(raw),
    ]
    async with connect(daemon) as client:
        with pytest.raises(Refused, match="no import is under way"):
            await client.ask(wire.Import(id=0, part=raw), wire.Ok)
        for one in bad:
            with pytest.raises(Refused):
                await imported(client, one, 50_000)
        with pytest.raises(Refused, match="length"):
            await client.ask(wire.Import(id=0, part=b"x" * (IMPORT_PART_BYTES_MAX + 1), first=True), wire.Ok)
        assert len((await client.ask(wire.Ps(id=0), wire.Processes)).processes) == 1
        await imported(client, raw, 50)


async def test_a_client_that_goes_away_in_an_import_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kernel.sock"
    async with machine() as running:
        listener = socket.Server(running)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, listener.connection, [await socket.listen(path)])
            for _ in range(20):
                async with connect(path) as client:
                    await client.ask(wire.Import(id=0, part=exported()[:200], first=True), wire.Ok)
                    assert listener.dock.holder is not None
            with trio.fail_after(10):
                while listener.dock.holder is not None:
                    await trio.sleep(0.01)
            async with connect(path) as client:
                assert (await imported(client, exported(), 50)).pid == 1
            nursery.cancel_scope.cancel()


async def test_one_export_comes_in_at_a_time_and_one_that_stalls_makes_room(
    daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(daemon) as slow, connect(daemon) as other:
        await slow.ask(wire.Import(id=0, part=exported()[:200], first=True), wire.Ok)
        with pytest.raises(Refused, match="another process is being imported") as refused:
            await imported(other, exported("other"), 50)
        assert refused.value.retry_after_s
        monkeypatch.setattr(arriving, "IMPORT_STALL_S", 0.0)
        await imported(other, exported("other"), 50)
        with pytest.raises(Refused, match="from its first part"):
            await slow.ask(wire.Import(id=0, part=exported()[200:]), wire.Ok)


async def test_no_thread_is_held_by_an_import_and_the_kernel_stops_in_the_middle_of_one(tmp_path: Path) -> None:
    path = tmp_path / "kernel.sock"
    with trio.fail_after(20):
        async with machine() as running, serving(path, running), connect(path) as client:
            await client.ask(wire.Import(id=0, part=exported()[:200], first=True), wire.Ok)
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            async with connect(path) as other:
                await other.ask(wire.Stop(id=0), wire.Ok)
            await running.stopped()


async def waited(path: Path, text: str, mid: str, within_s: float = 20.0) -> ask.Answered:
    """A message sent to `main` and waited for, as `llmos send --wait` does."""
    return await trio.to_thread.run_sync(lambda: ask.converse(path, "main", text, mid, 0.0, within_s))


async def test_every_waiter_gets_its_reply_though_a_chat_acknowledges_each_at_once(daemon: Path) -> None:
    found: dict[str, ask.Answered] = {}

    async def wait(mid: str) -> None:
        found[mid] = await waited(daemon, f"from {mid}", mid)

    async def chat(client: Client) -> None:
        while True:  # until cancelled
            push = await client.receive()
            if isinstance(push, wire.Said):
                await client.ask(wire.Ack(id=0, pid=push.message.pid, upto=push.message.seq), wire.Ok)

    async with connect(daemon) as client, trio.open_nursery() as nursery:
        await client.ask(wire.Subscribe(id=0, proc="main"), wire.Ok)
        nursery.start_soon(chat, client)
        async with trio.open_nursery() as waiters:
            for number in range(10):
                waiters.start_soon(wait, f"m{number}")
        nursery.cancel_scope.cancel()
    for mid, one in found.items():
        assert one.missing is None
        assert f"you said: from {mid}" in [message.text for message in one.messages]
    again = await waited(daemon, "from m0", "m0")
    assert (again.ok.duplicate, again.messages) == (True, found["m0"].messages)


async def test_a_missing_reply_says_why(tmp_path: Path) -> None:
    path, silent = tmp_path / "kernel.sock", play(['{"op":"yield"}'])
    async with machine(program=silent) as running, serving(path, running), connect(path) as client:
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        assert (await waited(path, "say something", "m1")).missing is ask.Missing.ENDED
    async with machine(token_s=0.5) as running, serving(path, running), connect(path) as client:
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        assert (await waited(path, "slowly", "m1", 0.1)).missing is ask.Missing.TIMEOUT
        found: list[ask.Answered] = []

        async def wait(mid: str) -> None:
            found.append(await waited(path, "still there?", mid))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "m2")
            while not running.feed.subscribers:
                await trio.sleep(0.01)
            await client.ask(wire.Kill(id=0, proc="main"), wire.Ok)
        assert (found[-1].missing, found[-1].why) == (ask.Missing.DIED, "the process is dead (killed)")
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "m3")
            while not running.feed.subscribers:
                await trio.sleep(0.01)
            await client.ask(wire.Stop(id=0), wire.Ok)
        assert found[-1].missing is ask.Missing.STOPPED


async def test_what_was_said_after_a_number_is_told_though_it_was_acknowledged(daemon: Path) -> None:
    async with connect(daemon) as client:
        for number in range(4):
            await waited(daemon, f"number {number}", f"m{number}")
        asked = wire.Outbox(id=0, proc="main", since=2)
        told = (await client.ask(asked, wire.Messages)).messages
        assert [(one.seq, one.text) for one in told] == [(3, "you said: number 2"), (4, "you said: number 3")]
        assert (await client.ask(wire.Outbox(id=0, proc="main"), wire.Messages)).messages == ()


async def test_a_waiter_that_looks_while_the_reply_is_being_committed_gets_it(tmp_path: Path) -> None:
    class Slow(MemoryDisk):
        """A disk whose commits take a while, so that the kernel is ahead of it."""

        blocking = True

        def commit(self, records: Sequence[Record]) -> None:
            time.sleep(0.02)
            super().commit(records)

    path = tmp_path / "kernel.sock"
    async with machine(Slow()) as running, serving(path, running), connect(path) as client:
        await client.ask(wire.Spawn(id=0, spec=Spec("main")), wire.Ok)
        for number in range(8):
            await client.ask(wire.Send(id=0, proc="main", mid=f"m{number}", text="x"), wire.Ok)
            while True:  # until it is no longer open
                found = (await client.ask(wire.Wait(id=0, mid=f"m{number}"), wire.Replied)).reply
                if found.standing != "open":
                    break
            assert [message.text for message in found.messages] == ["you said: x"]
