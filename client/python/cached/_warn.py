# SPDX-License-Identifier: MIT
"""Warnings that a process gives once."""

from __future__ import annotations

import threading
import warnings

_given: set[str] = set()
_lock = threading.Lock()


def once(kind: str, text: str) -> None:
    """Warns, at the line of the user's code that led here, unless the process had a warning of this kind."""
    with _lock:
        if kind in _given:
            return
        _given.add(kind)
    warnings.warn(text, UserWarning, stacklevel=3)
