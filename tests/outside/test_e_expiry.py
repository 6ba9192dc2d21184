# SPDX-License-Identifier: MIT
"""TTLs, with a clock that the test moves. Nothing here waits for time to pass."""

import pytest

import harness
import wire
from wire import pb

pytestmark = pytest.mark.usefixtures("needs_clock")

TEN_YEARS = 10 * 366 * 24 * 3600 * 1000

# Real time goes on beside the clock that the test moves: distances are far larger than any test takes.
HOUR = 3_600_000


def test_e01_an_entry_lives_until_its_ttl(c, clock):
    """Served before its TTL has passed, not after."""
    c.set("t", b"k", b"v", ttl_ms=2 * HOUR)
    clock.advance(HOUR)
    assert c.get("t", b"k") == b"v"
    clock.advance(HOUR)
    assert c.get("t", b"k") is None


def test_e02_the_very_millisecond(c, clock):
    """When exactly the TTL has passed the entry is not served any more."""
    for i in range(50):
        c.set("t", b"%d" % i, b"v", ttl_ms=HOUR)
    clock.advance(HOUR)
    assert all(c.get("t", b"%d" % i) is None for i in range(50))


def test_e03_remaining_ttl(c, clock):
    """The remaining TTL shrinks with time."""
    c.set("t", b"k", b"v", ttl_ms=10 * HOUR)
    clock.advance(4 * HOUR)
    assert 6 * HOUR - 60_000 < c.lookup("t", b"k")[0].ttl_ms <= 6 * HOUR


def test_e04_a_hit_does_not_extend(c, clock):
    """TTL counts from the store; hits change nothing about it."""
    c.set("t", b"k", b"v", ttl_ms=10 * HOUR)
    for _ in range(9):
        clock.advance(HOUR)
        assert c.get("t", b"k") == b"v"
    clock.advance(HOUR)
    assert c.get("t", b"k") is None


def test_e05_touch_extends_and_plain_touch_does_not(c, clock):
    """A touched key with a new TTL survives its first deadline; one touched without does not."""
    for k in (b"extended", b"used", b"kept"):
        c.set("t", k, b"v", ttl_ms=5 * HOUR)
    clock.advance(4 * HOUR)
    c.touch("t", b"extended", ttl_ms=5 * HOUR)
    c.touch("t", b"used")
    c.touch("t", b"kept", never_expires=True)
    clock.advance(2 * HOUR)
    assert [c.get("t", k) for k in (b"extended", b"used", b"kept")] == [b"v", None, b"v"]
    clock.advance(4 * HOUR)
    assert [c.get("t", k) for k in (b"extended", b"kept")] == [None, b"v"]


def test_e06_touch_can_shorten(c, clock):
    """A shorter TTL by Touch holds."""
    c.set("t", b"k", b"v", ttl_ms=100 * HOUR)
    c.touch("t", b"k", ttl_ms=HOUR)
    clock.advance(HOUR)
    assert c.get("t", b"k") is None


def test_e07_an_expired_entry_cannot_be_touched_or_deleted(c, clock):
    """What has expired is not there for any request."""
    for k in b"abcde":
        c.set("t", bytes([k]), b"v", ttl_ms=HOUR)
    version = c.explain("t", b"a").entry.version
    clock.advance(HOUR)
    assert c.touch("t", b"a", ttl_ms=HOUR) is None
    assert c.delete("t", b"b") is False
    assert c.status("set", b"x", cache="t", key=b"c", mode=pb.SET_REPLACE_ONLY) == wire.NOT_FOUND
    assert c.status("set", b"x", cache="t", key=b"a", expected_version=version) == wire.NOT_FOUND
    assert c.status("set", b"x", cache="t", key=b"d", mode=pb.SET_ADD_ONLY) == wire.OK
    assert c.get_many("t", [b"d", b"e"])[1][1] is None
    assert [e.key for e in c.list_entries("t")] == [b"d"]


def test_e08_policy_ttl_and_the_entrys_own(c, clock):
    """The policy's TTL is for entries that bring none; an entry's own beats it, in both directions."""
    c.open("t", ttl_ms=2 * HOUR)
    c.set("t", b"policy", b"v")
    c.set("t", b"short", b"v", ttl_ms=HOUR)
    c.set("t", b"long", b"v", ttl_ms=3 * HOUR)
    c.set("t", b"never", b"v", never_expires=True)

    def alive():
        return [k for k in (b"policy", b"short", b"long", b"never") if c.get("t", k) is not None]
    clock.advance(HOUR)
    assert alive() == [b"policy", b"long", b"never"]
    clock.advance(HOUR)
    assert alive() == [b"long", b"never"]
    clock.advance(HOUR)
    assert alive() == [b"never"]
    clock.advance(1000 * HOUR)
    assert alive() == [b"never"]


def test_e09_a_changed_policy_ttl_is_for_later_stores(c, clock):
    """Stored entries keep the deadline they got; the new TTL is for what comes."""
    c.open("t", ttl_ms=10 * HOUR)
    c.set("t", b"before", b"v")
    c.open("t", ttl_ms=HOUR)
    c.set("t", b"after", b"v")
    clock.advance(HOUR)
    assert (c.get("t", b"before"), c.get("t", b"after")) == (b"v", None)
    c.open("t", unlimited=True)
    c.set("t", b"later", b"v")
    clock.advance(9 * HOUR)
    assert (c.get("t", b"before"), c.get("t", b"later")) == (None, b"v")


def test_e10_a_new_store_brings_a_new_deadline(c, clock):
    """Storing over an entry starts its TTL anew; without one it never expires."""
    c.set("t", b"a", b"1", ttl_ms=2 * HOUR)
    c.set("t", b"b", b"1", ttl_ms=2 * HOUR)
    clock.advance(HOUR)
    c.set("t", b"a", b"2", ttl_ms=2 * HOUR)
    c.set("t", b"b", b"2")
    clock.advance(HOUR)
    assert (c.get("t", b"a"), c.get("t", b"b")) == (b"2", b"2")
    clock.advance(HOUR)
    assert (c.get("t", b"a"), c.get("t", b"b")) == (None, b"2")


def test_e11_expired_leave_before_the_least_recently_used(c, clock):
    """With max_entries reached, an expired entry makes room and a live, older one stays."""
    c.open("t", max_entries=3)
    c.set("t", b"old but live", b"v")
    c.set("t", b"short", b"v", ttl_ms=HOUR)
    c.set("t", b"new", b"v")
    c.get("t", b"short")
    clock.advance(HOUR)
    c.set("t", b"newest", b"v")
    assert [c.get("t", k) for k in (b"old but live", b"short", b"new", b"newest")] == [b"v", None, b"v", b"v"]
    s = c.stats("t")
    assert (s.expirations, s.evicted_max_entries, s.entries) == (1, 0, 3)


def test_e12_expired_leave_before_others_under_byte_budgets(make_daemon):
    """The same under max_bytes and under the realm's budget: nothing live leaves while expired ones are there."""
    d = make_daemon(memory={"realm_budget": "128K"})
    c = d.client()
    one = wire.charge(1, 10000)
    for name, limit in (("limited", dict(max_bytes=3 * one)), ("free", dict())):
        c.clear()
        c.open(name, **limit)
        room = 3 if limit else (128 << 10) // one
        c.set(name, b"L", b"v" * 10000)
        for i in range(room - 1):
            c.set(name, bytes([i]), b"v" * 10000, ttl_ms=HOUR)
        d.clock.advance(HOUR)
        for i in range(room - 1):
            c.set(name, bytes([100 + i]), b"v" * 10000)
        assert c.get(name, b"L") is not None, name
        s = c.stats(name)
        assert s.evicted_max_bytes == s.evicted_realm_budget == 0 and s.expirations == room - 1


def test_e13_expirations_are_counted_and_explained(c, clock):
    """stats counts them as expirations, explain says EXPIRED and for how long."""
    for i in range(100):
        c.set("t", b"%d" % i, b"v" * i, ttl_ms=HOUR)
    clock.advance(3 * HOUR)
    assert c.get("t", b"5") is None
    e = c.explain("t", b"5")
    assert e.fate == pb.FATE_EXPIRED and e.text
    assert 0 <= e.age_ms <= 2 * HOUR + 60_000
    harness.wait_until(lambda: c.stats("t").expirations == 100, "all hundred are swept")
    s = c.stats("t")
    assert (s.entries, s.bytes_held, s.evicted_max_entries) == (0, 0, 0)
    assert (s.hits, s.misses) == (0, 1)


def test_e14_the_bytes_of_the_expired_come_back(make_daemon):
    """A hundred thousand expired entries leave without being asked for."""
    d = make_daemon()
    c = d.client()
    n = 100_000 if harness.LONG else 20_000
    for at in range(0, n, 2000):
        c.set_many("t", [(b"%d" % i, b"v" * 100, dict(ttl_ms=HOUR)) for i in range(at, at + 2000)])
    assert c.stats().realm.entries == n
    d.clock.advance(HOUR)
    harness.wait_until(lambda: c.stats().realm.bytes_charged == 0, "the bytes are back")
    assert c.stats("t").expirations == n


def test_e15_the_longest_and_the_shortest(c, clock):
    """1 ms and 10 years are TTLs."""
    c.set("t", b"long", b"v", ttl_ms=315_360_000_000)
    clock.advance(9 * 365 * 24 * HOUR)
    assert c.get("t", b"long") == b"v"
    c.set("t", b"short", b"v", ttl_ms=1)
    clock.advance(1)
    assert c.get("t", b"short") is None


@pytest.mark.parametrize("ttl", [0, TEN_YEARS, (1 << 63), (1 << 64) - 1, (1 << 64) - 5])
def test_e16_a_ttl_out_of_range(c, ttl):
    """0, more than ten years, and numbers that were negative are INVALID everywhere and change nothing."""
    c.set("t", b"k", b"v")
    assert c.status("set", b"x", cache="t", key=b"k", ttl_ms=ttl) == pb.INVALID
    assert c.status("touch", cache="t", key=b"k", ttl_ms=ttl) == pb.INVALID
    assert c.status("open_cache", cache="t", policy=wire.policy(ttl_ms=ttl)) == pb.INVALID
    assert c.status("set_policy", cache="t", policy=wire.policy(ttl_ms=ttl)) == pb.INVALID
    items = c.set_many("t", [(b"many", b"x", dict(ttl_ms=ttl)), (b"fine", b"x", {})])
    assert [i.status for i in items] == [pb.INVALID, wire.OK]
    entry, value = c.lookup("t", b"k")
    assert value == b"v" and entry.WhichOneof("ttl") is None
    assert wire.policy_tuple(c.open("t").policy) == (None, None, None)


def test_e17_many_deadlines_in_any_order(c, clock):
    """Two thousand entries with mixed deadlines: at each hour exactly the right ones are left."""
    deadlines = {b"%d" % i: 1 + (i * 7919) % 24 for i in range(2000)}
    for at in range(0, 2000, 500):
        c.set_many("t", [(k, b"v", dict(ttl_ms=h * HOUR)) for k, h in list(deadlines.items())[at:at + 500]])
    for hour in range(1, 25):
        clock.advance(HOUR)
        left = {k for k, h in deadlines.items() if h > hour}
        keys = list(deadlines)
        assert {k for k, (_, v) in zip(keys, c.get_many("t", keys)) if v is not None} == left
        assert {e.key for e in c.list_entries("t")} == left


def test_e18_false_never_expires_is_no_ttl(c, clock):
    """never_expires = false is as if nothing was said: the policy's TTL holds, or the request is INVALID."""
    c.open("t", ttl_ms=HOUR)
    status = c.status("set", b"v", cache="t", key=b"k", never_expires=False)
    assert status in (wire.OK, pb.INVALID)
    clock.advance(HOUR)
    assert c.get("t", b"k") is None


def test_e19_large_values_expire_and_give_their_memory_back(c, clock):
    """A value in a memory file of its own expires like any other."""
    c.set("t", b"k", b"v" * (4 << 20), ttl_ms=HOUR)
    assert c.stats().realm.large_bytes >= 4 << 20
    clock.advance(HOUR)
    harness.wait_until(lambda: c.stats().realm.large_bytes == 0, "the memory is back")
    assert c.get("t", b"k") is None
