"""A question about the whole of documents: forks read one part each, and what they note is read together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.cpu.scripted import ScriptedCpu
from kernel.memory.page import FilePage, Origin
from kernel.ports import Job
from llmos.commands.app import status
from llmos.documents.asking import UNSAID, Place
from llmos.documents.read import read
from llmos.documents.whole import ALL, MAP, UNANSWERED, Readers, rests
from llmos.init import powered
from tests.servers import Fake

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August")
DRY = ("March", "June", "July")
PART = Place("year.md", 3, 3, False, ("Spring", "March"), "It did not rain, and the wells were low.")


def written(folder: Path) -> Path:
    path = folder / "year.md"
    talk = "\n\n".join(f"The diary tells nothing of the weather, and much of hen {n}. " * 4 for n in range(3))
    text = [f"# {one}\n\nThe ground was {'dry' if one in DRY else 'wet'}.\n\n{talk}\n" for one in MONTHS]
    path.write_text("\n".join(text))
    return path


def reader(jobs: list[Job]) -> Callable[[Job], str]:
    def program(job: Job) -> str:
        jobs.append(job)
        told = [page.page for page in job.pages if isinstance(page.page, FilePage) and page.page.source]
        if MAP in "".join(page.text for page in job.pages):
            dry = [one.source.headings[-1] for one in told if "ground was dry" in one.text]
            return f"The ground of {' and '.join(dry)} was dry." if dry else "Nothing."
        return " ".join(one.text for one in told)

    return program


@pytest.mark.parametrize("window", [1024, 4096])
async def test_every_part_is_read_once_by_a_fork_and_the_notes_are_read_together(tmp_path: Path, window: int) -> None:
    jobs: list[Job] = []
    cpu = ScriptedCpu(reader(jobs), encoding="prose")
    said: list[str] = []
    async with powered(tmp_path / "machine", cpu=cpu, window=window, changes=list(ALL)) as machine:
        document = read(written(tmp_path), "year.md")
        found = await Readers(machine).ask([document], "Which months were dry?", said.append)
        kernel = machine.kernel
        assert all(proc.name in ("map", "reduce") or proc.state == "zombie" for proc in kernel.procs.values())
    assert found.said
    assert found.text.count("was dry") == len(DRY)
    assert [one.place.headings[-1] in DRY for one in found.notes] == [True] * len(DRY)
    pages = {page.page.id: page.page for job in jobs for page in job.pages if page.page.origin is Origin.FILE}
    mine = [page for page in pages.values() if isinstance(page, FilePage) and page.source.path == document.path]
    mine.sort(key=lambda page: (page.source.first, page.id))
    assert "".join(page.text for page in mine) == "".join(piece.text for piece in document.pieces)
    assert said[found.parts - 1] == f"{found.parts} of {found.parts} parts read, {len(DRY)} say something about it"
    assert not any(page.recalled for job in jobs for page in job.pages)


@pytest.mark.parametrize(
    ("note", "does"),
    [
        ("It did not rain.", True),
        ("The wells of March were low.", True),
        ("March was dry: the wells were low.", True),  # a word for what the part says, and the part's own
        ("March was dry.", False),  # the question, given back
        ("The ground of Ghent was dry.", False),
        ("The wells of Bruges were low.", False),
        ("In 1904 the wells were low.", False),
        ("There was a drought.", False),  # perhaps, and nobody can see it
    ],
)
def test_a_note_rests_on_its_part_and_does_not_give_the_question_back(note: str, does: bool) -> None:
    assert rests(note, "Which months were dry, in Ghent?", PART) is does


async def test_what_no_part_says_is_not_said_and_notes_that_come_to_nothing_are_shown(tmp_path: Path) -> None:
    document = read(written(tmp_path), "year.md")
    for reply, noted in (("Nothing.", 0), ("The ground was wet.", 5)):

        def program(job: Job, reply: str = reply) -> str:
            shown = [page.text for page in job.pages]
            return reply if MAP in shown[0] and any("ground was wet" in one for one in shown) else "Nothing."

        cpu = ScriptedCpu(program, encoding="prose")
        folder = tmp_path / str(noted)
        async with powered(folder, cpu=cpu, window=2048, changes=list(ALL)) as machine:
            found = await Readers(machine).ask([document], "Which months were wet?")
        assert (found.said, found.text, len(found.notes)) == (False, UNANSWERED if noted else UNSAID, noted)
        assert found.why == ("the model makes nothing of the notes" if noted else "no part says anything about it")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("The months were dry.", "the model gives the question back"),
        ("In 1904 it was dry.", "the model said 1904, which stands in none of the notes"),
        ("March and June were dry.", ""),
        ("3 months were dry.", ""),
    ],
)
async def test_an_answer_rests_on_the_notes_and_says_more_than_the_question(
    tmp_path: Path, reply: str, why: str
) -> None:
    def program(job: Job) -> str:
        shown = "".join(page.text for page in job.pages)
        return reply if MAP not in shown else "The ground was dry." if "was dry" in shown else "Nothing."

    cpu = ScriptedCpu(program, encoding="prose")
    async with powered(tmp_path / "machine", cpu=cpu, window=2048, changes=list(ALL)) as machine:
        found = await Readers(machine).ask([read(written(tmp_path), "year.md")], "Which months were dry?")
    assert (found.text, found.why) == (UNANSWERED if why else reply, why)


def test_ask_prints_notes_with_their_places_and_how_many_parts_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    server = Fake()
    server.window = 4096
    server.reply = lambda said: "It was dry."  # which rests on three parts
    try:
        assert status(["ask", str(path), "Which months had no rain?", "--whole", "--cpu", server.url]) == 0
        printed = capsys.readouterr().out
        told, *noted, count = printed.splitlines()
        assert told == "It was dry."
        assert [one.split(": ")[0].split(":")[1] for one in noted] == [
            "23-27  (March)",
            "53-57  (June)",
            "63-67  (July)",
        ]
        assert count == "  3 of 16 parts say something about it"
        assert status(["ask", str(path), "Which months had no rain?", "--whole", "--cpu", server.url, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["said"], found["parts"], len(found["notes"])) == (True, 16, 3)
    finally:
        server.down()
