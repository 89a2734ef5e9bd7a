"""/metrics: what a machine has done, as Prometheus scrapes it (text exposition format 0.0.4).

Counters are sums over the processes that are there, so they fall when one is removed, which a scraper takes for a
restart. Latencies are those of interrupts since boot (kernel/machine/latency.py), in its buckets of powers of two.
Not here: who may ask (access.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from kernel.machine.latency import Histogram
from kernel.machine.loop import Machine
from kernel.process import State

TYPE = "text/plain; version=0.0.4; charset=utf-8"
TOKENS = {
    "prefill": "prefill",
    "generated": "emitted",
    "again": "again",
    "restored": "restored",
    "shared": "shared",
    "recalled": "recalled",
}
"""By label, the field of a process's accounts."""
COUNTS = {
    "turns": "Turns begun.",
    "syscalls": "Instructions carried out.",
    "faults": "Pages brought in.",
    "evictions": "Pages that left a queue.",
    "illegal": "Instructions that could not be decoded.",
}


def exposition(machine: Machine, requests: Mapping[int, int]) -> str:
    """All of them; `requests`: answered over HTTP, by status."""
    return "\n".join(_lines(machine, requests)) + "\n"


def _lines(machine: Machine, requests: Mapping[int, int]) -> Iterator[str]:
    procs = list(machine.kernel.procs.values())
    states = Counter(proc.state for proc in procs)
    yield from _head("llmos_processes", "gauge", "Processes, by state.")
    for state in State:
        yield f'llmos_processes{{state="{state.value}"}} {states[state]}'
    yield from _head("llmos_tokens_total", "counter", "Tokens: evaluated as prompt, generated, saved from evaluation.")
    for label, field in TOKENS.items():
        yield f'llmos_tokens_total{{kind="{label}"}} {sum(getattr(proc.accounts, field) for proc in procs)}'
    for name, says in COUNTS.items():
        yield from _head(f"llmos_{name}_total", "counter", says)
        yield f"llmos_{name}_total {sum(getattr(proc.accounts, name) for proc in procs)}"
    yield from _head("llmos_messages_total", "counter", "Final messages of processes.")
    yield f"llmos_messages_total {sum(proc.said for proc in procs)}"
    yield from _head("llmos_log_number", "gauge", "The last step that is committed.")
    yield f"llmos_log_number {machine.kernel.counters.lsn}"
    yield from _head("llmos_index_lag_pages", "gauge", "Pages that searches do not find yet.")
    yield f"llmos_index_lag_pages {machine.index.lag()}"
    yield from _head("llmos_http_requests_total", "counter", "Requests answered over HTTP, by status.")
    for status, count in sorted(requests.items()):
        yield f'llmos_http_requests_total{{status="{status}"}} {count}'
    lines = {line.name.lower(): account for line, account in machine.latency.lines.items()}
    yield from _head("llmos_interrupts_total", "counter", "Interrupts raised, by line.")
    for line, account in lines.items():
        yield f'llmos_interrupts_total{{line="{line}"}} {account.raised}'
    for name, says in (("to_delivery", "delivered"), ("to_token", "answered by a first token")):
        yield from _head(f"llmos_interrupt_{name}_seconds", "histogram", f"From raised to {says}, by line.")
        for line, account in lines.items():
            yield from _histogram(f"llmos_interrupt_{name}_seconds", line, getattr(account, name))


def _head(name: str, kind: str, says: str) -> Iterator[str]:
    yield f"# HELP {name} {says}"
    yield f"# TYPE {name} {kind}"


def _histogram(name: str, line: str, found: Histogram) -> Iterator[str]:
    """Buckets up to the last that has something."""
    seen, last = 0, max((at for at, count in enumerate(found.counts) if count), default=-1)
    for at, count in enumerate(found.counts[: last + 1]):
        seen += count
        yield f'{name}_bucket{{line="{line}",le="{(1 << at) / 1e6!r}"}} {seen}'
    yield f'{name}_bucket{{line="{line}",le="+Inf"}} {seen}'
    yield f'{name}_count{{line="{line}"}} {seen}'
