# SPDX-License-Identifier: MIT
"""Frames, series and indexes of pandas as they are stored: equal in all that pandas tells, without pickle."""

import datetime
import zoneinfo

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from apart import again  # noqa: E402

N = 5
# Times have a unit since pandas 2.
UNITS = ("s", "ms", "us", "ns") if hasattr(pd.Timestamp, "as_unit") else ()


def columns():
    return {
        "int": np.arange(N),
        "float": np.arange(N) * 0.5,
        "small": np.arange(N, dtype="i1"),
        "bool": [True, False] * 2 + [True],
        "float32": np.arange(N, dtype="f4"),
        "complex": np.arange(N) * 1j,
        "text": list("abcde"),
        "day": pd.date_range("2020", periods=N),
        "zone": pd.date_range("2020", periods=N, tz="Europe/Berlin"),
        "utc": pd.date_range("2020", periods=N, tz="UTC"),
        "span": pd.to_timedelta(range(N), "h"),
        "fixed": pd.date_range("2020", periods=N, tz=datetime.timezone(datetime.timedelta(hours=3))),
        "seconds": np.arange(N).astype("M8[s]"),
        "period": pd.period_range("2020", periods=N, freq="M"),
        "category": pd.Categorical(list("abab") + [None]),
        "ordered": pd.Categorical([3, 1, 2, 3, 1], ordered=True),
        "Int64": pd.array([1, None, 2, 3, 4], dtype="Int64"),
        "UInt8": pd.array([1, None, 2, 3, 4], dtype="UInt8"),
        "boolean": pd.array([True, None] * 2 + [False], dtype="boolean"),
        "Float64": pd.array([1.5, None] * 2 + [2], dtype="Float64"),
        "string": pd.array(["a", None] * 2 + ["b"], dtype="string"),
        "python": pd.array(["a", None] * 2 + ["b"], dtype="string[python]"),
        "interval": pd.arrays.IntervalArray.from_breaks(range(N + 1)),
        "object": pd.Series([1, "a", None, 2.5, (1, 2)], dtype=object),
        "texts": pd.Series(["a", None, "b", np.nan, "c"], dtype=object),
        "missing": pd.Series([pd.NA, pd.NaT, None, np.nan, "c"], dtype=object),
        "stamps": pd.Series(
            [pd.Timestamp("2020"), pd.Timedelta(1, "h"), pd.Timestamp("2020", tz="UTC"), 1, 2], dtype=object
        ),
        "arrow": pd.array([1, None, 2, 3, 4], dtype="int64[pyarrow]"),
        "pyarrow": pd.array(["a", None] * 2 + ["b"], dtype="string[pyarrow]"),
    }


def blocks(frame):
    return [(type(block.values), block.values.dtype, block.values.shape) for block in frame._mgr.blocks]


def check(frame):
    made = again(frame)
    assert type(made) is pd.DataFrame
    pd.testing.assert_frame_equal(made, frame, check_exact=True, check_freq=True, check_flags=True)
    assert blocks(made) == blocks(frame)
    for a, b in ((made.columns, frame.columns), (made.index, frame.index)):
        pd.testing.assert_index_equal(a, b, exact=True, check_exact=True)
        assert type(a) is type(b) and a.dtype == b.dtype and getattr(a, "freq", None) == getattr(b, "freq", None)
    assert made.attrs == frame.attrs and made.flags == frame.flags
    return made


@pytest.mark.parametrize("name", sorted(columns()))
def test_columns(name):
    values = columns()[name]
    series = pd.Series(values, name=name, index=pd.Index([5, 3, 1, 2, 4], name="at"))
    series.attrs = {"unit": "m"}
    made = again(series)
    assert type(made) is pd.Series and made.dtype == series.dtype and made.name == name and made.attrs == {"unit": "m"}
    pd.testing.assert_series_equal(made, series, check_exact=True, check_flags=True)
    assert list(map(type, made)) == list(map(type, series))
    check(pd.DataFrame({name: values}))
    long = pd.concat([series] * 40)
    pd.testing.assert_series_equal(again(long), long, check_exact=True)
    index = pd.Index(values, name=("a", 1))
    made = again(index)
    pd.testing.assert_index_equal(made, index, exact=True, check_exact=True)
    assert type(made) is type(index) and made.dtype == index.dtype and made.name == ("a", 1)


def test_frame_of_all():
    frame = pd.DataFrame(columns())
    check(frame)
    check(frame[frame.columns[::-1]])
    check(frame[:0])
    check(frame[[]])
    check(frame[::2])
    frame.attrs = {"source": {"rows": [1, 2]}}
    frame.flags.allows_duplicate_labels = False
    check(frame)


def test_frames():
    for frame in (
        pd.DataFrame(),
        pd.DataFrame(index=range(3)),
        pd.DataFrame(columns=["a"]),
        pd.DataFrame(np.eye(3)).T,
        pd.DataFrame(np.asfortranarray(np.arange(12.0).reshape(3, 4)), columns=list("abcd")),
        pd.DataFrame(np.eye(2), columns=["x", "x"]),
        pd.DataFrame(np.eye(2), columns=[1, 2.5], index=["a", None]),
        pd.DataFrame(np.eye(2), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["u", None])),
        pd.DataFrame({"a": [1], "b": ["x"], "c": [1.5]}).set_index(["a", "b"]),
        pd.DataFrame({"a": range(N)}, index=pd.date_range("2021", periods=N, freq="D", tz="UTC", name="at")),
        pd.DataFrame({i: np.arange(3) + i for i in range(200)}),
    ):
        check(frame)
    scattered = pd.DataFrame({"a": [1, 2], "b": [1.0, 2], "c": [3, 4], "d": [5.0, 6]})
    scattered["e"] = [7.0, 8]
    scattered.insert(0, "f", [9, 10])
    check(scattered)


def test_indexes():
    for index in (
        pd.RangeIndex(3, 30, 3, name="x"),
        pd.RangeIndex(0),
        pd.Index([]),
        pd.Index(list("abc"), dtype=object),
        pd.Index([1, "a", None], dtype=object),
        pd.Index([(1, 2), (3, 4)], tupleize_cols=False),
        pd.date_range("2020", periods=9, freq="3h"),
        pd.date_range("2020", periods=9, freq="MS", tz="Asia/Tokyo"),
        pd.date_range("2020", periods=4, freq=pd.offsets.BusinessDay(2)),
        pd.DatetimeIndex(["2020", None]),
        pd.timedelta_range("1h", periods=3),
        pd.period_range("2020", periods=3, freq="Q-NOV"),
        pd.CategoricalIndex(list("aab"), name="z", ordered=True),
        pd.interval_range(0, 5, name="i", closed="left"),
        pd.interval_range(pd.Timestamp("2020"), periods=3),
        pd.Index(np.arange(3, dtype="u2")),
        pd.MultiIndex.from_product([["a", "b"], [1, 2], pd.date_range("2020", periods=2)], names=["x", "y", "z"]),
        pd.MultiIndex.from_tuples([("a", 1), (None, 2)]),
        pd.MultiIndex.from_arrays([[], []]),
    ):
        made = again(index)
        assert type(made) is type(index) and made.dtype == index.dtype and list(made.names) == list(index.names)
        pd.testing.assert_index_equal(made, index, exact=True, check_exact=True)
        assert getattr(made, "freq", None) == getattr(index, "freq", None)


def test_categories_nobody_uses_are_kept():
    values = pd.Categorical(["a"], categories=["z", "a", "q"], ordered=True)
    made = again(pd.Series(values))
    assert list(made.cat.categories) == ["z", "a", "q"] and made.cat.ordered
    empty = again(pd.Categorical([], categories=[1, 2]))
    assert list(empty.categories) == [1, 2] and len(empty) == 0


@pytest.mark.parametrize(
    "value",
    [
        *[pd.Timestamp("2020-01-01 01:02:03").as_unit(unit) for unit in UNITS],
        *[pd.Timedelta(3, "h").as_unit(unit) for unit in UNITS],
        pd.Timestamp("2020-10-25 00:30", tz="UTC").tz_convert("Europe/Berlin"),
        pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert(zoneinfo.ZoneInfo("Europe/Berlin")),
    ],
)
def test_scalars(value):
    made = again(value)
    assert type(made) is type(value) and made == value and repr(made) == repr(value)
    assert getattr(made, "unit", 0) == getattr(value, "unit", 0)
    assert getattr(made, "fold", 0) == getattr(value, "fold", 0)


def test_singletons():
    assert again(pd.NA) is pd.NA and again(pd.NaT) is pd.NaT


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_what_is_done_to_one_changes_no_other():
    from cached import _values

    frame = pd.DataFrame({k: np.arange(100.0) for k in "abcd"})
    encoded = _values.dumps(frame, pickle=False)
    data = encoded.join()

    def one():
        return _values.loads(memoryview(bytearray(data)), unpickle=False, flags=encoded.flags)

    first = one()
    first.drop(columns=["a"], inplace=True)
    first["b"] *= 2
    first["new"] = "x"
    first.loc[3, "c"] = -1
    first.sort_values("d", ascending=False, inplace=True)
    first.reset_index(drop=True, inplace=True)
    first.columns = [name.upper() for name in first.columns]
    first.rename(columns={"D": "e"}, inplace=True)
    assert list(first.columns) == ["B", "C", "e", "NEW"] and first["B"][0] == 198
    second = one()
    pd.testing.assert_frame_equal(second, frame)
    second.iloc[:, 0] = 0.0
    pd.testing.assert_frame_equal(one(), frame)
    assert second["a"].sum() == 0


def test_a_frame_of_one_type_is_one_buffer_and_a_view_of_it():
    from cached import _frames, _values

    frame = pd.DataFrame(np.random.default_rng(1).random((1000, 4)), columns=list("abcd"))
    _, (columns, index, parts, *_rest) = _frames.reduce(frame)
    assert len(parts) == 1 and np.shares_memory(parts[0][1], frame._mgr.blocks[0].values)
    encoded = _values.dumps(frame, pickle=False)
    data = bytearray(encoded.join())
    made = _values.loads(memoryview(data), unpickle=False, flags=encoded.flags)
    assert np.shares_memory(made._mgr.blocks[0].values, np.frombuffer(data, np.uint8))
    assert made._mgr.blocks[0].values.flags.writeable


def test_what_has_no_form_of_its_own_is_pickled_alone():
    frame = pd.DataFrame({"a": np.arange(3.0), "b": pd.arrays.SparseArray([0, 0, 1])})
    pd.testing.assert_frame_equal(again(frame, pickle=True), frame)

    class Mine(pd.DataFrame):
        pass

    from cached import _frames

    assert _frames.reduce(Mine({"a": [1]})) is None


@pytest.mark.parametrize("values", [
    ["a", "é", "", "日本"] * 50, [f"distinct é {i}" for i in range(100)], ["a", None] * 50, ["a", None, np.nan] * 50,
    ["halves \ud800"] * 50, [""] * 50,
])
def test_texts_with_and_without_arrow_are_the_same(values, monkeypatch):
    import sys

    from apart import read, stored

    column = np.array(values, dtype=object)
    with_arrow = stored(column)
    assert "pyarrow" in sys.modules
    assert list(map(repr, read(*with_arrow))) == list(map(repr, values))
    monkeypatch.delitem(sys.modules, "pyarrow")
    assert list(map(repr, read(*with_arrow))) == list(map(repr, values))
    without = stored(column)
    monkeypatch.undo()
    assert "pyarrow" in sys.modules
    assert list(map(repr, read(*without))) == list(map(repr, values))
