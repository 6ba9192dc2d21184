# SPDX-License-Identifier: MIT
"""What people write for lengths of time, sizes and counts: 90, 0.5, "1h30m", timedelta(hours=1); "64M"."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any, Union

Duration = Union[int, float, str, datetime.timedelta]
Size = Union[int, str]

_UNITS_MS = {
    "ms": 1, "millisecond": 1, "milliseconds": 1,
    "s": 1000, "sec": 1000, "secs": 1000, "second": 1000, "seconds": 1000,
    "m": 60_000, "min": 60_000, "mins": 60_000, "minute": 60_000, "minutes": 60_000,
    "h": 3_600_000, "hr": 3_600_000, "hrs": 3_600_000, "hour": 3_600_000, "hours": 3_600_000,
    "d": 86_400_000, "day": 86_400_000, "days": 86_400_000,
    "w": 604_800_000, "week": 604_800_000, "weeks": 604_800_000,
}
_PIECE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*,?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
# The daemon's own limit.
MAX_MS = 3650 * 86_400_000
_HOW = 'write seconds (90, 0.5), text ("1h30m") or a timedelta'


def milliseconds(value: Duration | None, what: str, *, zero: bool = False) -> int | None:
    """A length of time that somebody wrote for @what; None stays None. TypeError, ValueError: not one, or out of range.
    @zero: whether 0 is one."""
    if value is None:
        return None
    seconds = _seconds(value, what)
    if math.isnan(seconds):
        raise ValueError(f"{what} is not a number: {_HOW}")
    if seconds < 0:
        raise ValueError(f"{what} must not be negative, and is {value!r}")
    if seconds == 0 and not zero:
        raise ValueError(f"{what} must be more than 0: what may not be kept at all is better left undecorated")
    ms = seconds * 1000
    if ms > MAX_MS:
        raise ValueError(f"{what} is longer than 10 years ({value!r}): leave it out, for as long as there is room")
    return max(1, round(ms)) if ms > 0 else 0


def _seconds(value: Any, what: str) -> float:
    if isinstance(value, bool):
        raise TypeError(f"{what} must be a length of time, not {value!r}: {_HOW}")
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)):
        return _float(value, what)
    if isinstance(value, str):
        return _from_text(value, what)
    if type(value).__module__ == "numpy" and type(value).__name__ == "timedelta64":
        ns = value.astype("timedelta64[ns]").astype("int64")
        if int(ns) == -(1 << 63):
            raise ValueError(f"{what} is NaT, which is no length of time: {_HOW}")
        return int(ns) / 1e9
    if type(value).__module__.startswith("numpy") and hasattr(value, "item"):
        return _seconds(value.item(), what)
    raise TypeError(f"{what} must be a length of time, not {type(value).__name__}: {_HOW}")


def _float(value: float, what: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{what} is longer than 10 years: leave it out, for as long as there is room") from None


def _from_text(text: str, what: str) -> float:
    at, total, used = 0, 0.0, set()
    bad = ValueError(f'{what} is no length of time: {text!r}; write for example "30s", "1h30m" or "2 days"')
    while at < len(text.rstrip()):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise bad
        number, unit = float(piece[1]), piece[2]
        scale = _UNITS_MS.get(unit.lower())
        if not unit and at == 0 and piece.end() == len(text):
            scale = 1000  # seconds, as a number would be
        if scale is None or scale in used:
            raise bad
        used.add(scale)
        total += number * scale
        at = piece.end()
    if not used:
        raise bad
    return total / 1000


def size(value: Size | None, what: str) -> int | None:
    """A number of bytes: 65536, "64M", "1.5 GiB"; units are powers of 1024. None stays None."""
    if value is None:
        return None
    n: Any = value
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if not found:
            raise ValueError(f'{what} is no size: {value!r}; write bytes, or for example "64M" or "2G"')
        n = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
    return _positive(n, what, "bytes")


def count(value: int | None, what: str) -> int | None:
    """A number of things, at least 1; None stays None."""
    return None if value is None else _positive(value, what, "a number")


def _positive(value: Any, what: str, unit: str) -> int:
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{what} must be {unit}, not {value!r}")
    n = int(value.__index__())
    if n < 1:
        raise ValueError(f"{what} must be at least 1, and is {n}")
    if n >= 1 << 63:
        raise ValueError(f"{what} is too large: {n}")
    return n
