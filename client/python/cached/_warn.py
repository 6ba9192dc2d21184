# SPDX-License-Identifier: MIT
"""Warnings that a process gives once."""

from __future__ import annotations

import sys
import warnings

_given: set[str] = set()


def once(kind: str, text: str) -> None:
    """Warns, at the line of the user's code that led here, unless the process had a warning of this kind."""
    if kind in _given:
        return
    _given.add(kind)
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)
