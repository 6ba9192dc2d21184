# SPDX-License-Identifier: MIT
"""cache_data(scope="session"): values that belong to one session, and end with it."""

import asyncio
import gc

import pytest

import cached

PROGRAM = """
    import json, os, sys
    import cached

    @cached.cache_data(scope="session", show_spinner=False)
    def f(x):
        return [x, os.getpid()]

    with cached.bind_session(cached.session(sys.argv[1])):
        print(json.dumps([f(1), f(1), f(2)]))
"""


@pytest.fixture
def session(daemon):
    """A function that opens one; they are closed at the end, which the daemon's fixture looks for."""
    opened = []

    def opens():
        opened.append(cached.session())
        return opened[-1]

    yield opens
    for one in opened:
        try:
            one.close()
        except cached.SessionExpiredError:
            pass
    opened.clear()
    gc.collect()  # functions are circles, and one has the session's handle


def test_processes_of_one_session_share_and_others_do_not(session, python):
    mine, other = session(), session()
    first = python(PROGRAM, mine.token)
    assert first[0] == first[1] != first[2]
    assert python(PROGRAM, mine.token) == first
    assert python(PROGRAM, other.token) != first


def test_its_end(session, python):
    one = session()
    first = python(PROGRAM, one.token)
    one.close()
    assert python(PROGRAM, session().token) != first


def test_without_a_session(daemon):
    @cached.cache_data(scope="session", show_spinner=False)
    def f():
        raise AssertionError("it was called")

    with pytest.raises(cached.SessionUnboundError, match="no session is bound"):
        f()


def test_clearing(session):
    runs = []

    @cached.cache_data(scope="session", show_spinner=False)
    def f(x):
        runs.append(x)
        return x

    with cached.bind_session(session()):
        f(1), f(1), f(2)
        cached.cache_data.clear()  # is for all, and so not for one session's
        f(1)
        assert runs == [1, 2]
        f.clear(1)
        f(1), f(2)
        assert runs == [1, 2, 1]
        f.clear()
        f(2)
        assert runs == [1, 2, 1, 2]
    with cached.bind_session(session()):
        f(1)
        assert runs == [1, 2, 1, 2, 1]


def test_a_session_that_is_over(session):
    @cached.cache_data(scope="session", show_spinner=False)
    def f():
        return 5

    one = session()
    with cached.bind_session(one):
        assert f() == 5
        one.close()
        with pytest.warns(cached.CacheWarning):
            assert f() == 5


def test_async(session):
    runs = []

    @cached.cache_data(scope="session", show_spinner=False)
    async def f(x):
        runs.append(x)
        return x

    async def main():
        with cached.bind_session(session()):
            assert [await f(1), await f(1)] == [1, 1]
            assert await asyncio.gather(f(2), f(2)) == [2, 2]
        with cached.bind_session(session()):
            await f(1)

    asyncio.run(main())
    assert runs == [1, 2, 1]
