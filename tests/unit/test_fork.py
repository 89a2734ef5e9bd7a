"""Fork: a child sees what its parent saw, token for token, and what either does afterwards is its own."""

import json
from pathlib import Path

import msgspec

from drivers.cpu.scripted import echo, play
from drivers.disk import parcel
from kernel.audit import audit
from kernel.event import Forked, Killed
from kernel.memory.page import Kind, Page
from kernel.ports import Record
from kernel.process import State
from kernel.records import key, page_of
from syscalls.abi import FULL
from tests.fakes import Rig

SECRET = "the harbour master keeps a lighthouse key under the blue stone"


def fork(rig: Rig, pid: int, name: str) -> int:
    step = rig.do(Forked(source="user", pid=pid, name=name))
    assert not step.error, step.error
    return step.pid


def refused(rig: Rig, pid: int, name: str) -> str:
    before = rig.kernel.hash
    error = rig.do(Forked(source="user", pid=pid, name=name)).error
    assert rig.kernel.hash == before
    return error


def op(name: str, **fields: object) -> str:
    return json.dumps({"op": name, **fields}, separators=(",", ":"))


def test_a_child_has_the_parents_prompt_token_for_token_and_its_kv() -> None:
    rig = Rig(echo, "window=2048", "cpu.reply=100", "memory.fault=false")
    pid = rig.spawn(blocks={"human": "likes tea"})
    for n in range(30):  # some of it is evicted
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    child = fork(rig, pid, "child")
    rig.jobs.clear()
    before = rig.proc(pid).accounts.prefill
    rig.say(pid, "and now?")
    rig.say(child, "and now?")
    one, other = rig.jobs
    assert one.prompt == other.prompt
    assert [page.page.text for page in one.pages] == [page.page.text for page in other.pages]
    assert {page.page.id for page in one.pages} & {page.page.id for page in other.pages} == {one.pages[0].page.id}
    assert 0 < rig.proc(child).accounts.prefill == rig.proc(pid).accounts.prefill - before < 100 < len(one.prompt)
    assert rig.proc(child).spec.blocks == {"human": "likes tea"}
    assert audit(rig.disk).findings == []


def test_a_child_copies_no_text_and_keeps_the_ids_that_were_emitted() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, SECRET)
    before = rig.kernel.counters.page
    child = fork(rig, pid, "child")
    raw = [rig.disk.get("page", key(n)) or b"" for n in range(before + 1, rig.kernel.counters.page + 1)]
    assert len(raw) == len(rig.proc(pid).space.queue)
    assert all(b"lighthouse" not in row for row in raw)
    assert [page_of(row, rig.disk.get).pid for row in raw] == [child] * len(raw)
    assert rig.disk.scan("ids")[-1][0][-8:] <= key(before)  # none of its own


def test_what_one_does_the_other_does_not_see() -> None:
    rig = Rig(play([op("core_append", block="b", text="mine"), op("send_message", text="done")]))
    pid = rig.spawn()
    child = fork(rig, pid, "child")
    rig.say(child, "write it down")
    assert (rig.proc(pid).spec.blocks, rig.proc(child).spec.blocks) == ({}, {"b": "mine"})
    assert [entry.kind for entry in rig.proc(pid).space.queue] == []


def test_what_a_child_evicts_it_finds_again_after_a_reboot_too() -> None:
    rig = Rig(echo, "window=1024", "cpu.reply=100")
    pid = rig.spawn(mask=("send_message",))
    rig.say(pid, SECRET)
    grandchild = fork(rig, fork(rig, pid, "child"), "grandchild")
    rig.do(Killed(source="user", pid=pid))
    rig.boot()
    for n in range(40):
        rig.say(grandchild, f"filler {n}: bread, weather, trains and again the weather")
    assert all("lighthouse" not in text for text in rig.texts(grandchild))
    rig.jobs.clear()
    rig.say(grandchild, "lighthouse key?")
    assert (SECRET, True) in [(page.page.text, page.recalled) for page in rig.jobs[0].pages]
    assert audit(rig.disk).findings == []


def test_a_child_goes_to_another_machine_with_the_texts_it_shows(tmp_path: Path) -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, SECRET)
    child = fork(rig, pid, "child")
    parcel.write(rig.disk, child, tmp_path / "child.jsonl", 7)
    pages = parcel.read(tmp_path / "child.jsonl").pages
    assert [(page.text, page.where) for page in pages if page.kind is Kind.MESSAGE][0] == (SECRET, "queue")


def test_what_cannot_be_forked_is_refused_in_one_line() -> None:
    rig = Rig(echo)
    pid = rig.spawn(mask=FULL)
    assert refused(rig, 77, "x") == "no process 77; processes are p"
    assert refused(rig, pid, "p") == "process p exists; give the fork another name"
    assert refused(rig, pid, "12").startswith("process name '12'")
    rig.say(pid, "hello", pump=False)
    assert rig.proc(pid).state is State.RUNNING
    assert refused(rig, pid, "x") == "process p is running; it can be forked while it is idle"
    rig.pump()
    rig.do(Killed(source="user", pid=pid))
    assert refused(rig, pid, "x") == "process p is zombie; it can be forked while it is idle"


def test_the_audit_sees_a_page_that_shows_a_later_one() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, SECRET)
    fork(rig, pid, "child")
    number = rig.kernel.counters.page
    row = rig.disk.get("page", key(number))
    assert row is not None
    page = msgspec.structs.replace(msgspec.msgpack.decode(row, type=Page), of=number + 1)
    rig.disk.commit([Record("page", key(number), msgspec.msgpack.encode(page))])
    assert f"page {number}: it shows page {number + 1}, which is not older" in audit(rig.disk).findings


def test_a_child_of_before_a_page_sees_what_stood_in_front_of_it_and_its_kv_serves() -> None:
    rig = Rig(echo, "memory.fault=false")
    pid = rig.spawn(blocks={"human": "likes tea"})
    rig.say(pid, "one")
    rig.say(pid, "two")
    (second,) = [entry.page for entry in rig.proc(pid).space.queue if rig.page(entry.page).text == "two"]
    rig.say(pid, "three")
    step = rig.do(Forked(source="user", pid=pid, name="child", before=second))
    assert not step.error
    texts = [rig.page(entry.page).of for entry in rig.proc(step.pid).space.queue]
    assert texts == [entry.page for entry in rig.proc(pid).space.queue][: len(texts)]
    assert second not in texts
    assert len(texts) == 2
    rig.jobs.clear()
    rig.say(step.pid, "two, otherwise")
    (job,) = rig.jobs
    assert [page.page.text for page in job.pages if page.page.text.startswith(("one", "two", "three"))] == [
        "one",
        "two, otherwise",
    ]
    assert rig.proc(step.pid).accounts.prefill < 60 < len(job.prompt)
    assert audit(rig.disk).findings == []


def test_a_child_of_before_a_page_that_has_left_sees_what_is_older() -> None:
    rig = Rig(echo, "window=2048", "cpu.reply=100", "memory.fault=false")
    pid = rig.spawn()
    for number in range(40):
        rig.say(pid, f"filler {number}: bread, weather, trains and again the weather")
    space = rig.proc(pid).space
    gone = min(entry.page for entry in space.queue if entry.kind is Kind.MESSAGE) - 1
    step = rig.do(Forked(source="user", pid=pid, name="child", before=gone))
    assert not step.error
    assert all(rig.page(entry.page).of < gone for entry in rig.proc(step.pid).space.queue)
    assert len(rig.proc(step.pid).space.queue) < len(space.queue)
