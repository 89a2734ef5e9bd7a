"""Does a model use a tool when it is asked plainly, and say what came of it? `python -m bench.tools --model M`.

Three real servers that speak MCP, each with one tool, and a new process a question, which may speak, ask for help and
use tools. A question is `used` if the right tool was used with the right argument, by the server's own log, and `told`
if the answer has what the tool said; `repeated` are uses that an earlier one of the same question was already. The
share is of the model with the manual of its profile; it is reported whatever it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import trio

from bench.asked import answer
from drivers.device.given import Given
from kernel.event import Granted
from kernel.machine.loop import Machine
from kernel.spec import Spec
from llmos.commands.output import show
from llmos.init import powered
from llmos.intervals import wilson

CALLS: Final = ("send_message", "help", "use")
SYSTEM: Final = "You are a helpful assistant. Answer in one short sentence."
ANSWER_S: Final = 300.0  # of one question
SERVER: Final = """
import sys
from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

kind, log = sys.argv[1:]
server = MCPServer(kind)
READS = ToolAnnotations(read_only_hint=True)


def did(what):
    with open(log, "a") as file:
        print(what, file=file)


if kind == "weather":

    @server.tool(annotations=READS)
    def temperature(city: str) -> str:
        "Tells how warm it is in a city."
        did(f"temperature {city}")
        return f"{len(city) + 11} degrees"

elif kind == "files":

    @server.tool(annotations=READS)
    def read(path: str) -> str:
        "Reads a file."
        did(f"read {path}")
        return f"The password of {path} is larch-{len(path)}."

else:

    @server.tool()
    def add(item: str) -> str:
        "Adds an item to the shopping list."
        did(f"add {item}")
        return f"{item} is number {len(item)} on the list"


server.run("stdio")
"""
CITIES: Final = ("Lyon", "Oslo", "Porto", "Dublin", "Naples", "Warsaw", "Bergen")
FILES: Final = ("notes.txt", "plan.md", "todo.txt", "log.txt", "diary.md", "ideas.txt", "report.md")
ITEMS: Final = ("milk", "bread", "apples", "rice", "coffee", "honey")
QUESTIONS: Final = (
    *((f"How warm is it in {one}?", f"temperature {one}", str(len(one) + 11)) for one in CITIES),
    *((f"Read the file {one} and tell me the password.", f"read {one}", f"larch-{len(one)}") for one in FILES),
    *((f"Add {one} to the shopping list, please.", f"add {one}", f"{len(one)}") for one in ITEMS),
)
"""What is asked, what the server's log has if it was done, and what the answer has if it was told."""


async def _asked(machine: Machine, n: int, question: str) -> str:
    """What a new process answers, which may use every tool."""
    pid = (await machine.requests.spawn(Spec(f"case-{n}", CALLS, system=SYSTEM))).pid
    await machine.submit(Granted(source="user", pid=pid, right="tool:*"))
    said = ""
    with trio.move_on_after(ANSWER_S):
        said = await answer(machine, pid, question)
    await machine.requests.kill(pid)
    return said


async def measured(model: str, settings: list[str], first: int, last: int) -> dict[str, Any]:
    """The shares, over the questions from the first to the last, which are numbered from 1."""
    asked = QUESTIONS[first - 1 : last]
    used = told = 0
    cases = []
    with tempfile.TemporaryDirectory(prefix="llmos-tools-") as folder:
        log = Path(folder) / "log"
        log.touch()
        tools = {
            kind: Given(command=sys.executable, args=("-c", SERVER, kind, str(log)))
            for kind in ("weather", "files", "shop")
        }
        async with powered(Path(folder) / "machine", model=model, changes=settings, tools=tools) as machine:
            while len(machine.kernel.offers) < len(tools):
                await trio.sleep(0.1)
            for n, (question, done, fact) in enumerate(asked):
                before = log.stat().st_size
                said = await _asked(machine, n, question)
                did = log.read_text()[before:].splitlines()
                used += done in did
                told += done in did and fact in said
                cases.append({"question": question, "did": did, "said": said})
                show(f"{n + 1} of {len(asked)}: {'used' if done in did else 'not used'}", error=True)
    n = len(asked)
    return {
        "model": model,
        "n": n,
        "used": used,
        "used_interval": wilson(used, n),
        "told": told,
        "told_interval": wilson(told, n),
        "uses": sum(len(case["did"]) for case in cases),
        "repeated": sum(len(case["did"]) - len(set(case["did"])) for case in cases),
        "cases": cases,
    }


def main() -> None:
    """Print the shares as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.tools")
    parser.add_argument("--model", required=True)
    parser.add_argument("--first", type=int, default=1, help="the number of a question")
    parser.add_argument("--last", type=int, default=len(QUESTIONS))
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    given = parser.parse_args()
    show(
        json.dumps(
            trio.run(measured, given.model, given.settings, given.first, given.last), ensure_ascii=False, indent=1
        )
    )


if __name__ == "__main__":
    main()
