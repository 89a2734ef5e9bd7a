"""A model whose state cannot be cut back: recognised at load, and run with what it supports."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.tiny import mamba
from kernel.event import Outcome
from kernel.settings import Cpu as CpuSettings

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from bench.cpu.rig import opened  # noqa: E402  (after importorskip: it imports llama_cpp)

pytestmark = pytest.mark.gguf


@pytest.mark.parametrize("mode", ["deterministic", "throughput"])
def test_a_recurrent_model_runs_and_says_what_is_off(tmp_path: Path, mode: str) -> None:
    mamba(tmp_path / "tiny.gguf")
    settings = CpuSettings(mode=mode, slots=2, seats=2)  # type: ignore[arg-type]
    with opened(tmp_path / "tiny.gguf", settings, 512, tmp_path / "kv") as rig:
        assert "cannot be cut back" in rig.cpu.off[0]
        prompt = rig.text(1, 150)
        whole = rig.run(1, prompt, reply=12)
        assert (whole.outcome, whole.prefill) == (Outcome.SYSCALL, 150)
        longer = (*prompt, *whole.ids, *rig.text(2, 20))
        assert rig.run(1, longer, reply=4).prefill in (20, 21)  # its last token may not have been evaluated
        changed = (*prompt[:100], *rig.text(3, 50))
        assert rig.run(1, changed, reply=4).prefill == 150  # and nothing of it where a token differs
        ids: tuple[int, ...] = ()
        while (trap := rig.run(4, prompt, ids=ids, reply=12, quantum=3)).outcome is Outcome.PREEMPTED:
            ids = trap.ids
            rig.run(5, rig.text(5, 40), reply=2)
            rig.run(6, rig.text(6, 40), reply=2)  # there are two seats: process 4 goes to its image
        if mode == "deterministic":
            assert trap.ids == whole.ids
        assert trap.restored == 150 + len(ids) - 1
