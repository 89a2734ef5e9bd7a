"""Settings of a machine: typed, recorded in the data directory, changed by `--set key=value`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from kernel.errors import BadInput
from kernel.limits import WINDOW_MIN

Share = Annotated[float, Meta(ge=0.0, le=0.9)]
Small = Literal["small", "always", "never"]  # models that speak prose, all, none
ModelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MODELS: Final = "models"  # the one setting with keys of the user's own


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pager's: shares are fractions of the queue (`low`, `warn`) or of the window (`recall`, `data`)."""

    policy: str = "fifo"
    low: Share = 0.33
    warn: Annotated[float, Meta(ge=0.1, le=1.0)] = 0.7
    recall: Share = 0.25
    recall_pages: Annotated[int, Meta(ge=0, le=64)] = 3  # more of them mislead a small model
    recall_min: Share = 0.25  # a hit is brought in if it covers this share of the message's rare words,
    recall_tokens: Annotated[int, Meta(ge=1)] = 64  # more in proportion if message and hit have more tokens than this,
    recall_near: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.9  # and this share of what the best hit covers
    gate: Literal["likely", "cover"] = "likely"  # by how likely a hit is wanted, or by recall_pages to recall_near
    worth: Annotated[float, Meta(ge=0.0, le=64.0)] = 2.2  # windows that a surely wanted page may cost
    repeat: Small = "small"  # for which models what stands further up in the queue is recalled, too
    apart: Small = "never"  # for which models questions are answered from what is recalled alone, without the queue
    answered: Small = "small"  # for which models turns that were answered from recalled pages leave the queue again
    fault: bool = True  # False: nothing is brought in on a user message
    on_evict: Literal["stub", "nothing", "summary"] = "stub"  # summary: written by the model, when it has nothing else
    reflect: bool = False  # True: facts are found in what has left, when the machine has nothing else to do
    data: Share = 0.08
    tell_time: bool = False  # True: behind a user's message stands what time it is
    join: bool = False  # True: a recalled page that the turn drew on joins the queue
    share: Literal["fixed", "learned"] = "fixed"  # learned: what replies drew on moves it from `recall`


class Cpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The processor's: `reply` 0 and `encoding` auto are derived from window and model."""

    seed: int = 0
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.0
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.95
    repeat: Annotated[float, Meta(ge=1.0, le=2.0)] = 1.15  # in prose, on what was emitted and on replies in view
    reply: Annotated[int, Meta(ge=0, le=4096)] = 0
    encoding: Literal["auto", "json", "prose"] = "auto"
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0  # tokens below this share of the likeliest one's are not drawn
    slots: Annotated[int, Meta(ge=1, le=64)] = 4  # processes that run at once
    seats: Annotated[int, Meta(ge=0, le=256)] = 0  # processes whose KV stays in memory; 0: as many as slots, or 4 times
    mode: Literal["deterministic", "throughput"] = "deterministic"  # batches and KV of one's own, or shared ones
    drop: Literal["exact", "shift"] = "exact"  # what follows a dropped page is evaluated anew, or its KV is moved up
    chunk: Annotated[int, Meta(ge=16, le=4096)] = 128  # tokens of a prompt evaluated at once; others wait meanwhile
    cells: Annotated[int, Meta(ge=0)] = 0  # of the KV cache, in throughput mode; 0: a window a slot
    images: Annotated[int, Meta(ge=0)] = 4096  # MiB of KV images on disk; 0: none
    gpu_layers: Annotated[int, Meta(ge=0, le=1024)] = 0  # of the model on an accelerator


class Sched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scheduler's: `quantum` in tokens, of the lowest level in mlfq, without effect in fifo."""

    policy: str = "rr"
    quantum: Annotated[int, Meta(ge=1, le=4096)] = 128
    flight: Annotated[int, Meta(ge=0)] = 0  # tokens of all processes in a turn together; 0: no limit
    suspend: bool = True  # against thrashing


class Disk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The disk's: `full` and `group` fsync, `off` leaves it to the operating system."""

    sync: Literal["full", "group", "off"] = "group"
    embedder: str = "wordllama"  # or an embedding model: a GGUF file, or the name of a pulled one
    exact_max: Annotated[int, Meta(ge=0)] = 4096  # vectors of a process up to which search is exact


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of a machine."""

    window: Annotated[int, Meta(ge=WINDOW_MIN)] = 2048
    memory: Memory = Memory()
    cpu: Cpu = Cpu()
    sched: Sched = Sched()
    disk: Disk = Disk()
    models: dict[ModelName, str] = {}  # more models: GGUF files or pulled names, by what processes call them


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
            raise BadInput(f"--set {change}: no such setting; settings are {', '.join(keys())}")
        node = tree
        for step in path:
            node = node[step]
        node[last] = value
        if path == [MODELS] and not value:  # one model less
            del node[last]
        try:
            msgspec.convert(tree, Settings, strict=False)
        except msgspec.ValidationError as exc:
            raise BadInput(f"--set {change}: {exc}") from exc
    return msgspec.convert(tree, Settings, strict=False)
