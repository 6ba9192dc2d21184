# SPDX-License-Identifier: MIT
"""Values and back: equal, of the same type, and without pickle where VALUES.md has a form."""

from __future__ import annotations

import datetime as dt
import math
import zoneinfo
from collections import OrderedDict, namedtuple
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest

from cached import _binding, _values

Point = namedtuple("Point", "x y")


class Thing:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Thing and other.x == self.x


def again(value, unpickle=False):
    encoded = _values.dumps(value)
    stored = bytearray(encoded.join())
    assert len(stored) == encoded.size
    return _values.loads(stored, unpickle=unpickle, flags=encoded.flags)


def same(a, b):
    """Equal in value and type, all the way down; NaN is NaN, and -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return math.isnan(a) and math.isnan(b) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return same(list(a.items()), list(b.items()))
    if type(a) in (set, frozenset):
        return a == b and sorted(map(repr, a)) == sorted(map(repr, b))
    if type(a) is complex:
        return same([a.real, a.imag], [b.real, b.imag])
    if type(a) is Decimal:
        return a.as_tuple() == b.as_tuple()
    if type(a) in (dt.datetime, dt.time):
        return (a.replace(tzinfo=None), a.fold, a.tzinfo, repr(a)) == (b.replace(tzinfo=None), b.fold, b.tzinfo, repr(b))
    return a == b


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
VALUES = [
    None, True, False, 0, 1, -1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, -2**63, -2**63 - 1, 2**64 - 1,
    2**64, -2**64, -2**64 - 1, 10**5000, -10**5000,
    0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308,
    "", "a", "é", "\U0001f600", "a\0b", "\ud800", "x\udfff\ud800y", "a" * 70_000, "é" * 70_000, "\ud800" * 70_000,
    b"", b"\0\xff", b"x" * 70_000, bytearray(), bytearray(b"abc"), bytearray(b"y" * 70_000),
    [], (), {}, set(), frozenset(), [[]], ((),), [()], {"": {}}, [1, "a", None, [2.5, (3,)]], (1, [2], {3: 4}),
    {1: 2, None: 3, (1, (2,)): 4, 2.5: 5, "b": 6, b"c": 7, frozenset({1}): 8, True: 9},
    {"z": 1, "a": 2, "m": 3}, {(1, 2), (3, 4)}, {1, "a", None, 2.5}, frozenset({(), "x"}), [{"a": i, "b": [i]} for i in range(50)],
    1j, complex(math.nan, -0.0), range(5), range(10, -10, -3), slice(None), slice(1, "a", [2]), ..., NotImplemented, [..., ...],
    dt.date.min, dt.date.max, dt.datetime.min, dt.datetime.max, dt.datetime(2024, 2, 29, 12, 0, 0, 1),
    dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), dt.datetime(2024, 1, 2, 3, 4, 5, 60, dt.timezone(dt.timedelta(hours=-5))),
    dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(seconds=1))), dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
    dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(microseconds=-1))),
    dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN), dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    dt.datetime(2024, 10, 27, 2, 30, fold=1), dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc, fold=1),
    dt.time.min, dt.time.max, dt.time(1, 2, 3, 4, dt.timezone.utc), dt.time(1, 2, tzinfo=BERLIN, fold=1),
    dt.timedelta(0), dt.timedelta.min, dt.timedelta.max, dt.timedelta(microseconds=-1), dt.timedelta(days=-1, seconds=5),
    Decimal("0"), Decimal("-0"), Decimal("0.00"), Decimal("1.10"), Decimal("-12345678901234567"), Decimal("1E+1000"), Decimal("1E-99999"),
    Decimal("NaN"), Decimal("sNaN123"), Decimal("-NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("1" * 5000),
    UUID(int=0), UUID(int=2**128 - 1), Fraction(1, 3), Fraction(-7, 2**300), Fraction(0),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{type(v).__name__}-{str(v)[:20]!r}" if not isinstance(v, int) else f"int-{v:#x}"[:30])
def test_a_value_comes_back_without_pickle(value):
    assert same(again(value), value)
    assert same(again([value, {"k": (value,)}]), [value, {"k": (value,)}])


def test_flags_are_what_tools_show():
    assert _values.dumps(b"ab").flags == 0 and _values.dumps(b"ab").join() == b"ab"
    assert _values.dumps("é").flags == _values.TEXT and _values.dumps("é").join() == "é".encode()
    assert _values.dumps({"a": 1}).flags == _values.CBOR


@pytest.mark.parametrize("value", [Point(1, 2), OrderedDict(a=1), Thing(1), [Thing(2), {"a": Thing(3)}], {Point(1, 2): Thing(1)},
                                   len, Thing, type("Int", (int,), {"__module__": "x", "__reduce__": lambda s: (Thing, (5,))})()],
                         ids=repr)
def test_other_types_are_pickled(value):
    expected = Thing(5) if type(value).__name__ == "Int" else value
    result = again(value, unpickle=True)
    assert type(result) is type(expected) and result == expected


def test_bytes_and_texts_are_not_copied_before_they_are_sent():
    data, text = b"x" * (5 << 20), "y" * (5 << 20)
    assert _values.dumps(data).pieces[0] is data
    pieces = _values.dumps([data, text]).pieces
    assert any(piece is data for piece in pieces)
    assert sum(memoryview(p).nbytes for p in pieces if type(p) is bytes and p is not data) < 64
    assert _binding.value_place(_binding.value_text(text))[0] == _binding.value_place(_values.dumps(text).pieces[0])[0]


def test_what_is_shared_stays_shared():
    inner, array = [1], bytearray(b"z")
    value = again([inner, inner, {"again": inner}, (inner,)])
    assert value[0] is value[1] is value[2]["again"] is value[3][0] == [1]
    pair = ("a", [array])
    value = again({1: pair, 2: pair})
    assert value[1] is value[2]


def test_a_container_that_holds_itself():
    for value, unpickle in ([], False), ({}, False), (([],), True):
        (value[0].append if type(value) is tuple else value.append if type(value) is list else lambda v: value.update(me=v))(value)
        result = again(value, unpickle)
        assert (result[0][0] if type(value) is tuple else result[0] if type(value) is list else result["me"]) is result


def test_sharing_does_not_grow():
    value = []
    for _ in range(100):
        value = [value, value]
    assert _values.dumps(value).size < 2000


def test_nesting():
    deep = []
    for _ in range(160):
        deep = [deep]
    assert again(deep) == deep
    for _ in range(100):
        deep = [deep]
    assert again(deep, unpickle=True) == deep
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(_values.UnserializableReturnValueError, match="RecursionError"):
        _values.dumps(deep)
