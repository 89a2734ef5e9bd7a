"""Models of strangers: what llama.cpp ends on, and templates without end, are one line after a bounded time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.tiny import TEMPLATE, mamba
from drivers.cpu import gguf, verdicts
from kernel.errors import BadInput
from llmos import models

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from drivers.cpu.llama import trial  # noqa: E402  (after importorskip: it is of that CPU)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))


def tried(path: Path) -> trial.Verdict:
    return trial.tried(path, gguf.read(path))


def outcome(path: Path) -> str:
    """Why a model is refused, or has no frame."""
    try:
        return tried(path).why
    except BadInput as exc:
        return str(exc)


@pytest.mark.parametrize("blocks", [0, 1, 65_536, 1 << 31])
def test_what_llama_cpp_aborts_on_is_one_line(tmp_path: Path, blocks: int) -> None:
    path = tmp_path / "hostile.gguf"
    mamba(path, changes={"block_count": blocks})
    line = outcome(path)
    assert "hostile.gguf: llama.cpp " in line
    assert "; pull the file again, or another" in line
    assert "\n" not in line
    assert not (verdicts.home() / "verdicts").exists(), "a bad verdict is not kept"


def nested(depth: int, over: str) -> str:
    return "".join(f"{{% for i{n} in {over} %}}" for n in range(depth)) + "x" + "{% endfor %}" * depth


HOSTILE = {
    "nested ranges": nested(4, "range(99999)"),
    "a power": "{{ 10**10**9 }}",
    "a long text": "{{ 'a' * 2000000000 }}",
    "lipsum": "{{ lipsum(n=100000) }}",
    "a macro without end": "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}",
    "30 nested loops": nested(30, "[1, 2]"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_template_is_rendered_in_bounded_time_and_memory_or_the_model_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "hostile.gguf"
    mamba(path, template=HOSTILE[what])
    line = outcome(path)
    assert "is not understood" in line or "rendering its chat template took more than 2 s or 256 MiB" in line
    assert "\n" not in line


def test_a_hostile_template_is_one_line_at_boot_and_nothing_in_doctor_and_pull(tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    mamba(path, template=HOSTILE["a power"])
    pulled = models.pull(str(path))
    boot = ["boot", "--dir", str(tmp_path / "m"), "--model", str(pulled)]
    for arguments, status, expected in ((boot, 2, "chat template is not understood"), (["doctor"], 0, "hostile")):
        done = subprocess.run(
            [sys.executable, "-m", "llmos", *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        said = done.stdout + done.stderr
        assert expected in said
        assert ("Traceback" in said, done.returncode) == (False, status), said


def test_a_model_is_tried_once_and_again_when_it_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []
    real = trial._try
    monkeypatch.setattr(trial, "_try", lambda path, size: (tries.append(path), real(path, size))[1])
    one, two = tmp_path / "one.gguf", tmp_path / "two.gguf"
    mamba(one)
    first = tried(one)
    assert (first.frame is not None, first.why) == (True, "")
    one.rename(two)
    assert tried(two) == first
    assert len(tries) == 1
    mamba(two, template=TEMPLATE.replace("\n", ""))
    assert tried(two) != first
    assert len(tries) == 2
    kept = next((verdicts.home() / "verdicts").iterdir())
    kept.write_bytes(b"{")
    mamba(one)
    mamba(two, template=TEMPLATE.replace("\n", ""))
    assert tried(one) == first
    tried(two)
    assert len(tries) == 3, "one that cannot be read is found out again"


def test_a_model_that_takes_longer_than_it_may_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mamba(tmp_path / "tiny.gguf")
    monkeypatch.setattr(trial, "TRIAL_S", 0.0)
    with pytest.raises(BadInput, match="tiny.gguf: .* took more than 0 s; pull"):
        tried(tmp_path / "tiny.gguf")


def test_verdicts_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "VERDICTS_MAX", 3)
    for n in range(5):
        verdicts.put(f"v{n}", b"x")
        os.utime(verdicts.home() / "verdicts" / f"v{n}", (n, n))
    assert [bool(verdicts.get(f"v{n}")) for n in range(5)] == [False, False, True, True, True]
