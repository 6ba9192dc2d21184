# SPDX-License-Identifier: MIT
"""Memory, descriptors and turns of the loop, against one client that would take more than its share.

Exercises: entries and caches that are as small as can be, values that are asked for and not read, many uploads to one
key, uploads that are announced and not sent, as many large values as there are descriptors, budgets that are lowered.
What the daemon holds is asked of the kernel.
"""
import os
import resource

import harness
import wire
from wire import pb

MIB = 1 << 20


def memory_files(d):
    """Bytes of all memory files of the daemon, by the kernel's count."""
    seen, total = set(), 0
    for n in os.listdir(f"/proc/{d.pid}/fd"):
        try:
            if "memfd:" in os.readlink(f"/proc/{d.pid}/fd/{n}"):
                st = os.stat(f"/proc/{d.pid}/fd/{n}")
                if st.st_ino not in seen:
                    seen.add(st.st_ino)
                    total += st.st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def bound(budget):
    return budget * 103 // 100 + 4 * MIB


def budget_of(megabytes):
    return {"memory": {"realm_budget": f"{megabytes}M", "global_budget": f"{megabytes}M"}}


def fill(c, n, n_key=3, **more):
    keys = [i.to_bytes(n_key, "big") for i in range(n)]
    for i in range(0, n, 4096):
        c.set_many("fill", [(k, b"", more) for k in keys[i:i + 4096]])


def announce(c, size, sent=b"", **fields):
    """Begins a Set of @size bytes and sends the first of them."""
    fields = {"cache": "t", "key": b"k"} | fields
    c.send_raw(wire.frame(wire.request(c.next_id(), "set", **fields), sent, n_body=size))


def test_mem01_tiny_entries_hold_what_they_are_charged(make_daemon):
    """Keys of three bytes without values, each with a TTL, at a full budget."""
    d = make_daemon(**budget_of(16))
    c = d.client()
    fill(c, 170_000, ttl_ms=3_600_000)
    s = c.stats()
    assert s.total.evicted_realm_budget > 0
    assert memory_files(d) < bound(16 * MIB)


def test_mem02_caches_with_one_entry_that_expires(make_daemon):
    """They cost some hundreds of bytes each, not pages."""
    d = make_daemon(**budget_of(16))
    c = d.client()
    c.set("first", b"k", b"", ttl_ms=3_600_000)
    before = memory_files(d)
    for i in range(1000):
        c.post("set", cache=f"c{i}", key=b"k", ttl_ms=3_600_000)
    c.wait(c.last_id)
    assert c.stats().realm.entries == 1001
    assert memory_files(d) - before < 1000 * 1100


def test_mem03_values_that_are_not_read_stay_charged(make_daemon):
    """Clients ask for a large value and read none of it; it is replaced meanwhile, again and again."""
    d = make_daemon(**budget_of(32))
    w, size, readers = d.client(), 8 * MIB, []
    refused = None
    for i in range(10):
        reply, _ = w.call("set", bytes([i]) * size, cache="t", key=b"k")
        if reply.status != wire.OK:
            refused = reply
            break
        r = d.client()
        r.post("get", cache="t", key=b"k")
        readers.append(r)
        harness.wait_until(lambda n=len(readers): w.stats().realm.held_bytes == n * size, "it is being sent")
    assert refused.status == pb.NO_SPACE and "held by readers" in refused.error and str(len(readers) * size) in refused.error
    s = w.stats()
    assert len(readers) == 3 and s.realm.bytes_charged <= 32 * MIB and s.total.refused == 1
    assert memory_files(d) < bound(32 * MIB)
    assert readers[1].wait(readers[1].last_id)[1] == bytes([1]) * size
    for r in readers:
        r.close()
    harness.wait_until(lambda: w.stats().realm.held_bytes == 0, "nobody is being sent anything")
    w.set("t", b"k", b"x" * (30 * MIB))


def test_mem04_many_uploads_to_one_key(make_daemon):
    """Each is charged for itself; those that fit are stored."""
    d = make_daemon(**budget_of(32))
    w, size = d.client(), 20 * MIB
    w.set("t", b"k", b"old" * (size // 3))
    ups = [d.client() for _ in range(6)]
    for c in ups:
        c.sock.setblocking(False)
        frame = wire.frame(wire.request(c.next_id(), "set", cache="t", key=b"k"), b"y" * (4 * MIB), n_body=size)
        try:
            while frame:
                frame = frame[c.sock.send(frame):]
        except BlockingIOError:
            c.rest = frame
        else:
            c.rest = b""
        c.sock.settimeout(harness.PATIENCE)
    for c in ups:
        c.send_raw(c.rest)
    w.ping()
    assert w.stats().realm.bytes_charged <= 32 * MIB
    assert memory_files(d) < bound(32 * MIB)
    statuses = []
    for c in ups:
        c.send_raw(b"y" * (size - 4 * MIB))
        statuses.append(c.recv()[0].status)
        assert w.stats().realm.bytes_charged <= 32 * MIB and memory_files(d) < bound(32 * MIB)
    assert set(statuses) <= {wire.OK, pb.NO_SPACE} and wire.OK in statuses
    assert w.get("t", b"k") == b"y" * size


def test_mem05_what_is_announced_takes_no_room(make_daemon):
    """Without a byte of the value nothing leaves for it and nobody is refused; refusals count and name the limit."""
    d = make_daemon(**budget_of(16))
    c, lazy = d.client(), d.client()
    for i in range(8):
        c.set("t", b"%d" % i, b"v" * MIB)
    announce(lazy, 15 * MIB)
    lazy2 = d.client()
    announce(lazy2, 15 * MIB, b"x" * 10)
    c.ping()
    assert all(c.get("t", b"%d" % i, no_touch=True) for i in range(8))
    c.set("t", b"more", b"v" * (2 * MIB))
    lazy.send_raw(b"x" * (12 * MIB))
    harness.wait_until(lambda: c.stats().realm.bytes_charged > 15 * MIB)
    reply, _ = c.call("set", b"v" * (6 * MIB), cache="t", key=b"no")
    assert reply.status == pb.NO_SPACE and f"{16 * MIB} bytes" in reply.error and "arriving" in reply.error
    assert c.stats("t").refused == 1
    lazy.close()
    harness.wait_until(lambda: c.stats().realm.bytes_charged < 12 * MIB, "what had arrived is given up")
    c.set("t", b"yes", b"v" * (6 * MIB))
    assert d.probe()


def test_mem06_a_value_as_large_as_the_budget_is_replaced(make_daemon):
    """By a conditional store, too, and small entries of others stay."""
    d = make_daemon(**budget_of(32))
    c = d.client()
    c.set("t", b"small", b"s")
    version = c.set("t", b"k", b"a" * (30 * MIB)).version
    c.set("t", b"k", b"b" * (30 * MIB), mode=pb.SET_REPLACE_ONLY, expected_version=version)
    assert c.get("t", b"k") == b"b" * (30 * MIB) and c.get("t", b"small") == b"s"
    half = d.client()
    announce(half, 30 * MIB, b"x" * 200_000)
    c.ping()
    assert c.get("t", b"k", no_touch=True) is not None


def test_mem07_as_many_large_values_as_there_are_descriptors(make_daemon):
    """The one used least recently leaves, by a cause of its own; connections are not in the way."""
    d = make_daemon(memory={"realm_budget": "64M", "large_threshold": "64K"})
    resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (128, 128))
    c = d.client()
    c.must("reload_config")
    for i in range(100):
        c.set("t", b"%d" % i, b"x" * 70_000)
    s = c.stats("t")
    assert s.entries == 32 and s.evicted_large_values == 68
    e = c.explain("t", b"67")
    assert e.fate == pb.FATE_EVICTED_LARGE_VALUES and "limits.large_values" in e.text
    assert c.get("t", b"68") == b"x" * 70_000
    c.set("t", b"69", b"y" * 70_000)
    assert c.stats("t").entries == 31, "the new one was there beside the old one, and took the place of another"
    others = [d.client() for _ in range(20)]
    assert [o.get("t", b"69")[:1] for o in others] == [b"y"] * 20


def test_mem08_large_values_by_number(make_daemon):
    """limits.large_values holds for all realms together, also when it is lowered; the realm with most gives way."""
    harness.needs_root()
    d = make_daemon(daemon={"socket_mode": "0666"}, memory={"large_threshold": "64K"}, limits={"large_values": 8})
    a, b = d.client(uid=1001), d.client(uid=1002)
    for i in range(8):
        a.set("t", b"%d" % i, b"x" * 70_000)
    for i in range(3):
        b.set("t", b"%d" % i, b"x" * 70_000)
    assert (a.stats().realm.entries, b.stats().realm.entries) == (5, 3)
    a.set("t", b"small", b"is no large value")
    assert (a.stats().realm.entries, b.stats().realm.entries) == (6, 3)
    a.clear()
    b.clear()


def test_mem09_a_lowered_global_budget_is_reached_without_stores(make_daemon):
    """Nobody need store anything for it, and no turn of the loop is long."""
    d = make_daemon(**budget_of(64))
    c = d.client()
    fill(c, 100_000)
    d.config_path.write_text(harness.config_text(memory={"realm_budget": "64M", "global_budget": "1M"}))
    c.must("reload_config")
    harness.wait_until(lambda: c.stats().daemon.bytes_charged <= MIB, "the budget holds")
    assert c.stats().total.evicted_global_budget > 90_000


def test_mem10_one_large_value_for_many_small_ones(make_daemon):
    """Others are served while a hundred thousand entries make room for one value, bit by bit."""
    d = make_daemon(**budget_of(16))
    c, other = d.client(), d.client()
    fill(c, 130_000)
    before = c.stats().realm.entries
    announce(c, 15 * MIB, b"x" * (4 * MIB))
    other.ping()
    assert 0 < other.stats().realm.entries < before
    c.send_raw(b"x" * (11 * MIB))
    assert c.recv()[0].status == wire.OK
    assert other.get("t", b"k") == b"x" * (15 * MIB)
    assert other.stats().realm.bytes_charged <= 16 * MIB
