"""The command that plays a scenario: run.

Not here: the format (llmos/scenario/format.py), who plays it in virtual time (llmos/scenario/virtual.py) and with a
model (llmos/scenario/real.py).
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from drivers.disk import whole
from kernel.errors import BadInput
from llmos.commands.options import PATH, json_option
from llmos.commands.output import print_json, said, show


@click.command()
@click.argument("file", metavar="FILE", help="A TOML file, or the name of one that comes with llmos.")
@click.option(
    "--cpu",
    default="scripted",
    show_default=True,
    help="scripted, a model (a GGUF file or a pulled name), or servers as URL[,URL].",
)
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the scenario's own.")
@click.option("--trace", "trace_file", metavar="FILE", type=PATH, help="Write a trace that Perfetto opens.")
@click.option("--timeline", "everything", is_flag=True, help="Print everything that happened.")
@click.option("--dir", "keep", metavar="DIR", type=PATH, help="Keep the machine here: a new one.")
@json_option
def run(
    file: str,
    cpu: str,
    seed: int | None,
    trace_file: Path | None,
    everything: bool,
    keep: Path | None,
    as_json: bool,
) -> int:
    """\b
    Examples:
      llmos run storm --timeline
      llmos run mine.toml --cpu smollm2-135m --trace mine.trace.json --json

    Play a scenario with scripted CPUs in virtual time: the same file and seed give the same hash everywhere. With a
    model the same file is played in real time, and the model decides what the processes say. The exit status is 1 if
    an expectation is broken. The format is described in docs/scenarios.md.
    """
    import msgspec

    from llmos.scenario import format as scenario
    from llmos.scenario import timeline
    from llmos.scenario import virtual as play

    began = time.perf_counter()
    builtin = {path.stem: path for path in sorted((Path(__file__).parents[1] / "scenarios").glob("*.toml"))}
    path = Path(file)
    if not path.exists():
        if file not in builtin:
            raise BadInput(f"{file}: no such file; scenarios that come with llmos are {', '.join(builtin)}")
        path = builtin[file]
    wanted = scenario.read(path)
    if keep is not None and (keep / "data.mdb").exists():
        raise BadInput(f"--dir {keep} holds a machine already; name a new directory")
    if cpu != "scripted":
        from llmos.scenario import real as live

        ran = live.play(wanted, cpu, seed, said, keep)
    elif keep is not None:
        from contextlib import closing

        from drivers.disk.lmdb import LmdbDisk

        with closing(LmdbDisk(keep, sync="off")) as disk:
            ran = play.play(wanted, seed, disk)
    else:
        ran = play.play(wanted, seed)
    if trace_file is not None:
        try:
            whole.write(trace_file, msgspec.json.encode({"traceEvents": list(timeline.trace(ran))}))
        except OSError as exc:
            raise BadInput(f"--trace {trace_file}: {exc.strerror}; name a file that can be written") from exc
    if as_json:
        found = {"ok": ran.ok, "events": ran.events, "hash": ran.hash, "virtual_s": ran.virtual_s}
        found |= {"wall_s": round(time.perf_counter() - began, 3), "interrupts": ran.interrupts}
        print_json(found | ({} if ran.ok else {"broken": ran.broken}))
        return 0 if ran.ok else 1
    show(f"{wanted.title}. {wanted.teaches}")
    if everything:
        for one in ran.timeline:
            show(f"  {one}")
    if ran.ok:
        kind = "virtual" if cpu == "scripted" else "real"
        show(f"ok: {ran.events} events in {ran.virtual_s:g} s of {kind} time, hash {ran.hash}")
        return 0
    show(f"broken: expected {ran.broken}")
    return 1
