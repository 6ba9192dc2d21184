# SPDX-License-Identifier: MIT
"""pandas: the arrays that frames, series and indexes are made of.

`plain()` is what to write for the values of a block: numpy's arrays as they are, times as numpy's own type of times,
and pandas' own arrays by `reduce()`. Sparse arrays and those of other packages are left to pickle.
"""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd

from ._blob import fields, flag, need, text

TIMES = "python:pandas.DatetimeArray"
SPANS = "python:pandas.TimedeltaArray"
PERIODS = "python:pandas.PeriodArray"
INTERVALS = "python:pandas.IntervalArray"
CATEGORICAL = "python:pandas.Categorical"
MASKED = "python:pandas.MaskedArray"
STRINGS = "python:pandas.StringArray"
ARROW = "python:pandas.ArrowExtensionArray"

_FEW = 64  # up to here a list of texts is less than an array of Arrow's


def version() -> tuple[int, ...]:
    """pandas' own version, as far as it is numbers."""
    return tuple(int(part) for part in pd.__version__.split(".")[:2] if part.isdigit())


def later(major: int, minor: int = 0) -> bool:
    """Whether this pandas is of that version or a later one."""
    return version() >= (major, minor)


# ---- time zones

def tz_told(tz: Any) -> Any:
    """A time zone: by its name, or by its distance from UTC; others as the codec writes them."""
    module = type(tz).__module__.partition(".")[0]
    if module == "pytz" and isinstance(getattr(tz, "zone", None), str):
        return ["pytz", tz.zone]
    if module == "zoneinfo" and isinstance(getattr(tz, "key", None), str):
        return ["zoneinfo", tz.key]
    if type(tz) is datetime.timezone:
        offset = tz.utcoffset(None)
        named = datetime.timezone(offset).tzname(None) != tz.tzname(None)
        return ["fixed", offset // datetime.timedelta(microseconds=1), tz.tzname(None) if named else None]
    return tz


def tz_made(told: Any) -> Any:
    """The time zone again."""
    if type(told) is not list:
        need(told is None or isinstance(told, datetime.tzinfo), "no time zone")
        return told
    need(len(told) > 1 and told[0] in ("pytz", "zoneinfo", "fixed"), "no time zone")
    if told[0] == "fixed":
        _, offset, name = fields(told, 3)
        need(type(offset) is int and (name is None or type(name) is str), "no time zone")
        if offset == 0 and name is None:
            return datetime.timezone.utc
        distance = datetime.timedelta(microseconds=offset)
        return datetime.timezone(distance) if name is None else datetime.timezone(distance, name)
    _, name = fields(told, 2)
    if told[0] == "pytz":
        import pytz

        return pytz.timezone(text(name))
    import zoneinfo

    return zoneinfo.ZoneInfo(text(name))


# ---- times

def numbers(values: Any) -> np.ndarray:
    """The times of an array of pandas' as numpy's own type has them, without copying."""
    raw = getattr(values, "_ndarray", None)
    if raw is None:
        raw = values._data
    return raw


def freq_told(freq: Any) -> tuple[bool, str | None]:
    """Whether a frequency can be told as text, and that text."""
    if freq is None:
        return True, None
    try:
        told = freq.freqstr
        return pd.tseries.frequencies.to_offset(told) == freq, told
    except (ValueError, AttributeError):
        return False, None


def _reduce_times(values: Any) -> tuple[str, Any] | None:
    known, freq = freq_told(getattr(values, "_freq", None))
    return (TIMES, [numbers(values), tz_told(values.tz), freq]) if known else None


def _reduce_spans(values: Any) -> tuple[str, Any] | None:
    known, freq = freq_told(getattr(values, "_freq", None))
    return (SPANS, [numbers(values), freq]) if known else None


def _array(value: Any, kinds: str) -> np.ndarray:
    need(type(value) is np.ndarray and value.dtype.kind in kinds and value.dtype.isnative, "an array expected")
    return value


def _time_array(value: Any, kind: str) -> np.ndarray:
    unit = np.datetime_data(_array(value, kind).dtype)
    need(unit[1] == 1 and unit[0] in (("s", "ms", "us", "ns") if later(2) else ("ns",)), "a unit that pandas has not")
    return value


def with_freq(values: Any, told: Any) -> Any:
    """Gives an array of times, or an index, the frequency that it was told with. Not by pandas' own ways, which look at
    every element. The arrays had it until pandas 3, since then the indexes have."""
    if told is not None:
        inner = getattr(values, "_data", None)
        holder = inner if isinstance(inner, pd.api.extensions.ExtensionArray) else values
        (holder if hasattr(holder, "_freq") else values)._freq = pd.tseries.frequencies.to_offset(text(told))
    return values


def _make_times(state: Any) -> Any:
    raw, tz, freq = fields(state, 3)
    _time_array(raw, "M")
    zone = tz_made(tz)
    dtype = raw.dtype if zone is None else pd.DatetimeTZDtype(np.datetime_data(raw.dtype)[0], zone)
    # The public ways take numbers for times of the wall.
    return with_freq(pd.arrays.DatetimeArray._simple_new(raw, dtype=dtype), freq)


def _make_spans(state: Any) -> Any:
    raw, freq = fields(state, 2)
    _time_array(raw, "m")
    return with_freq(pd.arrays.TimedeltaArray._simple_new(raw, dtype=raw.dtype), freq)


def _reduce_periods(values: Any) -> tuple[str, Any] | None:
    told = str(values.dtype)  # "period[M]"
    freq = told[len("period["):-1]
    known = told == f"period[{freq}]" and pd.PeriodDtype(freq) == values.dtype
    return (PERIODS, [numbers(values), freq]) if known else None


def _make_periods(state: Any) -> Any:
    raw, freq = fields(state, 2)
    need(_array(raw, "i").dtype == np.int64, "no ordinals of periods")
    return pd.arrays.PeriodArray(raw, dtype=pd.PeriodDtype(text(freq)), copy=False)


# ---- intervals, categories

def _reduce_intervals(values: Any) -> tuple[str, Any] | None:
    return INTERVALS, [values.left, values.right, text(values.closed)]


def _make_intervals(state: Any) -> Any:
    left, right, closed = fields(state, 3)
    need(isinstance(left, pd.Index) and isinstance(right, pd.Index) and left.dtype == right.dtype, "no intervals")
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=text(closed), copy=False)


def _reduce_categorical(values: Any) -> tuple[str, Any] | None:
    return CATEGORICAL, [numbers_of_codes(values.codes), values.categories, bool(values.ordered)]


def numbers_of_codes(codes: np.ndarray) -> np.ndarray:
    """Codes, which pandas shows as a view that may not be written to."""
    return codes.view(np.ndarray)


def _make_categorical(state: Any) -> Any:
    codes, categories, ordered = fields(state, 3)
    _array(codes, "i")
    need(codes.ndim in (1, 2) and isinstance(categories, pd.Index), "no categories")
    # from_codes() checks that each code has a category: pandas' own loops look without asking.
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, flag(ordered)))


# ---- arrays with a mask

_MASKED = {name: getattr(pd.arrays, name) for name in ("IntegerArray", "BooleanArray", "FloatingArray")
           if hasattr(pd.arrays, name)}
_MASKED_KINDS = {"IntegerArray": "iu", "BooleanArray": "b", "FloatingArray": "f"}


def _reduce_masked(values: Any) -> tuple[str, Any]:
    return MASKED, [type(values).__name__, values._data, values._mask]


def _make_masked(state: Any) -> Any:
    name, data, mask = fields(state, 3)
    need(type(name) is str and name in _MASKED, "no array with a mask")
    _array(data, _MASKED_KINDS[name])
    need(_array(mask, "b").shape == data.shape and data.ndim in (1, 2), "a mask that does not fit")
    return _MASKED[name](data, mask, copy=False)


# ---- texts, arrays of Arrow's

def chunked(values: Any) -> Any:
    """The array of Arrow's in an array of pandas'."""
    for field in ("_pa_array", "_data"):
        found = getattr(values, field, None)
        if type(found).__name__ == "ChunkedArray":
            return found
    return None


def _reduce_strings(values: Any) -> tuple[str, Any] | None:
    dtype = values.dtype
    storage = getattr(dtype, "storage", "python")
    missing = "nan" if getattr(dtype, "na_value", pd.NA) is not pd.NA else "NA"
    if type(values) is not dtype.construct_array_type() or storage not in ("python", "pyarrow"):
        return None
    if storage == "python":
        return STRINGS, [storage, missing, numbers(values)]
    data = chunked(values)
    if data is None:
        return None
    if len(data) <= _FEW:
        return STRINGS, [storage, missing, data.to_pylist()]
    return STRINGS, [storage, missing, _joined(data)]


def _joined(data: Any) -> Any:
    """As one piece, where it is in many, as what reads files leaves it: each has a cost at every hit, and which there are
    means nothing to pandas."""
    if data.num_chunks <= 1:
        return data
    import pyarrow as pa

    whole = data.combine_chunks()
    return whole if isinstance(whole, pa.ChunkedArray) else pa.chunked_array([whole], type=data.type)


def _string_dtype(storage: Any, missing: Any) -> Any:
    need(storage in ("python", "pyarrow") and missing in ("nan", "NA"), "no type of texts")
    if missing == "nan":
        return pd.StringDtype(storage, na_value=np.nan)
    return pd.StringDtype(storage) if hasattr(pd.StringDtype("python"), "storage") else pd.StringDtype()


def _make_strings(state: Any) -> Any:
    storage, missing, values = fields(state, 3)
    dtype = _string_dtype(storage, missing)
    if type(values) is list:
        need(all(value is None or type(value) is str for value in values), "texts expected")
        return pd.array(np.array(values, dtype=object), dtype=dtype)
    if storage == "python":
        need(type(values) is np.ndarray and values.dtype == object and values.ndim in (1, 2), "texts expected")
        return pd.array(values, dtype=dtype, copy=False)
    need(type(values).__name__ == "ChunkedArray", "texts of Arrow's expected")
    made = _strings_of_arrow(dtype, values)
    need(made.dtype == dtype, "texts of another type")
    return made


def _strings_of_arrow(dtype: Any, values: Any) -> Any:
    kind = dtype.construct_array_type()
    try:
        return kind(values, dtype=dtype)
    except TypeError:
        return kind(values)


def _reduce_arrow(values: Any) -> tuple[str, Any] | None:
    data = chunked(values)
    return None if data is None else (ARROW, [data])


def _make_arrow(state: Any) -> Any:
    (data,) = fields(state, 1)
    need(type(data).__name__ == "ChunkedArray", "an array of Arrow's expected")
    return pd.arrays.ArrowExtensionArray(data)


# ---- all of them

_REDUCERS: dict[type, Any] = {
    pd.arrays.DatetimeArray: _reduce_times,
    pd.arrays.TimedeltaArray: _reduce_spans,
    pd.arrays.PeriodArray: _reduce_periods,
    pd.arrays.IntervalArray: _reduce_intervals,
    pd.Categorical: _reduce_categorical,
    **{kind: _reduce_masked for kind in _MASKED.values()},
}
if hasattr(pd.arrays, "ArrowExtensionArray"):
    _REDUCERS[pd.arrays.ArrowExtensionArray] = _reduce_arrow

# What pandas wraps numpy's arrays in for show.
_WRAPPERS = tuple(getattr(pd.arrays, name) for name in ("PandasArray", "NumpyExtensionArray") if name in dir(pd.arrays))


def reduce(values: Any) -> tuple[str, Any] | None:
    """What an array of pandas' own is made of."""
    reducer = _REDUCERS.get(type(values))
    if reducer is not None:
        return reducer(values)
    if (isinstance(values, pd.api.extensions.ExtensionArray)
            and isinstance(getattr(values, "dtype", None), pd.StringDtype)):
        return _reduce_strings(values)
    return None


def plain(values: Any) -> Any:
    """What to write for the values of a block. None: they cannot be told."""
    if type(values) is np.ndarray:
        return values
    if type(values) in (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray) and getattr(values, "tz", None) is None:
        return numbers(values)
    if type(values) in _WRAPPERS or not isinstance(values, pd.api.extensions.ExtensionArray):
        return None
    # Of another package: the codec pickles it, and the rest of the frame stays as it is.
    return values


def made(values: Any) -> Any:
    """The values of a block, of what was written."""
    need(isinstance(values, (np.ndarray, pd.api.extensions.ExtensionArray)), "values that are no array")
    if type(values) is np.ndarray:
        need(values.dtype.kind in "biufcO" or values.dtype.kind in "mM", "an array that no frame holds")
        if values.dtype.kind in "mM":
            _time_array(values, values.dtype.kind)
    return values


MAKERS = {
    TIMES: _make_times,
    SPANS: _make_spans,
    PERIODS: _make_periods,
    INTERVALS: _make_intervals,
    CATEGORICAL: _make_categorical,
    MASKED: _make_masked,
    STRINGS: _make_strings,
    ARROW: _make_arrow,
}
