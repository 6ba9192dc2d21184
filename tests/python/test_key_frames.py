# SPDX-License-Identifier: MIT
"""Keys of arrays and frames: in full, by value, however they lie in memory; and of images."""

import datetime
import json
import os
import pathlib

import pytest

from cached import _keys
from cached._errors import UnhashableParamError

VECTORS = json.loads((pathlib.Path(os.environ["CACHED_PROTO"]) / "key-vectors.json").read_text())["vectors"]


def key(value, **more):
    return _keys.Arguments(lambda value: None, name="f", **more).digest((value,), {})


def differ(*values):
    keys = [key(value) for value in values]
    assert len(set(keys)) == len(values), [i for i in range(len(values)) if keys.index(keys[i]) != i]


def same(*values):
    assert len({key(value) for value in values}) == 1


# ---- NumPy


def test_arrays_make_the_keys_of_the_vectors():
    np = pytest.importorskip("numpy")
    n = 0
    for vector in VECTORS:
        if len(vector["items"]) == 1 and vector["items"][0][0] in ("array", "array-rule"):
            _, dtype, shape, data = vector["items"][0]
            data = bytes.fromhex(data) if isinstance(data, str) else (bytes(range(251)) * (data // 251 + 1))[:data]
            if dtype.startswith(("<V", ">V")):
                continue
            try:
                value = np.frombuffer(bytearray(data), dtype).reshape([int(m) for m in shape])
            except (TypeError, ValueError):
                continue  # NumPy has no such array
            if value.dtype.str == dtype:
                n += 1
                assert key(value).hex() == vector["key"], vector["name"]
    assert n > 3


def test_arrays_by_value():
    np = pytest.importorskip("numpy")
    a = np.arange(12, dtype="i4").reshape(3, 4)
    same(a, a.copy(order="F"), np.stack([a, a])[0], np.repeat(a, 2, axis=1)[:, ::2], a[::-1][::-1])
    differ(a, a.T, a.reshape(4, 3), a.astype("i8"), a.astype(">i4"), a.astype("f4"), a[0], a[:, 0], a.tolist(),
           a.astype("u4"))
    changed = a.copy()
    changed[2, 3] += 1
    differ(a, changed)
    differ(np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(0, "i4"), np.float64(0), np.array(0.0), 0.0,
           np.zeros(1))
    differ(np.array([0.0]), np.array([-0.0]), np.array([np.nan]))
    differ(np.bool_(True), True, np.int64(1), 1, np.str_("a"), "a", np.bytes_(b"a"), b"a", np.float32(1),
           np.complex64(1))
    differ(np.array(["a", "b"]), np.array(["a", "b"], dtype="U2"), np.array([b"a", b"b"]),
           np.array(["a", "b"], dtype=object))
    differ(np.array(1, "M8[ns]"), np.array(1, "M8[us]"), np.array(1, "m8[ns]"), np.array(1, "i8"),
           np.datetime64(1, "ns"))


def test_large_arrays_that_are_not_in_order():
    np = pytest.importorskip("numpy")
    a = np.random.default_rng(1).random((3000, 1000))
    same(a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2], np.repeat(a, 2, axis=0)[::2])
    wide = np.random.default_rng(1).random((2, 3_000_000))
    same(wide, np.asfortranarray(wide))
    changed = np.asfortranarray(a)
    changed[1500, 500] += 1
    differ(a, changed)


def test_object_arrays_by_element():
    np = pytest.importorskip("numpy")
    def make():
        return np.array(["x" * 100, None, 2**70, [1, 2], {"k": 1.5}], dtype=object)
    same(make(), make())
    differ(make(), make()[::-1], make().reshape(5, 1), make()[:4], make().tolist())
    broken = make()
    broken[3] = [object()]
    with pytest.raises(UnhashableParamError, match=r"In 'value'\[3\]\[0\] is a value of type object"):
        key(broken)


def test_structured_arrays_by_field():
    np = pytest.importorskip("numpy")
    packed = np.array([(1, 2.5, "a"), (2, 3.5, "b")], dtype=[("n", "i1"), ("x", "f8"), ("t", "U3")])
    aligned = np.dtype([("n", "i1"), ("x", "f8")], align=True)

    def padded(fill):
        a = np.frombuffer(bytearray([fill]) * (aligned.itemsize * 2), dtype=aligned)
        a["n"], a["x"] = 1, 2
        return a

    same(packed, packed.copy())
    same(padded(0), padded(255))  # what lies between the fields is not the array's
    renamed = packed.astype([("m", "i1"), ("x", "f8"), ("t", "U3")])
    differ(packed, packed[:1], packed[::-1], renamed, packed[0], packed.view(np.recarray), padded(0))
    objects = np.array([(1, "a"), (2, None)], dtype=[("n", "i4"), ("o", "O")])
    same(objects, objects.copy())
    nested = np.zeros(2, dtype=[("p", [("x", "f4"), ("y", "f4")]), ("m", "f4", (2, 2))])
    other = nested.copy()
    other["m"][1, 1, 1] = 1
    differ(nested, other)


def test_masked_arrays_subclasses_and_files(tmp_path):
    np = pytest.importorskip("numpy")
    a = np.arange(3.0)
    m = np.ma.masked_array(a, [0, 1, 0])
    same(m, np.ma.masked_array(a.copy(), [0, 1, 0]))
    differ(a, m, np.ma.masked_array(a, [1, 0, 0]), np.ma.masked_array(a), np.ma.masked_array(a, [0, 1, 0],
                                                                                             fill_value=7),
           np.matrix(a))
    a.tofile(tmp_path / "a")
    mapped = np.memmap(tmp_path / "a", dtype="f8", mode="r")
    same(mapped, np.memmap(tmp_path / "a", dtype="f8", mode="r"))
    differ(mapped, a)
    longs = [np.frombuffer(bytearray(raw), dtype=np.longdouble) for raw in (b"\1" * 32,
                                                                            b"\1" * 10 + b"\2" * 6 + b"\1" * 16)]
    if np.finfo(np.longdouble).nmant == 63:
        same(*longs)
    differ(np.dtype("f8"), np.dtype("f4"), np.dtype([("a", "f8")]), np.dtype([("b", "f8")]), np.float64, "<f8")
    differ(np.sum, np.mean, np.add, np.subtract, np.linalg.norm)


def test_strings_of_any_length():
    np = pytest.importorskip("numpy", minversion="2.0")
    kind = np.dtypes.StringDType()
    same(np.array(["a", "b" * 1000], dtype=kind), np.array(["a", "b" * 1000], dtype=kind))
    differ(np.array(["a"], dtype=kind), np.array(["b"], dtype=kind),
           np.array(["a"], dtype=np.dtypes.StringDType(na_object=None)))


# ---- pandas


def test_frames_in_full():
    pd = pytest.importorskip("pandas")
    np = pytest.importorskip("numpy")

    def make(n=200_000):
        rng = np.random.default_rng(1)
        return pd.DataFrame({"a": rng.random(n), "b": np.arange(n), "t": [f"text {i % 10}" for i in range(n)]})

    a = make()
    same(a, make())
    # Not sampled: one element anywhere.
    for column, row, value in (("a", 123_456, 0.5), ("b", 199_999, -1), ("t", 77_777, "text x")):
        changed = make()
        changed.loc[row, column] = value
        differ(a, changed)
    differ(a, a[["b", "a", "t"]], a.rename(columns={"a": "A"}), a.iloc[::-1], a.iloc[:-1], a.set_index("b"), a["a"],
           a[["a"]],
           a.astype({"b": "i4"}), a.astype({"t": "category"}))
    wide = pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=list("xyz"))
    same(wide, pd.DataFrame({c: wide[c].to_numpy().copy() for c in "xyz"}))  # blocks are no part of it


def test_frames_with_names_attributes_and_odd_labels():
    pd = pytest.importorskip("pandas")

    def make(**attrs):
        frame = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])  # one label twice
        frame.attrs.update(attrs)
        return frame

    same(make(), make())
    differ(make(), make(source="x"), make(source="y"), make().rename_axis("i"), make().rename_axis("c", axis=1),
           make().T,
           pd.DataFrame([[1, 2], [3, 4]]), pd.DataFrame(), pd.DataFrame(index=[0, 1]), pd.DataFrame(columns=["a"]))
    with pytest.raises(UnhashableParamError, match=r"In 'value'\['b'\]\[1\] is a value of type object"):
        key(pd.DataFrame({"a": [1, 2], "b": [None, object()]}))
    with pytest.raises(UnhashableParamError, match=r"In 'value'\.attrs\['c'\] is"):
        key(make(c=object()))
    same(pd.DataFrame({"a": [[1], {"k": 2}, None]}), pd.DataFrame({"a": [[1], {"k": 2}, None]}))


def test_indexes():
    pd = pytest.importorskip("pandas")
    days = pd.date_range("2024-01-01", periods=3)
    differ(pd.RangeIndex(3), pd.Index([0, 1, 2]), pd.RangeIndex(3, name="n"), pd.Index(["a", "b"]), days,
           days.tz_localize("UTC"),
           pd.DatetimeIndex(list(days)), days.to_period(), pd.MultiIndex.from_product([[1, 2], ["a"]]),
           pd.MultiIndex.from_product([[1, 2], ["b"]]), pd.MultiIndex.from_product([[1, 2], ["a"]], names=["x", None]),
           pd.CategoricalIndex(["a", "b"]), pd.IntervalIndex.from_breaks([0, 1, 2]), pd.to_timedelta([1, 2], unit="s"))
    part = pd.MultiIndex.from_product([[1, 2], ["a", "b"]])[:2]  # keeps labels that have no use
    same(part, part.remove_unused_levels())


def test_columns_of_all_types():
    pd = pytest.importorskip("pandas", "1.3")  # "string[python]"
    np = pytest.importorskip("numpy")
    stamps = pd.to_datetime(["2024-01-01", None])
    differ(*map(pd.Series, (
        [1, 2], pd.array([1, 2], dtype="Int64"), pd.array([1, None], dtype="Int64"), pd.array([1, 0], dtype="Int64"),
        pd.array([True, None], dtype="boolean"), pd.array([1.0, None], dtype="Float64"), [1.0, np.nan],
        pd.array(["a", None], dtype="string[python]"), np.array(["a", None],
                                                                dtype=object), stamps, stamps.tz_localize("UTC"),
        stamps.tz_localize("Europe/Berlin"), pd.Categorical(["a", "b"]), pd.Categorical(["a", "b"], ordered=True),
        pd.Categorical(["a", "b"], categories=["b", "a"]), pd.Categorical(["a", "b"], categories=["a", "b", "c"]),
        pd.arrays.SparseArray([0, 1]), pd.arrays.SparseArray([0.0, 1]), pd.period_range("2024-01", periods=2, freq="M"),
        pd.IntervalIndex.from_breaks([0, 1, 2]), pd.to_timedelta([1, 2], unit="s"))))
    masked = pd.array([1, 7, 3], dtype="Int64")
    masked[1] = pd.NA
    same(masked, pd.array([1, None, 3], dtype="Int64"))
    differ(pd.NA, pd.NaT, None, np.nan, pd.Timestamp(0), pd.Timestamp(0, tz="UTC"), pd.Timestamp(1), pd.Timedelta(0),
           datetime.datetime(1970, 1, 1), pd.Period("2024-01"), pd.Period("2024-01-01"), pd.Interval(0, 1),
           pd.offsets.Day(1), pd.offsets.Day(2), pd.offsets.MonthEnd(1), pd.CategoricalDtype(["a"]),
           pd.CategoricalDtype(["b"]), pd.Int64Dtype())
    if hasattr(pd.Timestamp(0), "as_unit"):  # years that have no nanoseconds
        far = pd.Timestamp("2020-01-01").as_unit("s").replace(year=3000)
        differ(far, far.replace(year=3001), pd.Timedelta(0).as_unit("s"), pd.Timestamp("2020-01-01").as_unit("ns"),
               pd.Timestamp("2020-01-01").as_unit("s"), pd.Timestamp(1577836800000))
    same(pd.Series([1], name="a"), pd.Series([1], name="a"))
    differ(pd.Series([1], name="a"), pd.Series([1]), pd.Series([1], index=[5]), [1])


def test_pandas_on_arrow():
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    a = pd.Series(["a", None, "ccc"], dtype="string[pyarrow]")
    same(a, pd.concat([a[:1], a[1:]]))
    differ(a, a.astype("string[python]"), pd.Series([1, 2], dtype="int64[pyarrow]"), pd.Series([1, 2], dtype="Int64"))


# ---- Arrow and polars


def arrow_arrays(pa):
    return [
        pa.array([1, None, 3]), pa.array([1, 0, 3]), pa.array([1, None, 3], pa.int32()), pa.array([1.0, None, 3]),
        pa.array([True, None, False]), pa.array([True, False, False]), pa.array(["a", None, "ccc"]), pa.array(["a", "",
                                                                                                               "ccc"]),
        pa.array(["ac", None, "cc"]), pa.array(["a", None, "ccc"], pa.large_string()), pa.array([b"a", None, b"ccc"]),
        pa.array([b"aa", None, b"cc"], pa.binary(2)), pa.array([None, None, None]), pa.array([[1], None, [2, 3]]),
        pa.array([[1], [], [2, 3]]), pa.array([[1, 2], None, [3]]), pa.array([[1, 2], None, [3, 4]],
                                                                             pa.list_(pa.int64(), 2)),
        pa.array([{"a": 1}, None, {"a": None}]), pa.array([{"a": 1}, {"a": None}, {"a": None}]),
        pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())), pa.array(["a", None,
                                                                                      "b"]).dictionary_encode(),
        pa.array([datetime.date(2024, 1, 1), None, None]), pa.array([datetime.datetime(2024, 1, 1), None, None]),
        pa.array([1, None, 3], pa.timestamp("ns", "UTC")), pa.array([1, None, 3], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([1, None, 3], pa.duration("s")), pa.array([[["a"], None], None, [["b", "c"]]]),
        pa.array([1, None, 3], pa.decimal128(10, 2)), pa.array([datetime.time(1), None, None]),
    ]


def test_arrow_by_value_however_it_is_cut():
    pa = pytest.importorskip("pyarrow")
    differ(*arrow_arrays(pa))
    for array in arrow_arrays(pa):
        around = pa.concat_arrays([array, array, array])
        same(array, around.slice(3, 3))
        chunks = [pa.chunked_array(cut, type=array.type) for cut in (
            [array], [array[:1], array[1:]], [array[:0], array[:2], array[2:]], [around.slice(3, 2),
                                                                                 around.slice(8, 1)])]
        same(*chunks)
        same(*(pa.table({"x": cut}) for cut in chunks))
        differ(array, chunks[0], pa.table({"x": array}), array[1:], array[0])


def test_what_lies_under_nulls_is_no_part_of_it():
    pa = pytest.importorskip("pyarrow")
    valid = pa.py_buffer(bytes([0b101]))
    for kind, make in ((pa.int32(), lambda fill: [valid, pa.py_buffer(bytes([1, 0, 0, 0, *[fill] * 4, 3, 0, 0, 0]))]),
                       (pa.string(), lambda fill: [valid, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"),
                                                   pa.py_buffer(bytes([97, fill, 98]))])):
        same(*(pa.Array.from_buffers(kind, 3, make(fill)) for fill in (0x30, 0x31)))


def test_arrow_tables_schemas_and_dictionaries():
    pa = pytest.importorskip("pyarrow")
    t = pa.table({"a": [1, 2], "b": ["x", "y"]})
    same(t, pa.table({"a": [1, 2], "b": ["x", "y"]}))
    differ(t, t.select(["b", "a"]), t.rename_columns(["a", "c"]), t.replace_schema_metadata({"k": "v"}),
           t.to_batches()[0],
           t.schema, t.schema.field(0), t.slice(1), pa.int64(), pa.int32())
    first, second = pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "a"]).dictionary_encode()
    whole = pa.chunked_array([first, second])
    same(whole, whole.unify_dictionaries(), pa.chunked_array([whole.combine_chunks()]))
    differ(first, pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["a", "b", "c"])))


def test_polars_by_value_however_it_is_cut():
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")

    def make(**more):
        return pl.DataFrame({"a": [1, 2, None], "b": ["x", None, "zz"], "c": [[1], [], None],
                             "d": [{"k": 1}, None, {"k": 2}],
                             "e": [datetime.date(2024, 1, 1), None, None], **more})

    a = make()
    cut = pl.concat([a[:1], a[1:]], rechunk=False)
    assert cut.n_chunks() > 1
    same(a, cut, cut.rechunk(), pl.concat([a, a])[3:])
    differ(a, a.reverse(), a.rename({"a": "A"}), a.select("b", "a", "c", "d", "e"), a[:2], a["a"],
           a.with_columns(pl.col("a").cast(pl.Int32)))
    differ(pl.Series("s", ["a", "b"]), pl.Series("t", ["a", "b"]), pl.Series("s", ["a", "b"], pl.Categorical),
           pl.Series("s", ["a", "b"], pl.Enum(["a", "b"])), pl.Series("s", ["a", "b"], pl.Enum(["a", "b", "c"])),
           pl.Series("s", ["a", "b"], pl.Object), pl.Series("s", ["a", "c"], pl.Object), pl.Int64, pl.Int32)
    with pytest.raises(UnhashableParamError, match=r"(?s)LazyFrame.*collect"):
        key(a.lazy())


# ---- other libraries


def test_models_of_pydantic():
    pydantic = pytest.importorskip("pydantic")
    for base in filter(None, (pydantic.BaseModel, getattr(getattr(pydantic, "v1", None), "BaseModel", None))):
        class Order(base):
            n: int
            tags: list = []

        class Offer(Order):
            pass

        same(Order(n=1, tags=["a"]), Order(n=1, tags=["a"]))
        differ(Order(n=1), Order(n=2), Offer(n=1), {"n": 1, "tags": []}, Order(n=1, tags=[Order(n=1)]))

    class Free(pydantic.BaseModel, extra="allow"):
        n: int

    differ(Free(n=1), Free(n=1, m=2), Free(n=1, m=3))


def test_images():
    Image = pytest.importorskip("PIL.Image")
    red, blue = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2), "blue")
    same(red, Image.new("RGB", (4, 2), "red"))
    differ(red, blue, red.convert("RGBA"), red.resize((2, 4)), red.quantize(2), blue.quantize(2))
    dotted = red.copy()
    dotted.putpixel((3, 1), (255, 0, 1))
    differ(red, dotted)


def test_images_of_files(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    red = Image.new("RGB", (4, 2), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned on its side
    red.save(tmp_path / "plain.jpg")
    red.save(tmp_path / "turned.jpg", exif=exif)
    red.save(tmp_path / "two.gif", save_all=True, append_images=[Image.new("RGB", (4, 2), "blue")])
    red.save(tmp_path / "other.gif", save_all=True, append_images=[Image.new("RGB", (4, 2), "green")])
    images = [Image.open(tmp_path / name) for name in ("plain.jpg", "turned.jpg", "two.gif", "other.gif")]
    differ(*images)
    same(images[0], Image.open(tmp_path / "plain.jpg"))
    assert images[2].tell() == 0


def test_hash_functions_beat_arrays_and_frames():
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    assert (key(np.arange(3), hash_funcs={np.ndarray: lambda a: len(a)})
            == key(np.ones(3), hash_funcs={np.ndarray: lambda a: len(a)}) != key(np.arange(3)))
    for name in ("pandas.DataFrame", f"{pd.DataFrame.__module__}.{pd.DataFrame.__qualname__}"):
        assert key(pd.DataFrame({"a": [1]}), hash_funcs={name: len}) == key(pd.DataFrame({"a": [2]}),
                                                                            hash_funcs={name: len})
