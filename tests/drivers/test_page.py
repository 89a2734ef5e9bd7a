"""The console's files as they are served: to whom, under which policy, and that no text of others can become markup."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx2

from drivers.door.http import page
from tests.drivers.web import served

SCRIPTS = [path for path in sorted(page.FOLDER.rglob("*.js")) if path.parent.name != "vendor"]
SINKS = re.compile(
    r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|eval|"
    r"new Function|javascript:|setHTML\w*|importScripts)\b|\.(?:href|src)\s*="
)


async def test_the_console_is_served_to_who_has_the_token_and_a_browser_without_is_asked_for_it(tmp_path: Path) -> None:
    async with served(tmp_path) as door, httpx2.AsyncClient(base_url=door.url, trust_env=False) as client:
        html = {"accept": "text/html"}
        asked = await client.get("/", headers=html)
        assert asked.status_code == 401
        assert '<form method="post" action="/login">' in asked.text
        assert "script" not in asked.headers["content-security-policy"]
        for path in ("/", "/page/main.js", "/page/vendor/uPlot.esm.js"):
            assert (await client.get(path)).status_code == 401
        wrong = await client.post("/login", data={"token": "x"}, headers=html)
        assert (wrong.status_code, "That is not the token." in wrong.text) == (401, True)
        assert (await client.post("/login", content=b"token=" + b"x" * 5_000)).status_code == 413
        entered = await client.post("/login", data={"token": f" {door.token}\n"}, headers={"origin": door.url, **html})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        found = await client.get("/")
        assert (found.status_code, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert found.headers["content-security-policy"] == page.POLICY
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        again = await client.get("/", headers={"if-none-match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for name in ("main.js", "style.css", "icon.svg", "vendor/uPlot.min.css"):
            file = await client.get(f"/page/{name}")
            assert (file.status_code, file.content) == (200, (page.FOLDER / name).read_bytes())
        for name in ("nothing.js", "vendor/README", "../site.py", "%2e%2e/site.py", "vendor", ""):
            assert (await client.get(f"/page/{name}")).status_code == 404
        assert (await client.get("/page/scenarios.json")).json() == []
        assert (await client.get("/page/scenarios/storm.json")).status_code == 404


def test_no_script_of_the_console_makes_markup_or_links_of_text() -> None:
    assert len(SCRIPTS) > 10
    found = {path.name: SINKS.findall(path.read_text()) for path in SCRIPTS}
    assert {name: sinks for name, sinks in found.items() if sinks} == {}
    assert [name for path in page.FOLDER.rglob("*.js") for name in re.findall(r"\binnerHTML\b", path.read_text())] == []
    html = (page.FOLDER / "index.html").read_text()
    assert re.findall(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=\"/page/)", html) == []
    assert re.findall(r"(?:src|href|action)=\"(?!/page/|#)([^\"]*)", html) == []


def test_what_was_vendored_is_what_its_readme_says() -> None:
    readme = (page.FOLDER / "vendor" / "README").read_text()
    sums = dict(line.split()[::-1] for line in readme.splitlines() if re.match(r"[0-9a-f]{64} ", line))
    files = {path.name for path in (page.FOLDER / "vendor").iterdir()} - {"README"}
    assert set(sums) == files
    for name, said in sums.items():
        assert hashlib.sha256((page.FOLDER / "vendor" / name).read_bytes()).hexdigest() == said


def test_the_console_stands_in_the_package() -> None:
    """What is served lies beside what serves it, also where llmos is installed."""
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (line,) = re.findall(r'^"drivers\.door\.http" = \[(.*)\]$', pyproject, re.M)
    globs = re.findall(r'"([^"]+)"', line)
    folder = page.FOLDER.parent
    packed = {path for glob in globs for path in folder.glob(glob)}
    assert {path for path in page.FOLDER.rglob("*") if path.is_file()} <= packed
