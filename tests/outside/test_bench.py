# SPDX-License-Identifier: MIT
"""cachectl bench: what it reports, and that it leaves nothing behind and pushes nobody out; and that the benchmark of large
values runs in every way. No figures are judged.
"""

import json
import re
import signal
import subprocess

import pytest

import harness
from cachectl import CACHECTL, DONE, REFUSED, UNREACHABLE, USAGE, cli, environment, js, needs_cachectl, run_plain

pytestmark = needs_cachectl

CACHE = "cachectl-bench"
CASES = [("process", 0, 1, 1), ("socket", 100, 1, 1), ("ping", 0, 1, 1), ("get", 100, 1, 1), ("get", 1024, 1, 1),
         ("get", 65536, 1, 1), ("get", 100, 1, 16), ("get many", 100, 100, 1), ("set", 100, 1, 1),
         ("set", 1024, 1, 1), ("set", 65536, 1, 1), ("set", 100, 1, 16)]


def test_ben01_json(js, c):
    c.set("mine", b"k", b"v")
    before = c.stats().realm.bytes_charged
    document = js("bench", "--seconds", "1")
    assert list(document) == ["cases"]
    assert [(x["request"], x["value_bytes"], x["keys"], x["in_flight"]) for x in document["cases"]] == CASES
    for x in document["cases"]:
        assert list(x) == ["request", "value_bytes", "keys", "in_flight", "requests", "elapsed_ns", "keys_per_second",
                           "p50_ns", "p99_ns"]
        assert x["requests"] > 0 and 0 < x["p50_ns"] <= x["p99_ns"] <= x["elapsed_ns"]
        assert x["keys_per_second"] == pytest.approx(x["requests"] * x["keys"] * 1e9 / x["elapsed_ns"], rel=0.01, abs=1)
    # Nothing is left, nothing is lost, and nothing was a miss.
    assert c.stats().realm.bytes_charged == before and c.get("mine", b"k")
    s = c.stats(CACHE)
    assert s.entries == 0 and s.misses == 0 and s.hits > 0 and s.evicted_max_entries == s.evicted_realm_budget == 0


def test_ben02_table(cli):
    lines = cli("bench", "--seconds", "1").lines
    assert lines[0].split("  ")[0] == "REQUEST" and lines[0].endswith("VS SOCKET") and len(lines) == 1 + len(CASES)
    assert lines[2].startswith("socket") and lines[2].endswith(" 1.00x")


def test_ben03_no_room(make_daemon):
    """Where the budget is nearly used up nothing is stored, and nobody's entry leaves."""
    daemon = make_daemon(memory={"realm_budget": "8M"})
    c = daemon.client()
    for i in range(60):
        c.set("mine", b"%d" % i, b"x" * 100000)
    entries = c.stats("mine").entries
    r = run_plain("--socket", str(daemon.socket), "bench", "--seconds", "1")
    assert r.status == REFUSED and "budget" in r.err and r.out == b""
    assert c.stats("mine").entries == entries == 60 and c.stats().realm.caches == 1


def test_ben04_usage(cli):
    for wrong in ("0", "61", "x", "-1", "1.5"):
        assert "--seconds" in cli("bench", f"--seconds={wrong}", status=USAGE).err


def test_ben05_no_daemon(tmp_path):
    assert run_plain("--socket", str(tmp_path / "none"), "bench").status == UNREACHABLE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ben06_interrupted(daemon, c, number):
    """It removes what it stored, prints no half of a table, and ends by the signal."""
    p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "bench", "--seconds", "60"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    harness.wait_until(lambda: CACHE in {x.name for x in c.list_caches()} and c.stats(CACHE).entries > 0, "it stores")
    p.send_signal(number)
    out, err = p.communicate(timeout=harness.PATIENCE)
    assert p.returncode == -number and out == b"" and not harness.SANITIZER.search(err.decode())
    assert c.stats(CACHE).entries == 0


def test_ben07_small_limits(make_daemon):
    """What the daemon does not take is left out."""
    daemon = make_daemon(limits={"value_bytes": "4096", "keys_per_request": "10", "requests_in_flight": "4"})
    r = run_plain("--json", "--socket", str(daemon.socket), "bench", "--seconds", "1")
    assert r.status == DONE
    cases = [(x["request"], x["value_bytes"], x["keys"], x["in_flight"]) for x in r.json["cases"]]
    assert cases == [x for x in CASES if x[1] <= 4096 and x[2] <= 10]


def test_ben08_the_daemon_dies(make_daemon):
    daemon = make_daemon()
    c = daemon.client()
    p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "bench", "--seconds", "60"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    harness.wait_until(lambda: CACHE in {x.name for x in c.list_caches()} and c.stats(CACHE).entries > 0, "it stores")
    daemon.process.kill()
    daemon.process.wait()
    out, err = p.communicate(timeout=harness.PATIENCE)
    assert p.returncode in (REFUSED, UNREACHABLE) and out == b"" and err.startswith(b"cachectl: bench: ")
    daemon.process = None


def test_ben09_entries_expire_if_it_is_killed(daemon, c, clock):
    p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "bench", "--seconds", "60"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    harness.wait_until(lambda: CACHE in {x.name for x in c.list_caches()} and c.stats(CACHE).entries > 0, "it stores")
    p.kill()
    p.wait()
    # What it had sent is carried out before its end is seen, and lives for two minutes from then on.
    harness.wait_until(lambda: c.stats().daemon.connections == 1, "its connections are gone")
    clock.advance(121000)
    harness.wait_until(lambda: c.stats(CACHE).entries == 0, "they have expired")


# ---- tests/bench: as run by hand and by tests/bench/run

LARGE = harness.BUILD / "tests" / "bench" / "bench-large"
needs_large = pytest.mark.skipif(not LARGE.exists(), reason="benchmarks are not built: configure with -Dbench=enabled")


def large(daemon, way, *more, status=0):
    p = subprocess.run([LARGE, "--backend", "cached", "--socket", str(daemon.socket), "--way", way, "--size", "1000000",
                        "--seconds", "0.01", *more], input=b"", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env=environment(), timeout=harness.PATIENCE)
    assert p.returncode == status, p.stderr
    return p


@needs_large
def test_ben20_large_values_in_every_way(daemon):
    """Of what is stored already, too, and of nothing that is stored."""
    usage = subprocess.run([LARGE, "--help"], stdout=subprocess.PIPE, check=True, text=True, timeout=harness.PATIENCE).stdout
    ours = usage.partition("ways of cached")[2].partition("ways of ")[0]
    ways = re.findall(r"^  ([a-z-]+) ", ours, re.M)
    assert len(ways) >= 10
    for way in ways:
        if way != "hold":
            out = json.loads(large(daemon, way).stdout)
            assert 5 <= out["calls"] and 0 < out["min_ns"] <= out["p50_ns"] <= out["p99_ns"] <= out["max_ns"]
        lines = large(daemon, way, "--keep", "--calls", "1", "--cpu", "0").stdout.splitlines()
        assert json.loads(lines[-1])["calls"] == 1 and len(lines) == (2 if way == "hold" else 1)


@needs_large
@pytest.mark.parametrize("more", [["--calls", "0"], ["--cpu", "x"], ["--keep=yes"], ["--size", "-1"], ["--way", "none"], ["x"]])
def test_ben21_large_values_usage(daemon, more):
    p = large(daemon, "set", *more, status=2)
    assert p.stdout == b"" and p.stderr
