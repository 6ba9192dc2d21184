# SPDX-License-Identifier: MIT
"""Subscriptions: who is told what, in which order; who does not read; schedules."""

import contextlib
import signal
import socket
import time

import pytest

import harness
import wire
from harness import wait_until
from wire import pb

ALL = [pb.EVENT_STORED, pb.EVENT_DELETED, pb.EVENT_CLEARED, pb.EVENT_EXPIRED, pb.EVENT_EVICTED, pb.EVENT_POLICY,
       pb.EVENT_REFRESH]
HOUR = 3_600_000


def subscribe(c, kinds=ALL, cache=""):
    c.must("subscribe", cache=cache, kinds=list(kinds))


def subscriber(daemon, kinds=ALL, cache="", **hello):
    c = daemon.client(**hello)
    subscribe(c, kinds, cache)
    return c


def wait_events(c, n):
    """The next @n events, in short."""
    while len(c.events) < n:
        reply, body = c.recv_any()
        assert reply.id == 0 and reply.WhichOneof("result") == "event" and not body
        c.events.append(reply.event)
    out, c.events = c.events[:n], c.events[n:]
    return [short(e) for e in out]


def no_more(c):
    """What was told before a ping's answer has come with it; so nothing was, after two turns."""
    c.ping()
    c.ping()
    return not c.events


def short(event):
    """("STORED", cache, key) and the like."""
    kind = event.WhichOneof("kind")
    e = getattr(event, kind)
    if kind == "entry":
        return pb.EventKind.Name(e.kind)[len("EVENT_"):], e.cache, e.key
    if kind == "cleared":
        which = e.WhichOneof("which")
        return ("CLEARED", e.cache, e.entries) if which is None else ("CLEARED", e.cache, getattr(e, which))
    if kind == "policy_changed":
        return "POLICY", e.name, e.policy.max_entries
    if kind == "lost":
        return "LOST", e.events
    return "REFRESH", e.cache, e.schedule


# ---- n0x: what is told

def test_n01_each_kind_in_the_order_of_what_happened(daemon):
    """Stores, replacements, deletions, evictions, policies and clears: each is told, in order."""
    s, c = subscriber(daemon), daemon.client()
    c.open("t", max_entries=2)
    c.set("t", b"a", b"1")
    entry = c.set("t", b"b", b"12345")
    c.set("t", b"a", b"2")
    c.set("t", b"c", b"3")
    c.delete("t", b"c")
    assert not c.delete("t", b"c"), "what was not there"
    c.clear("t")
    c.set("u", b"x", b"")
    c.clear()
    subscribed = wait_events(s, 2)
    assert subscribed == [("POLICY", "t", 2), ("STORED", "t", b"a")]
    reply, _ = s.recv_any()
    stored = reply.event.entry
    assert (stored.kind, stored.key, stored.version, stored.size) == (pb.EVENT_STORED, b"b", entry.version, 5)
    assert stored.age_ms < harness.PATIENCE * 1000
    assert wait_events(s, 1) == [("STORED", "t", b"a")]
    reply, _ = s.recv_any()
    gone = reply.event.entry
    assert (gone.kind, gone.key, gone.cause) == (pb.EVENT_EVICTED, b"b", pb.FATE_EVICTED_MAX_ENTRIES)
    assert wait_events(s, 5) == [("STORED", "t", b"c"), ("DELETED", "t", b"c"), ("CLEARED", "t", 1),
                                 ("STORED", "u", b"x"), ("CLEARED", "", 1)]
    assert no_more(s)


def test_n02_only_what_was_asked_for(daemon):
    """Kinds and a cache by its name, which need not be there yet; what is about all caches is about it, too."""
    c = daemon.client()
    stores = subscriber(daemon, [pb.EVENT_STORED], "later")
    clears = subscriber(daemon, [pb.EVENT_CLEARED], "later")
    for cache in ("late", "later", "laterr"):
        c.set(cache, b"k", b"v")
        c.delete(cache, b"k")
        c.clear(cache)
    c.clear()
    assert wait_events(stores, 1) == [("STORED", "later", b"k")]
    assert wait_events(clears, 2) == [("CLEARED", "later", 0), ("CLEARED", "", 0)]
    assert no_more(stores) and no_more(clears)


def test_n03_another_subscription_takes_its_place_and_none_ends_it(daemon):
    c, s = daemon.client(), subscriber(daemon, [pb.EVENT_STORED])
    c.set("t", b"1", b"")
    assert wait_events(s, 1) == [("STORED", "t", b"1")]
    subscribe(s, [pb.EVENT_DELETED])
    c.set("t", b"2", b"")
    c.delete("t", b"2")
    assert wait_events(s, 1) == [("DELETED", "t", b"2")]
    subscribe(s, [])
    c.set("t", b"3", b"")
    c.delete("t", b"3")
    assert no_more(s)
    subscribe(s, [])


def test_n04_own_changes_are_told_after_their_reply(daemon):
    s = subscriber(daemon)
    s.set("t", b"k", b"v")
    assert not s.events, "the reply comes first"
    assert wait_events(s, 1) == [("STORED", "t", b"k")]


def test_n05_many_at_once_and_large_values(daemon):
    """SetMany tells each item that was stored; a value that arrives in pieces is told once, when it is stored."""
    s, c = subscriber(daemon), daemon.client()
    items = [(b"%d" % i, b"x" * 10, {}) for i in range(4000)]
    assert all(item.status == wire.OK for item in c.set_many("t", items))
    assert wait_events(s, 4000) == [("STORED", "t", key) for key, _, _ in items]
    c.set("t", b"large", bytes(20 << 20))
    assert wait_events(s, 1) == [("STORED", "t", b"large")]
    # Sixteen are started and fifteen broken off: one is told.
    for i in range(15):
        broken = daemon.client()
        broken.send_raw(wire.frame(wire.request(9, "set", cache="t", key=b"broken"), b"x" * 100000, n_body=8 << 20))
        broken.close()
    c.set("t", b"end", b"")
    assert wait_events(s, 1) == [("STORED", "t", b"end")]


def test_n05b_a_batch_of_ones_own_overflows_nothing(make_daemon):
    """Whose own batch makes more events than wait for it gets them as they come: it reads."""
    daemon = make_daemon(limits={"events_queued": 100})
    s = subscriber(daemon, [pb.EVENT_STORED])
    items = [(b"%d" % i, b"", {}) for i in range(2000)]
    s.set_many("t", items)
    assert wait_events(s, 2000) == [("STORED", "t", key) for key, _, _ in items]


def test_n06_expired_entries(daemon, clock):
    """Told when the daemon drops them: by itself soon after, or because somebody asks."""
    s, c = subscriber(daemon), daemon.client()
    c.set("t", b"short", b"v", ttl_ms=HOUR)
    c.set("t", b"long", b"v", ttl_ms=2 * HOUR)
    c.set("t", b"ever", b"v")
    assert len(wait_events(s, 3)) == 3
    clock.advance(HOUR)
    assert wait_events(s, 1) == [("EXPIRED", "t", b"short")]
    clock.advance(HOUR)
    assert c.get("t", b"long") is None
    assert wait_events(s, 1) == [("EXPIRED", "t", b"long")]
    assert no_more(s)


def test_n07_evictions_tell_why(make_daemon):
    """For room in the realm; and not what leaves after a clear, of which the clear tells."""
    daemon = make_daemon(memory={"realm_budget": "1M"})
    s, c = subscriber(daemon, [pb.EVENT_EVICTED, pb.EVENT_CLEARED]), daemon.client()
    for i in range(40):
        c.set("t", b"%d" % i, bytes(50000))
    reply, _ = s.recv_any()
    gone = reply.event.entry
    assert (gone.kind, gone.key, gone.cause) == (pb.EVENT_EVICTED, b"0", pb.FATE_EVICTED_REALM_BUDGET)
    left = c.stats("t").entries
    assert wait_events(s, 39 - left) == [("EVICTED", "t", b"%d" % i) for i in range(1, 40 - left)]
    c.clear("t")
    assert wait_events(s, 1) == [("CLEARED", "t", left)]
    for i in range(40):
        c.set("u", b"%d" % i, bytes(20000))
    assert no_more(s)


def test_n08_policies_with_pins(daemon):
    """A subscriber is told of every policy that comes into force, pinned or not, whether or not it opened the cache,
    and once. Who opened it and did not subscribe is told as ever."""
    both, other = daemon.client(), daemon.client()
    both.open("t", max_entries=5)
    subscribe(both, [pb.EVENT_POLICY])
    other.open("t", max_entries=5)
    s, c = subscriber(daemon, [pb.EVENT_POLICY]), daemon.client()
    assert no_more(s)
    c.open("t", max_entries=6)
    c.set_policy("t", max_entries=7)
    c.open("t", max_entries=8)  # pinned: nothing changes
    c.set_policy("t", unpin=True)
    for who in (s, both):
        assert wait_events(who, 3) == [("POLICY", "t", 6), ("POLICY", "t", 7), ("POLICY", "t", 8)]
        assert no_more(who)
    wait_until(lambda: (other.ping(), other.events and other.events[-1].policy_changed.policy.max_entries == 8)[1],
               "who opened it knows what holds")
    s.set_policy("t", max_entries=9)
    assert wait_events(s, 1) == [("POLICY", "t", 9)], "its own change, too"


def test_n09_realms_are_apart(make_daemon):
    """No event of one realm reaches another one, nor one that may only read what it subscribed to elsewhere."""
    daemon = make_daemon(extra="[realm one]\nreaders = 0\n[realm two]\nadmins = 0\n")
    one, two, own = (subscriber(daemon, realm=r) for r in ("one", "two", ""))
    two.set("t", b"two", b"")
    two.clear()
    c = daemon.client()
    c.set("t", b"own", b"")
    assert wait_events(two, 2) == [("STORED", "t", b"two"), ("CLEARED", "", 1)]
    assert wait_events(own, 1) == [("STORED", "t", b"own")]
    assert no_more(one) and no_more(two) and no_more(own)


def test_n10_bad_input(make_daemon):
    """Each is refused with what to do, and changes nothing."""
    daemon = make_daemon(limits={"subscribers_per_uid": 2})
    c = daemon.client()
    for kinds in ([0], [10], [-1], [pb.EVENT_STORED, 1000000]):
        # protoc's enums are open: the wire takes any number.
        reply, _ = c.call("subscribe", kinds=kinds)
        assert reply.status == wire.INVALID and f"kind {kinds[-1]} of events is unknown" in reply.error
    for cache, words in (("x" * 129, "longer than 128"), ("a\x00b", "control character")):
        reply, _ = c.call("subscribe", cache=cache, kinds=ALL)
        assert reply.status == wire.INVALID and words in reply.error
    reply, _ = c.call("subscribe", cache="t")
    assert reply.status == wire.INVALID and "no kinds" in reply.error
    reply, _ = c.call("subscribe", b"body", kinds=ALL)
    assert reply.status == wire.INVALID and "takes no body" in reply.error
    deaf = daemon.client(features=0)
    reply, _ = deaf.call("subscribe", kinds=ALL)
    assert reply.status == wire.INVALID and "FEATURE_EVENTS" in reply.error
    subscribers = [subscriber(daemon) for _ in range(2)]
    reply, _ = c.call("subscribe", kinds=ALL)
    assert reply.status == wire.LIMIT and "limits.subscribers_per_uid allows, 2" in reply.error
    subscribe(subscribers[0])  # again: it has its place
    subscribers.pop().close()
    wait_until(lambda: c.status("subscribe", kinds=ALL) == wire.OK, "its place is free")
    subscribe(c, [pb.EVENT_STORED] * 1000)
    c.set("t", b"k", b"v")
    assert wait_events(c, 1) == [("STORED", "t", b"k")]
    assert no_more(deaf)


def test_n11_clears_of_a_part(daemon):
    """By tag and by prefix: one event each, and none for the entries that leave; also where who clears is gone
    before all is cleared."""
    s, c = subscriber(daemon, [pb.EVENT_CLEARED, pb.EVENT_EVICTED, pb.EVENT_DELETED]), daemon.client()
    for start in range(0, 20000, 4000):
        c.set_many("t", [(b"pre%d" % i, b"", {"tags": ["even", "odd"][i % 2:][:1]})
                         for i in range(start, start + 4000)])
    assert c.must("clear", cache="t", tag="odd").clear.entries == 10000
    assert wait_events(s, 1) == [("CLEARED", "t", "odd")]
    for n in range(1, 6):
        prefix = b"pre%d" % n
        gone = daemon.client()
        gone.post("clear", cache="t", prefix=prefix)
        gone.close()
        wait_until(lambda: c.stats().daemon.connections == 2, "it is over")
        s.ping()
        s.ping()
        told, s.events = [short(e) for e in s.events], []
        assert told == [("CLEARED", "t", prefix)] or not told and c.get("t", prefix + b"0") == b""
    c.must("clear", cache="t", prefix=b"pre")
    assert wait_events(s, 1) == [("CLEARED", "t", b"pre")]
    assert no_more(s) and c.stats("t").entries == 0


# ---- n2x: who does not read

def test_n20_a_loss_is_told_once_in_its_place(make_daemon):
    """What does not fit is counted, and told where it is missing: before it everything, after it everything."""
    daemon = make_daemon(limits={"events_queued": 100})
    s, c = subscriber(daemon, [pb.EVENT_STORED]), daemon.client()
    n = 20000
    for start in range(0, n, 1000):
        c.set_many("t", [(b"%d" % i, b"", {}) for i in range(start, start + 1000)])
    told = []

    def read(until):
        while not told or told[-1] != ("STORED", "t", until):
            told.extend(wait_events(s, 1))
    # It reads all that was kept; then everything comes again.
    c.set("t", b"after", b"")
    while not any(e[0] == "LOST" for e in told):
        told.extend(wait_events(s, 1))
    c.set("t", b"end", b"")
    read(b"end")
    lost = [e for e in told if e[0] == "LOST"]
    assert len(lost) == 1 and lost[0][1] > 0
    before = told[:told.index(lost[0])]
    after = told[len(before) + 1:]
    assert before == [("STORED", "t", b"%d" % i) for i in range(len(before))], "no gap before the loss"
    assert len(before) >= 100
    assert after[-1] == ("STORED", "t", b"end") and len(after) <= 2
    assert len(before) + lost[0][1] + len(after) == n + 2, "each was told or counted"


def test_n21_who_never_reads_costs_little_and_stops_nobody(make_daemon):
    """Subscribers that take nothing: memory is bounded, and others are served and told as if they were not there."""
    daemon = make_daemon(limits={"events_queued": 200})
    deaf = [subscriber(daemon) for _ in range(40)]
    s, c = subscriber(daemon, [pb.EVENT_DELETED]), daemon.client()
    items = [(b"%d" % i, b"v" * 10, {}) for i in range(1000)]

    def fill(rounds):
        for _ in range(rounds):
            c.set_many("t", items)
        c.delete("t", b"1")
        assert wait_events(s, 1) == [("DELETED", "t", b"1")]
    fill(5)
    before = daemon.rss()
    fill(50)
    if not harness.SHADOWED:
        # Its output and its queue: 40 * (64K + 200 * 450) is 6M, of which most is there before.
        assert daemon.rss() - before < 8 << 20
    assert len(deaf) == 40


def test_n22_who_does_not_read_is_dropped_like_any_peer(make_daemon):
    """A subscriber that takes nothing is disconnected after limits.stall_ms."""
    daemon = make_daemon(limits={"stall_ms": "500ms"})
    deaf, c = subscriber(daemon), daemon.client()
    for _ in range(10):
        c.set_many("t", [(b"%d" % i, b"", {}) for i in range(2000)])
    wait_until(lambda: c.stats().daemon.connections == 1, "it is dropped")
    with pytest.raises((wire.Closed, ConnectionResetError)):
        while True:
            deaf.recv_any()


def test_n23_a_hundred_subscribers(make_daemon):
    """All are told; how soon is shown, and measured by the benchmark event-100."""
    daemon = make_daemon(limits={"subscribers_per_uid": 100})
    subscribers = [subscriber(daemon, [pb.EVENT_STORED]) for _ in range(100)]
    c = daemon.client()
    took = []
    for i in range(5):
        start = time.monotonic()
        c.set("t", b"%d" % i, b"v")
        for s in subscribers:
            assert wait_events(s, 1) == [("STORED", "t", b"%d" % i)]
        took.append((time.monotonic() - start) * 1000)
    print("100 subscribers told within ms:", ", ".join(f"{t:.1f}" for t in took))
    assert all(no_more(s) for s in subscribers)


def test_n24_subscribers_come_and_go_at_any_moment(daemon):
    """Whatever is queued for them: nothing is left behind (the fixture looks), and others lose nothing."""
    s, c = subscriber(daemon, [pb.EVENT_STORED]), daemon.client()
    for i in range(100):
        other = daemon.client()
        i_subscribe = other.post("subscribe", kinds=ALL)
        c.set("t", b"%d" % i, b"v")
        if i % 3 == 0:
            other.wait(i_subscribe)
            subscribe(other, ALL if i % 2 else [])
        other.close()
    assert wait_events(s, 100) == [("STORED", "t", b"%d" % i) for i in range(100)]


def test_n25_after_a_half_close_nothing_hangs(daemon):
    """Who ends its side is answered and closed, however many events come meanwhile."""
    s, c = subscriber(daemon), daemon.client()
    s.sock.shutdown(socket.SHUT_WR)
    for i in range(100):
        c.set("t", b"%d" % i, b"v")
    with contextlib.suppress(wire.Closed):
        while True:
            s.recv_any()
    wait_until(lambda: c.stats().daemon.connections == 1, "it is gone")


# ---- n3x: the daemon goes

def test_n30_a_handover_ends_subscriptions(daemon):
    """The connection ends with SHUTTING_DOWN; with the next daemon one subscribes anew, and has missed what was
    between."""
    s, c = subscriber(daemon), daemon.client()
    c.set("t", b"before", b"v")
    assert wait_events(s, 1) == [("STORED", "t", b"before")]
    old, daemon.process = daemon.process, daemon.spawn("--handover")
    assert old.wait(harness.PATIENCE) == 0
    last = s.expect_goodbye(wire.SHUTTING_DOWN)
    assert last.id == 0
    wait_until(daemon.answers, "the next daemon answers")
    c = daemon.client()
    c.set("t", b"between", b"v")
    s = subscriber(daemon)
    assert no_more(s), "nobody subscribed for it"
    c.set("t", b"after", b"v")
    assert wait_events(s, 1) == [("STORED", "t", b"after")]
    assert c.get("t", b"before") == b"v"


def test_n31_a_stop_ends_them_too(make_daemon):
    daemon = make_daemon()
    s = subscriber(daemon)
    daemon.signal(signal.SIGTERM)
    assert daemon.process.wait(harness.PATIENCE) == 0
    with pytest.raises((wire.Closed, ConnectionResetError, wire.Refused)):
        while True:
            s.recv_any()
    daemon.process = None


# ---- n4x: schedules

def test_n40_every_so_often(make_daemon, needs_clock):
    """Subscribers of the schedule's realm and cache are asked, once for each time that has passed."""
    daemon = make_daemon(extra="[realm team]\nadmins = 0\n"
                               "[schedule hourly]\ncache = t\nevery = 1h\n"
                               "[schedule team]\ncache = t\nrealm = team\nevery = 10h\n")
    # Times are counted from the machine's start: a second after one that is both's.
    daemon.clock.advance(10 * HOUR - int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000) % (10 * HOUR) + 1_000)
    s, filtered, other = subscriber(daemon), subscriber(daemon, cache="t"), subscriber(daemon, cache="u")
    team, none = subscriber(daemon, realm="team"), subscriber(daemon, [pb.EVENT_STORED])
    for _ in range(3):
        daemon.clock.advance(HOUR)
        for c in (s, filtered):
            assert wait_events(c, 1) == [("REFRESH", "t", "hourly")]
    daemon.clock.advance(10 * HOUR)
    assert wait_events(team, 1) == [("REFRESH", "t", "team")]
    for c in (s, filtered):
        assert wait_events(c, 1) == [("REFRESH", "t", "hourly")], "once, however often it came"
    for c in (s, filtered, other, team, none):
        assert no_more(c)


def test_n41_at_a_time_of_the_day(make_daemon, needs_clock):
    """The wall clock (the real one and what the test adds) passes every time of the day within a day."""
    daemon = make_daemon(extra="[schedule nightly]\ncache = t\nat = 04:30\n")
    s = subscriber(daemon)
    for _ in range(2):
        # The next 04:30 is at most a day away, or 25 hours where clocks are put back.
        daemon.clock.advance(25 * HOUR)
        assert wait_events(s, 1) == [("REFRESH", "t", "nightly")]
    assert no_more(s)


def test_n42_a_reload_puts_schedules_into_force(make_daemon, needs_clock):
    """Those that are new begin, those that are gone end; one with a mistake changes nothing."""
    daemon = make_daemon(extra="[schedule a]\ncache = t\nevery = 1h\n")
    s, c = subscriber(daemon), daemon.client()
    daemon.config_path.write_text("[schedule b]\ncache = u\nevery = 1h\n")
    c.must("reload_config")
    daemon.clock.advance(HOUR)
    assert wait_events(s, 1) == [("REFRESH", "u", "b")]
    assert c.config()["schedule.b.every"].value == "1h"
    daemon.config_path.write_text("[schedule b]\ncache = u\nat = 25:00\n")
    reply, _ = c.call("reload_config")
    assert reply.status == wire.CONFIG and "cached.conf:3: '25:00' is not a time of the day" in reply.error
    daemon.clock.advance(HOUR)
    assert wait_events(s, 1) == [("REFRESH", "u", "b")]
    daemon.config_path.write_text("")
    c.must("reload_config")
    daemon.clock.advance(24 * HOUR)
    assert no_more(s)


def context_switches(pid):
    return sum(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if "ctxt_switches" in line)


def test_n43_a_schedule_wakes_nobody_that_sleeps(make_daemon):
    """Without subscribers the daemon stays asleep while schedules pass; a subscriber is asked each second."""
    daemon = make_daemon(with_clock=False, extra="[schedule often]\ncache = t\nevery = 1s\n")
    kept = subscriber(daemon, [pb.EVENT_STORED])

    def is_asleep():
        before = context_switches(daemon.pid)
        time.sleep(2.2)  # two of the schedule's moments: there is no clock to move for the kernel's timers
        return context_switches(daemon.pid) == before
    wait_until(is_asleep, "the daemon sleeps")
    s = subscriber(daemon, [pb.EVENT_REFRESH], "t")
    assert wait_events(s, 2) == [("REFRESH", "t", "often")] * 2
    assert no_more(kept)
