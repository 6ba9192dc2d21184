# SPDX-License-Identifier: MIT
"""The standard library's values in keys: TYPES, by exact type."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import functools
import io
import ipaddress
import operator
import pathlib
import re
import types
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from ._key_values import Walk


# ---- dates and times


def _date(walk: Walk, value: Any) -> None:
    walk.key.date(value.year, value.month, value.day)


def _clock(value: Any) -> tuple[int, int, int, int]:
    return value.hour, value.minute, value.second, value.microsecond * 1000


def _zone_name(zone: Any) -> str | None:
    """A zone's name; "": only its offset is known; None: it is of a kind that is told otherwise."""
    if type(zone) is datetime.timezone:
        arguments = zone.__getinitargs__()  # type: ignore[attr-defined]
        return arguments[1] if len(arguments) > 1 else ""
    name = getattr(zone, "key", None) if isinstance(zone, zoneinfo.ZoneInfo) else getattr(zone, "zone", None)
    return name if isinstance(name, str) and 0 < len(name.encode("utf-8", "replace")) < 256 else None


def _offset(value: Any) -> int | None:
    """Seconds east of UTC; None: not known, or not a whole number of them."""
    offset = value.utcoffset()
    if offset is None or offset.microseconds:
        return None
    return offset.days * 86400 + offset.seconds


def _zoned(walk: Walk, value: Any, add: Callable[..., None], fields: tuple[int, ...], what: str) -> None:
    """@fields, and the zone of @value, a datetime or a time."""
    if value.tzinfo is None and not value.fold:
        add(*fields)
        return
    zone = None if value.tzinfo is None else _zone_name(value.tzinfo)
    offset = None if value.tzinfo is None else _offset(value)
    if zone is not None and offset is not None:
        add(*fields, offset, zone)
        return
    # The second time of an hour that comes twice, by a clock without a zone; or a zone that KEYS.md has no words for.
    walk.key.begin_named(what)
    add(*fields)
    walk.key.add(value.fold)
    walk.key.add(value.utcoffset())
    walk.key.add(value.tzinfo)
    walk.key.end()


def _time(walk: Walk, value: Any) -> None:
    _zoned(walk, value, walk.key.time, _clock(value), "python:time")


def _datetime(walk: Walk, value: Any) -> None:
    _zoned(walk, value, walk.key.datetime, (value.year, value.month, value.day, *_clock(value)), "python:datetime")


def _timedelta(walk: Walk, value: Any) -> None:
    walk.key.duration(value.days * 86400 + value.seconds, value.microseconds * 1000)


def _timezone(walk: Walk, value: Any) -> None:
    walk.named("python:timezone", *value.__getinitargs__())


def _zoneinfo(walk: Walk, value: Any) -> None:
    if value.key is None:
        from ._key_values import Unkeyable
        raise Unkeyable(value, "a ZoneInfo that was read from a file has no name")
    walk.named("python:zoneinfo", value.key)


# ---- numbers and texts


def _decimal(walk: Walk, value: Any) -> None:
    walk.key.decimal("nan" if value.is_nan() else str(value))


def _fraction(walk: Walk, value: Any) -> None:
    walk.named("python:fraction", value.numerator, value.denominator)


def _complex(walk: Walk, value: Any) -> None:
    walk.named("python:complex", value.real, value.imag)


def _uuid(walk: Walk, value: Any) -> None:
    walk.key.uuid(value.bytes)


def _range(walk: Walk, value: Any) -> None:
    walk.named("python:range", value.start, value.stop, value.step)


def _slice(walk: Walk, value: Any) -> None:
    walk.named("python:slice", value.start, value.stop, value.step)


def _singleton(walk: Walk, value: Any) -> None:
    walk.named("python:singleton", repr(value))


def _pattern(walk: Walk, value: Any) -> None:
    walk.named("python:pattern", value.pattern, int(value.flags))


def _address(walk: Walk, value: Any) -> None:
    walk.named("python:ipaddress", type(value).__name__, str(value))


def _path(walk: Walk, value: Any) -> None:
    walk.named("python:path", type(value).__name__, str(value))


# ---- bytes in other forms


def _bytearray(walk: Walk, value: Any) -> None:
    walk.key.begin_named("python:bytearray")
    walk.key.bytes(value)
    walk.key.end()


def _memoryview(walk: Walk, value: Any) -> None:
    walk.key.begin_named("python:memoryview")
    walk.key.add(value.format)
    walk.key.add(value.shape)
    walk.key.bytes(value if value.c_contiguous else value.tobytes())
    walk.key.end()


def _array(walk: Walk, value: Any) -> None:
    walk.key.begin_named("python:array")
    walk.key.add(value.typecode)
    walk.key.add(value.itemsize)
    walk.key.bytes(value)
    walk.key.end()


def _bytes_io(walk: Walk, value: Any) -> None:
    walk.named("python:BytesIO", value.getvalue(), value.tell())


def _string_io(walk: Walk, value: Any) -> None:
    walk.named("python:StringIO", value.getvalue(), value.tell())


# ---- containers


def _deque(walk: Walk, value: Any) -> None:
    walk.named("python:deque", value.maxlen, list(value))


def _ordered_dict(walk: Walk, value: Any) -> None:
    walk.named("python:OrderedDict", list(value.items()))


def _default_dict(walk: Walk, value: Any) -> None:
    walk.named("python:defaultdict", value.default_factory, dict(value))


def _counter(walk: Walk, value: Any) -> None:
    walk.named("python:Counter", dict(value))


def _chain_map(walk: Walk, value: Any) -> None:
    walk.named("python:ChainMap", list(value.maps))


def _mapping_proxy(walk: Walk, value: Any) -> None:
    walk.named("python:mappingproxy", dict(value))


def _dict_view(walk: Walk, value: Any) -> None:
    walk.named(f"python:{type(value).__name__}", list(value))


def _namespace(walk: Walk, value: Any) -> None:
    walk.key.begin_named("python:SimpleNamespace")
    walk.attributes(vars(value).items())
    walk.key.end()


def _reduced(walk: Walk, value: Any) -> None:
    """What is made of plain parts, as pickle takes it apart."""
    walk.named(f"python:{type(value).__name__}", list(value.__reduce__()[1]))


def _partial(walk: Walk, value: Any) -> None:
    walk.named("python:partial", value.func, value.args, value.keywords)


TYPES: dict[type, Callable[[Walk, Any], None]] = {
    datetime.date: _date,
    datetime.time: _time,
    datetime.datetime: _datetime,
    datetime.timedelta: _timedelta,
    datetime.timezone: _timezone,
    zoneinfo.ZoneInfo: _zoneinfo,
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    complex: _complex,
    uuid.UUID: _uuid,
    range: _range,
    slice: _slice,
    type(...): _singleton,
    type(NotImplemented): _singleton,
    re.Pattern: _pattern,
    bytearray: _bytearray,
    memoryview: _memoryview,
    array.array: _array,
    io.BytesIO: _bytes_io,
    io.StringIO: _string_io,
    collections.deque: _deque,
    collections.OrderedDict: _ordered_dict,
    collections.defaultdict: _default_dict,
    collections.Counter: _counter,
    collections.ChainMap: _chain_map,
    types.MappingProxyType: _mapping_proxy,
    type({}.keys()): _dict_view,
    type({}.values()): _dict_view,
    type({}.items()): _dict_view,
    types.SimpleNamespace: _namespace,
    operator.itemgetter: _reduced,
    operator.attrgetter: _reduced,
    functools.partial: _partial,
    **dict.fromkeys((ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
                     ipaddress.IPv4Interface, ipaddress.IPv6Interface), _address),
    **dict.fromkeys((pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath), _path),
}
