# SPDX-License-Identifier: MIT
"""Decorated `async def`."""

import asyncio
import inspect
import threading
import time

import pytest

import cached
import harness


def make(**options):
    runs = []

    @cached.cache_data(**options)
    async def f(x, pause=0.05):
        """What it does."""
        runs.append(x)
        await asyncio.sleep(pause)
        return [x, len(runs)]

    f.runs = runs
    return f


def run(coroutine):
    async def limited():
        return await asyncio.wait_for(coroutine, harness.PATIENCE * 2)
    return asyncio.run(limited())


def test_it_is_a_coroutine_function(daemon):
    f = make()
    assert inspect.iscoroutinefunction(f) and f.__doc__ == "What it does." and "pause" in str(inspect.signature(f))
    assert run(f(1)) == [1, 1]
    assert run(f(1)) == [1, 1] and f.runs == [1]
    f.clear(1)
    assert run(f(1)) == [1, 2] and f.cache_info().entries == 1
    f.clear()
    assert run(f(1)) == [1, 3] and len(f.key(1)) == 32


def test_processes_share(daemon, python):
    app = """
    import asyncio, json, cached
    ran = []
    @cached.cache_data
    async def f(x):
        ran.append(x)
        return [x]
    print(json.dumps([asyncio.run(f(1)), ran]))
    """
    assert [python(app), python(app)] == [[[1], [1]], [[1], []]]


def test_many_tasks_compute_once(daemon):
    f = make()

    async def main():
        return await asyncio.gather(*(f(1) for _ in range(200)))

    values = run(main())
    assert values == [[1, 1]] * 200 and f.runs == [1]
    values[0].append("mine")
    assert values[1] == [1, 1] and len({id(v) for v in values}) == 200


def test_loops_of_two_processes_compute_once(daemon, python):
    app = """
    import asyncio, json, cached
    ran = []
    @cached.cache_data
    async def f(x):
        ran.append(x)
        await asyncio.sleep(1)
        return [x]
    async def main():
        return await asyncio.gather(*(f(1) for _ in range(20)))
    assert asyncio.run(main()) == [[1]] * 20
    print(json.dumps(len(ran)))
    """
    processes = [python.start(app) for _ in range(3)]
    assert sum(python.result(p) for p in processes) == 1


def test_the_loop_goes_on_meanwhile(daemon, python, tmp_path):
    """While another process computes, and while the daemon says nothing."""
    go = tmp_path / "go"
    app = """
    import os, sys, time, cached
    @cached.cache_data(cache="slow", version="1")
    async def slow():
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        return 7
    import asyncio
    asyncio.run(slow())
    """
    process = python.start(app, go)

    def computing():
        with daemon.probe() as c:
            return len(c.must("list_leases").list_leases.computations)
    harness.wait_until(computing, "it computes")

    async def main():
        ticks = 0
        task = asyncio.ensure_future(slow())
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
            if ticks == 20:
                go.touch()
        return await task, ticks

    value, ticks = run(main())
    assert value == 7 and ticks >= 20
    process.communicate(timeout=60)
    f = make()

    async def stopped():
        start, longest = time.monotonic(), 0.0
        task = asyncio.ensure_future(f(1))
        while not task.done():
            before = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - before)
        return await task, longest, time.monotonic() - start

    with daemon.stopped(), pytest.warns(cached.CacheWarning):
        value, longest, took = run(stopped())
    assert value == [1, 1] and took >= 0.2 and longest < took / 2


@cached.cache_data(cache="slow", version="1")
async def slow():
    return 8


def test_exceptions_are_not_kept(daemon):
    runs = []

    @cached.cache_data
    async def f(x):
        runs.append(x)
        await asyncio.sleep(0.02)
        if len(runs) == 1:
            raise LookupError("first")
        return [x]

    async def main():
        return await asyncio.gather(*(f(1) for _ in range(5)), return_exceptions=True)

    values = run(main())
    assert sum(isinstance(v, LookupError) for v in values) == 1 and values.count([1]) == 4 and runs == [1, 1]


def test_cancelled_while_it_computes(daemon):
    f = make()

    async def main():
        first = asyncio.ensure_future(f(1, 30))
        await until(lambda: f.runs)
        second = asyncio.ensure_future(f(1, 30))
        await asyncio.sleep(0.05)
        first.cancel()
        await until(lambda: len(f.runs) == 2)  # the other one goes on
        second.cancel()
        return await asyncio.gather(first, second, return_exceptions=True)

    assert [type(e) for e in run(main())] == [asyncio.CancelledError] * 2
    f.runs.clear()
    assert run(f(1, 0.01)) == [1, 1]


async def until(condition):
    deadline = time.monotonic() + harness.PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_cancelled_while_it_waits_for_another_process(daemon, python, tmp_path):
    go = tmp_path / "go"
    app = """
    import asyncio, os, sys, cached
    @cached.cache_data(cache="slow", version="1")
    async def slow():
        while not os.path.exists(sys.argv[1]):
            await asyncio.sleep(0.01)
        return 7
    asyncio.run(slow())
    """
    process = python.start(app, go)

    def waiters():
        with daemon.probe() as c:
            return [x.waiters for x in c.must("list_leases").list_leases.computations]
    harness.wait_until(lambda: waiters() == [0], "it computes")

    async def main():
        task = asyncio.ensure_future(slow())
        await until(lambda: waiters() == [1])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    harness.wait_until(lambda: waiters() == [0], "nobody waits")
    go.touch()
    process.communicate(timeout=60)
    assert run(slow()) == 7


def test_nested(daemon):
    inner = make()

    @cached.cache_data
    async def outer(x):
        return ["outer", *(await asyncio.gather(inner(x), inner(x), inner(x + 1)))]

    assert run(outer(1)) == ["outer", [1, 2], [1, 2], [2, 2]] and sorted(inner.runs) == [1, 2]


def test_parts_of_a_computation_that_need_each_other(daemon):
    """To the daemon they are one."""
    begun = []

    @cached.cache_data
    async def a(x):
        begun.append("a")
        await asyncio.sleep(0.1)
        return ["a", await b(x) if len(begun) < 4 else None]

    @cached.cache_data
    async def b(x):
        begun.append("b")
        await asyncio.sleep(0.1)
        return ["b", await a(x) if len(begun) < 4 else None]

    @cached.cache_data
    async def outer(x):
        return await asyncio.gather(a(x), b(x))

    first, second = run(outer(1))
    assert first[0] == "a" and second[0] == "b"


@pytest.mark.parametrize("away", [False, True])
def test_it_asks_for_itself(daemon, away):
    runs = []

    @cached.cache_data
    async def f(x):
        runs.append(x)
        if len(runs) > 1:
            return "inner"
        return ["outer", await f(x), await asyncio.ensure_future(f(x))]

    if away:
        daemon.stop()
        with pytest.warns(cached.CacheWarning):
            assert run(f(1)) == ["outer", "inner", "inner"]
        return
    assert run(f(1)) == ["outer", "inner", "inner"]
    assert run(f(1)) == ["outer", "inner", "inner"] and len(runs) == 3


def test_two_that_need_each_other(daemon):
    begun = []

    @cached.cache_data
    async def a(depth):
        begun.append("a")
        await asyncio.sleep(0.1)
        return ["a", await b(0) if depth == 0 and len(begun) < 4 else None]

    @cached.cache_data
    async def b(depth):
        begun.append("b")
        await asyncio.sleep(0.1)
        return ["b", await a(0) if depth == 0 and len(begun) < 4 else None]

    async def main():
        return await asyncio.gather(a(0), b(0))

    first, second = run(main())
    assert first[0] == "a" and second[0] == "b"


def test_methods(daemon):
    class Model:
        @cached.cache_data
        async def times(_self, n):
            runs.append(n)
            return [n]

    runs = []
    assert [run(Model().times(2)), run(Model().times(2))] == [[2], [2]] and runs == [2]


def test_what_is_not_kept_is_shared(daemon):
    f = make(cache_if=lambda value: False)

    async def main():
        return await asyncio.gather(*(f(1) for _ in range(5)))

    values = run(main())
    assert values == [[1, 1]] * 5 and len({id(v) for v in values}) == 5
    assert run(f(1)) == [1, 2]


def test_background_refresh(daemon, clock):
    f = make(ttl=10, refresh_mode="background")

    async def main():
        assert await f(1) == [1, 1]
        clock.advance(10_001)
        cached._client.current().stats()
        assert await asyncio.gather(*(f(1) for _ in range(5))) == [[1, 1]] * 5
        while await f(1) != [1, 2]:
            await asyncio.sleep(0.01)

    run(main())
    assert f.runs == [1, 1]


def test_no_daemon(monkeypatch, tmp_path):
    monkeypatch.setenv("CACHED_SOCKET", str(tmp_path / "none"))
    f = make()
    with pytest.warns(cached.CacheWarning) as told:
        assert run(f(1)) == [1, 1] and run(f(1)) == [1, 2]
    assert len(told) == 1


def test_loops_in_threads(daemon):
    f = make()
    values = []
    threads = [threading.Thread(target=lambda: values.append(run(f(1)))) for _ in range(5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert values == [[1, 1]] * 5 and f.runs == [1]


def test_values_that_are_none(daemon):
    @cached.cache_data
    async def f():
        return (i for i in range(3))

    with pytest.raises(cached.CachedGeneratorError):
        run(f())

    @cached.cache_data
    async def g():
        return threading.Lock()

    with pytest.raises(cached.UnserializableReturnValueError, match="g"):
        run(g())


@pytest.mark.parametrize("keep", [True, False])
def test_sessions_of_one_loop_stay_apart(daemon, keep):
    """Two sessions compute the same key at the same time: neither gets what the other one's function gave."""
    @cached.cache_data(scope="session", cache_if=lambda value: keep)
    async def whose(x):
        name = cached.session_state.name
        await asyncio.sleep(0.1)
        return [name]

    async def in_session(name):
        with cached.bind_session(cached.session()) as session:
            session.name = name
            found = [await whose(1), await whose(1)]
        session.close()
        return found

    async def both():
        return await asyncio.gather(in_session("one"), in_session("two"))

    assert run(both()) == [[["one"]] * 2, [["two"]] * 2]
