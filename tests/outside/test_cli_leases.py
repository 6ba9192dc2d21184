# SPDX-License-Identifier: MIT
"""cachectl and leases: windows of a policy, tags, negative entries, waiting for who computes, what is computed now,
events as they happen, and warming. Holders are clients made from the protocol alone.
"""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

import harness
import peers
import wire
from cachectl import (CACHECTL, DONE, NOT_FOUND, REFUSED, TIMEOUT, UNREACHABLE, USAGE, cli, environment, js,
                      needs_cachectl, run_plain)
from harness import wait_until
from wire import pb

pytestmark = needs_cachectl

HOUR = 3_600_000
ONCE = harness.BUILD / "tests" / "outside" / "once"


def client(daemon, **hello):
    """One of the daemon's clients that knows leases."""
    c = daemon.connect()
    daemon.clients.remove(c)
    made = peers.Client(sock=c.sock)
    daemon.clients.append(made)
    made.hello(features=peers.FEATURES, **hello)
    return made


@pytest.fixture
def holder(daemon):
    return client(daemon, name="report.py")


class Running:
    """cachectl in the background."""

    def __init__(self, daemon, *args, stdout=subprocess.PIPE, **more):
        self.p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), *args], stdout=stdout,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment(TZ="UTC"), **more)
        self.text = b""

    def read(self, fd, pattern):
        """Reads until the pattern is there; gives all that came so far."""
        deadline = time.monotonic() + harness.PATIENCE
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([fd], [], [], 0.1)[0]:
                part = os.read(fd, 65536)
                assert part, (self.text, self.p.stderr.read() if fd != self.p.stderr.fileno() else "")
                self.text += part
        return self.text

    def out(self, pattern):
        return self.read(self.p.stdout.fileno(), pattern)

    def err(self, pattern):
        self.text = b""
        return self.read(self.p.stderr.fileno(), pattern)

    def end(self, status=DONE):
        """(stdout, stderr) of what was not read."""
        out, err = self.p.communicate(timeout=TIMEOUT)
        assert not harness.SANITIZER.search(err.decode()), err
        assert self.p.returncode == status, (self.p.returncode, err)
        return out, err.decode()


@pytest.fixture
def start(daemon):
    """start(ARG…): cachectl, which goes on."""
    made = []

    def run(*args, **more):
        made.append(Running(daemon, *args, **more))
        return made[-1]

    yield run
    for r in made:
        if r.p.poll() is None:
            r.p.kill()
        r.p.wait()
        for pipe in (r.p.stdout, r.p.stderr):
            if pipe:
                pipe.close()


# ---- wrong usage

@pytest.mark.parametrize("args, text", [
    (["policy", "c", "--stale-for", "5"], "policy: --stale-for '5': its unit is missing; a duration is a number with ms, "
                                          "s, m, h or d, such as 250ms, 1.5s or 7d"),
    (["policy", "c", "--stale-for", "0s"], "policy: --stale-for '0s': it is 1ms to 3650d; --no-stale-for turns it off"),
    (["policy", "c", "--stale-if-error", "3651d"],
     "policy: --stale-if-error '3651d': it is 1ms to 3650d; --no-stale-if-error turns it off"),
    (["policy", "c", "--stale-if-error", ""], "policy: --stale-if-error '': it is empty; a duration is a number with ms, "
                                              "s, m, h or d, such as 250ms, 1.5s or 7d"),
    (["policy", "c", "--refresh-ahead", "80"],
     "policy: --refresh-ahead '80': it is neither; a part is a percentage such as 80% or 12.5%, or a fraction such as 0.8"),
    (["policy", "c", "--refresh-ahead", "1.0"],
     "policy: --refresh-ahead '1.0': it is neither; a part is a percentage such as 80% or 12.5%, or a fraction such as 0.8"),
    (["policy", "c", "--refresh-ahead", "100%"],
     "policy: --refresh-ahead '100%': it is 0.1% to 99.9% of the ttl; --no-refresh-ahead turns it off"),
    (["policy", "c", "--refresh-ahead", "0.0"],
     "policy: --refresh-ahead '0.0': it is 0.1% to 99.9% of the ttl; --no-refresh-ahead turns it off"),
    (["policy", "c", "--refresh-ahead", "0.8125"],
     "policy: --refresh-ahead '0.8125': it is finer than a thousandth; a part is a percentage such as 80% or 12.5%, or a "
     "fraction such as 0.8"),
    (["policy", "c", "--expire-jitter", "101%"],
     "policy: --expire-jitter '101%': it is more than the whole; a part is a percentage such as 80% or 12.5%, or a "
     "fraction such as 0.8"),
    (["policy", "c", "--expire-jitter", "0%"],
     "policy: --expire-jitter '0%': it is 0.1% to 100% of the ttl; --no-expire-jitter turns it off"),
    (["policy", "c", "--expire-jitter", "5%%"],
     "policy: --expire-jitter '5%%': its unit is unknown; a part is a percentage such as 80% or 12.5%, or a fraction "
     "such as 0.8"),
    (["policy", "c", "--stale-for", "1h", "--no-stale-for"],
     "policy: --stale-for and --no-stale-for exclude each other"),
    (["policy", "c", "--stale-if-error", "1h", "--no-stale-if-error"],
     "policy: --stale-if-error and --no-stale-if-error exclude each other"),
    (["policy", "c", "--refresh-ahead", "80%", "--no-refresh-ahead"],
     "policy: --refresh-ahead and --no-refresh-ahead exclude each other"),
    (["policy", "c", "--expire-jitter", "5%", "--no-expire-jitter"],
     "policy: --expire-jitter and --no-expire-jitter exclude each other"),
    (["policy", "c", "--no-stale-for", "--unpin"],
     "policy: --unpin goes back to what clients ask for: it takes no limits"),
    (["policy", "c", "--stale-for"], "policy: option --stale-for needs a value"),
    (["set", "c", "k", "--tag", ""], "set: --tag '': it is empty: a tag has 1 to 128 bytes"),
    (["set", "c", "k", "--tag", "t" * 129], "set: --tag: it is longer than 128 bytes"),
    (["set", "c", "k", "--tag", "a\x07b"], "set: --tag: it is not UTF-8 text, or has control characters in it"),
    (["set", "c", "k", "--tag", b"\xff"], "set: --tag: it is not UTF-8 text, or has control characters in it"),
    (["set", "c", "k", *["--tag", "t"] * 9], "set: --tag is given 9 times: an entry has at most 8 tags"),
    (["set", "c", "k", "/dev/null", "--negative", "x"], "set: --negative and FILE exclude each other"),
    (["set", "c", "k", "--negative", "r" * 1025], "set: --negative: the reason is longer than 1024 bytes"),
    (["set", "c", "k", "--negative", "a\nb"],
     "set: --negative: the reason is not UTF-8 text, or has control characters in it"),
    (["clear", "--tag", "t"], "clear: CACHE is missing: --tag is of one cache"),
    (["clear", "--all", "--prefix", "p"], "clear: CACHE is missing: --prefix is of one cache"),
    (["clear", "c", "--tag", "t", "--prefix", "p"], "clear: --tag and --prefix exclude each other"),
    (["clear", "c", "--tag", ""], "clear: --tag '': it is empty: a tag has 1 to 128 bytes"),
    (["clear", "c", "--prefix", ""], "clear: --prefix '': it is empty: a key has 1 to 64 bytes"),
    (["clear", "c", "--prefix", "hex:0"], "clear: --prefix 'hex:0': an odd number of hexadecimal digits follows `hex:`"),
    (["get", "c", "k", "--wait", "soon"], "get: --wait 'soon': it does not start with a digit; a duration is a number "
                                          "with ms, s, m, h or d, such as 250ms, 1.5s or 7d"),
    (["get", "c", "k", "--wait", "0s"], "get: --wait '0s': it is 1ms to 24h"),
    (["get", "c", "k", "--wait", "25h"], "get: --wait '25h': it is 1ms to 24h"),
    (["get", "c", "k", "--wait", "1s", "--peek"], "get: --wait and --peek exclude each other"),
    (["monitor", "--kind", "gone"],
     "monitor: --kind 'gone': a kind is stored, deleted, cleared, expired, evicted, policy or refresh"),
    (["monitor", "--kind", "lost"],
     "monitor: --kind 'lost': a kind is stored, deleted, cleared, expired, evicted, policy or refresh"),
    (["monitor", "--count", "0"], "monitor: --count '0': it is at least 1"),
    (["monitor", "--count", "x"], "monitor: --count 'x': it does not start with a digit; a number is expected"),
    (["monitor", "c", "d"], "monitor: 'd' is one argument too many"),
    (["monitor", ""], "monitor: CACHE is empty: a cache's name has 1 to 128 bytes"),
    (["warm"], "warm: CACHE is missing"),
    (["warm", "c"], "warm: `--` is missing between CACHE and COMMAND"),
    (["warm", "c", "true"], "warm: `--` is missing between CACHE and COMMAND"),
    (["warm", "c", "--"], "warm: COMMAND is missing after `--`"),
    (["warm", "--", "--", "true"], "warm: CACHE is missing before `--`"),
    (["warm", "c", "--quiet", "--", "true"], "warm: '--quiet': options stand before CACHE"),
    (["warm", "", "--", "true"], "warm: CACHE is empty: a cache's name has 1 to 128 bytes"),
    (["warm", "app:c", "--", "true"],
     "warm: CACHE 'app:c': a cache with a colon in its name cannot be named in $CACHED_WARM"),
    (["--json", "warm", "c", "--", "true"], "warm: --json does not apply: what is printed is the command's"),
])
def test_cl01_wrong_usage(args, text, tmp_path):
    """Said exactly, before anything is connected to: no daemon is here."""
    r = run_plain("--socket", str(tmp_path / "none"), *args)
    assert r.status == USAGE and not r.out
    assert r.err == f"cachectl: {text}\nSee `cachectl {args[0] if args[0][0] != '-' else args[1]} --help`.\n"


@pytest.mark.parametrize("verb", ["monitor", "get", "clear"])
def test_cl02_no_daemon(verb, tmp_path):
    words = {"monitor": ["monitor"], "get": ["get", "c", "k", "--wait", "1s"], "clear": ["clear", "c", "--tag", "t"]}
    assert run_plain("--socket", str(tmp_path / "none"), *words[verb]).status == UNREACHABLE


# ---- windows of a policy

def windows(policy):
    return (policy.stale_for_ms, policy.stale_if_error_ms, policy.refresh_ahead_permille, policy.expire_jitter_permille)


def test_cl10_windows_are_set_and_turned_off(cli, js, c):
    """Each by itself, and the others stay; the exact numbers arrive."""
    cli("policy", "c", "--ttl", "10m", "--stale-for", "1h", "--stale-if-error", "1.5d", "--refresh-ahead", "80%",
        "--expire-jitter", "0.055")
    o = js("policy", "c")["policy"]
    assert o == {"ttl_ms": 600000, "max_entries": None, "max_bytes": None, "stale_for_ms": HOUR,
                 "stale_if_error_ms": 36 * HOUR, "refresh_ahead_permille": 800, "expire_jitter_permille": 55}
    assert windows(c.stats("c").policy) == (HOUR, 36 * HOUR, 800, 55)
    cli("policy", "c", "--refresh-ahead", "99.9%", "--no-stale-if-error")
    assert windows(c.stats("c").policy) == (HOUR, 0, 999, 55)
    cli("policy", "c", "--no-refresh-ahead", "--no-expire-jitter", "--no-stale-for", "--stale-if-error", "1ms")
    assert windows(c.stats("c").policy) == (0, 1, 0, 0)
    cli("policy", "c", "--refresh-ahead", "0.001", "--expire-jitter", "100%")
    assert windows(c.stats("c").policy) == (0, 1, 1, 1000) and js("policy", "c")["pinned"]


def test_cl11_windows_are_shown(cli, js, c):
    c.open("c", ttl_ms=600000, stale_for_ms=HOUR, refresh_ahead_permille=800, expire_jitter_permille=55)
    lines = cli("policy", "c").lines
    assert lines[:7] == ["ttl             10m", "max entries     not limited", "max bytes       not limited",
                         "stale for       1h", "stale if error  off", "refresh ahead   80%", "expire jitter   5.5%"]
    assert cli("caches").lines[1].endswith("  ttl 10m, stale for 1h, refresh ahead 80%, jitter 5.5%")
    assert js("caches")["caches"][0]["policy"]["refresh_ahead_permille"] == 800
    text = cli("stats", "c").text
    assert re.search(r"^stale for +1h$", text, re.M) and re.search(r"^refresh ahead +80%$", text, re.M)
    assert js("stats", "c")["cache"]["policy"] == js("policy", "c")["policy"]


def test_cl12_stale_entries(cli, js, c, clock):
    """Printed like any other; JSON and ls say that they are."""
    c.open("c", ttl_ms=10000, stale_for_ms=HOUR)
    cli("set", "c", "k", stdin=b"value")
    assert js("ls", "c")["entries"][0]["stale"] is False and 0 < js("get", "c", "k")["fresh_ms"] <= 10000
    assert re.search(r"^fresh for +\S+s$", cli("explain", "c", "k").text, re.M)
    clock.advance(11000)
    assert cli("get", "c", "k").out == b"value"
    o = js("get", "c", "k")
    assert (o["stale"], o["fresh_ms"], o["found"], o["value"]) == (True, 0, True, "value")
    assert HOUR - 60000 < o["ttl_ms"] < HOUR
    assert cli("ls", "c").lines[1].split() == ["5", "stale", "-", str(o["version"]), "k"]
    assert re.search(r"^stale +yes$", cli("explain", "c", "k").text, re.M) and "fresh for" not in cli("explain", "c", "k").text
    clock.advance(HOUR)
    cli("get", "c", "k", status=NOT_FOUND)


# ---- tags and prefixes

def test_cl20_tags(cli, js, c):
    for key, tags in (("a", ["red"]), ("b", ["red", "with blanks"]), ("c", [])):
        cli("set", "t", key, *[w for tag in tags for w in ("--tag", tag)], stdin=b"v")
    assert {e["key"]: sorted(e["tags"]) for e in js("ls", "t")["entries"]} == {"a": ["red"], "b": ["red", "with blanks"],
                                                                              "c": []}
    lines = {line[39:40]: line[40:] for line in cli("ls", "t").lines[1:]}
    assert lines["a"] == "  #red" and lines["c"] == "" and sorted(lines["b"].split("  #")[1:]) == ["red", "with blanks"]
    assert sorted(js("explain", "t", "b")["entry"]["tags"]) == ["red", "with blanks"]
    assert re.search(r"^tags +(red|with blanks)\n +(red|with blanks)$", cli("explain", "t", "b").text, re.M)
    assert js("stats", "t")["cache"]["tags"] == 2 and re.search(r"^tags +2$", cli("stats", "t").text, re.M)
    assert cli("clear", "t", "--tag", "red").text == "2 entries cleared\n"
    assert cli("clear", "t", "--tag", "red").text == "0 entries cleared\n"
    assert [e["key"] for e in js("ls", "t")["entries"]] == ["c"]
    assert js("clear", "t", "--tag", "blue") == {"cache": "t", "tag": "blue", "prefix": None, "entries": 0, "caches": 1}
    r = cli("clear", "none", "--tag", "t", status=NOT_FOUND)
    assert r.err == "cachectl: clear: not found: no such cache\n"


def test_cl21_prefixes(cli, js, c):
    for key in (b"user:1", b"user:2", b"users", b"\x00\x01", b"\x00\x02", b"text:x"):
        c.set("t", key, b"v")
    assert js("clear", "t", "--prefix", "user:") == {"cache": "t", "tag": None, "prefix": "user:", "entries": 2,
                                                     "caches": 1}
    assert js("clear", "t", "--prefix", "hex:00") == {"cache": "t", "tag": None, "prefix_hex": "00", "entries": 2,
                                                      "caches": 1}
    assert cli("clear", "t", "--prefix", "text:text:").text == "1 entry cleared\n"
    assert [e["key"] for e in js("ls", "t")["entries"]] == ["users"]


def test_cl22_a_tag_cannot_steer_the_terminal(cli, c):
    """Marks that turn the direction of text are no control characters: the daemon takes them."""
    c.set("t", b"k", b"v", tags=["a\u202eb"])
    assert cli("ls", "t").lines[1].endswith("  k  #a?b") and "\u202e" not in cli("explain", "t", "k").text


# ---- negative entries

def test_cl30_negative_entries(cli, js, c, tmp_path):
    """What is stored is that there is no value: status 1 and the reason, and no file is written."""
    cli("set", "t", "k", "--negative", "no such customer", "--ttl", "1m", "--tag", "red")
    assert c.call("get", cache="t", key=b"k")[0].status == wire.NEGATIVE
    r = cli("get", "t", "k", "-o", str(tmp_path / "f"), status=NOT_FOUND)
    assert r.out == b"" and r.err == "cachectl: get: there is no value: no such customer\n"
    assert not (tmp_path / "f").exists()
    assert cli("get", "t", "k", "--peek", status=NOT_FOUND).err == r.err
    assert cli("get", "t", "k", "--wait", "1h", status=NOT_FOUND).err == r.err
    o = js("get", "t", "k", status=NOT_FOUND)
    assert (o["found"], o["negative"], o["reason"], "value" in o) == (False, True, "no such customer", False)
    assert 0 < o["ttl_ms"] <= 60000 and o["size"] == 16
    assert cli("ls", "t").lines[1].endswith("  k  (negative)  #red") and js("ls", "t")["entries"][0]["negative"]
    assert re.search(r"^negative +yes$", cli("explain", "t", "k").text, re.M)


def test_cl31_negative_with_the_other_options(cli, js, c):
    o = js("set", "t", "k", "--negative", "", "--never")
    assert o["size"] == 0 and o["ttl_ms"] is None
    assert cli("get", "t", "k", status=NOT_FOUND).err == "cachectl: get: there is no value\n"
    assert js("get", "t", "k", status=NOT_FOUND)["reason"] == ""
    assert "the key is already stored" in cli("set", "t", "k", "--negative", "x", "--add", status=NOT_FOUND).err
    assert "nothing was stored" in cli("set", "t", "n", "--negative", "x", "--replace", status=NOT_FOUND).err
    cli("set", "t", "k", "--replace", stdin=b"now there is one")
    assert cli("get", "t", "k").out == b"now there is one"


# ---- what is computed now

def test_cl40_computations(daemon, cli, js, c, holder):
    lease = holder.lease(b"2026-11", cache="reports")
    holder.call("lease_progress", lease_id=lease, permille=425, text="rendering")
    holder.lease(b"\0\xff", cache="other", owner=2, hold_ms=HOUR)
    c.set("reports", b"is there", b"v")
    holder.asked(b"is there", cache="reports", owner=3, refresh=True)
    waiter = client(daemon, name="waiter")
    waiter.ask(b"2026-11", cache="reports")
    wait_until(lambda: c.stats("reports").waiting == 1, "it waits")
    every = js("stats")["computations"]
    assert set(every[0]) - {"key", "key_hex"} == set(pb.Computation.DESCRIPTOR.fields_by_name) - {"key"}
    by_key = {o.get("key") or o["key_hex"]: o for o in every}
    o = by_key["2026-11"]
    assert (o["cache"], o["holder"], o["waiters"], o["permille"], o["progress"], o["refresh"], o["hold_ms"],
            o["lease_id"], o["pid"]) == ("reports", "report.py", 1, 425, "rendering", False, None, str(lease), os.getpid())
    assert by_key["is there"]["refresh"] and by_key["00ff"]["hold_ms"] > HOUR - 60000
    assert o["connection"] in {x["connection"] for x in js("clients")["clients"] if x["name"] == "report.py"}
    for words in (["stats"], ["clients"]):
        assert {x.get("key") or x["key_hex"] for x in js(*words)["computations"]} == {"2026-11", "is there", "00ff"}
        text = cli(*words).text
        assert re.search(r"^COMPUTING\nCACHE +KEY +HOLDER +PID +AGE +WAITERS +PROGRESS$", text, re.M)
        assert re.search(rf"^reports +2026-11 +report.py +{os.getpid()} +\S+s +1  42.5%, rendering$", text, re.M)
        assert re.search(r"^other +hex:00ff +report.py +\d+ +\S+s +0  -$", text, re.M)
    assert [x["key"] for x in js("stats", "reports")["computations"]].count("2026-11") == 1
    assert "hex:00ff" not in cli("stats", "reports").text and "hex:00ff" in cli("stats", "other").text
    numbers = js("stats", "reports")["cache"]
    assert (numbers["leases"], numbers["refreshes"], numbers["lease_waits"], numbers["computing"], numbers["waiting"]) == (
        2, 1, 1, 2, 1)
    text = cli("stats", "reports").text
    for label, n in (("leases granted", 2), ("  of these: refreshes", 1), ("waits for others", 1), ("computing now", 2)):
        assert re.search(rf"^{label} +{n}$", text, re.M), label
    # What nobody uses says nothing.
    c.set("plain", b"k", b"v")
    assert not re.search("lease|comput|COMPUT|wait|tags", cli("stats", "plain").text)
    explained = js("explain", "reports", "2026-11")
    assert explained["computing"]["lease_id"] == str(lease) and explained["entry"] is None
    assert re.search(r"^report.py \(pid \d+\) has been computing it for \S+s \(42.5%, rendering\); 1 other waits\.$",
                     cli("explain", "reports", "2026-11").text, re.M)
    assert "has been computing it anew for" in cli("explain", "reports", "is there").text
    assert js("explain", "reports", "nothing")["computing"] is None


def test_cl41_which_input_multiplies(cli, js, c):
    c.call("set", b"locale", cache="t", key=b"page", vary=True)
    for i in range(3):
        c.call("set", b"v", cache="t", key=b"variant %d" % i, variant_of=b"page")
    o = js("explain", "t", "page")
    assert o["inputs"] == [{"name": "locale", "variants": 3}] and o["entry"]["vary"]
    assert re.search(r"^INPUT +VARIANTS\nlocale +3$", cli("explain", "t", "page").text, re.M)
    assert cli("ls", "t").text.count("(has variants)") == 1
    assert js("explain", "t", "variant 0")["inputs"] == []


# ---- get --wait

def waits(c, cache="t", n=1):
    wait_until(lambda: c.stats(cache).waiting == n, "it waits")


@pytest.mark.parametrize("size", [5, 100_000, 9 << 20])
def test_cl50_get_waits_for_who_computes(start, c, holder, size):
    lease = holder.lease()
    g = start("get", "t", "k", "--wait", "1h")
    waits(c)
    value = os.urandom(size)
    holder.store(lease, value)
    assert g.end() == (value, "")


def test_cl51_get_computes_nothing_itself(cli, js, c, holder):
    """Where nobody computes it is told at once; the lease that it was granted is free again."""
    r = cli("get", "t", "k", "--wait", "24h", status=NOT_FOUND)
    assert r.err == "cachectl: get: not found: no such entry, and nobody computes it\n"
    assert js("get", "t", "k", "--wait", "24h", status=NOT_FOUND)["found"] is False
    assert c.stats("t").computing == 0
    holder.lease()


def test_cl52_get_waits_so_long(start, c, holder, clock):
    holder.lease()
    g = start("get", "t", "k", "--wait", "1m")
    waits(c)
    clock.advance(60000)
    out, err = g.end(NOT_FOUND)
    assert not out and re.fullmatch(rf"cachectl: get: not found: no such entry after \S+: report.py \(pid {os.getpid()}\) "
                                    r"still computes it\n", err)


def test_cl53_who_computes_fails_or_ends(start, c, holder, daemon):
    """With a reason that is told; without, the one who waits is next, and gives it up."""
    lease = holder.lease()
    g = start("get", "t", "k", "--wait", "1h")
    waits(c)
    holder.end(lease, "the printer is on fire")
    assert g.end(NOT_FOUND)[1] == (f"cachectl: get: not found: no such entry: report.py (pid {os.getpid()}) could not "
                                   "compute it: the printer is on fire\n")
    other = client(daemon, name="other")
    other.lease()
    g = start("get", "t", "k", "--wait", "1h")
    waits(c)
    i = holder.ask()
    waits(c, n=2)
    other.close()
    assert g.end(NOT_FOUND)[1] == "cachectl: get: not found: no such entry, and nobody computes it\n"
    assert holder.wait(i)[0].lease.state == pb.LEASE_GRANTED, "it went on to the next"


def test_cl54_a_value_that_was_not_stored(start, c, holder):
    """Shared with those who wait."""
    lease = holder.lease()
    g = start("get", "t", "k", "--wait", "1h", "--json")
    waits(c)
    holder.store(lease, b"shared", share_only=True)
    o = json.loads(g.end()[0])
    assert o["found"] and o["value"] == "shared"


def test_cl55_a_negative_answer(start, c, holder):
    lease = holder.lease()
    g = start("get", "t", "k", "--wait", "1h")
    waits(c)
    holder.store(lease, b"no such customer", negative=True)
    assert g.end(NOT_FOUND) == (b"", "cachectl: get: there is no value: no such customer\n")


def test_cl56_a_daemon_that_ends(start, c, holder, daemon):
    """Nobody hangs."""
    holder.lease()
    g = start("get", "t", "k", "--wait", "1h")
    waits(c)
    daemon.stop()
    assert g.end(UNREACHABLE)[0] == b""
    daemon.start()


@contextlib.contextmanager
def terminal(columns=80):
    """(master, slave) of a pseudo-terminal."""
    try:
        master, slave = pty.openpty()
    except OSError as e:
        pytest.skip(f"no pseudo-terminal can be had here (is /dev/pts mounted?): {e}")
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield master, slave
    finally:
        os.close(master)


def child_on(slave):
    """The child is the foreground job of the terminal."""
    def set_up():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return set_up


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_cl57_whom_it_waits_for_on_a_terminal(daemon, c, holder, columns):
    """One line on stderr, drawn over itself, not wider than the terminal, gone in the end; stdout has the value alone."""
    lease = holder.lease()
    holder.call("lease_progress", lease_id=lease, permille=425, text="rendering page 3 of 7, " + "ä" * 60)
    with terminal(columns) as (master, slave):
        p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "get", "t", "k", "--wait", "1h"], stdin=slave,
                             stdout=subprocess.PIPE, stderr=slave, env=environment(TERM="xterm"),
                             preexec_fn=child_on(slave))
        os.close(slave)
        seen = b""

        def read():
            nonlocal seen
            with contextlib.suppress(OSError):
                if select.select([master], [], [], 0.1)[0]:
                    seen += os.read(master, 65536)
            return seen
        want = rb"waiting for report.py \(pid \d+, \ds\): 42.5%, rend" if columns > 40 else rb"waiting for report.py"
        wait_until(lambda: re.search(want, read()), "it is shown")
        holder.store(lease, b"the value")
        assert p.communicate(timeout=TIMEOUT)[0] == b"the value" and p.returncode == DONE
        wait_until(lambda: read().endswith(b"\r\x1b[K"), "the line is empty again")
        for line in seen.decode().replace("\x1b[K", "").split("\r"):
            assert len(line) < columns, line


# ---- monitor

LINE = re.compile(rb"\d\d:\d\d:\d\d\.\d\d\d  (\w+) +(.*)")


def lines_of(text):
    """[(kind, the rest with single blanks)]; each line has its time."""
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [(m[1].decode(), re.sub(" +", " ", m[2].decode())) for m in found]


def do_something(c, clock):
    """Something of each kind, and the lines for it, without the time."""
    c.set("cache", b"k", b"value")
    c.set("cache", b"\0\xff", b"x" * 2000)
    c.must("delete", cache="cache", key=b"k")
    c.must("set", b"v", cache="cache", key=b"t", tags=["red"])
    c.must("clear", cache="cache", tag="red")
    c.must("clear", cache="cache", prefix=b"us")
    c.must("clear", cache="cache", prefix=b"\0")
    c.must("clear", cache="cache")
    c.set_policy("cache", max_entries=1, stale_for_ms=1000)
    c.set("cache", b"one", b"v")
    c.set("cache", b"two", b"v", ttl_ms=60000)
    clock.advance(HOUR)
    assert c.get("cache", b"two") is None
    c.must("clear", all=True)
    return [
        ("stored", "cache k 5 bytes"), ("stored", "cache hex:00ff 1.9K"), ("deleted", "cache k"),
        ("stored", "cache t 1 bytes"), ("cleared", "cache tag red, 1 entry"), ("cleared", "cache prefix us, 0 entries"),
        ("cleared", "cache prefix hex:00, 1 entry"), ("cleared", "cache 0 entries"),
        ("policy", "cache 1 entry, stale for 1s, pinned"), ("stored", "cache one 1 bytes"),
        ("evicted", "cache one max entries"), ("stored", "cache two 1 bytes"), ("expired", "cache two"),
        ("cleared", "all caches 0 entries")]


def start_monitor(start, daemon, *args, **more):
    """One that has subscribed."""
    m = start("monitor", *args, **more)
    subscribed(daemon, m.p.pid)
    return m


def subscribed(daemon, pid):
    """It has both its connections, and its last request is answered."""
    def both():
        with daemon.probe() as c:
            mine = [x for x in c.must("list_clients").list_clients.clients if x.pid == pid]
            return len(mine) == 2 and sum(x.requests for x in mine) >= 3
    wait_until(both, "it has subscribed")


def test_cl60_every_kind_of_event(daemon, start, c, clock):
    m, j = start_monitor(start, daemon), start_monitor(start, daemon, "--json")
    expected = do_something(c, clock)
    got = lines_of(m.out(rb"all caches +\d+ entr.*\n"))
    assert sorted(got) == sorted(expected), got
    text = j.out(rb'"cache":null.*\n')
    objects = [json.loads(line) for line in text.splitlines()]
    now = time.time() * 1000
    # What was about to be sent when the clock went an hour on is an hour old.
    assert all(0 <= (now - o["time_ms"]) % 3600000 < 120000 for o in objects)
    by_kind = {}
    for o in objects:
        by_kind.setdefault(o["kind"], []).append({k: v for k, v in o.items() if k not in ("time_ms", "kind")})
    version = by_kind["stored"][0].pop("version")
    assert version > 0 and by_kind["stored"][0] == {"cache": "cache", "key": "k", "size": 5}
    assert by_kind["stored"][1]["key_hex"] == "00ff"
    assert by_kind["deleted"] == [{"cache": "cache", "key": "k"}] and by_kind["expired"] == [{"cache": "cache", "key": "two"}]
    assert by_kind["evicted"] == [{"cache": "cache", "key": "one", "cause": "evicted_max_entries"}]
    assert by_kind["cleared"] == [
        {"cache": "cache", "tag": "red", "prefix": None, "entries": 1},
        {"cache": "cache", "tag": None, "prefix": "us", "entries": 0},
        {"cache": "cache", "tag": None, "prefix_hex": "00", "entries": 1},
        {"cache": "cache", "tag": None, "prefix": None, "entries": 0},
        {"cache": None, "tag": None, "prefix": None, "entries": 0}]
    [policy] = by_kind["policy"]
    assert policy["pinned"] is True and policy["policy"]["max_entries"] == 1 and policy["policy"]["stale_for_ms"] == 1000
    assert set(policy["policy"]) == set(pb.Policy.DESCRIPTOR.fields_by_name)
    m.p.send_signal(signal.SIGINT)
    j.p.send_signal(signal.SIGTERM)
    assert m.end() == j.end() == (b"", "")


def test_cl61_some_kinds_of_one_cache(daemon, start, c, clock):
    m = start_monitor(start, daemon, "cache", "--kind", "deleted", "-k", "evicted", "--count", "2")
    c.set("other", b"k", b"v"), c.must("delete", cache="other", key=b"k")
    do_something(c, clock)
    out, err = m.end()
    assert lines_of(out) == [("deleted", "cache k"), ("evicted", "cache one max entries")] and not err


def test_cl62_its_reader_goes_away(daemon, start, c):
    """Seen at once, though nothing happens; and while much does."""
    r, w = os.pipe()
    m = start_monitor(start, daemon, stdout=w)
    os.close(w)
    os.close(r)
    assert m.end() == (None, "")
    r, w = os.pipe()
    m = start_monitor(start, daemon, "--json", stdout=w)
    os.close(w)
    os.set_blocking(r, True)
    for i in range(100):
        c.set("t", b"%d" % i, b"v")
    assert os.read(r, 10)
    os.close(r)
    assert m.end() == (None, "")


@pytest.mark.parametrize("redirect, word", [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")])
def test_cl63_a_stdout_that_takes_nothing(daemon, redirect, word):
    """Told at once, though nothing has happened."""
    p = subprocess.Popen(["sh", "-c", f'exec "$@" {redirect}', "sh", CACHECTL, "--socket", daemon.socket, "monitor"],
                         stderr=subprocess.PIPE, env=environment())
    err = p.communicate(timeout=TIMEOUT)[1].decode()
    assert p.returncode == USAGE and err == f"cachectl: monitor: cannot write to stdout: {word}\n"


def test_cl64_it_outlives_the_daemon(daemon, start):
    """Said once on stderr when it goes and when it comes; the gap is told in the output."""
    m = start_monitor(start, daemon, "--json")
    daemon.stop()
    assert m.err(rb"\n").startswith(b"cachectl: monitor: the daemon is away: ")
    daemon.process = daemon.spawn()
    wait_until(daemon.answers, "the daemon answers")
    assert m.err(rb"\n") == b"cachectl: monitor: the daemon is there again\n"
    m.text = b""
    daemon.client().set("t", b"k", b"v")
    lost, stored = map(json.loads, m.out(rb"\n.*\n").splitlines())
    assert lost.pop("time_ms") and lost == {"kind": "lost", "events": None}
    assert (stored["kind"], stored["key"]) == ("stored", "k")
    m.p.send_signal(signal.SIGTERM)
    assert m.end() == (b"", "")


def test_cl65_events_that_were_lost(make_daemon):
    """A monitor that does not read: so many were not kept, in their place; the sum is right."""
    daemon = make_daemon(limits={"events_queued": 100})
    m, j = Running(daemon, "monitor"), Running(daemon, "monitor", "--json")
    n = 30000
    try:
        for x in (m, j):
            subscribed(daemon, x.p.pid)
            x.p.send_signal(signal.SIGSTOP)
        c = daemon.client()
        for at in range(0, n, 1000):
            c.set_many("t", [(b"%d" % i, b"v", {}) for i in range(at, at + 1000)])
        c.set("t", b"the last", b"v")
        for x in (m, j):
            x.p.send_signal(signal.SIGCONT)
        j.out(rb'"lost"')
        m.out(rb"  lost +\d+ events were not kept for us: they were not read in time\n")
        c.set("t", b"the end", b"v")
        objects = [json.loads(line) for line in j.out(rb'"the end".*\n').splitlines()]
        lost = sum(o["events"] for o in objects if o["kind"] == "lost")
        assert lost > 0 and lost + sum(o["kind"] == "stored" for o in objects) == n + 2
    finally:
        for x in (m, j):
            x.p.kill()
            x.p.communicate()


def test_cl66_a_schedule_asks(make_daemon, needs_clock):
    """The way to drive `warm`: one line for each time."""
    daemon = make_daemon(extra="[schedule hourly]\ncache = t\nevery = 1h\n")
    m = Running(daemon, "monitor", "--kind", "refresh", "--count", "1", "--json")
    h = Running(daemon, "monitor", "--kind", "refresh", "--count", "1")
    for x in (m, h):
        subscribed(daemon, x.p.pid)
    daemon.clock.advance(HOUR)
    o = json.loads(m.end()[0])
    assert o.pop("time_ms") and o == {"kind": "refresh", "cache": "t", "schedule": "hourly"}
    assert lines_of(h.end()[0]) == [("refresh", "t schedule hourly")]


def test_cl67_names_cannot_steer_the_terminal(daemon, start, c):
    m = start_monitor(start, daemon)
    c.set("a\u202eb", b"\x1b[2J", b"v", tags=["t\u202e"])
    c.must("clear", cache="a\u202eb", tag="t\u202e")
    text = m.out(rb"cleared.*\n")
    assert lines_of(text) == [("stored", "a?b hex:1b5b324a 1 bytes"), ("cleared", "a?b tag t?, 1 entry")]


def test_cl68_the_column_grows(daemon, start, c):
    m = start_monitor(start, daemon)
    for cache in ("short", "a cache of twenty...", "ä" * 40, "short"):
        c.set(cache, b"k", b"v")
    lines = m.out(rb"(.*\n){4}").decode().splitlines()
    assert [line.index("k  1 bytes") for line in lines] == [33, 45, 65, 57]


# ---- warm

def warm(daemon, *args, **more):
    return run_plain("--socket", str(daemon.socket), "warm", *args, **more)


def test_cl70_the_command_is_told_the_caches(daemon):
    show = ["sh", "-c", 'echo "$CACHED_WARM"; cat']
    assert warm(daemon, "a", "--", *show, stdin=b"in").text == "a\nin"
    assert warm(daemon, "a", "b c", "--", *show, env=environment(CACHED_WARM="x")).text == "a:b c\n"
    assert warm(daemon, "-q", "--", "-a", "--", *show).text == "-a\n"
    assert warm(daemon, "a", "--", "echo", "--", "-q").text == "-- -q\n"


@pytest.mark.parametrize("script, status", [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM),
                                            ("kill -KILL $$", 128 + signal.SIGKILL)])
def test_cl71_it_ends_as_the_command(daemon, script, status):
    p = subprocess.run([CACHECTL, "--socket", daemon.socket, "warm", "c", "--", "sh", "-c", script], timeout=TIMEOUT,
                       env=environment(), capture_output=True)
    assert p.returncode == status and re.fullmatch(rb"cachectl: warm: c: 0 entries stored in \S+\n", p.stderr)


@pytest.mark.parametrize("name, status, word", [("no-such-command", 127, "there is no command 'no-such-command'"),
                                                ("/etc/passwd", 126, "cannot execute '/etc/passwd': Permission denied"),
                                                ("/", 126, "cannot execute '/': Is a directory")])
def test_cl72_there_is_no_such_command(daemon, name, status, word):
    r = warm(daemon, "c", "--", name)
    assert r.status == status and r.err == f"cachectl: warm: {word}\n"


def test_cl73_what_was_stored_is_counted(daemon, c):
    """In each of the caches, since the command began."""
    c.set("a", b"before", b"v")
    put = f"for i in 1 2 3; do echo $i | {CACHECTL} set a k$i; done; echo x | {CACHECTL} set b k"
    r = warm(daemon, "a", "b", "none", "--", "sh", "-c", put, env=environment(CACHED_SOCKET=str(daemon.socket)))
    assert r.status == 0
    assert re.fullmatch(r"cachectl: warm: a: 3 entries stored in (\S+)\n"
                        r"cachectl: warm: b: 1 entry stored in \1\n"
                        r"cachectl: warm: none: 0 entries stored in \1\n", r.err)
    assert warm(daemon, "--quiet", "a", "--", "true").err == ""


def test_cl74_without_a_daemon_it_runs_plainly(tmp_path):
    r = run_plain("--socket", str(tmp_path / "none"), "warm", "c", "--", "sh", "-c", "echo $CACHED_WARM; exit 5")
    assert (r.status, r.text) == (5, "c\n")
    assert r.err == f"cachectl: warm: without the cache: no daemon answers: there is no {tmp_path}/none\n"
    r = run_plain("--socket", str(tmp_path / "none"), "warm", "-q", "c", "--", "echo", "x")
    assert (r.status, r.text, r.err) == (0, "x\n", "")


def test_cl75_a_daemon_that_is_restarted_meanwhile(daemon, start, tmp_path):
    os.mkfifo(tmp_path / "go")
    w = start("warm", "c", "--", "sh", "-c", f"echo ready; read x < {tmp_path}/go; exit 3")
    w.out(b"ready\n")
    daemon.stop()
    daemon.start()
    (tmp_path / "go").write_text("\n")
    assert re.fullmatch(r"cachectl: warm: c: the daemon was restarted or is away: how many entries were stored in \S+ is "
                        r"not known\n", w.end(3)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_cl76_signals_are_handed_on(daemon, start, number):
    w = start("warm", "c", "--", "sh", "-c", f"trap 'echo got it; exit 9' {int(number)}; echo ready; "
                                             "while :; do sleep 0.05; done",
              preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    w.out(b"ready\n")
    w.p.send_signal(number)
    assert w.end(9)[0] == b"got it\n"


def test_cl77_ctrl_c_ends_both(daemon):
    """Warm dies of the signal itself, so that a shell script that runs it ends, too."""
    with terminal() as (master, slave):
        p = subprocess.Popen([CACHECTL, "--socket", daemon.socket, "warm", "-q", "c", "--", "sh", "-c",
                              "echo ready; exec sleep 1000"], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment(), preexec_fn=child_on(slave))
        os.close(slave)
        assert p.stdout.readline() == b"ready\n"
        os.write(master, b"\x03")
        assert p.communicate(timeout=TIMEOUT) == (b"", b"") and p.returncode == -signal.SIGINT


@pytest.mark.skipif(not ONCE.exists(), reason="this build has no program that memoizes")
def test_cl78_values_are_computed_anew(daemon, c):
    """By cached_memoize() in the command's process, and each once; others had the old value."""
    def script(value, runs):
        return (f"define k value:{value}\n" + "".join(f"run {tag} 0 k\n" for tag in runs)).encode()

    def once(command, *how):
        p = subprocess.Popen([*command, str(ONCE), str(daemon.socket), "0"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        out = b""
        p.stdin.write(how[0])
        p.stdin.flush()
        while out.count(b"\tdone\t") < how[1]:
            part = os.read(p.stdout.fileno(), 4096)
            assert part, (out, p.stderr.read())
            out += part
        _, err = p.communicate(timeout=TIMEOUT)
        assert p.returncode == 0, err
        return [line.split("\t") for line in out.decode().splitlines() if "\tdone\t" in line], err.decode()

    assert once([], script("old", ["a"]), 1)[0][0][-2] == "old"
    done, err = once([CACHECTL, "--socket", daemon.socket, "warm", "once", "--"], script("new", ["b"]), 1)
    assert done[0][-2] == "new" and re.fullmatch(r"cachectl: warm: once: 1 entry stored in \S+\n", err)
    assert once([], script("newest", ["c"]), 1)[0][0][-2] == "new"
    done, err = once([CACHECTL, "--socket", daemon.socket, "warm", "other", "--"], script("newest", ["d"]), 1)
    assert done[0][-2] == "new" and "other: 0 entries" in err
