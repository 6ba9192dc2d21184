# SPDX-License-Identifier: MIT
"""cachectl and leases: windows of a policy, tags, negative entries, waiting for who computes, and what is computed
now. Holders are clients made from the protocol alone.
"""

import contextlib
import json
import os
import re
import select
import subprocess

import pytest

import wire
from cachectl import (CACHECTL, DONE, NOT_FOUND, TIMEOUT, UNREACHABLE, USAGE, child_on, cli, environment, js,
                      needs_cachectl, run_plain, start, terminal)
from harness import wait_until
from lease_world import client
from wire import pb

pytestmark = needs_cachectl

HOUR = 3_600_000


@pytest.fixture
def holder(daemon):
    return client(daemon, name="report.py")


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
     "monitor: --kind 'gone': a kind is stored, deleted, cleared, expired, evicted, policy, refresh, created or left"),
    (["monitor", "--kind", "lost"],
     "monitor: --kind 'lost': a kind is stored, deleted, cleared, expired, evicted, policy, refresh, created or left"),
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
    assert js("clear", "t", "--tag", "blue") == {"cache": "t", "tag": "blue", "prefix": None, "entries": 0, "caches": 1,
                                                 "resources": 0}
    r = cli("clear", "none", "--tag", "t", status=NOT_FOUND)
    assert r.err == "cachectl: clear: not found: no such cache\n"


def test_cl21_prefixes(cli, js, c):
    for key in (b"user:1", b"user:2", b"users", b"\x00\x01", b"\x00\x02", b"text:x"):
        c.set("t", key, b"v")
    assert js("clear", "t", "--prefix", "user:") == {"cache": "t", "tag": None, "prefix": "user:", "entries": 2,
                                                     "caches": 1, "resources": 0}
    assert js("clear", "t", "--prefix", "hex:00") == {"cache": "t", "tag": None, "prefix_hex": "00", "entries": 2,
                                                      "caches": 1, "resources": 0}
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
