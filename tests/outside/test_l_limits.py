# SPDX-License-Identifier: MIT
"""Every limit that a client can reach: up to it all is well, beyond it an exact refusal, and the daemon is fine.

Limits are set small in the configuration, so that reaching them takes little.
"""

import contextlib
import re
import socket
import threading
import time

import pytest

import harness
import wire
from wire import pb


def refusal(daemon, **who):
    """The last reply to a connection that is not let in."""
    c = daemon.connect(**who)
    last = c.expect_goodbye()
    c.close()
    return last


def count_connections(c):
    return c.stats().daemon.connections


# ---- connections

def test_l01_connections(make_daemon):
    """Beyond `connections` a peer is told LIMIT and closed; when one leaves, the next gets in."""
    d = make_daemon(limits={"connections": 5, "connections_per_uid": 1000})
    held = [d.client() for _ in range(5)]
    for _ in range(20):
        r = refusal(d)
        assert r.id == 0 and r.status == pb.LIMIT and "connections" in r.error
    assert held[0].stats().daemon.connections_refused == 20
    held.pop().close()
    harness.wait_until(lambda: count_connections(held[0]) == 4, "the place is free")
    d.client()
    assert all(c.ping() for c in held)


def test_l02_connections_per_uid(make_daemon):
    """One uid's connections are bounded; another uid still gets in."""
    d = make_daemon(daemon={"socket_mode": "0666"}, limits={"connections_per_uid": 5})
    held = [d.client() for _ in range(5)]
    r = refusal(d)
    assert r.id == 0 and r.status == pb.LIMIT and "connections_per_uid" in r.error
    harness.needs_root()
    assert d.client(uid=12345).ping()
    assert all(c.ping() for c in held)


def test_l03_ten_thousand_connections_of_one_uid(daemon):
    """10,000 connections: the first 1,024 are served, the rest is refused, nobody who is in notices."""
    first = daemon.client()
    limit = int(first.config()["limits.connections_per_uid"].value)
    inside = [daemon.client() for _ in range(limit - 1)]
    refused = 0
    for _ in range(10_000 - limit):
        with wire.Client(daemon.socket) as c:
            r = c.expect_goodbye()
            assert r is None or r.status == pb.LIMIT
            refused += 1
    assert first.stats().daemon.connections == limit
    assert first.stats().daemon.connections_refused == refused
    assert all(c.ping() for c in inside)
    for c in inside:
        c.close()
    harness.wait_until(lambda: count_connections(first) == 1, "all are gone")
    assert daemon.client().ping()


def test_l04_ten_thousand_connections_that_stay_open(daemon):
    """Refused peers that do not close their end hold nothing of the daemon."""
    first = daemon.client()
    limit = int(first.config()["limits.connections_per_uid"].value)
    before = daemon.fds()["socket"]
    n = 10_000 if harness.LONG else 4_000
    held = []
    try:
        for _ in range(n):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            held.append(s)
            s.settimeout(harness.PATIENCE)
            s.connect(str(daemon.socket))
        harness.wait_until(lambda: count_connections(first) == limit, "as many as may are in")
        harness.wait_until(lambda: daemon.fds()["socket"] <= before + limit, "no socket for the refused")
        assert first.ping()
    except OSError as e:
        if e.errno == 24:
            pytest.skip("RLIMIT_NOFILE of the test is too low to hold that many sockets")
        raise
    finally:
        for s in held:
            s.close()
    harness.wait_until(lambda: count_connections(first) == 1, "all are gone")


# ---- requests

def test_l05_requests_per_turn_is_fair(make_daemon):
    """Thousands of requests of one connection are handled a few at a time: others get in between."""
    d = make_daemon(limits={"requests_per_turn": 8})
    greedy, modest = d.client(name="greedy"), d.client(name="modest")
    n = 4000
    with d.stopped():
        # What the socket takes while nobody reads.
        data = b"".join(wire.frame(wire.request(greedy.next_id(), "ping")) for _ in range(n))
        greedy.send_raw(data[:60_000])
        modest.post("list_clients")
    reply, _ = modest.wait(modest.last_id)
    handled = {x.name: x.requests for x in reply.list_clients.clients}["greedy"]
    assert handled < 500, "the other had to wait for thousands of requests"
    greedy.send_raw(data[60_000:])
    for i in range(2, n + 2):
        assert greedy.wait(i)[0].status == wire.OK


def test_l06_keys_per_request(make_daemon):
    """GetMany and SetMany of more keys are refused whole; the connection goes on."""
    d = make_daemon(limits={"keys_per_request": 4})
    c = d.client()
    assert c.info.max_keys_per_request == 4
    keys = [b"%d" % i for i in range(5)]
    c.open("t")
    assert len(c.get_many("t", keys[:4])) == 4
    reply, body = c.call("get_many", cache="t", keys=keys)
    assert reply.status == pb.LIMIT and "split" in reply.error and not body
    assert {i.status for i in c.set_many("t", [(k, b"v", {}) for k in keys[:4]])} == {wire.OK}
    reply, _ = c.call("set_many", b"vvvvv", cache="t", sets=[pb.Set(key=k) for k in keys], sizes=[1] * 5)
    assert reply.status == pb.LIMIT
    assert c.get("t", b"4") is None and c.get("t", b"3") == b"v"


def test_l07_message_bytes(make_daemon):
    """A message of exactly message_bytes is fine, one byte more is a PROTOCOL error and the end."""
    d = make_daemon(limits={"message_bytes": 4096})
    c = d.client()
    assert c.info.max_message_bytes == 4096

    def padded(n):
        r = wire.request(c.next_id(), "ping").SerializeToString()
        # An unknown field of the right length.
        pad = n - len(r) - 4
        r += b"\xfa\x7f" + bytes([pad & 127 | 128, pad >> 7]) + b"x" * pad
        assert len(r) == n
        return r
    c.send(padded(4096))
    assert c.wait(c.last_id)[0].status == wire.OK
    c.send(padded(4097))
    last = c.expect_goodbye(pb.PROTOCOL, 0)
    assert "message_bytes" in last.error


def test_l08_value_bytes(make_daemon):
    """A body of exactly value_bytes is fine, one byte more is refused before it is sent."""
    d = make_daemon(limits={"value_bytes": 100_000})
    c = d.client()
    c.set("t", b"k", b"v" * 100_000)
    assert c.get("t", b"k") == b"v" * 100_000
    c.send_raw(wire.frame(wire.request(c.next_id(), "set", cache="t", key=b"k"), n_body=100_001))
    last = c.expect_goodbye(pb.PROTOCOL, 0)
    assert "value_bytes" in last.error
    assert d.client().get("t", b"k") == b"v" * 100_000


def test_l09_raw_size_over_the_limit(make_daemon):
    """What would decode to more than value_bytes is TOO_LARGE."""
    d = make_daemon(limits={"value_bytes": 100_000})
    c = d.client()
    assert c.status("set", b"s" * 1000, cache="t", key=b"k", encoding=pb.ENCODING_LZ4, raw_size=100_001) == pb.TOO_LARGE
    assert c.status("set", b"s" * 1000, cache="t", key=b"k", encoding=pb.ENCODING_LZ4, raw_size=100_000) == wire.OK


def test_l10_upload_bytes_per_uid(make_daemon):
    """Long bodies that a uid sends at the same time are bounded together; the refused connection goes on."""
    d = make_daemon(limits={"upload_bytes_per_uid": "4M"})
    a, b = d.client(), d.client()
    size = 3 << 20
    first = wire.frame(wire.request(a.next_id(), "set", cache="t", key=b"a"), b"a" * size)
    a.send_raw(first[:size // 2])
    harness.wait_until(lambda: b.stats().daemon.buffer_bytes + b.stats().realm.large_bytes >= 0 and
                       {x.connection: x.bytes_in for x in b.clients()}[min(x.connection for x in b.clients())]
                       >= size // 4, "the first upload is under way")
    reply, _ = b.call("set", b"b" * size, cache="t", key=b"b")
    assert reply.status == pb.LIMIT and reply.error
    assert b.ping()
    a.send_raw(first[size // 2:])
    assert a.wait(a.last_id)[0].status == wire.OK
    assert b.get("t", b"a") == b"a" * size and b.get("t", b"b") is None
    b.set("t", b"b", b"b" * size)


def unfinished(daemon, n, make):
    """@n connections that each send all but the last byte of a frame, as far as the daemon takes it."""
    out = []
    for _ in range(n):
        c = daemon.client()
        data = make(c)
        c.sock.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(data) - 1:
                sent += c.sock.send(memoryview(data)[sent:-1])
        out.append((c, data, sent))
    return out


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


@pytest.mark.parametrize("what", ["messages", "bodies", "values"])
def test_l10b_frames_that_are_not_complete_hold_little(make_daemon, what):
    """Whatever is begun and not ended, by however many connections: bounded memory, and nobody else notices."""
    d = make_daemon(limits={"buffer_bytes_per_uid": 4 << 20, "buffer_bytes": 8 << 20})
    witness = d.client()
    before = d.rss()

    def make(c):
        if what == "messages":
            m = wire.request(c.next_id(), "ping").SerializeToString()
            m += b"\xa2\x06" + varint(900_000) + bytes(900_000)  # an unknown field
            return wire.frame(m)
        if what == "values":
            return wire.frame(wire.request(c.next_id(), "set", cache="t", key=b"k"), bytes(200_000))
        return wire.frame(wire.request(c.next_id(), "set_many", cache="t", sets=[pb.Set(key=b"k")], sizes=[900_000]),
                          bytes(900_000))
    many = unfinished(d, 100, make)
    for _ in range(20):  # goes on, in small frames
        witness.set("w", b"k", b"v" * 100)
    # Some whole ones fit, and the beginnings of the others.
    harness.wait_until(lambda: witness.stats().daemon.buffer_bytes > 1 << 20, "it has read what it may")
    assert witness.stats().daemon.buffer_bytes < 12 << 20
    assert d.rss() - before < (100 << 20 if harness.SHADOWED else 16 << 20)
    # All of them come to their end, as room becomes free.
    for c, data, sent in many:
        c.sock.settimeout(harness.PATIENCE)
    answered = 0
    pending = list(many)
    deadline = time.monotonic() + 3 * harness.PATIENCE
    while pending:
        assert time.monotonic() < deadline
        still = []
        for c, data, sent in pending:
            c.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while sent < len(data):
                    sent += c.sock.send(memoryview(data)[sent:])
            c.sock.settimeout(harness.PATIENCE)
            if sent < len(data):
                still.append((c, data, sent))
            else:
                assert c.wait(c.last_id)[0].status == wire.OK
                answered += 1
        pending = still
    assert answered == 100
    harness.wait_until(lambda: witness.stats().daemon.buffer_bytes < 1 << 20, "the buffers are back")


def test_l10c_many_bytes(make_daemon):
    """The values of one SetMany have a bound, told in Hello, and refused before they are sent."""
    d = make_daemon(limits={"many_bytes": 100_000})
    c = d.client()
    assert c.info.max_many_bytes == 100_000
    c.set_many("t", [(b"a", b"x" * 50_000, {}), (b"b", b"x" * 50_000, {})])
    for size in (50_001, 5_000_000):
        r = c.wait(c.post("set_many", b"x" * (50_000 + size), cache="t", sets=[pb.Set(key=b"a"), pb.Set(key=b"c")],
                          sizes=[50_000, size]))[0]
        assert r.status == pb.LIMIT and "limits.many_bytes" in r.error and "split" in r.error
    assert c.get("t", b"a") == b"x" * 50_000 and c.get("t", b"c") is None


def test_l11_a_disconnect_in_an_upload_gives_its_share_back(make_daemon):
    """Uploads that never end are given back: the next one fits again, a hundred times."""
    d = make_daemon(limits={"upload_bytes_per_uid": "4M"})
    c = d.client()
    for i in range(100):
        other = d.client()
        other.send_raw(wire.frame(wire.request(other.next_id(), "set", cache="t", key=b"k"), b"x" * 200_000,
                                  n_body=3 << 20))
        other.close()
        harness.wait_until(lambda: count_connections(c) == 1, "it is gone")
    c.set("t", b"k", b"v" * (3 << 20))


# ---- slow peers

def test_l12_a_frame_must_complete_in_time(make_daemon):
    """A byte a while: after frame_ms the connection is ended, whatever trickles in. Others are served meanwhile."""
    d = make_daemon(limits={"frame_ms": 400})
    other = d.client()
    slow = d.client()
    data = wire.frame(wire.request(slow.next_id(), "get", cache="t", key=b"k" * 60))
    begun = time.monotonic()
    ended = False
    for i in range(len(data)):
        try:
            slow.sock.send(data[i:i + 1])
            other.ping()
            slow.sock.settimeout(0.05)
            if not slow.sock.recv(1, socket.MSG_PEEK):
                ended = True
                break
            break  # a last reply waits
        except TimeoutError:
            continue
        except OSError:
            ended = True
            break
    assert time.monotonic() - begun >= 0.3, "ended before its time"
    slow.sock.settimeout(harness.PATIENCE)
    last = None if ended else slow.expect_goodbye()
    assert last is None or (last.id == 0 and last.status == pb.PROTOCOL and last.error)
    harness.wait_until(lambda: count_connections(other) == 1, "the slow one is gone")


def test_l13_a_trickling_body_ends_too(make_daemon):
    """The same for a body: it gets frame_ms and a second per MiB, not for ever."""
    d = make_daemon(limits={"frame_ms": 300})
    other, slow = d.client(), d.client()
    slow.send_raw(wire.frame(wire.request(slow.next_id(), "set", cache="t", key=b"k"), b"x" * 1000, n_body=300_000))
    harness.wait_until(lambda: count_connections(other) == 1, "the slow one is gone")
    assert other.get("t", b"k") is None


def test_l14_an_idle_connection_stays(make_daemon):
    """frame_ms is for frames that were begun: who says nothing may stay as long as it likes."""
    d = make_daemon(limits={"frame_ms": 100, "stall_ms": 100})
    idle, begun = d.client(), d.client()
    begun.send_raw(b"\x05")
    harness.wait_until(lambda: count_connections(idle) == 1, "the one with a frame begun is gone")
    assert idle.ping()


def fill(c, n):
    """Asks for @n answers of 100 kB without reading any, as far as the socket takes the requests."""
    c.sock.setblocking(False)
    sent = 0
    try:
        for _ in range(n):
            data = wire.frame(wire.request(c.next_id(), "get", cache="t", key=b"k"))
            while data:
                data = data[c.sock.send(data):]
            sent += 1
    except BlockingIOError:
        pass
    c.sock.settimeout(harness.PATIENCE)
    return sent


def test_l15_who_never_reads_costs_little(make_daemon):
    """Twenty clients that ask for gigabytes and read nothing: memory stays bounded, others are served."""
    d = make_daemon(limits={"output_bytes": 65536})
    other = d.client()
    other.set("t", b"k", b"v" * 100_000)
    before = d.rss()
    lazy = [d.client() for _ in range(20)]
    asked = sum(fill(c, 2000) for c in lazy)
    assert asked > 20 * 100
    for _ in range(200):
        assert other.get("t", b"k") is not None
    # Each may hold its output limit, one reply beyond it, and its input; sanitizers keep freed memory.
    bound = 20 * (65536 + 2 * 100_000 + 512 * 1024) + (64 << 20 if harness.SHADOWED else 8 << 20)
    assert d.rss() - before < bound
    assert other.stats().daemon.buffer_bytes < 20 * (65536 + 100_000 + 512 * 1024)
    assert count_connections(other) == 21, "they stay connected until stall_ms has passed"


def test_l16_who_never_reads_is_dropped(make_daemon):
    """After stall_ms without taking a byte a peer is disconnected; one that reads slowly is not."""
    d = make_daemon(limits={"output_bytes": 65536, "stall_ms": 700})
    other = d.client()
    other.set("t", b"k", b"v" * 100_000)
    lazy, slow = d.client(), d.client()
    fill(lazy, 1000)
    asked = fill(slow, 30)
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    done = threading.Event()
    got = []

    def read_slowly():
        # A reply at a time, with pauses that are shorter than stall_ms.
        while len(got) < asked:
            got.append(slow.recv()[0].status)
            time.sleep(0.05)
        done.set()
    reader = threading.Thread(target=read_slowly, daemon=True)
    reader.start()
    harness.wait_until(lambda: count_connections(other) == 2, "the lazy one is dropped")
    assert done.wait(harness.PATIENCE) and got == [wire.OK] * asked


def test_l17_back_pressure_loses_nothing(make_daemon):
    """A client that sends without reading and then reads gets every answer, in full."""
    d = make_daemon(limits={"output_bytes": 65536})
    c = d.client()
    c.set("t", b"k", bytes(range(256)) * 400)
    first = c.last_id
    sent = fill(c, 5000)
    for i in range(first + 1, first + 1 + sent):
        reply, body = c.wait(i)
        assert reply.status == wire.OK and body == bytes(range(256)) * 400
    # The frame that was cut off by the full socket still has to be finished by a well-behaved client.


# ---- counts of things

def test_l18_realms(make_daemon):
    """Beyond `realms` a new realm is refused at Hello; the others go on."""
    harness.needs_root()
    d = make_daemon(limits={"realms": 3})
    held = [d.client(), d.client(realm="uid:1001"), d.client(realm="uid:1002")]
    for c in held:
        c.set("t", b"k", b"v")
    c = d.connect()
    reply, _ = c.call("hello", protocol_min=1, protocol_max=1, realm="uid:1003")
    assert reply.status == pb.LIMIT and "realm" in reply.error
    assert d.client(realm="uid:1002").get("t", b"k") == b"v"
    assert [x.get("t", b"k") for x in held] == [b"v"] * 3


def test_l19_caches_per_realm(make_daemon):
    """Beyond caches_per_realm no cache is created, by no request; those that exist go on."""
    d = make_daemon(limits={"caches_per_realm": 3})
    c = d.client()
    for name in "abc":
        c.open(name)
    assert c.status("open_cache", cache="d") == pb.LIMIT
    assert c.status("set_policy", cache="d", policy=wire.policy(max_entries=1)) == pb.LIMIT
    assert c.status("set", b"v", cache="d", key=b"k") == pb.LIMIT
    assert len(c.list_caches()) == 3
    c.set("c", b"k", b"v")
    assert c.open("a").created is False


def test_l20_entries_per_realm(make_daemon):
    """At entries_per_realm a store evicts the least recently used or is refused; there are never more entries."""
    d = make_daemon(limits={"entries_per_realm": 1024})
    c = d.client()
    for i in range(1100):
        status = c.status("set", b"v", cache="t", key=b"%d" % i)
        assert status == wire.OK or (status == pb.LIMIT and i >= 1024)
        assert (c.get("t", b"%d" % i) is not None) == (status == wire.OK)
        assert c.stats().realm.entries == min(i + 1, 1024)
    newest = b"1099" if c.get("t", b"1099") else b"1023"
    assert c.status("set", b"over an old one", cache="t", key=newest) == wire.OK
    assert c.stats().realm.entries == 1024


def test_l21_page_entries(make_daemon):
    """A page is at most page_entries long, whatever was asked for."""
    d = make_daemon(limits={"page_entries": 5})
    c = d.client()
    for i in range(23):
        c.set("t", b"%d" % i, b"v")
        c.open(f"cache {i}")
    for size in (0, 3, 5, 6, 1 << 31, (1 << 32) - 1):
        pages = list(c.list_pages("t", size))
        assert all(len(p) <= min(size or 5, 5) for p in pages)
        assert len({e.key for p in pages for e in p}) == 23
        assert len({s.name for s in c.list_caches(size)}) == 24


def test_l22_the_limits_are_told(make_daemon):
    """Every row of limits.def is a setting that config get shows, with the default that the row says."""
    rows = re.findall(r"^LIMIT\((\w+),\s*(\d+),", (wire.PROTO.parent / "daemon" / "limits.def").read_text(), re.M)
    assert len(rows) >= 15
    shown = make_daemon().client().config()
    for name, default in rows:
        s = shown[f"limits.{name}"]
        assert s.is_default
        assert size_of(s.value) == int(default), name


def size_of(text):
    m = re.fullmatch(r"(\d+)(ms|s|m|h|d|K|M|G|T)?", text)
    return int(m[1]) * {None: 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000,
                        "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[m[2]]


@pytest.mark.parametrize("line", ["connections = 0", "page_entries = 100001", "message_bytes = 4095",
                                  "value_bytes = 2T", "frame_ms = 99", "caches_per_realm = 65536"])
def test_l23_limits_have_limits(make_daemon, line):
    """A limit outside its own range is refused by --check-config, with file, line and the range."""
    from test_x_lifecycle import run
    d = make_daemon(start=False)
    d.config_path.write_text(f"[limits]\n{line}\n")
    r = run("--check-config", "--config", d.config_path)
    assert r.returncode != 0
    assert f"{d.config_path}:2" in r.stderr and line.split()[0] in r.stderr


# ---- limits that change

def reload(d, **config):
    d.config_path.write_text(harness.config_text(**config))
    with d.client() as c:
        return {s.name: s for s in c.must("reload_config").config.settings}


def test_l24_entries_that_the_realm_may_not_have_are_named_so(make_daemon):
    """What leaves for limits.entries_per_realm is neither the budget's doing nor the policy's."""
    d = make_daemon(limits={"entries_per_realm": 1024})
    c = d.client()
    for i in range(1025):
        c.set("t", b"%d" % i, b"v")
    s = c.stats("t")
    assert s.evicted_realm_entries == 1 and s.evicted_realm_budget == 0
    e = c.explain("t", b"0")
    assert e.fate == pb.FATE_EVICTED_REALM_ENTRIES and "limits.entries_per_realm" in e.text


def test_l25_entries_per_realm_by_reload(make_daemon):
    """Lowered: the least recently used of those that are there leave. Raised: there is room at once."""
    d = make_daemon(limits={"entries_per_realm": 3000})
    c = d.client()
    c.set_many("t", [(b"%04d" % i, b"v", {}) for i in range(3000)])
    reload(d, limits={"entries_per_realm": 1024})
    harness.wait_until(lambda: c.stats().realm.entries == 1024, "what is too much leaves")
    assert c.stats("t").evicted_realm_entries == 3000 - 1024
    assert c.get("t", b"1975") is None and c.get("t", b"1976") == b"v" and c.get("t", b"2999") == b"v"
    reload(d, limits={"entries_per_realm": 2000})
    c.set_many("t", [(b"new %04d" % i, b"v", {}) for i in range(1500)])
    assert c.stats().realm.entries == 2000


def test_l26_caches_per_realm_by_reload(make_daemon):
    """Lowered: no new cache, those that are there stay. Raised: as many as the realm was made for, and the settings,
    the error and the log say that this is less."""
    d = make_daemon(limits={"caches_per_realm": 6})
    c = d.client()
    for name in "abcd":
        c.open(name)
    settings = reload(d, limits={"caches_per_realm": 3})
    assert settings["limits.caches_per_realm"].note == ""
    reply, _ = c.call("open_cache", cache="e")
    assert reply.status == pb.LIMIT and "(3; limits.caches_per_realm)" in reply.error
    assert len(c.list_caches()) == 4 and c.open("d").created is False
    settings = reload(d, limits={"caches_per_realm": 50})
    assert "keeps" in settings["limits.caches_per_realm"].note
    assert not any(s.note for name, s in settings.items() if name != "limits.caches_per_realm")
    assert "limits.caches_per_realm = 50 holds for realms that are made from now on" in d.log()
    for name in "ef":
        c.open(name)
    reply, _ = c.call("open_cache", cache="g")
    assert reply.status == pb.LIMIT and "(6; limits.caches_per_realm when the realm was made)" in reply.error


def test_l27_large_threshold_by_reload(make_daemon):
    """A lower one holds for the next store of a realm that is there."""
    d = make_daemon()
    c = d.client()
    c.set("t", b"before", b"x" * 10000)
    reload(d, memory={"large_threshold": "8K"})
    c.set("t", b"after", b"x" * 10000)
    assert {e.key: e.large for e in c.list_entries("t")} == {b"before": False, b"after": True}
