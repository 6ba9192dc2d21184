# SPDX-License-Identifier: MIT
"""cached_memoize() against the real daemon, through memoizer.c: what makes another key, what is a value, and a
daemon that is absent, killed, stopped or full; threads, forks, a function that memoizes itself.
"""

import shutil
import signal
import subprocess
from typing import NamedTuple

import pytest

import harness
import wire
from harness import wait_until

HERE = harness.BUILD / "tests" / "outside"
MEMOIZER = HERE / "memoizer"
ONE, TWO, NO_ID = (HERE / f"memoized-{name}.so" for name in ("one", "two", "no-id"))

OK, NOT_FOUND, INVALID, TOO_LARGE = 0, 1, 4, 5
UNREACHABLE, TIMEOUT, USAGE, CLOSED = 64, 65, 70, 72


class Answer(NamedTuple):
    code: int
    hit: bool
    cache: int
    calls: int  # of the function, in this process
    size: int
    value: str
    error: str


class Memoizer:
    """The program; each command gives an Answer."""

    def __init__(self, path, shared_object=ONE):
        self.process = subprocess.Popen([str(MEMOIZER), str(path), str(shared_object)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        code, hit, cache, calls, size, value, error = self.process.stdout.readline().rstrip("\n").split("\t")
        return Answer(int(code), hit == "1", int(cache), int(calls), int(size), value, error)

    def say(self, *words):
        assert self(*words).code == 0

    def finish(self):
        """The end: nothing on stderr, not even from a sanitizer."""
        _, err = self.process.communicate(timeout=harness.PATIENCE)
        assert self.process.returncode == 0 and err == "", err


@pytest.fixture
def make_memoizer():
    made = []

    def make(*args):
        made.append(Memoizer(*args))
        return made[-1]

    yield make
    for m in made:
        m.finish()


@pytest.fixture
def m(daemon, make_memoizer):
    return make_memoizer(daemon.socket)


# ---- hits and misses


def test_a_runs_once(daemon, m, make_memoizer):
    """Also for another process."""
    first, second = m("run", "x"), m("run", "x")
    assert first == (OK, False, OK, 1, 5, "one:x", "")
    assert second == (OK, True, OK, 1, 5, "one:x", "")
    assert make_memoizer(daemon.socket)("run", "x") == (OK, True, OK, 0, 5, "one:x", "")
    assert m("run", "y")[:4] == (OK, False, OK, 2)


def test_a_the_empty_value_is_a_value(m):
    assert m("run") == (OK, False, OK, 1, 0, "", "")
    assert m("run") == (OK, True, OK, 1, 0, "", "")


def test_a_changed_code_is_a_miss(m):
    assert m("run", "x").value == "one:x"
    m.say("object", TWO)
    assert m("run", "x") == (OK, False, OK, 2, 5, "two:x", "")
    m.say("object", ONE)
    assert m("run", "x") == (OK, True, OK, 2, 5, "one:x", "")


def test_a_the_same_code_elsewhere_is_a_hit(daemon, m):
    copy = daemon.dir / "copy.so"
    shutil.copy(ONE, copy)
    m("run", "x")
    m.say("object", copy)
    assert m("run", "x").hit
    m.say("object", ONE)
    copy.unlink()


def test_a_versions(m):
    """They take the place of the build-id."""
    m("run", "x")
    m.say("version", "1")
    assert not m("run", "x").hit
    m.say("object", TWO)
    assert m("run", "x") == (OK, True, OK, 2, 5, "one:x", "")
    m.say("version", "2")
    assert m("run", "x").value == "two:x"
    m.say("version")
    m.say("object", ONE)
    assert m("run", "x").hit


def test_a_without_a_build_id(m):
    """It runs each time, and says what to do."""
    m.say("object", NO_ID)
    for calls in 1, 2:
        a = m("run", "x")
        assert a[:4] == (OK, False, USAGE, calls) and a.value == "none:x"
        assert "slow" in a.error and "build-id" in a.error and "version" in a.error
    m.say("version", "1")
    assert not m("run", "x").hit and m("run", "x").hit


def test_a_the_entry(daemon, m, c):
    """It lies in the cache of the function's name or another, with what it cost."""
    m.say("ttl", 60000)
    m("run", "x")
    m.say("cache", "others")
    m("run", "x")
    for cache in "slow", "others":
        entries = list(c.list_entries(cache))
        assert len(entries) == 1 and len(entries[0].key) == 32
        assert 0 < entries[0].entry.ttl_ms <= 60000


def test_a_ttl(daemon, m, clock, c):
    m.say("ttl", 1000)
    m("run", "x")
    clock.advance(900)
    assert m("run", "x").hit
    clock.advance(101)
    for _ in range(2):  # readers are told of a moved test clock at the end of a turn
        c.ping()
    assert m("run", "x")[:4] == (OK, False, OK, 2)


def test_a_failures_are_not_stored(m):
    for code in -2, 256, 9999, 1, 65:
        m.say("fail", code)
        a = m("run", "x")
        assert a[:3] == (code, False, NOT_FOUND) and a.value == "" and str(code) in a.error
    assert m("run", "x").calls == 6
    m.say("fail", 0)
    assert m("run", "x")[:4] == (OK, False, OK, 7)
    m.say("fail", 256)
    assert m("run", "x")[:4] == (OK, True, OK, 7)


def test_a_large_values(daemon, m, c):
    """Packed and not, to 20 MB: the wait grows with them."""
    m.say("wait", 0)
    for n in 100, 4096, 1_000_000, 4 << 20, 20_000_000:
        m.say("big", n)
        assert not m("run", "x").hit
        a = m("run", "x")
        assert a.hit and a.size == n + 5 and a.value.startswith("one:x..."), n
    stored = sorted((e.entry.raw_size, e.entry.encoding) for e in c.list_entries("slow"))
    assert [encoding for _, encoding in stored] == [0, 1, 1, 0, 0]


# ---- a function that calls memoized functions, threads, forks


def test_b_recursion(m):
    a = m("fib", 50)
    assert a[:4] == (OK, False, OK, 51) and a.value.rstrip("\0") == "12586269025"
    assert m("fib", 50)[:4] == (OK, True, OK, 51)
    assert m("fib", 49).hit


def test_b_threads(m):
    """Sixteen, on one handle: each gets its own value, whoever computed it."""
    assert m("threads", 16).code == 0
    a = m("run", "0")
    assert a.hit and a.value == "one:0" and 20 <= a.calls <= 320


def test_b_fork(m):
    """A child's calls are its own; what it stores is there for all."""
    assert m("fork", "x").code == 1
    assert m("run", "x").hit
    assert m("fork", "x").code == 0
    assert m("run", "y").code == OK


# ---- a cache that is no help


def test_c_absent_then_there(make_daemon, make_memoizer):
    daemon = make_daemon(start=False)
    m = make_memoizer(daemon.socket)
    for calls in range(1, 20):
        a = m("run", "x")
        assert a[:4] == (OK, False, UNREACHABLE, calls) and a.value == "one:x" and str(daemon.socket) in a.error
    daemon.start()
    wait_until(lambda: m("run", "x").hit, "the library finds the daemon")


@pytest.fixture
def asking(make_daemon):
    """A daemon whose clients ask for every look-up."""
    return make_daemon(daemon=dict(mapped_reads="no"))


def test_c_hits_without_a_daemon(daemon, m):
    """What lies in shared memory needs nobody to answer; what does not is computed."""
    m("run", "x")
    assert m("run", "x").hit
    with daemon.stopped():
        assert m("run", "x").hit
    daemon.signal(signal.SIGKILL)
    daemon.process.wait(harness.PATIENCE)
    assert m("run", "x")[:4] == (OK, True, OK, 1)
    a = m("run", "y")
    assert a.code == OK and not a.hit and a.value == "one:y"
    daemon.process = daemon.spawn()
    wait_until(lambda: m("run", "y").hit, "the new one's memory is mapped")
    assert not m("run", "x").hit, "the new daemon has no such entry"


def test_c_killed(asking, make_memoizer):
    daemon, m = asking, make_memoizer(asking.socket)
    assert m("run", "x").cache == OK
    daemon.signal(signal.SIGKILL)
    daemon.process.wait(harness.PATIENCE)
    a = m("run", "x")
    assert a.code == OK and not a.hit and a.cache not in (OK, NOT_FOUND) and a.value == "one:x"
    daemon.process = daemon.spawn()
    wait_until(lambda: m("run", "x").hit, "it is stored again")


def test_c_stopped(asking, make_memoizer):
    daemon, m = asking, make_memoizer(asking.socket)
    m("run", "x")
    m.say("wait", 50)
    with daemon.stopped():
        for calls in range(2, 30):
            a = m("run", "x")
            assert a[:4] == (OK, False, TIMEOUT, calls) and a.value == "one:x" and a.error
    m.say("wait", 20000)
    wait_until(lambda: m("run", "x").hit, "the library finds that it goes on")


def test_c_stopped_from_the_start(daemon, m):
    m.say("wait", 50)
    with daemon.stopped():
        assert m("run", "x")[:3] == (OK, False, TIMEOUT)


def test_c_full(make_daemon, make_memoizer):
    """What does not fit is computed each time."""
    daemon = make_daemon(limits=dict(value_bytes=1 << 20))
    m = make_memoizer(daemon.socket)
    m.say("big", 5 << 20)
    for calls in 1, 2:
        a = m("run", "x")
        assert a[:4] == (OK, False, TOO_LARGE, calls) and a.size == (5 << 20) + 5 and a.error
    m.say("big", 0)
    assert m("run", "x").cache == OK


def test_c_a_lower_limit_on_packed_values(make_daemon, make_memoizer):
    """What the daemon does not take packed is stored as it is: known from its greeting, or learned."""
    daemon = make_daemon(limits=dict(lz4_bytes=100_000))
    m = make_memoizer(daemon.socket)
    for n in 200_000, 300_000, 50_000:
        m.say("big", n)
        assert m("run", "x").cache == OK
        assert m("run", "x").hit
    with daemon.probe() as c:
        assert sorted((e.entry.raw_size, e.entry.encoding) for e in c.list_entries("slow")) == \
            [(50_005, 1), (200_005, 0), (300_005, 0)]


def test_c_refused(m):
    """A time to live that the daemon does not take: nothing is stored, and the text says why."""
    m.say("ttl", 0)
    for calls in 1, 2:
        a = m("run", "x")
        assert a[:4] == (OK, False, INVALID, calls) and a.value == "one:x" and "ttl" in a.error


def test_c_closed(m):
    m("run", "x")
    m.say("close")
    a = m("run", "x")
    assert a[:4] == (OK, False, CLOSED, 2) and a.value == "one:x"


def test_c_damaged(daemon, m, c):
    """An entry that does not unpack, or is encoded in another way, is computed and stored anew."""
    m("run", "x")
    key = next(iter(c.list_entries("slow"))).key
    for damage in b"\xff" * 40, b"\0":
        c.set("slow", key, damage, encoding=wire.pb.ENCODING_LZ4, raw_size=200)
        assert not m("run", "x").hit
        assert m("run", "x") == (OK, True, OK, m("run", "x").calls, 5, "one:x", "")
