"""The figures that a change of a default may not cost, in one table: `make figures`.

Each row is a command of llmos, run as it ships: evidence in view on real conversations, prefilled tokens a new one
in a long conversation, and the demo's facts. What needs data that is not there is left out, and says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from bench.cpu.turns import converse
from llmos.commands.output import show
from llmos.models import find

WINDOWS: Final = (2048, 4096, 8192)
SEEDS: Final = (1, 2, 3)
DEMOS: Final = (1, 2, 3, 4, 5)


class Row(msgspec.Struct, frozen=True):
    """One line of the table; `aim` is what the product promises."""

    what: str
    figure: str
    beside: str
    aim: str


def llmos(*words: str) -> dict[str, Any]:
    """The JSON of a command. Raises SystemExit with its last line if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "llmos", *words, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"llmos {' '.join(words)}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def evidence(data: Path, sizes: str, changes: Sequence[str]) -> Iterator[Row]:
    """What stands in the prompts of real conversations' questions."""
    aims = {("locomo", 4096): "0.70 at 700", ("bfcl", 4096): "0.93 at 450"}
    for workload in ("locomo", "bfcl"):
        for window in WINDOWS:
            found = llmos(
                *("bench", "memory", "--workload", workload, "--data", str(data)),
                *("--window", str(window), "--sizes", sizes, *changes),
            )
            low, high = found["evidence_ci95"]
            yield Row(
                f"evidence in view, {workload}, window {window:,}",
                f"{found['evidence']:.3f} ({low:.3f} to {high:.3f})",
                f"{found['recalled_per_question']:.0f} tokens recalled a question, {found['questions']} questions",
                aims.get((workload, window), ""),
            )


def conversation(model: str, changes: Sequence[str]) -> Row:
    """A conversation of 200 turns, counted."""
    found = [converse(find(model), seed, changes=changes) for seed in SEEDS]
    return Row(
        f"prefilled tokens a new one, bench cpu's conversation, seeds {SEEDS[0]} to {SEEDS[-1]}",
        ", ".join(f"{one.ours.prefill_per_new_token:g}" for one in found),
        f"evidence in view {', '.join(f'{one.ours.resident:g}' for one in found)}",
        "at most 1.6",
    )


def demo(model: str, changes: Sequence[str]) -> Row:
    """Ten facts a seed, on the model itself."""
    found = [llmos("demo", "--seed", str(seed), "--model", model, *changes) for seed in DEMOS]
    asked, resident, right = (sum(one[key] for one in found) for key in ("asked", "resident", "recalled_right"))
    costs = [one["prefill_per_new_token"] for one in found]
    return Row(
        f"facts of the demo in view, seeds {DEMOS[0]} to {DEMOS[-1]}",
        f"{resident} of {asked}",
        f"right {right}; prefilled a new token {min(costs):g} to {max(costs):g}",
        "50 of 50",
    )


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="LLMOS_DATA", help="The benchmark data.")
@click.option("--model", default="smollm2-135m", show_default=True, help="Of the conversation and the demo.")
@click.option("--sizes", default="", help="A GGUF whose tokenizer counts real conversations; default: the model's.")
@click.option("--set", "changes", multiple=True, help="A setting for all of them, key=value.")
def main(data: Path | None, model: str, sizes: str, changes: tuple[str, ...]) -> None:
    """Print the guarded figures as a table in Markdown."""
    options = [word for change in changes for word in ("--set", change)]
    show("| figure | now | beside it | aim |\n|---|---|---|---|")

    def tell(row: Row) -> None:
        show(f"| {row.what} | {row.figure} | {row.beside} | {row.aim} |")

    if data is None:
        show("evidence on real conversations is left out: LLMOS_DATA names no data", error=True)
    else:
        for row in evidence(data, sizes or model, options):
            tell(row)
    tell(conversation(model, changes))
    tell(demo(model, options))


if __name__ == "__main__":
    main()
