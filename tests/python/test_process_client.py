# SPDX-License-Identifier: MIT
"""The process's handle: where it leads, what is said when there is no cache, what forks and ends leave behind."""

import json
import os
import signal
import warnings

import pytest

import cached
import harness
from cached import CacheError, CacheWarning, _binding, _client


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """The handle of this process is made anew for each test."""
    monkeypatch.setattr(_client, "_process", _client._Process())


# ---- where it leads

def test_one_handle_for_the_process(daemon):
    assert _client.current() is _client.current()
    assert _client.current().connect()["realm"] == f"uid:{os.geteuid()}"


def test_the_environment_names_the_realm(daemon, monkeypatch):
    monkeypatch.setenv("CACHED_REALM", "no-such-realm")
    with pytest.raises(CacheError, match="no-such-realm"):
        _client.current().connect()
    monkeypatch.setenv("CACHED_REALM", f"uid:{os.geteuid()}")
    cached.configure()
    assert _client.current().connect()["realm"] == f"uid:{os.geteuid()}"


def test_configure_is_stronger_than_the_environment(daemon, tmp_path, monkeypatch):
    monkeypatch.setenv("CACHED_SOCKET", str(tmp_path / "none"))
    before = _client.current()
    cached.configure(socket=str(daemon.socket), realm=f"uid:{os.geteuid()}", timeout=1.5, name="tour")
    assert _client.current() is not before
    _client.current().set("t", b"k", b"v")
    assert bytes(_client.current().get("t", b"k")) == b"v"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 2.0**32, "5", None, True])
def test_wrong_timeouts(timeout):
    with pytest.raises(ValueError, match="timeout is a number of seconds above 0, not "):
        cached.configure(timeout=timeout)


# ---- without a cache

def test_each_trouble_has_its_code(daemon, make_daemon, tmp_path):
    """What users of current() see is a CacheError whose code says what happened."""
    cached.configure(socket=str(tmp_path / "none"))
    with pytest.raises(CacheError) as e:
        _client.current().get("t", b"k")
    assert e.value.code == _binding.ERR_UNREACHABLE
    full = make_daemon(limits={"value_bytes": "8K"})
    cached.configure(socket=str(full.socket))
    with pytest.raises(CacheError) as e:
        _client.current().set("t", b"k", os.urandom(9 << 10))
    assert e.value.code == _binding.TOO_LARGE
    cached.configure(socket=str(daemon.socket))
    _client.current().set("t", b"k", b"v")
    daemon.process.kill()
    daemon.process.wait()
    daemon.process = None  # its end is no fault
    assert bytes(_client.current().get("t", b"k")) == b"v"  # hits go on
    with pytest.raises(CacheError) as e:
        _client.current().set("t", b"k", b"w")
    assert e.value.code in (_binding.ERR_UNREACHABLE, _binding.ERR_DISCONNECTED, _binding.OUTCOME_UNKNOWN)


def test_one_warning_for_each_kind():
    away, closed = CacheError("nobody answers"), CacheError("closed")
    away.code, closed.code = _binding.ERR_UNREACHABLE, _binding.ERR_CLOSED
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for error in (away, closed, away, closed, away):
            _client.warn(error)
        _client.warn_once("kind", "another text")
    assert [str(w.message).split(".")[0] for w in seen] == [
        "the cache is not used: nobody answers", "the cache is not used: closed", "another text"]
    assert {w.category for w in seen} == {CacheWarning} and issubclass(CacheWarning, UserWarning)
    assert {w.filename for w in seen} == {__file__}  # at the line of the program


# ---- ends and forks

WAITS = """
    import sys, threading
    from cached import CacheError, _client
    def wait():
        print("waits", flush=True)
        try:
            _client.current().lease("t", b"k", waiting=(lambda h: False) if sys.argv[1] == "asked" else None, every_ms=10)
        except CacheError:
            pass  # told on stderr it could meet the interpreter's own last words there, which ends old ones by a signal
    for _ in range(3):
        threading.Thread(target=wait, daemon=True).start()
    sys.stdin.readline()
    print("null")
"""


@pytest.mark.parametrize("how", ["asked", "alone"])
def test_the_interpreter_ends_while_threads_wait(daemon, python, how):
    client = _client.current()
    _, lease = client.lease("t", b"k")
    process = python.start(WAITS, how)
    harness.wait_until(lambda: client.stats("t")["waiting"] == 3, "they wait")
    out, err = process.communicate("\n", timeout=harness.PATIENCE)
    assert process.returncode == 0 and out.strip().endswith("null"), err
    assert "Fatal" not in err and "cannot be used" not in err
    lease.set(b"v")


def test_ctrl_c_ends_a_wait(daemon, python):
    client = _client.current()
    _, lease = client.lease("t", b"k")
    process = python.start("""
        from cached import _client
        try:
            _client.current().lease("t", b"k")
        except KeyboardInterrupt:
            print('"interrupted"')
    """)
    harness.wait_until(lambda: client.stats("t")["waiting"] == 1, "it waits")
    process.send_signal(signal.SIGINT)
    assert python.result(process) == "interrupted"
    assert client.stats("t")["waiting"] == 0
    lease.end()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(daemon, python, method):
    """Workers use the cache, with a handle that the parent used before, and so does the parent meanwhile."""
    result = python("""
        import json, multiprocessing, os, sys
        from cached import _client
        def work(i):
            client = _client.current()
            client.set("t", b"%d" % i, b"by a worker")
            return bytes(client.get("t", b"parent")).decode() + bytes(client.get("t", b"%d" % i)).decode()
        if __name__ == "__main__":
            _client.current().set("t", b"parent", b"from the parent ")
            with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
                done = pool.map(work, range(12), chunksize=1)
            seen = [bytes(_client.current().get("t", b"%d" % i)).decode() for i in range(12)]
            print(json.dumps([sorted(set(done)), sorted(set(seen))]))
    """, method)
    assert result == [["from the parent by a worker"], ["by a worker"]]


def in_child(work):
    """What @work says in a forked child."""
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = work()
        except BaseException as e:
            said = f"{type(e).__name__}: {e}"
        os.write(there, json.dumps(said).encode())
        os._exit(0)
    os.close(there)
    with open(here) as f:
        said = json.loads(f.read())
    os.waitpid(pid, 0)
    return said


def test_what_a_forked_child_has_of_its_parent(daemon):
    client = _client.current()
    client.set("t", b"large", b"L" * (5 << 20))
    large, (_, lease) = client.get("t", b"large"), client.lease("t", b"lease")
    mine, stored = client.buffer(8192), client.buffer(5 << 20)
    memoryview(stored)[:2] = b"ab"
    client.set("t", b"stored", stored)

    def work():
        memoryview(large)[0] = 0  # its own from now on
        memoryview(stored)[0] = 0
        return [bytes(memoryview(large)[1:3]).decode(), bytes(memoryview(stored)[1:2]).decode()]
    assert in_child(work) == ["LL", "b"]
    assert bytes(memoryview(large)[:2]) == b"LL" and bytes(memoryview(stored)[:2]) == b"ab"
    assert in_child(lambda: len(memoryview(mine))).startswith("BufferError: the buffer belongs to the process that")
    assert "belongs to the process" in in_child(lambda: client.set("t", b"k", mine))
    assert in_child(lambda: lease.set(b"from the child")).startswith("CacheError: the lease was lost")
    assert client.get("t", b"lease") is None
    lease.set(b"from the parent")
    assert bytes(client.get("t", b"lease")) == b"from the parent"


def test_a_fork_while_other_threads_use_the_cache(daemon, python):
    assert python("""
        import json, os, threading
        from cached import _client
        client = _client.current()
        client.set("t", b"k", b"v")
        over = threading.Event()
        def work(i):
            while not over.is_set():
                client.get("t", b"k")
                client.set("t", b"%d" % i, b"w")
                _client.warn_once(i, "said")
        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for t in threads: t.start()
        status = []
        for i in range(15):
            pid = os.fork()
            if pid == 0:
                good = bytes(client.get("t", b"k")) == b"v" and _client.current() is client
                client.set("t", b"child", b"c")
                os._exit(0 if good else 1)
            status.append(os.waitpid(pid, 0)[1])
        over.set()
        for t in threads: t.join()
        print(json.dumps(status))
    """) == [0] * 15
