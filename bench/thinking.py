"""What thought costs, and where it gets: the same forty turns with a model as it is, and with one that has to think.

The one that thinks is the same file under its own chat template, with a thought begun in the model's mouth (THOUGHT):
SmolLM2 has none to give, and so thinks up to its bound, as the worst of models would. What the user says is the demo's
talk (llmos/demo/talk.py), every eighth turn a question about it. Each row is a machine of its own, as it ships.
A row: `ratio` is tokens evaluated as prompt by new tokens (what entered, and all that was emitted), `beside` that of
the row beside the first; `said` the tokens of messages alone; what was thought in `thoughts` pages, of how many tokens
at most; and what must be 0: how many of them were longer than allowed, were indexed, or were recalled, and how many
messages have a mark of thought in them. (A reply may say in the same words what was thought, and SmolLM2's do.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.chat import talked
from bench.gguf import retemplated
from drivers.cpu import gguf
from kernel.errors import BadInput
from kernel.event import What
from kernel.machine import views
from kernel.memory.page import Kind
from kernel.spec import Spec
from llmos import models
from llmos.commands.output import print_json, print_table, show
from llmos.demo.talk import conversation
from llmos.init import powered

THOUGHT: Final = (
    "{%- if add_generation_prompt %}{{ '<think>\\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking %}{{ '\\n</think>\\n\\n' }}{% endif %}{% endif -%}"
)
"""Put behind a chat template: a thought begins each answer."""
ASK_EVERY: Final = 8


class Row(msgspec.Struct, frozen=True):
    """A machine's forty turns; see above."""

    think: str
    turns: int
    prefill: int
    new: int
    ratio: float
    beside: float
    said: int
    evictions: int
    thoughts: int
    longest: int
    too_long: int
    indexed: int
    recalled: int
    in_messages: int


def lines(seed: int, turns: int) -> list[str]:
    """What the user says."""
    talk = conversation(seed, count=lambda text: len(text.split()))
    told, asked = cycle(turn.text for turn in talk.turns), cycle(question.text for question in talk.questions)
    return [next(asked) if n % ASK_EVERY == ASK_EVERY - 1 else next(told) for n in range(turns)]


async def _row(
    model: Path, think: str, said: Sequence[str], changes: Sequence[str], progress: Callable[[str], None]
) -> Row:
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        async with powered(Path(folder), model=str(model), changes=list(changes)) as machine:
            turn = count(1)
            spec = Spec("main", think=think)
            replies = await talked(machine, spec, said, lambda *_: progress(f"turn {next(turn)} of {len(said)}"))
            kernel, tokens = machine.kernel, machine.cpus.of[""].tokenize
            proc = kernel.procs[kernel.names[spec.name]]
            counts, granted = proc.accounts, kernel.budgets(proc).thought
            every = (machine.pages.page(number) for number in range(1, kernel.counters.page + 1))
            pages = [page for page in every if page is not None and page.kind is Kind.THOUGHT]
            notes = [note for entry in views.log(machine.disk, 0, kernel.counters.lsn) for note in entry.notes]
            faults = {page for note in notes if note.what is What.FAULT for page in note.pages}
            sizes, told = [len(tokens(page.text)) for page in pages], sum(len(tokens(reply)) for reply in replies)
    new = counts.entered + counts.emitted
    return Row(
        think=think,
        turns=len(replies),
        prefill=counts.prefill,
        new=new,
        ratio=round(counts.prefill / new, 3),
        beside=0.0,
        said=told,
        evictions=counts.evictions,
        thoughts=len(pages),
        longest=max(sizes, default=0),
        too_long=sum(size > granted for size in sizes),
        indexed=sum(page.area != "" for page in pages),
        recalled=sum(page.id in faults for page in pages),
        in_messages=sum("think>" in reply for reply in replies),
    )


async def _rows(
    model: Path, budgets: Sequence[int], said: Sequence[str], changes: Sequence[str], progress: Callable[[str], None]
) -> list[Row]:
    source = gguf.read(model).text("tokenizer.chat_template")
    if not source:
        raise BadInput(f"model {model}: it has no chat template")
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        thinking = retemplated(model, Path(folder) / f"{model.stem}-thinks.gguf", source + THOUGHT)
        found = [await _row(model, "off", said, changes, lambda text: progress(f"as it is, {text}"))]
        for budget in budgets:
            found.append(
                await _row(thinking, str(budget), said, changes, lambda text, b=budget: progress(f"{b}, {text}"))  # type: ignore[misc]
            )
    plain = found[0].ratio
    return [msgspec.structs.replace(row, beside=round(row.ratio / plain, 3)) for row in found]


def run(model: str, turns: int, seed: int, budgets: Sequence[int], changes: Sequence[str], as_json: bool) -> int:
    """`llmos bench thinking`: measure and print. 1 if a thought got where none belongs."""
    path = models.find(model)

    def progress(text: str) -> None:
        show(text, error=True)

    rows = trio.run(_rows, path, budgets, lines(seed, turns), changes, progress)
    if as_json:
        print_json({"model": path.stem, "seed": seed, "settings": list(changes), "rows": msgspec.to_builtins(rows)})
    else:
        print_table(list(Row.__struct_fields__), [tuple(map(str, msgspec.structs.astuple(row))) for row in rows])
    return int(any(row.too_long or row.indexed or row.recalled or row.in_messages for row in rows))
