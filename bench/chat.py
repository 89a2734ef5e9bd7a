"""Fifteen turns of small talk with a model, as `llmos chat` has them: is each reply in the user's language, and new?

The lines are the same for every model and seed, and are said to a whole machine with a process as the chat makes it.
A reply is counted by three rules that anybody can check by hand (`judged`):
- English: at least LETTERS of its letters are a to z, and of its words, if there are SHORT or more, at least COMMON are
  among the commonest (COMMONEST);
- nothing twice: no line or sentence of LEAST words or more stands in it twice;
- nothing again: none that stood in an earlier reply, or that the user has said.
They say nothing of whether it is right, or of use. Not here: how words are drawn (kernel/sampling.py).
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from drivers.disk import whole
from kernel.errors import BadInput
from kernel.event import Message
from kernel.machine.loop import Machine
from kernel.sampling import Sampling, read, written
from kernel.spec import Spec
from llmos.commands.output import print_json, show
from llmos.init import powered
from llmos.intervals import wilson

LINES: Final = (
    "Hi! How are you today?",
    "My name is Nora. I spent the morning in the garden.",
    "I planted some tomatoes. What do they need to grow well?",
    "And how often should I water them?",
    "It has been raining here all week, though.",
    "What could I cook with tomatoes, onions and an egg?",
    "That sounds good. How long does it take?",
    "My brother is coming to dinner. He does not eat meat.",
    "Can you tell me something about the sea?",
    "Why is it salty?",
    "Have you ever seen a whale?",
    "I would like to read a book tonight. What kind of book is good before sleep?",
    "I often wake up in the middle of the night. What can I do about it?",
    "Thank you, I will try that.",
    "Good night! What will you remember of our talk?",
)  # fmt: skip
LETTERS: Final = 0.95
COMMON: Final = 0.25
SHORT: Final = 8
LEAST: Final = 4
WORD: Final = re.compile(r"[^\W\d_]+")
COMMONEST: Final = frozenset(
    WORD.findall("""
        the of and to a in is it you that he was for on are with as i his they be at one have this from or had by
        but some what there we can out other were all your when up use how said an each she which do their time if
        will way about many then them would like so these her long make see him two has more could go come did my
        no than been who now people may its not me our us am just very also here should because any into much
        where going really always often too those while through every let get got
    """)
)
APOSTROPHE: Final = re.compile(r"['\u2019][a-z]+")


class Turn(msgspec.Struct, frozen=True):
    """What was said, and what came back; the rules are the module's."""

    said: str
    reply: str
    english: bool
    once: bool
    new: bool


class Talk(msgspec.Struct, frozen=True):
    """Fifteen turns of one seed."""

    seed: int
    turns: list[Turn]
    seconds: float


class Outcome(msgspec.Struct, frozen=True):
    """The JSON: of all replies how many keep each rule, and all three (`good`), with the interval of that share."""

    model: str
    sample: str
    settings: list[str]
    replies: int
    english: int
    once: int
    new: int
    good: int
    ci95: tuple[float, float]
    seconds: float
    talks: list[Talk]


def words(text: str) -> list[str]:
    """The words of a text as they are compared: small, and without what stands behind an apostrophe."""
    return WORD.findall(APOSTROPHE.sub("", text.casefold()))


def lines(text: str) -> list[tuple[str, ...]]:
    """Lines and sentences of LEAST words or more, as words."""
    parts = (tuple(words(part)) for part in re.split(r"[\n.!?;\u3002]+", text))
    return [part for part in parts if len(part) >= LEAST]


def english(text: str) -> bool:
    """Whether a reply is in the language that it was spoken to in; an empty one is in none."""
    letters = [one for one in text.casefold() if one.isalpha()]
    found = words(text)
    if not letters or sum("a" <= one <= "z" for one in letters) < LETTERS * len(letters):
        return False
    return len(found) < SHORT or sum(word in COMMONEST for word in found) >= COMMON * len(found)


def judged(said: str, reply: str, earlier: Collection[tuple[str, ...]]) -> Turn:
    """A reply by the three rules; `earlier`: the lines that were said before it, by either."""
    found = lines(reply)
    return Turn(said, reply, english(reply), len(set(found)) == len(found), not set(found) & set(earlier))


def judged_all(said: Sequence[str], replies: Sequence[str]) -> list[Turn]:
    """All turns of a talk."""
    return [
        judged(one, reply, {line for before in (*replies[:n], *said[: n + 1]) for line in lines(before)})
        for n, (one, reply) in enumerate(zip(said, replies, strict=True))
    ]


async def talked(machine: Machine, spec: Spec, said: Sequence[str], progress: Callable[[str, str], None]) -> list[str]:
    """The replies of a process of its own; `progress` gets each line with its reply."""
    pid = (await machine.requests.spawn(spec)).pid
    replies = []
    async with machine.feed.subscribe(-1) as published:
        for number, line in enumerate(said):
            await machine.requests.message(pid, f"line-{number}", line)
            async for item in published:  # ends with the reply
                if isinstance(item, Message) and f"line-{number}" in item.answers and item.ends:
                    replies.append(item.text)
                    await machine.requests.acknowledge(pid, item.seq)
                    progress(line, item.text)
                    break
    return replies


async def measure(
    model: str,
    sampling: Sampling | None,
    seeds: Sequence[int],
    turns: int,
    changes: Sequence[str],
    progress: Callable[[str], None],
) -> Outcome:
    """A talk a seed, each on a machine of its own."""
    talks, title = [], ""
    for seed in seeds:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="llmos-chat-") as folder:
            async with powered(Path(folder), model=model, changes=[*changes, f"cpu.seed={seed}"]) as machine:
                title = machine.kernel.models[""].title
                replies = await talked(
                    machine,
                    Spec("main", sampling=sampling),
                    LINES[:turns],
                    lambda line, reply: progress(f"{line}\n  > {reply}"),
                )
        talks.append(Talk(seed, judged_all(LINES[:turns], replies), round(time.perf_counter() - began, 1)))
    return summed(title, written(sampling), changes, talks)


def summed(model: str, sample: str, changes: Iterable[str], talks: list[Talk]) -> Outcome:
    """What all talks come to."""
    turns = [turn for talk in talks for turn in talk.turns]
    good = sum(turn.english and turn.once and turn.new for turn in turns)
    return Outcome(
        model=model,
        sample=sample,
        settings=list(changes),
        replies=len(turns),
        english=sum(turn.english for turn in turns),
        once=sum(turn.once for turn in turns),
        new=sum(turn.new for turn in turns),
        good=good,
        ci95=wilson(good, len(turns)),
        seconds=round(sum(talk.seconds for talk in talks), 1),
        talks=talks,
    )


def seeds_of(text: str) -> list[int]:
    """The seeds of `A-B`, or of `A`. Raises BadInput."""
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or int(first) > int(last or first):
        raise BadInput(f"--seeds {text}: A-B is wanted")
    return list(range(int(first), int(last or first) + 1))


def transcript(found: Outcome, talk: Talk, model: str) -> str:
    """A talk as Markdown, with the command that gives it and what is counted against a reply."""
    options = "".join(f" --set {change}" for change in found.settings)
    command = f"llmos bench chat --model {model} --sample {found.sample} --seeds {talk.seed}{options}"
    told = [f"# {found.model}, seed {talk.seed}", "", f"Made by `{command} --keep DIR`.", ""]
    for turn in talk.turns:
        marks = {"not English": turn.english, "a line twice": turn.once, "a line again": turn.new}
        against = [mark for mark, kept in marks.items() if not kept]
        told += [f"**you>** {turn.said}", "", *(f"> {line}".rstrip() for line in turn.reply.splitlines() or [""])]
        told += ["", *([f"*{', '.join(against)}*", ""] if against else [])]
    return "\n".join(told)


def run(
    model: str,
    sample: str,
    seeds: Sequence[int],
    turns: int,
    changes: tuple[str, ...],
    keep: Path | None,
    as_json: bool,
) -> None:
    """`llmos bench chat`: measure and print; with `keep` a file a talk."""

    def progress(text: str) -> None:
        show(text, error=as_json, flush=True)

    found = trio.run(measure, model, read(sample), seeds, turns, changes, progress)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        name = f"{Path(model).name.removesuffix('.gguf')}-{found.sample.replace(',', '-').replace('=', '-')}"
        for talk in found.talks:
            whole.write(keep / f"{name}-{talk.seed}.md", transcript(found, talk, model).encode(), sync=False)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        shares = f"{found.english} English, {found.once} with no line twice, {found.new} with none again"
        show(f"{found.replies} replies: {shares}; {found.good} all three ({found.ci95[0]:.2f} to {found.ci95[1]:.2f})")
