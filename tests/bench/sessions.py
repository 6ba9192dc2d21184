# SPDX-License-Identifier: MIT
"""The benchmarks of sessions (bench-session). The peer is what people use on redis: a hash each, with an expiry."""

import shutil
import statistics
import time

from bench import CLIENT_CPU, DAEMON_STATS_LOOP_TURN_MAX_US, MIB, RUNS, Client, Trouble, cpu_seconds
from mapped import on_cpu, tool

REALM_STATS_SESSIONS = 20
MORE = "session_budget = 4G\nuid_share = 100%\n[limits]\nsessions_per_uid = 1000000\n"


def peer(b):
    """[redis], or nothing."""
    redis = shutil.which("redis-server")
    if not redis:
        b.notes.append("redis-server is not installed: no comparison with it")
        return []
    return [b.start("redis", {}, lambda p: [redis, "--save", "", "--appendonly", "no", "--port", "0", "--unixsocket", p])]


def load(server, backend, **options):
    arguments = [x for name, value in options.items()
                 for x in (["--" + name.replace("_", "-")] if value is True else ["--" + name.replace("_", "-"), value])]
    return tool("bench-session", "--backend", backend, "--socket", server.path, *arguments, *on_cpu(CLIENT_CPU),
                timeout=300)


def contest(b, backends, measure, **options):
    """Samples by backend, each server in its turn."""
    entrants = [(b.ours(more=MORE), backend) for backend in backends[:1]]
    entrants += [(entrants[0][0], backend) for backend in backends[1:]]
    entrants += [(server, "redis") for server in peer(b)]
    samples, cpu = {name: [] for _, name in entrants}, {name: [] for _, name in entrants}
    for turn in range(RUNS):
        for server, name in entrants:
            before = cpu_seconds(server.process.pid)
            r = load(server, name, seed=turn + 1, **options)
            cpu[name].append((cpu_seconds(server.process.pid) - before) * 1e6 / r["requests"])
            samples[name].append(measure(r))
    return samples, {name: round(statistics.median(v), 3) for name, v in cpu.items()}


def rates(b, name, what):
    """16 in flight. libcached's session calls wait for their replies, so these are the daemon's figures."""
    samples, cpu = contest(b, ["raw"], lambda r: r["ops_per_s"], what=what, window=16, count=50000 if b.quick else 300000)
    b.add(name, "ops/s", samples.pop("raw"), "at least redis", lambda _, r: r is None or r >= 1, samples,
          lower_is_better=False, server_cpu_us=cpu)


def times(b, name, what):
    samples, cpu = contest(b, ["cached", "raw"], lambda r: r["p50_us"], what=what, window=1, count=5000 if b.quick else 30000)
    ours, raw = samples.pop("cached"), statistics.median(samples.pop("raw"))
    b.add(name, "µs", ours, "within 10 % of redis", lambda _, r: r is None or r <= 1.1, samples, without_library=raw,
          server_cpu_us=cpu)


def session_get(b):
    times(b, "session-get-p50", "get")
    b.stop_all()
    rates(b, "session-get-16", "get")


def session_set(b):
    times(b, "session-set-p50", "set")
    b.stop_all()
    rates(b, "session-set-16", "set")


def session_all(b):
    times(b, "session-all-p50", "all")


def live(server):
    c = Client(server.path)
    realm, daemon = c.stats()
    c.close()
    return realm.get(REALM_STATS_SESSIONS, 0), daemon


def session_memory(b):
    """100,000 sessions of 10 keys of 6 bytes, 64-byte values, that expire in a day."""
    n = 10000 if b.quick else 100000
    figures = {}
    for server, backend in [(b.ours(more=MORE), "raw"), *((s, "redis") for s in peer(b))]:
        before = server.settled_memory()
        load(server, backend, what="nothing", sessions=n, session_keys=10, value_size=64, idle_ms=86400000, keep=True)
        figures[backend] = (server.settled_memory() - before) / n
        if backend == "raw" and live(server)[0] != n:
            raise Trouble(f"{live(server)[0]} sessions are there instead of {n}")
    mine = figures.pop("raw")
    b.add("session-memory", "B/session", mine, "no more than redis", lambda _, r: r is None or r <= 1,
          {k: [v] for k, v in figures.items()}, keys_and_values=10 * (6 + 64), sessions=n)


def session_expiry(b):
    """So many end within some milliseconds: the longest turn of the daemon's loop, also of those that opened them."""
    n = 20000 if b.quick else 100000
    lead = 2000 if b.quick else 8000
    turns = []
    for _ in range(RUNS):
        server = b.ours(more=MORE)
        r = load(server, "raw", what="nothing", sessions=n, session_keys=10, value_size=64, until_ms=lead, keep=True)
        there, daemon = live(server)
        if there != n or r["fill_ms"] > lead:
            raise Trouble(f"{there} of {n} sessions are there, after {r['fill_ms']} ms")
        opening = daemon.get(DAEMON_STATS_LOOP_TURN_MAX_US, 0)
        deadline = time.monotonic() + 60
        while live(server)[0] > 0:
            if time.monotonic() > deadline:
                raise Trouble(f"{live(server)[0]} sessions are still there after a minute")
            time.sleep(0.05)
        turns.append((live(server)[1].get(DAEMON_STATS_LOOP_TURN_MAX_US, 0) / 1000, opening / 1000))
        b.stop_all()
    b.add("session-expiry", "ms", [t for t, _ in turns], "no loop turn over 2 of CPU time", lambda o, _: o <= 2,
          sessions=n, before_the_first_ended_ms=statistics.median(t for _, t in turns))


def session_open(b):
    """Opening one where 100,000 are, by opening one where 1,000 are: two daemons in turns."""
    small, large = 1000, 10000 if b.quick else 100000
    servers = {n: b.ours(more=MORE, name=f"cached-{n}") for n in (small, large)}
    costs = {small: [], large: []}
    # All but the thousand of each measurement itself.
    load(servers[large], "raw", what="nothing", sessions=large - small, session_keys=10, value_size=64, idle_ms=86400000,
         keep=True)
    for turn in range(RUNS):
        for n, server in servers.items():
            r = load(server, "raw", what="open", sessions=small, session_keys=10, value_size=64, count=2000, seed=turn + 1)
            costs[n].append(r["p50_us"])
    ratios = [x / y for x, y in zip(costs[large], costs[small])]
    b.add("session-open", "×", ratios, f"cost at {large:,} sessions at most 1.2 × that at {small:,}",
          lambda o, _: o <= 1.2, small_us=statistics.median(costs[small]), large_us=statistics.median(costs[large]),
          memory_mib=servers[large].memory() / MIB)


BENCHMARKS = {
    "session-get": (session_get, "one of 20 keys of one of 1,000 sessions: time of one, and a second with 16 in flight; redis: HGET"),
    "session-set": (session_set, "the same with sets; redis: HSET"),
    "session-all": (session_all, "time of all 20 keys at once; redis: HGETALL"),
    "session-memory": (session_memory, "memory of 100,000 sessions of 10 values of 64 bytes; redis: hashes with EXPIRE"),
    "session-expiry": (session_expiry, "longest loop turn while 100,000 sessions end at once"),
    "session-open": (session_open, "opening a session at 100,000 live ones against at 1,000"),
}
