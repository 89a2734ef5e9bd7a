"""From a job to the request that a server gets: messages, what may be emitted, and how it is drawn. Sans-IO.

The messages are a function of the pages alone, a page after the other, so what stood in a request stands in the next
one at the same place, and the server's cache of the prefix holds. Recalled pages are lines inside the user's message,
as kernel/memory/prompt.py lays them out.
What a grammar allows becomes one JSON schema, or tools. Prose has neither: what is wrong with it is found when it is
decoded.
Marks of a template that a text names (`<|im_end|>`) are broken by a character that nobody sees, for most servers read
them wherever they stand, and a user could forge a page with them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from kernel.memory import prompt
from kernel.memory.measure import Visible
from kernel.memory.page import Role
from kernel.ports import Job
from kernel.sampling import Sampling
from kernel.settings import Cpu as CpuSettings

MARK: Final = re.compile(
    r"<[|\uff5c][^<>]{1,60}[|\uff5c]>|</?(?:\w+_of_\w+|s|bos|eos|pad|think)>|\[(?:/?[A-Z_]{3,24}|system)\]"
)
BREAK: Final = "\u200b"
KERNEL: Final = "[system] "  # in front of what the kernel says, where a server takes it in a user's message alone
EARLIER: Final = "[system] what was said before is not shown"

Message = dict[str, str]


class Constraint(enum.StrEnum):
    """How a server is held to a grammar."""

    SCHEMA = "json_schema"
    TOOLS = "tools"
    NONE = "none"


class System(enum.StrEnum):
    """Where a server takes a system message."""

    ANYWHERE = "anywhere"
    FIRST = "first"
    NEVER = "never"


class Dialect(msgspec.Struct, frozen=True):
    """What a server has beyond the protocol."""

    constraint: Constraint = Constraint.NONE
    system: System = System.FIRST
    usage: bool = True  # takes stream_options
    penalty: str = ""  # the field for a penalty on what was said
    more: bool = False  # takes llama.cpp's choices beyond the protocol: top_k, min_p, repeat_last_n


def plain(text: str) -> str:
    """`text` without marks of a template, as it is sent and counted."""
    return MARK.sub(lambda found: found[0][0] + BREAK + found[0][1:], text)


def messages(pages: Sequence[Visible], system: System) -> list[Message]:
    """The pages of a prompt as messages.

    Where a system message may stand in front alone, or nowhere, what the kernel says otherwise is part of a user's
    message, and the roles alternate.
    """
    found: list[Message] = []
    lines = ""
    for page in pages:
        if page.recalled:
            lines += plain(prompt.recalled(page))
            continue
        text, lines, role = lines + plain(prompt.told(page)), "", page.role
        if system is System.ANYWHERE:
            found.append({"role": role.value, "content": text})
            continue
        fresh = all(one["role"] == "system" for one in found)
        if role is Role.SYSTEM and (system is System.NEVER or not fresh):
            text, role = KERNEL + text, Role.USER
        if role is Role.ASSISTANT and fresh:
            found.append({"role": "user", "content": EARLIER})
        if found and found[-1]["role"] == role.value:
            found[-1]["content"] += "\n\n" + text
        else:
            found.append({"role": role.value, "content": text})
    return found


class Allowed(msgspec.Struct, frozen=True):
    """What a grammar lets a process emit: the schema of each call, and whether text that is none.

    Among such text a call has `mark` in front; "": there are no calls.
    """

    schemas: tuple[dict[str, Any], ...]
    prose: bool
    mark: str = ""


def allowed(grammar: str | None) -> Allowed:
    """Read the Lark of a job: its `%json` terms are calls, a rule that is a regular expression is prose."""
    if grammar is None:
        return Allowed((), True)
    decoder = msgspec.json.Decoder()
    schemas = [
        decoder.decode(term.removesuffix("|").strip())
        for line in grammar.splitlines()
        for term in re.split(r"(?:^\w+: |\| )%json ", line)[1:]
    ]
    for schema in schemas:
        schema.pop("x-guidance", None)
    mark = re.search(r'^start: .*"(.)"', grammar, re.MULTILINE)
    return Allowed(tuple(schemas), bool(re.search(r"^\w+: /", grammar, re.MULTILINE)), mark[1] if mark else "")


def constrained(may: Allowed, constraint: Constraint) -> dict[str, Any]:
    """The fields of a request that hold the answer to what may be emitted; none for prose."""
    if may.prose or not may.schemas or constraint is Constraint.NONE:
        return {}
    if constraint is Constraint.TOOLS and any("op" not in schema.get("properties", {}) for schema in may.schemas):
        return {}  # what a client wants is no call
    if constraint is Constraint.TOOLS:
        return {"tools": [_tool(*of) for of in _by_name(may.schemas).items()], "tool_choice": "required"}
    schema = may.schemas[0] if len(may.schemas) == 1 else _any_of(may.schemas)
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "instruction", "schema": schema}}}


def _any_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Schemas as alternatives; what they refer to stands at the root."""
    named = {name: spec for schema in schemas for name, spec in schema.get("$defs", {}).items()}
    found = [{key: spec for key, spec in schema.items() if key != "$defs"} for schema in schemas]
    return {"anyOf": found, **({"$defs": named} if named else {})}


def thinking(job: Job) -> dict[str, Any]:
    """The field that tells a server whether thought is wanted, as llama-server and vLLM take it; {}: as it is."""
    if job.thought is not None and not job.thought.must:
        return {}
    return {"chat_template_kwargs": {"enable_thinking": job.thought is not None}}


def request(model: str, said: list[Message], most: int, dialect: Dialect) -> dict[str, Any]:
    """A request of at most so many tokens of answer."""
    found: dict[str, Any] = {"model": model, "messages": said, "stream": True, "max_tokens": most}
    if dialect.usage:
        found["stream_options"] = {"include_usage": True}
    return found


def drawn(job: Job, settings: CpuSettings, dialect: Dialect, *, prose: bool) -> dict[str, Any]:
    """How the words of a job are drawn.

    What is as recommended for the model is left out: a server knows what it serves, and has defaults for it.
    A penalty would bend JSON's punctuation; and, as servers have it, forbid the words of what was recalled, which an
    answer is made of.
    """
    chosen, machine = job.sampling or Sampling(), settings.drawn
    how: dict[str, Any] = {}
    if not chosen.model:
        how = {"temperature": machine.temperature, "top_p": machine.top_p}
        how |= {"min_p": machine.min_p} if machine.min_p > 0 else {}
        how |= {"repeat": machine.repeat} if machine.repeat > 1 else {}
    how |= chosen.chosen()
    found = {"temperature": how["temperature"]} if "temperature" in how else {}
    if found.get("temperature") != 0:
        names = ("top_p", *(("top_k", "min_p") if dialect.more else ()))
        found |= {name: how[name] for name in names if name in how}
        seed = settings.seed * 1_000_003 + job.pid * 8_191 + job.instr if job.seed is None else job.seed
        found["seed"] = seed & 0x7FFFFFFF
    if dialect.penalty and prose and "repeat" in how and not any(page.recalled for page in job.pages):
        found[dialect.penalty] = how["repeat"]
        if dialect.more and "recent" in how:
            found["repeat_last_n"] = how["recent"] or -1  # of all
    return found


def _by_name(schemas: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Schemas by the call that they are of; a call may have several forms."""
    found: dict[str, list[dict[str, Any]]] = {}
    for schema in schemas:
        found.setdefault(str(schema["properties"]["op"]["enum"][0]), []).append(schema)
    return found


def _tool(name: str, forms: list[dict[str, Any]]) -> dict[str, Any]:
    """A call as a tool. Its forms are alternatives; most servers want one object, so a tool has the fields of all."""
    fields: dict[str, Any] = {}
    needed = [set(form["required"]) for form in forms]
    for form in forms:
        fields |= {field: spec for field, spec in form["properties"].items() if field != "op"}
    required = [field for field in fields if all(field in one for one in needed)]
    return {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": fields,
                "required": required,
                "additionalProperties": False,
            },
        },
    }
