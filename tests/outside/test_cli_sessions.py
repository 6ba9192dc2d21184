# SPDX-License-Identifier: MIT
"""cachectl session: what it does, prints and refuses, against the real daemon."""

import base64
import json
import os
import re
import subprocess

import pytest

from cachectl import (
    CACHECTL, DONE, NOT_FOUND, REFUSED, UNREACHABLE, USAGE, child_on, cli, environment, js, needs_cachectl, run_plain, terminal,
)

pytestmark = needs_cachectl

INFO = ["id", "label", "uid", "age_ms", "unused_ms", "idle_ms", "grace_ms", "keys", "bytes", "charge", "version", "attached",
        "caches"]


@pytest.fixture
def opened(daemon):
    """A list of tokens; the sessions are closed at the end, so that nothing is left in the daemon."""
    tokens = []
    yield tokens
    for token in tokens:
        assert run_plain("--socket", str(daemon.socket), "session", "close", token).status in (DONE, NOT_FOUND)


@pytest.fixture
def new(js, opened):
    """new(OPTION…): what `session new --json` prints."""
    def run(*args):
        document = js("session", "new", *args)
        opened.append(document["token"])
        return document
    return run


@pytest.fixture
def token(new):
    return new()["token"]


def test_ses01_new_prints_the_token_alone(cli, opened):
    first, second = (cli("session", "new", "--label", "upload").text for _ in range(2))
    opened += [first.strip(), second.strip()]
    assert re.fullmatch(r"[0-9a-f]{32}\n", first) and re.fullmatch(r"[0-9a-f]{32}\n", second) and first != second


def test_ses02_new_json_and_show(js, new):
    d = new("--label", "shop ✓", "--idle", "90s", "--grace", "2s")
    assert list(d) == ["token", *INFO]
    assert (d["label"], d["idle_ms"], d["grace_ms"], d["keys"], d["uid"]) == ("shop ✓", 90000, 2000, 0, os.getuid())
    shown = js("session", "show", d["token"])
    assert list(shown) == INFO and shown["id"] == d["id"] and shown["version"] == 0
    assert re.fullmatch("[0-9a-f]{16}", d["id"]) and d["id"] not in d["token"]


def test_ses03_idle_never_and_defaults(new):
    assert new("--idle", "never")["idle_ms"] is None
    d = new()
    assert d["idle_ms"] == 86400000 and d["grace_ms"] is None and d["label"] == ""


def test_ses04_show_for_people(cli, token):
    cli("session", "set", token, "k", "value")
    lines = cli("session", "show", token).lines
    shown = {re.split("  +", line)[0]: re.split("  +", line)[1] for line in lines}
    assert shown["keys"] == "1" and shown["attached"] == "0" and "id" in shown and token not in "\n".join(lines)


def test_ses10_values_byte_for_byte(cli, token, tmp_path):
    raw = bytes(range(256))
    cli("session", "set", token, "raw", "-", stdin=raw)
    assert cli("session", "get", token, "raw").out == raw
    out = tmp_path / "f"
    assert cli("session", "get", token, "raw", "-o", str(out)).out == b"" and out.read_bytes() == raw
    cli("session", "set", token, "empty", "")
    assert cli("session", "get", token, "empty").out == b""
    cli("session", "set", token, "text", "läuft")
    assert cli("session", "get", token, "text").out == "läuft".encode()


def test_ses11_get_json(js, cli, token):
    cli("session", "set", token, "t", "text")
    cli("session", "set", token, "b", "-", stdin=b"\xff\0")
    assert js("session", "get", token, "t") == {"key": "t", "found": True, "version": 1, "size": 4, "flags": 0, "value": "text"}
    b = js("session", "get", token, "b")
    assert base64.b64decode(b["value_base64"]) == b"\xff\0" and "value" not in b
    assert js("session", "get", token, "no", status=NOT_FOUND) == {"key": "no", "found": False}
    assert js("session", "get", token) == {"version": 2, "items": [
        {"key": "t", "version": 1, "size": 4, "flags": 0, "value": "text"},
        {"key": "b", "version": 2, "size": 2, "flags": 0, "value_base64": b["value_base64"]}]}


def test_ses12_all_as_a_table(cli, token):
    cli("session", "set", token, "first", "one")
    cli("session", "set", token, "pic", "-", stdin=b"\0" * 2000)
    cli("session", "set", token, "first", "two")
    lines = cli("session", "get", token).lines
    assert [line.split() for line in lines] == [["KEY", "VALUE"], ["first", "two"], ["pic", "(2000", "bytes", "that", "are", "no", "text)"]]
    assert cli("session", "keys", token).text == "first\npic\n"


def test_ses13_table_fits_a_terminal(daemon, cli, token):
    cli("session", "set", token, "long", "x" * 300)
    cli("session", "set", token, "steers", "-", stdin=b"\x1b[31mred")
    with terminal(80) as (master, slave):
        p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "session", "get", token], stdin=slave, stdout=slave,
                             stderr=slave, env=environment(), preexec_fn=child_on(slave), close_fds=True)
        assert p.wait(60) == DONE
        text = os.read(master, 65536).decode()
    assert all(len(line) <= 80 for line in text.replace("\r", "").splitlines()), text
    assert "\x1b[31m" not in text and "…" in text


def test_ses14_keys_json(js, cli, token):
    for k in ("b", "a", "ä"):
        cli("session", "set", token, k, "x")
    cli("session", "del", token, "b")
    cli("session", "set", token, "b", "x")
    assert js("session", "keys", token) == {"version": 5, "keys": ["a", "ä", "b"]}


def test_ses20_if_absent_prints_the_winner(cli, js, token):
    assert cli("session", "set", token, "id", "mine", "--if-absent").out == b"mine"
    r = cli("session", "set", token, "id", "other", "--if-absent", status=NOT_FOUND)
    assert r.out == b"mine" and "not stored" in r.err
    assert js("session", "set", token, "id", "other", "--if-absent", status=NOT_FOUND) == {
        "key": "id", "stored": False, "version": 1, "size": 4, "flags": 0, "value": "mine"}
    assert js("session", "set", token, "new", "1", "--if-absent") == {"key": "new", "stored": True, "version": 2, "value": "1"}


def test_ses21_if_version(cli, js, token):
    assert js("session", "set", token, "k", "1") == {"key": "k", "stored": True, "version": 1}
    cli("session", "set", token, "k", "2", "--if-version", "1")
    r = cli("session", "set", token, "k", "3", "--if-version", "1", status=NOT_FOUND)
    assert "not stored" in r.err and cli("session", "get", token, "k").out == b"2"
    cli("session", "set", token, "k", "3", "--if-version", "0", status=USAGE)
    cli("session", "set", token, "k", "3", "--if-version", "1", "--if-absent", status=USAGE)


def test_ses22_numbers(cli, js, token):
    assert cli("session", "incr", token, "n").text == "1\n"
    assert cli("session", "incr", token, "n", "41").text == "42\n"
    assert cli("session", "incr", token, "n", "--", "-2").text == "40\n"
    assert cli("session", "incr", token, "from", "5", "--start", "100").text == "105\n"
    assert cli("session", "incr", token, "real", "0.5").text == "0.5\n"
    assert cli("session", "incr", token, "real", "1e1").text == "10.5\n"
    assert js("session", "incr", token, "n") == {"key": "n", "value": "41", "version": 7}
    # A real number does not become an integer by itself.
    cli("session", "incr", token, "real", "1", status=REFUSED)
    assert cli("session", "get", token, "real").out == b"10.5"
    for wrong in ("x", "1x", "", "0x10", "9223372036854775808", "1.5.2", "inf", "nan", " 1"):
        cli("session", "incr", token, "n", wrong, status=USAGE)
    cli("session", "incr", token, "n", "1", "--start", "x", status=USAGE)
    cli("session", "set", token, "t", "text")
    cli("session", "incr", token, "t", status=REFUSED)
    cli("session", "set", token, "big", "9223372036854775807")
    cli("session", "incr", token, "big", status=REFUSED)
    assert cli("session", "get", token, "big").out == b"9223372036854775807"


def test_ses23_append(cli, js, token):
    cli("session", "append", token, "log", "one\n")
    cli("session", "append", token, "log", "-", stdin=b"two\n")
    assert cli("session", "get", token, "log").out == b"one\ntwo\n"
    assert js("session", "append", token, "log", "three\n", "--max-bytes", "10") == {"key": "log", "size": 10, "version": 3}
    assert cli("session", "get", token, "log").out == b"two\nthree\n"


def test_ses24_del_clear_close(cli, js, token):
    cli("session", "set", token, "a", "1")
    cli("session", "set", token, "b", "1")
    assert js("session", "del", token, "a") == {"key": "a", "deleted": True}
    assert js("session", "del", token, "a", status=NOT_FOUND) == {"key": "a", "deleted": False}
    assert cli("session", "del", token, "a", status=NOT_FOUND).out == b""
    assert js("session", "clear", token) == {"version": 4}
    assert cli("session", "keys", token).out == b""
    assert js("session", "close", token)["keys"] == 0
    for verb in (["show"], ["keys"], ["get"], ["clear"], ["close"]):
        r = cli("session", *verb, token, status=NOT_FOUND)
        assert "no such session" in r.err and token not in r.err
    assert "no such session" in cli("session", "get", token, "a", status=NOT_FOUND).err
    assert "no such session" in cli("session", "set", token, "a", "1", status=NOT_FOUND).err


def test_ses30_ls(cli, js, new):
    a, b = (new("--label", x)["token"] for x in ("one", "two"))
    cli("session", "set", a, "k", "hidden value")
    document = js("session", "ls")
    assert all(list(s) == INFO for s in document["sessions"])
    assert {(s["label"], s["keys"]) for s in document["sessions"]} == {("one", 1), ("two", 0)}
    text = cli("session", "ls").text
    assert text.splitlines()[0].split()[0] == "ID" and "one" in text and "hidden" not in text
    for secret in (a, b):
        assert secret not in text and secret not in json.dumps(document)


def test_ses31_many_are_listed_once_each(js, new):
    for _ in range(30):
        new()
    ids = [s["id"] for s in js("session", "ls")["sessions"]]
    assert len(ids) == len(set(ids)) == 30


def test_ses32_stats_count_them(js, cli, new):
    before = js("stats")["realm"]
    t = new()["token"]
    cli("session", "set", t, "k", "x" * 1000)
    realm = js("stats")["realm"]
    assert realm["sessions"] == before["sessions"] + 1 and realm["sessions_opened"] == before["sessions_opened"] + 1
    assert realm["session_bytes"] >= before["session_bytes"] + 1000 and realm["session_budget_bytes"] >= 64 << 20
    assert re.search(r"^sessions +1$", cli("stats").text, re.M)


def test_ses40_token_from_elsewhere(cli, daemon, token, tmp_path):
    cli("session", "set", token, "k", "v")
    env = environment(CACHED_SESSION=token)
    assert cli("session", "get", "@", "k", env=env).out == b"v"
    for content in (token, token + "\n", token + "\nmore\n" * 100):
        (tmp_path / "t").write_text(content)
        assert cli("session", "get", f"@{tmp_path / 't'}", "k").out == b"v"
    assert "not set" in cli("session", "get", "@", "k", status=USAGE).err
    assert "cannot read" in cli("session", "get", f"@{tmp_path / 'none'}", "k", status=USAGE).err
    assert "cannot read" in cli("session", "get", f"@{tmp_path}", "k", status=USAGE).err
    r = cli("session", "get", f"@{token}", "k", status=USAGE)
    assert "leave out the '@'" in r.err and token not in r.err


@pytest.mark.parametrize("wrong", ["", "0", "x" * 32, "0" * 31, "0" * 33, "A" * 32, "0" * 31 + "\n"])
def test_ses41_wrong_tokens(daemon, cli, tmp_path, wrong):
    """They never reach the daemon, and what was given is not repeated."""
    r = cli("session", "get", wrong, "k", status=USAGE)
    assert "32 hexadecimal digits" in r.err and "session new" in r.err
    assert not wrong.strip("0\n") or wrong not in r.err
    r = cli("session", "get", "@", "k", env=environment(CACHED_SESSION=wrong), status=USAGE)
    assert "32 hexadecimal digits" in r.err
    if "\n" not in wrong:
        (tmp_path / "t").write_text(wrong)
        assert "32 hexadecimal digits" in cli("session", "get", f"@{tmp_path / 't'}", "k", status=USAGE).err


def test_ses42_guessed_token(cli):
    assert "no such session" in cli("session", "get", "0" * 32, "k", status=NOT_FOUND).err


@pytest.mark.parametrize("args, meant", [
    ([], "is missing"),
    (["nwe"], "did you mean 'new'"),
    (["frobnicate"], "nothing that a session can"),
    (["new", "x"], "too many"),
    (["show"], "TOKEN is missing"),
    (["set", "0" * 32, "k"], "VALUE is missing"),
    (["get", "0" * 32, "k", "v"], "too many"),
    (["show", "0" * 32, "--if-absent"], "does not apply"),
    (["get", "0" * 32, "-o", "f"], "KEY"),
    (["get", "0" * 32, ""], "KEY"),
    (["get", "0" * 32, "x" * 129], "128"),
    (["get", "0" * 32, "a\tb"], "control"),
    (["new", "--label", "a\nb"], "control"),
    (["new", "--label", "x" * 65], "64"),
    (["new", "--idle", "0s"], "--idle"),
    (["new", "--idle", "soon"], "--idle"),
    (["new", "--grace", "2h"], "--grace"),
    (["append", "0" * 32, "k", "v", "--max-bytes", "x"], "--max-bytes"),
])
def test_ses50_usage(args, meant):
    r = run_plain("session", *args)
    assert r.status == USAGE and meant in r.err and r.out == b"", r.err


@pytest.mark.parametrize("args, word", [(["set", "user", "alice"], "user"), (["get", "user"], "user"), (["get", "user", "x"], "user"),
                                        (["incr", "n"], "n"), (["del", "user"], "user"), (["append", "log", "x"], "log")])
def test_ses53_the_token_is_left_out(args, word):
    r = run_plain("session", *args, env=environment(CACHED_SESSION="0" * 32))
    assert r.status == USAGE and f"'{word}' is no token; did you mean '@ {word}'?" in r.err
    # Where nothing stands in the environment, or where it may be a token with an error in it.
    assert "did you mean" not in run_plain("session", *args).err
    r = run_plain("session", args[0], "0" * 31, *args[2:], env=environment(CACHED_SESSION="0" * 32))
    assert r.status == USAGE and "did you mean" not in r.err and "0" * 31 not in r.err


@pytest.mark.parametrize("number", ["-3", "-0.5", "-.5"])
def test_ses54_a_negative_number(cli, token, number):
    r = cli("session", "incr", token, "n", number, status=USAGE)
    assert f"there is no option {number[:2]}: put `--` before a number that is negative" in r.err
    assert float(cli("session", "incr", token, "n", "--", number).text) == float(number)


def test_ses55_show_has_the_label(cli, new):
    assert re.search("^label  +shop ✓$", cli("session", "show", new("--label", "shop ✓")["token"]).text, re.M)
    assert "label" not in cli("session", "show", new()["token"]).text


def test_ses51_unreachable(tmp_path):
    for args in (["new"], ["ls"], ["get", "0" * 32, "k"]):
        assert run_plain("--socket", str(tmp_path / "none"), "session", *args).status == UNREACHABLE


def test_ses52_too_large(cli, token):
    r = cli("session", "set", token, "k", "-", stdin=b"x" * (3 << 20), status=REFUSED)
    assert "session_bytes" in r.err
    assert cli("session", "keys", token).out == b""


# ---- caches of a session


def test_ses60_caches_of_a_session(cli, js, c, token):
    """--session: the same name is another cache, and nobody else sees it."""
    c.set("shared", b"k", b"everybody's")
    session = ("--session", token)
    assert "no such" in cli(*session, "get", "shared", "k", status=NOT_FOUND).err
    cli(*session, "set", "shared", "k", stdin=b"mine\0")
    cli(*session, "set", "other", "x", stdin=b"1" * (5 << 20))
    assert cli(*session, "get", "shared", "k").out == b"mine\0" and cli("get", "shared", "k").out == b"everybody's"
    assert cli(*session, "get", "other", "x").out == b"1" * (5 << 20)
    assert [x["name"] for x in js(*session, "caches")["caches"]] == ["shared", "other"]
    assert [x["name"] for x in js("caches")["caches"]] == ["shared"]
    assert [e["key"] for e in js(*session, "ls", "shared")["entries"]] == ["k"]
    cli(*session, "touch", "shared", "k", "--ttl", "1h")
    assert js(*session, "explain", "shared", "k")["fate"] == "live"
    cli(*session, "del", "shared", "k")
    cli(*session, "clear", "--all")
    cli(*session, "get", "other", "x", status=NOT_FOUND)
    assert cli("get", "shared", "k").out == b"everybody's"
    assert js("session", "show", token)["caches"] == 2


def test_ses61_only_where_it_applies(cli, token):
    for args in (["ping"], ["clients"], ["session", "ls"], ["memo", "--", "true"], ["stats"]):
        assert "--session does not apply" in cli("--session", token, *args, status=USAGE).err
    assert "32 hexadecimal digits" in cli("--session", "x", "caches", status=USAGE).err
    assert "no such session" in cli("--session", "0" * 32, "caches", status=NOT_FOUND).err
    r = cli("--session", "@", "caches", env=environment(CACHED_SESSION=token))
    assert r.lines[0].startswith("CACHE")


def test_ses69_what_the_daemon_advises_is_told(make_daemon):
    d = make_daemon(limits={"sessions_per_uid": 1})
    run = lambda *args: run_plain("--socket", str(d.socket), "session", *args)  # noqa: E731
    token = run("new").text.strip()
    r = run("new")
    assert r.status == REFUSED and "limits.sessions_per_uid" in r.err, r.err
    assert run("close", token).status == DONE
