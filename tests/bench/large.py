# SPDX-License-Identifier: MIT
"""The benchmarks of values of megabytes and gigabytes (bench-large).

One connection, one call at a time, beside the peers in the same run and in turns; what has no peer is held to
what the figure should be by itself.
"""

import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess

from bench import CLIENT_CPU, RUNS, TOOLS, Trouble, number
from mapped import on_cpu, tool

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BUDGET = "[memory]\nrealm_budget = {0}\nglobal_budget = {0}\n"
LIMITS = "[limits]\nvalue_bytes = 16G\n"


def available_bytes():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * KIB
    return 0


def time_of(server, backend, way, size, seconds=0.5, calls=None, keep=False):
    """Microseconds: the median of all calls of one process."""
    more = ["--keep"] if keep else []
    more += ["--calls", calls] if calls else []
    r = tool("bench-large", "--backend", backend, "--socket", server.path, "--way", way, "--size", size, "--seconds", seconds,
             *on_cpu(CLIENT_CPU), *more)
    return r["p50_ns"] / 1000


def peers(b):
    """Servers that take values of this size, with the backend that asks them."""
    out = []
    user = ["-u", "root"] if os.geteuid() == 0 else []
    if redis := shutil.which("redis-server"):
        out.append((b.start("redis", {}, lambda p: [redis, "--save", "", "--appendonly", "no", "--port", "0",
                                                    "--unixsocket", p]), "redis", "redis"))
    if memcached := shutil.which("memcached"):
        base = [memcached, *user, "-m", "8192", "-I", "512m"]
        out.append((b.start("memcached", {}, lambda p: [*base, "-t", "1", "-s", p]), "memcached", "memcached"))
        out.append((b.start("memcached-t4", {}, lambda p: [*base, "-s", p]), "memcached-t4", "memcached"))
    if not out:
        b.notes.append("no peer is installed: no comparison of large values")
    return out


def contest(b, size, ways, seconds=0.4):
    """{way: samples of ours}, {"set" or "get": {peer: samples}}: all in turns, RUNS times."""
    ours, others = b.ours(more=LIMITS), peers(b)
    mine = {way: [] for way in ways}
    theirs = {op: {name: [] for _, name, _ in others} for op in ("set", "get")}
    for _ in range(RUNS):
        for way, samples in mine.items():
            samples.append(time_of(ours, "cached", way, size, seconds))
        for server, name, backend in others:
            for op, samples in theirs.items():
                samples[name].append(time_of(server, backend, op, size, seconds))
    return mine, theirs


def at_least(times):
    return f"at least {times} times as fast as the better peer", lambda _, r: r is None or r <= 1 / times


def large_1m(b):
    mine, theirs = contest(b, MIB, ["get", "set", "view", "set-buffer", "fill-buffer", "view-first"])
    for name, way, op, times in (("large-1m-get", "get", "get", 4), ("large-1m-set", "set", "set", 1.5),
                                 ("large-1m-view", "view", "get", 50), ("large-1m-buffer", "set-buffer", "set", 4)):
        b.add(name, "µs", mine[way], *at_least(times), theirs[op])
    b.notes.append(f"large-1m: a buffer that is also filled by a copy {number(statistics.median(mine['fill-buffer']))} µs, "
                   f"the first view {number(statistics.median(mine['view-first']))} µs")


def large_64m(b):
    mine, theirs = contest(b, 64 * MIB, ["view-first", "view-pages", "view", "get", "set"], seconds=1)
    for name, way, times in (("large-64m-view", "view-first", 100), ("large-64m-pages", "view-pages", 4)):
        b.add(name, "µs", mine[way], *at_least(times), theirs["get"])
    b.notes.append(f"large-64m: a view that is looked up again {number(statistics.median(mine['view']))} µs, cached_get() "
                   f"{number(statistics.median(mine['get']))} µs, cached_set() {number(statistics.median(mine['set']))} µs "
                   f"(peers {', '.join(f'{k} {number(statistics.median(v))}' for k, v in theirs['set'].items())})")


def flat_sizes(quick):
    room = available_bytes() - 2 * GIB
    return [n for n in (4 * MIB + 4096, 64 * MIB, GIB, 4 * GIB) if 2.5 * n < room and (not quick or n <= GIB)]


def store(server, size):
    """Once; nothing is timed."""
    return time_of(server, "cached", "fill-fresh", size, calls=1, keep=True)


def large_1g(b):
    """Views of one value of each size, which stays stored while they are looked at."""
    sizes = flat_sizes(b.quick)
    first, second = {n: [] for n in sizes}, {n: [] for n in sizes}
    server = b.ours(budget="64G", more=LIMITS)
    for n in sizes:
        store(server, n)
        for _ in range(RUNS):
            first[n].append(time_of(server, "cached", "view-first", n, calls=200, keep=True))
            second[n].append(time_of(server, "cached", "view-second", n, calls=200, keep=True))
    if GIB in first:
        b.add("large-1g-get", "µs", first[GIB], "at most 200", lambda o, _: o <= 200)
        b.add("large-1g-again", "µs", second[GIB], "at most 2", lambda o, _: o <= 2)
    medians = {n: statistics.median(v) for n, v in first.items()}
    b.add("large-flat", "×", max(medians.values()) / min(medians.values()),
          f"within 20 % from {sizes[0] // MIB} MiB to {sizes[-1] // MIB} MiB", lambda o, _: o <= 1.2 and sizes[-1] >= 4 * GIB,
          us={n // MIB: v for n, v in medians.items()})
    b.notes.append("large-flat: " + ", ".join(f"{n // MIB} MiB {number(v)} µs" for n, v in medians.items()))


def large_frame(b):
    """200 million rows of four doubles."""
    size = 200_000_000 * 4 * 8
    if available_bytes() < 2 * size:
        raise Trouble(f"a value of {size / 1e9:.1f} GB needs {2 * size / 1e9:.0f} GB of memory")
    server = b.ours(budget="64G", more=LIMITS)
    stored = store(server, size) / 1e6
    gets = [time_of(server, "cached", "view-first", size, calls=100, keep=True) for _ in range(RUNS)]
    b.add("large-frame", "µs", gets, "6.4 GB in constant time: at most 200", lambda o, _: o <= 200, store_s=stored)
    b.notes.append(f"large-frame: filling fresh memory and handing it over took {stored:.1f} s")


def pss(pids):
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * KIB
    return total


def large_readers(b):
    """Eight processes read all of one value at the same time."""
    size, n = (GIB, 8)
    server = b.ours(budget="8G", more=LIMITS)
    command = [TOOLS / "bench-large", "--backend", "cached", "--socket", server.path, "--way", "hold", "--size", size,
               "--calls", 1, "--keep"]
    before = pss([server.process.pid])
    store(server, size)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(subprocess.Popen([str(a) for a in command], stdin=subprocess.PIPE,
                                                        stdout=subprocess.PIPE)) for _ in range(n)]
        for r in readers:
            if r.stdout.read(1) != b"\n":
                raise Trouble("a reader has no view")
        grown = pss([server.process.pid, *(r.pid for r in readers)]) - before
        for r in readers:
            r.stdin.close()
            r.stdout.read()
    b.add("large-readers", "GiB", grown / GIB, "8 readers of 1 GiB: at most 1.05 more in all (sum of PSS)",
          lambda o, _: o <= 1.05, readers=n)


def large_sweep(b):
    """Where which way of storing wins; not a target."""
    ways = {"socket": (b.ours(name="cached-socket", more=LIMITS + "upload_area_bytes = 0\n"), "set"),
            "area": (b.ours(name="cached-area", more=LIMITS + "upload_area_bytes = 64M\n"), "set")}
    ways["file"] = (ways["area"][0], "set-file")
    ways["buffer"] = (ways["area"][0], "fill-buffer")
    sizes = [4 * KIB << (2 * i) for i in range(6)] + [4 * MIB, 16 * MIB, 64 * MIB]
    table = {}
    for n in sizes:
        samples = {name: [] for name in ways}
        for _ in range(RUNS):
            for name, (server, way) in ways.items():
                samples[name].append(time_of(server, "cached", way, n, 0.1))
        table[n] = {name: statistics.median(v) for name, v in samples.items()}
        b.notes.append(f"large-sweep: {n // KIB} KiB: " + ", ".join(f"{k} {number(v)} µs" for k, v in table[n].items()))
    at = 64 * KIB
    b.add("large-sweep", "×", table[at]["area"] / table[at]["socket"], "the area beats the socket at 64 KiB",
          lambda o, _: o < 1, us={n // KIB: v for n, v in table.items()})


BENCHMARKS = {
    "large-1m": (large_1m, "values of 1 MiB: get, set, a view that is looked up again, a prepared buffer"),
    "large-64m": (large_64m, "values of 64 MiB: views, untouched and with every page read"),
    "large-1g": (large_1g, "views of 4 MiB to 4 GiB: the first of a handle, and the second"),
    "large-frame": (large_frame, "a value of 6.4 GB"),
    "large-readers": (large_readers, "memory that eight readers of one value of 1 GiB take"),
    "large-sweep": (large_sweep, "storing by socket, upload area, memory file and buffer, from 4 KiB to 64 MiB"),
}
