# SPDX-License-Identifier: MIT
"""The extension module: handles, and failures as exceptions."""

import os
import signal
import threading

import pytest

import harness
from cached import CacheError, _binding


def test_a_handle_finds_the_daemon(daemon):
    client = _binding.Client()
    assert client.connect()["realm"].startswith("uid:") and client.socket == str(daemon.socket)


def test_a_failure_says_what_to_do(tmp_path):
    client = _binding.Client(socket=str(tmp_path / "none"))
    with pytest.raises(CacheError, match="none") as e:
        client.connect()
    assert e.value.code == _binding.ERR_UNREACHABLE


def test_a_closed_handle(daemon):
    client = _binding.Client()
    client.close()
    with pytest.raises(CacheError) as e:
        client.connect()
    assert e.value.code == _binding.ERR_CLOSED


# ---- entries

@pytest.fixture
def client(daemon):
    made = _binding.Client()
    yield made
    made.close()


def test_what_was_stored_is_read(client):
    version = client.set("t", b"k", b"value", flags=7, cost_us=5, ttl_ms=60_000, tags=["a"])
    e = client.get("t", b"k")
    assert (bytes(e), len(e), e.size, e.flags, e.version, e.cost_us, e.stale) == (b"value", 5, 5, 7, version, 5, False)
    assert e.uid == os.geteuid() and 0 < e.ttl_ms <= 60_000
    assert client.get("t", b"other") is None and client.get("none", b"k") is None
    assert client.delete("t", b"k") is True and client.delete("t", b"k") is False and client.get("t", b"k") is None


@pytest.mark.parametrize("n", [0, 1, 100, 70_000, 3 << 20, (4 << 20) + 1, 9 << 20])
def test_an_entry_is_writable_and_ones_own(client, n):
    """Whatever size, and by whatever way it comes: writing to one changes no other."""
    value = bytes(i & 0xff for i in range(251)) * (n // 251 + 1)
    value = value[:n]
    half = n // 3
    client.set("t", b"k", [value[:half], memoryview(value)[half:], b""])
    one, two = client.get("t", b"k"), client.get("t", b"k")
    assert bytes(one) == value
    view = memoryview(one)
    assert not view.readonly
    if n:
        view[0] = view[0] ^ 0xff
        view[n - 1] = view[n - 1] ^ 0xff
        assert bytes(one) != value or n == 1
    assert bytes(two) == value and bytes(client.get("t", b"k")) == value
    del one, two
    assert len(view) == n  # the memory lives as long as somebody looks at it


def test_a_buffer_is_stored_as_it_lies(client):
    size = 6 << 20
    b = client.buffer(size)
    m = memoryview(b)
    assert len(b) == b.size == size and not m.readonly and bytes(m[:100]) == bytes(100)
    m[:5] = b"hello"
    client.set("t", b"k", b, size=size - 100)
    m[:5] = b"other"  # from now on this process's alone
    e = client.get("t", b"k")
    assert len(e) == size - 100 and bytes(memoryview(e)[:5]) == b"hello"
    with pytest.raises(ValueError, match="size is 0 to"):
        client.set("t", b"k", b, size=size + 1)
    with pytest.raises(ValueError, match="at least 1"):
        client.buffer(0)


def test_wrong_arguments(client):
    for key in ("k", None, 3, bytearray(b"k")):
        with pytest.raises(TypeError, match="a key is bytes"):
            client.get("t", key)
    for pieces in ("text", ["text"], 3, [3], None):
        with pytest.raises(TypeError):
            client.set("t", b"k", pieces)
    with pytest.raises(CacheError) as e:
        client.get("t", b"k" * 65)
    assert e.value.code == _binding.INVALID
    with pytest.raises(ValueError):
        client.get("a\0b", b"k")
    with pytest.raises(ValueError, match="flags is 0 to"):
        client.set("t", b"k", b"v", flags=1 << 32)
    with pytest.raises(TypeError, match="tags is a sequence"):
        client.set("t", b"k", b"v", tags="tag")
    with pytest.raises(BufferError):
        client.set("t", b"k", memoryview(b"abcdef")[::2])
    for made in (_binding.Entry, _binding.Lease):
        with pytest.raises(TypeError):
            made()


def test_policies_statistics_and_clearing(client):
    policy = client.open_cache("t", ttl_ms=5000, max_entries=2)
    assert (policy["policy.ttl_ms"], policy["policy.max_entries"]) == (5000, 2)
    for k in (b"a", b"b", b"c"):
        client.set("t", k, k, tags=["x"])
    assert client.get("t", b"a") is None and client.get("t", b"c") is not None
    s = client.stats("t")
    assert (s["entries"], s["hits"], s["evicted_max_entries"]) == (2, 1, 1)
    assert client.clear_tag("t", "x") == 2 and client.clear("t") == 0 and client.clear("none") is None


# ---- leases

def test_one_computes_and_the_others_wait(client, python):
    value, lease = client.lease("t", b"k")
    assert value is None and lease.state == _binding.LEASE_GRANTED
    waiting = [python.start("""
        import json
        from cached import _binding
        print("ready", flush=True)
        told = []
        value, lease = _binding.Client().lease("t", b"k", waiting=lambda h: told.append(h.holder_pid), every_ms=10)
        print(json.dumps([bytes(value).decode(), lease is None, told[0]]))
    """) for _ in range(3)]
    for p in waiting:
        assert p.stdout.readline() == "ready\n"
    harness.wait_until(lambda: client.stats("t")["waiting"] == 3, "they wait")
    lease.set(b"computed", flags=3)
    assert [python.result(p) for p in waiting] == [["computed", True, os.getpid()]] * 3
    assert client.stats("t")["leases"] == 1


@pytest.mark.parametrize("n", [10, 5 << 20])
def test_large_values_under_a_lease(client, n):
    _, lease = client.lease("t", b"k")
    lease.set([b"a" * (n // 2), b"b" * (n - n // 2)])
    value, lease = client.lease("t", b"k")
    assert bytes(value) == b"a" * (n // 2) + b"b" * (n - n // 2) and lease is None
    client.delete("t", b"k")
    _, lease = client.lease("t", b"k")
    b = client.buffer(max(n, 100))
    memoryview(b)[:2] = b"hi"
    lease.set(b, size=n)
    with pytest.raises(CacheError, match="ended already"):
        lease.set(b, size=n)
    assert bytes(client.get("t", b"k"))[:2] == b"hi" and client.stats("t")["computing"] == 0


def test_a_lease_that_is_given_up_goes_to_the_next(client):
    other = _binding.Client()
    _, lease = client.lease("t", b"k")
    _, busy = other.lease("t", b"k", wait_ms=0)
    assert busy.state == _binding.LEASE_BUSY and busy.holder_pid == os.getpid()
    lease.progress("half", 500)
    lease.end("it failed")
    _, lease = other.lease("t", b"k")
    assert lease.state == _binding.LEASE_GRANTED
    del lease
    _, lease = client.lease("t", b"k")
    assert lease.state == _binding.LEASE_GRANTED


def test_nested_leases_of_one_owner(client):
    _, outer = client.lease("t", b"k")
    _, again = client.lease("t", b"k", outer=outer)
    assert again.state == _binding.LEASE_YOURS
    _, inner = client.lease("t", b"inner", outer=outer)
    assert inner.state == _binding.LEASE_GRANTED
    with pytest.raises(TypeError, match="outer is a Lease"):
        client.lease("t", b"k", outer=3)


def test_a_wait_is_ended_by_its_callback_and_by_signals(client):
    other = _binding.Client()
    _, lease = client.lease("t", b"k")
    calls = []
    _, mine = other.lease("t", b"k", waiting=lambda h: calls.append(h) or len(calls) > 2, every_ms=5)
    assert mine.state == _binding.LEASE_TIMEOUT and len(calls) == 3
    with pytest.raises(ZeroDivisionError):
        other.lease("t", b"k", waiting=lambda h: 1 / 0)

    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted
    old = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Interrupted):
            other.lease("t", b"k")
    finally:
        signal.signal(signal.SIGUSR1, old)
        other.close()  # pytest 6 keeps what was raised, and with it this frame


def test_threads(client):
    """Hits, misses, stores and waits of many threads with one handle; each computes what nobody else does."""
    computed, wrong = [], []

    def work(seed):
        for i in range(150):
            key = b"%d" % ((i * 7 + seed) % 60)
            value, lease = client.lease("t", key)
            if value is None:
                computed.append(key)
                lease.set(b"v" + key)
            elif bytes(value) != b"v" + key:
                wrong.append(key)
    threads = [threading.Thread(target=work, args=(s,)) for s in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and sorted(computed) == sorted(set(computed)) and len(computed) == 60


def test_a_forked_child_goes_on(client):
    """With the parent's handle, and without what the parent holds."""
    client.set("t", b"k", b"v")
    entry = client.get("t", b"k")
    _, lease = client.lease("t", b"lease")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert bytes(client.get("t", b"k")) == b"v" == bytes(entry)
            client.set("t", b"child", b"c")
            _, theirs = client.lease("t", b"lease", wait_ms=0)
            assert theirs.state == _binding.LEASE_BUSY
            del theirs
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert bytes(client.get("t", b"child")) == b"c"
    lease.set(b"still held")
    assert bytes(client.get("t", b"lease")) == b"still held"
