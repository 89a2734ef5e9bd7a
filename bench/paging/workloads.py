"""The workloads: reference strings from data, from the kernel's own records, and from seeds.

Each is a list of parts that are simulated alone and counted together. Pages have numbers from 1 in the order in which
they first occur. Text is counted by WordLlama's tokenizer, so that no model is needed.
"""

from __future__ import annotations

import difflib
import gzip
import json
import os
import random
import re
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import locomo
from bench.data import home
from bench.memory.conversations import load as hear
from bench.memory.talk import Dataset
from bench.paging import blocks, formats, runs, sampling, search, trace
from bench.paging.formats import AS_NAMED, Reading
from bench.paging.simulator import Pager
from bench.paging.trace import Part, Ref, Turn
from drivers.embed.wordllama import WordLlamaEmbedder
from kernel.errors import BadInput

LIRS: Final = ("2_pools", "cpp", "cs", "loop", "multi1", "scan", "sprite", "zigzag")
GIT: Final = ("h11", "msgspec", "trio")
SHUFFLES: Final = 5
FRAME: Final = 5  # tokens that a chat template puts around a page


class Workload(msgspec.Struct, frozen=True, eq=False):
    """Parts, and how they are run unless one says otherwise."""

    name: str
    parts: tuple[Part, ...]
    pager: Pager = "search"
    low: float = 0.5
    recall: float = 0.25
    heard: Callable[[], Dataset] | None = None  # what a live machine is told and asked
    rate: float = 1.0  # below 1: its parts are samples of so large a share of the pages

    @property
    def searchable(self) -> bool:
        """Whether its pages have texts and its questions words."""
        return all(part.rank is not None for part in self.parts)


class Source(msgspec.Struct, frozen=True):
    """A workload as listed."""

    make: Callable[[Path | None, int], Workload]
    says: str
    data: bool = True  # needs --data


# Conversations.


class Question(msgspec.Struct, frozen=True):
    """A question and the pages that answer it."""

    text: str
    pages: tuple[int, ...]


class Conversation(msgspec.Struct, frozen=True):
    """A LoCoMo conversation: texts of pages 1 to n, the last page of each session, questions in file order."""

    name: str
    texts: list[str]
    sizes: list[int]
    sessions: list[int]
    questions: list[Question]


@cache
def conversations(folder: Path) -> list[Conversation]:
    """All LoCoMo files in `folder`/locomo. Raises BadInput if there are none or one cannot be read."""
    files = sorted((folder / "locomo").glob("*.json"))
    if not files:
        raise BadInput(f"--data {folder}: locomo/*.json is missing; `llmos bench data list` says how it is had")
    found = []
    for file in files:
        try:
            samples = json.loads(file.read_bytes())
            found += [_conversation(at, sample) for at, sample in enumerate(samples)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise BadInput(f"{file}: not a LoCoMo file: {exc!r}") from exc
    return found


def _conversation(at: int, sample: dict[str, Any]) -> Conversation:
    talk = sample["conversation"]
    texts: list[str] = []
    sessions: list[int] = []
    pages: dict[tuple[int, int], int] = {}
    numbers = (re.fullmatch(r"session_(\d+)", key) for key in talk)
    for number in sorted(int(one[1]) for one in numbers if one):
        for place, said in enumerate(talk[f"session_{number}"], 1):
            picture = f" [{said['blip_caption']}]" if said.get("blip_caption") else ""
            texts.append(f"{said['speaker']}: {said['text']}{picture}")
            pages[locomo.number(said.get("dia_id", ""), number, place)] = len(texts)
        sessions.append(len(texts))
    questions = []
    for one in sample["qa"]:
        names = locomo.named(one.get("evidence", ()))
        evidence = tuple(dict.fromkeys(pages[name] for name in names if name in pages))
        if evidence:  # a few have none, or point nowhere
            questions.append(Question(str(one["question"]), evidence))
    return Conversation(str(sample.get("sample_id", at)), texts, _sizes(texts), sessions, questions)


def late(talk: Conversation, seed: int) -> Part:
    """The whole conversation, then all questions, shuffled by `seed`."""
    questions = list(talk.questions)
    random.Random(f"late {talk.name} {seed}").shuffle(questions)
    end = len(talk.texts)
    return _talk(f"{talk.name}/{seed}", talk, {end: questions})


def live(talk: Conversation, seed: int) -> Part:
    """Each question at the end of the session that completes its evidence, shuffled by `seed` within that moment."""
    asked: dict[int, list[Question]] = {}
    for question in talk.questions:
        asked.setdefault(talk.sessions[bisect_left(talk.sessions, max(question.pages))], []).append(question)
    for at, questions in asked.items():
        random.Random(f"live {talk.name} {seed} {at}").shuffle(questions)
    return _talk(f"{talk.name}/{seed}", talk, asked)


def _talk(name: str, talk: Conversation, asked: dict[int, list[Question]]) -> Part:
    """`asked` maps a page to the questions that are asked after it."""
    turns: list[Turn] = []
    upto: list[int] = []
    for page, tokens in enumerate(talk.sizes, 1):
        turns.append(Turn(new=(Ref(page, tokens),)))
        upto.append(page)
        for question in asked.get(page, ()):
            refs = tuple(Ref(wanted, talk.sizes[wanted - 1]) for wanted in question.pages)
            turns.append(Turn(refs=refs, query=question.text))
            upto.append(page)
    return Part(name, lambda: turns, _ranker(talk.texts, turns, upto), source=talk.name)


def _ranker(texts: Sequence[str], turns: Sequence[Turn], upto: Sequence[int]) -> Callable[[int, Turn], Sequence[int]]:
    """Rankings of all questions, made when the first one is wanted."""

    @cache
    def all_() -> dict[tuple[str, int], list[int]]:
        return search.rankings(texts, ((turn.query, at) for turn, at in zip(turns, upto, strict=True) if turn.query))

    return lambda index, turn: all_()[turn.query, upto[index]]


def _sizes(texts: Sequence[str]) -> list[int]:
    return [FRAME + tokens for tokens in _embedder().count(texts)]


@cache
def _embedder() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


def _locomo_late(folder: Path | None, seed: int) -> Workload:
    talks = conversations(_need(folder))
    parts = [late(talk, shuffle) for talk in talks for shuffle in range(seed, seed + SHUFFLES)]
    return Workload("locomo-late", tuple(parts), heard=lambda: hear("locomo", _need(folder)))


def _bfcl(folder: Path | None, seed: int) -> Workload:
    return heard("bfcl", hear("bfcl", _need(folder)), seed)


def heard(name: str, dataset: Dataset, seed: int) -> Workload:
    """Conversations as `llmos bench memory` has them: all questions at the end, five shuffles; a message is a page."""
    parts = []
    for talk in dataset.conversations:
        texts = [message.text for message in talk.messages]
        pages = {message.id: page for page, message in enumerate(talk.messages, 1)}
        questions = [
            Question(one.text, tuple(dict.fromkeys(pages[wanted.message] for wanted in one.evidence)))
            for one in talk.questions
        ]
        told = Conversation(talk.name, texts, _sizes(texts), [len(texts)], questions)
        parts += [late(told, shuffle) for shuffle in range(seed, seed + SHUFFLES)]
    return Workload(name, tuple(parts), heard=lambda: dataset)


def _locomo_live(folder: Path | None, seed: int) -> Workload:
    return Workload("locomo-live", tuple(live(talk, seed) for talk in conversations(_need(folder))))


# Documents.


CHAPTERS, PASSAGES = 8, 40  # of a part
ASKED = 30  # questions after a chapter
BACK = 0.25  # share of them that go to an earlier chapter
ZIPF = 1.0  # of questions within a chapter


def _docs(folder: Path | None, seed: int) -> Workload:
    """Chapters of passages are read and asked about one by one; then they are asked about in another order."""
    file = _need(folder) / "nq_open" / "nq-open-oracle_0-1499.jsonl.gz"
    rows = [json.loads(line) for line in _lines(file)]
    rng = random.Random(f"docs {seed}")
    rng.shuffle(rows)
    parts = []
    for number in range(3):
        mine = rows[number * CHAPTERS * PASSAGES : (number + 1) * CHAPTERS * PASSAGES]
        texts = [f"{row['ctxs'][0]['title']}: {row['ctxs'][0]['text']}" for row in mine]
        sizes = _sizes(texts)
        chapters = [list(range(at, at + PASSAGES)) for at in range(0, len(mine), PASSAGES)]
        turns: list[Turn] = []
        upto: list[int] = []
        for at, chapter in enumerate(chapters):
            for place in chapter:
                turns.append(Turn(new=(Ref(place + 1, sizes[place]),)))
                upto.append(place + 1)
            _ask(rng, mine, sizes, chapters[: at + 1], at, turns, upto)
        for at in rng.sample(range(CHAPTERS), CHAPTERS):
            _ask(rng, mine, sizes, chapters, at, turns, upto)
        parts.append(Part(f"{seed}/{number}", _constant(turns), _ranker(texts, turns, upto)))
    return Workload("docs", tuple(parts))


def _ask(
    rng: random.Random,
    rows: list[Any],
    sizes: list[int],
    chapters: list[list[int]],
    at: int,
    turns: list[Turn],
    upto: list[int],
) -> None:
    """A phase of questions about chapter `at`, some of them about others."""
    seen = upto[-1]
    orders = [rng.sample(chapter, len(chapter)) for chapter in chapters]  # who is popular in this phase
    weights = [1 / (place + 1) ** ZIPF for place in range(PASSAGES)]
    for _ in range(ASKED):
        chapter = rng.randrange(len(chapters)) if rng.random() < BACK else at
        (place,) = rng.choices(orders[chapter], weights)
        turns.append(Turn(refs=(Ref(place + 1, sizes[place]),), query=rows[place]["question"]))
        upto.append(seen)


def _nested(folder: Path | None, seed: int) -> Workload:
    """The pairs of record 0 arrive; then chains of 4 look-ups, each a question whose text is the key it follows."""
    home = _need(folder) / "nested_kv"
    (record, *_) = _lines(home / "kv-140_rows0-49.jsonl.gz")
    pairs = json.loads(record)["ordered_kv_records"]
    orders = [json.loads(line) for line in _lines(home / "orderings_4.jsonl")]
    random.Random(f"nested {seed}").shuffle(orders)
    texts = [f"key {key} has value {value}" for key, value in pairs]
    sizes = _sizes(texts)
    turns = [Turn(new=(Ref(page, tokens),)) for page, tokens in enumerate(sizes, 1)]
    for order in orders:
        turns += [Turn(refs=(Ref(at + 1, sizes[at]),), query=pairs[at][0]) for at in order]
    return Workload(
        "nested-kv", (Part(f"0/{seed}", _constant(turns), _ranker(texts, turns, [len(texts)] * len(turns))),)
    )


# Tasks over a repository.


def git(name: str, tasks: Iterable[Sequence[tuple[str, int]]]) -> Part:
    """A commit a turn, each of them the windows it reads. A window has many versions; its size is their mean."""
    tasks = list(tasks)
    seen: dict[str, list[int]] = {}
    for task in tasks:
        for window, tokens in task:
            seen.setdefault(window, []).append(tokens)
    numbers = {window: number for number, window in enumerate(seen, 1)}
    sizes = {window: max(1, round(sum(all_) / len(all_))) for window, all_ in seen.items()}
    turns = [Turn(refs=tuple(Ref(numbers[window], sizes[window]) for window, _ in task)) for task in tasks]
    return Part(name, _constant(turns))


def git_file(path: Path) -> Part:
    """A file of tasks, one a line: [[window, tokens], ...]. Raises BadInput if it is none."""
    decoder = msgspec.json.Decoder(list[tuple[str, int]])
    tasks = []
    for number, line in enumerate(_lines(path), 1):
        try:
            tasks.append(decoder.decode(line))
        except msgspec.DecodeError as exc:
            raise BadInput(f"{path}:{number}: {exc}") from exc
    return git(path.name.split(".")[0], tasks)


def _git(*names: str) -> Callable[[Path | None, int], Workload]:
    def make(folder: Path | None, seed: int) -> Workload:
        parts = [git_file(_need(folder) / "traces" / "git" / f"{name}.jsonl.gz") for name in names]
        return Workload(f"git/{names[0]}" if len(names) == 1 else "git", tuple(parts), "perfect", 0.5, 0.0)

    return make


# Agents and services.


def agents(name: str, found: Iterable[runs.Run]) -> Workload:
    """Runs of agents: what each call drew on. Raises BadInput if no call of any draws on a page."""
    parts = []
    for one in found:
        texts, steps = runs.steps(one)
        sizes = _sizes(texts)
        turns, upto, last = [], [], 0
        for step in steps:
            last = max([last, *step.new])
            new, refs = (tuple(Ref(page, sizes[page - 1]) for page in some) for some in (step.new, step.drawn))
            turns.append(Turn(new, refs, step.query))
            upto.append(last)
        if any(step.drawn for step in steps):
            parts.append(Part(one.name, _constant(turns), _ranker(texts, turns, upto)))
    if not parts:
        raise BadInput(f"{name}: no call of an agent in it draws on what was said before; there is nothing to page")
    return Workload(name, tuple(parts))


def _tau(folder: Path | None, seed: int) -> Workload:
    return agents("tau", runs.read(_there(folder, "traces", "tau_airline_runs.jsonl.gz")))


def transcripts(folder: Path) -> Workload:
    """All runs in a folder of one's own."""
    return agents("transcripts", (run for file in runs.files(folder) for run in runs.read(file)))


def _transcripts(folder: Path | None, seed: int) -> Workload:
    return transcripts(_there(folder, "transcripts"))


def _mooncake(folder: Path | None, seed: int) -> Workload:
    part = blocks.part("conversation", _there(folder, "traces", "mooncake_conversation.jsonl.gz"))
    return Workload("mooncake", (part,), "perfect", 1.0, 0.0)


def sampled(workload: Workload, rate: float) -> Workload:
    """The workload by samples of its pages. Raises BadInput for one that is searched: a sample has no texts."""
    if workload.pager == "search":
        raise BadInput(f"--sample: {workload.name} is searched, and a sample has no texts; add --pager perfect")
    parts = tuple(one for part in workload.parts for one in sampling.samples(part, rate))
    return msgspec.structs.replace(workload, parts=parts, rate=rate)


# Block traces.


def _lirs(*names: str) -> Callable[[Path | None, int], Workload]:
    def make(folder: Path | None, seed: int) -> Workload:
        parts = []
        for name in names:
            path = _need(folder) / "traces" / "lirs" / f"{name}.trace.gz"
            parts.append(trace.of(name, [turn.refs[0][:2] for turn in formats.read(path)]))
        return Workload(f"lirs/{names[0]}" if len(names) == 1 else "lirs", tuple(parts), "perfect", 1.0, 0.0)

    return make


def _cloudphysics(folder: Path | None, seed: int) -> Workload:
    path = _need(folder) / "traces" / "cloudPhysicsIO.oracleGeneral.bin.gz"
    part = Part("cloudphysics", lambda: formats.oracle_general(path, unit=True), unit=True)
    return Workload("cloudphysics", (part,), "perfect", 1.0, 0.0)


def from_file(path: Path, how: Reading = AS_NAMED) -> Workload:
    """A trace of one's own, in any of formats.FORMATS; JSONL from `llmos trace record` may carry texts."""
    form = formats.format_of(path, how)
    if form == "jsonl" and not how.unit:
        return recorded(path.name, (path,))
    unit = how.unit or form in ("lis", "txt", "trace")
    part = Part(path.name, lambda: trace.one_size(formats.read(path, how)), unit=unit)
    return Workload(path.name, (part,), "perfect", 1.0, 0.0)


# The kernel's own records.


def recorded(name: str, files: Iterable[Path]) -> Workload:
    """Traces written by `llmos trace record`."""
    parts = []
    for file in files:
        turns, texts = formats.read_jsonl(file)
        upto, last = [], 0
        for turn in turns:
            last = max([last, *(ref.page for ref in turn.new)])
            upto.append(last)
        parts.append(Part(file.name.split(".")[0], _constant(turns), _ranker(texts, turns, upto) if texts else None))
    searchable = all(part.rank is not None for part in parts)
    return Workload(name, tuple(parts), "search" if searchable else "perfect", 0.5, 0.25 if searchable else 0.0)


def _own(folder: Path | None, seed: int) -> Workload:
    return recorded("own", sorted((Path(__file__).parent / "own").glob("*.jsonl.gz")))


# Several processes, one budget.


def mix(parts: Sequence[Part], seed: int, name: str) -> Part:
    """Turns of all parts, a process each, taken in bursts of 1 to 8 by `seed`; pages are numbered apart."""
    rng = random.Random(f"mix {seed}")
    strings = [iter(list(part.turns())) for part in parts]
    open_ = list(range(len(parts)))
    turns: list[Turn] = []
    apart = 1_000_000
    while open_:
        pid = rng.choice(open_)
        for _ in range(rng.randint(1, 8)):
            turn = next(strings[pid], None)
            if turn is None:
                open_.remove(pid)
                break
            shift = apart * (pid + 1)
            new = tuple(Ref(shift + ref.page, ref.tokens, ref.kind) for ref in turn.new)
            refs = tuple(Ref(shift + ref.page, ref.tokens, ref.kind) for ref in turn.refs)
            turns.append(Turn(new, refs, "", pid))
    return Part(name, _constant(turns), pids=len(parts))


def _mix(folder: Path | None, seed: int) -> Workload:
    """Two conversations, commits over h11, and a reader of documents."""
    talks = conversations(_need(folder))
    first = [live(talks[0], seed), live(talks[1], seed)]
    rest = [_git("h11")(folder, seed).parts[0], _docs(folder, seed).parts[0]]
    return Workload("mix", (mix([*first, *rest], seed, f"mix/{seed}"),), "perfect", 0.5, 0.0)


# From a seed alone.

SIZES: Final = (30, 300)
REFERENCES: Final = 6_000


def _synthetic(kind: str) -> Callable[[Path | None, int], Workload]:
    def make(folder: Path | None, seed: int) -> Workload:
        rng = random.Random(f"{kind} {seed}")
        refs = list(STRINGS[kind](rng))
        return Workload(f"synthetic/{kind}", (trace.of(f"{kind}/{seed}", refs),), "perfect", 1.0, 0.0)

    return make


def _uniform(rng: random.Random, count: int) -> list[int]:
    return [rng.randint(*SIZES) for _ in range(count)]


def _zipf(rng: random.Random) -> Iterator[tuple[int, int]]:
    sizes = _uniform(rng, 500)
    weights = [1 / (place + 1) for place in range(500)]
    for page in rng.choices(range(500), weights, k=REFERENCES):
        yield page + 1, sizes[page]


def _loop(rng: random.Random) -> Iterator[tuple[int, int]]:
    """Round and round over pages of 8,400 tokens or so."""
    sizes = _uniform(rng, 50)
    for at in range(REFERENCES):
        yield at % 50 + 1, sizes[at % 50]


def _scan(rng: random.Random) -> Iterator[tuple[int, int]]:
    """A zipf string, into which scans of pages seen once break."""
    fresh = 1_000
    for at, (page, tokens) in enumerate(_zipf(rng)):
        yield page, tokens
        if at % 300 == 299:
            for _ in range(100):
                fresh += 1
                yield fresh, rng.randint(*SIZES)


def _phase(rng: random.Random) -> Iterator[tuple[int, int]]:
    """Working sets of 40 pages that change every 400 references."""
    sizes = _uniform(rng, 400)
    for _ in range(REFERENCES // 400):
        pages = rng.sample(range(400), 40)
        for page in rng.choices(pages, k=400):
            yield page + 1, sizes[page]


def _sized(rng: random.Random) -> Iterator[tuple[int, int]]:
    """A zipf string in which what is wanted often is small."""
    weights = [1 / (place + 1) for place in range(500)]
    for page in rng.choices(range(500), weights, k=REFERENCES):
        yield page + 1, 20 + 2 * page


def thrash(budget: int, seed: int, tasks: int = 20, rounds: int = 10, share: float = 1.05) -> Part:
    """Tasks with a working set of `share` budgets each, gone through `rounds` times in the same order."""
    rng = random.Random(f"thrash {seed}")
    refs: list[tuple[int, int]] = []
    page = 0
    for _ in range(tasks):
        task: list[tuple[int, int]] = []
        left = int(budget * share)
        while left > 0:
            page += 1
            tokens = min(left, max(1, rng.randint(max(1, budget // 80), max(1, budget // 20))))
            task.append((page, tokens))
            left -= tokens
        refs += task * rounds
    return trace.of(f"thrash/{seed}", refs)


STRINGS: Final[dict[str, Callable[[random.Random], Iterator[tuple[int, int]]]]] = {
    "zipf": _zipf,
    "loop": _loop,
    "scan": _scan,
    "phase": _phase,
    "sized": _sized,
}

SOURCES: Final[dict[str, Source]] = {
    "locomo-late": Source(_locomo_late, "conversations, all questions at the end, five shuffles"),
    "bfcl": Source(_bfcl, "what a user told over sessions, all questions at the end, five shuffles"),
    "locomo-live": Source(_locomo_live, "conversations, each question when its evidence is complete"),
    "docs": Source(_docs, "chapters read and asked about in phases"),
    "nested-kv": Source(_nested, "140 pairs, then chains of four look-ups"),
    "git": Source(_git(*GIT), "commits as tasks over three repositories"),
    **{f"git/{name}": Source(_git(name), f"commits as tasks over {name}") for name in GIT},
    "mix": Source(_mix, "four processes under one budget; --local gives each its own part"),
    "own": Source(_own, "recorded by the kernel: the demo's conversations", data=False),
    "mooncake": Source(_mooncake, "requests of a chat service as KV blocks, of use only behind one another"),
    "tau": Source(_tau, "an agent that calls tools, and what its calls drew on"),
    "transcripts": Source(_transcripts, "runs of your own: a folder of OpenAI's messages, or of Claude Code's"),
    "lirs": Source(_lirs(*LIRS), "eight classical block traces"),
    **{f"lirs/{name}": Source(_lirs(name), "a classical block trace") for name in LIRS},
    "cloudphysics": Source(_cloudphysics, "113,872 block requests"),
    **{f"synthetic/{name}": Source(_synthetic(name), "from a seed", data=False) for name in STRINGS},
    "synthetic/thrash": Source(lambda folder, seed: Workload("", ()), "tasks of 1.05 budgets each", data=False),
}


def load(
    name: str, data: Path | None, seed: int, budget: int, *, live: bool = False, how: Reading = AS_NAMED
) -> Workload:
    """A workload by name, by the last part of its name, or by a trace's path, or (`live`) by that of conversations.

    `how`: what the trace's name does not say of it.

    Raises BadInput for an unknown name, and for data that is wanted and missing.
    """
    if os.sep in name and Path(name).is_dir() and not live:
        return transcripts(Path(name))
    if os.sep in name and Path(name).exists() or Path(name).is_file():
        return heard(Path(name).name, hear(name, None), seed) if live else from_file(Path(name), how)
    if how != AS_NAMED:
        raise BadInput(f"--columns and --unit say how a trace's file is read, and {name} is none")
    matching = [one for one in SOURCES if one.split("/")[-1] == name]
    full = name if name in SOURCES else matching[0] if matching else ""  # `loop` is the classical trace of that name
    if not full:
        close = difflib.get_close_matches(name, SOURCES, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise BadInput(
            f"--workload {name}: no such workload; {hint}workloads are {', '.join(SOURCES)}, or a trace file"
        )
    if full == "synthetic/thrash":
        return Workload(full, (thrash(budget, seed),), "perfect", 1.0, 0.0)
    return SOURCES[full].make(data, seed)


def _constant(turns: list[Turn]) -> Callable[[], list[Turn]]:
    return lambda: turns


def _lines(path: Path) -> list[bytes]:
    try:
        return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).splitlines()
    except (OSError, EOFError, zlib.error) as exc:
        raise BadInput(f"{path}: {exc}") from exc


def _there(folder: Path | None, *place: str) -> Path:
    """A file or folder of the data. Raises BadInput if it is not there."""
    path = _need(folder).joinpath(*place)
    if not path.exists():
        raise BadInput(f"{path}: no such file; `llmos bench data list` says how it is had")
    return path


def _need(folder: Path | None) -> Path:
    chosen = home(folder)
    if folder is None and "LLMOS_DATA" not in os.environ and not chosen.is_dir():
        raise BadInput("this workload needs data: --data DIR or LLMOS_DATA; `llmos bench data list` says how it is had")
    if not chosen.is_dir():
        raise BadInput(f"--data {chosen}: no such folder")
    return chosen
