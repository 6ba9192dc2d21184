# SPDX-License-Identifier: MIT
"""cache_data: whatever is wrong with the daemon, the function runs, and one warning says so."""

import json
import os
import signal
import socket
import threading
import time
import warnings

import pytest

import cached
import harness


def make(**options):
    runs = []

    @cached.cache_data(**options)
    def f(x):
        runs.append(x)
        return [x]

    f.runs = runs
    return f


@pytest.fixture
def told():
    with warnings.catch_warnings(record=True) as list_of:
        warnings.simplefilter("always")
        yield list_of


def only_one(told, *words):
    assert [w.category for w in told] == [cached.CacheWarning], [str(w.message) for w in told]
    assert all(word in str(told[0].message) for word in words), told[0].message


def test_no_daemon(told, monkeypatch, tmp_path):
    monkeypatch.setenv("CACHED_SOCKET", str(tmp_path / "none"))
    f = make()
    assert [f(1), f(1), f(2)] == [[1], [1], [2]] and f.runs == [1, 1, 2]
    only_one(told, str(tmp_path / "none"), "said once")
    assert told[0].filename == __file__  # the line that called it
    for call in (f.clear, lambda: f.clear(1), cached.cache_data.clear, f.cache_info, lambda: f.clear_tag("x")):
        with pytest.raises(cached.CacheError):
            call()


def test_no_daemon_and_no_value_either(told, monkeypatch, tmp_path):
    """What is wrong with a value is told, with a daemon and without."""
    monkeypatch.setenv("CACHED_SOCKET", str(tmp_path / "none"))

    @cached.cache_data
    def f():
        return (i for i in range(3))

    @cached.cache_data
    def g():
        raise LookupError("own")

    with pytest.raises(cached.CachedGeneratorError):
        f()
    with pytest.raises(LookupError, match="own"):
        g()


def test_a_daemon_that_comes_later(daemon, told):
    daemon.stop()
    f = make()
    assert f(1) == f(1) == [1] and len(f.runs) == 2
    daemon.start()

    def is_kept():
        f(1)
        before = len(f.runs)
        f(1)
        return len(f.runs) == before
    harness.wait_until(is_kept, "values are kept")
    only_one(told)


def test_a_daemon_that_is_killed(daemon, told):
    f = make()
    f(1)
    daemon.process.kill()
    daemon.process.wait()
    assert f(1) == [1] and f.runs == [1]  # its memory serves on
    assert f(2) == f(2) == [2] and f.runs == [1, 2, 2]
    only_one(told)
    daemon.socket.unlink()
    daemon.start()

    def is_kept():
        f(3)
        before = len(f.runs)
        f(3)
        return len(f.runs) == before
    harness.wait_until(is_kept, "values are kept")


def test_a_daemon_that_is_killed_while_the_function_runs(daemon, told):
    @cached.cache_data
    def f(x):
        daemon.process.kill()
        daemon.process.wait()
        return [x]

    assert f(1) == [1]
    only_one(told)
    daemon.socket.unlink()
    daemon.start()


def test_a_daemon_that_is_stopped(daemon, told):
    """It is waited for as long as a look-up may take, once."""
    f = make()
    f(1)
    with daemon.stopped():
        start = time.monotonic()
        assert f(2) == [2]
        once = time.monotonic() - start
        start = time.monotonic()
        for x in range(3, 13):
            assert f(x) == [x]
        often = time.monotonic() - start
        assert f(1) == [1] and f.runs.count(1) == 1
    assert once < 5 and often < 5  # neither is the handle's timeout, ten times
    only_one(told)


def test_a_daemon_of_another_version(told, monkeypatch, tmp_path):
    """Whatever it is that answers there."""
    path = tmp_path / "s"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    over = threading.Event()

    def serve():
        while not over.is_set():
            try:
                peer = server.accept()[0]
            except OSError:
                return
            with peer:
                peer.recv(1000)
                peer.sendall(b"220 another protocol\r\n" * 20)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    monkeypatch.setenv("CACHED_SOCKET", str(path))
    f = make()
    assert f(1) == f(1) == [1] and len(f.runs) == 2
    assert 1 <= len(told) <= 2 and {w.category for w in told} == {cached.CacheWarning}
    over.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.fixture
def other(make_daemon, monkeypatch):
    """A function: other(...) starts a daemon of another configuration, which the package finds."""
    def make_other(**config):
        daemon = make_daemon(**config)
        monkeypatch.setenv("CACHED_SOCKET", str(daemon.socket))
        return daemon

    yield make_other
    cached._client.current().close()
    cached.configure()


def test_a_value_that_is_too_large(other, told):
    other(limits={"value_bytes": "100K"})
    runs = []

    @cached.cache_data
    def f(n):
        runs.append(n)
        return os.urandom(n)

    assert len(f(200_000)) == 200_000 and len(f(200_000)) == 200_000 and len(runs) == 2
    only_one(told, "f() is not stored")
    assert f(1000) == f(1000) and len(runs) == 3


def test_a_daemon_without_room(other, told):
    """A value that no room can be made for. Where others can leave, they do."""
    other(memory={"realm_budget": "1M"})
    f = cached.cache_data(lambda n: os.urandom(n))
    assert len(f(3_000_000)) == 3_000_000
    only_one(told, "is not stored")
    values = [f(100_000 + n) for n in range(20)]
    assert f(100_019) == values[-1] and len(told) == 1


USER = """
import json, os, sys, warnings, cached
warnings.simplefilter("ignore")
uid, what, options = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
ran = []

class Thing:
    pass

@cached.cache_data(cache="ours", version="1", **options)
def f(x):
    ran.append(x)
    return Thing() if x == "thing" else [x, {"of": os.geteuid()}]

os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
value = f(what)
print(json.dumps([type(value).__name__, len(ran), value if what != "thing" else None]))
"""


def test_two_users_of_a_realm(make_daemon, python, monkeypatch):
    """What another one pickled is not loaded, unless it is asked for; what needs no pickle is."""
    harness.needs_root()
    daemon = make_daemon(daemon={"socket_mode": "0666"}, extra="[realm team]\nwriters = 1234, 1235\n")
    daemon.dir.chmod(0o755)
    env = {"CACHED_SOCKET": str(daemon.socket), "CACHED_REALM": "team"}

    def call(uid, what, **options):
        return python(USER, uid, what, json.dumps(options), env=env)

    assert call(1234, "plain") == ["list", 1, ["plain", {"of": 1234}]]
    assert call(1235, "plain") == ["list", 0, ["plain", {"of": 1234}]]
    assert call(1234, "thing") == ["Thing", 1, None]
    assert call(1234, "thing") == ["Thing", 0, None]
    assert call(1235, "thing") == ["Thing", 1, None]  # computed, and not stored over the other's
    assert call(1234, "thing") == ["Thing", 0, None]
    assert call(1235, "thing", unpickle="any") == ["Thing", 0, None]
    assert call(1234, "thing", unpickle="never")[1] == 1


def test_a_signal_ends_a_wait_for_nothing(daemon):
    """A handler that raises leaves no lease behind."""
    def handler(*_):
        raise TimeoutError("enough")

    runs = []

    @cached.cache_data
    def f(x):
        runs.append(x)
        if len(runs) == 1:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            time.sleep(harness.PATIENCE)
        return [x]

    left = signal.getitimer(signal.ITIMER_REAL)[0]
    old = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(TimeoutError):
            f(1)
    finally:
        signal.signal(signal.SIGALRM, old)
        signal.setitimer(signal.ITIMER_REAL, left)
    assert f(1) == [1] == f(1) and len(runs) == 2
