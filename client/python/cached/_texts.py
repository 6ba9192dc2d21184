# SPDX-License-Identifier: MIT
"""Columns of texts in object arrays: the distinct texts as one UTF-8 buffer, and a number for each element.

Columns repeat themselves, and making a text costs far more than looking one up: a hit makes each distinct text once.
Columns without repetition have no numbers. Elements that are None, NaN, pandas.NA or pandas.NaT have numbers below
zero. Anything else in the array, a subclass of str among it: the array is written by element.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ._blob import blob, fields, memory, need, size

_FEW = 32  # up to here a list of elements is less than the buffers
_NONE, _NAN, _NA, _NAT = -1, -2, -3, -4


def _specials() -> dict[int, Any]:
    """The elements that are no texts, by their numbers."""
    known = {_NONE: None, _NAN: np.nan}
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        known[_NA], known[_NAT] = pandas.NA, pandas.NaT
    return known


def _number(value: Any, known: dict[int, Any]) -> int | None:
    """The number of an element that is no text."""
    if value is None:
        return _NONE
    if type(value) is float and value != value:
        return _NAN
    for number in (_NA, _NAT):
        if number in known and value is known[number]:
            return number
    return None


def reduce(values: np.ndarray) -> list | None:
    """The state of a one-dimensional object array. None: it holds something else, or is too short to be worth it."""
    if len(values) <= _FEW:
        return None
    elements = values.tolist()
    known = _specials()
    numbers: dict[Any, int] = {}
    texts: list[str] = []
    kinds = set(map(type, elements))
    if str not in kinds or not kinds <= {str, type(None), float} | {type(known[n]) for n in (_NA, _NAT) if n in known}:
        return None
    if "pyarrow" in sys.modules and kinds <= {str, type(None)}:
        return _reduce_by_arrow(values)
    for value in dict.fromkeys(elements):
        number: int | None = len(texts)
        if type(value) is str:
            texts.append(value)
        else:
            number = _number(value, known)
            if number is None:
                return None
        numbers[value] = number
    try:
        data = [t.encode() for t in texts]
    except UnicodeEncodeError:
        return None  # halves of surrogate pairs
    codes = np.fromiter(map(numbers.__getitem__, elements), np.int32, len(elements))
    lengths = np.fromiter(map(len, data), np.int64, len(data))
    offsets = np.zeros(len(data) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return [len(data), blob(codes), blob(offsets), blob(b"".join(data))]


def _reduce_by_arrow(values: np.ndarray) -> list | None:
    """The same state, made by Arrow where the program uses it: several times as fast."""
    import pyarrow as pa

    try:
        texts = pa.array(values, type=pa.large_string(), from_pandas=False)
    except (pa.ArrowException, UnicodeEncodeError):
        return None
    words = texts.dictionary_encode()
    codes = None
    if texts.null_count or len(words.dictionary) <= len(texts) // 2:
        texts = words.dictionary
        codes = blob(words.indices.fill_null(_NONE).buffers()[1].slice(0, len(words) * 4))
    _, offsets, data = texts.buffers()
    end = memoryview(offsets).cast("q")[len(texts)]
    return [len(texts), codes, blob(offsets.slice(0, (len(texts) + 1) * 8)), blob(data.slice(0, end)) if end else None]


def made(state: Any, n: int) -> np.ndarray:
    """The object array of @n elements."""
    count, codes_blob, offsets_blob, data_blob = fields(state, 4)
    need(size(count) < 2**31, "fewer texts")
    offsets = np.frombuffer(memory(offsets_blob, (count + 1) * 8), np.int64)
    data = memory(data_blob)
    need(offsets[0] == 0 and offsets[-1] == len(data) and bool((offsets[1:] >= offsets[:-1]).all()), "no texts")
    if codes_blob is None:
        need(count == n, "as many texts as elements")
        return _split(data, offsets)
    codes = np.frombuffer(memory(codes_blob, n * 4), np.int32)
    need(n == 0 or (int(codes.max()) < count and int(codes.min()) >= _NAT), "a text that is not there")
    table = np.empty(count + 4, dtype=object)
    table[:count] = _split(data, offsets)
    lowest = int(codes.min()) if n else 0
    if lowest <= _NA:
        import pandas

        table[count + 4 + _NA], table[count + 4 + _NAT] = pandas.NA, pandas.NaT
    table[count + 4 + _NAN], table[count + 4 + _NONE] = np.nan, None
    # Numbers below zero count from the table's end.
    return table.take(codes)


def _split(data: memoryview, offsets: np.ndarray) -> np.ndarray:
    """The texts between the offsets, which are in bytes."""
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        texts = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
        return texts.to_numpy(zero_copy_only=False)
    parts = _parts(data, offsets)
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    return array


def _parts(data: memoryview, offsets: np.ndarray) -> list[str]:
    whole = str(data, "utf-8")
    bounds = offsets.tolist()
    if len(whole) == len(data):  # ASCII: bytes and characters are counted alike
        return [whole[a:b] for a, b in zip(bounds, bounds[1:])]
    return [str(data[a:b], "utf-8") for a, b in zip(bounds, bounds[1:])]
