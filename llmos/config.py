"""The file `llmos.toml`: what `llmos boot` and `chat` are given there rather than on their command lines.

It lies in a machine's directory, or beside the directory and then is that of all machines there; the first that is
found is read. What is given on the command line wins over it, and it wins over what the directory has recorded. It is
settings like those of `--set`, window and tables as kernel/settings.py has them, a table `boot` with `model` and
`cpu`, a table `http` (drivers/door/http/given.py), and a table `tools.NAME` a server of tools
(drivers/device/given.py). A file that somebody else owns or may write is refused: what it
names is run.
Not here: what the settings are (kernel/settings.py), what is recorded (init.py).
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from drivers.device import given
from drivers.device.given import Given
from drivers.door.http.given import Http, address
from drivers.remote.address import remote
from kernel.errors import BadInput
from kernel.settings import Settings, apply

if TYPE_CHECKING:
    from llmos.daemon import Options

NAME: Final = "llmos.toml"
BYTES_MAX: Final = 65_536
BOOT: Final = ("model", "cpu")  # what stands in the table `boot`


def over(options: Options, directory: Path) -> Options:
    """`options` with what the file of a directory has in addition. Raises BadInput in one line that names the file."""
    path = next((path for path in (directory / NAME, directory.parent / NAME) if path.is_file()), None)
    if path is None:
        return options
    tree = _read(path)
    boot = tree.pop("boot", {})
    unknown = [name for name in boot if name not in BOOT] if isinstance(boot, dict) else ["boot"]
    if unknown or not all(isinstance(value, str) for value in boot.values()):
        raise BadInput(f"{path}: boot has {', '.join(BOOT)}, which are texts, and nothing else")
    http = _http(path, tree.pop("http", {}))
    tools = _tools(path, tree.pop("tools", {}))
    changes = list(_changes(tree))
    try:
        apply(Settings(), changes)
    except BadInput as exc:
        raise BadInput(f"{path}: {str(exc).removeprefix('--set ')}") from exc
    window = [] if options.window is None else [f"window={options.window}"]
    cpu = boot.get("cpu")
    if options.model is not None and not remote(cpu or ""):
        cpu = None  # a model is run by llama, whatever else the file says
    return msgspec.structs.replace(
        options,
        model=options.model or boot.get("model"),
        window=None,
        cpu=options.cpu or cpu,
        changes=(*changes, *window, *options.changes),
        http=msgspec.structs.replace(http, listen=options.http.listen or http.listen),
        tools=tools,
    )


def _http(path: Path, table: Any) -> Http:
    """The table `http`, each persona with its name."""
    try:
        personas = dict(table.get("personas", {}).items()) if isinstance(table, dict) else {}
        named = {name: {"name": name, **spec} for name, spec in personas.items() if isinstance(spec, dict)}
        found = msgspec.convert({**table, "personas": {**personas, **named}} if named else table, Http)
    except (msgspec.ValidationError, AttributeError) as exc:
        raise BadInput(f"{path}: http: {exc}") from exc
    if found.listen:
        address(found.listen)
    return found


def _tools(path: Path, table: Any) -> dict[str, Given]:
    """The tables `tools.NAME`."""
    try:
        found = msgspec.convert(table, dict[str, Given])
        given.check(found)
    except (msgspec.ValidationError, BadInput) as exc:
        raise BadInput(f"{path}: {'' if isinstance(exc, BadInput) else 'tools: '}{exc}") from exc
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            seen = os.fstat(file.fileno())
            raw = file.read(BYTES_MAX + 1)
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror}") from exc
    if seen.st_uid not in (0, os.geteuid()) or seen.st_mode & stat.S_IWOTH:
        raise BadInput(f"{path}: others may write it; it must be yours alone (chmod go-w)")
    if len(raw) > BYTES_MAX:
        raise BadInput(f"{path}: more than {BYTES_MAX} bytes")
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadInput(f"{path}: no TOML: {exc}") from exc


def _changes(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The leaves of a tree as `--set` takes them."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _changes(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            yield f"{prefix}{name}={str(value).lower()}"
        else:
            yield f"{prefix}{name}={value}"
