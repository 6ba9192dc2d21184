# SPDX-License-Identifier: MIT
"""pandas: indexes of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from . import _pandas_arrays as arrays
from ._blob import fields, listed, need

RANGE = "python:pandas.RangeIndex"
MULTI = "python:pandas.MultiIndex"
INDEX = "python:pandas.Index"

_FEW = 64  # up to here a list of labels is less than an array of objects

# Kinds that hold an array of pandas' own.
_OF_ARRAYS = {name: getattr(pd, name) for name in ("DatetimeIndex", "TimedeltaIndex", "PeriodIndex", "IntervalIndex",
                                                   "CategoricalIndex")}
_TIMED = ("DatetimeIndex", "TimedeltaIndex")
# Kinds that hold one of numpy's; pandas 1 had one for each sort of number.
_OF_NUMPY = {pd.Index}
if not arrays.later(2):
    from pandas.core.indexes import numeric  # their names in pandas itself warn

    _OF_NUMPY |= {numeric.Int64Index, numeric.UInt64Index, numeric.Float64Index}


def reduce(index: pd.Index) -> tuple[str, Any] | None:
    """What an index is made of."""
    kind = type(index)
    if kind is pd.RangeIndex:
        return RANGE, [int(index.start), int(index.stop), int(index.step), index.name]
    if kind is pd.MultiIndex:
        return _reduce_multi(index)
    if kind in _OF_NUMPY:
        return _reduce_index(index)
    for name, known in _OF_ARRAYS.items():
        if kind is known:
            return _reduce_of_array(name, index)
    return None


def _reduce_of_array(kind: str, index: pd.Index) -> tuple[str, Any] | None:
    known, freq = arrays.freq_told(index.freq) if kind in _TIMED else (True, None)
    return (INDEX, [kind, _array_of(index), index.name, freq]) if known else None


def _array_of(index: pd.Index) -> Any:
    """The array of an index, with its frequency."""
    data = index._data
    return index.array if isinstance(data, np.ndarray) else data


def _reduce_index(index: pd.Index) -> tuple[str, Any] | None:
    data = index._data
    if type(data) is np.ndarray:
        if data.dtype == object and len(data) <= _FEW:
            return INDEX, ["objects", data.tolist(), index.name, None]
        return INDEX, ["Index", data, index.name, None]
    return (INDEX, ["Index", data, index.name, None]) if isinstance(data, pd.api.extensions.ExtensionArray) else None


def _make_index(state: Any) -> pd.Index:
    kind, data, name, freq = fields(state, 4)
    if kind == "objects":
        from ._numpy import objects

        return pd.Index(objects(listed(data)), dtype=object, name=name, copy=False, tupleize_cols=False)
    data = arrays.made(data)
    need(len(data.shape) == 1, "an index of more than one dimension")
    if kind == "Index":
        index = pd.Index(data, dtype=data.dtype, name=name, copy=False, tupleize_cols=False)
    else:
        need(type(kind) is str and kind in _OF_ARRAYS, "no kind of index")
        index = _of_array(_OF_ARRAYS[kind], data, name)
        if kind in _TIMED:
            arrays.with_freq(index, freq)
    need(index.dtype == data.dtype, "an index of another type than its values")
    return index


def _of_array(kind: Any, data: Any, name: Any) -> pd.Index:
    """An index over an array of pandas' own, which has its frequency already."""
    need(isinstance(data, pd.api.extensions.ExtensionArray), "an array expected")
    if kind in (pd.DatetimeIndex, pd.TimedeltaIndex):
        need(type(data) is (pd.arrays.DatetimeArray if kind is pd.DatetimeIndex else pd.arrays.TimedeltaArray),
             "no times")
        made = kind._simple_new(data, name=None)
        made.name = name
        return made
    made = kind(data, name=name, copy=False)
    need(type(made) is kind, "another kind of index")
    return made


def _make_range(state: Any) -> pd.RangeIndex:
    start, stop, step, name = fields(state, 4)
    need(all(type(n) is int and -(2**63) <= n < 2**63 for n in (start, stop, step)) and step != 0, "no range")
    return pd.RangeIndex(start, stop, step, name=name)


def _reduce_multi(index: pd.MultiIndex) -> tuple[str, Any]:
    codes = [arrays.numbers_of_codes(np.asarray(codes)) for codes in index.codes]
    order = index.sortorder
    return MULTI, [list(index.levels), codes, list(index.names), None if order is None else int(order)]


def _make_multi(state: Any) -> pd.MultiIndex:
    levels, codes, names, order = fields(state, 4)
    need(len(listed(levels)) == len(listed(codes)) == len(listed(names)) > 0, "no levels")
    need(order is None or (type(order) is int and 0 <= order <= len(levels)), "no order")
    rows = None
    for level, code in zip(levels, codes):
        need(isinstance(level, pd.Index) and not isinstance(level, pd.MultiIndex), "a level that is no index")
        need(type(code) is np.ndarray and code.dtype.kind == "i" and code.ndim == 1, "a level without codes")
        need(rows is None or rows == len(code), "levels of different lengths")
        rows = len(code)
        # pandas looks labels up by code without asking.
        need(rows == 0 or (int(code.max()) < len(level) and int(code.min()) >= -1), "a code without a label")
    return pd.MultiIndex(levels=levels, codes=codes, names=names, sortorder=order, copy=False, verify_integrity=False)


MAKERS = {RANGE: _make_range, MULTI: _make_multi, INDEX: _make_index}
