# SPDX-License-Identifier: MIT
"""Counting in sessions: `s.n += 1` and incr(), by many processes, none lost."""

import copy
import json
import math
import pickle

import pytest

import cached
from harness import wait_until
from session_tools import cachectl, restart

PROCESSES, EACH = 20, 25


@pytest.fixture
def s(daemon):
    made = cached.session()
    yield made
    wait_until(lambda: closed(made), "it is closed")


def closed(session):
    """A handle does not ask a daemon that was away again at once."""
    try:
        session.close()
    except cached.SessionUnavailableError:
        return False
    return True


COUNT = """
    import cached, sys
    s = cached.session(sys.argv[1])
    for i in range(int(sys.argv[2])):
        s.n += 1
        s["f"] += 0.5
        s.down -= 2
        s.incr("i")
        s.incr("g", 0.25, start=0.0)
        s.incr("big", 10 ** 20)
    with cached.bind_session(s):
        for i in range(5):
            cached.session_state.n += 1
"""


def test_twenty_processes_lose_none(s, python):
    s.update(n=0, f=0.0, down=0)
    for p in [python.start(COUNT, s.token, EACH, name=f"p{i}") for i in range(PROCESSES)]:
        python.result(p)
    total = PROCESSES * EACH
    assert dict(s) == {"n": total + 5 * PROCESSES, "f": total / 2, "down": -2 * total, "i": total, "g": total / 4,
                       "big": total * 10 ** 20}
    assert isinstance(s.n, int) and isinstance(s.f, float) and isinstance(s.g, float)


def test_counting_through_a_crash(daemon, s, python):
    """Killed, and started with its memory: what was counted is there, once. Who found no daemon has counted nothing, and
    assigns the same again."""
    s.n = 0
    program = """
        import cached, sys, time
        s = cached.session(sys.argv[1])

        def tried(act):
            for _ in range(4000):
                try:
                    return act()
                except cached.SessionUnavailableError as error:
                    if act is write and error.code != cached._binding.ERR_UNREACHABLE:
                        raise
                    time.sleep(0.005)
            raise SystemExit("no daemon comes back")

        def read():
            return s.n

        def write():
            s.n = n

        for i in range(200):
            n = tried(read)
            n += 1
            tried(write)
            if i == 20:
                print("counting", flush=True)
    """
    running = [python.start(program, s.token, name=f"p{i}") for i in range(3)]
    for p in running:
        assert p.stdout.readline() == "counting\n"
    restart(daemon)
    for p in running:
        python.result(p)
    assert cached.session(s.token).n == 600


def test_what_is_read_is_a_number(s):
    s.n, s.f = 41, 1.5
    n, f = s.n, s.f
    assert type(n) is not int and type(f) is not float
    assert (n, f, repr(n), repr(f), str(n), f"{n:03d}") == (41, 1.5, "41", "1.5", "41", "041")
    assert json.dumps([n, f]) == "[41, 1.5]" and {n: 1}[41] == 1 and hash(f) == hash(1.5) and range(50)[n] == 41
    for made in (pickle.loads(pickle.dumps(n)), copy.copy(n), copy.deepcopy(n), n + 0, +n):
        assert type(made) is int and made == 41
    for made in (pickle.loads(pickle.dumps([f]))[0], copy.copy(f), copy.deepcopy(f), f + 0, +f):
        assert type(made) is float and made == 1.5
    n += 1
    assert n == 42 and s.n == 41, "adding alone stores nothing"
    assert type(pickle.loads(pickle.dumps(n))) is int


def test_as_arguments_and_values_of_cached_functions_they_are_numbers(s):
    """The key is that of the plain number, and so is what is stored."""
    s.n, s.f = 42, 1.5

    @cached.cache_data
    def f(x):
        return [x]

    assert f.key(s.n) == f.key(42) and f.key([s.f, {"a": s.n}]) == f.key([1.5, {"a": 42}])
    assert f.key(s.n) != f.key(43) and f.key(s.f) != f.key(2)
    assert [type(x) for x in f(s.n) + f(s.f)] == [int, float] and f(42) == [42]


def test_in_place_counts_and_plain_assignment_sets(s):
    other = cached.session(s.token)
    s.n = 10
    before = s.n
    other.n += 5
    s.n = before + 1
    assert s.n == 11, "a plain assignment is a set"
    before = s.n
    other.n += 5
    before += 1
    before += 2
    before -= 10
    s.n = before
    assert s.n == 11 + 5 - 7, "what was added in place is added to what is there"
    s.n = before
    assert s.n == 4, "assigned again, it is set"
    before += 3
    s.n = before
    assert s.n == 7
    n = s.n
    n += 1
    s.m = n
    assert s.m == 8 and s.n == 7, "another key is set"
    another = cached.session()
    another.n = 100
    another.n = n
    assert another.n == 8, "another session is set"
    s.n = n
    assert s.n == 8
    n = s.n
    other.n = 50
    n *= 2
    s.n = n
    assert s.n == 16, "multiplied: a set"
    n = s.n
    n += 1
    s.update(n=n, m=0)
    other.n += 1
    assert s.n == 18 and s.m == 0
    another.close()


def test_kinds_of_numbers(s):
    other = cached.session(s.token)
    s.n = 1
    n = s.n
    other.n += 1
    n += 0.5
    s.n = n
    assert s.n == 2.5 and isinstance(s.n, float)
    s.n += 0.5
    assert s.n == 3.0 and isinstance(s.n, float)
    s.n += 1
    assert s.n == 4.0 and isinstance(s.n, float)
    s.b = True
    s.b += 1
    assert s.b == 2 and isinstance(s.b, int)
    s.t = "a"
    s.t += "b"
    assert s.t == "ab"
    with pytest.raises(TypeError, match='session key "t" has no number'):
        s.incr("t")
    s.digits = "42"
    n = s.n
    n += 1
    with pytest.raises(TypeError):
        s.n += "x"
    for by in (True, "1", None, 1j):
        with pytest.raises(TypeError, match="int or a float"):
            s.incr("n", by)
    s.l = [1]
    with pytest.raises(TypeError, match="has no number"):
        s.incr("l")
    assert s.l == [1]


def test_beyond_64_bits_and_not_finite(s):
    other = cached.session(s.token)
    s.n = 2 ** 63 - 1
    n = s.n
    other.n += 1
    n += 1
    s.n = n
    assert s.n == 2 ** 63 + 1
    s.n -= 2 ** 70
    assert s.n == 2 ** 63 + 1 - 2 ** 70
    assert s.incr("n", 2 ** 70) == 2 ** 63 + 1
    s.n -= 10
    s.n -= 1
    assert s.n == 2 ** 63 - 10
    s.f = 1e308
    s.f += 1e308
    assert s.f == math.inf
    s.f -= math.inf
    assert math.isnan(s.f)
    s.f += 1
    assert math.isnan(s.f)
    s.f = 10 ** 400
    with pytest.raises(OverflowError):
        s.incr("f", 0.5)
    assert s.f == 10 ** 400


def test_a_failed_count_is_not_forgotten(s):
    s.n = 1
    n = s.n
    n += 5
    del s.n
    with pytest.raises(KeyError):
        s.n = n
    s.n = 10
    s.n = n
    assert s.n == 15


def test_other_languages_count_the_same(daemon, s):
    s.n = 5
    n = s.n
    cachectl(daemon, s, "incr", "@", "n", "10")
    n += 1
    s.n = n
    assert cachectl(daemon, s, "get", "@", "n").strip() == "16"


def test_start(s):
    assert s.incr("a", start=10) == 11 and s.incr("b", 0.5, start=1) == 1.5 and s.incr("c", 2 ** 64) == 2 ** 64
    assert s.incr("d", by=2, start=0.5) == 2.5 and isinstance(s.d, float)
