# SPDX-License-Identifier: MIT
"""Changes that are repeated on a new connection after the old one broke: once, or "outcome unknown"."""

import os
import socket
import struct

import pytest

import harness
import wire
from wire import frame, pb, request

ID = bytes(range(16))


def stats(c):
    return c.stats().daemon


@pytest.fixture
def witness(daemon):
    """Another client, to look with."""
    return daemon.client(name="witness")


def again(daemon, old, client_id=ID, **hello):
    """The client comes again, counting on from where it was."""
    return daemon.client(client_id=client_id, last_id=old.last_id, **hello)


# ---- exactly once

def test_r01_the_reply_of_the_first_time(daemon, witness):
    """What was carried out is answered with the very reply of the first time and not done again."""
    c = daemon.client(client_id=ID)
    assert c.info.features & pb.FEATURE_REPEAT
    changes = [("open_cache", b"", dict(cache="a", policy=wire.policy(max_entries=5))),
               ("set", b"value", dict(cache="a", key=b"k", mode=pb.SET_ADD_ONLY, ttl_ms=100_000, flags=7)),
               ("set", b"again", dict(cache="a", key=b"k", mode=pb.SET_ADD_ONLY)),
               ("touch", b"", dict(cache="a", key=b"k", ttl_ms=50_000)),
               ("set_many", b"xyz", dict(cache="a", sets=[pb.Set(key=b"1"), pb.Set(key=b""), pb.Set(key=b"2")],
                                         sizes=[1, 1, 1])),
               ("delete", b"", dict(cache="a", key=b"k")),
               ("delete", b"", dict(cache="a", key=b"k")),
               ("set_policy", b"", dict(cache="a", policy=wire.policy(max_entries=9))),
               ("clear", b"", dict(cache="a")),
               ("clear", b"", dict(all=True))]
    first = []
    for op, body, fields in changes:
        i = c.post(op, body, **fields)
        first.append((i, c.wait(i)))
    witness.set("a", b"k", b"of another")
    before = witness.list_caches(), stats(witness)
    d = again(daemon, c)
    for (op, body, fields), (i, reply) in zip(changes, first):
        assert d.repeat(i, op, body, **fields) == reply, op
    after = witness.list_caches(), stats(witness)
    assert after[0] == before[0], "nothing was changed, no counter moved"
    assert after[1].repeats_answered == before[1].repeats_answered + len(changes)
    assert witness.get("a", b"k") == b"of another"
    assert d.set("a", b"new", b"v").version > 0


def broken(daemon, c, data):
    """Sends @data and breaks the connection without reading; back when the daemon has noticed."""
    number = stats_connections(daemon)
    c.send_raw(data)
    c.sock.shutdown(socket.SHUT_WR)
    harness.wait_until(lambda: stats_connections(daemon) < number, "the connection has ended")


def stats_connections(daemon):
    return daemon.watcher.stats().daemon.connections


@pytest.mark.parametrize("op,body,fields,check", [
    ("set", b"0123456789", dict(cache="t", key=b"new", mode=pb.SET_ADD_ONLY), "new"),
    ("delete", b"", dict(cache="t", key=b"old"), "old"),
    ("clear", b"", dict(cache="t"), "clear"),
])
def test_r02_broken_at_every_byte_of_the_request(daemon, op, body, fields, check):
    """The connection breaks after n bytes of the request; repeated, it happens exactly once and says so."""
    daemon.watcher = w = daemon.client(name="watcher")
    last = 0
    data = frame(request(1000, op, **fields), body)
    for n in range(len(data) + 1):
        w.clear("t") if w.explain("t", b"old").fate != pb.FATE_NO_CACHE else None
        w.set("t", b"old", b"v")
        client_id = os.urandom(16)
        c = daemon.client(client_id=client_id)
        c.last_id = 1000
        broken(daemon, c, data[:n])
        c.close()
        done = stats(w).repeats_answered
        d = daemon.client(client_id=client_id, last_id=1000)
        reply, _ = d.repeat(1000, op, body, **fields)
        assert reply.status == wire.OK, (n, reply.error)
        assert stats(w).repeats_answered == done + (n == len(data))
        if check == "new":
            entry, value = w.lookup("t", b"new")
            assert (value, entry.version) == (body, reply.entry.version)
        elif check == "old":
            assert w.get("t", b"old") is None
        else:
            assert reply.clear.entries == 1
        d.close()
        last = n
    assert last == len(data)


def test_r03_broken_at_every_byte_of_the_reply(daemon, witness):
    """The client reads n bytes of the reply and is gone: what it hears later is that reply."""
    version = witness.set("t", b"k", b"0").version
    n = 0
    while True:
        client_id = os.urandom(16)
        c = daemon.client(client_id=client_id)
        fields = dict(cache="t", key=b"k", expected_version=version)
        i = c.post("set", b"%d" % n, **fields)
        first = c.sock.recv(n, socket.MSG_WAITALL) if n else b""
        d = daemon.client(client_id=client_id, last_id=c.last_id)
        reply, _ = d.repeat(i, "set", b"%d" % n, **fields)
        assert reply.status == wire.OK, reply.error
        entry, value = witness.lookup("t", b"k")
        assert (entry.version, value) == (reply.entry.version, b"%d" % n)
        version = entry.version
        whole = frame(reply)
        assert whole.startswith(first), "the same bytes"
        c.close(), d.close()
        if n == len(whole):
            break
        n += 1


def test_r04_a_long_body_is_repeated(daemon, witness):
    """A value that takes many reads: cut anywhere it is stored once; remembered, its body is read and dropped."""
    value = os.urandom(3 << 20)
    fields = dict(cache="t", key=b"k", mode=pb.SET_ADD_ONLY)
    data = frame(request(1000, "set", **fields), value)
    daemon.watcher = witness
    for n in (20, 70_000, 1 << 20, len(data) - 1, len(data)):
        witness.clear()
        client_id = os.urandom(16)
        c = daemon.client(client_id=client_id)
        broken(daemon, c, data[:n])
        d = daemon.client(client_id=client_id, last_id=1000)
        for _ in range(2):
            reply, _ = d.repeat(1000, "set", value, **fields)
            assert reply.status == wire.OK
            d.close()
            d = daemon.client(client_id=client_id, last_id=d.last_id)
        entry, stored = witness.lookup("t", b"k")
        assert stored == value and entry.version == reply.entry.version
        d.close()


def test_r05_a_batch_in_flight(daemon, witness):
    """Many pipelined requests, the connection ends somewhere in the middle: repeated in order, all happen once."""
    daemon.watcher = witness
    n = 40
    requests = [request(1000 + i, "set", cache="t", key=b"k%d" % i, mode=pb.SET_ADD_ONLY) for i in range(n)]
    data = b"".join(frame(r, b"v%d" % i) for i, r in enumerate(requests))
    for cut in range(0, len(data), 97):
        witness.clear()
        client_id = os.urandom(16)
        c = daemon.client(client_id=client_id)
        broken(daemon, c, data[:cut])
        d = daemon.client(client_id=client_id, last_id=2000)
        for i, r in enumerate(requests):
            r.repeated = True
            d.send(r, b"v%d" % i)
        versions = []
        for i in range(n):
            reply, _ = d.wait(1000 + i)
            assert reply.status == wire.OK, reply.error
            versions.append(reply.entry.version)
        assert versions == sorted(versions)
        assert [e.version for e, _ in (witness.lookup("t", b"k%d" % i) for i in range(n))] == versions
        d.close()


def test_r06_the_older_connection_is_ended_first(daemon, witness):
    """Bytes of the older connection that were not carried out when the new one said Hello never are."""
    c = daemon.client(client_id=ID)
    c.last_id = 100
    half = frame(request(101, "set", cache="t", key=b"k"), b"late")
    c.send_raw(half[:-1])
    with daemon.stopped():
        d = daemon.connect()
        d.last_id = 200
        d.send(request(d.next_id(), "hello", protocol_min=1, protocol_max=1, client_id=ID))
    d.wait(d.last_id)
    try:
        c.send_raw(half[-1:])
    except (BrokenPipeError, ConnectionResetError):
        pass
    c.expect_goodbye()
    assert witness.get("t", b"k") is None
    assert d.repeat(101, "set", b"late", cache="t", key=b"k")[0].status == wire.OK
    assert witness.get("t", b"k") == b"late"


def test_r07_events_come_on_the_new_connection(daemon, witness):
    """OpenCache, answered from memory, subscribes the new connection."""
    c = daemon.client(client_id=ID)
    i = c.post("open_cache", cache="t")
    first = c.wait(i)
    d = again(daemon, c)
    assert d.repeat(i, "open_cache", cache="t") == first
    witness.open("t", max_entries=3)
    assert d.wait_event().policy_changed.name == "t"


def test_r08_failures_are_remembered_in_their_order(daemon, witness):
    """A change that was refused is not made later, when what was in its way is gone."""
    witness.set("t", b"k", b"v")
    c = daemon.client(client_id=ID)
    a = c.post("set", b"w", cache="t", key=b"k", mode=pb.SET_ADD_ONLY)
    b = c.post("delete", cache="t", key=b"k")
    assert c.wait(a)[0].status == pb.EXISTS and c.wait(b)[0].status == wire.OK
    d = again(daemon, c)
    reply = d.repeat(a, "set", b"w", cache="t", key=b"k", mode=pb.SET_ADD_ONLY)[0]
    assert reply.status == pb.EXISTS and reply.error
    assert d.repeat(b, "delete", cache="t", key=b"k")[0].status == wire.OK
    assert witness.get("t", b"k") is None


def test_r09_reads_are_carried_out_anew(daemon):
    """A repeated Get gives what is there now."""
    c = daemon.client(client_id=ID)
    i = c.post("get", cache="t", key=b"k")
    assert c.wait(i)[0].status == wire.NOT_FOUND
    c.set("t", b"k", b"v")
    assert again(daemon, c).repeat(i, "get", cache="t", key=b"k")[1] == b"v"


# ---- unknown

def assert_unknown(c, request_id, op="set", body=b"v", **fields):
    fields = fields or dict(cache="t", key=b"k")
    reply, _ = c.repeat(request_id, op, body, **fields)
    assert reply.status == pb.OUTCOME_UNKNOWN and reply.error


def test_r10_after_a_cold_start(daemon):
    """A daemon that was started anew knows nothing of what the one before did, and changes nothing."""
    c = daemon.client(client_id=ID)
    i = c.post("set", b"v", cache="t", key=b"k")
    c.wait(i)
    daemon.signal(9)
    daemon.process.wait()
    daemon.start()
    d = again(daemon, c)
    assert d.info.instance != c.info.instance and d.info.features & pb.FEATURE_REPEAT
    assert_unknown(d, i)
    assert d.get("t", b"k") is None
    assert stats(d).outcomes_unknown == 1
    # From here on the new daemon knows.
    j = d.post("set", b"w", cache="t", key=b"k")
    first = d.wait(j)
    e = again(daemon, d)
    assert_unknown(e, i)
    assert e.repeat(j, "set", b"w", cache="t", key=b"k") == first


def test_r11_too_much_since(make_daemon):
    """limits.outcome_bytes: at least half of it is remembered; what is older is unknown, what never came is not."""
    daemon = make_daemon(limits=dict(outcome_bytes=4096))
    c = daemon.client(client_id=ID)
    ids = [c.post("set", b"v", cache="t", key=b"k%d" % i) for i in range(300)]
    replies = [c.wait(i) for i in ids]
    d = again(daemon, c)
    last = d.last_id
    outcomes = []
    for i, first in zip(ids, replies):
        reply = d.repeat(i, "set", b"v", cache="t", key=b"never")
        outcomes.append(reply[0].status)
        if reply[0].status == wire.OK:
            assert reply == first
    known = outcomes.count(wire.OK)
    assert outcomes == [pb.OUTCOME_UNKNOWN] * (300 - known) + [wire.OK] * known
    assert 2048 // (32 + len(replies[-1][0].SerializeToString())) <= known <= 4096 // 32
    assert d.get("t", b"never") is None and d.last_id == last + 1


def test_r12_too_large_to_remember(make_daemon):
    """The reply of a large SetMany is not kept: its outcome is unknown, those around it are known."""
    daemon = make_daemon(limits=dict(outcome_bytes=2048))
    c = daemon.client(client_id=ID)
    many = dict(cache="t", sets=[pb.Set(key=b"%d" % i) for i in range(500)], sizes=[0] * 500)
    a = c.post("set", b"1", cache="t", key=b"a")
    b = c.post("set_many", **many)
    e = c.post("set", b"2", cache="t", key=b"b")
    first = [c.wait(i) for i in (a, b, e)]
    assert all(f[0].status == wire.OK for f in first)
    d = again(daemon, c)
    assert d.repeat(a, "set", b"1", cache="t", key=b"a") == first[0]
    assert_unknown(d, b, "set_many", b"", **many)
    assert d.repeat(e, "set", b"2", cache="t", key=b"b") == first[2]


def test_r13_forgotten_in_time(daemon, clock):
    """limits.outcome_ms after the connection ended, not before; an idle daemon wakes once for it."""
    daemon.watcher = w = daemon.client(name="watcher")
    kept = []
    for wait in (59_000, 62_000):
        client_id = os.urandom(16)
        c = daemon.client(client_id=client_id)
        i = c.post("set", b"v", cache="t", key=b"k")
        first = c.wait(i)
        before = stats_connections(daemon)
        c.close()
        harness.wait_until(lambda: stats_connections(daemon) < before, "it is gone")
        assert stats(w).remembered_clients == 1
        clock.advance(wait)
        w.ping()
        if wait < 60_000:
            d = daemon.client(client_id=client_id, last_id=c.last_id)
            kept.append(d.repeat(i, "set", b"v", cache="t", key=b"k") == first)
            d.close()
            harness.wait_until(lambda: stats_connections(daemon) == 1, "it is gone")
            clock.advance(62_000)
        harness.wait_until(lambda: stats(w).remembered_clients == 0, "it is forgotten")
        d = daemon.client(client_id=client_id, last_id=c.last_id)
        assert_unknown(d, i)
        d.close()
        harness.wait_until(lambda: stats_connections(daemon) == 1, "it is gone")
        clock.advance(62_000)
        harness.wait_until(lambda: stats(w).remembered_clients == 0, "it is forgotten")
    assert kept == [True]


# ---- hostile

def test_h20_another_uid_with_the_same_bytes(make_daemon):
    """A client_id belongs to a uid: another one neither learns anything nor ends the connection."""
    harness.needs_root()
    daemon = make_daemon(daemon=dict(socket_mode="0666"))
    c = daemon.client(uid=1001, client_id=ID)
    i = c.post("set", b"v", cache="t", key=b"k")
    c.wait(i)
    thief = daemon.client(uid=1002, client_id=ID, last_id=c.last_id)
    assert_unknown(thief, i)
    c.ping()
    d = daemon.client(uid=1001, client_id=ID, last_id=c.last_id)
    assert d.repeat(i, "set", b"v", cache="t", key=b"k")[0].status == wire.OK
    thief.ping()


def test_h21_another_realm_with_the_same_bytes(make_daemon):
    """Nor does it reach from one realm into another."""
    daemon = make_daemon(extra="[realm shared]\nadmins = root\n")
    c = daemon.client(client_id=ID)
    i = c.post("set", b"v", cache="t", key=b"k")
    c.wait(i)
    d = daemon.client(client_id=ID, last_id=c.last_id, realm="shared")
    assert_unknown(d, i)
    c.ping()


@pytest.mark.parametrize("client_id", [b"x", b"x" * 15, b"x" * 17, b"x" * 1000])
def test_h22_a_client_id_of_another_length(daemon, client_id):
    """INVALID; the Hello may be sent again."""
    c = daemon.connect()
    with pytest.raises(wire.Refused) as e:
        c.hello(client_id=client_id)
    assert e.value.status == pb.INVALID and "16" in e.value.error
    c.hello(client_id=ID)


def test_h23_repeated_without_a_client_id(daemon):
    """INVALID, nothing changed, and the connection goes on."""
    c = daemon.client()
    assert not c.info.features & pb.FEATURE_REPEAT
    reply, _ = c.repeat(c.next_id(), "set", b"v", cache="t", key=b"k")
    assert reply.status == pb.INVALID and "client_id" in reply.error
    assert c.get("t", b"k") is None


def test_h24_ids_that_go_back(daemon):
    """Across connections, too; repeated ones are smaller than the Hello's and grow among each other."""
    c = daemon.client(client_id=ID)
    c.set("t", b"k", b"v")
    late = daemon.connect()
    late.send(request(c.last_id, "hello", protocol_min=1, protocol_max=1, client_id=ID))
    late.expect_goodbye(pb.PROTOCOL, 0)
    c.ping()

    d = again(daemon, c)
    d.send(request(d.next_id(), "set", repeated=True, cache="t", key=b"k"), b"w")
    d.expect_goodbye(pb.PROTOCOL, 0)

    d = again(daemon, d)
    assert d.repeat(2, "set", b"v", cache="t", key=b"k")[0].status == wire.OK
    d.send(request(2, "set", repeated=True, cache="t", key=b"k"), b"v")
    d.expect_goodbye(pb.PROTOCOL, 0)

    d = daemon.connect()
    d.send(request(d.next_id(), "hello", repeated=True, protocol_min=1, protocol_max=1, client_id=ID))
    d.expect_goodbye(pb.PROTOCOL, 0)


def test_h25_client_ids_by_the_thousands(make_daemon):
    """What is remembered of those that left is bounded, by uid and in all; another uid's is not pushed out."""
    harness.needs_root()
    daemon = make_daemon(daemon=dict(socket_mode="0666"),
                         limits=dict(outcome_clients_per_uid=100, outcome_clients=300, outcome_bytes=1024, outcome_ms="10m"))
    w = daemon.client(name="watcher")
    quiet = daemon.client(uid=1001, client_id=ID)
    i = quiet.post("set", b"v", cache="t", key=b"k")
    first = quiet.wait(i)
    quiet.close()
    n = 100_000 if harness.LONG else 1000
    for k in range(n):
        with wire.Client(daemon.socket) as c:
            c.hello(client_id=struct.pack("<QQ", k, 0))
            c.set("t", b"k", b"v")
    harness.wait_until(lambda: stats(w).connections == 1, "all are gone")
    assert stats(w).remembered_clients == 101
    d = daemon.client(uid=1001, client_id=ID, last_id=quiet.last_id)
    assert d.repeat(i, "set", b"v", cache="t", key=b"k") == first


def test_h26_taking_over_again_and_again(daemon, witness):
    """The same client_id on a hundred connections at once: each ends the one before, nothing is left."""
    last, clients = 0, []
    for _ in range(100):
        c = daemon.client(client_id=ID, last_id=last)
        last = c.last_id
        clients.append(c)
    for c in clients[:-1]:
        c.expect_goodbye()
    clients[-1].ping()
    harness.wait_until(lambda: stats(witness).connections == 2, "the others are gone")
    assert stats(witness).remembered_clients == 1
