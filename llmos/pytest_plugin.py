"""Scenarios as tests: `pytest --llmos scenarios/` collects TOML files, and `scenario(...)` objects of test modules.

Guarantee: without `--llmos` it collects nothing and imports nothing of llmos's. A test fails with the expectations that
are broken, each with the entries that show it; a file that cannot be played is an error with its mistakes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from llmos.scenario.format import Scenario

_SCENARIO: Final = re.compile(r"^\s*((until|teaches)\s*=|\[\[\s*expect\s*\]\])", re.M)
"""What tells a scenario from the TOML files of other tools, any of it: a slip in one must not hide the file."""


class BrokenScenario(Exception):
    """Expectations that did not hold."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--llmos`."""
    group = parser.getgroup("llmos")
    group.addoption("--llmos", action="store_true", help="Collect scenarios: TOML files, and objects of test modules.")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A TOML file that is a scenario, or that is named to be one."""
    if not parent.config.getoption("--llmos") or file_path.suffix != ".toml":
        return None
    named = parent.session.isinitpath(file_path)
    if not named and _SCENARIO.search(file_path.read_text(errors="replace")) is None:
        return None
    return ScenarioFile.from_parent(parent, path=file_path)


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> Any:
    """A scenario that a test module holds."""
    form = sys.modules.get("llmos.scenario.format")
    if form is None or not collector.config.getoption("--llmos") or not isinstance(obj, form.Scenario):
        return None
    return ScenarioItem.from_parent(collector, name=name, scenario=obj)


class ScenarioFile(pytest.File):
    """A TOML file, which is one test."""

    def collect(self) -> Iterator[pytest.Item]:
        """The test. Raises what is wrong with the file, in a line."""
        from kernel.errors import BadInput
        from llmos.scenario.reading import read

        try:
            scenario = read(self.path)
        except BadInput as exc:
            raise self.CollectError(str(exc)) from exc
        yield ScenarioItem.from_parent(self, name=scenario.title or self.path.stem, scenario=scenario)


class ScenarioItem(pytest.Item):
    """A scenario to be played in virtual time."""

    def __init__(self, *, scenario: Scenario, **others: Any) -> None:
        super().__init__(**others)
        self.scenario = scenario

    def runtest(self) -> None:
        """Play it."""
        from llmos.scenario.virtual import play

        ran = play(self.scenario)
        if not ran.ok:
            raise BrokenScenario("\n".join(f"expect[{one.index}]: expected {one}" for one in ran.failed))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The broken expectations alone; of all else the traceback."""
        if isinstance(excinfo.value, BrokenScenario):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands, and its title."""
        return self.path, None, self.scenario.title
