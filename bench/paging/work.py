"""Who does the work: this process, processes on this machine, or a cluster of Dask's; results come as they are made.

What was made is handed out at once, so that whoever is cut off has it. A worker of a cluster that dies is no loss: what
it had begun is given to another. Not here: what the work is (sweep.py).
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Final, TypeVar

from drivers.host import cores
from kernel.errors import BadInput

CLUSTER: Final = re.compile(r"dask://([^\s/:]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")
PATIENCE_S: Final = 10  # for a cluster's answer
WorkT = TypeVar("WorkT")
MadeT = TypeVar("MadeT")


def spread(make: Callable[[WorkT], MadeT], work: Sequence[WorkT], at_once: int, on: str) -> Iterator[MadeT]:
    """What `make` makes of each piece, in the order in which that is done; `at_once` pieces (0: one a core), or `on`
    a cluster. Raises BadInput if there is no such cluster, and if a process of this machine is killed.
    """
    if on:
        yield from _cluster(make, work, on)
        return
    processes = min(at_once or cores(), len(work))
    if processes <= 1:
        yield from map(make, work)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            for done in as_completed([pool.submit(make, piece) for piece in work]):
                yield done.result()
        except BrokenProcessPool as exc:
            raise BadInput(
                "a process was killed, by somebody or for memory; what is done is kept: run it again"
            ) from exc
        finally:
            pool.shutdown(cancel_futures=True)


def _cluster(make: Callable[[WorkT], MadeT], work: Sequence[WorkT], on: str) -> Iterator[MadeT]:
    found = CLUSTER.fullmatch(on)
    if found is None:
        raise BadInput(f"--on {on}: give dask://HOST:PORT, the address of a Dask scheduler")
    try:
        from distributed import Client
        from joblib import Parallel, delayed, parallel_config
    except ImportError as exc:
        raise BadInput("--on needs joblib and dask.distributed: pip install 'llmos[cluster]'") from exc
    address = f"tcp://{found[1]}:{found[2]}"
    try:
        client = Client(  # type: ignore[no-untyped-call]
            address, timeout=PATIENCE_S, set_as_default=False
        )
    except OSError as exc:
        raise BadInput(f"--on {on}: no scheduler answers there") from exc
    with client, parallel_config("dask", client=client, wait_for_workers_timeout=PATIENCE_S):
        yield from Parallel(return_as="generator_unordered", batch_size=1)(delayed(make)(piece) for piece in work)
