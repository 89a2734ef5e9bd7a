"""What docstrings and pages say of the tree is so: they name no file that is not there, and leave no room out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import states

ROOT = Path(__file__).parents[2]
PACKAGES = ("kernel", "syscalls", "drivers", "llmos", "bench")
SOURCES = [path for package in (*PACKAGES, "tests") for path in sorted((ROOT / package).rglob("*.py"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"(?<![\w./~-])(?:[\w-]+/)*[\w-]+\.(?:py|md|toml)\b")  # a path from somewhere in the tree
INSIDE = re.compile(rf"(?<![\w./~-])(?:{'|'.join((*PACKAGES, 'tests', 'docs'))})(?:/[\w-]+)+(?![\w/]*\.)\b")  # a folder
FENCED = re.compile(r"^```.*?^```", re.M | re.S)
EXAMPLES = {
    "tea.toml",
    "tea.py",
    "mine.toml",
    "mine.py",
    "report.md",
    "captions.md",
    "llmos.toml",
    "notes.py",
}  # files that are made, by a reader or by a command


def named(text: str) -> list[str]:
    """The files and folders that a text names."""
    return sorted({*FILE.findall(text), *INSIDE.findall(text)} - EXAMPLES)


def there(path: str, folder: Path) -> bool:
    """Whether a path stands in a folder, or in one of those around it."""
    return any((one / path).exists() for one in (folder, *folder.parents) if one.is_relative_to(ROOT))


def comments(path: Path) -> Iterator[str]:
    """The docstrings of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_names_a_file_that_is_not_there(path: Path) -> None:
    lost = [name for text in comments(path) for name in named(text) if not there(name, path.parent)]
    assert not lost


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_names_a_file_that_is_not_there(path: Path) -> None:
    """What is designed and not built has a dagger behind it, and loses it when it is built."""
    text = FENCED.sub("", path.read_text())
    spans = re.findall(r"`([^`\n]+)`(\u2020?)", text)
    files = [(name, bool(dagger)) for span, dagger in spans for name in named(span)]
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [name for name, designed in files if there(name, ROOT / "docs") == designed]
    assert not [link for link in links if link and not (path.parent / link).exists()]


def defined(path: Path) -> set[str]:
    """Functions, classes and constants of a file, those of a class with its name and a dot in front."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                inner = [one for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
                found |= {name, *(f"{name}.{one.name}" for one in inner)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_a_page_names_in_a_file_is_defined_there(path: Path) -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.py)`\s+`([\w.]+)`", path.read_text())
    assert not [(file, name) for file, name in named if name not in defined(ROOT / file)]
    if path.name == "architecture.md":
        assert len(named) > 20


def tree() -> dict[str, str]:
    """The rooms of the tree in docs/architecture.md and their promises, by path; a folder's ends in a slash."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    (block,) = re.findall(r"^## The tree\b.*?^```\n(.*?)^```", page, re.M | re.S)
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent > 8:  # a promise that goes on
            continue
        name, _, promise = line.strip().partition(" ")
        folders = folders[: indent // 2]
        if name.endswith("/"):
            found["".join(folders) + name] = promise.strip()
            folders.append(name)
        else:
            for one in name.split(","):
                found["".join(folders) + one] = promise.strip()
    return found


def test_the_tree_lists_every_room_with_its_promise() -> None:
    rooms = tree()
    assert all(rooms.values()), [name for name, promise in rooms.items() if not promise]
    assert not [name for name in rooms if not (ROOT / name).exists()]
    opened = {
        name for name in rooms if name.endswith("/") and any(one.startswith(name) and one != name for one in rooms)
    }
    for path in SOURCES:
        name = str(path.relative_to(ROOT))
        if path.name in ("__init__.py", "__main__.py") or name in rooms:
            continue
        folder = next(f"{one}/" for one in path.relative_to(ROOT).parents if f"{one}/" in rooms)
        assert folder not in opened, f"{name} is missing in docs/architecture.md, The tree"


def test_no_line_of_the_first_page_is_too_long() -> None:
    assert not [line for line in (ROOT / "docs" / "architecture.md").read_text().splitlines() if len(line) >= 120]


def test_the_page_on_processes_is_what_the_table_of_moves_draws() -> None:
    assert states.PAGE.read_text() == states.document(), "run `make docs`"


def test_every_setting_that_a_page_names_is_there() -> None:
    from kernel.settings import keys

    known = set(keys())
    for page in PAGES:
        said = set(re.findall(r"`((?:memory|sched|cpu|disk)\.[a-z_]+)(?:=[^`]*)?`", page.read_text()))
        assert said <= known, (page.name, said - known)
