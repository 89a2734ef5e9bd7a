"""The commands that measure: `llmos bench`, `llmos trace` and `llmos policies`, loaded by name when one of them runs.

Each imports its question's module when it runs. Not here: what a figure means (the modules of bench/, docs/numbers.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kernel.errors import BadInput
from llmos.commands.options import PATH, json_option, sample_option, set_option
from llmos.commands.output import print_json, print_table, progress, said, show

if TYPE_CHECKING:
    from bench.paging.formats import Reading


columns_option = click.option(
    "--columns", metavar="page=2,size=4", help="Of a CSV, by number or name; or libcachesim, twitter."
)
unit_option = click.option("--unit", is_flag=True, help="Every page of the trace has size 1.")


def _reading(columns: str | None, unit: bool) -> Reading:
    from bench.paging import formats

    return formats.Reading(formats.columns(columns) if columns is not None else None, unit)


@click.group(no_args_is_help=False)
def bench() -> None:
    """\b
    Examples:
      llmos bench kernel --seconds 0.5 --stored 1000
      llmos bench sched --seeds 1 --json

    Measure this machine.
    """


@click.group(no_args_is_help=False)
def trace() -> None:
    """\b
    Examples:
      llmos trace record ~/.local/share/llmos mine.jsonl.gz --process main
      llmos trace convert mine.jsonl.gz mine.oracleGeneral.bin

    Reference strings for `llmos bench paging`.
    """


@bench.command("kernel", short_help="Durable syscalls a second.")
@click.option("--processes", type=click.IntRange(min=1, max=4096), default=16, show_default=True)
@click.option("--sync", default="group", show_default=True, help="full, group or off.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=20.0, show_default=True)
@click.option("--stored", type=click.IntRange(min=0), default=50_000, show_default=True, help="Before the last phase.")
@json_option
def kernel(processes: int, sync: str, seconds: float, stored: int, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench kernel
      llmos bench kernel --processes 64 --sync off --seconds 0.5 --stored 1000 --json

    Durable syscalls a second of scripted CPUs, with indexes, beside the bare loop.
    """
    from bench.kernel import run

    run(processes, sync, seconds, stored, as_json)


@bench.command("cpu", short_help="The llama CPU: restore, batches, preemption, forks.")
@click.option("--model", default="smollm2-135m", show_default=True, help="A GGUF file, or the name of a pulled model.")
@click.option("--full", is_flag=True, help="More sizes, turns and preemptions, in 20 to 60 minutes.")
@click.option("--check", is_flag=True, help="Compare with the stored baseline; exit 1 if worse.")
@click.option("--keep", is_flag=True, help="Store the figures as the model's baseline.")
@click.option("--seed", default=1, show_default=True, help="Of conversation, preemptions and sampling.")
@json_option
def cpu(model: str, full: bool, check: bool, keep: bool, seed: int, as_json: bool) -> int:
    """\b
    Examples:
      llmos bench cpu --model smollm2-135m --json
      llmos bench cpu --full --check

    What KV paging, shared batches, preemption and forks cost and save on a model, as ratios measured in one run of
    5 to 20 minutes. docs/numbers.md says what each figure is.
    """
    from bench.cpu.run import run

    return run(model, full=full, check=check, keep=keep, seed=seed, as_json=as_json)


@bench.command("crash", short_help="Kill the machine wherever it can be killed.")
@click.option("--points", default="all", show_default=True, help="all, or failpoints separated by commas.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Workloads 1 to N.")
@click.option("--sabotage", default="", help="Break the kernel on purpose; it must be noticed.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="At most so many runs, drawn from all; 0: all.",
)
@click.option("--jobs", type=click.IntRange(min=0), default=0, show_default=True, help="Runs at a time; 0: one a core.")
@json_option
def crash(points: str, seeds: int, sabotage: str, limit: int, jobs: int, as_json: bool) -> int:
    """\b
    Examples:
      llmos bench crash --limit 6 --json
      llmos bench crash --sabotage skip-outbox --points publish.before --limit 6

    Run a workload with every syscall, timers and a client that connects again; kill it at every failpoint, start it
    again, and look for what is lost, done twice or other than a replay of its journal. Exit status 1 if anything is
    found; with --sabotage (ack-before-commit, apply-twice, skip-outbox, stale-index) if nothing is.
    """
    from bench.crash.run import run

    return run(points, seeds, sabotage, limit, jobs, as_json)


@bench.command("attack", short_help="Whatever comes in from outside, made wrong.")
@click.option("--surface", "surfaces", metavar="NAME", multiple=True, help="Only this one; may be given again.")
@click.option(
    "--trials",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of a surface; 0: as many as are its own.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--first", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the first trial.")
@click.option("--sabotage", default="", metavar="GUARD", help="Take a guard away; it must be missed.")
@json_option
def attack(surfaces: tuple[str, ...], trials: int, seed: int, first: int, sabotage: str, as_json: bool) -> int:
    """\b
    Examples:
      llmos bench attack --trials 10 --json
      llmos bench attack --surface protocol --trials 300 --sabotage connection

    Give each surface of the machine what its own types admit, at their edges, and what they must refuse; damaged files
    and lines; and count what it died of, tracebacks, what hung, and what was wrong: accepted though it must be refused,
    or left a machine that breaks its own rules or does not boot again. Exit status 1 if anything is found; with
    --sabotage if nothing is. A trial is named by its number and the seed, and is made again with --first.
    """
    from bench.attack.run import run

    return run(list(surfaces), trials, seed, sabotage, first, as_json)


@bench.command("clients", short_help="Clients that send while the daemon is killed.")
@click.option("--clients", type=click.IntRange(min=1, max=64), default=64, show_default=True, help="A process each.")
@click.option("--messages", type=click.IntRange(min=1, max=400), default=200, show_default=True, help="Of each client.")
@click.option("--kills", type=click.IntRange(min=0, max=100), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of when it is killed.")
@json_option
def clients(clients: int, messages: int, kills: int, seed: int, as_json: bool) -> int:
    """\b
    Examples:
      llmos bench clients --clients 2 --messages 10 --kills 2
      llmos bench clients --clients 4 --messages 8 --kills 1 --json

    Clients send to a real daemon, which is killed with SIGKILL again and again, with a reader open on each process, as
    a chat is. Counted is what was acknowledged and is lost, what comes twice, and what no reader was shown; then the
    journal is replayed. Exit status 1 if anything is found.
    """
    from bench.clients import run

    return run(clients, messages, kills, seed, as_json)


@bench.command("http", short_help="The HTTP door under load.")
@click.option("--processes", type=click.IntRange(min=1, max=1_000), default=100, show_default=True)
@click.option("--listeners", type=click.IntRange(min=0, max=760), default=500, show_default=True, help="Of events.")
@click.option(
    "--rate", type=click.FloatRange(min=1, max=10_000), default=200.0, show_default=True, help="Messages a second."
)
@click.option("--seconds", type=click.FloatRange(min=1, max=86_400), default=60.0, show_default=True)
@json_option
def http(processes: int, listeners: int, rate: float, seconds: float, as_json: bool) -> int:
    """\b
    Examples:
      llmos bench http --processes 10 --listeners 20 --rate 50 --seconds 2
      llmos bench http --processes 5 --listeners 10 --rate 20 --seconds 2 --json

    Messages at a fixed rate to processes whose CPUs answer at once, every other one over the control socket, with
    clients that follow what happens. Counted is what a follower was not told, or twice; and kept how long an
    acknowledgement takes by each door, a stream's first byte, and memory before and after. Exit status 1 if anything is
    lost.
    """
    from bench.web import run

    return run(processes, listeners, rate, seconds, as_json)


@bench.command("soak", short_help="Whether file and memory level off.")
@click.option("--minutes", type=click.FloatRange(min=0.05, max=10_000), default=60.0, show_default=True)
@click.option("--users", type=click.IntRange(min=1, max=128), default=16, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(min=0.01, max=1_000), default=4.0, show_default=True, help="Messages a second."
)
@set_option
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--picture", metavar="FILE", type=PATH, help="Draw both over time: .svg, .png or .pdf.")
@json_option
def soak(
    minutes: float,
    users: int,
    rate: float,
    changes: tuple[str, ...],
    seed: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """\b
    Examples:
      llmos bench soak --minutes 0.05 --users 4
      llmos bench soak --minutes 0.05 --picture soak.svg --json

    Users talk to a real daemon with a scripted CPU at a steady rate, and data.mdb and resident memory are looked at 120
    times. Growth is the last fifth over the first, after a tenth of the time.
    """
    from bench.soak import run

    run(minutes, users, rate, changes, seed, picture, as_json)


@bench.command("recovery", short_help="Boot, indexes and turns of a machine with a long past.")
@click.option("--processes", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--pages", type=click.IntRange(min=2_000), default=1_000_000, show_default=True)
@click.option("--keep", "where", metavar="DIR", type=PATH, help="Fill this folder, or use it.")
@json_option
def recovery(processes: int, pages: int, where: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench recovery --processes 100 --pages 2000
      llmos bench recovery --processes 1000 --pages 100000 --keep ~/long --json

    Fill a directory, build its indexes from nothing, compact it, boot it after a clean end and after a kill, and take
    turns in the process that has most of the pages. With a million pages it takes half an hour.
    """
    from bench.recovery import run

    run(processes, pages, where, as_json)


@bench.command("sched", short_help="What the scheduling policies do to those who wait.")
@click.option("--seeds", type=click.IntRange(min=1, max=100), default=5, show_default=True, help="Seeds 1 to this one.")
@json_option
def sched(seeds: int, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench sched --seeds 2
      llmos bench sched --seeds 1 --json

    Runs 40 interactive processes, 8 batch ones, 4 blocked ones and a runaway under each policy, in virtual time.
    """
    from bench.sched import run

    run(seeds, as_json)


@bench.command("interrupts", short_help="A storm of interrupts, and a week of timers.")
@click.option(
    "--processes", type=click.IntRange(min=1, max=100_000), default=1_000, show_default=True, help="Of the storm."
)
@click.option(
    "--interrupts", type=click.IntRange(min=1, max=10_000_000), default=100_000, show_default=True, help="Of the storm."
)
@click.option(
    "--days", type=click.FloatRange(min=0.05, max=366), default=7.0, show_default=True, help="Of hourly timers."
)
@json_option
def interrupts(processes: int, interrupts: int, days: float, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench interrupts --json
      llmos bench interrupts --processes 20 --interrupts 300 --days 0.1

    In virtual time: what a storm over many processes loses (nothing), and how long a week of timers takes.
    """
    from bench.interrupts import run

    run(processes, interrupts, days, as_json)


@bench.command("paging", short_help="Paging policies beside the optimum.")
@click.option("--workload", default="", help="By name, or a trace file.")
@click.option("--policy", default="", help="Of `llmos policies`, or mine.py:Mine (docs/policy.md); default ours.")
@click.option("--budget", default="", help="Tokens of queue and recall, such as 4k,1m; default 4096.")
@click.option("--low-water", "low", default="", help="1: page by page.")
@click.option("--recall", default="", help="Share of the budget that recall has, or auto.")
@click.option("--pager", default="", help="search; perfect: each fault is brought in; live: a machine's own.")
@click.option("--path", default="", help="Recalled pages: area, queue, or drawn.")
@click.option("--local", is_flag=True, help="Each process has its part of the budget.")
@click.option("--seed", "seeds", default="1", show_default=True, help="Such as 1-5.")
@click.option("--data", type=PATH, help="The benchmark data; default $LLMOS_DATA.")
@set_option
@click.option("--sizes", help="Of a live machine: this model's, or scripted.")
@columns_option
@unit_option
@click.option("--sample", metavar="SHARE", type=float, help="Simulate so many of the pages, by hash (SHARDS).")
@click.option("--no-bounds", is_flag=True, help="Leave the optimum out.")
@click.option("--sweep", metavar="DIR", type=PATH, help="Keep the cells in DIR, with a report and pictures; resumes.")
@click.option("--out", metavar="FILE", type=PATH, help="Write them as .json, .csv or .md.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, show_default=True, help="Processes; 0: one a core.")
@click.option("--on", default="", metavar="dask://HOST:PORT", help="Make them on a cluster.")
@json_option
def paging(
    workload: str,
    policy: str,
    budget: str,
    low: str,
    recall: str,
    pager: str,
    path: str,
    local: bool,
    seeds: str,
    data: Path | None,
    changes: tuple[str, ...],
    sizes: str | None,
    columns: str | None,
    unit: bool,
    sample: float | None,
    no_bounds: bool,
    sweep: Path | None,
    out: Path | None,
    jobs: int,
    on: str,
    as_json: bool,
) -> None:
    """\b
    Examples:
      llmos bench paging --workload own --policy ours,lru,gdsf --budget 2048
      llmos bench paging --workload own,synthetic/loop --policy mine.py:Mine,lru --budget 1k,2k --sweep out --no-bounds

    \b
    Cells: a workload goes through a policy, and stands beside the optimum. Each
    option with a value takes several with commas; every combination is a cell.
    Without data: own, synthetic/zipf, synthetic/loop, synthetic/scan,
    synthetic/phase, synthetic/sized and synthetic/thrash, and any trace file.
    With it (--data or LLMOS_DATA; `llmos bench data list`): locomo-late, locomo-live, bfcl, docs,
    nested-kv, git, git/h11, git/msgspec, git/trio, mix, tau, mooncake, cloudphysics, lirs, and lirs/loop
    and others. Of your own: transcripts in DATA/transcripts, or DIR/ as the workload.
    --sweep DIR alone is the grid of docs/paging.md: all of them, every mark, share and path.
    \b
    faults       references to pages that were not resident; hit = 1 - faults / references
    opt_hit      the best that demand paging can do with all of the budget
    regret_pp    opt_hit - hit in percentage points; a search can bring it below 0
    cost_ratio   tokens of faults and recall, and of keeping, over the least possible
    prefill_amplification   prefill of the queue over tokens that arrived, recall apart
    95 %         bootstrap over strings and seeds; a difference whose interval holds 0 is a tie
    \b
    --path area   recalled pages stand apart and are dropped after the turn
           drawn  those of them that the turn drew on join the queue (ours; perfect pager)
           queue  all of them join the queue
    \b
    --pager live  a machine of the kernel's own in virtual time is told and asked (locomo-late, bfcl, or a file as
           `llmos bench memory` takes it): --budget is its window, --set its settings, hit the evidence in view
    """
    from bench.paging import field, plan
    from bench.paging.sweep import run
    from llmos.scenario.many import seeds as numbers

    def words(text: str) -> tuple[str, ...]:
        return plan.listed(text, str) or ("",)

    if not workload and sweep is None:
        raise BadInput("--workload is missing; --help names them, and --sweep DIR runs all cells")
    axes = (low, recall, pager, path, local, changes, sizes, sample)
    run(
        plan.Wish(
            plan.listed(workload, str) or plan.WORKLOADS,
            plan.listed(policy, str) or (tuple(field.EVERY) if sweep and not workload else ("ours",)),
            plan.listed(budget, plan.tokens) or (plan.BUDGETS if sweep and not workload else (4096,)),
            numbers(seeds),
            plan.listed(low, plan.share) or (None,),
            words(recall),
            words(pager),
            words(path),
            local,
            data,
            changes,
            sizes,
            not no_bounds,
            **({"limit_s": plan.SWEEP_LIMIT_S} if sweep else {}),
            grid=sweep is not None and not workload and not any(axes),
            how=_reading(columns, unit),
            sample=sample,
        ),
        sweep,
        out,
        jobs,
        on,
        as_json,
    )


@bench.command("compare", short_help="Two results of `llmos bench paging`.")
@click.argument("before", metavar="A", type=PATH, help="A folder of --sweep, or a JSON of --out.")
@click.argument("after", metavar="B", type=PATH, help="Another.")
@click.option("--out", metavar="FILE", type=PATH, help="Write it as .json, .csv or .md.")
@json_option
def compare(before: Path, after: Path, out: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench compare before.json after.json
      llmos bench compare before.json after.json --json

    What the second result has more than the first, in percentage points of hits, with its 95 % interval: the same
    workload, budget, policy and setting, or, where each has one policy, whatever that is. A difference whose interval
    holds 0 is a tie; what was counted on the same strings is paired.
    """
    from bench.paging import listing

    listing.compare(before, after, out, as_json)


@trace.command("record", short_help="What a process drew on, from its machine's directory.")
@click.argument("directory", metavar="DIR", type=PATH, help="A data directory; a kernel may run on it.")
@click.argument("file", metavar="FILE", type=PATH, help="To write: .jsonl, .csv or .oracleGeneral, or with .gz.")
@click.option("--process", metavar="PROC", default="", help="By name or number.")
def record(directory: Path, file: Path, process: str) -> None:
    """\b
    Examples:
      llmos trace record ~/.local/share/llmos mine.jsonl.gz --process main
      llmos trace record ~/agents agents.csv --process clerk

    Write what a process was told and said, and which pages its replies drew on, as a reference string. JSONL holds the
    texts, so that searches can be simulated; the other formats hold numbers only.
    """
    from bench.paging import formats, record

    form = formats.writable(file)
    turns, texts = record.record(directory, process)
    count = formats.write_jsonl(turns, file, texts) if form == "jsonl" else formats.write(turns, file)
    show(f"{file}: {len(turns)} turns, {sum(len(turn.refs) for turn in turns)} references, {count} pages in all")


@trace.command("git", short_help="Commits as tasks over a repository.")
@click.argument("repository", metavar="REPO", type=PATH, help="A local clone.")
@click.argument("file", metavar="FILE", type=PATH, help="To write, .jsonl or .jsonl.gz.")
@click.option("--suffixes", default=".py,.c,.h,.rs,.go,.js,.ts", show_default=True, help="Of the files that count.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=0, show_default=True, help="Commits, the oldest first; 0: all."
)
def git(repository: Path, file: Path, suffixes: str, limit: int) -> None:
    """\b
    Examples:
      llmos trace git ~/src/trio trio.jsonl.gz
      llmos bench paging --workload trio.jsonl.gz --policy gdsf

    Each commit is a task that reads the windows of 100 lines it changes. Texts are not written.
    """
    from bench.paging import formats
    from bench.paging import repository as maker

    turns = maker.tasks(repository, tuple(one for one in suffixes.split(",") if one), limit)
    count = formats.write(turns, file)
    show(f"{file}: {len(turns)} tasks, {count} references")


@trace.command("convert", short_help="From one format to another.")
@click.argument("source", metavar="FROM", type=PATH)
@click.argument("target", metavar="TO", type=PATH, help=".oracleGeneral.bin, .csv or .jsonl, or these and .gz.")
@columns_option
@unit_option
def convert(source: Path, target: Path, columns: str | None, unit: bool) -> None:
    """\b
    Examples:
      llmos trace convert mine.jsonl.gz mine.oracleGeneral.bin
      llmos trace convert mine.oracleGeneral.bin mine.csv

    Forms are told by the names: .oracleGeneral, libCacheSim's; .csv and .jsonl, llmos's own; .txt and .trace, an id a
    line; .lis, ARC's; and any CSV by --columns. docs/paging.md has what is refused. In oracleGeneral arrivals are
    requests.
    """
    from bench.paging import formats

    formats.writable(target)
    show(f"{target}: {formats.write(formats.read(source, _reading(columns, unit)), target)} pages")


@click.command()
@click.option("--check", "checked", metavar="POLICY", help="Look for what breaks its laws: a name, or FILE.py:CLASS.")
@click.option("--examples", type=click.IntRange(min=1), default=300, show_default=True, help="Plays of a check.")
@json_option
def policies(checked: str | None, examples: int, as_json: bool) -> int:
    """\b
    Examples:
      llmos policies
      llmos policies --check mine.py:Mine

    Those marked live can be a machine's memory.policy; all of them run in `llmos bench paging`. docs/policy.md builds
    one. --check plays with it as a pager would, and names the smallest case that breaks a law; exit status 1 if any is.
    """
    from bench.paging import listing

    if checked is not None:
        return listing.check(checked, examples, as_json)
    listing.policies(as_json)
    return 0


@bench.command("idle", short_help="What processes cost that do nothing.")
@click.option("--processes", type=click.IntRange(min=10), default=10_000, show_default=True)
@click.option("--turns", type=click.IntRange(min=1), default=1_000, show_default=True, help="Of a process, in each.")
@json_option
def idle(processes: int, turns: int, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench idle --processes 500 --turns 50
      llmos bench idle --processes 300 --turns 50 --json

    Bytes of memory an idle process, the time of a boot with so many, and a turn of one among them beside a turn among
    ten, in one run.
    """
    from bench.idle import run

    run(processes, turns, as_json)


@bench.command("archives", short_help="What a message costs who has mapped others' archives.")
@click.option("--pages", type=click.IntRange(min=1), default=1_000, show_default=True, help="Of each archive.")
@click.option("--turns", type=click.IntRange(min=1), default=40, show_default=True, help="Of each reader.")
@json_option
def archives(pages: int, turns: int, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench archives --pages 20 --turns 5
      llmos bench archives --pages 20 --turns 5 --json

    Processes that have mapped no, one, four and sixteen archives are asked the same: how long a turn takes, beside one
    of who has mapped none, in one run.
    """
    from bench.archives import run

    run(pages, turns, as_json)


@bench.command("injection", short_help="Injected text against a CPU that obeys it, and a model.")
@click.option(
    "--data", type=PATH, help="The benchmark data, or a file of cases; default $LLMOS_DATA, else our own few."
)
@click.option("--model", default="", metavar="MODEL", help="A GGUF file, or the name of a pulled model: asked as well.")
@click.option("--limit", type=click.IntRange(min=0), default=0, show_default=True, help="Texts for the model; 0: all.")
@set_option
@json_option
def injection(data: Path | None, model: str, limit: int, changes: tuple[str, ...], as_json: bool) -> int:
    """\b
    Examples:
      llmos bench injection
      llmos bench injection --model smollm2-135m --limit 2 --set cpu.threads=1 --json

    Texts that tell a process what to do, as a user's message, in a document, in another process's message, and in a
    summary: a CPU that obeys emits every call there is, and none that is forbidden may have an effect, or be missing in
    the audit. Exit status 1 otherwise. With a model: which share of its answers from a document such a text changes.
    """
    from bench.injection import run

    return run(data, model, list(changes), limit, as_json)


@bench.group("data", no_args_is_help=False, short_help="The data that benches use.")
def data() -> None:
    """\b
    Examples:
      llmos bench data list
      llmos bench data check --json

    Which data the figures of docs/numbers.md and docs/paging.md were made with, and where it comes from. It is not
    part of llmos, and what needs none says so.
    """


data_option = click.option("--data", "folder", type=PATH, help="The folder; default $LLMOS_DATA, else in the cache.")


@data.command("list", short_help="What there is, whose, and how it is had.")
@data_option
@json_option
def data_list(folder: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench data list
      llmos bench data list --data ~/data --json

    Each source with its licence, its size, whether it is here, and the command that brings it, or why none does. --json
    has the files, with hashes and addresses.
    """
    from bench.data import chosen, home, look

    found = look(home(folder), chosen(()))
    if as_json:
        print_json({"folder": str(home(folder)), "data": found})
        return
    rows = [
        (one.name, one.state, f"{one.bytes / 1e6:.1f}", one.licence, one.get or f"- {one.why}", one.used, one.home)
        for one in found
    ]
    names = ("data", "state", "MB", "licence", "how it is had", "used by", "home")
    print_table(names, rows, left=tuple(name for name in names if name != "MB"), spare=("home", "used by"), wrap=True)


@data.command("get", short_help="Fetch it from where it lives.")
@click.argument("names", metavar="[NAME]...", nargs=-1, help="Of `llmos bench data list`; without, all.")
@data_option
@click.option("--from", "base", metavar="URL", help="A mirror of raw.githubusercontent.com.")
@click.option("--other", is_flag=True, help="Keep what came though its hash is another.")
def data_get(names: tuple[str, ...], folder: Path | None, base: str | None, other: bool) -> None:
    """\b
    Examples:
      llmos bench data get mooncake
      llmos bench data get lirs cloudphysics --data ~/data

    What is half fetched goes on the next time; what came is checked by its hash, and put in its place whole. Each
    source has a licence of its own.
    """
    import os

    from bench import data as module
    from bench.sources import RAW

    target = module.home(folder)
    sources = [one for one in module.chosen(names) if names or not one.why]
    for one in sources:
        brought = module.get(target, one, base or RAW, other=other, progress=progress)
        show(f"{one.name}: {len(brought)} of {len(one.files)} files brought, the others were here; {one.licence}")
    if os.environ.get("LLMOS_DATA") != str(target):
        said(f"LLMOS_DATA={target} is where benches find it")


@data.command("check", short_help="Whether it is what the figures were made with.")
@click.argument("names", metavar="[NAME]...", nargs=-1, help="Of `llmos bench data list`; without, all.")
@data_option
@json_option
def data_check(names: tuple[str, ...], folder: Path | None, as_json: bool) -> int:
    """\b
    Examples:
      llmos bench data check
      llmos bench data check mooncake tau --json

    Every file with its hash, which is of its content unpacked, of JSON of its values. Exit status 1 if one is there and
    is not what it should be.
    """
    from bench import data as module

    found = module.look(module.home(folder), module.chosen(names))
    ok = all(one.state != "other" for one in found)
    if as_json:
        print_json({"ok": ok, "folder": str(module.home(folder)), "data": found})
    else:
        rows = [
            (str(file["path"]), str(file["state"]), str(file["bytes"]), str(file["sha256"]))
            for one in found
            for file in one.files
        ]
        names_ = ("file", "state", "bytes", "sha256")
        print_table(names_, rows, left=("file", "state", "sha256"), spare=("sha256",))
    return 0 if ok else 1


@bench.command("nested-kv", short_help="The MemGPT paper's nested look-ups.")
@click.option("--model", default="smollm2-135m", show_default=True, help="A GGUF file, or the name of a pulled model.")
@click.option("--levels", metavar="A-B", default="1-4", show_default=True, help="Look-ups in a row.")
@click.option("--samples", type=click.IntRange(min=1), default=20, show_default=True, help="A level.")
@click.option("--window", default=2048, show_default=True, help="Tokens of context.")
@click.option("--data", type=PATH, help="The nested_kv folder; default $LLMOS_DATA.")
@json_option
def nested_kv(model: str, levels: str, samples: int, window: int, data: Path | None, as_json: bool) -> None:
    """\b
    Examples:
      llmos bench nested-kv --model smollm2-135m --levels 1-2 --samples 4
      llmos bench nested-kv --levels 1-1 --samples 4 --json

    The nested key-value look-ups of the MemGPT paper: every search is emitted by the model.
    """
    from bench.nested_kv import run

    first, dash, last = levels.partition("-")
    if {first, last if dash else first} - set("123456") or first > (last or first):
        raise BadInput(f"--levels {levels}: A-B is wanted, of 1 to 6")
    wanted = range(int(first), int(last or first) + 1)
    run(model=model, levels=tuple(wanted), samples=samples, window=window, data=data, as_json=as_json)


@bench.command("templates", short_help="Frames beside what chat templates render themselves.")
@click.option("--data", type=PATH, help="A file of templates, or a folder that has one; default $LLMOS_DATA.")
@json_option
def templates(data: Path | None, as_json: bool) -> int:
    """\b
    Examples:
      llmos bench templates --data templates.jsonl
      llmos bench templates --data templates.jsonl --json

    Frame each chat template of a file (lines of JSON with name and template) as a model's is framed, and compare ten
    conversations, joined by the frame, with what the template renders. A template is derived, has a named frame, or is
    refused with the reason. Exit status 1 if a frame differs.
    """
    from bench.templates import run

    return run(data, as_json)


@bench.command("thinking", short_help="What thought costs, and where it gets.")
@click.option("--model", default="smollm2-135m", show_default=True, help="A GGUF file, or the name of a pulled model.")
@click.option("--turns", type=click.IntRange(1, 400), default=40, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of what the user says.")
@click.option(
    "--budgets", metavar="N,N", default="16,64,256", show_default=True, help="Tokens of a thought: a row each."
)
@set_option
@json_option
def thinking(model: str, turns: int, seed: int, budgets: str, changes: tuple[str, ...], as_json: bool) -> int:
    """\b
    Examples:
      llmos bench thinking --turns 2 --budgets 8
      llmos bench thinking --turns 2 --budgets 8 --set window=4096 --json

    Have a model talk as it is, and under its own chat template with a thought begun in its mouth before each answer:
    tokens evaluated per new one, and what of a thought was said, indexed or recalled (nothing). Exit status 1 if
    anything was.
    """
    from bench.thinking import run

    if not all(one.isdecimal() and 0 < int(one) < 100_000 for one in budgets.split(",")):
        raise BadInput(f"--budgets {budgets}: numbers of tokens are wanted, with commas between them")
    return run(model, turns, seed, [int(one) for one in budgets.split(",")], changes, as_json)


@bench.command("chat", short_help="Fifteen turns of small talk: in the user's language, and new?")
@click.option("--model", default="smollm2-135m", show_default=True, help="A GGUF file, or the name of a pulled model.")
@click.option("--seeds", metavar="A-B", default="1-3", show_default=True, help="Of draws: a talk each.")
@click.option("--turns", type=click.IntRange(1, 15), default=15, show_default=True, help="The first so many lines.")
@sample_option
@set_option
@click.option("--keep", type=PATH, metavar="DIR", help="Write the talks here, as Markdown.")
@json_option
def chat(
    model: str,
    seeds: str,
    turns: int,
    sample: str | None,
    changes: tuple[str, ...],
    keep: Path | None,
    as_json: bool,
) -> None:
    """\b
    Examples:
      llmos bench chat --model smollm2-135m --seeds 1-3 --json
      llmos bench chat --seeds 1-1 --turns 2 --sample machine

    Say the same fifteen lines to a process as `llmos chat` makes it, and count replies that are in English, have no
    line or sentence of four words twice, and none that was said before. bench/chat.py has the rules.
    """
    from bench.chat import run, seeds_of

    run(model, sample or "model", seeds_of(seeds), turns, changes, keep, as_json)


@bench.command("memory", short_help="Which evidence stands in the prompt, on long conversations.")
@click.option("--workload", required=True, help="facts, locomo, bfcl, or a file or folder of conversations.")
@click.option("--data", type=PATH, envvar="LLMOS_DATA", help="The benchmark data; default $LLMOS_DATA.")
@click.option("--window", type=click.IntRange(min=1), default=4096, show_default=True, help="Tokens of context.")
@click.option("--model", help="Who answers: a GGUF file, or the name of a pulled model.")
@click.option("--sizes", help="A script answers, with this model's sizes; scripted: three bytes a token.")
@set_option
@click.option("--only", default="", metavar="NAME,..", help="Conversations by name.")
@click.option("--questions", type=click.IntRange(min=0), default=0, help="At most so many a conversation; 0: all.")
@click.option("--rows", default="llmos", show_default=True, help="llmos, window, memgpt, oracle, full, or all.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the questions' order, and of facts."
)
@click.option("--details", type=PATH, help="Write a line of JSON a question.")
@json_option
def memory(
    workload: str,
    data: Path | None,
    window: int,
    model: str | None,
    sizes: str | None,
    changes: tuple[str, ...],
    only: str,
    questions: int,
    rows: str,
    seed: int,
    details: Path | None,
    as_json: bool,
) -> None:
    """\b
    Examples:
      llmos bench memory --workload talk.jsonl --sizes scripted --window 1024
      llmos bench memory --workload talk.jsonl --rows all --json

    A conversation is told to a live machine, then all questions are asked, and it is counted which of the messages
    that they rest on stood in the prompt. With --model it answers, and the replies are graded; otherwise a script
    does, with the sizes of --sizes (default smollm2-135m).

    \b
    facts    100 facts in four languages over 60 days, 10 of them corrected later, 5 twice; from --seed
    locomo   LoCoMo: --data holds locomo/*.json
    bfcl     BFCL v4 memory: --data holds bfcl_memory/
    FILE     LoCoMo's or REALTALK's JSON, or lines of JSON in order of time:
             {"say": text, "at": ISO time, "who": name?, "id": name?}
             {"ask": text, "answers": [text, ...], "evidence": [id, ...], "category": name?}
             A message without an id has its number among those that are told, from 1.
    \b
    evidence    messages in view / all that the questions rest on
    complete    share of questions all of whose messages are in view
    right       share right by BFCL's rule, or mean F1 by LoCoMo's; null without --model; of facts: it says the
                newest value and no older one
    recalled_per_question, prefill_per_question   tokens brought in, and evaluated as prompt
    prefill_per_new_token   evaluated without what was brought in, over entered and emitted
    \b
    window   the last messages alone    memgpt   MemGPT's layout; it may search
    oracle   the evidence alone         full     all of it in a window that holds it
    """
    from bench.memory.run import run

    run(workload, data, window, model, sizes, list(changes), only, questions, rows, seed, details, as_json)


@bench.command("documents", short_help="Answers from documents far larger than the window.")
@click.option("--workload", default="nq", show_default=True, type=click.Choice(["nq", "manual", "whole", "labels"]))
@click.option("--data", type=PATH, envvar="LLMOS_DATA", help="The benchmark data; default $LLMOS_DATA.")
@click.option("--model", help="Who answers: a GGUF file, or the name of a pulled model; none: what is found, alone.")
@click.option("--windows", default="2048,4096", show_default=True, help="Tokens of context, with commas.")
@click.option("--rows", default="llmos,gold,1,2,3,5,10,20,50", show_default=True, help="llmos, gold, or K passages.")
@click.option("--questions", type=click.IntRange(min=0), default=100, show_default=True, help="How many are answered.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the questions, the manual.")
@set_option
@click.option("--details", type=PATH, help="A line of JSON an answer; what stands there is not asked again.")
@json_option
def documents(
    workload: str,
    data: Path | None,
    model: str | None,
    windows: str,
    rows: str,
    questions: int,
    seed: int,
    changes: tuple[str, ...],
    details: Path | None,
    as_json: bool,
) -> None:
    """\b
    Examples:
      llmos bench documents --json
      llmos bench documents --workload manual --model smollm2-135m --questions 4 --windows 2048

    \b
    nq       the questions of Natural Questions, all 1,500 gold passages pooled as one document: the share whose
             passage is among the first K found; and answers of llmos, beside K passages by the same index, cut by
             tokens, and the gold passage alone
    manual   300 pages made from --seed: 40 questions with their lines, and 10 that it does not answer, as `llmos ask`
             answers them
    whole    40 pages made from --seed: which machines have something in common, as `llmos ask --whole` answers it from
             all of them, and `llmos ask` from what is found
    labels   what a label of a recalled line costs, over gold passages, in several layouts
    """
    from bench.documents.run import rows_of, run

    sizes = windows.split(",")
    if not all(one.strip().isdigit() for one in sizes):
        raise BadInput(f"--windows {windows}: numbers of tokens, with commas")
    run(
        workload,
        data,
        model,
        [int(one) for one in sizes],
        rows_of(rows),
        questions,
        seed,
        list(changes),
        details,
        as_json,
    )
