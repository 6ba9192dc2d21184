# SPDX-License-Identifier: MIT
"""Resources of sessions: found with the token alone, and gone with their session.

    QS0x  whose they are, and what is seen of them
    QS1x  how they end
    QS2x  limits, clearing
"""

import os

import pytest

import wire
from harness import wait_until
from resource_world import a, b, c, client, make_holder, no_grace, x  # noqa: F401
from wire import pb

SEGMENT, LOCAL = pb.RESOURCE_SEGMENT, pb.RESOURCE_LOCAL
HELD, CREATE, BUSY = pb.RESOURCE_HELD, pb.RESOURCE_CREATE, pb.RESOURCE_BUSY


OPENED = []


@pytest.fixture(autouse=True)
def no_sessions(no_grace):
    """Tests leave none."""
    yield
    for c, token in OPENED:
        if c.sock.fileno() >= 0:
            c.call("close_session", token=token)
    OPENED.clear()


def opened(c, **fields):
    """The token of a new session."""
    token = c.must("open_session", **fields).session.token
    OPENED.append((c, token))
    return token


def made(p, token, key=b"k", data=bytes(8), **more):
    """The instance that the process @p made in the session."""
    reply = p._reply(p.do("publish_segment", p.right(key, kind=SEGMENT, session=token, **more), data, {"session": token}))
    assert reply.status == wire.OK and reply.resource.state == HELD, reply
    return reply.resource.instance


def listed(c, **fields):
    return [(r.cache, r.key, r.info.instance) for r in c.must("list_resources", **fields).list_resources.resources]


@pytest.fixture
def two(c):
    return opened(c), opened(c)


# ---- whose they are

def test_qs01_two_sessions_and_the_realm_have_an_object_each(a, b, c, two):
    one, other = two
    i, k, m = made(a, one, data=b"of one"), made(a, other, data=b"of other"), a.create_segment(data=b"of all")
    assert len({i, k, m}) == 3
    assert b.held(kind=SEGMENT, session=one) == i and b.do("read", i, 0, 6) == b"of one"
    assert b.held(kind=SEGMENT, session=other) == k and b.do("read", k, 0, 8) == b"of other"
    assert b.held(kind=SEGMENT) == m and b.do("read", m, 0, 6) == b"of all"


def test_qs02_only_with_the_token_is_anything_listed(a, c, two):
    one, other = two
    i = made(a, one, b"secret key", cache="secret")
    k = a.create_segment(b"seen")
    assert listed(c) == [("res", b"seen", k)]
    assert listed(c, session=one) == listed(c, session=one, cache="secret") == [("secret", b"secret key", i)]
    assert listed(c, session=other) == []
    assert c.call("list_resources", cache="secret")[0].status == wire.NOT_FOUND
    assert c.call("list_resources", cache="secret", session=other)[0].status == wire.NOT_FOUND
    # Nor by pages that begin anywhere, or by counting.
    assert listed(c, cursor=i - 1) == [("res", b"seen", k)]
    assert c.stats().total.resources == 1 and [s.name for s in c.list_caches()] == ["res"]


def test_qs03_numbers_of_the_sessions_cache(a, c, two):
    one, other = two
    made(a, one, data=bytes(100))
    [s] = c.must("list_caches", session=one).list_caches.caches
    assert (s.name, s.kind, s.resources, s.resource_bytes) == ("res", pb.CACHE_RESOURCES, 1, 100)
    assert c.must("stats", cache="res", session=one).stats.cache.resources_created == 1
    realm = c.stats().realm
    assert (realm.resources, realm.resource_bytes) == (1, 100)


def test_qs04_a_foreign_token_is_none(a, c, two):
    one, _ = two
    errors = set()
    ended = opened(c)
    c.must("close_session", token=ended)
    right = a.right(kind=SEGMENT, session=one)
    for token in (os.urandom(16), one[:15], ended):
        for reply in (a.acquire(kind=SEGMENT, session=token),
                      a._reply(a.do("publish_segment", right, b"x", {"session": token})),
                      a.call("end_creation", creation_id=right, session=token),
                      a.call("drop_resource", cache="res", key=b"k", session=token),
                      a.call("list_resources", session=token)):
            assert reply.status == wire.NOT_FOUND and not reply.WhichOneof("result")
            errors.add(reply.error)
    assert errors == {c.call("session_get", token=ended)[0].error}


def test_qs05_a_right_is_its_sessions(a, c, two):
    """What is to be created for one is published for no other one."""
    one, other = two
    right = a.right(kind=SEGMENT, session=one)
    for session in (None, other):
        more = {"session": session} if session else {}
        reply = a._reply(a.do("publish_segment", right, b"x", more))
        assert reply.status == wire.NOT_FOUND
        assert a.call("end_creation", creation_id=right, **more).status == wire.NOT_FOUND
    common = a.right(kind=SEGMENT)
    assert a._reply(a.do("publish_segment", common, b"x", {"session": one})).status == wire.NOT_FOUND
    reply = a._reply(a.do("publish_segment", right, b"x", {"session": one}))
    assert reply.status == wire.OK and listed(c, session=one) == [("res", b"k", reply.resource.instance)]


def test_qs06_who_holds_it_uses_it_as_any_other(a, b, c, two):
    one, other = two
    i = made(a, one)
    assert b.held(kind=SEGMENT, session=one) == i
    assert a.lock(i).state == HELD
    k = b.post("lock_resource", i)
    assert a.unlock(i) == wire.OK and b.wait(k).resource.state == HELD
    assert c.call("drop_resource", cache="res", key=b"k", session=other)[0].status == wire.NOT_FOUND
    assert c.must("drop_resource", cache="res", key=b"k", session=one).dropped.holders == 2
    for p in (a, b):
        e = p.wait_event()
        assert (e.instance, e.cause, e.cache, e.key) == (i, pb.RESOURCE_DROPPED, "res", b"k")


def test_qs07_requests_that_name_an_instance_take_no_token(a, two):
    i = made(a, two[0])
    for op in ("lock_resource", "unlock_resource", "release_resource", "invalidate_resource"):
        reply = a.of(op, i, session=two[0])
        assert reply.status == wire.INVALID and "leave the session out" in reply.error


def test_qs08_waiting_for_its_creator(a, b, c, two):
    right = a.right(kind=SEGMENT, session=two[0])
    i = b.ask(kind=SEGMENT, session=two[0])
    assert b.acquire(kind=SEGMENT, session=two[1], wait_ms=0).resource.state == CREATE
    a.do("publish_segment", right, b"here", {"session": two[0]})
    info = b.wait(i).resource
    assert info.state == HELD and b.do("read", info.instance, 0, 4) == b"here"


# ---- how they end

def end_session(how, daemon, clock, c, token, bound):
    if how == "closed":
        c.must("close_session", token=token)
    elif how == "expired":
        clock.advance(5001)
    elif how == "evicted":
        opened(c), opened(c)
    else:
        bound.close()
        wait_until(lambda: not c.must("list_sessions").list_sessions.sessions[0].attached, "it was left")
        clock.advance(3001)


@pytest.mark.parametrize("how", ["closed", "expired", "evicted", "left"])
def test_qs11_with_the_session(make_daemon, make_holder, how):
    d = make_daemon(limits={"sessions_per_realm": 2})
    c, a, b, x = client(d, holder=False), make_holder(d.socket), make_holder(d.socket), make_holder(d.socket)
    bound = d.client(features=pb.FEATURE_EVENTS)
    token = opened(bound, idle_ms=5000, **({"grace_ms": 3000, "attach": True} if how == "left" else {}))
    i, k = made(a, token), a.create_segment()
    made(a, token, b"not held")
    gone = listed(c, session=token)[1][2]
    assert a.release(gone) == wire.OK
    assert b.held(kind=SEGMENT, session=token) == i
    right = a.right(b"new", kind=SEGMENT, session=token)
    waits = x.ask(b"new", kind=SEGMENT, session=token)
    assert a.lock(i).state == HELD
    end_session(how, d, d.clock, c, token, bound)
    reply = x.wait(waits)
    assert reply.status == wire.NOT_FOUND and reply.error == c.call("session_get", token=token)[0].error
    for p in (a, b):
        e = p.wait_event()
        assert (e.instance, e.cause, e.cache, e.key) == (i, pb.RESOURCE_SESSION_ENDED, "res", b"k")
        assert p.events() == []
    assert a._reply(a.do("publish_segment", right, b"x", {"session": token})).status == wire.NOT_FOUND
    assert a._reply(a.do("publish_segment", right, b"x", {})).status == wire.NOT_FOUND
    # Who holds it goes on with it until he lets it go; then its room is free.
    assert b.of("lock_resource", i, wait_ms=0).resource.state == BUSY
    assert a.unlock(i) == b.release(i) == a.release(i) == wire.OK
    realm = c.stats().realm
    assert (realm.resources, realm.session_caches) == (1, 0) and listed(c) == [("res", b"k", k)]


def test_qs12_the_next_session_has_nothing_of_it(a, b, c):
    """Ids of caches are used again, while what was in them is held on."""
    ids, instances = set(), []
    for n in range(40):
        token = opened(c)
        info = c.must("open_cache", cache="c%d" % (n % 3), session=token).cache
        ids.add(info.cache_id)
        assert listed(c, session=token) == []
        instances.append(made(a, token, cache="", cache_id=info.cache_id, data=b"%08d" % n))
        c.must("close_session", token=token)
    wait_until(lambda: c.stats().realm.session_caches == 0)
    assert len(ids) < 40 and len(set(instances)) == 40
    told = [a.wait_event() for _ in range(40)]
    assert [(e.instance, e.cache) for e in told] == [(i, "c%d" % (n % 3)) for n, i in enumerate(instances)]
    assert a.do("read", instances[7], 0, 8) == b"00000007"
    for i in instances:
        assert a.release(i) == wire.OK
    assert c.stats().realm.resources == 0


def test_qs13_a_failure_is_its_sessions(a, b, c, two):
    right = a.right(kind=SEGMENT, session=two[0])
    assert a.call("end_creation", creation_id=right, session=two[0], reason="no").status == wire.OK
    assert b.acquire(kind=SEGMENT, session=two[0]).resource.reason == "no"
    assert b.acquire(kind=SEGMENT, session=two[1]).resource.state == CREATE
    assert b.acquire(kind=SEGMENT).resource.state == CREATE


# ---- limits, clearing

def test_qs21_they_count_for_the_limits_of_the_realm(make_daemon, make_holder):
    d = make_daemon(limits={"resources_per_realm": 3, "resource_bytes_per_realm": "1M"})
    c, a = client(d, holder=False), make_holder(d.socket)
    one = opened(c)
    i = made(a, one, data=bytes(600 << 10))
    reply = a._reply(a.do("publish_segment", a.right(b"2", kind=SEGMENT), bytes(600 << 10), {}))
    assert reply.status == wire.NO_SPACE and "resource_bytes_per_realm" in reply.error
    a.create_local(b"3")
    reply = a.acquire(b"4", kind=LOCAL, session=one)
    assert reply.status == wire.LIMIT and "resources_per_realm" in reply.error
    # What nobody holds makes room, whosever it is.
    assert a.release(i) == wire.OK
    assert a.acquire(b"4", kind=LOCAL, session=one).resource.state == CREATE
    assert listed(c, session=one) == []


def test_qs22_max_entries_and_ttl_of_the_sessions_cache(clock, a, c, two):
    policy = wire.policy(max_entries=1, ttl_ms=1000)
    i = made(a, two[0], b"1", policy=policy)
    k = made(a, two[0], b"2", policy=policy)
    m = made(a, two[1], b"1")
    assert a.events() == [(i, pb.RESOURCE_EVICTED)]
    clock.advance(1001)
    c.ping()
    assert a.events() == [(k, pb.RESOURCE_EXPIRED)]
    assert listed(c, session=two[1]) == [("res", b"1", m)]


def test_qs23_clear(a, c, two):
    """As with entries: of the realm it reaches no session's, of a session nobody else's."""
    one, other = two
    i, k, m = made(a, one), made(a, other), a.create_segment()
    n = made(a, one, b"n", cache="second")
    c.must("clear", all=True)
    assert a.events() == [(m, pb.RESOURCE_CLEARED)]
    c.must("clear", cache="second", session=one)
    assert a.events() == [(n, pb.RESOURCE_CLEARED)]
    made(a, one, b"n", cache="second")
    c.must("clear", cache="second", session=one, prefix=b"x")
    assert a.events() == []
    c.must("clear", all=True, session=one)
    assert len(a.events()) == 2 and listed(c, session=one) == []
    assert listed(c, session=other) == [("res", b"k", k)]
    assert i != k


def test_qs24_of_the_policy_nobody_else_is_told(a, c, two):
    c.must("open_cache", cache="res")
    made(a, two[0], policy=wire.policy(max_entries=5))
    c.ping()
    assert not [e for e in c.events if e.HasField("policy_changed")]
