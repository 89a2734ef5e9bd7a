"""A machine as a service of systemd's: the unit, where it lies, and what systemd says of it.

A unit of the user's own, as XDG has it. Guarantee: nothing is written but that unit; where there is no systemd a line
says what to do instead.
Not here: how the daemon stops and what it reads again (daemon.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from drivers.disk import whole
from kernel.errors import BadInput

NAME: Final = re.compile(r"[A-Za-z0-9:_.-]{1,200}")
STOP_S: Final = 90  # what runs is drained; systemd then kills
PLAIN: Final = re.compile(r"[A-Za-z0-9_@/.:,=+-]+")


def unit(boot: Sequence[str], directory: Path) -> str:
    """The unit that boots a machine by `llmos boot` with these words."""
    command = " ".join(map(_word, (sys.executable, "-m", "llmos", "boot", "--dir", str(directory), *boot)))
    return f"""\
[Unit]
Description=llmos, the machine in {_text(str(directory))}
After=network.target

[Service]
Type=exec
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
KillSignal=SIGTERM
TimeoutStopSec={STOP_S}
Restart=on-failure
UMask=0077

[Install]
WantedBy=default.target
"""


def place(name: str) -> Path:
    """Where a unit of the user's own lies. Raises BadInput for a name that is none."""
    if not NAME.fullmatch(name):
        raise BadInput(f"service {name[:80]!r}: letters, digits and : _ . - are allowed")
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "systemd" / "user" / f"{name}.service"


def install(name: str, text: str, *, start: bool) -> Path:
    """Write a unit, have systemd read it, and with `start` start it now and at each login."""
    path = place(name)
    systemctl = _tool("systemctl")
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.write(path, text.encode())
    _run(systemctl, "--user", "daemon-reload")
    if start:
        _run(systemctl, "--user", "enable", "--now", path.name)
    return path


def status(name: str) -> tuple[str, int]:
    """What systemd says of a service, and its exit status: 3 where it does not run."""
    found = _done(_tool("systemctl"), "--user", "--no-pager", "status", place(name).name)
    return (found.stdout or found.stderr).rstrip("\n"), found.returncode


def logs(name: str, lines: int, *, as_json: bool) -> str:
    """The last lines that a service wrote."""
    how = ("--output=json",) if as_json else ()
    return _run(_tool("journalctl"), "--user", "--no-pager", "-n", str(lines), *how, "-u", place(name).name)


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        why = f"{name} is not here: this host has no systemd"
        raise BadInput(f"{why}; `llmos boot` runs in the foreground, for whatever keeps services here")
    return path


def _run(*words: str) -> str:
    """What a tool of systemd's says. Raises BadInput with its line where it fails."""
    found = _done(*words)
    if found.returncode:
        why = " ".join((found.stderr or found.stdout).split())
        raise BadInput(f"{Path(words[0]).name} {words[2]}: {why or f'exit status {found.returncode}'}")
    return found.stdout.rstrip("\n")


def _done(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)


def _text(text: str) -> str:
    """A text in a unit: % begins what systemd fills in."""
    return "".join(one if one.isprintable() else "?" for one in text).replace("%", "%%")


def _word(word: str) -> str:
    """A word of a command in a unit."""
    if any(not one.isprintable() for one in word):
        raise BadInput(f"{word[:80]!r} cannot stand in a unit of systemd's")
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return plain if PLAIN.fullmatch(word) else f'"{plain}"'
