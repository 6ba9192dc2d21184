# SPDX-License-Identifier: MIT
"""The benchmarks of resources (bench-resource, bench-holders). Their measure is the round trip: a get over the
socket, of the same handle, in the same run. The peer of a lock that several want is flock(2).
"""

import contextlib
import statistics
import subprocess

from bench import CLIENT_CPU, RUNS, TOOLS, Trouble, number
from large import GIB, KIB, pss
from leases import time_shared
from mapped import tool

KINDS = {"4k": ("segment", 4 * KIB), "1g": ("segment", GIB), "socket": ("socket", 0), "file": ("file", 0)}


def cpu():
    return [] if CLIENT_CPU is None else [CLIENT_CPU]


# Nothing goes on before, or neither side has had anything to do for two milliseconds: both sleep.
PAUSES_US = {"": 0, "-asleep": 2000}


def resource_acquire(b):
    """Of an instance that is there: new to the process, and known to it."""
    server = b.ours()
    runs = {(name, pause): [] for pause in PAUSES_US for name in KINDS}
    for _ in range(RUNS):
        for (name, pause), all_runs in runs.items():
            kind, size = KINDS[name]
            all_runs.append(tool("bench-resource", "acquire", server.path, kind, size, 0.5 if b.quick else 2,
                                 PAUSES_US[pause], *cpu()))
    for (name, pause), all_runs in runs.items():
        for state, of in (("fresh", "resource-acquire"), ("again", "resource-again")):
            took = [r[state] for r in all_runs]
            us = {what: statistics.median(t[f"{what}_us"] for t in took) for what in ("trip", "acquire", "release")}
            b.add(f"{of}-{name}{pause}", "×", [t["acquire_us"] / t["trip_us"] for t in took], "at most 1.3 × a round trip",
                  lambda o, _: o <= 1.3, us=us)
            b.notes.append(f"{of}-{name}{pause}: {number(us['acquire'])} µs, a get {number(us['trip'])} µs, giving it back "
                           f"{number(us['release'])} µs")
    small, large = ([r["fresh"]["acquire_us"] for r in runs[name, ""]] for name in ("4k", "1g"))
    b.add("resource-size", "×", [y / x for x, y in zip(small, large)], "acquiring 1 GiB takes at most 1.2 × as long as 4 KiB",
          lambda o, _: o <= 1.2)


def resource_lock(b):
    """That nobody else wants."""
    server = b.ours()
    seconds = 0.5 if b.quick else 2
    segment = [tool("bench-resource", "lock", server.path, "segment", seconds, *cpu()) for _ in range(RUNS)]
    descriptor = [tool("bench-resource", "lock", server.path, "socket", seconds, *cpu()) for _ in range(RUNS)]
    for what in ("lock", "unlock"):
        b.add(f"resource-{what}", "ns", [r[f"{what}_ns"] for r in segment], "of a segment: at most 200", lambda o, _: o <= 200,
              pair_ns=statistics.median(r["pair_ns"] for r in segment))
    b.add("resource-lock-fd", "×", [r["lock_us"] / r["trip_us"] for r in descriptor], "of a descriptor: at most 1.3 × a round trip",
          lambda o, _: o <= 1.3)
    us = {what: statistics.median(r[f"{what}_us"] for r in descriptor) for what in ("lock", "unlock", "trip")}
    b.notes.append(f"resource-lock: both in a loop {number(statistics.median(r['pair_ns'] for r in segment))} ns; of a descriptor "
                   f"{number(us['lock'])} and {number(us['unlock'])} µs, a get {number(us['trip'])} µs")


def resource_memory(b):
    """One fills a segment, three read all of it, and one of these writes into it as well."""
    server = b.ours()
    taken = []
    for run in range(RUNS):
        size = GIB + run  # another one each time
        before = pss([server.process.pid])
        with contextlib.ExitStack() as stack:
            users = []
            for what in ("fill", "read", "write", "read"):
                command = [TOOLS / "bench-resource", "hold", server.path, size, what]
                user = stack.enter_context(subprocess.Popen([str(a) for a in command], stdin=subprocess.PIPE,
                                                            stdout=subprocess.PIPE))
                users.append(user)
                if user.stdout.read(1) != b"\n":
                    raise Trouble(f"a process cannot {what} the segment")
            taken.append((pss([server.process.pid, *(u.pid for u in users)]) - before) / GIB)
            for user in users:
                user.communicate()
        b.stop_all()
        server = b.ours(name=f"cached-{run}")
    b.add("resource-memory", "GiB", taken, "four users of 1 GiB: at most 1.02 in all (sum of PSS, the daemon's included)",
          lambda o, _: o <= 1.02, users=4)


def resource_contend(b):
    """Four processes that do nothing but count under one lock."""
    server = b.ours()
    seconds = 1 if b.quick else 3
    with time_shared():
        runs = {how: [] for how in ("lock", "flock")}
        for _ in range(RUNS):
            for how, all_runs in runs.items():
                all_runs.append(tool("bench-holders", "contend", server.path, how, 4, seconds))
    middle = {how: {what: statistics.median(r[what] for r in all_runs) for what in all_runs[0]} for how, all_runs in runs.items()}
    b.add("resource-handovers", "1/s", [r["handovers_per_s"] for r in runs["lock"]], "for information",
          lambda _, r: True, {"flock": [r["handovers_per_s"] for r in runs["flock"]]}, lower_is_better=False, **middle)
    b.add("resource-wait-max", "ms", [r["max_us"] / 1000 for r in runs["lock"]], "for information",
          lambda _, r: True, {"flock": [r["max_us"] / 1000 for r in runs["flock"]]})
    b.notes.append("resource-handovers: at the best nice value that is allowed, on both processors; " + "; ".join(
        f"{how}: {number(m['locks_per_s'])} locks a second, a wait in the median {number(m['p50_us'])} µs, p99 "
        f"{number(m['p99_us'])} µs" for how, m in middle.items()))


def resource_told(b):
    server = b.ours()
    runs = [tool("bench-holders", "told", server.path, 100, 4, 40 if b.quick else 200, *cpu()) for _ in range(RUNS)]
    b.add("resource-told", "ms", [r["p50_us"] / 1000 for r in runs], "for information (100 holders)", lambda _, r: True,
          p99_ms=statistics.median(r["p99_us"] for r in runs) / 1000, max_ms=max(r["max_us"] for r in runs) / 1000)


BENCHMARKS = {
    "resource-acquire": (resource_acquire, "acquiring a segment, a socket, a file that is there, in round trips"),
    "resource-lock": (resource_lock, "locking and unlocking what nobody else wants"),
    "resource-memory": (resource_memory, "memory that four users of one segment of 1 GiB take"),
    "resource-contend": (resource_contend, "four processes that want one lock; against flock(2)"),
    "resource-told": (resource_told, "from dropping a resource to the last of 100 holders having heard"),
}
