# SPDX-License-Identifier: MIT
"""Values of data libraries as plain values and blobs, and back.

`reduce()` takes a value apart, `rebuild()` puts it together over the stored memory. Neither copies the data of arrays
and frames; both leave to pickle what they cannot give back exactly. A library is asked only about values of its own,
so that nothing is imported which the program did not use; `rebuild()` imports what the stored value needs.

A state is a list of plain values, `Blob`, and other values, which the codec writes by the same rules as any value: an
index in a frame, a categorical in a block, an element of an object array. `rebuild()` is given them rebuilt, and a
writable memoryview for each blob. What was stored may be anything: whatever does not hold together is a ValueError.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Callable

from ._blob import Blob

__all__ = ["Blob", "reduce", "rebuild", "NAMES"]

# The packages whose values are known, and the module here that knows them.
_PARTS = {"numpy": "_numpy", "pandas": "_pandas", "pyarrow": "_arrow", "polars": "_polars", "PIL": "_images"}

# The first word of a name says whose value it is.
NAMES = tuple(f"python:{package}." for package in _PARTS)


def _part(package: str) -> Any:
    name = f"{__package__}.{_PARTS[package]}"
    part = sys.modules.get(name)  # a frame's hit asks a dozen times
    if part is None or not hasattr(part, "MAKERS"):
        part = importlib.import_module(name)
    return part


def reduce(value: Any) -> tuple[str, Any] | None:
    """What @value is made of: a name, and its state. None: it is of no library known here, or would not come back
    exactly."""
    module = type(value).__module__
    package = module.partition(".")[0] if type(module) is str else ""
    if package not in _PARTS or package not in sys.modules:
        return None
    return _part(package).reduce(value)


def rebuild(name: str, state: Any) -> Any:
    """The value again. ValueError: there is no such value, or this interpreter lacks its library."""
    package = name[len("python:"):].partition(".")[0] if name.startswith("python:") else ""
    if package not in _PARTS:
        raise ValueError(f"a stored value is called {name!r}, which is not known here")
    try:
        part = _part(package)
    except ImportError as error:
        raise ValueError(f"a stored value needs {package}, which cannot be imported here: {error}") from error
    maker: Callable[[Any], Any] | None = part.MAKERS.get(name)
    if maker is None:
        raise ValueError(f"a stored value is called {name!r}, which is not known here")
    try:
        return maker(state)
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        # The libraries refuse what they cannot use in many ways of their own.
        raise ValueError(f"a stored value called {name!r} does not hold together: {error}") from error
