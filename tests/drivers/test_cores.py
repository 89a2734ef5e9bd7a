"""What the engines of several models share: the thread they compute on, and buffers."""

from __future__ import annotations

import queue
import threading
from collections import deque
from random import Random

import numpy as np
import pytest

from drivers.cpu.llama import buffers, cores
from drivers.cpu.llama.buffers import Buffers
from drivers.cpu.llama.cores import Cores


class Engine:
    """Has so many steps to do, and then so much to save; notes each with its thread."""

    def __init__(self, on: Cores, name: str, log: list[tuple[str, int]], saves: int = 0) -> None:
        self.on, self.name, self.log, self.saves = on, name, log, saves
        self.steps = deque[bool]()  # False: the end
        self.ended = threading.Event()

    def tell(self, *steps: bool) -> None:
        self.steps += steps
        self.on.wake()

    def turn(self) -> bool:
        if not self.steps:
            return False
        self.log.append((self.name, threading.get_ident()))
        if not self.steps.popleft():
            self.on.leave(self)
        return True

    def rest(self) -> bool:
        self.saves -= 1
        if self.saves == 0:
            self.ended.set()
        return self.saves >= 0

    def broke(self, error: BaseException) -> None:
        self.error = error


def test_engines_take_turns_on_one_thread_which_ends_with_the_last() -> None:
    on, log = Cores(), list[tuple[str, int]]()
    one, other = Engine(on, "one", log), Engine(on, "other", log)
    one.steps += [True] * 50
    on.join(one)
    on.join(other)
    other.tell(*[True] * 20, False)
    assert other.ended.wait(10)
    one.tell(False)
    assert one.ended.wait(10)
    names = [name for name, _ in log]
    assert (names.count("one"), names.count("other"), len({thread for _, thread in log})) == (51, 21, 1)
    first = names.index("other")
    while names[first:].count("one") > 1 and names[first:].count("other") > 1:  # ends with the list
        assert {names[first], names[first + 1]} == {"one", "other"}
        first += 2
    thread = on._thread
    if thread is not None:
        thread.join(10)
    assert on._thread is None
    again = Engine(on, "again", log)
    on.join(again)  # a new thread
    again.tell(True, False)
    assert again.ended.wait(10)


def test_an_engine_that_breaks_down_leaves_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    on, log = Cores(), list[tuple[str, int]]()

    class Broken(Engine):
        def turn(self) -> bool:
            raise RuntimeError("out of order")

    one, broken = Engine(on, "one", log), Broken(on, "broken", log)
    on.join(one)
    on.join(broken)
    assert broken.ended.wait(10)  # who closes it does not wait for ever
    assert str(broken.error) == "out of order"
    assert "out of order" in capsys.readouterr().err
    one.tell(True, True, False)
    assert one.ended.wait(10)
    assert len(log) == 3


class Panic(BaseException):
    """As of a library in Rust: no Exception."""


def test_one_that_breaks_down_while_it_rests_is_told_so_whatever_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "IDLE_S", 0.01)

    class Broken(Engine):
        def rest(self) -> bool:
            raise Panic

    on = Cores()
    broken = Broken(on, "broken", [])
    on.join(broken)
    assert broken.ended.wait(10)
    assert isinstance(broken.error, Panic)


def test_nobody_waits_for_ever_where_an_engine_cannot_even_say_that_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    died = queue.SimpleQueue[threading.ExceptHookArgs]()
    monkeypatch.setattr(threading, "excepthook", died.put)

    class Broken(Engine):
        def turn(self) -> bool:
            raise RuntimeError("out of order")

        def broke(self, error: BaseException) -> None:
            raise RuntimeError("nobody is there any more")

    on = Cores()
    one, broken = Engine(on, "one", []), Broken(on, "broken", [])
    on.join(one)
    on.join(broken)
    assert broken.ended.wait(10)
    assert one.ended.wait(10)
    assert "nobody is there" in str(died.get(timeout=10).exc_value)  # and the thread is not quiet about it
    again = Engine(on, "again", [])
    on.join(again)  # a new thread
    again.tell(False)
    assert again.ended.wait(10)


def test_what_rests_is_saved_when_nobody_has_had_work_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "IDLE_S", 0.05)
    on, log = Cores(), list[tuple[str, int]]()
    engine = Engine(on, "one", log, saves=3)
    on.join(engine)
    engine.tell(True)
    assert engine.ended.wait(10)
    engine.ended.clear()
    engine.tell(False)
    assert engine.ended.wait(10)


def test_no_buffer_is_lent_twice_and_one_that_came_back_is_used_again() -> None:
    pool, rng = Buffers(), Random(1)
    held = list[tuple[memoryview, int]]()
    for n in range(2_000):
        if held and rng.random() < 0.5:
            held.pop(rng.randrange(len(held)))
        else:
            size = rng.randrange(1, 200_000)
            data = pool.take(size)
            assert (data.shape, data.dtype) == ((size,), np.uint8)
            data[:] = n % 251
            held.append((memoryview(data), n % 251))  # the array itself is forgotten
            del data
        if len(held) > 8:
            held.pop(0)
        assert all(view[0] == view[-1] == mark for view, mark in held)
    assert pool.made <= 10


def test_only_so_many_bytes_wait_to_be_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "SPARE_MAX", 3 * buffers.GRAIN)
    pool = Buffers()
    held = [pool.take(buffers.GRAIN) for _ in range(6)]
    assert len({one.__array_interface__["data"][0] for one in held}) == 6
    held.clear()
    assert [pool.take(buffers.GRAIN) is not None for _ in range(3)] == [True] * 3
    assert pool.made == 6
    kept = [pool.take(buffers.GRAIN) for _ in range(4)]
    assert (len(kept), pool.made) == (4, 7)
