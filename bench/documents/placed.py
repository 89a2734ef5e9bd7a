"""A machine whose process is asked with given lines in its recall block, instead of what a search would bring in."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench.memory import live
from bench.memory.live import Clock
from bench.memory.rows import BASE, FAR, SPEAK, UNPAGED, Processor
from kernel.limits import NS
from kernel.machine import views
from kernel.memory.measure import Visible
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.memory.prompt import Layout
from kernel.ports import Job
from kernel.settings import Settings, apply

BEGINS: Final = 1_760_000_000 * NS


class Placed:
    """Asks a process of its own for each question. Of the last prompt: `tokens` of the lines, how many are `whole`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lines: Sequence[str] = ()
        self._asked = 0
        self.tokens = self.whole = 0
        self.session: live.Session | None = None

    def change(self, job: Job) -> Job:
        """The job with the lines before its question, cut by tokens where the window ends."""
        room = job.window - job.reply - len(job.prompt) - self._layout.costs.recall
        block: list[Visible] = []
        self.whole = 0
        for text in self._lines:
            found = self._layout.tokenize(text)
            ids = found[: max(0, room - self._layout.costs.recalled[Role.USER])]
            if not ids:
                break
            self.whole += len(ids) == len(found)
            room -= len(ids) + self._layout.costs.recalled[Role.USER]
            page = Page(FAR + len(block), 0, 0, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, 0, text)
            block.append(Visible(page, Role.USER, ids, recalled=True))
        user = next(at for at, page in enumerate(job.pages) if page.role is Role.USER)
        pages = (*job.pages[:user], *block, *job.pages[user:])
        prompt = self._layout.render(pages)
        self.tokens = len(prompt) - len(job.prompt)
        return msgspec.structs.replace(job, pages=pages, prompt=prompt)

    async def ask(self, question: str, lines: Sequence[str]) -> str:
        """What is replied to a question behind these lines."""
        session = self.session
        assert session is not None
        self._lines, self._asked = lines, self._asked + 1
        pid = await session.spawn(f"question-{self._asked}", SPEAK)
        await session.say(pid, question, session.clock.now + NS)
        said = views.outbox(session.machine.kernel, session.machine.disk, pid)
        await session.machine.requests.kill(pid)
        return "\n".join(one.text for one in said)


@asynccontextmanager
async def placed(model: Processor, window: int, changes: Sequence[str]) -> AsyncIterator[Placed]:
    """Such a machine, in a folder of its own."""
    own = [*BASE, *UNPAGED, *changes]
    cpu = model(apply(Settings(window=window), own))
    asker = Placed(Layout(cpu.frame, cpu.tokenize, cpu.measure_id()))
    with tempfile.TemporaryDirectory(prefix="llmos-placed-") as folder:
        async with live.session(Path(folder), cpu, Clock(BEGINS), window, own, change=asker.change) as session:
            asker.session = session
            yield asker
