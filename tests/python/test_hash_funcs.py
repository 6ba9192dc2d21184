# SPDX-License-Identifier: MIT
"""hash_funcs: what users say that values are hashed as; and that what means something in one process only is never
taken for another process's."""

import functools
import warnings

import pytest

from cached import _hash_funcs, _keys
from cached._errors import UnhashableParamError


def key(value, hash_funcs=None):
    return _keys.Arguments(lambda value: None, hash_funcs=hash_funcs, name="f").digest((value,), {})


class Connection:
    def __init__(self, url):
        self.url = url


class Pooled(Connection):
    pass


def url(connection):
    return connection.url


def test_by_type_and_by_name():
    for funcs in ({Connection: url}, {f"{__name__}.Connection": url}):
        assert key(Connection("a"), funcs) == key(Connection("a"), funcs) != key(Connection("b"), funcs)
        assert key([{"c": Connection("a")}], funcs) == key([{"c": Connection("a")}], funcs)
        assert key(Pooled("a"), funcs) == key(Pooled("a"), funcs) != key(Connection("a"), funcs)  # their types differ
    with pytest.raises(UnhashableParamError):
        key(Connection("a"), {Pooled: url})
    both = {Connection: url, Pooled: lambda c: 1}
    assert key(Pooled("a"), both) == key(Pooled("b"), both)
    assert key("a", {"builtins.str": len}) == key("b", {"builtins.str": len})


@pytest.mark.parametrize("kind, a, b", [
    (int, 12, 22), (str, "12", "22"), (bytes, b"12", b"22"), (float, 12.0, 22.0), (list, [12], [22]),
    (dict, {1: 2}, {2: 1}),
    (tuple, (12,), (22,)), (set, {12}, {22}), (frozenset, frozenset([1]), frozenset([2])), (bool, True, False),
])
def test_they_beat_what_is_built_in(kind, a, b):
    funcs = {kind: lambda value: "the same"}
    assert key(a, funcs) == key(b, funcs) != key(a)
    assert key([a] if kind is not list else (a,), funcs) == key([b] if kind is not list else (b,), funcs)
    assert key(None, funcs) == key(None)


def test_object_stands_for_everything():
    funcs = {object: lambda value: type(value).__name__}
    assert key(1, funcs) == key(2, funcs) != key("2", funcs)


def test_what_a_function_returns_is_hashed_as_a_value():
    funcs = {int: lambda n: n % 10}
    assert key(13, funcs) == key(23, funcs) != key(24, funcs)
    nested = {Connection: lambda c: {"url": c.url, "more": [Pooled(c.url)]}, Pooled: url}
    assert key(Connection("a"), nested) == key(Connection("a"), nested)
    with pytest.raises(UnhashableParamError,
                       match=r"In 'value'\.hash_funcs\[.*Connection'\]\(\) is a value of type object"):
        key(Connection("a"), {Connection: lambda c: object()})
    with pytest.raises(ZeroDivisionError):
        key(Connection("a"), {Connection: lambda c: 1 / 0})


def test_what_is_no_function_or_no_type_is_refused():
    for wrong in ({Connection: 1}, {1: url}):
        with pytest.raises(TypeError, match="hash_funcs of 'f'"):
            key(1, wrong)


def test_within_a_process_id_tells_objects_apart():
    a, b = Connection("a"), Connection("a")
    for function in (id, lambda c: id(c), lambda c: [id(x) for x in (c,)], hash, repr, str, object.__hash__):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert key(a, {Connection: function}) == key(a, {Connection: function}) != key(b, {Connection: function})


PROGRAM = """
    import json, sys, warnings
    from cached import _keys
    class Connection: pass
    class Fixed:
        def __hash__(self): return 5
        def __eq__(self, other): return True
    connection, fixed = Connection(), Fixed()
    import datetime
    cases = [({Connection: id}, connection), ({Connection: lambda c: id(c)}, connection),
             ({Connection: hash}, connection),
             ({Connection: repr}, connection), ({str: hash}, "text"), ({str: lambda s: hash(s)}, "text"),
             ({bytes: hash}, b"x"),
             ({tuple: hash}, ("x",)), ({datetime.date: hash}, datetime.date(2024, 1, 1)), ({Fixed: hash}, fixed)]
    def keys():
        return [_keys.Arguments(lambda v: None, hash_funcs=funcs, name="f").digest((value,), {}).hex()
                for funcs, value in cases]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = keys()
        assert first == keys()
"""


def test_what_means_something_in_one_process_is_never_a_hit_in_another(python):
    show = PROGRAM + """
    print(json.dumps([first, [str(w.message) for w in caught]]))
    """
    (a, warned), (b, _) = (python(show, env={"PYTHONHASHSEED": "1"}) for _ in range(2))
    assert not set(a) & set(b)
    assert len(warned) == 1 and "hash()" in warned[0] and "PYTHONHASHSEED" in warned[0]


def test_nor_in_a_child_that_a_warm_parent_forked(python):
    """All objects lie where they lay in the parent, and have the numbers that they had."""
    keys = python(PROGRAM + """
    import os
    def child():
        back, there = os.pipe()
        if not (pid := os.fork()):
            os.write(there, json.dumps(keys()).encode())
            os._exit(0)
        os.close(there)
        with open(back) as f:
            got = json.load(f)
        os.waitpid(pid, 0)
        return got
    print(json.dumps([first, child(), child(), keys()]))
    """)
    first, *children, again = keys
    assert first == again
    for position in range(len(first)):
        assert len({each[position] for each in (first, *children)}) == 3, position


def test_numbers_are_shared_by_hash(python):
    program = """
    import json, warnings
    warnings.simplefilter("error")
    from cached import _keys
    print(json.dumps([_keys.Arguments(lambda v: None, hash_funcs={type(v): hash}, name="f").digest((v,), {}).hex()
                      for v in (1, 2.5, True, 1j)]))
    """
    assert python(program, env={"PYTHONHASHSEED": "1"}) == python(program, env={"PYTHONHASHSEED": "2"})


# ---- resources


class Handle:
    pass


def test_resources_are_keyed_by_what_they_are_called():
    a, b, c = Handle(), Handle(), Handle()
    _keys.register_resource(a, b"cache/key/1")
    _keys.register_resource(b, b"cache/key/1")
    _keys.register_resource(c, b"cache/key/2")
    assert key(a) == key(b) == key(a) != key(c)
    assert key([a, 1]) == key([b, 1]) != key([c, 1])
    assert key(a, {Handle: lambda h: 1}) != key(a)  # hash_funcs beat it
    _keys.unregister_resource(a)
    with pytest.raises(UnhashableParamError):
        key(a)
    assert key(b)


def test_a_resource_that_is_gone_leaves_nothing_behind():
    a = Handle()
    _keys.register_resource(a, b"x")
    number = id(a)
    del a
    others = [Handle() for _ in range(100)]  # one of them lies where it lay
    assert number in map(id, others)
    for other in others:
        with pytest.raises(UnhashableParamError):
            key(other)


def test_a_plain_resource_is_keyed_by_what_is_in_it():
    shared = [1]
    _keys.register_resource(shared, b"x")
    first = key(shared)
    assert first == key([1])
    shared.append(2)
    assert key(shared) != first


def _address(value):
    return id(value)


class _Caller:
    def __call__(self, value):
        return _address(value)


@pytest.mark.parametrize("function", [
    lambda value: value.__hash__(), _address, lambda value: _address(value), _Caller(), _Caller().__call__,
    functools.partial(lambda value, x: id(value), x=1), functools.partial(lambda x, value: x(value), id),
    lambda value: [repr(value)], lambda value: {1: (str(value),)},
], ids=range(9))
def test_an_address_is_found_wherever_it_comes_from(function, monkeypatch):
    """Another process, which has another thing at the same address, has another key."""
    thing = object()
    one = key(thing, {object: function})
    assert one == key(thing, {object: function})
    monkeypatch.setattr(_hash_funcs._process, "identity", b"another process!")
    assert one != key(thing, {object: function})


def test_another_function_is_another_key():
    """It may give for one value what the one before gave for another."""
    assert key(5, {int: lambda n: n % 10}) == key(15, {int: lambda n: n % 10}) != key(5, {int: lambda n: n % 7})


def test_the_warning_is_at_the_callers_line(daemon, python):
    process = python.start("""
        import cached

        @cached.cache_data(hash_funcs={str: hash})
        def f(x):
            return x

        f("a")
    """)
    python.result(process)
    assert "program.py:8: UserWarning: hash_funcs has the built-in hash()" in process.errors
