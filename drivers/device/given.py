"""What a machine's owner says of its servers of tools; importing it costs no server.

Not here: where it is written (llmos/config.py), what is done with it (mcp.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Meta

from kernel.errors import BadInput
from kernel.limits import NAME_CHARS_MAX, PATH_CHARS_MAX, SERVERS_MAX
from kernel.text import one_line

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,16}")  # of a server; its tools are NAME/TOOL, NAME_CHARS_MAX in all
LIMIT_S: Final = 60.0
LIMIT_S_MAX: Final = 3_600.0
SECRET_CHARS: Final = 8  # what is shorter is no secret, and stands in many a text
SECRETIVE: Final = re.compile(r"(?i)auth|credential|key|passw|secret|token")  # names of variables with secrets
HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Word = Annotated[str, Meta(min_length=1, max_length=PATH_CHARS_MAX)]
Texts = Annotated[dict[Word, str], Meta(max_length=64)]


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `tools.NAME` of llmos.toml: a program that is started (`command`), or a server elsewhere (`url`)."""

    command: str = ""
    args: Annotated[tuple[str, ...], Meta(max_length=256)] = ()
    env: Texts = {}  # in addition to HOME, LOGNAME, PATH, SHELL, TERM, USER, which are all that it is given
    cwd: str = ""
    url: str = ""
    headers: Texts = {}
    token: str = ""  # the environment variable with a bearer token
    limit_s: Annotated[float, Meta(gt=0, le=LIMIT_S_MAX)] = LIMIT_S  # of one use
    idempotent: Annotated[tuple[Word, ...], Meta(max_length=256)] = ()  # its tools that may be used once more

    def sent(self) -> dict[str, str]:
        """The headers of a request. Raises BadInput for a token that is not there, or cannot be sent."""
        if not self.token:
            return dict(self.headers)
        token = os.environ.get(self.token, "").strip()
        if not token:
            raise BadInput("the environment has no variable of the name that `token` gives")
        if not _sendable(token):
            raise BadInput("the variable that `token` names has characters that no header may have")
        return {**self.headers, "Authorization": f"Bearer {token}"}

    def secrets(self) -> tuple[str, ...]:
        """What nobody else is to see of it, longest first: what its headers and its address say, and its variables."""
        url = urlsplit(self.url)
        held = [*self.headers.values(), os.environ.get(self.token, "") if self.token else ""]
        held += [value for name, value in self.env.items() if SECRETIVE.search(name)]
        held += [text for one in (url.username, url.password) if one for text in (one, unquote(one))]
        held += [value for _, value in parse_qsl(url.query)]
        words = {word for value in held for word in (value.strip(), *value.split())}
        return tuple(sorted((word for word in words if len(word) >= SECRET_CHARS), key=len, reverse=True))


def _sendable(value: str) -> bool:
    """Whether a header may have this value."""
    return value.isascii() and value.isprintable() and value == value.strip()


def check(servers: Mapping[str, Given]) -> None:
    """Raises BadInput, in one line, for what names no server."""
    if len(servers) > SERVERS_MAX:
        raise BadInput(f"{len(servers)} servers of tools; at most {SERVERS_MAX} are allowed")
    for name, one in servers.items():
        if not NAME.fullmatch(name):
            raise BadInput(f"tools.{name[:80]}: 1 to 16 letters, digits, _ . - are a server's name")
        if bool(one.command) == bool(one.url):
            raise BadInput(f"tools.{name}: a command or a url, and not both")
        if one.url and not one.url.startswith(("http://", "https://")):
            raise BadInput(f"tools.{name}: its url begins with neither http:// nor https://")
        for header, value in one.headers.items():
            if not HEADER.fullmatch(header) or not _sendable(value):
                raise BadInput(f"tools.{name}: headers.{one_line(header)[:80]} is no header that can be sent")


def tool_name(server: str, tool: str) -> str:
    """What a tool is called here; "" for one that cannot be."""
    name = f"{server}/{tool}"
    return name if re.fullmatch(r"[\w.:-]+", tool, re.ASCII) and len(name) <= NAME_CHARS_MAX else ""


def ended(tool: str, why: str = "") -> str:
    """What a process is told whose tool's server has ended."""
    server = tool.partition("/")[0]
    return f"the server {server} ended while {tool} was used{f' ({why})' if why else ''}; it was done, or it was not"
