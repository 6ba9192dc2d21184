# SPDX-License-Identifier: MIT
"""proto/value-vectors.json, by a reader that was written from VALUES.md alone and by the package: the page is enough, and
both agree on what is corrupt."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import pathlib
import struct
import sys
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

import plain_values
from cached import _values
from cached._errors import CorruptValueError

VECTORS = json.loads((pathlib.Path(os.environ["CACHED_PROTO"]) / "value-vectors.json").read_text())["vectors"]
NAMES = [v["name"] for v in VECTORS]


def parts(vector):
    return int(vector["flags"], 16), bytes.fromhex(vector["bytes"])


def number(bits):
    return math.nan if bits == "nan" else struct.unpack(">d", bytes.fromhex(bits))[0]


def zone(item):
    if item == ["null"]:
        return None
    if item[0] == "text":
        return ZoneInfo(item[1])
    microseconds, *name = [int(item[1])] if item[0] == "int" else [int(item[1][1]), item[2][1]]
    return dt.timezone(dt.timedelta(microseconds=microseconds), *name)


@pytest.fixture(autouse=True)
def levels():
    """Room for 512 levels of the reader here, which is in Python."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)
    yield
    sys.setrecursionlimit(before)


class Maker:
    """Python's value of a vector's notation: what the package has to give, and to write."""

    def __init__(self):
        self.shared = []

    def make(self, item):
        kind, *of = item
        return getattr(self, "make_" + kind.replace("-", "_"))(*of)

    def make_null(self): return None
    def make_bool(self, value): return value
    def make_int(self, digits): return int(digits)
    def make_double(self, bits): return number(bits)
    def make_text(self, text): return text
    def make_text_hex(self, data): return bytes.fromhex(data).decode("utf-8", "surrogatepass")
    def make_bytes(self, data): return bytes.fromhex(data)
    def make_bytearray(self, data): return bytearray.fromhex(data)
    def make_buffer(self, data): return memoryview(bytes.fromhex(data))
    def make_list(self, *items): return [self.make(i) for i in items]
    def make_tuple(self, *items): return tuple(self.make(i) for i in items)
    def make_set(self, *items): return {self.make(i) for i in items}
    def make_frozenset(self, *items): return frozenset(self.make(i) for i in items)
    def make_map(self, *pairs): return {self.make(k): self.make(v) for k, v in pairs}
    def make_datetime(self, text): return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    def make_date(self, text): return dt.date.fromisoformat(text)
    def make_duration(self, seconds, nanoseconds): return dt.timedelta(seconds=int(seconds), microseconds=nanoseconds // 1000)
    def make_local_datetime(self, text, where, fold): return dt.datetime.fromisoformat(text).replace(tzinfo=zone(where), fold=fold)
    def make_local_time(self, text, where, fold): return dt.time.fromisoformat(text).replace(tzinfo=zone(where), fold=fold)
    def make_decimal(self, text): return Decimal(text)
    def make_decimal_parts(self, exponent, mantissa): return Decimal(f"{mantissa}e{exponent}")
    def make_fraction(self, numerator, denominator): return Fraction(int(numerator), int(denominator))
    def make_uuid(self, data): return UUID(data)
    def make_complex(self, real, imaginary): return complex(number(real), number(imaginary))

    def make_named(self, name, state):
        assert name == "range"
        return range(*self.make(state))

    def make_shared(self, item):
        self.shared.append(None)
        at = len(self.shared) - 1
        if item[0] == "list":  # it may hold itself
            self.shared[at] = result = []
            result.extend(self.make(i) for i in item[1:])
        else:
            self.shared[at] = result = self.make(item)
        return result

    def make_reference(self, at):
        return self.shared[at]


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_the_page_is_enough(vector):
    if "value" in vector:
        assert plain_values.value(*parts(vector)) == vector["value"]
    else:
        with pytest.raises(plain_values.Corrupt):
            plain_values.value(*parts(vector))


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_the_package_reads_them(vector):
    flags, data = parts(vector)
    if "value" not in vector:
        with pytest.raises(CorruptValueError):
            _values.loads(data, flags=flags, unpickle=False)
        return
    value, expected = _values.loads(data, flags=flags, unpickle=False), Maker().make(vector["value"])
    if vector["name"] == "a list that holds itself":
        assert value[1] is value and len(value) == 2
        return
    assert type(value) is type(expected)
    assert repr(value) == repr(expected) or value == expected
    assert repr(value) == repr(expected) or type(value) is memoryview or "set" in vector["name"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.get("written")], ids=[v["name"] for v in VECTORS if v.get("written")])
def test_the_package_writes_them(vector):
    encoded = _values.dumps(Maker().make(vector["value"]))
    assert (encoded.flags, encoded.join().hex()) == (int(vector["flags"], 16), vector["bytes"])


def test_cbor2_reads_them():
    """Where it is installed: a CBOR library of other people, with our tags left as they are."""
    cbor2 = pytest.importorskip("cbor2")
    read = 0
    for vector in VECTORS:
        flags, data = parts(vector)
        if flags == _values.CBOR and "value" in vector and vector["value"][0] in ("null", "bool", "int", "double", "bytes", "text", "list", "map"):
            value = cbor2.loads(data)
            expected = Maker().make(vector["value"])
            assert value == expected or repr(value) == repr(expected) or b"\xd9\xca" in data or b"\xd9\x01\x11" in data
            read += 1
    assert read > 20
