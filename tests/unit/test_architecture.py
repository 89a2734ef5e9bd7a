"""The tree is the architecture: imports point inwards, and generated documents equal what generates them."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.failpoint import POINTS
from kernel.records import TABLES
from kernel.settings import Settings, apply, keys
from llmos import settings
from llmos.commands.app import CONTENTS
from syscalls.manual import document
from tests import shape

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {  # bench may import all
    "kernel": set(),
    "syscalls": {"kernel"},
    "drivers": {"kernel"},
    "llmos": {"kernel", "syscalls", "drivers"},
}
FILES = shape.files()


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
    foreign = imports(path) & set(shape.PACKAGES) - {package}
    allowed = MAY_IMPORT.get(package, set(shape.PACKAGES))
    assert foreign <= allowed, f"{package} may not import {foreign - allowed}"


def test_only_the_table_of_commands_loads_by_name() -> None:
    users = {path.relative_to(ROOT) for path in (ROOT / "llmos").rglob("*.py") if "importlib" in imports(path)}
    assert users == {Path("llmos/commands/app.py"), Path("llmos/doctor.py")}  # doctor: versions of what is installed
    named = {target.split(":")[0] for target, _ in CONTENTS.values()}
    assert {name for name in named if not name.startswith("llmos.commands.")} == {"bench.commands"}


def test_nothing_in_the_kernel_imports_a_floor_above_it() -> None:
    assert shape.upward() == []
    rooms = [room for _, names in shape.FLOORS for room in names]
    for room in rooms:
        assert (ROOT / "kernel" / (room if room.endswith("/") else f"{room}.py")).exists(), room


def test_the_imports_of_the_kernel_have_no_cycle() -> None:
    known = shape.modules()
    order = graphlib.TopologicalSorter({name: shape.imported(path, known) for name, path in known.items()})
    assert len(list(order.static_order())) == len(known)


@pytest.mark.parametrize("package", ["kernel", "syscalls"])
def test_no_import_of_the_kernel_comes_late(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
        late = [n for one in functions for n in ast.walk(one) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not late, f"{path} imports inside a function, line {late[0].lineno}"


def test_no_class_has_more_than_20_methods_and_effects_are_matched_in_one_place() -> None:
    counts = {
        (name, path.name): count
        for path in shape.files()
        for name, count in shape.methods(ast.parse(path.read_text())).items()
    }
    assert {one: count for one, count in counts.items() if count > 20} == {}
    assert sum(shape.effect_matches(ast.parse(path.read_text())) for path in shape.files()) == 1


def test_only_the_machine_imports_trio_in_the_kernel() -> None:
    users = {path.name for path in (ROOT / "kernel").rglob("*.py") if "trio" in imports(path)}
    assert users == {"loop.py", "requests.py", "feed.py", "reaper.py"}


@pytest.mark.parametrize("module", ["kernel.machine.views", "drivers.door.wire", "drivers.door.lines"])
def test_a_client_imports_the_protocol_and_not_the_machine(module: str) -> None:
    heavy = {"trio", "numpy", "kernel.core", "kernel.machine.loop", "kernel.memory.policy", "kernel.scheduler"}
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_one_match_over_effects_for_all_machines() -> None:
    found = set()
    for path in [*FILES, *sorted((ROOT / "tests").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name) and node.cls.id in shape.EFFECTS:
                found.add(str(path.relative_to(ROOT)))
    # the desk matches requests, one of which is called Fork too
    assert found - {"drivers/door/desk.py"} == {"kernel/machine/devices.py"}


def test_the_kernel_reads_no_clock_and_draws_no_chance() -> None:
    allowed = {"clock.py", "failpoint.py"}  # the clocks of the host; what makes a run fail from outside
    users = {
        path.name for path in (ROOT / "kernel").rglob("*.py") if imports(path) & {"time", "random", "datetime", "os"}
    }
    assert users <= allowed


def test_the_kernel_names_no_syscall() -> None:
    from syscalls.abi import NAMES

    plain = {
        *("search", "read", "pin", "evict", "sleep", "yield", "exit", "unpin", "mask"),
        *("fork", "wait", "kill", "send", "grant", "open", "spawn", "write", "remember"),
    }  # words of their own right
    for path in (ROOT / "kernel").rglob("*.py"):
        strings = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not strings & (set(NAMES) - plain), path


def test_the_syscall_document_is_what_the_abi_generates() -> None:
    assert (ROOT / "docs" / "syscalls.md").read_text() == document(), "run `make docs`"


def test_the_settings_document_is_what_the_settings_say_of_themselves() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings.document(), "run `make docs`"
    named = [one.key for one in settings.described()]
    assert named == keys()
    assert all(one.meaning and one.allowed for one in settings.described())
    for one in settings.described():
        if not one.key.startswith("models."):
            apply(Settings(), [f"{one.key}={settings.said(one.default)}"])


def test_the_durability_page_lists_the_failpoints_and_the_tables() -> None:
    text = (ROOT / "docs" / "durability.md").read_text()
    for name, where in POINTS.items():
        assert f"| `{name}` | {where} |" in text
    for name, table in TABLES.items():
        assert f"| `{name}` | {table.key} | {table.holds} |" in text
