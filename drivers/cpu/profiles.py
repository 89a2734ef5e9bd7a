"""What was measured of a model: how a process that may do more than speak is best spoken to.

A profile is a file in TOML, known by the identity of the model's file (gguf.py), wherever that lies. Those of measured/
come with llmos; what `llmos profile` has found on this machine lies beside the models, and goes first. Nobody's profile
is asked for by a process that may only speak.
Not here: what is measured, and how one is chosen (llmos/profile).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from drivers.cpu import verdicts
from drivers.disk import whole
from kernel.errors import BadInput, in_one_line

SHIPPED: Final = Path(__file__).with_name("measured")
BYTES_MAX: Final = 1 << 18  # of a profile; one has some 10 KiB

Encoding = Literal["json", "prose"]
Manual = Literal["whole", "worked", "short"]
Count = Annotated[int, Meta(ge=0, le=10_000)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of `n` probes of a kind were answered rightly, in a manner; `low` to `high` is the 95 % interval."""

    half: Literal["choose", "report"]  # what the manner was chosen by, and what it was not
    encoding: Encoding
    manual: Manual
    kind: str
    n: Count
    right: Count
    low: Share
    high: Share


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one model file. `full`: its default mask is all syscalls, else it only speaks."""

    model: str  # its own name, for people
    file: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]  # gguf.identity
    encoding: Encoding
    manual: Manual
    full: bool
    figures: tuple[Figure, ...] = ()


def of(identity: str) -> Profile | None:
    """The profile of a model file, if there is one: this machine's own, else llmos's.

    Raises BadInput, in one line, for a file that is none.
    """
    path = own(identity)
    if path.is_file():
        return read(path, identity)
    for shipped in sorted(SHIPPED.glob("*.toml")):
        found = read(shipped)
        if found.file == identity:
            return found
    return None


def own(identity: str) -> Path:
    """Where this machine's own profile of a model file lies; it need not be there."""
    return verdicts.home() / "profiles" / f"{identity}.toml"


def read(path: Path, identity: str = "") -> Profile:
    """The profile in a file, of the model `identity` if that is given. Raises BadInput, in one line, if it is none."""
    why = "remove it, or have `llmos profile` write it anew"
    try:
        with path.open("rb") as file:
            found = msgspec.toml.decode(file.read(BYTES_MAX), type=Profile)
    except OSError as exc:
        raise BadInput(f"profile {path}: {exc.strerror or exc}; {why}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadInput(f"profile {path}: {in_one_line(exc, 200)}; {why}") from exc
    if identity and found.file != identity:
        raise BadInput(f"profile {path}: it is of another model, {found.model[:80]!r}; {why}")
    for one in found.figures:
        if not (one.right <= one.n and one.low <= one.high):
            raise BadInput(f"profile {path}: {one.right} of {one.n} {one.kind[:40]!r} right is no figure; {why}")
    return found


def write(path: Path, profile: Profile) -> None:
    """Write a profile, whole or not at all. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole.write(path, text(profile).encode())


def text(profile: Profile) -> str:
    """A profile in TOML."""
    tree = msgspec.to_builtins(profile)
    figures = tree.pop("figures")
    lines = ["# How this model is told its syscalls, as `llmos profile` has measured it.", *_rows(tree)]
    for one in figures:
        lines += ["", "[[figures]]", *_rows(one)]
    return "\n".join(lines) + "\n"


def _rows(fields: dict[str, object]) -> list[str]:
    """Keys with their values: JSON's texts, numbers and truths are TOML's, too."""
    return [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
