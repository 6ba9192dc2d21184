# SPDX-License-Identifier: MIT
"""Compressed values for clients that cannot decode: the daemon does it, within bounds; what is damaged is a miss."""

import ctypes
import os
import random

import pytest

import harness
import wire
from wire import pb

LZ4 = ctypes.CDLL("liblz4.so.1")


def packed(data):
    """One LZ4 block."""
    out = ctypes.create_string_buffer(LZ4.LZ4_compressBound(len(data)))
    n = LZ4.LZ4_compress_default(data, out, len(data), len(out))
    assert n > 0
    return out.raw[:n]


def store(c, key, value, raw_size=None, block=None, **more):
    return c.set("t", key, packed(value) if block is None else block, encoding=pb.ENCODING_LZ4,
                 raw_size=len(value) if raw_size is None else raw_size, **more)


def text(n, seed=0):
    """Something that compresses well."""
    return (random.Random(seed).randbytes(997) * (n // 997 + 1))[:n]


@pytest.fixture
def plain(daemon):
    """A client that knows only sockets and protobuf."""
    return daemon.client(name="plain", features=0)


@pytest.fixture
def able(daemon):
    return daemon.client(name="able", features=pb.FEATURE_LZ4)


SIZES = [0, 1, 100, 65_535, 65_536, 65_537, 300_000, 4 << 20]


@pytest.mark.parametrize("n", SIZES)
def test_z01_get(plain, able, n):
    """A plain client gets the bytes, described as such; one that decodes gets what was stored."""
    value = text(n)
    block = packed(value)
    stored = store(able, b"k", value, flags=3, cost_us=4)
    e, got = plain.lookup("t", b"k")
    assert got == value
    assert (e.encoding, e.size, e.raw_size, e.version) == (pb.ENCODING_RAW, n, n, stored.version)
    assert (e.flags, e.cost_us) == (3, 4)
    e, got = able.lookup("t", b"k")
    assert got == block and (e.encoding, e.size, e.raw_size) == (pb.ENCODING_LZ4, len(block), n)
    daemon = plain.stats().daemon
    assert (daemon.unpacked, daemon.unpack_failures) == (1, 0)


def test_z02_get_many(plain, able):
    """Decoded and other values in one body, in the order of the keys."""
    values = {b"%d" % n: text(n, n) for n in SIZES[:6]}
    for key, value in values.items():
        store(able, key, value)
        plain.set("t", b"raw" + key, value)
    keys = [k for key in values for k in (key, b"raw" + key, b"none" + key)]
    for item_value, key in zip(plain.get_many("t", keys), keys):
        item, value = item_value
        expected = values.get(key.removeprefix(b"raw"))
        assert value == expected
        assert item.status == (wire.NOT_FOUND if expected is None else wire.OK)
        if expected is not None:
            assert (item.entry.encoding, item.entry.raw_size) == (pb.ENCODING_RAW, len(expected))


def test_z03_a_body_is_bounded(plain, able):
    """What GetMany decodes is bounded by limits.output_bytes: the rest is TOO_LARGE and comes with Get."""
    value = text(400_000)
    for i in range(5):
        store(able, b"%d" % i, value)
    items = plain.get_many("t", [b"%d" % i for i in range(5)])
    assert [i.status for i, _ in items] == [wire.OK] * 2 + [pb.TOO_LARGE] * 3
    assert [v for _, v in items[:2]] == [value] * 2
    assert all(i.entry.raw_size == len(value) and i.entry.encoding == pb.ENCODING_RAW for i, _ in items)
    assert plain.get("t", b"4") == value


def test_z04_pipelined(plain, able):
    """Long values, asked for one after the other without waiting, come whole and in order."""
    values = [text(1_000_000 + i, i) for i in range(20)]
    for i, value in enumerate(values):
        store(able, b"%d" % i, value)
    ids = [plain.post("get", cache="t", key=b"%d" % i) for i in range(20)]
    for i, value in zip(ids, values):
        reply, body = plain.wait(i)
        assert reply.status == wire.OK and body == value


# ---- hostile

GARBAGE = [b"\0", b"\xff" * 50, b"packed", os.urandom(3000), packed(text(5000))[:-1], packed(text(5000)) + b"\0"]


@pytest.mark.parametrize("n_garbage", range(len(GARBAGE)))
def test_z10_garbage_is_a_miss(plain, able, n_garbage):
    """A block that does not decode: a miss for Get and GetMany, counted, and left for whoever wants to look."""
    block = GARBAGE[n_garbage]
    store(able, b"k", b"", raw_size=min(5000, 255 * len(block)), block=block)
    before = able.stats("t")
    assert plain.get("t", b"k") is None
    assert [i.status for i, _ in plain.get_many("t", [b"k"])] == [wire.NOT_FOUND]
    after = able.stats("t")
    assert (after.hits - before.hits, after.misses - before.misses) == (0, 2)
    assert plain.get("t", b"k", no_touch=True) is None
    assert able.stats("t").misses == after.misses
    assert plain.stats().daemon.unpack_failures == 3
    assert able.get("t", b"k") == block
    plain.set("t", b"k", b"computed again")
    assert plain.get("t", b"k") == b"computed again"


@pytest.mark.parametrize("lie", [-1, 1, -4999, 100_000])
def test_z11_raw_size_lies(plain, able, lie):
    """Exactly raw_size bytes, or a miss."""
    value = text(5000)
    store(able, b"k", value, raw_size=5000 + lie)
    assert plain.get("t", b"k") is None


def test_z12_a_bomb(plain, able):
    """The largest expansion there is, and what claims more, or more than limits.lz4_bytes."""
    limit = able.info.max_lz4_bytes
    assert limit == 4 << 20
    zeros = bytes(limit)
    assert len(packed(zeros)) < 20_000
    store(able, b"k", zeros)
    assert plain.get("t", b"k") == zeros
    refused = dict(cache="t", key=b"x", encoding=pb.ENCODING_LZ4)
    for n, size, status in [(limit + 1, 100_000, pb.TOO_LARGE), (1 << 40, 100_000, pb.INVALID),
                            (256 * 255, 255, pb.INVALID), ((1 << 64) - 1, 100_000, pb.INVALID), (1, 0, pb.INVALID)]:
        reply, _ = able.call("set", b"x" * size, raw_size=n, **refused)
        assert reply.status == status, (n, reply.error)
    reply, _ = able.call("set", b"x" * 100_000, raw_size=limit + 1, **refused)
    assert f"limits.lz4_bytes, {limit}:" in reply.error
    sets = [pb.Set(key=b"a", encoding=pb.ENCODING_LZ4, raw_size=limit + 1), pb.Set(key=b"b")]
    items = able.must("set_many", bytes(100_000), cache="t", sets=sets, sizes=[100_000, 0]).set_many.items
    assert [i.status for i in items] == [pb.TOO_LARGE, wire.OK]


def test_z13_a_thousand_damaged_blocks_hold_nobody_up(daemon, plain, able):
    """Damaged blocks cost decoding and fill no output: a connection that asks for many has one a turn, and
    GetMany tries no more than it could send."""
    block = bytearray(packed(bytes(4 << 20)))
    block[-1] ^= 1
    store(able, b"k", b"", raw_size=4 << 20, block=bytes(block) + b"\xff")
    turns = able.stats().daemon.loop_turns
    with daemon.stopped():
        ids = [plain.next_id() for _ in range(100)]
        plain.send_raw(b"".join(wire.frame(wire.request(i, "get", cache="t", key=b"k")) for i in ids))
    assert all(plain.wait(i)[0].status == wire.NOT_FOUND for i in ids)
    assert able.stats().daemon.loop_turns - turns >= 100
    failures = able.stats().daemon.unpack_failures
    items = plain.get_many("t", [b"k"] * 1000)
    assert able.stats().daemon.unpack_failures == failures + 1
    assert [i.status for i, _ in items] == [wire.NOT_FOUND] + [pb.TOO_LARGE] * 999


def test_z14_decoded_values_that_nobody_takes(make_daemon):
    """What waits for the clients of one uid is bounded; taken, it comes again."""
    daemon = make_daemon(limits=dict(decoded_bytes_per_uid="9M"))
    able = daemon.client(features=pb.FEATURE_LZ4)
    value = text(4 << 20)
    store(able, b"k", value)
    slow = [daemon.client(features=0) for _ in range(2)]
    ids = []
    for c in slow:
        sent = able.stats().daemon.unpacked
        ids.append(c.post("get", cache="t", key=b"k"))
        harness.wait_until(lambda: able.stats().daemon.unpacked > sent, "it is decoded")
    plain = daemon.client(features=0)
    reply, _ = plain.call("get", cache="t", key=b"k")
    assert reply.status == pb.LIMIT and "limits.decoded_bytes_per_uid" in reply.error
    reply, _ = plain.call("get_many", cache="t", keys=[b"k"])
    assert reply.status == pb.LIMIT
    assert slow[0].wait(ids[0])[1] == value
    assert plain.get("t", b"k") == value
    slow[1].close()
    assert plain.get("t", b"k") == value


def test_z15_gone_in_the_middle(daemon, able):
    """Clients that ask for decoded values and leave: nothing stays behind."""
    store(able, b"k", text(1 << 20))
    for _ in range(30):
        c = daemon.client(features=0)
        c.post("get", cache="t", key=b"k")
        c.post("get_many", cache="t", keys=[b"k", b"k"])
        c.close()
    able.ping()
