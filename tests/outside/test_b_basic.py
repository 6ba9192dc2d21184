# SPDX-License-Identifier: MIT
"""The simplest promises: one client, one request at a time, every request once."""

import pytest

import wire
from wire import pb


# ---- hello and ping

def test_b01_hello_tells_what_a_client_must_know(daemon):
    """Hello answers with version, realm, role, pid and the limits that the client must keep."""
    c = daemon.connect()
    h = c.hello()
    assert h.protocol == 1
    assert h.version
    assert h.instance != 0
    assert h.features == pb.FEATURE_EVENTS | pb.FEATURE_SESSIONS, "the second is told to everybody"
    assert h.realm == f"uid:{h.uid}"
    assert h.role == pb.ROLE_ADMIN
    assert h.daemon_pid == daemon.pid
    assert h.max_message_bytes == 1 << 20
    assert h.max_value_bytes == 1 << 30
    assert h.max_requests_in_flight == 1024
    assert h.max_keys_per_request == 4096


def test_b02_hello_features_are_those_of_both(daemon):
    """Feature bits that the daemon does not know are not granted."""
    c = daemon.connect()
    assert c.hello(features=0xffffffffffffff00).features == pb.FEATURE_SESSIONS


def test_b03_hello_takes_a_range_of_versions(daemon):
    """A client that also speaks later versions gets version 1; one that speaks only later ones is told so."""
    c = daemon.connect()
    assert c.hello(minimum=1, maximum=77).protocol == 1
    c = daemon.connect()
    c.post("hello", protocol_min=2, protocol_max=3)
    c.expect_goodbye(pb.VERSION, 1)


def test_b04_ping(c):
    """Ping answers with the instance of Hello and an uptime that does not go back."""
    a = c.ping()
    b = c.ping()
    assert a.instance == b.instance == c.info.instance
    assert b.uptime_ms >= a.uptime_ms


# ---- one entry

def test_b05_set_then_get(c):
    """What was stored comes back, byte for byte."""
    value = bytes(range(256)) * 5
    e = c.set("t", b"k", value)
    assert e.version > 0 and e.size == len(value)
    entry, got = c.lookup("t", b"k")
    assert got == value
    assert entry.version == e.version
    assert entry.encoding == pb.ENCODING_RAW and entry.raw_size == len(value)
    assert entry.WhichOneof("ttl") is None
    assert entry.uid == c.info.uid


def test_b06_unknown_key_is_not_found(c):
    """A miss is NOT_FOUND, without an error text and without a body."""
    c.open("t")
    reply, body = c.call("get", cache="t", key=b"nothing")
    assert reply.status == wire.NOT_FOUND and not reply.error and body == b""


def test_b07_unknown_cache_is_not_found(c):
    """Reading from a cache that nobody opened is NOT_FOUND and does not create it."""
    for op, more in (("get", {}), ("delete", {}), ("touch", {})):
        assert c.status(op, cache="nobody", key=b"k", **more) == wire.NOT_FOUND
    assert c.status("stats", cache="nobody") == wire.NOT_FOUND
    assert c.status("clear", cache="nobody") == wire.NOT_FOUND
    assert c.status("list_entries", cache="nobody") == wire.NOT_FOUND
    assert c.list_caches() == []


def test_b08_set_overwrites(c):
    """The second value replaces the first under a higher version."""
    a = c.set("t", b"k", b"first, and longer")
    b = c.set("t", b"k", b"second")
    assert b.version > a.version
    assert c.get("t", b"k") == b"second"
    assert c.stats("t").entries == 1


def test_b09_empty_value_is_a_hit(c):
    """Nothing is a value: an empty one is a hit of size 0."""
    c.set("t", b"k", b"")
    entry, value = c.lookup("t", b"k")
    assert entry is not None and entry.size == 0 and value == b""
    assert c.stats("t").hits == 1 and c.stats("t").misses == 0


def test_b10_delete(c):
    """Delete tells whether there was something; afterwards it is a miss."""
    c.set("t", b"k", b"v")
    assert c.delete("t", b"k") is True
    assert c.get("t", b"k") is None
    assert c.delete("t", b"k") is False


def test_b11_touch_without_ttl_is_a_use_only(c):
    """Touch without a TTL leaves the deadline alone; on a missing key it is NOT_FOUND."""
    c.set("t", b"k", b"v", ttl_ms=3_600_000)
    e = c.touch("t", b"k")
    assert 3_590_000 < e.ttl_ms <= 3_600_000
    assert c.touch("t", b"other") is None


def test_b12_touch_sets_a_new_ttl(c):
    """Touch with a TTL counts it from now; never_expires takes it away."""
    c.set("t", b"k", b"v", ttl_ms=1_000_000)
    assert 2_990_000 < c.touch("t", b"k", ttl_ms=3_000_000).ttl_ms <= 3_000_000
    assert 2_990_000 < c.lookup("t", b"k")[0].ttl_ms <= 3_000_000
    assert c.touch("t", b"k", never_expires=True).WhichOneof("ttl") is None
    assert c.lookup("t", b"k")[0].WhichOneof("ttl") is None


@pytest.mark.parametrize("key", [b"a", b"\0", bytes(64), b"\xff" * 64, bytes(range(64))])
def test_b13_any_bytes_are_a_key(c, key):
    """Keys are 1 to 64 bytes, any bytes; a key and its prefix are two keys."""
    c.set("t", key, b"v:" + key)
    assert c.get("t", key) == b"v:" + key
    if len(key) > 1:
        assert c.get("t", key[:-1]) is None


@pytest.mark.parametrize("name", ["a", "x" * 128, "é" * 64, "日本語 の 名前", "a/b.c:d@[x]", "..", " "])
def test_b14_cache_names_are_utf8(c, name):
    """A cache name is 1 to 128 bytes of UTF-8."""
    c.set(name, b"k", b"v")
    assert c.get(name, b"k") == b"v"
    assert [s.name for s in c.list_caches()] == [name]


def test_b15_same_key_in_two_caches(c):
    """Caches are separate tables."""
    c.set("one", b"k", b"1")
    c.set("two", b"k", b"2")
    assert (c.get("one", b"k"), c.get("two", b"k")) == (b"1", b"2")
    c.delete("one", b"k")
    assert (c.get("one", b"k"), c.get("two", b"k")) == (None, b"2")


def test_b16_what_travels_with_an_entry(daemon, c):
    """Flags, cost, encoding and raw size come back as they were given, from Get, Touch and the listing."""
    c.set("t", b"k", b"packed", flags=0xdeadbeef, cost_us=1 << 40, encoding=pb.ENCODING_LZ4, raw_size=1500)
    able = daemon.client(features=pb.FEATURE_LZ4)
    listed = c.list_entries("t")[0]
    for e in (able.lookup("t", b"k")[0], c.touch("t", b"k"), listed.entry, c.explain("t", b"k").entry):
        assert (e.flags, e.cost_us, e.encoding, e.raw_size, e.size) == \
            (0xdeadbeef, 1 << 40, pb.ENCODING_LZ4, 1500, 6)
    assert listed.charge == wire.charge(1, 6, 1, 1, True)


@pytest.mark.parametrize("more", [dict(flags=1), dict(cost_us=7), dict(flags=0xffffffff, cost_us=(1 << 64) - 1),
                                  dict(encoding=pb.ENCODING_LZ4, raw_size=9), {}])
def test_b17_an_entry_is_charged_by_its_sizes(daemon, more):
    """The charge is the pure function of PROTOCOL.md, for every combination of extras."""
    c = daemon.client(features=pb.FEATURE_LZ4)  # what is stored here is no LZ4 block
    for n_key, n_value in ((1, 0), (64, 1), (16, 100), (7, 4095), (8, 70000)):
        if n_value == 0 and "encoding" in more:
            continue  # no encoding has blocks of 0 bytes
        key = b"k" * n_key
        c.set("t", key, b"x" * n_value, **more)
        expected = wire.charge(n_key, n_value, more.get("flags", 0), more.get("cost_us", 0), "encoding" in more)
        assert c.explain("t", key).charge == expected
        assert c.stats("t").bytes_held == expected
        entry = c.lookup("t", key)[0]
        assert (entry.flags, entry.cost_us) == (more.get("flags", 0), more.get("cost_us", 0))
        c.delete("t", key)


def test_b18_versions_grow_across_the_realm(c):
    """Every store gets a version higher than all before, in whatever cache."""
    last = 0
    for i in range(200):
        version = c.set(f"t{i % 3}", b"k%d" % (i % 7), b"v").version
        assert version > last
        last = version


# ---- conditional stores

def test_b19_add_only(c):
    """ADD_ONLY stores where nothing is, and answers EXISTS where something is, changing nothing."""
    assert c.status("set", b"1", cache="t", key=b"k", mode=pb.SET_ADD_ONLY) == wire.OK
    assert c.status("set", b"2", cache="t", key=b"k", mode=pb.SET_ADD_ONLY) == pb.EXISTS
    assert c.get("t", b"k") == b"1"
    c.delete("t", b"k")
    assert c.status("set", b"3", cache="t", key=b"k", mode=pb.SET_ADD_ONLY) == wire.OK


def test_b20_replace_only(c):
    """REPLACE_ONLY stores over something, and answers NOT_FOUND where nothing is."""
    assert c.status("set", b"1", cache="t", key=b"k", mode=pb.SET_REPLACE_ONLY) == wire.NOT_FOUND
    assert c.get("t", b"k") is None
    c.set("t", b"k", b"2")
    assert c.status("set", b"3", cache="t", key=b"k", mode=pb.SET_REPLACE_ONLY) == wire.OK
    assert c.get("t", b"k") == b"3"


def test_b21_compare_and_set(c):
    """A store with expected_version goes over exactly that version."""
    v1 = c.set("t", b"k", b"1").version
    v2 = c.set("t", b"k", b"2", expected_version=v1).version
    assert v2 > v1
    assert c.status("set", b"3", cache="t", key=b"k", expected_version=v1) == pb.VERSION_MISMATCH
    assert c.status("set", b"3", cache="t", key=b"k", expected_version=v2 + 1) == pb.VERSION_MISMATCH
    assert c.get("t", b"k") == b"2"
    c.delete("t", b"k")
    assert c.status("set", b"3", cache="t", key=b"k", expected_version=v2) == wire.NOT_FOUND


def test_b22_compare_and_set_makes_a_safe_counter(daemon):
    """Two clients that add with compare-and-set, taking turns in the worst way, lose nothing."""
    a, b = daemon.client(), daemon.client()
    a.set("t", b"n", b"0")
    for _ in range(50):
        seen = {x: x.lookup("t", b"n") for x in (a, b)}
        done = [x.status("set", b"%d" % (int(seen[x][1]) + 1), cache="t", key=b"n",
                         expected_version=seen[x][0].version) for x in (a, b)]
        assert done == [wire.OK, pb.VERSION_MISMATCH]
        entry, value = b.lookup("t", b"n")
        b.set("t", b"n", b"%d" % (int(value) + 1), expected_version=entry.version)
    assert a.get("t", b"n") == b"100"


# ---- many at once

def test_b23_get_many(c):
    """One item per key, in order, misses among them, the values one after the other in the body."""
    c.set("t", b"a", b"AAA", flags=1)
    c.set("t", b"b", b"")
    c.set("t", b"c", b"C" * 1000)
    items = c.get_many("t", [b"c", b"nope", b"a", b"b", b"a"])
    assert [v for _, v in items] == [b"C" * 1000, None, b"AAA", b"", b"AAA"]
    assert [i.status for i, _ in items] == [wire.OK, wire.NOT_FOUND, wire.OK, wire.OK, wire.OK]
    assert items[2][0].entry.flags == 1
    s = c.stats("t")
    assert (s.hits, s.misses) == (4, 1)


def test_b24_get_many_of_an_unknown_cache_is_all_misses_or_not_found(c):
    """An unknown cache has nothing under any key."""
    reply, body = c.call("get_many", cache="nobody", keys=[b"a", b"b"])
    assert not body
    assert reply.status == wire.NOT_FOUND or [i.status for i in reply.get_many.items] == [wire.NOT_FOUND] * 2


def test_b25_set_many(c):
    """Each item has its own status: one that is refused does not stop the others."""
    c.set("t", b"there", b"old")
    items = c.set_many("t", [
        (b"a", b"1", {}),
        (b"there", b"new", dict(mode=pb.SET_ADD_ONLY)),
        (b"", b"key of 0 bytes", {}),
        (b"absent", b"x", dict(mode=pb.SET_REPLACE_ONLY)),
        (b"b", b"", dict(flags=9, ttl_ms=60000)),
        (b"x" * 65, b"key of 65 bytes", {}),
        (b"c", b"3" * 10000, {}),
    ])
    assert [i.status for i in items] == [wire.OK, pb.EXISTS, pb.INVALID, wire.NOT_FOUND, wire.OK, pb.INVALID,
                                         wire.OK]
    assert items[0].version < items[4].version < items[6].version
    assert all(i.error for i in items if i.status in (pb.EXISTS, pb.INVALID))
    assert c.get("t", b"there") == b"old"
    assert [v for _, v in c.get_many("t", [b"a", b"b", b"c", b"absent"])] == [b"1", b"", b"3" * 10000, None]
    entry = c.lookup("t", b"b")[0]
    assert entry.flags == 9 and 0 < entry.ttl_ms <= 60000


def test_b26_set_many_stores_in_order(c):
    """The same key twice in one SetMany: the later one stays."""
    c.set_many("t", [(b"k", b"first", {}), (b"k", b"second", {})])
    assert c.get("t", b"k") == b"second"


def test_b27_many_of_none(c):
    """Naming no key, and storing nothing, is INVALID: it can only be a mistake of the client."""
    c.open("t")
    assert c.status("get_many", cache="t", keys=[]) == pb.INVALID
    assert c.status("set_many", cache="t") == pb.INVALID


def test_b28_a_thousand_keys_at_once(c):
    """A thousand keys in one SetMany and in one GetMany."""
    pairs = [(b"k%d" % i, b"v%d" % i * (i % 50), {}) for i in range(1000)]
    assert {i.status for i in c.set_many("t", pairs)} == {wire.OK}
    got = c.get_many("t", [k for k, _, _ in pairs])
    assert [v for _, v in got] == [v for _, v, _ in pairs]


# ---- ids instead of names

def test_b29_cache_id_stands_for_the_name(c):
    """The id that OpenCache gives works in every request that names a cache."""
    i = c.open("t").cache_id
    assert i != 0
    assert c.open("other").cache_id != i
    c.must("set", b"v", cache_id=i, key=b"k")
    assert c.get("t", b"k") == b"v"
    assert c.must("get", cache_id=i, key=b"k").entry.size == 1
    assert c.must("touch", cache_id=i, key=b"k").entry.size == 1
    assert c.must("get_many", cache_id=i, keys=[b"k"]).get_many.items[0].status == wire.OK
    assert c.must("explain", cache_id=i, key=b"k").explain.fate == pb.FATE_LIVE
    assert len(c.must("list_entries", cache_id=i).list_entries.entries) == 1
    sets = [pb.Set(key=b"m")]
    assert c.must("set_many", b"x", cache_id=i, sets=sets, sizes=[1]).set_many.items[0].status == wire.OK
    assert c.status("delete", cache_id=i, key=b"k") == wire.OK
    assert c.must("clear", cache_id=i).clear.entries == 1


def test_b30_an_id_that_nobody_gave_is_refused(c):
    """Made-up ids are NOT_FOUND or INVALID, never another cache."""
    c.set("t", b"k", b"v")
    for i in (7777, 0xffffffff):
        assert c.status("get", cache_id=i, key=b"k") in (wire.NOT_FOUND, pb.INVALID)
        assert c.status("set", b"x", cache_id=i, key=b"k") in (wire.NOT_FOUND, pb.INVALID)
    assert c.get("t", b"k") == b"v"


# ---- clear

def test_b31_clear_one_cache(c):
    """Clear empties one cache, says how many entries left, and keeps the cache and its policy."""
    c.open("t", max_entries=100)
    for i in range(30):
        c.set("t", b"%d" % i, b"v")
    c.set("other", b"k", b"v")
    r = c.clear("t")
    assert (r.entries, r.caches) == (30, 1)
    assert all(c.get("t", b"%d" % i) is None for i in range(30))
    assert c.get("other", b"k") == b"v"
    s = c.stats("t")
    assert (s.entries, s.bytes_held, s.bytes_raw, s.clears) == (0, 0, 0, 1)
    assert wire.policy_tuple(s.policy) == (None, 100, None)
    c.set("t", b"1", b"again")
    assert c.get("t", b"1") == b"again"


def test_b32_clear_the_realm(c):
    """Clear with `all` empties every cache of the realm."""
    for name in ("a", "b", "c"):
        for i in range(10):
            c.set(name, b"%d" % i, b"v")
    r = c.clear()
    assert (r.entries, r.caches) == (30, 3)
    assert c.stats().realm.entries == 0
    assert sorted(s.name for s in c.list_caches()) == ["a", "b", "c"]


# ---- looking without touching

def test_b33_no_touch_counts_nothing(c):
    """Get and GetMany with no_touch are neither hit nor miss nor use."""
    c.open("t", max_entries=2)
    c.set("t", b"a", b"1")
    c.set("t", b"b", b"2")
    assert c.get("t", b"a", no_touch=True) == b"1"
    assert c.get("t", b"x", no_touch=True) is None
    assert c.get_many("t", [b"a", b"x"], no_touch=True)[0][1] == b"1"
    s = c.stats("t")
    assert (s.hits, s.misses) == (0, 0)
    c.set("t", b"c", b"3")
    assert c.get("t", b"a") is None, "a was only looked at, so it was the least recently used"
