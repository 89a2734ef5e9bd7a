"""The command line: 200 bad argument lists for each command, run in this process as a shell would have it run.

In a home of its own, with a kernel that runs in the default directory, a machine that does not run, and files that are
none. What would load a model, measure for minutes or fetch from the network gets only what it must refuse. A list that
is surely wrong ends with status 2 and one line; any other may do as it likes, without a traceback, and prints nothing
that a terminal would obey.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import click

from bench.attack import values
from bench.attack.machines import Served
from bench.attack.surface import Died, Guard, Surface, Trial, Wrong, instead
from bench.attack.watched import TRACE
from kernel import text
from llmos.commands import app as module
from llmos.commands.app import every

EACH: Final = 300  # argument lists of a command on average; each gets more than 200
BOOT_S: Final = 60.0
KEPT: Final = ("demo", "pull", "stop", "bench")  # with these only what is refused before anything begins
HERE: Final = ("boot", "chat", "import")  # in the default directory, where a kernel runs: elsewhere one would start
ENDLESS: Final = ("--follow", "-f")
PATHS: Final = (
    *("", ".", "nope", "nope/x", "machine", "machine/data.mdb", "text.txt", "none.mdb", "none.toml", "none.jsonl"),
    *("none.csv", "none.jsonl.gz", "none.gguf", "none.oracleGeneral.bin", "small.toml", "x" * 300, "/proc/nowhere/x"),
    *("~nobody-of-this-name/x", "/proc/nothing", "a\nb", "\x1b[31mred", "\u202egnp", "\udcff.mdb", "-", "text.txt/x"),
    *("/dev/null/x", "dir", "new"),
)
WORDS: Final = (
    *(one for one in values.TEXTS if "\0" not in one),
    *("\udcff", "~nobody-of-this-name/x", "main", "1", "99", "main=x", "a=b=c", "="),
)
OBEYED: Final = ("\x1b[31mred", "\x9b31m", "\u202egnp.exe", "\u2066x\u2069", "a\rb", "\x1b]0;title\x07")
TERMINAL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SCENARIO: Final = """title = "t"
teaches = "t"
until = "2s"
events = [{ at = "1s", to = ["main"], say = "\\u001b[31mred" }]
expect = []
[processes.main]
does = "echo"
"""


COMMANDS: Final = [(path, command) for path, command in every() if not isinstance(command, click.Group)]


def _value(draw: Random, kind: click.ParamType[Any]) -> str:
    if isinstance(kind, click.Path):
        return draw.choice(OBEYED if draw.random() < 0.2 else PATHS)
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        return str(draw.choice([1, 2, 3, 5, *values.EDGES, *values.FLOATS, "²", "", "x", "nan", "inf", "1_0"]))
    return draw.choice(OBEYED if draw.random() < 0.3 else WORDS)


def _list(draw: Random, path: tuple[str, ...], command: click.Command, *, refused: bool) -> tuple[list[str], bool]:
    """An argument list, and whether it must be refused."""
    arguments: list[str] = []
    for param in command.params:
        if isinstance(param, click.Argument):
            if draw.random() < 0.9:
                arguments.append(draw.choice(["main", _value(draw, param.type)]))
            continue
        assert isinstance(param, click.Option)
        name = draw.choice([one for one in param.opts if one not in ENDLESS] or ["--json"])
        if draw.random() < 0.6 or name in ENDLESS or (path[0] in HERE and name == "--dir"):
            continue
        arguments += [name] if param.is_flag else [name, _value(draw, param.type)]
    if refused or draw.random() < 0.2:
        surplus = ["--no-such-option"] if "--" not in arguments else ["-"] * 9
        arguments[0:0] = draw.choice([surplus, ["--json=1"], ["-Z"], ["--dir"] * 1 + ["x", "--nothing=\x1b[31m"]])
        return arguments, True
    return arguments, False


class _Attack:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.daemon = self._boot()

    def trial(self, draw: Random) -> None:
        path, command = draw.choice(COMMANDS)
        arguments, wrong = _list(draw, path, command, refused=path[0] in KEPT)
        line = " ".join([*path, *(repr(one)[:60] for one in arguments)])
        status, out, err = _run([*path, *arguments])
        if TRACE in err or TRACE in out:
            said = " ".join(err[err.rfind("  File") :].split())
            raise AssertionError(f"{line}: {said[-250:]}")
        obeyed = TERMINAL.search(out) or TERMINAL.search(err)
        if obeyed is not None:
            raise Wrong(f"{line}: printed {obeyed[0]!r}")
        if self.daemon.poll() is not None:
            self.daemon = self._boot()
            raise Died(f"{line}: the kernel ended")
        unanswered = status == 3 and path == ("send",) and "--wait" in arguments  # as its help says
        if status not in (0, 1, 2, 130) and not unanswered:
            raise Wrong(f"{line}: status {status}")
        if wrong and status != 2:
            raise Wrong(f"{line}: it must be refused, and ended with status {status}")
        if status == 2 and not re.search(r"(\A|\n)llmos: [^\n]+\n\Z", err):
            raise Wrong(f"{line}: refused, and the last line is no line of ours: {err[-100:]!r}")

    def _boot(self) -> subprocess.Popen[bytes]:
        log = (self.home / "log").open("ab")
        with log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "llmos", "boot", "--cpu", "scripted", "--set", "disk.sync=off"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + BOOT_S
        while not (self.home / ".local/share/llmos/kernel.sock").exists():  # until it serves, or is given up
            if daemon.poll() is not None or time.monotonic() > until:
                raise Died("the kernel does not boot: " + (self.home / "log").read_text()[-300:])
            time.sleep(0.05)
        _run(["spawn", "main"])
        return daemon

    def close(self) -> None:
        self.daemon.send_signal(signal.SIGTERM)
        try:
            if self.daemon.wait(BOOT_S):
                raise Wrong(f"the kernel ended with status {self.daemon.returncode}")
        except subprocess.TimeoutExpired as exc:
            self.daemon.kill()
            raise Wrong("the kernel does not stop") from exc


def _run(arguments: list[str]) -> tuple[int, str, str]:
    """A command in this process: its status, and what it printed."""
    kept = sys.stdin, sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.BytesIO()
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin, sys.stdout, sys.stderr = nothing, io.TextIOWrapper(out, "utf-8"), io.TextIOWrapper(err, "utf-8")
        try:
            status = module.status(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
            return status, out.getvalue().decode("utf-8", "replace"), err.getvalue().decode("utf-8", "replace")
        finally:
            sys.stdin, sys.stdout, sys.stderr = kept


def _files(work: Path) -> None:
    """What the names of PATHS stand for."""
    (work / "dir").mkdir()
    (work / "text.txt").write_text("All is well.\n")
    (work / "small.toml").write_text(SCENARIO)
    for name in PATHS:
        if name.startswith("none."):
            (work / name).write_bytes(b"\x1b[31mnothing of the kind\0\xff\n" * 9)
    (work / "machine").mkdir(mode=0o700)
    Served(work / "machine", []).stop()


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    home, work = folder / "home", folder / "work"
    for one in (home, work, folder / "tmp"):
        one.mkdir()
    for name in list(os.environ):
        if name.startswith(("LLMOS_", "XDG_")):
            del os.environ[name]
    root = str(Path(module.__file__).parents[2])
    os.environ |= {
        "HOME": str(home),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": root,
        "EDITOR": "true",
        "VISUAL": "true",
    }
    os.chdir(work)
    _files(work)
    attack = _Attack(home)
    try:
        yield attack.trial
        attack.close()
    finally:
        with suppress(ProcessLookupError):
            attack.daemon.kill()


def _no_line() -> AbstractContextManager[None]:
    """An error of the user's is no line."""

    def raised(line: str) -> int:
        raise RuntimeError(line)

    return instead(module, "_refused", raised)


def _no_replacing() -> AbstractContextManager[None]:
    """What others wrote goes to the terminal as it is."""
    return instead(text, "UNSEEN", re.compile(r"(?!)"))


GUARDS: Final[dict[str, Guard]] = {"one-line": _no_line, "control-characters": _no_replacing}
SURFACE: Final = Surface(_opened, trials=EACH * len(COMMANDS), guards=GUARDS)
