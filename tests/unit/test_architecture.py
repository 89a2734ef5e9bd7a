"""The tree is the architecture: imports point inwards, and generated documents equal what generates them."""

import ast
from pathlib import Path

import pytest

from drivers.disk.seal import TABLES
from kernel.failpoint import POINTS
from syscalls.manual import document

ROOT = Path(__file__).parents[2]
PACKAGES = ("kernel", "syscalls", "drivers", "llmos", "bench")
MAY_IMPORT = {"kernel": set(), "syscalls": {"kernel"}, "drivers": {"kernel"}}  # llmos and bench may import all
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_inwards(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    foreign = imports(path) & set(PACKAGES) - {package}
    allowed = MAY_IMPORT.get(package, set(PACKAGES))
    assert foreign <= allowed, f"{package} may not import {foreign - allowed}"


def test_only_the_machine_imports_trio_in_the_kernel() -> None:
    users = {path.name for path in (ROOT / "kernel").rglob("*.py") if "trio" in imports(path)}
    assert users == {"loop.py", "requests.py", "feed.py"}


def test_the_kernel_reads_no_clock_and_draws_no_chance() -> None:
    allowed = {"boot.py", "failpoint.py"}  # the default clock of a board; what makes a run fail from outside
    users = {
        path.name for path in (ROOT / "kernel").rglob("*.py") if imports(path) & {"time", "random", "datetime", "os"}
    }
    assert users <= allowed


def test_the_kernel_names_no_syscall() -> None:
    from syscalls.abi import NAMES

    plain = {"search", "read", "pin", "evict", "sleep", "yield", "exit", "unpin"}  # words of their own right
    for path in (ROOT / "kernel").rglob("*.py"):
        strings = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not strings & (set(NAMES) - plain), path


def test_the_syscall_document_is_what_the_abi_generates() -> None:
    assert (ROOT / "docs" / "syscalls.md").read_text() == document(), "run `make docs`"


def test_the_durability_page_lists_the_failpoints_and_the_tables() -> None:
    text = (ROOT / "docs" / "durability.md").read_text()
    for name, where in POINTS.items():
        assert f"| `{name}` | {where} |" in text
    for table in TABLES:
        assert f"| `{table}` |" in text
