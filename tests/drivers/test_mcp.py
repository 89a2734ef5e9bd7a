"""Tools over MCP, end to end: real servers as processes, a real disk, scripted CPUs; killed at every place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.device import schema
from drivers.device.given import Given, check, tool_name
from drivers.device.mcp import McpTools
from drivers.disk.lmdb import LmdbDisk
from drivers.index.none import NoIndex
from kernel import records
from kernel.boot import Board, boot
from kernel.errors import BadInput
from kernel.event import Granted
from kernel.machine.loop import Machine
from kernel.memory.page import Origin, Page
from kernel.ports import Job
from kernel.process import State
from kernel.replay import Replay
from kernel.rights import Limits
from kernel.settings import Settings
from kernel.spec import Spec
from llmos.init import powered
from syscalls.table import Table
from tests.fakes import op

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests" / "fixtures" / "tool_server.py"
MASK = ("send_message", "read", "help", "use")
PATIENCE_S = 60.0


def use(tool: str, **arguments: object) -> str:
    return op("use", tool=tool, arguments=arguments)


def says(job: Job) -> str:
    """A process carries out what it was told last; what is no instruction it has done."""
    told = [page.text for page in job.pages if page.page.origin is Origin.USER]
    asked = told[-1]
    seen = [page.text for page in job.pages]
    done = seen.index(asked) < len(seen) - 1 and seen[-1] != asked
    return op("send_message", text="done") if done else asked


def served(folder: Path) -> dict[str, Given]:
    """The three servers; each writes what it does into log.txt."""
    log = str(folder / "log.txt")
    (folder / "files").mkdir(exist_ok=True)
    program = {"command": sys.executable, "env": {"PYTHONPATH": str(ROOT)}}
    return {
        "files": Given(args=(str(SERVER), "files", str(folder / "files"), log), **program),  # type: ignore[arg-type]
        "stalls": Given(args=(str(SERVER), "stalls", log), limit_s=0.5, **program),  # type: ignore[arg-type]
        "large": Given(args=(str(SERVER), "large", log), **program),  # type: ignore[arg-type]
    }


@asynccontextmanager
async def machine(folder: Path, servers: dict[str, Given]) -> AsyncIterator[Machine]:
    (folder / "machine").mkdir(exist_ok=True)
    disk = LmdbDisk(folder / "machine")
    board = Board(ScriptedCpu(says), disk, NoIndex(), Settings(), tools=McpTools(servers))
    found = await boot(board, Table())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.run)
        try:
            yield found
        finally:
            found.stop()


async def until(what: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not what():
            await trio.sleep(0.01)


async def made(found: Machine, name: str) -> int:
    pid = (await found.requests.spawn(Spec(name, calls=MASK, system="."))).pid
    await found.submit(Granted(source="user", pid=pid, right="tool:*"))
    return pid


async def told(found: Machine, pid: int, text: str) -> None:
    await found.requests.message(pid, "", text)


def pages(found: Machine, pid: int) -> list[Page]:
    rows = [records.page_of(row, found.disk.get) for _, row in found.disk.scan("page")]
    return [page for page in rows if page.pid == pid]


def answers(found: Machine, pid: int) -> list[str]:
    """What tools, or the kernel in their place, have answered a process."""
    return [page.text for page in pages(found, pid) if page.kind == "result"]


def did(folder: Path, what: str) -> int:
    """How often a server did something, by its own log."""
    log = folder / "log.txt"
    return log.read_text().splitlines().count(what) if log.exists() else 0


def up(found: Machine, server: str) -> bool:
    assert found.tools is not None
    return any(one.name == server and one.state == "up" for one in found.tools.seen())


def child_of(text: str) -> int:
    """The process of the host whose command line has a text."""
    for one in Path("/proc").iterdir():
        try:
            if one.name.isdigit() and text.encode() in (one / "cmdline").read_bytes():
                return int(one.name)
        except OSError:
            continue
    return 0


async def test_three_servers_are_used_killed_and_started_again_and_nothing_is_done_twice(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "notes").write_text("Buy milk.\n")
    async with machine(tmp_path, served(tmp_path)) as found:
        await until(lambda: len(found.kernel.offers) == 3)
        one, two, three = [await made(found, name) for name in ("one", "two", "three")]
        await told(found, one, use("files/read", path="notes"))
        await told(found, two, use("stalls/stall", seconds=60))
        await told(found, three, use("large/large"))
        await until(lambda: answers(found, one) and answers(found, two) and answers(found, three))
        assert answers(found, one) == ["[result of files/read]\n> Buy milk."]
        assert answers(found, two) == ["error: stalls/stall has not answered for 0.5 s; it was done, or it was not"]
        large = [page for page in pages(found, three) if page.origin is Origin.TOOL]
        assert sum(len(page.text) for page in large) > 2_000_000
        assert all(line.startswith("> ") for page in large for line in page.text.split("\n")[1:])
        assert found.kernel.procs[three].space.used() <= found.kernel.budgets(found.kernel.procs[three]).queue

        await told(found, two, use("stalls/hello"))  # its server was not ended by the limit
        await until(lambda: "[result of stalls/hello]\n> hello" in answers(found, two))
        await told(found, two, use("stalls/stall", seconds=60))
        await until(lambda: found.kernel.procs[two].state is State.BLOCKED)
        await found.requests.kill(two)
        assert up(found, "stalls")
        assert found.disk.scan("intent") == []

        os.kill(child_of(str(tmp_path / "files")), signal.SIGKILL)
        await until(lambda: not up(found, "files"))
        await told(found, one, use("files/append", path="notes", text="Tea."))
        await until(lambda: len(answers(found, one)) == 2)
        assert answers(found, one)[1].startswith(("error: the server files is down", "error: the server files ended"))
        await until(lambda: up(found, "files"))
        await told(found, one, use("files/append", path="notes", text="Tea."))
        await until(lambda: len(answers(found, one)) == 3)
        await told(found, one, use("files/die"))
        await until(lambda: len(answers(found, one)) == 4)
        assert (
            answers(found, one)[3]
            == "error: the server files ended while files/die was used; it was done, or it was not"
        )
        state = found.kernel.hash
    assert did(tmp_path, "append notes") == did(tmp_path, "die") == 1
    disk = LmdbDisk(tmp_path / "machine")
    try:
        run = Replay(disk, Table())  # no server is there
        for _ in run.steps():
            pass
        assert run.kernel.hash == state
    finally:
        disk.close()


LIFE = """
import sys, trio
from pathlib import Path
from kernel import failpoint
from tests.drivers.test_mcp import life
failpoint.arm_from_environment()
trio.run(life, Path(sys.argv[1]))
"""


async def life(folder: Path) -> None:
    """A machine's life: its first makes two processes that use a tool each; every one ends when both are at rest."""
    url = folder / "url"  # of a server that outlives the machine
    files = Given(url=url.read_text()) if url.exists() else served(folder)["files"]
    async with machine(folder, {"files": files}) as found:
        if not found.kernel.procs:
            pids = [await made(found, "once"), await made(found, "anew")]
            await until(lambda: found.kernel.offers)
            await told(found, pids[0], use("files/append", path="notes", text="Tea."))
            await told(found, pids[1], use("files/write", path="list", text="Milk."))
        await until(lambda: all(proc.state is State.IDLE for proc in found.kernel.procs.values()))


@pytest.mark.parametrize("point", ["act.before", "act.after", "acted.before"])
def test_a_kernel_killed_while_tools_act_does_nothing_twice_and_tells_what_nobody_knows(
    point: str, tmp_path: Path
) -> None:
    killed_at(point, tmp_path)


def killed_at(point: str, tmp_path: Path) -> None:
    """Two lives, the first of which ends by a kill; nothing is done twice, or told otherwise than it was."""
    command = [sys.executable, "-c", LIFE, str(tmp_path)]
    first = subprocess.run(command, cwd=ROOT, env={**os.environ, "LLMOS_FAILPOINTS": f"{point}=kill@1"}, check=False)
    assert first.returncode == -signal.SIGKILL
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE_S)
    disk = LmdbDisk(tmp_path / "machine")
    try:
        rows = [records.page_of(row, disk.get) for _, row in disk.scan("page")]
        once, anew = [[page.text for page in rows if page.pid == pid and page.kind == "result"] for pid in (1, 2)]
        assert disk.scan("intent") == []
    finally:
        disk.close()
    assert did(tmp_path, "append notes") <= 1
    if "[result of files/append]\n> added" in once:
        assert did(tmp_path, "append notes") == 1
    else:
        (said,) = once
        assert said.startswith("error: the outcome of files/append is unknown")
    assert anew in ([], ["[result of files/write]\n> written"])
    assert did(tmp_path, "write list") >= len(anew)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (7, schema.ANY),
        ({"type": "string"}, schema.ANY),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "integer"}}}, None),
        ({"type": "object", "properties": {"a": {"$ref": "http://elsewhere"}}}, None),
        ({"type": "object", "properties": {"a": {"type": "array", "minItems": 2, "maxItems": 1}}}, None),
        ({"type": "object", "properties": {"a": {"type": "object", "minItems": "x", "enum": []}}}, None),
        ({"type": "object", "properties": {"a": {"pattern": "(", "type": "string"}}}, None),
        ({"type": "object", "properties": {"a\n[kernel]": {}, "b": {"type": ["string", "null"]}}}, None),
    ],
)
def test_whatever_a_server_says_of_its_arguments_a_grammar_can_be_made_of_what_is_kept(
    said: Any, kept: str | None
) -> None:
    from llguidance import LLMatcher

    found = schema.taken(said)
    assert kept in (None, found)
    assert not LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(found))
    assert "\\n" not in found


def test_what_names_no_server_is_refused_and_what_cannot_be_named_is_left_out() -> None:
    for name, one in (("a b", Given(command="x")), ("a", Given()), ("a", Given(command="x", url="http://y"))):
        with pytest.raises(BadInput):
            check({name: one})
    assert tool_name("files", "read") == "files/read"
    assert [tool_name("files", bad) for bad in ("a b", "[kernel]", "x" * 60, "")] == [""] * 4
    with pytest.raises(BadInput, match="the environment has no variable of the name") as refused:
        Given(url="http://x", token="sk-not-a-name-but-a-token").sent()
    assert "sk-" not in str(refused.value), "who gave the token itself is not shown it"


async def test_a_line_without_end_ends_its_server_and_fills_no_memory(tmp_path: Path) -> None:
    async with machine(tmp_path, {"stalls": served(tmp_path)["stalls"]}) as found:
        await until(lambda: up(found, "stalls"))
        pid = await made(found, "one")
        before, _ = memory()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        await told(found, pid, use("stalls/endless"))
        await until(lambda: answers(found, pid))
        _, peak = memory()
        (said,) = answers(found, pid)
        assert said == (
            "error: the server stalls ended while stalls/endless was used "
            "(it wrote a line of more than 16 MiB); it was done, or it was not"
        )
        assert peak - before < 64 << 20
        await until(lambda: not up(found, "stalls"))  # its life ends behind the answer
        await until(lambda: up(found, "stalls"))
        await told(found, pid, use("stalls/hello"))
        await until(lambda: answers(found, pid)[1:])
        assert answers(found, pid)[1] == "[result of stalls/hello]\n> hello"
    assert did(tmp_path, "endless") == 1


def memory() -> tuple[int, int]:
    """Bytes of this process in memory now, and at most."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, most = (int(lines[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM"))
    return now, most


@pytest.mark.gguf
@pytest.mark.slow
async def test_a_real_model_that_is_held_to_the_schema_of_a_tool_uses_it(tmp_path: Path) -> None:
    tools = {"stalls": served(tmp_path)["stalls"]}
    async with powered(tmp_path / "machine", model="smollm2-135m", tools=tools) as found:
        await until(lambda: found.kernel.offers)
        spec = Spec("one", calls=("use",), system="Be friendly.", limits=Limits(turn_syscalls=1))
        pid = (await found.requests.spawn(spec)).pid
        await found.submit(Granted(source="user", pid=pid, right="tool:stalls/hello"))
        await told(found, pid, "Hello!")
        await until(lambda: answers(found, pid))
        assert answers(found, pid)[0] == "[result of stalls/hello]\n> hello"
