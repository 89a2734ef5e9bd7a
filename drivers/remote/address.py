"""Where servers are: URLs as a user gives them, for `--cpu` and `disk.embedder`. Raises BadInput in one line.

An address never holds a name or a password: those of a URL would stand in the directory's record, in lists of
processes and in logs. A key comes from the environment alone (`key`), and is shown nowhere.
"""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

import msgspec

from kernel.errors import BadInput

SERVERS_MAX: Final = 16
URL_CHARS_MAX: Final = 1_000
KEY: Final = "LLMOS_API_KEY"
KEY_CHARS_MAX: Final = 4_096
MODEL_CHARS_MAX: Final = 200
SCHEMES: Final = ("http", "https")


class Address(msgspec.Struct, frozen=True):
    """A server: `str` of it is the URL that people see."""

    scheme: str
    host: str
    port: int
    base: str = ""  # path in front of /v1

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base}"


def remote(what: str) -> bool:
    """Whether a `--cpu` or an embedder is somewhere else."""
    return "://" in what


def addresses(cpu: str) -> tuple[Address, ...]:
    """The servers of `URL[,URL]`, each once. Raises BadInput."""
    wanted = "it is http://HOST:PORT or https://HOST, several with commas between"
    found = list(dict.fromkeys(_address(one.strip(), "--cpu", wanted) for one in cpu.split(",")))
    if len(found) > SERVERS_MAX:
        raise BadInput(f"--cpu names {len(found)} servers; {SERVERS_MAX} at most")
    return tuple(found)


def embedder(setting: str) -> tuple[Address, str]:
    """The server of a `disk.embedder`, `URL[#MODEL]`, and its model; "": the first that it has. Raises BadInput."""
    url, _, model = setting.partition("#")
    if len(model) > MODEL_CHARS_MAX or not model.isprintable():
        raise BadInput(
            f"disk.embedder: a model's name behind # is up to {MODEL_CHARS_MAX} characters that can be shown"
        )
    return _address(
        url.strip(), "disk.embedder", "it is http://HOST:PORT or https://HOST, with #MODEL behind it"
    ), model


def key() -> str:
    """What a server wants to be shown, from the environment; "": nothing. Raises BadInput."""
    found = os.environ.get(KEY, "").strip()
    if len(found) > KEY_CHARS_MAX or not found.isascii() or not found.isprintable():
        raise BadInput(f"{KEY} is no key: up to {KEY_CHARS_MAX} printable ASCII characters are")
    return found


def _address(url: str, said: str, wanted: str) -> Address:
    """`said`: where the URL stands, `wanted`: what may stand there."""
    if len(url) > URL_CHARS_MAX or not url.isprintable() or " " in url:
        raise BadInput(f"{said}: a URL that is too long, or has spaces or control characters; {wanted}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:  # its message may quote the URL, and with it a password
        raise BadInput(f"{said}: no URL of a server; {wanted}") from exc
    if "@" in parts.netloc:
        raise BadInput(f"{said}: a URL with a name or password in it is not taken; put the key into {KEY}")
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise BadInput(f"{said} {url}: no URL of a server; {wanted}")
    if parts.query or parts.fragment:
        raise BadInput(f"{said}: a URL with ? or # in it is not taken; {wanted}")
    base = parts.path.rstrip("/").removesuffix("/v1")
    return Address(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), base)
