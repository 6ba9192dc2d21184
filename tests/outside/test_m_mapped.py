# SPDX-License-Identifier: MIT
"""Mapped reads: what the daemon hands out, to whom, and what it makes of what readers note.

The reader is mapped.py, written from ARENA.md: descriptors with Hello, their rights, pages and maps of memory,
drains, counts, the order of use across readers, rubbish, the epoch file, holes.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct

import pytest

import harness
import mapped
import test_t_takeover
import wire
from harness import wait_until

pb = wire.pb
F_GET_SEALS, F_ADD_SEALS = 1034, 1033
SEAL, SHRINK, GROW, WRITE = 1, 2, 4, 8


@pytest.fixture
def daemon(make_daemon):
    return make_daemon(daemon={"socket_mode": "0666"})


@pytest.fixture
def connect(daemon):
    """connect(daemon=…, uid=…, **hello): mapped clients that are closed before the daemon is looked at."""
    made = []

    def make(d=daemon, uid=None, groups=(), **hello):
        if uid is None:
            c = mapped.Client(d.socket, harness.PATIENCE)
        else:
            harness.needs_root()
            with harness.acting_as(uid, groups):
                c = mapped.Client(d.socket, harness.PATIENCE)
        made.append(c)
        d.clients.append(c)
        c.hello(**hello)
        return c
    yield make
    for c in made:
        c.close()


@pytest.fixture
def m(connect):
    return connect()


def as_child(uid, work):
    """What @work returns (a short text) in a process of that uid."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            text = work()
        except BaseException as e:
            text = repr(e)
        os.write(w, text.encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return text


def error_of(call):
    try:
        call()
    except OSError as e:
        return errno.errorcode[e.errno]
    return "worked"


# ---- what comes with Hello

def test_m01_hello_brings_four_descriptors_and_says_what_they_are(m):
    info = m.info.mapping
    assert list(info.parts) == [pb.MAP_ARENA, pb.MAP_EPOCH, pb.MAP_PAGE, pb.MAP_DIRTY]
    assert (info.layout_version, info.page_bytes, info.dirty_map_bytes, info.epoch_bytes) == (3, 65536, 4096, 4096)
    for part, size in ((pb.MAP_ARENA, info.arena_bytes), (pb.MAP_EPOCH, 4096), (pb.MAP_PAGE, 65536),
                       (pb.MAP_DIRTY, 4096)):
        assert os.fstat(m.fds[part]).st_size == size
    for part in (pb.MAP_ARENA, pb.MAP_EPOCH):
        assert fcntl.fcntl(m.fds[part], fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert m.arena.instance == m.info.instance


def test_m02_who_does_not_ask_gets_none(connect):
    c = connect(features=pb.FEATURE_EVENTS)
    assert not c.received and not c.info.HasField("mapping")


def test_m03_the_descriptors_ride_on_the_first_byte_of_the_reply(daemon):
    """A receiver that takes one byte has them all; the bytes behind it bring none."""
    with mapped.Client(daemon.socket) as c:
        c.send(wire.request(c.next_id(), "hello", protocol_min=1, protocol_max=1, features=pb.FEATURE_MAPPED))
        data, control, flags, _ = c.sock.recvmsg(1, socket.CMSG_SPACE(4 * 16), socket.MSG_CMSG_CLOEXEC)
        assert len(data) == 1 and len(control) == 1 and len(control[0][2]) == 16 and not flags & socket.MSG_CTRUNC
        c.received += list(memoryview(control[0][2]).cast("i"))
        c.buffer += data
        reply, _ = c.recv()
        assert reply.status == pb.OK and len(c.received) == 4


def test_m04_off_by_configuration_for_all_or_for_one_realm(make_daemon, connect):
    d = make_daemon(daemon={"mapped_reads": "no"}, extra="[realm a]\nreaders = 0\nwriters = 0\nmapped_reads = yes\n"
                                                         "[realm b]\nreaders = 0\nwriters = 0\n")
    assert connect(d).arena is None
    assert connect(d, realm="b").arena is None
    assert connect(d, realm="a").arena is not None
    assert connect(d).config()["realm.a.mapped_reads"].value == "yes"


def test_m05_more_mapped_clients_than_the_limit_use_the_socket(make_daemon, connect):
    d = make_daemon(limits={"mapped_clients_per_realm": 2})
    a, b, c = connect(d), connect(d), connect(d)
    assert a.arena and b.arena and c.arena is None
    stats = c.stats().realm
    assert stats.mapped_clients == 2 and stats.page_bytes == 2 * 65536 + 4096
    a.close()
    wait_until(lambda: c.stats().realm.mapped_clients == 1, "the page is free again")
    assert connect(d).arena


def test_m06_five_hundred_come_and_go(daemon, connect):
    for _ in range(5):
        with_pages = [connect() for _ in range(100)]
        bits = {c.bit for c in with_pages}
        assert len(bits) == 100 and max(bits) < 300
        for c in with_pages:
            c.close()


def test_m07_a_thousand_at_once(make_daemon, connect):
    """All are heard: their uses save what they used, their counts are exact, and when they leave all at once, too."""
    n = 300 if harness.SANITIZED and not harness.LONG else 1000
    d = make_daemon()
    c = connect(d, features=0)
    c.open("t", max_entries=n + 100)
    for i in range(n + 100):
        c.set("t", b"%d" % i, b"v%d" % i)
    readers = [connect(d) for _ in range(n)]
    assert len({r.bit for r in readers}) == n
    for i, r in enumerate(readers):
        assert r.mapped_get("t", b"%d" % i) == b"v%d" % i
    assert c.stats("t").mapped_hits == n and c.stats().realm.mapped_clients == n
    for i in range(100):
        c.set("t", b"new%d" % i, b"x")
    assert all(c.fate("t", b"%d" % i) == "LIVE" for i in range(0, n, 50))
    assert c.fate("t", b"%d" % n) == c.fate("t", b"%d" % (n + 99)) == "EVICTED_MAX_ENTRIES"
    for i, r in enumerate(readers):
        r.mapped_get("t", b"%d" % i)
        r.close()
    wait_until(lambda: c.stats().realm.mapped_clients == 0, "all have left")
    assert c.stats("t").mapped_hits == 2 * n


# ---- rights

def test_m10_another_uid_cannot_make_the_arena_writable(connect):
    c = connect(uid=1000)
    fd = c.fds[pb.MAP_ARENA]

    def attack():
        libc = ctypes.CDLL(None, use_errno=True)
        out = [error_of(lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDWR)),
               error_of(lambda: os.open(f"/proc/self/fd/{c.fds[pb.MAP_EPOCH]}", os.O_RDWR)),
               error_of(lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)),
               error_of(lambda: os.ftruncate(fd, 0)),
               error_of(lambda: os.fchmod(fd, 0o666)),
               error_of(lambda: fcntl.fcntl(fd, F_ADD_SEALS, WRITE)),
               "worked" if libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4096)) == 0 else "refused"]
        return " ".join(out)
    assert as_child(1000, attack) == "EACCES EACCES EACCES EINVAL EPERM EPERM refused"


def test_m11_page_and_dirty_map_keep_their_size(m):
    for part in (pb.MAP_PAGE, pb.MAP_DIRTY):
        fd = m.fds[part]
        seals = fcntl.fcntl(fd, F_GET_SEALS)
        assert seals & (SEAL | SHRINK | GROW | WRITE) == SEAL | SHRINK | GROW
        assert error_of(lambda: os.ftruncate(fd, 0)) == "EPERM"
        assert error_of(lambda: os.ftruncate(fd, 1 << 20)) == "EPERM"
        assert error_of(lambda: fcntl.fcntl(fd, F_ADD_SEALS, WRITE)) == "EPERM"
    assert fcntl.fcntl(m.fds[pb.MAP_ARENA], F_GET_SEALS) & (SHRINK | GROW) == SHRINK | GROW


def test_m12_realms_share_nothing_but_the_epoch_file(connect):
    a, b = connect(uid=1000), connect(uid=1001)
    a.set("t", b"secret", b"of 1000")
    same = [part for part in a.fds if os.fstat(a.fds[part]).st_ino == os.fstat(b.fds[part]).st_ino
            and os.fstat(a.fds[part]).st_dev == os.fstat(b.fds[part]).st_dev]
    assert same == [pb.MAP_EPOCH]
    with pytest.raises(mapped.Ask):
        b.mapped_get("t", b"secret")


# ---- looking up and noting

def test_m20_the_text_is_enough_to_find_what_is_stored(m, daemon):
    m.open("t")
    for i in range(2000):
        m.set("t", b"key%d" % i, b"v" * (i % 97) + b"%d" % i)
    for i in range(0, 2000, 7):
        assert m.mapped_get("t", b"key%d" % i) == b"v" * (i % 97) + b"%d" % i
        assert m.mapped_get("t", b"kex%d" % i) is None
    m.set("t", b"key7", b"new")
    assert m.mapped_get("t", b"key7") == b"new"
    m.delete("t", b"key7")
    assert m.mapped_get("t", b"key7") is None
    m.clear("t")
    assert m.mapped_get("t", b"key8") is None


def test_m21_a_deadline_is_kept_without_the_daemon(m, daemon, clock):
    m.set("t", b"k", b"v", ttl_ms=5000)
    clock.advance(4900)
    m.ping()
    assert m.mapped_get("t", b"k") == b"v"
    clock.advance(200)
    m.ping()
    # It is answered before the turn's end, and at that the arena is told of the clock.
    wait_until(lambda: m.arena.clock_offset_ms == clock.now, "readers see the clock")
    with daemon.stopped():
        assert m.mapped_get("t", b"k") is None


def test_m22_counts_are_exact(m, connect):
    other = connect(features=0)
    for i in range(10):
        m.set("t", b"%d" % i, b"v", cost_us=7)
    m.open("u")
    for i in range(1000):
        assert m.mapped_get("t", b"%d" % (i % 20)) == (b"v" if i % 20 < 10 else None)
    assert m.mapped_get("u", b"x") is None
    assert m.get("t", b"3") == b"v"
    s = other.stats("t")
    assert (s.hits, s.misses, s.mapped_hits, s.mapped_misses, s.time_saved_us) == (501, 500, 500, 500, 501 * 7)
    assert other.stats("u").mapped_misses == 1
    total = other.stats()
    assert (total.total.mapped_hits, total.total.mapped_misses) == (500, 501)
    assert (total.daemon.touches, total.daemon.touches_stale, total.daemon.touches_lost) == (500, 0, 0)
    assert {s.name: s.mapped_hits for s in other.list_caches()} == {"t": 500, "u": 0}


@pytest.mark.parametrize("end", ["closed", "shut", "thrown out"])
def test_m23_what_was_noted_counts_when_its_client_leaves(m, connect, end):
    """However the connection ends; nothing of it was drained before."""
    m.set("t", b"k", b"v")
    for _ in range(100):
        m.mapped_get("t", b"k")
    other = connect(features=0)
    for _ in range(1000):  # no request of this client is on its way when it leaves
        m.mapped_get("t", b"k")
    if end == "closed":
        m.close()
    elif end == "shut":
        m.sock.shutdown(socket.SHUT_RDWR)
    else:
        m.sock.sendall(b"\xff" * 12)  # the header of a frame that is far too long
    wait_until(lambda: other.stats().realm.mapped_clients == 0, "the client has left")
    n = 100 + 1000
    assert other.stats("t").mapped_hits == n and other.stats().daemon.touches == n


def test_m24_drain_empties_the_rings(m):
    m.set("t", b"k", b"v")
    for ring in range(2):
        for _ in range(10):
            m.mapped_get("t", b"k", ring=ring)
    m.drain()
    for ring in range(2):
        head, _, tail = m.ring_words(ring)
        assert head == tail > 10


def test_m25_a_drain_of_one_way_is_not_answered(m):
    m.set("t", b"k", b"v")
    m.mapped_get("t", b"k")
    m.post("drain", one_way=True)
    m.post("drain", one_way=True, deadline_ms=1)
    m.send(wire.request(m.next_id(), "drain", one_way=True), b"a body that it does not take")
    m.ping()
    assert not m.waiting
    wait_until(lambda: m.ring_words(0)[0] == m.ring_words(0)[2], "the ring is empty")


def test_m26_a_client_without_a_mapping_may_drain(m, connect):
    m.set("t", b"k", b"v")
    m.mapped_get("t", b"k")
    other = connect(features=0)
    other.must("drain")
    assert m.ring_words(0)[0] == m.ring_words(0)[2] > 0


def test_m27_a_full_ring_without_its_bit_is_found_by_a_drain(m):
    m.set("t", b"k", b"v")
    m.drain()
    while m.ring_words(0)[0] - m.ring_words(0)[2] < mapped.SLOTS - 2:
        m.mapped_get("t", b"k")
        m.dirty[:] = bytes(4096)
    m.drain()
    assert m.ring_words(0)[0] == m.ring_words(0)[2]


# ---- order

def fill(c, n=10):
    c.open("t", max_entries=n)
    for i in range(n):
        c.set("t", b"%d" % i, b"v%d" % i)


def left(c, n=10):
    """Which of the keys are there, looked at without a trace."""
    return [i for i in range(n) if c.get("t", b"%d" % i, no_touch=True) is not None]


def test_m30_a_mapped_hit_keeps_its_entry(m):
    """Each look-up is known before the very next request is carried out."""
    fill(m)
    for i in (0, 2, 4):
        assert m.mapped_get("t", b"%d" % i)
    for i in range(3):
        m.set("t", b"new%d" % i, b"x")
    assert left(m) == [0, 2, 4, 6, 7, 8, 9]


def test_m31_a_writer_that_is_not_the_reader_sees_its_uses(m, connect):
    other = connect(features=0)
    fill(m)
    for i in (0, 1, 2):
        m.mapped_get("t", b"%d" % i)
    for i in range(7):
        other.set("t", b"new%d" % i, b"x")
    assert left(other) == [0, 1, 2]


def test_m32_the_order_between_readers_is_that_of_time(daemon, connect):
    """Interleaved by time marks, whichever reader's bit comes first."""
    a, b, c = connect(), connect(), connect(features=0)
    fill(a)
    with daemon.stopped():
        now = a.now_ms() - 100
        for i in range(10):  # 9, 8, 7 … 0, by turns
            (a, b)[i % 2].mapped_get("t", b"%d" % (9 - i), ring=i // 2 % 2, now=now + i)
    for i in range(5):
        c.set("t", b"new%d" % i, b"x")
    assert left(c) == [0, 1, 2, 3, 4]


def test_m33_another_realm_gives_way_in_the_order_of_its_uses(make_daemon, connect):
    """The budget above all realms evicts from one that is not asking: its readers' uses count, too."""
    d = make_daemon(daemon={"socket_mode": "0666"}, memory={"realm_budget": "1M", "global_budget": "1M"})
    a, b = connect(d, uid=1000), connect(d, uid=1001)
    value = b"x" * 1000
    n = 600
    for i in range(n):
        a.set("t", b"%d" % i, value)
    for i in range(100):
        a.mapped_get("t", b"%d" % i)
    for i in range(300):
        b.set("t", b"%d" % i, value)
    kept = left(a, n)
    assert kept[:100] == list(range(100)) and len(kept) < n


# ---- rubbish

def test_m40_rubbish_in_a_page_harms_nobody(m, connect, daemon):
    other = connect(features=0)
    fill(m)
    random = os.urandom(1 << 20)
    for i in range(12):
        at = i * 61000
        m.page[:] = (random[at:] + random)[:65536]
        m.dirty[:] = random[at:at + 4096]
        other.get("t", b"1")
        other.must("drain")
    assert other.get("t", b"1") == b"v1" and left(other) == list(range(10))
    m.page[:] = bytes(65536)
    other.must("drain")
    assert other.stats().daemon.touches_lost > 0


def test_m41_heads_that_lie(m):
    fill(m)
    m.drain()
    for head in ((1 << 64) - 1, 0, 1 << 32, 0xffffffff, 1 << 63, mapped.SLOTS + 1, 5):
        struct.pack_into("<Q", m.page, mapped.RING_AT + 8, head)
        m.set_dirty()
        m.drain()
        assert m.ring_words(0)[2] == head


def test_m42_counts_that_go_back_do_not_count(m):
    fill(m)
    m.count(1, True, 1000)
    assert m.stats("t").mapped_hits == 1000
    m.count(1, True, -10)
    assert m.stats("t").mapped_hits == 1000
    m.count(1, True, 5)
    m.count(9999, True, 5)
    assert m.stats("t").mapped_hits == 1005 and m.stats().total.mapped_hits == 1005


def test_m43_marks_of_the_future_are_now(m, connect):
    """A reader whose clock runs ahead does not get its later uses behind those of others."""
    other = connect()
    fill(m)
    now = m.now_ms()
    for i in range(5):
        m.mapped_get("t", b"%d" % i, now=now + 3600000)
    other.drain()
    for i in range(5, 8):
        other.mapped_get("t", b"%d" % i)
    for i in range(2):
        m.set("t", b"new%d" % i, b"x")
    assert left(m) == list(range(8))


def test_m44_stale_uses_are_told_apart(m):
    fill(m)
    _, found = m.arena.look_up("t", b"1", m.now_ms())
    m.set("t", b"1", b"another")
    m.touch_page(found[0], found[1])
    m.touch_page(0xfffffff0, 1)
    m.drain()
    s = m.stats().daemon
    assert (s.touches, s.touches_stale, s.touches_lost) == (0, 2, 0)


def test_m45_an_owner_that_punches_its_page(m):
    libc = ctypes.CDLL(None, use_errno=True)
    fill(m)
    m.mapped_get("t", b"1")
    assert libc.fallocate(m.fds[pb.MAP_PAGE], 3, ctypes.c_long(0), ctypes.c_long(65536)) == 0
    assert libc.fallocate(m.fds[pb.MAP_DIRTY], 3, ctypes.c_long(0), ctypes.c_long(4096)) == 0
    m.set_dirty()
    m.drain()
    assert m.get("t", b"1") == b"v1"


# ---- holes

def populate(c, n):
    """Reads index and the first @n bytes of spans, page by page."""
    end = min(c.info.mapping.arena_bytes, c.arena.spans + n)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    base = libc.mmap(None, end, mmap.PROT_READ, mmap.MAP_SHARED, c.fds[pb.MAP_ARENA], 0)
    spans, index = c.arena.spans, c.arena.index
    for at, n_bytes in ((index, 16 << 20), (spans, end - spans)):
        assert libc.madvise(base + at, n_bytes, 22) == 0  # MADV_POPULATE_READ: reads every page
    libc.munmap(base, end)


def held(c):
    return os.fstat(c.fds[pb.MAP_ARENA]).st_blocks * 512


def test_m50_a_reader_that_walks_the_mapping_gets_no_memory(connect, daemon):
    c = connect()
    c.set("t", b"k", b"v")
    before = held(c)
    populate(c, 96 << 20)
    assert held(c) > before + (64 << 20)
    wait_until(lambda: held(c) <= before + (256 << 10), "what nobody stored is given back")
    assert c.mapped_get("t", b"k") == b"v"


@pytest.mark.parametrize("how", ["left", "handed over", "killed"])
def test_m51_nor_when_nobody_is_connected(connect, daemon, how):
    """A mapping outlives its connection, and the daemon that gave it."""
    c = connect(uid=1001)
    c.set("t", b"k", b"v")
    before = held(c)
    c.sock.close()
    if how == "handed over":
        test_t_takeover.take_over(daemon)
    elif how == "killed":
        test_t_takeover.restart(daemon)
    daemon.settled()
    if daemon.clock:
        daemon.clock.advance(60_000)
    daemon.settled()
    populate(c, 96 << 20)
    assert held(c) > before + (64 << 20)
    wait_until(lambda: held(c) <= before + (256 << 10), "what nobody stored is given back")
    assert c.mapped_get("t", b"k", note=False) == b"v"


# ---- the epoch file

def epoch_of(d):
    return d.dir / (d.socket.name + ".epoch")


def read_instance(path):
    magic, version, _, instance = struct.unpack("<8sIIQ", path.read_bytes()[:24])
    assert magic == b"cacepoch" and version == 1
    return instance


def test_m60_the_epoch_file(daemon, connect):
    st = os.lstat(epoch_of(daemon))
    assert (st.st_mode, st.st_size, st.st_uid, st.st_nlink) == (0o100644, 4096, os.geteuid(), 1)
    m = connect()
    assert read_instance(epoch_of(daemon)) == m.info.instance
    assert os.fstat(m.fds[pb.MAP_EPOCH]).st_ino == st.st_ino


def test_m61_a_cold_start_ends_the_arenas_before_it(daemon, connect):
    """Same file, another number: a reader that has noticed nothing serves nothing of the old arena."""
    m = connect()
    m.set("t", b"k", b"old")
    assert m.mapped_get("t", b"k") == b"old"
    inode = os.stat(epoch_of(daemon)).st_ino
    daemon.process.kill()
    daemon.process.wait()
    assert m.mapped_get("t", b"k") == b"old"  # nobody has answered a change since
    daemon.start()
    assert os.stat(epoch_of(daemon)).st_ino == inode
    with pytest.raises(mapped.Ask):
        m.mapped_get("t", b"k")
    assert connect().info.instance == read_instance(epoch_of(daemon)) != m.info.instance


def test_m62_an_orderly_end_retires_the_arena(daemon, connect):
    m = connect()
    m.set("t", b"k", b"v")
    assert not m.arena.retired
    instance = m.info.instance
    daemon.stop()
    assert m.arena.retired and read_instance(epoch_of(daemon)) == instance
    daemon.start()


@pytest.mark.parametrize("kind", ["symlink", "mode", "size", "magic", "link", "fifo", "foreign"])
def test_m63_what_is_not_the_file_is_replaced(make_daemon, connect, kind):
    d = make_daemon(start=False)
    path, victim = epoch_of(d), d.dir / "victim"
    good = struct.pack("<8sIIQ", b"cacepoch", 1, 0, 5).ljust(4096, b"\0")
    victim.write_bytes(good)
    victim.chmod(0o644)
    if kind == "symlink":
        path.symlink_to(victim)
    elif kind == "link":
        os.link(victim, path)
    elif kind == "fifo":
        os.mkfifo(path, 0o644)
    else:
        path.write_bytes({"size": good + b"\0", "magic": b"x" + good[1:]}.get(kind, good))
        path.chmod(0o666 if kind == "mode" else 0o644)
        if kind == "foreign":
            harness.needs_root()
            os.chown(path, 1000, 1000)
    d.start()
    st = os.lstat(path)
    assert (st.st_mode, st.st_size, st.st_uid, st.st_nlink) == (0o100644, 4096, os.geteuid(), 1)
    assert victim.read_bytes() == good
    assert connect(d).info.instance == read_instance(path)


def test_m64_a_good_file_is_used_again_whatever_the_umask(make_daemon, connect):
    d = make_daemon(start=False)
    old = os.umask(0o077)
    try:
        d.start()
    finally:
        os.umask(old)
    assert os.stat(epoch_of(d)).st_mode & 0o7777 == 0o644
    inode = os.stat(epoch_of(d)).st_ino
    d.stop()
    d.start()
    assert os.stat(epoch_of(d)).st_ino == inode


def test_m65_where_none_can_be_made_the_socket_answers(make_daemon, connect):
    d = make_daemon(start=False)
    epoch_of(d).mkdir()
    d.start()
    c = connect(d)
    assert c.arena is None
    c.set("t", b"k", b"v")
    assert c.get("t", b"k") == b"v"
    assert d.log().count("cannot look entries up by themselves") == 1
    assert epoch_of(d).is_dir()


def test_m66_nothing_else_is_left_beside_the_socket(daemon):
    before = {p.name for p in daemon.dir.iterdir()}
    assert before >= {"s", "s.epoch"} and not {n for n in before if n.startswith("s.epoch.")}
