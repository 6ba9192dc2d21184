# SPDX-License-Identifier: MIT
"""Sessions through libcached (sessions.c), against the real daemon: values, changes that are carried out once, also
through handovers and crashes, caches of a session's own, events, and sessions that end with their processes.
"""

import re
import subprocess

import pytest

import harness
from harness import PATIENCE, wait_until
from test_t_takeover import restart, take_over
from wire import EXISTS, INVALID, NOT_FOUND, OK, VERSION_MISMATCH

SESSIONS = harness.BUILD / "tests" / "outside" / "sessions"
TIMEOUT_MS = 20000
ERR_USAGE, ERR_AGAIN = 70, 73
GONE = "there is no session with this token"
EVENT_LOST, EVENT_SESSION = 128, 256
SET, DELETED, CLEARED, CLOSED = 1, 2, 3, 4
N_PROCESSES, N_EACH = 20, 1000


class Sessions:
    """The program; each command gives (code, text)."""

    def __init__(self, d):
        self.opened = []
        self.process = subprocess.Popen([SESSIONS, str(d.socket), str(TIMEOUT_MS)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)

    def post(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self):
        code, _, text = self.process.stdout.readline().rstrip("\n").partition(" ")
        return int(code), text

    def __call__(self, *words):
        self.post(*words)
        code, text = self.answer()
        if words[0] == "open" and code == OK:
            self.opened.append(text)
        return code, text

    def must(self, *words):
        code, text = self(*words)
        assert code == OK, (words, code, text)
        return text

    def end(self):
        self.process.stdin.close()
        code = self.process.wait(timeout=PATIENCE)
        self.process.stdout.close()
        return code


@pytest.fixture
def start(daemon):
    """Starts a program, attached to a session."""
    all_of_them = []

    def one(token=None, d=daemon):
        p = Sessions(d)
        all_of_them.append(p)
        if token:
            p.must("attach", token)
        return p

    yield one
    if any(p.opened for p in all_of_them) and daemon.answers():
        with daemon.client() as c:
            for token in (token for p in all_of_them for token in p.opened):
                assert c.call("close_session", token=bytes.fromhex(token))[0].status in (OK, NOT_FOUND)
    for p in all_of_them:
        if p.process.poll() is None and not p.process.stdin.closed:
            assert p.end() == 0


@pytest.fixture
def s(start):
    p = start()
    p.token = p.must("open", "a-label")
    return p


# ---- life

def test_open(s, start):
    assert re.fullmatch("[0-9a-f]{32}", s.token)
    assert s.must("info", "label") == "a-label" and re.fullmatch("[0-9a-f]{16}", s.must("info", "id"))
    assert s("info", "token") == (OK, "")
    other = start()
    assert other.must("open", "a-label") != s.token
    assert other.must("all") == ""


def test_two_processes_see_the_same(s, start):
    other = start(s.token)
    s.must("set", "k", "v")
    assert other.must("get", "k") == "v" and other.must("info", "keys") == "1"
    other.must("delete", "k")
    assert s("get", "k")[0] == NOT_FOUND


def test_tokens(s, start):
    p = start()
    assert p("attach", "0" * 32)[0] == NOT_FOUND
    assert GONE in p("attach", "0" * 32)[1]
    for wrong in (s.token[:-1], s.token + "0", s.token.upper() if s.token.upper() != s.token else "A" * 32, "g" * 32):
        assert p("attach", wrong)[0] == ERR_USAGE, wrong


def test_closed(s, start):
    other = start(s.token)
    s.must("set", "k", "v")
    other.must("close")
    for command in (["get", "k"], ["set", "k", "w"], ["all"], ["add", "n", 1], ["delete", "k"], ["clear"],
                    ["append", "k", "v"], ["info", "keys"], ["close"], ["absent", "k", "v"]):
        code, text = s(*command)
        assert code == NOT_FOUND and (GONE in text or command[0] == "info"), command
    assert s("has", "k")[0] == NOT_FOUND


def test_what_may_not_be_opened(start):
    p = start()
    assert p("open", "x" * 65)[0] == ERR_USAGE
    assert p("open", "x", 10 * 366 * 86400 * 1000 + 1)[0] == INVALID
    assert p("open", "x", 1000, 3600 * 1000 + 1)[0] == INVALID


def test_idle(daemon, clock, start):
    p = start()
    p.must("open", "short", 5000)
    clock.advance(4000)
    p.must("set", "k", "v")
    clock.advance(4000)
    assert p.must("get", "k") == "v"
    clock.advance(6000)
    assert p("get", "k")[0] == NOT_FOUND and GONE in p("get", "k")[1]


# ---- values

def test_values(s):
    assert s("get", "k")[0] == NOT_FOUND and "k" in s("get", "k")[1] and GONE not in s("get", "k")[1]
    s.must("set", "k", "v")
    s.must("both", "b", "a", "both")
    assert s.must("all") == "k=v b=both a=both" and s.must("keys") == "k b a"
    assert s.must("some", "a", "none") == "a=both none"
    assert s("has", "b")[0] == OK and s("has", "none")[0] == NOT_FOUND
    s.must("set", "empty", "")
    assert s("get", "empty") == (OK, "")
    s.must("delete", "b")
    assert s("delete", "b")[0] == NOT_FOUND
    assert s.must("keys") == "k a empty"
    s.must("clear")
    assert s.must("keys") == ""
    assert s("set", "x" * 129, "v")[0] == INVALID
    assert s("both", "same", "same", "v")[0] == INVALID


def test_changes_that_depend_on_a_value(s):
    assert s("absent", "k", "first") == (OK, "")
    assert s("absent", "k", "second") == (EXISTS, "first")
    s.must("swap", "k", "mine")
    assert s.must("get", "k") == "mine"
    assert s("swap", "k", "mine", "theirs")[0] == VERSION_MISMATCH
    assert s.must("get", "k") == "theirs"
    s.must("append", "log", "one,")
    s.must("append", "log", "two,")
    assert s.must("get", "log") == "one,two,"
    s.must("append", "log", "three", 7)
    assert s.must("get", "log") == "o,three"


def test_numbers(s):
    assert s("add", "n", 5, "nostart")[0] == NOT_FOUND
    assert s.must("add", "n", 5) == "5" and s.must("add", "n", -7) == "-2"
    assert s.must("real", "n", 0.5) == "-1.5" and s.must("get", "n") == "-1.5"
    assert s("add", "n", 1)[0] == INVALID
    assert s("real", "n", "inf")[0] in (ERR_USAGE, INVALID)
    s.must("set", "big", 2 ** 63 - 1)
    assert s("add", "big", 1)[0] == INVALID and s.must("get", "big") == str(2 ** 63 - 1)
    assert s.must("add", "low", -2 ** 63) == str(-2 ** 63)


def test_threads_and_children(s):
    """One object, many threads; a child with nothing else."""
    assert s.must("count", "n", 100, 8) == "800"
    assert s("fork", "n", 50)[0] == OK
    assert s.must("add", "n", 0) == "850"


# ---- once

def count_with(s, start, disturb):
    """20 processes count while the daemon is disturbed: none is lost, none counted twice."""
    others = [start(s.token) for _ in range(N_PROCESSES)]
    for p in others:
        p.post("count", "n", N_EACH)
    disturb(lambda: int(s.must("add", "n", 0)))
    assert [p.answer() for p in others] == [(OK, str(N_EACH))] * N_PROCESSES
    assert s.must("add", "n", 0) == str(N_PROCESSES * N_EACH)


def test_counting_through_handovers(daemon, s, start):
    def disturb(counted):
        for at in (N_EACH, 4 * N_EACH):
            wait_until(lambda at=at: counted() >= at, "they count", PATIENCE * 3)
            take_over(daemon)
            s.must("info", "version")

    count_with(s, start, disturb)


def test_counting_through_a_crash(daemon, s, start):
    """Killed, and started with its memory: the session knows what was carried out."""
    def disturb(counted):
        wait_until(lambda: counted() >= 2 * N_EACH, "they count", PATIENCE * 3)
        restart(daemon)

    count_with(s, start, disturb)


def test_attached_through_a_handover(daemon, s, start):
    """A session that is bound lives on, if somebody watches it."""
    p = start()
    token = p.must("open", "bound", 3600000, 10000)
    p.must("watch")
    take_over(daemon)
    assert p("next", 20000) == (OK, f"{EVENT_LOST} 0")
    assert p.must("info", "attached") == "1"
    start(token).must("set", "k", "v")
    assert p("next", 20000) == (OK, f"{EVENT_SESSION} {SET} k")


# ---- caches of its own

def test_caches(s, start):
    s.must("realm-set", "c", "k", "of-the-realm")
    assert s("cache-get", "c", "k")[0] == NOT_FOUND
    s.must("cache-set", "c", "k", "of-the-session")
    assert s.must("cache-get", "c", "k") == "of-the-session"
    assert s.must("realm-get", "c", "k") == "of-the-realm"
    assert s.must("info", "caches") == "1"
    assert start(s.token).must("cache-get", "c", "k") == "of-the-session"
    other = start()
    other.must("open", "other")
    assert other("cache-get", "c", "k")[0] == NOT_FOUND
    s.must("close")
    assert s("cache-get", "c", "k")[0] == NOT_FOUND
    assert s.must("realm-get", "c", "k") == "of-the-realm"


def test_memoized_for_a_session(s, start):
    assert s.must("memo", "f") == "1"
    assert s.must("memo", "f") == "0"
    other = start()
    other.must("open", "other")
    assert other.must("memo", "f") == "1"


# ---- events

def test_events(s, start):
    watcher = start(s.token)
    watcher.must("watch")
    assert watcher("next", 0) == (ERR_AGAIN, "")
    s.must("both", "b", "a", "v")
    code, text = watcher("next", 20000)
    assert code == OK and sorted(text.split()) == sorted(f"{EVENT_SESSION} {SET} a b".split())
    s.must("delete", "b")
    assert watcher("next", 20000) == (OK, f"{EVENT_SESSION} {DELETED} b")
    s.must("clear")
    assert watcher("next", 20000) == (OK, f"{EVENT_SESSION} {CLEARED}")
    s.must("close")
    assert watcher("next", 20000) == (OK, f"{EVENT_SESSION} {CLOSED}")
    assert watcher("next", 20000)[0] == watcher("next", 0)[0] == NOT_FOUND
    assert watcher("watch")[0] == NOT_FOUND


def test_bound_to_a_process(clock, start):
    """Killed, in whatever way: its session ends when the grace has passed, and not before."""
    p = start()
    token = p.must("open", "bound", 3600000, 5000)
    p.must("watch")
    p.must("set", "k", "v")
    clock.advance(60000)
    other = start(token)
    assert other.must("get", "k") == "v" and other.must("info", "attached") == "1"
    p.process.kill()
    p.process.wait()
    p.process.stdin.close()
    wait_until(lambda: other.must("info", "attached") == "0", "nobody is attached")
    clock.advance(4000)
    assert other.must("get", "k") == "v"
    clock.advance(6000)
    wait_until(lambda: other("get", "k")[0] == NOT_FOUND, "it has ended")
