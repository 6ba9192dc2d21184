# SPDX-License-Identifier: MIT
"""Many requests at once, exact LRU, large values, deadlines."""

import random
import socket
import threading

import pytest

import harness
import wire
from wire import pb

SMALL_THRESHOLD = 4096


# ---- pipelining

def test_c01_a_thousand_requests_in_one_write(c):
    """A thousand requests in one write are all answered, each under its id."""
    ids, out = {}, bytearray()
    for i in range(500):
        n = c.next_id()
        out += wire.frame(wire.request(n, "set", cache="t", key=b"%d" % i), b"value %d" % i)
        n = c.next_id()
        out += wire.frame(wire.request(n, "get", cache="t", key=b"%d" % i))
        ids[n] = b"value %d" % i
    c.send_raw(out)
    for n, value in ids.items():
        reply, body = c.wait(n)
        assert reply.status == wire.OK and body == value
        assert c.wait(n - 1)[0].status == wire.OK


def test_c02_a_get_after_a_set_sees_it(c):
    """Requests of one connection start in the order in which they arrive."""
    c.open("t")
    ids = []
    for i in range(300):
        c.post("set", b"%d" % i, cache="t", key=b"k")
        ids.append(c.post("get", cache="t", key=b"k"))
        c.post("delete", cache="t", key=b"k")
        ids.append(c.post("get", cache="t", key=b"k"))
    for i in range(300):
        assert c.wait(ids[2 * i])[1] == b"%d" % i
        assert c.wait(ids[2 * i + 1])[0].status == wire.NOT_FOUND


def test_c03_an_answered_change_is_seen_by_all(daemon):
    """Once a change was answered, every read on every connection sees it."""
    writer = daemon.client()
    readers = [daemon.client() for _ in range(5)]
    for i in range(100):
        writer.set("t", b"k", b"%d" % i)
        assert [r.get("t", b"k") for r in readers] == [b"%d" % i] * 5
        writer.delete("t", b"k")
        assert [r.get("t", b"k") for r in readers] == [None] * 5


def test_c04_frames_split_at_every_byte(daemon):
    """A request arrives whole, however the stream is cut."""
    c = daemon.client()
    for cut in range(1, 60):
        data = wire.frame(wire.request(c.next_id(), "set", cache="t", key=b"key"), b"some value of twenty bytes")
        cut = min(cut, len(data) - 1)
        c.send_raw(data[:cut])
        c.send_raw(data[cut:])
        assert c.wait(c.last_id)[0].status == wire.OK
    data = wire.frame(wire.request(c.next_id(), "get", cache="t", key=b"key"))
    for i in range(len(data)):
        c.send_raw(data[i:i + 1])
    assert c.wait(c.last_id)[1] == b"some value of twenty bytes"


def test_c05_ids_may_skip(c):
    """Ids grow; they need not be consecutive. The largest one is an id, too."""
    for n in (5, 1000, 1 << 32, 1 << 63, (1 << 64) - 1):
        c.last_id = n
        c.send(wire.request(n, "ping"))
        assert c.wait(n)[0].status == wire.OK


def test_c06_more_requests_than_may_be_in_flight(make_daemon):
    """Beyond requests_in_flight the daemon reads later, and answers all."""
    d = make_daemon(limits={"requests_in_flight": 4, "requests_per_turn": 2})
    c = d.client()
    assert c.info.max_requests_in_flight == 4
    ids = [c.next_id() for _ in range(2000)]
    c.send_raw(b"".join(wire.frame(wire.request(i, "ping")) for i in ids))
    assert all(c.wait(i)[0].status == wire.OK for i in ids)


def test_c07_concurrent_clients(daemon):
    """Eight clients at once, each with keys of its own, read what they wrote."""
    errors = []

    def work(n):
        try:
            with wire.Client(daemon.socket) as c:
                c.hello()
                rng = random.Random(n)
                mine = {}
                for i in range(300):
                    key = b"%d:%d" % (n, rng.randrange(50))
                    if rng.random() < 0.5:
                        mine[key] = b"%d" % i * rng.randrange(200)
                        c.set("shared", key, mine[key])
                    else:
                        assert c.get("shared", key) == mine.get(key)
        except BaseException as e:
            errors.append(e)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors[0]


# ---- deadlines

def test_c08_a_deadline_that_is_kept(c):
    """A generous deadline changes nothing."""
    assert c.call("ping", deadline_ms=60_000)[0].status == wire.OK
    assert c.call("ping", deadline_ms=(1 << 32) - 1)[0].status == wire.OK


@pytest.mark.parametrize("per_turn", [64, 1])
def test_c09_a_deadline_that_passed_means_not_started(make_daemon, per_turn):
    """Behind long work a request with 1 ms to wait is answered DEADLINE and was not done, also if its turn came later."""
    d = make_daemon(limits={"page_entries": 20000, "requests_per_turn": per_turn, "output_bytes": "64M"})
    c = d.client()
    for at in range(0, 20000, 4000):
        c.set_many("t", [(b"%d" % i, b"v", {}) for i in range(at, at + 4000)])
    n = c.last_id
    out = b"".join(wire.frame(wire.request(c.next_id(), "list_entries", cache="t")) for _ in range(5))
    out += wire.frame(wire.request(c.next_id(), "set", 1, cache="late", key=b"k"), b"v")
    out += wire.frame(wire.request(c.next_id(), "set", 600_000, cache="late", key=b"patient"), b"v")
    out += wire.frame(wire.request(c.next_id(), "delete", 1, cache="t", key=b"7"))
    c.send_raw(out)
    for i in range(n + 1, n + 6):
        assert len(c.wait(i)[0].list_entries.entries) == 20000
    replies = [c.wait(i)[0] for i in range(n + 6, n + 9)]
    assert [r.status for r in replies] == [pb.DEADLINE, wire.OK, pb.DEADLINE]
    assert replies[0].error
    assert c.get("late", b"k") is None and c.get("late", b"patient") == b"v" and c.get("t", b"7") == b"v"


# ---- LRU

def present(c, cache, keys):
    return [k for k in keys if c.explain(cache, k).fate == pb.FATE_LIVE]


def test_c10_exactly_max_entries_stay(c):
    """Whatever is stored, exactly max_entries are there: the newest."""
    c.open("t", max_entries=100)
    for i in range(1000):
        c.set("t", b"%d" % i, b"v" * (i % 77))
        assert c.stats("t").entries == min(i + 1, 100)
    assert present(c, "t", [b"%d" % i for i in range(1000)]) == [b"%d" % i for i in range(900, 1000)]
    assert c.stats("t").evicted_max_entries == 900


def test_c11_gets_are_uses(c):
    """The one used least recently leaves, not the one stored first."""
    c.open("t", max_entries=3)
    for k in (b"a", b"b", b"c"):
        c.set("t", k, b"v")
    c.get("t", b"a")
    c.set("t", b"d", b"v")
    assert present(c, "t", [b"a", b"b", b"c", b"d"]) == [b"a", b"c", b"d"]
    c.get_many("t", [b"c", b"a"])
    c.set("t", b"e", b"v")
    assert present(c, "t", [b"a", b"c", b"d", b"e"]) == [b"a", b"c", b"e"]
    c.touch("t", b"c")
    c.set("t", b"f", b"v")
    assert present(c, "t", [b"a", b"c", b"e", b"f"]) == [b"c", b"e", b"f"]
    c.set("t", b"c", b"again")
    c.set("t", b"g", b"v")
    assert present(c, "t", [b"c", b"e", b"f", b"g"]) == [b"c", b"f", b"g"]


def test_c12_refused_requests_are_no_uses(c):
    """A store that was refused, a look-up of another key, an explanation: none of them is a use."""
    c.open("t", max_entries=2)
    c.set("t", b"a", b"v")
    c.set("t", b"b", b"v")
    c.status("set", b"x", cache="t", key=b"a", expected_version=1 << 60)
    c.explain("t", b"a")
    c.get("t", b"zzz")
    c.set("t", b"c", b"v")
    assert present(c, "t", [b"a", b"b", b"c"]) == [b"b", b"c"]


def test_c13_max_entries_of_one(c):
    """The smallest cache."""
    c.open("t", max_entries=1)
    for i in range(20):
        c.set("t", b"%d" % i, b"v")
        assert present(c, "t", [b"%d" % j for j in range(i + 1)]) == [b"%d" % i]


def test_c14_max_bytes_is_exact(c):
    """Entries leave only as far as the charge demands, in order of use."""
    unit = wire.charge(2, 100)
    c.open("t", max_bytes=10 * unit)
    for i in range(10):
        c.set("t", b"%02d" % i, b"v" * 100)
    assert c.stats("t").bytes_held == 10 * unit
    c.set("t", b"10", b"v" * 100)
    assert present(c, "t", [b"%02d" % i for i in range(11)]) == [b"%02d" % i for i in range(1, 11)]
    # One of three units makes exactly as many leave as it needs.
    big = wire.charge(2, 1000)
    c.set("t", b"XX", b"v" * 1000)
    leaving = -(-big // unit)
    assert c.stats("t").entries == 10 - leaving + 1
    assert c.stats("t").bytes_held <= 10 * unit


def test_c15_replacing_needs_only_the_difference(c):
    """Storing over an entry counts the old one's charge as free: nobody leaves without need."""
    unit = wire.charge(1, 100)
    c.open("t", max_bytes=3 * unit)
    for k in (b"a", b"b", b"c"):
        c.set("t", k, b"v" * 100)
    for _ in range(5):
        for k in (b"c", b"a", b"b"):
            c.set("t", k, b"w" * 100)
    assert c.stats("t").evicted_max_bytes == 0 and c.stats("t").entries == 3
    c.open("n", max_entries=2)
    for k in (b"a", b"b", b"a", b"b"):
        c.set("n", k, b"v")
    assert c.stats("n").evicted_max_entries == 0


def test_c16_realm_lru_is_across_caches(make_daemon):
    """Under the realm's budget the least recently used leaves, in whatever cache it lies."""
    unit = wire.charge(1, 10000)
    d = make_daemon(memory={"realm_budget": 6 * unit})
    c = d.client()
    for i in range(6):
        c.set("one" if i % 2 else "two", bytes([i]), b"v" * 10000)
    assert c.stats().realm.bytes_charged == 6 * unit
    c.get("two", bytes([0]))
    c.set("three", b"x", b"v" * 10000)
    assert c.get("one", bytes([1])) is None
    assert c.get("two", bytes([0])) is not None
    c.set("three", b"y", b"v" * 10000)
    assert c.fate("two", bytes([2])) == "EVICTED_REALM_BUDGET"


def test_c17_a_value_that_can_never_fit_evicts_nobody(make_daemon):
    """TOO_LARGE leaves everything as it is, the entry of that key included."""
    d = make_daemon(memory={"realm_budget": "256K"})
    c = d.client()
    for i in range(10):
        c.set("t", b"%d" % i, b"v" * 10000)
    for size in (300_000, 2_000_000, 50_000_000):
        reply, _ = c.call("set", b"x" * size, cache="t", key=b"5")
        assert reply.status == pb.TOO_LARGE
        assert "realm_budget" in reply.error, "the error names what has to be raised"
    assert c.stats("t").entries == 10 and c.get("t", b"5") == b"v" * 10000
    assert c.stats().realm.bytes_charged == 10 * wire.charge(1, 10000)


def test_c18_a_thousand_arrays_of_800_kb_stay(daemon):
    """The default budget holds a thousand 800 kB arrays (in short runs: 200, and the budget says the rest)."""
    c = daemon.client()
    c.open("arrays", max_entries=1000)
    each = wire.charge(8, 800_000, large=True)
    assert c.stats().realm.budget_bytes >= 1000 * each
    n = 1000 if harness.LONG else 200
    for i in range(n):
        c.set("arrays", b"%08d" % i, b"%08d" % i * 100_000)
    assert c.stats("arrays").entries == n
    for i in (0, n // 2, n - 1):
        assert c.get("arrays", b"%08d" % i) == b"%08d" % i * 100_000


# ---- sizes

@pytest.mark.parametrize("size", [0, 1, SMALL_THRESHOLD - 1, SMALL_THRESHOLD, SMALL_THRESHOLD + 1, 65535, 65536,
                                  65537, 1 << 20])
def test_c19_values_around_the_thresholds(make_daemon, size):
    """Around large_threshold and the buffers' sizes: same bytes, right charge, large or not as configured."""
    d = make_daemon(memory={"large_threshold": SMALL_THRESHOLD})
    c = d.client()
    value = random.Random(size).randbytes(size)
    large = size >= SMALL_THRESHOLD
    c.set("t", b"k", value)
    assert c.get("t", b"k") == value
    listed = c.list_entries("t")[0]
    assert listed.large == large and listed.charge == wire.charge(1, size, large=large)
    assert (c.stats().realm.large_bytes > 0) == large
    c.set_many("t", [(b"m", value, {}), (b"n", value, dict(flags=1))])
    assert [v for _, v in c.get_many("t", [b"n", b"k", b"m"])] == [value] * 3
    c.set("t", b"k", b"small now")
    assert c.get("t", b"k") == b"small now"


@pytest.mark.parametrize("size", [(256 << 10) - 1, 256 << 10, (4 << 20) - 1, 4 << 20])
def test_c20_the_default_threshold(c, size):
    """From 256 KiB on a value lies apart; 4M is where it gets a memory file of its own."""
    c.set("t", b"k", b"x" * size)
    listed = c.list_entries("t")[0]
    assert listed.large == (size >= 4 << 20)
    assert listed.charge == wire.charge(1, size, large=size >= 256 << 10)
    assert c.get("t", b"k") == b"x" * size


def test_c21_64_mib_round_trip(c):
    """A value of 64 MiB survives, also beside small requests in the same stream."""
    value = random.Random(1).randbytes(1 << 20) * 64
    c.set("t", b"small", b"s")
    a = c.post("get", cache="t", key=b"small")
    c.post("set", value, cache="t", key=b"big", flags=5)
    b = c.post("get", cache="t", key=b"big")
    d = c.post("get", cache="t", key=b"small")
    assert c.wait(a)[1] == b"s"
    reply, body = c.wait(b)
    assert body == value and reply.entry.flags == 5
    assert c.wait(d)[1] == b"s"
    assert c.list_entries("t")[0].charge > 0
    assert c.stats().realm.large_bytes == 64 << 20


def test_c22_a_value_outlives_its_eviction_while_it_is_sent(daemon):
    """A large value that is deleted while a slow reader takes it still arrives whole."""
    slow, other = daemon.client(), daemon.client()
    value = random.Random(2).randbytes(1 << 20) * 16
    other.set("t", b"big", value)
    n = slow.post("get", cache="t", key=b"big")
    slow.sock.recv(1, socket.MSG_PEEK)  # the answer has begun
    assert other.delete("t", b"big")
    other.set("t", b"big", b"another")
    assert slow.wait(n)[1] == value
    harness.wait_until(lambda: other.stats().realm.large_bytes == 0, "its memory is back")


def test_c23_get_many_that_does_not_fit_into_one_body(make_daemon):
    """Values that no longer fit have TOO_LARGE and their size; Get brings them."""
    d = make_daemon(limits={"value_bytes": 10000})
    c = d.client()
    assert c.info.max_value_bytes == 10000
    for k in (b"a", b"b", b"c"):
        c.set("t", k, k * 4000)
    items = c.get_many("t", [b"a", b"b", b"c"])
    assert [i.status for i, _ in items] == [wire.OK, wire.OK, pb.TOO_LARGE]
    assert items[2][0].entry.size == 4000
    assert c.get("t", b"c") == b"c" * 4000


def test_c24_clear_of_many_answers_before_it_reclaims(c):
    """After the clear of many entries all are gone at once, and their memory comes back by itself."""
    n = 1_000_000 if harness.LONG else 50_000
    for at in range(0, n, 4000):
        c.set_many("t", [(b"%d" % i, b"v" * 50, {}) for i in range(at, min(at + 4000, n))])
    assert c.clear("t").entries == n
    assert c.stats("t").entries == 0 and c.get("t", b"7") is None
    c.set("t", b"7", b"new")
    harness.wait_until(lambda: c.stats().realm.bytes_reclaiming == 0, "reclaimed")
    assert c.get("t", b"7") == b"new"
    assert c.stats().realm.bytes_charged == c.stats("t").bytes_held == wire.charge(1, 3)
