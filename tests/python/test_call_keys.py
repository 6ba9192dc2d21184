# SPDX-License-Identifier: MIT
"""Keys of Python's values: the bytes of proto/KEYS.md, by its test vectors."""

import json
import os
import pathlib
import struct

import pytest

from cached import _binding, _keys

PROTO = pathlib.Path(os.environ["CACHED_PROTO"])
VECTORS = json.loads((PROTO / "key-vectors.json").read_text())


def add(key, item):
    """Adds an item of the vectors' notation by the builder."""
    kind, rest = item[0], item[1:]
    if kind in ("list", "tuple", "set", "named"):
        getattr(key, f"begin_{kind}")(*rest[:-1])
        for member in rest[-1]:
            add(key, member)
        key.end()
    elif kind == "map":
        key.begin_map()
        for pair in rest[0]:
            for member in pair:
                add(key, member)
        key.end()
    elif kind in ("date", "time", "datetime"):
        getattr(key, kind)(*rest)
    elif kind in ("time-zone", "datetime-zone"):
        getattr(key, kind[:-5])(*rest)
    elif kind == "duration":
        key.duration(int(rest[0]), rest[1])
    elif kind == "decimal":
        key.decimal(rest[0])
    elif kind == "uuid":
        key.uuid(bytes.fromhex(rest[0]))
    elif kind in ("array", "array-rule"):
        key.begin_array(rest[0], tuple(int(n) for n in rest[1]))
        key.feed(bytes.fromhex(rest[2]) if kind == "array" else rule(rest[2]))
        key.end()
    else:
        key.add(plain(kind, *rest))


def rule(n):
    return (bytes(range(251)) * (n // 251 + 1))[:n]


def plain(kind, *rest):
    """The Python value that an item of the vectors stands for."""
    return {
        "null": lambda: None,
        "bool": lambda v: v,
        "int": int,
        "double": lambda v: struct.unpack(">d", bytes.fromhex(v))[0],
        "text": lambda v: v,
        "text-repeat": lambda v, n: v * n,
        "bytes": bytes.fromhex,
        "bytes-rule": rule,
    }[kind](*rest)


def no_other(key, value):
    raise AssertionError(f"{value!r} is plain")


def value_of(item):
    """The Python value that makes this item by itself; None: Python has none."""
    kind, rest = item[0], item[1:]
    if kind in ("list", "tuple", "set"):
        value = {"list": list, "tuple": tuple, "set": set}[kind](map(value_of, rest[0]))
    elif kind == "map":
        value = {value_of(k): value_of(v) for k, v in rest[0]}
    else:
        return plain(kind, *rest)
    if len(value) != len(rest[0]):
        raise KeyError("1, 1.0 and True are one member in Python")
    return value


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: v["name"])
def test_the_builder_makes_the_keys_of_the_vectors(vector):
    key = _binding.Key(no_other)
    for item in vector["items"]:
        add(key, item)
    assert key.finish().hex() == vector["key"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: v["name"])
def test_values_make_the_keys_of_the_vectors(vector):
    try:
        values = [value_of(item) for item in vector["items"]]
    except (KeyError, TypeError):
        pytest.skip("Python has no such value")
    key = _binding.Key(no_other)
    for value in values:
        key.add(value)
    assert key.finish().hex() == vector["key"]


def test_the_key_of_a_call_is_of_three_items():
    arguments = _keys.Arguments(lambda a, b=2: None, name="f").digest((1,), {})
    expected = _binding.Key(no_other)
    expected.add(1)
    expected.add(2)
    assert arguments == expected.finish()
    for code in ("v1", b"\x01" * 32):
        call = _binding.Key(no_other)
        for item in ("load", code, arguments):
            call.add(item)
        assert _keys.key("load", code, arguments) == call.finish()
