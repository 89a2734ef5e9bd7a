"""A command's connection, against a daemon that says what a test wants: a thread, a socket, and lines."""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.door import wire
from kernel.errors import BadInput
from kernel.event import Note, What
from kernel.machine.views import Entry
from llmos import ask, daemon

HELLO = wire.encode(wire.Hello(version=wire.VERSION))


def answering(path: Path, *lives: Callable[[int], bytes]) -> tuple[threading.Thread, list[bytes]]:
    """A daemon that takes a connection for each of `lives`: after hello, each line read is answered by its number."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    heard: list[bytes] = []

    def serve() -> None:
        with listener:
            for life in lives:
                connection, _ = listener.accept()
                gone = contextlib.suppress(BrokenPipeError, ConnectionResetError)  # the client has had enough
                with gone, connection, connection.makefile("rb") as lines:
                    lines.readline()
                    connection.sendall(HELLO)
                    for number, line in enumerate(lines, 1):
                        heard.append(line)
                        if not (said := life(number)):
                            break
                        connection.sendall(said)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread, heard


def logged(lsn: int) -> wire.Logged:
    return wire.Logged(entry=Entry(lsn=lsn, at=0, notes=(Note(What.TURN),)))


def test_pushes_that_come_before_an_answer_are_kept_in_their_order(tmp_path: Path) -> None:
    ok = [wire.encode(one) for one in (logged(1), logged(2), wire.Ok(id=1, lsn=7), logged(3))]
    thread, _ = answering(tmp_path / "s", lambda _: b"".join(ok))
    with ask.connect(tmp_path / "s") as daemon:
        assert daemon.ask(wire.Subscribe(id=0), wire.Ok).lsn == 7
        assert [daemon.receive() for _ in range(3)] == [logged(1), logged(2), logged(3)]
    thread.join(10)


def test_an_older_daemon_is_to_be_restarted(tmp_path: Path) -> None:
    reply = wire.Failed(id=0, error="protocol 2 is not spoken here, 1 is; use an llmos of one version")
    with pytest.raises(BadInput, match="older protocol than 2: restart it"):
        ask.welcomed(reply, tmp_path / "s")
    newer = wire.Failed(id=0, error="protocol 2 is not spoken here, 3 is: restart the client", code=wire.PROTOCOL)
    with pytest.raises(BadInput, match="restart the client"):
        ask.welcomed(newer, tmp_path / "s")


def test_a_daemon_that_hangs_up_is_gone(tmp_path: Path) -> None:
    thread, _ = answering(tmp_path / "s", lambda _: b"")
    with pytest.raises(ask.Disconnected, match="gone"):
        ask.call(tmp_path / "s", wire.Ps(id=0), wire.Processes)
    thread.join(10)


def test_a_message_is_sent_again_with_its_id_until_it_is_acknowledged(tmp_path: Path) -> None:
    busy = wire.encode(wire.Failed(id=1, error="full; retry after 0 s", retry_after_s=0.0))
    thread, heard = answering(
        tmp_path / "s", lambda _: b"", lambda _: busy, lambda number: wire.encode(wire.Ok(id=number, duplicate=True))
    )
    assert ask.send(tmp_path / "s", "main", "hello", "m1", patience_s=60.0).duplicate
    thread.join(10)
    assert len(heard) == 3
    assert len(set(heard)) == 1


def test_a_refusal_for_good_is_not_tried_again(tmp_path: Path) -> None:
    thread, heard = answering(tmp_path / "s", lambda _: wire.encode(wire.Failed(id=1, error="no process")))
    with pytest.raises(ask.Refused, match="no process"):
        ask.send(tmp_path / "s", "main", "hello", "m1", patience_s=60.0)
    thread.join(10)
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("said", "named"),
    [(b"nonsense\n", "protocol"), (wire.encode(wire.Ok(id=1)), "answered Ok"), (b"x" * 4_000_000, "longer")],
)
def test_what_is_no_answer_is_said_in_one_line(tmp_path: Path, said: bytes, named: str) -> None:
    thread, _ = answering(tmp_path / "s", lambda _: said)
    with pytest.raises(BadInput, match=named):
        ask.call(tmp_path / "s", wire.Ps(id=0), wire.Processes)
    thread.join(10)


def test_without_a_daemon_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ask.Disconnected, match="llmos boot"):
        ask.call(tmp_path / "nothing", wire.Ps(id=0), wire.Processes)


def test_a_long_log_is_put_aside_and_the_one_before_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "LOG_BYTES", 10)
    for said in (b"short", b" and long", b"new"):
        with daemon._log(tmp_path / daemon.LOG) as log:
            log.write(said)
    assert (tmp_path / "kernel.log").read_bytes() == b"new"
    assert (tmp_path / "kernel.log.old").read_bytes() == b"short and long"
