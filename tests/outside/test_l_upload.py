# SPDX-License-Identifier: MIT
"""Upload areas: values that the daemon takes out of memory which the client shares with it."""

import fcntl
import mmap
import os
import random
import socket
import subprocess

import pytest

import harness
import wire
from wire import pb

VERIFY = harness.BUILD / "tests" / "outside" / "verify"
MIB = 1 << 20
F_ADD_SEALS, SHRINK, GROW, WRITE = 1033, 2, 4, 8
FILES = pb.FEATURE_FILES


class Area:
    """A memory file and a mapping of it."""

    def __init__(self, size, seals=SHRINK | GROW, flags=os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING):
        self.fd = os.memfd_create("area", flags)
        self.size = size
        os.ftruncate(self.fd, size)
        if seals:
            fcntl.fcntl(self.fd, F_ADD_SEALS, seals)
        self.map = mmap.mmap(self.fd, size)

    def close(self):
        self.map.close()
        os.close(self.fd)


def client(daemon, **who):
    return daemon.client(features=FILES, **who)


def offer(c, area, size=None, fds=None):
    i = c.next_id()
    c.send(wire.request(i, "offer_upload", size=area.size if size is None else size),
           fds=[area.fd] if fds is None else fds)
    return c.recv()[0]


def put(c, key, offset, size, body=b"", **fields):
    i = c.next_id()
    c.send(wire.request(i, "set", cache="t", key=key, uploaded=pb.Slice(offset=offset, size=size), **fields), body)
    return c.recv()[0]


def descriptors(daemon):
    return sum(daemon.fds().values())


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


@pytest.fixture
def area():
    made = []

    def make(*args, **kwargs):
        made.append(Area(*args, **kwargs))
        return made[-1]

    yield make
    for a in made:
        a.close()


def test_l40_a_value_comes_from_the_area(daemon, area):
    """At any place in it, of any size, and as often as the client likes: what lay there is the value."""
    c, a = client(daemon), area(4 * MIB)
    assert c.info.max_upload_bytes == 8 * MIB
    assert offer(c, a).status == pb.OK
    data = noise(a.size)
    a.map[:] = data
    for n, (at, size) in enumerate([(0, 1), (0, 0), (a.size, 0), (4095, 3), (123, 70000), (5, MIB), (0, 3 * MIB), (0, a.size)]):
        r = put(c, b"k%d" % n, at, size)
        assert r.status == pb.OK and r.entry.size == size, r
        assert c.get("t", b"k%d" % n) == data[at:at + size]
    a.map[:] = bytes(a.size)
    assert c.get("t", b"k4") == data[123:70123], "the copy is the daemon's own"


def test_l41_what_is_no_area(daemon, area, tmp_path):
    """Each is refused with the reason, the connection goes on, and no descriptor stays."""
    c = client(daemon)
    before = descriptors(daemon)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, MIB)
    pair = socket.socketpair()
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    good = area(MIB)
    cases = [
        (area(MIB, seals=0), None, None, "sealed"),
        (area(MIB, seals=SHRINK), None, None, "sealed"),
        (good, MIB * 2, None, "exact size"),
        (good, MIB - 4096, None, "exact size"),
        (good, MIB - 1, None, "4096"),
        (good, MIB, [file], "no memory file"),
        (good, MIB, [pair[0].fileno()], "no memory file"),
        (good, MIB, [directory], "no memory file"),
        (good, MIB, [], "none came"),
    ]
    for a, size, fds, words in cases:
        r = offer(c, a, size, fds)
        assert r.status == pb.INVALID and words in r.error, (r, words)
    huge = area(16 * MIB)
    r = offer(c, huge)
    assert r.status == pb.TOO_LARGE and "upload_area_bytes" in r.error
    r = offer(c, good, 1 << 63)
    assert r.status == pb.TOO_LARGE
    r = put(c, b"k", 0, 1)
    assert r.status == pb.INVALID and "OfferUpload" in r.error
    assert c.stats().realm.upload_bytes == 0
    harness.wait_until(lambda: descriptors(daemon) == before, "all of them are closed")
    assert offer(c, good).status == pb.OK
    os.close(file)
    os.close(directory)
    for s in pair:
        s.close()


def test_l42_what_lies_outside(daemon, area):
    """Offsets and sizes are held to the area, whatever they add up to; with a body, or in a SetMany, there is none."""
    c, a = client(daemon), area(MIB)
    assert offer(c, a).status == pb.OK
    for at, size in [(0, MIB + 1), (MIB, 1), (MIB + 1, 0), (1, MIB), (2**64 - 1, 2), (2**64 - 1, 2**64 - 1), (0, 2**64 - 1)]:
        r = put(c, b"k", at, size)
        assert r.status == pb.INVALID and "not within" in r.error, (at, size, r)
    for n in (3, 2 * MIB):
        r = put(c, b"k", 0, 3, body=bytes(n))
        assert r.status == pb.INVALID and "body" in r.error
    i = c.next_id()
    c.send(wire.request(i, "set_many", cache="t", sizes=[1], sets=[pb.Set(key=b"k", uploaded=pb.Slice(size=1))]), b"x")
    r = c.recv()[0]
    assert r.status == pb.INVALID and "SetMany" in r.error
    assert c.get("t", b"k") is None and c.ping()


def test_l43_one_for_each_connection(daemon, area):
    """Another one takes its place, none ends it, and it goes with the connection; all of it is counted."""
    c, d = client(daemon), client(daemon)
    before = descriptors(daemon)
    big, small = area(2 * MIB), area(MIB)
    small.map[:5] = b"small"
    assert offer(c, big).status == pb.OK and offer(d, big).status == pb.OK
    assert c.stats().realm.upload_bytes == 4 * MIB
    assert offer(c, small).status == pb.OK
    assert c.stats().realm.upload_bytes == 3 * MIB
    assert put(c, b"k", 0, 5).status == pb.OK and c.get("t", b"k") == b"small"
    assert put(c, b"k", MIB, 1).status == pb.INVALID
    assert offer(c, small, 0, []).status == pb.OK
    assert put(c, b"k", 0, 5).status == pb.INVALID
    d.close()
    harness.wait_until(lambda: c.stats().realm.upload_bytes == 0, "it went with its connection")
    harness.wait_until(lambda: descriptors(daemon) < before, "and its descriptor, too")


def test_l44_limits(make_daemon, area):
    """So many for one uid; none where the configuration says so; and the role of a writer."""
    d = make_daemon(limits={"upload_areas_per_uid": 2, "upload_area_bytes": "1M"})
    clients, a = [client(d) for _ in range(3)], area(MIB)
    assert clients[0].info.max_upload_bytes == MIB
    assert [offer(c, a).status for c in clients] == [pb.OK, pb.OK, pb.LIMIT]
    assert offer(clients[0], a).status == pb.OK, "instead of its own"
    clients.pop(0).close()
    harness.wait_until(lambda: offer(clients[1], a).status == pb.OK, "a place is free")
    none = make_daemon(limits={"upload_area_bytes": 0}, socket_name="none")
    c = client(none)
    assert c.info.max_upload_bytes == 0 and offer(c, a).status == pb.TOO_LARGE
    plain = d.client()
    assert plain.info.max_upload_bytes == 0


def test_l45_budgets_hold(make_daemon, area):
    """A value that is too large is refused by its size; what was there stays."""
    d = make_daemon(memory={"realm_budget": "4M", "global_budget": "8M"}, limits={"value_bytes": "3M"})
    c, a = client(d), area(8 * MIB)
    assert offer(c, a).status == pb.OK
    c.set("t", b"old", b"old")
    r = put(c, b"k", 0, 3 * MIB + 1)
    assert r.status == pb.TOO_LARGE and "value_bytes" in r.error
    assert c.get("t", b"old") == b"old"
    r = put(c, b"k", 0, 100, encoding=pb.ENCODING_LZ4, raw_size=2**40)
    assert r.status in (pb.INVALID, pb.TOO_LARGE)


def test_l46_an_owner_that_meddles(daemon, area):
    """Holes are punched and bytes changed while the daemon reads: it gets some bytes, and goes on."""
    c, a = client(daemon), area(2 * MIB)
    assert offer(c, a).status == pb.OK
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                a.map[:] = b"\xff" * a.size
                a.map.madvise(mmap.MADV_REMOVE)
        finally:
            os._exit(0)
    try:
        for n in range(60):
            size = [70000, 500000, 1500000][n % 3]
            assert put(c, b"k", 0, size).status == pb.OK
            value = c.get("t", b"k")
            assert len(value) == size and not value.strip(b"\0\xff")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("limits", [{"upload_area_bytes": 0}, {"upload_area_bytes": "64K"}, {"upload_areas_per_uid": 1}])
def test_l47_the_library_does_without(make_daemon, limits):
    """Where it gets no area, or too small a one, values go through the socket, and nobody notices."""
    d = make_daemon(limits=limits)
    verify = [subprocess.Popen([str(VERIFY), str(d.socket), "1", str(seed)], stdout=subprocess.PIPE, text=True)
              for seed in (1, 2)]
    for v in verify:
        out, _ = v.communicate(timeout=harness.PATIENCE)
        assert v.returncode == 0 and "stores=0" not in out, out
