"""A chat template as transformers renders it, without a clock.

A date in a prompt would break every prefix once a day, and a wrong one misleads: `settled` leaves out the sentence or
line that has it, and white space before BOS.
Caller's duty: a template is a stranger's program, and nothing here bounds its time or memory (trial.py does).
Not here: what is found out by rendering (derive.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from drivers.cpu.llama.frame import Message
from kernel.memory.page import Role

DATE: Final = "LLMOS-DATE"  # what a template gets for whatever it asks of the clock
DATED: Final = re.compile(rf"(?m)^[^\n<>.]*{DATE}[^\n<.]*\n|[^\n<>.\]]*{DATE}[^\n<.\[]*\.?")


class NotASumError(Exception):
    """A conversation cannot be rendered, or the rendering is no sum over its messages."""


class Generation(jinja2.ext.Extension):
    """The block `generation`, with which transformers marks what an assistant says: nothing is made of it here."""

    tags = {"generation"}  # noqa: RUF012  (as the base class has it)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """What stands in the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Template:
    """A chat template of a model: sandboxed, blocks trimmed."""

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        """Compile `source`. Raises NotASumError if that fails."""
        self.source, self.bos = source, bos
        self.dated = False  # a date was left out
        self.tools: list[Any] | None = None  # none; one that is for tools may break where there is no list of them
        self.parts = False  # a text is given as a list of parts, as to models that see
        env = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation], autoescape=False
        )
        env.filters["tojson"] = _json
        env.globals.update(raise_exception=_refuse, strftime_now=lambda _format: DATE, bos_token=bos, eos_token=eos)
        try:
            self.compiled = env.from_string(source)
        except Exception as exc:  # also of Python's own compiler, which takes 20 nested loops
            raise NotASumError(_line(exc)) from exc

    def settle(self) -> None:
        """Find out in which form it takes a conversation. Raises NotASumError if in none, with what it says first."""
        why = ""
        for self.parts, self.tools in ((False, None), (False, []), (True, None), (True, [])):
            for messages in ([(Role.USER, "Hello.")], [(Role.SYSTEM, "Hello."), (Role.USER, "Hello.")]):
                try:
                    if "Hello." in self.render(messages):
                        return
                except NotASumError as exc:
                    why = why or f"it refuses every conversation: {exc}"
        raise NotASumError(why or "it puts down no text")

    def render(self, messages: Sequence[Message], *, generate: bool = True, **switches: bool) -> str:
        """The template's own prompt for `messages`. Raises NotASumError if it refuses them or breaks on them."""
        dicts: list[dict[str, Any]] = [
            {"role": str(role), "content": [{"type": "text", "text": text}] if self.parts else text}
            for role, text in messages
        ]
        try:
            return self.compiled.render(
                messages=dicts, add_generation_prompt=generate, tools=self.tools, documents=None, **switches
            )
        except Exception as exc:  # a template is a program: it may break in any way that programs do
            raise NotASumError(_line(exc)) from exc

    def settled(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        """The same without a date, and BOS in front."""
        text = self.render(messages, generate=generate)
        if self.bos and (bare := text.lstrip()).startswith(self.bos):
            text = bare
        if DATE in text:
            self.dated, text = True, DATED.sub("", text)
        return text


def _line(exc: Exception) -> str:
    """What a template broke on, in a line."""
    return " ".join(str(exc).split())[:200] or type(exc).__name__


def _refuse(why: object) -> NoReturn:
    """`raise_exception` of chat templates."""
    raise NotASumError(str(why))


def _json(value: object, ensure_ascii: bool = False, **options: Any) -> str:
    """`tojson` of chat templates: no HTML is escaped."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)
