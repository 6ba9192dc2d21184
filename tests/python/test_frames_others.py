# SPDX-License-Identifier: MIT
"""Values of pyarrow, polars and Pillow as they are stored: equal, of the same type, without pickle."""

import datetime
import decimal

import pytest

from apart import again, stored

np = pytest.importorskip("numpy", reason="numpy is not installed")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


# ---- pyarrow


def arrays():
    return {
        "int": pa.array([1, 2, None]),
        "float": pa.array([1.0, 2, float("nan")]),
        "bool": pa.array([True, None, False]),
        "text": pa.array(["a", None, "é"]),
        "large": pa.array(["a", None, "b"], pa.large_string()),
        "bytes": pa.array([b"a", b"", None]),
        "dictionary": pa.array(["x", "y", None]).dictionary_encode(),
        "ordered": pa.DictionaryArray.from_arrays([0, 1, 0], ["a", "b"], ordered=True),
        "list": pa.array([[1], [], None]),
        "struct": pa.array([{"a": 1}, None, {"a": 2}]),
        "stamp": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
        "span": pa.array([1, 2, 3], pa.duration("s")),
        "decimal": pa.array([decimal.Decimal("1.5")] * 3),
        "null": pa.nulls(3),
        "half": pa.array(np.arange(3).astype("f2")),
        "view": pa.array(["a" * 20, "b", None], pa.string_view()),
        "fixed": pa.array([b"ab", b"cd", None], pa.binary(2)),
        "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        "union": pa.UnionArray.from_sparse(
            pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])]
        ),
        "runs": pa.RunEndEncodedArray.from_arrays([1, 3], [5, 6]),
        "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16] * 3, pa.binary(16))),
        "month": pa.array([pa.MonthDayNano([1, 2, 3])] * 3),
        "words": pa.array([["x"], None, ["y", "x"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    }


@pytest.mark.parametrize("name", sorted(arrays()))
def test_arrow_arrays(name):
    array = arrays()[name]
    for part in (array, array[1:], array[:1], array[:0]):
        made = again(part)
        assert type(made) is type(part) and made.type == part.type and len(made) == len(part)
        made.validate(full=True)
        assert repr(made.to_pylist()) == repr(part.to_pylist())


def test_arrow_tables():
    table = pa.table(arrays())
    twice = pa.concat_tables([table, table]).replace_schema_metadata({"a": "b"})
    field = pa.schema([pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})], metadata={"m": "n"})
    for one in (table, twice, table[:0], pa.table({}), pa.Table.from_arrays([pa.array([1], pa.int8())], schema=field)):
        made = again(one)
        assert type(made) is pa.Table and made.schema.equals(one.schema, check_metadata=True)
        assert [c.num_chunks for c in made.columns] == [c.num_chunks for c in one.columns]
        assert repr(made) == repr(one) and made.num_rows == one.num_rows
    batch = table.to_batches()[0]
    made = again(batch)
    assert type(made) is pa.RecordBatch and repr(made) == repr(batch) and made.schema.equals(batch.schema)
    for chunked in (twice["int"], pa.chunked_array([], pa.int8())):
        made = again(chunked)
        assert type(made) is pa.ChunkedArray and made.type == chunked.type and made.num_chunks == chunked.num_chunks


def test_arrow_slices_hold_only_what_they_show():
    numbers, texts = pa.array(range(100_000)), pa.array([f"text {i}" for i in range(100_000)])
    holes = pa.array([None, 1, 2, 3] * 25_000)
    for array in (numbers[8:90], numbers[3:90], texts[:10], texts[500:510], holes[8:24], holes[3:20], holes[5:]):
        flags, data = stored(array)
        assert again(array).equals(array)
        assert len(data) < 4096 + array.nbytes * 2
    table = pa.table({"a": numbers, "b": texts})[1000:1010]
    assert again(table).equals(table) and len(stored(table)[1]) < 8192


def test_arrow_columns_are_views_of_the_stored_memory():
    from cached import _values

    table = pa.table({"n": np.arange(10_000.0), "t": [f"text {i}" for i in range(10_000)]})
    encoded = _values.dumps(table, pickle=False)
    data = bytearray(encoded.join())
    made = _values.loads(memoryview(data), unpickle=False, flags=encoded.flags)
    start = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    for column in made.columns:
        for buffer in column.chunk(0).buffers():
            assert buffer is None or start <= buffer.address < start + len(data)


# ---- polars


def series(pl):
    return {
        "int": pl.Series([1, None, 3]),
        "text": pl.Series(["a", "b" * 30, None]),
        "bool": pl.Series([True, None, False]),
        "category": pl.Series(["x", "y", "x"], dtype=pl.Categorical),
        "enum": pl.Series(["x", "y", "x"], dtype=pl.Enum(["y", "x"])),
        "list": pl.Series([[1], [], None]),
        "struct": pl.Series([{"a": 1, "b": "x"}] * 3),
        "date": pl.Series([datetime.date(2020, 1, 1)] * 3),
        "time": pl.Series([datetime.time(1, 2)] * 3),
        "zone": pl.Series([datetime.datetime(2020, 1, 1)] * 3, dtype=pl.Datetime("ms", "Europe/Berlin")),
        "span": pl.Series([datetime.timedelta(1)] * 3),
        "bytes": pl.Series([b"a", b"b", None]),
        "array": pl.Series([[1, 2]] * 3, dtype=pl.Array(pl.Int8, 2)),
        "null": pl.Series([None] * 3),
        "decimal": pl.Series(["1.5"] * 3).cast(pl.Decimal(10, 2)),
        "wide": pl.Series([1, 2, 3], dtype=pl.Int128),
        "nested": pl.Series([[{"a": ["x"]}], None, []]),
        "float": pl.Series([1.5, float("nan"), None], dtype=pl.Float32),
        "categories": pl.Series([["x"], ["y"], None], dtype=pl.List(pl.Categorical)),
    }


def test_polars():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    known = series(pl)
    for name, one in known.items():
        one = one.alias(name)
        for part in (one, one[1:], one.clear(), pl.concat([one, one], rechunk=False)):
            made = again(part)
            assert type(made) is pl.Series and made.dtype == part.dtype and made.name == name
            assert made.equals(part, check_dtypes=True, null_equal=True), name
    frame = pl.DataFrame([one.alias(name) for name, one in known.items()])
    for part in (frame, frame[1:], frame.clear(), pl.DataFrame(), frame.select("int", "text")):
        made = again(part)
        assert type(made) is pl.DataFrame and made.schema == part.schema and made.equals(part, null_equal=True)


def test_polars_without_pyarrow(monkeypatch):
    pl = pytest.importorskip("polars", reason="polars is not installed")
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    frame = pl.DataFrame({"a": [1, None], "b": ["x", "y"]})
    made = again(frame)
    assert made.equals(frame, null_equal=True) and made.schema == frame.schema


def test_polars_columns_of_numbers_are_views():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    from cached import _values

    frame = pl.DataFrame({k: np.arange(10_000.0) for k in "ab"})
    encoded = _values.dumps(frame, pickle=False)
    data = bytearray(encoded.join())
    made = _values.loads(memoryview(data), unpickle=False, flags=encoded.flags)
    assert np.shares_memory(made["b"].to_numpy(allow_copy=False), np.frombuffer(data, np.uint8))


def test_a_filtered_frame_holds_only_what_it_shows():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    frame = pl.DataFrame({"t": [f"a text that is long enough {i}" for i in range(20_000)]})
    assert len(stored(frame[:10])[1]) < 8192
    assert len(stored(frame.filter(pl.col("t").str.ends_with("777")))[1]) < 8192


# ---- Pillow


@pytest.mark.parametrize("mode", "1 L P LA RGB RGBA CMYK I F YCbCr HSV LAB I;16".split())
def test_images(mode):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    noise = np.random.default_rng(1)
    if mode in ("LAB", "I;16"):
        image = Image.frombytes(mode, (7, 5), noise.bytes(105 if mode == "LAB" else 70))
    else:
        image = Image.frombytes("RGB", (7, 5), noise.bytes(105)).convert(mode)
    image.info["dpi"] = (72, 72)
    made = again(image)
    assert type(made) is Image.Image and made == image and made.info == image.info
    assert made.tobytes() == image.tobytes() and made.convert("RGB").tobytes() == image.convert("RGB").tobytes()
    made.putpixel((0, 0), made.getpixel((1, 1)))


def test_images_of_no_size_and_with_transparent_palettes():
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    assert again(Image.new("RGB", (0, 3))).size == (0, 3)
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 10, 0, 255, 0, 200], "RGBA")
    image.putpixel((1, 0), 1)
    assert again(image).convert("RGBA").tobytes() == image.convert("RGBA").tobytes()
