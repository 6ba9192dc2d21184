# SPDX-License-Identifier: MIT
"""cache_data: what is one call, what a hit gives, and that other processes have it too."""

import datetime
import functools
import inspect
import pickle
import subprocess
import sys
import threading

import pytest

import cached
from cached import _binding

APP = """
import json, sys, cached

ran = []

@cached.cache_data
def double(x, *, _log=None):
    ran.append(x)
    return [x, x * 2]

value = double(int(sys.argv[1]))
value.append("mine")
again = double(int(sys.argv[1]))
print(json.dumps([value, again, ran]))
"""


def counted(function=None, **options):
    """A function that counts its runs, decorated."""
    def decorate(function):
        runs = []

        @functools.wraps(function)
        def counting(*args, **kwargs):
            runs.append((args, kwargs))
            return function(*args, **kwargs)

        made = cached.cache_data(counting, **options) if not options else cached.cache_data(**options)(counting)
        made.runs = runs
        return made
    return decorate(function) if function else decorate


def test_processes_of_one_program_share(daemon, python):
    value, again, ran = python(APP, 21)
    assert value == [21, 42, "mine"] and again == [21, 42] and ran == [21]
    assert python(APP, 21) == [[21, 42, "mine"], [21, 42], []]
    assert python(APP, 22)[2] == [22]


def test_a_changed_function_is_another(daemon, python):
    python(APP, 21)
    assert python(APP.replace("x * 2", "x * 3"), 21) == [[21, 63, "mine"], [21, 63], [21]]
    assert python(APP, 21)[2] == []


def test_two_programs_do_not_share(daemon, python):
    python(APP, 21, name="one")
    assert python(APP, 21, name="two")[2] == [21]


def test_two_programs_share_by_name(daemon, python):
    app = APP.replace("@cached.cache_data", '@cached.cache_data(cache="doubles", version="1")')
    python(app, 21, name="one")
    assert python(app.replace("x * 2", "2 * x"), 21, name="two") == [[21, 42, "mine"], [21, 42], []]


def test_calls_that_are_one(daemon):
    runs = []

    @cached.cache_data
    def f(a, b=2, *, c=3):
        runs.append(a)
        return (a, b, c)

    assert {f(1), f(a=1), f(1, 2), f(1, b=2), f(b=2, a=1), f(1, c=3), f(c=3, b=2, a=1)} == {(1, 2, 3)}
    assert len(runs) == 1
    assert f(2) == (2, 2, 3) and f(1.0) == (1.0, 2, 3) and f(True) == (True, 2, 3) and f("1") == ("1", 2, 3)
    assert len(runs) == 5


def test_wrong_calls_raise_what_the_function_raises(daemon):
    @cached.cache_data
    def f(a, b=2):
        return a

    f(1)
    for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"z": 1})):
        with pytest.raises(TypeError) as ours:
            f(*args, **kwargs)
        with pytest.raises(TypeError) as theirs:
            f.__wrapped__(*args, **kwargs)
        assert str(ours.value).replace(f.__qualname__, "f") == str(theirs.value).replace(f.__qualname__, "f")


def test_all_kinds_of_parameters(daemon):
    @counted
    def f(a, /, b, *args, c=3, **kwargs):
        return [a, b, list(args), c, kwargs]

    for _ in range(2):
        assert f(1, 2, 3, 4, c=5, d=6) == [1, 2, [3, 4], 5, {"d": 6}]
        assert f(1, b=2) == [1, 2, [], 3, {}]
    assert len(f.runs) == 2


@pytest.mark.parametrize("value", [
    None, True, 0, -1, 1 << 70, 0.5, float("inf"), "", "é\0", b"", b"\0x", [], (), {}, set(), frozenset({1}),
    [1, [2, (3,)]], {"a": {1: None}}, {(1, 2): {3}}, 1j, bytearray(b"x"), datetime.date(2020, 1, 2),
    datetime.timedelta(1), "x" * 100_000,
    list(range(10_000)), b"x" * 5_000_000,
], ids=lambda v: f"{type(v).__name__}-{str(v)[:12]}")
def test_a_hit_equals_the_miss(daemon, value):
    @counted
    def f(x):
        return value

    first, hit = f(1), f(1)
    assert first == value == hit and type(first) is type(value) is type(hit) and len(f.runs) == 1


def test_values_are_the_callers_own(daemon):
    kept = {"list": [1, 2], "bytes": bytearray(b"abc")}

    @cached.cache_data
    def f():
        return kept

    first = f()
    kept["list"].append("function's")
    assert first == {"list": [1, 2], "bytes": bytearray(b"abc")}
    first["list"].append("first caller's")
    second = f()
    second["bytes"][:] = b"second caller's"
    assert f() == {"list": [1, 2], "bytes": bytearray(b"abc")}


def test_large_values_are_the_callers_own(daemon):
    kept = bytearray(6_000_000)

    @cached.cache_data
    def f():
        return [kept]

    first = f()
    kept[0] = 1
    assert first[0][0] == 0
    first[0][1] = 2
    assert f()[0][:3] == b"\0\0\0"


class Box:
    def __init__(self, content):
        self.content = content

    def __eq__(self, other):
        return type(other) is Box and self.content == other.content

    def __hash__(self):
        return hash(self.content)


def test_what_is_pickled(daemon, monkeypatch):
    @counted
    def f(x):
        return Box(x)

    assert f(1) == f(1) == Box(1) and len(f.runs) == 1
    monkeypatch.setenv("CACHED_PICKLE", "never")
    with pytest.warns(cached.CacheWarning, match="computed here instead"):
        assert f(1) == Box(1)
    assert len(f.runs) == 2


def test_underscore_arguments_and_hash_funcs(daemon, python):
    app = """
    import json, sys, cached

    class Connection:
        def __init__(self, name):
            self.name = name

    ran = []

    @cached.cache_data(hash_funcs={Connection: lambda c: c.name})
    def query(connection, sql, _timeout=None):
        ran.append(1)
        return sql

    query(Connection("a"), "select", _timeout=object())
    query(Connection("a"), "select")
    query(Connection("b"), "select")
    print(json.dumps(len(ran)))
    """
    assert [python(app), python(app)] == [2, 0]


def test_hash_funcs_beat_what_is_built_in(daemon):
    @counted(hash_funcs={str: str.lower, int: lambda i: i % 10})
    def f(x):
        return x

    assert f("A") == f("a") == "A" and f(3) == f(13) == 3 and len(f.runs) == 2


def test_an_argument_without_a_key(daemon):
    @cached.cache_data
    def multiply(obj, n):
        return n

    with pytest.raises(cached.UnhashableParamError) as e:
        multiply(object(), 2)
    text = str(e.value)
    assert "'obj'" in text and "multiply" in text and "'_obj'" in text and "hash_funcs" in text


made = []


class Model:
    def __init__(self, factor):
        self.factor = factor

    @cached.cache_data
    def times(_self, n):
        made.append(1)
        return n * _self.factor

    @classmethod
    @cached.cache_data
    def name_of(cls, n):
        made.append(1)
        return f"{cls.__name__} {n}"

    @cached.cache_data
    @classmethod
    def other_name_of(cls, n):
        return f"{cls.__name__} {n}"

    @staticmethod
    @cached.cache_data
    def plus(a, b):
        made.append(1)
        return a + b

    @cached.cache_data
    @staticmethod
    def minus(a, b):
        return a - b

    @property
    @cached.cache_data
    def half(_self):
        return _self.factor / 2


def test_methods(daemon):
    model = Model(3)
    made.clear()
    assert model.times(2) == model.times(2) == Model.times(model, 2) == 6 and len(made) == 1
    assert Model.name_of(1) == model.name_of(1) == "Model 1" and len(made) == 2
    assert Model.plus(1, 2) == model.plus(1, 2) == model.plus(b=2, a=1) == 3 and len(made) == 3
    assert Model.other_name_of(1) == model.other_name_of(1) == "Model 1" and Model.minus(3, 1) == model.minus(3, 1) == 2
    assert model.half == model.half == 1.5
    bound = model.times
    assert bound(2) == 6 and bound.__self__ is model and bound == model.times and hash(bound) == hash(model.times)
    assert str(inspect.signature(bound)) == "(n)" and bound.key(2) == Model.times.key(model, 2)
    assert bound(n=2) == 6 and len(made) == 3


def test_methods_are_cleared_for_their_object(daemon):
    model = Model(3)
    made.clear()
    model.times(20), model.times(30)
    model.times.clear(20)
    model.times(20), model.times(30)
    assert len(made) == 3
    model.times.clear()
    model.times(20), model.times(30)
    assert len(made) == 5


def test_a_method_whose_object_has_no_key(daemon):
    class Plain:
        @cached.cache_data
        def method(self, n):
            return n

    with pytest.raises(cached.UnhashableParamError, match="_self"):
        Plain().method(1)


def test_it_looks_like_the_function(daemon):
    def f(a: int, b: str = "x") -> str:
        """What it does."""
        return b

    g = cached.cache_data(f)
    for name in ("__name__", "__doc__", "__module__", "__qualname__", "__annotations__"):
        assert getattr(g, name) == getattr(f, name)
    assert g.__wrapped__ is f and inspect.signature(g) == inspect.signature(f)
    assert "f" in repr(g) and callable(g) and not inspect.iscoroutinefunction(g)
    g.more = 1
    assert g.more == 1 and g.__dict__["more"] == 1


@cached.cache_data
def module_level(x):
    return x


def test_it_is_pickled_by_name(daemon):
    assert pickle.loads(pickle.dumps(module_level)) is module_level


def test_partial_and_callables(daemon):
    def f(a, b):
        runs.append(1)
        return [a, b]

    class Adder:
        def __call__(self, a):
            runs.append(2)
            return a + 1

        def __cached_key__(self):
            return "adder"

    runs = []
    g = cached.cache_data(functools.partial(f, 1))
    assert g(2) == g(2) == [1, 2] and runs == [1]
    h = cached.cache_data(functools.partial(f, b=5))
    assert h(2) == [2, 5] and runs == [1, 1]


def test_nested_and_recursive(daemon):
    runs = []

    @cached.cache_data
    def fib(n):
        runs.append(n)
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(30) == 832040 and sorted(runs) == list(range(31))

    @cached.cache_data
    def outer(n):
        return [fib(n), fib(n + 1)]

    assert outer(30) == [832040, 1346269] and len(runs) == 32


def test_recursion_with_the_same_arguments(daemon):
    runs = []

    @cached.cache_data
    def f(n):
        runs.append(n)
        return "inner" if len(runs) > 1 else ["outer", f(n)]

    assert f(1) == ["outer", "inner"] and f(1) == ["outer", "inner"] and len(runs) == 2


def test_exceptions_are_not_kept(daemon):
    @counted
    def f(x):
        if len(f.runs) < 3:
            raise LookupError("not yet")
        return x

    for _ in range(2):
        with pytest.raises(LookupError, match="not yet"):
            f(1)
    assert f(1) == 1 == f(1) and len(f.runs) == 3


@pytest.mark.parametrize("make, error, words", [
    (lambda: (i for i in range(3)), cached.CachedGeneratorError, "list"),
    (lambda: agen(), cached.CachedGeneratorError, "async for"),
    (lambda: coro(), cached.CachedGeneratorError, "await"),
    (lambda: threading.Lock(), cached.UnserializableReturnValueError, "f"),
    (lambda: (lambda: 1), cached.UnserializableReturnValueError, "f"),
])
@pytest.mark.filterwarnings("error")
def test_values_that_are_none(daemon, make, error, words):
    @counted
    def f(x):
        return make()

    for n in (1, 2):
        with pytest.raises(error, match=words):
            f(1)
        assert len(f.runs) == n


async def agen():
    yield 1


async def coro():
    return 1


def test_a_lazy_frame(daemon):
    polars = pytest.importorskip("polars")

    @cached.cache_data
    def f():
        return polars.DataFrame({"a": [1]}).lazy()

    with pytest.raises(cached.UnevaluatedDataFrameError, match="collect"):
        f()


def test_the_cause_of_what_cannot_be_stored(daemon):
    @cached.cache_data
    def f():
        return {"lock": threading.Lock()}

    with pytest.raises(cached.UnserializableReturnValueError, match="f") as e:
        f()
    assert e.value.__cause__ is not None


def test_corrupt_bytes_are_a_miss(daemon):
    @counted
    def f(x):
        return [x]

    f(1)
    client = cached._client.current()
    for flags, data in ((0x63760002, b"\xff\xff"), (0x63760003, b"short"), (0x63760001, b"\xff"), (77, b"?")):
        client.set(f._cached_controls._memo.cache, f.key(1), data, flags=flags)
        before = len(f.runs)
        misses = f.cache_info().misses
        assert f(1) == [1] and len(f.runs) == before + 1
        assert f.cache_info().misses == misses + 1, "what cannot be read is counted as a miss"
        assert f(1) == [1] and len(f.runs) == before + 1


def fails_once():
    """A __setstate__ that is of another version of the class than what is stored, and of the same as what is stored next."""
    calls = []

    def setstate(self, state):
        calls.append(state)
        if len(calls) == 1:
            raise TypeError("another version")
        self.__dict__.update(state)
    return setstate


def test_a_class_that_has_changed_is_a_miss(daemon, monkeypatch):
    @counted
    def f(x):
        return Box(x)

    f(1)
    monkeypatch.setattr(Box, "__setstate__", lambda self, state: 1 / 0, raising=False)
    runs = len(f.runs)
    monkeypatch.setattr(Box, "__setstate__", fails_once(), raising=False)
    assert f(1) == Box(1) and len(f.runs) == runs + 1, "what is stored cannot be made"
    monkeypatch.setattr(Box, "__setstate__", lambda self, state: 1 / 0, raising=False)
    with pytest.raises(cached.UnserializableReturnValueError, match="not be made of what was stored"):
        f(1)
    monkeypatch.delattr(Box, "__setstate__")
    assert f(1) == Box(1) and len(f.runs) == runs + 3
    assert f(1) == Box(1) and len(f.runs) == runs + 3


def test_a_serializer(daemon):
    import json

    @counted(serializer=json)
    def f(x):
        return {"x": x}

    assert f(1) == f(1) == {"x": 1} and len(f.runs) == 1

    @cached.cache_data(serializer=json)
    def g(x):
        return object()

    with pytest.raises(cached.UnserializableReturnValueError, match="json"):
        g(1)


def test_keys_for_others(daemon):
    @cached.cache_data(cache="others", version="7")
    def f(x):
        return str(x)

    f(5)
    assert len(f.key(5)) == 32
    entry = cached._client.current().get("others", f.key(5))
    assert bytes(entry) == b"5" and entry.cost_us >= 0 and _binding.OK == 0


def test_an_interactive_program(daemon):
    code = ("import cached\n@cached.cache_data\ndef f(x):\n    print('ran')\n    return x\n"
            "\nprint(f(1), f(1))\n")
    out = subprocess.run([sys.executable, "-i"], input=code, capture_output=True, text=True, timeout=60)
    assert out.stdout.split() == ["ran", "1", "1"], out
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.stdout.split() == ["ran", "1", "1"], out


@pytest.mark.parametrize("call", [lambda f: f(1), lambda f: f(1, "t"), lambda f: f(n=1), lambda f: f(1, _handle=object()),
                                  lambda f: f(1, _handle=[1]), lambda f: f((1, [2.5, None, {"k": b"v"}]), flag=True)])
def test_a_plain_hit_asks_no_python(daemon, monkeypatch, call):
    """It is found in C: what arguments that are no part of the key are does not matter. Nothing else would be as fast."""
    calls, whole = [], cached._call.Memo.call

    def counts(self, /, *args, **kwargs):
        calls.append(args)
        return whole(self, *args, **kwargs)
    monkeypatch.setattr(cached._call.Memo, "call", counts)

    @cached.cache_data
    def f(n, text="t", _handle=None, *, flag=False):
        return [n, text, flag]

    first = call(f)
    assert len(calls) == 1
    for _ in range(3):
        assert call(f) == first and len(calls) == 1
    assert f.cache_info().hits == 3
