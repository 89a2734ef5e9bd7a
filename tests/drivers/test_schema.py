"""The OpenAPI document is what the native API does: Schemathesis asks it whatever the document admits, and more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from drivers.door.http import openapi
from kernel.spec import Spec
from tests.drivers.web import served

pytest.importorskip("schemathesis", reason="Schemathesis is not installed: pip install schemathesis")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
LEFT_OUT = ("stop", "events", "compact")  # what ends the machine, does not end, and takes long


@pytest.mark.slow
async def test_no_answer_is_a_5xx_or_a_status_that_the_document_lacks(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        for name in ("main", "0a"):
            await door.machine.requests.spawn(Spec(name))
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{door.url}/openapi.json"]
        command += ["--header", f"Authorization: Bearer {door.token}", "--checks", CHECKS, "--max-examples", "5"]
        for path in LEFT_OUT:
            command += ["--exclude-path", f"/api/{path}"]
        done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False, cwd=tmp_path)
        said = done.stdout.decode()
        routes = len(openapi.document()["paths"])
        assert f"Selected: {routes - len(LEFT_OUT)}/{routes}" in said, said
        assert done.returncode == 0, said
