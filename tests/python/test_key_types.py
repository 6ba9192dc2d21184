# SPDX-License-Identifier: MIT
"""Keys of the values of the standard library and of users' classes: equal values are one key, in every process;
whatever a function could tell apart is two."""

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import json
import math
import operator
import os
import pathlib
import re
import threading
import types
import typing
import uuid
import zoneinfo

import pytest

from cached import _binding, _keys
from cached._errors import UnhashableParamError

PROTO = pathlib.Path(os.environ["CACHED_PROTO"])
VECTORS = {v["name"]: v for v in json.loads((PROTO / "key-vectors.json").read_text())["vectors"]}


def key(value, **more):
    return _keys.Arguments(lambda value: None, name="f", **more).digest((value,), {})


def differ(*values):
    keys = [key(value) for value in values]
    assert len(set(keys)) == len(values), [v for i, v in enumerate(values) if keys.index(keys[i]) != i]


UTC = dt.timezone.utc
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def value_of(kind, *rest):
    """The Python value of the vectors' types that are not plain ones."""
    def micro(ns):
        if ns % 1000:
            pytest.skip("Python has no nanoseconds")
        return ns // 1000

    def zone(offset, name):
        if name:
            pytest.skip("the zone's rules may not say so")
        return dt.timezone(dt.timedelta(seconds=offset))

    try:
        return {
            "date": lambda: dt.date(*rest),
            "time": lambda: dt.time(*rest[:3], micro(rest[3])),
            "time-zone": lambda: dt.time(*rest[:3], micro(rest[3]), zone(*rest[4:])),
            "datetime": lambda: dt.datetime(*rest[:6], micro(rest[6])),
            "datetime-zone": lambda: dt.datetime(*rest[:6], micro(rest[6]), zone(*rest[7:])),
            "duration": lambda: dt.timedelta(seconds=int(rest[0]), microseconds=micro(rest[1])),
            "decimal": lambda: decimal.Decimal(rest[0]),
            "uuid": lambda: uuid.UUID(rest[0]),
        }[kind]()
    except (ValueError, OverflowError, decimal.InvalidOperation):
        pytest.skip("Python has no such value")


@pytest.mark.parametrize("name", [name for name, v in VECTORS.items() if len(v["items"]) == 1 and v["items"][0][0] in (
    "date", "time", "time-zone", "datetime", "datetime-zone", "duration", "decimal", "uuid")])
def test_values_make_the_keys_of_the_vectors(name):
    assert key(value_of(*VECTORS[name]["items"][0])).hex() == VECTORS[name]["key"]


def test_a_zone_has_its_name():
    builder = _binding.Key(None)
    builder.datetime(2024, 7, 1, 12, 0, 0, 0, 7200, "Europe/Berlin")
    assert key(dt.datetime(2024, 7, 1, 12, tzinfo=BERLIN)) == builder.finish()


def test_times():
    noon = dt.datetime(2024, 7, 1, 12)
    differ(noon, noon.replace(tzinfo=UTC), noon.replace(tzinfo=BERLIN),
           noon.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
           noon.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))),
           noon.replace(tzinfo=dt.timezone(dt.timedelta(hours=2), "CEST")), noon.date(), noon.time(),
           noon.replace(microsecond=1), noon.replace(fold=1), noon.replace(tzinfo=BERLIN).timetz(),
           noon.replace(tzinfo=dt.timezone(dt.timedelta(seconds=1, microseconds=5))))
    twice = dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
    differ(twice, twice.replace(fold=1))
    differ(dt.timedelta(0), dt.timedelta(microseconds=-1), dt.timedelta(seconds=-1), dt.timedelta(1), 86400)
    differ(UTC, BERLIN, dt.timezone(dt.timedelta(0), "Z"), "UTC")


def test_integers_of_any_size():
    differ(0, 1, -1, 255, 256, 2**63 - 1, 2**63, -2**63, -2**63 - 1, 2**64, -2**64, 2**65536, -2**65536, 2**65536 + 1)
    with pytest.raises(UnhashableParamError, match="too long"):
        key(1 << (8 << 20))


def test_text_that_is_not_utf8():
    differ("\udcff", "\udcfe", "\\udcff", b"\xff", ["\udcff"], "a\udcff", "ÿ")
    differ({"\udcff": 1}, {"\udcfe": 1})
    assert key("é" * 70_000) == key("é" * 70_000) != key("é" * 69_999 + "e")


def test_types_that_compare_equal_and_are_not_the_same():
    differ(1, 1.0, True, 1 + 0j, fractions.Fraction(1), decimal.Decimal(1), "1", b"1")
    differ(0.0, -0.0, math.nan, math.inf, -math.inf, 0)
    assert key(math.nan) == key(-math.nan)
    differ([1], (1,), {1}, frozenset({1}), {1: None}, collections.deque([1]), array.array("b", [1]), bytearray([1]),
           bytes([1]),
           memoryview(bytes([1])))
    differ(decimal.Decimal("1.0"), decimal.Decimal("1.00"), decimal.Decimal("NaN"), decimal.Decimal("Infinity"))
    differ(collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2})
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    differ(collections.defaultdict(list, a=1), collections.defaultdict(int, a=1), {"a": 1}, collections.Counter(a=1),
           types.MappingProxyType({"a": 1}), {"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items(),
           types.SimpleNamespace(a=1),
           collections.ChainMap({"a": 1}))
    differ(collections.deque([1]), collections.deque([1], 3))
    differ(range(3), range(0, 3, 2), slice(3), slice(0, 3), ..., NotImplemented, None, "Ellipsis")


def test_paths_patterns_and_addresses():
    differ(pathlib.Path("a"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), "a", pathlib.Path("b"))
    differ(re.compile("a"), re.compile("a", re.I), re.compile(b"a"))
    differ(ipaddress.ip_address("1.2.3.4"), ipaddress.ip_network("1.2.3.4"), ipaddress.ip_interface("1.2.3.4"),
           "1.2.3.4",
           ipaddress.ip_address("::1"))
    differ(uuid.UUID(int=1), uuid.UUID(int=2), 1)


def test_buffers():
    differ(memoryview(b"abcd"), memoryview(b"abcd").cast("H"), memoryview(b"abcd").cast("B", (2, 2)),
           memoryview(b"abcd")[::-1])
    assert key(memoryview(b"abcd")[::2]) == key(memoryview(b"ac"))
    differ(array.array("i", [1]), array.array("f", [1]), array.array("I", [1]))
    differ(bytes(2 << 20), bytes((2 << 20) - 1), bytearray(2 << 20))


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Fruit(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    RED = 1


class Mode(enum.Flag):
    R = 1
    W = 2


def test_enums():
    differ(Color.RED, Color.BLUE, Fruit.RED, Level.RED, 1, "RED", Mode.R, Mode.R | Mode.W, Mode(0))
    assert key(Mode.R | Mode.W) == key(Mode.W | Mode.R)


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


@dataclasses.dataclass(frozen=True)
class Place:
    x: int
    y: object = None


@dataclasses.dataclass
class Prepared:
    x: int
    factor: dataclasses.InitVar[int] = 1

    def __post_init__(self, factor):
        self.scaled = self.x * factor

    @functools.cached_property
    def derived(self):
        return self.x + 1


Pair = collections.namedtuple("Pair", "x y")
Couple = collections.namedtuple("Couple", "x y")


class Ids(list):
    pass


class Metres(float):
    pass


class Slotted(int):
    pass


class Name(str):
    __slots__ = ("origin",)


def test_records_and_subclasses():
    differ(Point(1), Place(1), Point(1, 2), Point(2), Point(1, Point(1)), Pair(1, 2), Couple(1, 2), (1, 2),
           {"x": 1, "y": None})
    assert key(Point(1, [Color.RED])) == key(Point(1, [Color.RED]))
    more, asked = Point(1), Prepared(1, 3)
    more.z = 5
    differ(Point(1), more)
    differ(Prepared(1, 2), Prepared(1, 3))
    assert asked.derived == 2 and key(asked) == key(Prepared(1, 3))
    tagged = Ids([1])
    tagged.source = "db"
    differ([1], Ids([1]), tagged, Ids([2]))
    differ(1.5, Metres(1.5), Metres(2.5))
    a, b = Name("n"), Name("n")
    b.origin = "db"
    differ("n", a, b)
    with pytest.raises(UnhashableParamError, match=r"In 'value'\.y\[0\]\.x is a value of type object\."):
        key(Point(1, [Point(object())]))


class Mine:
    def __init__(self, value):
        self.value = value

    def __cached_key__(self):
        return self.value


class Yours(Mine):
    pass


def test_objects_that_say_what_they_are():
    assert key(Mine([1])) == key(Mine([1]))
    differ(Mine(1), Mine(2), Yours(1), 1, Mine(Mine(1)))
    with pytest.raises(UnhashableParamError, match=r"In 'value'\.__cached_key__\(\)\[0\] is"):
        key(Mine([object()]))
    endless = Mine(None)
    endless.value = endless
    with pytest.raises(UnhashableParamError, match="64 levels"):
        key(endless)


def test_generic_types_and_singletons():
    differ(int, float, list, typing.List[int], typing.List[str], typing.Optional[int], Point, Place, Color, "int",
           types.GenericAlias(list, (int,)))


def test_functions_as_arguments():
    def adder(n):
        return lambda x: x + n

    def other(n):
        return lambda x: x - n

    assert key(adder(1)) == key(adder(1))
    differ(adder(1), adder(2), adder([1]), adder([2]), other(1), len, max, math.sin, operator.itemgetter(1),
           operator.itemgetter(2), functools.partial(adder, 1), functools.partial(adder, 2),
           "".join, ",".join, [].append, str.join)
    with pytest.raises(UnhashableParamError, match=r"In 'value'\.n is a value of type object"):
        key(adder(object()))

    def again(n):
        return again(n - 1) if n else 0

    assert key(again) == key(again)
    differ(Mine(1).__cached_key__, Mine(2).__cached_key__, Mine.__cached_key__)


def test_modules():
    differ(math, operator, json, "math")
    assert key(json) == key(json)


def test_files_by_what_is_in_them(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("hello\nworld\n")
    os.utime(path, ns=(0, 0))
    with open(path) as f, open(path, "rb") as g, open(path) as h:
        first = key(f)
        assert key(h) == first != key(g)
        assert f.tell() == 0
        f.readline()
        assert f.tell() == 6 and key(f) != first
        path.write_text("hello\nWORLD\n")  # as long, and as old
        os.utime(path, ns=(0, 0))
        assert key(h) != first
    with pytest.raises(UnhashableParamError, match="It is closed"):
        key(f)
    a, b = os.pipe()
    with open(a, "rb") as f, open(b, "wb") as g:
        for end in (f, g):
            with pytest.raises(UnhashableParamError, match="regular file"):
                key(end)


def test_files_in_memory():
    class Uploaded(io.BytesIO):
        name = "a.csv"

    differ(io.BytesIO(b"ab"), io.BytesIO(b"abc"), io.StringIO("ab"), b"ab", Uploaded(b"ab"))
    at = io.BytesIO(b"ab")
    at.read(1)
    differ(at, io.BytesIO(b"ab"))
    assert key(Uploaded(b"ab")) == key(Uploaded(b"ab"))


@pytest.mark.parametrize("make", [
    lambda: iter([1]), lambda: (x for x in [1]), lambda: map(str, [1]), lambda: zip([1], [2]),
])
def test_what_can_be_read_once_is_refused_unread(make):
    value = make()
    with pytest.raises(UnhashableParamError, match="read only once"):
        key(value)
    assert list(value)


@pytest.mark.parametrize("make", [object, threading.Lock, lambda: types.SimpleNamespace(a=object()),
                                  lambda: Exception(object())])
def test_what_has_no_key_is_refused(make):
    with pytest.raises(UnhashableParamError, match="Cannot hash argument 'value'"):
        key(make())


def test_a_dictionary_that_changes_meanwhile_is_no_crash():
    class Naughty:
        def __cached_key__(self):
            names.clear()
            return 1

    names = {i: Naughty() for i in range(10)}
    with pytest.raises(RuntimeError, match="changed its size"):
        key(names)

    class Shorter:
        def __cached_key__(self):
            del things[:]
            return 1

    things = [Shorter() for _ in range(10)]
    assert key(things)


def test_other_threads_run_while_something_large_is_hashed():
    """They may not use the same builder, and nobody's key is another one's."""
    big = bytes(64 << 20)
    expected = key(big), key(1)
    builder = _binding.Key(None)
    refused, done = [], threading.Event()

    def disturb():
        while not done.is_set():
            assert key(1) == expected[1]
            try:
                builder.finish()
            except _binding.CacheError as e:
                refused.append(str(e))
    thread = threading.Thread(target=disturb)
    thread.start()
    builder.add(big)
    done.set()
    thread.join()
    assert builder.finish() == expected[0]
    assert refused and "another thread" in refused[0]


PROGRAM = """
    import json, sys, pathlib, decimal, enum, dataclasses, datetime, collections, functools
    from cached import _keys
    class Color(enum.Enum):
        RED = 1
    @dataclasses.dataclass
    class Point:
        x: int
        y: object = None
    def helper(x):
        return x + 1
    Pair = collections.namedtuple("Pair", "a b")
    values = [{"a", "b", "c"}, frozenset("xyz"), {"k": {1, "x", 2.5}}, Color.RED, Point(1, {"s"}), Pair(1, {"z"}),
              helper, Point,
              pathlib.Path("x"), {helper: 1}, functools.partial(helper,
                                                                1), [decimal.Decimal(1)], len, datetime.datetime(2024,
                                                                                                                 1, 1)]
    arguments = _keys.Arguments(lambda value: None, name="f")
    print(json.dumps([arguments.digest((value,), {}).hex() for value in values]))
"""


def test_processes_agree(python):
    """Whatever seed their hash() has, and where their objects lie."""
    assert python(PROGRAM, env={"PYTHONHASHSEED": "1"}) == python(PROGRAM, env={"PYTHONHASHSEED": "2"})
