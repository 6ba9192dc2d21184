# SPDX-License-Identifier: MIT
"""cachectl: every verb, its exit statuses, and what it does with misuse.

The statuses are a promise to scripts: 0 done, 1 not found, 2 wrong usage, 3 not reachable, 4 refused.
What a verb stored or changed is checked through a client of its own, never through cachectl alone.
"""

import base64
import os
import re
import stat
import struct
import subprocess
import time

import pytest

import harness
import wire
from cachectl import (CACHECTL, DONE, NOT_FOUND, REFUSED, TIMEOUT, UNREACHABLE, USAGE, cli, environment, js,
                      needs_cachectl, run_plain)

pytestmark = needs_cachectl

NO_WINDOWS = {"stale_for_ms": 0, "stale_if_error_ms": 0, "refresh_ahead_permille": 0, "expire_jitter_permille": 0}
VERBS = ["ping", "version", "stats", "caches", "ls", "get", "set", "touch", "del", "clear", "policy", "explain",
         "clients", "monitor", "config"]


# ---- help and usage

def test_cli01_help_names_every_verb():
    """`--help` exits 0, on stdout, and lists the verbs, the global options and the statuses."""
    r = run_plain("--help")
    assert r.status == DONE and not r.err
    for verb in VERBS:
        assert re.search(rf"^  {verb}  +\w", r.text, re.M), verb
    for word in ("--socket", "--json", "--realm", "--service-uid", "Exit status:", "Example:"):
        assert word in r.text
    assert run_plain("-h").text == run_plain("help").text == run_plain("help", "--help").text == r.text
    assert max(map(len, r.lines)) <= 79
    assert set(VERBS) <= set(listed_verbs()), "VERBS above is what is tested"


def listed_verbs():
    """The verbs that the overview has."""
    section = run_plain("--help").text.split("\nVerbs:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (\w+)  ", section, re.M)


@pytest.mark.parametrize("verb", VERBS)
def test_cli02_each_verb_has_help(verb):
    """Usage, options, JSON fields, exit statuses and an example; no daemon is needed, nor any argument."""
    r = run_plain(verb, "--help")
    assert r.status == DONE and not r.err
    assert re.match(rf"Usage: cachectl \[OPTION\]… {verb}\b", r.text)
    for word in ("--socket", "With --json: ", "Exit status:\n  0  done", "  2  ", "  3  ", "  4  ", "Example:\n  "):
        assert word in r.text
    assert run_plain("help", verb).text == r.text
    assert not re.search(r"[ \t]$", r.text, re.M)
    assert run_plain("--help", verb).text == r.text
    assert run_plain(verb, "x", "y", "z", "--help").text == r.text


def test_cli08_every_verbs_help_fits_and_its_usage_is_complete():
    """No line has more than 79 columns; each option of the verb stands in its usage line, too."""
    for verb in listed_verbs():
        r = run_plain(verb, "--help")
        for line in r.lines:
            # An example may be as long as its command.
            assert len(line) <= 79 or line in r.text.split("Example:\n")[1], f"{verb}: {line}"
        usage = " ".join(r.text.split("\n\n")[0].split())
        if "\nOptions:\n" not in r.text:
            continue
        options = r.text.split("\nOptions:\n")[1].split("\n\n")[0]
        for name in re.findall(r"^  (?:-\w, )?(--[\w-]+)", options, re.M):
            assert re.search(rf"{name}\b(?!-)", usage), f"{verb}: {name} is missing in: {usage}"


def test_cli09_help_and_version():
    """Before a verb; after it --version belongs to the verb."""
    assert run_plain("help", "nosuch").status == USAGE
    assert "one argument too many" in run_plain("help", "get", "x").err
    for flag in ("--version", "-V"):
        r = run_plain(flag)
        assert r.status == DONE and re.fullmatch(r"cachectl \d+\.\d+\.\d+\n", r.text)
    assert "there is no option --version" in run_plain("get", "c", "k", "--version").err
    assert "option --version needs a value" in run_plain("set", "c", "k", "--version").err


@pytest.mark.parametrize("typed, meant", [("gett", "get"), ("sett", "set"), ("stat", "stats"), ("plociy", "policy"),
                                          ("cleer", "clear"), ("cache", "caches"), ("explian", "explain")])
def test_cli03_unknown_verb_suggests_the_nearest(typed, meant):
    """A mistyped verb is wrong usage, and the verb that was meant is named."""
    r = run_plain(typed)
    assert r.status == USAGE and not r.out
    assert f"there is no verb '{typed}'; did you mean '{meant}'?" in r.err


def test_cli04_no_suggestion_without_resemblance():
    r = run_plain("xyzzyqux")
    assert r.status == USAGE and "did you mean" not in r.err
    for typed in ("dump", "cler1", "add", "lear2", "dex"):
        # Nobody shall be led to what removes things.
        r = run_plain(typed)
        removes = [verb for verb in ("del", "clear") if f"'{verb}'" in r.err]
        assert r.status == USAGE and (not removes or typed == "dex"), r.err
    assert run_plain("").status == USAGE
    assert "a verb is missing" in run_plain().err


MISUSE = [
    # words
    (["ping", "x"], "'x' is one argument too many"),
    (["version", "x"], "'x' is one argument too many"),
    (["stats", "a", "b"], "'b' is one argument too many"),
    (["caches", "x"], "'x' is one argument too many"),
    (["ls"], "CACHE is missing"),
    (["ls", "a", "b"], "'b' is one argument too many"),
    (["get"], "CACHE is missing"),
    (["get", "c"], "KEY is missing"),
    (["get", "c", "k", "x"], "'x' is one argument too many"),
    (["set"], "CACHE is missing"),
    (["set", "c"], "KEY is missing"),
    (["set", "c", "k", "f", "x"], "'x' is one argument too many"),
    (["touch", "c"], "KEY is missing"),
    (["touch", "c", "k", "x"], "'x' is one argument too many"),
    (["del", "c"], "KEY is missing"),
    (["del", "c", "k", "x"], "'x' is one argument too many"),
    (["clear"], "CACHE is missing"),
    (["clear", "c", "--all"], "CACHE and --all exclude each other"),
    (["clear", "c", "d"], "'d' is one argument too many"),
    (["policy"], "CACHE is missing"),
    (["policy", "c", "d"], "'d' is one argument too many"),
    (["explain", "c"], "KEY is missing"),
    (["explain", "c", "k", "x"], "'x' is one argument too many"),
    (["clients", "x"], "'x' is one argument too many"),
    (["config", "change"], "'change' is neither get nor reload"),
    (["config", "set"], "settings stand in the daemon's configuration file"),
    (["config", "set", "a", "b"], "`cachectl config reload` reads it again"),
    (["config", "reload", "x"], "'x' is one argument too many"),
    (["config", "get", "a", "b"], "'b' is one argument too many"),
    # names and keys
    (["get", "", "k"], "CACHE is empty"),
    (["get", "c" * 129, "k"], "CACHE is longer than 128 bytes"),
    (["get", "a\nb", "k"], "CACHE is not UTF-8 text, or has control characters in it"),
    (["get", b"\xff", "k"], "CACHE is not UTF-8 text, or has control characters in it"),
    (["stats", ""], "CACHE is empty"),
    (["get", "c", ""], "a key has 1 to 64 bytes"),
    (["get", "c", "text:"], "a key has 1 to 64 bytes"),
    (["get", "c", "hex:"], "a key has 1 to 64 bytes"),
    (["get", "c", "k" * 65], "it is longer than 64 bytes"),
    (["get", "c", "ä" * 33], "it is longer than 64 bytes"),
    (["set", "c", "hex:" + "00" * 65], "it is longer than 64 bytes"),
    (["del", "c", "hex:0"], "an odd number of hexadecimal digits"),
    (["touch", "c", "hex:0g"], "something other than hexadecimal digits"),
    (["explain", "c", "hex: 00"], "something other than hexadecimal digits"),
    # options
    (["get", "c", "k", "--bogus"], "there is no option --bogus"),
    (["get", "c", "k", "-x"], "there is no option -x"),
    (["get", "c", "k", "-o"], "option -o needs a value"),
    (["get", "c", "k", "--output"], "option --output needs a value"),
    (["get", "c", "k", "-o", ""], "--output '': it is empty"),
    (["get", "c", "k", "--ttl", "5s"], "there is no option --ttl"),
    (["get", "c", "k", "--peek=1"], "option --peek takes no value"),
    (["--service-uid", "alice", "ping"], "--service-uid 'alice': it does not start with a digit"),
    (["--service-uid", "4294967295", "ping"], "a uid is at most 4294967294"),
    (["--socket"], "option --socket needs a value"),
    (["--socket", "", "ping"], "--socket '': it is empty"),
    (["--timeout", "0s", "ping"], "it is 1ms to 24h"),
    (["--timeout", "soon", "ping"], "it does not start with a digit"),
    (["ls", "c", "--limit", "0"], "it is at least 1"),
    (["ls", "c", "--limit", "1.5"], "it is not a whole number"),
    (["set", "c", "k", "--ttl", "5x"], "--ttl '5x': its unit is unknown"),
    (["set", "c", "k", "--ttl", "5"], "--ttl '5': its unit is missing"),
    (["set", "c", "k", "--ttl", "-5s"], "--ttl '-5s': it may not be negative"),
    (["set", "c", "k", "--ttl", ""], "--ttl '': it is empty"),
    (["set", "c", "k", "--ttl", "0s"], "a ttl is 1ms to 3650d"),
    (["set", "c", "k", "--ttl", "0.5ms"], "it is finer than a millisecond"),
    (["set", "c", "k", "--ttl", "3651d"], "a ttl is 1ms to 3650d"),
    (["set", "c", "k", "--ttl", "99999999999999999999d"], "it is too large"),
    (["set", "c", "k", "--ttl", "5s", "--never"], "--ttl and --never exclude each other"),
    (["set", "c", "k", "--add", "--replace"], "--add and --replace exclude each other"),
    (["set", "c", "k", "--add", "--version", "1"], "--add and --version exclude each other"),
    (["set", "c", "k", "--version", "x"], "--version 'x': it does not start with a digit"),
    (["set", "c", "k", "--version", "0"], "versions begin with 1; --add stores only where nothing is"),
    (["set", "c", "k", "--flags", "4294967296"], "--flags '4294967296': it is larger than 4294967295"),
    (["set", "c", "k", "--flags", "0x100000000"], "--flags '0x100000000': it is larger than 0xffffffff"),
    (["set", "c", "k", "--flags", "0x1g"], "--flags '0x1g': 'g' is no hexadecimal digit"),
    (["set", "c", "k", "--flags", "-1"], "it may not be negative"),
    (["set", "c", "k", "--cost", "fast"], "--cost 'fast': it does not start with a digit"),
    (["touch", "c", "k", "--ttl", "1w"], "--ttl '1w': its unit is unknown"),
    (["touch", "c", "k", "--ttl", "1s", "--never"], "--ttl and --never exclude each other"),
    (["policy", "c", "--ttl", "0ms"], "a ttl is 1ms to 3650d"),
    (["policy", "c", "--max-entries", "0"], "--max-entries '0': it is at least 1"),
    (["policy", "c", "--max-entries", "1K"], "--max-entries '1K': its unit is unknown"),
    (["policy", "c", "--max-bytes", "0"], "--max-bytes '0': it is at least 1"),
    (["policy", "c", "--max-bytes", "64Q"], "--max-bytes '64Q': its unit is unknown"),
    (["policy", "c", "--max-bytes", "16777216T"], "it is too large"),
    (["policy", "c", "--ttl", "1s", "--no-ttl"], "--ttl and --no-ttl exclude each other"),
    (["policy", "c", "--max-bytes", "1", "--no-max-bytes"], "--max-bytes and --no-max-bytes exclude each other"),
    (["policy", "c", "--unpin", "--ttl", "1s"], "--unpin goes back to what clients ask for"),
]


@pytest.mark.parametrize("args, why", MISUSE, ids=lambda v: None if isinstance(v, str) else repr(v)[:60])
def test_cli05_misuse_is_told_exactly(args, why):
    """Status 2, the reason on stderr, nothing on stdout; and all of it without a daemon."""
    r = run_plain(*args, env=environment(CACHED_SOCKET="/nonexistent/socket"))
    assert r.status == USAGE, r.err
    assert why in r.err
    assert not r.out
    verb = next((a for a in args if a in VERBS), None)
    if verb and not args[0].startswith("--socket"):
        assert r.err.startswith(f"cachectl: {verb}: ") and f"See `cachectl {verb} --help`" in r.err


def test_cli06_global_options_stand_anywhere(daemon, c):
    """Before the verb, after it and between its words; `--` ends them."""
    c.set("t", b"k", b"v")
    c.set("t", b"--json", b"dashes")
    s = str(daemon.socket)
    for args in (["--socket", s, "--json", "get", "t", "k"], ["get", "--json", "t", "--socket", s, "k"],
                 ["get", "t", "k", f"--socket={s}", "--json"], ["--json", "get", "t", "k", "--socket", s]):
        assert run_plain(*args).json["value"] == "v"
    assert run_plain("get", "--socket", s, "t", "--", "--json").out == b"dashes"
    # The later one counts.
    assert run_plain("--socket", "/nonexistent/s", "ping", "--socket", s).status == DONE


def test_cli07_the_socket_comes_from_the_environment(daemon):
    assert run_plain("ping", env=environment(CACHED_SOCKET=str(daemon.socket))).status == DONE
    r = run_plain("ping", "--socket", "/nonexistent/s", env=environment(CACHED_SOCKET=str(daemon.socket)))
    assert r.status == UNREACHABLE


# ---- not reachable

REACHING = [["ping"], ["version"], ["stats"], ["stats", "c"], ["caches"], ["ls", "c"], ["get", "c", "k"],
            ["set", "c", "k"], ["touch", "c", "k"], ["del", "c", "k"], ["clear", "c"], ["clear", "--all"],
            ["policy", "c"], ["policy", "c", "--ttl", "1s"], ["explain", "c", "k"], ["clients"], ["config"],
            ["config", "reload"]]


@pytest.mark.parametrize("args", REACHING, ids=" ".join)
def test_cli10_without_a_daemon_the_status_is_3(args, tmp_path):
    """It says which socket was tried and how to start a daemon."""
    r = run_plain("--socket", str(tmp_path / "s"), *args)
    assert r.status == UNREACHABLE
    assert r.err.startswith(f"cachectl: {args[0]}: ") and str(tmp_path / "s") in r.err
    assert "Start one with `cached`" in r.err
    if args != ["version"]:
        assert not r.out


def test_cli11_every_tried_socket_is_named(tmp_path):
    """Without --socket and $CACHED_SOCKET: the system's and the user's."""
    (tmp_path / "run").mkdir()
    r = run_plain("ping", env=environment(XDG_RUNTIME_DIR=str(tmp_path / "run")))
    if r.status == DONE:
        pytest.skip("a daemon runs on the default socket of this machine")
    assert r.status == UNREACHABLE
    assert "/run/cached/cached.sock" in r.err and f"{tmp_path}/run/cached/cached.sock" in r.err


def test_cli12_a_daemon_that_is_gone_left_a_dead_socket(make_daemon):
    d = make_daemon()
    d.process.kill()
    d.process.wait()
    d.process = None
    assert d.socket.exists()
    r = run_plain("--socket", str(d.socket), "ping")
    assert r.status == UNREACHABLE and "Start one with `cached`" in r.err


def test_cli13_a_daemon_that_does_not_answer_is_given_up(daemon):
    """A stopped daemon costs --timeout and no more."""
    with daemon.stopped():
        before = time.monotonic()
        r = run_plain("--socket", str(daemon.socket), "--timeout", "300ms", "ping")
        assert time.monotonic() - before < harness.PATIENCE
    assert r.status == UNREACHABLE


def test_cli14_something_else_on_the_path(tmp_path):
    """A file, a directory, a path that no socket can have: 2 or 3, with the path."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path):
        r = run_plain("--socket", str(path), "ping")
        assert r.status == UNREACHABLE and str(path) in r.err
    r = run_plain("--socket", "/" + "x" * 200, "ping")
    assert r.status in (USAGE, UNREACHABLE) and "long" in r.err


def test_cli15_version_without_a_daemon_still_tells_its_own(tmp_path):
    r = run_plain("--socket", str(tmp_path / "s"), "--json", "version")
    assert r.status == UNREACHABLE
    assert r.json["daemon"] is None and r.json["cachectl"]


# ---- ping, version

def test_cli20_ping(daemon, cli, js):
    assert re.fullmatch(rf"the daemon on {daemon.socket} answers in \S+, up for \S+\n", cli("ping").text)
    o = js("ping")
    assert list(o) == ["socket", "round_trip_us", "uptime_ms", "instance"]
    assert o["socket"] == str(daemon.socket) and o["instance"].isdigit() and o["uptime_ms"] >= 0


def test_cli21_version(daemon, cli, js):
    o = js("version")
    assert o["daemon"]["daemon_pid"] == daemon.pid
    assert o["daemon"]["role"] == "admin" and o["daemon"]["realm"] == f"uid:{os.geteuid()}"
    assert o["daemon"]["max_value_bytes"] == 1 << 30
    t = cli("version").text
    assert f"cachectl       {o['cachectl']}\n" in t and f"daemon's pid   {daemon.pid}\n" in t


# ---- values

@pytest.mark.parametrize("value", [b"", b"\0", b"x", b"no newline", b"\n", bytes(range(256)) * 300,
                                   b"\xff\xfe\x00\r\n" * 1000], ids=lambda v: f"{len(v)}-{v[:4].hex()}")
def test_cli30_values_are_kept_byte_for_byte(cli, c, value, tmp_path):
    """By stdin, by `-` and from a file; to stdout and into a file."""
    cli("set", "t", "k", stdin=value)
    assert c.get("t", b"k") == value
    assert cli("get", "t", "k").out == value
    cli("set", "t", "dash", "-", stdin=value)
    assert c.get("t", b"dash") == value
    (tmp_path / "in").write_bytes(value)
    r = cli("set", "t", "file", str(tmp_path / "in"))
    assert not r.out and not r.err
    assert c.get("t", b"file") == value
    r = cli("get", "t", "file", "-o", str(tmp_path / "out"))
    assert not r.out and not r.err
    assert (tmp_path / "out").read_bytes() == value
    assert cli("get", "t", "file", "-o", "-").out == value


def test_cli31_64_mib(cli, c, tmp_path):
    """From a file, through a pipe, to stdout and into a file."""
    block = bytes(os.urandom(1 << 20))
    value = b"".join(bytes([i]) + block[1:] for i in range(64))
    (tmp_path / "in").write_bytes(value)
    cli("set", "t", "file", str(tmp_path / "in"))
    assert cli("get", "t", "file").out == value
    cli("del", "t", "file")
    cli("set", "t", "pipe", stdin=value)
    cli("get", "t", "pipe", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == value
    e, body = c.lookup("t", b"pipe")
    assert e.size == 64 << 20 and body == value


def test_cli32_a_slow_writer_is_waited_for(daemon, c):
    """set reads to the end of its input, in whatever pieces it comes."""
    p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "set", "t", "k"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    for piece in (b"a", b"b" * 70000, b"c"):
        p.stdin.write(piece)
        p.stdin.flush()
        assert p.poll() is None and c.get("t", b"k") is None
    _, err = p.communicate(timeout=TIMEOUT)
    assert p.returncode == DONE, err
    assert c.get("t", b"k") == b"a" + b"b" * 70000 + b"c"


@pytest.mark.parametrize("arg, key", [("text", b"text"), ("text:text:x", b"text:x"), ("text:hex:00", b"hex:00"),
                                      ("hex:00", b"\0"), ("hex:00ff0A", b"\0\xff\n"), ("ä", "ä".encode()),
                                      ("hex:c3a4", "ä".encode()), ("k" * 64, b"k" * 64), ("a b", b"a b"),
                                      ("hex:" + "ff" * 64, b"\xff" * 64), ("-", b"-"), (b"\xfe", b"\xfe")])
def test_cli33_keys(cli, js, c, arg, key):
    """Text, text: and hex: name the same bytes for every verb; JSON says `key` or `key_hex`."""
    cli("set", "t", arg, stdin=b"v")
    assert c.get("t", key) == b"v"
    assert cli("get", "t", arg).out == b"v"
    o = js("get", "t", arg)
    try:
        text = key.decode()
        assert text.isprintable()
        assert o["key"] == text and "key_hex" not in o
    except (UnicodeDecodeError, AssertionError):
        assert o["key_hex"] == key.hex() and "key" not in o
    [e] = js("ls", "t")["entries"]
    assert (e.get("key", "").encode() or bytes.fromhex(e["key_hex"])) == key
    # What the table shows reads back.
    shown = cli("ls", "t").lines[1].split(None, 4)[4]
    assert cli("get", "t", shown).out == b"v"
    assert js("explain", "t", arg)["fate"] == "live"
    cli("touch", "t", arg)
    cli("del", "t", arg)
    assert c.get("t", key) is None


def test_cli34_a_miss_is_1(cli, js, c, tmp_path):
    """No such key, no such cache: a note on stderr, nothing on stdout, and no file is touched."""
    c.set("t", b"k", b"v")
    (tmp_path / "f").write_text("old")
    for args in (["t", "other"], ["nocache", "k"]):
        for verb in ("get", "touch", "del"):
            r = cli(verb, *args, status=NOT_FOUND)
            assert not r.out and r.err.startswith(f"cachectl: {verb}: not found")
        cli("get", *args, "-o", str(tmp_path / "f"), status=NOT_FOUND)
        assert (tmp_path / "f").read_text() == "old"
        assert js("get", *args, status=NOT_FOUND) == {"cache": args[0], "key": args[1], "found": False,
                                                          "negative": False, "reason": None}
        assert js("del", *args, status=NOT_FOUND) == {"cache": args[0], "key": args[1], "deleted": False}
    for args in (["ls", "nocache"], ["stats", "nocache"], ["policy", "nocache"], ["clear", "nocache"]):
        r = cli(*args, status=NOT_FOUND)
        assert not r.out and "no such cache" in r.err
    assert "t" in [x.name for x in c.list_caches()] and "nocache" not in [x.name for x in c.list_caches()]


def test_cli35_get_json(cli, js, c):
    """Text as value, anything else as value_base64, and all that is known of the entry."""
    c.set("t", b"k", "ä\0\n".encode(), flags=7, cost_us=1500, ttl_ms=60000)
    o = js("get", "t", "k")
    assert list(o) == ["cache", "key", "found", "version", "size", "flags", "encoding", "raw_size", "cost_us",
                       "ttl_ms", "fresh_ms", "stale", "negative", "vary",
                       "messages_size", "uid", "value"]
    assert o["value"] == "ä\0\n" and o["size"] == 4 and o["flags"] == 7 and o["cost_us"] == 1500
    assert 0 < o["ttl_ms"] <= 60000 and o["encoding"] == "raw" and o["uid"] == os.geteuid()
    binary = bytes(range(256))
    c.set("t", b"b", binary)
    o = js("get", "t", "b")
    assert "value" not in o and base64.b64decode(o["value_base64"], validate=True) == binary
    assert o["ttl_ms"] is None
    c.set("t", b"0", b"")
    assert js("get", "t", "0")["value"] == ""
    o = js("get", "t", "b", "-o", "/dev/null")
    assert "value" not in o and "value_base64" not in o and o["size"] == 256


def test_cli36_get_into_files(cli, c, tmp_path):
    """A regular file is replaced whole and keeps no trace; others are written to."""
    c.set("t", b"k", b"new value")
    os.chdir(tmp_path)
    target = tmp_path / "f"
    target.write_text("old, and longer than the new value")
    before = os.stat(target).st_ino
    old = os.umask(0o027)
    try:
        cli("get", "t", "k", "-o", "f")
    finally:
        os.umask(old)
    assert target.read_bytes() == b"new value"
    assert os.stat(target).st_ino != before and stat.S_IMODE(os.stat(target).st_mode) == 0o640
    os.symlink("f", tmp_path / "link")
    cli("get", "t", "k", "-o", "link")
    assert os.path.islink(tmp_path / "link")
    assert sorted(os.listdir(tmp_path)) == ["f", "link"]

    cli("get", "t", "k", "-o", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.mkfifo(tmp_path / "pipe")
    p = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    cli("get", "t", "k", "-o", "pipe")
    assert p.communicate(timeout=TIMEOUT)[0] == b"new value"

    for path in (str(tmp_path / "missing" / "f"), str(tmp_path)):
        r = cli("get", "t", "k", "-o", path, status=USAGE)
        assert f"cannot write {path}: " in r.err
    r = cli("get", "t", "k", "-o", "/dev/full", status=USAGE)
    assert "No space left" in r.err


def test_cli37_packed_values_are_unpacked(cli, js, c):
    """An LZ4 block that another client stored; a damaged one is a miss with a note."""
    # "a" 40 times: one literal, then a match of 34 at offset 1, then five literals.
    block = bytes([0x1f]) + b"a" + struct.pack("<H", 1) + bytes([15]) + bytes([0x50]) + b"aaaaa"
    c.set("t", b"k", block, encoding=wire.pb.ENCODING_LZ4, raw_size=40)
    assert cli("get", "t", "k").out == b"a" * 40
    o = js("get", "t", "k")
    assert o["encoding"] == "lz4" and o["size"] == len(block) and o["raw_size"] == 40 and o["value"] == "a" * 40
    for i, (damaged, raw_size) in enumerate([(block, 41), (block, 39), (block[:-1], 40), (b"\xff" * 40, 400),
                                             (b"garbage", 1000)]):
        key = f"damaged{i}"
        c.set("t", key.encode(), damaged, encoding=wire.pb.ENCODING_LZ4, raw_size=raw_size)
        r = cli("get", "t", key, status=NOT_FOUND)
        assert not r.out and "damaged" in r.err
        assert js("get", "t", key, status=NOT_FOUND)["found"] is False


def test_cli38_peek_is_no_use(cli, c):
    """get counts a hit, get --peek does not."""
    c.set("t", b"k", b"v")
    assert cli("get", "t", "k", "--peek").out == b"v"
    assert c.stats("t").hits == 0
    cli("get", "t", "k")
    assert c.stats("t").hits == 1


def test_cli39_set_from_what_cannot_be_read(cli, c, tmp_path):
    missing = tmp_path / "missing"
    for path, why in ((str(missing), "No such file"), (str(tmp_path), "Is a directory")):
        r = cli("set", "t", "k", path, status=USAGE)
        assert f"cannot read {path}: {why}" in r.err
    assert c.get("t", b"k") is None


# ---- set's options

def test_cli40_ttl(cli, js, c):
    """--ttl beats the policy, --never beats it too, and without them it is the policy's."""
    c.open("t", ttl_ms=1000000)
    for args, low, high in ((["--ttl", "90s"], 80000, 90000), (["--ttl", "1.5h"], 5300000, 5400000), ([], 900000, 1000000)):
        o = js("set", "t", "k", *args, stdin=b"v")
        assert low < o["ttl_ms"] <= high
        e, _ = c.lookup("t", b"k")
        assert low < e.ttl_ms <= high and e.version == o["version"] and o["size"] == 1
    assert js("set", "t", "k", "--never", stdin=b"v")["ttl_ms"] is None
    assert c.lookup("t", b"k")[0].WhichOneof("ttl") is None


def test_cli41_expiry(cli, c, daemon, clock):
    cli("set", "t", "k", "--ttl", "10s", stdin=b"v")
    clock.advance(9000)
    assert cli("get", "t", "k").out == b"v"
    clock.advance(1001)
    cli("get", "t", "k", status=NOT_FOUND)
    assert "expired" in cli("explain", "t", "k").text


def test_cli42_add_and_replace(cli, c):
    """1 and a reason when the condition does not hold; the value then stays."""
    cli("set", "t", "k", "--replace", stdin=b"no", status=NOT_FOUND)
    assert c.get("t", b"k") is None
    cli("set", "t", "k", "--add", stdin=b"one")
    r = cli("set", "t", "k", "--add", stdin=b"two", status=NOT_FOUND)
    assert r.err.startswith("cachectl: set: not stored: ") and not r.out
    assert c.get("t", b"k") == b"one"
    cli("set", "t", "k", "--replace", stdin=b"three")
    assert c.get("t", b"k") == b"three"


def test_cli43_compare_and_set(cli, js, c):
    version = js("set", "t", "k", stdin=b"one")["version"]
    r = cli("set", "t", "k", "--version", str(version + 1), stdin=b"no", status=NOT_FOUND)
    assert "not stored" in r.err and "version" in r.err
    newer = js("set", "t", "k", "--version", str(version), stdin=b"two")["version"]
    assert newer > version
    cli("set", "t", "k", "--version", str(version), stdin=b"no", status=NOT_FOUND)
    assert c.get("t", b"k") == b"two"


def test_cli44_flags_and_cost(cli, c):
    cli("set", "t", "k", "--flags", "4294967295", "--cost", "1.5ms", stdin=b"v")
    e, _ = c.lookup("t", b"k")
    assert e.flags == 4294967295 and e.cost_us == 1500


def test_cli45_touch(cli, js, c):
    cli("set", "t", "k", "--ttl", "1h", stdin=b"v")
    r = cli("touch", "t", "k")
    assert not r.out
    assert c.lookup("t", b"k")[0].ttl_ms > 3500000
    assert 80000 < js("touch", "t", "k", "--ttl", "90s")["ttl_ms"] <= 90000
    assert c.lookup("t", b"k")[0].ttl_ms <= 90000
    assert js("touch", "t", "k", "--never")["ttl_ms"] is None


# ---- refused

def test_cli50_too_large_is_4(make_daemon):
    """The daemon's limit is known before the whole input is read, also from an endless one."""
    d = make_daemon(limits={"value_bytes": "100K"})
    s = ["--socket", str(d.socket)]
    r = run_plain(*s, "set", "t", "k", stdin=b"x" * 102401)
    assert r.status == REFUSED and r.err.startswith("cachectl: set: the daemon refused: ") and "limits.value_bytes" in r.err
    r = run_plain(*s, "set", "t", "k", "/dev/zero")
    assert r.status == REFUSED
    assert run_plain(*s, "set", "t", "k", stdin=b"x" * 102400).status == DONE


def test_cli51_over_the_budget_is_4(make_daemon):
    d = make_daemon(memory={"realm_budget": "1M"})
    r = run_plain("--socket", str(d.socket), "set", "t", "k", stdin=os.urandom(2 << 20))
    assert r.status == REFUSED and r.err.startswith("cachectl: set: the daemon refused: "), r.err


def test_cli52_an_unknown_realm_is_4(daemon):
    r = run_plain("--socket", str(daemon.socket), "--realm", "nosuch", "ping")
    assert r.status == REFUSED and r.err.startswith("cachectl: ping: the daemon refused: ")


def test_cli53_realm(daemon, cli):
    """--realm enters another realm; by its own name it is one's own."""
    me = f"uid:{os.geteuid()}"
    cli("set", "t", "k", stdin=b"v")
    assert cli("--realm", me, "get", "t", "k").out == b"v"
    if os.geteuid() == 0:
        cli("--realm", "uid:12345", "get", "t", "k", status=NOT_FOUND)


# ---- clear, policy, explain

def test_cli60_clear(cli, js, c):
    for i in range(3):
        c.set("a", b"%d" % i, b"v")
    c.set("b", b"k", b"v")
    assert cli("clear", "a").text == "3 entries cleared\n"
    assert c.get("a", b"0") is None and c.get("b", b"k") == b"v"
    assert cli("clear", "--all").text == "1 entry cleared in 2 caches\n"
    assert c.get("b", b"k") is None
    assert js("clear", "a") == {"cache": "a", "tag": None, "prefix": None, "entries": 0, "caches": 1, "resources": 0}
    assert js("clear", "--all")["cache"] is None


def test_cli61_policy(cli, js, c):
    """Shows without options, sets and pins with some, leaves the others alone, resets, unpins."""
    c.open("t", ttl_ms=5000, max_entries=10)
    o = js("policy", "t")
    assert list(o) == ["name", "policy", "pinned", "opens", "policy_changes"]
    assert o["policy"] == {"ttl_ms": 5000, "max_entries": 10, "max_bytes": None} | NO_WINDOWS and not o["pinned"]
    o = js("policy", "t", "--max-bytes", "64M", "--ttl", "1m")
    assert o["policy"] == {"ttl_ms": 60000, "max_entries": 10, "max_bytes": 64 << 20} | NO_WINDOWS and o["pinned"]
    c.open("t", ttl_ms=1)
    assert js("policy", "t")["policy"]["ttl_ms"] == 60000
    o = js("policy", "t", "--no-max-bytes", "--no-ttl", "--max-entries", "3")
    assert o["policy"] == {"ttl_ms": None, "max_entries": 3, "max_bytes": None} | NO_WINDOWS
    o = js("policy", "t", "--unpin")
    assert not o["pinned"] and o["policy"]["ttl_ms"] == 1
    t = cli("policy", "t").text
    assert re.search(r"^ttl +1ms$", t, re.M) and re.search(r"^pinned +no$", t, re.M)


def test_cli62_policy_creates_and_limits_at_once(cli, c):
    cli("policy", "new", "--max-entries", "2")
    assert "new" in [x.name for x in c.list_caches()]
    for i in range(4):
        c.set("new", b"%d" % i, b"v")
    assert c.stats("new").entries == 2


def test_cli63_explain(cli, js, c):
    """The exit status is 0 whatever the fate: the explanation is what was asked for."""
    c.set("t", b"k", b"v")
    o = js("explain", "t", "k")
    assert o["fate"] == "live" and o["entry"]["size"] == 1 and o["charge"] > 0
    assert o["text"] in cli("explain", "t", "k").text
    c.delete("t", b"k")
    o = js("explain", "t", "k")
    assert o["fate"] == "deleted" and o["entry"] is None and o["text"]
    assert js("explain", "t", "other")["fate"] == "never_stored"
    assert js("explain", "nocache", "k")["fate"] == "no_cache"
    c.set("t", b"k", b"v")
    c.clear("t")
    assert js("explain", "t", "k")["fate"] == "cleared"
    c.open("small", max_entries=1)
    c.set("small", b"a", b"v")
    c.set("small", b"b", b"v")
    assert js("explain", "small", "a")["fate"] == "evicted_max_entries"
    # The age in the text goes on.
    digits = re.compile(r"[\d.]+m?s\b")
    assert digits.sub("#", cli("explain", "small", "a").text) == digits.sub("#", js("explain", "small", "a")["text"]) + "\n"
