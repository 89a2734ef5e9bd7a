"""What the files of a folder say of themselves, so that a new file is found and nothing lists it twice."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def discover(package: str, wanted: str) -> dict[str, Any]:
    """What the modules of `package` call `wanted`, by the modules' names, in their order; who says nothing is left out.

    For the package's own `__init__`: its modules may import each other, and nothing of the package itself.
    """
    names = sorted(one.name for one in pkgutil.iter_modules(importlib.import_module(package).__path__))
    modules = {name: importlib.import_module(f"{package}.{name}") for name in names}
    return {name: getattr(module, wanted) for name, module in modules.items() if hasattr(module, wanted)}
