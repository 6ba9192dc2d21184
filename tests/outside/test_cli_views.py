# SPDX-License-Identifier: MIT
"""What cachectl shows: listings, counters and settings, as tables and as JSON, and where the output goes.

Every number is compared with what a client made from the protocol alone sees.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest

import harness
import wire
from cachectl import (CACHECTL, DONE, NOT_FOUND, REFUSED, TIMEOUT, USAGE, cli, environment, js, needs_cachectl,
                      run_plain)

pytestmark = needs_cachectl


def fill(c, cache, n):
    for at in range(0, n, 1000):
        c.set_many(cache, [(b"key-%06d" % i, b"x" * (i % 50), {}) for i in range(at, min(at + 1000, n))])


def check_columns(lines):
    """Each title has a column of its own, two blanks from the next in every line; no line ends in blanks."""
    width = max(map(len, lines))
    blank = "".join(" " if all(line.ljust(width)[i] == " " for line in lines) else "x" for i in range(width))
    assert len(re.findall("  +", blank.strip())) == len(lines[0].split()) - 1, "\n".join(lines)
    for line in lines:
        assert line == line.rstrip() and "\x1b" not in line, repr(line)


# ---- listings

def test_cli70_ls_pages_through_everything(cli, js, c):
    """More entries than any page holds: each once, in the table and in JSON."""
    n = 20000 if harness.LONG else 3500
    fill(c, "t", n)
    keys = {"key-%06d" % i for i in range(n)}
    o = js("ls", "t")
    assert o["cache"] == "t" and len(o["entries"]) == n and {e["key"] for e in o["entries"]} == keys
    assert list(o["entries"][0]) == ["key", "version", "size", "flags", "encoding", "raw_size", "cost_us", "ttl_ms",
                                     "fresh_ms", "stale", "negative", "vary", "messages_size", "uid", "tags", "charge",
                                     "large"]
    lines = cli("ls", "t").lines
    assert lines[0].split() == ["SIZE", "TTL", "COST", "VERSION", "KEY"]
    assert len(lines) == n + 1 and {line.split()[4] for line in lines[1:]} == keys
    assert c.stats("t").hits == 0


@pytest.mark.parametrize("limit", [1, 5, 999, 1000, 1001, 2500, 99999])
def test_cli71_ls_limit(cli, js, c, limit):
    fill(c, "t", 2500)
    assert len(cli("ls", "t", "--limit", str(limit)).lines) == 1 + min(limit, 2500)
    assert len(js("ls", "t", "--limit", str(limit))["entries"]) == min(limit, 2500)


def test_cli72_ls_of_an_empty_cache(cli, js, c):
    c.open("t")
    assert cli("ls", "t").lines == ["   SIZE      TTL     COST     VERSION  KEY"]
    assert js("ls", "t") == {"cache": "t", "entries": []}


def test_cli73_ls_columns(cli, js, c):
    """Each column ends or begins where its title does, also with the widest of usual values."""
    c.set("t", b"a", b"x" * 1300, ttl_ms=192000, cost_us=1500)
    c.set("t", b"b", b"x" * 5000000)
    c.set("t", b"hex:", b"", ttl_ms=3650 * 86400 * 1000)
    c.set("t", b"\0\xff", b"x")
    lines = cli("ls", "t").lines
    for line in lines:
        assert line[7:9] == line[16:18] == line[25:27] == line[37:39] == "  ", line
        assert line == line.rstrip()
    rows = {line.split()[4]: line.split() for line in lines[1:]}
    assert rows["a"][:3] == ["1.2K", "3m11s", "1.5ms"]
    assert rows["b"][:3] == ["4.7M", "never", "-"]
    assert set(rows) == {"a", "b", "text:hex:", "hex:00ff"}
    assert {e.get("key"): e["large"] for e in js("ls", "t")["entries"]}["b"] is True


def test_cli74_caches(cli, js, c):
    assert js("caches") == {"caches": []}
    assert [line.split()[:2] for line in cli("caches").lines] == [["CACHE", "ENTRIES"]]
    c.open("t", ttl_ms=600000, max_entries=1000, max_bytes=64 << 20)
    c.set("t", b"k", b"v", cost_us=2000000)
    c.get("t", b"k"), c.get("t", b"k"), c.get("t", b"none")
    c.set("other cache ä", b"k", b"v")
    by_name = {o["name"]: o for o in js("caches")["caches"]}
    assert set(by_name) == {"t", "other cache ä"}
    o = by_name["t"]
    assert (o["hits"], o["misses"], o["stores"], o["entries"]) == (2, 1, 1, 1)
    assert o["policy"] == {"ttl_ms": 600000, "max_entries": 1000, "max_bytes": 64 << 20, "stale_for_ms": 0, "stale_if_error_ms": 0,
                           "refresh_ahead_permille": 0, "expire_jitter_permille": 0}
    assert o["time_saved_us"] == 4000000
    lines = cli("caches").lines
    assert lines[0].split() == ["CACHE", "ENTRIES", "BYTES", "HITS", "MISSES", "RATIO", "SAVED", "EVICTED", "EXPIRED",
                                "POLICY"]
    [t] = [line for line in lines if line.startswith("t ")]
    assert t.split(None, 9) == ["t", "1", t.split()[2], "2", "1", "66.7%", "4s", "0", "0",
                                  "ttl 10m, 1000 entries, 64M bytes"]
    check_columns(lines)


def test_cli75_many_caches(cli, js, c):
    for i in range(1500):
        c.open(f"cache-{i}")
    assert len(js("caches")["caches"]) == 1500
    assert len(cli("caches").lines) == 1501


def test_cli76_stats(cli, js, c):
    c.set("t", b"k", b"v")
    c.get("t", b"k"), c.get("t", b"none")
    o = js("stats", "t")
    assert list(o) == ["cache", "computations"] and o["cache"] == [x for x in js("caches")["caches"] if x["name"] == "t"][0]
    o = js("stats")
    assert list(o) == ["total", "realm", "daemon", "computations"]
    assert o["total"]["hits"] == 1 and o["realm"]["caches"] == 1 and o["realm"]["name"] == f"uid:{os.geteuid()}"
    assert o["daemon"]["pid"] > 0 and o["daemon"]["resident_bytes"] > 0
    # What the contract has, JSON has: under the same names.
    for message, part, extra in ((wire.pb.RealmStats, "realm", set()), (wire.pb.DaemonStats, "daemon", set()),
                                 (wire.pb.CacheStats, "total", {"name", "policy", "pinned"})):
        assert set(o[part]) == set(message.DESCRIPTOR.fields_by_name) - extra
    for latency in o["daemon"]["latencies"]:
        assert set(latency) == set(wire.pb.Latency.DESCRIPTOR.fields_by_name)
        assert len(latency["bucket_ns"]) == len(latency["bucket_count"])
        assert sum(latency["bucket_count"]) == latency["count"]
    assert {x["request"] for x in o["daemon"]["latencies"] if x["count"]} >= {"get", "set"}
    t = cli("stats").text
    for title in ("ALL CACHES", "REALM", "DAEMON", "REQUEST"):
        assert re.search(rf"^{title}\b", t, re.M)
    assert re.search(r"^hit ratio +50\.0%$", t, re.M)
    t = cli("stats", "t").text
    assert t.startswith("CACHE t\n") and re.search(r"^hits +1$", t, re.M) and re.search(r"^ttl +never expires$", t, re.M)


OF_GET = {"view_id", "unchanged", "unstored"}  # about that reply, not about the entry


def test_cli77_json_has_every_field_of_the_contract(cli, js, c):
    """A field that is added to the protocol has to be added to cachectl."""
    c.set("t", b"k", b"v")
    [cache] = js("caches")["caches"]
    assert set(cache) == set(wire.pb.CacheStats.DESCRIPTOR.fields_by_name)
    assert set(cache["policy"]) == set(wire.pb.Policy.DESCRIPTOR.fields_by_name)
    [entry] = js("ls", "t")["entries"]
    assert set(entry) == (set(wire.pb.ListedEntry.DESCRIPTOR.fields_by_name) - {"entry"}
                          | set(wire.pb.EntryInfo.DESCRIPTOR.fields_by_name) - OF_GET)
    assert set(js("clients")["clients"][0]) == set(wire.pb.ClientInfo.DESCRIPTOR.fields_by_name)
    assert set(js("config")["settings"][0]) == set(wire.pb.ConfigSetting.DESCRIPTOR.fields_by_name)
    assert set(js("config")) == set(wire.pb.ConfigResult.DESCRIPTOR.fields_by_name)
    assert set(js("ping")) - {"socket", "round_trip_us"} == set(wire.pb.PingResult.DESCRIPTOR.fields_by_name)
    explained = js("explain", "t", "k")
    assert set(explained) - {"cache", "key"} == set(wire.pb.ExplainResult.DESCRIPTOR.fields_by_name)
    assert set(explained["entry"]) == set(wire.pb.EntryInfo.DESCRIPTOR.fields_by_name) - OF_GET


def test_cli78_clients(daemon, cli, js, c):
    d = daemon.client(name="a worker")
    by_name = {o["name"]: o for o in js("clients")["clients"]}
    assert set(by_name) == {"outside", "a worker", "cachectl"}
    o = by_name["a worker"]
    assert o["pid"] == os.getpid() and o["uid"] == os.geteuid() and o["role"] == "admin" and o["requests"] == 1
    lines = cli("clients").lines
    assert lines[0].split() == ["ID", "PID", "UID", "NAME", "REALM", "ROLE", "AGE", "IDLE", "REQUESTS", "IN", "OUT",
                                "QUEUED"]
    assert len(lines) == 4
    check_columns(lines)
    d.close()


def test_cli79_config(make_daemon):
    d = make_daemon(limits={"value_bytes": "100K"})

    def run(*args):
        return run_plain("--socket", str(d.socket), *args)

    o = run("--json", "config").json
    by_name = {s["name"]: s for s in o["settings"]}
    [name] = [n for n in by_name if n.endswith("value_bytes")]
    assert by_name[name]["source"].startswith(f"{d.config_path}:") and not by_name[name]["is_default"]
    assert any(s["is_default"] for s in o["settings"])
    assert o["files"] == [str(d.config_path)]
    assert run("--json", "config", "get").json == o
    assert run("config", "get", name).text == by_name[name]["value"] + "\n"
    assert run("--json", "config", "get", name).json == by_name[name]
    r = run("config", "get", "memory.realm_bugdet")
    assert r.status == NOT_FOUND and "did you mean 'memory.realm_budget'?" in r.err
    assert "did you mean 'memory.realm_budget'?" in run("config", "get", "realm_budgte").err
    r = run("config", "get", "nosuch")
    assert r.status == NOT_FOUND and "there is no setting 'nosuch'" in r.err and not r.out
    lines = run("config").lines
    assert lines[0].split() == ["SETTING", "VALUE", "SOURCE"] and len(lines) == 1 + len(by_name)
    assert [line for line in lines if line.startswith(name + " ")][0].endswith(by_name[name]["source"])


def test_cli80_config_reload(daemon, cli, js):
    assert cli("config", "reload").text == f"configuration read from {daemon.config_path}\n"
    daemon.config_path.write_text("[limits]\nvalue_bytes = 64K\n")
    o = js("config", "reload")
    assert [s for s in o["settings"] if s["name"].endswith("value_bytes")][0]["is_default"] is False
    daemon.config_path.write_text("[limits]\nnonsense = 1\n")
    r = cli("config", "reload", status=REFUSED)
    assert f"{daemon.config_path}:2" in r.err
    assert [s for s in js("config")["settings"] if s["name"].endswith("value_bytes")][0]["is_default"] is False


def test_cli81_config_notes_what_a_reload_could_not_change(make_daemon):
    """After the settings, after a reload, and on stderr where the value alone is printed."""
    d = make_daemon(limits={"caches_per_realm": 5})
    s = ["--socket", str(d.socket)]
    assert "keeps that" not in run_plain(*s, "config").text
    d.config_path.write_text("[limits]\ncaches_per_realm = 50\n")
    for args in (["config", "reload"], ["config"]):
        assert re.search("^limits.caches_per_realm: .* was 5 and keeps that", run_plain(*s, *args).text, re.M)
    r = run_plain(*s, "config", "get", "limits.caches_per_realm")
    assert r.text == "50\n" and "keeps that" in r.err


# ---- where the output goes

def test_cli90_a_closed_pipe_ends_it_quietly(daemon, c):
    """`cachectl ls c | head -1`: no complaint, no failure, and it does not go on."""
    fill(c, "t", 5000)
    c.set("t", b"big", b"x" * (1 << 20))
    for args in (["ls", "t"], ["ls", "t", "--json"], ["get", "t", "big"], ["get", "t", "big", "--json"], ["stats"]):
        r, w = os.pipe()
        os.close(r)
        p = subprocess.run([CACHECTL, "--socket", str(daemon.socket), *args], stdout=w, stderr=subprocess.PIPE,
                           timeout=TIMEOUT, env=environment())
        os.close(w)
        assert (p.returncode, p.stderr) == (DONE, b""), args


def test_cli91_a_full_disk_is_told(daemon, c):
    c.set("t", b"k", b"v")
    for args in (["get", "t", "k"], ["ls", "t"], ["stats"], ["caches", "--json"]):
        with open("/dev/full", "wb") as full:
            p = subprocess.run([CACHECTL, "--socket", str(daemon.socket), *args], stdout=full, stderr=subprocess.PIPE,
                               timeout=TIMEOUT, env=environment())
        assert p.returncode == USAGE and b"cannot write to stdout: No space left" in p.stderr, args


def on_terminal(columns, *args, env=None):
    """The output on a terminal of that width, as text."""
    try:
        master, slave = pty.openpty()
    except OSError as e:
        pytest.skip(f"no pseudo-terminal can be had here (is /dev/pts mounted?): {e}")
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    p = subprocess.Popen([CACHECTL, *args], stdin=slave, stdout=slave, stderr=subprocess.PIPE,
                         env=env or environment(TERM="xterm-256color"))
    os.close(slave)
    out = b""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        out += chunk
    os.close(master)
    err = p.communicate(timeout=TIMEOUT)[1]
    assert p.returncode == DONE, err
    assert not harness.SANITIZER.search(err.decode()), err
    return out.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 132])
def test_cli92_tables_on_a_terminal(daemon, c, columns):
    """On a terminal of usual width no table is wider than it, and nothing hides in it."""
    c.open("a_function_with_quite_a_long_name_in_a_module_with_a_long_name", ttl_ms=600000, max_entries=1000,
           max_bytes=64 << 20)
    c.set("t", b"k", b"v")
    daemon.client(name="a client with a name that is as long as names may be: 64 bytes..")
    s = ["--socket", str(daemon.socket)]
    for args in (["caches"], ["clients"], ["config"], ["stats"], ["ls", "t"], ["policy", "t"], ["version"]):
        text = on_terminal(columns, *s, *args)
        assert text.endswith("\n") and "\x1b" not in text
        if args == ["caches"]:
            assert ("POLICY" in text) == (columns >= 110)
            assert "a_function_with_quite" in text
            assert "…" in text, "a name that is cut says so"
        for line in text.splitlines():
            assert len(line) <= columns and line == line.rstrip(), (args, line)


def test_cli92_a_policy_of_one_entry(cli, c):
    c.open("one", ttl_ms=60000, max_entries=1)
    c.open("two", max_entries=2)
    lines = cli("caches").lines
    assert [line.split(None, 9)[9] for line in lines[1:]] == ["ttl 1m, 1 entry", "2 entries"]


def test_cli92_a_name_that_lacks_one_column_says_so(daemon):
    """Also one that is short: what is cut without a mark looks like another name."""
    daemon.client(name="abcdefgh")
    s = ["--socket", str(daemon.socket)]
    full = max(len(line) for line in on_terminal(200, *s, "clients").splitlines())
    # A column or two: how wide the times are changes from run to run.
    texts = [on_terminal(full - 1, *s, "clients") for _ in range(3)]
    assert all(re.search(r" (abcdefgh|abc[d-g]*…) ", text) for text in texts), texts


def test_cli93_a_name_cannot_steer_the_terminal(daemon, cli):
    """What another client calls itself: refused by the daemon, or shown without its control characters."""
    c = daemon.connect()
    try:
        c.hello(name="evil\x1b[2J\x07\u009b0m")
    except wire.Refused as e:
        assert e.status in (wire.pb.INVALID, wire.pb.PROTOCOL)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", cli("clients").text)


def test_cli94_other_locales(daemon, c):
    """In the C locale a name that is not ASCII is escaped, and the columns still stand."""
    c.open("häuser")
    r = run_plain("--socket", str(daemon.socket), "caches", env=environment(LC_ALL="C"))
    assert r.status == DONE
    assert "h\\xc3\\xa4user" in r.text
    r = run_plain("--socket", str(daemon.socket), "caches")
    assert "häuser" in r.text
