"""Draws docs/processes.md from kernel/process.py: `make docs`; a test compares.

The meaning of a state or a move is the comment behind it, who makes a move is found in the kernel's source.
"""

import ast
import enum
import inspect
import re
from pathlib import Path

from kernel.process import TRANSITIONS, Move, Process, State

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "processes.md"
HEAD = """\
# Processes: states and moves

Drawn from `kernel/process.py` by `make docs`; a test compares. A process is in one state and changes it along this
table alone: a move that the table does not list is a panic. What else is known of a process (the PCB) is in that file.
"""


def meanings(of: type[enum.StrEnum]) -> dict[str, str]:
    """The comment behind each member."""
    found = re.findall(r'^    \w+ = "(\w+)"  # (.+)$', inspect.getsource(of), re.M)
    assert [name for name, _ in found] == list(of), f"{of.__name__}: a member without a comment"
    return dict(found)


def makers() -> dict[str, list[str]]:
    """By move, the functions of the kernel that make it."""
    found: dict[str, list[str]] = {move: [] for move in Move}
    for path in sorted((ROOT / "kernel").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                match node:
                    case ast.Call(
                        func=ast.Attribute(attr="move"), args=[ast.Attribute(value=ast.Name(id="Move"), attr=name)]
                    ):
                        found[Move[name]].append(f"`{path.relative_to(ROOT)}` {function.name}")
    return {move: list(dict.fromkeys(where)) for move, where in found.items()}


def document() -> str:
    """docs/processes.md."""
    begins = Process.__struct_fields__.index("state") - len(Process.__struct_fields__)
    first = Process.__struct_defaults__[begins]
    lines = [HEAD, "```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {state} --> {to}: {move}" for state, moves in TRANSITIONS.items() for move, to in moves.items()]
    lines += ["```", "", "The same for a terminal: a row a state, a column a move, and in it the state after it.", ""]
    width = max(map(len, State)) + 1
    rows = [["", *Move]]
    rows += [[state, *(moves.get(move, ".") for move in Move)] for state, moves in TRANSITIONS.items()]
    lines += ["```", *("".join(f"{cell:{width}}" for cell in row).rstrip() for row in rows), "```", ""]
    lines += ["| state | a process in it |", "|---|---|"]
    lines += [f"| {state} | {means} |" for state, means in meanings(State).items()]
    lines += ["", "| move | why | made by |", "|---|---|---|"]
    by = makers()
    lines += [f"| {move} | {means} | {', '.join(by[move])} |" for move, means in meanings(Move).items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(document())
