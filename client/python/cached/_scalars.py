# SPDX-License-Identifier: MIT
"""Dates, times, decimals and other small values: how proto/VALUES.md writes those that the extension module does not know.

Writers are found by the exact type, since a subclass may hold more; readers by the tag or the name. What a reader gets
may be anything: whatever it raises for it means that the value is corrupt.
"""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any, Callable, Dict, Optional, Tuple
from uuid import UUID

TAG_DATETIME = 0
TAG_DECIMAL = 4
TAG_FRACTION = 30
TAG_UUID = 37
TAG_DURATION = 1002
TAG_DATE = 1004
TAG_COMPLEX = 43000
TAG_NAMED = 51716
TAG_LOCAL_DATETIME = 51717
TAG_LOCAL_TIME = 51718
TAG_DECIMAL_TEXT = 51719

#: Larger ones would cost a reader more time than their bytes are worth: gcd and division are not linear.
FRACTION_BITS = 32768
DECIMAL_DIGITS = 18

Written = Optional[Tuple[int, Any]]


class NotExact(Exception):
    """A value of a known type that its own form cannot show."""


# ---- writing: (tag, item), or None where the value has no exact form here


def _zone(zone: Any) -> Any:
    """None, microseconds east of UTC, [microseconds, name], or the name of a zone of the zone database."""
    if zone is None:
        return None
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None) // dt.timedelta(microseconds=1)
        # What a name was given for, and not made of the offset, is its third state.
        name = zone.tzname(None)
        return offset if name == dt.timezone(dt.timedelta(microseconds=offset)).tzname(None) else [offset, name]
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo and type(zone) is zoneinfo.ZoneInfo and zone.key:
        return zone.key
    raise NotExact


def _local(tag: int, value: Any) -> Written:
    try:
        zone = _zone(value.tzinfo)
    except NotExact:
        return None
    return tag, [value.replace(tzinfo=None).isoformat(), zone, value.fold]


def _datetime(value: dt.datetime) -> Written:
    if type(value.tzinfo) is dt.timezone and not value.fold:
        zone = _zone(value.tzinfo)
        # RFC 3339 has whole minutes, and no names.
        if type(zone) is int and zone % 60_000_000 == 0:
            text = value.isoformat()
            return TAG_DATETIME, text[:-6] + "Z" if zone == 0 else text
    return _local(TAG_LOCAL_DATETIME, value)


def _duration(value: dt.timedelta) -> Written:
    content = {1: value.days * 86400 + value.seconds}
    if value.microseconds:
        content[-6] = value.microseconds
    return TAG_DURATION, content


def _decimal(value: Decimal) -> Written:
    sign, digits, exponent = value.as_tuple()
    if isinstance(exponent, str) or len(digits) > DECIMAL_DIGITS or (sign and not value):
        return TAG_DECIMAL_TEXT, str(value)
    mantissa = int("".join(map(str, digits)))
    return TAG_DECIMAL, [exponent, -mantissa if sign else mantissa]


def _fraction(value: Fraction) -> Written:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > FRACTION_BITS:
        return None
    return TAG_FRACTION, [value.numerator, value.denominator]


WRITERS: Dict[type, Callable[[Any], Written]] = {
    dt.datetime: _datetime,
    dt.date: lambda v: (TAG_DATE, v.isoformat()),
    dt.time: lambda v: _local(TAG_LOCAL_TIME, v),
    dt.timedelta: _duration,
    Decimal: _decimal,
    UUID: lambda v: (TAG_UUID, v.bytes),
    Fraction: _fraction,
    complex: lambda v: (TAG_COMPLEX, [v.real, v.imag]),
    range: lambda v: (TAG_NAMED, ["range", [v.start, v.stop, v.step]]),
    slice: lambda v: (TAG_NAMED, ["python:slice", [v.start, v.stop, v.step]]),
    type(...): lambda v: (TAG_NAMED, ["python:ellipsis", None]),
    type(NotImplemented): lambda v: (TAG_NAMED, ["python:notimplemented", None]),
}


# ---- reading


def _typed(kind: type, *values: Any) -> None:
    for value in values:
        if type(value) is not kind:
            raise ValueError(f"{kind.__name__} expected, not {type(value).__name__}")


def _read_zone(zone: Any) -> Any:
    if zone is None:
        return None
    if type(zone) is str:
        from zoneinfo import ZoneInfo

        return ZoneInfo(zone)
    if type(zone) is int:
        return dt.timezone(dt.timedelta(microseconds=zone))
    _typed(list, zone)
    offset, name = zone
    _typed(int, offset)
    _typed(str, name)
    return dt.timezone(dt.timedelta(microseconds=offset), name)


def _ascii(text: Any) -> str:
    _typed(str, text)
    if not text.isascii() or len(text) > 40:
        raise ValueError("no date or time")
    return text


def _read_datetime(content: Any) -> dt.datetime:
    text = _ascii(content)
    if text[-1:] in "Zz":
        text = text[:-1] + "+00:00"
    value = dt.datetime.fromisoformat(_microseconds(text[:-6]) + text[-6:])
    if value.tzinfo is None:
        raise ValueError("a date and time without a zone")
    return value


def _microseconds(text: str) -> str:
    """A time with as many digits of a second as older interpreters want; what is finer than Python's times is refused."""
    whole, point, fraction = text.partition(".")
    if not point:
        return text
    if not fraction.isdigit() or fraction[6:].strip("0"):
        raise ValueError("a time that is finer than a microsecond")
    return f"{whole}.{fraction[:6]:0<6}"


def _read_local_datetime(content: Any) -> dt.datetime:
    _typed(list, content)
    text, zone, fold = content
    _typed(int, fold)
    value = dt.datetime.fromisoformat(_microseconds(_ascii(text)))
    if value.tzinfo is not None:
        raise ValueError("a zone in a local time")
    return value.replace(tzinfo=_read_zone(zone), fold=fold)


def _read_local_time(content: Any) -> dt.time:
    _typed(list, content)
    text, zone, fold = content
    _typed(int, fold)
    value = dt.time.fromisoformat(_microseconds(_ascii(text)))
    if value.tzinfo is not None:
        raise ValueError("a zone in a local time")
    return value.replace(tzinfo=_read_zone(zone), fold=fold)


def _read_duration(content: Any) -> dt.timedelta:
    _typed(dict, content)
    if not content.keys() <= {1, -3, -6, -9}:
        raise ValueError("a duration of unknown parts")
    _typed(int, *content, *content.values())
    nanoseconds = content.get(-9, 0)
    if nanoseconds % 1000:
        raise ValueError("a duration that is finer than a microsecond")
    microseconds = content.get(-3, 0) * 1000 + content.get(-6, 0) + nanoseconds // 1000
    return dt.timedelta(seconds=content.get(1, 0), microseconds=microseconds)


def _read_decimal(content: Any) -> Decimal:
    _typed(list, content)
    exponent, mantissa = content
    _typed(int, exponent, mantissa)
    if mantissa.bit_length() > FRACTION_BITS:
        raise ValueError("a decimal of too many digits: these come as text")
    return Decimal(Decimal(mantissa).as_tuple()._replace(exponent=exponent))


def _read_decimal_text(content: Any) -> Decimal:
    _typed(str, content)
    if not content.isascii() or content.strip(" \t\n\r\v\f_") != content or "_" in content:
        raise ValueError("no decimal")
    return Decimal(content)


def _read_fraction(content: Any) -> Fraction:
    _typed(list, content)
    numerator, denominator = content
    _typed(int, numerator, denominator)
    if denominator <= 0 or max(numerator.bit_length(), denominator.bit_length()) > FRACTION_BITS:
        raise ValueError("no fraction")
    return Fraction(numerator, denominator)


def _read_uuid(content: Any) -> UUID:
    _typed(bytes, content)
    return UUID(bytes=content)


def _read_date(content: Any) -> dt.date:
    return dt.date.fromisoformat(_ascii(content))


def _read_complex(content: Any) -> complex:
    _typed(list, content)
    real, imaginary = content
    _typed(float, real, imaginary)
    return complex(real, imaginary)


def _read_range(state: Any) -> range:
    _typed(list, state)
    start, stop, step = state
    _typed(int, start, stop, step)
    return range(start, stop, step)


def _read_slice(state: Any) -> slice:
    _typed(list, state)
    start, stop, step = state
    return slice(start, stop, step)


def _read_none(what: Any) -> Callable[[Any], Any]:
    def read(state: Any) -> Any:
        _typed(type(None), state)
        return what

    return read


READERS: Dict[int, Callable[[Any], Any]] = {
    TAG_DATETIME: _read_datetime,
    TAG_DECIMAL: _read_decimal,
    TAG_FRACTION: _read_fraction,
    TAG_UUID: _read_uuid,
    TAG_DURATION: _read_duration,
    TAG_DATE: _read_date,
    TAG_COMPLEX: _read_complex,
    TAG_LOCAL_DATETIME: _read_local_datetime,
    TAG_LOCAL_TIME: _read_local_time,
    TAG_DECIMAL_TEXT: _read_decimal_text,
}

NAMED: Dict[str, Callable[[Any], Any]] = {
    "range": _read_range,
    "python:slice": _read_slice,
    "python:ellipsis": _read_none(...),
    "python:notimplemented": _read_none(NotImplemented),
}
