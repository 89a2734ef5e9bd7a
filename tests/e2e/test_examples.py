"""Every example of a `--help`, and the commands of the README, run as they stand, by a shell, in a home.

An example finds what its words suppose: a machine in the default directory and one in ~/agents, on the scripted CPU,
with the processes that are named; files of the names that are read. What asks a machine finds its kernel running:
those that leave the others what they need share a home, in which both run; every other example has a home of its own.
Those with a model are marked gguf, those of measurements slow; what takes minutes is parsed and not run (SKIPPED).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from bench.tiny import TEMPLATE, mamba
from llmos import models
from llmos.commands.app import app, every
from tests import mine
from tests.e2e.daemons import PATIENCE_S, eventually

ROOT: Final = Path(__file__).parents[2]
MODEL: Final = "smollm2-135m"
LONG_S: Final = 600.0  # an example with a model or of a measurement

ASKS: Final = {
    *(
        "chat",
        "ps",
        "vmstat",
        "irqs",
        "tools",
        "spawn",
        "send",
        "fork",
        "set",
        "core",
        "caps",
        "audit",
        "graph",
        "rename",
        "kill",
        "rm",
        "dmesg",
        "strace",
    ),
    *("pmap", "cat", "why", "facts", "put", "mem restore", "stop"),
}
"""Commands for which kernels run."""
ENDS: Final = {"rename", "kill", "rm", "stop"}
"""Those of them that take something away which others ask for."""
BY_MODEL: Final = {
    "ask",
    "demo",
    "pull",
    "bench cpu",
    "bench nested-kv",
    "bench memory",
    "bench chat",
    "bench thinking",
}
"""Commands that evaluate or fetch a model in whatever example."""
MINUTES: Final = {
    f"bench {name}"
    for name in (
        "kernel",
        "crash",
        "attack",
        "clients",
        "soak",
        "recovery",
        "sched",
        "interrupts",
        "paging",
        "documents",
    )
}
"""Commands that take more than a few seconds."""
MAKES: Final = {"backup": 2, "export": 2, "trace record": 3, "trace convert": 3, "trace git": 3}
"""Commands that make a file, which another example reads, and where its name stands."""
SKIPPED: Final = {
    "llmos demo": "takes minutes; `make demo` runs it",
    "llmos allow main": "main asks for nothing; tests of the guard have one that does",
    "llmos allow main --no": "likewise",
    "llmos bench data get mooncake": "it is fetched from the web",
    "llmos bench data get lirs cloudphysics --data ~/data": "it is fetched from the web",
    "llmos profile smollm2-135m": "takes minutes; a part of it runs",
    "llmos demo --seed 3 --set cpu.drop=shift --json": "takes minutes, as `llmos demo` does",
    "llmos bench cpu --model smollm2-135m --json": "takes 5 to 20 minutes",
    "llmos bench cpu --full --check": "takes 20 to 60 minutes",
    "llmos bench chat --model smollm2-135m --seeds 1-3 --json": "takes a minute or two; a shorter one runs",
    "llmos bench recovery --processes 1000 --pages 100000 --keep ~/long --json": "takes minutes",
    "llmos bench kernel": "takes a minute or two; with --stored 1000 it runs",
    "llmos bench interrupts --json": "takes a minute; a smaller one runs",
}
"""Examples that are parsed and not run."""


def examples_of(command: click.Command) -> list[str]:
    """The lines that a command's help shows, but for the shell's comments."""
    _, found, after = (command.help or "").partition("Examples:\n")
    assert found, f"{command.name}: no examples"
    return [re.sub(r"\s+#.*", "", line.strip()) for line in after.split("\n\n")[0].splitlines()]


COMMANDS: Final = {" ".join(path): command for path, command in every()}
EXAMPLES: Final = list(dict.fromkeys(line for command in COMMANDS.values() for line in examples_of(command)))


def words_of(example: str) -> list[str]:
    """An example's words after `llmos`, without what the shell takes."""
    words = shlex.split(example, comments=True)
    assert words[0] == "llmos", example
    return words[1 : words.index("<") if "<" in words else None]


def command_of(example: str) -> str:
    """Which command an example runs: 'bench paging', 'bench data get'."""
    words = words_of(example)
    return next((name for n in (3, 2) if (name := " ".join(words[:n])) in COMMANDS), words[0])


def marks(example: str) -> list[pytest.MarkDecorator]:
    """What a run of an example needs."""
    found = []
    command = command_of(example)
    if command in BY_MODEL or MODEL in example or example == "llmos boot --set memory.policy=gdsf":
        found += [pytest.mark.gguf, pytest.mark.slow]
    elif command in MINUTES:
        found.append(pytest.mark.slow)
    if example in SKIPPED:
        found.append(pytest.mark.skip(reason=SKIPPED[example]))
    elif command == "bench nested-kv" or example == "llmos bench documents --json":
        found.append(pytest.mark.skipif(not os.environ.get("LLMOS_DATA"), reason="LLMOS_DATA names no benchmark data"))
    return found


class Home:
    """A home folder, in which a shell runs lines; what it started is ended with `close`."""

    def __init__(self, path: Path) -> None:
        self.path, self.work = path, path / "work"
        self._running: list[subprocess.Popen[bytes]] = []
        (path / "bin").mkdir(parents=True, exist_ok=True)
        self.work.mkdir(exist_ok=True)
        script = path / "bin" / "llmos"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmos "$@"\n')
        script.chmod(0o755)
        for tool in ("systemctl", "journalctl"):
            (path / "bin" / tool).write_text('#!/bin/sh\necho "$0 $*"\n')
            (path / "bin" / tool).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMOS_")}
        if "LLMOS_DATA" in os.environ:
            kept["LLMOS_DATA"] = os.environ["LLMOS_DATA"]
        paths = os.pathsep.join([str(path / "bin"), os.environ["PATH"]])
        self.environment = kept | {"HOME": str(path), "PATH": paths, "PYTHONPATH": str(ROOT), "EDITOR": "true"}

    def start(self, line: str) -> subprocess.Popen[bytes]:
        """A line in a shell of its own session; what it says is in `said`."""
        out = (self.path / f"out-{len(self._running)}").open("wb")
        with out:
            process = subprocess.Popen(
                ["bash", "-c", f"set -e; {line}"],
                cwd=self.work,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self._running.append(process)
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        return (self.path / f"out-{self._running.index(process)}").read_text(errors="replace")

    def run(self, line: str, typed: str = "", patience_s: float = LONG_S) -> str:
        """A line to its end, which must be a good one; what it said."""
        process = self.start(line)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(typed.encode())
            process.stdin.close()
        eventually(lambda: self._ended(process), patience_s)
        assert process.returncode == 0, f"{line}: status {process.returncode}: {self.said(process)}"
        return self.said(process)

    def _ended(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a line is at its end; all are looked at, for a kernel is not gone until its parent has."""
        return [one.poll() for one in self._running][self._running.index(process)] is not None

    def boot(self, line: str) -> subprocess.Popen[bytes]:
        """A line that goes on, until its kernel serves."""
        process = self.start(line)
        eventually(lambda: "; serving " in self.said(process) or process.poll() is not None, LONG_S)
        assert process.poll() is None, f"{line}: {self.said(process)}"
        return process

    def take_model(self) -> None:
        """The model of these tests, pulled if it is nowhere, where `llmos pull` would put it."""
        folder = self.path / ".cache" / "llmos" / "models"
        folder.mkdir(parents=True, exist_ok=True)
        os.symlink(models.find(MODEL).resolve(), folder / f"{MODEL}.gguf")

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(PATIENCE_S)
            assert process.stdin is not None
            if not process.stdin.closed:
                process.stdin.close()


SCENARIO: Final = """
title = "A greeting"
teaches = "What a model makes of it."
until = "10s"
[processes.main]
does = "echo"
[[events]]
at = "1s"
to = ["main"]
say = "Good morning."
[[expect]]
order = [{ what = "interrupt", process = "main" }]
"""

TALK: Final = """\
{"say": "My dog is called Archie.", "at": "2025-01-01T10:00"}
{"ask": "What is my dog called?", "answers": ["Archie"], "evidence": ["1"]}
"""


@functools.cache
def _template(path: Path) -> Path:
    """A home as examples find it, made once: two machines that do not run, and the files that are read."""
    home = Home(path)
    try:
        for directory, names in (
            ("~/.local/share/llmos", ("main", "second", "third")),
            ("~/agents", ("tutor", "clerk")),
        ):
            daemon = home.boot(f"exec llmos boot --cpu scripted --dir {directory}")
            for name in names:
                home.run(f"llmos spawn {name} --dir {directory}")
            home.run(f"llmos send {names[0]} 'The boat lies in the harbour.' --wait --dir {directory}")
            home.run(f"llmos core {names[0]} human 'Ana, of Lyon.' --dir {directory}")
            home.run(f"llmos send {names[-1]} 'Marta was born in Lisbon.' --wait --dir {directory}")
            home.run(f"llmos stop --dir {directory}")
            daemon.wait(PATIENCE_S)
        home.run("llmos export main main.jsonl; llmos export tutor tutor.jsonl.gz --dir ~/agents")
        home.run("llmos backup ~/.local/share/llmos agents.mdb")
        home.run("llmos trace record ~/.local/share/llmos mine.jsonl.gz --process main")
        home.run("llmos trace convert mine.jsonl.gz mine.oracleGeneral.bin")
        home.run("git init -q ~/src/trio; cd ~/src/trio; git config user.name T; git config user.email t@example.org")
        home.run("cd ~/src/trio; for n in 1 2 3; do echo $n >> a.py; git add a.py; git commit -qm $n; done")
        home.run("llmos trace git ~/src/trio trio.jsonl.gz")
        (home.work / "report.txt").write_text("All is well.\n")
        (path / ".cache" / "llmos" / "models").mkdir(parents=True)
        mamba(path / ".cache" / "llmos" / "models" / "tiny.gguf")
        (home.work / "mine.toml").write_text(SCENARIO)
        (home.work / "mine.py").write_text(mine.SOURCE)
        for name, policy in (("before", "lru"), ("after", "fifo")):
            home.run(f"llmos bench paging --workload own --policy {policy} --no-bounds --out {name}.json")
        (home.work / "talk.jsonl").write_text(TALK)
        (home.work / "templates.jsonl").write_text(json.dumps({"name": "mine", "template": TEMPLATE}))
    finally:
        home.close()
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _template(tmp_path_factory.mktemp("template") / "home")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = Home(tmp_path / "home")
    yield found
    found.close()


def furnished(path: Path, template: Path) -> Home:
    """A home like the template."""
    shutil.copytree(template, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("bin", "out-*"))
    return Home(path)


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home in which both kernels run, for all examples that leave it so."""
    found = furnished(tmp_path_factory.mktemp("shared") / "home", template)
    try:
        for directory in ("~/.local/share/llmos", "~/agents"):
            found.boot(f"exec llmos boot --cpu scripted --dir {directory}")
        yield found
    finally:
        found.close()


def test_every_help_shows_two_examples_of_its_own() -> None:
    for name, command in COMMANDS.items():
        examples = examples_of(command)
        assert len(examples) == 2, name
        assert command_of(examples[0]).startswith(name)
    assert not set(SKIPPED) - set(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_understood(example: str) -> None:
    words = words_of(example)
    context = click.Context(app, info_name="llmos")
    command: click.Command = app
    while isinstance(command, click.Group):  # a round a word that names a command
        name, found, words = command.resolve_command(context, words)
        assert found is not None, name
        command = found
    command.make_context(example, words)


@pytest.mark.parametrize("example", [pytest.param(one, marks=marks(one)) for one in EXAMPLES])
def test_every_example_runs(example: str, template: Path, request: pytest.FixtureRequest) -> None:
    command = command_of(example)
    asks = command in ASKS and "--cpu" not in example
    if asks and command not in ENDS:
        home: Home = request.getfixturevalue("shared")
    else:
        home = request.getfixturevalue("home")
        furnished(home.path, template)
    if any(mark.name == "gguf" for mark in marks(example)):
        home.take_model()
    if command == "pull" and MODEL not in example:
        source = models.find(MODEL)
        os.symlink(source.resolve(), home.work / Path(words_of(example)[-1]).name)
    if command == "restore" and "--force" not in example:
        shutil.rmtree(home.path / "agents")
    if command in MAKES:
        (home.work / words_of(example)[MAKES[command]]).unlink(missing_ok=True)
    if asks and command in ENDS:
        home.boot(f"exec llmos boot --cpu scripted {'--dir ~/agents' if '~/agents' in example else ''}")
    if command == "boot":
        daemon = home.boot(f"exec {example}")
        home.run(f"llmos stop {'--dir ~/agents' if '~/agents' in example else ''}")
        assert daemon.wait(PATIENCE_S) == 0
    elif "--follow" in example:
        following = home.start(f"exec {example}")
        eventually(lambda: home.said(following))
        before = len(home.said(following))
        home.run("llmos send main 'The tide is out.' --wait")
        eventually(lambda: ("interrupt" if command == "dmesg" else "send_message") in home.said(following)[before:])
        following.send_signal(signal.SIGINT)
        assert following.wait(PATIENCE_S) == 130
    else:
        said = home.run(example, "hello\n" if command == "chat" else "")
        if "--json" in example and command != "dmesg":
            assert any(isinstance(json.loads(line), dict) for line in said.splitlines() if line.startswith("{"))
        if command == "chat":
            assert "you said: hello" in said


def readme() -> list[str]:
    """The commands of the README's console blocks, in order, without their prompt."""
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ llmos")]


def test_the_page_on_documents_shows_what_its_commands_print(home: Home) -> None:
    (block,) = re.findall(r"^```console\n(.*?)^```", (ROOT / "docs" / "documents.md").read_text(), re.M | re.S)
    sections = [f"# Part {number}\n\n{'It is told at length. ' * 12}\n" for number in range(3)]
    (home.work / "handbook.md").write_text("\n".join(sections))
    home.boot("exec llmos boot --cpu scripted")
    home.run("llmos spawn main")
    shown = [re.split(r"\n", one, maxsplit=1) for one in block.split("$ ") if one]
    assert len(shown) == 3
    for line, printed in shown:
        said = home.run(line).expandtabs(1)
        assert re.sub(r"\d{4}-\d\d-\d\d", "DAY", said).split() == re.sub(r"\d{4}-\d\d-\d\d", "DAY", printed).split()


@pytest.mark.gguf
@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_their_order(home: Home) -> None:
    home.take_model()
    (home.path / "notes.md").write_text("# The boat\n\nIt lies in Ghent, at the third quay.\n")
    lines = readme()
    assert lines
    for line in lines:
        plain = re.sub(r"\s+#.*", "", line)
        if plain.endswith("&"):
            home.boot(f"exec {plain.removesuffix('&')}")
        else:
            home.run(plain, "hello\n")
