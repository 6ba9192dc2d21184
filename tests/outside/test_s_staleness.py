# SPDX-License-Identifier: MIT
"""Stale windows, jitter, recorded messages, negative entries and names of inputs, against the real daemon, on the socket
and in the mapping, with a clock that the test moves. Real time goes on beside it: distances are far larger than any
test takes.
"""

import pytest

import harness
import mapped
import test_t_takeover
import wire
from test_map_client import Calls
from wire import pb

pytestmark = pytest.mark.usefixtures("needs_clock")

HOUR = 3_600_000
WINDOWS = {"ttl_ms": 10 * HOUR, "stale_for_ms": 5 * HOUR, "stale_if_error_ms": 20 * HOUR}


@pytest.fixture
def m(daemon):
    c = mapped.Client(daemon.socket, harness.PATIENCE)
    daemon.clients.append(c)
    c.hello()
    yield c
    c.close()


@pytest.fixture
def calls(daemon):
    program = Calls(daemon.socket)
    yield program
    program.finish()


# ---- the windows of an entry

def test_s01_stale_then_kept_then_gone(c, clock):
    """Fresh until its TTL, served as stale in the window, then kept and not served, then expired."""
    c.open("t", **WINDOWS)
    c.set("t", b"k", b"v")
    e = c.lookup("t", b"k")[0]
    assert not e.stale and 10 * HOUR - 60_000 < e.fresh_ms <= 10 * HOUR and 30 * HOUR - 60_000 < e.ttl_ms <= 30 * HOUR
    clock.advance(10 * HOUR)
    e, value = c.lookup("t", b"k")
    assert e.stale and e.WhichOneof("fresh") and e.fresh_ms == 0 and value == b"v"
    assert 20 * HOUR - 60_000 < e.ttl_ms <= 20 * HOUR
    clock.advance(5 * HOUR)
    hits = c.stats("t").hits
    assert c.get("t", b"k") is None and c.get_many("t", [b"k"])[0][0].status == wire.NOT_FOUND
    s = c.stats("t")
    assert (s.hits, s.misses, s.entries, s.expirations) == (hits, 2, 1, 0)
    assert [e.entry.stale for e in c.list_entries("t")] == [True]
    assert c.explain("t", b"k").fate == pb.FATE_LIVE and c.explain("t", b"k").entry.stale
    clock.advance(15 * HOUR)
    assert c.get("t", b"k") is None and c.explain("t", b"k").fate == pb.FATE_EXPIRED
    assert c.stats("t").expirations == 1


def test_s02_what_is_kept_is_no_obstacle(c, clock):
    """To all requests but Delete, the listings and Explain the key is free."""
    c.open("t", **WINDOWS)
    for key in b"abcde":
        c.set("t", bytes([key]), b"v")
    version = c.explain("t", b"a").entry.version
    clock.advance(15 * HOUR)
    assert c.touch("t", b"a", ttl_ms=HOUR) is None
    assert c.status("set", b"x", cache="t", key=b"b", mode=pb.SET_REPLACE_ONLY) == wire.NOT_FOUND
    assert c.status("set", b"x", cache="t", key=b"a", expected_version=version) == wire.NOT_FOUND
    assert c.status("set", b"new", cache="t", key=b"c", mode=pb.SET_ADD_ONLY) == wire.OK
    assert c.get("t", b"c") == b"new" and c.stats("t").entries == 5
    assert c.delete("t", b"d") is True and c.delete("t", b"d") is False
    assert c.fate("t", b"d") == "DELETED"


def test_s03_touch_moves_all_moments(c, clock):
    """As if it had been stored again, from any of its served times."""
    c.open("t", **WINDOWS)
    c.set("t", b"k", b"v")
    clock.advance(12 * HOUR)
    assert c.lookup("t", b"k")[0].stale
    e = c.touch("t", b"k", ttl_ms=2 * HOUR)
    assert not e.stale and 2 * HOUR - 60_000 < e.fresh_ms <= 2 * HOUR and 22 * HOUR - 60_000 < e.ttl_ms <= 22 * HOUR
    assert c.touch("t", b"k").fresh_ms <= 2 * HOUR, "a use alone moves nothing"
    clock.advance(2 * HOUR)
    assert c.lookup("t", b"k")[0].stale
    e = c.touch("t", b"k", never_expires=True)
    assert not e.stale and not e.WhichOneof("ttl") and not e.WhichOneof("fresh")
    clock.advance(1000 * HOUR)
    assert not c.lookup("t", b"k")[0].stale
    c.touch("t", b"k", ttl_ms=HOUR)
    clock.advance(HOUR)
    assert c.lookup("t", b"k")[0].stale


def test_s04_the_windows_are_the_policys_the_ttl_may_be_the_entrys(c, clock):
    c.open("t", **WINDOWS)
    c.set("t", b"own", b"v", ttl_ms=HOUR)
    c.set("t", b"never", b"v", never_expires=True)
    assert not c.lookup("t", b"never")[0].WhichOneof("fresh")
    c.open("t", ttl_ms=HOUR)
    c.set("t", b"plain", b"v")
    assert not c.lookup("t", b"plain")[0].WhichOneof("fresh")
    clock.advance(HOUR)
    e = c.lookup("t", b"own")[0]
    assert e.stale and c.get("t", b"plain") is None, "each keeps what it was stored with"
    clock.advance(5 * HOUR)
    assert c.get("t", b"own") is None and c.get("t", b"never") == b"v"


def test_s05_a_charge_for_the_window(c, clock):
    """24 bytes, and 4 for the first field, where there is a window and a TTL; 8 with messages; 4 if it is marked."""
    def charged(key, value, **more):
        c.set("t", key, value, **more)
        return next(e.charge for e in c.list_entries("t") if e.key == key)

    def charge(n):
        return n + n // 8 + 56
    c.open("t", unlimited=True)
    assert charged(b"key", b"v" * 100, ttl_ms=HOUR) == charge(123)
    assert charged(b"key", b"v" * 100, messages_size=10) == charge(123 + 4 + 8)
    assert charged(b"key", b"v" * 100, negative=True) == charge(123 + 4 + 4)
    c.open("t", refresh_ahead_permille=1)
    assert charged(b"key", b"v" * 100) == charge(123)
    assert charged(b"key", b"v" * 100, ttl_ms=HOUR) == charge(123 + 4 + 24)
    assert charged(b"key", b"v" * 100, ttl_ms=HOUR, flags=1, cost_us=1, messages_size=1) == charge(123 + 4 + 4 + 8 + 24 + 8)


def test_s06_jitter_shortens_by_chance(c, clock):
    """Each TTL by up to so much, all over; other entries have theirs to the millisecond."""
    c.open("t", ttl_ms=1000 * HOUR, expire_jitter_permille=500)
    left = []
    for i in range(300):
        c.set("t", b"%d" % i, b"v")
        left.append(c.lookup("t", b"%d" % i)[0].ttl_ms)
    assert all(500 * HOUR - 60_000 < ms <= 1000 * HOUR for ms in left)
    assert min(left) < 520 * HOUR and max(left) > 980 * HOUR and len(set(left)) > 290
    c.open("t", ttl_ms=HOUR, expire_jitter_permille=1000)
    c.set("t", b"k", b"v")
    assert 0 <= c.lookup("t", b"k")[0].ttl_ms <= HOUR if c.get("t", b"k") else True


def test_s07_stale_entries_are_evicted_by_use_and_expired_ones_first(c, clock):
    """What is in its window counts as live: only what is gone leaves before others."""
    c.open("t", max_entries=3, **WINDOWS)
    c.set("t", b"old", b"v", ttl_ms=HOUR)
    clock.advance(2 * HOUR)
    for key in (b"a", b"b"):
        c.set("t", key, b"v")
    assert c.lookup("t", b"old")[0].stale
    c.set("t", b"c", b"v")
    assert [c.get("t", k) is not None for k in (b"old", b"a", b"b", b"c")] == [True, False, True, True]


# ---- mapped readers

def readers_know(c):
    """A turn of the daemon tells the arena of the clock when it ends, after its answers: one that began later is
    answered when that is done."""
    c.ping()
    c.ping()


def test_s10_the_mapping_says_what_the_socket_says(c, m, clock):
    c.open("t", refresh_ahead_permille=800, **WINDOWS)
    c.set("t", b"k", b"v")

    def look():
        value = m.mapped_get("t", b"k")
        return value if value is None else (value, m.arena.last_times)
    assert look() == (b"v", set())
    clock.advance(8 * HOUR + 60_000)  # this reader has a coarse clock alone
    readers_know(c)
    assert look() == (b"v", {"due"})
    clock.advance(2 * HOUR)
    readers_know(c)
    assert look() == (b"v", {"due", "stale"})
    clock.advance(5 * HOUR)
    readers_know(c)
    assert look() is None and c.get("t", b"k") is None
    c.set("t", b"k", b"new", messages_size=1)
    assert look() == (b"ne", set())


def test_s11_the_librarys_hits_tell(c, calls, clock):
    """Read in the mapping, with no request to the daemon: fresh, stale, a miss."""
    c.open("calls", **WINDOWS)
    c.set("calls", b"k", b"v")
    assert calls("look", "k") == (wire.OK, "fresh v")
    clock.advance(10 * HOUR)
    readers_know(c)
    before = c.stats("calls")
    assert [calls("look", "k") for _ in range(20)] == [(wire.OK, "stale v")] * 20
    after = c.stats("calls")
    assert after.mapped_hits - before.mapped_hits == after.hits - before.hits == 20
    clock.advance(5 * HOUR)
    readers_know(c)
    assert calls("look", "k") == (wire.NOT_FOUND, "fresh ")
    assert c.stats("calls").mapped_misses == after.mapped_misses + 1


def test_s12_the_library_without_a_mapping_tells_the_same(daemon, c, clock):
    calls = Calls(daemon.socket, "unmapped")
    c.open("calls", **WINDOWS)
    c.set("calls", b"k", b"v")
    assert calls("look", "k") == (wire.OK, "fresh v")
    clock.advance(10 * HOUR)
    assert calls("look", "k") == (wire.OK, "stale v")
    clock.advance(5 * HOUR)
    assert calls("look", "k") == (wire.NOT_FOUND, "fresh ")
    calls.finish()


# ---- messages

@pytest.mark.parametrize("n, n_messages", [(10, 4), (5000, 5000), (400_000, 1000), (400_000, 399_000), (6 << 20, 1 << 20),
                                           (6 << 20, 6 << 20)])
def test_s20_messages_come_to_who_asks(c, m, n, n_messages):
    value = (bytes(range(251)) * (n // 251 + 1))[:n]
    e = c.set("t", b"k", value, messages_size=n_messages)
    assert (e.size, e.messages_size) == (n - n_messages, n_messages)
    e, body = c.lookup("t", b"k")
    assert body == value[:n - n_messages] and (e.size, e.messages_size) == (len(body), n_messages)
    reply, body = c.call("get", cache="t", key=b"k", with_messages=True)
    assert body == value and reply.entry.size == n - n_messages
    if n < 6 << 20:
        assert m.mapped_get("t", b"k") == value[:n - n_messages]
    else:
        with pytest.raises(mapped.Ask):
            m.mapped_get("t", b"k")
    assert c.get_many("t", [b"k"])[0][1] == value[:n - n_messages]
    assert c.stats("t").bytes_raw == 1 + n, "messages are held, too"


# ---- that there is no value

def test_s30_a_negative_entry_is_an_answer_of_its_own(c, m, calls, clock):
    c.set("calls", b"k", "no such höst".encode(), negative=True, ttl_ms=HOUR)
    reply, body = c.call("get", cache="calls", key=b"k")
    assert (reply.status, reply.error, body) == (pb.NEGATIVE, "no such höst", b"") and reply.entry.negative
    assert c.get_many("calls", [b"k", b"none"])[0][0].status == pb.NEGATIVE
    calls("ping")  # so that it has the mapping
    before = c.stats("calls").mapped_hits
    assert calls("get", "k") == (pb.NEGATIVE, "no such höst")
    assert c.stats("calls").mapped_hits == before + 1, "the library read it in the mapping"
    with pytest.raises(mapped.Ask):
        m.mapped_get("calls", b"k")
    assert c.explain("calls", b"k").text.startswith("a hit: that there is no value is stored and expires in ")
    assert c.explain("calls", b"k").entry.negative and c.list_entries("calls")[0].entry.negative
    clock.advance(HOUR)
    assert c.get("calls", b"k") is None
    c.set("calls", b"k", b"value")
    assert calls("get", "k") == (wire.OK, "value")


def test_s31_the_name_of_an_input(c):
    c.set("t", b"k", b"LANG", vary=True)
    e, value = c.lookup("t", b"k")
    assert e.vary and value == b"LANG"


# ---- another daemon

def test_s40_windows_and_messages_survive_a_handover(daemon, c, clock):
    """Adopted as they were: stale stays stale, and the last so many bytes are messages."""
    c.open("t", **WINDOWS)
    c.set("t", b"k", b"value|said", messages_size=5, ttl_ms=HOUR)
    c.set("t", b"no", b"why", negative=True)
    clock.advance(2 * HOUR)
    assert c.lookup("t", b"k")[0].stale
    test_t_takeover.take_over(daemon)
    d = daemon.client()
    e, value = d.lookup("t", b"k")
    assert e.stale and e.messages_size == 5 and value == b"value"
    assert d.call("get", cache="t", key=b"no")[0].status == pb.NEGATIVE
    assert d.open("t").policy.stale_for_ms == WINDOWS["stale_for_ms"]
