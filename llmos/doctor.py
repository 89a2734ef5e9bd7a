"""What this machine has of what llmos needs, and what to do about the rest.

`checks` only looks: it changes nothing of the user's, and needs no network unless servers are named; models are tried
in processes of their own.
Not here: exit statuses (the command's).
"""

from __future__ import annotations

import enum
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from drivers.cpu import gguf
from drivers.cpu.openai import discovery
from drivers.remote.address import addresses, key
from drivers.remote.transport import Link, Patience
from kernel.errors import BadInput, DeviceError, some
from llmos import models
from llmos.tables import Styled, aligned

PYTHON: Final = ((3, 11), (3, 13))  # the first and last version that is tested
REQUIRED: Final = ("trio", "msgspec", "lmdb", "numpy", "wordllama", "rich", "click", "prompt_toolkit")
FOR_GRAPHS: Final = "hnswlib"  # without it long memories are searched vector by vector
FOR_HTTP: Final = ("h11", "starlette", "httpx2", "structlog")  # `llmos boot --http`, and `from llmos import connect`
FOR_LLAMA: Final = ("llama-cpp-python", "llguidance", "jinja2")  # without them only the scripted CPU runs
COMPILERS: Final = ("c++", "g++", "clang++")
GIB: Final = 1 << 30
MEMORY_GIB: Final = 2.0  # model, KV and indexes of the default set-up take about one
DISK_GIB: Final = 0.5  # the default model takes 0.1, a journal grows


class State(enum.StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"  # works, with a limit
    FAIL = "fail"  # does not work


COLOURS: Final[dict[State, str]] = {State.OK: "32", State.WARN: "33", State.FAIL: "31"}


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at; `advice` is empty if there is nothing to do."""

    name: str
    state: State
    found: str
    advice: str = ""


def checks(data: Path | None = None, servers: str = "") -> list[Check]:
    """Everything that llmos needs, looked at once. `data` is the directory a machine would be kept in, if any.

    `servers`: URL[,URL], those that run the model, so that llama and what it needs is not looked at. Raises BadInput
    if they are none.
    """
    found = [_python(), *(_library(name, State.FAIL) for name in REQUIRED), _library(FOR_GRAPHS, State.WARN)]
    found += [_http()]
    if servers:
        return [*found, *_servers(servers), _cores(), _memory(), *_kept(data)]
    llama = [_library(name, State.FAIL) for name in FOR_LLAMA]
    found += llama
    if any(check.state is not State.OK for check in llama):
        found.append(_compiler())
    found += [_model(llama), _cores(), _memory(), _disk("models directory", models.directory())]
    return [*found, *_kept(data)]


def _kept(data: Path | None) -> list[Check]:
    """The directory that a machine would be kept in."""
    return [] if data is None else [_disk("data directory", data), _writable(data)]


def _servers(cpu: str) -> list[Check]:
    """Each server of a `--cpu`, asked for its models."""
    found = []
    for address in addresses(cpu):
        try:
            names = [model.name for model in discovery.models(Link(address, key(), Patience()))]
        except DeviceError as exc:
            found.append(Check("server", State.FAIL, str(exc), "start it, or name another"))
            continue
        state, advice = (State.OK, "") if names else (State.FAIL, "let it load a model")
        found.append(Check("server", state, f"{address}: {some(names)}", advice))
    return found


def render(found: Sequence[Check], *, colour: bool = False, width: int = 0) -> list[str]:
    """The checks as lines of a table."""
    rows = [(Styled(one.state, COLOURS[one.state]), one.name, one.found, one.advice) for one in found]
    names = ("", "what", "found", "what to do")
    return aligned(names, rows, left=names, colour=colour, width=width, wrap=True)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    first, last = (".".join(map(str, one)) for one in PYTHON)
    if sys.version_info[:2] < PYTHON[0]:
        return Check("python", State.FAIL, version, f"install Python {first} to {last}")
    if sys.version_info[:2] > PYTHON[1]:
        return Check("python", State.WARN, version, f"tested with {first} to {last} only")
    return Check("python", State.OK, version)


def _library(name: str, missing: State) -> Check:
    try:
        return Check(name, State.OK, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        extra = "llmos[llama]" if name in FOR_LLAMA else "llmos[graph]" if name == FOR_GRAPHS else "llmos"
        return Check(name, missing, "not installed", f"pip install '{extra}'")


def _http() -> Check:
    """The extra for HTTP, as one: who does not serve it misses nothing."""
    there = {check.name: check for check in (_library(name, State.WARN) for name in FOR_HTTP)}
    missing = [name for name, check in there.items() if check.state is not State.OK]
    if missing:
        return Check(
            "http", State.WARN, f"not installed: {some(missing)}", "pip install 'llmos[http]', for boot --http"
        )
    return Check("http", State.OK, ", ".join(f"{name} {check.found}" for name, check in there.items()))


def _compiler() -> Check:
    for name in COMPILERS:
        if path := shutil.which(name):
            return Check("C++ compiler", State.OK, path)
    return Check("C++ compiler", State.FAIL, "none", "install one (g++ or clang++): llama-cpp-python is compiled")


def _model(llama: Sequence[Check]) -> Check:
    """The models that are there; where they can run, each is tried, in a process of its own."""
    there = models.present()
    if not there:
        return Check("model", State.FAIL, f"none in {models.directory()}", f"llmos pull {next(iter(models.KNOWN))}")
    broken = []
    for path in there:
        try:
            header = gguf.read(path)
            if all(check.state is State.OK for check in llama):
                from drivers.cpu.llama.trial import tried  # here: it needs what was just found to be there

                if tried(path, header).named:
                    broken.append(f"model {path}: its chat template cannot be read; its frame is a guess by its marks")
        except BadInput as exc:
            broken.append(str(exc))
    if broken:
        return Check("model", State.WARN, broken[0], "remove the file, or pull it again")
    return Check("model", State.OK, ", ".join(map(models.name_of, there)))


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Check("cores", State.WARN, str(cores), "two or more are recommended: model and indexes share them")
    return Check("cores", State.OK, str(cores))


def _memory() -> Check:
    try:
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (ValueError, OSError, AttributeError):
        return Check("memory", State.WARN, "unknown", f"{MEMORY_GIB} GiB are recommended")
    found = f"{gib:.1f} GiB"
    if gib < MEMORY_GIB:
        return Check("memory", State.WARN, found, f"{MEMORY_GIB} GiB are recommended; take a smaller --window")
    return Check("memory", State.OK, found)


def _disk(name: str, place: Path) -> Check:
    """Free space where `place` is, or would be."""
    there = place.absolute()
    while not there.exists():  # ends at the root, which exists
        there = there.parent
    try:
        gib = shutil.disk_usage(there).free / GIB
    except OSError as exc:
        return Check(name, State.FAIL, f"{place}: {exc.strerror}", "make it readable, or choose another")
    found = f"{place}, {gib:.1f} GiB free"
    if gib < DISK_GIB:
        return Check(name, State.WARN, found, f"free {DISK_GIB} GiB, or choose another directory")
    return Check(name, State.OK, found)


def _writable(data: Path) -> Check:
    """Whether files can be made in the data directory, or the directory itself."""
    there = data.absolute()
    while not there.exists():  # ends at the root, which exists
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            return Check("data directory writable", State.OK, str(there))
    except OSError as exc:
        advice = "choose another with --dir, or make it writable"
        return Check("data directory writable", State.FAIL, f"{there}: {exc.strerror}", advice)
