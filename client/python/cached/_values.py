# SPDX-License-Identifier: MIT
"""Values as bytes, and back: proto/VALUES.md.

The extension module writes and reads the CBOR. Here is what it asks for: types that are not Python's plainest, buffers
that lie beside the CBOR, and what may be pickled.
"""

from __future__ import annotations

import importlib
import struct
from pickle import PickleBuffer
from typing import Any, Dict, List, Optional, Protocol, Tuple

from . import _binding, _explain, _pickle
from ._errors import CorruptValueError, PickleRefusedError, UnevaluatedDataFrameError, UnserializableReturnValueError
from ._scalars import NAMED, READERS, TAG_NAMED, WRITERS

RAW = 0
TEXT = 0x63760001
CBOR = 0x63760002
BUFFERS = 0x63760003

TAG_BUFFER = 51715

MAGIC = b"cached-v"
VERSION = 1
HEADER = struct.Struct("<8sII3Q")  # magic, version, 0, where the CBOR begins, its size, the value's size
HEADER_SIZE = 64
ALIGNMENT = 64
HEAD_IN_PLACE = 4096

PICKLE = "python:pickle"
SERIALIZER = "python:serializer"

#: Types that stand for a computation that has not been made, by the package and the class; subclasses too.
UNEVALUATED = {
    "polars": {"LazyFrame", "LazyGroupBy"},
    "dask": {"DataFrame", "Series", "Index", "Array", "Bag", "Delayed"},
    "dask_expr": {"FrameBase", "DataFrame", "Series", "Index"},
    "pyspark": {"DataFrame", "Column", "RDD"},
    "ibis": {"Expr"},
    "duckdb": {"DuckDBPyRelation"},
    "_duckdb": {"DuckDBPyRelation"},
    "snowflake": {"DataFrame", "Table"},
    "vaex": {"DataFrame"},
}


class Serializer(Protocol):
    """What `serializer=` of a decorator takes: both functions, and a name that goes into what is stored."""

    name: str

    def dumps(self, value: Any) -> Any:
        """A bytes-like object, or a sequence of them that are stored one after the other."""

    def loads(self, data: memoryview) -> Any:
        """The value of those bytes, all in one, writable, the caller's alone."""


class _Memory:
    """A contiguous bytes-like object, or a list of them, that is stored beside the CBOR."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


class Encoded:
    """A value ready to be stored: `flags`, and `size` bytes: `pieces` one after the other, or in place in `buffer`."""

    __slots__ = ("flags", "pieces", "size", "buffer")

    def __init__(self, flags: int, pieces: List[Any], size: Optional[int] = None, buffer: Any = None) -> None:
        self.flags = flags
        self.pieces = pieces
        self.size = sum(memoryview(p).nbytes for p in pieces) if size is None else size
        self.buffer = buffer

    def join(self) -> bytes:
        """All of it as one object: a copy, for small values."""
        return b"".join(self.pieces) if self.buffer is None else bytes(memoryview(self.buffer)[:self.size])


# ---- writing


class _NeedsPickle(Exception):
    """Something in the value is of a type that is only pickled: then all of it is, so that what it shares stays shared."""


class _NotInPlace(Exception):
    """The value's buffers do not lie in one Buffer with room for the head: they are copied."""


class _Whole:
    """A value that is pickled as a whole."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Named:
    """A named type, already reduced."""

    __slots__ = ("name", "state")

    def __init__(self, name: str, state: Any) -> None:
        self.name = name
        self.state = state


def _owner(data: Any) -> Any:
    """The Buffer whose memory an object shows, as far as it tells; or None."""
    kind = getattr(_binding, "Buffer", None)
    for _ in range(16):
        if data is None or kind is None or type(data) is kind:
            return data if kind is not None else None
        data = data.obj if type(data) is memoryview else getattr(data, "base", None)
    return None


class _Writer:
    """Where the buffers of one value go, and what the extension module asks for."""

    def __init__(self, may_pickle: bool, in_place: bool) -> None:
        self.may_pickle = may_pickle
        self.in_place = in_place
        self.buffer: Any = None
        self.end = HEADER_SIZE
        self.has_buffers = False
        self.beside: List[Any] = []
        self.placed: Dict[Tuple[int, int], int] = {}
        self.kept: List[Any] = []  # no address in `placed` may come to mean other memory

    def other(self, value: Any, inside: bool) -> Tuple[int, Any]:
        kind = type(value)
        write = WRITERS.get(kind)
        written = write(value) if write else None
        if written is not None:
            return written
        if kind is _Memory:
            return TAG_BUFFER, self.place(value.data)
        if kind is _Named:
            return TAG_NAMED, [value.name, value.state]
        if kind is _Whole:
            return self.pickled(value.value)
        frames = _frames()
        if frames is not None and kind is frames.Blob:
            return TAG_BUFFER, self.place(value.view)
        refuse_unevaluated(value)
        reduced = _reduce(value)
        if reduced is not None:
            return TAG_NAMED, list(reduced)
        if not inside:
            raise _NeedsPickle
        return self.pickled(value)

    def pickled(self, value: Any) -> Tuple[int, Any]:
        if not self.may_pickle:
            raise UnserializableReturnValueError("it could only be pickled, which is turned off here")
        stream, buffers, parts = _pickle.dump(value, _reduce_part)
        return TAG_NAMED, [PICKLE, [
            _Memory(stream) if len(stream) >= _pickle.STREAM_BESIDE else stream,
            [_Memory(buffer) for buffer in buffers],
            [_Named(*part) for part in parts],
        ]]

    def place(self, data: Any) -> List[int]:
        """[offset, size] of memory in the value."""
        pieces = [PickleBuffer(piece).raw() for piece in (data if type(data) is list else [data])]
        size = sum(piece.nbytes for piece in pieces)
        self.has_buffers = True
        if size == 0:
            return [0, 0]
        if len(pieces) > 1:
            self.in_place = False
        memory = _binding.value_place(pieces[0])[0], size
        if memory in self.placed and len(pieces) == 1:
            return [self.placed[memory], size]
        offset = self.offset_in_place(data, *memory) if self.in_place else None
        if offset is None:
            offset = -(-self.end // ALIGNMENT) * ALIGNMENT
            self.beside += [bytes(offset - self.end)] if offset > self.end else []
            self.beside += pieces
        self.end = max(self.end, offset + size)
        self.kept += pieces
        self.placed[memory] = offset
        return [offset, size]

    def offset_in_place(self, data: Any, address: int, size: int) -> Optional[int]:
        """Where it lies in the one Buffer that has all; None: the first buffer lies in none."""
        owner = _owner(data)
        if owner is None and self.buffer is None:
            self.in_place = False
            return None
        if owner is None or (self.buffer is not None and owner is not self.buffer):
            raise _NotInPlace
        offset = address - owner.address
        if offset < HEAD_IN_PLACE or offset + size > owner.size:
            raise _NotInPlace
        # It has a head: it was stored, and what is changed in it since would not be stored again.
        if self.buffer is None and memoryview(owner)[:len(MAGIC)] == MAGIC:
            raise _NotInPlace
        self.buffer = owner
        return offset

    def finish(self, pieces: List[Any]) -> Encoded:
        if not self.has_buffers:
            return Encoded(CBOR, pieces)
        size = sum(memoryview(piece).nbytes for piece in pieces)
        if self.buffer is None:
            total = self.end + size
            head = HEADER.pack(MAGIC, VERSION, 0, self.end, size, total).ljust(HEADER_SIZE, b"\0")
            return Encoded(BUFFERS, [head, *self.beside, *pieces], total)
        if HEADER_SIZE + size > HEAD_IN_PLACE:
            raise _NotInPlace
        head = HEADER.pack(MAGIC, VERSION, 0, HEADER_SIZE, size, self.end).ljust(HEADER_SIZE, b"\0")
        room = memoryview(self.buffer)
        room[:HEADER_SIZE + size] = head + b"".join(pieces)
        return Encoded(BUFFERS, [room[:self.end]], self.end, self.buffer)


def refuse_unevaluated(value: Any) -> None:
    """Raises for a value that is a plan of a computation: what it would give is not stored with it."""
    for kind in type(value).__mro__:
        names = UNEVALUATED.get(kind.__module__.partition(".")[0])
        if names and kind.__name__ in names:
            raise UnevaluatedDataFrameError(
                f"a {_explain.type_name(type(value))} is a computation that has not been made, so there is no result to store: collect it "
                "first (.collect(), .compute(), .to_pandas() …) and return that, or use cache_resource to keep the object itself")


def _frames() -> Any:
    """Arrays and frames of other libraries: a module that uses this one."""
    try:
        return importlib.import_module(f"{__package__}._frames")
    except ModuleNotFoundError as missing:
        if missing.name != f"{__package__}._frames":
            raise
        return None


def _reduce(value: Any) -> Optional[Tuple[str, Any]]:
    frames = _frames()
    return frames.reduce(value) if frames is not None else None


def _reduce_part(value: Any) -> Optional[Tuple[str, Any]]:
    """What an object within a pickle is instead: arrays and frames lie beside it like everywhere."""
    refuse_unevaluated(value)
    return _reduce(value)


def _write(value: Any, may_pickle: bool, in_place: bool) -> Encoded:
    writer = _Writer(may_pickle, in_place)
    pieces: Any = _binding.value_encode(value, writer.other)
    if pieces is None:
        writer = _Writer(may_pickle, in_place)
        pieces = _binding.value_encode(value, writer.other, True)
    if type(pieces) is str:
        raise _NeedsPickle(pieces)
    return writer.finish(pieces)


def _write_somehow(value: Any, may_pickle: bool) -> Encoded:
    whole = False
    in_place = True
    while True:
        try:
            return _write(_Whole(value) if whole else value, may_pickle, in_place)
        except _NeedsPickle:
            if whole:
                raise
            whole = True
        except _NotInPlace:
            in_place = False


def dumps(value: Any, *, pickle: bool = True, serializer: Optional[Serializer] = None) -> Encoded:
    """The value's bytes. What has no form of its own is pickled, if @pickle; else, and where that fails, it is an
    UnserializableReturnValueError."""
    kind = type(value)
    if serializer is not None:
        return _dumps_by(serializer, value)
    if kind is bytes:
        return Encoded(RAW, [value], len(value))
    if kind is str:
        try:
            return Encoded(TEXT, [_binding.value_text(value)])
        except UnicodeEncodeError:
            pass  # lone surrogates: CBOR has a tag for these
    try:
        return _write_somehow(value, pickle)
    except (UnevaluatedDataFrameError, MemoryError):
        raise
    except Exception as error:
        raise UnserializableReturnValueError(_explain.unserializable(value, error, pickle)) from error


def _dumps_by(serializer: Serializer, value: Any) -> Encoded:
    """A value by the decorator's own serializer."""
    kind = type(value)
    name = serializer.name
    if type(name) is not str:
        raise TypeError(f"serializer.name is a text, not a {_explain.type_name(type(name))}")
    try:
        data = serializer.dumps(value)
        pieces = list(data) if isinstance(data, (list, tuple)) else [data]
        writer = _Writer(False, False)
        return writer.finish(_binding.value_encode(_Named(SERIALIZER, [name, _Memory(pieces)]), writer.other))
    except MemoryError:
        raise
    except Exception as error:
        raise UnserializableReturnValueError(
            f"the serializer {name!r} could not write a value of type {_explain.type_name(kind)}: {error}") from error


# ---- reading


class _Reader:
    """What the extension module asks for while it reads one value."""

    def __init__(self, view: Optional[memoryview], unpickle: bool, serializer: Optional[Serializer]) -> None:
        self.view = view
        self.unpickle = unpickle
        self.serializer = serializer
        self.served = False

    def other(self, tag: int, content: Any) -> Any:
        read = READERS.get(tag)
        if read is not None:
            return read(content)
        if tag == TAG_BUFFER:
            return self.buffer(content)
        if tag == TAG_NAMED:
            return self.named(content)
        raise ValueError(f"the tag {tag} is not known")

    def buffer(self, content: Any) -> memoryview:
        if type(content) is not list or len(content) != 2 or type(content[0]) is not int or type(content[1]) is not int:
            raise ValueError("a buffer is [offset, size]")
        offset, size = content
        if self.view is None or not (0 <= offset <= self.view.nbytes and 0 <= size <= self.view.nbytes - offset):
            raise ValueError(f"a buffer of {size} bytes at {offset} lies outside the value")
        return self.view[offset:offset + size]

    def named(self, content: Any) -> Any:
        if type(content) is not list or len(content) != 2 or type(content[0]) is not str:
            raise ValueError("a named type is [name, state]")
        name, state = content
        if name == PICKLE:
            return self.unpickled(state)
        if name == SERIALIZER:
            return self.by_serializer(state)
        read = NAMED.get(name)
        if read is not None:
            return read(state)
        frames = _frames()
        if frames is None:
            raise ValueError(f"the named type {name!r} is not known")
        try:
            return frames.rebuild(name, state)
        except (PickleRefusedError, MemoryError):
            raise
        except Exception as error:
            raise CorruptValueError(f"a stored {name!r} could not be made again: {error}") from error

    def unpickled(self, state: Any) -> Any:
        if not self.unpickle:
            raise PickleRefusedError(
                "the stored value has a pickled part, which could run any code of its writer's, and nothing is unpickled here: "
                "only what this user's own processes stored is, and not with CACHED_PICKLE=never")
        if type(state) is not list or len(state) != 3 or type(state[1]) is not list or type(state[2]) is not list:
            raise ValueError("a pickle is [stream, buffers, parts]")
        try:
            return _pickle.load(*state)
        except (PickleRefusedError, MemoryError):
            raise
        except Exception as error:
            raise CorruptValueError(
                f"a stored pickle could not be loaded, perhaps since a class has changed: {type(error).__name__}: {error}"
            ) from error

    def by_serializer(self, state: Any) -> Any:
        if type(state) is not list or len(state) != 2 or type(state[0]) is not str or type(state[1]) is not memoryview:
            raise ValueError("a serializer's value is [name, buffer]")
        name, data = state
        if self.serializer is None or self.serializer.name != name:
            raise CorruptValueError(f"the stored value is of the serializer {name!r}, which this reader does not have")
        self.served = True
        return self.serializer.loads(data)


def _parts(view: memoryview) -> memoryview:
    """The CBOR of a value with buffers."""
    if view.nbytes < HEADER_SIZE:
        raise ValueError("it is shorter than its header")
    magic, version, zero, offset, size, total = HEADER.unpack_from(view)
    if magic != MAGIC or zero or any(view[HEADER.size:HEADER_SIZE]):
        raise ValueError("its header is none")
    if version != VERSION:
        raise ValueError(f"its layout has the version {version}; known is {VERSION}")
    if total != view.nbytes:
        raise ValueError(f"it says that it has {total} bytes, and has {view.nbytes}")
    if offset < HEADER_SIZE or offset > total or size > total - offset:
        raise ValueError("its CBOR lies outside")
    return view[offset:offset + size]


def _read(entry: Any, flags: int, unpickle: bool, serializer: Optional[Serializer]) -> Any:
    if serializer is None and flags in (RAW, TEXT):
        return _binding.value_load(flags, entry)
    if flags == CBOR:
        cbor, view = entry, None
    elif flags == BUFFERS:
        view = memoryview(entry).cast("B")
        cbor = _parts(view)
    else:
        raise ValueError(f"its flags are {flags:#x}, which no value of this reader has")
    if serializer is None:
        return _binding.value_decode(cbor, _Reader(view, unpickle, None).other)
    # Only what it wrote itself: another value is not what the function returns by this serializer.
    seen: List[Any] = []
    reader = _Reader(view, False, serializer)
    try:
        value = _binding.value_decode(cbor, lambda tag, content: seen.append(tag) or reader.other(tag, content))
    except PickleRefusedError:
        seen.clear()
    if seen != [TAG_BUFFER, TAG_NAMED] or not reader.served:
        raise ValueError(f"it is not of the serializer {serializer.name!r}")
    return value


def loads(self, data: memoryview) -> Any:
        """The value of those bytes, all in one, writable, the caller's alone."""


class _Memory:
    """A contiguous bytes-like object, or a list of them, that is stored beside the CBOR."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


class Encoded:
    """A value ready to be stored: `flags`, and `size` bytes: `pieces` one after the other, or in place in `buffer`."""

    __slots__ = ("flags", "pieces", "size", "buffer")

    def __init__(self, flags: int, pieces: List[Any], size: Optional[int] = None, buffer: Any = None) -> None:
        self.flags = flags
        self.pieces = pieces
        self.size = sum(memoryview(p).nbytes for p in pieces) if size is None else size
        self.buffer = buffer

    def join(self) -> bytes:
        """All of it as one object: a copy, for small values."""
        return b"".join(self.pieces) if self.buffer is None else bytes(memoryview(self.buffer)[:self.size])


# ---- writing


class _NeedsPickle(Exception):
    """Something in the value is of a type that is only pickled: then all of it is, so that what it shares stays shared."""


class _NotInPlace(Exception):
    """The value's buffers do not lie in one Buffer with room for the head: they are copied."""


class _Whole:
    """A value that is pickled as a whole."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Named:
    """A named type, already reduced."""

    __slots__ = ("name", "state")

    def __init__(self, name: str, state: Any) -> None:
        self.name = name
        self.state = state


def _owner(data: Any) -> Any:
    """The Buffer whose memory an object shows, as far as it tells; or None."""
    kind = getattr(_binding, "Buffer", None)
    for _ in range(16):
        if data is None or kind is None or type(data) is kind:
            return data if kind is not None else None
        data = data.obj if type(data) is memoryview else getattr(data, "base", None)
    return None


class _Writer:
    """Where the buffers of one value go, and what the extension module asks for."""

    def __init__(self, may_pickle: bool, in_place: bool) -> None:
        self.may_pickle = may_pickle
        self.in_place = in_place
        self.buffer: Any = None
        self.end = HEADER_SIZE
        self.has_buffers = False
        self.beside: List[Any] = []
        self.placed: Dict[Tuple[int, int], int] = {}
        self.kept: List[Any] = []  # no address in `placed` may come to mean other memory

    def other(self, value: Any, inside: bool) -> Tuple[int, Any]:
        kind = type(value)
        write = WRITERS.get(kind)
        written = write(value) if write else None
        if written is not None:
            return written
        if kind is _Memory:
            return TAG_BUFFER, self.place(value.data)
        if kind is _Named:
            return TAG_NAMED, [value.name, value.state]
        if kind is _Whole:
            return self.pickled(value.value)
        frames = _frames()
        if frames is not None and kind is frames.Blob:
            return TAG_BUFFER, self.place(value.view)
        refuse_unevaluated(value)
        reduced = _reduce(value)
        if reduced is not None:
            return TAG_NAMED, list(reduced)
        if not inside:
            raise _NeedsPickle
        return self.pickled(value)

    def pickled(self, value: Any) -> Tuple[int, Any]:
        if not self.may_pickle:
            raise UnserializableReturnValueError("it could only be pickled, which is turned off here")
        stream, buffers, parts = _pickle.dump(value, _reduce_part)
        return TAG_NAMED, [PICKLE, [
            _Memory(stream) if len(stream) >= _pickle.STREAM_BESIDE else stream,
            [_Memory(buffer) for buffer in buffers],
            [_Named(*part) for part in parts],
        ]]

    def place(self, data: Any) -> List[int]:
        """[offset, size] of memory in the value."""
        pieces = [PickleBuffer(piece).raw() for piece in (data if type(data) is list else [data])]
        size = sum(piece.nbytes for piece in pieces)
        self.has_buffers = True
        if size == 0:
            return [0, 0]
        if len(pieces) > 1:
            self.in_place = False
        memory = _binding.value_place(pieces[0])[0], size
        if memory in self.placed and len(pieces) == 1:
            return [self.placed[memory], size]
        offset = self.offset_in_place(data, *memory) if self.in_place else None
        if offset is None:
            offset = -(-self.end // ALIGNMENT) * ALIGNMENT
            self.beside += [bytes(offset - self.end)] if offset > self.end else []
            self.beside += pieces
        self.end = max(self.end, offset + size)
        self.kept += pieces
        self.placed[memory] = offset
        return [offset, size]

    def offset_in_place(self, data: Any, address: int, size: int) -> Optional[int]:
        """Where it lies in the one Buffer that has all; None: the first buffer lies in none."""
        owner = _owner(data)
        if owner is None and self.buffer is None:
            self.in_place = False
            return None
        if owner is None or (self.buffer is not None and owner is not self.buffer):
            raise _NotInPlace
        offset = address - owner.address
        if offset < HEAD_IN_PLACE or offset + size > owner.size:
            raise _NotInPlace
        # It has a head: it was stored, and what is changed in it since would not be stored again.
        if self.buffer is None and memoryview(owner)[:len(MAGIC)] == MAGIC:
            raise _NotInPlace
        self.buffer = owner
        return offset

    def finish(self, pieces: List[Any]) -> Encoded:
        if not self.has_buffers:
            return Encoded(CBOR, pieces)
        size = sum(memoryview(piece).nbytes for piece in pieces)
        if self.buffer is None:
            total = self.end + size
            head = HEADER.pack(MAGIC, VERSION, 0, self.end, size, total).ljust(HEADER_SIZE, b"\0")
            return Encoded(BUFFERS, [head, *self.beside, *pieces], total)
        if HEADER_SIZE + size > HEAD_IN_PLACE:
            raise _NotInPlace
        head = HEADER.pack(MAGIC, VERSION, 0, HEADER_SIZE, size, self.end).ljust(HEADER_SIZE, b"\0")
        room = memoryview(self.buffer)
        room[:HEADER_SIZE + size] = head + b"".join(pieces)
        return Encoded(BUFFERS, [room[:self.end]], self.end, self.buffer)


def refuse_unevaluated(value: Any) -> None:
    """Raises for a value that is a plan of a computation: what it would give is not stored with it."""
    for kind in type(value).__mro__:
        names = UNEVALUATED.get(kind.__module__.partition(".")[0])
        if names and kind.__name__ in names:
            raise UnevaluatedDataFrameError(
                f"a {_explain.type_name(type(value))} is a computation that has not been made, so there is no result to store: collect it "
                "first (.collect(), .compute(), .to_pandas() …) and return that, or use cache_resource to keep the object itself")


def _frames() -> Any:
    """Arrays and frames of other libraries: a module that uses this one."""
    try:
        return importlib.import_module(f"{__package__}._frames")
    except ModuleNotFoundError as missing:
        if missing.name != f"{__package__}._frames":
            raise
        return None


def _reduce(value: Any) -> Optional[Tuple[str, Any]]:
    frames = _frames()
    return frames.reduce(value) if frames is not None else None


def _reduce_part(value: Any) -> Optional[Tuple[str, Any]]:
    """What an object within a pickle is instead: arrays and frames lie beside it like everywhere."""
    refuse_unevaluated(value)
    return _reduce(value)


def _write(value: Any, may_pickle: bool, in_place: bool) -> Encoded:
    writer = _Writer(may_pickle, in_place)
    pieces: Any = _binding.value_encode(value, writer.other)
    if pieces is None:
        writer = _Writer(may_pickle, in_place)
        pieces = _binding.value_encode(value, writer.other, True)
    if type(pieces) is str:
        raise _NeedsPickle(pieces)
    return writer.finish(pieces)


def _write_somehow(value: Any, may_pickle: bool) -> Encoded:
    whole = False
    in_place = True
    while True:
        try:
            return _write(_Whole(value) if whole else value, may_pickle, in_place)
        except _NeedsPickle:
            if whole:
                raise
            whole = True
        except _NotInPlace:
            in_place = False


def dumps(value: Any, *, pickle: bool = True, serializer: Optional[Serializer] = None) -> Encoded:
    """The value's bytes. What has no form of its own is pickled, if @pickle; else, and where that fails, it is an
    UnserializableReturnValueError."""
    kind = type(value)
    if serializer is not None:
        return _dumps_by(serializer, value)
    if kind is bytes:
        return Encoded(RAW, [value], len(value))
    if kind is str:
        try:
            return Encoded(TEXT, [_binding.value_text(value)])
        except UnicodeEncodeError:
            pass  # lone surrogates: CBOR has a tag for these
    try:
        return _write_somehow(value, pickle)
    except (UnevaluatedDataFrameError, MemoryError):
        raise
    except Exception as error:
        raise UnserializableReturnValueError(_explain.unserializable(value, error, pickle)) from error


def _dumps_by(serializer: Serializer, value: Any) -> Encoded:
    """A value by the decorator's own serializer."""
    kind = type(value)
    name = serializer.name
    if type(name) is not str:
        raise TypeError(f"serializer.name is a text, not a {_explain.type_name(type(name))}")
    try:
        data = serializer.dumps(value)
        pieces = list(data) if isinstance(data, (list, tuple)) else [data]
        writer = _Writer(False, False)
        return writer.finish(_binding.value_encode(_Named(SERIALIZER, [name, _Memory(pieces)]), writer.other))
    except MemoryError:
        raise
    except Exception as error:
        raise UnserializableReturnValueError(
            f"the serializer {name!r} could not write a value of type {_explain.type_name(kind)}: {error}") from error


# ---- reading


class _Reader:
    """What the extension module asks for while it reads one value."""

    def __init__(self, view: Optional[memoryview], unpickle: bool, serializer: Optional[Serializer]) -> None:
        self.view = view
        self.unpickle = unpickle
        self.serializer = serializer
        self.served = False

    def other(self, tag: int, content: Any) -> Any:
        read = READERS.get(tag)
        if read is not None:
            return read(content)
        if tag == TAG_BUFFER:
            return self.buffer(content)
        if tag == TAG_NAMED:
            return self.named(content)
        raise ValueError(f"the tag {tag} is not known")

    def buffer(self, content: Any) -> memoryview:
        if type(content) is not list or len(content) != 2 or type(content[0]) is not int or type(content[1]) is not int:
            raise ValueError("a buffer is [offset, size]")
        offset, size = content
        if self.view is None or not (0 <= offset <= self.view.nbytes and 0 <= size <= self.view.nbytes - offset):
            raise ValueError(f"a buffer of {size} bytes at {offset} lies outside the value")
        return self.view[offset:offset + size]

    def named(self, content: Any) -> Any:
        if type(content) is not list or len(content) != 2 or type(content[0]) is not str:
            raise ValueError("a named type is [name, state]")
        name, state = content
        if name == PICKLE:
            return self.unpickled(state)
        if name == SERIALIZER:
            return self.by_serializer(state)
        read = NAMED.get(name)
        if read is not None:
            return read(state)
        frames = _frames()
        if frames is None:
            raise ValueError(f"the named type {name!r} is not known")
        try:
            return frames.rebuild(name, state)
        except (PickleRefusedError, MemoryError):
            raise
        except Exception as error:
            raise CorruptValueError(f"a stored {name!r} could not be made again: {error}") from error

    def unpickled(self, state: Any) -> Any:
        if not self.unpickle:
            raise PickleRefusedError(
                "the stored value has a pickled part, which could run any code of its writer's, and nothing is unpickled here: "
                "only what this user's own processes stored is, and not with CACHED_PICKLE=never")
        if type(state) is not list or len(state) != 3 or type(state[1]) is not list or type(state[2]) is not list:
            raise ValueError("a pickle is [stream, buffers, parts]")
        try:
            return _pickle.load(*state)
        except (PickleRefusedError, MemoryError):
            raise
        except Exception as error:
            raise CorruptValueError(
                f"a stored pickle could not be loaded, perhaps since a class has changed: {type(error).__name__}: {error}"
            ) from error

    def by_serializer(self, state: Any) -> Any:
        if type(state) is not list or len(state) != 2 or type(state[0]) is not str or type(state[1]) is not memoryview:
            raise ValueError("a serializer's value is [name, buffer]")
        name, data = state
        if self.serializer is None or self.serializer.name != name:
            raise CorruptValueError(f"the stored value is of the serializer {name!r}, which this reader does not have")
        self.served = True
        return self.serializer.loads(data)


def _parts(view: memoryview) -> memoryview:
    """The CBOR of a value with buffers."""
    if view.nbytes < HEADER_SIZE:
        raise ValueError("it is shorter than its header")
    magic, version, zero, offset, size, total = HEADER.unpack_from(view)
    if magic != MAGIC or zero or any(view[HEADER.size:HEADER_SIZE]):
        raise ValueError("its header is none")
    if version != VERSION:
        raise ValueError(f"its layout has the version {version}; known is {VERSION}")
    if total != view.nbytes:
        raise ValueError(f"it says that it has {total} bytes, and has {view.nbytes}")
    if offset < HEADER_SIZE or offset > total or size > total - offset:
        raise ValueError("its CBOR lies outside")
    return view[offset:offset + size]


def _read(entry: Any, flags: int, unpickle: bool, serializer: Optional[Serializer]) -> Any:
    if serializer is None and flags in (RAW, TEXT):
        return _binding.value_load(flags, entry)
    if flags == CBOR:
        cbor, view = entry, None
    elif flags == BUFFERS:
        view = memoryview(entry).cast("B")
        cbor = _parts(view)
    else:
        raise ValueError(f"its flags are {flags:#x}, which no value of this reader has")
    if serializer is None:
        return _binding.value_decode(cbor, _Reader(view, unpickle, None).other)
    # Only what it wrote itself: another value is not what the function returns by this serializer.
    seen: List[Any] = []
    reader = _Reader(view, False, serializer)
    value = _binding.value_decode(cbor, lambda tag, content: seen.append(tag) or reader.other(tag, content))
    if seen != [TAG_BUFFER, TAG_NAMED] or not reader.served:
        raise ValueError(f"it is not of the serializer {serializer.name!r}")
    return value


def loads(entry: Any, *, unpickle: bool, serializer: Optional[Serializer] = None, flags: Optional[int] = None) -> Any:
    """The value of an entry (bytes-like; its flags are @flags, or the attribute). Raises CorruptValueError, or
    PickleRefusedError where it has a pickled part and @unpickle is false. Arrays and frames in it are on the entry's memory."""
    try:
        return _read(entry, entry.flags if flags is None else flags, unpickle, serializer)
    except (CorruptValueError, PickleRefusedError, MemoryError):
        raise
    except Exception as error:
        raise CorruptValueError(f"the stored value is corrupt: {error}") from error
