# SPDX-License-Identifier: MIT
"""Values too long for a block of the arena, and too short for a memory file of their own.

X0x  stored, read, charged; replaced again and again
X1x  while they arrive, while they are sent
X2x  read from the map; holes
X3x  another process goes on with them
"""

import contextlib
import os
import random
import socket

import pytest

import harness
import mapped
import wire
from harness import PATIENCE, wait_until
from test_l_memory import announce
from test_t_takeover import restart, take_over
from wire import pb

MIB = 1 << 20
SIZES = [256 << 10, 700_000, MIB, 3 * MIB + 1, 4 * MIB - 1]


def bytes_of(seed, n):
    return random.Random(seed).randbytes(n)


def arena_bytes(c):
    return c.stats().realm.arena_bytes


@pytest.fixture
def connect(daemon):
    with contextlib.ExitStack() as stack:
        def make():
            c = stack.enter_context(mapped.Client(daemon.socket, PATIENCE))
            c.hello()
            return c
        yield make


# ---- stored and read

@pytest.mark.parametrize("size", SIZES)
def test_x01_one_alone_and_among_others(c, size):
    value = bytes_of(size, size)
    c.set("t", b"k", value)
    assert c.get("t", b"k") == value
    assert c.stats().realm.large_bytes == 0
    c.set_many("t", [(b"small", b"s", {}), (b"a", value, dict(flags=7)), (b"b", value[::-1], {})])
    got = c.get_many("t", [b"b", b"small", b"k", b"a"])
    assert [v for _, v in got] == [value[::-1], b"s", value, value]
    assert c.stats("t").bytes_held == (2 * wire.charge(1, size, large=True) + wire.charge(5, 1) +
                                       wire.charge(1, size, flags=7, large=True))
    assert c.delete("t", b"a") and c.delete("t", b"b")
    c.set("t", b"k", b"small now")
    assert c.get("t", b"k") == b"small now"


def test_x02_replaced_again_and_again(c):
    """What was there before is where the next one lies: memory does not grow."""
    for i in range(60):
        size = SIZES[i % 3 + 1] - i
        c.set("t", b"k", bytes([i]) * size)
        assert c.get("t", b"k") == bytes([i]) * size
    wait_until(lambda: arena_bytes(c) < 8 * MIB, "what is spare went back")
    c.clear("t")
    wait_until(lambda: arena_bytes(c) < 2 * MIB, "so did the rest")
    assert c.stats().realm.bytes_charged == 0


def test_x03_a_budget_full_of_them(make_daemon):
    d = make_daemon(memory={"realm_budget": "24M", "global_budget": "32M"})
    c = d.client()
    for i in range(40):
        c.set("t", b"%d" % i, bytes_of(i, SIZES[i % 4 + 1]))
        assert c.stats().realm.bytes_charged <= 24 * MIB
    kept = [i for i in range(40) if c.get("t", b"%d" % i, no_touch=True) == bytes_of(i, SIZES[i % 4 + 1])]
    assert kept == list(range(40 - len(kept), 40)) and len(kept) >= 7
    wait_until(lambda: arena_bytes(c) < 27 * MIB, "no more is resident than is charged, and a little")


def test_x04_by_reload(make_daemon):
    d = make_daemon()
    c = d.client()
    value = bytes_of(1, 2 * MIB)
    c.set("t", b"extent", value)
    d.config_path.write_text(harness.config_text(memory={"large_threshold": "8K"}))
    c.must("reload_config")
    c.set("t", b"file", value)
    assert [e.large for e in sorted(c.list_entries("t"), key=lambda e: e.key)] == [False, True]
    assert c.get("t", b"extent") == c.get("t", b"file") == value


# ---- arriving, being sent

def test_x10_a_sender_that_leaves(daemon):
    """Nothing is there before all of it is; what came is given back."""
    c, half = daemon.client(), daemon.client()
    c.set("t", b"k", b"old")
    announce(half, 3 * MIB, b"x" * (2 * MIB))
    wait_until(lambda: c.stats().realm.bytes_charged > 2 * MIB, "it arrives")
    assert c.get("t", b"k") == b"old"
    half.close()
    wait_until(lambda: c.stats().realm.bytes_charged == wire.charge(1, 3), "it is given up")
    assert c.get("t", b"k") == b"old"
    wait_until(lambda: arena_bytes(c) < 2 * MIB, "its memory is back")


def test_x11_one_that_leaves_the_cache_while_it_is_sent(daemon):
    """It arrives whole, whatever is stored in the meantime, and is charged until then."""
    slow, other = daemon.client(), daemon.client()
    value = bytes_of(2, 4 * MIB - 1)
    other.set("t", b"k", value)
    n = slow.post("get", cache="t", key=b"k")
    slow.sock.recv(1, socket.MSG_PEEK)  # the answer has begun
    assert other.delete("t", b"k")
    for i in range(12):
        other.set("t", b"%d" % (i % 4), bytes([i]) * (3 * MIB))
    assert other.stats().realm.bytes_charged >= 4 * MIB + 4 * 3 * MIB
    assert other.stats().realm.held_bytes == 4 * MIB
    assert slow.wait(n)[1] == value
    wait_until(lambda: other.stats().realm.bytes_charged == 4 * wire.charge(1, 3 * MIB, large=True), "and no longer")
    gone = daemon.client()
    gone.post("get", cache="t", key=b"1")
    gone.sock.recv(1, socket.MSG_PEEK)
    assert other.delete("t", b"1")
    gone.close()
    wait_until(lambda: other.stats().realm.bytes_charged == 3 * wire.charge(1, 3 * MIB, large=True), "nor that one")


def test_x12_many_senders_at_once(daemon):
    senders = [daemon.client() for _ in range(8)]
    values = [bytes_of(i, SIZES[i % 4 + 1]) for i in range(8)]
    for i, s in enumerate(senders):
        announce(s, len(values[i]), values[i][:300_000], key=b"%d" % i)
    for i, s in enumerate(senders):
        s.send_raw(values[i][300_000:])
    for i, s in enumerate(senders):
        assert s.recv()[0].status == pb.OK
    c = daemon.client()
    assert all(c.get("t", b"%d" % i) == values[i] for i in range(8))


# ---- the map

def test_x20_read_from_the_map(connect):
    m = connect()
    for size in SIZES:
        value = bytes_of(size, size)
        m.set("t", b"k", value)
        assert m.mapped_get("t", b"k") == value
    m.set("t", b"k", b"small")
    assert m.mapped_get("t", b"k") == b"small"


def test_x21_holes_that_a_reader_fills_among_extents(connect):
    m = connect()
    m.set("t", b"k", bytes_of(1, 3 * MIB))
    before = os.fstat(m.fds[pb.MAP_ARENA]).st_blocks * 512
    at = m.arena.extents
    assert sum(m.arena.map[at + i] for i in range(3 * MIB, 40 * MIB, 4096)) == 0
    assert os.fstat(m.fds[pb.MAP_ARENA]).st_blocks * 512 > before + 30 * MIB
    wait_until(lambda: os.fstat(m.fds[pb.MAP_ARENA]).st_blocks * 512 <= before + MIB, "they are given back")
    assert m.mapped_get("t", b"k") == m.get("t", b"k") == bytes_of(1, 3 * MIB)


# ---- another process

@pytest.mark.parametrize("how", [take_over, restart])
def test_x30_another_process_goes_on(daemon, connect, how):
    m = connect()
    values = {b"%d" % i: bytes_of(i, SIZES[i % 4 + 1]) for i in range(8)}
    for k, v in values.items():
        m.set("t", k, v)
    half = daemon.client()
    announce(half, 3 * MIB, b"x" * MIB, key=b"half")
    how(daemon)
    c = daemon.client()
    assert all(c.get("t", k) == v for k, v in values.items())
    assert all(m.mapped_get("t", k, note=False) == v for k, v in values.items())
    assert c.get("t", b"half") is None
    c.set("t", b"new", values[b"3"])
    assert all(c.get("t", k) == v for k, v in (values | {b"new": values[b"3"]}).items())
