"""What a chat template puts around a text: a frame per role, derived from the model's own template.

A kernel builds prompts page by page, so it needs a template as a sum: begin, then prefix + text + suffix a page, then
the generation prompt.
`derive` renders probes through the template, reads the parts off, and returns only a frame whose sum equals the
template's own rendering of ten messages. Three tries, in this order:
1. the template's own frames for system, user and assistant;
2. system texts in the user's frame, for templates that refuse or move the system role (Gemma, Mistral) and add no text;
3. a named frame, recognised by the markers in the template, for templates that are no such sum (a date in front, ...).
Then it refuses. No frame says more than the kernel does: a template's default system text and its date never get in.
Caller's duty: a template is a stranger's program, and nothing here bounds its time or memory (trial.py does).
Not here: tokens (vocabulary.py tokenises the parts, with control tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec

from kernel.errors import BadInput
from kernel.memory.page import Role

DATE: Final = "LLMOS-DATE"  # what a template gets for today's date: a frame with a clock in it would break every prefix
PART_MAX: Final = 1_024  # characters that a frame puts before or behind a text
TURNS: Final = 10  # messages of the rendering that a frame is checked against


class TextFrame(msgspec.Struct, frozen=True):
    """A chat template as text; vocabulary.py makes a `kernel.memory.measure.Frame` of it."""

    begin: str
    prefix: dict[Role, str]
    suffix: dict[Role, str]
    generate: str

    def join(self, messages: Sequence[tuple[Role, str]], *, generate: bool) -> str:
        """The prompt that this frame makes of `messages`."""
        turns = "".join(self.prefix[role] + text + self.suffix[role] for role, text in messages)
        return self.begin + turns + (self.generate if generate else "")

    def parts(self) -> list[str]:
        """Every piece of text that the frame adds."""
        return [self.begin, *self.prefix.values(), *self.suffix.values(), self.generate]


class NotASumError(Exception):
    """A probe could not be rendered, or the rendering is no sum over its messages."""


def _named(begin: str, system: str, user: str, assistant: str, end: str) -> TextFrame:
    """A frame of headers per role and one end mark; the generation prompt is the assistant's header."""
    prefix = {Role.SYSTEM: system, Role.USER: user, Role.ASSISTANT: assistant}
    return TextFrame(begin=begin, prefix=prefix, suffix=dict.fromkeys(Role, end), generate=assistant)


# (name, markers that must all stand in the template, frame); the first that fits is taken. {bos} is the model's.
NAMED: Final[tuple[tuple[str, tuple[str, ...], TextFrame], ...]] = (
    (
        "phi-4",
        ("<|im_start|>", "<|im_sep|>"),
        _named(
            "",
            "<|im_start|>system<|im_sep|>",
            "<|im_start|>user<|im_sep|>",
            "<|im_start|>assistant<|im_sep|>",
            "<|im_end|>",
        ),
    ),
    (
        "chatml",
        ("<|im_start|>", "<|im_end|>"),
        _named("", "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"),
    ),
    (
        "llama-3",
        ("<|start_header_id|>", "<|eot_id|>"),
        _named(
            "{bos}",
            "<|start_header_id|>system<|end_header_id|>\n\n",
            "<|start_header_id|>user<|end_header_id|>\n\n",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "<|eot_id|>",
        ),
    ),
    (
        "gemma",
        ("<start_of_turn>", "<end_of_turn>"),
        _named(
            "{bos}",
            "<start_of_turn>user\n",
            "<start_of_turn>user\n",
            "<start_of_turn>model\n",
            "<end_of_turn>\n",
        ),
    ),
    (
        "phi-3",
        ("<|user|>", "<|assistant|>", "<|end|>"),
        _named("{bos}", "<|system|>\n", "<|user|>\n", "<|assistant|>\n", "<|end|>\n"),
    ),
    (
        "mistral",
        ("[INST]", "[/INST]"),
        TextFrame(
            begin="{bos}",
            prefix={Role.SYSTEM: "[INST] ", Role.USER: "[INST] ", Role.ASSISTANT: ""},
            suffix={Role.SYSTEM: " [/INST]", Role.USER: " [/INST]", Role.ASSISTANT: "</s>"},
            generate="",
        ),
    ),
)


class Template:
    """A chat template of a model, as transformers renders it: sandboxed, blocks trimmed, without a clock."""

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        """Compile `source`. Raises NotASumError if that fails."""
        import jinja2.sandbox  # here: who only names a frame does not pay for it

        self.source, self.bos = source, bos
        env = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], autoescape=False
        )
        env.globals.update(raise_exception=_refuse, strftime_now=lambda _format: DATE, bos_token=bos, eos_token=eos)
        try:
            self.compiled = env.from_string(source)
        except Exception as exc:  # also of Python's own compiler, which takes 20 nested loops
            raise NotASumError(str(exc)) from exc

    def render(self, messages: Sequence[tuple[Role, str]], *, generate: bool = False) -> str:
        """The template's own prompt for `messages`. Raises NotASumError if it refuses them or breaks on them."""
        dicts: list[dict[str, Any]] = [{"role": str(role), "content": text} for role, text in messages]
        try:
            return self.compiled.render(messages=dicts, add_generation_prompt=generate, tools=None, documents=None)
        except Exception as exc:  # a template is a program: it may break in any way that programs do
            raise NotASumError(str(exc)) from exc


def _refuse(why: str) -> NoReturn:
    """`raise_exception` of chat templates."""
    raise NotASumError(why)


def derive(source: str, bos: str = "", eos: str = "") -> TextFrame:
    """The frame of the chat template `source` of a model whose BOS and EOS tokens read `bos` and `eos`.

    Raises BadInput if the template is no sum over its messages and has none of the known markers.
    """
    try:
        template = Template(source, bos, eos)
        for system in (True, False):
            try:
                return _derived(template, system=system)
            except NotASumError:
                continue
    except NotASumError:
        pass  # not even jinja2: the markers may still tell
    for _name, markers, frame in NAMED:
        if all(marker in source for marker in markers):
            return msgspec.structs.replace(frame, begin=frame.begin.replace("{bos}", bos))
    known = ", ".join(name for name, _markers, _frame in NAMED)
    raise BadInput(f"the model's chat template is not understood; templates like these are: {known}")


def ten(*, system: bool) -> list[tuple[Role, str]]:
    """The ten messages that a frame is checked on: a system text first if `system`, then user and assistant in turn."""
    roles = [Role.SYSTEM] if system else []
    while len(roles) < TURNS:
        roles.append(Role.ASSISTANT if roles and roles[-1] is Role.USER else Role.USER)
    return [(role, f"Text {n} has two lines:\nthe second {{ends}} in 'quotes' <{n}>.") for n, role in enumerate(roles)]


def _derived(template: Template, *, system: bool) -> TextFrame:
    """The frame read off from probes and checked. Raises NotASumError if the template is no such sum.

    With `system`, the system role has a frame of its own; without, it borrows the user's.
    """
    s, u, a = (Role.SYSTEM, "PROBE-S"), (Role.USER, "PROBE-U"), (Role.ASSISTANT, "PROBE-A")
    again = (Role.USER, "PROBE-V")
    head = [s, u] if system else [u]
    full = template.render([*head, a, again])
    tail_user = template.render(head).partition(u[1])[2]
    tail_assistant = template.render([*head, a]).partition(a[1])[2]
    prefix, suffix = {}, {}
    suffix[Role.USER], suffix[Role.ASSISTANT] = tail_user, tail_assistant
    prefix[Role.ASSISTANT] = _after(_between(full, u[1], a[1]), tail_user)
    prefix[Role.USER] = _after(_between(full, a[1], again[1]), tail_assistant)
    generate = _after(template.render(head, generate=True), template.render(head))
    if not generate and not prefix[Role.ASSISTANT]:
        # Some templates (Phi-3's first) end a user's turn with the assistant's header; it belongs to the next turn.
        header = tail_user.removeprefix(tail_assistant)
        if tail_assistant and header and header != tail_user:
            prefix[Role.ASSISTANT], suffix[Role.USER], generate = header, tail_assistant, header
    if system:
        suffix[Role.SYSTEM] = _before(_between(full, s[1], u[1]), prefix[Role.USER])
        first = full.partition(s[1])[0]
        begin, prefix[Role.SYSTEM] = _split_first(template, first, suffix[Role.SYSTEM], prefix[Role.USER])
    else:
        begin = _before(full.partition(u[1])[0], prefix[Role.USER])
        prefix[Role.SYSTEM], suffix[Role.SYSTEM] = prefix[Role.USER], suffix[Role.USER]
    frame = TextFrame(begin=begin, prefix=prefix, suffix=suffix, generate=generate)
    if begin not in ("", template.bos):
        raise NotASumError("it puts a text of its own in front")
    if max(map(len, frame.parts())) > PART_MAX:
        raise NotASumError("a frame is longer than many a message")
    if any(strange in part for part in frame.parts() for strange in ("PROBE-", DATE)):
        raise NotASumError("a message or the date stands in the frame")
    messages = ten(system=system)
    for count in (TURNS, TURNS - 1):  # one of them ends with the user's turn, one with the assistant's
        some, asked = messages[:count], messages[count - 1][0] is Role.USER
        if template.render(some, generate=asked) != frame.join(some, generate=asked):
            raise NotASumError("ten messages are not rendered as the sum of their frames")
    return frame


def _split_first(template: Template, first: str, suffix: str, user: str) -> tuple[str, str]:
    """What stands before the first system text, as what comes once and what comes before each system text."""
    try:
        twice = template.render([(Role.SYSTEM, "PROBE-S"), (Role.SYSTEM, "PROBE-T"), (Role.USER, "PROBE-U")])
        prefix = _after(_between(twice, "PROBE-S", "PROBE-T"), suffix)
        return _before(first, prefix), prefix
    except NotASumError:  # one system text only: BOS comes once, unless it opens every turn, and the rest before each
        once = template.bos and first.startswith(template.bos) and not user.startswith(template.bos)
        begin = template.bos if once else ""
        return begin, first.removeprefix(begin)


def _between(text: str, left: str, right: str) -> str:
    """What stands between two probes. Raises NotASumError if they are not both there, once, in this order."""
    if text.count(left) != 1 or text.count(right) != 1 or text.index(left) > text.index(right):
        raise NotASumError("a message is left out, repeated or moved")
    return text.partition(left)[2].partition(right)[0]


def _after(text: str, start: str) -> str:
    """`text` without `start` in front. Raises NotASumError if it does not start so."""
    if not text.startswith(start):
        raise NotASumError("a frame depends on what follows")
    return text[len(start) :]


def _before(text: str, end: str) -> str:
    """`text` without `end` behind. Raises NotASumError if it does not end so."""
    if not text.endswith(end):
        raise NotASumError("a frame depends on what comes before")
    return text[: len(text) - len(end)]
