"""Pages as a machine keeps them in memory: within a bound of bytes, and the same whether kept or read again."""

from __future__ import annotations

import pytest

from drivers.cpu.scripted import echo
from kernel.machine import pages
from tests.fakes import Rig


def prompts(monkeypatch: pytest.MonkeyPatch, bound: int) -> list[tuple[int, ...]]:
    """The prompts of some turns where so many bytes of pages are kept in memory."""
    monkeypatch.setattr(pages, "PAGES_CACHED_BYTES_MAX", bound)
    rig = Rig(echo, "window=2048", "cpu.reply=100")
    pids = [rig.spawn(name) for name in ("one", "two")]
    for number in range(12):
        rig.say(pids[number % 2], f"message {number} " + "word " * (5 * number))
        kept = rig.pages._kept.values()
        assert rig.pages._bytes == sum(pages._bytes(one) for one in kept)
        assert rig.pages._bytes <= bound or len(kept) == 1
    return [job.prompt for job in rig.jobs]


def test_what_is_kept_of_pages_is_bounded_in_bytes_and_what_was_let_go_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert prompts(monkeypatch, 2_000) == prompts(monkeypatch, 1 << 20)
