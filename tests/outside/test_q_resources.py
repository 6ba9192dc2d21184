# SPDX-License-Identifier: MIT
"""Resources, from several real processes: made once, shared, locked, and told when they leave.

    Q0x  holders
    Q1x  creating: the right, those who wait, failures
    Q2x  segments and their locks
    Q3x  descriptors
    Q4x  leaving: events, causes
    Q5x  pools, local ones, lists
    Q6x  limits, and what is refused
"""

import contextlib
import fcntl
import http.server
import os
import select
import socket
import struct
import threading
import time

import pytest

import harness
import holders
import wire
from harness import wait_until
from holders import DIED, HEAD, NUMBER, SEALS, WAITERS, segment
from resource_world import a, b, c, client, listed, make_holder, no_grace, one, x  # noqa: F401
from wire import pb

SEGMENT, DESCRIPTOR, LOCAL = pb.RESOURCE_SEGMENT, pb.RESOURCE_DESCRIPTOR, pb.RESOURCE_LOCAL
HELD, CREATE, BUSY, TIMEOUT, FAILED = (pb.RESOURCE_HELD, pb.RESOURCE_CREATE, pb.RESOURCE_BUSY, pb.RESOURCE_TIMEOUT,
                                       pb.RESOURCE_FAILED)


# ---- holders

def test_q01_a_holder_has_a_number_of_its_own(a, b, c):
    assert c.info.features & pb.FEATURE_RESOURCES
    assert len({a.holder, b.holder, c.holder}) == len({a.number, b.number, c.number}) == 3
    assert 0 not in (a.holder, b.holder, c.holder)
    assert all(0 < n <= NUMBER for n in (a.number, b.number, c.number))


def test_q02_once_on_a_connection_and_only_with_its_features(daemon, c):
    reply, _ = c.call("open_holder")
    assert reply.status == wire.INVALID and "already" in reply.error
    for features in (0, pb.FEATURE_EVENTS, pb.FEATURE_RESOURCES):
        other = client(daemon, features=features, holder=False)
        reply, _ = other.call("open_holder")
        assert reply.status == wire.INVALID and "FEATURE_RESOURCES" in reply.error


def test_q03_a_number_that_nobody_has(daemon, c):
    reply = c.acquire(holder=c.holder ^ 1, kind=SEGMENT)
    assert reply.status == wire.INVALID and "no such holder" in reply.error


def test_q04_the_number_of_another_uid_or_realm(make_daemon):
    harness.needs_root()
    daemon = make_daemon(daemon={"socket_mode": "0666"}, extra="[realm shared]\nwriters = 12345\n")
    mine = client(daemon, realm="shared")
    error = client(daemon).acquire(holder=5, kind=SEGMENT).error
    for other in (client(daemon, uid=12345, realm="shared"), client(daemon)):
        reply = other.acquire(holder=mine.holder, kind=SEGMENT)
        assert reply.status == wire.INVALID and reply.error == error


def test_q05_a_lost_connection_comes_again(daemon, a, b):
    i = a.create_segment()
    a.do("lose_bell")
    assert b.held(kind=SEGMENT) == i
    reply = pb.HolderInfo.FromString(a.do("come_again", daemon.socket))
    assert (reply.holder, reply.number, reply.again) == (a.holder, a.number, True)
    assert a.lock(i).state == HELD
    assert b.call("drop_resource", cache="res", key=b"k").dropped.holders == 2
    assert a.wait_event().instance == i


def test_q06_what_left_meanwhile_is_told_then(daemon, a, b):
    i = a.create_segment()
    a.do("lose_bell")
    wait_until(lambda: len(b.call("list_clients").list_clients.clients) == 3)
    b.call("drop_resource", cache="res", key=b"k")
    a.do("come_again", daemon.socket)
    assert a.wait_event().cause == pb.RESOURCE_DROPPED
    assert a.release(i) == wire.OK and a.release(i) == wire.NOT_FOUND


def test_q07_but_not_for_ever(daemon, clock, a, c):
    a.create_segment()
    a.do("lose_bell")
    wait_until(lambda: len(c.clients()) == 2)
    clock.advance(9000)
    c.ping()
    assert one(c).info.holders == 1
    clock.advance(2000)
    c.ping()
    assert one(c).info.holders == 0
    info = pb.HolderInfo.FromString(a.do("come_again", daemon.socket))
    assert not info.again and info.holder != a.holder


def test_q08_another_process_does_not_take_it_up(daemon, a, c):
    other = client(daemon, holder=False)
    info = other.open_holder(before=a.holder)
    assert not info.again and info.holder != a.holder


def test_q09_the_end_of_the_process_ends_it_whoever_has_its_sockets(a, c):
    i = a.create_segment()
    assert c.acquire(kind=SEGMENT).resource.instance == i
    a.fork()
    a.kill()
    wait_until(lambda: one(c).info.holders == 1)


def test_q0a_the_end_of_a_process_is_at_the_time_of_all_else(clock, a, c):
    a.create_segment()
    clock.advance(100000)
    a.kill()
    wait_until(lambda: one(c).info.holders == 0)
    r = one(c)
    assert r.age_ms >= 100000 and r.unused_ms < 50000


# ---- creating

def test_q10_one_creates_and_the_others_wait_for_it(a, b, x):
    right = a.right(kind=SEGMENT)
    i, k = b.ask(kind=SEGMENT), x.ask(kind=SEGMENT)
    assert b.acquire(kind=SEGMENT, wait_ms=0).resource.state == BUSY
    a.do("publish_segment", right, b"made once", {})
    one, two = b.wait(i).resource, x.wait(k).resource
    assert one.state == two.state == HELD and one.instance == two.instance != 0
    assert one.descriptor and one.size == 9 and one.kind == SEGMENT
    assert b.do("read", one.instance, 0, 9) == x.do("read", one.instance, 0, 9) == b"made once"


def test_q11_who_creates_is_told(a, b):
    a.right(kind=SEGMENT)
    busy = b.acquire(kind=SEGMENT, wait_ms=0).resource
    assert (busy.state, busy.holder_pid, busy.holder_uid) == (BUSY, a.pid, os.getuid())


def test_q12_a_wait_has_an_end(a, b):
    a.right(kind=SEGMENT)
    info = b.acquire(kind=SEGMENT, wait_ms=50).resource
    assert info.state == TIMEOUT and info.waited_ms >= 50 and info.holder_pid == a.pid


def test_q13_the_right_goes_on_when_its_owner_is_killed(a, b, x):
    a.right(kind=SEGMENT)
    i = b.ask(kind=SEGMENT)
    a.kill()
    assert b.wait(i).resource.state == CREATE
    k = x.ask(kind=SEGMENT)
    b.kill()
    assert x.wait(k).resource.state == CREATE


def test_q14_giving_up_without_a_reason(a, b):
    right = a.right(kind=SEGMENT)
    i = b.ask(kind=SEGMENT)
    assert a.call("end_creation", creation_id=right).status == wire.OK
    assert b.wait(i).resource.state == CREATE
    assert a.call("end_creation", creation_id=right).status == wire.NOT_FOUND


def test_q15_a_failure_is_shared_and_makes_a_pause_that_grows(daemon, clock, a, b):
    pause = 0
    for _ in range(3):
        right = a.right(kind=SEGMENT)
        i = b.ask(kind=SEGMENT)
        assert a.call("end_creation", creation_id=right, reason="no model").status == wire.OK
        info = b.wait(i).resource
        assert info.state == FAILED and info.reason == "no model" and info.retry_ms > pause
        pause = info.retry_ms
        assert b.acquire(kind=SEGMENT).resource.state == FAILED
        clock.advance(pause + 1)


def test_q16_the_right_is_its_holders(make_daemon, make_holder):
    harness.needs_root()
    daemon = make_daemon(daemon={"socket_mode": "0666"})
    c, a = client(daemon), make_holder(daemon.socket)
    right = a.right(kind=LOCAL)
    other = client(daemon, uid=12345)
    assert other.publish(right, None, LOCAL).status == wire.NOT_FOUND
    assert other.call("end_creation", creation_id=right)[0].status == wire.NOT_FOUND
    assert c.publish(right, None, LOCAL).status == wire.OK


def test_q17_without_the_right(c):
    assert c.acquire(kind=SEGMENT, no_create=True).status == wire.NOT_FOUND
    assert c.publish(12345, None, LOCAL).status == wire.NOT_FOUND


def test_q18_who_has_it_gets_no_descriptor_again(a):
    i = a.create_segment()
    assert not a.acquire(kind=SEGMENT, have_instance=i).resource.descriptor
    assert a.acquire(kind=SEGMENT, have_instance=i + 1).resource.descriptor


# ---- segments

def test_q20_a_counter_in_a_segment_reads_2_3_4(a, b, x):
    i = a.create_segment(data=struct.pack("<Q", 1))
    assert b.held(kind=SEGMENT) == x.held(kind=SEGMENT) == i
    assert [p.do("count", i) for p in (a, b, x)] == [2, 3, 4]


def test_q21_many_increments_of_several_processes_and_none_is_lost(make_holder, a):
    i = a.create_segment(data=bytes(8))
    others = [make_holder() for _ in range(4)]
    for p in others:
        assert p.held(kind=SEGMENT) == i
        p.begin("count", i, 200)
    for p in others:
        p.result()
    assert struct.unpack("<Q", a.do("read", i, 0, 8))[0] == 800
    assert a.do("word", i) == 0


def test_q22_locks_are_given_in_the_order_of_asking(a, b, x):
    i = a.create_segment()
    b.held(kind=SEGMENT), x.held(kind=SEGMENT)
    assert a.lock(i).state == HELD
    assert a.do("word", i) == a.number
    one, two = b.post("lock_resource", i), x.post("lock_resource", i)
    assert a.do("word", i) == a.number | WAITERS
    assert a.unlock(i) == wire.OK
    assert b.wait(one).resource.state == HELD
    assert a.do("word", i) == b.number | WAITERS
    assert b.unlock(i) == wire.OK
    assert x.wait(two).resource.state == HELD
    assert a.do("word", i) == x.number
    assert b.unlock(i) == wire.INVALID


def test_q23_a_lock_that_was_taken_without_the_daemon(a, b):
    """As libraries do: the word alone."""
    i = a.create_segment()
    b.held(kind=SEGMENT)
    a.do("set_word", i, a.number)
    busy = b.lock(i, wait_ms=0)
    assert (busy.state, busy.holder_pid) == (BUSY, a.pid)
    k = b.post("lock_resource", i)
    assert a.do("word", i) == a.number | WAITERS
    assert a.unlock(i) == wire.OK and b.wait(k).resource.state == HELD


@pytest.mark.parametrize("waits", [True, False])
def test_q24_the_owner_is_killed_in_the_middle(a, b, waits):
    i = a.create_segment()
    b.held(kind=SEGMENT)
    a.do("set_word", i, a.number)
    a.do("write", i, 0, b"half")
    k = b.post("lock_resource", i) if waits else None
    a.kill()
    if not waits:
        a.process.join()
        wait_until(lambda: b.do("word", i) == DIED)
        k = b.post("lock_resource", i)
    info = b.wait(k).resource
    assert info.state == HELD and info.owner_died
    assert b.do("word", i) & NUMBER == b.number
    assert b.unlock(i) == wire.OK
    info = b.lock(i)
    assert info.state == HELD and not info.owner_died


def test_q25_a_deadline_ends_a_circle_of_two(a, b):
    i, k = a.create_segment(b"1"), a.create_segment(b"2")
    assert b.held(b"1", kind=SEGMENT) == i and b.held(b"2", kind=SEGMENT) == k
    assert a.lock(i).state == b.lock(k).state == HELD
    one = a.post("lock_resource", k, wait_ms=100)
    two = b.post("lock_resource", i)
    assert a.wait(one).resource.state == TIMEOUT
    assert a.unlock(i) == wire.OK and b.wait(two).resource.state == HELD


def test_q26_waiting_for_oneself(a):
    i = a.create_segment()
    a.lock(i)
    reply = a.of("lock_resource", i)
    assert reply.status == wire.INVALID and "already" in reply.error


@pytest.mark.parametrize("word", [0x3fffffff, DIED, WAITERS, DIED | WAITERS, 0xffffffff])
def test_q27_nonsense_in_the_word_is_nobodys_lock(a, b, word):
    i = a.create_segment()
    b.held(kind=SEGMENT)
    a.do("set_word", i, word)
    assert b.lock(i, wait_ms=5000).state == HELD
    assert b.unlock(i) == wire.OK
    assert a.lock(i, wait_ms=5000).state == HELD
    assert a.do("word", i) & NUMBER == a.number


def test_q28_nobody_can_truncate_it(a, b):
    i = a.create_segment(data=bytes(10000))
    b.held(kind=SEGMENT)
    assert a.do("truncate", i) is False and b.do("truncate", i) is False
    assert len(b.do("read", i, 0, 10000)) == 10000


def test_q29_read_only(a, b):
    right = a.right(kind=SEGMENT)
    reply = pb.Reply.FromString(a.do("publish_segment", right, b"fixed", {"read_only": True}))
    assert reply.status == wire.OK and reply.resource.read_only
    info = b.acquire(kind=SEGMENT).resource
    assert info.read_only and info.size == 5
    assert b.of("lock_resource", info.instance).status == wire.INVALID


@pytest.mark.parametrize("what", ["no seals", "head", "version", "size", "file", "closed for writing", "pipe"])
def test_q2a_segments_that_are_none(c, what):
    right = c.acquire(kind=SEGMENT).resource.creation_id
    size = 64
    if what == "no seals":
        fd = segment(bytes(64), seals=fcntl.F_SEAL_GROW)
    elif what == "head":
        fd = segment(bytes(64), seals=0)
        os.pwrite(fd, b"segment!", 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    elif what == "version":
        fd = segment(bytes(64), version=2)
    elif what == "size":
        fd = segment(bytes(64), size=63)
    elif what == "file":
        fd, size = segment(bytes(64)), 65
    elif what == "closed for writing":
        fd = segment(bytes(64), seals=SEALS | fcntl.F_SEAL_WRITE)
    else:
        fd, other = os.pipe()
        os.close(other)
    reply = c.publish(right, fd, SEGMENT, size=size)
    assert reply.status == wire.INVALID, reply
    os.close(fd)
    # The right stays.
    fd = segment(bytes(64))
    assert c.publish(right, fd, SEGMENT, size=64).status == wire.OK
    os.close(fd)


# ---- descriptors

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.add(self.client_address)
        body = f"{self.path} of {len(self.server.seen)}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def http_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = set()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_q30_one_http_connection_for_three_processes(a, b, x):
    with http_server() as server:
        i = a.create_connection(server.server_address)
        info = b.acquire(kind=DESCRIPTOR).resource
        assert info.instance == i and info.what == "stream socket" and info.descriptor
        assert x.held(kind=DESCRIPTOR) == i
        for round_ in range(3):
            for n, p in enumerate((a, b, x)):
                p.begin("http", i, f"/{round_}/{n}")
            for n, p in enumerate((a, b, x)):
                assert p.result() == (b"HTTP/1.1 200 OK", f"/{round_}/{n} of 1".encode())


def test_q31_its_other_end_closes(a, b, c):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("")
        server.listen()
        i = a.create_connection(server.getsockname())
        theirs, _ = server.accept()
        assert b.held(kind=DESCRIPTOR) == i
        theirs.send(b"data that nobody reads are no end")
        c.ping()
        assert a.events() == [] and one(c).info.instance == i
        theirs.close()
        for p in (a, b):
            e = p.wait_event()
            assert (e.instance, e.cause, e.cache, e.key) == (i, pb.RESOURCE_HUNG_UP, "res", b"k")
        assert listed(c) == []
        assert a.acquire(kind=DESCRIPTOR).resource.state == CREATE


def test_q32_a_reset_is_an_end_too(a):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        i = a.create_connection(server.getsockname())
        theirs, _ = server.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        e = a.wait_event()
        assert (e.instance, e.cause) == (i, pb.RESOURCE_HUNG_UP)


def test_q33_the_owner_of_its_lock_dies(a, b):
    """The stream may be in the middle of a message: the next one makes a new one."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        i = a.create_connection(server.getsockname())
        b.held(kind=DESCRIPTOR)
        assert a.lock(i).state == HELD
        a.kill()
        e = b.wait_event()
        assert (e.instance, e.cause) == (i, pb.RESOURCE_OWNER_DIED)
        assert b.acquire(kind=DESCRIPTOR).resource.state == CREATE
        info = b.lock(i)
        assert (info.state, info.cause) == (HELD, pb.RESOURCE_OWNER_DIED)


def test_q33b_who_waits_for_the_lock_is_told_that_it_has_left(a, b):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        i = a.create_connection(server.getsockname())
        b.held(kind=DESCRIPTOR)
        info = a.lock(i)
        assert (info.state, info.cause) == (HELD, pb.RESOURCE_CAUSE_NONE)
        k = b.post("lock_resource", i)
        a.of("invalidate_resource", i, reason="out of step")
        assert a.unlock(i) == wire.OK
        info = b.wait(k).resource
        assert (info.state, info.cause) == (HELD, pb.RESOURCE_INVALID)


@contextlib.contextmanager
def kinds(daemon):
    """{what the daemon says: descriptor}, of what it refuses."""
    with contextlib.ExitStack() as stack:
        def sock(*args):
            return stack.enter_context(socket.socket(*args))
        listening = sock(socket.AF_UNIX)
        listening.bind("")
        listening.listen()
        own = sock(socket.AF_UNIX)
        own.connect(str(daemon.socket))
        epoll = stack.enter_context(select.epoll())
        files = {"a directory": os.open("/", os.O_RDONLY), "a character device": os.open("/dev/null", os.O_RDWR),
                 "O_PATH": os.open("/", os.O_PATH)}
        for fd in files.values():
            stack.callback(os.close, fd)
        yield {**files, "a listening socket": listening.fileno(), "a connection to this daemon": own.fileno(),
               "a socket that is not connected": sock(socket.AF_UNIX).fileno(), "[eventpoll]": epoll.fileno(),
               "neither of Unix nor of IP": sock(socket.AF_NETLINK, socket.SOCK_RAW).fileno()}


def test_q34_what_is_refused_is_named(daemon, c):
    right = c.acquire(kind=DESCRIPTOR).resource.creation_id
    with kinds(daemon) as refused:
        for what, fd in refused.items():
            reply = c.publish(right, fd)
            assert reply.status == wire.INVALID and what in reply.error, (what, reply)
    reply = c.publish(right, None)
    assert reply.status == wire.INVALID and "none came" in reply.error
    r, w = os.pipe()
    assert c.publish(right, r).resource.what == "pipe"
    os.close(r), os.close(w)


def test_q35_a_file_that_hangs_stops_nobody(daemon, c, hanging_file):
    right = c.acquire(kind=DESCRIPTOR).resource.creation_id
    assert c.publish(right, hanging_file).resource.what == "regular file"
    start = time.monotonic()
    assert c.call("drop_resource", cache="res", key=b"k")[0].status == wire.OK
    instance = c.acquire(kind=DESCRIPTOR)
    assert instance.resource.state == CREATE
    for _ in range(100):
        c.ping()
    assert time.monotonic() - start < 5


# ---- leaving

def test_q40_dropped_and_each_holder_is_told_once(a, b, c):
    i = a.create_segment()
    b.held(kind=SEGMENT), b.held(kind=SEGMENT)
    result = c.must("drop_resource", cache="res", key=b"k").dropped
    assert (result.resources, result.holders) == (1, 2)
    assert a.events() == b.events() == [(i, pb.RESOURCE_DROPPED)]
    assert a.events() == b.events() == []
    assert c.call("drop_resource", cache="res", key=b"k")[0].status == wire.NOT_FOUND
    # Who has it goes on with it; who asks gets another one.
    assert a.lock(i).state == HELD and a.unlock(i) == wire.OK
    assert a.acquire(kind=SEGMENT).resource.state == CREATE
    assert b.release(i) == b.release(i) == wire.OK
    assert b.release(i) == wire.NOT_FOUND


def test_q41_who_gave_it_back_is_told_nothing(a, b, c):
    a.create_segment()
    i = b.held(kind=SEGMENT)
    assert b.release(i) == wire.OK
    c.must("drop_resource", cache="res", key=b"k")
    assert b.events() == [] and len(a.events()) == 1


def test_q42_cleared(a, c):
    i, k = a.create_segment(b"a1"), a.create_segment(b"b1")
    c.must("clear", cache="res", prefix=b"a")
    assert a.events() == [(i, pb.RESOURCE_CLEARED)]
    c.clear("res")
    assert a.events() == [(k, pb.RESOURCE_CLEARED)]


def test_q43_expired(clock, a, c):
    i = a.create_segment(policy=wire.policy(ttl_ms=60000))
    assert 0 < one(c).info.ttl_ms <= 60000
    clock.advance(61000)
    c.ping()
    assert a.wait_event().cause == pb.RESOURCE_EXPIRED
    assert a.acquire(kind=SEGMENT).resource.state == CREATE and i


def test_q44_evicted_and_first_what_nobody_holds(a, c):
    policy = wire.policy(max_entries=2)
    one, two = (a.create_segment(k, policy=policy) for k in (b"1", b"2"))
    assert a.release(two) == wire.OK
    three = a.create_segment(b"3", policy=policy)
    assert a.events() == []
    assert {r.info.instance for r in listed(c)} == {one, three}
    four = a.create_segment(b"4", policy=policy)
    assert a.events() == [(one, pb.RESOURCE_EVICTED)]
    assert {r.info.instance for r in listed(c)} == {three, four}


def test_q45_a_check_fails(a, b):
    i = a.create_segment()
    b.held(kind=SEGMENT)
    dropped = b.of("invalidate_resource", i, reason="it is stale").dropped
    assert (dropped.resources, dropped.holders) == (1, 2)
    e = a.wait_event()
    assert (e.instance, e.cause, e.reason) == (i, pb.RESOURCE_INVALID, "it is stale")


def test_q46_a_check_that_always_fails_makes_a_pause(a):
    for _ in range(10):
        reply = a.acquire(kind=SEGMENT)
        if reply.resource.state == FAILED:
            break
        made = pb.Reply.FromString(a.do("publish_segment", reply.resource.creation_id, b"x", {}))
        a.of("invalidate_resource", made.resource.instance, reason="bad")
    assert reply.resource.state == FAILED and reply.resource.retry_ms > 0


def test_q47_broken(a, b):
    i = a.create_segment()
    b.held(kind=SEGMENT)
    assert a.release(i, broken=True) == wire.OK
    assert b.wait_event().cause == pb.RESOURCE_INVALID


def test_q48_a_holder_that_does_not_read_misses_nothing(make_daemon):
    """Its events wait, however many they are."""
    n = 4000
    daemon = make_daemon(limits={"resources_per_uid": n, "resources_per_realm": n})
    c = client(daemon)
    keys = [struct.pack("<I", k) + bytes(60) for k in range(n)]
    made = set()
    for at in range(0, n, 500):
        asked = [c.ask(key, kind=LOCAL) for key in keys[at:at + 500]]
        rights = [c.wait(i)[0].resource.creation_id for i in asked]
        posted = [c.post("publish_resource", creation_id=right, kind=LOCAL) for right in rights]
        made |= {c.wait(i)[0].resource.instance for i in posted}
    reader = client(daemon, holder=False, name="asks")
    reader.clear("res")
    told = []
    while len(told) < n:
        reply, _ = c.recv_any()
        assert reply.id == 0 and reply.event.resource.cause == pb.RESOURCE_CLEARED
        told.append(reply.event.resource.instance)
    assert set(told) == made
    c.ping()
    assert not c.events


# ---- pools, local ones, lists

def test_q50_a_pool_lends_each_instance_to_one(a, b, x):
    i = a.create_segment(pool=2)
    k = b.create_segment(pool=2)
    assert i != k
    assert x.acquire(kind=SEGMENT, pool=2, wait_ms=0).resource.state == BUSY
    w = x.ask(kind=SEGMENT, pool=2)
    assert b.release(k) == wire.OK
    assert x.wait(w).resource.instance == k
    w = b.ask(kind=SEGMENT, pool=2)
    a.kill()
    info = b.wait(w).resource
    assert info.state == HELD and info.instance == i and info.owner_died


def test_q51_a_local_one_is_counted_for_all(a, b, c):
    i = a.create_local()
    assert b.held(kind=LOCAL) == i
    assert not b.acquire(kind=LOCAL).resource.descriptor
    c.clear("res")
    assert a.events() == b.events() == [(i, pb.RESOURCE_CLEARED)]


def test_q52_another_kind(a, b):
    a.create_local()
    reply = b.acquire(kind=SEGMENT)
    assert reply.status == wire.INVALID and "another kind" in reply.error


def test_q53_the_list_says_who_has_what(a, b, c):
    i = a.create_segment(data=bytes(100))
    b.held(kind=SEGMENT), b.held(kind=SEGMENT)
    b.lock(i)
    r = one(c)
    assert (r.cache, r.key, r.info.instance, r.info.kind, r.info.size) == ("res", b"k", i, SEGMENT, 100)
    assert (r.pid, r.uid, r.info.holders) == (a.pid, os.getuid(), 2)
    assert {(h.pid, h.name, h.holds, h.locked) for h in r.holders} == {(a.pid, "first", 1, False),
                                                                      (b.pid, "second", 2, True)}
    for n in range(20):
        a.create_local(b"%d" % n, cache="other")
    assert len(listed(c, "other")) == 20 and len(listed(c)) == 21
    page = c.must("list_resources", page_size=7).list_resources
    assert len(page.resources) == 7 and page.next


# ---- limits

def test_q60_limits(make_daemon, make_holder):
    d = make_daemon(limits={"resources_per_uid": 2, "holders_per_uid": 2, "resource_waiters_per_uid": 1,
                            "resource_bytes_per_realm": "1M"})
    p, q = make_holder(d.socket), make_holder(d.socket)
    c = client(d, holder=False)
    reply, _ = c.call("open_holder")
    assert reply.status == wire.LIMIT and "limits.holders_per_uid" in reply.error
    right = p.right(kind=SEGMENT)
    k = q.ask(kind=SEGMENT)
    reply = q.acquire(kind=SEGMENT)
    assert reply.status == wire.LIMIT and "limits.resource_waiters_per_uid" in reply.error
    reply = pb.Reply.FromString(p.do("publish_segment", right, bytes(2 << 20), {}))
    assert reply.status == wire.NO_SPACE and "limits.resource_bytes_per_realm" in reply.error
    p.do("publish_segment", right, bytes(512 << 10), {})
    assert q.wait(k).resource.state == HELD
    right = p.right(b"2", kind=SEGMENT)
    reply = pb.Reply.FromString(p.do("publish_segment", right, bytes(768 << 10), {}))
    assert reply.status == wire.NO_SPACE and f"pid {p.pid}" in reply.error
    p.do("publish_segment", right, bytes(8), {})
    reply = p.acquire(b"3", kind=SEGMENT)
    assert reply.status == wire.LIMIT and "limits.resources_per_uid" in reply.error


@pytest.mark.parametrize("fields, word", [
    ({"kind": 0}, "kind"), ({"kind": 9}, "kind"), ({"kind": SEGMENT, "key": bytes(65)}, "key"),
    ({"kind": SEGMENT, "cache": "a\nb"}, "cache"), ({"kind": SEGMENT, "pool": 1 << 31}, "pool"),
])
def test_q61_arguments(c, fields, word):
    reply = c.acquire(**fields)
    assert reply.status == wire.INVALID and word in reply.error


def test_q62_of_an_instance_that_is_not_held(a, b):
    i = a.create_segment()
    for op in ("lock_resource", "unlock_resource", "release_resource", "invalidate_resource"):
        assert b.of(op, i).status == wire.NOT_FOUND
        assert b.of(op, 12345).status == wire.NOT_FOUND


def test_q64_one_way(c):
    right = c.acquire(kind=LOCAL).resource.creation_id
    i = c.publish(right, None, LOCAL).resource.instance
    c.post("release_resource", instance=i, holder=c.holder, one_way=True)
    c.ping()
    assert one(c).info.holders == 0


def test_q65_the_daemon_ends_and_tells_who_waits(daemon, a, b):
    a.right(kind=SEGMENT)
    i = b.ask(kind=SEGMENT)
    b.begin("wait", i)
    daemon.stop()
    daemon.start()
    assert pb.Reply.FromString(b.result()).status == wire.SHUTTING_DOWN


def test_q66_a_restart_knows_nothing_of_it(daemon, a):
    """What a process has of it is its own."""
    i = a.create_segment(data=b"data")
    a.do("write", i, 0, b"more")
    daemon.stop()
    daemon.start()
    c = client(daemon, holder=False)
    info = c.open_holder(before=a.holder)
    assert not info.again and listed(c) == []
    assert c.of("release_resource", i).status == wire.NOT_FOUND
    assert a.do("read", i, 0, 4) == b"more"
