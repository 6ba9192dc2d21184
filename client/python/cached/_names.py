# SPDX-License-Identifier: MIT
"""What modules and types are called, in every process of an application alike."""

from __future__ import annotations

import os
import sys
from typing import Any


def module_name(name: str | None, space: dict[str, Any] | None = None) -> str:
    """A module's name. The script, which is `__main__` in its own process and `__mp_main__` in those that
    multiprocessing spawns, is called as if it had been imported. @space: its globals, where they are known."""
    if name not in ("__main__", "__mp_main__"):
        return name or "?"
    if space is None:
        space = getattr(sys.modules.get(name), "__dict__", {})
    spec, file = space.get("__spec__"), space.get("__file__")
    if spec is not None and getattr(spec, "name", None) not in (None, "__main__", "__mp_main__"):
        return str(spec.name)
    return os.path.splitext(os.path.basename(file))[0] if isinstance(file, str) and file else "__main__"


def type_name(kind: type) -> str:
    """A type's module and qualified name, for people; builtins without the module."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def key_name(kind: type) -> str:
    """The same, for keys."""
    module = module_name(kind.__module__)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
