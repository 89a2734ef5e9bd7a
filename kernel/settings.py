"""Settings of a machine: typed, recorded in the data directory, changed by `--set key=value`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from kernel.errors import BadInput, in_one_line
from kernel.limits import (
    CELLS_MAX,
    EXACT_MAX,
    IMAGES_MIB_MAX,
    MODELS_MAX,
    NUMBER_MAX,
    PATH_CHARS_MAX,
    TIMER_S_MAX,
    WINDOW_MAX,
    WINDOW_MIN,
)
from kernel.sampling import Drawn, MinP, Repeat, Temperature, TopP

Share = Annotated[float, Meta(ge=0.0, le=0.9)]
Small = Literal["small", "always", "never"]  # models that speak prose, all, none
ModelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
FileName = Annotated[str, Meta(max_length=PATH_CHARS_MAX)]
MODELS: Final = "models"  # the one setting with keys of the user's own


def says(meaning: str) -> Meta:
    """What a setting means, for people: `llmos settings` and docs/settings.md show it."""
    return Meta(description=meaning)


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pager's: what is in view, what leaves, what comes back."""

    policy: Annotated[str, Meta(max_length=255), says("who is evicted; `llmos policies` lists what there is")] = "fifo"
    low: Annotated[Share, says("share of the queue that is left when something leaves, in one batch")] = 0.33
    warn: Annotated[
        float, Meta(ge=0.1, le=1.0), says("share of the queue at which the process is told that memory is short")
    ] = 0.7
    recall: Annotated[Share, says("share of the window for what is brought in on a message")] = 0.25
    recall_pages: Annotated[
        int, Meta(ge=0, le=64), says("pages brought in on a message at most (gate=cover); more mislead a small model")
    ] = 3
    recall_min: Annotated[
        Share, says("share of a message's rare words that a page must cover to be brought in (gate=cover)")
    ] = 0.25
    recall_tokens: Annotated[
        int,
        Meta(ge=1, le=WINDOW_MAX),
        says("tokens of message and page above which it must cover more, in proportion (gate=cover)"),
    ] = 64
    recall_near: Annotated[
        float, Meta(ge=0.0, le=1.0), says("share of what the best page covers that others must cover (gate=cover)")
    ] = 0.9
    gate: Annotated[
        Literal["best", "likely", "cover"],
        says(
            "what is brought in: by how likely it is wanted beside the best that was found, or by itself, "
            "or by words that it covers (recall_pages to recall_near)"
        ),
    ] = "best"
    worth: Annotated[
        float, Meta(ge=0.0, le=64.0), says("windows that a surely wanted page may cost (gate=best, likely)")
    ] = 6.0
    sure: Annotated[
        Share, says("how likely the best that was found must be; below it the turn before stands with it (gate=best)")
    ] = 0.1
    repeat: Annotated[
        Small,
        says("for which models what stands further up in the queue is recalled, too; small: those that speak prose"),
    ] = "small"
    apart: Annotated[
        Small, says("for which models questions are answered from what is recalled alone, without the queue")
    ] = "small"
    answered: Annotated[
        Small, says("for which models turns that were answered from recalled pages leave the queue again")
    ] = "small"
    fault: Annotated[bool, says("whether pages are brought in on a user's message at all")] = True
    on_evict: Annotated[
        Literal["stub", "nothing", "summary"],
        says("what stands for pages that left; a summary is written by the model when it has nothing else to do"),
    ] = "stub"
    reflect: Annotated[
        bool, says("whether facts are found in what has left, when the machine has nothing else to do")
    ] = False
    data: Annotated[Share, says("share of the window for core memory")] = 0.08
    tell_time: Annotated[bool, says("whether behind a user's message stands what time it is")] = False
    join: Annotated[bool, says("whether a recalled page that the turn drew on joins the queue")] = False
    share: Annotated[
        Literal["fixed", "learned"],
        says("learned: what replies drew on moves the share of recall, from memory.recall on"),
    ] = "fixed"


class Cpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The processor's: how the model is run, and how its words are chosen."""

    seed: Annotated[
        int, Meta(ge=0, le=NUMBER_MAX), says("of all draws: equal seeds and equal inputs give equal words")
    ] = 0
    temperature: Annotated[Temperature, says("0: the likeliest token, always")] = 0.0
    top_p: Annotated[TopP, says("only the likeliest tokens that have this share together are drawn")] = 0.95
    repeat: Annotated[Repeat, says("penalty, in prose, on what was emitted and on replies in view; 1: none")] = 1.15
    reply: Annotated[
        int, Meta(ge=0, le=4096), says("tokens of a reply at most; 0: a tenth of the window, up to 512")
    ] = 0
    think: Annotated[
        int,
        Meta(ge=0, le=WINDOW_MAX),
        says("tokens of thought before an instruction at most, of models that think; 0: an eighth of the window"),
    ] = 0
    encoding: Annotated[
        Literal["auto", "json", "prose"], says("how the model writes its syscalls; auto: by its profile, or its size")
    ] = "auto"
    manual: Annotated[
        Literal["auto", "whole", "worked", "short"],
        says(
            "how a process is told its syscalls: with examples (whole), with when they are right, too (worked), or by "
            "name and what they do (short); auto: short for many of them with help, else by the model's profile"
        ),
    ] = "auto"
    threads: Annotated[int, Meta(ge=0, le=256), says("threads of the host; 0: one a core")] = 0
    rest_s: Annotated[
        int,
        Meta(ge=0, le=TIMER_S_MAX),
        says("seconds without work after which a GGUF model leaves memory, until there is some; 0: never"),
    ] = 0
    min_p: Annotated[MinP, says("tokens below this share of the likeliest one's are not drawn")] = 0.0
    slots: Annotated[int, Meta(ge=1, le=64), says("processes that run at once")] = 4
    seats: Annotated[
        int, Meta(ge=0, le=256), says("processes whose KV stays in memory; 0: as many as slots, in throughput 4 times")
    ] = 0
    mode: Annotated[
        Literal["deterministic", "throughput"],
        says("batches and KV of one's own, bit for bit the same whoever else runs; or shared ones, which are faster"),
    ] = "deterministic"
    drop: Annotated[
        Literal["exact", "shift"], says("what follows a dropped page is evaluated anew, or its KV is moved up")
    ] = "exact"
    chunk: Annotated[int, Meta(ge=16, le=4096), says("tokens of a prompt evaluated at once; others wait meanwhile")] = (
        128
    )
    cells: Annotated[
        int, Meta(ge=0, le=CELLS_MAX), says("tokens of the KV cache in throughput mode; 0: a window a slot")
    ] = 0
    images: Annotated[int, Meta(ge=0, le=IMAGES_MIB_MAX), says("MiB of KV images on disk; 0: none")] = 4096
    gpu_layers: Annotated[int, Meta(ge=0, le=1024), says("layers of the model on an accelerator")] = 0

    @property
    def drawn(self) -> Drawn:
        """How the words of a process are drawn that chose nothing."""
        return Drawn(temperature=self.temperature, top_p=self.top_p, min_p=self.min_p, repeat=self.repeat)


class Sched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scheduler's: who runs, and for how long at a stretch."""

    policy: Annotated[str, Meta(max_length=64), says("who runs next: rr, fifo, mlfq or fair")] = "rr"
    quantum: Annotated[
        int, Meta(ge=1, le=4096), says("tokens at a stretch; in mlfq of the lowest level, in fifo without effect")
    ] = 128
    flight: Annotated[
        int, Meta(ge=0, le=NUMBER_MAX), says("tokens of all processes in a turn together; 0: no limit")
    ] = 0
    suspend: Annotated[bool, says("whether processes are suspended where the machine thrashes")] = True


class Disk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The disk's: what a commit costs, and how searches are made."""

    sync: Annotated[
        Literal["full", "group", "off"],
        says("full: each step is synced; group: all that arrived meanwhile, at once; off: when the system likes"),
    ] = "group"
    embedder: Annotated[
        FileName,
        says(
            "what makes vectors of texts: wordllama, a GGUF file or pulled name of an embedding model, or a server "
            "as http://HOST:PORT[#MODEL]"
        ),
    ] = "wordllama"
    exact_max: Annotated[int, Meta(ge=0, le=EXACT_MAX), says("vectors of a process up to which search is exact")] = 4096
    journal_bytes: Annotated[
        int,
        Meta(ge=0, le=1 << 50),
        says("bytes of the journal that are kept, half of them at least; what is older is cut; 0: all"),
    ] = 16 << 20
    journal_days: Annotated[
        int, Meta(ge=0, le=36_500), says("days of the journal that are kept, likewise; 0: however old it is")
    ] = 0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of a machine."""

    window: Annotated[int, Meta(ge=WINDOW_MIN, le=WINDOW_MAX), says("tokens of context that a process has")] = 2048
    memory: Memory = Memory()
    cpu: Cpu = Cpu()
    sched: Sched = Sched()
    disk: Disk = Disk()
    models: Annotated[
        dict[ModelName, FileName],
        Meta(max_length=MODELS_MAX),
        says("more models: GGUF files or pulled names, by what processes call them; empty: none"),
    ] = {}


def keys(struct: type[msgspec.Struct] = Settings, prefix: str = "") -> list[str]:
    """Every key that `--set` takes, in order."""
    found = []
    for field in msgspec.structs.fields(struct):
        name = prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += keys(field.type, name + ".")
        elif field.name == MODELS:
            found.append(f"{name}.NAME")
        else:
            found.append(name)
    return found


def apply(settings: Settings, changes: list[str]) -> Settings:
    """`settings` with each `key=value` of `changes` set. Raises BadInput naming what is wrong and what is allowed."""
    tree: dict[str, Any] = msgspec.to_builtins(settings)
    for change in changes:
        key, found, value = change.partition("=")
        *path, last = key.split(".")
        if not found or (key not in keys() and path != [MODELS]):
            raise BadInput(f"--set {change[:200]}: no such setting; settings are {', '.join(keys())}")
        node = tree
        for step in path:
            node = node[step]
        node[last] = value
        if path == [MODELS] and not value:  # one model less
            del node[last]
        try:
            msgspec.convert(tree, Settings, strict=False)
            value.encode()
        except (msgspec.ValidationError, UnicodeEncodeError) as exc:
            raise BadInput(f"--set {change[:200]}: {in_one_line(exc, 400)}") from exc
    return msgspec.convert(tree, Settings, strict=False)
