# SPDX-License-Identifier: MIT
"""What resources and sessions promise, in several real processes through libcached (resources.c, sessions.c): one test for
each sentence. The rest of the suite looks at the edges.
"""

import pytest

from harness import wait_until
from resource_users import User, server  # noqa: F401 (fixture)
from test_session_client import Sessions
from wire import DEADLINE, EXISTS, INVALID, NOT_FOUND, OK, VERSION_MISMATCH

OWNER_DIED = 75
EXPIRED, EVICTED, CLEARED, DROPPED, REPLACED, INVALIDATED = range(1, 7)


@pytest.fixture
def start(daemon):
    users = []

    def one(kind=User):
        users.append(kind(daemon))
        return users[-1]

    yield one
    for u in users:
        if not u.process.stdin.closed and u.process.poll() is None:
            if isinstance(u, Sessions):
                for token in u.opened:
                    if u("attach", token)[0] == OK:
                        u("close")
                assert u.end() == 0
            else:
                assert u.finish() == 0


@pytest.fixture
def three(start):
    return start(), start(), start()


# ---- resources

def test_8_created_once_shared_and_not_copied(three, daemon):
    """`l[0] += 1` by three processes in turn: 2, 3, 4; with data it is 2, 2, 2."""
    shared = [(u, u.must("segment", "c", "l", first=1)) for u in three]
    assert [u.must("add", r) for u, r in shared] == [2, 3, 4]
    assert sum(u.must("made") for u in three) == 1
    with daemon.client() as c:
        c.set("data", b"l", b"1")
        assert [int(c.get("data", b"l")) + 1 for _ in three] == [2, 2, 2]
    # An object that cannot leave its process: one in each, made once there.
    for u in three:
        u.must("local", "own", "l"), u.must("local", "own", "l")
    assert sum(u.must("made") for u in three) == 1 + 3


def test_9_no_serialization(three, server, tmp_path):
    """Memory, a connected socket, an open file, and any object within a process."""
    a, b, c = three
    memory = [u.must("segment", "c", "memory", size=1 << 20) for u in three]
    a.must("add", memory[0])
    assert b.must("get", memory[1], 0) == c.must("get", memory[2], 0) == 2
    sockets = [u.must("descriptor", "c", "socket", **{"from": f"unix:{server.path}"}) for u in three]
    assert [u("talk", s, "x") for u, s in zip(three, sockets, strict=True)] == [(OK, f"1:{n}:x") for n in (1, 2, 3)]
    files = [u.must("descriptor", "c", "file", **{"from": f"file:{tmp_path}/f"}) for u in three]
    for u, f in zip(three, files, strict=True):
        u("talk", f, "line")  # they share the position, too
    assert (tmp_path / "f").read_text() == "line\n" * 3
    assert a.must("object", a.must("local", "c", "object", first=42)) == 42


def test_10_ttl_max_entries_validate_and_on_release(three, clock, tmp_path, daemon):
    a, b, c = three
    # A time to live: each holder is told, once.
    for u in three:
        u.must("release", u.must("local", "ttl", "k", ttl=1000))
    clock.advance(1001)
    wait_until(lambda: [u.must("ended") for u in three] == [1, 1, 1], "it has expired")
    # max_entries: what nobody holds, and was used least recently, leaves first.
    held = a.must("segment", "max", "held", max=2)
    b.must("release", b.must("segment", "max", "x"))
    b.must("segment", "max", "y")
    assert a.must("left", held) == 0 and c("segment", "max", "x", only=1)[0] == NOT_FOUND
    # A check at each access; what is not good is replaced.
    bad = tmp_path / "bad"
    first = [u.must("segment", "checked", "k", bad=bad) for u in three]
    bad.touch()
    a.post("segment", "checked", "k", bad=bad)
    assert a.answer()[0] == OK
    bad.unlink()
    wait_until(lambda: b.must("left", first[1]) == c.must("left", first[2]) == INVALIDATED, "all are told")
    # A killed holder is told nothing, an orderly one at its end.
    a.must("local", "ends", "k"), b.must("local", "ends", "k")
    told = b.must("ended")
    a.kill()
    assert b.must("end") > told


def test_10_the_singleton_is_kept_while_the_daemon_is_away(three, daemon):
    a, b, _ = three
    r = a.must("local", "c", "model")
    daemon.process.kill()
    daemon.process.wait()
    for _ in range(3):
        a.must("release", a.must("local", "c", "model"))
    daemon.process = daemon.spawn()
    wait_until(daemon.answers, "it is there again")
    wait_until(lambda: b("list", "c") == (OK, "1 1"), "it is registered again")
    assert a.must("made") == 1 and a.must("ended") == 0 and a.must("left", r) == 0


def test_11_exclusive_use(three):
    a, b, c = three
    ra, rb, rc = [u.must("segment", "c", "k") for u in three]
    a.must("lock", ra)
    assert b("lock", rb, 0) == (DEADLINE, str(a.pid)) and c("lock", rc, 20) == (DEADLINE, str(a.pid))
    b.post("lock", rb)
    a.kill()
    assert b.answer()[0] == OWNER_DIED
    c.post("lock", rc)
    b.must("unlock", rb)
    assert c.answer()[0] == OK


# ---- sessions

@pytest.fixture
def session(start):
    """A process that has opened one, and another one that has its token."""
    a, b = start(Sessions), start(Sessions)
    token = a.must("open", "test")
    b.must("attach", token)
    return a, b, token


def test_12_a_dictionary_for_each(session):
    a, b, _ = session
    a.must("set", "one", "1"), b.must("set", "two", "2")
    assert b.must("get", "one") == "1" and a("has", "two")[0] == OK and a("has", "three")[0] == NOT_FOUND
    assert a.must("keys") == b.must("keys") == "one two" and b.must("all") == "one=1 two=2"
    code, text = a("get", "three")
    assert code == NOT_FOUND and "'three'" in text
    a.must("delete", "one")
    assert b("get", "one")[0] == NOT_FOUND
    b.must("clear")
    assert a.must("all") == ""


def test_13_nobody_else_sees_it_and_it_ends(session, start, clock):
    a, _, token = session
    a.must("set", "k", "mine")
    other = start(Sessions)
    other.must("open", "test")  # a reload
    assert other.must("all") == ""
    other.must("set", "k", "yours")
    assert a.must("get", "k") == "mine"
    # Whoever presents the token; a dropped connection, too.
    again = start(Sessions)
    again.must("attach", token)
    assert again.must("get", "k") == "mine"
    # One that nobody uses ends.
    idle = start(Sessions)
    ends = idle.must("open", "idle", 5000)
    idle.must("set", "k", "v")
    clock.advance(5001)
    assert idle("get", "k")[0] == NOT_FOUND and start(Sessions)("attach", ends)[0] == NOT_FOUND


def test_14_what_was_read_is_changed_safely(session):
    a, b, _ = session
    a.post("count", "n", 500), b.post("count", "n", 500)
    assert a.answer() == b.answer() == (OK, "500") and a.must("get", "n") == "1000"
    a.must("set", "v", "old")
    assert b("swap", "v", "new", "between")[0] == VERSION_MISMATCH and a.must("get", "v") == "between"
    a.must("absent", "who", "first")
    assert b("absent", "who", "second") == (EXISTS, "first")
    a.must("set", "text", "x")
    assert b("add", "text", 1)[0] == INVALID


def test_15_caches_of_a_session(session, start):
    a, b, _ = session
    a.must("cache-set", "c", "k", "mine")
    assert b.must("cache-get", "c", "k") == "mine" and b("realm-get", "c", "k")[0] == NOT_FOUND
    other = start(Sessions)
    other.must("open", "other")
    assert other("cache-get", "c", "k")[0] == NOT_FOUND
    a.must("close")
    assert b("cache-get", "c", "k")[0] == NOT_FOUND
