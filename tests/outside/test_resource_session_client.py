# SPDX-License-Identifier: MIT
"""Resources of sessions through libcached: handles that cached_session_handle() gave (resources.c, "session TOKEN")."""

import pytest

from harness import wait_until
from resource_users import User, server  # noqa: F401 (fixture)
from test_q_resource_takeover import cold, renew
from test_t_takeover import kill, take_over
from wire import DEADLINE, NOT_FOUND, OK

DROPPED, SESSION_ENDED = 4, 10


@pytest.fixture
def start(daemon):
    """A process with a handle of a session, or with @token None of the realm."""
    users = []

    def one(token=None):
        users.append(User(daemon))
        if token:
            assert users[-1]("session", token.hex())[0] == OK
        return users[-1]

    yield one
    for u in users:
        if not u.process.stdin.closed:
            assert u.finish() == 0


@pytest.fixture
def opened(daemon):
    tokens = []

    def one(**fields):
        with daemon.probe() as c:
            tokens.append(c.must("open_session", **fields).session.token)
        return tokens[-1]

    yield one
    with daemon.probe() as c:
        for token in tokens:
            c.call("close_session", token=token)


@pytest.fixture
def token(opened):
    return opened()


@pytest.fixture(params=["handed over", "killed"])
def how(request):
    return request.param


def close(d, token):
    with d.probe() as c:
        c.must("close_session", token=token)


def resources(d):
    with d.probe() as c:
        return c.stats().realm.resources


def number(u, r):
    return u.must("instance", r)


def test_each_session_has_its_own(daemon, start, opened):
    one, other = opened(), opened()
    a, b, c, of_all = start(one), start(one), start(other), start()
    users = a, b, c, of_all
    objects = [u.must("segment", "c", "k", first=n) for n, u in enumerate(users)]
    assert [u.must("made") for u in users] == [1, 0, 1, 1]
    assert [u.must("get", r, 0) for u, r in zip(users, objects)] == [0, 0, 2, 3]
    assert number(a, objects[0]) == number(b, objects[1])
    assert len({number(u, r) for u, r in zip(users, objects)}) == 3
    assert [u("list", "c") for u in users] == [(OK, "1 2"), (OK, "1 2"), (OK, "1 1"), (OK, "1 1")]
    assert b.must("add", objects[1]) == 1 and a.must("get", objects[0], 0) == 1 and c.must("get", objects[2], 0) == 2


def test_processes_of_a_session_share_its_lock(daemon, start, token, server):
    a, b = start(token), start(token)
    words = {"from": f"unix:{server.path}"}
    for u in (a, b):
        assert u("segment", "c", "k") == (OK, "0") and u("descriptor", "c", "d", **words) == (OK, "1")
    for r in (0, 1):
        a.must("lock", r)
        assert b("lock", r, 20) == (DEADLINE, str(a.pid))
        b.post("lock", r)
        a.must("unlock", r)
        assert b.answer()[0] == OK
        b.must("unlock", r)
    assert a("talk", 1, "x") == (OK, "1:1:x") and b("talk", 1, "y") == (OK, "1:2:y")
    assert [u.must("count", "c", "k", 200, 2) for u in (a, b)] == [400, 400]
    assert a.must("get", 0, 1) == 800


def test_dropping_is_the_sessions(daemon, start, opened):
    a, b, of_all = start(opened()), start(opened()), start()
    for u in (a, b, of_all):
        u.must("local", "c", "k")
    assert a("drop", "c", "k") == (OK, "1")
    wait_until(lambda: a.must("left", 0) == DROPPED, "it is told")
    assert b("drop", "c", "other") == (NOT_FOUND, "0")
    assert b.must("left", 0) == of_all.must("left", 0) == 0


@pytest.mark.parametrize("kind", ["segment", "descriptor", "local"])
def test_it_ends_with_the_session(daemon, start, token, kind):
    """All are told, the function for that is called once the last use ends, and nothing of it is left."""
    a, b = start(token), start(token)
    words = {"from": "pipe"} if kind == "descriptor" else {}
    for u in (a, b):
        assert u(kind, "c", "k", **words) == (OK, "0") and u(kind, "c", "k", **words) == (OK, "1")
        assert u(kind, "c", "unused", **words) == (OK, "2")
        u.must("release", 2)
    a.must("lock", 0)
    close(daemon, token)
    wait_until(lambda: all(u.must("left", 0) == u.must("left", 1) == SESSION_ENDED for u in (a, b)), "all are told")
    assert b("lock", 0, 20)[0] == DEADLINE  # who holds it goes on with it
    a.must("unlock", 0)
    unused = 1 if kind == "local" else 0  # as long as it is in its cache it stays
    for u in (a, b):
        wait_until(lambda: u.must("ended") == unused, "what nobody used is over")
        u.must("release", 0)
        assert u.must("ended") == unused
        u.must("release", 1)
        assert u.must("ended") == unused + 1
        assert u(kind, "c", "k", **words)[0] == NOT_FOUND
    wait_until(lambda: resources(daemon) == 0, "nothing of it is left")
    assert [u.must("end") for u in (a, b)] == [unused + 1] * 2


def test_a_segment_goes_on(daemon, start, token, how):
    a, b = start(token), start(token)
    i, j = a.must("segment", "c", "k"), b.must("segment", "c", "k")
    a.must("add", i)
    a.must("lock", i)
    was = number(a, i)
    renew(how, daemon, (a, i))
    assert b("lock", j, 500) == (DEADLINE, str(a.pid))
    c = start(token)
    k = c.must("segment", "c", "k")
    assert c.must("add", k) == 3 and number(c, k) == was and c("lock", k, 0)[0] == DEADLINE
    b.post("lock", j)
    a.must("unlock", i)
    assert b.answer()[0] == OK
    assert [u.must("made") for u in (a, b, c)] == [1, 0, 0]
    assert [u.must("left", r) for u, r in ((a, i), (b, j), (c, k))] == [0, 0, 0]
    close(daemon, token)
    wait_until(lambda: all(u.must("left", 0) == SESSION_ENDED for u in (a, b, c)), "all are told")


def test_all_kinds_go_on(daemon, start, token, server, how):
    a, b = start(token), start(token)
    words = {"from": f"unix:{server.path}"}
    for u in (a, b):
        u.must("descriptor", "c", "d", **words), u.must("local", "c", "l")
    were = number(a, 0), number(a, 1)
    renew(how, daemon, (a, 0))
    assert a("talk", 0, "x") == (OK, "1:1:x") and b("talk", 0, "y") == (OK, "1:2:y")
    assert a.must("made") == 2 and b.must("made") == 1
    for u in (a, b):
        wait_until(lambda: u("list", "c") == (OK, "2 2"), "both have come back")
        assert (number(u, 0), number(u, 1)) == were and u.must("left", 0) == u.must("left", 1) == 0
        assert u.must("local", "c", "l") == 2 and number(u, 2) == were[1]
    assert a.must("made") == 2 and b.must("made") == 1 and a.must("ended") == 0


def test_a_cold_start_ends_it(daemon, start, token):
    """The session is gone, and what is its own is not anybody's else."""
    a, b = start(token), start()
    for u in (a, b):
        assert u("segment", "c", "k") == (OK, "0") and u("local", "c", "l") == (OK, "1")
    b_was = number(b, 1)
    cold(daemon)
    wait_until(lambda: a.must("left", 0) == a.must("left", 1) == SESSION_ENDED, "they are told")
    wait_until(lambda: number(b, 1) not in (0, b_was), "the realm's are registered again")
    assert b.must("left", 0) == b.must("left", 1) == 0
    wait_until(lambda: resources(daemon) == 2, "and nothing else")
    assert a("segment", "c", "k")[0] == NOT_FOUND
    a.must("release", 0), a.must("release", 1)
    assert a.must("ended") == 2
    assert a("session", token.hex())[0] == NOT_FOUND


def test_a_local_object_of_a_time_without_a_daemon(daemon, start, token):
    a = start(token)
    a.must("local", "c", "before")
    from test_q_resource_takeover import kept_files
    from test_t_takeover import close_all, start_with
    passed = kept_files(daemon)
    kill(daemon)
    assert number(a, a.must("local", "c", "k")) == 0
    start_with(daemon, passed)
    close_all(passed)
    wait_until(lambda: number(a, 1) != 0, "it is known")
    b = start(token)
    assert number(b, b.must("local", "c", "k")) == number(a, 1)
    assert start()("list") == (OK, "0 0")
    take_over(daemon)
    close(daemon, token)
    wait_until(lambda: all(u.must("left", u is a) == SESSION_ENDED for u in (a, b)), "both are told")
