# SPDX-License-Identifier: MIT
"""The extension module with arguments that are wrong, with objects that change under it, and from many threads."""

import array
import gc
import threading
import weakref

import pytest

import harness
from cached import CacheError, _binding


@pytest.fixture
def client(daemon):
    made = _binding.Client()
    yield made
    made.close()


# ---- arguments

@pytest.mark.parametrize("name, text", [
    (None, "a cache's name is a str, not NoneType"), (b"t", "a cache's name is a str, not bytes"),
    ("a\0b", "zero character"), ("\udc80", "surrogates not allowed"),
])
def test_names_that_are_none(client, name, text):
    with pytest.raises((TypeError, ValueError), match=text):
        client.get(name, b"k")
    for call in (lambda: client.set(name, b"k", b"v"), lambda: client.lease(name, b"k"), lambda: client.clear(name)):
        with pytest.raises((TypeError, ValueError)):
            call()


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb"])
def test_names_that_the_daemon_refuses(client, name):
    with pytest.raises(CacheError) as e:
        client.set(name, b"k", b"v")
    assert e.value.code == _binding.INVALID


def test_a_cache_and_a_key_by_name(client):
    client.set(cache="t", key=b"k", pieces=b"v")
    assert bytes(client.get(cache="t", key=b"k")) == bytes(client.get("t", key=b"k")) == b"v"
    assert bytes(client.peek(key=b"k", cache="t")) == b"v"
    for wrong in (lambda: client.get("t"), lambda: client.get("t", b"k", b"k"), lambda: client.get("t", cache="t"),
                  lambda: client.get("t", b"k", key=b"k"), lambda: client.get(cache="t", other=b"k"),
                  lambda: client.get()):
        with pytest.raises(TypeError, match=r"get\(\) takes a cache and a key"):
            wrong()


@pytest.mark.parametrize("argument, value, kind, text", [
    ("flags", -1, ValueError, "flags is 0 to 4294967295"),
    ("flags", 1.5, TypeError, "flags is a whole number, not float"),
    ("ttl_ms", 1 << 64, ValueError, "ttl_ms is 0 to"), ("ttl_ms", "5", TypeError, "ttl_ms is a whole number, not str"),
    ("cost_us", -5, ValueError, "cost_us is 0 to"), ("mode", 3, ValueError, "mode is 0 to 2"),
    ("size", 1, TypeError, "size= is for a Buffer"),
    ("tags", "a", TypeError, "tags is a sequence of texts, not a text"),
    ("tags", [b"a"], TypeError, "a tag is a str, not bytes"),
    ("tags", ["a\0"], ValueError, "a tag has no zero characters"),
    ("tags", 5, TypeError, "not iterable"), ("tags", [str(i) for i in range(65)], ValueError, "up to 8"),
    ("tags", [str(i) for i in range(9)], CacheError, "tags"), ("ttl_ms", 0, CacheError, "ttl"),
])
def test_wrong_ways_to_store(client, argument, value, kind, text):
    with pytest.raises(kind, match=text):
        client.set("t", b"k", b"v", **{argument: value})
    assert client.get("t", b"k") is None


@pytest.mark.parametrize("argument, value, kind, text", [
    ("outer", 3, TypeError, "outer is a Lease, not int"), ("waiting", 3, TypeError, "waiting is a function, not int"),
    ("wait_ms", -1, ValueError, "wait_ms is 0 to"), ("hold_ms", 1 << 32, ValueError, "hold_ms is 0 to 4294967295"),
    ("every_ms", "5", TypeError, "every_ms is a whole number, not str"),
])
def test_wrong_ways_to_ask_for_a_lease(client, argument, value, kind, text):
    with pytest.raises(kind, match=text):
        client.lease("t", b"k", **{argument: value})


@pytest.mark.parametrize("pieces, kind, text", [
    (None, TypeError, "a value is bytes, a sequence of bytes, or a Buffer, not NoneType"),
    ({b"a": 1}, TypeError, "not dict"), ({b"a"}, TypeError, "not set"), ("text", TypeError, "not str"),
    ([b"a", "text"], TypeError, "a value is bytes, not text: encode it"), ([b"a", 3], TypeError, "bytes-like"),
    (memoryview(b"abcdef")[::2], BufferError, "contiguous"), ([memoryview(b"abcdef")[::-1]], BufferError, "contiguous"),
    (range(3), TypeError, "bytes-like"),
])
def test_values_that_are_no_bytes(client, pieces, kind, text):
    with pytest.raises(kind, match=text):
        client.set("t", b"k", pieces)
    assert client.get("t", b"k") is None


def test_all_kinds_of_bytes(client):
    for pieces, value in ((b"", b""), ([], b""), ([b""] * 5, b""), (bytearray(b"ab"), b"ab"),
                          ((b"a", memoryview(b"b")), b"ab"),
                          (array.array("I", [1, 2]), array.array("I", [1, 2]).tobytes()),
                          (memoryview(bytes(range(12))).cast("B", (3, 4)), bytes(range(12)))):
        client.set("t", b"k", pieces)
        assert bytes(client.get("t", b"k")) == value


def test_sizes_of_buffers(client):
    for size, kind in ((-1, ValueError), (0, ValueError), (1 << 63, ValueError), ("5", TypeError), (1.0, TypeError)):
        with pytest.raises(kind):
            client.buffer(size)
    with pytest.raises((MemoryError, CacheError)):
        client.buffer((1 << 63) - 1)
    assert client.buffer(1).address % 4096 == 0


# ---- objects that change

class Changes(list):
    """A sequence that is another one each time."""
    def __getitem__(self, i):
        self.clear()
        raise IndexError

    def __iter__(self):
        yield b"a"
        self.clear()
        yield b"b"


def test_pieces_that_change_while_they_are_taken(client):
    client.set("t", b"k", Changes([b"x"] * 1000))
    assert bytes(client.get("t", b"k")) in (b"ab", b"x" * 1000)
    growing = bytearray(5 << 20)

    def resize():
        while not over.is_set():
            try:
                growing.append(0)
                growing.pop()
            except BufferError:
                refused.append(1)
    over, refused = threading.Event(), []
    thread = threading.Thread(target=resize)
    thread.start()
    try:
        for _ in range(5):
            client.set("t", b"k", [growing, b"end"])
            assert bytes(client.get("t", b"k"))[-3:] == b"end"
    finally:
        over.set()
        thread.join()


def test_memory_lives_as_long_as_somebody_looks_at_it(client):
    client.set("t", b"large", b"L" * (5 << 20))
    client.set("t", b"small", b"s" * 100)
    views = [memoryview(client.get("t", k))[10:60] for k in (b"large", b"small") for _ in range(3)]
    buffer = client.buffer(5 << 20)
    filled = memoryview(buffer)
    filled[-1] = 7
    client.set("t", b"buffer", buffer)
    del buffer
    client.clear("t")
    client.close()
    del client
    gc.collect()
    assert [bytes(v[:1]) for v in views] == [b"L"] * 3 + [b"s"] * 3 and filled[-1] == 7
    filled[0] = 1


def test_circles_are_collected(daemon):
    """A lease keeps its client; a circle through it goes all the same, and what it held with it."""
    class Holder:
        pass
    for make in (lambda c: c, lambda c: c.lease("t", b"k")[1], lambda c: c.buffer(4096), lambda c: c.with_timeout(100)):
        holder = Holder()
        holder.held = make(_binding.Client())
        holder.itself = holder
        assert gc.is_tracked(holder.held)
        gone = weakref.ref(holder)
        del holder
        gc.collect()
        assert gone() is None
    assert _binding.Client().stats("t")["computing"] == 0


def test_types_cannot_be_made_or_derived_from():
    for kind in (_binding.Entry, _binding.Lease):
        with pytest.raises(TypeError):
            kind()
    for kind in (_binding.Client, _binding.Entry, _binding.Lease, _binding.Buffer):
        with pytest.raises(TypeError):
            type("Derived", (kind,), {})


# ---- threads

def test_a_lease_is_used_by_one_thread_at_a_time(client):
    _, lease = client.lease("t", b"k")
    go, said = threading.Barrier(4), []

    def store():
        go.wait()
        try:
            said.append(lease.set(b"x" * (6 << 20)))
        except (RuntimeError, CacheError) as e:
            said.append(str(e))
    threads = [threading.Thread(target=store) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(type(s) for s in said if isinstance(s, int)) == [int], said
    assert {s for s in said if isinstance(s, str)} <= {"the Lease is being used by another thread",
                                                     "the lease has ended already"}


def test_a_wait_is_told_what_is_new(client):
    """Once at its begin, and with each piece of news; not each time that it looks for signals."""
    other = _binding.Client()
    _, lease = client.lease("t", b"k")
    told, result = [], []
    thread = threading.Thread(target=lambda: result.append(
        other.lease("t", b"k", waiting=lambda h: told.append((h.text, h.permille)))))
    thread.start()
    harness.wait_until(lambda: told == [("", 0)], "it waits")
    for i in (1, 2, 3):
        lease.progress(f"step {i}", i * 100)
        harness.wait_until(lambda: told[-1] == (f"step {i}", i * 100), "it was told")
    lease.set(b"v")
    thread.join()
    assert bytes(result[0][0]) == b"v" and told == [("", 0), ("step 1", 100), ("step 2", 200), ("step 3", 300)]


def test_a_close_ends_all_waits(client):
    other = _binding.Client()
    _, lease = other.lease("t", b"k")
    codes = []

    def wait():
        try:
            client.lease("t", b"k")
        except CacheError as e:
            codes.append(e.code)
    threads = [threading.Thread(target=wait) for _ in range(4)]
    for t in threads:
        t.start()
    harness.wait_until(lambda: other.stats("t")["waiting"] == 4, "they wait")
    client.close()
    for t in threads:
        t.join(harness.PATIENCE)
    assert codes == [_binding.ERR_CLOSED] * 4
    lease.end()
