# SPDX-License-Identifier: MIT
"""Arrays and buffers that lie in memory once, for all processes. With numpy."""

import pytest

from peers import Failed, Peer

pytest.importorskip("numpy")

PROGRAM = """
import numpy as np
made = []

@cached.cache_resource(shared=True)
def array(kind="plain"):
    made.append(kind)
    if kind == "plain":
        return np.arange(12, dtype="f8").reshape(3, 4)
    if kind == "fields":
        return np.zeros(3, dtype=[("a", "i4"), ("b", "U3"), ("c", "f8", (2,))])
    if kind == "time":
        return np.array(["2024-01-01", "2024-01-02"], dtype="M8[D]")
    if kind == "fortran":
        return np.asfortranarray(np.arange(6).reshape(2, 3))
    if kind == "empty":
        return np.empty((0, 3), "f4")
    if kind == "number":
        return np.array(5)
    if kind == "objects":
        return np.array([{}, 1], dtype=object)

def facts(a):
    return [type(a).__name__, str(a.dtype), list(a.shape), a.flags.writeable, a.tolist() if a.dtype.kind not in "MV" else str(a)]
"""


def test_what_one_writes_all_see(daemon, python):
    a, b, c = (Peer(python, PROGRAM) for _ in range(3))
    a("array().__setitem__((1, 2), 100)")
    assert b("array()[1, 2]") == 100
    b("globals().update(view=array()[1:])")
    c("array().fill(7)")
    assert [a("array().sum()"), b("view.sum()"), b("made"), c("array() is array()")] == [84, 56, [], True]


@pytest.mark.parametrize("kind", ["plain", "fields", "time", "fortran", "empty", "number"])
def test_types_and_shapes(daemon, python, kind):
    a, b = (Peer(python, PROGRAM) for _ in range(2))
    one, two = (p(f"facts(array({kind!r}))") for p in (a, b))
    assert one == two == a(f"facts(array.__wrapped__({kind!r}))")


def test_the_lock_of_an_array_and_of_its_views(daemon, python):
    peers = [Peer(python, PROGRAM + """
def add(n):
    def some():
        for _ in range(n):
            with cached.lock(array()[0]) as row:
                row[1] += 1
    threads = [threading.Thread(target=some) for _ in range(2)]
    [t.start() for t in threads], [t.join() for t in threads]
""") for _ in range(3)]
    for p in peers:
        p.say("add(100)")
    for p in peers:
        p.hear()
    assert peers[0]("array()[0, 1]") == 601


def test_objects_cannot_be_shared(daemon, python):
    a = Peer(python, PROGRAM)
    with pytest.raises(Failed, match="holds Python objects, which cannot be shared"):
        a("array('objects')")


SCRIBBLES = {
    "a length": "r.store(16, 2**63)",
    "no text": "r.write(128, b'\\xff' * 20)",
    "no literal": "r.write(128, b'__import__(1)'.ljust(100))",
    "too large": "[r.store(16, 18), r.write(128, b\"('<f8', (2**60,))   \")]",
    "negative": "[r.store(16, 14), r.write(128, b\"('<f8', (-1,))\")]",
    "true": "[r.store(16, 16), r.write(128, b\"('<f8', (True,))\")]",
    "pointers": "[r.store(16, 11), r.write(128, b\"('|O', (1,))\")]",
    "deep": "[r.store(16, 3900), r.write(128, b'(' * 3900)]",
    "large": "[r.store(16, 30), r.write(128, b\"('<f8', (99999,99999,99999999))\")]",
}


@pytest.mark.parametrize("what", SCRIBBLES)
def test_others_that_write_nonsense(daemon, python, what):
    a, b = (Peer(python, PROGRAM + f"""
def scribble():
    r = array.__cached__.holding.table[array.__cached__.key((), {{}})].source
    return bool({SCRIBBLES[what]})
""") for _ in range(2))
    a("array().sum()")
    a("scribble()")
    with pytest.raises(Failed) as e:
        b("array().sum()")
    assert e.value.args[0] == "SharedDataError" and "was damaged by another process" in e.value.args[1]
    assert a("array()[0, 0]") == 0
    b("array.clear()")
    assert b("array().sum()") == 66
