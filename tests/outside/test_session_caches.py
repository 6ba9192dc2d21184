# SPDX-License-Identifier: MIT
"""Caches of sessions: apart from all others, and gone with their session.

C0x  names, ids, what is seen of them
C1x  how they end
C2x  room
C3x  another process goes on
"""

import os

import pytest

import wire
from harness import config_text, wait_until
from test_t_takeover import close_all, kill, label_of, memory_files, names_for, restart, start_with, take_over
from wire import pb

MIB = 1 << 20


class Scope:
    """One session's caches, on one connection."""

    def __init__(self, c, token=None, **fields):
        self.c = c
        self.token = token or c.must("open_session", **fields).session.token

    def call(self, op, body=b"", **fields):
        return self.c.call(op, body, session=self.token, **fields)

    def must(self, op, body=b"", **fields):
        return self.c.must(op, body, session=self.token, **fields)

    def get(self, cache, key=b"k", **more):
        return self.c.get(cache, key, session=self.token, **more)

    def set(self, cache, value, key=b"k", **more):
        return self.must("set", value, cache=cache, key=key, **more).entry

    def open(self, cache, **fields):
        return self.must("open_cache", cache=cache, **fields).cache

    def names(self):
        return [x.name for x in self.must("list_caches").list_caches.caches]

    def close(self):
        self.c.must("close_session", token=self.token)


def of_sessions(c):
    s = c.stats().realm
    return s.sessions, s.session_caches


def is_over(c, sessions=0, caches=0):
    wait_until(lambda: of_sessions(c) == (sessions, caches), "the caches are gone")


@pytest.fixture
def two(c):
    """Two sessions, which are closed afterwards if they are there."""
    made = Scope(c), Scope(c)
    yield made
    for s in made:
        c.call("close_session", token=s.token)
    is_over(c)


def test_c01_two_sessions_and_the_realm_have_caches_of_one_name(c, two):
    a, b = two
    c.set("c", b"k", b"of the realm")
    a.set("c", b"of a")
    assert b.get("c") is None
    b.set("c", b"of b")
    assert (c.get("c", b"k"), a.get("c"), b.get("c")) == (b"of the realm", b"of a", b"of b")
    b.must("delete", cache="c", key=b"k")
    assert b.get("c") is None and a.get("c") == b"of a"
    a.must("clear", all=True)
    assert a.get("c") is None and c.get("c", b"k") == b"of the realm"


def test_c02_another_connection_with_the_token(daemon, c, two):
    a, _ = two
    a.set("c", b"value", ttl_ms=60_000, flags=7)
    other = Scope(daemon.client(), a.token)
    entry, value = other.c.lookup("c", b"k", session=a.token)
    assert value == b"value" and entry.flags == 7
    assert c.must("attach_session", token=a.token).session.caches == 1


def test_c03_every_operation_is_in_scope(two):
    a, b = two
    info = a.open("c", policy=wire.policy(max_entries=3))
    assert info.name == "c" and info.policy.max_entries == 3
    b.set("c", b"of b")
    for i in range(5):
        a.set("c", b"%d" % i, key=b"%d" % i)
    assert a.must("stats", cache="c").stats.cache.evicted_max_entries == 2
    assert a.must("explain", cache="c", key=b"0").explain.fate == pb.FATE_EVICTED_MAX_ENTRIES
    a.must("set_many", b"12", cache="c", sets=[pb.Set(key=b"x"), pb.Set(key=b"y")], sizes=[1, 1])
    reply, body = a.call("get_many", cache="c", keys=[b"x", b"y", b"z"])
    assert [i.status for i in reply.get_many.items] == [wire.OK, wire.OK, wire.NOT_FOUND] and body == b"12"
    listed = a.must("list_entries", cache="c").list_entries.entries
    assert {e.key for e in listed} == {b"4", b"x", b"y"}
    assert a.must("touch", cache="c", key=b"x", ttl_ms=1000).entry.ttl_ms == 1000
    assert a.must("clear", cache_id=info.cache_id).clear.entries == 3
    assert b.get("c") == b"of b"


def test_c04_nothing_is_seen_from_outside(c, two):
    a, b = two
    a.set("secret", b"x", key=b"secret key")
    assert c.list_caches() == []
    assert c.stats().total.entries == 0 and c.stats().realm.entries == 0
    assert of_sessions(c) == (2, 1)
    assert a.names() == ["secret"] and b.names() == []
    # Nor what is in the cache that holds the sessions, whatever id is tried.
    for cache_id in range(1, 8):
        assert b.call("get", cache_id=cache_id, key=a.token)[0].status == wire.INVALID
        assert c.call("get", cache_id=cache_id, key=a.token)[0].status == wire.INVALID


REQUESTS = [
    ("open_cache", {"cache": "c"}), ("get", {"cache": "c", "key": b"k"}), ("get_many", {"cache": "c", "keys": [b"k"]}),
    ("set", {"cache": "c", "key": b"k"}), ("touch", {"cache": "c", "key": b"k"}),
    ("delete", {"cache": "c", "key": b"k"}), ("clear", {"cache": "c"}), ("clear", {"all": True}),
    ("list_caches", {}), ("list_entries", {"cache": "c"}), ("explain", {"cache": "c", "key": b"k"}),
    ("stats", {"cache": "c"}), ("set_many", {"cache": "c", "sets": [pb.Set(key=b"k")], "sizes": [0]}),
    ("end_lease", {"lease_id": 1}), ("lease_progress", {"lease_id": 1}),
    ("acquire_resource", {"cache": "c", "key": b"k", "kind": pb.RESOURCE_LOCAL}),
    ("publish_resource", {"creation_id": 1, "kind": pb.RESOURCE_LOCAL}), ("end_creation", {"creation_id": 1}),
    ("list_resources", {}), ("list_resources", {"cache": "c"}), ("drop_resource", {"cache": "c", "key": b"k"}),
]


def test_c05_a_token_that_is_none_of_a_session(c, two):
    """Guessed, cut, too long, of a session that has ended: the same answer, to each kind of request."""
    ended = Scope(c)
    ended.set("c", b"x")
    ended.close()
    a, _ = two
    answers = set()
    for token in (os.urandom(16), bytes(16), a.token[:15], a.token + b"x", b"x", ended.token):
        for op, fields in REQUESTS:
            reply, body = c.call(op, session=token, **fields)
            assert reply.status == wire.NOT_FOUND and not body and not reply.WhichOneof("result")
            answers.add(reply.error)
    assert len(answers) == 1
    is_over(c, sessions=2)


def test_c06_requests_that_are_not_about_caches(two):
    for op, fields in (("ping", {}), ("set_policy", {"cache": "c"}), ("list_leases", {}), ("list_clients", {}),
                       ("get_config", {}), ("subscribe", {}), ("open_session", {}), ("list_sessions", {})):
        reply, _ = two[0].call(op, **fields)
        assert reply.status == wire.INVALID and "leave the session out" in reply.error


def test_c07_names(two):
    a, _ = two
    a.set("n" * 100, b"x")
    assert a.call("set", cache="n" * 101, key=b"k")[0].status == wire.INVALID
    assert a.call("set", cache="", key=b"k")[0].status == wire.INVALID
    a.set("sessions", b"not the daemon's")
    assert a.get("sessions") == b"not the daemon's"


def test_c08_long_values_come_as_bytes(daemon, two):
    a = Scope(daemon.client(features=pb.FEATURE_EVENTS | pb.FEATURE_FILES), two[0].token)
    value = os.urandom(6 * MIB)
    a.set("c", value)
    entry, got = a.c.lookup("c", b"k", session=a.token, as_file=True)
    assert got == value and not entry.view_id


def test_c09_no_leases_are_listed(daemon, two):
    a, b = (Scope(daemon.client(features=pb.FEATURE_EVENTS | pb.FEATURE_LEASES), s.token) for s in two)
    reply, _ = a.call("get", cache="c", key=b"k", lease=pb.LeaseAsk())
    assert reply.lease.state == pb.LEASE_GRANTED
    assert len(a.c.must("list_leases").list_leases.computations) == 0
    told = a.must("explain", cache="c", key=b"k").explain.computing
    assert told.cache == "c" and told.lease_id == reply.lease.lease_id
    assert b.call("get", cache="c", key=b"k", lease=pb.LeaseAsk())[0].lease.state == pb.LEASE_GRANTED
    assert b.call("set", b"x", cache="c", key=b"k", lease_id=reply.lease.lease_id)[0].status == wire.SUPERSEDED
    a.set("c", b"computed", lease_id=reply.lease.lease_id)
    assert a.get("c") == b"computed" and b.get("c") is None


# ---- how they end

@pytest.mark.parametrize("how", ["closed", "expired"])
def test_c11_with_the_session(clock, c, how):
    s = Scope(c, idle_ms=5000)
    s.set("c", b"x" * 100_000)
    s.set("d", b"x")
    assert of_sessions(c) == (1, 2)
    if how == "closed":
        s.close()
    else:
        clock.advance(5001)
    assert s.call("get", cache="c", key=b"k")[0].status == wire.NOT_FOUND
    is_over(c)
    wait_until(lambda: c.stats().realm.session_bytes == 0, "its memory comes back")


def test_c12_an_older_value_never_comes_back(c):
    """Ids are used again; nothing of who had them before is."""
    ids = set()
    for i in range(300):
        s = Scope(c)
        info = s.open("c%d" % (i % 7))
        ids.add(info.cache_id)
        assert info.created and info.opens == 1
        assert s.get(None, cache_id=info.cache_id) is None
        assert s.must("explain", cache_id=info.cache_id, key=b"k").explain.fate == pb.FATE_NEVER_STORED
        s.set(None, b"%d" % i, cache_id=info.cache_id)
        assert s.get(None, cache_id=info.cache_id) == b"%d" % i
        s.close()
    is_over(c)
    assert len(ids) < 300


def test_c13_a_value_that_arrives_when_the_session_ends(daemon, c, two):
    a = Scope(daemon.client(), two[0].token)
    size = 3 * MIB
    i = a.c.next_id()
    message = wire.request(i, "set", session=a.token, cache="c", key=b"k")
    a.c.send_raw(wire.frame(message, b"x" * MIB, n_body=size))
    wait_until(lambda: c.stats().realm.session_bytes >= MIB, "a part has come")
    Scope(c, a.token).close()
    a.c.send_raw(b"x" * (size - MIB))
    assert a.c.wait(i)[0].status == wire.NOT_FOUND
    wait_until(lambda: c.stats().realm.session_bytes < MIB, "the room is given back")
    is_over(c, 1, 0)


def test_c14_who_waits_when_the_session_ends(daemon, clock, c):
    """Whoever computes cannot store it, and who waits is not left waiting; then the cache goes."""
    s = Scope(c)
    holder, waiter = (Scope(daemon.client(features=pb.FEATURE_EVENTS | pb.FEATURE_LEASES), s.token) for _ in range(2))
    lease = holder.call("get", cache="c", key=b"k", lease=pb.LeaseAsk())[0].lease.lease_id
    i = waiter.c.post("get", session=s.token, cache="c", key=b"k", lease=pb.LeaseAsk())
    wait_until(lambda: s.must("stats", cache="c").stats.cache.waiting == 1, "it waits")
    s.close()
    reply, _ = waiter.c.wait(i)
    assert reply.status == wire.NOT_FOUND and reply.lease.state == pb.LEASE_GRANTED
    assert holder.call("set", b"x", cache="c", key=b"k", lease_id=lease)[0].status == wire.NOT_FOUND
    waiter.c.close()
    clock.advance(2000)
    is_over(c)


# ---- room

def test_c21_a_budget_beside_the_realms(make_daemon):
    d = make_daemon(memory={"realm_budget": "8M", "session_budget": "2M", "uid_share": "100%"})
    c = d.client()
    c.set("c", b"k", b"x" * MIB)
    s = Scope(c)
    reply, _ = s.call("set", b"x" * (3 * MIB), cache="c", key=b"k")
    assert reply.status == wire.TOO_LARGE and "memory.session_budget" in reply.error
    for i in range(100):
        s.set("c", b"x" * 50_000, key=b"%d" % i)
    realm = c.stats().realm
    assert realm.session_budget_bytes == 2 * MIB and MIB < realm.session_bytes <= 2 * MIB
    assert realm.bytes_charged < 2 * MIB and c.get("c", b"k") == b"x" * MIB
    assert s.must("stats", cache="c").stats.cache.evicted_realm_budget > 0
    assert "memory.session_budget" in s.must("explain", cache="c", key=b"60").explain.text
    # A session that is not used for long goes, and its caches do.
    t = Scope(c)
    t.set("c", b"x" * 50_000)
    for i in range(60):
        s.set("c", b"x" * 50_000, key=b"%d" % i)
    assert t.call("get", cache="c", key=b"k")[0].status == wire.NOT_FOUND
    is_over(c, sessions=1, caches=1)
    assert c.stats().realm.sessions_evicted == 1
    s.close()
    is_over(c)


def test_c22_their_number(make_daemon):
    d = make_daemon(limits={"session_caches_per_realm": 5, "caches_per_realm": 2})
    c = d.client()
    s, t = Scope(c), Scope(c)
    for i in range(5):
        s.set(f"c{i}", b"x")
    reply, _ = t.call("set", b"x", cache="c", key=b"k")
    assert reply.status == wire.LIMIT and "limits.session_caches_per_realm" in reply.error
    s.close()
    wait_until(lambda: t.call("set", b"x", cache="c", key=b"k")[0].status == wire.OK, "there is room again")
    t.close()
    is_over(c)


def test_c23_many_sessions_at_once(c):
    """With caches each: they are made, found and removed."""
    sessions = [Scope(c) for _ in range(1000)]
    for i, s in enumerate(sessions):
        for cache in ("c", "d"):
            s.set(cache, b"%s %d" % (cache.encode(), i))
    assert of_sessions(c) == (1000, 2000)
    for i, s in enumerate(sessions):
        assert s.get("c") == b"c %d" % i and sorted(s.names()) == ["c", "d"]
    for s in sessions[::2]:
        s.close()
    is_over(c, 500, 1000)
    for i, s in enumerate(sessions):
        if i % 2:
            assert s.get("d") == b"d %d" % i
            s.close()
    is_over(c)


def test_c24_their_number_by_reload(make_daemon):
    """Lowered it holds at once; raised as much as the realm was made for, and all who ask are told."""
    name = "session_caches_per_realm"
    d = make_daemon(limits={name: 3})
    c = d.client()
    s = Scope(c)

    def reload(n):
        d.config_path.write_text(config_text(limits={name: n}))
        return {x.name: x.note for x in c.must("reload_config").config.settings}

    def error_at(cache):
        reply, _ = s.call("open_cache", cache=cache)
        assert reply.status == wire.LIMIT
        return reply.error

    s.open("a")
    assert not any(reload(1).values())
    assert f"(1; limits.{name})" in error_at("b")
    notes = reload(50)
    assert "was 3 and keeps that" in notes[f"limits.{name}"] and sum(map(bool, notes.values())) == 1
    assert f"limits.{name} = 50 holds for realms that are made from now on" in d.log()
    s.open("b")
    s.open("c")
    assert f"(3; limits.{name} when the realm was made)" in error_at("d")
    s.close()
    is_over(c)


# ---- another process

@pytest.mark.parametrize("how", [take_over, restart], ids=["handed over", "killed"])
def test_c31_a_successor_has_them(daemon, how):
    c = daemon.client()
    c.set("c", b"k", b"of the realm")
    a, b, gone = Scope(c), Scope(c), Scope(c)
    a.set("c", b"of a", ttl_ms=3_600_000)
    a.set("long", b"L" * (5 * MIB))
    b.set("c", b"of b")
    gone.set("c", b"old")
    gone.close()
    how(daemon)
    c = daemon.client()
    a, b, gone = (Scope(c, s.token) for s in (a, b, gone))
    assert (c.get("c", b"k"), a.get("c"), b.get("c")) == (b"of the realm", b"of a", b"of b")
    assert a.get("long") == b"L" * (5 * MIB)
    assert sorted(a.names()) == ["c", "long"]
    assert gone.call("get", cache="c", key=b"k")[0].status == wire.NOT_FOUND
    is_over(c, 2, 3)
    assert c.stats().daemon.takeover.realms_kept == 1
    # They end there as they would have here.
    a.close()
    is_over(c, 1, 1)
    new = Scope(c)
    assert new.open("c").created and new.get("c") is None
    new.close()
    b.close()
    is_over(c)


def test_c32_a_realm_whose_own_files_are_lost(daemon):
    """Sessions have memory files of their own; an empty realm is made for them."""
    c = daemon.client()
    s = Scope(c)
    s.set("c", b"x")
    c.set("c", b"k", b"of the realm")
    passed = names_for(memory_files(daemon.pid))
    (number,) = [name[1:] for name, fd in passed if name[0] == "t" and label_of(fd).startswith("sessions of ")]
    kill(daemon)
    start_with(daemon, [(name, fd) for name, fd in passed if name[1:] == number])
    close_all(passed)
    c = daemon.client()
    s = Scope(c, s.token)
    assert s.get("c") == b"x" and c.get("c", b"k") is None
    s.close()
    is_over(c)


def test_c33_killed_while_caches_come_and_go(daemon):
    """Again and again: what a session that is there has stored last is there."""
    last = {}
    for n in range(6):
        c = daemon.client()
        for token in list(last):
            s = Scope(c, token)
            assert s.get("c") == last[token]
            if n % 2:
                s.close()
                del last[token]
        for i in range(20):
            s = Scope(c)
            assert s.open("c").created and s.get("c") is None
            s.set("c", b"%d %d" % (n, i))
            if i % 3:
                s.close()
            else:
                last[s.token] = b"%d %d" % (n, i)
        restart(daemon)
    c = daemon.client()
    for token in last:
        c.must("close_session", token=token)
    is_over(c)
