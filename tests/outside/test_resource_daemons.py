# SPDX-License-Identifier: MIT
"""Resources through libcached (resources.c) while the daemon is away, is replaced, or comes again with what it had or with
nothing.
"""

import contextlib
import os
import signal
import socket

import pytest

from harness import wait_until
from resource_users import a, b, server, start  # noqa: F401 (fixtures)
from test_q_resource_takeover import cold, renew, restart, take_fd
from test_t_takeover import take_over
from wire import DEADLINE, OK

ERR_UNREACHABLE, ERR_DISCONNECTED, OWNER_DIED = 64, 66, 75


def number(u, r):
    return u.must("instance", r)


@pytest.fixture(params=["handed over", "killed"])
def how(request):
    return request.param


def test_a_segment_goes_on(daemon, a, b, start, how):
    i, j = a.must("segment", "c", "k"), b.must("segment", "c", "k")
    a.must("add", i)
    a.must("lock", i)
    was = number(a, i)
    renew(how, daemon, (a, i))
    assert b("lock", j, 500) == (DEADLINE, str(a.pid))
    c = start()
    k = c.must("segment", "c", "k")
    assert c.must("add", k) == 3 and number(c, k) == was and c("lock", k, 0)[0] == DEADLINE
    b.post("lock", j)
    a.must("unlock", i)
    assert b.answer()[0] == OK
    assert [u.must("made") for u in (a, b, c)] == [1, 0, 0]
    assert [u.must("left", r) for u, r in ((a, i), (b, j), (c, k))] == [0, 0, 0]


def test_a_connection_goes_on(daemon, a, b, start, server, how):
    words = {"from": f"unix:{server.path}"}
    i, j = a.must("descriptor", "c", "k", **words), b.must("descriptor", "c", "k", **words)
    a.must("lock", i)
    renew(how, daemon, (a, i))
    assert a("talk", i, "x") == (OK, "1:1:x")
    assert b("lock", j, 500)[0] == DEADLINE
    a.must("unlock", i)
    assert b("lock", j)[0] == OK and b("talk", j, "y") == (OK, "1:2:y")
    b.must("unlock", j)
    c = start()
    assert c("talk", c.must("descriptor", "c", "k", **words), "z") == (OK, "1:3:z")
    server.hang_up(1)
    wait_until(lambda: all(u.must("left", 0) for u in (a, b, c)), "all are told")


def test_who_waits_for_a_lock_goes_on_waiting(daemon, a, b):
    i, j = a.must("segment", "c", "k"), b.must("segment", "c", "k")
    a.must("lock", i)
    b.post("lock", j)
    wait_until(lambda: daemon_waiters(daemon) == 1, "b waits")
    take_over(daemon)
    a.must("unlock", i)
    assert b.answer()[0] == OK
    assert a("lock", i, 20) == (DEADLINE, str(b.pid))


def daemon_waiters(d):
    with d.probe() as c:
        # The lock of a segment has its waiters in its word only as a bit.
        return sum(r.waiters for r in c.call("list_resources")[0].list_resources.resources)


def test_the_owner_is_killed_after_a_handover(daemon, a, b):
    i, j = a.must("segment", "c", "k"), b.must("segment", "c", "k")
    a.must("lock", i)
    take_over(daemon)
    b.post("lock", j)
    a.kill()
    assert b.answer()[0] == OWNER_DIED


def test_a_local_object_is_made_once(daemon, a, b, how):
    i = a.must("local", "c", "k")
    b.must("local", "c", "k")
    was = number(a, i)
    renew(how, daemon)
    assert a.must("made") == b.must("made") == 1
    assert number(a, a.must("local", "c", "k")) == number(b, b.must("local", "c", "k")) == was
    assert a.must("made") == b.must("made") == 1 and a.must("ended") == 0


def test_a_cold_start(daemon, a, b):
    i, s = a.must("local", "c", "k"), a.must("segment", "c", "s")
    t = b.must("segment", "c", "s")
    a.must("add", s)
    were = number(a, i), number(a, s), number(b, t)
    cold(daemon)
    wait_until(lambda: not set(were) & {number(a, i), number(a, s), number(b, t)}, "they are registered again")
    assert number(a, s) == number(b, t)
    b.must("local", "c", "k")
    assert number(b, 1) == number(a, i)
    assert a.must("made") == 2 and b.must("made") == 1
    assert b.must("add", b.must("segment", "c", "s")) == 3
    assert a.must("left", s) == b.must("left", t) == a.must("left", i) == 0


def test_a_lock_over_a_cold_start(daemon, a, b):
    s, t = a.must("segment", "c", "s"), b.must("segment", "c", "s")
    was = number(a, s)
    a.must("lock", s)
    cold(daemon)
    wait_until(lambda: number(a, s) == number(b, t) != was, "it is registered again")
    assert b("lock", t, 50)[0] == DEADLINE
    b.post("lock", t)
    a.must("unlock", s)
    assert b.answer()[0] == OK


def test_a_connection_over_a_cold_start(daemon, a, server):
    words = {"from": f"unix:{server.path}"}
    i = a.must("descriptor", "c", "k", **words)
    cold(daemon)
    wait_until(lambda: a.must("left", i), "nobody knows whether somebody was in the middle of a message")
    assert a("talk", i, "x") == (OK, "1:1:x")
    assert a("talk", a.must("descriptor", "c", "k", **words), "x") == (OK, "2:1:x")
    a.must("release", i)
    assert a.must("ended") == 1


def test_local_objects_of_a_time_without_a_daemon(daemon, a, b):
    daemon.process.kill()
    daemon.process.wait()
    i, j = a.must("local", "c", "k"), b.must("local", "c", "k")
    assert number(a, i) == number(b, j) == 0
    daemon.process = daemon.spawn()
    wait_until(daemon.answers, "it is there")
    wait_until(lambda: number(a, i) == number(b, j) != 0, "it knows both")
    assert a.must("made") == b.must("made") == 1
    a.must("local", "c", "k")
    assert a.must("made") == 1 and b("drop", "c", "k") == (OK, "2")


def test_counting_over_handovers_and_deaths(daemon, start, a):
    users = [start() for _ in range(3)]
    i = a.must("segment", "c", "k")
    for u in users:
        u.must("segment", "c", "k")
        u.post("count", "c", "k", 1500, 2)
    for _ in range(2):
        take_over(daemon)
        restart(daemon, (a, i))
    assert [u.answer() for u in users] == [(OK, "3000")] * 3
    assert a.must("get", i, 1) == 9000


def test_released_while_it_is_away(daemon, a, b):
    i = a.must("segment", "c", "k")
    b.must("segment", "c", "k")
    daemon.process.kill()
    daemon.process.wait()
    a.must("release", i)
    cold(daemon)
    wait_until(lambda: b("list", "c") == (OK, "1 1"), "b alone holds it")


@pytest.mark.parametrize("kind", ["segment", "local"])
def test_what_left_while_the_connection_was_broken(daemon, a, kind):
    """The daemon that is asked about it holds it for this process still: it is given back."""
    i = a.must(kind, "c", "k")
    with daemon.probe() as c:
        with stopped(a.pid):
            break_connections(a.pid)
            wait_until(lambda: len(c.must("list_clients").list_clients.clients) == 1, "the daemon has seen it")
            assert c.must("drop_resource", cache="c", key=b"k").dropped.holders == 1
            assert c.stats().realm.resources == 1
        wait_until(lambda: a.must("left", i), "it is told")
        a.must("release", i)
        wait_until(lambda: c.stats().realm.resources == 0, "nobody holds it")
    assert a.must("ended") == 1


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def break_connections(pid):
    for n in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{n}").startswith("socket:"):
            with socket.socket(fileno=take_fd(pid, int(n))) as s:
                s.shutdown(socket.SHUT_RDWR)


def test_a_handle_is_freed_although_nobody_answers(daemon, start):
    a = start(timeout_ms=600_000)
    a.must("local", "c", "k")
    daemon.process.kill()
    daemon.process.wait()
    daemon.socket.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(daemon.socket))
        mute.listen()
        with mute.accept()[0]:  # and there it waits for an answer
            assert a.must("end") == 1
    daemon.socket.unlink()
    daemon.process = daemon.spawn()
    wait_until(daemon.answers, "it is there again")


def test_a_local_objects_lock_over_a_cold_start(daemon, a, b):
    i, j = a.must("local", "c", "k"), b.must("local", "c", "k")
    a.must("lock", i)
    was = number(a, i)
    cold(daemon)
    wait_until(lambda: number(a, i) == number(b, j) != was, "it is registered again")
    assert b("lock", j, 50) == (DEADLINE, str(a.pid))
    b.post("lock", j)
    a.must("unlock", i)
    assert b.answer()[0] == OK


@pytest.mark.parametrize("what", ["lock", "segment"])
def test_who_waits_goes_on_over_a_cold_start(daemon, a, b, what):
    if what == "lock":
        i, j = a.must("segment", "c", "k"), b.must("segment", "c", "k")
        a.must("lock", i)
        b.post("lock", j)
        wait_until(lambda: daemon_waiters(daemon) == 1, "b waits")
    else:
        i = a("segment", "c", "k", manual=1)[1]
        b.post("segment", "c", "k")
        wait_until(lambda: b_waits(daemon), "b waits")
    cold(daemon)
    if what == "lock":
        assert a("unlock", i)[0] in (OK, ERR_UNREACHABLE)  # then it is told later
    assert b.answer()[0] == OK


def b_waits(d):
    with d.probe() as c:
        return any(s.resources_waiting for s in c.call("list_caches")[0].list_caches.caches)


def test_what_was_unlocked_without_a_daemon(daemon, a, b):
    """Whoever waited for it gets it from the next one: the word says that somebody waits, so the owner may not change it."""
    i, j = a.must("segment", "c", "k"), b.must("segment", "c", "k")
    a.must("lock", i)
    b.post("lock", j)
    wait_until(lambda: daemon_waiters(daemon) == 1, "b waits")
    daemon.process.kill()
    daemon.process.wait()
    daemon.socket.unlink(missing_ok=True)
    assert a("unlock", i)[0] in (ERR_UNREACHABLE, ERR_DISCONNECTED)
    daemon.process = daemon.spawn()
    assert b.answer()[0] == OK
    assert a("lock", i, 0) == (DEADLINE, str(b.pid))
