# SPDX-License-Identifier: MIT
"""Subscriptions to resources: what came, what left and why; and who is told nothing of it."""

import socket

import pytest

import harness
import wire
from resource_world import a, b, c, client, make_holder, no_grace, x  # noqa: F401
from test_n_events import no_more, subscribe, subscriber, wait_events
from wire import pb

CREATED, LEFT = pb.EVENT_RESOURCE_CREATED, pb.EVENT_RESOURCE_LEFT
SEGMENT, DESCRIPTOR, LOCAL = pb.RESOURCE_SEGMENT, pb.RESOURCE_DESCRIPTOR, pb.RESOURCE_LOCAL
REASON_MAX = 256


def next_event(s):
    if not s.events:
        reply, _ = s.recv_any()
        assert reply.id == 0 and reply.WhichOneof("result") == "event"
        s.events.append(reply.event)
    event = s.events.pop(0)
    assert event.WhichOneof("kind") == "instance", event
    return event.instance


def told_created(s, instance, resource, key=b"k", cache="res"):
    e = next_event(s)
    assert (e.kind, e.cache, e.key, e.instance, e.resource) == (CREATED, cache, key, instance, resource)
    assert (e.cause, e.reason, e.holders) == (pb.RESOURCE_CAUSE_NONE, "", 0)
    assert e.age_ms < harness.PATIENCE * 1000


def told_left(s, instance, cause, holders, key=b"k", reason="", cache="res"):
    e = next_event(s)
    assert (e.kind, e.cache, e.key, e.instance) == (LEFT, cache, key, instance)
    assert (pb.ResourceCause.Name(e.cause), e.holders, e.reason) == (pb.ResourceCause.Name(cause), holders, reason)


@pytest.fixture
def s(daemon):
    return subscriber(daemon, [CREATED, LEFT])


# ---- what is told

def test_nr01_each_kind_that_comes(s, a, b):
    """Once, when it is published: not for who asks for one that is there."""
    i = a.create_segment(b"1")
    b.held(b"1", kind=SEGMENT)
    a.release(i), b.release(i)
    told_created(s, i, SEGMENT, b"1")
    told_created(s, a.create_local(b"2"), LOCAL, b"2")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("")
        server.listen()
        told_created(s, a.create_connection(server.getsockname()), DESCRIPTOR)
    # One that closes is told of, too.
    assert next_event(s).cause == pb.RESOURCE_HUNG_UP
    right = a.right(b"3", kind=SEGMENT)
    assert a.call("end_creation", creation_id=right, reason="no").status == wire.OK
    assert no_more(s)


def test_nr02_dropped_and_cleared(s, a, b, c):
    i, k, m = (a.create_segment(key) for key in (b"1", b"2", b"3"))
    b.held(b"1", kind=SEGMENT), b.held(b"1", kind=SEGMENT)
    for key, n in ((b"1", i), (b"2", k), (b"3", m)):
        told_created(s, n, SEGMENT, key)
    c.must("drop_resource", cache="res", key=b"1")
    told_left(s, i, pb.RESOURCE_DROPPED, 2, b"1")
    c.must("clear", cache="res", prefix=b"2")
    told_left(s, k, pb.RESOURCE_CLEARED, 1, b"2")
    assert a.release(m) == wire.OK
    c.clear()
    told_left(s, m, pb.RESOURCE_CLEARED, 0, b"3")
    # When those who held it let it go it has left long ago.
    a.release(i), a.release(k)
    assert no_more(s)


def test_nr03_expired(clock, s, a):
    """Of the age that it has when it is sent."""
    i = a.create_segment(policy=wire.policy(ttl_ms=60000))
    told_created(s, i, SEGMENT)
    clock.advance(61000)
    told_left(s, i, pb.RESOURCE_EXPIRED, 1)
    assert no_more(s)


def test_nr04_evicted_before_the_one_that_needs_its_place(s, a):
    policy = wire.policy(max_entries=1)
    i = a.create_segment(b"1", policy=policy)
    k = a.create_segment(b"2", policy=policy)
    told_created(s, i, SEGMENT, b"1")
    told_left(s, i, pb.RESOURCE_EVICTED, 1, b"1")
    told_created(s, k, SEGMENT, b"2")
    assert no_more(s)


def test_nr05_a_check_failed_with_its_reason(s, a, b):
    """Which may be long, as the names may."""
    name = {"key": bytes(64), "cache": "c" * 128}
    i = a.create_segment(**name)
    b.held(kind=SEGMENT, **name)
    told_created(s, i, SEGMENT, **name)
    reason = "ä" * (REASON_MAX // 2)
    assert b.of("invalidate_resource", i, reason=reason).status == wire.OK
    told_left(s, i, pb.RESOURCE_INVALID, 2, reason=reason, **name)
    a.release(i), b.release(i)
    i = a.create_segment()
    told_created(s, i, SEGMENT)
    assert a.release(i, broken=True) == wire.OK
    told_left(s, i, pb.RESOURCE_INVALID, 0)
    assert no_more(s)


def test_nr06_hung_up(s, a, b):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("")
        server.listen()
        i = a.create_connection(server.getsockname())
        theirs, _ = server.accept()
        told_created(s, i, DESCRIPTOR)
        assert b.held(kind=DESCRIPTOR) == i
        theirs.close()
        told_left(s, i, pb.RESOURCE_HUNG_UP, 2)
    assert no_more(s)


def test_nr07_its_locks_owner_died(s, a, b):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("")
        server.listen()
        i = a.create_connection(server.getsockname())
        b.held(kind=DESCRIPTOR)
        assert a.lock(i).state == pb.RESOURCE_HELD
        told_created(s, i, DESCRIPTOR)
        a.kill()
        e = next_event(s)
        assert (e.kind, e.instance, e.cause) == (LEFT, i, pb.RESOURCE_OWNER_DIED)
    assert no_more(s)


def test_nr08_registered_anew_after_a_cold_start(daemon, a):
    """That is how it comes to a daemon that knows nothing of it."""
    i = a.create_segment(data=b"data")
    daemon.stop()
    daemon.start()
    s = subscriber(daemon, [CREATED, LEFT])
    a.reconnect(daemon.socket)
    reply = a.reclaim(i, True, cache="res", key=b"k", size=4)
    assert reply.status == wire.OK, reply
    told_created(s, reply.resource.instance, SEGMENT)
    assert no_more(s)


# ---- who is told

def test_nr10_only_what_was_asked_for(daemon, a, c):
    """Kinds and a cache; entries are none of it, and who asked for entries is told of no resource."""
    came = subscriber(daemon, [CREATED], "res")
    left = subscriber(daemon, [LEFT], "other")
    entries = subscriber(daemon, range(pb.EVENT_STORED, CREATED))
    i, k = a.create_segment(), a.create_segment(cache="other")
    c.set("res", b"k", b"v")
    c.must("drop_resource", cache="res", key=b"k")
    c.must("drop_resource", cache="other", key=b"k")
    told_created(came, i, SEGMENT)
    e = next_event(left)
    assert (e.kind, e.cache, e.instance) == (LEFT, "other", k)
    assert wait_events(entries, 1) == [("STORED", "res", b"k")]
    assert no_more(came) and no_more(left) and no_more(entries)


def test_nr11_own_resources_after_their_reply(c):
    subscribe(c, [CREATED, LEFT])
    right = c.acquire(kind=LOCAL).resource.creation_id
    i = c.publish(right, None, LOCAL).resource.instance
    assert not c.events, "the reply comes first"
    told_created(c, i, LOCAL)
    c.call("drop_resource", cache="res", key=b"k")
    # The holder's own event comes as ever.
    c.ping()
    c.ping()
    assert sorted(e.WhichOneof("kind") for e in c.events) == ["instance", "resource"]


def test_nr12_another_realm_is_told_nothing(make_daemon):
    daemon = make_daemon(extra="[realm one]\nwriters = 0\n[realm two]\nwriters = 0\n")
    one, two, own = (subscriber(daemon, [CREATED, LEFT], realm=r) for r in ("one", "two", ""))
    c = client(daemon, realm="two")
    right = c.acquire(kind=LOCAL).resource.creation_id
    i = c.publish(right, None, LOCAL).resource.instance
    c.must("drop_resource", cache="res", key=b"k")
    told_created(two, i, LOCAL)
    told_left(two, i, pb.RESOURCE_DROPPED, 1)
    assert no_more(one) and no_more(two) and no_more(own)


def test_nr13_nobody_is_told_of_those_of_sessions(daemon, s, a, c):
    """Neither when they come, nor when they leave, nor when their session ends; also who asked for the name."""
    named = subscriber(daemon, [CREATED, LEFT], "secret")
    token = c.must("open_session").session.token
    for key in (b"1", b"2"):
        right = a.right(key, kind=SEGMENT, cache="secret", session=token)
        made = pb.Reply.FromString(a.do("publish_segment", right, bytes(8), {"session": token}))
        assert made.status == wire.OK, made
    c.must("drop_resource", cache="secret", key=b"1", session=token)
    c.must("close_session", token=token)
    assert len(a.events()) == 2, "its holder is"
    assert no_more(s) and no_more(named)


# ---- who does not read

def test_nr20_a_loss_is_told_in_its_place(make_daemon):
    """What does not fit is counted like any other event: each was told or counted."""
    rounds, n = 30, 400
    daemon = make_daemon(limits={"events_queued": 50, "resources_per_uid": n, "resources_per_realm": n})
    s, c = subscriber(daemon, [CREATED, LEFT]), client(daemon)
    for _ in range(rounds):
        asked = [c.ask(b"%d" % k, kind=LOCAL) for k in range(n)]
        rights = [c.wait(i)[0].resource.creation_id for i in asked]
        posted = [c.post("publish_resource", creation_id=right, kind=LOCAL) for right in rights]
        made = [c.wait(i)[0].resource.instance for i in posted]
        c.must("clear", cache="res")
        for i in made:
            c.post("release_resource", instance=i, holder=c.holder, one_way=True)
        c.events.clear()
    told = lost = gaps = 0
    while told + lost < 2 * rounds * n:
        reply, _ = s.recv_any()
        if reply.event.WhichOneof("kind") == "lost":
            lost += reply.event.lost.events
            gaps += 1
        else:
            told += 1
    assert told + lost == 2 * rounds * n and lost > 0 and gaps > 0 and no_more(s)
    right = c.acquire(kind=LOCAL).resource.creation_id
    told_created(s, c.publish(right, None, LOCAL).resource.instance, LOCAL)
