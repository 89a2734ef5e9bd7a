"""Whether llmos frames a conversation as a model's own chat template does, over a file of templates.

Each template is framed as a model's is when it is tried, in a process of its own under the same limits
(drivers/cpu/llama/trial.py `framed`), and then renders ten conversations (drivers/cpu/llama/derive.py `ten`) as
transformers has it: `equal` if the frame joins each to the same text. One that the template itself refuses is not
counted, and is said.
What both leave out: a date, and white space before BOS (drivers/cpu/llama/template.py `settled`).
Input: lines of JSON with `name` and `template`, and `bos` and `eos` if they are not <s> and </s>.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
from pathlib import Path
from typing import Final

import msgspec

from kernel.errors import BadInput
from llmos.commands.output import print_json, print_table, show

NAME: Final = "templates.jsonl"
TEMPLATES_MAX: Final = 10_000
ANSWER_MAX: Final = 1 << 20  # bytes that come back of a template
NOTHING: Final = "it took more than 2 s or 256 MiB"


class Source(msgspec.Struct, frozen=True):
    """A chat template, and how the model's first and last tokens read."""

    name: str
    template: str
    bos: str = "<s>"
    eos: str = "</s>"


class Found(msgspec.Struct, frozen=True):
    """What came of one. `frame`: "own", the name of a named frame, or None; `why`: of a refusal, or what is left out.

    `differs` and `declined`: the conversations in which frame and template differ, and those that the template refuses,
    with its reason. `thinks`: between which marks the model thinks.
    """

    name: str
    status: str  # derived, named, refused
    frame: str | None
    why: str
    equal: bool | None = None  # None: refused
    differs: list[str] = []
    declined: dict[str, str] = {}
    thinks: list[str] | None = None


class Summary(msgspec.Struct, frozen=True):
    """The templates of a file, and how many came out how; `equal`: of those that are framed."""

    templates: list[Found]
    framed: int
    derived: int
    named: int
    refused: int
    equal: int


def run(data: Path | None, as_json: bool) -> int:
    """`llmos bench templates`: measure and print. 1 if a frame differs from its template."""
    found = measured(sources(file_of(data)))
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        names = ("template", "status", "equal", "what is to say")
        print_table(names, [_row(one) for one in found.templates], left=names, wrap=True)
        show(f"{len(found.templates)} templates: {found.framed} framed, {found.equal} equal, {found.refused} refused")
    return int(found.equal < found.framed)


def file_of(data: Path | None) -> Path:
    """The file of templates: given, in the folder given, or below LLMOS_DATA. Raises BadInput if there is none."""
    root = data or (Path(os.environ["LLMOS_DATA"]) if os.environ.get("LLMOS_DATA") else None)
    if root is None:
        raise BadInput("no data: give --data DIR or set LLMOS_DATA to the folder that holds templates/")
    places = [root] if root.is_file() else [root / "templates" / NAME, root / NAME]
    for place in places:
        if place.is_file():
            return place
    raise BadInput(
        f"{root} has no {places[0].relative_to(root)}; --data or LLMOS_DATA names the folder that has, or FILE"
    )


def sources(path: Path) -> list[Source]:
    """The templates of a file. Raises BadInput if it is none, with the line."""
    found: list[Source] = []
    try:
        for line in filter(None, path.read_bytes().splitlines()):
            found.append(msgspec.json.decode(line, type=Source))
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror}") from exc
    except (msgspec.DecodeError, ValueError) as exc:
        wanted = "a line of JSON with name and template is wanted"
        raise BadInput(f"{path}, template {len(found) + 1}: {exc}; {wanted}") from exc
    if not 0 < len(found) <= TEMPLATES_MAX:
        raise BadInput(f"{path} has {len(found)} templates; 1 to {TEMPLATES_MAX} are wanted")
    return found


def measured(wanted: list[Source]) -> Summary:
    """What comes of them."""
    found = [_apart(one) for one in wanted]
    count = {status: sum(one.status == status for one in found) for status in ("derived", "named", "refused")}
    return Summary(found, count["derived"] + count["named"], **count, equal=sum(one.equal is True for one in found))


def _apart(source: Source) -> Found:
    """What comes of one, in a process of its own, which its limits end."""
    import jinja2  # noqa: F401  (here, and not in each process)

    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            os.close(read)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            gc.freeze()
            said = msgspec.json.encode(_judged(source))
            while said:
                said = said[os.write(write, said) :]
        os._exit(0)
    os.close(write)
    with open(read, "rb") as got:
        said = got.read(ANSWER_MAX)
    _, status = os.waitpid(pid, 0)
    try:
        return msgspec.json.decode(said, type=Found)
    except msgspec.DecodeError:
        ended = f", and was ended by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else ""
        return Found(source.name, "refused", None, NOTHING + ended)


def _judged(source: Source) -> Found:
    """Frame a template and compare the two, under the limits of a trial."""
    from drivers.cpu.llama.derive import compare
    from drivers.cpu.llama.template import NotASumError, Template
    from drivers.cpu.llama.trial import bounded, framed

    verdict = framed(source.template, source.bos, source.eos)
    thinks = [verdict.thinks.open, verdict.thinks.close] if verdict.thinks else None
    if verdict.frame is None:
        return Found(source.name, "refused", None, verdict.why)
    status, why = "named" if verdict.named else "derived", "; ".join(verdict.notes())
    try:
        with bounded():
            template = Template(source.template, source.bos, source.eos)
            compared = compare(template, verdict.frame, verdict.thinks)
    except NotASumError:
        return Found(source.name, status, verdict.named, why, equal=False)
    differs = [one.name for one in compared if one.equal is False]
    return Found(
        source.name,
        status,
        verdict.named or "own",
        why,
        equal=not differs,
        differs=differs,
        declined={one.name: one.refuses for one in compared if one.equal is None},
        thinks=thinks,
    )


def _row(found: Found) -> tuple[str, ...]:
    equal = "" if found.equal is None else "yes" if found.equal else f"no: {', '.join(found.differs) or 'unchecked'}"
    declined = f"it refuses {len(found.declined)} of ten itself" if found.declined else ""
    status = f"named ({found.frame})" if found.status == "named" else found.status
    return found.name, status, equal, "; ".join(filter(None, (found.why, declined)))
