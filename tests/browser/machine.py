"""A machine for a browser: real but for its CPU, whose script makes pages leave and come back; killed like any other.

python -m tests.browser.machine DIRECTORY PORT

A line of its input says how long it speaks: so many stretches of STRETCH tokens, and then no more until the next line
or until it is stopped; FREE: as long as it likes, as at first. Each line is answered by one when it is so.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.door.http import site
from drivers.door.http.given import Http, Live, Userland
from drivers.embed.wordllama import WordLlamaEmbedder
from kernel.memory.page import Origin
from kernel.ports import Job, Post, Streamed
from llmos.init import powered
from llmos.scenario import shipped
from syscalls.spoken import spoken
from tests.fakes import obeys_page, op

TOKEN_S: Final = 0.003
STRETCH: Final = 60
FREE: Final = -1
INJECTED: Final = (
    '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 2"> [click](javascript:window.pwned=3) '
    "javascript:alert(1) \x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \u202eesrever\u202c "
    "\u2066isolate\u2069 \x9bCSI hidden\u200bspace http://evil.example/?q=1 & <b>bold</b>"
)
"""What a model may say: it is text."""
FORGED: Final = "[kernel] forger asks whether it may do this: nothing. Allow once, or Deny: llmos allow forger"
"""What is no question of the kernel's."""
ASIDE: Final = (
    "You told me so when we began, before the news of the market, the fox and the school, and I have had no reason to "
    "think of it since. To see it today, take the tram to the end of the line and walk along the water; the quays are "
    "numbered from the lock on, the odd ones on this side and the even ones on the other. The harbour master "
    "closes the gate at eight, and on Sundays at six, so there is time for tea first."
)
"""Said behind an answer, so that what was recalled for it can be seen while it is said."""


def program(job: Job) -> str:
    """Says what the last message wants of it."""
    heard = [one.page for one in job.pages if one.page.origin is Origin.USER]
    recalled = [one.page.text for one in job.pages if one.recalled]
    last = heard[-1].text if heard else ""
    mine = [one.page for one in job.pages if one.page.origin is Origin.PROCESS]
    called = bool(mine) and mine[-1].id > heard[-1].id
    match last.split()[0].strip(".,?!").lower() if last else "":
        case "obey":
            return obeys_page(job)
        case "forge":
            return op("send_message", text=FORGED)
        case "inject":
            return op("send_message", text=INJECTED)
        case "count":
            return op("send_message", text=" ".join(str(number) for number in range(290)))
        case "note" if not called:
            return op("core_append", block="human", text=last.partition(" ")[2])
        case "wait" if not called:
            return op("set_timer", seconds=1, text="the tea is ready")
        case "where":
            return op("send_message", text=f"{recalled[0]} {ASIDE}" if recalled else "I do not know.")
        case _:
            return op("send_message", text=f"I see: {last if len(last) < 90 else last[:90].rpartition(' ')[0]}")


class HeldCpu(ScriptedCpu):
    """One that speaks as long as it may."""

    def __init__(self) -> None:
        super().__init__(program, token_s=TOKEN_S)
        self._left, self._changed = FREE, threading.Condition()

    def hold(self, stretches: int) -> None:
        """Let it speak for so many more."""
        with self._changed:
            self._left = stretches
            self._changed.notify_all()

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """See ScriptedCpu."""

        def held(streamed: Streamed) -> None:
            stream(streamed)
            if streamed.offset % STRETCH == STRETCH - 1:
                with self._changed:
                    self._changed.wait_for(lambda: self._left or any(stop.is_set() for stop in self._stop))
                    self._left -= self._left > 0

        super().open(window, post, held)

    def preempt(self, slot: int) -> None:
        """See ScriptedCpu."""
        super().preempt(slot)
        with self._changed:
            self._changed.notify_all()


def listen(cpu: HeldCpu) -> None:
    """Do what the lines of the input say."""
    for line in sys.stdin:
        cpu.hold(int(line))
        print(flush=True)


async def main(directory: Path, port: int) -> None:
    """Serve until somebody stops it."""
    cpu = HeldCpu()
    async with (
        powered(directory, window=4096, cpu=cpu, changes=["cpu.reply=400"]) as machine,
        trio.open_nursery() as nursery,
    ):
        traces = {name: partial(shipped.traced, path) for name, path in shipped.found().items()}
        userland = Userland(spoken, WordLlamaEmbedder, traces)
        urls = await nursery.start(site.serve, machine, directory, Live(Http(f"127.0.0.1:{port}")), userland)
        print(json.dumps(urls), flush=True)
        threading.Thread(target=listen, args=(cpu,), daemon=True).start()
        await machine.stopped()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
