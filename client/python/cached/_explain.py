# SPDX-License-Identifier: MIT
"""Why a value cannot be stored, in words: which part of it, and what to do instead."""

from __future__ import annotations

import pickle as pickling
from typing import Any, Iterator, Optional, Set, Tuple

PROBES = 200
DEPTH = 12


def type_name(kind: type) -> str:
    """How errors call a type."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _children(value: Any) -> Iterator[Tuple[str, Any]]:
    """(how a program says it, part) of what a value consists of."""
    if isinstance(value, dict):
        for key, part in list(value.items()):
            yield f"[{key!r:.40}]", part
            yield f" key {key!r:.40}", key
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield f"[{i}]", part
    elif isinstance(value, (set, frozenset)):
        for part in list(value):
            yield " member", part
    else:
        for name, part in list(getattr(value, "__dict__", {}).items()):
            yield f".{name}", part


def _fails(value: Any) -> bool:
    try:
        pickling.dumps(value, 5, buffer_callback=lambda buffer: None)
    except Exception:
        return True
    return False


def _culprit(value: Any) -> Tuple[str, Any]:
    """The path to the innermost part that cannot be pickled, found by trying, within bounds."""
    path = ""
    seen: Set[int] = set()
    probes = 0
    for _ in range(DEPTH):
        seen.add(id(value))
        inner: Optional[Tuple[str, Any]] = None
        for step, part in _children(value):
            probes += 1
            if probes > PROBES:
                break
            if id(part) not in seen and _fails(part):
                inner = step, part
                break
        if inner is None:
            break
        path += inner[0]
        value = inner[1]
    return path, value


def unserializable(value: Any, error: BaseException, pickle: bool) -> str:
    """The text of UnserializableReturnValueError."""
    what = type_name(type(value))
    text = f"a value of type {what} cannot be stored"
    if pickle and not isinstance(error, RecursionError):
        path, part = _culprit(value)
        if path:
            text += f", because of its part value{path} of type {type_name(type(part))}"
    return (f"{text}: {type(error).__name__}: {error}. Return what it is made of (numbers, text, lists, arrays, frames), keep the "
            "object itself with cache_resource, or give the decorator a serializer= that knows the type")
