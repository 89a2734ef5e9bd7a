"""Models whose state is no plain KV: recognised at load, run with what they support, and never wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from bench.tiny import TEMPLATE, gemma, hybrid, mamba
from kernel.event import Outcome
from kernel.settings import Cpu as CpuSettings

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from bench.cpu.rig import Rig, opened  # noqa: E402  (after importorskip: it imports llama_cpp)
from drivers.cpu.llama.run import Run  # noqa: E402

pytestmark = pytest.mark.gguf

KINDS: dict[str, Callable[[Path], object]] = {"sliding": gemma, "hybrid": hybrid, "recurrent": mamba}
NEAR = 0.05  # of logits: a token by itself, or in a chunk, is rounded otherwise; what is wrong is off by 0.2 to 5


@pytest.mark.parametrize("mode", ["deterministic", "throughput"])
def test_a_recurrent_model_runs_and_says_what_is_off(tmp_path: Path, mode: str) -> None:
    mamba(tmp_path / "tiny.gguf")
    settings = CpuSettings(mode=mode, slots=2, seats=2, threads=1)  # type: ignore[arg-type]
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


def edited(rng: Random, rig: Rig, last: Sequence[int], shared: Sequence[int]) -> list[int]:
    """A prompt as one follows another: it goes on, changes from somewhere on, loses a part, or begins as others do."""
    new = rig.text(rng.randrange(99), rng.randrange(1, 40))
    if not last or rng.random() < 0.15:
        return [*shared[: rng.randrange(5, len(shared))], *new]
    cut = rng.randrange(1, len(last))
    match rng.randrange(3):
        case 0:
            return [*last[:cut], *new][:200]
        case 1:
            return [*last[:cut], *last[cut + rng.randrange(20) :]][:200]
    return [*last, *new][:200]


@pytest.mark.parametrize("mode", ["deterministic", "throughput"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_has_the_logits_of_a_fresh_one(
    tmp_path: Path, kind: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    accept = Run.accept
    monkeypatch.setattr(Run, "accept", lambda run, logits: (seen.append(logits.copy()), accept(run, logits)))
    KINDS[kind](tmp_path / "tiny.gguf")
    many = CpuSettings(mode=mode, slots=2, seats=3, chunk=32, threads=1)  # type: ignore[arg-type]
    one = CpuSettings(slots=1, seats=1, chunk=32, images=0, threads=1)
    rng, last, kept = Random(3), dict[int, list[int]](), 0
    with (
        opened(tmp_path / "tiny.gguf", many, 256, tmp_path / "kv") as rig,
        opened(tmp_path / "tiny.gguf", one, 256) as fresh,
    ):
        shared = rig.text(1, 60)
        for _ in range(40):
            pid = rng.randrange(1, 6)  # more than there are seats, so that some come back from images
            prompt = edited(rng, rig, last.get(pid, []), shared)
            seen.clear()
            trap = rig.run(pid, prompt, reply=6, quantum=rng.choice([2, 4096]))
            found, restored = seen[0], len(prompt) - trap.prefill
            while trap.outcome is Outcome.PREEMPTED:
                trap = rig.run(pid, prompt, ids=trap.ids, reply=6, quantum=2)
            last[pid], kept = [*prompt, *trap.ids], kept + restored
            seen.clear()
            fresh.cpu.forget(1)
            fresh.run(1, prompt, reply=1)
            assert np.abs(found - seen[0]).max() < NEAR, (pid, len(prompt), restored)
    assert kept > 300, "and yet much was evaluated once"


def test_a_model_without_bos_has_none_in_front(tmp_path: Path) -> None:
    for bos, begin in ((True, (256,)), (False, ())):
        gemma(tmp_path / f"{bos}.gguf", template="{{ bos_token }}" + TEMPLATE, bos=bos)
        with opened(tmp_path / f"{bos}.gguf", CpuSettings(slots=1, threads=1), 256) as rig:
            assert rig.cpu.frame.begin == begin
            assert rig.run(1, rig.text(1, 20), reply=2).outcome is Outcome.SYSCALL
