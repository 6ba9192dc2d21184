# SPDX-License-Identifier: MIT
"""Warnings at the line of the program that led to them, and such that a process gives once."""

from __future__ import annotations

import sys
import warnings

_given: set[str] = set()


def at_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line of the program that led here."""
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (__package__, "contextlib"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def once(kind: str, text: str) -> None:
    """Warns at the line of the program that led here, unless the process had a warning of this kind."""
    if kind in _given:
        return
    _given.add(kind)
    at_caller(text)
