# SPDX-License-Identifier: MIT
"""libcached against the real daemon, through teller.c: recorded messages and their replay, discovered inputs,
tags, and subscriptions, with and without a mapping.
"""

import subprocess
from typing import NamedTuple

import pytest

import harness
import keys
from harness import wait_until

TELLER = harness.BUILD / "tests" / "outside" / "teller"
OK, NOT_FOUND, TOO_LARGE, LIMIT = 0, 1, 5, 7
STORED, DELETED, CLEARED, LOST = 1, 2, 4, 128
AGAIN = -73
UNKNOWN = (1 << 64) - 1


class Answer(NamedTuple):
    code: int
    hit: bool
    cache: int
    calls: int  # of all functions, in this process
    value: str
    shown: str
    error: str


class Event(NamedTuple):
    kind: int
    cache: str
    key: str
    tag: str
    cause: str
    lost: int


class Teller:
    """The program."""

    def __init__(self, path, how):
        self.process = subprocess.Popen([str(TELLER), str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, bufsize=1)

    def send(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def read(self):
        return self.process.stdout.readline().rstrip("\n").split("\t")

    def ask(self, *words):
        self.send(*words)
        return self.read()

    def answer(self):
        code, hit, cache, calls, value, shown, error = self.read()
        return Answer(int(code), hit == "1", int(cache), int(calls), value, shown, error)

    def call(self, *words):
        self.send("call", *words)
        return self.answer()

    def inputs(self, **values):
        for name, value in values.items():
            self.send("input", name, value)

    def next(self, ms=10000):
        kind, cache, key, tag, cause, lost = self.ask("next", ms)
        return Event(int(kind), cache, key, tag, cause, int(lost))

    def finish(self):
        """The end: nothing on stderr, not even from a sanitizer."""
        _, err = self.process.communicate(timeout=harness.PATIENCE)
        assert self.process.returncode == 0 and err == "", err


@pytest.fixture(params=["mapped", "socket"])
def make(request, daemon):
    made = []

    def make_one():
        made.append(Teller(daemon.socket, request.param))
        return made[-1]

    yield make_one
    for t in made:
        t.finish()


@pytest.fixture
def t(make):
    return make()


# ---- messages


def test_a_replay(make, t):
    """Shown once, in order, whether the function ran or not; also by another process."""
    shown = "in:one|in:two"
    assert t.call("inner", "x") == (OK, False, OK, 1, "inner", shown, "")
    assert t.call("inner", "x") == (OK, True, OK, 1, "inner", shown, "")
    assert make().call("inner", "x") == (OK, True, OK, 0, "inner", shown, "")


def test_a_nested(make, t):
    """What an inner call says, or says again, is part of what the outer one says."""
    shown = "out:before|in:one|in:two|out:after"
    assert t.call("outer", "x")[3:6] == (2, "outer", shown)
    assert t.call("outer", "x")[1:6] == (True, OK, 2, "outer", shown)
    # With the inner one a hit, from another process.
    other = make()
    assert other.call("inner", "y").calls == 1
    assert other.call("outer", "y")[3:6] == (2, "outer", shown)
    assert other.call("outer", "y")[1:6] == (True, OK, 2, "outer", shown)


def test_a_failed_run(t):
    """It stores none; what it said is still part of what the outer one said."""
    assert t.call("inner", "fail")[:6] == (-5, False, NOT_FOUND, 1, "", "in:one|in:two")
    assert t.call("inner", "fail").calls == 2
    shown = "out:before|in:one|in:two|out:after"
    assert t.call("outer", "fail")[1:6] == (False, OK, 4, "outer", shown)
    assert t.call("outer", "fail")[1:6] == (True, OK, 4, "outer", shown)


def test_a_waiter(make, t):
    """One runs, the other waits; both show the messages once."""
    other = make()
    assert other.call("inner", "warm").code == OK
    t.send("pause", 300)
    t.send("call", "inner", "x")
    wait_until(lambda: other.ask("fetch", "nothing") is not None)
    other.send("call", "inner", "x")
    answers = [t.answer(), other.answer()]
    assert {a.shown for a in answers} == {"in:one|in:two"}
    assert {a.value for a in answers} == {"inner"}
    assert answers[0].calls + answers[1].calls == 2


def test_a_too_large(make_daemon):
    """Messages that are larger than a value may be: the value is returned, and nothing is stored."""
    daemon = make_daemon(limits={"value_bytes": "64K"})
    teller = Teller(daemon.socket, "mapped")
    for calls in (1, 2):
        answer = teller.call("inner", "loud")
        assert answer[:6] == (OK, False, TOO_LARGE, calls, "inner", "in:one|in:two|in:!!!")
        assert "value_bytes" in answer.error
    teller.finish()


# ---- discovered inputs


def test_b_variants(make, t):
    t.inputs(mode="a", x="1", y="2")
    assert t.call("branch", "k") == (OK, False, OK, 1, "/a/1", "branch:/a/1", "")
    assert t.call("branch", "k") == (OK, True, OK, 1, "/a/1", "branch:/a/1", "")
    # What this branch did not read does not matter.
    t.inputs(y="3")
    assert t.call("branch", "k").hit
    t.inputs(x="4")
    assert t.call("branch", "k")[1:5] == (False, OK, 2, "/a/4")
    t.inputs(mode="b")
    assert t.call("branch", "k")[1:5] == (False, OK, 3, "/b/3")
    # All of them are there, for others, too.
    other = make()
    other.inputs(mode="a", x="1")
    assert other.call("branch", "k")[1:5] == (True, OK, 0, "/a/1")
    other.inputs(mode="b", y="3")
    assert other.call("branch", "k")[1:5] == (True, OK, 0, "/b/3")
    other.inputs(mode="a", x="4")
    assert other.call("branch", "k")[1:5] == (True, OK, 0, "/a/4")


def test_b_a_getter_that_fails(t):
    t.inputs(mode="a", x="!")
    failed = t.call("branch", "k")
    assert failed[:5] == (-7, False, NOT_FOUND, 1, "")
    assert "input x" in failed.error
    t.inputs(x="1")
    assert t.call("branch", "k")[:5] == (OK, False, OK, 2, "/a/1")
    # In the look-up: nothing runs.
    t.inputs(x="!")
    failed = t.call("branch", "k")
    assert failed[:5] == (-7, False, NOT_FOUND, 2, "")
    assert "input x" in failed.error
    t.inputs(x="1")
    assert t.call("branch", "k").hit


def test_b_depth(t):
    """64 inputs are followed, one more is not stored."""
    t.inputs(**{f"i{i}": "v" for i in range(70)})
    assert t.call("many", "64")[:5] == (OK, False, OK, 1, "many")
    assert t.call("many", "64")[:5] == (OK, True, OK, 1, "many")
    for calls in (2, 3):
        answer = t.call("many", "65")
        assert answer[:5] == (OK, False, LIMIT, calls, "many")
        assert "more than 64 inputs" in answer.error
    t.inputs(i63="other")
    assert t.call("many", "64")[:5] == (OK, False, OK, 4, "many")


def test_b_nested(t):
    """An inner call's inputs are the outer one's, also when the inner one is a hit."""
    t.inputs(mode="a", x="1")
    assert t.call("branch", "w").calls == 1
    assert t.call("wrapper", "k")[1:5] == (False, OK, 2, "/a/1")
    assert t.call("wrapper", "k")[1:5] == (True, OK, 2, "/a/1")
    t.inputs(x="2")
    assert t.call("wrapper", "k")[1:5] == (False, OK, 4, "/a/2")


def test_b_one_run_for_those_who_agree(make, t):
    """Two callers with the same inputs: one of them runs, also where nothing is known yet."""
    other = make()
    for each in (t, other):
        each.inputs(mode="a", x="1")
        each.send("pause", 200)
    t.send("call", "branch", "k")
    other.send("call", "branch", "k")
    answers = [t.answer(), other.answer()]
    assert [a.value for a in answers] == ["/a/1", "/a/1"]
    assert answers[0].calls + answers[1].calls == 1


def test_b_keys(daemon, t):
    """Any client finds a variant by KEYS.md; Explain counts them."""
    t.inputs(mode="a", x="1")
    assert t.call("branch", "k").code == OK
    t.inputs(x="2")
    assert t.call("branch", "k").code == OK
    first = keys.key(keys.text("branch"), keys.text("1"), keys.binary(keys.key(keys.text("k"))))
    second = keys.variant(first, "mode", b"a")
    client = daemon.client()
    for key, value in ((first, b"mode"), (second, b"x"), (keys.variant(second, "x", b"2"), b"/a/2")):
        entry, body = client.lookup("told", key)
        assert (body, entry.vary) == (value, value != b"/a/2")
    explained = client.must("explain", cache="told", key=first).explain
    assert {(i.name, i.variants) for i in explained.inputs} == {("mode", 1), ("x", 2)}


def test_b_clearing_takes_all(daemon, t):
    t.inputs(mode="a", x="1")
    assert t.call("branch", "k").calls == 1
    client = daemon.client()
    client.call("clear", cache="told")
    assert t.call("branch", "k")[1:5] == (False, OK, 2, "/a/1")


# ---- tags and messages of a plain store


def test_c_tags(t):
    assert t.ask("store", "k1", "red") == ["0", ""]
    assert t.ask("store", "k2", "blue") == ["0", ""]
    assert t.ask("fetch", "k1") == ["0", "1", "note:red"]
    assert t.ask("clear-tag", "red") == ["0"]
    assert t.ask("fetch", "k1") == ["1", "0", ":"]
    assert t.ask("fetch", "k2") == ["0", "1", "note:blue"]
    assert t.ask("clear-prefix", "k") == ["0"]
    assert t.ask("fetch", "k2") == ["1", "0", ":"]
    code, error = t.ask("store", "k", "t\x01")
    assert code == "4" and "tag" in error


# ---- subscriptions


def test_d_events(make, t):
    other = make()
    assert t.ask("subscribe", "told") == ["0", ""]
    other.ask("store", "k", "red")
    event = t.next()
    assert event[:4] == (STORED, "told", "k", "")
    other.ask("clear-tag", "red")
    event = t.next()
    assert (event.kind, event.cache, event.tag) == (CLEARED, "told", "red")
    assert t.next(0).kind == AGAIN


def test_d_restarted(daemon, make, t):
    """The gap is told first; then everything again."""
    other = make()
    assert t.ask("subscribe", "-") == ["0", ""]
    other.ask("store", "k", "-")
    while t.next().kind != STORED:
        pass
    daemon.stop()
    assert t.next(50).kind == AGAIN
    daemon.start()
    lost = t.next()
    assert lost.kind == LOST and lost.lost == UNKNOWN
    wait_until(lambda: other.ask("store", "k", "-")[0] == "0")
    kinds = {t.next().kind for _ in range(1)}
    assert STORED in kinds or t.next().kind == STORED
