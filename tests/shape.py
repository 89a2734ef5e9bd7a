"""The shape of the tree in numbers: `python -m tests.shape` prints a table, unit/test_architecture.py holds some.

Counted by ast over the distribution's packages, blank lines and comments included. An `except` is broad if it catches
Exception, BaseException or everything, and counted unless its body raises.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernel", "syscalls", "drivers", "llmos", "bench")
EFFECTS = {"Run", "Preempt", "Fork", "Search", "Load", "Arm", "Disarm", "Deliver"}


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
        "broad excepts a thousand lines": round(1_000 * sum(map(broad_excepts, trees.values())) / total, 2),
        "asserts a function in kernel/": round(asserts / functions, 2),
        "tests by lines of kernel, syscalls, drivers, llmos": round(tests / core, 2),
    }


if __name__ == "__main__":
    for name, value in shape(*map(Path, sys.argv[1:])).items():
        print(f"{name:52} {value}")
