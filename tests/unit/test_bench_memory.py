"""`llmos bench memory`: its formats, what counts as in view, and what a reply is worth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import locomo
from bench.memory import run
from bench.memory.conversations import load
from bench.memory.grading import contained, f1
from bench.memory.live import Asked, Spent
from bench.memory.porter import stem
from bench.memory.shown import Evidence, Seen, locate, shown, words
from bench.memory.talk import Conversation, Dataset, Message, Question, Reference
from kernel.errors import BadInput
from kernel.limits import NS
from llmos.intervals import bootstrap

MAY_8 = 1_683_554_160 * NS  # 1:56 pm on 8 May, 2023


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def sample() -> dict[str, object]:
    """A LoCoMo sample of three turns."""
    return {
        "sample_id": "conv-x",
        "conversation": {
            "speaker_a": "Ida",
            "session_2_date_time": "10:00 am on 9 May, 2023",
            "session_2": [{"speaker": "Ida", "dia_id": "D2:1", "text": "I sold the boat."}],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ida", "dia_id": "D1:1", "text": "Hi Otto!"},
                {"speaker": "Otto", "dia_id": "D1:2", "text": "Look.", "blip_caption": "a red barn"},
            ],
        },
        "qa": [
            {"question": "What was sold?", "answer": "boat", "evidence": ["D2:1; D:1:02"], "category": 1},
            {"question": "How many?", "answer": 6, "evidence": ["D1:01"], "category": 2},
            {"question": "Who lied?", "adversarial_answer": "Otto", "evidence": ["D1:2"], "category": 5},
            {"question": "Nowhere?", "answer": "no", "evidence": ["D9:9"], "category": 4},
            {"question": "No evidence?", "answer": "no", "evidence": [], "category": 4},
        ],
    }


def test_evidence_is_read_however_it_is_written() -> None:
    assert locomo.named(["D8:6; D9:17", "D:11:26", "D30:05", "D"]) == [(8, 6), (9, 17), (11, 26), (30, 5)]
    assert locomo.number("D2:07", 1, 1) == (2, 7)
    assert locomo.number("", 3, 4) == (3, 4)


@pytest.mark.parametrize("where", ["folder", "file", "workload"])
def test_locomo(tmp_path: Path, where: str) -> None:
    (tmp_path / "locomo").mkdir()
    file = write(tmp_path / "locomo" / "two.json", [sample()])
    data = tmp_path if where == "folder" else file
    found = load(str(file), None) if where == "workload" else load("locomo", data)
    (talk,) = found.conversations
    assert (talk.name, found.grading) == ("conv-x", "f1")
    assert [one.text for one in talk.messages] == [
        "Ida: Hi Otto!",
        "Otto: Look. [photo: a red barn]",
        "Ida: I sold the boat.",
    ]
    assert [one.at for one in talk.messages[:2]] == [MAY_8, MAY_8 + 30 * NS]
    assert [(one.golds, one.category) for one in talk.questions] == [(("boat",), "1"), (("6",), "2")]
    assert [[ref.message for ref in one.evidence] for one in talk.questions] == [["D2:1", "D1:2"], ["D1:1"]]


def test_sessions_that_overlap_are_told_in_order(tmp_path: Path) -> None:
    one = sample()
    one["conversation"]["session_2_date_time"] = "1:56 pm on 8 May, 2023"  # type: ignore[index]
    (talk,) = load(str(write(tmp_path / "a.json", one)), None).conversations
    assert [message.at for message in talk.messages] == [MAY_8, MAY_8 + 30 * NS, MAY_8 + 31 * NS]


def test_realtalk(tmp_path: Path) -> None:
    said = [
        {"clean_text": "Hey there", "speaker": "Kim", "date_time": "29.12.2023, 21:58:22", "dia_id": "D1:1"},
        {"clean_text": "", "speaker": "Lee", "date_time": "29.12.2023, 21:58:22", "dia_id": "D1:2"},
        {
            "clean_text": "My cat",
            "speaker": "Lee",
            "date_time": "29.12.2023, 22:00:00",
            "dia_id": "D1:3",
            "blip_caption": "a cat",
        },
    ]
    qa = [{"question": "Whose cat?", "answer": "Lee's", "evidence": ["D1:3"], "category": 2}]
    names = {"speaker_1": "Kim", "speaker_2": "Lee"}
    write(tmp_path / "chat_1.json", {"name": names, "session_1": said, "session_1_date_time": "?", "qa": qa})
    found = load(str(tmp_path), None)
    (talk,) = found.conversations
    assert (talk.name, found.grading) == ("chat_1", "f1")
    assert [one.text for one in talk.messages] == ["Kim: Hey there", "Lee: My cat [photo: a cat]"]
    assert [one.at for one in talk.messages] == [1_703_887_102 * NS, 1_703_887_200 * NS]
    assert talk.questions[0].evidence == (Reference("D1:3"),)


def test_bfcl(tmp_path: Path) -> None:
    write(
        tmp_path / "tea.jsonl",
        {"session": "a", "topic": "t", "messages": ["I drink Earl Grey. It’s my “one” habit.", "Then I went home."]},
        {"session": "b", "messages": ["Monday: Buy cups. Call the shop—it closes at six."]},
    )
    asked = [
        ("Tea?", "Earl Grey", 'I drink Earl\nGrey... "one" habit.'),
        ("When?", "six", "Monday: Call the shop - it closes at six."),
        ("Why?", "so", "Nobody ever said this about home."),
    ]
    rows = [
        {"id": str(number), "scenario": "tea", "question": question, "answers": [answer], "source": source}
        for number, (question, answer, source) in enumerate(asked, 1)
    ]
    write(tmp_path / "questions.jsonl", *rows)
    found = load("bfcl", tmp_path)
    (talk,) = found.conversations
    assert (talk.name, found.grading, found.lost) == ("tea", "contains", ("3",))
    first, second, third = talk.messages
    assert (second.at - first.at, third.at - first.at) == (60 * NS, 86_400 * NS)
    evidence = [one.evidence[0] for one in talk.questions]
    assert evidence[0] == Reference("1:1", ((0, 4), (7, 9)))
    told = words(third.text)
    assert evidence[1].message == "2:1"
    assert [told[low:high] for low, high in evidence[1].source] == [words("call the shop it closes at six")]
    assert evidence[2].message in ("1:2", "1:1", "2:1")


def test_lines_of_ones_own(tmp_path: Path) -> None:
    file = write(
        tmp_path / "mine.jsonl",
        {"say": "Hello.", "at": "2025-01-01T10:00:00"},
        {"ask": "Who?", "answers": ["Eve"], "evidence": ["x", "1"], "category": "names"},
        "",
        {"say": "I am Eve.", "at": "2025-01-01T12:00:00+02:00", "who": "Eve", "id": "x"},
    )
    found = load(str(file), None)
    (talk,) = found.conversations
    assert found.grading == "contains"
    assert [(one.id, one.text) for one in talk.messages] == [("1", "Hello."), ("x", "Eve: I am Eve.")]
    assert talk.messages[1].at == talk.messages[0].at + 1, "time grows"
    assert talk.questions == (Question("line 2", "Who?", ("Eve",), (Reference("x"), Reference("1")), "names"),)


SAY, ASK = '{"say": "a", "at": "2025-01-01"}', '{"ask": "b", "answers": ["c"], "evidence": ["1"]}'


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((SAY, "{"), r"mine.jsonl:2: .*a line is \{"),
        ((SAY, "3"), "mine.jsonl:2: "),
        ((SAY, '{"say": "a"}'), "mine.jsonl:2: .*`at`"),
        ((SAY, '{"say": "a", "at": "soon"}'), "mine.jsonl:2: .*soon"),
        ((SAY, '{"say": "a", "at": "2024-12-31"}'), "mine.jsonl:2: 2024-12-31 is before the line above it"),
        ((SAY, '{"say": "a", "at": "2025-01-02", "id": "1"}'), "mine.jsonl:2: a message needs .* an id that no other"),
        ((SAY, '{"ask": "b", "answers": ["c"], "evidence": ["7"]}'), "mine.jsonl:2: evidence '7' names no message"),
        ((SAY, '{"ask": "b", "answers": [], "evidence": ["1"]}'), "mine.jsonl:2: a question has"),
        ((SAY, ASK.replace('"evidence"', '"page"')), "mine.jsonl:2: .*page"),
        ((SAY,), "it needs messages and questions"),
        ((ASK,), "mine.jsonl:1: evidence '1' names no message"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, lines: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says) as refused:
        load(str(write(tmp_path / "mine.jsonl", *lines)), None)
    assert "\n" not in str(refused.value)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a.json:2: .*one JSON document"):
        load(str(write(tmp_path / "a.json", "[", "oh")), None)
    with pytest.raises(BadInput, match=r"b.json: sample 1: KeyError.*session_N"):
        load(str(write(tmp_path / "b.json", "[{}]")), None)
    with pytest.raises(BadInput, match=r"c.json: .*REALTALK"):
        load(str(write(tmp_path / "c.json", {"name": {}, "qa": []})), None)
    with pytest.raises(BadInput, match="it is facts, locomo, bfcl, or a file"):
        load("lokomo", None)
    with pytest.raises(BadInput, match="give --data DIR"):
        load("bfcl", None)
    with pytest.raises(BadInput, match=r"no \*.json in it"):
        load("locomo", _empty(tmp_path))
    with pytest.raises(BadInput, match="questions.jsonl: No such file"):
        load("bfcl", _empty(tmp_path))
    broken = _empty(tmp_path)
    write(broken / "questions.jsonl", '{"id": 1}')
    with pytest.raises(BadInput, match="questions.jsonl:1: .*a line is"):
        load("bfcl", broken)


def _empty(path: Path) -> Path:
    (path / "empty").mkdir(exist_ok=True)
    return path / "empty"


TEXT = "We met in Rome. The boat is called Heron, and it is old. We left."


def evidence(source: str = "", *answers: str) -> Evidence:
    """TEXT in two pages, with a source in it."""
    spans = locate([TEXT], source)[1] if source else ()
    return Evidence(TEXT, ((7, TEXT[:35]), (8, TEXT[35:])), spans, answers)


def test_without_a_source_any_page_of_the_message_shows_it() -> None:
    one = evidence()
    assert shown(one, [Seen(7, TEXT[:35], "queue")])
    assert shown(one, [Seen(8, TEXT[35:], "recall")])
    assert not shown(one, [Seen(9, TEXT, "recall")]), "another page"
    assert not shown(one, [])
    assert shown(one, [Seen(8, "Heron, and it is old.", "search")]), "a passage of most of the page"
    assert not shown(one, [Seen(8, "it is", "search")])


def test_with_a_source_its_words_must_be_visible() -> None:
    one = evidence("The boat is called ‘Heron’... it is old.", "Heron")
    first, second = Seen(7, TEXT[:35], "queue"), Seen(8, TEXT[35:], "recall")
    assert shown(one, [first, second]), "in two pages"
    assert not shown(one, [first]), "The boat is called"
    assert shown(one, [second]), "the answer, in a visible part of the source"
    assert shown(one, [Seen(8, "Heron", "search")])
    assert not shown(one, [Seen(9, TEXT, "queue")])
    without = evidence("The boat is called Heron", "Lisbon")
    assert not shown(without, [second]), "the answer is not there, so all of the source is wanted"
    assert shown(without, [first, second])
    outside = evidence("The boat is called", "Rome")
    assert not shown(outside, [Seen(7, "We met in Rome. The", "queue")]), "the answer stands outside the source"


def test_a_source_is_located_by_its_words() -> None:
    texts = ["Nothing here.", TEXT, "The boat is called"]
    assert locate(texts, "the BOAT is called “Heron”") == (1, ((4, 9),), 1.0)
    at, spans, share = locate(texts, "Boats: the boat is called")
    assert (at, spans, share) == (1, ((4, 8),), 0.8), "the first of equals"


@pytest.mark.parametrize(
    ("word", "is_"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("ties", "tie"), ("agreed", "agre"), ("feed", "feed"),
        ("plastered", "plaster"), ("conflated", "conflat"), ("hopping", "hop"), ("falling", "fall"),
        ("filing", "file"), ("happy", "happi"), ("enjoy", "enjoy"), ("sky", "sky"), ("relational", "relat"),
        ("digitizer", "digit"), ("radically", "radic"), ("hopefulness", "hope"), ("electriciti", "electr"),
        ("replacement", "replac"), ("adoption", "adopt"), ("rate", "rate"), ("cease", "ceas"), ("controll", "control"),
        ("roll", "roll"), ("died", "die"), ("theology", "theolog"), ("joyfully", "joy"), ("as", "as"),
        ("traditionally", "tradit"),
    ],
)  # fmt: skip
def test_porters_stems(word: str, is_: str) -> None:
    assert stem(word) == is_


@pytest.mark.parametrize(
    ("reply", "gold", "category", "value"),
    [
        ("It was a boat.", "the boat", "4", 0.5),  # was, it, boat: one of three and one of one
        ("Psychology", "psychology, counselling; because of art", "3", 2 / 3),
        ("running", "runs", "2", 1.0),
        ("a dog, a cat", "cat, dog", "1", 1.0),
        ("a dog", "cat, dogs", "1", 0.5),
        ("a dog", "cat, dogs", "4", 2 / 3),
        ("", "cat", "4", 0.0),
        ("1,000", "1000", "4", 1.0),
    ],
)
def test_locomos_f1(reply: str, gold: str, category: str, value: float) -> None:
    assert f1(reply, gold, category) == pytest.approx(value)


@pytest.mark.parametrize(
    ("reply", "answers", "value"),
    [
        ("It is 05:30 A.M., I think.", ["05:30 AM"], 1.0),
        ("Cross-functional", ["cross functional", "crossfunctional"], 1.0),
        ("There are 17.", ["7", "seven"], 0.0),
        ("She said 'yes'", ['"yes"'], 0.0),  # a quote at the end is no word's boundary
        ("Seven of them", ["7", "seven"], 1.0),
        ("anything", ["."], 0.0),
    ],
)
def test_bfcls_rule(reply: str, answers: list[str], value: float) -> None:
    assert contained(reply, answers) == value


def test_a_bootstrap_is_its_seeds() -> None:
    values = [0.0, 1.0] * 50
    low, high = bootstrap(values, 1)
    assert bootstrap(values, 1) == (low, high)
    assert 0.35 < low < 0.5 < high < 0.65


def test_questions_are_drawn_from_all_of_them() -> None:
    questions = tuple(Question(str(n), "?", ("!",), (Reference("1"),)) for n in range(40))
    talk = Conversation("a", (Message("1", 1, "x"),), questions)
    few, all_ = run.drawn(talk, 1, 5), run.drawn(talk, 1, 0)
    assert few == all_[:5]
    assert sorted(all_, key=lambda one: int(one.id)) == list(questions)
    assert run.drawn(talk, 2, 5) != few


def test_the_figures_of_a_row() -> None:
    one = Question("1", "?", ("boat",), (Reference("a"), Reference("b")), "1")
    other = Question("2", "?", ("cat",), (Reference("b"),), "2")
    talk = Conversation("t", (Message("a", 1, "x y"), Message("b", 2, "z")), (one, other))
    a, b = Evidence("x y", ((1, "x y"),)), Evidence("z", ((2, "z"),))
    visible = (Seen(2, "z", "recall"),)
    judged = [
        run.judge("f1", "t", Asked(one, (a, b), visible, "a boat", 10), True),
        run.judge("f1", "t", Asked(other, (b,), visible, "a dog", 0), True),
    ]
    data = Dataset("locomo", (talk,), "f1")
    row = run.summary("llmos", judged, Spent(prefill=110, recalled=10, new=50), data, 1, 2.0)
    assert (row.evidence, row.complete, row.questions, row.references) == (0.6667, 0.5, 2, 3)
    assert (row.recalled_per_question, row.prefill_per_new_token, row.prefill_per_question) == (5.0, 2.0, 55.0)
    assert (row.right, row.right_of_complete, row.ci95) == (0.5, 0.0, (0.0, 1.0))
    assert row.by_category["1"] == run.Group(1, 2, 0.5, 0.0, 1.0)
    assert row.by_scenario["t"].right == 0.5
    line = json.loads(run.details("llmos", judged[0]))
    assert [part["where"] for part in line["evidence"]] == [[""], ["recall"]]
    assert (line["right"], line["recalled"], line["reply"]) == (1.0, 10, "a boat")
    silent = run.summary("llmos", [run.judge("f1", "t", judged[0].asked, False)], Spent(), data, 1, 2.0)
    assert (silent.right, silent.ci95) == (None, silent.evidence_ci95)
    assert silent.by_category["2"] == run.Group(0, 0, None, None, None)
