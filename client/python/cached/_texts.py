# SPDX-License-Identifier: MIT
"""Columns of texts in object arrays: the distinct texts as one UTF-8 buffer, and a number for each element.

Columns repeat themselves, and making a text costs far more than looking one up: a hit makes each distinct text once.
Elements that are None, NaN, pandas.NA or pandas.NaT have numbers below zero. Anything else in the array, a subclass of str
among it: the array is written by element.
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


def made(state: Any, n: int) -> np.ndarray:
    """The object array of @n elements."""
    count, codes_blob, offsets_blob, data_blob = fields(state, 4)
    need(size(count) < 2**31, "fewer texts")
    codes = np.frombuffer(memory(codes_blob, n * 4), np.int32)
    offsets = np.frombuffer(memory(offsets_blob, (count + 1) * 8), np.int64)
    data = memory(data_blob)
    need(offsets[0] == 0 and offsets[-1] == len(data) and bool((offsets[1:] >= offsets[:-1]).all()), "no texts")
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


def _split(data: memoryview, offsets: np.ndarray) -> list[str]:
    """The texts between the offsets, which are in bytes."""
    whole = str(data, "utf-8")
    bounds = offsets.tolist()
    if len(whole) == len(data):  # ASCII: bytes and characters are counted alike
        return [whole[a:b] for a, b in zip(bounds, bounds[1:])]
    return [str(data[a:b], "utf-8") for a, b in zip(bounds, bounds[1:])]
