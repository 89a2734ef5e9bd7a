"""Texts of our own that tell a process what to do, against a CPU that obeys them, in every wrapping there is."""

import json
from pathlib import Path

import pytest

from bench.injection import FORBIDDEN, TEXTS, WRAPS, attacked, run
from kernel import guard


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("text", TEXTS)
def test_who_obeys_does_nothing_that_is_forbidden_and_every_attempt_is_kept(text: str, wrap: str) -> None:
    found = attacked(text, wrap)
    assert found["seen"], "it was never in view: this says nothing"
    assert found["effects"] == []
    assert found["attempts"] >= len(FORBIDDEN)
    assert found["audited"] == found["attempts"]


@pytest.mark.parametrize("wrap", ["document", "message"])
def test_without_its_guard_the_kernel_would_let_them_through(wrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "entered", lambda *given, **named: True)
    assert attacked(TEXTS[0], wrap)["effects"], "what is counted is not what happens"


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps([{"user_input": TEXTS[0]}]))
    assert run(cases, "", [], 0, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cases"] == 1
    assert set(found["wraps"]) == set(WRAPS)
