"""Memory before loading: what is refused, and what is offered instead fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.cpu.llama import memory
from drivers.cpu.llama.memory import GIB, Needs, available, refusal
from kernel.limits import WINDOW_MIN

NEEDS = Needs(weights=4 * GIB, token=128 << 10)


def test_what_fits_is_not_refused_nor_what_nobody_can_know() -> None:
    assert refusal(NEEDS, 8_192, 4, 9 * GIB) == ""
    assert refusal(NEEDS, 8_192, 4, None) == ""


def test_the_offer_fits_and_the_next_larger_one_does_not() -> None:
    free = 6 * GIB
    said = refusal(NEEDS, 8_192, 4, free)
    assert "4 x 8192 tokens need 8.1 GiB (4.0 GiB the model, 4.0 GiB KV), and 6.0 GiB are free" in said
    assert "--set cpu.slots=1" in said
    assert NEEDS.of(8_192, 1) <= free < NEEDS.of(8_192, 2)
    said = refusal(NEEDS, 32_768, 1, free)
    window = int(said.split("--window ")[1].split()[0])
    assert window >= WINDOW_MIN
    assert NEEDS.of(window, 1) <= free < NEEDS.of(window + 256, 1)


def test_a_model_that_cannot_fit_at_all_is_said_to_be_too_large() -> None:
    assert "take a smaller model" in refusal(NEEDS, 2_048, 1, 3 * GIB)
    assert "take a smaller model" in refusal(Needs(4 * GIB, 0), 0, 0, 3 * GIB)


def test_what_is_free_is_read_from_the_host_and_the_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert available() is None
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert available() == 8_000 << 10
    (tmp_path / "memory.max").write_text("max\n")
    assert available() == 8_000 << 10
    (tmp_path / "memory.max").write_text(f"{5_000 << 10}\n")
    (tmp_path / "memory.current").write_text(f"{3_000 << 10}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {1_000 << 10}\n")
    assert available() == 3_000 << 10
