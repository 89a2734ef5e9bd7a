"""Profiles of models: which answer to a probe is right, how a model is spoken to by that, and the file that says so."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from drivers.cpu import profiles
from drivers.cpu.profiles import Figure, Profile
from kernel.errors import BadInput
from llmos.intervals import wilson
from llmos.profile import asking, choice, making
from llmos.profile.choice import WAYS, Answer, Way
from llmos.profile.making import Book, Made
from llmos.profile.probes import KINDS, MASK, Half, Kind, Probe, probes, right
from syscalls.manual import manual
from tests.fakes import op

PRINTED = Path(__file__).with_name("printed")
TOLD = manual(MASK, "json", "whole")
FIGURE = Figure("choose", "json", "worked", "speak", 12, 9, 0.4, 0.9)
PROFILE = Profile("A model", "0" * 32, "json", "worked", False, (FIGURE,))


def answered(kind: Kind, text: str, encoding: str = "json", **probe: object) -> bool:
    return right(kind, msgspec.convert({"say": "x", **probe}, Probe), text, encoding, TOLD)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (op("send_message", text="Good morning!"), True),
        (op("yield"), False),
        (op("search", query="morning"), False),
        (op("send_message", text='You can reply with {"op":"yield"}.'), False),
        (op("send_message", text=f"Well: {TOLD.splitlines()[0]}"), False),
        ("Good morning!", False),
    ],
)
def test_who_has_nothing_to_do_speaks_and_recites_nothing_that_it_was_told(text: str, good: bool) -> None:
    assert answered("speak", text) is good


def test_in_prose_what_is_said_is_speech_and_the_manual_recited_is_wrong() -> None:
    told = manual(MASK, "prose", "whole")
    line = told.splitlines()[1]
    for text, good in (("Good morning!", True), (line, False), (f"Here: {line}", False), ("", False)):
        assert right("speak", Probe("x"), text, "prose", told) is good, text


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (op("remember", text="The user's sister is called Petra."), True),
        (op("remember", text="PETRA is a sister"), True),
        (op("remember", text="The user's cat is called Miso."), False),
        (op("remember", text="Petrarca's sisters"), False),
        (op("search", query="sister Petra"), False),
        (op("send_message", text="I will remember your sister Petra."), False),
        ('{"op":"remember","text":"Petra is my sister', False),
    ],
)
def test_what_is_to_be_remembered_is_remembered_with_every_word_that_matters(text: str, good: bool) -> None:
    assert answered("remember", text, words=["petra", "sister"]) is good


def test_a_search_has_one_of_the_words_and_a_timer_its_seconds_exactly() -> None:
    assert answered("search", op("search", query="the roof"), words=["roof", "house"])
    assert not answered("search", op("search", query="name of the cat"), words=["roof", "house"])
    assert not answered("search", op("remember", text="the roof"), words=["roof"])
    eggs: dict[str, object] = {"words": ["egg"], "seconds": 30}
    assert answered("timer", op("set_timer", seconds=30, text="Turn the eggs."), **eggs)
    assert not answered("timer", op("set_timer", seconds=300, text="Turn the eggs."), **eggs)
    assert not answered("timer", op("set_timer", seconds=30, every=30, text="Turn the eggs."), **eggs)
    assert not answered("timer", op("set_timer", at="2026-01-31", text="Turn the eggs."), **eggs)
    assert not answered("timer", op("set_timer", seconds=30, text="Ask about the exam."), **eggs)


def test_an_answer_from_a_result_says_what_stands_there_and_does_not_search_again() -> None:
    assert answered("answer", op("send_message", text="At 7."), words=["7|seven"])
    assert answered("answer", op("send_message", text="At seven."), words=["7|seven"])
    assert not answered("answer", op("send_message", text="At 17."), words=["7|seven"])
    assert not answered("answer", op("search", query="seven"), words=["7|seven"])


def test_sixty_probes_choose_and_a_hundred_others_are_reported() -> None:
    said = {}
    for half, each in (("choose", 12), ("report", 20)):
        found = list(probes().of(half))
        assert [kind for kind, _ in found] == [kind for kind in KINDS for _ in range(each)]
        said[half] = {probe.say for _, probe in found}
        assert len(said[half]) == len(found)
    assert not said["choose"] & said["report"]


def test_the_right_answer_to_every_probe_can_be_given_in_every_manner() -> None:
    """An answer made of the probe's own words, through the decoder."""
    for half in get_args(Half):
        for kind, probe in probes().of(half):
            words = " ".join(word.split("|")[0] for word in probe.words)
            calls = {
                "speak": op("send_message", text="Yes."),
                "remember": op("remember", text=words),
                "search": op("search", query=words),
                "timer": op("set_timer", text=words, seconds=probe.seconds),
                "answer": op("send_message", text=words),
            }
            for way in WAYS:
                told = manual(asking.mask(way.manual), way.encoding, way.manual)
                text = calls[kind] if way.encoding == "json" else f"!{calls[kind]}"
                assert right(kind, probe, text, way.encoding, told), (probe, way)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("speak = [", "speaks = ["),
        ("seconds = 30,", ""),
        ('words = ["petra"]', "words = []"),
        ('query = "cello teacher", ', ""),
    ],
)
def test_a_file_of_probes_that_is_none_is_refused_in_one_line(tmp_path: Path, old: str, new: str) -> None:
    text = Path(asking.__file__).with_name("probes.toml").read_text()
    assert old in text
    path = tmp_path / "probes.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput) as refused:
        probes(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_profile_is_written_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.toml"
    profiles.write(path, PROFILE)
    assert profiles.read(path) == PROFILE
    quoted = msgspec.structs.replace(PROFILE, model='a "b"\\ \n\x7f ü', figures=())
    profiles.write(path, quoted)
    assert profiles.read(path, quoted.file) == quoted


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('encoding = "json"', 'encoding = "yaml"', "yaml"),
        ("full = false", "", "full"),
        ("full = false", "full = false\ntemperature = 1", "temperature"),
        ("right = 9", "right = 13", "13 of 12"),
        ('model = "A model"', "model = ", "line 2"),
        (f'file = "{"0" * 32}"', f'file = "{"1" * 32}"', "another model"),
        (f'file = "{"0" * 32}"', 'file = "../x"', "file"),
    ],
)
def test_a_profile_that_is_none_is_refused_in_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, why: str
) -> None:
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    path = profiles.own("0" * 32)
    profiles.write(path, PROFILE)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(BadInput) as refused:
        profiles.of("0" * 32)
    line = str(refused.value)
    assert line.startswith(f"profile {path}: ")
    assert why in line
    assert "\n" not in line
    assert "llmos profile" in line


def test_this_machines_own_profile_goes_before_the_one_that_comes_with_llmos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(profiles, "SHIPPED", tmp_path / "shipped")
    assert profiles.of(PROFILE.file) is None
    profiles.write(tmp_path / "shipped" / "a.toml", PROFILE)
    assert profiles.of(PROFILE.file) == PROFILE
    mine = msgspec.structs.replace(PROFILE, encoding="prose")
    profiles.write(profiles.own(PROFILE.file), mine)
    assert profiles.of(PROFILE.file) == mine


def some(way: Way, *rights: int, half: Half = "choose") -> list[Answer]:
    """Twelve answers of each kind, so many of them right."""
    return [
        Answer(half, way, kind, "x", "", n < good) for kind, good in zip(KINDS, rights, strict=True) for n in range(12)
    ]


def test_the_manner_with_the_most_right_answers_is_chosen_then_the_best_at_its_worst_then_the_whole_manual() -> None:
    one, two = WAYS[:2]

    def best(*answers: list[Answer]) -> Way:
        return choice.ranked(choice.figures([one for some in answers for one in some]))[0]

    assert best(some(one, 12, 12, 0, 0, 0), some(two, 5, 5, 5, 5, 5)) == two
    assert best(some(one, 12, 12, 0, 0, 0), some(two, 8, 4, 4, 4, 4)) == two
    assert best(some(two, 5, 5, 5, 5, 5), some(one, 5, 5, 5, 5, 5)) == one
    reported = some(one, 12, 12, 12, 12, 12, half="report")
    assert best(some(one, 1, 1, 1, 1, 1), reported, some(two, 2, 1, 1, 1, 1)) == two, "what is reported decides nothing"


def test_a_model_has_all_syscalls_by_default_if_it_is_right_nine_times_of_ten_in_every_kind() -> None:
    one, two = WAYS[:2]
    for rights, full in (((12, 12, 12, 12, 11), True), ((12, 12, 12, 12, 10), False)):
        found = choice.figures([*some(one, *rights), *some(two, 0, 0, 0, 0, 0)])
        assert choice.full(found, one) is full
    assert not choice.full(choice.figures(some(one, 12, 12, 12, 12, 12, half="report")), one)


def test_answers_are_kept_by_what_they_depend_on_and_a_line_that_was_cut_off_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    way, (kind, probe) = WAYS[0], next(probes().of("choose"))
    answer = Answer("choose", way, kind, probe.say, "x", True)
    Book("f" * 32, []).add(probe, answer)
    assert Book("f" * 32, []).find("choose", way, kind, probe) == answer
    assert Book("f" * 32, ["cpu.threads=1"]).find("choose", way, kind, probe) is None
    assert Book("e" * 32, []).find("choose", way, kind, probe) is None
    assert Book("f" * 32, []).find("choose", way, kind, Probe("Another?")) is None
    path = profiles.own("f" * 32).with_suffix(".answers.jsonl")
    path.write_bytes(path.read_bytes() + path.read_bytes()[:40])
    assert Book("f" * 32, []).find("choose", way, kind, probe) == answer
    path.write_bytes(path.read_bytes()[:40])
    assert Book("f" * 32, []).find("choose", way, kind, probe) is None


@pytest.mark.parametrize("path", sorted(profiles.SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_the_figures_of_a_profile_that_comes_with_llmos_are_those_that_the_command_printed(path: Path) -> None:
    shipped, printed = profiles.read(path), msgspec.json.decode((PRINTED / f"{path.stem}.json").read_bytes(), type=Made)
    assert printed.left == 0
    assert shipped.figures == printed.figures
    assert (shipped.model, shipped.file) == (printed.model, printed.file)
    assert (shipped.encoding, shipped.manual, shipped.full) == (printed.encoding, printed.manual, printed.full)
    chosen = Way(shipped.encoding, shipped.manual)
    assert choice.ranked(shipped.figures)[0] == chosen
    assert shipped.full == choice.full(shipped.figures, chosen)
    for one in shipped.figures:
        assert (one.low, one.high) == wilson(one.right, one.n)
        assert one.n == {"choose": 12, "report": 20}[one.half]
    reported = {Way(one.encoding, one.manual) for one in shipped.figures if one.half == "report"}
    assert chosen in reported
    assert {way.encoding for way in reported} == {"json", "prose"}


def test_profiles_come_with_llmos() -> None:
    assert len(list(profiles.SHIPPED.glob("*.toml"))) >= 2
    assert making.HALVES == {60: "choose", 100: "report"}
