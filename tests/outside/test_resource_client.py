# SPDX-License-Identifier: MIT
"""Resources through libcached (resources.c), from several real processes against the real daemon."""

import os
import signal

import pytest

from harness import wait_until
from resource_users import a, b, server, start  # noqa: F401 (fixtures)
from wire import DEADLINE, INVALID, LIMIT, NOT_FOUND, OK

ERR_UNREACHABLE, ERR_USAGE, ERR_CREATION, OWNER_DIED = 64, 70, 74, 75
EXPIRED, EVICTED, CLEARED, DROPPED, REPLACED, INVALIDATED, HUNG_UP, LEFT_OWNER_DIED = range(1, 9)


# ---- segments

def test_a_segment_is_one_for_all(a, b):
    i = a.must("segment", "c", "k")
    j = b.must("segment", "c", "k")
    assert (a.must("made"), b.must("made")) == (1, 0)
    assert a.must("instance", i) == b.must("instance", j) != 0
    assert [a.must("add", i), b.must("add", j), a.must("add", i)] == [2, 3, 4]
    assert b.must("generation", j) == 3 and b("size", j) == (0, "4096")


def test_all_uses_of_a_process_are_one_mapping(a):
    i, j = a.must("segment", "c", "k"), a.must("segment", "c", "k")
    assert a.must("made") == 1 and a.must("add", i) == 2 and a.must("get", j, 0) == 2
    a.must("release", i)
    assert a.must("add", j) == 3 and a("list", "c") == (OK, "1 1")
    a.must("release", j)
    wait_until(lambda: a("list", "c") == (OK, "1 0"), "nobody holds it")


def test_a_segment_outlives_its_maker(a, b, start):
    a.must("add", a.must("segment", "c", "k"))
    a.kill()
    assert b.must("add", b.must("segment", "c", "k")) == 3 and b.must("made") == 0


def test_read_only(a, b):
    i = a.must("segment", "c", "k", ro=1)
    assert a("size", i) == (1, "4096") and a.must("get", i, 0) == 1
    j = b.must("segment", "c", "k")
    assert b("size", j) == (1, "4096") and b.must("get", j, 0) == 1
    assert b("lock", j)[0] == ERR_USAGE


def test_by_hand(a, b):
    code, i = a("segment", "c", "k", manual=1)
    assert code == NOT_FOUND
    assert b("segment", "c", "k", wait=0)[0] == DEADLINE
    assert a.must("instance", i) == 0
    b.post("segment", "c", "k")
    assert a("publish", i)[0] == OK and a.must("instance", i) > 0
    assert b.answer()[0] == OK and b.must("made") == 0
    assert a("publish", i)[0] == ERR_USAGE


def test_a_size_that_is_known_late(a, b):
    """Whatever the segment was begun with; once it is made it has the size that it has."""
    code, i = a("segment", "c", "k", manual=1, size=1)
    assert code == NOT_FOUND and a("size", i) == (0, "1")
    assert a("give", i, size=100_000)[0] == OK and a("size", i) == (0, "100000")
    assert a("give", i, size=1 << 62)[0] != OK and a("size", i) == (0, "100000")
    assert a("publish", i)[0] == OK and a.must("add", i) == 1
    j = b.must("segment", "c", "k")
    assert b("size", j) == (0, "100000") and b.must("add", j) == 2 and a.must("get", i, 0) == 2
    assert a("give", i, size=10)[0] == b("give", j, size=10)[0] == ERR_USAGE
    assert a("give", a.must("local", "c", "l"), size=10)[0] == ERR_USAGE


def test_a_right_that_is_given_up_goes_to_the_next(a, b):
    i = a("segment", "c", "k", manual=1)[1]
    b.post("segment", "c", "k")
    a.must("release", i)
    assert b.answer()[0] == OK and b.must("made") == 1


def test_the_maker_is_killed(a, b):
    a.post("segment", "c", "k", slow=500, die=1)
    wait_until(lambda: b("segment", "c", "k", only=1, wait=0)[0] == DEADLINE, "a makes it")
    assert b("segment", "c", "k")[0] == OK and b.must("made") == 1
    a.process.wait()
    a.close()


def test_who_makes_it_fails(a, b, clock):
    assert a("segment", "c", "k", fail="no-disk") == (ERR_CREATION, "no-disk")
    assert b("segment", "c", "k") == (ERR_CREATION, "no-disk")
    assert a.must("made") == b.must("made") == 0
    clock.advance(1001)
    assert b("segment", "c", "k")[0] == OK


def test_who_waits_hears_of_a_failure(a, b):
    a.post("segment", "c", "k", slow=300, fail="no-disk")
    wait_until(lambda: b("segment", "c", "k", only=1, wait=0)[0] == DEADLINE, "a makes it")
    assert b("segment", "c", "k") == (ERR_CREATION, "no-disk")
    assert a.answer()[0] == ERR_CREATION


def test_only_what_is_there(a, b):
    assert a("segment", "c", "k", only=1)[0] == NOT_FOUND
    b.must("segment", "c", "k")
    assert a("segment", "c", "k", only=1)[0] == OK


def test_another_kind(a, b):
    a.must("segment", "c", "k")
    assert b("local", "c", "k")[0] == INVALID and a("local", "c", "k")[0] == INVALID


# ---- descriptors

def test_a_connection_is_shared(a, b, server):
    i = a.must("descriptor", "c", "k", **{"from": f"unix:{server.path}"})
    j = b.must("descriptor", "c", "k", **{"from": f"unix:{server.path}"})
    a.must("lock", i)
    assert a("talk", i, "hello") == (OK, "1:1:hello")
    assert b("lock", j, 0)[0] == DEADLINE
    a.must("unlock", i)
    b.must("lock", j)
    assert b("talk", j, "world") == (OK, "1:2:world")
    b.must("unlock", j)
    assert (a.must("made"), b.must("made"), len(server.connections)) == (1, 0, 1)


def test_the_other_end_closes(a, b, server):
    how = {"from": f"unix:{server.path}"}
    i, j = a.must("descriptor", "c", "k", **how), b.must("descriptor", "c", "k", **how)
    server.hang_up(1)
    wait_until(lambda: a.must("left", i) == b.must("left", j) == HUNG_UP, "both are told")
    a.must("release", i)
    assert a.must("ended") == 1 and b.must("ended") == 0
    k = a.must("descriptor", "c", "k", **how)
    assert a("talk", k, "x") == (OK, "2:1:x")
    b.must("release", j)
    assert b.must("ended") == 1


def test_the_owner_of_a_connection_is_killed(a, b, server):
    how = {"from": f"unix:{server.path}"}
    a.must("lock", a.must("descriptor", "c", "k", **how))
    j = b.must("descriptor", "c", "k", **how)
    a.kill()
    wait_until(lambda: b.must("left", j) == LEFT_OWNER_DIED, "it has left")
    code, text = b("lock", j, 100)
    assert code in (OK, OWNER_DIED) or (code == NOT_FOUND and "acquire it anew" in text), text
    k = b.must("descriptor", "c", "k", **how)
    assert b("talk", k, "x") == (OK, "2:1:x")


def test_with_the_lock_it_is_known_that_it_has_left(a, b, server):
    """At once, and not only when the event has come."""
    how = {"from": f"unix:{server.path}"}
    for key in range(20):
        i, j = a.must("descriptor", "c", key, **how), b.must("descriptor", "c", key, **how)
        a.must("lock", i)
        b.post("lock", j)
        a.must("invalidate", i)
        a.must("unlock", i)
        assert b.answer()[0] == OK and b.must("left", j) == INVALIDATED
        b.must("release", j), a.must("release", i)


def test_what_is_no_descriptor_to_share(a, b, tmp_path):
    code, text = a("descriptor", "c", "k", **{"from": f"file:{tmp_path}/none/there"})
    assert code == ERR_CREATION
    os.mkfifo(tmp_path / "fifo")
    code, i = b("descriptor", "c", "other", manual=1)
    assert code == NOT_FOUND and b("publish", i)[0] == ERR_USAGE
    b.must("give", i, **{"from": "file:/dev/null"})
    code, text = b("publish", i)
    assert code == INVALID and "device" in text


# ---- local objects

def test_local_once_a_process(a, b):
    assert a.must("crowd", "c", "k", slow=50) == 1
    assert b.must("crowd", "c", "k", slow=50) == 1
    i, j = a.must("local", "c", "k"), b.must("local", "c", "k")
    assert a.must("instance", i) == b.must("instance", j)
    assert a.must("made") == b.must("made") == 1 and a("list", "c") == (OK, "1 2")


def test_a_local_object_stays_until_it_leaves(a, b):
    i = a.must("local", "c", "k", first=5)
    a.must("release", i)
    i = a.must("local", "c", "k", first=6)
    assert a.must("object", i) == 5
    b.must("local", "c", "k")
    assert b("drop", "c", "k") == (OK, "2")
    wait_until(lambda: a.must("left", i) == DROPPED, "a is told")
    assert a.must("ended") == 0
    a.must("release", i)
    assert a.must("ended") == 1
    assert a.must("object", a.must("local", "c", "k", first=6)) == 6


def test_ttl(a, b, clock):
    i = a.must("local", "c", "k", ttl=1000)
    a.must("release", i)
    b.must("release", b.must("local", "c", "k"))
    clock.advance(999)
    assert a.must("made") == 1 and a.must("ended") == 0
    clock.advance(2)
    wait_until(lambda: a.must("ended") == b.must("ended") == 1, "both are told")
    a.must("local", "c", "k")
    assert a.must("made") == 2


def test_max_entries(a, b):
    for key in "xyz":
        a.must("release", a.must("local", "c", key, max=2))
        if key == "y":
            a.must("release", a.must("local", "c", "x"))
    wait_until(lambda: a.must("ended") == 1, "one has left")
    assert a.must("made") == 3
    a.must("local", "c", "x"), a.must("local", "c", "z")
    assert a.must("made") == 3
    a.must("local", "c", "y")
    assert a.must("made") == 4


def test_held_ones_stay_longest(a, b):
    i = a.must("segment", "c", "x", max=2)
    b.must("release", b.must("segment", "c", "y"))
    b.must("segment", "c", "z")
    assert a.must("left", i) == 0
    assert a("segment", "c", "y", only=1)[0] == NOT_FOUND


def test_a_clear_is_told(a, b, daemon):
    i, j = a.must("local", "c", "k"), b.must("segment", "d", "k")
    with daemon.client() as c:
        c.must("clear", cache="c")
    wait_until(lambda: a.must("left", i) == CLEARED, "a is told")
    assert b.must("left", j) == 0


def test_validate(a, b, tmp_path):
    bad = tmp_path / "bad"
    i = a.must("segment", "c", "k", bad=bad)
    j = b.must("segment", "c", "k")
    bad.touch()
    a.post("segment", "c", "k", bad=bad)
    code, k = a.answer()
    assert code == OK and a.must("made") == 2 and a.must("instance", k) != b.must("instance", j)
    wait_until(lambda: b.must("left", j) == INVALIDATED, "b is told")
    assert a.must("left", i) == INVALIDATED
    assert b.must("instance", b.must("segment", "c", "k")) == a.must("instance", k)


def test_a_check_that_always_fails(a, b, tmp_path):
    bad = tmp_path / "bad"
    bad.touch()
    a.must("segment", "c", "k")
    answers = [b("segment", "c", "k", bad=bad) for _ in range(6)]
    assert answers[-1] == (ERR_CREATION, "it is bad")
    assert b.must("made") < 6


def test_on_release_at_an_orderly_end(a, b):
    a.must("release", a.must("local", "c", "k"))
    a.must("segment", "c", "s")
    b.must("local", "c", "k")
    assert a.must("end") in (1, 2)
    wait_until(lambda: b("list", "c")[1].split()[0] == "2", "they are there")
    assert b.must("ended") == 0


def test_an_on_release_that_hangs_hangs_its_own_process(a, b, start):
    for u, more in ((a, {"hangs": 1}), (b, {})):
        u.must("release", u.must("local", "c", "k", **more))
    assert b("drop", "c", "k") == (OK, "2")
    wait_until(lambda: a.must("ended") == b.must("ended") == 1, "both are told")
    # The others go on, with what comes after it, too.
    c = start()
    assert c.must("instance", c.must("local", "c", "k")) == b.must("instance", b.must("local", "c", "k"))
    assert b("drop", "c", "k") == (OK, "2")
    wait_until(lambda: b.must("left", 1) == c.must("left", 0) == DROPPED, "they are told")
    a.kill()


# ---- locks

def test_a_lock_is_for_one(a, b, start):
    i, j = a.must("segment", "c", "k"), b.must("segment", "c", "k")
    assert a("lock", i)[0] == OK
    assert a("lock", i, 0)[0] == ERR_USAGE
    assert b("lock", j, 0) == (DEADLINE, str(a.pid))
    b.post("lock", j)
    assert a("unlock", i)[0] == OK
    assert b.answer()[0] == OK
    assert a("lock", i, 50) == (DEADLINE, str(b.pid)) and a("unlock", i)[0] == ERR_USAGE
    b.must("unlock", j)
    assert a("lock", i, 0)[0] == OK


def test_uses_of_one_process_exclude_each_other(a):
    i, j = a.must("segment", "c", "k"), a.must("segment", "c", "k")
    assert a("lock", i)[0] == OK and a("lock", j, 10)[0] == DEADLINE
    a.must("unlock", i)
    assert a("lock", j, 0)[0] == OK


@pytest.mark.parametrize("lasts", ["killed", "with a child"])
def test_the_owner_is_killed(a, b, lasts):
    i, j = a.must("segment", "c", "k"), b.must("segment", "c", "k")
    a.must("lock", i)
    child = a.must("child") if lasts == "with a child" else None
    b.post("lock", j)
    a.kill()
    assert b.answer()[0] == OWNER_DIED
    assert b.must("unlock", j) == "" and b("lock", j)[0] == OK
    if child:
        os.kill(child, signal.SIGKILL)


def test_counting_under_the_lock(start, a):
    users = [start() for _ in range(4)]
    i = a.must("segment", "c", "k")
    for u in users:
        u.post("count", "c", "k", 500, 4)
    assert [u.answer() for u in users] == [(OK, "2000")] * 4
    assert a.must("get", i, 1) == 8000


def test_two_locks_that_wait_for_each_other(a, b):
    ax, ay = a.must("segment", "c", "x"), a.must("segment", "c", "y")
    bx, by = b.must("segment", "c", "x"), b.must("segment", "c", "y")
    a.must("lock", ax), b.must("lock", by)
    b.post("lock", bx, 400)
    assert a("lock", ay, 100) == (DEADLINE, str(b.pid))
    a.must("unlock", ax)
    assert b.answer()[0] == OK


def test_fork(a):
    i = a.must("segment", "c", "k")
    a.must("lock", i)
    assert a("fork", i, "c", "k") == (0, "")
    a.must("unlock", i)
    assert a("lock", i)[0] == OK


# ---- pools

def test_a_pool(a, b, server):
    how = {"from": f"unix:{server.path}", "pool": 2}
    i, j = a.must("descriptor", "c", "k", **how), b.must("descriptor", "c", "k", **how)
    assert a.must("instance", i) != b.must("instance", j)
    wait_until(lambda: len(server.connections) == 2, "the server has taken both")
    assert a("descriptor", "c", "k", wait=0, **how)[0] == DEADLINE
    a.post("descriptor", "c", "k", **how)
    b.must("release", j)
    assert a.answer()[0] == OK and len(server.connections) == 2
    assert a.must("made") == b.must("made") == 1


# ---- bounds

def test_handles_that_hold_nothing_any_more_take_no_place(make_daemon, start):
    d = make_daemon(limits={"holders_per_uid": 1})
    u = start(d)
    u.must("segment", "c", "k")
    code, text = start(d)("segment", "c", "k")
    assert code == LIMIT and "limits.holders_per_uid" in text
    for _ in range(3):
        # Another handle in this process.
        u.must("anew")
        u.must("segment", "c", "k")



def test_limits(make_daemon, start):
    d = make_daemon(limits={"resources_per_realm": 2})
    u = start(d)
    u.must("segment", "c", "x"), u.must("segment", "c", "y")
    code, text = u("segment", "c", "z")
    assert code == LIMIT and "limits.resources_per_realm" in text


@pytest.mark.parametrize("words", [("segment", "", "k"), ("segment", "c", ""), ("segment", "c", "k" * 256),
                                   ("segment", "c" * 256, "k")])
def test_names(a, words):
    assert a(*words)[0] in (ERR_USAGE, INVALID)


# ---- a daemon that is away

def test_without_a_daemon(a, b, daemon):
    i, s = a.must("local", "c", "k"), a.must("segment", "c", "s")
    daemon.process.kill()
    daemon.process.wait()
    j = a.must("local", "c", "k")
    assert a.must("object", j) == a.must("object", i) and a.must("made") == 2
    assert a.must("add", a.must("segment", "c", "s")) == 2
    assert a("lock", s)[0] == OK and a("unlock", s)[0] == OK
    assert b("segment", "c", "s")[0] == ERR_UNREACHABLE
    k = b.must("local", "c", "k")
    assert b.must("made") == 1 and b.must("instance", k) == 0
    b.must("release", k)
    assert b.must("made") == 1
    daemon.process = daemon.spawn()
    wait_until(daemon.answers, "it is there again")
