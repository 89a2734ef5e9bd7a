"""What tools answer, as pages: cut, broken into lines, measured, and each quoted under a label of the kernel's.

Guarantee: every line of every page but the label stands quoted, so that no answer can pose as the user's, the kernel's
or another's, wherever it was split. Any thread may ask. O(text).
Not here: who asks a tool (drivers/device/), where the pages go (external.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from kernel.event import Acted
from kernel.limits import ANSWER_BYTES_MAX, ANSWER_LINE_CHARS_MAX
from kernel.machine.cpus import Cpus
from kernel.machine.measures import page_tokens_max
from kernel.memory.measure import Part
from kernel.ports import Told
from kernel.settings import Settings
from kernel.state import InstructionSet, Kernel

CHARS = 3  # of a token, about: the first guess


class Answers:
    """ports.Measured of one machine."""

    def __init__(self, kernel: Kernel, cpus: Cpus, iset: InstructionSet, settings: Settings) -> None:
        self._kernel, self._cpus, self._iset = kernel, cpus, iset
        self._most = page_tokens_max(settings)

    def __call__(self, told: Told) -> Acted:
        """The event of an answer."""
        if told.error:
            return Acted(source="device", pid=told.pid, req=told.req, error=told.error)
        raw = told.text.encode("utf-8", "replace")
        text = raw[:ANSWER_BYTES_MAX].decode("utf-8", "ignore")
        return Acted(
            source="device",
            pid=told.pid,
            req=told.req,
            parts=tuple(self._parts(told, text)),
            failed=told.failed,
            cut=len(raw) - len(text.encode()),
        )

    def _parts(self, told: Told, text: str) -> Iterator[Part]:
        there = told.pid in self._kernel.procs  # else nobody waits for it, and by whose tokens is one
        layout = self._cpus.layouts[self._kernel.model_of(told.pid) if there else ""]
        lines, part, chars = deque(_lines(text)), 1, CHARS * self._most
        while lines or part == 1:  # ends: each part takes a line
            chunk: list[str] = []
            size = 0
            while lines and (not chunk or size + len(lines[0]) <= chars):
                chunk.append(lines.popleft())
                size += len(chunk[-1])
            while True:  # ends: a line of one character fits
                said = {"tool": told.tool, "part": part, "failed": told.failed, "text": "\n".join(chunk)}
                found = layout(self._iset.alert("used", (), **said), 1 << 30)[0]
                if len(found.ids) <= self._most or len("".join(chunk)) <= 1:
                    break
                half = len(chunk) // 2 or len(chunk[0]) // 2
                back = chunk[half:] if len(chunk) > 1 else [chunk[0][half:]]
                chunk = chunk[:half] if len(chunk) > 1 else [chunk[0][:half]]
                lines.extendleft(reversed(back))
            yield found
            part += 1
            chars = max(1, round(0.9 * len("".join(chunk)) * self._most / len(found.ids)))


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        while len(line) > ANSWER_LINE_CHARS_MAX:  # ends: something is taken off it
            space = line.rfind(" ", 1, ANSWER_LINE_CHARS_MAX) + 1 or ANSWER_LINE_CHARS_MAX
            yield line[:space]
            line = line[space:]
        yield line
