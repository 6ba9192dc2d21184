# SPDX-License-Identifier: MIT
"""pandas: frames block by block, series, indexes, and the scalars that stand in their cells.

A frame is its blocks as pandas holds them, its two axes, its attrs and its flags: four columns of numbers are one
two-dimensional block, which is stored with one copy and rebuilt as a view, whatever its size. pandas' own way to
unpickle a manager of blocks puts it together: it is the same from pandas 1.1 to 3, since old pickles must stay
readable. Before that everything is checked here: pandas trusts blocks to have the shape of their axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from . import _pandas_arrays as arrays
from . import _pandas_index as indexes
from ._blob import fields, flag, listed, need, size, text
from ._pandas_arrays import later, tz_made, tz_told, version

FRAME = "python:pandas.DataFrame"
SERIES = "python:pandas.Series"
SINGLE = "python:pandas.singleton"
TIMESTAMP = "python:pandas.Timestamp"
TIMEDELTA = "python:pandas.Timedelta"


# ---- frames

def _extras(value: Any) -> list | None:
    """attrs and flags. None: there is more than is known here."""
    if value._metadata not in ([], ["name"], ["_name"]):
        return None
    flags = getattr(value, "flags", None)  # from pandas 1.2 on
    return [dict(value.attrs), flags is None or bool(flags.allows_duplicate_labels)]


def _places(placement: Any, rows: int) -> list | None:
    """Which columns a block has: a slice as its bounds, else each."""
    where = placement.indexer
    if isinstance(where, slice):
        start, stop, step = where.indices(rows) if where.step is None or where.step > 0 else (None, None, None)
        return None if start is None else ["slice", start, stop, step]
    return ["each", np.asarray(where, dtype=np.int64).tolist()]


def _reduce_frame(frame: pd.DataFrame) -> tuple[str, Any] | None:
    manager = frame._mgr
    extras = _extras(frame)
    if extras is None or type(manager).__name__ != "BlockManager":
        return None
    blocks = []
    for block in manager.blocks:
        places = _places(block.mgr_locs, len(frame.columns))
        values = arrays.plain(block.values)
        if places is None or values is None:
            return None
        blocks.append([places, values])
    return FRAME, [frame.columns, frame.index, blocks, *extras]


def _make_frame(state: Any) -> pd.DataFrame:
    columns, index, blocks, attrs, duplicates = fields(state, 5)
    need(isinstance(columns, pd.Index) and isinstance(index, pd.Index) and type(attrs) is dict, "no frame")
    made: list[dict[str, Any]] = []
    taken = np.zeros(len(columns), dtype=bool)
    for block in listed(blocks):
        places, values = fields(block, 2)
        where, n = _made_places(places, taken)
        values = arrays.made(values)
        if values.ndim == 1:
            need(not isinstance(values, np.ndarray) and n == 1, "a column that is no block")
            shape: tuple[int, ...] = (len(index),)
        else:
            shape = (n, len(index))
        need(tuple(values.shape) == shape, "a block that is not as large as its axes")
        made.append({"values": values, "mgr_locs": where})
    need(bool(taken.all()), "columns without values")
    frame = frame_of(columns, index, made)
    return _with_extras(frame, attrs, duplicates)


def _made_places(told: Any, taken: np.ndarray) -> tuple[Any, int]:
    """The places of a block, which no other block may have, and how many they are."""
    need(type(told) is list and len(told) > 0, "no places")
    where: Any
    if told[0] == "slice":
        _, start, stop, step = fields(told, 4)
        need(size(start) <= size(stop) <= len(taken) and size(step) > 0, "places beyond the columns")
        where = slice(start, stop, step)
    else:
        kind, each = fields(told, 2)
        need(kind == "each" and all(size(place) < len(taken) for place in listed(each)), "places beyond the columns")
        need(len(set(each)) == len(each), "a column twice")
        where = np.array(each, dtype=np.intp)
    need(not taken[where].any(), "a column twice")
    n = len(taken[where])
    taken[where] = True
    return where, n


def frame_of(columns: pd.Index, index: pd.Index, blocks: list[dict[str, Any]]) -> pd.DataFrame:
    """A frame over these blocks, which are known to fit."""
    from pandas.core.internals.managers import BlockManager

    manager = BlockManager.__new__(BlockManager)
    manager.__setstate__(([], [], [], {"0.14.1": {"axes": [columns, index], "blocks": blocks}}))
    frame = pd.DataFrame.__new__(pd.DataFrame)
    frame.__setstate__({"_mgr": manager, "_typ": "dataframe", "_metadata": [], "attrs": {},
                        "_flags": {"allows_duplicate_labels": True}})
    return frame


def _with_extras(made: Any, attrs: Any, duplicates: Any) -> Any:
    need(type(attrs) is dict, "attrs that are no dict")
    if attrs:
        made.attrs = attrs
    if not flag(duplicates):
        made.flags.allows_duplicate_labels = False
    return made


# ---- series

def _reduce_series(series: pd.Series) -> tuple[str, Any] | None:
    extras = _extras(series)
    manager = series._mgr
    if extras is None or type(manager).__name__ != "SingleBlockManager":
        return None
    values = arrays.plain(manager.blocks[0].values)
    if values is None:
        return None
    return SERIES, [values, series.index, series.name, *extras]


def _make_series(state: Any) -> pd.Series:
    values, index, name, attrs, duplicates = fields(state, 5)
    need(isinstance(index, pd.Index), "a series without an index")
    values = arrays.made(values)
    need(tuple(values.shape) == (len(index),), "a series that is not as long as its index")
    series = pd.Series(values, index=index, name=name, dtype=values.dtype, copy=False)
    return _with_extras(series, attrs, duplicates)


# ---- scalars

def _reduce_single(value: Any) -> tuple[str, Any] | None:
    return (SINGLE, ["NA"]) if value is pd.NA else (SINGLE, ["NaT"]) if value is pd.NaT else None


def _make_single(state: Any) -> Any:
    (name,) = fields(state, 1)
    need(name in ("NA", "NaT"), "no singleton")
    return pd.NA if name == "NA" else pd.NaT


def _reduce_timestamp(value: Any) -> tuple[str, Any] | None:
    tz = tz_told(value.tz)
    if version() < (2,) and getattr(value, "_freq" if hasattr(value, "_freq") else "freq", None) is not None:
        return None  # a timestamp of pandas 1 knows of the index that it was taken from
    unit, number = getattr(value, "unit", "ns"), getattr(value, "_value", None)
    told = [int(value.value if number is None else number), unit, tz]
    return (TIMESTAMP, told) if _make_timestamp(told) == value and value.fold == _make_timestamp(told).fold else None


def _make_timestamp(state: Any) -> pd.Timestamp:
    number, unit, tz = fields(state, 3)
    made = pd.Timestamp(np.datetime64(_number(number), _unit(unit)))
    need(made is not pd.NaT, "no time")
    return made if tz is None else made.tz_localize("UTC").tz_convert(tz_made(tz))


def _reduce_timedelta(value: Any) -> tuple[str, Any] | None:
    number = getattr(value, "_value", None)
    return TIMEDELTA, [int(value.value if number is None else number), getattr(value, "unit", "ns")]


def _make_timedelta(state: Any) -> pd.Timedelta:
    number, unit = fields(state, 2)
    made = pd.Timedelta(np.timedelta64(_number(number), _unit(unit)))
    need(made is not pd.NaT, "no duration")
    return made


def _number(value: Any) -> int:
    need(type(value) is int and -(2**63) <= value < 2**63, "no number of 64 bits")
    return value


def _unit(value: Any) -> str:
    need(value in ("s", "ms", "us", "ns") and (value == "ns" or later(2)), "no unit of time")
    return text(value)


_REDUCERS: dict[type, Any] = {
    pd.DataFrame: _reduce_frame,
    pd.Series: _reduce_series,
    type(pd.NA): _reduce_single,
    type(pd.NaT): _reduce_single,
    pd.Timestamp: _reduce_timestamp,
    pd.Timedelta: _reduce_timedelta,
}


def reduce(value: Any) -> tuple[str, Any] | None:
    """What a value of pandas' is made of."""
    reducer = _REDUCERS.get(type(value))
    if reducer is not None:
        return reducer(value)
    if isinstance(value, pd.Index):
        return indexes.reduce(value)
    return arrays.reduce(value)


MAKERS = {
    FRAME: _make_frame,
    SERIES: _make_series,
    SINGLE: _make_single,
    TIMESTAMP: _make_timestamp,
    TIMEDELTA: _make_timedelta,
    **indexes.MAKERS,
    **arrays.MAKERS,
}
