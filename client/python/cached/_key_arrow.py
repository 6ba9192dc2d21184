# SPDX-License-Identifier: MIT
"""Arrow's tables and arrays in keys: what they hold, however it lies in chunks, slices and buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._key_values import Unkeyable
from ._names import key_name

if TYPE_CHECKING:
    from ._key_values import Walk


def add(walk: Walk, value: Any) -> bool:
    """Adds a value of pyarrow; false: it is none that has a key."""
    import pyarrow as pa

    if isinstance(value, (pa.Table, pa.RecordBatch)):
        walk.key.begin_named(f"python:pyarrow.{type(value).__name__}")
        walk.key.add((value.num_rows, value.schema))
        for i in range(value.num_columns):
            try:
                _column(walk, value.column(i), pa)
            except Unkeyable as e:
                e.where.append(value.schema.field(i).name)
                raise
        walk.key.end()
    elif isinstance(value, (pa.ChunkedArray, pa.Array)):
        walk.key.begin_named(f"python:pyarrow.{'ChunkedArray' if isinstance(value, pa.ChunkedArray) else 'Array'}")
        _column(walk, value, pa)
        walk.key.end()
    elif isinstance(value, pa.Scalar):
        walk.key.begin_named("python:pyarrow.Scalar")
        _column(walk, pa.array([value.as_py()], type=value.type), pa)
        walk.key.end()
    elif isinstance(value, pa.Schema):
        walk.named("python:pyarrow.Schema", [value.field(i) for i in range(len(value))], value.metadata)
    elif isinstance(value, pa.Field):
        walk.named("python:pyarrow.Field", value.name, str(value.type), value.nullable, value.metadata)
    elif isinstance(value, pa.DataType):
        walk.named("python:pyarrow.DataType", str(value))
    elif isinstance(value, pa.Buffer):
        walk.key.begin_named("python:pyarrow.Buffer")
        walk.key.bytes(value)
        walk.key.end()
    else:
        return False
    return True


def _column(walk: Walk, value: Any, pa: Any) -> None:
    chunks = [chunk for chunk in value.chunks if len(chunk)] if isinstance(value, pa.ChunkedArray) else [value]
    _chunks(walk, value.type, chunks, pa)


def _chunks(walk: Walk, kind: Any, chunks: list[Any], pa: Any) -> None:
    """Arrays of one type, one after the other: type, length, which are null, and the values."""
    import numpy as np

    t = pa.types
    walk.key.begin_named("python:arrow")
    walk.key.add((str(kind), sum(map(len, chunks))))
    if not t.is_null(kind) and any(chunk.null_count for chunk in chunks):
        _pieces(walk, "|b1", [chunk.is_valid().to_numpy(zero_copy_only=False) for chunk in chunks], np)
    else:
        walk.key.add(None)
    if isinstance(kind, pa.BaseExtensionType):
        walk.key.add(key_name(type(kind)))
        _chunks(walk, kind.storage_type, [chunk.storage for chunk in chunks], pa)
    elif t.is_null(kind):
        pass
    elif t.is_dictionary(kind):
        _dictionary(walk, kind, chunks, pa)
    elif t.is_struct(kind):
        for i in range(kind.num_fields):
            _chunks(walk, kind.field(i).type, [chunk.flatten()[i] for chunk in chunks], pa)
    elif t.is_fixed_size_list(kind):
        _chunks(walk, kind.value_type, [chunk.flatten() for chunk in chunks], pa)
    elif t.is_list(kind) or t.is_large_list(kind) or t.is_map(kind):
        _lists(walk, kind, chunks, pa, np)
    elif t.is_boolean(kind):
        _pieces(walk, "|b1", [_filled(chunk, False).to_numpy(zero_copy_only=False) for chunk in chunks], np)
    elif _is_text(kind, t):
        _texts(walk, kind, chunks, pa, np)
    elif _width(kind):
        _fixed(walk, kind, chunks, np)
    else:
        _others(walk, kind, chunks, pa)
    walk.key.end()


def _is_text(kind: Any, t: Any) -> bool:
    return any(getattr(t, f"is_{name}", lambda _: False)(kind)
               for name in ("string", "large_string", "binary", "large_binary", "string_view", "binary_view"))


def _width(kind: Any) -> int:
    """Bytes of an element, of a type whose elements lie next to each other."""
    try:
        bits = kind.bit_width
    except ValueError:
        return 0
    return bits // 8 if kind.num_fields == 0 and bits % 8 == 0 else 0


def _pieces(walk: Walk, dtype: str, pieces: list[Any], np: Any) -> None:
    """Arrays of one dimension as if they were one."""
    walk.key.begin_array(dtype, (sum(map(len, pieces)),))
    for piece in pieces:
        if len(piece):
            walk.key.feed(np.ascontiguousarray(piece).view(np.uint8))
    walk.key.end()


def _filled(chunk: Any, value: Any) -> Any:
    return chunk.fill_null(value) if chunk.null_count else chunk


def _fixed(walk: Walk, kind: Any, chunks: list[Any], np: Any) -> None:
    width = _width(kind)
    pieces = []
    for chunk in chunks:
        piece = np.frombuffer(chunk.buffers()[1], np.uint8) if len(chunk) else np.empty(0, np.uint8)
        piece = piece[chunk.offset * width:(chunk.offset + len(chunk)) * width].reshape(-1, width)
        if chunk.null_count:  # what lies there is not the array's
            piece = np.where(chunk.is_valid().to_numpy(zero_copy_only=False)[:, None], piece, 0).astype(np.uint8)
        pieces.append(piece.reshape(-1).view(f"V{width}"))
    _pieces(walk, f"|V{width}", pieces, np)


def _texts(walk: Walk, kind: Any, chunks: list[Any], pa: Any, np: Any) -> None:
    """Lengths, and all bytes one after the other."""
    text = str(kind) in ("string", "large_string", "string_view")
    wide = pa.large_string() if text else pa.large_binary()
    chunks = [_filled(chunk if chunk.type == wide else chunk.cast(wide), "" if text else b"") for chunk in chunks]
    offsets = [_offsets(chunk, np) for chunk in chunks]
    _pieces(walk, "<i8", [np.diff(at) for at in offsets], np)
    walk.key.begin_bytes()
    for chunk, at in zip(chunks, offsets):
        data = chunk.buffers()[2]
        if data is not None and at[-1] > at[0]:
            walk.key.feed(memoryview(data)[int(at[0]):int(at[-1])])
    walk.key.end()


def _offsets(chunk: Any, np: Any) -> Any:
    if not len(chunk):
        return np.zeros(1, np.int64)
    return np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset:chunk.offset + len(chunk) + 1]


def _lists(walk: Walk, kind: Any, chunks: list[Any], pa: Any, np: Any) -> None:
    """Lengths, and the members of all of them."""
    if pa.types.is_map(kind):
        pair = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        chunks = [chunk.cast(pa.list_(pair)) for chunk in chunks]
        member = pair
    else:
        member = kind.value_type
    _pieces(walk, "<i8", [chunk.value_lengths().fill_null(0).cast("int64").to_numpy(zero_copy_only=False)
                          for chunk in chunks], np)
    _chunks(walk, member, [chunk.flatten() for chunk in chunks], pa)


def _dictionary(walk: Walk, kind: Any, chunks: list[Any], pa: Any) -> None:
    """The dictionary, one for all chunks, and each value's place in it: what is in the dictionary and has no use is
    seen by functions as well."""
    if not chunks:
        return
    chunks = pa.chunked_array(chunks, type=kind).unify_dictionaries().chunks
    dictionary = chunks[0].dictionary
    _chunks(walk, dictionary.type, [dictionary], pa)
    _chunks(walk, pa.int64(), [chunk.indices.cast(pa.int64()) for chunk in chunks], pa)


def _others(walk: Walk, kind: Any, chunks: list[Any], pa: Any) -> None:
    name = str(kind)
    if name.startswith("run_end_encoded"):
        import pyarrow.compute as pc
        _chunks(walk, kind.value_type, [pc.run_end_decode(chunk) for chunk in chunks], pa)
    elif "list_view" in name.partition("<")[0]:
        _chunks(walk, pa.large_list(kind.value_field),
                [chunk.cast(pa.large_list(kind.value_field)) for chunk in chunks], pa)
    else:  # unions
        walk.key.add([member for chunk in chunks for member in chunk.to_pylist()])
