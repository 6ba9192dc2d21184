# SPDX-License-Identifier: MIT
"""Resources outlive the daemon: handed over, or killed and started again with its descriptors, or cold.

    Q7x  a handover, and a death with the descriptors kept: each holder goes on
    Q8x  what does not come back: owners, holders, hang-ups
    Q9x  descriptors and records that are nonsense
    QAx  a cold start: what processes have is registered anew
    QBx  killed at any moment, under load
"""

import contextlib
import os
import random
import select
import socket
import struct
import time

import pytest

import harness
import wire
from harness import wait_until
from holders import DIED, NUMBER, Holder
from resource_world import a, b, client, listed, make_holder, no_grace, x  # noqa: F401 (fixtures)
from test_q_resources import http_server  # noqa: F401 (fixture)
from test_t_takeover import close_all, kill, memory_files, names_for, start_with, take_over, takeover
from wire import pb

SEGMENT, DESCRIPTOR, LOCAL = pb.RESOURCE_SEGMENT, pb.RESOURCE_DESCRIPTOR, pb.RESOURCE_LOCAL
HELD, CREATE, BUSY = pb.RESOURCE_HELD, pb.RESOURCE_CREATE, pb.RESOURCE_BUSY
HELLO = {"features": pb.FEATURE_EVENTS | pb.FEATURE_RESOURCES}
GRACE = 10_000


def take_fd(pid, n):
    """A copy of another process's descriptor (pidfd_getfd)."""
    import ctypes
    pidfd = os.pidfd_open(pid)
    try:
        fd = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, n, 0)
    finally:
        os.close(pidfd)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    os.set_inheritable(fd, False)
    return fd


def kept_files(d, *instances):
    """All that a service manager would have of it."""
    files = [(f"R{n}", take_fd(holder.pid, holder.do("number_of", instance)))
             for n, (holder, instance) in enumerate(instances)]
    return names_for(memory_files(d.pid)) + files


def restart(d, *instances):
    """Killed, and started with what it had; @instances in the order in which they were published."""
    passed = kept_files(d, *instances)
    kill(d)
    start_with(d, passed)
    close_all(passed)


def renew(how, d, *instances):
    if how == "handed over":
        take_over(d)
    else:
        restart(d, *instances)


@pytest.fixture(params=["handed over", "killed"])
def how(request):
    return request.param


def come_back(d, *those):
    """(holder, [instance], ...): each comes again and claims; it is the one that it was."""
    for holder, *instances in those:
        was = holder.holder, holder.number
        info = holder.reconnect(d.socket)
        assert info.again and (info.holder, info.number) == was
        for i in instances:
            i, locked = i if isinstance(i, tuple) else (i, False)
            reply = holder.reclaim(i, locked=locked)
            assert reply.status == wire.OK and reply.resource.state == HELD, reply
            assert reply.resource.instance == i and not reply.resource.descriptor


# ---- going on

def test_q70_a_locked_segment(daemon, a, b, x, how):
    """The lock is its owner's across it; others get the same memory; nothing is created again."""
    i = a.create_segment(data=bytes(64))
    assert b.held(kind=SEGMENT) == i
    a.do("count", i, 3)
    assert a.lock(i).state == HELD
    renew(how, daemon, (a, i))
    come_back(daemon, (b, i), (a, (i, True)))
    assert b.lock(i, wait_ms=0).state == BUSY
    assert a.do("word", i) & NUMBER == a.number
    x.reconnect(daemon.socket)
    assert x.held(kind=SEGMENT) == i
    waiting = x.post("lock_resource", i)
    assert a.unlock(i) == wire.OK
    assert x.wait(waiting).resource.state == HELD
    assert x.unlock(i) == wire.OK
    assert [p.do("count", i) for p in (a, b, x)] == [4, 5, 6]
    c = client(daemon)
    r, = listed(c)
    assert r.info.instance == i and r.info.holders == 3 and r.uid == os.getuid() and r.pid == a.pid


def test_q71_a_socket_in_use(daemon, a, b, x, how):
    with http_server() as server:
        i = a.create_connection(server.server_address)
        assert b.held(kind=DESCRIPTOR) == i
        assert a.do("http", i, "/1")[1] == b"/1 of 1"
        renew(how, daemon, (a, i))
        come_back(daemon, (a, i), (b, i))
        assert b.do("http", i, "/2")[1] == b"/2 of 1"
        x.reconnect(daemon.socket)
        reply = x.acquire(kind=DESCRIPTOR).resource
        assert reply.instance == i and reply.descriptor and reply.what == "stream socket"
        assert x.do("http", i, "/3")[1] == b"/3 of 1"


@pytest.mark.parametrize("what", ["pipe", "socketpair", "eventfd"])
def test_q72_descriptors_of_other_kinds(daemon, a, b, how, what):
    i = a.create_fd(what)
    j = a.create_fd(what, b"other")
    renew(how, daemon, (a, i), (a, j))
    come_back(daemon, (a, i, j))
    b.reconnect(daemon.socket)
    for key, instance, number in ((b"k", i, 1), (b"other", j, 2)):
        assert b.held(key, kind=DESCRIPTOR) == instance
        data = struct.pack("<Q", number)
        b.do("use", instance, data)
        assert a.do("take", instance) == data


def test_q73_a_descriptors_lock_stays_its_owners(daemon, a, b, how):
    i = a.create_fd("socketpair")
    assert b.held(kind=DESCRIPTOR) == i
    assert a.lock(i).state == HELD
    renew(how, daemon, (a, i))
    come_back(daemon, (b, i))
    assert b.lock(i, wait_ms=0).state == BUSY
    waiting = b.post("lock_resource", i)
    come_back(daemon, (a, (i, True)))
    assert a.unlock(i) == wire.OK
    assert b.wait(waiting).resource.state == HELD
    assert a.lock(i, wait_ms=0).state == BUSY


def test_q74_a_lock_that_nobody_knows_of(daemon, a, b, how):
    """It was given in the last moment, and the answer was lost: it is given up in order."""
    i = a.create_fd("pipe")
    assert b.held(kind=DESCRIPTOR) == i
    assert a.lock(i).state == HELD
    renew(how, daemon, (a, i))
    come_back(daemon, (a, i), (b, i))
    assert b.lock(i, wait_ms=0).state == HELD
    assert a.reclaim(i, locked=True).status == wire.NOT_FOUND


def test_q75_a_pool(daemon, a, b, x, how):
    i = a.create_segment(pool=2)
    j = b.create_segment(pool=2)
    assert b.release(j) == wire.OK
    renew(how, daemon, (a, i), (b, j))
    come_back(daemon, (a, i), (b,))
    x.reconnect(daemon.socket)
    assert x.held(kind=SEGMENT, pool=2) == j
    assert b.acquire(kind=SEGMENT, pool=2, wait_ms=0).resource.state == BUSY
    assert a.release(i) == wire.OK
    assert b.held(kind=SEGMENT, pool=2) == i


def test_q76_a_local_one(daemon, a, b, how):
    i = a.create_local()
    assert b.held(kind=LOCAL) == i and b.held(kind=LOCAL) == i
    renew(how, daemon)
    come_back(daemon, (a, i), (b, i))
    assert b.lock(i).state == HELD and a.lock(i, wait_ms=0).state == BUSY
    c = client(daemon)
    r, = listed(c)
    assert {h.pid: (h.holds, h.locked) for h in r.holders} == {a.pid: (1, False), b.pid: (2, True)}
    assert c.must("drop_resource", cache="res", key=b"k").dropped.holders == 2
    assert a.wait_event().cause == b.wait_event().cause == pb.RESOURCE_DROPPED


def test_q77_again_and_again(daemon, a, b):
    """Both ways in turn; numbers of instances go on, and none is used twice."""
    seen = [a.create_segment()]
    for round_ in range(4):
        renew(("handed over", "killed")[round_ % 2], daemon, *((a, i) for i in seen))
        come_back(daemon, (a, *seen))
        seen.append(a.create_segment(b"%d" % round_))
    assert len(set(seen)) == 5 and seen == sorted(seen)
    assert len(listed(client(daemon))) == 5


def test_q78_its_deadline_goes_on(daemon, clock, a, how):
    i = a.create_segment(policy=pb.Policy(ttl_ms=60_000))
    clock.advance(20_000)
    renew(how, daemon, (a, i))
    come_back(daemon, (a, i))
    r, = listed(client(daemon))
    assert 30_000 < r.info.ttl_ms <= 40_000 and r.age_ms >= 20_000
    clock.advance(41_000)
    assert a.wait_event().cause == pb.RESOURCE_EXPIRED


def test_q79_what_has_left_is_gone(daemon, a, b, how):
    i = a.create_local()
    c = client(daemon)
    c.must("drop_resource", cache="res", key=b"k")
    renew(how, daemon)
    come_back(daemon, (a,))
    assert a.reclaim(i, cache="res", key=b"k").status == wire.NOT_FOUND
    assert a.acquire(kind=LOCAL).resource.state == CREATE


def test_q7a_who_waits_is_told_and_asks_the_next_one(daemon, a, b):
    """A right to create does not go over, and nobody waits for ever."""
    a.right(kind=SEGMENT)
    b.begin("wait", b.ask(kind=SEGMENT))
    take_over(daemon)
    assert pb.Reply.FromString(b.result()).status == wire.SHUTTING_DOWN
    come_back(daemon, (a,), (b,))
    assert b.acquire(kind=SEGMENT, wait_ms=0).resource.state == CREATE
    assert a.acquire(kind=SEGMENT, wait_ms=0).resource.state == BUSY


def test_q7b_a_thousand(make_daemon, make_holder):
    d = make_daemon()
    a, b = make_holder(d.socket), make_holder(d.socket)
    these = [a.create_local(b"l%d" % n) if n % 2 else a.create_segment(b"s%d" % n) for n in range(1000)]
    assert b.held(b"s998", kind=SEGMENT) == these[998]
    take_over(d)
    t = takeover(d)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (1000, 0, 0)
    come_back(d, (a, *these), (b, these[998]))
    b.do("write", these[998], 0, b"more")
    assert a.do("read", these[998], 0, 4) == b"more"
    a.do("drop_fds")


# ---- what does not come back

def test_q80_the_owner_of_a_lock_dies_meanwhile(daemon, a, b, x, how):
    i, j = a.create_segment(), a.create_fd("pipe", b"p")
    assert b.held(kind=SEGMENT) == i and b.held(b"p", kind=DESCRIPTOR) == j
    a.lock(i), a.lock(j)
    with contextlib.ExitStack() as at_end:
        if how == "killed":
            passed = kept_files(daemon, (a, i), (a, j))
            kill(daemon)
            a.finish()
            start_with(daemon, passed)
            close_all(passed)
        else:
            at_end.enter_context(daemon.stopped())
            a.kill()
            a.process.join()
    if how != "killed":
        take_over(daemon)
    come_back(daemon, (b, i))
    got = b.lock(i)
    assert got.state == HELD and got.owner_died
    assert b.reclaim(j).status == wire.NOT_FOUND
    assert b.acquire(b"p", kind=DESCRIPTOR).resource.state == CREATE


@pytest.mark.parametrize("kind", ["segment", "pipe", "pool"])
def test_q81_the_owner_of_a_lock_does_not_claim_it(daemon, clock, a, b, how, kind):
    if kind == "segment":
        i = a.create_segment()
        assert b.held(kind=SEGMENT) == i
    elif kind == "pipe":
        i = a.create_fd("pipe")
        assert b.held(kind=DESCRIPTOR) == i
    else:
        i = a.create_segment(pool=1)
    if kind != "pool":
        a.lock(i)
    renew(how, daemon, (a, i))
    come_back(daemon, (b, i) if kind != "pool" else (b,))
    clock.advance(GRACE + 1)
    if kind != "pool":
        assert b.wait_event().cause == pb.RESOURCE_UNCLAIMED
    c = client(daemon)
    wait_until(lambda: listed(c) == [], "it is gone")
    assert not a.reconnect(daemon.socket).again


def test_q82_holds_that_are_not_claimed_are_given_up(daemon, clock, a, b, how):
    i, j = a.create_segment(), a.create_segment(b"j")
    assert b.held(kind=SEGMENT) == i
    renew(how, daemon, (a, i), (a, j))
    come_back(daemon, (a, j), (b, i))
    clock.advance(GRACE + 1)
    c = client(daemon)
    wait_until(lambda: {r.info.instance: r.info.holders for r in listed(c)} == {i: 1, j: 1}, "one of them is given up")
    assert a.release(i) == wire.NOT_FOUND and a.release(j) == wire.OK
    assert a.events() == []


def test_q83_the_other_end_closes(daemon, a, b, how):
    i = a.create_fd("socketpair")
    j = a.create_fd("socketpair", b"j")
    renew(how, daemon, (a, i), (a, j))
    come_back(daemon, (a, i, j))
    a.do("close_end", i)
    e = a.wait_event()
    assert (e.instance, e.cause, e.key) == (i, pb.RESOURCE_HUNG_UP, b"k")


def test_q84_it_had_closed_in_between(daemon, a):
    i = a.create_fd("socketpair")
    passed = kept_files(daemon, (a, i))
    kill(daemon)
    a.do("close_end", i)
    start_with(daemon, passed)
    close_all(passed)
    assert a.reconnect(daemon.socket).again
    assert a.reclaim(i).status == wire.NOT_FOUND


def test_q85_another_process_does_not_take_it_up(daemon, a, b, how):
    i = a.create_segment()
    renew(how, daemon, (a, i))
    c = client(daemon, holder=False)
    assert not c.open_holder(before=a.holder).again
    assert c.of("reclaim_resource", i).status == wire.NOT_FOUND
    come_back(daemon, (a, i))


def test_q86_all_holds_at_once(daemon, a, b):
    i = a.create_local()
    for _ in range(3):
        assert a.held(kind=LOCAL) == i
    assert a.release(i) == wire.OK
    renew("killed", daemon)
    come_back(daemon, (a, i))
    c = client(daemon)
    assert listed(c)[0].holders[0].holds == 3
    assert a.release(i, all=True) == wire.OK
    assert a.release(i) == wire.NOT_FOUND
    assert listed(c)[0].info.holders == 0


def test_q87_a_handover_that_fails(daemon, a, b):
    """The old one goes on; what happened while it stood still is seen then."""
    i, j = a.create_fd("socketpair"), b.create_segment(b"s")
    assert a.held(b"s", kind=SEGMENT) == j
    b.lock(j)
    with wire.Client(daemon.socket) as c:
        c.send(wire.request(1, "handover", protocol=handover_protocol(), version="test"))
        wait_until(lambda: "handing over" in daemon.log(), "it begins")
        assert c.recv()[0].status == wire.OK  # it stands still
        a.do("close_end", i)
        b.kill()
        b.process.join()
    wait_until(daemon.answers, "the old one goes on")
    assert a.reconnect(daemon.socket).again
    wait_until(lambda: {(e, c) for e, c in a.events()} == {(i, pb.RESOURCE_HUNG_UP)}, "the other end had closed")
    got = a.lock(j, wait_ms=5000)  # half the grace
    assert got.state == HELD and got.owner_died


def test_q88_no_room_to_remember_one(make_daemon, make_holder):
    """It is refused then, and what is there stays; sessions make room before that."""
    d = make_daemon(memory={"session_budget": "128K", "uid_share": "100%"})
    c = d.client()
    session = c.must("open_session", idle_ms=60_000).session.token
    a = make_holder(d.socket)

    def fill(name):
        these = []
        while True:
            right = a.right(b"%s%04d" % (name, len(these)), kind=LOCAL)
            reply = a._reply(a.do("publish_local", right))
            if reply.status != wire.OK:
                assert reply.status == wire.NO_SPACE and "session_budget" in reply.error, reply
                return these, right
            these.append(reply.resource.instance)
    these, right = fill(b"a")
    assert len(these) > 100
    assert c.call("session_get", token=session)[0].status == wire.NOT_FOUND
    assert a.call("end_creation", creation_id=right).status == wire.OK
    take_over(d)
    assert takeover(d).resources_kept == len(these)
    come_back(d, (a, *these))
    # What nobody holds makes room.
    for i in these[:10]:
        assert a.release(i) == wire.OK
    new, _ = fill(b"b")
    assert len(new) >= 10
    assert {r.info.instance for r in listed(client(d, holder=False))} == {*these[10:], *new}
    for i in these[10:] + new:
        assert a.release(i) == wire.OK


def handover_protocol():
    import pathlib
    import re
    text = (pathlib.Path(__file__).parents[2] / "daemon/dispatch/handover-wire.h").read_text()
    return int(re.search(r"define HANDOVER_PROTOCOL +(\d+)", text)[1])


# ---- descriptors and records that are nonsense

def forged(what):
    """Something else in the place of a pipe."""
    if what == "directory":
        return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if what == "listening":
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        s.listen()
        return s.detach()
    if what == "epoll":
        with select.epoll() as e:
            return os.dup(e.fileno())
    if what == "another pipe":
        r, w = os.pipe()
        os.close(w)
        return r
    if what == "memory":
        return os.memfd_create("x", os.MFD_CLOEXEC)
    return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


@pytest.mark.parametrize("what", ["directory", "listening", "epoll", "another pipe", "memory", "device"])
def test_q90_a_descriptor_that_is_another_one(daemon, a, b, what):
    i, j = a.create_fd("pipe"), a.create_fd("pipe", b"j")
    passed = kept_files(daemon, (a, i), (a, j))
    os.close(dict(passed)["R0"])
    passed = [(name, forged(what) if name == "R0" else fd) for name, fd in passed]
    kill(daemon)
    start_with(daemon, passed)
    close_all(passed)
    t = takeover(daemon)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (1, 1, 1), t
    assert any(str(i) in r for r in t.reasons) and any(" R0 " in r for r in t.reasons), t.reasons
    come_back(daemon, (a, j))
    assert a.reclaim(i).status == wire.NOT_FOUND
    b.reconnect(daemon.socket)
    assert b.acquire(kind=DESCRIPTOR).resource.state == CREATE
    # It is not asked for again.
    renew("handed over", daemon)
    assert takeover(daemon).resources_dropped == 0


def test_q91_a_segment_that_is_another_one(daemon, a):
    """Of the same size, and unsealed: whoever has it could take its memory away."""
    i = a.create_segment()
    passed = [(name, fd) for name, fd in kept_files(daemon, (a, i)) if name != "R0"]
    fd = os.memfd_create("x", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4096 + 64)
    passed.append(("R0", fd))
    kill(daemon)
    start_with(daemon, passed)
    close_all(passed)
    assert takeover(daemon).resources_dropped == 1
    assert a.reconnect(daemon.socket).again
    assert a.reclaim(i).status == wire.NOT_FOUND


def test_q92_a_record_without_a_descriptor(daemon, a, b):
    i, j = a.create_segment(), a.create_local(b"j")
    assert b.held(kind=SEGMENT) == i
    restart(daemon)
    t = takeover(daemon)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (1, 1, 0), t
    come_back(daemon, (a, j), (b,))
    assert a.reclaim(i).status == b.reclaim(i).status == wire.NOT_FOUND


def test_q93_a_descriptor_without_a_record(daemon, a):
    i = a.create_fd("pipe")
    passed = kept_files(daemon, (a, i))
    passed += [(name, os.dup(passed[-1][1])) for name in ("R1", "R0", "Rzzzz", "R01", "Rx-", "R")]
    kill(daemon)
    start_with(daemon, passed)
    close_all(passed)
    t = takeover(daemon)
    assert (t.resources_kept, t.resources_dropped, t.descriptors_dropped) == (1, 0, 6), t
    come_back(daemon, (a, i))


@pytest.mark.parametrize("seed", range(4))
def test_q94_records_that_are_damaged(make_daemon, make_holder, seed):
    """A daemon that finds any bytes in them begins all the same, and serves."""
    rng = random.Random(seed)
    d = make_daemon()
    name = bytes(rng.randrange(256) for _ in range(40))
    a = make_holder(d.socket)
    for _ in range(5):
        these = [a.create_fd("pipe", name + b"%d" % n) for n in range(4)]
        a.lock(these[0])
        passed = kept_files(d, *((a, i) for i in these))
        kill(d)
        hits = 0
        for _, fd in passed:
            if "memfd:cached:arena" in os.readlink(f"/proc/self/fd/{fd}"):
                hits += damage(rng, fd, name)
        assert hits > 0
        start_with(d, passed)
        close_all(passed)
        a.reconnect(d.socket)
        for i in these:
            a.reclaim(i)
        with d.probe() as c:
            c.clear()


def damage(rng, fd, name):
    """Other bytes around the name; how many places."""
    size, at, n = os.fstat(fd).st_size, 0, 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(fd, at, os.SEEK_HOLE)
        data = os.pread(fd, end - at, at)
        found = data.find(name)
        while found >= 0:
            n += 1
            for _ in range(rng.randrange(1, 4)):
                os.pwrite(fd, bytes([rng.randrange(256)]), at + found - rng.randrange(1, 84))
            found = data.find(name, found + 1)
        at = end
    return n


# ---- a cold start

def cold(d):
    kill(d)
    d.socket.unlink(missing_ok=True)
    d.process = d.spawn()
    wait_until(d.answers, "it answers")


def test_qa0_a_local_one_is_registered_anew(daemon, a, b, x):
    i = a.create_local()
    assert b.held(kind=LOCAL) == i
    cold(daemon)
    for p in (a, b):
        number = p.number
        info = p.reconnect(daemon.socket)
        assert not info.again and info.number == number
    j = a.reclaim(i, cache="res", key=b"k").resource.instance
    assert j not in (0, i)
    assert b.reclaim(i, cache="res", key=b"k").resource.instance == j
    x.reconnect(daemon.socket)
    assert x.held(kind=LOCAL) == j
    c = client(daemon)
    r, = listed(c)
    assert r.info.holders == 3
    c.must("drop_resource", cache="res", key=b"k")
    assert a.wait_event().instance == b.wait_event().instance == x.wait_event().instance == j
    # Whoever was told of that does not bring it back.
    assert a.reclaim(j, cache="res", key=b"k").status == wire.NOT_FOUND


def reclaim_segment(p, i, key=b"k", size=64, **more):
    return p.reclaim(i, with_descriptor=True, cache="res", key=key, size=size, **more)


@pytest.mark.parametrize("by_word", [True, False])
def test_qa1_a_locked_segment_is_registered_anew(daemon, a, b, x, by_word):
    i = a.create_segment()
    assert b.held(kind=SEGMENT) == i
    a.do("write", i, 0, b"data")
    if by_word:
        assert a.do("exchange", i, 0, a.number)
    else:
        a.lock(i)
        b.post("lock_resource", i)
    cold(daemon)
    b.reconnect(daemon.socket)
    j = reclaim_segment(b, i).resource.instance
    assert j not in (0, i)
    assert b.lock(j, wait_ms=0).state == BUSY
    x.reconnect(daemon.socket)
    assert x.held(kind=SEGMENT) == j and x.do("read", j, 0, 4) == b"data"
    number = a.number
    assert a.reconnect(daemon.socket).number == number
    waiting = x.post("lock_resource", j)
    assert reclaim_segment(a, i).resource.instance == j
    assert a.unlock(j) == wire.OK
    got = x.wait(waiting).resource
    assert got.state == HELD and not got.owner_died
    c = client(daemon)
    r, = listed(c)
    assert {h.pid: h.holds for h in r.holders} == {a.pid: 1, b.pid: 1, x.pid: 1}


def test_qa2_the_owner_of_its_lock_does_not_come(daemon, clock, a, b):
    i = a.create_segment()
    assert b.held(kind=SEGMENT) == i
    a.lock(i)
    cold(daemon)
    b.reconnect(daemon.socket)
    j = reclaim_segment(b, i).resource.instance
    clock.advance(GRACE + 1)
    e = b.wait_event()
    assert (e.instance, e.cause) == (j, pb.RESOURCE_UNCLAIMED)
    a.reconnect(daemon.socket)
    assert a.acquire(kind=SEGMENT).resource.state == CREATE


def test_qa3_another_one_is_there_by_now(daemon, a, b, x):
    i = a.create_segment()
    assert b.held(kind=SEGMENT) == i
    j = b.create_local(b"l")
    cold(daemon)
    for p in (a, b, x):
        p.reconnect(daemon.socket)
    right = x.right(kind=SEGMENT)
    assert reclaim_segment(a, i).status == wire.NOT_FOUND  # it is being created
    new = x._reply(x.do("publish_segment", right, bytes(64), {})).resource.instance
    assert reclaim_segment(b, i).status == wire.NOT_FOUND
    assert x.create_segment(b"l") != j
    assert b.reclaim(j, cache="res", key=b"l").status == wire.INVALID
    assert [(r.info.instance, r.info.holders) for r in listed(client(daemon))][0] == (new, 1)


def test_qa4_what_is_checked(daemon, a, b):
    i, j = a.create_segment(), a.create_fd("pipe", b"p")
    cold(daemon)
    a.reconnect(daemon.socket)
    assert reclaim_segment(a, i, size=65).status == wire.INVALID
    assert reclaim_segment(a, j, size=64).status == wire.INVALID
    assert reclaim_segment(a, i, read_only=True).status == wire.INVALID
    assert reclaim_segment(a, i, key=b"x" * 65).status == wire.INVALID
    assert a.reclaim(i).status == a.reclaim(j).status == wire.NOT_FOUND
    c = client(daemon)
    assert listed(c) == []
    assert reclaim_segment(a, i, policy=pb.Policy(ttl_ms=1000)).status == wire.OK
    r, = listed(c)
    assert 0 < r.info.ttl_ms <= 1000


def test_qa5_a_number_that_is_taken(daemon, a, b):
    cold(daemon)
    a.reconnect(daemon.socket)
    c = client(daemon, holder=False)
    assert c.open_holder(before=1, before_number=a.number).number != a.number
    other = client(daemon, holder=False)
    assert other.open_holder(before_number=1 << 30).number < 1 << 30


def test_qa6_no_room_for_the_owner_of_a_lock(make_daemon, make_holder):
    """What is kept for it stays so: it may find room later."""
    d = make_daemon(memory={"session_budget": "128K", "uid_share": "100%"})
    a, b = make_holder(d.socket), make_holder(d.socket)
    i = a.create_segment()
    assert b.held(kind=SEGMENT) == i
    a.lock(i)
    cold(d)
    b.reconnect(d.socket)
    j = reclaim_segment(b, i).resource.instance
    these = []
    while (reply := b.reclaim(0, cache="res", key=b"%d" % len(these))).status == wire.OK:
        these.append(reply.resource.instance)
    assert reply.status == wire.NO_SPACE

    def opened(number):
        return client(d, holder=False).call("open_holder", before_number=number)[0]
    while (reply := opened(0)).status == wire.OK:
        pass
    assert reply.status == opened(a.number).status == wire.NO_SPACE
    assert b.lock(j, wait_ms=0).state == BUSY
    assert all(b.release(n) == wire.OK for n in these)
    assert opened(a.number).holder.number == a.number
    assert b.lock(j, wait_ms=0).state == BUSY


def test_qa7_its_owner_comes_to_the_next_one(daemon, a, b, how):
    """A lock is kept for an owner that has not come yet, also by a daemon that takes over from one that did so."""
    i = a.create_segment()
    assert b.held(kind=SEGMENT) == i
    a.lock(i)
    cold(daemon)
    b.reconnect(daemon.socket)
    j = reclaim_segment(b, i).resource.instance
    renew(how, daemon, (b, j))
    come_back(daemon, (b, j))
    assert b.lock(j, wait_ms=0).state == BUSY
    waiting = b.post("lock_resource", j)
    number = a.number
    assert a.reconnect(daemon.socket).number == number
    assert reclaim_segment(a, i).resource.instance == j
    assert a.unlock(j) == wire.OK
    got = b.wait(waiting).resource
    assert got.state == HELD and not got.owner_died
    assert listed(client(daemon))[0].info.holders == 2


# ---- at any moment

def resource_names(d, keys, behind=0):
    """(R name, descriptor) of a stopped daemon, by the records in its memory; the name of the cache begins so many
    bytes before "res"."""
    places = {}
    for fd in memory_files(d.pid)["arena"]:
        for key in keys:
            for value in find_records(fd, b"res" + key, behind):
                place, = struct.unpack_from("<I", value, 12)
                ino, = struct.unpack_from("<Q", value, 72)
                places.setdefault(ino, set()).add(place)
        os.close(fd)
    out = []
    for n in os.listdir(f"/proc/{d.pid}/fd"):
        try:
            ino = os.stat(f"/proc/{d.pid}/fd/{n}").st_ino
        except OSError:
            continue
        for place in sorted(places.get(ino, ())):
            if "pipe:" in os.readlink(f"/proc/{d.pid}/fd/{n}"):
                out.append((f"R{place}", take_fd(d.pid, int(n))))
    return list({name: (name, fd) for name, fd in out}.values())


def find_records(fd, tail, behind=0):
    """Values of 80 bytes that end so many bytes before @tail begins."""
    size, at = os.fstat(fd).st_size, 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, at, os.SEEK_HOLE)
        data = os.pread(fd, end - at, at)
        found = data.find(tail)
        while found >= 0:
            if found >= behind + 80:
                yield data[found - behind - 80:found - behind]
            found = data.find(tail, found + 1)
        at = end


@pytest.mark.parametrize("seed", range(10 if harness.LONG else 1))
def test_qb0_killed_under_load(make_daemon, make_holder, tmp_path, seed):
    """Nobody is told to have a lock that another one has, whenever the daemon dies or is taken over from."""
    killed_under_load(make_daemon(), make_holder, tmp_path, seed)


def killed_under_load(d, make_holder, tmp_path, seed, session=None):
    rng = random.Random(seed)
    holders = [make_holder(d.socket) for _ in range(4)]
    rounds = 20
    for n, p in enumerate(holders):
        p.begin("load", d.socket, str(tmp_path), seed * 100 + n, 8, session)
    for _ in range(rounds):
        time.sleep(rng.random() * 0.25)
        if rng.random() < 0.3:
            take_over(d)
            continue
        with d.stopped():
            passed = names_for(memory_files(d.pid)) + resource_names(d, (b"pipe",), 16 if session else 0)
            d.process.kill()
        d.process.wait()
        start_with(d, passed)
        close_all(passed)
    results = [p.result() for p in holders]
    assert not any(wrong for _, _, wrong in results), results
    assert all(again > 0 for _, again, _ in results) and sum(done for done, _, _ in results) > rounds, results
