# SPDX-License-Identifier: MIT
"""Values of sessions as bytes with flags, and back: proto/VALUES.md, "Sessions".

A session's numbers are text, so that the daemon counts them and all languages read them. All else is as in entries of
caches.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import hashlib
import re
import uuid
from typing import Any, Tuple

from . import _values
from ._errors import (
    CorruptValueError, PickleRefusedError, UnevaluatedDataFrameError, UnserializableReturnValueError,
    UnserializableSessionStateError,
)

PLAIN = 0  # what the daemon counts, `cachectl session set` and other languages write
TEXT = 0x63760001
REAL = 0x63760101  # a binary64 number, as text
BYTES = 0x63760102  # bytes, as they are

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_REAL = re.compile(rb"-?[0-9]{1,24}(\.[0-9]{1,340})?(e[+-][0-9]{2,3})?")
_REAL_MAX = 400  # bytes of a real number's text, at most

_IMMUTABLE = frozenset({
    type(None), bool, int, float, complex, str, bytes, range, decimal.Decimal, fractions.Fraction, uuid.UUID, datetime.date,
    datetime.time, datetime.datetime, datetime.timedelta,
})


def is_whole(value: Any) -> bool:
    """Whether the daemon can count it as an integer."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def real_text(value: float) -> bytes:
    """As the daemon writes it: with as few digits, of 15 and more, as read back as the same."""
    for digits in range(15, 18):
        text = f"{value:.{digits}g}"
        if float(text) == value:
            break
    return text.encode()


def dumps(key: str, value: Any, pickle: bool) -> Tuple[int, bytes]:
    """(flags, bytes) of a value. UnserializableSessionStateError: it cannot leave its process."""
    if isinstance(value, float) and type(value) is not float and hasattr(value, "_origin"):
        value = value._plain()
    elif isinstance(value, int) and type(value) is not int and hasattr(value, "_origin"):
        value = value._plain()
    if is_whole(value):
        return PLAIN, b"%d" % value
    if type(value) is float:
        return REAL, real_text(value)
    if type(value) is bytes:
        return BYTES, value
    try:
        encoded = _values.dumps(value, pickle=pickle)
    except (UnserializableReturnValueError, UnevaluatedDataFrameError) as error:
        raise UnserializableSessionStateError(
            f'session key "{key}": a value of type {_name(type(value))} cannot be stored for other processes '
            f"({error.__cause__ or error}). Keep what is needed to make it again, keep it with "
            f'`session.set("{key}", value, local=True)`, which is for this process alone, or '
            "make it a function of cached.cache_resource"
        ) from error
    return encoded.flags, encoded.join()


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def loads(key: str, item: Any, unpickle: bool) -> Any:
    """The value of a SessionItem. CorruptValueError, PickleRefusedError: there is none, and why."""
    flags = item.flags
    try:
        if flags == PLAIN:
            return _plain(bytes(item))
        if flags == BYTES:
            return bytes(item)
        if flags == REAL:
            return _real(bytes(item))
        return _values.loads(item, unpickle=unpickle)
    except (CorruptValueError, PickleRefusedError) as error:
        raise type(error)(f'session key "{key}": {error}') from error


def _real(data: bytes) -> float:
    """Whoever can write may have written anything."""
    try:
        if len(data) <= _REAL_MAX and not data.strip(b"+-.0123456789abcdefghijklmnopqrstuvwxyzINF"):
            return float(data)
    except ValueError:
        pass
    raise CorruptValueError(f"the text of a real number is {data[:40]!r}")


def _plain(data: bytes) -> Any:
    """A number where it is written as the daemon writes them, else text, else bytes."""
    if _INTEGER.fullmatch(data):
        value = int(data)
        if is_whole(value):
            return value
    elif len(data) <= _REAL_MAX and _REAL.fullmatch(data):
        real = float(data)
        if real - real == 0 and real_text(real) == data:
            return real
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def is_immutable(value: Any) -> bool:
    """Whether nothing that is done to it can change what would be stored."""
    kind = type(value)
    if kind in _IMMUTABLE or (isinstance(value, (int, float)) and hasattr(value, "_origin")):
        return True
    return kind in (tuple, frozenset) and all(map(is_immutable, value))


def digest(flags: int, data: bytes) -> bytes:
    """Tells stored values apart."""
    return hashlib.blake2b(data, digest_size=16, person=b"%d" % flags).digest()
