# SPDX-License-Identifier: MIT
"""Caches, their policies, listings, explanations, counters, clients and the configuration."""

import os
import signal

import pytest

import harness
import wire
from wire import pb, policy_tuple


# ---- open and policy

def test_b40_open_creates_once(c):
    """The first open creates, the second finds; both are counted."""
    a = c.open("t")
    b = c.open("t")
    assert a.created and not b.created
    assert (a.opens, b.opens) == (1, 2)
    assert a.name == "t" and a.cache_id == b.cache_id
    assert policy_tuple(b.policy) == (None, None, None)
    assert not b.pinned


def test_b41_open_is_idempotent(c):
    """Opening again with the same policy changes nothing and counts no change."""
    a = c.open("t", ttl_ms=5000, max_entries=10, max_bytes=100000)
    assert policy_tuple(a.policy) == (5000, 10, 100000)
    b = c.open("t", ttl_ms=5000, max_entries=10, max_bytes=100000)
    assert policy_tuple(b.policy) == (5000, 10, 100000)
    assert b.policy_changes == a.policy_changes
    assert b.opens == a.opens + 1


def test_b42_open_without_policy_leaves_it(c):
    """An open that brings no policy takes what is there."""
    c.open("t", ttl_ms=5000)
    assert policy_tuple(c.open("t").policy) == (5000, None, None)


def test_b43_newest_open_wins_and_is_counted(daemon):
    """Another policy replaces the one before, whole; policy_changes grows by one."""
    a, b = daemon.client(), daemon.client()
    first = a.open("t", ttl_ms=5000, max_entries=10)
    second = b.open("t", max_entries=20)
    assert policy_tuple(second.policy) == (None, 20, None)
    assert second.policy_changes == first.policy_changes + 1
    third = a.open("t", unlimited=True)
    assert policy_tuple(third.policy) == (None, None, None)
    assert third.policy_changes == first.policy_changes + 2
    s = a.stats("t")
    assert (s.opens, s.policy_changes) == (third.opens, third.policy_changes) == (3, second.policy_changes + 1)


def test_b44_set_policy_pins(c):
    """A policy set by an admin stays, whatever clients open with."""
    c.open("t", ttl_ms=5000, max_entries=10)
    p = c.set_policy("t", max_entries=3)
    assert p.pinned and policy_tuple(p.policy) == (5000, 3, None), "fields that are absent keep their value"
    o = c.open("t", ttl_ms=99, max_entries=1000)
    assert o.pinned and policy_tuple(o.policy) == (5000, 3, None)
    assert c.stats("t").pinned


def test_b45_unpin_goes_back_to_what_clients_open_with(c):
    """After unpin the policy that clients last opened with is in force, and the next open wins."""
    c.open("t", max_entries=7)
    c.set_policy("t", max_entries=3)
    u = c.set_policy("t", unpin=True)
    assert not u.pinned and policy_tuple(u.policy) == (None, 7, None)
    o = c.open("t", max_entries=50)
    assert not o.pinned and policy_tuple(o.policy) == (None, 50, None)


def test_b46_reset_makes_a_field_unlimited(c):
    """`reset` names fields that become unlimited; the others keep their value."""
    c.open("t", ttl_ms=5000, max_entries=10, max_bytes=100000)
    p = c.set_policy("t", reset=[pb.POLICY_TTL, pb.POLICY_MAX_BYTES])
    assert p.pinned and policy_tuple(p.policy) == (None, 10, None)
    p = c.set_policy("t", ttl_ms=77, reset=[pb.POLICY_MAX_ENTRIES])
    assert policy_tuple(p.policy) == (77, None, None)


def test_b47_set_policy_creates_the_cache(c):
    """SetPolicy on an unknown cache creates it, pinned."""
    p = c.set_policy("new", max_entries=5)
    assert p.created and p.pinned
    assert [s.name for s in c.list_caches()] == ["new"]


def test_b48_limits_apply_at_once_ttl_to_later_stores(c):
    """Lowering max_entries evicts now; a new TTL leaves stored entries as they are."""
    for i in range(10):
        c.set("t", b"%d" % i, b"v")
    c.open("t", max_entries=4, ttl_ms=60000)
    assert c.stats("t").entries == 4
    assert [c.get("t", b"%d" % i, no_touch=True) is not None for i in range(10)] == [False] * 6 + [True] * 4
    assert c.lookup("t", b"9")[0].WhichOneof("ttl") is None
    c.set("t", b"9", b"v")
    assert 0 < c.lookup("t", b"9")[0].ttl_ms <= 60000


@pytest.mark.parametrize("how", ["open", "set_policy"])
def test_b49_other_holders_are_told(daemon, how):
    """Who opened the cache gets an event when somebody else changes its policy; the changer gets none."""
    holder, changer, stranger = daemon.client(), daemon.client(), daemon.client()
    quiet = daemon.client(features=0)
    holder.open("t", max_entries=10)
    changer.open("t")
    quiet.open("t")
    stranger.open("other")
    if how == "open":
        changer.open("t", max_entries=7)
    else:
        changer.set_policy("t", max_entries=7)
    event = holder.wait_event()
    assert event.policy_changed.name == "t"
    assert policy_tuple(event.policy_changed.policy) == (None, 7, None)
    assert event.policy_changed.pinned == (how == "set_policy")
    for other in (changer, stranger, quiet):
        other.ping()
        other.ping()
        assert not other.events
    changer.open("t", max_entries=7)
    holder.ping()
    holder.ping()
    assert not holder.events, "nothing changed, nobody is told"


def test_b50_events_follow_a_holder_that_reopens(daemon):
    """Several changes: the last event carries the policy in force."""
    a, b = daemon.client(), daemon.client()
    a.open("t")
    for n in range(1, 21):
        b.open("t", max_entries=n)

    def newest():
        a.ping()
        return a.events and policy_tuple(a.events[-1].policy_changed.policy) == (None, 20, None)
    harness.wait_until(newest, "the newest policy arrives")


@pytest.mark.parametrize("limits", [dict(max_entries=0), dict(ttl_ms=0), dict(max_bytes=0)])
def test_b51_a_limit_of_zero_is_refused(c, limits):
    """0 never means unlimited: it is INVALID, and the cache is not created by it."""
    assert c.status("open_cache", cache="t", policy=wire.policy(**limits)) == pb.INVALID
    assert c.list_caches() == []
    c.open("t", max_entries=5)
    assert c.status("open_cache", cache="t", policy=wire.policy(**limits)) == pb.INVALID
    assert c.status("set_policy", cache="t", policy=wire.policy(**limits)) == pb.INVALID
    assert policy_tuple(c.open("t").policy) == (None, 5, None)


# ---- listings

def test_b52_list_caches_in_pages(c):
    """Every cache exactly once, in pages of any size."""
    names = [f"cache {i:03d}" for i in range(250)]
    for n in names:
        c.open(n, max_entries=9)
    for page_size in (0, 1, 7, 100, 1000):
        listed = c.list_caches(page_size)
        assert sorted(s.name for s in listed) == names
    assert {policy_tuple(s.policy) for s in listed} == {(None, 9, None)}


def test_b53_list_entries_in_pages(c):
    """2,000 entries in pages of 100: every one exactly once, with what belongs to it."""
    expected = {}
    for i in range(2000):
        key, value = b"key %d" % i, b"v" * (i % 300)
        expected[key] = (c.set("t", key, value, flags=i).version, len(value), i)
    pages = list(c.list_pages("t", 100))
    assert all(len(p) <= 100 for p in pages)
    entries = [e for p in pages for e in p]
    assert len(entries) == 2000
    assert {e.key: (e.entry.version, e.entry.size, e.entry.flags) for e in entries} == expected
    for e in entries:
        assert e.charge == wire.charge(len(e.key), e.entry.size, e.entry.flags) and not e.large


def test_b54_a_listing_is_no_use(c):
    """Listing entries neither counts as hits nor changes their order."""
    c.open("t", max_entries=3)
    for k in (b"a", b"b", b"c"):
        c.set("t", k, b"v")
    c.list_entries("t")
    assert c.stats("t").hits == 0
    c.set("t", b"d", b"v")
    assert sorted(e.key for e in c.list_entries("t")) == [b"b", b"c", b"d"]


def test_b55_entries_untouched_by_writes_appear_in_a_listing_under_writes(c):
    """While others are stored and deleted, what stays is listed."""
    stay = {b"stay %d" % i for i in range(500)}
    for k in stay:
        c.set("t", k, b"v")
    seen, n = set(), 0
    for page in c.list_pages("t", 20):
        seen |= {e.key for e in page}
        for _ in range(10):
            c.set("t", b"moving %d" % n, b"v" * 50)
            n += 1
        c.delete("t", b"moving %d" % (n // 2))
        assert n < 100_000, "a listing has to end"
    assert stay <= seen


def test_b55_entries_that_the_daemon_moves_appear_too(c):
    """Deletions around them make the daemon tidy its memory: what stays is listed wherever it lies by then."""
    n = 30_000
    for at in range(0, n, 3000):
        c.set_many("t", [(b"%d" % i, b"v" * 200, {}) for i in range(at, at + 3000)])
    stay = {b"%d" % i for i in range(0, n, 50)}
    seen, doomed = set(), (i for i in range(n) if i % 50)
    for page in c.list_pages("t", 100):
        seen |= {e.key for e in page}
        ids = [c.post("delete", cache="t", key=b"%d" % i) for _, i in zip(range(1000), doomed)]
        for i in ids:
            c.wait(i)
    assert stay <= seen


def test_b56_a_cursor_from_nowhere_is_harmless(c):
    """Any number as a cursor gives a page or INVALID, never a fault."""
    for i in range(100):
        c.set("t", b"%d" % i, b"v")
    for cursor in (1, 2, 99, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        assert c.status("list_entries", cache="t", cursor=cursor) in (wire.OK, pb.INVALID)
        assert c.status("list_caches", cursor=cursor) in (wire.OK, pb.INVALID)


# ---- explain

def test_b57_explain_never_stored_and_no_cache(c):
    """A key that nobody stored, and a cache that nobody made."""
    assert c.fate("nobody", b"k") == "NO_CACHE"
    c.open("t")
    assert c.fate("t", b"k") == "NEVER_STORED"
    assert c.explain("t", b"k").text


def test_b58_explain_live(c):
    """A live entry is explained with what it is and what it costs; that is no hit."""
    c.set("t", b"k", b"value", ttl_ms=60000, flags=3)
    e = c.explain("t", b"k")
    assert e.fate == pb.FATE_LIVE and e.text
    assert (e.entry.size, e.entry.flags, e.charge) == (5, 3, wire.charge(1, 5, 3))
    assert e.age_ms == 0
    assert c.stats("t").hits == 0


def test_b59_explain_deleted_and_cleared(c):
    """Deleted and cleared are told apart; stored again is live again."""
    for k in (b"d", b"c"):
        c.set("t", k, b"v")
    c.delete("t", b"d")
    c.clear("t")
    assert c.fate("t", b"d") == "DELETED"
    assert c.fate("t", b"c") == "CLEARED"
    c.set("t", b"d", b"v")
    assert c.fate("t", b"d") == "LIVE"


def test_b60_explain_evicted_for_max_entries(c):
    """What max_entries pushed out says so."""
    c.open("t", max_entries=2)
    for k in (b"a", b"b", b"c"):
        c.set("t", k, b"v")
    assert [c.fate("t", k) for k in (b"a", b"b", b"c")] == ["EVICTED_MAX_ENTRIES", "LIVE", "LIVE"]
    assert c.stats("t").evicted_max_entries == 1


def test_b61_explain_evicted_for_max_bytes(c):
    """What max_bytes pushed out says so."""
    one = wire.charge(1, 1000)
    c.open("t", max_bytes=2 * one)
    for k in (b"a", b"b", b"c"):
        c.set("t", k, b"v" * 1000)
    assert [c.fate("t", k) for k in (b"a", b"b", b"c")] == ["EVICTED_MAX_BYTES", "LIVE", "LIVE"]
    assert c.stats("t").evicted_max_bytes == 1
    assert c.stats("t").bytes_held == 2 * one


def test_b62_explain_evicted_for_the_realm_budget(make_daemon):
    """What the realm's budget pushed out says so, whatever cache it was in."""
    d = make_daemon(memory={"realm_budget": "64K"})
    c = d.client()
    c.set("old", b"a", b"v" * 20000)
    c.set("new", b"b", b"v" * 20000)
    c.set("new", b"c", b"v" * 20000)
    assert c.fate("old", b"a") == "EVICTED_REALM_BUDGET"
    assert c.fate("new", b"b") == c.fate("new", b"c") == "LIVE"
    assert c.stats("old").evicted_realm_budget == 1


def test_b63_explain_evicted_for_the_uid_share(make_daemon):
    """A writer beyond its share pushes its own oldest out."""
    d = make_daemon(memory={"realm_budget": "1M", "uid_share": "64K"})
    c = d.client()
    for k in (b"a", b"b", b"c"):
        c.set("t", k, b"v" * 20000)
    assert [c.fate("t", k) for k in (b"a", b"b", b"c")] == ["EVICTED_UID_SHARE", "LIVE", "LIVE"]
    assert c.stats("t").evicted_uid_share == 1


def test_b64_explain_evicted_for_the_global_budget(make_daemon):
    """What the budget above all realms pushed out says so."""
    d = make_daemon(memory={"realm_budget": "64M", "global_budget": "64K"})
    c = d.client()
    for k in (b"a", b"b", b"c"):
        c.set("t", k, b"v" * 20000)
    assert [c.fate("t", k) for k in (b"a", b"b", b"c")] == ["EVICTED_GLOBAL_BUDGET", "LIVE", "LIVE"]
    assert c.stats("t").evicted_global_budget == 1


# ---- counters

def test_b65_counters_are_exact(c):
    """Every counter of a cache after a known sequence."""
    c.open("t", max_entries=3)
    for k in (b"a", b"b", b"c", b"d"):          # 4 stores, a evicted
        c.set("t", k, b"12345", cost_us=1000)
    c.get("t", b"a")                            # miss
    c.get("t", b"b")                            # hit
    c.get("t", b"b")                            # hit
    c.get_many("t", [b"c", b"zz"])              # hit, miss
    c.delete("t", b"b")
    c.delete("t", b"b")                         # was not there
    c.set("t", b"c", b"1")                      # store over
    c.status("set", b"x", cache="t", key=b"c", mode=pb.SET_ADD_ONLY)
    s = c.stats("t")
    assert s.name == "t" and s.entries == 2
    assert (s.hits, s.misses, s.stores, s.deletes) == (3, 2, 5, 1)
    assert (s.evicted_max_entries, s.evicted_max_bytes, s.evicted_uid_share, s.evicted_realm_budget,
            s.evicted_global_budget, s.evicted_index) == (1, 0, 0, 0, 0, 0)
    assert (s.expirations, s.clears, s.refused, s.time_saved_us) == (0, 0, 0, 3000)
    assert s.bytes_raw == (1 + 1) + (1 + 5)
    assert s.bytes_held == wire.charge(1, 1) + wire.charge(1, 5, cost_us=1000)


def test_b66_totals_are_the_sum_of_the_caches(c):
    """`total` and `realm` add up what the caches have."""
    for i in range(5):
        c.open(f"c{i}", max_entries=10)
        for k in range(12):
            c.set(f"c{i}", b"%d" % k, b"v" * k)
            c.get(f"c{i}", b"%d" % (k // 2))
    caches = c.list_caches()
    whole = c.stats()
    for field in ("entries", "bytes_raw", "bytes_held", "hits", "misses", "stores", "evicted_max_entries", "opens"):
        assert getattr(whole.total, field) == sum(getattr(s, field) for s in caches), field
    assert whole.realm.entries == 50 and whole.realm.caches == 5
    assert whole.realm.bytes_charged == whole.total.bytes_held + whole.realm.bytes_reclaiming
    assert whole.realm.name == c.info.realm


def test_b67_bytes_raw_counts_before_encoding(c):
    """bytes_raw is keys and values as they were before encoding."""
    c.set("t", b"kk", b"packed", encoding=pb.ENCODING_LZ4, raw_size=1000)
    assert c.stats("t").bytes_raw == 1002


def test_b68_daemon_statistics(daemon, c):
    """Uptime, connections, requests, budgets, memory and latencies per kind of request."""
    before = c.stats().daemon
    for i in range(100):
        c.set("t", b"%d" % i, b"v")
    for i in range(50):
        c.get("t", b"%d" % i)
    other = daemon.client()
    after = c.stats().daemon
    assert after.pid == daemon.pid and after.version == c.info.version and after.instance == c.info.instance
    assert after.uptime_ms >= before.uptime_ms
    assert after.connections == 2
    assert after.connections_total == before.connections_total + 1
    assert after.requests - before.requests == 100 + 50 + 1 + 1
    assert after.realms == 1
    assert 0 < after.bytes_charged <= after.budget_bytes
    assert after.resident_bytes > 0
    kinds = {x.request.lower(): x for x in after.latencies}
    for name, count in (("set", 100), ("get", 50)):
        x = kinds[name]
        assert x.count == count == sum(x.bucket_count)
        assert 0 < x.p50_ns <= x.p99_ns <= x.p999_ns
        assert x.p50_ns * 1 <= x.max_ns * 1.1 + 1000 and x.sum_ns >= x.max_ns
        assert list(x.bucket_ns) == sorted(set(x.bucket_ns))
    other.close()


def test_b69_refused_stores_are_counted(c):
    """A store that can never fit counts as refused."""
    c.open("t", max_bytes=1000)
    assert c.status("set", b"v" * 2000, cache="t", key=b"k") == pb.TOO_LARGE
    s = c.stats("t")
    assert (s.refused, s.stores, s.entries) == (1, 0, 0)


# ---- clients

def test_b70_clients(daemon):
    """Everybody who is connected, by name, with what they sent."""
    a = daemon.client(name="first program")
    b = daemon.client(name="é" * 32)
    for i in range(10):
        b.set("t", b"%d" % i, b"v" * 1000)
    rows = {r.name: r for r in a.clients()}
    assert set(rows) == {"first program", "é" * 32}
    r = rows["é" * 32]
    assert r.pid == os.getpid() and r.uid == os.geteuid() and r.role == pb.ROLE_ADMIN
    assert r.realm == a.info.realm
    assert r.requests == 11
    assert r.bytes_in > 10_000 and r.bytes_out > 0
    assert r.connection != rows["first program"].connection
    b.close()
    harness.wait_until(lambda: len(a.clients()) == 1, "the closed one is gone")


@pytest.mark.parametrize("name", ["x" * 65, "a\nb", "a\x1b[2J", ""])
def test_b71_a_client_name_that_is_no_name(daemon, name):
    """Names of clients reach terminals: control characters and long ones are refused or made harmless."""
    c = daemon.connect()
    reply, _ = c.call("hello", protocol_min=1, protocol_max=1, client=name)
    assert reply.status in (wire.OK, pb.INVALID)
    if reply.status == wire.OK:
        shown = c.clients()[0].name
        assert len(shown.encode()) <= 64 and not any(ord(x) < 32 for x in shown)


# ---- configuration

def test_b72_config_get(make_daemon):
    """Every setting with its value, whether it is the default, and where it was set."""
    d = make_daemon(daemon={"log_level": "debug"}, memory={"realm_budget": "100M"}, limits={"caches_per_realm": 7})
    c = d.client()
    reply = c.must("get_config")
    rows = {s.name.rpartition(".")[2]: s for s in reply.config.settings}
    assert not rows["realm_budget"].is_default
    assert rows["realm_budget"].source == f"{d.config_path}:4"
    assert rows["caches_per_realm"].value == "7"
    assert rows["caches_per_realm"].source.endswith(":6")
    assert rows["frame_ms"].is_default and rows["frame_ms"].source == ""
    assert list(reply.config.files) == [str(d.config_path)]


def test_b73_config_reload(make_daemon):
    """ReloadConfig takes a new file; what it says holds at once."""
    d = make_daemon(limits={"caches_per_realm": 2})
    c = d.client()
    c.open("a")
    c.open("b")
    assert c.status("open_cache", cache="c") == pb.LIMIT
    d.config_path.write_text(harness.config_text(limits={"caches_per_realm": 2, "page_entries": 3}))
    reply = c.must("reload_config")
    assert any(s.name.endswith("page_entries") and s.value == "3" for s in reply.config.settings)
    assert c.stats().daemon.config_reloads == 1
    for i in range(10):
        c.set("a", b"%d" % i, b"v")
    assert len(c.must("list_entries", cache="a").list_entries.entries) <= 3


def test_b74_config_reload_of_a_bad_file(make_daemon):
    """A wrong file is refused with file and line, and the old configuration stays."""
    d = make_daemon(limits={"page_entries": 3})
    c = d.client()
    d.config_path.write_text("[limits]\npage_entries = 4\nno_such_thing = 1\n")
    reply, _ = c.call("reload_config")
    assert reply.status == pb.CONFIG
    assert f"{d.config_path}:3" in reply.error and "no_such_thing" in reply.error
    assert {s.name.rpartition(".")[2]: s.value for s in c.must("get_config").config.settings}["page_entries"] == "3"
    assert c.stats().daemon.config_reloads == 0


def test_b75_lowering_the_budget_by_reload_evicts(make_daemon):
    """A smaller realm budget holds at once after a reload."""
    d = make_daemon(memory={"realm_budget": "1M"})
    c = d.client()
    for i in range(30):
        c.set("t", b"%02d" % i, b"v" * 20000)
    assert c.stats("t").entries == 30
    d.config_path.write_text(harness.config_text(memory={"realm_budget": "100K"}))
    d.signal(signal.SIGHUP)
    harness.wait_until(lambda: c.stats().realm.bytes_charged <= 100 << 10, "the budget holds")
    assert c.get("t", b"29") is not None
    assert c.fate("t", b"00") == "EVICTED_REALM_BUDGET"


def test_b76_drop_ins_are_read_in_order(make_daemon):
    """Files of cached.conf.d are read after the main file, in the order of their names."""
    d = make_daemon(start=False, limits={"page_entries": 3, "caches_per_realm": 9})
    drop = d.dir / "cached.conf.d"
    drop.mkdir()
    (drop / "20-b.conf").write_text("[limits]\npage_entries = 20\n")
    (drop / "10-a.conf").write_text("[limits]\npage_entries = 10\ncaches_per_realm = 10\n")
    (drop / "ignored.txt").write_text("[nonsense\n")
    d.start()
    reply = d.client().must("get_config")
    rows = {s.name.rpartition(".")[2]: s for s in reply.config.settings}
    assert rows["page_entries"].value == "20" and rows["page_entries"].source == f"{drop}/20-b.conf:2"
    assert rows["caches_per_realm"].value == "10"
    assert [os.path.basename(f) for f in reply.config.files] == ["cached.conf", "10-a.conf", "20-b.conf"]
