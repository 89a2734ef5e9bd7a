"""How a process is spoken to: its encoding by what it may do, its manual whole or in short, and pages of that."""

import msgspec
import pytest

from drivers.cpu.scripted import ScriptedCpu, echo, play
from drivers.disk.memory import MemoryDisk
from kernel import manner
from kernel.machine.cpus import Cpus
from kernel.machine.views import process
from kernel.ports import Manner
from kernel.replay import Replay
from kernel.settings import Settings, apply
from syscalls.abi import FULL, NAMES, SYSCALLS
from syscalls.decode import decode, name_of
from syscalls.grammar import grammar
from syscalls.manual import MANY, form, manual, page
from syscalls.table import Table
from tests.fakes import ONLY_SPEAK, Rig, op

FEW = ("send_message", "remember", "search")
BEFORE = tuple(name for name in FULL if name != "help")  # a full mask, before there was help


class Measured(Rig):
    """A rig whose model has a profile."""

    def boot(self) -> None:
        known = ScriptedCpu.manner
        ScriptedCpu.manner = Manner("json", "worked")
        try:
            super().boot()
        finally:
            ScriptedCpu.manner = known


def test_who_only_speaks_keeps_the_encoding_of_its_size_and_others_have_their_models_profile() -> None:
    rig = Measured(echo, encoding="prose")
    speaks, acts = rig.spawn("speaks", mask=ONLY_SPEAK), rig.spawn("acts", mask=FEW)
    assert [process(rig.kernel, pid).encoding for pid in (speaks, acts)] == ["prose", "json"]
    assert "For example" not in "".join(rig.texts(speaks))
    assert rig.texts(acts)[0].startswith(manual(FEW, "json", "worked"))
    rig.say(speaks, "hello")
    rig.say(acts, "hello")
    assert [job.grammar for job in rig.jobs] == [None, grammar(FEW, "json")]


def test_a_profile_leaves_the_kernels_own_threads_as_they_were() -> None:
    rig = Measured(echo, encoding="prose")
    for calls, _ in Table.threads.values():
        assert manner.encoding(rig.kernel, "", calls) == "prose"


def test_a_setting_of_the_user_goes_before_the_profile() -> None:
    rig = Measured(echo, "cpu.encoding=prose", "cpu.manual=short", encoding="json")
    pid = rig.spawn(mask=FEW)
    assert process(rig.kernel, pid).encoding == "prose"
    assert rig.texts(pid)[0].startswith(manual(FEW, "prose", "short"))


def test_a_machine_that_was_told_by_a_profile_replays() -> None:
    disk = MemoryDisk()
    replay = Replay(disk, Table())
    rig = Measured(play([op("read", pages=[]), op("help", call="read"), op("send_message", text="ok")]), disk=disk)
    rig.say(rig.spawn(), "hello")
    assert not any(taken.why for taken in replay.steps())
    assert replay.kernel.hash == rig.kernel.hash


def test_what_a_model_is_told_without_a_profile_is_what_it_was_told_before() -> None:
    cpus = Cpus(ScriptedCpu(echo))
    model = cpus.models(Settings())[""]
    assert (model.calling, model.manual) == ("", "")
    assert b"calling" not in msgspec.msgpack.encode(model)
    assert cpus.models(apply(Settings(), ["cpu.encoding=prose"]))[""].encoding == "prose"


def test_many_calls_with_help_are_told_in_short_and_without_it_as_they_always_were() -> None:
    assert len(FULL) > MANY
    assert form(FULL, "auto", "worked", 2048) == "short"
    assert form(BEFORE, "auto", "", 2048) == "whole"
    assert form((*FEW, "help"), "auto", "", 2048) == "whole"
    assert form((*FEW, "help"), "auto", "", 512) == "short", "it would take too much of the window"
    assert form(FEW, "auto", "worked", 2048) == "worked"
    for wanted in ("whole", "worked", "short"):
        assert form(FULL, wanted, "whole", 2048) == wanted


@pytest.mark.parametrize("encoding", ["json", "prose"])
def test_the_short_list_has_a_line_a_call_within_half_the_whole_ones_tokens(encoding: str) -> None:
    rig = Rig(echo, encoding=encoding)
    short, whole = (manual(FULL, encoding, one) for one in ("short", "whole"))
    listed = [name for name in FULL if not (encoding == "prose" and name == "send_message")]
    lines = short.splitlines()[1:]
    assert len(lines) == len(listed)
    assert all(name in line for name, line in zip(sorted(listed, key=list(SYSCALLS).index), lines, strict=True))
    assert len(rig.cpu.tokenize(short)) <= 0.55 * len(rig.cpu.tokenize(whole))
    assert rig.texts(rig.spawn())[0].startswith(short)
    assert len(rig.cpu.tokenize(short)) <= 330, "of three bytes each"


def test_a_page_of_the_manual_comes_on_asking() -> None:
    rig = Rig(play([op("help", call="set_timer"), op("send_message", text="ok")]))
    pid = rig.spawn()
    rig.say(pid, "how?")
    assert page("set_timer", "json") in rig.texts(pid)
    assert rig.messages[-1].text == "ok"


def test_help_for_what_is_none_of_its_calls_is_refused_with_those_that_are() -> None:
    rig = Rig(play([op("help", call="evict"), op("send_message", text="ok")]))
    pid = rig.spawn(mask=("send_message", "help"))
    rig.say(pid, "how?")
    assert "error: evict is none of your calls; they are send_message, help" in rig.texts(pid)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (op("set_timer", text="tea"), "set_timer"),  # illegal: neither seconds nor at
        ('{"op":"search","query":7}', "search"),  # illegal: no text
        (op("core_replace", block="none", old="a", new="b"), "core_replace"),  # refused: no such block
    ],
)
def test_a_page_of_the_manual_comes_after_a_wrong_use_once_and_only_to_who_has_the_short_list(
    call: str, name: str
) -> None:
    rig = Rig(play([call, call, op("send_message", text="ok")]))
    pid = rig.spawn()
    rig.say(pid, "go")
    assert sum(text.startswith("error: ") for text in rig.texts(pid)) == 2
    assert "".join(rig.texts(pid)).count(page(name, "json")) == 1, "a long one takes several pages of memory"
    assert rig.messages[-1].text == "ok"
    rig = Rig(play([call, op("send_message", text="ok")]), "cpu.manual=whole")
    pid = rig.spawn()
    rig.say(pid, "go")
    assert page(name, "json") not in "".join(rig.texts(pid))


def test_a_wrong_use_of_what_is_none_of_its_calls_brings_no_page() -> None:
    rig = Rig(play([op("evict", pages=[1]), "no call at all", op("send_message", text="ok")]), "cpu.manual=short")
    pid = rig.spawn(mask=(*FEW, "help"))
    rig.say(pid, "go")
    told = [text for text in rig.texts(pid) if text.startswith("error: ")]
    assert len(told) == 2
    assert not any("\n" in text for text in told)


@pytest.mark.parametrize("encoding", ["json", "prose"])
def test_the_grammar_is_the_same_in_every_form_of_the_manual(encoding: str) -> None:
    found = set()
    for wanted in ("whole", "worked", "short"):
        rig = Rig(echo, f"cpu.manual={wanted}", "window=4096", encoding=encoding)
        rig.say(rig.spawn(), "hello")
        found.add(rig.jobs[-1].grammar)
    assert found == {grammar(FULL, encoding)}


@pytest.mark.parametrize("name", [name for name, call in SYSCALLS.items() if call.worked])
def test_each_worked_example_of_a_call_is_that_call(name: str) -> None:
    for said, call in SYSCALLS[name].worked:
        assert said
        assert name_of(decode(call, "json", NAMES, truncated=False)) == name
        assert call in manual(NAMES, "json", "worked")


@pytest.mark.parametrize("name", FULL)
def test_a_page_names_every_field_with_its_bounds(name: str) -> None:
    text = page(name, "prose")
    assert text.startswith("!" + SYSCALLS[name].example)
    for field in SYSCALLS[name].__struct_fields__:
        assert (f"\n{field}: " in text) == (field != "whose"), "which is told to those who may say it"
