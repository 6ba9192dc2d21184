# SPDX-License-Identifier: MIT
"""Resources and those who break off, lie or do not stop: nobody else is held up by it.

    QF0x  processes that end in the middle
    QF1x  descriptors: those that are refused, those that hold others, too many
    QF2x  segments that are not what they are said to be
    QF3x  the other end closes
    QF4x  checks that fail again and again, floods
"""

import ctypes
import fcntl
import os
import resource
import socket
import struct
import time

import pytest

import wire
from harness import wait_until
from holders import DIED, HEAD, NUMBER, SEALS, segment
from resource_world import a, b, c, client, listed, make_holder, no_grace, one, x  # noqa: F401
from wire import pb

SEGMENT, DESCRIPTOR, LOCAL = pb.RESOURCE_SEGMENT, pb.RESOURCE_DESCRIPTOR, pb.RESOURCE_LOCAL
HELD, CREATE, BUSY, TIMEOUT, FAILED = (pb.RESOURCE_HELD, pb.RESOURCE_CREATE, pb.RESOURCE_BUSY, pb.RESOURCE_TIMEOUT,
                                       pb.RESOURCE_FAILED)
MIB = 1 << 20


def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def publish(c, fd, key=b"k", kind=DESCRIPTOR, **more):
    """The reply to its publication by this process."""
    info = c.acquire(key, kind=kind).resource
    assert info.state == CREATE, info
    return c.publish(info.creation_id, fd, kind, **more)


# ---- processes that end

def test_qf01_a_child_goes_on_with_the_mapping_and_the_lock_is_free(a, b, c):
    """The lock is its holder's, which was the parent: whoever has copies of its memory and its sockets."""
    i = a.create_segment()
    b.held(kind=SEGMENT)
    assert a.lock(i).state == HELD
    child = a.fork()
    k = b.post("lock_resource", i)
    a.kill()
    info = b.wait(k).resource
    assert info.state == HELD and info.owner_died
    os.kill(child, 0)
    assert b.do("word", i) & NUMBER == b.number
    assert one(c).info.holders == 1


def test_qf02_the_same_without_anybody_who_waits(a, b, c):
    i = a.create_segment()
    b.held(kind=SEGMENT)
    a.do("set_word", i, a.number)
    child = a.fork()
    a.kill()
    wait_until(lambda: b.do("word", i) == DIED)
    os.kill(child, 0)
    info = b.lock(i, wait_ms=0)
    assert info.state == HELD and info.owner_died


def test_qf03_killed_in_the_middle_of_many_writes(make_holder, b):
    """Again and again: each time the next one is told, and nobody else's count is lost."""
    p = make_holder()
    i = p.create_segment(data=bytes(16))
    assert b.held(kind=SEGMENT) == i
    for n in range(5):
        assert p.lock(i).state == HELD
        p.do("write", i, 0, struct.pack("<Q", 1 << 40))
        k = b.post("lock_resource", i)
        p.kill()
        info = b.wait(k).resource
        assert info.state == HELD and info.owner_died
        b.do("write", i, 0, struct.pack("<Q", n))
        assert b.unlock(i) == wire.OK
        p = make_holder()
        assert p.held(kind=SEGMENT) == i
        assert p.do("count", i) == n + 1


def test_qf04_two_locks_in_a_circle_and_each_is_told_who_has_the_other(a, b):
    i, k = a.create_segment(b"1"), a.create_segment(b"2")
    b.held(b"1", kind=SEGMENT), b.held(b"2", kind=SEGMENT)
    assert a.lock(i).state == b.lock(k).state == HELD
    mine, theirs = a.post("lock_resource", k, wait_ms=60), b.post("lock_resource", i, wait_ms=90)
    info = a.wait(mine).resource
    assert (info.state, info.holder_pid, info.holder_uid) == (TIMEOUT, b.pid, os.getuid())
    info = b.wait(theirs).resource
    assert (info.state, info.holder_pid, info.holder_uid) == (TIMEOUT, a.pid, os.getuid())
    assert a.unlock(i) == b.unlock(k) == wire.OK


def test_qf05_a_circle_ends_with_either(a, b):
    i, k = a.create_segment(b"1"), a.create_segment(b"2")
    b.held(b"1", kind=SEGMENT), b.held(b"2", kind=SEGMENT)
    a.lock(i), b.lock(k)
    a.post("lock_resource", k)
    mine = b.post("lock_resource", i)
    a.kill()
    info = b.wait(mine).resource
    assert info.state == HELD and info.owner_died


def test_qf06_the_creator_is_killed_with_many_who_wait(make_holder):
    """One after the other: each gets the right, the last one publishes for nobody."""
    all_ = [make_holder() for _ in range(4)]
    all_[0].right(kind=SEGMENT)
    waits = [p.ask(kind=SEGMENT) for p in all_[1:]]
    for n, p in enumerate(all_[:-1]):
        p.kill()
        assert all_[n + 1].wait(waits[n]).resource.state == CREATE


# ---- descriptors

libc = ctypes.CDLL(None, use_errno=True)


def refused_files():
    """{what the daemon says: a descriptor}"""
    timer, watches = libc.timerfd_create(time.CLOCK_MONOTONIC, 0), libc.inotify_init1(0)
    mask = (ctypes.c_uint64 * 16)()
    signals = libc.signalfd(-1, mask, 0)
    assert min(timer, watches, signals) >= 0
    # A timer that is due and watches that have something are no less refused.
    libc.timerfd_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 0, 1), None)
    libc.inotify_add_watch(watches, b"/tmp", 0x100)
    return {"[timerfd]": timer, "inotify": watches, "[signalfd]": signals}


def test_qf10_anonymous_files_are_refused_by_name(c):
    right = c.acquire(kind=DESCRIPTOR).resource.creation_id
    for what, fd in refused_files().items():
        reply = c.publish(right, fd)
        assert reply.status == wire.INVALID and what in reply.error, reply
        os.close(fd)
    assert listed(c) == []


def test_qf11_connected_datagram_sockets_without_an_end(c):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        reply = publish(c, s.fileno())
        assert reply.status == wire.INVALID and "not connected" in reply.error


def test_qf12_both_ends_of_a_pair_are_kept(c):
    """Neither ends by itself then: they leave like all else, and their descriptors with them."""
    for n in range(50):
        with_, other = pair()
        i = publish(c, with_.fileno(), b"1").resource.instance
        k = publish(c, other.fileno(), b"2").resource.instance
        assert i and k
        with_.close(), other.close()
        c.ping()
        assert {r.info.instance for r in listed(c)} == {i, k}
        assert c.of("release_resource", i).status == c.of("release_resource", k).status == wire.OK
        c.clear("res")
        assert listed(c) == [] and not c.events, n


def test_qf13_the_other_end_is_held_by_its_own_queue(c):
    """A socket that only a message in its own pair holds: both are let go, whatever the order."""
    mine, other = pair()
    mine.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("ii", mine.fileno(), other.fileno()))])
    i = publish(c, other.fileno()).resource.instance
    mine.close(), other.close()
    c.ping()
    assert one(c).info.instance == i
    c.must("drop_resource", cache="res", key=b"k")
    assert c.of("release_resource", i).status == wire.OK
    wait_until(lambda: c.stats().realm.resources == 0)


def test_qf14_a_file_that_hangs_is_in_flight_in_it(c, hanging_file):
    """With the last of the socket's descriptors the daemon closes what is in its queue, too."""
    mine, other = pair()
    mine.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", hanging_file))])
    i = publish(c, other.fileno()).resource.instance
    other.close()
    start = time.monotonic()
    c.must("drop_resource", cache="res", key=b"k")
    c.of("release_resource", i)
    for _ in range(100):
        c.ping()
    assert time.monotonic() - start < 5
    wait_until(lambda: c.stats().realm.resources == 0)
    mine.close()


def test_qf15_a_connection_to_the_daemon_is_in_flight_in_it(daemon, c):
    """It stays open as long as that: a connection like any other, which ends with the resource."""
    n = len(c.must("list_clients").list_clients.clients)
    inner = client(daemon, holder=False, name="inner")
    mine, other = pair()
    mine.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", inner.sock.fileno()))])
    i = publish(c, other.fileno()).resource.instance
    mine.close(), other.close(), inner.close()
    e = c.wait_event()
    assert e.resource.cause == pb.RESOURCE_HUNG_UP
    assert len(c.must("list_clients").list_clients.clients) == n + 1
    assert c.of("release_resource", i).status == wire.OK
    wait_until(lambda: len(c.must("list_clients").list_clients.clients) == n)


def test_qf16_the_daemon_has_no_descriptor_left(daemon, c):
    """What comes then is refused, nothing of it is kept, and others are served as before."""
    mine, theirs = pair()
    made = publish(c, mine.fileno(), b"first").resource.instance
    used = max(int(fd) for fd in os.listdir(f"/proc/{daemon.pid}/fd"))
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    rights = [c.acquire(b"%d" % n, kind=DESCRIPTOR).resource.creation_id for n in range(20)]
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 5, hard))
    replies = [c.publish(right, mine.fileno()) for right in rights]
    assert {r.status for r in replies} == {wire.OK, wire.LIMIT}
    assert all("RLIMIT_NOFILE" in r.error for r in replies if r.status == wire.LIMIT)
    n = sum(r.status == wire.OK for r in replies)
    assert len(listed(c)) == n + 1
    other = client(daemon, holder=False, name="comes then")
    other.set("t", b"k", b"v")
    assert other.get("t", b"k") == b"v"
    other.close()
    # What leaves makes room, and a right that was not used is one yet.
    for r in replies:
        if r.status == wire.OK:
            assert c.of("release_resource", r.resource.instance, broken=True).status == wire.OK
    refused = rights[[r.status for r in replies].index(wire.LIMIT)]
    wait_until(lambda: c.publish(refused, mine.fileno()).status == wire.OK)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert c.acquire(b"first", kind=DESCRIPTOR).resource.instance == made
    mine.close(), theirs.close()


def test_qf17_it_has_none_to_send_either_and_need_not(daemon, a, c):
    """A reply carries what is there: that takes no descriptor of the daemon's."""
    i = a.create_segment(data=b"data")
    used = max(int(fd) for fd in os.listdir(f"/proc/{daemon.pid}/fd"))
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used, hard))
    try:
        reply = c.acquire(kind=SEGMENT)
        assert reply.resource.instance == i and reply.resource.descriptor
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
    fd = c.received.pop()
    assert os.pread(fd, 4, HEAD) == b"data"
    os.close(fd)


# ---- segments

def test_qf20_a_holder_cannot_change_its_size(a, b):
    i = a.create_segment(data=bytes(10000))
    b.held(kind=SEGMENT)
    for p in (a, b):
        assert p.do("resize", i, 0) == p.do("resize", i, HEAD + 10001) == "EPERM"
        assert p.do("punch", i, HEAD, 4096) in ("", "EPERM"), "which leaves its size as it was"
        assert len(p.do("read", i, 0, 10000)) == 10000
    assert b.do("word", i) == 0


def test_qf21_not_even_its_head_by_a_hole(a, b):
    """The head's page may be emptied by any holder: the daemon goes on, and believes nothing of it."""
    i = a.create_segment()
    b.held(kind=SEGMENT)
    assert a.lock(i).state == HELD
    b.do("punch", i, 0, HEAD)
    assert b.lock(i).state == HELD, "the word is nobody's"
    assert a.unlock(i) == wire.INVALID and b.unlock(i) == wire.OK
    assert a.lock(i).state == HELD


@pytest.mark.parametrize("what, error", [
    ("not sealed", "sealed"), ("sealed against growing only", "sealed"), ("too small", "bytes"), ("too large", "bytes"),
    ("smaller than its head", "bytes"), ("empty", "bytes"), ("a size that no file has", ""), ("no memory file", "memory file"),
    ("only for reading", "written"),
])
def test_qf22_what_is_said_and_what_it_is(c, tmp_path, what, error):
    size, status = 64, wire.INVALID
    fd = segment(bytes(64), seals={"not sealed": 0, "sealed against growing only": fcntl.F_SEAL_GROW}.get(what, SEALS))
    if what == "too small":
        size = 10000
    elif what == "too large":
        size = 1
    elif what == "smaller than its head":
        os.close(fd)
        fd = os.memfd_create("small", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, 64)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    elif what == "empty":
        os.close(fd)
        fd, size = os.memfd_create("empty", os.MFD_ALLOW_SEALING), 0
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    elif what == "a size that no file has":
        size, status = (1 << 64) - 1, wire.TOO_LARGE
    elif what == "no memory file":
        os.close(fd)
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, HEAD + 64)
    elif what == "only for reading":
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        os.close(fd)
        fd = again
    reply = publish(c, fd, kind=SEGMENT, size=size)
    assert reply.status == status and error in reply.error, reply
    os.close(fd)
    assert c.stats().realm.resource_bytes == 0 and listed(c) == []


def test_qf23_huge_pages(c):
    """Whose reservation can run out under whoever touches them."""
    try:
        fd = os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, 2 * MIB)
    except OSError as e:
        pytest.skip(f"no memory files with huge pages here: {e}")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    reply = publish(c, fd, kind=SEGMENT, size=2 * MIB - HEAD)
    assert reply.status == wire.INVALID and "MFD_HUGETLB" in reply.error
    os.close(fd)


def test_qf24_sealed_for_writing_and_said_to_be_writable(c):
    fd = segment(bytes(64), seals=SEALS | fcntl.F_SEAL_WRITE)
    reply = publish(c, fd, kind=SEGMENT, size=64)
    assert reply.status == wire.INVALID and "read_only" in reply.error
    os.close(fd)


def test_qf25_read_only_and_not_sealed_for_it(c):
    fd = segment(bytes(64))
    reply = publish(c, fd, kind=SEGMENT, size=64, read_only=True)
    assert reply.status == wire.INVALID and "F_SEAL_WRITE" in reply.error
    os.close(fd)


# ---- the other end closes

def accepted(a, server):
    i = a.create_connection(server.getsockname())
    theirs, _ = server.accept()
    return i, theirs


@pytest.fixture
def server():
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("")
        s.listen()
        yield s


def test_qf30_told_once_to_each_and_what_was_sent_is_there_yet(a, b, c, server):
    i, theirs = accepted(a, server)
    assert b.held(kind=DESCRIPTOR) == b.held(kind=DESCRIPTOR) == i
    theirs.send(b"last words")
    theirs.close()
    for p in (a, b):
        e = p.wait_event()
        assert (e.instance, e.cause) == (i, pb.RESOURCE_HUNG_UP)
    c.ping()
    assert a.events() == b.events() == []
    assert b.do("receive", i) == b"last words" and a.do("receive", i) == b""
    assert listed(c) == [] and c.stats("res").resources_hung_up == 1


def test_qf31_it_sends_no_more_but_listens(a, server):
    """Half of a stream is no connection to share."""
    i, theirs = accepted(a, server)
    theirs.shutdown(socket.SHUT_WR)
    assert a.wait_event().cause == pb.RESOURCE_HUNG_UP
    theirs.close()
    assert a.release(i) == wire.OK


def test_qf32_it_had_closed_before(c):
    mine, other = pair()
    other.close()
    reply = publish(c, mine.fileno())
    if reply.status == wire.OK:
        assert c.wait_event().resource.cause == pb.RESOURCE_HUNG_UP
    else:
        assert "not connected" in reply.error
    wait_until(lambda: listed(c) == [])
    mine.close()


def test_qf33_while_its_lock_is_held_and_waited_for(a, b, server):
    """It has left; the lock goes on among those who hold it."""
    i, theirs = accepted(a, server)
    b.held(kind=DESCRIPTOR)
    assert a.lock(i).state == HELD
    k = b.post("lock_resource", i)
    theirs.close()
    assert a.wait_event().cause == b.wait_event().cause == pb.RESOURCE_HUNG_UP
    assert a.unlock(i) == wire.OK and b.wait(k).resource.state == HELD
    a.lock(i, wait_ms=0)
    b.kill()
    assert a.acquire(kind=DESCRIPTOR).resource.state == CREATE


def test_qf34_many_at_once(c):
    """More than are looked at in one turn: each is told, none twice."""
    n = 300
    pairs = [pair() for _ in range(n)]
    made = {publish(c, mine.fileno(), b"%d" % k).resource.instance for k, (mine, _) in enumerate(pairs)}
    assert len(made) == n
    for mine, other in pairs:
        mine.close(), other.close()
    told = [c.wait_event().resource for _ in range(n)]
    assert {e.instance for e in told} == made and {e.cause for e in told} == {pb.RESOURCE_HUNG_UP}
    c.ping()
    assert not c.events and listed(c) == []


def test_qf35_nobody_holds_it(c):
    mine, other = pair()
    i = publish(c, mine.fileno()).resource.instance
    assert c.of("release_resource", i).status == wire.OK
    mine.close()
    other.close()
    wait_until(lambda: listed(c) == [])
    assert c.acquire(kind=DESCRIPTOR).resource.state == CREATE and not c.events


# ---- again and again

def test_qf40_pauses_of_checks_that_fail_grow_up_to_a_minute(clock, a, c):
    """The first one is free: what was there may have become bad by age."""
    pauses = []
    while len(pauses) < 9:
        info = a.acquire(kind=SEGMENT).resource
        if info.state == FAILED:
            pauses.append(info.retry_ms)
            assert info.reason == "bad"
            clock.advance(info.retry_ms + 1)
            c.ping()
            continue
        assert info.state == CREATE
        made = pb.Reply.FromString(a.do("publish_segment", info.creation_id, b"x", {})).resource.instance
        assert a.of("invalidate_resource", made, reason="bad").dropped.resources == 1
        assert a.release(made) == wire.OK
    seconds = [round(p / 1000) for p in pauses]
    assert seconds == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert c.stats("res").resource_failures == 10
    # Somebody who knows better ends it.
    made = a.create_segment()
    a.of("invalidate_resource", made, reason="bad")
    assert a.acquire(kind=SEGMENT).resource.state == FAILED
    c.clear("res")
    assert a.acquire(kind=SEGMENT).resource.state == CREATE


def test_qf41_one_that_was_good_for_long_is_replaced_at_once(clock, a, c):
    for _ in range(4):
        made = a.create_segment()
        clock.advance(61_000)
        c.ping()
        a.of("invalidate_resource", made, reason="old")
        a.release(made)


def test_qf42_twice_is_once(a, b):
    i = a.create_segment()
    b.held(kind=SEGMENT)
    assert a.of("invalidate_resource", i).dropped.resources == 1
    again = b.of("invalidate_resource", i)
    assert again.status == wire.OK and again.dropped.resources == 0
    assert a.acquire(kind=SEGMENT).resource.state == CREATE


def test_qf43_a_flood_of_asking_and_giving_back(daemon, a, c):
    """It makes nothing grow, and others are served meanwhile."""
    i = c.publish(c.acquire(kind=LOCAL).resource.creation_id, None, LOCAL).resource.instance
    assert a.held(kind=LOCAL) == i
    buffers = 0
    for _ in range(40):
        for _ in range(250):
            c.ask(kind=LOCAL)
            last = c.post("release_resource", instance=i, holder=c.holder)
        start = time.monotonic()
        a.do("ping")
        assert time.monotonic() - start < 10
        assert c.wait(last)[0].status == wire.OK
        buffers = max(buffers, a.call("stats").stats.daemon.buffer_bytes)
    assert buffers < 4 * MIB
    n = c.stats("res")
    assert (n.resources, n.resources_created, n.resources_acquired) == (1, 1, 10001)
    assert one(c).info.holders == 2


def test_qf44_a_flood_of_descriptors_to_one_that_does_not_read(daemon, a, c):
    """They are sent bit by bit, and not at all while it does not take them: the daemon keeps one."""
    i = a.create_segment(data=b"data")
    n = 90  # more than it answers unread, and less than what the socket has room for unread
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    asked = [c.ask(kind=SEGMENT) for _ in range(n)]
    a.do("ping")
    assert a.call("list_clients").status == wire.OK
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before + 2
    [me] = [m for m in a.call("list_clients").list_clients.clients if m.name == "test"]
    assert me.queued_bytes < 64 << 10 and me.requests < n, "it is not read from, either"
    for k in asked:
        reply, _ = c.wait(k)
        assert reply.status in (wire.OK, wire.LIMIT)
        if reply.status == wire.OK:
            assert reply.resource.instance == i
        while c.received:
            os.close(c.received.pop())
    assert one(c).info.holders == 2


def test_qf45_a_flood_of_events_to_one_that_does_not_read(make_daemon):
    """Its holds wait, one event each: what it does not hold (any more) it is not told of."""
    n = 2000
    d = make_daemon(limits={"resources_per_uid": n, "resources_per_realm": n})
    slow, busy = client(d), client(d, holder=False)
    for k in range(n):
        right = slow.acquire(b"%d" % k, kind=LOCAL).resource.creation_id
        assert slow.publish(right, None, LOCAL).status == wire.OK
    grown = 0
    for _ in range(5):
        busy.clear("res")
        for k in range(0, n, 50):
            busy.call("drop_resource", cache="res", key=b"%d" % k)
        grown = max(grown, busy.stats().daemon.buffer_bytes)
    assert grown < MIB
    told = set()
    while len(told) < n:
        reply, _ = slow.recv_any()
        assert reply.event.resource.instance not in told
        told.add(reply.event.resource.instance)
    slow.ping()
    assert not slow.events
