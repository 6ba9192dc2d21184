# SPDX-License-Identifier: MIT
"""Arrays and scalars of numpy as they are stored: equal in value, type and layout, without pickle."""

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")

from apart import again, read, stored  # noqa: E402


def check(array):
    made = again(array)
    assert type(made) is np.ndarray
    assert made.dtype == array.dtype and made.dtype.isalignedstruct == array.dtype.isalignedstruct
    assert made.shape == array.shape
    assert repr(made.tolist()) == repr(array.tolist())
    assert made.flags.writeable and (made.size == 0 or made.flags.f_contiguous or made.flags.c_contiguous)
    return made


@pytest.mark.parametrize(
    "code",
    list("?bhilqBHILQefdgFDG")
    + [">f8", ">i2", ">c16", "<U5", ">U2", "S3", "V7", "M8[ns]", "m8[D]", "M8[25s]", ">M8[us]", "M8"],
)
def test_types(code):
    array = np.zeros((2, 3), code) if code[-1] == "]" or code[0] in "MV" else np.arange(6).astype(code).reshape(2, 3)
    check(array)


@pytest.mark.parametrize(
    "dtype",
    [
        [("a", "f8"), ("b", "i4", (2, 2)), ("c", [("x", "u1"), ("y", "U3")])],
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "f4"], "offsets": [4, 12], "itemsize": 32}),
        np.dtype([(("title", "a"), "f8")]),
        np.dtype((np.record, [("a", "f8"), ("b", "S2")])),
    ],
)
def test_structured(dtype):
    array = np.zeros(3, dtype)
    array[array.dtype.names[0]] = 5
    made = check(array)
    assert made.dtype.type is array.dtype.type and made.dtype.fields == array.dtype.fields


def test_shapes():
    for array in (
        np.array(3.5),
        np.zeros((0, 3)),
        np.zeros((2, 0, 4), "U3"),
        np.zeros(0, object),
        np.array(None),
        np.arange(24.0)[::3],
        np.arange(24).reshape(2, 3, 4)[:, ::-1].T,
        np.broadcast_to(np.int8(7), (3, 3)),
    ):
        check(array)
    made = check(np.asfortranarray(np.arange(12.0).reshape(3, 4)))
    assert made.flags.f_contiguous and not made.flags.c_contiguous
    frozen = np.arange(3)
    frozen.flags.writeable = False
    check(frozen)


def test_nothing_is_copied_either_way():
    """The array's own memory is what is stored, and the stored memory is the array's."""
    from cached import _values

    array = np.arange(1000.0)
    encoded = _values.dumps(array)
    array[500] = -1
    data = bytearray(encoded.join())
    made = _values.loads(memoryview(data), unpickle=False, flags=encoded.flags)
    assert made[500] == -1
    held = np.frombuffer(data, np.uint8)
    assert np.shares_memory(made, held)
    made[3] = 77
    assert _values.loads(memoryview(data), unpickle=False, flags=encoded.flags)[3] == 77


def test_objects_by_element():
    inner = np.arange(3)
    array = np.array([1, None, [1, 2], "a", {"k": 2.5}, inner, (4,), np.float32(2)], dtype=object)
    made = again(array)
    assert made.dtype == object and [type(a) for a in made] == [type(b) for b in array]
    assert made[5].tolist() == [0, 1, 2] and made[5].dtype == inner.dtype
    lists = np.empty(2, object)
    lists[:] = [[1, 2], [3, 4]]
    made = again(lists)
    assert made.shape == (2,) and made.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "values",
    [
        ["a", "é", "", "日本", "x" * 1000] * 20,
        [f"distinct {i}" for i in range(100)],
        ["a", None, float("nan")] * 30,
        ["halves \ud800"] * 50,
        ["a", 1.5] * 50,
        ["a", True] * 50,
    ],
)
def test_texts(values):
    array = np.array(values, dtype=object)
    made = check(array)
    assert [type(a) for a in made] == [type(b) for b in array]
    check(np.array([values, values], dtype=object))
    check(np.asfortranarray(np.array([values, values], dtype=object)))


def test_a_subclass_of_text_stays_one():
    array = np.array([np.str_("a"), "b"] * 50, dtype=object)
    assert [type(a) for a in again(array)] == [np.str_, str] * 50


def test_masked():
    for array in (
        np.ma.array([1, 2, 3], mask=[0, 1, 0], fill_value=7),
        np.ma.array([1.0, 2.0]),
        np.ma.array([[1, 2], [3, 4]], mask=True, hard_mask=True),
    ):
        made = again(array)
        assert type(made) is np.ma.MaskedArray and made.dtype == array.dtype
        assert made.tolist() == array.tolist() and made.fill_value == array.fill_value
        assert (made.mask is np.ma.nomask) == (array.mask is np.ma.nomask) and made.hardmask == array.hardmask


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1),
        np.float16(0.5),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("ab\0"),
        np.bytes_(b"x\0"),
        np.datetime64("2020-01-01"),
        np.datetime64("NaT"),
        np.timedelta64(3, "h"),
        np.complex64(1 + 2j),
        np.longdouble("0.1"),
        np.zeros(1, [("a", "i4")])[0],
        np.float64("nan"),
        np.array([2.5], ">f8")[0],
        np.void(b"abc"),
    ],
)
def test_scalars(value):
    made = again(value)
    assert type(made) is type(value) and repr(made) == repr(value)
    assert made.dtype == value.dtype and made.tobytes() == value.tobytes()


def test_types_themselves():
    for dtype in (np.dtype("f8"), np.dtype([("a", "f8")]), np.dtype(object)):
        made = again(dtype)
        assert made == dtype


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_subclasses_are_pickled():
    from cached import UnserializableReturnValueError

    value = np.matrix([[1, 2]])
    with pytest.raises(UnserializableReturnValueError):
        stored(value)
    made = again(value, pickle=True)
    assert type(made) is np.matrix and (made == value).all()


def test_objects_within_fields_are_pickled():
    array = np.array([(1, "a")], dtype=[("x", "i4"), ("y", object)])
    made = again(array, pickle=True)
    assert made.dtype == array.dtype and made.tolist() == array.tolist()


def test_memmap_is_stored_as_what_it_holds(tmp_path):
    window = np.memmap(tmp_path / "file", "f8", "w+", shape=(3, 4))
    window[1] = 5
    made = again(window)
    (tmp_path / "file").unlink()
    assert type(made) is np.ndarray and made.tolist() == window.tolist()


def test_containers():
    value = {"a": np.arange(3), 2: [np.float32(1), (np.zeros((2, 2)), None)]}
    made = again(value)
    assert made["a"].tolist() == [0, 1, 2] and type(made[2][0]) is np.float32 and made[2][1][0].shape == (2, 2)
    flags, data = stored(value)
    assert read(flags, data)["a"].tolist() == [0, 1, 2]
