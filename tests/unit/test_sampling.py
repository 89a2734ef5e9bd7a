"""How words are drawn: choices as text, what they come to, and what a model's file and llmos recommend."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chat import LINES, english, judged_all, seeds_of
from drivers.cpu import recommended
from drivers.cpu.gguf import Header
from drivers.cpu.recommended import SENSIBLE
from drivers.cpu.scripted import echo
from kernel.errors import BadInput
from kernel.event import Changed, Forked, Killed, Spawned
from kernel.sampling import RECOMMENDED, Drawn, Sampling, drawn, read, settled, written
from kernel.settings import Cpu
from kernel.spec import Spec
from llmos import cards, catalogue, models
from tests.fakes import ONLY_SPEAK, Rig
from tests.unit.test_change import refused, replayed

CHOICES = st.builds(
    Sampling,
    model=st.booleans(),
    temperature=st.none() | st.floats(0, 2),
    top_k=st.none() | st.integers(0, 1 << 20),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    min_p=st.none() | st.floats(0, 1),
    repeat=st.none() | st.floats(1, 2),
    recent=st.none() | st.integers(0, 4096),
)
WARM = Sampling(temperature=0.7, top_k=20, recent=64)


@given(CHOICES)
def test_what_is_written_of_a_choice_is_read_as_the_same(chosen: Sampling) -> None:
    assert read(written(settled(chosen))) == settled(chosen)


def test_words_stand_for_choices() -> None:
    assert (read("model"), read("machine"), read("greedy")) == (RECOMMENDED, None, Sampling(temperature=0.0))
    assert read("model, temperature=0.5") == Sampling(model=True, temperature=0.5)
    assert written(Sampling(temperature=0.0, repeat=1.05)) == "temperature=0,repeat=1.05"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hot", "'hot' is none of model, machine, greedy, and KEY=VALUE of temperature, top_k"),
        ("", "'' is none of model"),
        ("temperature=0.5,model", "'model' is none of"),
        ("temperature=9", "temperature=9: Expected `float` <= 2.0"),
        ("temperature=nan", "temperature=nan: Expected `float` >= 0.0"),
        ("temperature=null", "temperature=null: Expected `float`, got `str`"),
        ("top_k=1.5", "top_k=1.5: Expected `int`"),
        ("top_p=0", "top_p=0: Expected `float` > 0.0"),
        ("repeat=0.5", "repeat=0.5: Expected `float` >= 1.0"),
        ("temperature=\n1", "sampling temperature= 1: Expected `float`"),
    ],
)
def test_a_bad_choice_is_one_line_that_names_it_and_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_nobody_chose_is_the_machines_or_what_is_recommended_for_the_model() -> None:
    machine, model = Cpu(temperature=0.3, top_p=0.8, min_p=0.01, repeat=1.2).drawn, Drawn(1.0, 64, 0.95)
    assert machine == Drawn(temperature=0.3, top_p=0.8, min_p=0.01, repeat=1.2)
    assert drawn(None, machine, model) == machine
    assert drawn(Sampling(top_k=5), machine, model) == Drawn(0.3, 5, 0.8, 0.01, 1.2)
    assert drawn(RECOMMENDED, machine, model) == model
    assert drawn(Sampling(model=True, temperature=0.0), machine, model) == Drawn(0.0, 64, 0.95)


def test_a_process_that_chose_nothing_is_drawn_as_the_machine_is() -> None:
    rig = Rig(echo)
    rig.say(rig.spawn(), "hello")
    assert rig.jobs[-1].sampling is None


def test_sampling_of_a_process_reaches_the_driver_and_survives_restart_and_replay() -> None:
    rig = Rig(echo)
    pid = rig.spawn(sampling=WARM)
    other = rig.spawn("cold")
    rig.say(pid, "hello")
    assert rig.jobs[-1].sampling == WARM
    rig.boot()
    rig.say(pid, "again")
    assert rig.jobs[-1].sampling == WARM
    rig.say(other, "hello")
    assert rig.jobs[-1].sampling is None
    fork = rig.do(Forked(source="user", pid=pid, name="fork")).pid
    rig.say(fork, "and you?")
    assert rig.jobs[-1].sampling == WARM
    replayed(rig)


def test_set_changes_how_words_are_drawn_between_two_turns() -> None:
    rig = Rig(echo)
    pid = rig.spawn(sampling=WARM)
    rig.do(Changed(source="user", pid=pid, sampling=RECOMMENDED))
    rig.say(pid, "hello")
    assert rig.jobs[-1].sampling == RECOMMENDED
    rig.say(pid, "in a turn", pump=False)
    assert "is in a turn" in refused(rig, Changed(source="user", pid=pid, sampling=WARM))
    rig.pump()
    rig.do(Changed(source="user", pid=pid, sampling=Sampling()))
    assert rig.proc(pid).spec.sampling is None, "as the machine's settings say"
    assert "Expected `float` <= 2.0" in refused(rig, Changed(source="user", pid=pid, sampling=Sampling(temperature=9)))
    replayed(rig)


def test_a_dead_process_starts_again_with_its_own_sampling_and_not_with_another() -> None:
    rig = Rig(echo)
    pid = rig.spawn(mask=ONLY_SPEAK, sampling=WARM)
    rig.do(Killed(source="user", pid=pid))
    spec = Spec("p", ONLY_SPEAK, sampling=Sampling(temperature=0.1))
    assert "llmos set PROC sample=" in refused(rig, Spawned(source="user", spec=spec, given=("sampling",)))
    assert not rig.do(Spawned(source="user", spec=Spec("p", ONLY_SPEAK))).error
    assert rig.proc(pid).spec.sampling == WARM
    replayed(rig)


def header(**keys: str | float) -> Header:
    return Header({f"general.sampling.{key}": value for key, value in keys.items()}, "", 0)


def test_a_models_file_recommends_by_the_keys_of_llama_cpp() -> None:
    assert recommended.of(header()) is None
    found = recommended.of(header(temp=0.6000000238418579, top_k=20, top_p=0.949999988079071))
    assert found == Drawn(temperature=0.6, top_k=20, top_p=0.95)
    assert recommended.of(header(top_k=40)) == Drawn(temperature=SENSIBLE.temperature, top_k=40)
    assert recommended.of(header(temp=1.0, penalty_repeat=1.05, penalty_last_n=-1)) == Drawn(1.0, repeat=1.05)
    assert recommended.of(header(temp=1.0, penalty_repeat=1.1, penalty_last_n=0)) == Drawn(1.0)
    assert recommended.of(header(temp=1.0, penalty_repeat=1.1)) == Drawn(1.0, repeat=1.1, recent=64)


def test_what_a_strangers_file_recommends_out_of_bounds_is_passed_over() -> None:
    wild = header(temp=float("nan"), top_k=-5, top_p=0.0, min_p="x", penalty_repeat=-3.0, penalty_last_n=1e300)
    assert recommended.of(wild) is None
    assert recommended.of(header(temp=1e9, top_p=0.5)) == Drawn(temperature=SENSIBLE.temperature, top_p=0.5)


def test_the_catalogue_is_in_order_and_each_model_is_found_by_its_names() -> None:
    names = [entry.name for entry in catalogue.ENTRIES]
    assert len(set(names)) == len(names)
    assert [entry.memory for entry in catalogue.ENTRIES] == sorted(entry.memory for entry in catalogue.ENTRIES)
    for entry in catalogue.ENTRIES:
        assert entry.bytes > 0 < entry.token
        assert entry.licence
        assert catalogue.of(Path(f"{entry.name}.gguf")) == catalogue.of(Path(entry.file)) == entry
        assert not entry.repository or catalogue.of(Path("mine.gguf"), entry.source) == entry
        assert read(cards.told(entry.drawn)) == Sampling(**read(cards.told(entry.drawn)).chosen())  # type: ignore[union-attr]
    assert catalogue.of(Path("nobody.gguf")) is None
    assert {name for name in names if not catalogue.BY_NAME[name].repository} == set(models.KNOWN)


def test_the_banner_names_what_a_small_model_is_for_and_better_ones_that_fit() -> None:
    small, *rest = catalogue.ENTRIES
    assert catalogue.better(small, None) == [rest[0], rest[len(rest) // 2], rest[-1]]
    assert catalogue.better(small, 1 << 20) == []
    assert catalogue.better(rest[-1], None) == []
    assert all(one.memory <= 1 << 30 for one in catalogue.better(small, 1 << 30))
    told = list(catalogue.banner(small.title))
    assert told[0] == f"{small.name} {small.good_for}"
    assert all("llmos pull " in line for line in told[1:])
    assert list(catalogue.banner("some other model")) == []


def test_replies_are_counted_by_rules_that_anybody_can_check() -> None:
    assert english("I am well, thank you, and how are you today?")
    assert english("Ghent.")
    assert not english("")
    assert not english("Je suis tr\u00e8s content de vous voir ici ce matin, mon ami.")
    assert not english("\u4f60\u597d, how are you?")
    assert not english("Kernel pagoda lattice orange quanta vortex bramble nimbus torque")
    replies = [
        "We sell red boats here.\nWe sell red boats here!",
        "Yes. I saw two boats.",
        "I saw two boats, yes?",
        "A",
    ]
    turns = judged_all(LINES[:4], replies)
    assert [turn.once for turn in turns] == [False, True, True, True]
    assert [turn.new for turn in turns] == [True, True, True, True]
    assert [turn.new for turn in judged_all(LINES[:2], ["I saw two boats.", "Well: yes. I saw two boats!"])] == [
        True,
        False,
    ]
    assert [turn.new for turn in judged_all(LINES[1:2], ["My name is Nora!"])] == [False], "it says what it was told"
    assert (seeds_of("2"), seeds_of("1-3")) == ([2], [1, 2, 3])
    for wrong in ("x", "3-1", "1-", "-1"):
        with pytest.raises(BadInput, match="A-B is wanted"):
            seeds_of(wrong)
