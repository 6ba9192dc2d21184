# SPDX-License-Identifier: MIT
"""States that no writer of ours made: each is refused with a ValueError, and what is not refused can be used."""

import random

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from apart import read, stored  # noqa: E402
from cached import CorruptValueError, _frames  # noqa: E402

ROUNDS = 400
HUGE = 2**62


def memory(n):
    return memoryview(bytearray(n))


def refuse(name, *states):
    for state in states:
        with pytest.raises(ValueError):
            _frames.rebuild(f"python:{name}", state)


def test_names():
    for name in (
        "",
        "array",
        "python:",
        "python:os.system",
        "python:numpy.",
        "python:numpy.array.x",
        "python:pandas.read_pickle",
    ):
        with pytest.raises(ValueError):
            _frames.rebuild(name, [])


def test_a_library_that_is_not_there_is_a_value_error(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "cached._images", raising=False)
    refuse("PIL.Image", [])


@pytest.mark.parametrize(
    "dtype",
    [
        "O",
        "|O",
        "<O8",
        "object",
        "f8,O",
        "(2,)O",
        "f8",
        "x",
        "",
        "<f0",
        "<U0",
        "|V0",
        "<f3",
        "<U99999999999",
        "|T16",
        "M8[x]",
        ">O",
        None,
        3,
        ["sub", "|O", [2]],
        ["sub", "<f8", [-1]],
        ["sub", "<f8", [HUGE]],
        ["sub", "<f8", [2**40]],
        ["fields", ["a"], ["|O"], [0], [None], 8, False, False],
        ["fields", ["a"], ["<f8"], [4], [None], 8, False, False],
        ["fields", ["a"], ["<f8"], [-8], [None], 8, False, False],
        ["fields", ["a"], ["<f8"], [0], [None], HUGE, False, False],
        ["fields", ["a", "a"], ["<f8"] * 2, [0, 8], [None] * 2, 16, False, False],
        ["fields"],
        [],
        {},
        ["fields", 1, 2, 3, 4, 5, 6, 7],
    ],
)
def test_types_of_arrays(dtype):
    refuse("numpy.array", [dtype, [1], "C", memory(8)])
    refuse("numpy.scalar", [dtype, b"12345678"])
    deep = "<f8"
    for _ in range(5000):
        deep = ["sub", deep, [1]]
    refuse("numpy.array", [deep, [1], "C", memory(8)])


def test_arrays():
    for shape in ([2], [-1], [HUGE, 4], [2**32, 2**32], [0], [1.0], [True], "1", None, [1] * 100, [1, HUGE], [HUGE, 0]):
        refuse("numpy.array", ["<f8", shape, "C", memory(8)])
    refuse(
        "numpy.array",
        ["<f8", [1], "A", memory(8)],
        ["<f8", [1], "C", memory(7)],
        ["<f8", [1], "C", b"12345678"],
        ["<f8", [1], "C", None],
        ["<f8", [1], "C", memory(16)[::2]],
        ["<f8", [1], "C"],
        None,
        {},
        5,
        ["<f8", [1], ["C"], memory(8)],
    )
    refuse("numpy.objects", [[2], "C", [1]], [[-1], "C", []], [[1], "X", [1]], [[1], "C", memory(8)], [[HUGE], "C", []])
    codes = memoryview(np.array([0, 1], "i4").tobytes()), memoryview(np.array([0, 1, 2], "i8").tobytes())
    for bad in (
        [1, codes[0], codes[1][:16], memory(1)],
        [2, codes[0], codes[1], memory(3)],
        [2, codes[0][:4], codes[1], memory(2)],
        [HUGE, *codes, memory(2)],
        [2, memoryview(np.array([0, -9], "i4").tobytes()), codes[1], memory(2)],
        [2, memoryview(np.array([0, 2], "i4").tobytes()), codes[1], memory(2)],
        [2, codes[0], memoryview(np.array([0, 9, 2], "i8").tobytes()), memory(2)],
        [2, codes[0], codes[1], memoryview(b"\xff\xff")],
    ):
        refuse("numpy.texts", [[2], "C", bad])
    refuse(
        "numpy.masked",
        [np.zeros(3), np.zeros(2, bool), None, False],
        [np.zeros(3), np.zeros(3), None, False],
        [3, None, None, False],
    )


def test_frames():
    columns, index, block = pd.Index(["a", "b"]), pd.RangeIndex(3), np.zeros((2, 3))
    good = [columns, index, [[["slice", 0, 2, 1], block]], {}, True]
    assert _frames.rebuild("python:pandas.DataFrame", good).shape == (2, 3)[::-1]
    for places in (
        ["slice", 0, 1, 1],
        ["slice", 0, 3, 1],
        ["slice", -1, 2, 1],
        ["slice", 0, 2, 0],
        ["slice", 0, HUGE, 1],
        ["each", [0, 0]],
        ["each", [0, 2]],
        ["each", [0, -1]],
        ["each", [True, 0]],
        [],
        None,
        ["slice"],
    ):
        refuse("pandas.DataFrame", [columns, index, [[places, block]], {}, True])
    for values in (
        np.zeros((2, 2)),
        np.zeros((3, 2)),
        np.zeros(3),
        np.zeros((2, 3, 1)),
        np.zeros((2, 3), "U3"),
        None,
        [1, 2],
        np.zeros((2, 3), [("a", "f8")]),
        np.zeros((2, 3), "M8[D]"),
        pd.array([1, 2, 3]),
        pd.RangeIndex(3),
    ):
        refuse("pandas.DataFrame", [columns, index, [[["slice", 0, 2, 1], values]], {}, True])
    refuse(
        "pandas.DataFrame",
        [columns, index, [], {}, True],
        [columns, None, good[2], {}, True],
        [["a"], index, good[2], {}, True],
        [columns, index, good[2] * 2, {}, True],
        [columns, index, good[2], None, True],
        [columns, index, good[2], {}, 1],
        [pd.Index(["a", "a"]), index, good[2], {}, False],
    )
    refuse(
        "pandas.Series",
        [np.zeros(2), index, None, {}, True],
        [np.zeros((3, 3)), index, None, {}, True],
        [np.zeros(3), index, [], {}, True],
    )


def test_codes_without_labels():
    labels = pd.Index(["a", "b"])
    for codes in ([2], [-2], [127, 0]):
        refuse("pandas.Categorical", [np.array(codes, "i1"), labels, False])
        refuse("pandas.MultiIndex", [[labels], [np.array(codes, "i1")], [None], None])
    refuse(
        "pandas.Categorical",
        [np.array([0.5]), labels, False],
        [np.array([0]), ["a"], False],
        [np.array([0]), pd.Index(["a", "a"]), False],
    )
    refuse(
        "pandas.MultiIndex",
        [[labels, labels], [np.array([0]), np.array([0, 1])], [None, None], None],
        [[], [], [], None],
        [[labels], [np.array([0])], [None], HUGE],
        [[labels], [np.array([[0]])], [None], None],
    )


def test_other_arrays():
    refuse(
        "pandas.MaskedArray",
        ["IntegerArray", np.zeros(3, int), np.zeros(2, bool)],
        ["IntegerArray", np.zeros(3), np.zeros(3, bool)],
        ["BooleanArray", np.zeros(3, int), np.zeros(3, bool)],
        ["eval", np.zeros(3, int), np.zeros(3, bool)],
    )
    refuse(
        "pandas.DatetimeArray",
        [np.zeros(3), None, None],
        [np.zeros(3, "M8[D]"), None, None],
        [np.zeros(3, "M8[ns]"), "x", None],
        [np.zeros(3, "M8[ns]"), ["pytz", "../../x"], None],
        [np.zeros(3, "M8[ns]"), ["zoneinfo", "../../etc/passwd"], None],
        [np.zeros(3, "M8[ns]"), None, "nonsense"],
        [np.zeros(3, ">M8[ns]"), None, None],
    )
    refuse("pandas.PeriodArray", [np.zeros(3), "M"], [np.zeros(3, int), "nonsense"])
    refuse(
        "pandas.Index",
        ["DatetimeIndex", np.zeros(3), None, None],
        ["eval", np.zeros(3), None, None],
        ["Index", np.zeros((2, 2)), None, None],
        ["Index", np.zeros(3), [], None],
        ["objects", 3, None, None],
        ["DatetimeIndex", pd.array([1, 2]), None, None],
    )
    refuse("pandas.RangeIndex", [0, 3, 0, None], [0, 2**70, 1, None], [0, 1.5, 1, None])
    refuse(
        "pandas.StringArray",
        ["python", "NA", np.zeros(3)],
        ["disk", "NA", []],
        ["pyarrow", "nan", [1]],
        ["pyarrow", "NA", np.zeros(3)],
    )
    refuse("pandas.Timestamp", [2**70, "ns", None], [0, "D", None], [-(2**63), "ns", None], [0, "ns", "Berlin"])


def test_arrow():
    schema = {
        kind: pa.schema([pa.field("", kind)]).serialize().to_pybytes()
        for kind in (pa.int64(), pa.string(), pa.dictionary(pa.int8(), pa.string()), pa.list_(pa.int8()))
    }
    refuse(
        "pyarrow.Array",
        [b"", []],
        [b"x" * 64, []],
        ["x", []],
        [schema[pa.int64()][:-9], ["buffers", 1, None, memory(8)]],
    )
    for bad in (
        ["buffers", 2, None, memory(8)],
        ["buffers", HUGE, None, memory(8)],
        ["buffers", -1, None, memory(8)],
        ["buffers", 1, memory(2), memory(8)],
        ["buffers", 1, None],
        ["stream", 1, memory(64)],
        ["extension", ["buffers", 1, None, memory(8)]],
        [],
        None,
        ["dictionary", [], []],
    ):
        refuse("pyarrow.Array", [schema[pa.int64()], bad])
    for offsets in ([0, 9], [0, -1], [-4, 2], [5, 2], [0, 2**31 - 1]):
        refuse(
            "pyarrow.Array",
            [schema[pa.string()], ["buffers", 1, None, memoryview(np.array(offsets, "i4").tobytes()), memory(4)]],
        )
    words = ["buffers", 1, None, memoryview(np.array([0, 1], "i4").tobytes()), memory(1)]
    for code in (1, -1, 127):
        refuse(
            "pyarrow.Array",
            [
                schema[pa.dictionary(pa.int8(), pa.string())],
                ["dictionary", ["buffers", 1, None, memoryview(np.array([code], "i1").tobytes())], words],
            ],
        )
    refuse("pyarrow.Array", [schema[pa.list_(pa.int8())], ["buffers", 1, None, memory(8)]])
    code = (
        pa.schema([pa.field("", pa.int64(), metadata={"ARROW:extension:name": "arrow.py_extension_type"})])
        .serialize()
        .to_pybytes()
    )
    refuse("pyarrow.Array", [code, ["buffers", 1, None, memory(8)]])
    two = pa.schema([("a", pa.int64()), ("b", pa.int64())]).serialize().to_pybytes()
    refuse("pyarrow.RecordBatch", [two, [["buffers", 1, None, memory(8)], ["buffers", 2, None, memory(16)]]], [two, []])
    refuse("pyarrow.Table", [two, [[["buffers", 1, None, memory(8)]], [["buffers", 2, None, memory(16)]]]], [two, [[]]])


def test_images():
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    refuse(
        "PIL.Image",
        ["RGB", [2, 2], {}, None, memory(11)],
        ["RGB", [HUGE, 2], {}, None, memory(12)],
        ["RGB", [0, HUGE], {}, None, None],
        ["BGR;15", [2, 2], {}, None, memory(8)],
        ["RGB", [2, 2], [], None, memory(12)],
        ["RGB", [2, 2], {}, ["RGB", b""], memory(12)],
        ["P", [2, 2], {}, ["RGB", b"x" * 4000], memory(4)],
        ["P", [2, 2], {}, ["X", b"abc"], memory(4)],
        ["RGB", [-2, -2], {}, None, memory(12)],
    )


# ---- bytes that were changed in some place


def values():
    frame = pd.DataFrame(
        {
            "n": np.arange(50.0),
            "i": np.arange(50),
            "t": pd.Series(["a", "bc", None] * 16 + ["x", "y"], dtype=object),
            "s": ["text", "longer text"] * 25,
            "c": pd.Categorical(["u", "v"] * 25),
            "d": pd.date_range("2020", periods=50, tz="UTC"),
            "k": pd.array([1, None] * 25, dtype="Int64"),
            "p": pd.period_range("2020", periods=50, freq="D"),
        }
    )
    table = pa.table(
        {
            "n": [1, None, 3],
            "t": ["a", "bc", None],
            "d": pa.array(["x", "y", "x"]).dictionary_encode(),
            "l": [[1], [], None],
            "v": pa.array(["a" * 20, "b", None], pa.string_view()),
        }
    )
    return {
        "array": np.arange(12.0).reshape(3, 4),
        "fields": np.zeros(3, [("a", "f8"), ("b", "U3")]),
        "frame": frame,
        "levels": frame.set_index(["t", "c", "d"]),
        "masked": np.ma.array([1, 2, 3], mask=[0, 1, 0]),
        "table": table,
    }


def use(value):
    """Looks at each element."""
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
        if len(value) < 10_000:
            repr(value.to_dict() if isinstance(value, pd.DataFrame) and value.columns.is_unique else list(value))
    elif isinstance(value, np.ndarray):
        if value.size < 100_000:
            repr(value.tolist())
    elif isinstance(value, pa.Table):
        value.validate(full=True)
        try:
            repr(value.to_pylist())
        except (ValueError, OverflowError):
            pass  # a time that Python has not


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["array", "fields", "frame", "levels", "masked", "table"])
def test_changed_bytes(name):
    if name == "table" and int(pa.__version__.split(".")[0]) < 22:
        pytest.skip(f"pyarrow {pa.__version__} ends the process at a stream that claims more than there is memory")
    flags, data = stored(values()[name])
    use(read(flags, data))
    chance = random.Random(name)
    refused = 0
    for _ in range(ROUNDS):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            where = chance.randrange(len(changed))
            changed[where] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, changed[where] ^ 1 << chance.randrange(8)))
        try:
            value = read(flags, changed)
        except CorruptValueError:
            refused += 1
            continue
        try:
            use(value)
        except (ValueError, TypeError, OverflowError, KeyError, NotImplementedError):
            pass  # pandas' own words for times that are none, and labels of mixed types
    assert 0 < refused < ROUNDS
