"""What a server can: found out once, by asking and by trying, never guessed from a name or a turn.

Which models it has, how large its window is, whether it counts tokens, takes a system message in the middle, holds an
answer to a schema or calls tools, and what its template adds to a text. A server that cannot be used is a BadInput or
a Fault in one line that names it.
Not here: how often a server is looked at (fleet.py).
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Final

import msgspec

from drivers.cpu.openai import asking, counting
from drivers.cpu.openai.asking import Constraint, Dialect, Message, System
from drivers.cpu.openai.protocol import Answer, Intake, Malformed
from drivers.remote.transport import Fault, Link
from kernel.limits import SMALL_PARAMETERS, WINDOW_MAX
from kernel.memory.measure import Frame
from kernel.memory.page import Role

MODELS_MAX: Final = 1_000
LIST_S: Final = 10.0  # for the list of models, which costs a server nothing
CONTROL: Final = counting.BYTES | 0x3F << 24  # ids of a frame: they have no bytes
ROLE: Final = 8  # tokens of a role's frame, where a server does not say
BEGIN: Final = 32  # in front of all and behind it, likewise
EARLIER_TOKENS: Final = 16  # of asking.EARLIER, in its frame
MERGED: Final = 6  # tokens between two texts in one message, at least: the kernel's words have a mark in front
BEGIN_MAX: Final = 1_024
SAMPLE: Final = "The boat lies in Ghent; 42 of them left on May 3rd."
TRIED: Final = (  # two calls that no model makes by itself
    {
        "type": "object",
        "properties": {"op": {"enum": ["blue"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["op", "n"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"op": {"enum": ["green"]}},
        "required": ["op"],
        "additionalProperties": False,
    },
)
SAID_TOKENS: Final = 4
TRIED_TOKENS: Final = 64
THOUGHT_TOKENS: Final = 2_048  # more of an answer, for a model that thinks first
CHAT: Final = "/v1/chat/completions"


class Model(msgspec.Struct, frozen=True):
    """A model as a server lists it."""

    name: str
    window: int = 0  # 0: it does not say
    parameters: int = 0
    mark: str = ""  # what tells it from another of its name


class Able(msgspec.Struct, frozen=True):
    """What was found out about a server."""

    model: Model
    dialect: Dialect
    slots: int  # requests that it works on at once; 0: it does not say
    paths: tuple[str, str]  # of its tokenizer: see Counter
    answers_as: str  # the model that its answers name
    thinks: bool
    begin: int = BEGIN
    role: int = ROLE

    @property
    def small(self) -> bool:
        """Whether it is too small to choose among calls."""
        return 0 < self.model.parameters < SMALL_PARAMETERS

    @property
    def speaks(self) -> bool:
        """Whether it can do no more than speak: it is too small, or nothing holds it to a call."""
        return self.small or self.dialect.constraint is Constraint.NONE

    def frame(self) -> Frame:
        """What its template adds, as ids that stand for nothing but their number."""
        one = (CONTROL,)
        return Frame(
            begin=one * self.begin,
            prefix={role: one * (self.role - 1) for role in Role},
            suffix={role: one for role in Role},
            generate=one * self.role,
            lead=one * self.role if self.thinks else None,
            plain=one * self.role if self.thinks else None,
        )


def look(link: Link, wanted: str) -> tuple[Model, dict[str, Any]]:
    """The model `wanted`, or the first, of a server, and what llama-server says of itself. Raises Fault.

    Not to be asked again if it has no such model.
    """
    found = models(link)
    model = next((model for model in found if wanted in ("", model.name)), None)
    if model is None:
        there = ", ".join(model.name for model in found[:8]) or "none"
        raise link.fault(
            f"it has no model {wanted}; it has {there} (--model takes one)" if wanted else "it has no model",
            again=False,
        )
    props = _asked(link, "/props", None)
    generation = props.get("default_generation_settings")
    window = _whole(generation.get("n_ctx")) if isinstance(generation, dict) else 0
    return msgspec.structs.replace(model, window=min(window or model.window or WINDOW_MAX, WINDOW_MAX)), props


def models(link: Link) -> list[Model]:
    """All models of a server. Raises Fault."""
    answer = link.ask("/v1/models", wait_s=LIST_S)
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise link.fault("/v1/models is no list of models; it does not speak this protocol", again=False)
    return [_model(row) for row in rows[:MODELS_MAX] if isinstance(row, dict) and isinstance(row.get("id"), str)]


def _model(row: dict[str, Any]) -> Model:
    meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
    assert isinstance(meta, dict)
    name = row["id"]
    parameters = _whole(meta.get("n_params")) or _named_size(name)
    mark = "/".join(str(meta.get(key, "")) for key in ("n_params", "n_vocab", "size")) if meta else ""
    window = _whole(row.get("max_model_len")) or _whole(meta.get("n_ctx"))  # vLLM, llama-server: of one request
    return Model(name, window, parameters, mark)


def try_out(link: Link, wanted: str) -> Able:
    """Find out what a server can, by some small requests. Raises Fault."""
    model, props = look(link, wanted)
    counter = counting.Counter(link.ask, model.name, _tokenizer(link, model.name))
    dialect = Dialect(penalty="repeat_penalty" if props else "", more=bool(props))
    dialect, opening, first = _opening(link, model.name, dialect)
    more = _said(link, model.name, _talk(f"{opening}au"), dialect)
    if dialect.system is System.FIRST and _anywhere(link, model.name, dialect, more):
        dialect = msgspec.structs.replace(dialect, system=System.ANYWHERE)
    thinks = bool(first.thought or more.thought)
    constraint = _constraint(link, model.name, dialect, TRIED_TOKENS + (THOUGHT_TOKENS if thinks else 0))
    least = 1 if dialect.system is System.ANYWHERE else MERGED
    begin, role = _template(counter, len(opening), first.usage.prompt, more.usage.prompt, least)
    return Able(
        model=model,
        dialect=msgspec.structs.replace(dialect, constraint=constraint),
        slots=_whole(props.get("total_slots")),
        paths=counter.paths,
        answers_as=more.model,
        thinks=thinks,
        begin=begin + (0 if dialect.system is System.ANYWHERE else EARLIER_TOKENS),
        role=role,
    )


def exchange(link: Link, body: dict[str, Any]) -> Answer:
    """A request and its whole answer. Raises Fault."""
    intake = Intake()
    try:
        with contextlib.closing(link.pieces(CHAT, body)) as pieces:
            for piece in pieces:
                intake.feed(piece)
        intake.end()
    except Malformed as exc:
        raise link.fault(str(exc)) from exc
    return intake.answer


def _opening(link: Link, model: str, dialect: Dialect) -> tuple[Dialect, str, Answer]:
    """The first request that a server takes: its dialect, the roles of what was said, the answer. Raises Fault."""
    tried = [(usage, system) for system in (System.FIRST, System.NEVER) for usage in (True, False)]
    fault: Fault | None = None
    for usage, system in tried:
        dialect = msgspec.structs.replace(dialect, usage=usage, system=system)
        opening = "su" if system is System.FIRST else "u"
        try:
            return dialect, opening, _said(link, model, _talk(opening), dialect)
        except Fault as exc:
            if not _refuses(exc):
                raise
            fault = fault or exc
    assert fault is not None, "something was tried"
    raise fault


def _refuses(fault: Fault) -> bool:
    """Whether a server has understood and does not take it: templates raise errors of either kind."""
    return fault.status in (400, 422, 500)


def _said(link: Link, model: str, talk: list[Message], dialect: Dialect) -> Answer:
    """An answer of a few tokens: enough to see whether it thinks."""
    return exchange(link, asking.request(model, talk, SAID_TOKENS, dialect) | {"temperature": 0})


def _talk(roles: str) -> list[Message]:
    """A conversation of the sample text, by the first letters of its roles."""
    return [{"role": next(role.value for role in Role if role.value[0] == one), "content": SAMPLE} for one in roles]


def _anywhere(link: Link, model: str, dialect: Dialect, without: Answer) -> bool:
    """Whether it takes the system's messages anywhere, and leaves none out: its usage must say so."""
    try:
        found = _said(link, model, _talk("ssuasuu"), dialect)
    except Fault as fault:
        if _refuses(fault):
            return False
        raise
    least = 3 * len(SAMPLE) // 8  # of three texts, at 8 characters a token
    return without.usage.prompt > 0 and found.usage.prompt - without.usage.prompt >= least


def _constraint(link: Link, model: str, dialect: Dialect, most: int) -> Constraint:
    """How it can be held to a grammar: what is asked for is nothing that a model would say by itself."""
    talk = [{"role": "user", "content": "Write a sentence about the sea."}]
    may = asking.Allowed(TRIED, False)
    for constraint in (Constraint.SCHEMA, Constraint.TOOLS):
        body = asking.request(model, talk, most, dialect) | {"temperature": 0}
        try:
            answer = exchange(link, body | asking.constrained(may, constraint))
            call = msgspec.json.decode(answer.instruction())
        except Fault as fault:
            if fault.status and not _refuses(fault):
                raise
            continue
        except (Malformed, msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(call, dict) and call.get("op") in ("blue", "green"):
            return constraint
    return Constraint.NONE


def _template(counter: counting.Counter, texts: int, first: int, more: int, least: int) -> tuple[int, int]:
    """Tokens in front of all, and of a role's frame, from the prompts' tokens in two conversations of the sample.

    The first has so many texts, the other one two more.
    """
    if not 0 < first < more:
        return BEGIN, ROLE
    # Units are more than tokens, and what is too much for the texts would be too little for the frames.
    text = len(counter.tokenize(SAMPLE)) if counter.paths[0] else len(SAMPLE) // 6
    role = min(max(least, -(-(more - first - 2 * text) // 2)), 4 * ROLE)
    return min(max(1, first - texts * (text + role) - role), BEGIN_MAX), role


def _tokenizer(link: Link, model: str) -> tuple[str, str]:
    """The paths of its tokenizer, if it counts what it is asked to count."""
    for base in ("", "/v1"):
        found = counting.tokens(_asked(link, f"{base}/tokenize", counting.tokenizing(model, SAMPLE)), SAMPLE)
        if found is not None:
            return f"{base}/tokenize", f"{base}/detokenize"
    return "", ""


def _asked(link: Link, path: str, body: Any) -> dict[str, Any]:
    """What a path beyond the protocol answers; nothing where there is none."""
    try:
        found = link.ask(path, body, wait_s=LIST_S)
    except Fault:
        return {}
    return found if isinstance(found, dict) else {}


def _named_size(name: str) -> int:
    """Parameters by a model's name, such as qwen2.5:0.5b; 0 if it says none."""
    found = re.search(r"(?<![\w.])(\d{1,4}(?:\.\d{1,3})?)\s?([bm])(?![a-z])", name.lower())
    return int(float(found[1]) * (1_000_000_000 if found[2] == "b" else 1_000_000)) if found else 0


def _whole(value: Any) -> int:
    """A count that a server gives; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 50 else 0
