"""MCP over HTTP: a real server in a process of its own, which stalls, is killed and comes back, and others that lie.

What is secret of what a server was given is looked for wherever anything is kept or said.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="MCP is an extra")

from drivers.device import web as web_driver  # noqa: E402  (after importorskip: it imports mcp)
from drivers.device.given import Given, check  # noqa: E402
from kernel.errors import BadInput  # noqa: E402
from kernel.machine.loop import Machine  # noqa: E402
from kernel.memory.page import Origin  # noqa: E402
from kernel.process import State  # noqa: E402
from tests.drivers.test_mcp import (  # noqa: E402
    PATIENCE_S,
    ROOT,
    SERVER,
    answers,
    did,
    killed_at,
    machine,
    made,
    pages,
    told,
    until,
    up,
    use,
)
from tests.e2e.daemons import eventually  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")  # closed by the SDK's way
KEY, TOKEN, QUERY = "key-of-the-house-1748", "sk-live-9f2c41aa07", "q-5530177-secret"
SECRETS = (KEY, TOKEN, QUERY)


class Web:
    """A server over HTTP, as a process that is killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "files").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp?key={QUERY}"
        self.start()

    def start(self) -> None:
        arguments = ["all", str(self.folder / "files"), str(self.folder / "log.txt"), str(self.port)]
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(SERVER), *arguments], cwd=ROOT, stdout=out, stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        eventually(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def given(self, limit_s: float = 60.0) -> Given:
        return Given(url=self.url, headers={"X-Key": KEY}, token="LLMOS_TEST_TOKEN", limit_s=limit_s)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    found = Web(tmp_path_factory.mktemp("web"))
    yield found
    found.kill()


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_TEST_TOKEN", f"{TOKEN}\n")


async def asked(found: Machine, pid: int, tool: str, **arguments: object) -> str:
    """Use a tool; what is answered to it."""
    many = len(answers(found, pid))
    await told(found, pid, use(tool, **arguments))
    await until(lambda: len(answers(found, pid)) > many)
    return answers(found, pid)[many]


def why(found: Machine) -> str:
    assert found.tools is not None
    (server,) = found.tools.seen()
    return server.why


async def test_a_server_over_http_answers_stalls_and_is_cancelled_and_none_is_told_its_secrets(
    web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (web.folder / "files" / "notes").write_text("Buy milk.\n")
    async with machine(tmp_path, {"web": web.given(), "brief": web.given(0.5)}) as found:
        await until(lambda: len(found.kernel.offers) == 2)
        assert {tool.name for tool in found.kernel.offers["web"]} >= {
            "web/read",
            "web/append",
            "web/stall",
            "web/large",
        }
        one, two = [await made(found, name) for name in ("one", "two")]
        assert await asked(found, one, "web/read", path="notes") == "[result of web/read]\n> Buy milk."
        late = await asked(found, two, "brief/stall", seconds=60)
        assert late == "error: brief/stall has not answered for 0.5 s; it was done, or it was not"
        assert await asked(found, two, "brief/hello") == "[result of brief/hello]\n> hello"
        await until(lambda: did(web.folder, "cancelled") == 1)

        await told(found, two, use("web/stall", seconds=60))
        await until(lambda: did(web.folder, "stall") == 2)
        await found.requests.kill(two)
        await until(lambda: did(web.folder, "cancelled") == 2)
        assert up(found, "web")

        said = await asked(found, one, "web/headers")
        assert did(web.folder, f"sent {KEY} Bearer {TOKEN}") == 1, "the server has them"
        assert "> x-key: [secret]" in said
        await told(found, one, use("web/large"))
        await until(lambda: sum(len(page.text) for page in pages(found, one) if page.origin is Origin.TOOL) > 2_000_000)
        assert found.disk.scan("intent") == []
    nowhere(tmp_path, caplog)


def nowhere(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No secret is in the machine's directory, or in what was logged."""
    kept = b"".join(path.read_bytes() for path in (folder / "machine").rglob("*") if path.is_file())
    assert kept
    for secret in SECRETS:
        assert secret.encode() not in kept
        assert secret not in caplog.text


async def test_a_server_that_is_killed_in_mid_call_and_comes_back_is_used_again_and_nothing_is_done_twice(
    tmp_path: Path,
) -> None:
    web = Web(tmp_path)
    try:
        async with machine(tmp_path, {"web": web.given()}) as found:
            await until(lambda: up(found, "web"))
            one = await made(found, "one")
            await told(found, one, use("web/stall", seconds=600))
            await until(lambda: did(tmp_path, "stall"))
            web.kill()
            await until(lambda: answers(found, one))
            ended = "error: the server web ended while web/stall was used; it was done, or it was not"
            assert answers(found, one) == [ended]
            await until(lambda: not up(found, "web"))
            down = await asked(found, one, "web/append", path="notes", text="Tea.")
            assert down.startswith("error: the server web is down (")
            web.start()
            await until(lambda: up(found, "web"))
            assert await asked(found, one, "web/append", path="notes", text="Tea.") == "[result of web/append]\n> added"

            web.kill()  # while nobody uses it: the next use finds a server that knows nothing of the session
            web.start()
            lost = await asked(found, one, "web/append", path="notes", text="Coffee.")
            assert lost == "error: the server web is down (it has ended the session); web/append was not used"
            await until(lambda: not up(found, "web"))  # its life ends behind the answer
            await until(lambda: up(found, "web"))
            assert await asked(found, one, "web/hello") == "[result of web/hello]\n> hello"
    finally:
        web.kill()
    assert did(tmp_path, "append notes") == 1
    assert (tmp_path / "files" / "notes").read_text() == "Tea.\n"


def test_a_kernel_killed_while_a_server_over_http_acts_does_nothing_twice(web: Web, tmp_path: Path) -> None:
    (web.folder / "log.txt").unlink(missing_ok=True)
    (tmp_path / "log.txt").symlink_to(web.folder / "log.txt")
    (tmp_path / "url").write_text(web.url)
    killed_at("act.after", tmp_path)


class Liar:
    """A server that answers every request as it is told to, and counts them."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler, Any], None]) -> None:
        self.asked: list[str] = []
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802  (the library's name)
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                liar.asked.append(str(self.headers))
                answer(self, asked)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.shut = threading.Event()  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/mcp?key={QUERY}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.server.shut.set()  # type: ignore[attr-defined]
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


def reply(http: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    http.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        http.send_header(name.replace("_", "-"), value)
    http.end_headers()
    http.wfile.write(body)


def endless(kind: str) -> Callable[[BaseHTTPRequestHandler, Any], None]:
    """An answer that does not end."""

    def answer(http: BaseHTTPRequestHandler, _: Any) -> None:
        http.send_response(200)
        http.send_header("Content-Type", kind)
        http.end_headers()
        try:
            while True:  # until the client is gone
                http.wfile.write(b"x" * (1 << 20))
        except OSError:
            http.close_connection = True

    return answer


def echoing(http: BaseHTTPRequestHandler, _: Any) -> None:
    """Refuses a request in words that hold all that came with it."""
    said = json.dumps(f"no entry with {http.headers['x-key']}, {http.headers['authorization']} at {http.path}")
    body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":%s}}' % said.encode()
    reply(http, 400, body, Content_Type="application/json")


LIES: dict[str, tuple[Callable[[BaseHTTPRequestHandler, Any], None], str]] = {
    "401": (lambda http, _: reply(http, 401, b"who are you?"), "it answers 401 Unauthorized"),
    "secrets": (echoing, "it answers 400 Bad Request"),
    "page": (
        lambda http, _: reply(http, 200, b"<html>", Content_Type="text/html"),
        "Unexpected content type: text/html",
    ),
    "nonsense": (lambda http, _: reply(http, 200, b'{"a":', Content_Type="application/json"), "Failed to parse JSON"),
    "no-http": (lambda http, _: http.wfile.write(b"\x00\x1b[2J\xff garbage\r\n\r\n") and None, ""),
    "nothing": (lambda http, _: None, ""),
    "packed": (
        lambda http, _: reply(
            http, 200, gzip.compress(b"x" * 1_000_000), Content_Type="application/json", Content_Encoding="gzip"
        ),
        "it packs its answers",
    ),
    "endless": (endless("application/json"), "an answer of more than 16 MiB"),
    "endless-event": (endless("text/event-stream"), "SSE"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_a_server_over_http_answers_amiss_is_said_in_one_line_without_a_secret(
    lie: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer, expected = LIES[lie]
    liar = Liar(answer)
    given = Given(url=liar.url, headers={"X-Key": KEY}, token="LLMOS_TEST_TOKEN")
    try:
        async with machine(tmp_path, {"web": given}) as found:
            await until(lambda: why(found))
            said = why(found)
            assert expected in said
            assert said.isprintable()
            pid = await made(found, "one")
            assert found.kernel.procs[pid].state is State.IDLE, "the machine goes on"
        assert KEY in liar.asked[0]
        assert TOKEN in liar.asked[0]
        assert not [secret for secret in SECRETS if secret in said]
        nowhere(tmp_path, caplog)
    finally:
        liar.close()


async def test_a_redirect_to_another_host_is_not_followed(tmp_path: Path) -> None:
    other = Liar(lambda http, _: reply(http, 200, b""))
    liar = Liar(lambda http, _: reply(http, 307, b"", Location=other.url))
    try:
        async with machine(tmp_path, {"web": Given(url=liar.url, headers={"X-Key": KEY})}) as found:
            await until(lambda: why(found))
            assert "not followed" in why(found)
            assert QUERY not in why(found)
        assert liar.asked
        assert other.asked == []
    finally:
        liar.close()
        other.close()


def deaf(http: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
    """A server with one tool, which never answers, nor takes that this is cancelled."""
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            about = {
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "d", "version": "1"},
            }
        case "tools/list":
            about = {"tools": [{"name": "wait", "inputSchema": {"type": "object"}}]}
        case "notifications/initialized":
            return reply(http, 202, b"")
        case _:
            return http.server.shut.wait(PATIENCE_S) and None  # type: ignore[attr-defined]
    body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": about}).encode()
    return reply(http, 200, body, Content_Type="application/json")


async def test_a_server_that_takes_no_word_of_a_cancelled_use_is_down_and_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_driver, "HEAR_S", 0.2)
    server = Liar(deaf)
    try:
        async with machine(tmp_path, {"web": Given(url=server.url, limit_s=0.2)}) as found:
            await until(lambda: up(found, "web"))
            one = await made(found, "one")
            late = await asked(found, one, "web/wait")
            assert late == "error: web/wait has not answered for 0.2 s; it was done, or it was not"
            await until(lambda: not up(found, "web"))
            await until(lambda: up(found, "web"))
    finally:
        server.close()


def test_what_cannot_be_sent_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for headers in ({"X-Key": f"{KEY}\nHost: elsewhere"}, {"X Key": KEY}, {"X-Key": f"{KEY}\u2028"}):
        with pytest.raises(BadInput, match=r"tools.web: headers\..* is no header") as refused:
            check({"web": Given(url="http://x", headers=headers)})
        assert KEY not in str(refused.value)
    with pytest.raises(BadInput, match="neither http") as refused:
        check({"web": Given(url=f"htp://me:{KEY}@x")})
    assert KEY not in str(refused.value)
    monkeypatch.setenv("LLMOS_TEST_TOKEN", f"{TOKEN}\nX-Other: 1")
    with pytest.raises(BadInput, match="characters that no header may have"):
        Given(url="http://x", token="LLMOS_TEST_TOKEN").sent()
    assert set(Given(url=f"https://me:{KEY}@x/?a={QUERY}").secrets()) == {KEY, QUERY}
    assert Given(command="x", env={"API_KEY": KEY, "LEVEL": "a-long-word-of-no-use"}).secrets() == (KEY,)
