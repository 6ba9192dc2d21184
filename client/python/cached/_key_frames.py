# SPDX-License-Identifier: MIT
"""Frames, series and indexes of pandas and polars in keys: every element, and what they are called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._key_arrays import add_array
from ._key_values import Attribute, Unkeyable
from ._names import key_name

if TYPE_CHECKING:
    from ._key_values import Walk


def add(walk: Walk, value: Any) -> bool:
    """Adds a value of pandas or polars; false: it is none that has a key."""
    pl = sys.modules.get("polars")
    if pl is not None and type(value).__module__.partition(".")[0] == "polars":
        return _add_polars(walk, value, pl)
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        _frame(walk, value)
    elif isinstance(value, pd.Series):
        _series(walk, value)
    elif isinstance(value, pd.Index):
        _index(walk, value, pd)
    elif isinstance(value, pd.api.extensions.ExtensionArray):
        walk.key.begin_named("python:pandas.array")
        _array(walk, value, pd)
        walk.key.end()
    else:
        return _scalar(walk, value, pd)
    return True


# ---- pandas


def _scalar(walk: Walk, value: Any, pd: Any) -> bool:
    if value is pd.NA or value is pd.NaT:
        walk.named("python:pandas", str(value))
    elif isinstance(value, pd.Timestamp):
        walk.named("python:pandas.Timestamp", _ticks(value), getattr(value, "unit", "ns"), value.fold, _zone(value.tz))
    elif isinstance(value, pd.Timedelta):
        walk.named("python:pandas.Timedelta", _ticks(value), getattr(value, "unit", "ns"))
    elif isinstance(value, pd.Period):
        walk.named("python:pandas.Period", value.ordinal, value.freqstr)
    elif isinstance(value, pd.Interval):
        walk.named("python:pandas.Interval", value.left, value.right, value.closed)
    elif isinstance(value, pd.CategoricalDtype):
        walk.named("python:pandas.CategoricalDtype", value.categories, value.ordered)
    elif isinstance(value, pd.api.extensions.ExtensionDtype):
        walk.named("python:pandas.dtype", repr(value), str(value))
    elif isinstance(value, getattr(pd.offsets, "BaseOffset", pd.offsets.DateOffset)):
        walk.named("python:pandas.DateOffset", key_name(type(value)), value.n, value.normalize, dict(value.kwds))
    else:
        return False
    return True


def _ticks(value: Any) -> int:
    """The number in its own unit: not all of them have one of nanoseconds."""
    number = getattr(value, "_value", None)
    return int(value.value if number is None else number)


def _zone(zone: Any) -> Any:
    """A zone by its name where that says all of it; else itself, which Walk takes apart or refuses."""
    from ._key_types import _zone_name

    name = None if zone is None else _zone_name(zone)
    return name or zone


def _attrs(walk: Walk, value: Any) -> None:
    walk.add(dict(value.attrs), Attribute("attrs"))
    flags = getattr(value, "flags", None)  # from pandas 1.2 on
    walk.key.add(flags is None or flags.allows_duplicate_labels)
    for name in getattr(value, "_metadata", ()):  # what classes that are derived from pandas' have of their own
        if name != "_name" and name != "name":
            walk.key.add(name)
            walk.add(getattr(value, name, None), Attribute(name))


def _frame(walk: Walk, value: Any) -> None:
    import pandas as pd

    walk.key.begin_named("python:pandas.DataFrame")
    walk.key.add(key_name(type(value)) if type(value) is not pd.DataFrame else None)
    walk.key.add(value.shape)
    walk.key.add(value.columns)
    walk.key.add(value.index)
    for i in range(value.shape[1]):
        try:
            _array(walk, value.iloc[:, i].array, pd)
        except Unkeyable as e:
            e.where.append(value.columns[i])
            raise
    _attrs(walk, value)
    walk.key.end()


def _series(walk: Walk, value: Any) -> None:
    import pandas as pd

    walk.key.begin_named("python:pandas.Series")
    walk.key.add(key_name(type(value)) if type(value) is not pd.Series else None)
    walk.add(value.name, Attribute("name"))
    walk.key.add(value.index)
    _array(walk, value.array, pd)
    _attrs(walk, value)
    walk.key.end()


def _index(walk: Walk, value: Any, pd: Any) -> None:
    walk.key.begin_named("python:pandas.Index")
    walk.key.add(key_name(type(value)))
    walk.add(list(value.names), Attribute("names"))
    if isinstance(value, pd.RangeIndex):
        walk.key.add((value.start, value.stop, value.step))
    elif isinstance(value, pd.MultiIndex):
        for i in range(value.nlevels):
            _array(walk, value.get_level_values(i).array, pd)
    else:
        walk.key.add(getattr(value, "freqstr", None))
        _array(walk, value.array, pd)
    walk.key.end()


def _array(walk: Walk, value: Any, pd: Any) -> None:
    """The elements of a column."""
    import numpy as np

    dtype = value.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        add_array(walk, np.asarray(value))
    elif type(value).__name__ in ("PandasArray", "NumpyExtensionArray"):
        add_array(walk, value.to_numpy())
    elif isinstance(value, pd.Categorical):
        walk.key.begin_named("python:pandas.Categorical")
        walk.key.add((value.ordered, value.categories))
        add_array(walk, np.asarray(value.codes))
        walk.key.end()
    elif isinstance(dtype, pd.DatetimeTZDtype):
        walk.key.begin_named("python:pandas.datetimetz")
        walk.key.add((dtype.unit, _zone(dtype.tz)))
        add_array(walk, value.asi8)
        walk.key.end()
    elif isinstance(dtype, pd.PeriodDtype):
        walk.key.begin_named("python:pandas.period")
        walk.key.add(str(dtype))
        add_array(walk, value.asi8)
        walk.key.end()
    elif isinstance(dtype, pd.IntervalDtype):
        walk.named("python:pandas.interval", value.closed, value.left, value.right)
    elif isinstance(dtype, pd.SparseDtype):
        walk.named("python:pandas.sparse", str(dtype), len(value), value.fill_value, value.sp_values,
                   np.asarray(value.sp_index.indices if hasattr(value.sp_index, "indices")
                              else value.sp_index.to_int_index().indices))
    elif hasattr(dtype, "numpy_dtype") and hasattr(value, "_mask"):
        missing = np.asarray(value.isna())
        walk.key.begin_named("python:pandas.masked")
        walk.key.add(str(dtype))
        add_array(walk, missing)
        # What lies under a mask is not the array's.
        add_array(walk, value.to_numpy(dtype=dtype.numpy_dtype, na_value=0) if missing.any()
                  else np.asarray(value._data))
        walk.key.end()
    elif hasattr(value, "__arrow_array__") and type(value).__name__.startswith("Arrow"):
        walk.named("python:pandas.arrow", f"{type(value).__name__} {dtype!r}", value.__arrow_array__())
    else:
        walk.named("python:pandas.elements", f"{key_name(type(value))} {dtype!r}", list(value))


# ---- polars


def _add_polars(walk: Walk, value: Any, pl: Any) -> bool:
    if isinstance(value, pl.DataFrame):
        walk.key.begin_named("python:polars.DataFrame")
        walk.key.add(value.shape)
        for column in value.get_columns():
            _polars_series(walk, column, pl)
        walk.key.end()
    elif isinstance(value, pl.Series):
        _polars_series(walk, value, pl)
    elif isinstance(value, pl.LazyFrame):
        raise Unkeyable(value, "a LazyFrame has no data yet: pass what .collect() returns")
    elif isinstance(value, pl.DataType) or isinstance(value, type) and issubclass(value, pl.DataType):
        walk.named("python:polars.DataType", repr(value))
    elif isinstance(value, pl.Schema if hasattr(pl, "Schema") else ()):
        walk.named("python:polars.Schema", [(name, repr(kind)) for name, kind in value.items()])
    else:
        return False
    return True


def _polars_series(walk: Walk, value: Any, pl: Any) -> None:
    walk.key.begin_named("python:polars.Series")
    walk.key.add((value.name, repr(value.dtype)))
    try:
        if value.dtype == pl.Object:
            walk.key.add(value.to_list())
        else:
            walk.key.add(value.to_arrow())
    except Unkeyable as e:
        e.where.append(value.name)
        raise
    walk.key.end()
