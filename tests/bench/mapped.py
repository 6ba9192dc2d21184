# SPDX-License-Identifier: MIT
"""The benchmarks of hits that clients read from the daemon's memory themselves.

All of them compare with the bare loop (hash, probe, copy in the same memory, no checks) or with the peers, in
the same run and in turns.
"""

import collections
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess

from bench import CLIENT_CPU, RUNS, SERVER_CPU, TOOLS, Client, Trouble, cpu_seconds, field, fields, number

TTL_MS = 3600 * 1000
ENTRIES = 10000
FEATURE_MAPPED = 8
CACHE_STATS_MAPPED_HITS = 25


def tool(name, *arguments, timeout=120, before=()):
    """The JSON that a program of this directory prints."""
    command = [str(a) for a in (*before, TOOLS / name, *arguments)]
    r = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if r.returncode != 0:
        raise Trouble(f"{name}: {r.stderr.strip()}")
    return json.loads(r.stdout)


def on_cpu(cpu):
    return [] if cpu is None else ["--cpu", cpu]


def fill(b, server, count):
    b.load(server, next(iter(server.backends.values())), get_percent=0, order="seq", count=count, keys=count, ttl_ms=TTL_MS, window=64,
           seconds=300)


def mapped_hits(server):
    """Of the cache that all of this goes into."""
    c = Client(server.path)
    stats = fields(fields(c.call(24, field(1, b"bench"))[24])[1])
    c.close()
    return stats.get(CACHE_STATS_MAPPED_HITS, 0)


def look_up(b, server, *ways, keys, seconds, seed):
    """bench-mapped, and proof that its hits were mapped."""
    if b.quick:
        seconds = seconds / 2
    before, cpu = mapped_hits(server), cpu_seconds(server.process.pid)
    options = [o for way in ways for o in ("--backend", way)]
    r = tool("bench-mapped", "--socket", server.path, *options, "--keys", keys, "--seconds", seconds, "--seed", seed,
             *on_cpu(CLIENT_CPU))
    due = sum(r["ways"][w]["calls"] for w in ("cached", "many") if w in r["ways"])
    got = mapped_hits(server) - before
    r["ways"]["cached"]["server_ns"] = (cpu_seconds(server.process.pid) - cpu) * 1e9 / due
    if not 0.99 * due <= got <= 1.01 * due:
        raise Trouble(f"of {due} hits {got} were mapped")
    return r["ways"]


def pair(b, server, mode, seed, keys=ENTRIES):
    cpus = [*on_cpu(CLIENT_CPU), *on_cpu(SERVER_CPU)]
    if not cpus:
        raise Trouble("this needs two CPUs")
    return tool("bench-pair", "--mode", mode, "--socket", server.path, "--keys", keys, "--seconds",
                2 if b.quick else 6, "--seed", seed, *cpus)


def medians(runs, *path):
    """Of one figure in all runs."""
    def get(r):
        for name in path:
            r = r[name]
        return r

    return statistics.median(get(r) for r in runs)


# ---- the benchmarks


def mapped_hit(b):
    ours = b.ours()
    entrants = [(server, name, backend) for server in b.peers() for name, backend in server.backends.items()]
    for server in dict.fromkeys([ours, *(s for s, _, _ in entrants)]):
        fill(b, server, ENTRIES)
    runs, asked = [], {"cached-socket": []} | {name: [] for _, name, _ in entrants}
    for turn in range(RUNS):
        runs.append(look_up(b, ours, "cached", "many", "bare", keys=ENTRIES, seconds=3, seed=turn + 1))
        for server, name, backend in [(ours, "cached-socket", "cached"), *entrants]:
            r = b.calls(server, backend, keys=ENTRIES, seconds=1, seed=turn + 1)
            asked[name].append({"per_s": r["calls_per_s"], **r["times"][backend]})
    socket_ns = {q: medians(asked["cached-socket"], f"{q}_ns") for q in ("p50", "p99")}
    about = {"bare": {q: medians(runs, "bare", f"{q}_ns") for q in ("loop", "p50", "p99")},
             "many_loop_ns": medians(runs, "many", "loop_ns"), "loop_ns": medians(runs, "cached", "loop_ns"),
             "socket": socket_ns, "server_cpu_ns": medians(runs, "cached", "server_ns")}
    peers = {name: v for name, v in asked.items() if name != "cached-socket"}
    for name, q, target in (("mapped-hit", "p50", 150), ("mapped-hit-p99", "p99", 500)):
        b.add(name, "ns", [r["cached"][f"{q}_ns"] for r in runs], f"at most {target}",
              lambda o, _, target=target: o <= target, {n: [r[f"{q}_ns"] for r in v] for n, v in peers.items()},
              p50_ns=medians(runs, "cached", "p50_ns"), p99_ns=medians(runs, "cached", "p99_ns"),
              peers_p99_ns={n: medians(v, "p99_ns") for n, v in peers.items()}, **about)
    b.add("mapped-rate", "hits/s", [1e9 / r["cached"]["loop_mean_ns"] for r in runs],
          "at least 100 × the better peer's (aim: 300)", lambda _, r: r is None or r >= 100,
          {n: [r["per_s"] for r in v] for n, v in peers.items()}, lower_is_better=False,
          socket_per_s=medians(asked["cached-socket"], "per_s"),
          bare_per_s=1e9 / medians(runs, "bare", "loop_mean_ns"))
    b.notes.append(f"mapped-hit: the bare loop {number(about['bare']['p50'])} ns, in a loop without stamps "
                   f"{number(about['loop_ns'])} against {number(about['bare']['loop'])} ns, a hundred keys a call "
                   f"{number(about['many_loop_ns'])} ns each; over the socket {number(socket_ns['p50'])} ns; the daemon takes "
                   f"{number(about['server_cpu_ns'])} ns of CPU time to take a hit's touch over")


def against_bare(b, name, entries):
    server = b.ours()
    fill(b, server, entries)
    runs = [look_up(b, server, "cached", "many", "bare", keys=entries, seconds=4, seed=turn + 1)
            for turn in range(2 if b.quick else RUNS)]
    ns = {way: medians(runs, way, "loop_ns") for way in ("cached", "many", "bare")}
    b.add(name, "×", [r["cached"]["loop_ns"] / r["bare"]["loop_ns"] for r in runs], "at most 2 × the bare loop",
          lambda o, _: o <= 2, entries=entries, loop_ns=ns,
          p50_ns={way: medians(runs, way, "p50_ns") for way in ns}, p99_ns={way: medians(runs, way, "p99_ns") for way in ns})
    b.notes.append(f"{name}: {number(ns['cached'])} ns, the bare loop {number(ns['bare'])} ns; a hundred keys a call "
                   f"{number(ns['many'])} ns each")


def mapped_1m(b):
    against_bare(b, "mapped-1m", 1000000)


def mapped_4m(b):
    against_bare(b, "mapped-4m", 4000000)


def mapped_miss(b):
    for name, entries in (("mapped-miss", ENTRIES), ("mapped-miss-1m", 1000000)):
        server = b.ours(name=f"cached-{entries}")
        fill(b, server, entries)
        runs = [look_up(b, server, "cached", "miss:cached", keys=entries, seconds=2, seed=turn + 1)
                for turn in range(RUNS)]
        b.add(name, "×", [r["miss:cached"]["loop_ns"] / r["cached"]["loop_ns"] for r in runs], "no slower than a hit",
              lambda o, _: o <= 1, entries=entries, hit_ns=medians(runs, "cached", "loop_ns"),
              miss_ns=medians(runs, "miss:cached", "loop_ns"))
        server.stop()


def mapped_two(b):
    server = b.ours()
    fill(b, server, ENTRIES)
    runs = [pair(b, server, "readers", turn + 1) for turn in range(RUNS)]
    gains = {way: medians(runs, way, "gain") for way in ("cached", "bare")}
    b.add("mapped-two", "×", [r["ratio"] for r in runs], "at least 0.95 of what a second reader adds to the bare loop",
          lambda o, _: o >= 0.95, lower_is_better=False, gain=gains,
          per_s={way: [medians(runs, way, f"{n}_per_s") for n in ("one", "two")] for way in gains})
    b.notes.append(f"mapped-two: two readers make {number(gains['cached'])} × the hits of one, two bare loops "
                   f"{number(gains['bare'])} ×")


def mapped_stores(b):
    server = b.ours()
    fill(b, server, ENTRIES)
    runs = [pair(b, server, "stores", turn + 1) for turn in range(RUNS)]
    stores = medians(runs, "stores_per_s")
    b.add("mapped-stores", "×", [r["cached"]["gain"] for r in runs],
          "at most 1.5 × slower while the daemon applies 100,000 stores a second",
          lambda o, _: o <= 1.5 and stores >= 99000, stores_per_s=stores,
          bare=medians(runs, "bare", "gain"), quiet_per_s=medians(runs, "cached", "one_per_s"),
          busy_per_s=medians(runs, "cached", "two_per_s"))
    b.notes.append(f"mapped-stores: {number(stores)} stores a second; the bare loop is {medians(runs, 'bare', 'gain'):.2f} "
                   "× slower beside them")


def system_calls(b, server, calls):
    """{name: how many}, of a whole bench-mapped."""
    log = b.directory / "strace.log"
    tool("bench-mapped", "--socket", server.path, "--backend", "cached", "--keys", ENTRIES, "--calls", calls,
         *on_cpu(CLIENT_CPU), before=("strace", "-f", "-qq", "-o", log))
    names = (re.match(r"(?:\d+ +)?(\w+)\(", line) for line in log.read_text(errors="replace").splitlines())
    return collections.Counter(m[1] for m in names if m)


def mapped_syscalls(b):
    if not shutil.which("strace"):
        raise Trouble("strace is not installed")
    server = b.ours()
    fill(b, server, ENTRIES)
    few, hits = 1000, 1000000
    more = system_calls(b, server, few + hits)
    more.subtract(system_calls(b, server, few))
    # Connecting takes a look more or less each time.
    names = {name: n for name, n in more.items() if n > 2}
    b.add("mapped-syscalls", "calls", sum(names.values()),
          "of a million hits: at most one in 2,000, to ask for a drain",
          lambda o, _: o <= hits / 2000 and set(names) <= {"sendto", "sendmsg", "write"}, calls=names)


class MappedClient(Client):
    """One that gets the descriptors of a mapped client, and closes them."""

    def __init__(self, path):
        self.descriptors = 0
        super().__init__(path, FEATURE_MAPPED)
        if self.descriptors == 0:
            raise Trouble("the daemon does not let its memory be mapped")

    def receive(self, n):
        if n == 0:
            return b""
        data, received, _, _ = socket.recv_fds(self.sock, n, 8)
        for fd in received:
            os.close(fd)
        self.descriptors += len(received)
        return data + (super().receive(n - len(data)) if len(data) < n else b"")


def mapped_idle_clients(b):
    """What a store that makes an older entry leave costs the daemon, in CPU time."""
    idle = 100 if b.quick else 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 16384)), hard))
    server = b.ours(more="[limits]\nconnections_per_uid = 2048\n")
    c = Client(server.path)
    c.set_policy(b"bench", max_entries=ENTRIES)
    c.close()
    fill(b, server, 2 * ENTRIES)
    costs = {0: [], idle: []}
    for turn in range(RUNS):
        for n, samples in costs.items():
            clients = [MappedClient(server.path) for _ in range(n)]
            r = b.load(server, "cached", get_percent=0, order="fresh", window=16, count=200000, seed=turn + 1,
                       keys=1000)
            samples.append(r["server_cpu_us"])
            for client in clients:
                client.close()
    b.add("mapped-idle-clients", "×", [x / y for x, y in zip(costs[idle], costs[0])],
          f"a store that evicts costs the daemon no more with {idle} idle mapped clients (at most 1.05 ×)",
          lambda o, _: o <= 1.05, clients=idle, without_us=statistics.median(costs[0]),
          with_us=statistics.median(costs[idle]))


def spin(b):
    """Round trips with a daemon and a client that poll on before they sleep, with one of them, and with none."""
    daemons = {"polls": b.ours(name="cached-polls"), "sleeps": b.ours(name="cached-sleeps", daemon=TOOLS / "cached-no-spin")}
    clients = {"polls": "cached", "sleeps": "cached-sleeps"}
    times = {(d, c): [] for d in daemons for c in clients}
    for s in daemons.values():
        fill(b, s, 100000)
    for turn in range(RUNS):
        for (d, c), samples in times.items():
            pid = daemons[d].process.pid
            cpu = cpu_seconds(pid)
            r = b.calls(daemons[d], clients[c], seed=turn + 1)["times"][clients[c]]
            samples.append({"p50_us": r["p50_ns"] / 1000, "p99_us": r["p99_ns"] / 1000, "client_cpu_us": r["cpu_ns"] / 1000,
                            "server_cpu_us": (cpu_seconds(pid) - cpu) * 1e6 / r["count"]})
    about = {f"daemon_{d}_client_{c}": {what: medians(samples, what) for what in samples[0]}
             for (d, c), samples in times.items()}
    both, none = times["polls", "polls"], times["sleeps", "sleeps"]
    b.add("spin", "×", [x["p50_us"] / y["p50_us"] for x, y in zip(both, none)],
          "a round trip takes less time when both sides poll before they sleep", lambda o, _: o < 1, **about)
    for name, a in about.items():
        b.notes.append(f"spin, {name.replace('_', ' ')}: {number(a['p50_us'])} µs a get (p99 {number(a['p99_us'])}), "
                       f"{number(a['server_cpu_us'])} µs of the daemon's CPU time, {number(a['client_cpu_us'])} of the client's")


BENCHMARKS = {
    "mapped-hit": (mapped_hit, "a mapped hit: 10,000 entries of 100 bytes with TTL; peers: one get in flight"),
    "mapped-1m": (mapped_1m, "a mapped hit of 1,000,000 entries against a bare probe and copy in the same memory"),
    "mapped-4m": (mapped_4m, "the same of 4,000,000 entries"),
    "mapped-miss": (mapped_miss, "a mapped miss against a hit, of 10,000 and of 1,000,000 entries"),
    "mapped-two": (mapped_two, "what a second reader process adds, against what it adds to the bare loop"),
    "mapped-stores": (mapped_stores, "mapped hits while the daemon applies 100,000 stores a second"),
    "mapped-syscalls": (mapped_syscalls, "system calls of a million mapped hits"),
    "mapped-idle-clients": (mapped_idle_clients, "cost of a store that evicts with 1,000 idle mapped clients"),
    "spin": (spin, "round trips where daemon and client poll before they sleep, one of them does, none does"),
}
