"""`llmos bench cpu`: all figures of the CPU on one model, in one run, as a table or as JSON; and against a baseline.

Figures are ratios of what was measured minutes apart on the same machine, so that a slower machine has the same ones.
A check allows TOLERANCE either way, for machines are shared; what must hold exactly (no run differs in deterministic
mode, no fork is prefilled) is not tolerated at all.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.cpu import figures, preempt, turns
from drivers.disk import whole
from kernel.errors import BadInput
from kernel.settings import Cpu as CpuSettings
from llmos.commands.output import print_table, show
from llmos.models import find

BASELINE: Final = Path(__file__).with_name("baseline.json")
TOLERANCE: Final = 0.35
SIZES: Final = (512, 1_024, 2_048)
MODES: Final = {
    "restore_ttft_ratio": "deterministic",
    "batch_throughput_ratio": "throughput",
    "overhead_per_token": "throughput",
    "prefill_per_new_token": "deterministic",
    "recalled_per_turn": "deterministic",
    "preempt_p99_ms": "deterministic",
    "chunk_of_best": "deterministic",
    "fork_prefill_tokens": "throughput",
    "fork_cells_ratio": "throughput",
    "switch_ratio": "deterministic",
}
HIGHER: Final = ("restore_ttft_ratio", "batch_throughput_ratio", "chunk_of_best")  # is better; of the others less is
ALWAYS: Final = {"preempt_p99_ms": 250.0}  # one late wake-up of the host's is its 99th percentile
ASKED: Final = {
    "restore_ttft_ratio": "at least 100 at 1,024 and 250 at 2,048",
    "batch_throughput_ratio": "at least 1.35 at 4 and 1.5 at 8, on 0.5B",
    "overhead_per_token": "under 0.1",
    "prefill_per_new_token": "at most 1.6",
    "recalled_per_turn": "",
    "preempt_p99_ms": "250, or two decode steps",
    "chunk_of_best": "at least 0.9",
    "fork_prefill_tokens": "0",
    "fork_cells_ratio": "under 1.3",
    "switch_ratio": "at most 1.15",
}


def measure(model: Path, *, full: bool, seed: int, progress: figures.Progress) -> dict[str, Any]:
    """Everything, one after the other: 6 to 20 minutes on two cores, `full` two to three times as long."""
    began = time.perf_counter()
    chunks = figures.chunks(model, progress)
    restored = figures.restore(model, (*SIZES, 4_096) if full else SIZES, progress)
    forked = figures.fork(model, progress)
    spoken = figures.throughput(model, progress)
    waited = figures.preemption(model, 200 if full else 60, progress)
    switched = figures.switches(model, 200 if full else 96, 12 if full else 6, progress)
    progress("a conversation of 200 turns, counted")
    talked = turns.converse(model, seed)
    exact = []
    for mode, points in (("deterministic", 200 if full else 100), ("throughput", 50 if full else 25)):
        for temperature in (0.0, 0.8):
            progress(f"{points} preemptions, {mode}, temperature {temperature}")
            settings = CpuSettings(mode=mode, temperature=temperature, seed=seed)  # type: ignore[arg-type]
            exact.append(msgspec.to_builtins(preempt.campaign(model, settings, points, seed)))
    chunk = CpuSettings().chunk
    return {
        "model": model.name,
        "restore_ttft_ratio": {str(size): one["ratio"] for size, one in restored.items()},
        "batch_throughput_ratio": {str(n): ratio for n, ratio in spoken["batch_throughput_ratio"].items()},
        "overhead_per_token": spoken["overhead_per_token"],
        "prefill_per_new_token": talked.ours.prefill_per_new_token,
        "recalled_per_turn": talked.ours.recalled_per_turn,
        "preempt_p99_ms": waited["preempt_p99_ms"],
        "chunk_of_best": round(chunks[chunk] / max(chunks.values()), 3),
        "fork_prefill_tokens": forked["fork_prefill_tokens"],
        "fork_cells_ratio": forked["cells_ratio"],
        "switch_ratio": switched["ratio_to_ideal"],
        "modes": MODES,
        "differ": {
            mode: sum(one["differ"] for one in exact if one["mode"] == mode) for mode in ("deterministic", "throughput")
        },
        "details": {
            "prefill_tokens_per_s_by_chunk": {str(n): rate for n, rate in chunks.items()},
            "chunk": chunk,
            "restore": {str(size): one for size, one in restored.items()},
            "bare_batch_throughput_ratio": {str(n): ratio for n, ratio in spoken["bare"].items()},
            "tokens_per_s": {str(n): rate for n, rate in spoken["tokens_per_s"].items()},
            "preemption": waited,
            "switches": switched,
            "conversation": msgspec.to_builtins(talked),
            "exactness": exact,
        },
        "seed": seed,
        "seconds": round(time.perf_counter() - began, 1),
    }


def compare(found: dict[str, Any], baseline: dict[str, Any]) -> list[str]:
    """What has become worse than a baseline by more than the tolerance, or must never be so; a line each."""
    worse = []
    if found["differ"]["deterministic"]:
        worse.append(f"differ: {found['differ']['deterministic']} preempted runs differ in deterministic mode; 0 may")
    if found["fork_prefill_tokens"]:
        worse.append(f"fork_prefill_tokens: {found['fork_prefill_tokens']}; 0 may be")
    for name, was in _flat(baseline).items():
        now = _flat(found).get(name)
        if now is None:
            worse.append(f"{name}: not measured; it was {was}")
        elif name.split(" ")[0] in HIGHER and now < was * (1 - TOLERANCE):
            worse.append(f"{name}: {now}; it was {was}, and at least {was * (1 - TOLERANCE):.3g} is allowed")
        elif name.split(" ")[0] not in HIGHER:
            most = max(was * (1 + TOLERANCE), was + 0.1, ALWAYS.get(name, 0.0))
            if now > most:
                worse.append(f"{name}: {now}; it was {was}, and at most {most:.3g} is allowed")
    return worse


def _flat(figures_: dict[str, Any]) -> dict[str, float]:
    """Figures by name, those of several sizes as `name size`."""
    flat: dict[str, float] = {}
    for name in MODES:
        value = figures_.get(name)
        if isinstance(value, dict):
            flat.update({f"{name} {key}": one for key, one in value.items()})
        elif value is not None:
            flat[name] = value
    return flat


def run(model: str, *, full: bool, check: bool, keep: bool, seed: int, as_json: bool) -> int:
    """`llmos bench cpu`: measure and print; the exit status. Raises BadInput where there is no baseline."""
    path = find(model)
    known: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if check and path.name not in known:
        raise BadInput(
            f"--check: no baseline of {path.name}; there are {', '.join(known) or 'none'}: make one with --keep"
        )
    began = time.perf_counter()

    def progress(what: str) -> None:
        show(f"{time.perf_counter() - began:6.0f} s  {what}", error=True)

    found = measure(path, full=full, seed=seed, progress=progress)
    if keep:
        known[path.name] = {name: found[name] for name in MODES}
        whole.write(BASELINE, (json.dumps(known, indent=1) + "\n").encode())
    worse = compare(found, known[path.name]) if check else []
    if as_json:
        show(json.dumps({**found, "worse": worse} if check else found))
    else:
        _table(found)
    for line in worse:
        show(f"llmos: worse than the baseline: {line}", error=True)
    return 1 if worse else 0


def _table(found: dict[str, Any]) -> None:
    rows: list[tuple[str, str, str, str]] = []
    for name, value in _flat(found).items():
        first = name.split(" ")[0]
        rows.append((name, f"{value:g}", ASKED[first], MODES[first]))
    for n, ratio in found["details"]["bare_batch_throughput_ratio"].items():
        rows.append((f"batch_throughput_ratio {n}, the bare library's", f"{ratio:g}", "", "throughput"))
    beside = found["details"]["conversation"]["memgpt"]
    memgpt = f"{beside['prefill_per_new_token']:g}"
    rows.append(("prefill_per_new_token, MemGPT's layout", memgpt, "", "deterministic"))
    for mode, differ in found["differ"].items():
        runs = sum(one["runs"] for one in found["details"]["exactness"] if one["mode"] == mode)
        asked = "0" if mode == "deterministic" else ""
        rows.append(("preempted runs that differ", f"{differ} of {runs}", asked, mode))
    names = ("figure", "here", "asked", "mode")
    print_table(names, rows, left=names, title=f"{found['model']}, {found['seconds']:.0f} s")
