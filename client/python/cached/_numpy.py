# SPDX-License-Identifier: MIT
"""numpy: arrays of every type that is bytes, arrays of objects by element, masked arrays, scalars.

An array is its type, its shape, its order in memory ("C" or "F") and its bytes. One that lies in neither order is
copied once. Rebuilt arrays are views of the stored memory and may always be written to. A memmap is stored as what it
holds, and comes back as a plain array: the file it was a window to may have changed or gone.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from . import _texts
from ._blob import Blob, fields, flag, listed, memory, need, size, text

ARRAY = "python:numpy.array"
OBJECTS = "python:numpy.objects"
TEXTS = "python:numpy.texts"
MASKED = "python:numpy.masked"
SCALAR = "python:numpy.scalar"
DTYPE = "python:numpy.dtype"

# Type strings that mean bytes. Nothing else is given to numpy's own parser: "O" would make pointers of stored bytes.
_PLAIN = re.compile(r"[<>|](?:b1|[iufcSUV][1-9]\d{0,8}|[mM]8(?:\[\d{0,9}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)")
_FIELDS_DEEP = 16


# ---- types

def describe(dtype: np.dtype, deep: int = 0) -> Any:
    """A type as plain values: its type string, or for a structured one its fields. None: it cannot be told exactly."""
    if dtype.hasobject or dtype.itemsize == 0 or dtype.metadata is not None or deep > _FIELDS_DEEP:
        return None
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        told = describe(base, deep + 1)
        return None if told is None else ["sub", told, list(shape)]
    if dtype.names is not None:
        return _describe_fields(dtype, deep)
    if dtype.isbuiltin == 2 or not _PLAIN.fullmatch(dtype.str):
        return None
    # np.void's own type is told from others that look alike (of other packages, or records).
    return dtype.str if dtype.kind != "V" or dtype.type is np.void else None


def _describe_fields(dtype: np.dtype, deep: int) -> Any:
    names = list(dtype.names or ())
    if not names or dtype.type not in (np.void, np.record):
        return None
    formats, offsets, titles = [], [], []
    for name in names:
        field = dtype.fields[name]  # type: ignore[index]
        told = describe(field[0], deep + 1)
        title = field[2] if len(field) > 2 else None
        if told is None or (title is not None and type(title) is not str):
            return None
        formats.append(told)
        offsets.append(field[1])
        titles.append(title)
    told = ["fields", names, formats, offsets, titles, dtype.itemsize, bool(dtype.isalignedstruct),
            dtype.type is np.record]
    try:
        again = made(told)
    except (ValueError, TypeError):
        return None
    return told if again == dtype and again.type is dtype.type else None


def made(told: Any, deep: int = 0) -> np.dtype:
    """The type that `describe()` told of."""
    if type(told) is str:
        need(_PLAIN.fullmatch(told) is not None, f"{told!r} is no type of bytes")
        return _checked(np.dtype(told))
    need(type(told) is list and len(told) > 0 and deep <= _FIELDS_DEEP, "no type")
    if told[0] == "sub":
        _, base, shape = fields(told, 3)
        return _checked(np.dtype((made(base, deep + 1), tuple(size(n) for n in listed(shape)))))
    kind, names, formats, offsets, titles, itemsize, aligned, record = fields(told, 8)
    need(kind == "fields" and len({len(listed(part)) for part in (names, formats, offsets, titles)}) == 1, "no fields")
    spec: dict[str, Any] = {"names": [text(name) for name in names],
                            "formats": [made(one, deep + 1) for one in formats],
                            "offsets": [size(offset) for offset in offsets], "itemsize": size(itemsize)}
    if any(title is not None for title in titles):
        spec["titles"] = titles
    dtype = np.dtype(spec, align=flag(aligned))
    return _checked(np.dtype((np.record, dtype)) if flag(record) else dtype)


def _checked(dtype: np.dtype) -> np.dtype:
    need(not dtype.hasobject and dtype.itemsize > 0, "a type that is not bytes")
    return dtype


# ---- arrays

def order_of(array: np.ndarray) -> str:
    """How its elements lie: "C", "F", or "" for neither."""
    flags = array.flags
    return "C" if flags.c_contiguous else "F" if flags.f_contiguous else ""


def blob_of(array: np.ndarray, order: str) -> Blob | None:
    """The bytes of an array that lies in @order."""
    if array.size == 0:
        return None
    flat = array.reshape(-1, order=order)
    # Not every type of numpy's is one of the buffer protocol's; bytes are.
    return Blob(flat.view(np.uint8))


def whole(array: np.ndarray) -> np.ndarray:
    """The array as one piece of memory, of numpy's own class: itself where it is one."""
    if type(array) is not np.ndarray:
        array = array.view(np.ndarray)
    return array if order_of(array) else np.ascontiguousarray(array)


def _reduce_array(array: np.ndarray) -> tuple[str, Any] | None:
    if type(array) is np.memmap:
        array = array.view(np.ndarray)
    if array.dtype == object:
        return _reduce_objects(array) if array.dtype.metadata is None else None
    told = describe(array.dtype)
    if told is None:
        return None
    array = whole(array)
    order = order_of(array)
    return ARRAY, [told, list(array.shape), order, blob_of(array, order)]


def _shape(told: Any) -> tuple[tuple[int, ...], int]:
    shape = tuple(size(extent) for extent in listed(told))
    n = 1
    for extent in shape:
        n *= extent
    need(len(shape) <= 64, "too many dimensions")
    return shape, n


def _order(told: Any) -> str:
    need(told in ("C", "F") and type(told) is str, "no order of elements")
    return told


def _make_array(state: Any) -> np.ndarray:
    told, extents, order, blob = fields(state, 4)
    dtype = made(told)
    shape, n = _shape(extents)
    view = memory(blob, n * dtype.itemsize)
    if n == 0:
        return np.empty(shape, dtype, order=_order(order))
    return _texts_checked(np.ndarray(shape, dtype, buffer=view, order=_order(order)))


def _texts_checked(array: np.ndarray) -> np.ndarray:
    """The array, if each of its texts is one: numpy takes any 32 bits for a character, and Python does not."""
    dtype = array.dtype
    if dtype.kind == "U":
        codes = np.ascontiguousarray(array).reshape(-1).view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        need(array.size == 0 or int(codes.max()) <= sys.maxunicode, "characters that there are not")
    for name in dtype.names or ():
        _texts_checked(array[name])
    return array


def _reduce_objects(array: np.ndarray) -> tuple[str, Any]:
    order = order_of(array) or "C"
    values = array.reshape(-1, order=order)
    shape = list(array.shape)
    told = _texts.reduce(values)
    if told is not None:
        return TEXTS, [shape, order, told]
    return OBJECTS, [shape, order, values.tolist()]


def _make_objects(state: Any) -> np.ndarray:
    extents, order, values = fields(state, 3)
    shape, n = _shape(extents)
    need(len(listed(values)) == n, "as many elements as the shape says")
    return objects(values).reshape(shape, order=_order(order))


def objects(values: list) -> np.ndarray:
    """An array of these objects, whatever they are: lists and arrays among them stay what they are."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def _make_texts(state: Any) -> np.ndarray:
    extents, order, told = fields(state, 3)
    shape, n = _shape(extents)
    return _texts.made(told, n).reshape(shape, order=_order(order))


# ---- masked arrays

def _reduce_masked(array: Any) -> tuple[str, Any] | None:
    data = array.data
    if type(data) not in (np.ndarray, np.memmap) or array.dtype.names is not None:
        return None
    mask = array.mask if array.mask is not np.ma.nomask else None
    if mask is not None and type(mask) is not np.ndarray:
        return None
    # The field itself: asking for the value would set it.
    fill = array._fill_value
    if fill is not None and type(fill) is not np.ndarray:
        return None
    return MASKED, [data, mask, fill, bool(array.hardmask)]


def _make_masked(state: Any) -> Any:
    data, mask, fill, hard = fields(state, 4)
    need(type(data) is np.ndarray and (mask is None or (type(mask) is np.ndarray and mask.dtype == bool
                                                         and mask.shape == data.shape)), "no masked array")
    need(fill is None or (type(fill) is np.ndarray and fill.ndim == 0), "no value to fill with")
    array = np.ma.MaskedArray(data, mask=np.ma.nomask if mask is None else mask, copy=False, hard_mask=flag(hard))
    if fill is not None:
        array.fill_value = fill[()]
    return array


# ---- scalars and types

def _reduce_scalar(value: Any) -> tuple[str, Any] | None:
    kind = type(value)
    if kind is np.str_:
        return SCALAR, ["U", str.__str__(value)]  # numpy's own drops zeros at the end
    if kind is np.bytes_:
        return SCALAR, ["S", bytes.__add__(value, b"")]
    told = describe(value.dtype)
    if told is None or value.dtype.type is not kind:
        return None
    return SCALAR, [told, value.tobytes()]


def _make_scalar(state: Any) -> Any:
    told, data = fields(state, 2)
    if told == "U":
        return np.str_(text(data))
    need(type(data) is bytes, "bytes expected")
    if told == "S":
        return np.bytes_(data)
    dtype = made(told)
    need(len(data) == dtype.itemsize and dtype.subdtype is None, "no scalar")
    return _texts_checked(np.ndarray((1,), dtype, buffer=bytearray(data)))[0]


def _reduce_dtype(dtype: np.dtype) -> tuple[str, Any] | None:
    if dtype == object and dtype.metadata is None:
        return DTYPE, ["O"]
    told = describe(dtype)
    return None if told is None else (DTYPE, [told])


def _make_dtype(state: Any) -> np.dtype:
    (told,) = fields(state, 1)
    return np.dtype(object) if told == "O" else made(told)


def reduce(value: Any) -> tuple[str, Any] | None:
    """What a value of numpy's is made of."""
    kind = type(value)
    if kind is np.ndarray or kind is np.memmap:
        return _reduce_array(value)
    if isinstance(value, np.generic):
        return _reduce_scalar(value)
    if kind is np.ma.MaskedArray:
        return _reduce_masked(value)
    if isinstance(value, np.dtype):
        return _reduce_dtype(value)
    return None


MAKERS = {
    ARRAY: _make_array,
    OBJECTS: _make_objects,
    TEXTS: _make_texts,
    MASKED: _make_masked,
    SCALAR: _make_scalar,
    DTYPE: _make_dtype,
}
