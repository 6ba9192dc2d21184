# SPDX-License-Identifier: MIT
"""Frames through the daemon: stored by one process, mapped by others, each with a copy of what it changes."""

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from cached import _client, _values  # noqa: E402

# What both processes make, and compare by.
FRAME = """
import json, sys
import numpy as np
import pandas as pd
from cached import _client, _values

def make():
    n = 200_000
    frame = pd.DataFrame({"a": np.arange(n) * .5, "b": np.arange(n) * 2., "i": np.arange(n),
                          "t": ["text", None] * (n // 2),
                          "o": pd.Series(["x", np.nan, "longer"] * (n // 3) + ["y"] * (n % 3), dtype=object),
                          "c": pd.Categorical(["u", "v"] * (n // 2)),
                          "k": pd.array([1, None] * (n // 2), dtype="Int64")},
                         index=pd.date_range("2020", periods=n, freq="min", tz="Europe/Berlin", name="at"))
    frame.attrs = {"made": {"by": ["test"]}}
    return frame

def store(key, value):
    encoded = _values.dumps(value, pickle=False)
    what, size = (encoded.pieces, {}) if encoded.buffer is None else (encoded.buffer, {"size": encoded.size})
    _client.current().set("frames", key, what, flags=encoded.flags, **size)
    return encoded

def load(key):
    return _values.loads(_client.current().get("frames", key), unpickle=False)
"""


def test_one_stores_another_has_it(daemon, python):
    python(FRAME + """store(b"k", make())""", name="store")
    told = python(
        FRAME + """
made, wanted = load(b"k"), make()
pd.testing.assert_frame_equal(made, wanted, check_exact=True, check_freq=True, check_flags=True)
assert type(made.index) is type(wanted.index) and made.index.freq == wanted.index.freq and made.attrs == wanted.attrs
assert [b.values.dtype for b in made._mgr.blocks] == [b.values.dtype for b in wanted._mgr.blocks]
assert list(map(type, made["o"])) == list(map(type, wanted["o"]))
print(json.dumps(len(made)))
""",
        name="load",
    )
    assert told == 200_000


CHANGES = FRAME + """
import warnings
warnings.simplefilter("ignore")
frame = load(b"k")
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[1] == "changes":
    frame.loc[frame.index[5], "a"] = -1
    frame.drop(columns=["b"], inplace=True)
    frame["i"] *= 2
    frame["new"] = 1
    frame.sort_values("a", ascending=False, inplace=True)
    block = load(b"k")._mgr.blocks[0].values
    block[...] = 7
    print(json.dumps(True))
else:
    pd.testing.assert_frame_equal(frame, make(), check_exact=True, check_freq=True)
    pd.testing.assert_frame_equal(load(b"k"), make(), check_exact=True, check_freq=True)
    print(json.dumps(True))
"""


def test_what_one_changes_no_other_sees(daemon, python):
    python(FRAME + """store(b"k", make())""", name="store")
    changer, reader = (python.start(CHANGES, which, name=which) for which in ("changes", "reads"))
    for process in (changer, reader):
        assert process.stdout.readline() == "ready\n"
    changer.stdin.write("\n")
    changer.stdin.flush()
    assert python.result(changer)
    assert python.result(reader)


MAPPED = '''
def of(address):
    """The line of the mapping that has the address."""
    for line in open("/proc/self/maps"):
        first, last = (int(a, 16) for a in line.split()[0].split("-"))
        if first <= address < last:
            return line.split(maxsplit=5)

def address(array):
    return array.__array_interface__["data"][0]
'''


def test_a_hit_is_the_memory_file_itself(daemon, python):
    """A block that was read is the file that holds the entry, mapped privately, with no page of it copied: what it
    costs does not depend on its size."""
    nbytes = 256 << 20
    told = python(
        FRAME + MAPPED + f'''
n = {nbytes} // 32
frame = pd.DataFrame(np.zeros((4, n)).T, columns=list("abcd"), copy=False)
frame.iloc[0] = 1.5
store(b"k", frame)
del frame

made = load(b"k")
block = made._mgr.blocks[0].values
line = of(address(block))
def private():
    """What the process has written of the mapping that the block lies in, in KiB; and what is there at all."""
    found = {{}}
    inside = False
    for part in open("/proc/self/smaps"):
        words = part.split()
        if "-" in words[0] and not words[0].endswith(":"):
            first, last = (int(a, 16) for a in words[0].split("-"))
            inside = first <= address(block) < last
        elif inside and words[0] in ("Rss:", "Anonymous:"):
            found[words[0]] = int(words[1])
    return found
before = private()
made.loc[n // 2, "b"] = 3
print(json.dumps([block.shape, line[1], line[4] != "0", before, private(), made["a"][0]]))
''',
        env={"CACHED_REALM": ""},
    )
    shape, rights, is_file, before, after, first = told
    assert shape == [4, nbytes // 32] and rights == "rw-p" and is_file and first == 1.5
    assert before["Anonymous:"] == 0 and before["Rss:"] < nbytes // 1024 // 8
    assert after["Anonymous:"] < 4096


def test_in_place_nothing_is_copied(daemon, python):
    """What was filled in a buffer is stored as that very file."""
    told = python(
        FRAME + MAPPED + """
import cached
out = []
frame = cached.empty_frame(500_000, {"a": "f8", "n": "i4", "b": "f8", "when": "M8[ns]"})
assert list(frame.dtypes.astype(str)) == ["float64", "int32", "float64", "datetime64[ns]"] and frame["a"].sum() == 0
frame["a"].array  # looked at, and still where it was
frame._mgr.blocks[0].values[0, :] = 1.5
frame._mgr.blocks[1].values[0, :] = 7
encoded = store(b"frame", frame)
out.append(encoded.buffer is not None)
array = cached.empty((1000, 1000), "f4")
array[3] = 2
encoded = store(b"array", array)
out.append(encoded.buffer is not None)
array[4] = 9   # afterwards it is the process's own
out.append(float(array[4, 0]))
print(json.dumps(out))
""",
        name="fill",
    )
    assert told == [True, True, 9.0]
    told = python(
        FRAME + """
frame, array = load(b"frame"), load(b"array")
sums = [frame["a"].sum(), int(frame["n"].sum()), float(array[3].sum()), float(array[4].sum())]
print(json.dumps([list(frame.columns), *sums, str(array.dtype)]))
""",
        name="read",
    )
    assert told == [["a", "n", "b", "when"], 750_000.0, 3_500_000, 2000.0, 0.0, "float32"]


def test_in_place_without_the_cache(tmp_path, python):
    told = python(
        """
import cached, json, warnings
warnings.simplefilter("ignore")
frame = cached.empty_frame(3, {"a": "f8"})
array = cached.empty(3)
array[:] = 1
print(json.dumps([array.tolist(), frame["a"].tolist()]))
""",
        env={"CACHED_SOCKET": str(tmp_path / "none")},
    )
    assert told == [[1, 1, 1], [0, 0, 0]]


def test_in_place_bad_input(daemon):
    import cached

    for dtype in ("O", object, "U0", [("a", "O")]):
        with pytest.raises(TypeError):
            cached.empty(3, dtype)
    for shape in (-1, (2, -1)):
        with pytest.raises(ValueError):
            cached.empty(shape)
    with pytest.raises(TypeError):
        cached.empty("3")
    with pytest.raises(TypeError):
        cached.empty_frame(3, {"a": "U5"})
    with pytest.raises(ValueError):
        cached.empty_frame(-1, {"a": "f8"})
    assert cached.empty((0, 3)).shape == (0, 3) and cached.empty_frame(0, {"a": "f8"}).shape == (0, 1)
    assert cached.empty_frame(4, {}).shape == (4, 0)
    cached.prepare(1 << 20, 2)


def test_texts_are_looked_at_again_where_they_are_others(daemon):
    """That an entry's offsets are good is remembered for this version of it alone."""
    import struct

    import pyarrow as pa

    client = _client.current()
    table = pd.DataFrame({"t": [f"text {i}" for i in range(1000)]}).convert_dtypes(dtype_backend="pyarrow")
    column = table["t"].array._pa_array.cast(pa.large_string())
    encoded = _values.dumps(pa.chunked_array(column.chunks), pickle=False)
    client.set("t", b"k", encoded.pieces, flags=encoded.flags)
    for _ in range(2):
        assert _values.loads(client.get("t", b"k"), unpickle=False).to_pylist()[999] == "text 999"
    stored = encoded.join()
    damaged = stored.replace(struct.pack("<qq", 6, 12), struct.pack("<qq", 6, 1 << 40), 1)
    assert damaged != stored and len(damaged) == len(stored)
    client.set("t", b"k", damaged, flags=encoded.flags)
    for _ in range(2):
        with pytest.raises(_values.CorruptValueError):
            _values.loads(client.get("t", b"k"), unpickle=False)
    client.set("t", b"k", stored, flags=encoded.flags)
    assert _values.loads(client.get("t", b"k"), unpickle=False).to_pylist()[0] == "text 0"


def test_texts_in_many_pieces_are_stored_as_one(daemon):
    import pyarrow as pa

    column = pd.Series(pa.chunked_array([[f"{n} {i}" for i in range(100)] + [None] for n in range(7)]), dtype="string[pyarrow]")
    frame = pd.DataFrame({"t": column})
    client = _client.current()
    encoded = _values.dumps(frame, pickle=False)
    client.set("t", b"k", encoded.pieces, flags=encoded.flags)
    made = _values.loads(client.get("t", b"k"), unpickle=False)
    pd.testing.assert_frame_equal(made, frame, check_exact=True)
    assert made["t"].dtype == frame["t"].dtype and made["t"].array._pa_array.num_chunks == 1
