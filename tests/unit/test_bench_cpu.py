"""What `llmos bench cpu --check` calls worse."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from bench.cpu.run import ALWAYS, ASKED, BASELINE, HIGHER, MODES, TOLERANCE, compare  # noqa: E402

KNOWN: dict[str, Any] = json.loads(BASELINE.read_text())


def found(name: str) -> dict[str, Any]:
    return {**copy.deepcopy(KNOWN[name]), "differ": {"deterministic": 0, "throughput": 3}}


@pytest.mark.parametrize("model", KNOWN)
def test_a_baseline_has_every_figure_and_is_no_worse_than_itself(model: str) -> None:
    assert set(KNOWN[model]) == set(MODES) == set(ASKED)
    assert compare(found(model), KNOWN[model]) == []


@pytest.mark.parametrize("model", KNOWN)
def test_what_is_worse_by_more_than_the_tolerance_is_named(model: str) -> None:
    for name in MODES:
        measured = found(model)
        factor = 1 - 1.1 * TOLERANCE if name in HIGHER else 1 + 1.1 * TOLERANCE
        value = measured[name]
        if isinstance(value, dict):
            size = next(iter(value))
            value[size] *= factor
            label = f"{name} {size}"
        else:
            measured[name] = (
                max(value * factor, value + 0.11, ALWAYS.get(name, 0.0) + 1) if factor > 1 else value * factor
            )
            label = name
        worse = compare(measured, KNOWN[model])
        assert worse, name
        assert {line.split(":")[0] for line in worse} == {label}


def test_what_was_not_measured_is_worse_and_what_must_never_be_is_so_whatever_it_was() -> None:
    model = next(iter(KNOWN))
    measured = found(model)
    del measured["switch_ratio"]
    assert compare(measured, KNOWN[model])[0].startswith("switch_ratio: not measured")
    measured = found(model)
    measured["differ"]["deterministic"] = 1
    assert "0 may" in compare(measured, KNOWN[model])[0]
