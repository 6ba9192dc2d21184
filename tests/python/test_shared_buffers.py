# SPDX-License-Identifier: MIT
"""Model weights and the like: read-only buffers that lie in memory once, for all processes. With numpy."""

import pytest

from peers import Failed, Peer

pytest.importorskip("numpy")
pytest.importorskip("cached._frames")

MIB = 1 << 20
PROGRAM = f"""
import numpy as np
made = []

@cached.cache_resource(kind="buffers", on_release=lambda w: made.append("gone"))
def weights(n={32 * MIB}):
    made.append(n)
    return {{"w": np.random.default_rng(1).random(n // 8), "b": np.arange(3, dtype="f4")}}

def pss():
    # This process's share of what large memory files take, and what it has of its own there.
    share, own, now = 0, 0, None
    for line in open("/proc/self/smaps"):
        word = line.split()
        if not word[0].endswith(":"):
            start, end = (int(x, 16) for x in word[0].split("-"))
            now = "memfd:cached-value" in line and end - start >= {MIB}
        elif word[0] == "Pss:" and now:
            share += int(word[1]) * 1024
        elif word[0] == "Anonymous:" and now:
            own += int(word[1]) * 1024
    return [share, own]
"""


def test_the_weights_lie_in_memory_once(daemon, python):
    peers = [Peer(python, PROGRAM) for _ in range(3)]
    sums = {p("float(weights()['w'].sum())") for p in peers}
    assert len(sums) == 1
    assert [p("made") for p in peers] == [[32 * MIB], [], []]
    shares = [p("pss()") for p in peers]
    assert 32 * MIB <= sum(share for share, _ in shares) < 36 * MIB, shares
    assert all(share < 17 * MIB and own == 0 for share, own in shares), shares


def test_nobody_can_change_them(daemon, python):
    a, b = (Peer(python, PROGRAM) for _ in range(2))
    for p in (a, b):
        assert p("[weights()['b'].tolist(), weights()['w'].flags.writeable, weights() is weights()]") == [[0, 1, 2], False, True]
        with pytest.raises(Failed, match="ValueError"):
            p("weights()['b'].__setitem__(0, 5)")
    a("weights()['b'].setflags(write=True)")  # the memory is the process's own from there on
    a("weights()['b'].fill(7)")
    assert [a("weights()['b'].tolist()"), b("weights()['b'].tolist()")] == [[7, 7, 7], [0, 1, 2]]


def test_who_uses_old_ones_keeps_them(daemon, python):
    a, b = (Peer(python, PROGRAM) for _ in range(2))
    a("globals().update(old=weights(8192)['w'], total=float(weights(8192)['w'].sum()))")
    b("weights(8192)['w'][0]")
    b("weights.clear()")
    a.until("made", [8192, "gone"])
    assert a("float(old.sum()) == total and float(weights(8192)['w'].sum()) == total")
    a.until("made", [8192, "gone", 8192])


def test_without_a_daemon(daemon, python):
    daemon.stop()
    a, b = (Peer(python, PROGRAM) for _ in range(2))
    assert a("[len(weights(8192)['w']), len(weights(8192)['w']), made]") == [1024, 1024, [8192]]
    daemon.process = daemon.spawn()
    a.until("weights(8192)['w'].flags.writeable", False)
    assert b("[len(weights(8192)['w']), made]") == [1024, []]
    assert a("made[:1]") == [8192]


def test_kinds_that_do_not_agree(daemon, python):
    more = """
@cached.cache_resource(shared=True, cache="c", version="1")
def thing():
    return [1]
"""
    a = Peer(python, PROGRAM + more, name="a")
    b = Peer(python, PROGRAM + more.replace("shared=True", 'kind="buffers"'), name="b")
    c = Peer(python, PROGRAM + more.replace("shared=True", 'kind="descriptor"'), name="c")
    assert a("thing()[0]") == 1
    with pytest.raises(Failed, match="holds no read-only buffers: other processes use another kind="):
        b("thing()")
    with pytest.raises(Failed, match="CacheError"):
        c("thing()")


def test_bytes(daemon, python):
    a, b = (Peer(python, """
@cached.cache_resource(readonly=True)
def data():
    return b"x" * 100000
""") for _ in range(2))
    assert a("len(data())") == b("len(data())") == 100000
