# SPDX-License-Identifier: MIT
"""Real request traces through the daemon: hits equal those of a plain LRU list, to the single request.

Exercises, on real input: exact LRU order under max_entries, add-only sets in a pipeline, values from 1 byte to
megabytes. The traces are those in $CACHED_TRACES, whose README.md tells their formats; without it one
is generated, and a warning says so. Short form: a prefix of each; CACHED_LONG=1: all of it.

The simulation below shares nothing with the daemon or with tests/bench/replay: it has its own reader
and knows only the definition of LRU.
"""

import collections
import lzma
import os
import pathlib
import random
import re
import struct
import subprocess
import warnings

import pytest

import harness

REPLAY = harness.BUILD / "tests" / "bench" / "replay"
WRAPPER = pathlib.Path(__file__).parents[1] / "bench" / "replay"
PREFIX = 10**9 if harness.LONG else 150_000
# One call after the other: each miss is two round trips.
MAPPED_PREFIX = 1_000_000 if harness.LONG else 5_000
PATIENCE = 3600 if harness.LONG else 240

Trace = collections.namedtuple("Trace", "path format")

FORMATS = (("big-endian int32", "int32be"), ("little-endian int32", "int32le"), ("text lines", "text"))


def described_traces(folder):
    """The table of the folder's README.md: one row per file, the format in words."""
    for line in (folder / "README.md").read_text().splitlines():
        row = re.match(r"\|\s*`([^`]+)`\s*\|", line)
        found = [name for words, name in FORMATS if words in line]
        if row and found:
            yield Trace(folder / row[1], found[0])


def all_traces():
    folder = os.environ.get("CACHED_TRACES")
    if not folder:
        return [Trace(None, "int32le")]
    traces = list(described_traces(pathlib.Path(folder)))
    assert traces, f"{folder}/README.md describes no trace"
    return traces


TRACES = all_traces()


def trace_id(trace):
    return trace.path.name.split(".")[0] if trace.path else "generated-zipf"


def read_keys(trace, limit):
    """The keys of the first @limit requests, as the text that is hashed."""
    with lzma.open(trace.path) as f:
        data = f.read()
    if trace.format == "text":
        return [line.split()[1].decode() for line in data.splitlines()[:limit]]
    n = min(len(data) // 4, limit)
    order = ">" if trace.format == "int32be" else "<"
    return [str(k) for k in struct.unpack(f"{order}{n}i", data[: 4 * n])]


def lru_hits(keys, capacity):
    """What a cache of @capacity entries hits when each miss is stored and the least recently used leaves."""
    cache = collections.OrderedDict()
    hits = 0
    for key in keys:
        if key in cache:
            cache.move_to_end(key)
            hits += 1
        else:
            if len(cache) == capacity:
                cache.popitem(last=False)
            cache[key] = True
    return hits


def generate_zipf(path):
    """Keys whose popularity falls as 1/rank^0.9, with a working set that drifts."""
    rng = random.Random(20240229)
    n_keys, n_requests = 20_000, 200_000
    total, cumulative = 0.0, []
    for rank in range(1, n_keys + 1):
        total += rank**-0.9
        cumulative.append(total)
    ranks = rng.choices(range(n_keys), cum_weights=cumulative, k=n_requests)
    keys = [rank + i // 2000 - 50 for i, rank in enumerate(ranks)]  # some negative
    path.write_bytes(lzma.compress(struct.pack(f"<{n_requests}i", *keys)))


@pytest.fixture(scope="session", params=TRACES, ids=trace_id)
def trace(request, tmp_path_factory):
    if request.param.path:
        return request.param
    warnings.warn("CACHED_TRACES is not set: replaying a generated Zipf trace, not a real one")
    path = tmp_path_factory.mktemp("trace") / "zipf.trace.xz"
    generate_zipf(path)
    return Trace(path, request.param.format)


@pytest.fixture(scope="session")
def keys(trace):
    return read_keys(trace, PREFIX)


@pytest.fixture(autouse=True)
def needs_replay():
    if harness.OPTIONS.get("bench") == "disabled":
        pytest.skip("this build has no benchmarks: configure with -Dbench=auto")
    assert REPLAY.exists(), f"{REPLAY} was not built: it needs liblzma"


def run_replay(*args, program=REPLAY, **env):
    full = {k: v for k, v in os.environ.items() if k != "CACHED_SOCKET"} | env
    return subprocess.run([str(program), *map(str, args)], capture_output=True, text=True, timeout=PATIENCE, env=full)


def replay(trace, max_entries, n, *more, **how):
    r = run_replay(trace.path, "--format", trace.format, "--max-entries", max_entries, "--limit", n, *more, **how)
    assert r.returncode == 0, r.stderr
    return dict(line.split() for line in r.stdout.splitlines())


@pytest.mark.parametrize("percent", [1, 10])
def test_hits_equal_those_of_a_plain_lru(make_daemon, trace, keys, percent):
    max_entries = max(1, len(set(keys)) * percent // 100)
    daemon = make_daemon(memory={"realm_budget": "2G", "global_budget": "3G"})
    got = replay(trace, max_entries, len(keys), "--socket", daemon.socket)
    assert got == {"hits": str(lru_hits(keys, max_entries)), "requests": str(len(keys))}


@pytest.mark.parametrize("percent", [1, 10])
def test_mapped_hits_equal_those_of_a_plain_lru(make_daemon, trace, keys, percent):
    """What the daemon evicts by is what readers noted for it, in memory."""
    some = keys[:MAPPED_PREFIX]
    max_entries = max(1, len(set(some)) * percent // 100)
    daemon = make_daemon(memory={"realm_budget": "2G", "global_budget": "3G"})
    got = replay(trace, max_entries, len(some), "--socket", daemon.socket, "--mapped")
    assert got == {"hits": str(lru_hits(some, max_entries)), "requests": str(len(some))}
    with daemon.probe() as c:
        total = c.stats().total
    assert (total.mapped_hits, total.mapped_misses) == (int(got["hits"]), len(some) - int(got["hits"]))


def test_a_daemon_of_its_own_and_the_wrapper(trace, keys):
    some = keys[:2000]
    got = replay(trace, 37, len(some), program=WRAPPER, CACHED_BUILD=str(harness.BUILD.absolute()))
    assert got == {"hits": str(lru_hits(some, 37)), "requests": str(len(some))}


def test_the_environment_names_the_socket_and_runs_do_not_meet(daemon, trace, keys):
    some = keys[:2000]
    want = {"hits": str(lru_hits(some, 100)), "requests": str(len(some))}
    for _ in range(2):
        assert replay(trace, 100, len(some), CACHED_SOCKET=str(daemon.socket)) == want
    assert daemon.client().stats().total.entries == 0, "the replay left entries behind"


def test_a_torn_trace_is_an_error_and_not_a_shorter_one(tmp_path, daemon):
    plain = struct.pack("<3i", 1, 2, 1)
    for name, data in (("key", plain + b"\1"), ("xz", lzma.compress(plain * 1000)[:-9])):
        path = tmp_path / name
        path.write_bytes(data)
        r = run_replay(path, "--format", "int32le", "--max-entries", 2, "--socket", daemon.socket)
        assert r.returncode == 1 and "hits" not in r.stdout, r.stdout
        assert r.stderr.startswith("replay: ")


def test_wrong_usage():
    for args in ([], ["x"], ["x", "--format", "int32be"], ["x", "--format", "no", "--max-entries", "1"],
                 ["x", "--format", "text", "--max-entries", "0"], ["x", "--format", "text", "--max-entries", "-1"]):
        assert run_replay(*args).returncode == 2
    r = run_replay("/nonexistent", "--format", "text", "--max-entries", "1", "--socket", "/nonexistent")
    assert r.returncode == 1 and "/nonexistent" in r.stderr
