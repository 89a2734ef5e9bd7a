"""What the files of a folder say of themselves, so that a new file is found and nothing lists it twice.

And what installed packages offer beside them, as entry points.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from typing import Any

from kernel.errors import BadInput


def discover(package: str, wanted: str) -> dict[str, Any]:
    """What the modules of `package` call `wanted`, by the modules' names, in their order; who says nothing is left out.

    For the package's own `__init__`: its modules may import each other, and nothing of the package itself.
    """
    names = sorted(one.name for one in pkgutil.iter_modules(importlib.import_module(package).__path__))
    modules = {name: importlib.import_module(f"{package}.{name}") for name in names}
    return {name: getattr(module, wanted) for name, module in modules.items() if hasattr(module, wanted)}


def offered(group: str, name: str) -> Any:
    """What an installed package offers as `name` in a group of entry points, None if none does.

    Raises BadInput if it cannot be imported.
    """
    for point in importlib.metadata.entry_points(group=group, name=name):
        try:
            return point.load()
        except Exception as exc:  # a stranger's module: whatever it dies of
            raise BadInput(f"{group} {name}: {point.value} cannot be imported: {type(exc).__name__}: {exc}") from exc
    return None


def offers(group: str) -> list[str]:
    """The names in a group of entry points."""
    return sorted(importlib.metadata.entry_points(group=group).names)
