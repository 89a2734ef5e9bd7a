"""The command, as a subprocess, against a real daemon with the scripted CPU."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from drivers.door import wire
from llmos.ask import SOCKET, Refused, call
from llmos.commands.app import CONTENTS
from llmos.daemon import alive
from tests.e2e.daemons import ChatProcess, command, daemon_pid, eventually, kill_daemon, llmos, on_terminal, shown

HEAVY = {"trio", "rich", "pydantic", "numpy", "asyncio", "typer", "lmdb", "hnswlib", "wordllama", "llama_cpp"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in which a kernel runs, with a process `main` that echoes."""
    directory = tmp_path_factory.mktemp("daemon") / "machine"
    process = subprocess.Popen(
        command(directory, "boot", "--cpu", "scripted", "--set", "cpu.seed=7"), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert re.fullmatch(r"llmos: scripted, window 2048, 0 processes; serving .*kernel.sock as process \d+\n", first)
    assert llmos(directory, "spawn", "main").returncode == 0
    yield directory
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert rest.endswith("llmos: stopped\n")
    assert not (directory / "kernel.sock").exists()


def one_line(result: subprocess.CompletedProcess[str], *named: str) -> None:
    """A refusal: exit status 2 and one line that names what was wrong."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("llmos: ")
    assert result.stderr.count("\n") == 1
    for name in named:
        assert name in result.stderr


def imported(*arguments: str) -> set[str]:
    """All modules that a command imports."""
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "llmos", *arguments], capture_output=True, text=True, check=True
    )
    lines = [line for line in found.stderr.splitlines() if line.startswith("import time:")]
    return {line.split("|")[-1].strip() for line in lines}


def test_help_imports_no_command_and_nothing_of_the_machines() -> None:
    found = imported("--help")
    assert not found & (HEAVY | {"msgspec", "drivers"})
    assert {name for name in found if name.startswith("llmos.commands.")} == {"llmos.commands.app"}


@pytest.mark.parametrize(
    "arguments",
    [["ps"], ["ps", "--json"], ["irqs"], ["send", "main", "hello", "--wait"], ["dmesg"], ["pmap", "1", "--json"]],
)
def test_a_question_costs_the_protocol_and_a_socket(daemon: Path, arguments: list[str]) -> None:
    found = imported(*arguments, "--dir", str(daemon))
    assert "drivers.door.wire" in found
    assert not found & (HEAVY | {"kernel.machine.loop", "kernel.core"})


def test_help_is_quick() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "llmos", "--help"], capture_output=True, check=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.3  # of five: other tests and their kernels share the cores


@pytest.mark.parametrize("name", CONTENTS)
def test_each_help_begins_with_two_examples(name: str) -> None:
    found = subprocess.run([sys.executable, "-m", "llmos", name, "--help"], capture_output=True, text=True, check=True)
    _, _, after = found.stdout.partition("Examples:\n")
    examples = after.split("\n\n")[0].splitlines()
    assert len(examples) == 2
    assert examples[0].strip().startswith(f"llmos {name}")
    assert found.stdout.index("Examples:") < found.stdout.index("Options:")


def test_ps_lists_the_processes(daemon: Path) -> None:
    assert "main" in llmos(daemon, "ps").stdout
    (first, *_) = json.loads(llmos(daemon, "ps", "--json").stdout)["processes"]
    assert (first["pid"], first["name"], first["state"]) == (1, "main", "idle")


def test_vmstat_says_what_was_evaluated(daemon: Path) -> None:
    assert llmos(daemon, "send", "main", "How much?", "--wait").returncode == 0
    (spent,) = json.loads(llmos(daemon, "vmstat", "main", "--json").stdout)["processes"]
    assert spent["new"] + spent["reprefilled"] == spent["prefill"] >= spent["entered"] > 0
    assert "RESTORED" in llmos(daemon, "vmstat").stdout


def test_send_waits_for_its_reply_and_the_same_id_is_applied_once(daemon: Path) -> None:
    assert llmos(daemon, "send", "main", "good morning", "--wait").stdout == "you said: good morning\n"
    first = json.loads(llmos(daemon, "send", "main", "once", "--mid", "x1", "--wait", "--json").stdout)
    assert first["duplicate"] is False
    assert [message["text"] for message in first["messages"]] == ["you said: once"]
    again = json.loads(llmos(daemon, "send", "main", "once", "--mid", "x1", "--wait", "--json").stdout)
    assert (again["duplicate"], again["messages"]) == (True, first["messages"])
    assert llmos(daemon, "send", "1", "-", "--wait", text="from a pipe").stdout == "you said: from a pipe\n"
    unread = json.loads(llmos(daemon, "ps", "--json").stdout)["processes"][0]["outbox"]
    assert unread == 0


def test_spawn_takes_a_mask_and_blocks_and_kill_makes_a_zombie(daemon: Path) -> None:
    made = llmos(daemon, "spawn", "clerk", "--mask", "search,send_message", "--block", "human=Likes tea.", "--json")
    assert json.loads(made.stdout)["name"] == "clerk"
    space = json.loads(llmos(daemon, "pmap", "clerk", "--json").stdout)
    assert {segment["name"]: len(segment["pages"]) for segment in space["segments"]}["data"] == 1
    one_line(llmos(daemon, "spawn", "clerk"), "clerk", "exists")
    assert llmos(daemon, "fork", "clerk", "second").stdout.startswith("process ")
    one_line(llmos(daemon, "fork", "clerk", "second"), "process second exists", "another name")
    one, two = (json.loads(llmos(daemon, "pmap", name, "--json").stdout) for name in ("clerk", "second"))
    assert [len(s["pages"]) for s in one["segments"]] == [len(s["pages"]) for s in two["segments"]]
    assert llmos(daemon, "kill", "clerk").returncode == 0
    one_line(llmos(daemon, "kill", "clerk"), "dead already")
    one_line(llmos(daemon, "send", "clerk", "hello"), "dead")
    assert llmos(daemon, "spawn", "clerk").returncode == 0


def test_irqs_count_what_was_raised_and_delivered(daemon: Path) -> None:
    llmos(daemon, "send", "main", "hello", "--wait")
    user = json.loads(llmos(daemon, "irqs", "--json").stdout)["lines"]["user"]
    assert user["raised"] == user["delivered"] >= 1
    assert 0 < user["to_token"]["p50_ms"] <= user["to_token"]["max_ms"]
    assert "TO DELIVERY" in llmos(daemon, "irqs").stdout


def test_run_plays_a_scenario_that_comes_along_and_names_those_there_are(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llmos", "run", *arguments], capture_output=True, text=True, check=False
        )

    found = json.loads(run("two_users", "--json", "--trace", str(tmp_path / "trace.json")).stdout)
    assert {"ok", "events", "hash", "virtual_s", "wall_s", "interrupts"} == set(found)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    one_line(run("nothing_of_the_kind"), "no such file", "storm")


def test_pmap_draws_the_whole_window_on_a_terminal_and_lists_its_pages_in_a_pipe(daemon: Path) -> None:
    llmos(daemon, "send", "main", "something to see", "--wait")
    drawn = on_terminal(100, ["pmap", "main", "--dir", str(daemon)], TERM="dumb")
    bar = [line.strip() for line in drawn.splitlines() if re.fullmatch(r"\s*[TDQRNr.]{40,}\s*", line)]
    assert len(set(map(len, bar))) == 1
    assert {"T", "Q", ".", "r"} <= set("".join(bar))
    space = json.loads(llmos(daemon, "pmap", "main", "--json").stdout)
    assert space["window"] == 2048
    pages = [page for segment in space["segments"] for page in segment["pages"]]
    assert all(re.search(rf"^\s*{page[0]}\s", drawn, re.MULTILINE) for page in pages)
    listed = [line.split("\t") for line in llmos(daemon, "pmap", "main").stdout.splitlines()[1:]]
    assert [[int(line[0]), line[2], line[3], int(line[4])] for line in listed] == [page[:4] for page in pages]


def test_dmesg_shows_the_journal_and_goes_on_from_a_number(daemon: Path) -> None:
    llmos(daemon, "send", "main", "note this", "--wait")
    entries = [json.loads(line) for line in llmos(daemon, "dmesg", "--since", "0", "--json").stdout.splitlines()]
    assert [entry["lsn"] for entry in entries] == sorted({entry["lsn"] for entry in entries})
    assert entries[0]["notes"][0]["what"] == "boot"
    middle = entries[len(entries) // 2]["lsn"]
    later = [json.loads(line) for line in llmos(daemon, "dmesg", "--since", str(middle), "--json").stdout.splitlines()]
    assert later == [entry for entry in entries if entry["lsn"] > middle]
    assert "main: interrupt: USER" in llmos(daemon, "dmesg").stdout


def test_dmesg_follows(daemon: Path) -> None:
    followed(daemon, ["dmesg", "--follow"], b"boot", b"run: ", b"interrupt: USER", b"send_message")


def test_strace_follows_what_a_process_calls(daemon: Path) -> None:
    llmos(daemon, "send", "main", "before you watch", "--wait")
    followed(daemon, ["strace", "main", "--follow"], b"before you watch", b"you said: while you watch", b"tokens>")


def followed(daemon: Path, words: list[str], past: bytes, *coming: bytes) -> None:
    """A command shows what has been, and goes on with what comes, until Ctrl-C."""
    process = subprocess.Popen(  # a shell's background jobs inherit SIGINT ignored
        command(daemon, *words),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    out = bytearray()

    def read() -> bytearray:
        if select.select([process.stdout], [], [], 0.05)[0]:
            out.extend(os.read(process.stdout.fileno(), 65_536))  # type: ignore[union-attr]  # asserted above
        return out

    eventually(lambda: past in read())
    before = len(out)
    llmos(daemon, "send", "main", "while you watch", "--wait")
    eventually(lambda: all(text in read()[before:] for text in coming))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.stdout.close()


def test_what_a_process_did_is_visible(daemon: Path) -> None:
    llmos(daemon, "send", "main", "something to do", "--wait")
    calls = [json.loads(line) for line in llmos(daemon, "strace", "main", "--json").stdout.splitlines()]
    assert calls[-1]["call"] == "send_message"
    assert calls[-1]["arguments"] == {"text": "you said: something to do"}
    assert llmos(daemon, "strace", "main", "--last", "1").stdout.count("\n") == 1
    assert 'send_message(text="you said: something to do")' in llmos(daemon, "strace", "main").stdout
    page = str(calls[-1]["page"])
    assert "something to do" in llmos(daemon, "cat", "main", page).stdout
    assert json.loads(llmos(daemon, "cat", "main", page, "--json").stdout)["kind"] == "message"
    listed = llmos(daemon, "pmap", "main", "--texts").stdout
    assert any(line.startswith(page) and "something to do" in line for line in listed.splitlines())
    assert json.loads(llmos(daemon, "pmap", "main", "--texts", "--json").stdout)["texts"][page]
    assert "send_message, prompt" in llmos(daemon, "dmesg").stdout


def test_chat_joins_a_kernel_that_runs_and_shows_history_and_pictures(daemon: Path) -> None:
    llmos(daemon, "send", "main", "before the chat", "--wait")
    found = llmos(daemon, "chat", text="hello\n/pmap\n/ps\n/nonsense\n//slash\n/quit\nnever sent\n")
    assert found.returncode == 0, found.stderr
    assert "| you> before the chat\n| main> you said: before the chat\n" in found.stdout
    assert "you> hello\n" in found.stdout
    assert "main> you said: hello\n" in found.stdout
    assert "main (1): window of 2,048 tokens" in found.stdout
    assert "· /nonsense: no such command" in found.stdout
    assert "main> you said: /slash\n" in found.stdout
    assert "never sent" not in found.stdout


def test_a_process_that_a_chat_makes_draws_as_its_model_recommends_and_keeps_its_own_way(daemon: Path) -> None:
    assert llmos(daemon, "chat", "plain", text="hello\n").returncode == 0
    warm = llmos(daemon, "chat", "warm", "--sample", "temperature=0.5", text="hello\n")
    assert "keeps its sampling" not in warm.stdout
    shown = {one["name"]: one["sampling"] for one in json.loads(llmos(daemon, "ps", "--json").stdout)["processes"]}
    assert (shown["plain"], shown["warm"]) == ("model", "temperature=0.5")
    assert shown["main"] == "machine"  # nobody chose
    assert [line.split("\t")[-2] for line in llmos(daemon, "ps").stdout.splitlines()][0] == "SAMPLE"
    again = llmos(daemon, "chat", "plain", "--sample", "greedy", text="hello\n")
    assert "plain was here before and keeps its sampling, model; `llmos set plain sample=...`" in again.stdout
    llmos(daemon, "kill", "warm")
    assert "is started again" in llmos(daemon, "chat", "warm", text="hello\n").stdout
    assert "sample=temperature=0.5\n" in llmos(daemon, "set", "warm").stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["chat", "--sample", "hot"], ["sampling 'hot'", "temperature"]),
        (["spawn", "x", "--sample", "temperature=9"], ["temperature=9", "<= 2.0"]),
        (["send", "main", ""], ["empty"]),
        (["send", "main", "x" * 120_000 + "\udcff"], ["UTF-8"]),
        (["send", "nobody", "hello"], ["nobody", "main"]),
        (["send", "main", "x", "--mid", "m" * 65], ["message id"]),
        (["pmap", "nobody"], ["nobody"]),
        (["kill", "99"], ["99"]),
        (["spawn", "7"], ["'7'"]),
        (["spawn", "x", "--mask", "fly"], ["fly", "send_message"]),
        (["spawn", "x", "--block", "nothing"], ["--block nothing"]),
        (["dmesg", "--since", "soon"], ["--since", "integer"]),
        (["boot", "--cpu", "scripted"], ["in use by process"]),
        (["ps", "--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(daemon: Path, arguments: list[str], named: list[str]) -> None:
    found = subprocess.run(
        [os.fsencode(one) for one in command(daemon, *arguments)], capture_output=True, timeout=60, check=False
    )
    out, err = found.stdout.decode(), found.stderr.decode()
    one_line(subprocess.CompletedProcess([], found.returncode, out, err), *named)


def test_a_message_of_a_megabyte_and_one_of_broken_bytes_are_refused_and_the_kernel_goes_on(daemon: Path) -> None:
    one_line(llmos(daemon, "send", "main", "-", text="y" * 1_000_000), "1000000 bytes", "262144")
    broken = subprocess.run(command(daemon, "send", "main", "-"), input=b"a\xffb", capture_output=True, check=False)
    one_line(subprocess.CompletedProcess([], broken.returncode, "", broken.stderr.decode()), "byte 2")
    assert llmos(daemon, "send", "main", "still here", "--wait").stdout == "you said: still here\n"


@pytest.mark.parametrize("arguments", [["ps"], ["send", "main", "x"], ["stop"], ["dmesg"]])
def test_without_a_kernel_there_is_one_line_that_says_how_to_start_one(tmp_path: Path, arguments: list[str]) -> None:
    began = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "llmos", *arguments, "--dir", str(tmp_path)], capture_output=True, text=True, check=False
    )
    one_line(found, "llmos boot")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--cpu", "abacus"], ["abacus", "scripted"]),
        (["--cpu", "scripted", "--set", "memory.policy=magic"], ["magic", "fifo"]),
        (["--cpu", "scripted", "--set", "colour=red"], ["colour", "memory.policy"]),
        (["--cpu", "scripted", "--window", "100"], ["window"]),
        (["--model", "no-such-model"], ["no-such-model"]),
    ],
)
def test_a_kernel_that_cannot_start_says_why(tmp_path: Path, arguments: list[str], named: list[str]) -> None:
    one_line(llmos(tmp_path / "machine", "boot", *arguments), *named)
    one_line(llmos(tmp_path / "machine", "chat", *arguments, text="hello\n"), *named)


def test_a_bad_line_of_a_pipe_ends_a_chat_with_one_line(daemon: Path) -> None:
    found = subprocess.run(
        command(daemon, "chat"), input=b"fine\n\xff\nnever sent\n", capture_output=True, timeout=60, check=False
    )
    assert found.returncode == 2
    assert found.stderr.decode().startswith("llmos: the text is no valid UTF-8")
    assert "main> you said: fine\n" in found.stdout.decode()
    assert "never sent" not in found.stdout.decode()


def test_a_kernel_that_is_stopped_under_a_chat_ends_it(tmp_path: Path) -> None:
    chat = ChatProcess(tmp_path / "machine")
    chat.say("hello")
    shown(chat, "main> you said: hello\n")
    assert llmos(tmp_path / "machine", "stop").returncode == 0
    assert chat.process.wait(60) == 2
    assert chat.close() == 2
    assert "the kernel was stopped" in chat.errors
    assert daemon_pid(tmp_path / "machine") == 0


def test_a_kernel_whose_parent_does_not_wait_for_it_is_stopped_as_any(tmp_path: Path) -> None:
    process = subprocess.Popen(command(tmp_path / "m", "boot", "--cpu", "scripted"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    stopped = llmos(tmp_path / "m", "stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None, "it has ended"
    assert not alive(process.pid)
    process.communicate()


def test_ten_senders_get_their_replies_with_a_chat_open(daemon: Path) -> None:
    chat = ChatProcess(daemon, "busy")
    chat.say("hello")
    shown(chat, "busy> you said: hello\n")
    senders = [
        subprocess.Popen(command(daemon, "send", "busy", f"from {number}", "--wait"), stdout=subprocess.PIPE, text=True)
        for number in range(10)
    ]
    for number, sender in enumerate(senders):
        out, _ = sender.communicate(timeout=60)
        assert (sender.returncode, f"you said: from {number}\n" in out) == (0, True), out
    assert chat.close() == 0


def test_a_missing_reply_has_an_exit_status_of_its_own_and_a_line_that_says_why(daemon: Path) -> None:
    assert llmos(daemon, "spawn", "slow").returncode == 0
    long = "tell me all of it, " * 60  # what echoes it has some seconds to say
    found = llmos(daemon, "send", "slow", long, "--wait", "--timeout", "0", "--mid", "late")
    assert (found.returncode, found.stdout) == (3, "")
    assert found.stderr.startswith("llmos: no reply to message late: ")
    words = command(daemon, "send", "slow", f"and now? {long}", "--wait", "--json", "--mid", "now")
    waiter = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def taken() -> bool:
        with suppress(Refused):
            return call(daemon / SOCKET, wire.Wait(id=0, mid="now"), wire.Replied).reply.standing == "open"
        return False

    eventually(taken)
    call(daemon / SOCKET, wire.Kill(id=0, proc="slow"), wire.Ok)  # at once: a command takes its time to begin
    out, _ = waiter.communicate(timeout=60)
    assert (waiter.returncode, json.loads(out)["messages"]) == (3, [])
    assert json.loads(out)["missing"] == "died"


def test_two_chats_that_start_at_once_share_one_kernel(tmp_path: Path) -> None:
    directory = tmp_path / "machine"
    chats = [ChatProcess(directory, name, "--keep") for name in ("anna", "berta")]
    try:
        for chat, name in zip(chats, ("anna", "berta"), strict=True):
            chat.say(f"I am {name}")
            shown(chat, f"{name}> you said: I am {name}\n")
            assert chat.close() == 0, chat.errors
        assert len(json.loads(llmos(directory, "ps", "--json").stdout)["processes"]) == 2
    finally:
        kill_daemon(directory)
