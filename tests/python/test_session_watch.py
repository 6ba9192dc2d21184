# SPDX-License-Identifier: MIT
"""Being told of changes, and the session that is bound."""

import asyncio
import queue
import threading

import pytest

import cached
from harness import PATIENCE, wait_until
from session_tools import cachectl, restart, take_over


@pytest.fixture
def s(daemon):
    made = cached.session()
    yield made
    try:
        made.close()
    except cached.SessionExpiredError:
        pass


@pytest.fixture
def told():
    return queue.Queue()


def answers(s):
    """A handle does not ask a daemon that was away again at once."""
    def asked():
        try:
            return s.get("a")
        except cached.SessionUnavailableError:
            return False

    wait_until(asked, "the session is there again")


def nothing(told):
    return told.empty()


def test_told_of_other_processes(daemon, s, python, told):
    s.k = 1
    s.on_change("k", told.put, ("k",))
    s.on_change("new", lambda **kw: told.put(kw), kwargs={"a": 1})
    python("import cached, sys; s = cached.session(sys.argv[1]); s.other = 1; s.k = 2", s.token)
    assert told.get(timeout=PATIENCE) == "k" and s.k == 2
    cachectl(daemon, s, "set", "@", "new", "x")
    assert told.get(timeout=PATIENCE) == {"a": 1}
    s.k += 1
    assert told.get(timeout=PATIENCE) == "k"
    del s.k
    assert told.get(timeout=PATIENCE) == "k"
    s.clear()
    assert told.get(timeout=PATIENCE) == {"a": 1}
    assert nothing(told)


def test_no_more(s, told):
    first, second = s.on_change("k", told.put, (1,)), s.on_change("k", told.put, (2,))
    first.cancel()
    s.k = 1
    assert told.get(timeout=PATIENCE) == 2
    second()
    wait_until(lambda: not any(t.name == "cached-session" for t in threading.enumerate()), "the thread ends")
    s.k = 2
    s.on_change("k", told.put, (3,))
    s.k = 3
    assert told.get(timeout=PATIENCE) == 3 and nothing(told)
    s.close()
    wait_until(lambda: not any(t.name == "cached-session" for t in threading.enumerate()), "the thread ends")


def test_a_callback_that_fails_does_not_stop_the_others(s, told, monkeypatch):
    failed = queue.Queue()
    monkeypatch.setattr(threading, "excepthook", lambda args: failed.put(args.exc_type))
    s.on_change("k", lambda: 1 / 0)
    s.on_change("k", told.put, (1,))
    for _ in range(2):
        s.k = 1
        assert told.get(timeout=PATIENCE) == 1 and failed.get(timeout=PATIENCE) is ZeroDivisionError


def test_over_a_restart(daemon, s, told):
    """Who has another value than before is told, and from then on of all again."""
    s.a, s.b = 1, 1
    s.on_change("a", told.put, ("a",))
    s.on_change("b", told.put, ("b",))
    take_over(daemon)
    cachectl(daemon, s, "set", "@", "a", "2")
    assert told.get(timeout=PATIENCE) == "a"
    restart(daemon)
    answers(s)
    s.b = 2
    assert told.get(timeout=PATIENCE) == "b"
    s.a = 3
    # What changes while the watcher comes again may be told twice: by the event, and since the value is another one.
    while (key := told.get(timeout=PATIENCE)) == "b":
        pass
    assert key == "a"


def test_a_dispatcher(s, told):
    loop = asyncio.new_event_loop()
    assert cached.set_dispatcher(loop.call_soon_threadsafe) is None
    try:
        def on_change():
            told.put(threading.current_thread())
            loop.stop()

        s.on_change("k", on_change)
        s.k = 1
        loop.run_forever()
        assert told.get_nowait() is threading.current_thread()
    finally:
        assert cached.set_dispatcher(None) == loop.call_soon_threadsafe
        loop.close()
    with pytest.raises(TypeError):
        cached.set_dispatcher(5)


def test_attached_as_long_as_told(daemon, clock, told):
    s = cached.session(grace=5)
    subscription = s.on_change("k", told.put, ("changed",))
    clock.advance(60_000)
    s.k = 1
    subscription.cancel()
    info = lambda: s._session.info()["attached"]  # noqa: E731
    wait_until(lambda: info() == 0, "it is left")
    clock.advance(6000)
    with pytest.raises(cached.SessionExpiredError):
        wait_until(lambda: s.k != 1, "it is over")


# ---- the session that is bound

def test_unbound():
    for use in (lambda: cached.session_state.k, lambda: cached.session_state["k"], lambda: setattr(cached.session_state, "k", 1),
                lambda: "k" in cached.session_state, lambda: len(cached.session_state), lambda: cached.session_state.token):
        with pytest.raises(cached.SessionUnboundError, match="no session is bound here"):
            use()
    assert "no session is bound" in repr(cached.session_state)
    with pytest.raises(TypeError):
        cached.bind_session("x")


def test_bound(s):
    other = cached.session()
    with cached.bind_session(s):
        state = cached.session_state
        state.k = 1
        state["m"] = 2
        state.k += 1
        assert state.k == 2 and s.k == 2 and list(state) == ["k", "m"] and len(state) == 2 and "m" in state
        assert state.incr("k") == 3 and state.setdefault("k", 9) == 3 and state.token == s.token
        with cached.bind_session(other):
            assert "k" not in state
        del state.k, state["m"]
        with pytest.raises(AttributeError, match='no key "k"'):
            state.k
        with pytest.raises(cached.SessionUnboundError):
            raise in_thread(lambda: state.k)
    binding = cached.bind_session(s)
    binding.release()
    binding.release()
    with pytest.raises(cached.SessionUnboundError):
        cached.session_state.k
    other.close()


def in_thread(function):
    result = []

    def run():
        try:
            result.append(function())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


def test_threads_and_tasks_have_their_own(daemon):
    sessions = [cached.session() for _ in range(4)]

    def run(i):
        with cached.bind_session(sessions[i]):
            for _ in range(20):
                cached.session_state.setdefault("who", i)
                cached.session_state.setdefault("n", 0)
                cached.session_state.n += 1

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def task(i):
        with cached.bind_session(sessions[i]):
            for _ in range(10):
                cached.session_state.n += 1
                await asyncio.sleep(0)
                assert cached.session_state.who == i

    async def main():
        await asyncio.gather(*map(task, range(4)))

    asyncio.run(main())
    assert [dict(s) for s in sessions] == [{"who": i, "n": 30} for i in range(4)]
    for s in sessions:
        s.close()


def test_one_object_and_many_threads(s):
    s.n = 0

    def run():
        for _ in range(50):
            s.n += 1

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert s.n == 300


# ---- caches of its own

def test_a_client_of_its_own(s, python):
    own = s.client()
    own.set("t", b"k", b"mine")
    assert bytes(own.get("t", b"k")) == b"mine" and own is s.client()
    assert cached._client.current().get("t", b"k") is None
    found = python("""
        import cached, json, sys
        with cached.session() as other:
            print(json.dumps([bytes(cached.session(sys.argv[1]).client().get("t", b"k")).decode(), other.client().get("t", b"k")]))
            other.close()
    """, s.token)
    assert found == ["mine", None]
    s.close()
    with pytest.raises(cached.CacheError):
        own.set("t", b"k", b"late")
