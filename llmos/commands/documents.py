"""Commands about documents: put, ask.

Guarantee: files are read here, by whoever runs the command; a daemon opens none.
Not here: what a file is (llmos/documents), what a machine does with it (kernel/machine/documents.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from kernel.errors import BadInput
from llmos.commands.options import (
    cpu_option,
    dir_option,
    json_option,
    model_option,
    proc_argument,
    set_option,
    socket_of,
    window_option,
)
from llmos.commands.output import Paced, coloured, columns, print_json, print_lines, said, show


@click.command()
@proc_argument
@click.argument("given", metavar="[FILE]...", nargs=-1, help="Files, folders or patterns; none: list what is there.")
@dir_option
@json_option
def put(proc: str, given: tuple[str, ...], directory: Path | None, as_json: bool) -> int:
    """\b
    Examples:
      llmos put main report.txt
      llmos put main --json

    Put documents into a process's archive: text, Markdown, HTML, PDF and source code, in pages along their structure,
    each of which says where it stands. What a message asks for is found there by itself; the calls `find` and `open`,
    given by name with --mask, search and show them. A file that has changed is a new version, and the same one is none.
    """
    from drivers.door import wire
    from llmos import ask, tables
    from llmos.documents.put import requests
    from llmos.documents.read import files, read

    if not given:
        shelf = ask.call(socket_of(directory), wire.Documents(id=0, proc=proc), wire.Shelf)
        if as_json:
            print_json({"documents": [tables.document(one) for one in shelf.documents]})
        else:
            print_lines(tables.documents(shelf.documents, colour=coloured(), width=columns()))
        return 0
    paths = files(given)
    rows: list[dict[str, object]] = []
    refused = 0
    with ask.connect(socket_of(directory)) as daemon:
        daemon.ask(wire.Describe(id=0, proc=proc), wire.Made)  # who is not there is said before a file is read
        for number, path in enumerate(paths, 1):
            try:
                document = read(path)
            except BadInput as exc:
                said(str(exc))
                refused += 1
                continue
            fresh = 0
            with Paced() as progress:
                for part in requests(proc, document):
                    fresh += not daemon.ask(part, wire.Ok).duplicate
                    at = f"{number} of {len(paths)} files, {part.part + 1} of {part.parts} parts of {document.path}"
                    progress.tell(at)
            rows.append({"path": document.path, "pieces": len(document.pieces), "new": bool(fresh)})
            if not as_json:
                show(f"{document.path}: {f'{len(document.pieces)} pieces' if fresh else 'unchanged'}")
    if as_json:
        print_json({"documents": rows, "refused": refused})
    if refused and not rows:
        raise BadInput("nothing was put")
    return 0


@click.command()
@click.argument("given", metavar="FILE... QUESTION", nargs=-1, required=True, help="Documents, then the question.")
@click.option("--whole", is_flag=True, help="Read all of the documents, part by part, not what is found.")
@model_option
@window_option
@cpu_option
@set_option
@json_option
def ask(
    given: tuple[str, ...],
    whole: bool,
    model: str | None,
    window: int | None,
    cpu: str | None,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """\b
    Examples:
      llmos ask report.txt "What does the report say?"
      llmos ask report.txt "What went well?" --whole --cpu scripted --json

    Answer a question from documents, and cite path and line, or the page of a PDF; or say that they do not say. A
    machine of its own is made for it, and goes with it. What is read for an answer is what the index finds; a question
    about all of a long document ("which months were dry?") is asked with --whole: forks read one part each, what they
    note is read together, and the notes are printed with the answer. That takes as long as all the text needs.
    """
    import tempfile

    import trio

    from llmos.documents.asking import Answered, Asker
    from llmos.documents.read import files, read
    from llmos.documents.whole import ALL, Readers, Whole
    from llmos.init import powered

    if len(given) < 2:
        raise BadInput("FILE... QUESTION are wanted: documents, and last the question")
    documents = [read(path) for path in files(given[:-1])]
    settings = [*changes, *(ALL if whole else ())]

    async def run(folder: Path, tell: Callable[[str], None]) -> Answered | Whole:
        async with powered(folder, model=model, window=window, cpu=cpu, changes=settings) as machine:
            if whole:
                return await Readers(machine).ask(documents, given[-1], tell)
            asker = Asker(machine)
            await asker.begin(documents, tell)
            return await asker.ask(given[-1])

    with tempfile.TemporaryDirectory(prefix="llmos-ask-") as folder, Paced() as progress:
        found = trio.run(run, Path(folder), progress.tell)
    if as_json:
        print_json(found)
        return
    show(found.text if found.said else f"{found.text} ({found.why})")
    if isinstance(found, Answered):
        for place in found.places:
            show(f"  {place.where}")
        if not found.said:
            said("what is found does not say it; --whole reads all of the documents")
        return
    for note in found.notes:
        show(f"  {note.place.where}: {note.text}")
    if found.notes:
        show(f"  {len(found.notes)} of {found.parts} parts say something about it")
