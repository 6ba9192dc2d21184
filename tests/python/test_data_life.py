# SPDX-License-Identifier: MIT
"""cache_data: how long values live, how many there are, and how they go."""

import datetime
import os
import threading

import pytest

import cached
import harness

APP = """
import json, sys, cached
{decorator}
def f(x):
    print("ran", x)
    return [x]
for x in sys.argv[1:]:
    f(int(x))
print(json.dumps(f.cache_info()._asdict()))
"""


def later(clock, ms):
    """So much later. Readers of the daemon's memory have its clock from there, where it puts it with the next
    request."""
    clock.advance(ms)
    for _ in range(2):  # the first may be answered in a turn that had begun before
        cached._client.current().stats()


def make(**options):
    runs = []

    @cached.cache_data(**options)
    def f(x):
        runs.append(x)
        return [x, len(runs)]

    f.runs = runs
    return f


@pytest.mark.parametrize("ttl, ms", [
    (90, 90_000), (0.5, 500), ("1h30m", 5_400_000), (datetime.timedelta(minutes=1), 60_000),
])
def test_ttl(daemon, clock, ttl, ms):
    f = make(ttl=ttl)
    assert f(1) == [1, 1]
    later(clock, ms - 100)
    assert f(1) == [1, 1]  # a hit, which does not extend it
    later(clock, 101)
    assert f(1) == [1, 2] and f.runs == [1, 1]


def test_ttl_of_other_processes_values(daemon, clock, python):
    app = APP.format(decorator="@cached.cache_data(ttl=10)")

    def runs():
        process = python.start(app, 1)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return out.count("ran")

    assert [runs(), runs()] == [1, 0]
    later(clock, 10_001)
    assert [runs(), runs()] == [1, 0]


def test_max_entries_leaves_those_used_last(daemon):
    f = make(max_entries=3)
    for x in (1, 2, 3, 1, 4):  # 2 was used least recently
        f(x)
    assert f.cache_info().entries == 3
    f.runs.clear()
    f(1), f(3), f(4)
    assert f.runs == []
    f(2)
    assert f.runs == [2] and f.cache_info().entries == 3
    assert 3 * 32 < f.cache_info().bytes < 3000  # the keys alone take 32 each


def test_max_bytes(daemon):
    @cached.cache_data(max_bytes="100K")
    def f(x):
        return os.urandom(30_000)

    for x in range(10):
        f(x)
    assert 1 <= f.cache_info().entries <= 3


def test_the_policy_is_told_to_another_daemon(daemon):
    f = make(max_entries=2)
    for x in range(4):
        f(x)
    assert f.cache_info().entries == 2
    daemon.stop()
    daemon.start()
    harness.wait_until(lambda: f(7) and f.cache_info().entries, "a value is stored")
    f._cached_controls._memo._opened = (None, 0.0)
    for x in range(4):
        f(x)
    assert f.cache_info().entries == 2


def test_clear_one_and_all(daemon, python):
    f = make()
    g = make()
    assert [f(1), f(2)] == [[1, 1], [2, 2]]
    f.clear(x=1)
    assert [f(1), f(2)] == [[1, 3], [2, 2]]
    f.clear()
    f.clear()
    assert [f(2), f(1)] == [[2, 4], [1, 5]]
    g.clear()  # never called
    cached.cache_data.clear()
    assert f(1) == [1, 6]


def test_clear_is_for_all_processes_and_versions(daemon, python):
    app = """
    import json, sys, cached
    ran = []
    @cached.cache_data
    def f(x):
        ran.append(x)
        return x + 0
    if sys.argv[1] == "clear":
        f.clear()
    f(1)
    print(json.dumps(ran))
    """
    other = app.replace("x + 0", "x + 0.0")
    assert [python(app, ""), python(other, ""), python(app, ""), python(other, "")] == [[1], [1], [], []]
    assert python(app, "clear") == [1]
    assert python(other, "") == [1]


def test_tags(daemon):
    runs = []

    @cached.cache_data(tags=lambda value, user, n: [f"user:{user}", f"value:{value}"])
    def f(user, n):
        runs.append(user)
        return n

    f("a", 1), f("a", 2), f("b", 1)
    assert cached.clear_tag(f, "user:a") == 2
    runs.clear()
    f("a", 1), f("a", 2), f("b", 1)
    assert runs == ["a", "a"]
    assert f.clear_tag("value:1") == 2 and f.clear_tag("value:7") == 0

    g = make(tags=["g"])
    g(1)
    assert g.clear_tag("g") == 1 and g(1) == [1, 2]


def test_tags_that_are_none(daemon):
    f = make()
    g = cached.cache_data(tags=lambda value, x: "text")(f.__wrapped__)
    with pytest.raises(TypeError, match="tags must be a list"):
        g(1)
    assert f(1) == [1, 2]  # the lease was given back


def test_cache_if(daemon):
    f = make(cache_if=lambda value: value[0] > 1)
    assert [f(1), f(1), f(2), f(2)] == [[1, 1], [1, 2], [2, 3], [2, 3]]

    g = make(cache_if=lambda value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        g(1)


def test_background_refresh(daemon, clock):
    """An old value is given at once, and computed anew by one."""
    go = threading.Event()
    runs = []

    @cached.cache_data(ttl=10, stale_for=100, refresh_mode="background")
    def f(x):
        runs.append(threading.current_thread() is threading.main_thread())
        if len(runs) > 1:
            assert go.wait(harness.PATIENCE)
        return [x, len(runs)]

    assert f(1) == [1, 1]
    later(clock, 10_001)
    for _ in range(20):
        assert f(1) == [1, 1]
    go.set()
    harness.wait_until(lambda: f(1) == [1, 2], "the new value is there")
    assert runs == [True, False]
    later(clock, 110_001)  # beyond the window
    assert f(1) == [1, 3] and runs[-1]


def test_background_refresh_without_a_window_has_the_ttl_again(daemon, clock):
    f = make(ttl=10, refresh_mode="background")
    f(1)
    later(clock, 19_000)
    assert f(1) == [1, 1]
    harness.wait_until(lambda: f(1) == [1, 2], "the new value is there")
    later(clock, 20_001)
    assert f(1) == [1, 3]


def test_background_refresh_is_one_on_the_machine(daemon, clock, python):
    app = """
    import json, sys, cached
    @cached.cache_data(ttl=10, stale_for=100, refresh_mode="background")
    def f(x):
        open(sys.argv[1], "a").write("x")
        if sys.argv[2] == "hang":
            sys.stdin.read()
        return x
    f(1)
    print("{}", flush=True)
    sys.stdin.read()
    """
    path = harness.pathlib.Path(python.folder) / "runs"
    first = python.start(app, path, "")
    assert first.stdout.readline() == "{}\n"
    later(clock, 10_001)
    others = [python.start(app, path, "hang") for _ in range(3)]
    for process in others:
        assert process.stdout.readline() == "{}\n"
    harness.wait_until(lambda: path.read_text() == "xx", "one computes")
    for process in [first, *others]:
        assert process.communicate("", timeout=60)[0] == "" and process.returncode == 0
    assert path.read_text() == "xx"


def test_a_refresh_that_fails_leaves_the_old_value(daemon, clock):
    runs = []

    @cached.cache_data(ttl=10, refresh_mode="background")
    def f(x):
        runs.append(x)
        if len(runs) == 2:
            raise LookupError("away")
        return len(runs)

    hook, told = threading.excepthook, []
    threading.excepthook = lambda args: told.append(args.exc_type)
    try:
        assert f(1) == 1
        later(clock, 10_001)
        assert f(1) == 1
        harness.wait_until(lambda: told, "the failure is told")
        harness.wait_until(lambda: f(1) == 3, "the next one succeeds")
        assert told == [LookupError]
    finally:
        threading.excepthook = hook


def test_a_window_without_background(daemon, clock):
    """One caller computes, and has the new value."""
    f = make(ttl=10, stale_for=100)
    f(1)
    later(clock, 10_001)
    assert f(1) == [1, 2]


def test_warming_computes_anew_once(daemon, python):
    app = """
    import json, cached
    ran = []
    @cached.cache_data(cache="warmed")
    def f(x):
        ran.append(x)
        return x
    [f(1) for _ in range(3)]
    print(json.dumps(ran))
    """
    assert [python(app), python(app)] == [[1], []]
    assert python(app, env={"CACHED_WARM": "other:warmed"}) == [1]
    assert python(app, env={"CACHED_WARM": "other:warmed2"}) == []


def test_values_of_sessions(daemon, clock):
    """Each session has its own, and they end with it."""
    runs = []

    @cached.cache_data(scope="session")
    def f(x):
        runs.append(x)
        return [x, len(runs)]

    with pytest.raises(RuntimeError, match="no session is bound"):
        f(1)
    one, two = cached.session(), cached.session()
    with cached.bind_session(one):
        assert f(1) == f(1) == [1, 1]
    with cached.bind_session(two):
        assert f(1) == f(1) == [1, 2]
        f.clear()
        assert f(1) == [1, 3]
    with cached.bind_session(one):
        assert f(1) == [1, 1] and f.cache_info().entries == 1
    one.close()
    two.close()
