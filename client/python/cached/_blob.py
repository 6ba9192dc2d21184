# SPDX-License-Identifier: MIT
"""What the parts that take values of libraries apart share: a piece of memory, and checks of what was stored."""

from __future__ import annotations

import sys
from typing import Any


class Blob:
    """Memory of a value, which is stored beside it as it lies: nothing is copied here.

    ``view`` is a one-dimensional memoryview of bytes. It keeps what it was made of.
    """

    __slots__ = ("view",)

    def __init__(self, memory: Any) -> None:
        view = memoryview(memory)
        if view.ndim != 1 or view.format != "B":
            view = view.cast("B")
        self.view = view

    def __len__(self) -> int:
        return self.view.nbytes


def blob(memory: Any) -> Blob | None:
    """The blob of this memory; None: it is no bytes, which need no place."""
    made = Blob(memory)
    return made if len(made) > 0 else None


def need(true: bool, what: str) -> None:
    """Refuses stored bytes that no writer of ours made."""
    if not true:
        raise ValueError(f"a stored value does not hold together: {what}")


def fields(state: Any, n: int) -> list:
    """The @n parts of a state."""
    need(type(state) in (list, tuple) and len(state) == n, f"a state of {n} parts expected")
    return state


def size(value: Any) -> int:
    """A number of things."""
    need(type(value) is int and 0 <= value <= sys.maxsize, "a size is no size")
    return value


def text(value: Any) -> str:
    """A text."""
    need(type(value) is str, "a text expected")
    return value


def flag(value: Any) -> bool:
    """True or false."""
    need(type(value) is bool, "true or false expected")
    return value


def listed(value: Any) -> list:
    """A list."""
    need(type(value) is list, "a list expected")
    return value


def memory(value: Any, nbytes: int | None = None) -> memoryview:
    """The memory of a blob, of @nbytes: writable, and private to the reader."""
    if value is None:
        value = memoryview(bytearray())
    need(type(value) is memoryview and value.c_contiguous, "a buffer expected")
    if value.ndim != 1 or value.format != "B":
        value = value.cast("B")
    need(nbytes is None or value.nbytes == nbytes, f"a buffer of {value.nbytes} bytes where {nbytes} are needed")
    return memoryview(bytearray(value)) if value.readonly else value
