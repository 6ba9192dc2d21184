# SPDX-License-Identifier: MIT
"""Input that no honest client sends. Each case: an exact answer, the others are served, nothing is left over
(the fixture compares descriptors and asks for the memory back)."""

import contextlib
import errno
import os
import random
import socket
import struct
import time

import pytest

import harness
import wire
from wire import HEADER, frame, pb, request


@pytest.fixture
def witness(daemon):
    """Another client, which has to be served before and after."""
    w = daemon.client(name="witness")
    w.set("witness", b"k", b"v")
    yield w
    assert w.get("witness", b"k") == b"v"


def violations(w):
    return w.stats().daemon.protocol_errors


# ---- bytes that are no frames

@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"*1\r\n$4\r\nPING\r\n" * 3,
    b"\xff" * 100,
    b"\0" * 100,
    bytes(range(256)) * 4,
    b"\x80\x80\x80\x80" * 50,
])
@pytest.mark.parametrize("greeted", [False, True])
def test_h01_garbage(daemon, witness, data, greeted):
    """Bytes of another protocol: PROTOCOL with id 0, then the end, before and after Hello."""
    c = daemon.client() if greeted else daemon.connect()
    c.send_raw(data)
    c.expect_goodbye(pb.PROTOCOL, 0)
    assert violations(witness) == 1


def test_h02_nothing_at_all(daemon, witness):
    """A connection that says nothing and goes."""
    for _ in range(50):
        daemon.connect().close()
    harness.wait_until(lambda: witness.stats().daemon.connections == 1, "all are gone")
    assert violations(witness) == 0


@pytest.mark.parametrize("n_message, n_body", [
    (0, 0), (0, 10), (0xffffffff, 0), (0x80000000, 0), ((1 << 20) + 1, 0), (64 << 20, 0),
    (10, (1 << 30) + 1), (10, 1 << 32), (10, 1 << 63), (10, (1 << 64) - 1), (0xffffffff, (1 << 64) - 1),
    (10, (1 << 64) - 10), (10, (1 << 64) - 12),
])
def test_h03_lengths_that_lie(daemon, witness, n_message, n_body):
    """Lengths outside the limits: PROTOCOL with id 0 as soon as the header is there, then the end."""
    before = daemon.rss()
    c = daemon.client()
    c.send_raw(HEADER.pack(n_message, n_body))
    c.expect_goodbye(pb.PROTOCOL, 0)
    assert daemon.rss() - before < 64 << 20, "the announced length must not be allocated"


@pytest.mark.parametrize("message", [
    b"\xff", b"\x08", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x72\x7f", b"\x0a\xff\xff\xff\xff\x0f",
    b"\x07", b"\x03", b"\x00", b"\xf2\xff\xff\xff\xff\xff\xff\xff\xff\x01",
])
def test_h04_bytes_that_are_no_protobuf(daemon, witness, message):
    """A well-framed message that does not parse: PROTOCOL with id 0, then the end."""
    c = daemon.client()
    c.send_raw(frame(message))
    c.expect_goodbye(pb.PROTOCOL, 0)


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, wire_type, payload):
    return varint(number << 3 | wire_type) + payload


def block(number, payload):
    return field(number, 2, varint(len(payload)) + payload)


@pytest.mark.parametrize("inner", [
    field(3, 0, varint(5)),                  # key as a number
    field(2, 1, b"12345678"),                # cache as a fixed64
    field(1, 2, varint(3) + b"abc"),         # cache_id as bytes
    field(3, 5, b"1234"),                    # key as a fixed32
    block(3, b"k")[:-1] + b"",               # key longer than the message
])
def test_h05_wrong_wire_types(daemon, witness, inner):
    """Fields of the wrong type are an error of the message or unknown fields; never a fault, never a hit."""
    witness.set("t", b"k", b"v")
    c = daemon.client()
    c.send_raw(frame(field(1, 0, varint(c.next_id())) + block(14, block(2, b"t") + inner)))
    try:
        reply, body = c.wait(c.last_id)
        assert reply.status in (pb.INVALID, pb.PROTOCOL, wire.NOT_FOUND) and not body
    except wire.Refused as e:
        assert e.status == pb.PROTOCOL


def test_h06_unknown_fields_are_ignored(daemon):
    """Fields of later versions, in the envelope and in the request, change nothing."""
    c = daemon.client()
    c.set("t", b"k", b"v")
    extra = field(900, 0, varint(1 << 60)) + block(901, b"x" * 300) + field(902, 5, b"1234") + \
        field(903, 1, b"12345678")
    message = extra + field(1, 0, varint(c.next_id())) + block(14, block(2, b"t") + extra + block(3, b"k")) + extra
    c.send_raw(frame(message))
    assert c.wait(c.last_id)[1] == b"v"


@pytest.mark.parametrize("number", [9, 59, 61, 1000])
def test_h07_unknown_requests(daemon, witness, number):
    """A request that the daemon does not know is UNSUPPORTED under its id; its body is skipped; life goes on."""
    c = daemon.client()
    for body in (b"", b"x" * 10, b"x" * 300_000):
        c.send_raw(frame(field(1, 0, varint(c.next_id())) + block(number, b"\x08\x01"), body))
        reply, _ = c.wait(c.last_id)
        assert reply.status == pb.UNSUPPORTED and reply.error
    assert c.ping()


def test_h08_no_request_in_the_envelope(daemon):
    """An id alone asks for nothing that the daemon knows."""
    c = daemon.client()
    c.send(pb.Request(id=c.next_id()))
    assert c.wait(c.last_id)[0].status == pb.UNSUPPORTED
    assert c.ping()


def test_h09_two_requests_in_one_envelope(daemon):
    """Of a oneof that came twice the last one counts, as protobuf says."""
    c = daemon.client()
    c.set("t", b"k", b"v")
    c.send_raw(frame(field(1, 0, varint(c.next_id())) + block(11, b"") + block(14, block(2, b"t") + block(3, b"k"))))
    reply, body = c.wait(c.last_id)
    assert reply.status == wire.OK and reply.WhichOneof("result") == "entry" and body == b"v"


def test_h10_a_deeply_nested_message(daemon, witness):
    """Nesting without end inside an unknown field."""
    payload = b""
    for _ in range(5000):
        payload = block(950, payload)
    c = daemon.client()
    c.send_raw(frame(field(1, 0, varint(c.next_id())) + block(11, b"") + payload))
    assert c.wait(c.last_id)[0].status == wire.OK


def test_h11_a_message_full_of_small_fields(daemon, witness):
    """As many keys, sets, sizes or unknown fields as a message can hold: refused or served, memory bounded."""
    before = daemon.rss()
    c = daemon.client()
    empty_key = block(1 + 2, b"")
    for op, inner in ((15, empty_key * 300_000), (17, empty_key * 300_000), (17, block(4, b"\0" * 900_000)),
                      (14, block(2, b"t") + field(77, 0, b"\1") * 300_000), (13, block(4, b"\1" * 900_000)),
                      (12, block(2, b"\x08\x01") * 200_000)):
        message = field(1, 0, varint(c.next_id())) + block(op, inner)
        assert len(message) <= 1 << 20
        c.send_raw(frame(message))
        try:
            assert c.wait(c.last_id)[0].status in (wire.OK, wire.NOT_FOUND, pb.INVALID, pb.LIMIT, pb.NO_MEMORY)
        except wire.Refused as e:
            assert e.status in (pb.PROTOCOL, pb.NO_MEMORY)
            c = daemon.client()
    assert daemon.rss() - before < (512 << 20 if harness.SHADOWED else 128 << 20)


@pytest.mark.parametrize("numbered", [False, True])
def test_h11b_too_many_fields_and_no_id_of_its_own(daemon, witness, numbered):
    """A reply that belongs to no request (id 0, or one that was used) is the last one: the connection closes."""
    c = daemon.client()
    n = c.last_id if numbered else 0
    c.send_raw(frame((field(1, 0, varint(n)) if numbered else b"") + field(100, 0, b"\1") * 340_000))
    c.expect_goodbye(pb.LIMIT, n)


# ---- order and ids

@pytest.mark.parametrize("op, fields, size", [
    ("ping", {}, 0), ("get", dict(cache="t", key=b"k"), 0), ("set", dict(cache="t", key=b"k"), 100),
    ("set", dict(cache="t", key=b"k"), 3_000_000), ("clear", dict(all=True), 0), ("stats", {}, 0),
    ("reload_config", {}, 0),
])
def test_h12_before_hello(daemon, witness, op, fields, size):
    """Any request before Hello is a PROTOCOL error and does nothing."""
    c = daemon.connect()
    try:
        c.post(op, b"v" * size, **fields)
    except (BrokenPipeError, ConnectionResetError):
        pass  # told before the body was taken
    c.expect_goodbye(pb.PROTOCOL)
    assert [s.name for s in witness.list_caches()] == ["witness"]


def test_h13_a_second_hello(daemon, witness):
    """Hello twice is a PROTOCOL error."""
    c = daemon.client()
    c.post("hello", protocol_min=1, protocol_max=1)
    c.expect_goodbye(pb.PROTOCOL)


def test_h14_hello_with_a_body(daemon):
    """Hello takes no body: INVALID, or a protocol error; not accepted."""
    c = daemon.connect()
    c.post("hello", b"body", protocol_min=1, protocol_max=1)
    try:
        assert c.wait(c.last_id)[0].status == pb.INVALID
    except wire.Refused as e:
        assert e.status == pb.PROTOCOL


@pytest.mark.parametrize("low, high", [(0, 0), (2, 1), (5, 9), (1 << 31, (1 << 32) - 1)])
def test_h15_versions_that_do_not_meet(daemon, low, high):
    """No version in common: VERSION with words, then the end."""
    c = daemon.connect()
    c.post("hello", protocol_min=low, protocol_max=high)
    c.expect_goodbye(pb.VERSION)


@pytest.mark.parametrize("ids", [[0], [5, 5], [5, 4], [5, 1], [(1 << 64) - 1, 0], [(1 << 64) - 1, (1 << 64) - 1],
                                 [7, 8, 9, 8]])
def test_h16_ids_that_do_not_grow(daemon, witness, ids):
    """Id 0, a repeated one, a smaller one: PROTOCOL, after the good ones were answered."""
    c = daemon.client()
    base = 1000 if max(ids) < 1000 and ids != [0] else 0
    for i in ids:
        c.send(request(i + base if i or base else 0, "ping"))
    seen = []
    with contextlib.suppress(wire.Closed):
        while True:
            seen.append(c.recv()[0])
    assert [r.status for r in seen] == [wire.OK] * (len(ids) - 1) + [pb.PROTOCOL]
    assert seen[-1].error


def test_h17_hello_with_id_0(daemon):
    """Also for Hello."""
    c = daemon.connect()
    c.send(request(0, "hello", protocol_min=1, protocol_max=1))
    c.expect_goodbye(pb.PROTOCOL)


# ---- arguments

NAMED = [("get", {}), ("set", {}), ("touch", {}), ("delete", {}), ("explain", {})]


@pytest.mark.parametrize("op, more", NAMED)
@pytest.mark.parametrize("n", [0, 65, 66, 100_000])
def test_h18_keys_of_0_and_65_bytes(c, op, more, n):
    """A key is 1 to 64 bytes: INVALID otherwise, in every request that has one."""
    body = b"v" if op == "set" else b""
    c.open("t")
    assert c.status(op, body, cache="t", key=b"k" * n, **more) == pb.INVALID
    assert c.stats("t").entries == 0
    reply, body = c.call("get_many", cache="t", keys=[b"fine", b"k" * n])
    assert reply.status == pb.INVALID or reply.get_many.items[1].status == pb.INVALID


BAD_NAMES = [b"", b"x" * 129, "é".encode() * 65, b"\xff", b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80",
             b"a\0b", b"\0", b"line\nbreak", b"tab\there", b"esc\x1b[0m", b"del\x7f", "c1\u0085".encode()]

OP_TAGS = {"open_cache": (12, 1), "set_policy": (13, 1), "get": (14, 2), "get_many": (15, 2), "set": (16, 2),
           "set_many": (17, 2), "touch": (18, 2), "delete": (19, 2), "clear": (20, 2), "list_entries": (22, 2),
           "explain": (23, 2)}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_h19_cache_names(daemon, witness, name):
    """Empty, 129 bytes, not UTF-8, control characters: INVALID in every request (Python would not send them)."""
    c = daemon.client()
    for op, (tag, name_tag) in OP_TAGS.items():
        inner = block(name_tag, name)
        if op in ("get", "set", "touch", "delete", "explain"):
            inner += block(3, b"k")
        c.send_raw(frame(field(1, 0, varint(c.next_id())) + block(tag, inner)))
        reply, _ = c.wait(c.last_id)
        assert reply.status == pb.INVALID and reply.error, op
        assert reply.error.isprintable()
    assert [s.name for s in witness.list_caches()] == ["witness"]


@pytest.mark.parametrize("op, fields", [
    ("ping", {}), ("get", dict(cache="witness", key=b"k")), ("get_many", dict(cache="witness", keys=[b"k"])),
    ("touch", dict(cache="witness", key=b"k")), ("delete", dict(cache="witness", key=b"k")), ("clear", dict(all=True)),
    ("open_cache", dict(cache="new")), ("set_policy", dict(cache="new")), ("list_caches", {}),
    ("list_entries", dict(cache="witness")), ("explain", dict(cache="witness", key=b"k")), ("stats", {}),
    ("list_clients", {}), ("get_config", {}), ("reload_config", {}),
])
@pytest.mark.parametrize("size", [1, 70_000, 5 << 20])
def test_h20_a_body_where_none_belongs(daemon, witness, op, fields, size):
    """INVALID, the body is skipped, nothing was done, the connection goes on."""
    c = daemon.client()
    reply, body = c.call(op, b"x" * size, **fields)
    assert reply.status == pb.INVALID and reply.error and not body
    assert c.ping()
    assert [s.name for s in c.list_caches()] == ["witness"] and c.get("witness", b"k") == b"v"


@pytest.mark.parametrize("sizes, body", [
    ([1, 1], b"abc"), ([1, 1], b"a"), ([2, 2], b""), ([1], b"ab"), ([1, 1, 1], b"abc"), ([], b""), ([], b"ab"),
    ([(1 << 64) - 1, 3], b"ab"), ([1 << 63, 1 << 63], b""), ([(1 << 64) - 1, (1 << 64) - 1], b"ab"),
])
def test_h21_sizes_that_do_not_add_up(daemon, witness, sizes, body):
    """SetMany whose sizes are not its body, or not as many as its sets: INVALID, nothing is stored."""
    c = daemon.client()
    sets = [pb.Set(key=b"a"), pb.Set(key=b"b")]
    reply, _ = c.call("set_many", body, cache="t", sets=sets, sizes=sizes)
    assert reply.status == pb.INVALID and reply.error
    assert c.get("t", b"a") is None and c.get("t", b"b") is None
    assert c.ping()


def test_h22_names_inside_set_many(daemon):
    """cache and cache_id stand once, outside: inside they are INVALID for the item or for all."""
    c = daemon.client()
    for inner in (pb.Set(key=b"a", cache="other"), pb.Set(key=b"a", cache_id=1)):
        reply, _ = c.call("set_many", b"v", cache="t", sets=[inner], sizes=[1])
        assert reply.status == pb.INVALID or reply.set_many.items[0].status == pb.INVALID
    assert c.get("other", b"a") is None and c.get("t", b"a") is None


@pytest.mark.parametrize("fields", [
    dict(mode=3), dict(mode=77), dict(encoding=2), dict(encoding=99), dict(mode=-1),
])
def test_h23_enums_out_of_range(c, fields):
    """Numbers that no enum of version 1 has: INVALID, nothing stored."""
    inner = block(2, b"t") + block(3, b"k")
    for name, value in fields.items():
        inner += field({"mode": 6, "encoding": 9}[name], 0, varint(value & (1 << 64) - 1))
    c.send_raw(frame(field(1, 0, varint(c.next_id())) + block(16, inner), b"v"))
    reply, _ = c.wait(c.last_id)
    assert reply.status in (pb.INVALID, pb.UNSUPPORTED) and reply.error
    assert c.get("t", b"k") is None


def test_h24_policy_resets_out_of_range(c):
    """A field to reset that is none."""
    for reset in ([0], [max(pb.PolicyField.values()) + 1], [1, 1 << 30]):
        c.send_raw(frame(field(1, 0, varint(c.next_id())) + block(13, block(1, b"t") +
                         b"".join(field(4, 0, varint(x)) for x in reset))))
        assert c.wait(c.last_id)[0].status == pb.INVALID


# ---- values that cannot fit

@pytest.mark.parametrize("size", [200_000, 2 << 20, 40 << 20])
def test_h25_a_value_over_the_budget_is_refused_before_its_bytes(make_daemon, size):
    """TOO_LARGE comes while most of the body is still here; then the rest is skipped and life goes on."""
    d = make_daemon(memory={"realm_budget": "128K"})
    c = d.client()
    n = c.next_id()
    whole = frame(request(n, "set", cache="t", key=b"k"), b"x" * size)
    c.send_raw(whole[:100_000])
    reply, _ = c.wait(n)
    assert reply.status == pb.TOO_LARGE and reply.error
    c.send_raw(whole[100_000:])
    c.set("t", b"k", b"fits")
    assert c.get("t", b"k") == b"fits"


def test_h26_a_value_over_max_bytes(c):
    """The same for the cache's own max_bytes."""
    c.open("t", max_bytes=1_000_000)
    reply, _ = c.call("set", b"x" * 2_000_000, cache="t", key=b"k")
    assert reply.status == pb.TOO_LARGE and "max_bytes" in reply.error
    c.set("t", b"k", b"fits")


# ---- going away at every point

def test_h27_disconnect_at_every_byte_of_a_frame(daemon, witness):
    """A frame cut off at each of its bytes, before and after Hello."""
    whole = frame(request(1, "hello", protocol_min=1, protocol_max=1)) + \
        frame(request(2, "set", cache="t", key=b"key", flags=7), b"some value")
    for cut in range(len(whole)):
        c = daemon.connect()
        c.send_raw(whole[:cut])
        c.close()
    harness.wait_until(lambda: witness.stats().daemon.connections == 1, "all are gone")
    assert witness.get("t", b"key") is None


@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
def test_h28_disconnect_in_the_middle_of_64_mib(daemon, witness, how):
    """Uploads that stop half-way: not stored, and their memory comes back, every time."""
    def held():
        s = witness.stats()
        return s.daemon.buffer_bytes + s.realm.large_bytes

    before, rss = held(), daemon.rss()
    for _ in range(5):
        c = daemon.client()
        c.send_raw(HEADER.pack(len(m := request(c.next_id(), "set", cache="t", key=b"k").SerializeToString()), 64 << 20))
        c.send_raw(m + b"x" * (20 << 20))
        if how == "shutdown":
            c.sock.shutdown(socket.SHUT_WR)
        elif how == "reset":
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.close()
        else:
            c.close()
        harness.wait_until(lambda: witness.stats().daemon.connections == 1, "it is gone")
        c.close()
    harness.wait_until(lambda: held() <= before + (1 << 20), "the memory of the uploads is back")
    assert witness.get("t", b"k") is None
    if not harness.SANITIZED:
        harness.wait_until(lambda: daemon.rss() <= rss + (16 << 20), "also for the kernel")


def test_h29_gone_before_the_answers(daemon, witness):
    """Clients that ask for much and are gone when the answers come."""
    witness.set("t", b"big", b"v" * (4 << 20))
    for _ in range(30):
        c = daemon.client()
        c.send_raw(b"".join(frame(request(c.next_id(), "get", cache="t", key=b"big")) for _ in range(50)))
        c.close()
    harness.wait_until(lambda: witness.stats().daemon.connections == 1, "all are gone")


def test_h30_half_closed(daemon, witness):
    """A client that shuts its sending side down after its requests still gets their answers."""
    c = daemon.client()
    ids = [c.post("ping") for _ in range(100)]
    c.sock.shutdown(socket.SHUT_WR)
    assert [c.wait(i)[0].status for i in ids] == [wire.OK] * 100
    with pytest.raises(wire.Closed):
        c.recv()


# ---- descriptors

def told_about_descriptors(c):
    last = c.expect_goodbye(pb.PROTOCOL, 0)
    assert "descriptor" in last.error


@pytest.mark.parametrize("count", [1, 2, 64, 253])
@pytest.mark.parametrize("greeted", [False, True])
def test_h31_descriptors_where_none_belong(daemon, witness, count, greeted):
    """Pipes, memfds and sockets, one or as many as a message can carry: told so, closed, none kept."""
    before = daemon.fds()
    c = daemon.client() if greeted else daemon.connect()
    r, w = os.pipe()
    m = os.memfd_create("x")
    message = frame(request(c.next_id(), "ping"))
    c.send_raw(message, ([r, w, m] * 85)[:count])
    for fd in (r, w, m):
        os.close(fd)
    told_about_descriptors(c)
    harness.wait_until(lambda: witness.stats().daemon.connections == 1, "the sender is gone")
    harness.wait_until(lambda: sum(daemon.fds().values()) <= sum(before.values()), "no descriptor is kept")


def test_h32_descriptors_in_the_middle_of_a_body(daemon, witness):
    """Also with a piece of a value, large or small."""
    for size in (1000, 5 << 20):
        c = daemon.client()
        data = frame(request(c.next_id(), "set", cache="t", key=b"k"), b"x" * size)
        with open("/dev/null") as f:
            c.send_raw(data[:size // 2])
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                c.send_raw(data[size // 2:-10], [f.fileno()])
        told_about_descriptors(c)
        c.close()
    assert witness.get("t", b"k") is None


def test_h33_a_flood_of_descriptors(daemon, witness):
    """Fifty clients with 252 each, at once; the kernel lets an unprivileged peer send fewer."""
    fds = [os.memfd_create("x") for _ in range(3)] * 84
    senders = []
    with daemon.stopped():
        for _ in range(50):
            c = daemon.connect()
            try:
                c.send_raw(b"\x02", fds)
                senders.append(c)
            except OSError as e:
                assert e.errno == errno.ETOOMANYREFS
    assert senders
    for fd in set(fds):
        os.close(fd)
    for c in senders:
        told_about_descriptors(c)
    assert witness.ping()


def test_h34_a_descriptor_whose_close_blocks(daemon, hanging_file):
    """A file of a FUSE server that never answers FLUSH: others are served without delay, however many copies hang."""
    # The fixtures' order matters: the daemon is there before the file, and the file's server is gone before
    # the daemon is asked to end.
    w = daemon.client(name="witness")
    for _ in range(15):
        c = daemon.connect()
        c.send_raw(b"\x05", [hanging_file] * 3)
        told_about_descriptors(c)
        c.close()
        slowest = 0.0
        for i in range(40):
            begun = time.monotonic()
            w.set("t", b"%d" % i, b"v")
            assert w.get("t", b"%d" % i) == b"v"
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest < 1.0, "a request waited for a descriptor that hangs"
    harness.wait_until(lambda: w.stats().daemon.connections == 1, "the senders are gone")
    assert daemon.client().ping()


# ---- random damage

def honest_stream(rng):
    """Some requests as an honest client would send them."""
    frames = [(request(1, "hello", protocol_min=1, protocol_max=1, client="fuzz", features=1), b"")]
    for i in range(2, rng.randrange(3, 12)):
        key = rng.randbytes(rng.randrange(1, 65))
        cache = rng.choice(["a", "b", "c" * 128])
        body = b""
        op = rng.choice(["ping", "open_cache", "set_policy", "get", "get_many", "set", "set", "set_many", "touch", "delete",
                         "clear", "list_caches", "list_entries", "explain", "stats", "list_clients", "get_config"])
        fields = {}
        if op in ("open_cache", "set_policy"):
            fields = dict(cache=cache, policy=wire.policy(*(rng.choice([None, 1, 1000, 1 << 40]) for _ in range(3))))
        elif op in ("get", "touch", "delete", "explain"):
            fields = dict(cache=cache, key=key)
        elif op == "get_many":
            fields = dict(cache=cache, keys=[key, b"k"])
        elif op == "set":
            body = rng.randbytes(rng.choice([0, 10, 5000, 100_000]))
            fields = dict(cache=cache, key=key, flags=rng.getrandbits(32), cost_us=rng.getrandbits(rng.randrange(1, 64)),
                          mode=rng.randrange(3))
        elif op == "set_many":
            body = rng.randbytes(30)
            fields = dict(cache=cache, sets=[pb.Set(key=key), pb.Set(key=b"k", ttl_ms=5)], sizes=[10, 20])
        elif op in ("clear", "list_entries"):
            fields = dict(cache=cache)
        frames.append((request(i, op, deadline_ms=rng.choice([0, 0, 1000]), **fields), body))
    return frames


def damaged(rng, frames):
    """The stream with a few things wrong: bits, bytes, lengths, order, cuts."""
    data = bytearray()
    for message, body in frames:
        message = bytearray(message.SerializeToString())
        if rng.random() < 0.3 and message:
            for _ in range(rng.randrange(1, 5)):
                message[rng.randrange(len(message))] = rng.randrange(256)
        lie = {}
        if rng.random() < 0.05:
            lie["n_body"] = rng.choice([0, len(body) + 1, rng.getrandbits(20), rng.getrandbits(64)])
        if rng.random() < 0.05:
            lie["n_message"] = rng.choice([0, len(message) - 1, len(message) + 1, rng.getrandbits(16), rng.getrandbits(32)])
            lie["n_message"] = max(lie["n_message"], 0)
        data += frame(message, body, **lie)
    kind = rng.random()
    if kind < 0.3:
        for _ in range(rng.randrange(1, 10)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind < 0.5:
        at = rng.randrange(len(data))
        data[at:at] = rng.randbytes(rng.randrange(1, 40))
    elif kind < 0.7:
        del data[rng.randrange(len(data)):]
    return bytes(data)


def converse(path, data, rng):
    """Sends @data in pieces, takes what comes, until the daemon closes. Every frame that comes has to parse."""
    with wire.Client(path) as c:
        # The answers of a stream this short always fit into the socket: no need to read in between.
        try:
            at = 0
            while at < len(data):
                n = rng.choice([1, 7, 100, 5000, 1 << 20])
                c.send_raw(data[at:at + n])
                at += n
            c.sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError, OSError):
            pass
        n = 0
        try:
            while True:
                c.recv_any()
                n += 1
        except wire.Closed as e:
            assert "unfinished" not in str(e) or "0 bytes" in str(e) or n >= 0
        return n


def test_h40_damaged_streams(daemon):
    """Two thousand honest streams with random damage (50,000 in the long run), and the daemon serves on."""
    witness = daemon.client(name="witness")
    rng = random.Random(20240229)
    answers = 0
    for i in range(50_000 if harness.LONG else 2_000):
        try:
            answers += converse(daemon.socket, damaged(rng, honest_stream(rng)), rng)
        except (AssertionError, TimeoutError) as e:
            raise AssertionError(f"stream {i}: {e!r}") from e
        if i % 100 == 0:
            assert witness.ping()
    assert answers > 2000, "the damage left nothing to answer: this test tests too little"
    harness.wait_until(lambda: witness.stats().daemon.connections == 1, "all are gone")


def test_h41_random_bytes(daemon, witness):
    """Random bytes, with and without an honest beginning."""
    rng = random.Random(7)
    hello = frame(request(1, "hello", protocol_min=1, protocol_max=1))
    for i in range(300):
        data = (hello if i % 2 else b"") + rng.randbytes(rng.randrange(1, 3000))
        converse(daemon.socket, data, rng)
