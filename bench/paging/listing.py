"""What `llmos policies` and `llmos bench compare` print: which policies there are, whether one holds the laws, and what
a result has more than another.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.paging import field, laws, report, results
from kernel.memory.policy import POLICIES
from llmos import policies as own
from llmos.commands.output import print_json, print_table, show


def policies(as_json: bool) -> None:
    """All that are known by name."""
    every = field.every()
    if as_json:
        print_json(
            [
                {"name": name, "live": name in POLICIES, "does": one.does, "reference": one.reference, "cost": one.cost}
                for name, one in every.items()
            ]
        )
        return
    names = ("policy", "live", "an access", "what it does")
    told = [
        (
            name,
            "live" if name in POLICIES else "",
            one.cost or "-",
            one.does + (f" ({one.reference})" if one.reference else ""),
        )
        for name, one in every.items()
    ]
    print_table(names, told, left=names, wrap=True)


def check(name: str, examples: int, as_json: bool) -> int:
    """Play with a policy; the exit status. Those of the field keep no state, and no law asks for one."""
    wanted = [law for law in laws.LAWS if name not in field.FIELD or law not in laws.KEPT]
    make = own.plain(own.read(name)).make if own.is_own(name) else field.maker(name, 1)
    found = laws.check(make, wanted, examples)
    broken = [one for one in found if one.broken]
    if as_json:
        print_json({"policy": name, "ok": not broken, "laws": found})
        return 1 if broken else 0
    for one in found:
        show(f"broken  {one.says}: {one.broken}" if one.broken else f"ok      {one.says}")
    show(f"{name}: {len(broken)} of {len(found)} laws are broken" if broken else f"{name}: holds {len(found)} laws")
    return 1 if broken else 0


def compare(before: Path, after: Path, out: Path | None, as_json: bool) -> None:
    """Two results, row by row."""
    form = results.form(out) if out is not None else ""
    found = report.compared(results.read(before), results.read(after))
    names = ("workload", "budget", "A", "B", "hit A", "hit B", "difference pp", "95 %", "B is")
    rows = [
        (
            *(one.workload, f"{one.budget:,}", one.before, one.after),
            *(f"{100 * one.before_hit:.2f} %", f"{100 * one.after_hit:.2f} %", f"{one.difference_pp:+.2f}"),
            *(results.span(one.difference_ci95), one.said),
        )
        for one in found
    ]
    whole = {"compared": found}
    if out is not None:
        raw = {
            ".json": lambda: msgspec.json.encode(whole) + b"\n",
            ".csv": lambda: results.flat(found).encode(),
            ".md": lambda: results.markdown(names, rows).encode(),
        }
        results.written(out, raw[form]())
    if as_json:
        print_json(whole)
    else:
        print_table(names, rows, left=("workload", "A", "B", "B is"))
