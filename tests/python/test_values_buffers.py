# SPDX-License-Identifier: MIT
"""Values with memory beside their CBOR: where it lies, that it is not copied, and whose it is; pickles; serializers."""

from __future__ import annotations

import pickle
import types

import pytest

from cached import _binding, _values
from cached._errors import CorruptValueError, PickleRefusedError, UnserializableReturnValueError


class Block:
    """A value of a library: memory, and what is said of it."""

    def __init__(self, memory, note=None):
        self.memory, self.note = memory, note


class Blob:
    def __init__(self, memory):
        self.view = memoryview(memory)


def reduce(value):
    return ("python:test.block", [Blob(value.memory), value.note]) if type(value) is Block else None


def rebuild(name, state):
    if name != "python:test.block":
        raise ValueError(f"{name!r} is not known here")
    return Block(*state)


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Instead of the libraries' part."""
    monkeypatch.setattr(_values, "_frames", lambda: types.SimpleNamespace(Blob=Blob, reduce=reduce, rebuild=rebuild))


class Columns:
    """Pickled, with its memory out of band."""

    def __init__(self, memory):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        return Columns, (pickle.PickleBuffer(self.memory),)


def stored(value, **more):
    encoded = _values.dumps(value, **more)
    data = bytearray(encoded.join())
    assert len(data) == encoded.size
    return encoded.flags, data


def again(value, unpickle=False, **more):
    flags, data = stored(value, **more)
    return _values.loads(data, flags=flags, unpickle=unpickle, **more)


def address(memory):
    return _binding.value_place(memory)[0]


def test_memory_is_aligned_and_neither_copied_on_the_way_nor_back():
    memory = [bytearray(b"x" * 1001), bytearray(b"y" * 5), bytearray(b"z" * 64)]
    encoded = _values.dumps([Block(m) for m in memory])
    pieces = [address(p) for p in encoded.pieces if memoryview(p).nbytes]
    assert encoded.flags == _values.BUFFERS and all(address(m) in pieces for m in memory)
    data = bytearray(encoded.join())
    result = _values.loads(data, flags=encoded.flags, unpickle=False)
    for block, m in zip(result, memory):
        assert bytes(block.memory) == m and not block.memory.readonly
        assert (address(block.memory) - address(data)) % 64 == 0 and 0 < address(block.memory) - address(data) < len(data)
    result[0].memory[0] = 7
    assert 7 in data


def test_one_memory_is_stored_once():
    memory = bytearray(10_000)
    block = Block(memory)
    assert _values.dumps([Block(memory), Block(memory)]).size < 11_000
    result = again([block, block, Block(memoryview(memory))])
    assert result[0] is result[1]
    result[0].memory[5] = 1
    assert result[2].memory[5] == 1


def test_empty_memory_and_notes():
    block = again({"k": Block(b"", {"a": (1, None)})})["k"]
    assert block.memory.nbytes == 0 and block.note == {"a": (1, None)}


def test_the_memory_outlives_the_entry_object():
    flags, data = stored(Block(b"abc" * 100))
    view = memoryview(data)
    block = _values.loads(view, flags=flags, unpickle=False)
    del view, data
    assert bytes(block.memory) == b"abc" * 100


@pytest.mark.parametrize("n", [0, 10, 1024, 100_000])
def test_pickles_have_their_memory_beside(n):
    memory = bytearray(b"m" * n)
    encoded = _values.dumps(Columns(memory))
    if n >= 1024:
        assert any(address(p) == address(memory) for p in encoded.pieces if memoryview(p).nbytes)
    data = bytearray(encoded.join())
    result = _values.loads(data, flags=encoded.flags, unpickle=True)
    assert type(result) is Columns and bytes(result.memory) == memory
    if n >= 1024:
        assert not result.memory.readonly and address(data) < address(result.memory) < address(data) + len(data)
    with pytest.raises(PickleRefusedError):
        _values.loads(data, flags=encoded.flags, unpickle=False)


class Model:
    """A program's own, with values of a library in it."""

    def __init__(self, **parts):
        self.__dict__.update(parts)


def test_values_of_libraries_within_pickles():
    block = Block(bytearray(b"b" * 3000), "note")
    model = Model(block=block, again=[block], name="m", inner=Model(block=block))
    model.me = model
    result = again([model, block, model], unpickle=True)
    assert result[0] is result[2] is result[0].me
    assert result[0].block is result[0].again[0] is result[0].inner.block is result[1]
    assert result[1].note == "note" and bytes(result[1].memory) == b"b" * 3000


def test_what_only_pickle_knows_within_values_of_libraries():
    result = again([Block(b"x", Model(a=1))], unpickle=True)
    assert result[0].note.a == 1
    flags, data = stored([Block(b"x", Model(a=1))])
    with pytest.raises(PickleRefusedError):
        _values.loads(data, flags=flags, unpickle=False)


def test_large_streams():
    value = Model(texts=[f"text {i}" for i in range(20_000)], block=Block(b"q" * 9))
    result = again(value, unpickle=True)
    assert result.texts == value.texts and bytes(result.block.memory) == b"q" * 9
    plain = Model(texts=value.texts)
    assert again(plain, unpickle=True).texts == value.texts


# ---- what cannot be stored


def test_it_is_said_where_and_why():
    with pytest.raises(UnserializableReturnValueError, match=r"type dict .*value\['a'\]\[1\] of type function") as e:
        _values.dumps({"a": [1, lambda: 0]})
    assert isinstance(e.value.__cause__, (pickle.PicklingError, AttributeError)) and "cache_resource" in str(e.value)
    with pytest.raises(UnserializableReturnValueError, match="turned off") as e:
        _values.dumps(Model(a=1), pickle=False)
    assert _values.dumps([1, "a"], pickle=False).flags == _values.CBOR


class Liar:
    def __reduce__(self):
        raise OSError("no room")


def test_exceptions_of_the_values_own():
    with pytest.raises(UnserializableReturnValueError, match="no room") as e:
        _values.dumps([Liar()])
    assert type(e.value.__cause__) is OSError


@pytest.mark.parametrize("module, name", [("polars.lazyframe.frame", "LazyFrame"), ("dask.dataframe.core", "DataFrame"),
                                          ("pyspark.sql.dataframe", "DataFrame"), ("ibis.expr.types.relations", "Expr")])
def test_computations_that_were_not_made(module, name):
    kind = type("Table", (type(name, (), {"__module__": module}),), {"__module__": module})
    for value in kind(), [1, kind()], Model(x=kind()), Block(b"x", kind()):
        with pytest.raises(_values.UnevaluatedDataFrameError, match="collect"):
            _values.dumps(value)
    mine = type(name, (), {"__module__": "app"})()
    with pytest.raises(UnserializableReturnValueError):
        _values.dumps(mine)


def test_a_list_that_grows_while_it_is_stored():
    value = []

    class Grows:
        def __reduce__(self):
            value.append(1)
            return (int, ())

    value += [Block(b"x", Grows()), 2]
    with pytest.raises(UnserializableReturnValueError, match="changed"):
        _values.dumps(value)


# ---- serializers


class Upper:
    name = "upper/1"

    def dumps(self, value):
        return [value.upper().encode(), b"!"]

    def loads(self, data):
        assert type(data) is memoryview and not data.readonly
        return bytes(data).decode()


def test_a_serializer():
    assert again("abc", serializer=Upper()) == "ABC!"
    flags, data = stored("abc", serializer=Upper())
    other = types.SimpleNamespace(name="upper/2", loads=lambda data: pytest.fail("called"))
    for reader in None, other:
        with pytest.raises(CorruptValueError, match="upper/1"):
            _values.loads(data, flags=flags, unpickle=True, serializer=reader)
    for value in "abc", b"abc", [1], Block(b"x"), Model(a=1), {"a": [1, 2]}:
        flags, data = stored(value)
        with pytest.raises(CorruptValueError):
            _values.loads(data, flags=flags, unpickle=True, serializer=Upper())


@pytest.mark.parametrize("data", [b"", b"x", bytearray(b"abc"), [], [b""], [b"ab", b"", memoryview(b"cd")], (b"x" * 5000, b"y")], ids=repr)
def test_what_serializers_may_give(data):
    whole = b"".join(data) if isinstance(data, (list, tuple)) else bytes(data)
    serializer = types.SimpleNamespace(name="s", dumps=lambda value: data, loads=bytes)
    assert again(object(), serializer=serializer) == whole


def test_serializers_that_fail():
    bad = types.SimpleNamespace(name="bad", dumps=lambda v: 1 / 0, loads=lambda d: 1 / 0)
    with pytest.raises(UnserializableReturnValueError, match="bad.*int") as e:
        _values.dumps(1, serializer=bad)
    assert type(e.value.__cause__) is ZeroDivisionError
    bad.dumps = lambda v: "text"
    with pytest.raises(UnserializableReturnValueError, match="bytes-like"):
        _values.dumps(1, serializer=bad)
    bad.dumps = lambda v: b"x"
    with pytest.raises(CorruptValueError) as e:
        again(1, serializer=bad)
    assert type(e.value.__cause__) is ZeroDivisionError


# ---- through the daemon


def store(client, key, value):
    encoded = _values.dumps(value)
    if encoded.buffer is not None:
        client.set("c", key, encoded.buffer, flags=encoded.flags, size=encoded.size)
    else:
        client.set("c", key, encoded.pieces, flags=encoded.flags)
    return encoded


@pytest.mark.parametrize("n", [10, 100_000, 9 << 20])
def test_entries(daemon, n):
    client = _binding.Client()
    value = {"text": "é" * n, "ascii": "t" * n, "bytes": b"b" * n, "block": Block(bytearray(b"z" * n)), "array": bytearray(n)}
    store(client, b"k", value)
    first, second = (_values.loads(client.get("c", b"k"), unpickle=False) for _ in range(2))
    for result in first, second:
        assert {k: v for k, v in result.items() if k != "block"} == {k: v for k, v in value.items() if k != "block"}
        assert bytes(result["block"].memory) == b"z" * n
    first["block"].memory[0] = 1
    assert second["block"].memory[0] == ord("z") == _values.loads(client.get("c", b"k"), unpickle=False)["block"].memory[0]
    for other in "t" * n, b"b" * n, "é" * n:
        store(client, b"o", other)
        assert _values.loads(client.get("c", b"o"), unpickle=False) == other


def in_place(client, sizes):
    """Memory side by side in a Buffer, behind the room for the head."""
    buffer = _binding.Buffer(client, 4096 + sum(sizes))
    room, at, blocks = memoryview(buffer), 4096, []
    for i, size in enumerate(sizes):
        blocks.append(Block(room[at:at + size], i))
        blocks[-1].memory[:] = bytes([65 + i]) * size
        at += size
    return buffer, blocks


def test_what_was_built_in_place(daemon):
    client = _binding.Client()
    buffer, blocks = in_place(client, [1001, 5 << 20, 7])
    encoded = store(client, b"k", {"blocks": blocks, "more": "text"})
    assert encoded.buffer is buffer and encoded.size == buffer.size
    result = _values.loads(client.get("c", b"k"), unpickle=False)
    assert [bytes(b.memory) for b in result["blocks"]] == [b"A" * 1001, b"B" * (5 << 20), b"C" * 7] and result["more"] == "text"
    result["blocks"][0].memory[0] = 0
    assert blocks[0].memory[0] == 65


def test_a_buffer_is_used_in_place_once(daemon):
    """What a program writes to it later is its own: stored again, it is copied."""
    client = _binding.Client()
    _, blocks = in_place(client, [5 << 20])
    assert store(client, b"a", blocks).buffer is not None
    blocks[0].memory[0] = 33
    assert store(client, b"b", blocks).buffer is None
    assert [_values.loads(client.get("c", k), unpickle=False)[0].memory[0] for k in (b"a", b"b")] == [65, 33]


def test_what_does_not_fit_in_place_is_copied(daemon):
    client = _binding.Client()
    for change in (lambda blocks: blocks + [Block(b"elsewhere")], lambda blocks: [Block(b"elsewhere")] + blocks,
                   lambda blocks: blocks + in_place(client, [10])[1], lambda blocks: blocks + [Block(memoryview(buffer)[:100])],
                   lambda blocks: [blocks, "x" * 5000]):
        buffer, blocks = in_place(client, [3000, 3000])
        value = change(blocks)
        assert _values.dumps(value).buffer is None
        first = again(value)[0]
        first = again(value)[1] if not (type(first) is list or first.note == 0) else first[0] if type(first) is list else first
        assert bytes(first.memory) == b"A" * 3000


PROGRAM = """
import json, sys
from cached import _binding, _values
client = _binding.Client()
if sys.argv[1] == "write":
    value = {1: ("a", None), "nan": [float("nan")], "set": {(1, 2)}, "big": b"x" * (6 << 20)}
    encoded = _values.dumps(value)
    client.set("c", b"k", encoded.pieces, flags=encoded.flags)
    print("null")
else:
    value = _values.loads(client.get("c", b"k"), unpickle=False)
    print(json.dumps(repr({**value, "big": (type(value["big"]).__name__, len(value["big"]))})))
"""


def test_two_processes(daemon, python):
    python(PROGRAM, "write")
    assert python(PROGRAM, "read") == "{1: ('a', None), 'nan': [nan], 'set': {(1, 2)}, 'big': ('bytes', 6291456)}"
