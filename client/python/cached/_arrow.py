# SPDX-License-Identifier: MIT
"""pyarrow: tables, batches, arrays.

The schema is Arrow's own serialized form, with its metadata. Numbers, texts and dictionaries are stored buffer by
buffer, so that nothing is copied on the way in; whatever nests, and slices that do not begin at a whole byte, as a
stream of Arrow's, which is one copy. Both are read in place. Offsets and codes that were stored are checked before
anything follows them: Arrow itself trusts its arrays.
"""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa

from . import _binding
from ._blob import Blob, blob, fields, listed, memory, need, size

ARRAY = "python:pyarrow.Array"
CHUNKED = "python:pyarrow.ChunkedArray"
BATCH = "python:pyarrow.RecordBatch"
TABLE = "python:pyarrow.Table"

# A type of old versions that is code in the metadata: reading it would run it.
_CODE = b"arrow.py_extension_type"


# ---- schemas

def _schema_told(schema: pa.Schema) -> bytes | None:
    """The schema as bytes. None: it would come back as another."""
    try:
        told = schema.serialize().to_pybytes()
        again = pa.ipc.read_schema(pa.py_buffer(told)) if _CODE not in told else None
    except (pa.ArrowException, NotImplementedError):
        return None
    return told if again is not None and again.equals(schema, check_metadata=True) else None


def _schema_made(told: Any) -> pa.Schema:
    need(type(told) is bytes and _CODE not in told, "no schema")
    return pa.ipc.read_schema(pa.py_buffer(told))


def _field_schema(kind: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field("", kind)])


# ---- arrays

def _text_width(kind: pa.DataType) -> int:
    """How wide the offsets of texts or bytes are; 0: it is no such type."""
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return 4
    return 8 if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) else 0


def _bits(kind: pa.DataType) -> int:
    """How wide the elements are, where each is only that; else 0."""
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        return kind.bit_width
    return 0


def _array_told(array: pa.Array) -> list:
    """An array of a known type."""
    kind = array.type
    n = len(array)
    if isinstance(kind, pa.BaseExtensionType):
        return ["extension", _array_told(array.storage)]
    if pa.types.is_dictionary(kind) and n > 0:
        return ["dictionary", _array_told(array.indices), _array_told(array.dictionary)]
    buffers = None
    if n > 0 and (array.null_count == 0 or array.offset % 8 == 0):
        buffers = _fixed(array, _bits(kind)) if _bits(kind) else _variable(array, _text_width(kind))
    if buffers is None:
        return ["stream", n, blob(_stream(array))]
    return ["buffers", n, *buffers]


def _part(buffer: pa.Buffer | None, start: int, n: int) -> Blob | None:
    return None if n == 0 or buffer is None else blob(buffer.slice(start, n))


def _validity(array: pa.Array) -> Blob | None:
    if array.null_count == 0:
        return None
    return _part(array.buffers()[0], array.offset // 8, (len(array) + 7) // 8)


def _fixed(array: pa.Array, bits: int) -> list | None:
    if bits % 8 != 0 and array.offset % 8 != 0:
        return None
    values = _part(array.buffers()[1], array.offset * bits // 8, (len(array) * bits + 7) // 8)
    return [_validity(array), values]


def _variable(array: pa.Array, width: int) -> list | None:
    if width == 0 or array.offset != 0:
        return None
    offsets = _part(array.buffers()[1], 0, (len(array) + 1) * width)
    assert offsets is not None
    bounds = offsets.view.cast("i" if width == 4 else "q")
    if bounds[0] != 0:
        return None
    return [_validity(array), offsets, _part(array.buffers()[2], 0, bounds[len(array)])]


def _stream(array: pa.Array) -> pa.Buffer:
    schema = _field_schema(array.type)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([array], schema=schema))
    return sink.getvalue()


def _array_made(kind: pa.DataType, told: Any) -> pa.Array:
    """The array again, checked so far that no operation leaves its buffers."""
    need(type(told) is list and len(told) > 1, "no array")
    form = told[0]
    if form == "extension":
        need(isinstance(kind, pa.BaseExtensionType), "no type of an extension")
        return pa.ExtensionArray.from_storage(kind, _array_made(kind.storage_type, fields(told, 2)[1]))
    if form == "dictionary":
        need(pa.types.is_dictionary(kind), "no type of a dictionary")
        _, indices, words = fields(told, 3)
        codes, values = _array_made(kind.index_type, indices), _array_made(kind.value_type, words)
        return pa.DictionaryArray.from_arrays(codes, values, ordered=kind.ordered, safe=True)
    if form == "stream":
        return _stream_made(kind, told)
    need(form == "buffers" and len(told) > 3 and not isinstance(kind, pa.BaseExtensionType), "no array")
    n, validity = size(told[1]), told[2]
    need(n < 2**60, "fewer elements")
    buffers = [None if validity is None else _buffer(validity, (n + 7) // 8)]
    bits, width = _bits(kind), _text_width(kind)
    if bits:
        buffers.append(_buffer(fields(told, 4)[3], (n * bits + 7) // 8))
    else:
        need(width > 0, "an array of another type than its buffers")
        _, _, _, offsets, data = fields(told, 5)
        where = memory(offsets, (n + 1) * width)
        buffers += [pa.py_buffer(where), _buffer(data)]
    array = pa.Array.from_buffers(kind, n, buffers)
    array.validate(full=width > 0 and not _offsets_checked(where, width, len(buffers[2])))
    return array


# Offsets that were found good: of entries of this user's, whose bytes never change as long as their version is the same.
_good: dict[tuple, None] = {}
_GOOD_MAX = 4096


def _offsets_checked(view: memoryview, width: int, end: int) -> bool:
    """Looks whether each text lies in the data; false: that takes numpy. Whether it is UTF-8 is left to who looks at
    it, as Arrow leaves it: Arrow's own check would read all of the data at each hit."""
    try:
        import numpy as np
    except ImportError:
        return False
    place = _place(view)
    if place is not None and (*place, width, end) in _good:
        return True
    offsets = np.frombuffer(view, np.int32 if width == 4 else np.int64)
    need(offsets[0] == 0 and offsets[-1] <= end and bool((offsets[1:] >= offsets[:-1]).all()), "texts beyond the data")
    if place is not None:
        if len(_good) >= _GOOD_MAX:
            _good.clear()
        _good[(*place, width, end)] = None
    return True


def _place(view: memoryview) -> tuple | None:
    """Which bytes these are, of an entry that this user stored. None: of no such entry."""
    entry = view.obj
    if type(entry) is not _binding.Entry or entry.uid != os.geteuid():
        return None
    start, total = _binding.value_place(entry)
    at, n = _binding.value_place(view)
    return entry.version, total, at - start, n


def _buffer(told: Any, n: int | None = None) -> pa.Buffer:
    return pa.py_buffer(memory(told, n))


def _stream_made(kind: pa.DataType, told: Any) -> pa.Array:
    _, n, data = fields(told, 3)
    with pa.ipc.open_stream(_buffer(data)) as reader:
        need(reader.schema.equals(_field_schema(kind)), "a stream of another type")
        batches = list(reader)
    need(len(batches) == 1, "a stream of one array expected")
    array = batches[0].column(0)
    array.validate(full=True)
    need(len(array) == size(n), "a stream of another length")
    return array


# ---- values

def _reduce_array(array: pa.Array) -> tuple[str, Any] | None:
    schema = _schema_told(_field_schema(array.type))
    return None if schema is None else (ARRAY, [schema, _array_told(array)])


def _make_array(state: Any) -> pa.Array:
    schema, told = fields(state, 2)
    return _array_made(_kind(schema), told)


def _kind(told: Any) -> pa.DataType:
    schema = _schema_made(told)
    need(len(schema) == 1, "the schema of one array expected")
    return schema.field(0).type


def _reduce_chunked(array: pa.ChunkedArray) -> tuple[str, Any] | None:
    schema = _schema_told(_field_schema(array.type))
    return None if schema is None else (CHUNKED, [schema, [_array_told(chunk) for chunk in array.chunks]])


def _chunked_made(kind: pa.DataType, chunks: Any) -> pa.ChunkedArray:
    return pa.chunked_array([_array_made(kind, chunk) for chunk in listed(chunks)], type=kind)


def _make_chunked(state: Any) -> pa.ChunkedArray:
    schema, chunks = fields(state, 2)
    return _chunked_made(_kind(schema), chunks)


def _reduce_batch(batch: pa.RecordBatch) -> tuple[str, Any] | None:
    schema = _schema_told(batch.schema)
    if schema is None or (batch.num_columns == 0 and batch.num_rows > 0):
        return None
    return BATCH, [schema, [_array_told(column) for column in batch.columns]]


def _make_batch(state: Any) -> pa.RecordBatch:
    told, columns = fields(state, 2)
    schema = _schema_made(told)
    need(len(listed(columns)) == len(schema), "as many columns as the schema has")
    arrays = [_array_made(field.type, column) for field, column in zip(schema, columns)]
    need(len({len(array) for array in arrays}) <= 1, "columns of one length")
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    batch.validate()
    return batch


def _reduce_table(table: pa.Table) -> tuple[str, Any] | None:
    schema = _schema_told(table.schema)
    if schema is None or (table.num_columns == 0 and table.num_rows > 0):
        return None
    return TABLE, [schema, [[_array_told(chunk) for chunk in column.chunks] for column in table.columns]]


def _make_table(state: Any) -> pa.Table:
    told, columns = fields(state, 2)
    schema = _schema_made(told)
    need(len(listed(columns)) == len(schema), "as many columns as the schema has")
    arrays = [_chunked_made(field.type, column) for field, column in zip(schema, columns)]
    need(len({len(array) for array in arrays}) <= 1, "columns of one length")
    table = pa.Table.from_arrays(arrays, schema=schema)
    table.validate()
    return table


def reduce(value: Any) -> tuple[str, Any] | None:
    """What a value of Arrow's is made of."""
    kind = type(value)
    try:
        if kind is pa.Table:
            return _reduce_table(value)
        if kind is pa.RecordBatch:
            return _reduce_batch(value)
        if kind is pa.ChunkedArray:
            return _reduce_chunked(value)
        return _reduce_array(value) if isinstance(value, pa.Array) else None
    except (pa.ArrowException, NotImplementedError):
        return None  # a type that Arrow's streams have no form for


MAKERS = {ARRAY: _make_array, CHUNKED: _make_chunked, BATCH: _make_batch, TABLE: _make_table}
