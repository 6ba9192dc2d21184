# SPDX-License-Identifier: MIT
"""Warnings that a process gives once."""

from __future__ import annotations

import warnings

_given: set[str] = set()


def once(kind: str, text: str) -> None:
    """Warns, at the line of the user's code that led here, unless the process had a warning of this kind."""
    if kind in _given:
        return
    _given.add(kind)
    warnings.warn(text, UserWarning, stacklevel=3)
