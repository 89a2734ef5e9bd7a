"""What an answer about documents is worth: what it rests on, and when the documents do not say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivers.cpu.scripted import ScriptedCpu
from kernel.memory.words import terms
from kernel.ports import Job
from llmos.commands.app import status
from llmos.documents.asking import UNSAID, Answered, Asker, Place, judged
from llmos.documents.read import read
from llmos.init import powered
from tests.servers import Fake

PUMP = Place("manual.md", 3, 4, False, ("The pump of the Korvan 210",), "It weighs 41 kg. It stands in Orvik.")
BELT = Place("manual.md", 9, 9, False, ("The belt of the Dulto 311",), "It weighs 12 kg.")
LID = Place("manual.md", 12, 12, False, ("The lid of the Korvan 210",), "It is painted green.")
SEEN = [BELT, PUMP, LID]
KNOWN = frozenset[str]().union(*(terms(f"{' '.join(one.headings)} {one.text}") for one in SEEN)) | terms("Halden")


def told(question: str, reply: str, seen: list[Place] = SEEN) -> Answered:
    return judged(question, reply, seen, KNOWN, 0.5)


def test_an_answer_cites_what_it_shares_its_words_with_of_what_has_the_questions_names() -> None:
    found = told("How heavy is the pump of the Korvan 210?", "It weighs 41 kg.")
    assert (found.said, found.places) == (True, (PUMP,))
    assert found.places[0].where == "manual.md:3-4  (The pump of the Korvan 210)"
    assert told("What weighs 12 kg?", "The belt.").places == (BELT,)


@pytest.mark.parametrize(
    ("question", "reply", "why"),
    [
        ("How heavy is the pump of the Melto 900?", "It weighs 41 kg.", "Melto stands nowhere"),
        ("How heavy is the pump?", "It weighs 77 kg.", "the model said 77"),
        ("Where does the pump stand?", "It stands in Halden.", "the model said Halden"),
        (
            "How heavy is the pump of the Korvan 210?",
            "It weighs 12 kg.",
            "12, which stands in none of what is about it",
        ),
        ("How heavy is the lid of the Korvan 210?", "It weighs 41 kg.", "41, which stands in none of what is about it"),
        ("Who painted the pump?", "The documents do not say.", "the model finds it"),
        ("Who painted the pump?", " ", "the model finds it"),
    ],
)
def test_the_documents_do_not_say(question: str, reply: str, why: str) -> None:
    found = told(question, reply)
    assert (found.said, found.text, found.places) == (False, UNSAID, ())
    assert why in found.why


def test_nothing_that_is_found_is_no_answer_whatever_the_model_says() -> None:
    for seen in ([], SEEN):
        assert told("Who lives on the moon?", "It weighs 41 kg.", seen).why == "nothing like it is found"


async def test_a_question_is_answered_from_a_document_with_its_line_by_a_whole_machine(tmp_path: Path) -> None:
    path = tmp_path / "manual.md"
    path.write_text("# Pump\n\nIt weighs 41 kg.\n\n# Lamp\n\nIt is green, and shines at night.\n")

    def program(job: Job) -> str:
        shown = [page.text for page in job.pages if page.recalled]
        return next((text for text in shown if "41" in text), "The documents do not say.")

    async with powered(tmp_path / "machine", cpu=ScriptedCpu(program, encoding="prose"), window=1024) as machine:
        asker = Asker(machine)
        await asker.begin([read(path, "manual.md")])
        found = await asker.ask("How heavy is the pump?")
        assert (found.text, found.said) == ("It weighs 41 kg.", True)
        assert found.places[0].where == "manual.md:3  (Pump)"
        none = await asker.ask("Which planet is the largest of all?")
        assert (none.said, none.places) == (False, ())


def test_ask_works_with_a_server_which_is_sent_what_is_a_files_under_its_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "manual.md"
    path.write_text("# Pump\n\nIt weighs 41 kg.\n\n# Lamp\n\nIt is green, and shines at night.\n")
    server, heard = Fake(), list[str]()
    server.window = 4096

    def reply(said: str) -> str:
        heard.append(said)
        return "The pump weighs 41 kg."

    server.reply = reply
    try:
        assert status(["ask", str(path), "How heavy is the pump?", "--cpu", server.url, "--json"]) == 0
    finally:
        server.down()
    found = json.loads(capsys.readouterr().out)
    assert (found["text"], found["said"]) == ("The pump weighs 41 kg.", True)
    assert [(one["path"], one["first"], one["headings"]) for one in found["places"]] == [(str(path), 3, ["Pump"])]
    assert "[file Pump] It weighs 41 kg.\n" in heard[-1]
    assert heard[-1].endswith("How heavy is the pump?")
