"""The scenarios that come with llmos, and what a run of one looks like as a trace.

Importing it costs no machine. Not here: who plays them (virtual.py), what a trace is (llmos/tracks.py).
"""

from __future__ import annotations

from pathlib import Path


def found() -> dict[str, Path]:
    """Their files by name."""
    return {path.stem: path for path in sorted((Path(__file__).parents[1] / "scenarios").glob("*.toml"))}


def traced(path: Path) -> bytes:
    """A scenario, played in virtual time, as the file that `llmos run --trace` writes. Some hundredths of a second."""
    from llmos.scenario import reading, timeline, virtual
    from llmos.tracks import Tracks

    tracks = Tracks()
    timeline.done_to(virtual.play(reading.read(path), tracks=tracks), tracks)
    return tracks.encoded()
