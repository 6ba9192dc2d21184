# SPDX-License-Identifier: MIT
"""Leases, from several real processes: computed once on the whole machine, also when the one that computes is killed.

    P0x  asking: a hit, a lease, yours, busy, a wait with a deadline, a circle
    P1x  ends by storing: values of all kinds, shared and refused ones, late ones
    P2x  ends otherwise: given up, its holder's end, its deadline, its key's change
    P3x  staleness
"""

import os
import random
import time

import pytest

import files
import harness
import wire
from harness import wait_until
from lease_world import (BUSY, CYCLE, FAILED, GRANTED, NONE, TIMEOUT, UNSTORABLE, YOURS, a, b, c, client, has, make_peer,
                         misses, waits, x)  # noqa: F401
from peers import FEATURES
from test_lz4 import packed
from wire import pb


# ---- asking

def test_p01_a_hit_is_a_hit(a, c):
    c.set("t", b"k", b"value")
    reply = has(a.asked(), b"value")
    assert reply.HasField("lease") and reply.lease.lease_id == 0
    assert c.stats("t").leases == 0


def test_p02_one_computes_and_others_get_its_value(a, b, x):
    lease = a.lease()
    i, k = b.ask(), x.ask()
    assert a.store(lease, b"value").status == wire.OK
    told = has(b.wait(i), b"value")
    assert told.entry.version == has(x.wait(k), b"value").entry.version != 0
    assert (told.lease.holder_pid, told.lease.holder, told.lease.holder_uid) == (a.pid, "holder", os.getuid())
    assert told.lease.state == told.lease.lease_id == 0
    has(b.asked(), b"value")


def test_p03_the_same_owner_asks_again(a, b):
    """On its own connection under its own number only."""
    lease = a.lease(owner=7)
    assert misses(a.asked(owner=7), YOURS).lease_id == lease
    misses(a.asked(owner=8, wait_ms=0), BUSY)
    misses(b.asked(owner=7, wait_ms=0), BUSY)


def test_p04_who_does_not_wait_is_told_who_computes(a, b):
    a.lease()
    lease = misses(b.asked(wait_ms=0), BUSY)
    assert (lease.holder_pid, lease.holder, lease.lease_id) == (a.pid, "holder", 0)
    assert lease.holder_uid == os.getuid()


def test_p05_a_wait_has_a_deadline(a, b, clock):
    a.lease()
    i = b.ask(wait_ms=5000)
    clock.advance(5000)
    lease = misses(b.wait(i), TIMEOUT)
    assert lease.waited_ms >= 5000 and lease.holder_pid == a.pid and lease.age_ms >= 5000


def test_p06_a_wait_holds_up_nothing(a, b, c):
    """Later requests of its connection are answered before it."""
    lease = a.lease()
    i = b.ask()
    assert b.call("set", b"v", cache="t", key=b"else")[0].status == wire.OK
    assert b.call("get", cache="t", key=b"else")[1] == b"v"
    waits(c)
    a.store(lease, b"value")
    has(b.wait(i), b"value")


def test_p07_owners_of_one_connection(a, c):
    """Two computations of one process: one waits for the other."""
    lease = a.lease(owner=1)
    i = a.ask(owner=2)
    waits(c)
    a.store(lease, b"value")
    has(a.wait(i), b"value")


def test_p08_owners_of_two_connections_of_one_process(daemon, c):
    one, two = client(daemon), client(daemon)
    lease = one.lease(owner=1)
    i = two.ask(owner=1)
    two.ping()
    waits(c)
    one.store(lease, b"value")
    has(two.wait(i), b"value")


def test_p09_a_circle_of_two(a, b):
    """Each holds what the other one wants: the second to ask computes without a lease."""
    la, lb = a.lease(b"a"), b.lease(b"b")
    i = a.ask(b"b")
    lease = misses(b.asked(b"a"), CYCLE)
    assert lease.holder_pid == a.pid
    assert b.store(lb, b"B", key=b"b").status == wire.OK
    has(a.wait(i), b"B")
    assert a.store(la, b"A", key=b"a").status == wire.OK


def test_p09_a_circle_of_three(a, b, x):
    a.lease(b"a"), b.lease(b"b"), x.lease(b"x")
    a.ask(b"b"), b.ask(b"x")
    misses(x.asked(b"a"), CYCLE)
    # Under another number it is another computation, for which nobody waits.
    assert misses(x.asked(b"a", owner=2, wait_ms=1), TIMEOUT)


def test_p10_without_the_feature_nothing_is_asked(daemon, a):
    """As an older client that happens to send the field."""
    plain = client(daemon, features=0)
    reply, _ = plain.asked()
    assert reply.status == wire.NOT_FOUND and not reply.HasField("lease")
    a.lease()
    reply, _ = plain.asked()
    assert reply.status == wire.NOT_FOUND and not reply.HasField("lease")


def test_p10_keys_and_caches_and_realms_are_apart(a, b):
    a.lease(b"k")
    b.lease(b"l")
    b.lease(b"k", cache="u")


# ---- ends by storing

@pytest.mark.parametrize("n", [0, 1, 5000, 100_000, 300_000, 1 << 20, 5 << 20])
def test_p11_values_of_all_sizes(a, b, x, n):
    """In the arena, in an extent, in a file of its own; by a body that comes at once and one that takes long."""
    value = random.Random(n).randbytes(n)
    lease = a.lease()
    ids = [b.ask(owner=o) for o in range(3)]
    late = x.ask()
    assert a.store(lease, value).status == wire.OK
    for i in ids:
        has(b.wait(i), value)
    has(x.wait(late), value)


def test_p12_a_value_that_is_gone_at_once_reaches_them(daemon, a):
    """What waits in the daemon for a client that does not read is that value, whatever became of the entry."""
    slow = client(daemon)
    value = os.urandom(300_000)
    lease = a.lease()
    ids = [slow.ask(owner=o) for o in range(40)]
    slow.ping()
    assert a.store(lease, value).status == wire.OK
    assert a.call("set", b"new", cache="t", key=b"k")[0].status == wire.OK
    assert a.call("clear", cache="t")[0].status == wire.OK
    for i in ids:
        has(slow.wait(i), value)


def test_p13_for_clients_that_cannot_decode(daemon, a, b):
    able = client(daemon, features=FEATURES | pb.FEATURE_LZ4)
    for n in (10, 60_000, 500_000):
        value = bytes(n)
        key = b"%d" % n
        lease = a.lease(key)
        i, k = b.ask(key), able.ask(key)
        able.ping()
        block = packed(value)
        assert a.store(lease, block, key=key, encoding=pb.ENCODING_LZ4, raw_size=n).status == wire.OK
        has(b.wait(i), value)
        assert has(able.wait(k), block).entry.encoding == pb.ENCODING_LZ4


def test_p13_what_does_not_decode_is_no_value(a, b):
    lease = a.lease()
    i = b.ask()
    assert a.store(lease, b"not a block", encoding=pb.ENCODING_LZ4, raw_size=100).status == wire.OK
    misses(b.wait(i), UNSTORABLE)


def test_p14_as_a_memory_file(daemon, a):
    reader = files.client(daemon, features=FEATURES | pb.FEATURE_FILES)
    value = os.urandom(5 << 20)
    lease = a.lease()
    i = reader.post("get", cache="t", key=b"k", as_file=True, lease=pb.LeaseAsk(owner=1))
    reader.ping()
    assert a.store(lease, value).status == wire.OK
    reply, body = reader.wait(i)
    assert reply.status == wire.OK and reply.entry.view_id and not body
    reader.views.append(reply.entry.view_id)
    assert os.pread(reader.received[0], len(value), 0) == value


def test_p14_from_a_memory_file(daemon, b):
    writer = files.client(daemon, features=FEATURES | pb.FEATURE_FILES)
    for n, share in ((1000, False), (1000, True), (6 << 20, False), (6 << 20, True)):
        value, key = os.urandom(n), b"%d%d" % (n, share)
        reply, _ = writer.call("get", cache="t", key=key, lease=pb.LeaseAsk(owner=1))
        i = b.ask(key)
        with files.memfd(value) as fd:
            k = writer.next_id()
            writer.send(wire.request(k, "set", cache="t", key=key, file_size=n, lease_id=reply.lease.lease_id,
                                     share_only=share), fds=[fd])
        assert writer.wait(k)[0].status == wire.OK
        assert has(b.wait(i), value).entry.unstored == share


def test_p15_the_version_at_hand(a, b, c):
    """Who has the value of that version gets no bytes; a waiter is compared when it is answered."""
    lease = a.lease()
    i = b.ask(more={"have_version": 12345})
    a.store(lease, b"value")
    has(b.wait(i), b"value")
    version = c.lookup("t", b"k")[0].version
    reply, body = b.asked(more={"have_version": version})
    assert reply.entry.unchanged and not body


def test_p15_messages_come_to_who_asks(a, b, x):
    value, recorded = b"value", pb.RecordedMessages(messages=[{"type": "stdout", "data": b"hello"}])
    messages = recorded.SerializeToString()
    lease = a.lease()
    i, k = b.ask(more={"with_messages": True}), x.ask()
    assert a.store(lease, value + messages, messages_size=len(messages)).status == wire.OK
    reply, body = b.wait(i)
    assert reply.entry.messages_size == len(messages) and body == value + messages
    has(x.wait(k), value)


def test_p15_a_negative_result(a, b):
    lease = a.lease()
    i = b.ask()
    assert a.store(lease, b"no such user", negative=True, ttl_ms=1000).status == wire.OK
    reply, body = b.wait(i)
    assert reply.status == wire.NEGATIVE and reply.error == "no such user" and not body
    assert reply.lease.state == NONE
    assert b.asked()[0].status == wire.NEGATIVE


@pytest.mark.parametrize("n", [0, 10, 100_000, 5 << 20])
def test_p16_a_result_that_is_declined_is_shared(a, b, x, c, n):
    """share_only: who waits gets it, nothing is stored, and the next one who asks computes."""
    value = os.urandom(n)
    lease = a.lease()
    i, k = b.ask(), x.ask()
    reply = a.store(lease, value, share_only=True, flags=5)
    assert reply.status == wire.OK and reply.entry.unstored and reply.entry.version == 0
    for reply in (has(b.wait(i), value), has(x.wait(k), value)):
        assert reply.entry.unstored and reply.entry.flags == 5 and reply.entry.version == 0
    assert c.get("t", b"k") is None
    b.lease()


def test_p17_a_value_that_is_too_large(make_daemon, make_peer):
    """Waiters are told, and compute; whether it is refused before its bytes came or after."""
    d = make_daemon(limits={"value_bytes": "1M"})
    a, b = make_peer(d.socket), make_peer(d.socket)
    for n in (1000, 2 << 20):
        lease = a.lease()
        i = b.ask()
        if n < 1 << 20:
            assert a.call("open_cache", cache="t", policy=wire.policy(max_bytes=500))[0].status == wire.OK
            reply = a.store(lease, bytes(n))
            assert reply.status == wire.TOO_LARGE
            said = misses(b.wait(i), UNSTORABLE)
            assert said.reason == reply.error and said.holder_pid == a.pid
            assert a.call("open_cache", cache="t", policy=wire.policy())[0].status == wire.OK
        else:
            # The daemon refuses such a frame by its header, and with it the connection: its leases end.
            with pytest.raises(AssertionError):
                a.store(lease, bytes(n))
            assert misses(b.wait(i), GRANTED)
    assert b.call("get", cache="t", key=b"k")[0].status == wire.NOT_FOUND


def test_p17_a_long_body_that_is_refused(make_daemon, make_peer):
    """By the policy, before it has arrived."""
    d = make_daemon()
    a, b = make_peer(d.socket), make_peer(d.socket)
    lease = a.lease()
    a.call("open_cache", cache="t", policy=wire.policy(max_bytes=100_000))
    i = b.ask()
    assert a.store(lease, bytes(3 << 20)).status == wire.TOO_LARGE
    misses(b.wait(i), UNSTORABLE)
    assert a.store(lease, b"small").status == wire.SUPERSEDED  # it ended


def test_p17_whatever_is_wrong_with_it_the_lease_ends(a, b):
    for key, wrong in ((b"1", {"ttl_ms": 0}), (b"2", {"mode": pb.SET_REPLACE_ONLY}), (b"3", {"expected_version": 9}),
                       (b"4", {"encoding": 77})):
        lease = a.lease(key)
        i = b.ask(key)
        reply = a.store(lease, b"v", key=key, **wrong)
        assert reply.status not in (wire.OK, wire.SUPERSEDED)
        assert misses(b.wait(i), UNSTORABLE).reason
        b.lease(key)


def test_p18_a_late_store_is_accepted(a, b, clock, c):
    """What took longer than the lease was given is stored, and is what those get who wait for the next holder."""
    late = a.lease(hold_ms=1000)
    i = b.ask()
    clock.advance(1000)
    second = misses(b.wait(i), GRANTED).lease_id
    k = a.ask(owner=9)
    waits(c)
    assert a.store(late, b"late").status == wire.OK
    has(a.wait(k), b"late")
    assert b.store(second, b"second").status == wire.SUPERSEDED  # stored anew since
    assert c.get("t", b"k") == b"late" and c.stats("t").superseded == 1


@pytest.mark.parametrize("change", ["clear", "clear all", "prefix", "delete", "set", "set_many"])
def test_p18_a_late_store_is_refused_if_the_key_changed(a, c, clock, change):
    late = a.lease(hold_ms=1000)
    clock.advance(1000)
    wait_until(lambda: c.stats("t").computing == 0, "the lease is lost")
    do_change(c, change)
    reply = a.store(late, b"late")
    assert reply.status == wire.SUPERSEDED and reply.error
    assert c.get("t", b"k") == (b"other" if "set" in change else None)


def do_change(c, change):
    if change == "clear":
        c.clear("t")
    elif change == "clear all":
        c.clear()
    elif change == "prefix":
        assert c.must("clear", cache="t", prefix=b"k").clear.entries == 0
    elif change == "delete":
        c.delete("t", b"k")  # there is nothing yet, and it counts all the same
    elif change == "set":
        c.set("t", b"k", b"other")
    else:
        c.set_many("t", [(b"other", b"1", {}), (b"k", b"other", {})])


def test_p19_any_connection_of_the_uid_may_store(a, b, c):
    lease = a.lease()
    i = b.ask()
    assert c.store(lease, b"value").status == wire.OK
    has(b.wait(i), b"value")


# ---- ends otherwise

def test_p20_given_up_without_a_reason(a, b, x):
    """Whoever has waited longest is next, whatever he wants to know."""
    lease = a.lease()
    i, k = b.ask(want_failure=True), x.ask()
    assert a.end(lease) == wire.OK
    second = misses(b.wait(i), GRANTED)
    assert b.end(second.lease_id) == wire.OK
    misses(x.wait(k), GRANTED)
    assert a.end(lease) == wire.NOT_FOUND
    assert a.store(lease, b"v").status == wire.SUPERSEDED


def test_p20_given_up_with_a_reason(a, b, x, c):
    """Who asked for that gets it; the longest waiter of the others is next."""
    lease = a.lease()
    i, k = b.ask(want_failure=True), x.ask()
    assert a.end(lease, "no network") == wire.OK
    said = misses(b.wait(i), FAILED)
    assert (said.reason, said.holder_pid, said.holder) == ("no network", a.pid, "holder")
    misses(x.wait(k), GRANTED)
    stats = c.stats("t")
    assert (stats.lease_failures, stats.computing, stats.waiting, stats.stores) == (1, 1, 0, 0)


def test_p21_the_longest_waiter_is_next(a, make_peer):
    """Over processes and connections, each time."""
    line = [make_peer() for _ in range(5)]
    ids = [p.ask() for p in line]
    lease = a.lease(b"other")
    assert lease
    first = line[0].wait(ids[0])[0].lease
    assert first.state == GRANTED  # nobody held it: it did not even wait
    for p, i, before in zip(line[1:], ids[1:], line):
        before.kill()
        misses(p.wait(i), GRANTED)


def test_p22_a_waiter_that_leaves_is_passed_over(a, b, x, c):
    lease = a.lease()
    b.ask()
    k = x.ask()
    waits(c, 2)
    b.kill()
    wait_until(lambda: c.stats("t").waiting == 1, "the waiter is gone")
    assert a.end(lease) == wire.OK
    misses(x.wait(k), GRANTED)


def test_p23_a_holder_that_is_killed(a, b, c):
    a.lease()
    i = b.ask()
    a.kill()
    lease = misses(b.wait(i), GRANTED).lease_id
    assert c.stats("t").leases_lost == 1
    assert b.store(lease, b"value").status == wire.OK


def test_p23_a_holder_that_closes_its_connection(a, b):
    lease = a.lease()
    i = b.ask()
    a.do("close")
    misses(b.wait(i), GRANTED)
    assert b.store(lease, b"of a dead one").status == wire.SUPERSEDED


def test_p23_a_forked_child_does_not_keep_the_lease(a, b, c):
    """It has a copy of the socket, which stays open; the process that holds the lease is dead."""
    lease = a.lease()
    child = a.fork()
    i = b.ask()
    a.kill()
    misses(b.wait(i), GRANTED)
    os.kill(child, 0)
    assert b.store(lease, b"of a dead one").status == wire.SUPERSEDED
    wait_until(lambda: all(p.pid != a.pid for p in c.clients()), "its connection ends")


def test_p23_what_the_dead_had_sent_is_stored(daemon, a, b):
    """A store that was in the socket when its process ended counts, also where a child keeps the socket."""
    lease = a.lease()
    i = b.ask()
    a.fork()
    with daemon.stopped():
        a.begin("call", "set", b"last words", {"cache": "t", "key": b"k", "lease_id": lease})
        time.sleep(0.1)  # it is sent, and nobody can be asked for that
        a.kill()
        a.process.join()
    has(b.wait(i), b"last words")


def test_p24_a_stopped_holder_without_a_deadline_holds(a, b, c):
    a.lease()
    a.stop()
    misses(b.asked(wait_ms=50), TIMEOUT)
    i = b.ask()
    waits(c)
    a.go_on()
    a.kill()
    misses(b.wait(i), GRANTED)


def test_p24_a_stopped_holder_with_a_deadline_loses_it(a, b, c, clock):
    lease = a.lease(hold_ms=2000)
    a.stop()
    i = b.ask()
    clock.advance(2000)
    second = misses(b.wait(i), GRANTED).lease_id
    a.go_on()
    # What it has computed meanwhile is as good.
    assert a.store(lease, b"late").status == wire.OK
    assert b.store(second, b"second").status == wire.SUPERSEDED
    assert c.get("t", b"k") == b"late" and c.stats("t").leases_lost == 1


@pytest.mark.parametrize("change", ["clear", "clear all", "prefix", "delete"])
def test_p25_cleared_while_computing(a, b, x, c, change):
    """What was begun before is too old for those who wait: they begin anew, the longest waiter first."""
    lease = a.lease()
    i, k = b.ask(), x.ask()
    do_change(c, change)
    second = misses(b.wait(i), GRANTED).lease_id
    waits(c, 1)
    assert a.store(lease, b"too old").status == wire.SUPERSEDED
    assert c.get("t", b"k") is None
    assert b.store(second, b"new").status == wire.OK
    has(x.wait(k), b"new")


def test_p25_a_tag_is_cleared_while_computing(a, b, x, c):
    """Which tags a value has is known when it is stored: with one that was cleared it is too old, with others not."""
    lease = a.lease()
    i, k = b.ask(), x.ask()
    assert c.must("clear", cache="t", tag="red").clear.entries == 0
    c.set("u", b"k", b"v")
    c.must("clear", cache="u", tag="blue")
    waits(c, 2)
    assert a.store(lease, b"v", tags=["green", "red"]).status == wire.SUPERSEDED
    second = misses(b.wait(i), GRANTED).lease_id
    assert b.store(second, b"new", tags=["red"]).status == wire.OK
    has(x.wait(k), b"new")
    lease = a.lease(b"l")
    c.must("clear", cache="t", tag="red")
    assert a.store(lease, b"v", key=b"l", tags=["blue"]).status == wire.OK
    assert c.stats("t").superseded == 1


def test_p25_many_tags_are_cleared_while_computing(a, c):
    """Beyond those that are remembered any tag may be one of them; a value without tags is as good as ever."""
    one, two = a.lease(b"1"), a.lease(b"2", owner=2)
    for i in range(9):
        c.must("clear", cache="t", tag="tag %d" % i)
    assert a.store(one, b"v", key=b"1", tags=["other"]).status == wire.SUPERSEDED
    assert a.store(two, b"v", key=b"2").status == wire.OK


@pytest.mark.parametrize("change", ["set", "set_many"])
def test_p25_stored_by_another_while_computing(a, b, c, change):
    """Those who wait get that."""
    lease = a.lease()
    i = b.ask()
    do_change(c, change)
    has(b.wait(i), b"other")
    assert a.store(lease, b"mine").status == wire.SUPERSEDED
    assert c.get("t", b"k") == b"other"


def test_p25_other_keys_and_caches_change_nothing(a, b, c):
    lease = a.lease()
    i = b.ask()
    c.set("t", b"l", b"v")
    c.delete("t", b"l")
    c.set("u", b"k", b"v")
    c.clear("u")
    c.must("clear", cache="t", prefix=b"l")
    c.must("clear", cache="t", prefix=b"kk")
    assert a.store(lease, b"value").status == wire.OK
    has(b.wait(i), b"value")


def test_p26_expiry_and_eviction_supersede_nothing(a, c, clock):
    c.set("t", b"k", b"old", ttl_ms=1000)
    clock.advance(1000)
    lease = a.lease()
    clock.advance(100_000)
    assert a.store(lease, b"new").status == wire.OK


def test_p27_two_handles_of_a_holder(daemon, b):
    """One connection of a process ends: the leases of its other one stay."""
    one, two = client(daemon), client(daemon)
    lease = one.lease()
    two.lease(b"other")
    i, k = b.ask(), b.ask(b"other")
    two.close()
    daemon.clients.remove(two)
    misses(b.wait(k), GRANTED)
    assert one.store(lease, b"value").status == wire.OK
    has(b.wait(i), b"value")


# ---- staleness

def stale_policy(c, cache="t", ttl_ms=10_000, **more):
    c.must("open_cache", cache=cache, policy=pb.Policy(ttl_ms=ttl_ms, **more))


def test_p30_one_refreshes_and_the_others_get_the_old_value(a, b, x, c, clock):
    stale_policy(c, stale_for_ms=60_000)
    c.set("t", b"k", b"old")
    has(a.asked(), b"old")
    clock.advance(11_000)
    reply, body = a.asked()
    assert reply.status == wire.OK and body == b"old" and reply.entry.stale and reply.lease.state == GRANTED
    for p in (b, x):
        assert has(p.asked(), b"old").entry.stale
    e, value = c.lookup("t", b"k")  # who asks for no lease just gets it
    assert value == b"old" and e.stale
    computing = c.must("list_leases").list_leases.computations
    assert [x.refresh for x in computing] == [True]
    assert a.store(reply.lease.lease_id, b"new").status == wire.OK
    assert not has(b.asked(), b"new").entry.stale
    stats = c.stats("t")
    assert (stats.leases, stats.refreshes) == (1, 1)


def test_p31_refresh_ahead(a, b, c, clock):
    """The first one who asks after that part of the TTL."""
    stale_policy(c, refresh_ahead_permille=500)
    c.set("t", b"k", b"old")
    clock.advance(4_900)
    has(a.asked(), b"old")
    clock.advance(200)
    reply, body = a.asked()
    assert body == b"old" and not reply.entry.stale and reply.lease.state == GRANTED
    has(b.asked(), b"old")
    assert a.store(reply.lease.lease_id, b"new").status == wire.OK
    has(b.asked(), b"new")


@pytest.mark.parametrize("how", ["killed", "given up", "late"])
def test_p32_a_refresh_that_ends_without_a_value_is_due_at_once(a, b, c, clock, how):
    stale_policy(c, stale_for_ms=600_000)
    c.set("t", b"k", b"old")
    clock.advance(11_000)
    lease = a.asked(hold_ms=5000)[0].lease
    assert lease.state == GRANTED
    has(b.asked(), b"old")
    if how == "killed":
        a.kill()
    elif how == "given up":
        a.end(lease.lease_id)
    else:
        clock.advance(5000)
    wait_until(lambda: b.asked()[0].lease.state == GRANTED, "somebody else may refresh it")


def test_p33_an_old_value_serves_on_after_a_failure(a, b, c, clock):
    """stale-if-error: a miss until computing it has failed, then the old value, and a pause before the next try."""
    stale_policy(c, stale_if_error_ms=600_000)
    c.set("t", b"k", b"old")
    clock.advance(11_000)
    assert c.get("t", b"k") is None
    lease = misses(a.asked(), GRANTED).lease_id
    i = b.ask(want_failure=True)
    assert a.end(lease, "the source is down") == wire.OK
    assert has(b.wait(i), b"old").entry.stale
    assert c.lookup("t", b"k")[0].stale
    for pause in (1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000):
        clock.advance(pause - 100)
        has(a.asked(), b"old")
        clock.advance(200)
        reply, body = a.asked()
        assert body == b"old" and reply.lease.state == GRANTED
        assert a.end(reply.lease.lease_id, "still down") == wire.OK
    assert c.stats("t").lease_failures == 9
    clock.advance(61_000)
    reply, _ = a.asked()
    assert a.store(reply.lease.lease_id, b"new").status == wire.OK
    has(b.asked(), b"new")
    clock.advance(700_000)
    assert c.get("t", b"k") is None


def test_p33_a_value_that_is_refused_is_a_failure(a, b, c, clock):
    stale_policy(c, stale_if_error_ms=600_000)
    c.set("t", b"k", b"old")
    clock.advance(11_000)
    lease = a.lease()
    i = b.ask()
    assert a.store(lease, b"v", ttl_ms=0).status == wire.INVALID
    has(b.wait(i), b"old")


def test_p34_values_can_be_refreshed_before_they_are_due(a, b, c):
    """LeaseAsk.refresh: what `cachectl warm` asks for."""
    c.set("t", b"k", b"old")
    reply, body = a.asked(refresh=True)
    assert body == b"old" and reply.lease.state == GRANTED
    has(b.asked(refresh=True), b"old")
    assert a.store(reply.lease.lease_id, b"new").status == wire.OK
    has(b.asked(), b"new")


def test_p35_a_refresh_of_what_was_deleted_is_too_old(a, c, clock):
    stale_policy(c, stale_for_ms=60_000)
    c.set("t", b"k", b"old")
    clock.advance(11_000)
    lease = a.asked()[0].lease.lease_id
    c.delete("t", b"k")
    assert a.store(lease, b"too old").status == wire.SUPERSEDED
    assert c.get("t", b"k") is None
