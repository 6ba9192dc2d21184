# SPDX-License-Identifier: MIT
"""Sessions: dictionaries that only those see who have the token.

S0x  values: order, versions, all or none, modes
S1x  tokens, names and limits: what is refused, and how
S2x  numbers, and changes that must not be carried out twice
S3x  how they end: closed, idle, left, evicted
S4x  events
S5x  another process goes on: handed over, killed
"""

import multiprocessing
import os

import pytest

import harness
import wire
from harness import PATIENCE, wait_until
from test_t_takeover import restart, take_over
from wire import EXISTS, INVALID, LIMIT, NOT_FOUND, OK, TOO_LARGE, pb

GONE = "there is no session with this token in the realm (any more): open one"


class Session:
    """A session by its token, on one connection."""

    def __init__(self, c, token=None, **fields):
        self.c = c
        self.info = None
        if token is None:
            self.info = c.must("open_session", **fields).session
            token = self.info.token
            assert len(token) == 16
        self.token = token

    def call(self, op, body=b"", **fields):
        return self.c.call("session_" + op, body, token=self.token, **fields)

    def must(self, op, body=b"", **fields):
        reply, body = self.call(op, body, **fields)
        assert reply.status == OK, (wire.pb.Status.Name(reply.status), reply.error)
        return reply.session_items, body

    def status(self, op, body=b"", **fields):
        reply, _ = self.call(op, body, **fields)
        assert bool(reply.error) == (reply.status not in (OK, NOT_FOUND) or reply.error == GONE), reply
        return reply.status

    def set(self, values, **fields):
        """@values: {key: bytes}."""
        items = [pb.SessionItem(key=k, size=len(v)) for k, v in values.items()]
        return self.must("set", b"".join(values.values()), items=items, **fields)[0]

    def set_status(self, values, **fields):
        items = [pb.SessionItem(key=k, size=len(v)) for k, v in values.items()]
        return self.status("set", b"".join(values.values()), items=items, **fields)

    def all(self, **fields):
        """{key: value}, in order."""
        items, body = self.must("get", **fields)
        out, at = {}, 0
        for item in items.items:
            out[item.key] = body[at:at + item.size]
            at += item.size
        assert at == len(body)
        return out

    def get(self, key):
        items, body = self.must("get", keys=[key])
        return body if items.items[0].status == OK else None

    def add(self, key, n=1, **fields):
        return int(self.must("increment", key=key, integer=n, **fields)[1])

    def attach(self, **fields):
        return self.c.must("attach_session", token=self.token, **fields).session

    def is_there(self):
        reply, _ = self.c.call("attach_session", token=self.token)
        assert reply.status in (OK, NOT_FOUND) and (reply.status == OK or reply.error == GONE)
        return reply.status == OK

    def close(self):
        return self.c.must("close_session", token=self.token).session


def listed(c, **fields):
    out, cursor = [], 0
    while True:
        page = c.must("list_sessions", cursor=cursor, **fields).list_sessions
        out += page.sessions
        cursor = page.next
        if not cursor:
            return out


@pytest.fixture
def s(c):
    """A session that is closed at the end."""
    s = Session(c, label="label")
    yield s
    try:
        c.call("close_session", token=s.token)
    except OSError:
        pass


# ---- values

def test_s01_values_and_their_order(c, s):
    assert c.info.features & pb.FEATURE_SESSIONS
    assert s.all() == {}
    result = s.set({"b": b"1", "a": b"", "c": b"\0binary"})
    assert [(i.key, i.version) for i in result.items] == [("b", 1), ("a", 1), ("c", 1)] and result.version == 1
    assert list(s.all().items()) == [("b", b"1"), ("a", b""), ("c", b"\0binary")]
    s.set({"a": b"new", "d": b"4"})
    assert list(s.all().items()) == [("b", b"1"), ("a", b"new"), ("c", b"\0binary"), ("d", b"4")]
    deleted, _ = s.must("delete", keys=["x", "b", "y"])
    assert [i.key for i in deleted.items] == ["b"] and deleted.version == 3
    s.set({"b": b"again"})
    assert list(s.all()) == ["a", "c", "d", "b"], "deleted and set again counts as first"
    items, body = s.must("get", keys=["d", "none", "a"])
    assert [(i.key, i.status, i.size, i.version) for i in items.items] == \
        [("d", OK, 1, 2), ("none", NOT_FOUND, 0, 0), ("a", OK, 3, 2)]
    assert body == b"4new" and items.version == 4
    items, body = s.must("get", keys=["d"], without_values=True)
    assert items.items[0].size == 1 and body == b""
    nothing, _ = s.must("delete", keys=["x"])
    assert nothing.version == 4 and not nothing.items, "what changes nothing is no change"
    assert s.must("delete", all=True)[0].version == 5
    assert s.all() == {}
    items = [pb.SessionItem(key="f", size=1, flags=77)]
    s.must("set", b"x", items=items)
    assert s.must("get")[0].items[0].flags == 77


def test_s02_modes(s):
    s.set({"k": b"first"}, mode=pb.SET_ADD_ONLY)
    reply, body = s.call("set", b"second", items=[pb.SessionItem(key="k", size=6)], mode=pb.SET_ADD_ONLY)
    assert (reply.status, body) == (EXISTS, b"first") and reply.error
    assert reply.session_items.items[0].version == 1, "the winner is told"
    assert s.set_status({"none": b"x"}, mode=pb.SET_REPLACE_ONLY) == NOT_FOUND
    assert s.set_status({"none": b"x"}, expected_version=1) == NOT_FOUND
    s.set({"k": b"second"}, expected_version=1)
    reply, body = s.call("set", b"third", items=[pb.SessionItem(key="k", size=5)], expected_version=1)
    assert (reply.status, body) == (wire.VERSION_MISMATCH, b"")
    assert (reply.session_items.items[0].version, reply.session_items.items[0].size) == (2, 6)
    assert s.get("k") == b"second"
    assert s.set_status({"a": b"", "b": b""}, mode=pb.SET_ADD_ONLY) == INVALID
    assert s.set_status({"a": b""}, mode=pb.SET_ADD_ONLY, expected_version=1) == INVALID


def test_s03_append(s):
    assert s.must("append", b"abc", key="k", flags=5)[0].items[0].size == 3
    assert s.must("append", b"def", key="k", flags=9)[0].items[0].size == 6
    assert s.get("k") == b"abcdef"
    assert s.must("append", b"ghi", key="k", max_bytes=4)[0].items[0].size == 4
    assert s.get("k") == b"fghi"
    assert s.must("append", b"0123456789", key="k", max_bytes=4)[0].items[0].size == 4
    assert s.get("k") == b"6789"
    assert s.must("get")[0].items[0].flags == 5, "flags are those of a new value"


def test_s04_two_clients_one_key(daemon, c, s):
    """Both see the same, each change at once, and one of two that add wins."""
    d = Session(daemon.client(), s.token)
    s.set({"k": b"of one"})
    assert d.get("k") == b"of one"
    d.set({"k": b"of two"})
    assert s.get("k") == b"of two"
    a = c.post("session_set", b"1", token=s.token, items=[pb.SessionItem(key="n", size=1)], mode=pb.SET_ADD_ONLY)
    b = d.c.post("session_set", b"2", token=s.token, items=[pb.SessionItem(key="n", size=1)], mode=pb.SET_ADD_ONLY)
    replies = [c.wait(a), d.c.wait(b)]
    assert sorted(r.status for r, _ in replies) == [OK, EXISTS]
    winner = b"1" if replies[0][0].status == OK else b"2"
    loser = replies[1] if replies[0][0].status == OK else replies[0]
    assert loser[1] == winner == s.get("n") == d.get("n")


def test_s05_long_values(s):
    """Values that take many reads, up to what a session may have."""
    value = os.urandom((1 << 20) - 4)
    s.set({"long": value})
    assert s.get("long") == value
    assert s.set_status({"k": b"x"}) == TOO_LARGE
    assert s.set_status({"long": os.urandom(1 << 20)}) == TOO_LARGE
    assert s.set_status({"long": b"x" * (5 << 20)}) == TOO_LARGE
    assert s.get("long") == value
    s.set({"long": b""})
    s.set({"k": b"x"})


# ---- what is refused

def test_s11_tokens(daemon, c, s):
    """Guessed, of another length, closed, of another realm: all the same answer."""
    uid = os.geteuid()
    other = make_other_realm(daemon)
    closed = Session(c)
    closed.close()
    flipped = bytes([s.token[0] ^ 1]) + s.token[1:]
    texts = set()
    for token in (os.urandom(16), bytes(16), b"", b"short", s.token + b"x", flipped, closed.token, other.token):
        for op, fields in (("session_get", {}), ("session_delete", dict(all=True)), ("close_session", {}),
                           ("attach_session", {}), ("session_increment", dict(key="k", integer=1))):
            reply, body = c.call(op, token=token, **fields)
            assert reply.status == NOT_FOUND and not body and reply.WhichOneof("result") is None
            texts.add(reply.error)
    assert texts == {GONE}
    assert other.all() == {} and s.all() == {} and uid == c.info.uid
    other.close()


def make_other_realm(daemon):
    harness.needs_root()
    return Session(daemon.client(realm="uid:54321"))


@pytest.mark.parametrize("key", ["", "a\0b", "tab\t", "k" * 129, "\x85"])
def test_s12_keys(s, key):
    assert s.set_status({key: b"x"}) == INVALID
    assert s.status("get", keys=[key]) == INVALID
    assert s.status("delete", keys=[key]) == INVALID
    assert s.status("increment", key=key, integer=1) == INVALID
    assert s.status("append", b"x", key=key) == INVALID
    s.set({"k" * 128: b"", "ü" * 64: b""})


def test_s13_requests_that_say_nothing(c, s):
    assert s.status("set") == INVALID
    assert s.status("delete") == INVALID
    assert s.status("delete", keys=["a"], all=True) == INVALID
    assert s.status("increment", key="k") == INVALID
    assert s.status("get", keys=["a", "b", "a"]) == INVALID
    assert s.status("delete", keys=["a", "a"]) == INVALID
    twice = [pb.SessionItem(key="a", size=0), pb.SessionItem(key="a", size=0)]
    assert s.status("set", items=twice) == INVALID
    assert s.status("set", b"xy", items=[pb.SessionItem(key="a", size=1)]) == INVALID
    assert s.status("set", b"x", items=[pb.SessionItem(key="a", size=2)]) == INVALID
    assert s.status("set", b"x", items=[pb.SessionItem(key="a", size=2 ** 64 - 1)]) == INVALID
    assert s.status("set", b"x", items=[pb.SessionItem(key="a", size=1)], mode=99) == INVALID
    assert s.status("increment", key="k", integer=1, start_real=1.0) == INVALID
    assert s.status("increment", key="k", real=float("nan")) == INVALID
    assert s.status("increment", key="k", real=float("inf"), start_integer=1) == INVALID
    for fields in (dict(label="x" * 65), dict(label="\n"), dict(idle_ms=0), dict(idle_ms=2 ** 63),
                   dict(never_idle=False), dict(grace_ms=3_600_001), dict(want_events=True)):
        assert c.status("open_session", **fields) == INVALID, fields
    c.must("ping")
    assert s.all() == {}


def test_s14_limits(make_daemon):
    d = make_daemon(limits=dict(session_keys=3, session_bytes=1024, sessions_per_uid=2))
    c = d.client()
    s, t = Session(c), Session(c)
    reply, _ = c.call("open_session")
    assert reply.status == LIMIT and "limits.sessions_per_uid" in reply.error
    s.set({"a": b"", "b": b"", "c": b""})
    assert s.set_status({"d": b""}) == LIMIT
    assert s.set_status({"a": b"x", "d": b"y"}) == LIMIT and s.get("a") == b"", "all or none"
    assert s.status("append", b"x", key="d") == LIMIT
    assert s.status("increment", key="d", integer=1, start_integer=0) == LIMIT
    t.set({"k": b"x" * 1023})
    assert t.set_status({"k": b"x" * 1024}) == TOO_LARGE
    assert t.status("append", b"y", key="k") == TOO_LARGE
    t.must("append", b"y", key="k", max_bytes=1023)
    assert t.get("k") == b"x" * 1022 + b"y"
    t.close()
    t = Session(c)
    assert t.all() == {}
    t.close(), s.close()


def test_s15_a_reply_that_is_too_long(make_daemon):
    """That it would be is said before anything is changed."""
    d = make_daemon(limits=dict(message_bytes="4K"))
    c = d.client()
    s = Session(c)
    values = {f"k{i}": b"" for i in range(400)}
    assert s.set_status(values) == TOO_LARGE
    assert s.all() == {} and s.must("get")[0].version == 0
    few = dict(list(values.items())[:50])
    assert len(s.set(few).items) == 50 and s.all() == few
    s.close()


# ---- numbers

def test_s21_numbers(s):
    assert s.status("increment", key="n", integer=5) == NOT_FOUND
    assert s.add("n", 5, start_integer=100) == 105
    assert s.add("n", -200) == -95
    s.set({"n": b"9223372036854775807"})
    assert s.status("increment", key="n", integer=1) == INVALID
    assert s.get("n") == b"9223372036854775807"
    for text in (b"", b"abc", b" 1", b"1 ", b"1.5", b"0x10", b"\xff", b"9223372036854775808"):
        s.set({"n": text})
        assert s.status("increment", key="n", integer=1) == INVALID, text
        assert s.get("n") == text
    for text in (b"", b"nan", b"inf", b"1,5", b"1e999", b"0x1p3"):
        s.set({"n": text})
        assert s.status("increment", key="n", real=1.0) == INVALID, text
    s.set({"n": b"0.1"})
    assert s.must("increment", key="n", real=0.2)[1] == b"0.30000000000000004"
    assert s.must("increment", key="n", real=1e300)[1] == b"1e+300"
    s.set({"n": b"41"})
    assert s.must("increment", key="n", real=1.0)[1] == b"42", "an integer is counted on as a real one"
    assert s.add("n") == 43
    s.set({"n": b"1.7976931348623157e308"})
    assert s.status("increment", key="n", real=1.7976931348623157e308) == INVALID


def once(lane, number):
    return dict(operation=pb.Operation(lane=lane, number=number))


def again(s, op, body=b"", **fields):
    """The same request, said to be repeated, under a new id."""
    i = s.c.next_id()
    s.c.send(wire.request(i, "session_" + op, repeated=True, token=s.token, **fields), body)
    return s.c.wait(i)


def test_s22_once(daemon, c, s):
    fields = dict(key="n", integer=1, start_integer=0, **once(7, 1))
    first, body = s.must("increment", **fields)
    assert body == b"1" and not first.again
    reply, body = again(s, "increment", **fields)
    assert (reply.status, body) == (OK, b"1") and reply.session_items.again
    assert reply.session_items.version == first.version == 1
    assert s.status("increment", **fields) == INVALID, "a new request has a new number"
    # From another connection, too, with its own client_id and an old id.
    d = daemon.client(client_id=bytes(range(16)), last_id=1000)
    d.send(wire.request(5, "session_increment", repeated=True, token=s.token, **fields))
    reply, body = d.wait(5)
    assert (reply.status, body, reply.session_items.again) == (OK, b"1", True)
    # One that was never carried out is now.
    reply, body = again(s, "increment", key="n", integer=1, **once(7, 2))
    assert (reply.status, body, reply.session_items.again) == (OK, b"2", False)
    reply, _ = again(s, "increment", **fields)
    assert reply.status == wire.OUTCOME_UNKNOWN and s.get("n") == b"2"
    # What changed nothing is carried out again.
    item = dict(items=[pb.SessionItem(key="n", size=1)], mode=pb.SET_ADD_ONLY)
    assert s.status("set", b"x", **item, **once(8, 1)) == EXISTS
    s.must("delete", keys=["n"])
    assert again(s, "set", b"x", **item, **once(8, 1))[0].status == OK
    reply, _ = again(s, "set", b"x", **item, **once(8, 1))
    assert reply.status == OK and reply.session_items.again
    reply, _ = again(s, "append", b"y", key="n")
    assert reply.status == wire.OUTCOME_UNKNOWN, "nobody knows without an operation"
    assert again(s, "delete", keys=["n"])[0].status == OK
    # Deletes and appends tell what they told.
    s.set({"a": b"", "b": b""})
    for repeat in (False, True):
        fields = dict(keys=["x", "b", "a"], **once(9, 1))
        reply, _ = again(s, "delete", **fields) if repeat else s.call("delete", **fields)
        assert [i.key for i in reply.session_items.items] == ["b", "a"] and reply.session_items.again == repeat
        fields = dict(key="l", max_bytes=3, **once(10, 1))
        reply, _ = again(s, "append", b"12345", **fields) if repeat else s.call("append", b"12345", **fields)
        assert reply.session_items.items[0].size == 3 and reply.session_items.again == repeat


def test_s23_lanes(s):
    """Of 65 lanes the one that was used least recently is forgotten, and that is said."""
    for lane in range(64):
        s.add("n", start_integer=0, **once(lane, 1))
    assert again(s, "increment", key="n", integer=1, **once(0, 1))[0].session_items.again
    s.add("n", **once(0, 2))
    s.add("n", **once(64, 1))
    assert again(s, "increment", key="n", integer=1, **once(1, 1))[0].status == wire.OUTCOME_UNKNOWN
    assert again(s, "increment", key="n", integer=1, **once(99, 1))[0].status == wire.OUTCOME_UNKNOWN
    assert again(s, "increment", key="n", integer=1, **once(0, 2))[0].session_items.again
    assert s.get("n") == b"66"


def count_many(socket, token, lane, n, go):
    """Counts @n times; what it has no answer to it asks again, on a new connection."""
    c, number, go_on = None, 0, False
    go.wait()
    while number < n:
        try:
            if c is None:
                c = wire.Client(socket, timeout=PATIENCE)
                c.hello()
            i = c.next_id()
            c.send(wire.request(i, "session_increment", repeated=go_on, token=token, key="n", integer=1,
                                start_integer=0, **once(lane, number + 1)))
            go_on = True
            reply, _ = c.wait(i)
            if reply.status == wire.SHUTTING_DOWN:
                raise wire.Closed("again")
            assert reply.status == OK, reply
            number, go_on = number + 1, False
        except (wire.Closed, wire.Refused, OSError):
            if c:
                c.close()
            c = None


def count_together(daemon, token, n_processes, n_each, meanwhile):
    context = multiprocessing.get_context("fork")
    go = context.Event()
    workers = [context.Process(target=count_many, args=(daemon.socket, token, i, n_each, go))
               for i in range(n_processes)]
    for w in workers:
        w.start()
    go.set()
    meanwhile()
    for w in workers:
        w.join(PATIENCE * 4)
        assert w.exitcode == 0


N_EACH = 1000 if harness.LONG else 100


def test_s24_counted_by_twenty(daemon, s):
    count_together(daemon, s.token, 20, N_EACH, lambda: None)
    assert s.get("n") == b"%d" % (20 * N_EACH)


@pytest.mark.parametrize("how", ["handover", "crash"])
def test_s25_counted_over_a_takeover(daemon, how):
    """None lost, none doubled, with other processes going on in between."""
    s = Session(daemon.client())

    def meanwhile():
        for part in (1, 2):
            with daemon.probe() as c:
                wait_until(lambda c=c: int(Session(c, s.token).get("n") or b"0") > part * 5 * N_EACH, "some are counted")
            (take_over if how == "handover" else restart)(daemon)
    count_together(daemon, s.token, 20, N_EACH, meanwhile)
    t = Session(daemon.client(), s.token)
    assert t.get("n") == b"%d" % (20 * N_EACH)
    t.close()


# ---- how they end

def test_s31_closed(daemon, c, s):
    d = Session(daemon.client(), s.token)
    s.set({"k": b"v"})
    info = d.close()
    assert info.id == s.info.id and info.keys == 1 and info.bytes == 2
    assert not s.is_there() and not d.is_there()
    fresh = Session(c, label="label")
    assert fresh.all() == {} and fresh.token != s.token, "another one, whatever the label"
    fresh.close()


def test_s32_idle(c, clock):
    s, t, u = Session(c, idle_ms=100_000), Session(c), Session(c, never_idle=True)
    assert s.info.idle_ms == 100_000 and t.info.idle_ms == 86_400_000 and u.info.WhichOneof("idle") is None
    s.set({"k": b"v"})
    for _ in range(5):
        clock.advance(90_000)
        assert s.get("k") == b"v", "every use counts"
    clock.advance(90_000)
    (info,) = [i for i in listed(c) if i.id == s.info.id]
    assert 90_000 <= info.unused_ms < 100_000 and 540_000 <= info.age_ms < 600_000, "to be listed is no use"
    assert s.get("k") == b"v"
    clock.advance(100_000)
    assert not s.is_there()
    clock.advance(86_400_000)
    assert not t.is_there()
    assert u.is_there() and c.stats().realm.sessions_expired == 2
    u.close()


def test_s33_grace(daemon, c, clock):
    """A dropped connection attaches again within the grace; after it the session is gone."""
    holder = daemon.client()
    s = Session(holder, grace_ms=50_000, attach=True)
    s.set({"k": b"v"})
    watcher = Session(c, s.token)
    clock.advance(600_000)
    assert watcher.get("k") == b"v", "somebody is attached"
    assert [i.attached for i in listed(c)] == [1]
    holder.close()
    wait_until(lambda: [i.attached for i in listed(c)] == [0], "the end of the connection is seen")
    clock.advance(40_000)
    holder = daemon.client()
    s = Session(holder, s.token)
    assert s.attach(stay=True).attached == 1
    clock.advance(600_000)
    assert s.get("k") == b"v"
    assert s.attach().attached == 0, "without stay it is left"
    clock.advance(40_000)
    assert watcher.get("k") == b"v", "a use is no attaching:"
    clock.advance(10_000)
    assert not watcher.is_there() and not s.is_there()
    t = Session(c, grace_ms=3_000)
    clock.advance(3_000)
    assert not t.is_there(), "opened without being attached"
    t = Session(c, grace_ms=3_000, idle_ms=1_000, attach=True)
    clock.advance(1_000)
    assert not t.is_there(), "idle though attached"


def test_s33b_one_of_two_leaves(daemon, c, clock):
    """Who is still attached keeps the session, and is told of it."""
    first, second = daemon.client(), daemon.client()
    s = Session(first, grace_ms=5_000, attach=True, want_events=True)
    t = Session(second, s.token)
    assert t.attach(stay=True, want_events=True).attached == 2
    first.close()
    wait_until(lambda: [i.attached for i in listed(c)] == [1], "the end of the connection is seen")
    clock.advance(60_000)
    assert Session(c, s.token).set({"k": b"v"}).version == 1
    assert told(second) == [("SET", ["k"], 1)]
    assert t.attach().attached == 0
    clock.advance(5_000)
    assert not t.is_there()


def test_s34_evicted(make_daemon):
    """When the budget is full the session that was used least recently goes."""
    d = make_daemon(memory=dict(session_budget="1M"))
    c = d.client()
    sessions = []
    for i in range(10):
        s = Session(c)
        s.set({"k": b"%d" % i * 100_000})
        sessions.append(s)
        if sessions[0].is_there():
            assert sessions[0].get("k") == b"0" * 100_000
    there = [s.is_there() for s in sessions]
    assert there[0] and there[-1] and not there[1], there
    assert c.stats().realm.sessions_evicted == there.count(False)
    for s, is_there in zip(sessions, there):
        if is_there:
            s.close()


def test_s35_most_of_a_realm(make_daemon):
    d = make_daemon(limits=dict(sessions_per_realm=3))
    c = d.client()
    sessions = [Session(c) for _ in range(3)]
    assert sessions[0].is_there()
    sessions.append(Session(c))
    assert [s.is_there() for s in sessions] == [True, False, True, True]
    for s in sessions:
        c.call("close_session", token=s.token)


def test_s36_listed(daemon, c):
    """Pages with every session once; others than admins see their own."""
    sessions = [Session(c, label=f"number {i}") for i in range(25)]
    rows = listed(c, page_size=7)
    assert sorted(r.label for r in rows) == sorted(f"number {i}" for i in range(25))
    assert not any(r.token for r in rows) and len({r.id for r in rows}) == 25
    assert all(r.uid == c.info.uid and len(r.id) == 16 for r in rows)
    assert {r.id for r in rows} == {s.info.id for s in sessions}
    assert c.stats().realm.sessions == 25
    for s in sessions:
        s.close()
    assert listed(c) == []


def test_s37_of_two_users(make_daemon):
    harness.needs_root()
    d = make_daemon(daemon=dict(socket_mode="0666"), extra="[realm shared]\nadmins = root\nwriters = daemon, bin\nreaders = sys\n")
    a, b = d.client(uid=1, realm="shared"), d.client(uid=2, realm="shared")
    s, t = Session(a, label="of a"), Session(b, label="of b")
    Session(b, s.token).set({"k": b"set by b"})
    assert s.get("k") == b"set by b"
    assert [i.label for i in listed(a)] == ["of a"] and [i.label for i in listed(b)] == ["of b"]
    admin = d.client(realm="shared")
    assert sorted((i.label, i.uid) for i in listed(admin)) == [("of a", 1), ("of b", 2)]
    reader = d.client(uid=3, realm="shared")
    assert reader.status("open_session") == wire.DENIED
    assert reader.status("list_sessions") == wire.DENIED
    assert reader.call("session_get", token=s.token)[0].status == wire.DENIED
    s.close(), t.close()


def test_s38_a_writer_no_more(make_daemon):
    """Who is a reader since a reload is told of nothing any more, and has left."""
    harness.needs_root()
    realm = "[realm shared]\nadmins = root\n%s = daemon\n"
    d = make_daemon(daemon=dict(socket_mode="0666"), extra=realm % "writers")
    a, admin = d.client(uid=1, realm="shared"), d.client(realm="shared")
    s = Session(a, attach=True, want_events=True)
    d.config_path.write_text(harness.config_text(daemon=dict(socket_mode="0666"), extra=realm % "readers"))
    admin.must("reload_config")
    assert [i.attached for i in listed(admin)] == [0]
    t = Session(admin, s.token)
    t.set({"k": b""})
    assert told(a) == [] and a.call("session_get", token=s.token)[0].status == wire.DENIED
    t.close()


# ---- events

def told(c):
    """(change, keys, version) of what has come."""
    c.ping()
    out = [(pb.SessionChange.Name(e.session.change)[8:], list(e.session.keys), e.session.version)
           for e in c.events]
    c.events.clear()
    return out


def test_s41_events(daemon, c, s):
    d = daemon.client()
    t = Session(d, s.token)
    t.attach(stay=True, want_events=True)
    s.set({"a": b"1", "b": b"2"})
    s.must("delete", keys=["none", "b"])
    s.must("delete", keys=["none"])
    s.add("n", start_integer=0)
    s.must("append", b"x", key="l")
    s.must("delete", all=True)
    t.set({"own": b""})
    wait_until(lambda: d.ping() and len(d.events) == 6, "all events")
    assert {e.session.id for e in d.events} == {s.info.id}
    assert told(d) == [("SET", ["a", "b"], 1), ("DELETED", ["b"], 2), ("SET", ["n"], 3), ("SET", ["l"], 4),
                       ("CLEARED", [], 5), ("SET", ["own"], 6)]
    t.attach(stay=True)
    s.set({"k": b""})
    assert told(d) == [], "not any more"
    t.attach(stay=True, want_events=True)
    many = {f"key {i}": b"" for i in range(100)}
    s.set(many)
    s.close()
    wait_until(lambda: d.ping() and d.events and d.events[-1].session.change == pb.SESSION_CLOSED, "the end")
    events = told(d)
    assert events[-1][0] == "CLOSED" and {e[2] for e in events[:-1]} == {8}
    assert [k for e in events[:-1] for k in e[1]] == list(many) or \
        sorted(k for e in events[:-1] for k in e[1]) == sorted(many)
    plain = daemon.client(features=0)
    u = Session(plain)
    assert plain.status("attach_session", token=u.token, stay=True, want_events=True) == INVALID
    assert c.status("attach_session", token=u.token, want_events=True) == INVALID
    u.close()


def test_s42_ends_are_told(make_daemon, needs_clock):
    d = make_daemon(limits=dict(sessions_per_realm=2))
    c = d.client()
    s = Session(c, idle_ms=1_000, attach=True, want_events=True)
    d.clock.advance(1_000)
    wait_until(lambda: c.ping() and c.events, "an event")
    assert told(c) == [("EXPIRED", [], 0)]
    s = Session(c, attach=True, want_events=True)
    others = [Session(c) for _ in range(2)]
    wait_until(lambda: c.ping() and c.events, "an event")
    assert told(c) == [("EVICTED", [], 0)] and not s.is_there()
    for o in others:
        o.close()


def test_s43_who_does_not_read(make_daemon):
    """It is told that it missed something, in the place of it, and what came after that."""
    d = make_daemon(limits=dict(events_queued=16))
    c, slow = d.client(), d.client()
    s = Session(c)
    Session(slow, s.token).attach(stay=True, want_events=True)
    # Long keys, so that socket and output are full soon.
    items = [pb.SessionItem(key=f"{i:0128}", size=0) for i in range(32)]
    n = 0
    while n < 500:
        for _ in range(20):
            c.post("session_set", token=s.token, items=items)
            n += 1
        while len(c.waiting) or c.last_id:
            c.ping()
            break
    s.set({"last": b""})
    last = s.must("get", keys=["last"])[0].version
    seen = []

    def read():
        slow.ping()
        seen.extend(told(slow))
        return seen and seen[-1][0] in ("LOST", "SET") and any(e[0] == "LOST" for e in seen)
    wait_until(read, "a loss is told")
    versions = [v for change, _, v in seen if change == "SET"]
    assert versions == sorted(versions) and len(versions) < last
    s.set({"after": b""})
    wait_until(lambda: told_of(slow, seen, "after"), "what comes then is told")
    s.close()


def told_of(c, seen, key):
    seen.extend(told(c))
    return any(key in keys for _, keys, _ in seen)


# ---- another process goes on

@pytest.mark.parametrize("how", ["handover", "crash"])
def test_s51_kept(daemon, clock, how):
    """All of it: values, order, versions, what it remembers; a grace begins anew."""
    c = daemon.client()
    s = Session(c, label="kept", idle_ms=600_000)
    bound = Session(c, grace_ms=60_000, attach=True)
    s.set({"b": b"1", "a": b"2" * 300_000})
    s.add("n", start_integer=0, **once(3, 1))
    before = s.must("get")
    clock.advance(1_000)
    (take_over if how == "handover" else restart)(daemon)
    c = daemon.client()
    s, bound = Session(c, s.token), Session(c, bound.token)
    assert s.must("get") == before
    reply, body = again(s, "increment", key="n", integer=1, **once(3, 1))
    assert (reply.status, body, reply.session_items.again) == (OK, b"1", True)
    (info,) = [i for i in listed(c) if i.label == "kept"]
    assert info.idle_ms == 600_000 and 1_000 <= info.age_ms < 60_000 and info.attached == 0
    clock.advance(40_000)
    assert bound.is_there()
    clock.advance(20_000)
    assert not bound.is_there(), "nobody attached again within the grace"
    assert c.call("session_get", token=os.urandom(16))[0].error == GONE
    s.close()
