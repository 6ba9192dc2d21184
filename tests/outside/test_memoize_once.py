# SPDX-License-Identifier: MIT
"""cached_memoize() from many processes and threads at a time, through once.c and the real daemon: a value is computed
once on the whole machine, and nobody waits for somebody who is no more.
"""

import os
import pathlib
import signal
import subprocess
import threading
from typing import NamedTuple

import pytest

import harness
from harness import wait_until
from test_t_takeover import take_over
from wire import pb

ONCE = harness.BUILD / "tests" / "outside" / "once"

OK, NOT_FOUND, SUPERSEDED, NEGATIVE = 0, 1, 18, 19
UNREACHABLE, TIMEOUT, DISCONNECTED, CLOSED = 64, 65, 66, 72


class Done(NamedTuple):
    code: int
    hit: bool
    stale: bool
    cache: int
    waited: int
    holder: int
    value: str
    error: str


class Once:
    """The program. What its runs tell comes in the order in which it happened."""

    def __init__(self, path, mapped=True, **env):
        self.process = subprocess.Popen([str(ONCE), str(path), str(int(mapped))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, bufsize=1, env={**os.environ, **env})
        self.told = {}  # tag: what it told
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    @property
    def pid(self):
        return self.process.pid

    def read(self):
        for line in self.process.stdout:
            tag, *fields = line.rstrip("\n").split("\t")
            with self.changed:
                self.told.setdefault(tag, []).append(fields)
                self.changed.notify_all()

    def say(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def run(self, tag, key="k", handle=0, until=None):
        self.say("run", tag, handle, key)
        if until:
            self.wait(tag, until)

    def all(self, tag, what):
        with self.changed:
            return [f for f in self.told.get(tag, []) if f[0] == what]

    def wait(self, tag, what, n=1):
        """The fields of the n-th of these."""
        with self.changed:
            assert self.changed.wait_for(lambda: len([f for f in self.told.get(tag, []) if f[0] == what]) >= n,
                                         harness.PATIENCE), f"{tag} does not tell {what}: {self.told}"
        return self.all(tag, what)[n - 1][1:]

    def done(self, tag):
        code, hit, stale, cache, waited, holder, value, error = self.wait(tag, "done")
        return Done(int(code), hit == "1", stale == "1", int(cache), int(waited), int(holder), value, error)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def finish(self):
        """The end: nothing on stderr, not even from a sanitizer."""
        if self.process.poll() is None:
            self.process.stdin.close()
            assert self.process.wait(harness.PATIENCE) == 0
            assert self.process.stderr.read() == ""
        for pipe in self.process.stdin, self.process.stdout, self.process.stderr:
            try:
                pipe.close()
            except BrokenPipeError:
                pass


@pytest.fixture
def make(daemon):
    made = []

    def make(**how):
        made.append(Once(daemon.socket, **how))
        return made[-1]

    yield make
    for o in made:
        o.finish()


def computing(daemon):
    with daemon.probe() as c:
        return c.stats().total.computing


def waiting(daemon, n):
    def are():
        with daemon.probe() as c:
            return c.stats().total.waiting == n
    wait_until(are, f"{n} wait")


def pss(pids):
    """Bytes: what is shared counts once in all."""
    lines = [line for pid in pids for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def runs(*programs):
    return sum(f[0] == "runs" for p in programs for told in p.told.values() for f in told)


# ---- one computation


def test_a_many_processes_compute_once(daemon, make):
    """One of 64 computes; the others wait, and have its value."""
    all_of_them = [make() for _ in range(64)]
    for p in all_of_them:
        p.say("define", "k", "gate value:v")
        p.run("a")
    waiting(daemon, 63)
    for p in all_of_them:
        p.say("open", "a")
    done = [p.done("a") for p in all_of_them]
    assert runs(*all_of_them) == 1
    assert {(d.code, d.cache, d.value, d.error) for d in done} == {(OK, OK, "v", "")}
    assert sorted(d.hit for d in done) == [False] + [True] * 63
    who = all_of_them[[d.hit for d in done].index(False)].pid
    assert {d.holder for d in done if d.hit} == {who}, "whose run they waited for"


def test_a_threads_and_handles_of_one_process(daemon, make):
    """They wait for each other as processes do, on whichever handle."""
    p = make()
    p.say("define", "k", "gate value:v")
    p.run("a", until="gate")
    for i in range(30):
        p.run(f"w{i}", handle=i % 3)
    waiting(daemon, 30)
    p.say("open", "a")
    assert all(p.done(f"w{i}")[:4] == (OK, True, False, OK) for i in range(30))
    assert runs(p) == 1


def test_a_a_hit_waits_for_nobody(daemon, make):
    p, q = make(), make()
    p.run("a")
    assert p.done("a").cache == OK
    q.say("define", "other", "gate")
    q.run("b", "other", until="gate")
    q.run("c")
    assert q.done("c").hit and q.done("c").waited == 0
    q.say("open", "b")


# ---- who computes is no more


@pytest.mark.parametrize("fork", ["", "fork "])
def test_b_a_killed_holder(daemon, make, fork):
    """The next one computes; a child of the dead one does not hold it up."""
    p, q, r = make(), make(), make()
    p.say("define", "k", f"{fork}gate value:p")
    p.run("a", until="gate")
    child = int(p.wait("a", "forked")[0]) if fork else None
    for o in q, r:
        o.say("define", "k", "value:q")
        o.run("a")
    waiting(daemon, 2)
    p.kill()
    assert {o.done("a").value for o in (q, r)} == {"q"} and runs(q, r) == 1
    if child:
        os.kill(child, signal.SIGKILL)


def test_b_a_holder_that_fails(daemon, make):
    """The next one computes, and no error is stored."""
    p, q = make(), make()
    p.say("define", "k", "gate reason:no_luck fail:300")
    q.say("define", "k", "fail:-7")
    p.run("a", until="gate")
    q.run("a")
    waiting(daemon, 1)
    p.say("open", "a")
    assert p.done("a")[:4] == (300, False, False, NOT_FOUND) and p.done("a").error == "no_luck"
    assert q.done("a")[:4] == (-7, False, False, NOT_FOUND)
    q.say("define", "k", "value:at_last")
    q.run("b")
    assert q.done("b").value == "at_last" and not q.done("b").hit and computing(daemon) == 0


def test_b_a_stopped_holder(daemon, make):
    """Whoever gave the wait an end computes then."""
    p, q = make(), make()
    p.say("define", "k", "gate value:p")
    p.run("a", until="gate")
    p.process.send_signal(signal.SIGSTOP)
    q.say("define", "k", "value:q")
    q.say("option", "lease-wait", 100)
    q.run("a")
    assert q.done("a")[:4] == (OK, False, False, OK) and q.done("a").value == "q"
    q.say("option", "lease-wait", 0)
    q.run("b", "other")
    assert not q.done("b").hit
    p.process.send_signal(signal.SIGCONT)
    p.say("open", "a")
    assert p.done("a").cache == SUPERSEDED and p.done("a").value == "p"


def test_b_a_lease_with_an_end(daemon, clock, make):
    """The next one gets it then; what the first one stores later is stored."""
    p, q = make(), make()
    p.say("option", "hold", 1000)
    p.say("define", "k", "gate value:p")
    q.say("define", "k", "gate value:q")
    p.run("a", until="gate")
    q.run("a")
    waiting(daemon, 1)
    clock.advance(1001)
    q.wait("a", "gate")
    p.say("open", "a")
    assert p.done("a").cache == OK
    q.say("open", "a")
    assert q.done("a").cache == SUPERSEDED and q.done("a").value == "q"


def test_b_a_closed_handle(daemon, make):
    """Who waits is told at once and computes; who computes stores nothing."""
    p, q = make(), make()
    p.say("define", "k", "gate value:p")
    q.say("define", "k", "value:q")
    p.run("a", until="gate")
    q.run("a")
    waiting(daemon, 1)
    q.say("close", 0)
    assert q.done("a")[:4] == (OK, False, False, CLOSED)
    p.say("close", 0)
    p.say("open", "a")
    assert p.done("a").value == "p" and p.done("a").cache != OK


# ---- nested


def test_c_nested(daemon, make):
    """Each of two functions runs once, whoever asks for the inner one."""
    p, q = make(), make()
    for o in p, q:
        o.say("define", "outer", "call:0:inner value:o")
        o.say("define", "inner", "gate value:i")
    p.run("a", "outer", until="gate")
    q.run("a", "inner")
    q.run("b", "outer")
    waiting(daemon, 2)
    p.say("open", "a")
    assert p.done("a").value == "o" and q.done("a").value == "i" and q.done("b").value == "o"
    assert runs(p, q) == 2


def test_c_recursion(daemon, make):
    """A function that asks for itself gets no lease, and does not wait for itself: by its own handle, or another."""
    for handle in 0, 1, 2:
        p = make()
        key = f"k{handle}"
        p.say("define", key, f"gate call:{handle}:{key} value:v")
        p.run("a", key, until="gate")
        p.say("define", key, "value:inner")
        p.say("open", "a")
        assert p.done("a").value == "v" and runs(p) == 2


@pytest.mark.parametrize("handle", [0, 1])
def test_c_mutual_recursion_of_two_processes(daemon, make, handle):
    """Each needs what the other one computes: nobody waits for ever."""
    p, q = make(), make()
    for o, mine, other in (p, "a", "b"), (q, "b", "a"):
        o.say("define", mine, f"gate call:{handle}:{other} value:{mine}")
        o.say("define", other, f"value:{other}")
        o.run("r", mine, until="gate")
    for o in p, q:
        o.say("open", "r")
    assert p.done("r").value == "a" and q.done("r").value == "b"
    assert 3 <= runs(p, q) <= 4


# ---- what the function says


def test_d_progress_reaches_those_who_wait(daemon, make):
    p, q = make(), make()
    p.say("define", "k", "gate progress:250:a_quarter gate value:v")
    p.run("a", until="gate")
    q.say("option", "waiting", 20)
    q.run("a")
    first = q.wait("a", "waits")
    assert int(first[0]) == p.pid and first[2] == "0"
    q.wait("a", "waits", 3)
    p.say("open", "a")
    wait_until(lambda: q.all("a", "waits")[-1][3:] == ["250", "a_quarter"], "the progress is told")
    p.say("open", "a")
    assert q.done("a").value == "v" and q.done("a").hit


def test_d_declined(daemon, make):
    """Those who wait have the value, and it is not stored."""
    p, q = make(), make()
    p.say("define", "k", "gate decline value:v")
    p.run("a", until="gate")
    q.run("a")
    waiting(daemon, 1)
    p.say("open", "a")
    assert p.done("a")[:4] == (OK, False, False, NOT_FOUND) and "declined" in p.done("a").error
    assert q.done("a").value == "v" and q.done("a").hit
    q.say("define", "k", "value:w")
    q.run("b")
    assert q.done("b").value == "w"


def test_d_negative(daemon, clock, make):
    """That there is no value is stored, for as long as the function says."""
    p, q = make(), make(mapped=False)
    p.say("define", "k", "gate negative:500:no_such_user")
    p.run("a", until="gate")
    q.run("a")
    waiting(daemon, 1)
    p.say("open", "a")
    assert p.done("a")[:4] == (NEGATIVE, False, False, OK) and p.done("a").error == "no_such_user"
    assert q.done("a")[:4] == (NEGATIVE, True, False, OK) and q.done("a").error == "no_such_user"
    q.run("b")
    assert q.done("b")[:4] == (NEGATIVE, True, False, OK) and q.done("b").error == "no_such_user"
    clock.advance(501)
    q.say("define", "k", "value:v")
    q.run("c")
    assert q.done("c").value == "v"


def test_d_cleared_while_it_runs(daemon, c, make):
    """What was begun before a clear is not stored."""
    p = make()
    p.say("define", "k", "gate value:v")
    p.run("a", until="gate")
    assert c.call("clear", cache="once")[0].status == OK
    p.say("open", "a")
    assert p.done("a").value == "v" and p.done("a").cache == SUPERSEDED
    p.run("b", until="gate")
    p.say("open", "b")
    assert p.done("b").cache == OK


# ---- staleness


def windows(c, **policy):
    assert c.call("open_cache", cache="once", policy=pb.Policy(ttl_ms=1000, **policy))[0].status == OK


def test_e_stale_values_are_served_while_one_computes(daemon, clock, c, make):
    windows(c, stale_for_ms=10000)
    p, q = make(mapped=False), make(mapped=False)
    for o in p, q:
        o.say("define", "k", "value:old")
    p.run("a")
    assert p.done("a").value == "old"
    clock.advance(1500)
    p.say("define", "k", "gate value:new")
    p.run("b", until="gate")
    for i in range(3):
        q.run(f"b{i}")
        assert q.done(f"b{i}")[:4] == (OK, True, True, OK) and q.done(f"b{i}").value == "old"
    p.say("open", "b")
    assert p.done("b")[:4] == (OK, False, False, OK) and p.done("b").value == "new"
    q.run("c")
    assert q.done("c").value == "new" and not q.done("c").stale
    assert runs(q) == 0


def test_e_a_refresh_that_fails(daemon, clock, c, make):
    """The old value goes on, and the caller is told."""
    windows(c, stale_if_error_ms=10000)
    p = make(mapped=False)
    p.say("define", "k", "value:old")
    p.run("a")
    assert p.done("a").value == "old"
    clock.advance(1500)
    p.say("define", "k", "reason:it_broke fail:300")
    p.run("b")
    assert p.done("b") == (OK, True, True, NOT_FOUND, 0, 0, "old", "it_broke")
    p.run("c")
    assert p.done("c")[:4] == (OK, True, True, OK) and runs(p) == 2


def test_e_a_refresh_that_fails_after_a_clear(daemon, clock, c, make):
    """What was cleared while the function ran is not served when it fails; what was not is, and what somebody stored."""
    windows(c, stale_for_ms=10000)
    p = make(mapped=False)
    for n, (key, meanwhile, code, value) in enumerate([
            ("k0", lambda key: None, OK, "old"),
            ("k1", lambda key: c.must("clear", cache="once"), 300, ""),
            ("k2", lambda key: c.must("set", b"other", cache="once", key=entry_key(c)), OK, "other"),
            ("k3", lambda key: c.must("set", b"input", cache="once", key=entry_key(c), vary=True), 300, "")]):
        c.must("clear", cache="once")
        p.say("define", key, "value:old")
        p.run(f"a{n}", key)
        assert p.done(f"a{n}").value == "old"
        clock.advance(1500)
        p.say("define", key, "gate fail:300")
        p.run(f"b{n}", key, until="gate")
        meanwhile(key)
        p.say("open", f"b{n}")
        done = p.done(f"b{n}")
        assert (done.code, done.value, done.cache) == (code, value, NOT_FOUND)


def test_e_the_name_of_an_input_is_no_value(c, make):
    p = make()
    p.say("define", "k", "value:old")
    p.run("a")
    p.done("a")
    c.must("set", b"input", cache="once", key=entry_key(c), vary=True)
    p.say("define", "k", "value:new")
    p.run("b")
    assert p.done("b")[:4] == (OK, False, False, OK) and p.done("b").value == "new"
    p.run("c")
    assert p.done("c").hit and p.done("c").value == "new"


def entry_key(c):
    """Of the only entry."""
    found, = c.call("list_entries", cache="once")[0].list_entries.entries
    return found.key


def test_e_ahead_of_time(daemon, clock, c, make):
    """Late in its time the value is computed anew, by one, before it is stale."""
    windows(c, refresh_ahead_permille=500)
    p = make(mapped=False)
    p.say("define", "k", "value:old")
    p.run("a")
    p.done("a")
    p.say("define", "k", "gate value:new")
    clock.advance(600)
    p.run("b", until="gate")
    p.run("c")
    assert p.done("c").value == "old" and not p.done("c").stale
    p.say("open", "b")
    assert p.done("b").value == "new"


def test_e_warm(daemon, make):
    """With $CACHED_WARM what is there is computed anew, once for each key."""
    p, w, other = make(), make(CACHED_WARM="x:once:y"), make(CACHED_WARM="x:y")
    p.say("define", "k", "value:old")
    p.run("a")
    p.done("a")
    for i, (o, hit) in enumerate([(other, True), (w, False), (w, True)]):
        o.say("define", "k", "value:new")
        o.run(f"a{i}")
        assert o.done(f"a{i}").hit is hit
    p.run("b")
    assert p.done("b").value == "new"


def test_e_stale_values_that_are_mapped(daemon, c, make):
    """The reader sees by itself that a value is due, and asks then; in real time, since it has a clock of its own."""
    assert c.call("open_cache", cache="once", policy=pb.Policy(ttl_ms=300, stale_for_ms=600000))[0].status == OK
    p, q = make(), make()
    p.say("define", "k", "value:old")
    p.run("a")
    p.done("a")
    q.run("a")
    assert q.done("a").hit and q.done("a").value == "old"
    p.say("define", "k", "gate value:new")

    def due(n=iter(range(10000))):
        tag = f"b{next(n)}"
        p.run(tag)
        wait_until(lambda: p.all(tag, "gate") or p.all(tag, "done"), "it runs or is a hit")
        return tag if p.all(tag, "gate") else None

    tag = wait_until(due, "the value is due")
    before = c.stats("once").hits
    q.run("b")
    assert q.done("b")[:4] == (OK, True, True, OK) and q.done("b").value == "old"
    assert c.stats("once").hits == before + 1  # though it looked by itself, and asked
    p.say("open", tag)
    assert p.done(tag).value == "new"
    q.run("c")
    assert q.done("c").hit and q.done("c").value == "new"


# ---- the daemon goes


@pytest.mark.parametrize("again", [False, True])
def test_f_the_daemon_is_killed(daemon, make, again):
    """Whoever waits computes, or asks the next daemon; nobody hangs."""
    p, q = make(), [make() for _ in range(4)]
    p.say("define", "k", "gate value:p")
    p.run("a", until="gate")
    for o in q:
        o.say("define", "k", "value:q")
        o.run("a")
    waiting(daemon, 4)
    daemon.signal(signal.SIGKILL)
    daemon.process.wait()
    if again:
        daemon.start()
    for o in q:
        assert o.done("a").value == "q"
    p.say("open", "a")
    assert p.done("a").value == "p"
    if not again:
        daemon.start()


def test_f_a_handover(daemon, make):
    """Those who wait ask the new daemon, where one of them computes."""
    p, q = make(), [make() for _ in range(4)]
    p.say("define", "k", "gate value:p")
    p.run("a", until="gate")
    for o in q:
        o.say("define", "k", "value:q")
        o.run("a")
    waiting(daemon, 4)
    take_over(daemon)
    assert {o.done("a").value for o in q} == {"q"}
    p.say("open", "a")
    assert p.done("a").value == "p" and p.done("a").cache == SUPERSEDED


def test_f_a_stopped_daemon(daemon, make):
    """It does not answer: after a while whoever waits computes."""
    p, q = make(), make()
    p.say("define", "k", "gate value:p")
    p.run("a", until="gate")
    q.say("define", "k", "value:q")
    q.say("option", "wait", 400)
    q.run("a")
    waiting(daemon, 1)
    daemon.signal(signal.SIGSTOP)
    try:
        assert q.done("a")[:4] == (OK, False, False, TIMEOUT) and q.done("a").value == "q"
    finally:
        daemon.signal(signal.SIGCONT)
    p.say("open", "a")
    assert p.done("a").value == "p"



# ---- large values


def test_g_a_large_value_is_there_once(make_daemon):
    """Eight who wait for 256 MiB have one copy of it in all, and each may write to it as to its own."""
    n, size = 8, 256 << 20
    daemon = make_daemon(memory={"realm_budget": "2G", "global_budget": "2G"})
    holder, q = Once(daemon.socket), [Once(daemon.socket) for _ in range(n)]
    holder.say("define", "k", f"gate large:{size >> 20}")
    holder.run("a", until="gate")
    for o in q:
        o.say("option", "keep", 1)
        o.run("a")
    waiting(daemon, n)
    pids = [daemon.pid, *(o.pid for o in q)]
    before = pss(pids)
    holder.say("open", "a")
    assert holder.done("a").cache == OK
    for o in q:
        o.wait("a", "gate")
    grown = pss(pids) - before
    assert size * 0.9 < grown < size * 1.3, f"{grown / size:.2f} copies"
    with daemon.probe() as c:
        assert c.stats().realm.views == n
    for o in q:
        o.say("open", "a")
    checked = (size + 1023) // 1024
    for o in q:
        assert o.wait("a", "kept") == [str(size), str(2 * checked)]
        assert o.done("a").hit and o.done("a").code == OK
    for o in [holder, *q]:
        o.finish()

    def gone():
        with daemon.probe() as c:
            return c.stats().realm.views == 0
    wait_until(gone, "no views are left")
