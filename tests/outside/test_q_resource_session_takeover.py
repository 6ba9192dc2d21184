# SPDX-License-Identifier: MIT
"""Resources of sessions outlive the daemon as all others do, as long as their session does.

    QS3x  a handover, and a death with the descriptors kept
    QS4x  the session is over by then, or is another one
"""

import os

import pytest

import wire
from harness import wait_until
from resource_world import a, b, client, make_holder, no_grace, x  # noqa: F401 (fixtures)
from test_q_resource_sessions import listed
from test_q_resource_takeover import cold, how, kept_files, kill, killed_under_load, renew  # noqa: F401
from test_t_takeover import close_all, start_with, take_over, takeover
from wire import pb

SEGMENT, DESCRIPTOR, LOCAL = pb.RESOURCE_SEGMENT, pb.RESOURCE_DESCRIPTOR, pb.RESOURCE_LOCAL
HELD, CREATE, BUSY = pb.RESOURCE_HELD, pb.RESOURCE_CREATE, pb.RESOURCE_BUSY
GRACE = 10_000


@pytest.fixture
def opened(daemon):
    """Opens sessions, by their tokens; tests leave none."""
    tokens = []

    def one(**fields):
        with daemon.probe() as c:
            tokens.append(c.must("open_session", **fields).session.token)
        return tokens[-1]

    yield one
    with daemon.probe() as c:
        for token in tokens:
            c.call("close_session", token=token)


def close(d, token):
    with d.probe() as c:
        c.must("close_session", token=token)


def made(p, token, kind=SEGMENT, key=b"k", data=bytes(64), what="pipe", **more):
    """The instance that the process @p made in the session."""
    right = p.right(key, kind=kind, session=token, **more)
    fields = {"session": token}
    if kind == SEGMENT:
        reply = p._reply(p.do("publish_segment", right, data, fields))
    elif kind == LOCAL:
        reply = p._reply(p.do("publish_local", right, fields))
    else:
        reply = p._reply(p.do("publish_fd", right, what, fields))
    assert reply.status == wire.OK and reply.resource.state == HELD, reply
    return reply.resource.instance


def come_back(d, token, *those):
    """(holder, instance or (instance, locked), ...): each comes again and claims what is the session's."""
    for holder, *instances in those:
        was = holder.holder, holder.number
        info = holder.reconnect(d.socket)
        assert info.again and (info.holder, info.number) == was
        for i in instances:
            i, locked = i if isinstance(i, tuple) else (i, False)
            reply = holder.reclaim(i, locked=locked, session=token)
            assert reply.status == wire.OK and reply.resource.state == HELD, reply
            assert reply.resource.instance == i and not reply.resource.descriptor


def is_over(d, token, reply):
    """It is the answer of a session that is no more."""
    with d.probe() as c:
        expected = c.call("session_get", token=token)[0]
    assert expected.status == wire.NOT_FOUND and expected.error
    return (reply.status, reply.error) == (expected.status, expected.error) and not reply.WhichOneof("result")


# ---- going on

def test_qs30_a_locked_segment(daemon, opened, a, b, x, how):
    token = opened()
    i = made(a, token)
    assert b.held(kind=SEGMENT, session=token) == i
    a.do("count", i, 3)
    assert a.lock(i).state == HELD
    renew(how, daemon, (a, i))
    t = takeover(daemon)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (1, 0, 0), t
    come_back(daemon, token, (b, i), (a, (i, True)))
    assert b.lock(i, wait_ms=0).state == BUSY
    c = client(daemon, holder=False)
    assert listed(c, session=token) == [("res", b"k", i)] and listed(c) == []
    x.reconnect(daemon.socket)
    assert x.acquire(kind=SEGMENT).resource.state == CREATE
    assert x.held(kind=SEGMENT, session=token) == i
    waiting = x.post("lock_resource", i)
    assert a.unlock(i) == wire.OK
    assert x.wait(waiting).resource.state == HELD
    assert x.unlock(i) == wire.OK
    assert [p.do("count", i) for p in (a, b, x)] == [4, 5, 6]
    assert c.stats().realm.resources == 2  # and the right to create the realm's


def test_qs31_a_descriptor_and_its_lock(daemon, opened, a, b, how):
    token = opened()
    i = made(a, token, DESCRIPTOR, what="socketpair")
    assert b.held(kind=DESCRIPTOR, session=token) == i
    assert a.lock(i).state == HELD
    renew(how, daemon, (a, i))
    come_back(daemon, token, (b, i))
    assert b.lock(i, wait_ms=0).state == BUSY
    come_back(daemon, token, (a, (i, True)))
    assert a.unlock(i) == wire.OK and b.lock(i).state == HELD
    b.do("use", i, b"x")
    assert a.do("take", i) == b"x"


def test_qs32_a_local_one_and_a_pool(daemon, opened, a, b, how):
    token = opened()
    i, j = made(a, token, LOCAL), made(a, token, key=b"p", pool=2)
    k = made(b, token, key=b"p", pool=2)
    assert b.release(k) == wire.OK
    assert b.held(kind=LOCAL, session=token) == b.held(kind=LOCAL, session=token) == i
    renew(how, daemon, (a, j), (b, k))
    come_back(daemon, token, (a, i, j), (b, i))
    with daemon.probe() as c:
        local, = (r for r in c.must("list_resources", session=token).list_resources.resources if r.key == b"k")
    assert {h.pid: h.holds for h in local.holders} == {a.pid: 1, b.pid: 2}
    assert b.held(b"p", kind=SEGMENT, pool=2, session=token) == k
    assert b.acquire(b"p", kind=SEGMENT, pool=2, session=token, wait_ms=0).resource.state == BUSY


def test_qs33_each_has_its_own(daemon, opened, a, b, how):
    one, other = opened(), opened()
    i, k, m = made(a, one, data=b"of one"), made(a, other, data=b"of other"), a.create_segment(data=b"of all")
    renew(how, daemon, *((a, instance) for instance in (i, k, m)))
    come_back(daemon, one, (a, i))
    for session, instance in ((one, k), (other, i), (one, m), (os.urandom(16), i)):
        assert a.reclaim(instance, session=session).status == wire.NOT_FOUND
    # As with all that names an instance, its number is enough.
    assert a.reclaim(k).status == a.reclaim(m).status == wire.OK
    b.reconnect(daemon.socket)
    for more, instance, data in (({"session": one}, i, b"of one"), ({"session": other}, k, b"of other"), ({}, m, b"of all")):
        assert b.held(kind=SEGMENT, **more) == instance
        assert b.do("read", instance, 0, len(data)) == data
    assert daemon.probe().stats().realm.resources == 3


def test_qs34_its_cache_goes_on(daemon, opened, a, how):
    """Its name, which a holder is told; its policy; and its end with the session."""
    token = opened()
    policy = wire.policy(ttl_ms=60_000)
    i, k = made(a, token, cache="mine", policy=policy), made(a, token, LOCAL, key=b"l", cache="mine")
    renew(how, daemon, (a, i))
    come_back(daemon, token, (a, i, k))
    with daemon.probe() as c:
        assert c.must("drop_resource", cache="mine", key=b"k", session=token).dropped.holders == 1
        s, = c.must("list_caches", session=token).list_caches.caches
        assert (s.name, s.resources) == ("mine", 1)
    e = a.wait_event()
    assert (e.instance, e.cause, e.cache, e.key) == (i, pb.RESOURCE_DROPPED, "mine", b"k")
    close(daemon, token)
    e = a.wait_event()
    assert (e.instance, e.cause, e.cache, e.key) == (k, pb.RESOURCE_SESSION_ENDED, "mine", b"l")
    assert a.release(i) == a.release(k) == wire.OK
    assert daemon.probe().stats().realm.resources == 0


def test_qs35_again_and_again(daemon, opened, a):
    token = opened()
    seen = [made(a, token)]
    for n in range(4):
        renew(("handed over", "killed")[n % 2], daemon, *((a, i) for i in seen))
        come_back(daemon, token, (a, *seen))
        seen.append(made(a, token, key=b"%d" % n))
    assert len(set(seen)) == 5 and len(listed(client(daemon, holder=False), session=token)) == 5


def test_qs36_made_while_no_daemon_was_there(daemon, opened, a, b):
    """A local one, and a segment, are taken in where they belong, and are known to the next one, too."""
    token = opened()
    take_over(daemon)
    for p in (a, b):
        p.reconnect(daemon.socket)
    j = a.reclaim(0, cache="mine", key=b"l", session=token).resource.instance
    assert j != 0 and b.reclaim(0, cache="mine", key=b"l", session=token).resource.instance == j
    c = client(daemon, holder=False)
    assert listed(c, session=token) == [("mine", b"l", j)] and listed(c) == [] and c.list_caches() == []
    take_over(daemon)
    assert takeover(daemon).resources_kept == 1
    come_back(daemon, token, (a, j), (b, j))
    close(daemon, token)
    for p in (a, b):
        e = p.wait_event()
        assert (e.instance, e.cause, e.cache) == (j, pb.RESOURCE_SESSION_ENDED, "mine")


def test_qs37_a_right_and_who_waits(daemon, opened, a, b):
    token = opened()
    right = a.right(kind=SEGMENT, session=token)
    b.begin("wait", b.ask(kind=SEGMENT, session=token))
    take_over(daemon)
    assert pb.Reply.FromString(b.result()).status == wire.SHUTTING_DOWN
    come_back(daemon, token, (a,), (b,))
    assert a._reply(a.do("publish_segment", right, b"x", {"session": token})).status == wire.NOT_FOUND
    assert b.acquire(kind=SEGMENT, session=token, wait_ms=0).resource.state == CREATE


def test_qs38_killed_under_load(make_daemon, make_holder, tmp_path):
    d = make_daemon()
    with d.probe() as c:
        token = c.must("open_session").session.token
    killed_under_load(d, make_holder, tmp_path, 7, token)
    assert takeover(d).resources_kept > 0  # it was not each time another one
    close(d, token)


# ---- it is over

def test_qs40_it_expires_in_the_grace(daemon, clock, opened, a, b, how):
    token = opened(idle_ms=5000)
    i = made(a, token)
    assert b.held(kind=SEGMENT, session=token) == i
    assert a.lock(i).state == HELD
    renew(how, daemon, (a, i))
    come_back(daemon, token, (a, (i, True)))
    clock.advance(5001)
    e = a.wait_event()
    assert (e.instance, e.cause, e.cache, e.key) == (i, pb.RESOURCE_SESSION_ENDED, "res", b"k")
    assert b.reconnect(daemon.socket).again
    assert is_over(daemon, token, b.reclaim(i, session=token))
    assert b.reclaim(i).status == wire.NOT_FOUND
    e = b.wait_event()
    assert (e.instance, e.cause) == (i, pb.RESOURCE_SESSION_ENDED)
    # Until they let it go.
    assert b.lock(i, wait_ms=0).state == BUSY and a.unlock(i) == wire.OK
    assert a.release(i) == b.release(i) == wire.OK
    assert daemon.probe().stats().realm.resources == 0
    take_over(daemon)
    t = takeover(daemon)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (0, 0, 0), t


def test_qs41_it_expires_while_no_daemon_is_there(daemon, clock, opened, a, b):
    token = opened(idle_ms=5000)
    i, j, k = made(a, token), made(a, token, DESCRIPTOR, key=b"p"), made(a, token, LOCAL, key=b"l")
    m = a.create_segment()
    assert b.held(kind=SEGMENT, session=token) == i
    passed = kept_files(daemon, (a, i), (a, j), (a, m))
    kill(daemon)
    clock.advance(5001)
    start_with(daemon, passed)
    close_all(passed)
    t = takeover(daemon)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (1, 3, 2), t
    assert sum("session has ended" in r for r in t.reasons) == 3, t.reasons
    assert not any("res dropped" in r for r in t.reasons)  # what it called its cache is its own
    come_back(daemon, None, (a, m), (b,))
    for p in (a, b):
        assert is_over(daemon, token, p.reclaim(i, session=token))
        assert p.reclaim(i).status == wire.NOT_FOUND
    assert daemon.probe().stats().realm.resources == 1
    # Nothing of it is left for the next one.
    take_over(daemon)
    t = takeover(daemon)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (1, 0, 0), t


def test_qs42_it_ended_before(daemon, opened, a):
    """What has left with it and is held on is nothing to a successor."""
    token = opened()
    i = made(a, token)
    close(daemon, token)
    assert a.wait_event().cause == pb.RESOURCE_SESSION_ENDED
    take_over(daemon)
    t = takeover(daemon)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (0, 0, 0), t
    assert a.reconnect(daemon.socket).again
    assert is_over(daemon, token, a.reclaim(i, session=token)) and a.reclaim(i).status == wire.NOT_FOUND


def test_qs43_after_a_cold_start_there_is_no_session(daemon, opened, a, b):
    """Nothing is registered anew in one that is not there: neither there nor in the realm."""
    token = opened()
    i, j = made(a, token), made(a, token, LOCAL, key=b"l")
    cold(daemon)
    assert not a.reconnect(daemon.socket).again
    fields = {"cache": "res", "session": token}
    assert is_over(daemon, token, a.reclaim(i, with_descriptor=True, key=b"k", size=64, **fields))
    assert is_over(daemon, token, a.reclaim(j, key=b"l", **fields))
    c = client(daemon, holder=False)
    assert listed(c) == [] and c.list_caches() == [] and c.stats().realm.resources == 0
    # In one that is there it may be: as if it had been made for it.
    fields["session"] = new = opened()
    k = a.reclaim(i, with_descriptor=True, key=b"k", size=64, **fields).resource.instance
    assert k not in (0, i) and listed(c, session=new) == [("res", b"k", k)] and listed(c) == []
    b.reconnect(daemon.socket)
    assert b.held(kind=SEGMENT, session=new) == k
    assert a.reclaim(j, key=b"l", **(fields | {"cache": "x" * 101})).status == wire.INVALID


def test_qs44_nobody_claims_it(daemon, clock, opened, a, b, how):
    token = opened()
    i, j = made(a, token), made(a, token, LOCAL, key=b"l")
    assert b.held(kind=SEGMENT, session=token) == i
    assert a.lock(i).state == HELD
    renew(how, daemon, (a, i))
    come_back(daemon, token, (b, i))
    clock.advance(GRACE + 1)
    e = b.wait_event()
    assert (e.instance, e.cause, e.cache) == (i, pb.RESOURCE_UNCLAIMED, "res")
    assert b.acquire(kind=SEGMENT, session=token).resource.state == CREATE
    assert b.held(b"l", kind=LOCAL, session=token) == j
    wait_until(lambda: not b.events(), "that is all")
