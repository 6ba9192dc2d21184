# SPDX-License-Identifier: MIT
"""Mapped readers at full speed (torture.c) and what may be done to them meanwhile: values overwritten, evicted, expired,
cleared and moved under their eyes, an index that grows and shrinks; a daemon that is stopped, and one that is killed
again and again; forks. Never a torn or foreign value, never one that has expired, and no reader that hangs.
"""

import pathlib
import re
import signal
import subprocess
import time

import pytest

import harness
import test_t_takeover
from harness import LONG, SANITIZED, SHADOWED, wait_until

FORKER = harness.BUILD / "tests" / "outside" / "forker"
TORTURE = harness.BUILD / "tests" / "outside" / "torture"
PATIENCE = 6000 if LONG else 120

# The full counts are for a build without sanitizers, see .ci/check-long.
READS = (100_000_000 if SHADOWED else 1_000_000_000) if LONG else 1_000_000 if SHADOWED else 3_000_000
KILLS = 1_000 if LONG else 5
HANDOVERS = 100 if LONG else 3
STOP_SECONDS = 5 if LONG else 1
CACHES = ("pinned", "evicted", "expires", "long", "wide")
# What a thread of torture.c has looked up and not told yet.
UNTOLD = 256 + 16
# Of a call. A reader that met it would not be at full speed: the hits that are waited for would not come.
TIMEOUT_MS = 30_000

# What is stored in that time exceeds it; what is stored between two uses of an entry that must stay does not.
MEMORY = {"realm_budget": "8M" if LONG else "2M", "global_budget": "16M"}


class Torture:
    """The program; counts() gives {name: number}."""

    def __init__(self, daemon, readers=2, threads=1, writers=1, seed=1, timeout_ms=TIMEOUT_MS):
        args = [TORTURE, daemon.socket, timeout_ms, readers, threads, writers, seed]
        self.process = subprocess.Popen([str(a) for a in args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, bufsize=1)

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.parse(self.process.stdout.readline())

    @staticmethod
    def parse(line):
        return {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)}

    def counts(self):
        n = self.say("counts")
        assert n.get("wrong") == n.get("late") == n.get("odd") == 0, (n, self.end())
        return n

    def more(self, name, n):
        """Waits until a count has grown by so much, which may happen on a busy machine."""
        goal = self.counts()[name] + n
        patience = 60 + n / (500 if name == "writes" else 200_000)
        return wait_until(lambda: (c := self.counts())[name] >= goal and c, f"{n} more {name}", patience)

    def times_slept(self):
        """How often the processes that read and write gave their processors up by themselves."""
        proc = pathlib.Path("/proc")
        pid = self.process.pid
        children = (proc / f"{pid}/task/{pid}/children").read_text().split()
        return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (proc / child / "status").read_text(), re.M)[1])
                   for child in children)

    def end(self):
        out, err = self.process.communicate(timeout=harness.PATIENCE + TIMEOUT_MS / 1000)
        return self.parse(out), err, self.process.returncode

    def finish(self):
        """The end: nobody hangs, nothing on stderr, not even from a sanitizer."""
        n, err, status = self.end()
        assert status == 0 and err == "", (status, err)
        assert n["wrong"] == n["late"] == n["odd"] == 0, n
        print(n)
        return n


@pytest.fixture
def torture():
    made = []

    def make(*args, **more):
        made.append(Torture(*args, **more))
        return made[-1]

    yield make
    for t in made:
        t.process.kill()
        t.process.wait()


def check_nothing_lost(n):
    """What is only ever overwritten was there whenever it was looked for."""
    assert n["lost"] == 0, n


def totals(daemon):
    with daemon.probe() as c:
        return c.stats().total


def test_a_no_torn_and_no_foreign_value(make_daemon, torture):
    d = make_daemon(memory=MEMORY)
    t = torture(d)
    start = time.monotonic()

    def all_of_it_happened():
        s = totals(d)
        return s.expirations and s.evicted_max_entries and s.evicted_realm_budget and s.deletes and s.clears

    wait_until(lambda: t.counts()["reads"] >= READS and all_of_it_happened(), f"{READS} reads", PATIENCE - 60)
    seconds = time.monotonic() - start
    n = t.finish()
    s = totals(d)
    print(f"{n['reads'] / seconds:.0f} reads a second, {n['writes'] / seconds:.0f} stores, "
          f"{s.mapped_hits} of {s.hits} hits were mapped")
    assert n["hits"] > n["reads"] / 4 and n["failed"] == 0
    check_nothing_lost(n)
    assert s.mapped_hits > 0.9 * s.hits


def test_b_threads_of_one_handle(make_daemon, torture):
    d = make_daemon(memory=MEMORY)
    t = torture(d, readers=2, threads=4)
    t.more("hits", READS // 5)
    check_nothing_lost(t.finish())
    assert totals(d).mapped_hits > 0


def test_c_stopped_daemon(make_daemon, torture):
    """Hits go on as if nothing was; what expires meanwhile is not served."""
    d = make_daemon(memory=MEMORY)
    t = torture(d)
    t.more("writes", 20_000)
    before = t.more("hits", 10_000)
    with d.stopped():
        start = time.monotonic()
        t.more("hits", READS // 20)
        slept = t.times_slept()
        t.more("hits", READS // 20)
        wait_until(lambda: time.monotonic() > start + STOP_SECONDS, "the pause is over")
        # Once a ring had no room left they waited; at full speed nobody does. The writer is asleep all along. A busy
        # kernel makes anybody wait now and then, in the long run.
        assert t.times_slept() - slept < 100 + READS // 20 // 100_000
        during = t.counts()
        seconds = time.monotonic() - start
    print(f"{(during['hits'] - before['hits']) / seconds:.0f} hits a second while the daemon was stopped")
    t.more("writes", 1_000)
    t.more("hits", 1_000)
    check_nothing_lost(t.finish())


def test_d_killed_daemons(make_daemon, torture):
    """Readers fall back, and find each new daemon by themselves."""
    d = make_daemon(memory=MEMORY)
    t = torture(d, readers=3)
    for i in range(KILLS):
        # At any moment of the writer's work.
        t.more("writes", 1 + i * 7919 % 500)
        d.signal(signal.SIGKILL)
        d.process.wait(harness.PATIENCE)
        if i % 4 == 0:
            t.more("reads", 1_000)
        d.process = d.spawn()
        wait_until(d.answers, "the daemon answers again")
        assert not harness.SANITIZER.search(d.log()), d.log()
    t.more("least", 1_000)
    wait_until(lambda: totals(d).mapped_hits > 10_000, "readers have mapped the new arena")
    n = t.finish()
    assert n["slowest_us"] < (TIMEOUT_MS + 1000 * harness.PATIENCE) * 1000


@pytest.mark.parametrize("threads", [0, pytest.param(3, marks=pytest.mark.skipif(
    SANITIZED, reason="AddressSanitizer's allocator does not survive a fork among threads"))])
def test_e_forks(daemon, threads):
    """Between any two calls; the hits of all processes are counted."""
    done = subprocess.run([FORKER, daemon.socket, str(threads)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    n = Torture.parse(done.stdout)
    s = totals(daemon)
    assert (s.hits, s.misses) == (n["hits"], n["misses"])
    assert s.mapped_hits > 0.8 * s.hits


def instance_of(d):
    with d.probe() as c:
        return c.info.instance


@pytest.mark.parametrize("how", ["killed", "handed over"])
def test_f_taken_over(make_daemon, torture, how):
    """The arena stays, whoever writes it: readers go on with it, also while nobody does, and what is only ever
    overwritten is never lost, wherever the writer was torn away from it."""
    d = make_daemon(memory=MEMORY)
    t = torture(d, readers=3)
    t.more("writes", 2 * 4096)  # all of the first cache is there
    instance = instance_of(d)
    for i in range(KILLS if how == "killed" else HANDOVERS):
        t.more("writes", 1 + i * 7919 % 500)
        if how == "handed over":
            test_t_takeover.take_over(d)
        else:
            passed = test_t_takeover.names_for(test_t_takeover.memory_files(d.pid))
            test_t_takeover.kill(d)
            t.more("hits", 1_000)
            test_t_takeover.start_with(d, passed)
            test_t_takeover.close_all(passed)
        assert not harness.SANITIZER.search(d.log()), d.log()
        assert instance_of(d) == instance, "another arena would prove nothing"
    before = totals(d).mapped_hits
    t.more("least", 1_000)
    wait_until(lambda: totals(d).mapped_hits > before + 10_000, "readers are heard by the last daemon")
    check_nothing_lost(t.finish())


def test_g_stats_at_all_times(make_daemon, torture):
    """While readers are at it, the daemon's numbers are theirs within a hundredth; when they have left, exactly."""
    d = make_daemon(memory=MEMORY)
    with d.probe() as c:
        for name in CACHES:  # misses in one that does not exist are nobody's
            c.open(name)
        t = torture(d, readers=2, threads=2)
        t.more("hits", 50_000)
        for i in range(200 if LONG else 20):
            before = t.more("hits", 1 + i * 7919 % 20_000)
            s = c.stats().total
            after = t.counts()
            for name, n in (("hits", s.hits), ("misses", s.misses)):
                assert before[name] * 0.99 <= n <= (after[name] + UNTOLD * 4) * 1.01, (name, before, n, after)
            assert s.mapped_hits > 0.9 * s.hits
        n = t.finish()
        assert n["failed"] == 0

        def are_equal():
            s = c.stats().total
            return (s.hits, s.misses) == (n["hits"], n["misses"])
        wait_until(are_equal, "the numbers are exact")
