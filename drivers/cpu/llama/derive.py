"""The frame of a chat template, read off from what the template makes of probes, and checked.

`derive` returns only a frame that makes of ten conversations what the template itself makes of them, where it makes
anything of them; else it refuses, with the reason. What a template says once in front (a default text, a reasoning
mode) is said once, before the system texts that lead a prompt; a date is left out (template.py `settled`).
Where a template has no place for a system text further down, that takes the user's frame.
Caller's duty: see template.py.
Not here: what a frame is (frame.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

import msgspec

from drivers.cpu.llama.frame import NOTHING, Message, Past, TextFrame, Thinks, Trim
from drivers.cpu.llama.named import named
from drivers.cpu.llama.template import NotASumError, Template
from drivers.cpu.llama.thinking import Marks, thinking
from kernel.errors import BadInput
from kernel.memory.measure import Head
from kernel.memory.page import Role

S, U, A = Role.SYSTEM, Role.USER, Role.ASSISTANT
PART_MAX: Final = 1_024  # characters that a frame puts before or behind a text
ONCE_MAX: Final = 16_384  # characters that it says once, in front or before an answer is generated
OWN_MAX: Final = 128  # characters around a system text further down; more is a text of the template's own, said again
BLOCK: Final = "\n\n"  # between leading system texts that a template has one place for
USUAL: Final = Marks("<think>", "</think>")  # in conversations with templates that know no thought


class Compared(msgspec.Struct, frozen=True):
    """One of the ten: `refuses` is why the template does not render it, "" if it does; `equal` is None then."""

    name: str
    equal: bool | None
    refuses: str = ""


class Derived(msgspec.Struct, frozen=True):
    """A frame, and whether a date was left out. `named`: which of those with a name it is, unchecked; "": its own."""

    frame: TextFrame
    dated: bool = False
    named: str = ""


def ten(marks: Marks | None = None) -> list[tuple[str, list[Message]]]:
    """The ten conversations, by name. Each ends with a user's turn, as every prompt does that is generated from."""
    think = marks or USUAL
    system, asked, said = (S, "Be brief.\n\nUse 'plain' words."), (U, "What is 6 * 7?"), (A, "It is {{ 42 }}.\nSure.")
    more, again, last = (U, "And <then>?"), (A, "Then 43."), (U, "Thanks: \u00e9 \u4e16\u754c \U0001f600")
    thought = (A, f"{think.open}\nSix sevens.\nSo 42.\n{think.close}\n\nIt is 42.")
    white = [(U, "\n hello \n\n"), (A, "\n\n Hi. \n"), (U, "  more\t\n"), (A, " yes "), last]
    long = [(U, "line one\nline two\n\nline four"), (A, '["a", {"b": 1}]'), (U, "\u05e9\u05dc\u05d5\u05dd"), (A, "x")]
    return [
        ("one message", [asked]),
        ("a system text", [system, asked]),
        ("turns under a system text", [system, asked, said, more, again, last]),
        ("thought in an answer that is past", [asked, thought, more, again, last]),
        ("thought under a system text", [system, asked, thought, more, again, last]),
        ("two users in a row", [asked, said, more, last, again, asked]),
        ("two users in a row under a system text", [system, asked, more, said, last, asked]),
        ("white space at the ends", white),
        ("white space under a system text", [(S, " Be kind. \n"), *white]),
        ("many turns", [*long, *long, *long, asked, said, last]),
    ]


def derive(source: str, bos: str = "", eos: str = "") -> Derived:
    """The frame of the chat template `source` of a model whose BOS and EOS tokens read `bos` and `eos`.

    Raises BadInput if it has none, with the reason.
    """
    try:
        template = Template(source, bos, eos)
    except NotASumError as exc:
        if found := named(source, bos):
            return Derived(found[1], named=found[0])
        raise BadInput(f"the model's chat template is not understood: it cannot be read: {exc}") from exc
    try:
        return _checked(template, thinking(source))
    except NotASumError as exc:
        raise BadInput(f"the model's chat template is not understood: {exc}") from exc


def compare(template: Template, frame: TextFrame, marks: Marks | None) -> tuple[Compared, ...]:
    """How the frame does in each of the ten."""
    template.settle()
    found = []
    for name, messages in ten(marks):
        refused = _refused(template, messages)
        equal = None if refused else frame.join(messages) == template.settled(messages)
        found.append(Compared(name, equal, refused))
    return tuple(found)


def _checked(template: Template, marks: Marks | None) -> Derived:
    """The first frame that does as the template does. Raises NotASumError if none does."""
    template.settle()
    why = "its rendering is no sum of frames"
    for placed, system in _frames(template):
        each = [*placed.prefix.values(), *placed.suffix.values()]
        if max(map(len, placed.parts())) > ONCE_MAX or max(map(len, each)) > PART_MAX:
            why = "what it puts around a message is longer than many a message"
            continue
        try:
            frame = _past(template, _trimmed(template, placed, system=system), marks)
        except NotASumError as exc:
            why = str(exc)
            continue
        if differs := [one.name for one in compare(template, frame, marks) if one.equal is False]:
            why = f"no sum of frames makes what it makes of {', '.join(differs)}"
            continue
        return Derived(_thinking(template, frame, marks) if marks else frame, dated=template.dated)
    raise NotASumError(why)


def _probe(role: Role, name: str) -> Message:
    return role, f"PROBE-{name}"


U1, U2, U3, U4 = (_probe(U, f"U{n}") for n in range(1, 5))
A1, A2 = (_probe(A, f"A{n}") for n in range(1, 3))
S1, S2 = (_probe(S, f"S{n}") for n in range(1, 3))


def _split(text: str, messages: Sequence[Message]) -> list[str]:
    """What stands before, between and after the texts of `messages`."""
    found = []
    for role, word in messages:
        before, there, text = text.partition(word)
        if not there or word in text:
            raise NotASumError(f"a text of role {role} is left out, repeated or moved")
        found.append(before)
    return [*found, text]


def _around(template: Template, messages: Sequence[Message], *, generate: bool = True) -> list[str]:
    return _split(template.settled(messages, generate=generate), messages)


def _maybe(template: Template, messages: Sequence[Message], *, generate: bool = True) -> list[str] | None:
    """The same; None where the template has no place for them."""
    try:
        return _around(template, messages, generate=generate)
    except NotASumError:
        return None


def _frames(template: Template) -> Iterator[tuple[TextFrame, bool]]:
    """The frames that a template may have, the likeliest first, and whether system texts have a place."""
    turns = [U1, A1, U2, A2, U3]
    lead, refused = _lead(template, turns), _refused(template, turns)
    if refused and not lead:
        raise NotASumError(f"it refuses turns of user and assistant: {refused}")
    front, ua, au, *others, tail = [lead[0] + lead[1], *lead[2:]] if refused else _around(template, turns)
    if others != [ua, au]:
        raise NotASumError("what stands around a message depends on where it stands")
    row = _maybe(template, [U1, A1, U2, U3, A2, U4])
    uu = row[3] if row else None
    if lead and lead[2:] != [ua, au, ua, au, tail]:
        raise NotASumError("a system text changes what stands around other messages")
    for frame in _sums(template, front, ua, au, tail, uu):
        placed = _placed(template, frame, lead[0], lead[1]) if lead else frame
        yield placed, bool(lead)


def _refused(template: Template, messages: Sequence[Message]) -> str:
    """Why the template does not render `messages`; "" if it does."""
    try:
        rendered = template.render(messages)
    except NotASumError as exc:
        return str(exc)
    role, text = messages[0]
    return "it leaves a system text out" if role is S and text.strip() not in rendered else ""


def _lead(template: Template, turns: Sequence[Message]) -> list[str]:
    """What stands around the texts of a conversation that a system text leads; [] where the template has none."""
    messages = [S1, *turns]
    if _refused(template, messages):
        return []
    rendered = template.settled(messages)
    try:
        return _split(rendered, messages)
    except NotASumError as exc:
        raise NotASumError("a system text in front is left out, repeated or moved") from exc


def _sums(template: Template, front: str, ua: str, au: str, tail: str, uu: str | None) -> Iterator[TextFrame]:
    """Frames of users and assistants, as what stands between their texts can be divided."""
    rows = [] if uu is None else [uu]
    ended, answered = _maybe(template, [U1, A1, U2], generate=False), _maybe(template, [U1, A1], generate=False)
    suffixes = [*([ended[-1]] if ended else []), _cut(os.path.commonprefix([ua, tail, *rows])), ""]
    for whole, suffix in product((True, False), dict.fromkeys(suffixes)):
        if not (ua.startswith(suffix) and tail.startswith(suffix)):
            continue
        prefixes = [one.removeprefix(suffix) for one in rows if one.startswith(suffix)]
        if answered and au.startswith(answered[-1]):
            prefixes.append(au[len(answered[-1]) :])
        prefixes += [_common_end([au, front, *rows]), ""]
        for prefix in dict.fromkeys(prefixes):
            if not (au.endswith(prefix) and front.endswith(prefix)):
                continue
            answer, end = au.removesuffix(prefix), suffix
            if tail == suffix != answer and answer and suffix.startswith(answer):
                end = answer  # a user's turn ends with the header of the next one, to which it belongs
            again = None if uu is None or uu == end + prefix else uu
            if whole is (again is None):
                yield TextFrame(
                    begin=front.removesuffix(prefix),
                    prefix={S: prefix, U: prefix, A: ua.removeprefix(end)},
                    suffix={S: end, U: end, A: answer},
                    generate=tail.removeprefix(end),
                    again=again,
                )


def _placed(template: Template, frame: TextFrame, front: str, after: str) -> TextFrame:
    """The frame with system texts in it: `front` stands before the one that leads, and `after` behind it."""
    prefix, joined = frame.prefix[U], None if after.endswith(frame.prefix[U]) else after
    end = after.removesuffix(prefix) if joined is None else after.rstrip() + frame.suffix[S]
    own = None
    if found := _maybe(template, [S1, U1, A1, S2, U2]):
        before, behind = found[3], found[4]
        if before.startswith(frame.suffix[A]) and behind.endswith(prefix):
            own = before.removeprefix(frame.suffix[A]), behind.removesuffix(prefix)
            own = own if _is_bare(template, frame, *own) else None
    between = BLOCK if own is None else end + own[0]
    if (found := _maybe(template, [S1, S2, U1])) and found[2] == after and _is_bare(template, frame, found[1]):
        between = found[1]
    own = own or (frame.prefix[S], frame.suffix[S])
    begin = front.removesuffix(own[0])
    plain = joined is None and between == end + own[0] and end == own[1]
    head: Head[str] | None = Head(front, between, end, joined)
    if plain and front.endswith(own[0]) and begin == frame.begin:
        head = None
    return msgspec.structs.replace(
        frame, prefix={**frame.prefix, S: own[0]}, suffix={**frame.suffix, S: own[1]}, head=head
    )


def _is_bare(template: Template, frame: TextFrame, *parts: str) -> bool:
    """Whether these are marks alone: what a template says once in front is not to be said again."""
    once = template.bos and template.bos not in frame.prefix[U]  # in some, BOS opens every turn
    return len("".join(parts)) <= OWN_MAX and not (once and any(template.bos in part for part in parts))


TRIMS: Final = tuple(Trim(left, right) for left, right in product(("", "\n", None), repeat=2))
AROUND: Final = "\n \n{}\n \n"


def _trimmed(template: Template, frame: TextFrame, *, system: bool) -> TextFrame:
    """The frame with what the template takes off the ends of texts."""
    turns = [U1, A1, U2, A2, U3]
    messages = [S1, *turns] if system else turns
    for message in (U2, A1, S1) if system else (U2, A1):
        role = message[0]
        frame = _fits(
            template,
            [(role, AROUND.format(one[1])) if one is message else one for one in messages],
            [
                msgspec.structs.replace(frame, trim={**frame.trim, role: trim} if trim != NOTHING else frame.trim)
                for trim in TRIMS
            ],
        )
    if frame.head is not None and frame.head.joined is not None:
        first = [S1, (U, AROUND.format(U1[1])), *turns[1:]]
        frame = _fits(template, first, [frame, *(msgspec.structs.replace(frame, joined=trim) for trim in TRIMS)])
    return frame


def _fits(template: Template, messages: Sequence[Message], frames: Sequence[TextFrame]) -> TextFrame:
    """The first of the frames that makes of `messages` what the template makes. Raises NotASumError if none does."""
    wanted = template.settled(messages)
    for frame in frames:
        if frame.join(messages) == wanted:
            return frame
    raise NotASumError("a text is not put down as it is, nor with its ends trimmed")


def _past(template: Template, frame: TextFrame, marks: Marks | None) -> TextFrame:
    """The frame with what becomes of thought in answers that are past."""
    if marks is None:
        return frame
    thought = f"{marks.open}\nPROBE-T\n{marks.close}"
    plain, around = ([U1, (A, thought + one.format(A1[1])), U2, A2, U3] for one in ("\n\n{}", AROUND))
    if _refused(template, plain):
        plain, around = [S1, *plain], [S1, *around]
    if _refused(template, plain):  # it takes thought apart from the answer only
        return frame
    opened = re.escape(marks.open)
    empty = re.search(rf"{opened}\s*{re.escape(marks.close)}\s*$", frame.prefix[A]) if marks.open else None
    if empty:
        kept = msgspec.structs.replace(frame, past=Past(marks.close, kept=empty[0]))
        if kept.join(plain) == template.settled(plain):
            return kept
    ways = [msgspec.structs.replace(frame, past=Past(marks.close, trim)) for trim in TRIMS]
    return _fits(template, around, [frame, *ways])


def _thinking(template: Template, frame: TextFrame, marks: Marks) -> TextFrame:
    """The frame with how the model thinks, as far as the template shows it.

    `lead` is what an answer of the past and one that is generated begin with in common, before a mark of thought.
    """
    answer, said = frame.prefix[A], frame.generate
    lead = os.path.commonprefix([answer, said])
    inside = [lead.index(mark) for mark in (marks.open, marks.close) if mark and mark in lead]
    if inside:
        lead = lead[: min(inside)]
    elif lead not in (answer, said):
        lead = _cut(lead)
    answer, said = answer.removeprefix(lead), said.removeprefix(lead)
    if said and marks.close not in said and marks.open not in said:  # where a thought would stand nobody knows
        return frame
    off = next((one for one in (said, _without(template, lead), answer) if marks.close in one), "")
    framed = "" if marks.close in answer else answer  # what stands before an answer, with thought or without
    if off and not off.endswith(framed):
        off += framed
    tag = "\n" if marks.open.endswith(">") and not marks.open.endswith("|>") else ""
    if off:
        before, close = off.rsplit(marks.close, 1)
        blank = before.partition(marks.open)[2][:1] if marks.open and marks.open in before else ""
        begun = before[: before.find(marks.open)] + marks.open + blank if marks.open in before else marks.open
    else:
        apart = lead if marks.close in frame.suffix[A] or marks.apart else ""
        begun, close = marks.open + tag, apart + framed if framed else tag * 2
    first = marks.close not in said if said else True if marks.apart else None
    return msgspec.structs.replace(
        frame,
        thinks=Thinks(marks.close, said if first and said else begun, close, "" if off == answer else off, first),
        lead=lead,
        plain=lead if off and off != answer else lead + answer,
    )


SWITCHES: Final = ("enable_thinking", "thinking")  # what templates ask whether thought is wanted


def _without(template: Template, lead: str) -> str:
    """What stands behind `lead` where a template is told that no thought is wanted; "" if it does not tell."""
    for switch in SWITCHES if lead else ():
        try:
            said = template.render([U1], **{switch: False})
        except NotASumError:
            continue
        if lead in said:
            return said.rpartition(lead)[2]
    return ""


def _cut(text: str) -> str:
    """As much of the text as ends before a mark, or at its end."""
    at = max(text.rfind(">"), text.rfind("]"), text.rfind("\n")) + 1
    return text[:at]


def _common_end(texts: Sequence[str]) -> str:
    """What all of them end with, from a mark on."""
    end = os.path.commonprefix([text[::-1] for text in texts])[::-1]
    starts = [at for at in (end.find("<"), end.find("[")) if at >= 0]
    return end[min(starts) :] if starts else ""
