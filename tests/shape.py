"""The shape of the tree in numbers: `python -m tests.shape` prints a table, unit/test_architecture.py holds some.

Counted by ast over the distribution's packages, blank lines and comments included. An `except` is broad if it catches
Exception, BaseException or everything, and counted unless its body raises.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Collection
from pathlib import Path
from typing import get_args

from kernel.event import AnyEffect

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernel", "syscalls", "drivers", "llmos", "bench")
EFFECTS = {effect.__name__ for effect in get_args(AnyEffect)}


FLOORS = (  # of kernel/: a file imports from its own floor and those below it
    (
        "words of the house",
        ("errors", "text", "limits", "discover", "failpoint", "interrupts", "rights", "sampling", "settings", "spec"),
    ),
    ("what memory is", ("memory/",)),
    ("the boundary, and what is on disk", ("event", "ports", "process", "scheduler/", "records", "formats", "aside")),
    ("the store", ("state", "shares")),
    (
        "who waits, who runs, what a page is",
        ("manner", "waiting", "tried", "quota", "capabilities", "tools", "dispatch", "paging/alloc"),
    ),
    (
        "the segments of an address space",
        ("paging/segments", "paging/share", "paging/backlog", "paging/summary", "paging/queue", "paging/transcript"),
    ),
    (
        "what a syscall or an event does to it",
        (
            *("paging/", "timers", "controller", "outbox", "ipc", "awaiting", "guard"),
            *("shared", "external", "naming"),
        ),
    ),
    ("a turn", ("turn",)),
    ("a life", ("life", "kin", "children", "kthread", "change", "removal")),
    ("a trap", ("trap",)),
    ("a restart", ("restart", "checkpoint")),
    ("the step", ("core",)),
    ("who looks at it from outside", ("audit", "replay")),
    ("the machine", ("machine/",)),
    ("boot", ("boot",)),
)


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Files of kernel/ by the names of their modules, packages themselves excepted."""
    found = files(root, ("kernel",))
    return {".".join(p.relative_to(root).with_suffix("").parts): p for p in found if p.name != "__init__.py"}


def imported(path: Path, known: Collection[str]) -> set[str]:
    """Which of the modules `known` a file imports when it runs: what stands under TYPE_CHECKING is left out."""
    tree = ast.parse(path.read_text())
    typed = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    skipped = {id(node) for one in typed for node in ast.walk(one)}
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in skipped]
    names = {f"{one.module}.{alias.name}" for one in froms for alias in one.names} | {str(one.module) for one in froms}
    packages = {f"{name}.__init__" for name in names} | names
    return {name for name in known if name in packages}


def floor(module: str) -> int:
    """Which floor a module of kernel/ stands on; the longest name of FLOORS that fits it says so."""
    name = module.removeprefix("kernel.").replace(".", "/")
    rooms = [(one, at) for at, (_, names) in enumerate(FLOORS) for one in names]
    fits = [(len(one), at) for one, at in rooms if name == one or (one.endswith("/") and name.startswith(one))]
    assert fits, f"{module} stands on no floor"
    return max(fits)[1]


def upward(root: Path = ROOT) -> list[str]:
    """Imports of kernel/ from a floor above, as 'a imports b'."""
    known = modules(root)
    return [
        f"{name} imports {other}"
        for name, path in known.items()
        for other in sorted(imported(path, known))
        if floor(other) > floor(name)
    ]


def files(root: Path = ROOT, packages: tuple[str, ...] = PACKAGES) -> list[Path]:
    """Python files of packages, in order."""
    return [path for package in packages for path in sorted((root / package).rglob("*.py"))]


def methods(tree: ast.AST) -> dict[str, int]:
    """How many methods each class has."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {cls.name: sum(isinstance(node, kinds) for node in cls.body) for cls in classes}


def effect_matches(tree: ast.AST) -> int:
    """Matches of three effects or more."""

    def names(match: ast.Match) -> set[str]:
        patterns = [node for case in match.cases for node in ast.walk(case.pattern)]
        return {n.cls.id for n in patterns if isinstance(n, ast.MatchClass) and isinstance(n.cls, ast.Name)}

    return sum(len(names(node) & EFFECTS) >= 3 for node in ast.walk(tree) if isinstance(node, ast.Match))


def broad_excepts(tree: ast.AST) -> int:
    """Handlers of everything that do not raise."""
    broad = {"Exception", "BaseException"}
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    return sum(
        (one.type is None or (isinstance(one.type, ast.Name) and one.type.id in broad))
        and not any(isinstance(node, ast.Raise) for node in ast.walk(one))
        for one in handlers
    )


def shape(root: Path = ROOT) -> dict[str, object]:
    """The table's rows."""
    sources = {path: path.read_text() for path in files(root)}
    trees = {path: ast.parse(text) for path, text in sources.items()}
    lines = {path: text.count("\n") for path, text in sources.items()}
    largest = max(lines, key=lambda path: lines[path])
    sized = [
        ((node.end_lineno or 0) - node.lineno + 1, node.name)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    counted = [(n, name) for tree in trees.values() for name, n in methods(tree).items()]
    kernel = [tree for path, tree in trees.items() if path.relative_to(root).parts[0] == "kernel"]
    functions = sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for tree in kernel for n in ast.walk(tree))
    asserts = sum(isinstance(n, ast.Assert) for tree in kernel for n in ast.walk(tree))
    core = sum(n for path, n in lines.items() if path.relative_to(root).parts[0] != "bench")
    tests = sum(path.read_text().count("\n") for path in files(root, ("tests",)))
    total = sum(lines.values())
    return {
        "files": len(lines),
        "lines": total,
        "median file": statistics.median(lines.values()),
        "largest file": f"{largest.relative_to(root)} ({lines[largest]})",
        "largest class": "{1} ({0} lines)".format(*max(sized)),
        "most methods": "{1} ({0})".format(*max(counted)),
        "places that match effects": sum(map(effect_matches, trees.values())),
        "upward imports in kernel/": len(upward(root)) if (root / "kernel" / "state.py").exists() else "no floors",
        "broad excepts a thousand lines": round(1_000 * sum(map(broad_excepts, trees.values())) / total, 2),
        "asserts a function in kernel/": round(asserts / functions, 2),
        "tests by lines of kernel, syscalls, drivers, llmos": round(tests / core, 2),
    }


if __name__ == "__main__":
    for name, value in shape(*map(Path, sys.argv[1:])).items():
        print(f"{name:52} {value}")
