"""What a machine is booted with: from the command line, from llmos.toml, from what the directory has recorded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from drivers.door.http.given import Http
from kernel.errors import BadInput
from kernel.spec import Spec
from llmos import config, daemon
from llmos.commands.app import CONTENTS
from tests.e2e.daemons import PATIENCE_S, command, llmos
from tests.e2e.test_cli import HEAVY, imported

FILE = """
window = 1024
[boot]
cpu = "scripted"
[memory]
policy = "lru"
fault = false
low = 0.5
[models]
small = "tiny"
"""


def serving(directory: Path, *arguments: str) -> str:
    """The first line of a daemon, which is then stopped."""
    process = subprocess.Popen(
        command(directory, "boot", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    return line


def test_a_machine_is_reopened_with_the_cpu_it_was_made_with(tmp_path: Path) -> None:
    directory = tmp_path / "machine"
    assert "llmos: scripted, window 1024" in serving(directory, "--cpu", "scripted", "--window", "1024")
    assert "llmos: scripted, window 1024" in serving(directory)
    assert "model nothing.gguf: no such file" in serving(
        directory, "--model", "nothing.gguf"
    )  # a model is run by llama
    assert "llmos: scripted, window 1024" in serving(directory)  # and a refused boot leaves the directory as it was


def test_a_file_gives_what_the_command_line_does_not(tmp_path: Path) -> None:
    directory = tmp_path / "machine"
    directory.mkdir()
    (directory / "llmos.toml").write_text('window = 1024\n[boot]\ncpu = "scripted"\n[memory]\npolicy = "lru"\n')
    process = subprocess.Popen(command(directory, "boot", "--set", "memory.low=0.4"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "llmos: scripted, window 1024" in process.stdout.readline()
    said = llmos(directory, "settings", "memory").stdout
    assert "memory.policy: here lru; default fifo" in said
    assert "memory.low: here 0.4; default 0.33" in said
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert "llmos: scripted, window 2048" in serving(directory, "--window", "2048")


def over(directory: Path, **options: object) -> daemon.Options:
    return config.over(daemon.Options(**options), directory)  # type: ignore[arg-type]


def test_the_file_lies_in_the_directory_or_beside_it_and_flags_win(tmp_path: Path) -> None:
    directory = tmp_path / "machine"
    assert over(directory) == daemon.Options()
    (tmp_path / "llmos.toml").write_text(FILE)
    changes = ("window=1024", "memory.policy=lru", "memory.fault=false", "memory.low=0.5", "models.small=tiny")
    assert over(directory) == daemon.Options(cpu="scripted", changes=changes)
    found = over(directory, cpu="llama", window=512, changes=("memory.low=0.6",))
    assert found == daemon.Options(cpu="llama", changes=(*changes, "window=512", "memory.low=0.6"))
    assert over(directory, model="m").cpu is None
    directory.mkdir()
    (directory / "llmos.toml").write_text('[boot]\nmodel = "own"\n')
    assert over(directory) == daemon.Options(model="own")
    assert over(directory, model="given") == daemon.Options(model="given")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("windows = 1024", "windows=1024: no such setting; settings are window"),
        ("[memory]\npolicies = 1", "memory.policies=1: no such setting"),
        ("[memory]\nlow = 2", "memory.low=2: Expected `float` <= 0.9"),
        ("[cpu]\nseed = [1]", "cpu.seed=[1]: Expected `int`"),
        ("[boot]\ndir = 'x'", "boot has model, cpu, which are texts, and nothing else"),
        ("boot = 3", "boot has model, cpu"),
        ("[boot]\nmodel = 3", "boot has model, cpu"),
        ("window = ", "no TOML: "),
        ("x" * 70_000, "more than 65536 bytes"),
    ],
)
def test_what_a_file_may_not_say_is_refused_in_a_line_that_names_it(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "llmos.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as refused:
        over(tmp_path)
    assert str(refused.value).startswith(f"{path}: {error}")
    assert "\n" not in str(refused.value)


def test_a_file_that_others_may_write_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "llmos.toml"
    path.write_text(FILE)
    path.chmod(0o666)
    with pytest.raises(BadInput, match="others may write it"):
        over(tmp_path)
    if os.geteuid() == 0:
        path.chmod(0o644)
        os.chown(path, 1, 1)
        with pytest.raises(BadInput, match="it must be yours alone"):
            over(tmp_path)


def test_the_version_is_that_of_the_package() -> None:
    done = subprocess.run([sys.executable, "-m", "llmos", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"llmos {version('llmos')}\n"


def test_a_shell_completes_commands_and_options_and_loads_no_more_than_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(words: str, count: int) -> list[str]:
        environment = {**os.environ, "_LLMOS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        line = [sys.executable, "-m", "llmos"]
        done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
        return [one.removeprefix("plain,") for one in done.stdout.splitlines()]

    assert asked("llmos ", 1) == list(CONTENTS)
    assert asked("llmos se", 1) == ["send", "set", "service", "settings"]
    assert asked("llmos spawn --m", 2) == ["--mask", "--model"]
    assert asked("llmos completion ", 2) == ["bash", "zsh", "fish"]
    for name, value in (("_LLMOS_COMPLETE", "bash_complete"), ("COMP_WORDS", "llmos "), ("COMP_CWORD", "1")):
        monkeypatch.setenv(name, value)
    found = imported()
    assert not found & (HEAVY | {"msgspec", "drivers"})
    assert {name for name in found if name.startswith("llmos.commands.")} == {"llmos.commands.app"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_is_given_is_its_own_language(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmos", "completion", shell], capture_output=True, text=True, check=True
    )
    assert f"_LLMOS_COMPLETE={shell}_complete" in done.stdout
    if shell == "bash":
        shown = subprocess.run(
            ["bash", "-c", f"{done.stdout}\ncomplete -p llmos"], capture_output=True, text=True, check=True
        )
        assert re.fullmatch(r"complete .*-F _llmos_completion llmos\n", shown.stdout)


HTTP = """
[http]
listen = "127.0.0.1:8484"
hosts = ["box.lan"]
[http.personas.tutor]
system = "You teach chess."
blocks = { human = "Ana" }
"""


def test_the_table_http_says_where_is_served_and_which_personas_there_are(tmp_path: Path) -> None:
    (tmp_path / config.NAME).write_text(HTTP)
    found = config.over(daemon.Options(), tmp_path).http
    assert (found.listen, found.hosts) == ("127.0.0.1:8484", ("box.lan",))
    assert found.personas["tutor"] == Spec("tutor", system="You teach chess.", blocks={"human": "Ana"})
    given = config.over(daemon.Options(http=Http("127.0.0.1:1")), tmp_path).http
    assert (given.listen, given.hosts) == ("127.0.0.1:1", ("box.lan",))  # the command line wins


@pytest.mark.parametrize(
    "text",
    [
        "http = 5",
        '[http]\nlisten = "nowhere"',
        "[http]\nhosts = 5",
        "[http]\nport = 5",
        '[http]\npersonas = "x"',
        "[http.personas]\ntutor = 5",
        "[http.personas.tutor]\nsystem = 5",
        "[http.personas.tutor]\ncolour = 5",
    ],
)
def test_a_table_http_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / config.NAME).write_text(text)
    with pytest.raises(BadInput, match=r"http") as refused:
        config.over(daemon.Options(), tmp_path)
    assert "\n" not in str(refused.value)
