"""A browser, and a machine behind its page, shared by the tests of this folder; skipped where there is no browser.

Every page that a test opens must ask its own machine alone, and may write no error to the browser's console.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drivers.door.http import token
from llmos import connect
from llmos.remote import Machine, Process
from tests.browser.machine import FREE
from tests.e2e.daemons import PATIENCE_S, eventually
from tests.e2e.test_web import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AWAY = (
    "net::ERR_CONNECTION_ABORTED",
    "net::ERR_CONNECTION_CLOSED",
    "net::ERR_CONNECTION_REFUSED",
    "net::ERR_CONNECTION_RESET",
    "net::ERR_EMPTY_RESPONSE",
    "net::ERR_INCOMPLETE_CHUNKED_ENCODING",
    "net::ERR_SOCKET_NOT_CONNECTED",
)
"""What a browser itself writes to its console while the machine is down, by what it was doing then."""
REFUSED = "the server responded with a status of 400"
"""And where the machine has refused what was asked."""


class Daemon:
    """A machine in a process of its own, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.browser.machine", str(self.directory), str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answered("it did not start")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE_S)

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """What is said meanwhile is said in part; what this gives has a stretch more said, of about 180 characters."""
        self._hold(0)
        try:
            yield lambda: self._hold(1)
        finally:
            self._hold(FREE)

    def _hold(self, stretches: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{stretches}\n")
        self.process.stdin.flush()
        self._answered("it has ended")

    def _answered(self, otherwise: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), otherwise

    @property
    def token(self) -> str:
        return token.read(self.directory / token.FILE)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright, or `make browser`")
    if CHROMIUM is None:
        pytest.skip("no chromium here; `make browser` installs it")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses root
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="package")
def daemon(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    found = Daemon(tmp_path_factory.mktemp("machine"))
    yield found
    found.kill()


@pytest.fixture(scope="package")
def machine(daemon: Daemon) -> Iterator[Machine]:
    with connect(daemon.url, daemon.token) as found:
        yield found


class Watched:
    """A page, and what it must not have done."""

    def __init__(self, context: BrowserContext, daemon: Daemon) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(1_000 * PATIENCE_S / 4)
        self.errors: list[str] = []
        self.asked: set[str] = set()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda told: told.type == "error" and self.errors.append(told.text))
        context.on("request", lambda request: self.asked.add(request.url))
        self._daemon = daemon

    def clean(self, *allowed: str) -> None:
        """Assert that it asked nobody else, and that its console has no error but what is allowed."""
        foreign = {url for url in self.asked if not url.startswith((f"{self._daemon.url}/", "data:"))}
        assert foreign == set()
        left = [error for error in self.errors if not any(one in error for one in allowed)]
        assert left == []


Open = Callable[..., Watched]


@pytest.fixture
def opened(browser: Browser, daemon: Daemon) -> Iterator[Open]:
    """Opens the page of a process as a browser of a size and a scheme sees it; all must be clean at the end."""
    contexts: list[Any] = []

    def open_it(process: str | None = None, *, width: int = 1_360, height: int = 860, scheme: str = "light") -> Watched:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        found = Watched(context, daemon)
        context.request.get(f"{daemon.url}/login?token={daemon.token}", max_redirects=0)
        found.page.goto(f"{daemon.url}/#{process or ''}")
        if process is not None:
            found.page.wait_for_selector("#link[data-state=live]")
            found.page.wait_for_selector("#about .state")
        return found

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture(scope="package")
def tutor(machine: Machine) -> Process:
    """A process that has heard so much that some of it has left."""
    found = machine.spawn("tutor", system="You teach chess.", blocks={"human": "Ana, a beginner."})
    found.send("The boat Hermine lies in Ghent, at quay 14.")
    found.send("note likes tea")
    for number in range(14):
        found.send(news(number))
    return found


NEWS = (
    "the market on the square has shrunk to four stalls, but the honey is as good as ever, and the man who sells it "
    "asked whether we would take a dozen jars before the winter.",
    "a fox walks through our yard every evening, and nobody knows whose garden it sleeps in.",
    "the school begins an hour later from Monday on, so that the buses from the villages come in time; the children "
    "were told by the head herself, who has a new bicycle and a cold, and they clapped.",
    "the roof is done.",
    "Ines plays the cello in the town hall on the ninth, and there are tickets at the door for those who come early.",
)


def news(number: int) -> str:
    """Some talk that nobody will ask for."""
    return f"News {number}: {NEWS[number % len(NEWS)]}"


def until(page: Page, expression: str) -> None:
    """Wait until something is so in a page. (Playwright's own way is a script that the page's policy forbids.)"""
    eventually(lambda: page.evaluate(expression) or page.wait_for_timeout(20))


def shot(page: Page, name: str) -> None:
    """Keep a picture of what is seen."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")
