"""Commits as tasks: each one reads the windows of 100 lines that it changes, as an agent at work on them would."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from bench.paging.trace import Ref, Turn
from kernel.errors import BadInput
from kernel.memory.page import Kind

LINES: Final = 100  # of a window
TOKENS_A_LINE: Final = 8  # the mean of the traces that come with the benchmark data: windows of about 800 tokens
HUNK: Final = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")


def tasks(repository: Path, suffixes: tuple[str, ...], limit: int = 0) -> list[Turn]:
    """A turn for each commit that touches a file ending in one of `suffixes`, oldest first.

    A window's size is what is known of its lines so far: 8 tokens each, the last window of a file being short. Raises
    BadInput if `repository` is no git repository.
    """
    command = [
        "git",
        "-C",
        str(repository),
        "log",
        "--reverse",
        "--no-merges",
        "--no-color",
        "--no-ext-diff",
        "-p",
        "-U0",
    ]
    try:
        done = subprocess.run([*command, "--format=%x00"], capture_output=True, check=False)
    except FileNotFoundError as exc:
        raise BadInput("git is not installed, and a trace of a repository needs it") from exc
    if done.returncode:
        raise BadInput(f"{repository}: {done.stderr.decode(errors='replace').strip().splitlines()[0]}")
    numbers: dict[str, int] = {}
    ends: dict[str, int] = {}  # file -> highest line seen
    turns: list[Turn] = []
    for commit in done.stdout.split(b"\0")[1:]:
        touched: dict[tuple[str, int], None] = {}
        name = ""
        for line in commit.decode("utf-8", "replace").splitlines():
            if line.startswith("+++ "):
                name = line[6:] if line.startswith("+++ b/") and line.endswith(suffixes) else ""
            elif name and (hunk := HUNK.match(line)):
                first, count = int(hunk[1]), int(hunk[2] or 1)
                ends[name] = max(ends.get(name, 0), first + count)
                for window in range(first // LINES, (first + max(0, count - 1)) // LINES + 1):
                    touched[name, window] = None
        refs = []
        for file, window in touched:
            page = numbers.setdefault(f"{file}:{window}", len(numbers) + 1)
            refs.append(Ref(page, TOKENS_A_LINE * max(1, min(LINES, ends[file] - window * LINES)), Kind.MESSAGE))
        if refs:
            turns.append(Turn(refs=tuple(refs)))
        if limit and len(turns) == limit:
            break
    return _even(turns)


def _even(turns: list[Turn]) -> list[Turn]:
    """A page has one size: its largest."""
    sizes: dict[int, int] = {}
    for turn in turns:
        for ref in turn.refs:
            sizes[ref.page] = max(sizes.get(ref.page, 0), ref.tokens)
    return [Turn(refs=tuple(ref._replace(tokens=sizes[ref.page]) for ref in turn.refs)) for turn in turns]
