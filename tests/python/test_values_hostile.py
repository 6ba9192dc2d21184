# SPDX-License-Identifier: MIT
"""Stored bytes that nobody of ours wrote: a value or CorruptValueError, and nothing is run, imported or held that they ask for."""

from __future__ import annotations

import datetime as dt
import importlib
import pickle
import random
import resource
import struct
import sys
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest

from cached import _values
from cached._errors import CorruptValueError, PickleRefusedError

SAMPLES = [
    {"a": 1, "b": [1, 2, 3], "c": {"d": None, "e": (1.5, "é")}},
    [dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc), dt.datetime(2024, 1, 2, fold=1), dt.timedelta(1, 2, 3), dt.date(2024, 1, 2)],
    [Decimal("1.5"), Decimal("NaN"), Fraction(1, 3), UUID(int=5), 2j, range(9), slice(1), ..., 2**200, -2**200, "\ud800"],
    {(1, 2): {3, 4}, frozenset({5}): bytearray(b"xyz")},
]
SHARED = [1]
SAMPLES.append([SHARED, SHARED, {"k": SHARED}])


def forms():
    """(flags, bytes) of samples in each form."""
    for sample in SAMPLES:
        encoded = _values.dumps(sample)
        yield encoded.flags, encoded.join()
    yield from [framed(b"\x82\xd9\xca\x03\x82\x18\x40\x04\xd9\xca\x03\x82\x18\x44\x08", bytes(16))]


def framed(cbor, buffers=b"", **fields):
    """A value with buffers from 64 on."""
    at = 64 + len(buffers)
    head = {"magic": b"cached-v", "version": 1, "zero": 0, "at": at, "size": len(cbor), "total": at + len(cbor), "rest": bytes(24), **fields}
    return _values.BUFFERS, struct.pack("<8sIIQQQ24s", *head.values()) + buffers + cbor


class Watch:
    """What the interpreter tells of code that is looked up or run while values are read: nothing, where nothing may be unpickled."""

    EVENTS = {"pickle.find_class", "exec", "compile", "os.system", "subprocess.Popen", "open", "marshal.loads", "import"}

    def __init__(self):
        self.on = False
        self.seen = []
        sys.addaudithook(self.hook)

    def hook(self, event, args):
        ours = event == "import" and args[0].startswith(("cached.", "numpy", "pandas", "pyarrow", "polars", "PIL"))
        if self.on and event in self.EVENTS and not ours:
            self.seen.append((event, args))

    def __enter__(self):
        self.seen, self.on = [], True

    def __exit__(self, *error):
        self.on = False


WATCH = Watch()


def load(flags, data, unpickle=False):
    if unpickle:
        return _values.loads(bytearray(data), flags=flags, unpickle=True)
    try:
        with WATCH:
            return _values.loads(bytearray(data), flags=flags, unpickle=False)
    finally:
        assert not WATCH.seen, WATCH.seen


def read(flags, data):
    """Whether it is a value; anything but that and the two errors fails the test."""
    try:
        load(flags, data)
    except (CorruptValueError, PickleRefusedError):
        return False
    return True


def test_whatever_is_cut_off():
    for flags, data in forms():
        assert read(flags, data)
        for n in range(len(data)):
            assert not read(flags, data[:n]), (data, n)
        assert not read(flags, data + b"\0")


def test_mutations():
    chance = random.Random(20240229)
    values = 0
    for flags, data in forms():
        for _ in range(4000):
            mutant = bytearray(data)
            for _ in range(chance.choice([1, 1, 2, 4])):
                what = chance.randrange(4)
                at = chance.randrange(len(mutant) + (what == 1))
                if what == 0:
                    mutant[at] = chance.randrange(256)
                elif what == 1:
                    mutant[at:at] = chance.choice([b"\xff", b"\x9f", b"\xd8\x1c", b"\xd8\x1d\x00", b"\xd9\xca\x04\x82", b"\xa1", b"\x1b" + b"\xff" * 8])
                elif what == 2 and len(mutant) > 1:
                    del mutant[at]
                else:
                    mutant[at] ^= 1 << chance.randrange(8)
            values += read(flags, mutant)
    assert values > 100


@pytest.mark.parametrize("major", range(2, 6))
@pytest.mark.parametrize("length", [2**60, 2**63 - 1, 2**64 - 1, 2**32, 2**31])
def test_a_length_alone_takes_no_memory(major, length):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    head = bytes([major << 5 | 27]) + length.to_bytes(8, "big")
    for data in head, head + b"\0" * 100, b"\x81" * 50 + head, b"\xd9\xca\x00" + head, b"\xd9\x01\x02" + head, b"\xc2" + head, b"\xd9\xca\x02" + head:
        with pytest.raises(CorruptValueError):
            load(_values.CBOR, data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("data, why", [
    ("", "cut off"), ("ff", "break"), ("f7", "simple"), ("f820", "simple"), ("f800", "no CBOR"), ("1c", "no CBOR"), ("0000", "behind"),
    ("62c328", "UTF-8"), ("63eda080", "UTF-8"), ("7f6161", "chunks"), ("7f4161ff", "chunks"), ("5f5f4161ffff", "chunks"),
    ("a2010101", "cut off"), ("a201020103", "twice"), ("a1800100"[:6], "key"), ("bf01ff", "break"), ("d9010282" "0101", "twice"),
    ("d9010281" "80", "member"), ("d9ca0001", "content"), ("d9ca00d9ca0080", "content"), ("c200", "content"),
    ("d81d00", "nothing"), ("d81c81d81d01", "nothing"), ("d81cd9ca0081d81d00", "not complete"), ("81d81c01" "", None),
    ("a1d81c8001", "shared item in a key"), ("d9010281d81c01", "shared item in a key"), ("82d81c80a1d81d0001", "reference in a key"),
    ("d9ca03820000", "outside"), ("d9ca0400", "named type"), ("d9ca048261610000"[:14], None), ("d9ca0a00", "tag 51722"), ("dbffffffffffffffff00", "tag"),
    ("81" * 513 + "00", "levels"), ("c1" * 600 + "00", "levels"), ("9f" * 100_000, "levels"),
    ("c0" "6161", "Invalid"), ("d903ec" "6161", "Invalid"), ("d903ea" "a10261", None), ("d903ea" "a1611801", None), ("d903ea" "a1011bffffffffffffffff", None),
    ("c48201" "6161", "int"), ("c4821bffffffffffffffff01", ""), ("c4821b7fffffffffffffff01", ""), ("d81e820100", "fraction"), ("d82541" "00", "16"),
    ("d9a7f882" "0101", "float"), ("d9ca07" "63" "3a3a3a", ""), ("d9ca0583" "6161" "f600", ""),
])
def test_what_is_wrong_is_said(data, why):
    if why is None:
        read(_values.CBOR, bytes.fromhex(data))
        return
    with pytest.raises(CorruptValueError, match=why):
        load(_values.CBOR, bytes.fromhex(data))


def test_hash_bombs_are_refused():
    """A tuple of pairs of itself would be hashed member by member."""
    bomb = b"\xd8\x1c\xd9\xca\x00\x80"
    for i in range(40):
        bomb = b"\xd8\x1c\xd9\xca\x00\x82" + bomb + b"\xd8\x1d\x18" + bytes([40 - i])
    with pytest.raises(CorruptValueError, match="in a key"):
        load(_values.CBOR, b"\xa1" + bomb + b"\x00")


@pytest.mark.parametrize("fields", [
    {"magic": b"cached-w"}, {"version": 2}, {"zero": 1}, {"at": 63}, {"at": 2**64 - 1}, {"at": 1000}, {"size": 2**64 - 1}, {"size": 1000},
    {"total": 0}, {"total": 2**63}, {"rest": b"\1" + bytes(23)}], ids=repr)
def test_headers(fields):
    assert load(*framed(b"\x01", bytes(64))) == 1
    with pytest.raises(CorruptValueError):
        load(*framed(b"\x01", bytes(64), **fields))


@pytest.mark.parametrize("reference", ["82 00 18ff", "82 18ff 01", "82 20 01", "82 00 20", "82 1bffffffffffffffff 02", "82 01 1bffffffffffffffff",
                                       "82 6161 01", "82 f5 f4", "81 00", "00", "a0"])
def test_buffers_outside(reference):
    with pytest.raises(CorruptValueError):
        load(*framed(b"\xd9\xca\x03" + bytes.fromhex(reference), bytes(10)))


def test_flags_of_others():
    for flags in 1, 0x63760000, 0x63760004, 2**32 - 1:
        with pytest.raises(CorruptValueError, match="flags"):
            load(flags, b"\x01")
    with pytest.raises(CorruptValueError, match="UTF-8"):
        load(_values.TEXT, b"\xff")


# ---- pickles


class Bomb:
    def __reduce__(self):
        return sys.intern, ("went off",)


def text(t):
    return bytes([0x60 | len(t)]) + t.encode() if len(t) < 24 else bytes([0x78, len(t)]) + t.encode()


def named(name, state):
    return b"\xd9\xca\x04\x82" + text(name) + state


def bomb_stream():
    stream = pickle.dumps(Bomb(), 5)
    return b"\x58" + bytes([len(stream)]) + stream


PLACES = {
    "alone": lambda p: p, "list": lambda p: b"\x81" + p, "map": lambda p: b"\xa1\x01" + p, "key": lambda p: b"\xa1" + p + b"\x01",
    "set": lambda p: b"\xd9\x01\x02\x81" + p, "shared": lambda p: b"\xd8\x1c" + p, "range": lambda p: named("range", p),
    "slice": lambda p: named("python:slice", b"\x83\x01\x02" + p), "date": lambda p: b"\xc0" + p,
    "serializer": lambda p: named("python:serializer", b"\x82\x61a" + p), "pickle": lambda p: named("python:pickle", b"\x83" + bomb_stream() + b"\x80\x81" + p),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_is_refused_wherever_it_stands(place):
    with pytest.raises(PickleRefusedError, match="pickled"):
        load(_values.CBOR, PLACES[place](named("python:pickle", b"\x83" + bomb_stream() + b"\x80\x80")))


@pytest.mark.parametrize("name", ["pickle", "python:builtins.eval", "python:os.system", "os.system", "__reduce__", "python:", "", "Python:pickle",
                                  "python:pickle ", "python:numpy.load", "python:cached.Thing", "builtins"])
def test_no_name_leads_to_code(name):
    if "numpy" in name:
        pytest.importorskip("numpy")
        importlib.import_module("cached._numpy")  # that is what it leads to
    with pytest.raises(CorruptValueError, match="known|again") as e:
        load(_values.CBOR, named(name, b"\x83" + bomb_stream() + b"\x80\x80"))
    assert repr(name) in str(e.value)


def test_no_tag_leads_to_code():
    stream = bomb_stream()
    for tag in [*range(0, 1100), *range(43000, 43010), *range(51700, 51800), 55799]:
        for content in stream, b"\x83" + stream + b"\x80\x80", b"\x82\x6dpython:pickle" + stream:
            read(_values.CBOR, b"\xd9" + tag.to_bytes(2, "big") + content)
    for flags in [*range(0x63760000, 0x63760100), *range(1, 300)]:
        read(flags, pickle.dumps(Bomb(), 5))


def test_the_bomb_is_one():
    """The same bytes do run where it is allowed, and are seen to."""
    with WATCH:
        assert load(_values.CBOR, named("python:pickle", b"\x83" + bomb_stream() + b"\x80\x80"), unpickle=True) == "went off"
    assert ("pickle.find_class", ("sys", "intern")) in WATCH.seen


class Changed:
    """Its state needs what the class does not have any more."""

    def __setstate__(self, state):
        raise TypeError("this is version 2")


def test_a_class_that_has_changed(monkeypatch):
    value = Changed()
    value.x = 1
    encoded = _values.dumps(value)
    with pytest.raises(CorruptValueError, match="version 2") as e:
        load(encoded.flags, encoded.join(), unpickle=True)
    assert type(e.value.__cause__) is TypeError
    monkeypatch.delattr(sys.modules[__name__], "Changed")
    with pytest.raises(CorruptValueError, match="Changed") as e:
        load(encoded.flags, encoded.join(), unpickle=True)
    assert type(e.value.__cause__) is AttributeError


@pytest.mark.parametrize("state", ["00", "80", "8341008080"[:8], "83000080", "83402080", "8340808020", "8340810080"], ids=repr)
def test_states_of_pickles(state):
    with pytest.raises(CorruptValueError):
        load(_values.CBOR, named("python:pickle", bytes.fromhex(state)), unpickle=True)
