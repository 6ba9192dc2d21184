# SPDX-License-Identifier: MIT
"""Look-ups of libcached in shared memory, through calls.c, against the real daemon: what they cost in system calls,
what is counted, and what they answer while the daemon is stopped, gone, or another one.
"""

import collections
import os
import re
import shutil
import signal
import subprocess

import pytest

import harness
from harness import SANITIZED, wait_until

CALLS = harness.BUILD / "tests" / "outside" / "calls"
CACHECTL = harness.BUILD / "client" / "cachectl" / "cachectl"
TIMEOUT_MS = 2000 if SANITIZED else 1000
OK, NOT_FOUND = 0, 1
CACHE = "calls"
N_HITS = 1_000_000 if harness.LONG or not SANITIZED else 200_000

# What a reader does while it waits, once, for a daemon that does not get to drain its full ring.
WAITING = {"sched_yield", "clock_nanosleep", "nanosleep"}


class Calls:
    """The program; each command gives (code, text)."""

    def __init__(self, path, *options, before=()):
        self.process = subprocess.Popen([*before, str(CALLS), str(path), str(TIMEOUT_MS), *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        bufsize=1, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"} if before else None)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        code, _, text = self.process.stdout.readline().rstrip("\n").split(" ", 2)
        return int(code), text

    def finish(self):
        _, err = self.process.communicate(timeout=harness.PATIENCE)
        assert self.process.returncode == 0 and err == "", err


@pytest.fixture
def make_calls():
    made = []

    def make(*args, **more):
        made.append(Calls(*args, **more))
        return made[-1]

    yield make
    for c in made:
        if c.process.returncode is None:
            c.finish()


def cache_stats(daemon):
    with daemon.probe() as c:
        return c.stats(CACHE)


def system_calls(daemon, make_calls, folder, n):
    """{name: how many} of a process that gets one key @n times."""
    out = folder / f"strace-{n}"
    calls = make_calls(daemon.socket, before=("strace", "-f", "-c", "-o", str(out)))
    assert calls("set", "k", "v")[0] == OK
    assert calls("hits", "k", str(n))[0] == OK
    calls.finish()
    found = collections.Counter()
    for line in out.read_text().splitlines():
        row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if row and row[2] != "total":
            found[row[2]] += int(row[1])
    return found


@pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace")
def test_a_no_system_calls(daemon, make_calls, tmp_path):
    few, many = (system_calls(daemon, make_calls, tmp_path, n) for n in (10, N_HITS))
    more = many - few
    sent = sum(more.pop(name, 0) for name in ("sendto", "sendmsg", "write"))
    assert 0 < sent <= N_HITS / 2000
    # What an allocator under a sanitizer does is its own affair.
    allowed = WAITING | ({"madvise", "mmap", "munmap", "futex"} if SANITIZED else set())
    # Connecting and the set take a few more or less, as the two sides happen to meet.
    assert {name for name, n in more.items() if n > 10} <= allowed, more
    assert cache_stats(daemon).mapped_hits == N_HITS + 10


def test_b_counts(daemon, make_calls):
    mapped, plain = make_calls(daemon.socket), make_calls(daemon.socket, "unmapped")
    assert mapped("set", "k", "v")[0] == OK
    assert plain("get", "k") == (OK, "v")
    before = cache_stats(daemon)
    for calls in (mapped, plain):
        assert calls("hits", "k", "1000")[0] == OK
        assert [calls("get", "no")[0] for _ in range(3)] == [NOT_FOUND] * 3
    after = cache_stats(daemon)
    assert after.hits - before.hits == 2000 and after.misses - before.misses == 6
    assert after.mapped_hits - before.mapped_hits == 1000 and after.mapped_misses - before.mapped_misses == 3
    shown = subprocess.run([CACHECTL, "--socket", daemon.socket, "stats", CACHE], check=True, capture_output=True,
                           text=True, timeout=harness.PATIENCE).stdout
    for label, n in (("hits", after.hits), ("  of hits: mapped", after.mapped_hits), ("misses", after.misses),
                     ("  of misses: mapped", after.mapped_misses)):
        assert re.search(rf"^{label}\s+{n}$", shown, re.M), shown


def test_c_stopped(daemon, make_calls):
    """Hits go on, and what expires meanwhile is not served."""
    calls = make_calls(daemon.socket)
    assert calls("set", "short", "1", "300")[0] == OK
    assert calls("set", "long", "2")[0] == OK
    assert calls("get", "long") == (OK, "2")
    with daemon.stopped():
        assert calls("hits", "long", "20000")[0] == OK
        wait_until(lambda: calls("get", "short")[0] == NOT_FOUND, "its time passes")
        assert calls("get", "short")[0] == NOT_FOUND
        assert calls("get", "long") == (OK, "2")
    wait_until(lambda: calls("ping")[0] == OK, "the daemon goes on")
    assert calls("hits", "long", "20000")[0] == OK


def test_d_killed_and_another(daemon, make_calls):
    """Hits outlive the daemon; not the first change that another one answered."""
    reader, writer = make_calls(daemon.socket), make_calls(daemon.socket)
    assert writer("set", "k", "old")[0] == OK
    assert reader("get", "k") == (OK, "old")
    for round_ in range(3):
        daemon.signal(signal.SIGKILL)
        daemon.process.wait(harness.PATIENCE)
        assert reader("get", "k")[0] == OK
        daemon.process = daemon.spawn()
        wait_until(daemon.answers, "the daemon answers again")
        wait_until(lambda: writer("set", "k", f"new-{round_}")[0] == OK, "the writer finds it")
        # No sooner and no later: the very next one.
        code, text = reader("get", "k")
        assert text != "old" and (code != OK or text == f"new-{round_}")
        wait_until(lambda: reader("get", "k") == (OK, f"new-{round_}"), "the reader finds it, too")
        before = cache_stats(daemon).mapped_hits
        assert reader("hits", "k", "100")[0] == OK
        assert cache_stats(daemon).mapped_hits == before + 100


@pytest.mark.skipif(SANITIZED, reason="AddressSanitizer's allocator does not survive a fork among threads")
def test_e_threads_and_forks(daemon, make_calls):
    calls = make_calls(daemon.socket)
    assert calls("storm", "8")[0] == OK
    for _ in range(10):
        assert calls("fork")[0] == OK
    code, text = calls("calm")
    assert code == OK and set(re.findall(r"(\d+):", text)) <= {"0", "1"}, text
