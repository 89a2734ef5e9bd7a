"""Clients over HTTP and a real daemon: the README's lines, and kill -9 while they are talking."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from drivers.door import wire
from drivers.door.http import token
from kernel.memory.page import Origin
from llmos import connect
from tests.e2e.daemons import PATIENCE_S, command, eventually, llmos

ROOT = Path(__file__).parents[2]
TURNS, CLIENTS = 6, 4


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def boot(directory: Path, port: int, cpu: str = "scripted", *more: str) -> subprocess.Popen[bytes]:
    """A daemon that serves; it is there when this returns."""
    started = subprocess.Popen(
        command(directory, "boot", "--cpu", cpu, "--http", f"127.0.0.1:{port}", *more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    eventually(answers)
    return started


def test_the_readmes_lines_for_clients_run(tmp_path: Path) -> None:
    block = next(
        found
        for found in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
        if "curl" in found
    )
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    assert [line.split()[0] for line in lines] == ["llmos", "llmos", "curl", "curl", "llmos"]
    (tmp_path / "llmos").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmos "$@"\n')
    (tmp_path / "llmos").chmod(0o755)
    port = free_port()
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    daemon: subprocess.Popen[bytes] | None = None
    said = []
    for line in lines:
        line = line.replace("8484", str(port))
        if line.endswith("&"):
            daemon = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {line.removesuffix('&')}"], env=env, stdout=subprocess.PIPE
            )
            assert daemon.stdout is not None
            while b"serving http" not in (shown := daemon.stdout.readline()):
                assert shown, "it ended"
            continue
        done = subprocess.run(["/bin/sh", "-c", line], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert daemon is not None
    assert daemon.wait(PATIENCE_S) == 0
    daemon.stdout.close()  # type: ignore[union-attr]
    assert '"id":"tutor"' in said[1]
    assert '"content":"you said: hello"' in said[2]
    assert stat.S_IMODE((tmp_path / "web" / token.FILE).stat().st_mode) == 0o600


def answered(client: openai.OpenAI, name: str, messages: list[dict[str, str]], *, stream: bool) -> str | None:
    """A whole answer, or None where it broke off."""
    asked: Any = {"model": name, "messages": messages}
    try:
        if not stream:
            return str(client.chat.completions.create(**asked).choices[0].message.content)
        chunks = list(client.chat.completions.create(**asked, stream=True))
    except openai.APIError:
        return None
    whole = bool(chunks) and chunks[-1].choices[0].finish_reason == "stop"
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks) if whole else None


def talk(url: str, key: str, name: str, failures: list[BaseException], *, stream: bool) -> None:
    """A conversation that sends everything again each time, and sends it until it is answered."""
    messages: list[dict[str, str]] = []
    http = httpx2.Client(trust_env=False, timeout=PATIENCE_S)
    try:
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0, http_client=http) as client:
            for number in range(TURNS):
                messages.append({"role": "user", "content": f"{name} says {number}"})
                deadline = time.monotonic() + PATIENCE_S
                while (text := answered(client, name, messages, stream=stream)) is None:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                assert text == f"you said: {name} says {number}"
                messages.append({"role": "assistant", "content": text})
    except BaseException as exc:
        failures.append(exc)


@pytest.mark.slow
def test_stopped_and_killed_under_load_clients_reconnect_and_every_message_is_applied_once(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    daemon = boot(tmp_path, port)
    key = token.read(tmp_path / token.FILE)
    names = [f"p{number}" for number in range(CLIENTS)]
    for name in names:
        assert llmos(tmp_path, "spawn", name).returncode == 0
    failures: list[BaseException] = []
    clients = [
        threading.Thread(target=talk, args=(f"{url}/v1", key, name, failures), kwargs={"stream": at % 2 == 0})
        for at, name in enumerate(names)
    ]
    for client in clients:
        client.start()
    for how in (signal.SIGTERM, signal.SIGKILL):
        time.sleep(0.7)
        daemon.send_signal(how)
        daemon.wait(PATIENCE_S)
        daemon = boot(tmp_path, port)
    for client in clients:
        client.join()
    assert not failures
    with connect(url, key) as machine:
        assert machine.processes() == names  # a message that came again made no fork
        for name in names:
            pages = machine.ask(wire.History(id=0, proc=name, limit=1_000), wire.Pages).pages
            heard = [page.text for page in pages if page.origin is Origin.USER]
            assert heard == [f"{name} says {number}" for number in range(TURNS)]
        machine.ask(wire.Stop(id=0), wire.Ok)
    assert daemon.wait(PATIENCE_S) == 0
