"""References a second of each policy in the simulator, beside libCacheSim's where it is installed.

    python -m tests.throughput

A zipf string of 100,000 references to 10,000 pages of size 1, caches of 100 and 1,000. libCacheSim is asked reference
by reference through its Python binding, as the simulator is; inside its own C loop it is faster by far.
"""

from __future__ import annotations

import functools
import random
import time

from bench.paging import field, simulator, trace
from bench.paging.simulator import Options

NAMES = {
    "fifo": "FIFO",
    "lru": "LRU",
    "clock": "Clock",
    "sieve": "Sieve",
    "lfu": "LFU",
    "arc": "ARC",
    "s3fifo": "S3FIFO",
    "gdsf": "GDSF",
    "two_q": "TwoQ",
    "lirs": "LIRS",
    "wtinylfu": "WTinyLFU",
    "random": "Random",
}


def main() -> None:
    """Print a table in Markdown."""
    try:
        import libcachesim
    except ImportError:
        libcachesim = None
    rng = random.Random(1)
    refs = [page + 1 for page in rng.choices(range(10_000), [1 / (place + 1) for place in range(10_000)], k=100_000)]
    part = trace.of("zipf", [(page, 1) for page in refs])
    print("| policy | size | simulator, refs/s | libCacheSim, refs/s |\n|---|---|---|---|")
    for name in field.EVERY:
        for size in (100, 1_000):
            began = time.perf_counter()
            simulator.run(part, functools.partial(field.make, name), size, Options(1.0, 0.0, "perfect"))
            mine = len(refs) / (time.perf_counter() - began)
            theirs = ""
            if libcachesim is not None and name in NAMES:
                cache = getattr(libcachesim, NAMES[name])(size)
                request = libcachesim.Request()
                request.obj_size = 1
                began = time.perf_counter()
                for page in refs:
                    request.obj_id = page
                    cache.get(request)
                theirs = f"{len(refs) / (time.perf_counter() - began):,.0f}"
            print(f"| {name} | {size:,} | {mine:,.0f} | {theirs} |", flush=True)


if __name__ == "__main__":
    main()
