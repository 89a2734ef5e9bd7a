"""Many clients and many kills, in small; `llmos bench clients` is the whole. And that a soak measures what it says."""

from pathlib import Path

import pytest

from bench.clients import hold
from bench.soak import picture, soak


@pytest.mark.slow
def test_clients_lose_nothing_under_kills_with_a_chat_open_on_each_process(tmp_path: Path) -> None:
    found = hold(tmp_path / "machine", clients=4, messages=8, kills=2, seed=5)
    assert found.acknowledged == 4 * 8
    assert (found.lost, found.twice, found.unheard) == (0, 0, 0)
    assert found.replayed


@pytest.mark.slow
def test_a_soak_sees_file_and_memory_and_draws_them(tmp_path: Path) -> None:
    found = soak(tmp_path / "machine", 0.05, users=2, rate=4.0, changes=(), seed=1)
    assert found.messages > 0
    assert found.failed == 0
    assert all(look.data_mib > 0 for look in found.looks)
    assert all(look.resident_mib > 1 for look in found.looks)
    pytest.importorskip("matplotlib")
    picture(found, tmp_path / "soak.svg")
    assert "<svg" in (tmp_path / "soak.svg").read_text()
