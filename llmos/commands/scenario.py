"""The command that plays scenarios: run.

Not here: the format (docs/scenarios.md, llmos/scenario/format.py), who plays one in virtual time
(llmos/scenario/virtual.py) and with a model (llmos/scenario/real.py), many runs and what breaks one
(llmos/scenario/many.py, llmos/scenario/fuzz.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from drivers.disk import whole
from kernel.errors import BadInput, KernelPanic
from llmos.commands.options import PATH, json_option
from llmos.commands.output import Paced, print_json, print_table, said, show, terminal
from llmos.scenario import shipped

if TYPE_CHECKING:
    from llmos.scenario.format import Scenario
    from llmos.scenario.timeline import Ran
    from llmos.tracks import Tracks

WHOLE: Final = 3  # broken expectations that are shown with their entries
WATCH_S: Final = 0.3  # between two looks at a file that is watched


@click.command()
@click.argument("file", metavar="[FILE]", required=False, help="A TOML file, or the name of one that comes with llmos.")
@click.option(
    "--cpu",
    default="scripted",
    show_default=True,
    help="scripted, a model (a GGUF file or a pulled name), or servers as URL[,URL].",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Instead of the scenario's own; with --fuzz, of what is tried."
)
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE[,VALUE]", help="A setting; of several values, each."
)
@click.option("--seeds", metavar="1-100", help="A run for each of these seeds, and each combination of settings.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, show_default=True, help="Runs at a time; 0: one a core.")
@click.option("--fuzz", "trials", type=click.IntRange(min=1), metavar="N", help="Try N changes; write what breaks.")
@click.option("--out", metavar="FILE", type=PATH, help="Outcomes of many runs, to go on from; or what --fuzz found.")
@click.option("--watch", is_flag=True, help="Play it again whenever the file is saved.")
@click.option("--list", "listed", is_flag=True, help="List the scenarios that come with llmos.")
@click.option("--trace", "trace_file", metavar="FILE", type=PATH, help="Write a trace that Perfetto opens.")
@click.option("--timeline", "everything", is_flag=True, help="Print everything that happened.")
@click.option("--dir", "keep", metavar="DIR", type=PATH, help="Keep the machine here: a new one.")
@json_option
def run(
    file: str | None,
    cpu: str,
    seed: int | None,
    changes: tuple[str, ...],
    seeds: str | None,
    jobs: int,
    trials: int | None,
    out: Path | None,
    watch: bool,
    listed: bool,
    trace_file: Path | None,
    everything: bool,
    keep: Path | None,
    as_json: bool,
) -> int:
    """\b
    Examples:
      llmos run storm --timeline
      llmos run mine.toml --seeds 1-20 --set sched.policy=rr,fair --json

    Play a scenario with scripted CPUs in virtual time: the same file and seed give the same hash everywhere. With a
    model (--cpu) the same file is played in real time, and the model decides what the processes say. The exit status
    is 1 if an expectation is broken. --seeds, or several values of a setting, make many runs and a table; --fuzz
    changes times, orders, faults and replies within what the file allows until it breaks. The format is described in
    docs/scenarios.md.
    """
    if listed:
        return _list(as_json)
    if file is None:
        raise BadInput("FILE is missing: name a TOML file, or one of llmos run --list")
    many = seeds is not None or any("," in change for change in changes)
    one_only = [name for name, given in (("--trace", trace_file), ("--timeline", everything), ("--dir", keep)) if given]
    for kind, given in (("many runs", many), ("--fuzz", trials is not None)):
        if given and (one_only or watch or cpu != "scripted"):
            wrong = [*one_only, *(["--watch"] if watch else []), *(["--cpu"] if cpu != "scripted" else [])]
            raise BadInput(f"{kind}: {', '.join(wrong)} goes with one run alone")
    if many and trials is not None:
        raise BadInput("--fuzz changes one scenario; give it without --seeds, and one value of each setting")
    path = _path(file)
    if trials is not None:
        return _fuzz(path, changes, trials, seed or 0, jobs, out or Path(f"{path.stem}-breaks.toml"), as_json)
    if many:
        return _many(path, changes, seeds, seed, jobs, out, as_json)
    if out is not None:
        raise BadInput("--out goes with --seeds or --fuzz")

    def once() -> int:
        return _once(path, cpu, seed, changes, trace_file, everything, keep, as_json)

    return _watch(path, once) if watch else once()


def _path(file: str) -> Path:
    """Where a scenario is. Raises BadInput if there is none."""
    path, builtin = Path(file), shipped.found()
    if not path.exists() and file not in builtin:
        from llmos.scenario.mistakes import near

        raise BadInput(f"{file}: no such file; {near(file, builtin, what='scenarios that come with llmos are')}")
    return path if path.exists() else builtin[file]


def _read(path: Path, changes: tuple[str, ...]) -> Scenario:
    from llmos.scenario import many, reading

    return many.with_settings(reading.read(path), changes)


def _list(as_json: bool) -> int:
    """`llmos run --list`: names and titles."""
    from llmos.scenario import reading

    found = {name: reading.read(path) for name, path in shipped.found().items()}
    if as_json:
        print_json(
            {"scenarios": [{"name": name, "title": one.title, "teaches": one.teaches} for name, one in found.items()]}
        )
    else:
        rows = [(name, one.title, one.teaches) for name, one in found.items()]
        print_table(
            ("name", "title", "teaches"), rows, left=("name", "title", "teaches"), spare=("teaches",), wrap=True
        )
    return 0


def _once(
    path: Path,
    cpu: str,
    seed: int | None,
    changes: tuple[str, ...],
    trace_file: Path | None,
    everything: bool,
    keep: Path | None,
    as_json: bool,
) -> int:
    """Play a scenario, and tell what became of it."""
    from llmos.policies import Broken
    from llmos.scenario import timeline
    from llmos.tracks import Tracks

    began = time.perf_counter()
    wanted = _read(path, changes)
    tracks = Tracks() if trace_file is not None else None
    try:
        ran = _played(wanted, cpu, seed, keep, tracks)
    except KernelPanic as exc:
        if isinstance(exc.__cause__, Broken):
            raise BadInput(f"memory.policy: {exc.__cause__}; llmos policies --check finds the smallest case") from exc
        raise
    if tracks is not None and trace_file is not None:
        timeline.done_to(ran, tracks)
        if lost := tracks.write(trace_file):
            said(f"{trace_file}: {lost} events more than a trace holds were left out, from its end")
    if as_json:
        found = {"ok": ran.ok, "events": ran.events, "hash": ran.hash, "virtual_s": ran.virtual_s}
        found |= {"wall_s": round(time.perf_counter() - began, 3), "interrupts": ran.interrupts}
        print_json(found | ({} if ran.ok else {"broken": ran.failed}))
    else:
        _show(path, wanted, ran, everything, "virtual" if cpu == "scripted" else "real")
    return 0 if ran.ok else 1


def _played(wanted: Scenario, cpu: str, seed: int | None, keep: Path | None, tracks: Tracks | None) -> Ran:
    if keep is not None and (keep / "data.mdb").exists():
        raise BadInput(f"--dir {keep} holds a machine already; name a new directory")
    if cpu != "scripted":
        from llmos.scenario import real

        return real.play(wanted, cpu, seed, said, keep, tracks)
    from contextlib import closing

    from llmos.scenario import virtual

    if keep is None:
        return virtual.play(wanted, seed, None, tracks)
    from drivers.disk.lmdb import LmdbDisk

    with closing(LmdbDisk(keep, sync="off")) as disk:
        return virtual.play(wanted, seed, disk, tracks)


def _show(path: Path, wanted: Scenario, ran: Ran, everything: bool, kind: str) -> None:
    from llmos.scenario import places, reading
    from llmos.scenario.days import Days

    show(f"{wanted.title}. {wanted.teaches}")
    if everything:
        days = Days(wanted.start or "")
        for one in ran.timeline:
            show(f"  {one.shown(days)}")
    if ran.ok:
        show(f"ok: {ran.events} events in {ran.virtual_s:g} s of {kind} time, hash {ran.hash}")
        return
    known = places.lines(reading.text_of(path))
    for n, broken in enumerate(ran.failed):
        line = places.line_of(("expect", broken.index), known)
        show(f"broken: line {line}: expected {broken if n < WHOLE else broken.said}")


def _watch(path: Path, once: Callable[[], int]) -> int:
    """Play whenever the file has changed, until Ctrl-C."""
    before = None
    while True:  # ends by a signal
        try:
            found = path.stat()
        except FileNotFoundError:  # an editor puts a new one in its place
            found = None
        now = (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else None
        if now is not None and now != before:
            before = now
            try:
                once()
            except BadInput as exc:
                said(str(exc))
            said(f"{path}: waiting for a change")
            sys.stdout.flush()
        time.sleep(WATCH_S)


def _progress(what: Callable[[int], str]) -> Callable[[int], None]:
    """Tells how far something is, now and then."""
    paced = Paced()
    return lambda n: paced.tell(what(n))


def _many(
    path: Path,
    changes: tuple[str, ...],
    seeds: str | None,
    seed: int | None,
    jobs: int,
    out: Path | None,
    as_json: bool,
) -> int:
    """Runs by seed and settings, and a table of them."""
    from llmos.scenario import many, reading
    from llmos.scenario.format import draws

    wanted = reading.read(path)
    chosen = many.seeds(seeds) if seeds is not None else (wanted.seed if seed is None else seed,)
    cases = [many.Case(settings, one) for settings in many.grid(changes) for one in chosen]
    broke = 0
    progress = _progress(lambda n: f"{path.stem}: {n} runs, {broke} of them broke")

    def told(n: int, _: int, broken: int) -> None:
        nonlocal broke
        broke = broken
        progress(n)

    outcomes = many.run(wanted, cases, jobs, out, told)
    rows = many.rows(wanted, outcomes)
    ok = all(one.ok for one in outcomes)
    if as_json:
        print_json({"ok": ok, "runs": len(outcomes), "rows": rows})
        return 0 if ok else 1
    if terminal(sys.stderr):
        said("")
    if len(chosen) > 1 and not draws(wanted):
        said("no event has a spread, so that all seeds are the same run, which is made once")
    table = []
    for row in rows:
        low, high = row.held_ci95
        table.append(
            (
                " ".join(row.settings) or "-",
                str(row.runs),
                f"{100 * row.held / row.runs:.0f}",
                f"{100 * low:.0f}-{100 * high:.0f}",
                _mean(row.reply_p50_s, row.reply_p50_ci95),
                _mean(row.reply_p99_s, row.reply_p99_ci95),
                str(row.unanswered),
                many.ranges([one.seed for one in row.broke]) or "-",
            )
        )
    names = ("settings", "runs", "held %", "95 %", "reply p50 s", "reply p99 s", "no reply", "seeds that broke")
    print_table(names, table, left=("settings", "seeds that broke"), spare=("seeds that broke",))
    for row in rows:
        for one in row.broke[:1]:
            show(f"broken with seed {one.seed}: {' '.join(row.settings)} expected {one.said}")
    return 0 if ok else 1


def _mean(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{value:.3g} [{interval[0]:.3g}, {interval[1]:.3g}]"


def _fuzz(path: Path, changes: tuple[str, ...], trials: int, seed: int, jobs: int, out: Path, as_json: bool) -> int:
    """Look for what breaks a scenario; write a file that does."""
    from llmos.scenario import fuzz

    tried = 0
    progress = _progress(lambda n: f"{path.stem}: {n} changes tried")

    def told(n: int) -> None:
        nonlocal tried
        tried = n
        progress(n)

    if out.exists() and out.samefile(path):
        raise BadInput(f"--out {out} is the scenario itself; name another file")
    found = fuzz.fuzz(_read(path, changes), trials, seed, told, jobs)
    if found is not None:
        try:
            whole.write(out, found.text().encode())
        except OSError as exc:
            raise BadInput(f"--out {out}: {exc.strerror}; name a file that can be written") from exc
    if as_json:
        fields = {} if found is None else {"file": str(out), "said": found.outcome.said, "changes": found.changes}
        events = {} if found is None else {"events": len(found.scenario.events)}
        print_json({"ok": found is None, "tried": tried, **fields, **events})
    elif found is None:
        show(f"ok: {tried} runs, none of which broke it")
    else:
        show(f"broken after {tried} runs: expected {found.outcome.said}")
        for one in found.changes:
            show(f"  {one}")
        show(f"{out}: {len(found.scenario.events)} events; llmos run {out} --timeline shows it")
    return 0 if found is None else 1
