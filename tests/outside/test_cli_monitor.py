# SPDX-License-Identifier: MIT
"""cachectl monitor and warm: events as they happen, and a cache's values computed anew."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
import wire
from cachectl import (CACHECTL, TIMEOUT, USAGE, Running, child_on, environment, needs_cachectl, run_plain, start,
                      terminal)
from harness import wait_until
from test_cli_fake import hello, receive
from wire import pb

pytestmark = needs_cachectl

HOUR = 3_600_000
ONCE = harness.BUILD / "tests" / "outside" / "once"


# ---- monitor

LINE = re.compile(rb"\d\d:\d\d:\d\d\.\d\d\d  (\w+) +(.*)")


def lines_of(text):
    """[(kind, the rest with single blanks)]; each line has its time."""
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [(m[1].decode(), re.sub(" +", " ", m[2].decode())) for m in found]


def do_something(c, clock, before_later=lambda: None):
    """Something of each kind, and the lines for it, without the time. @before_later is called when all but the last two
    events have happened, before the clock is put forward."""
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
    before_later()
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
    # What is sent after the clock went an hour on is an hour old.
    expected = do_something(c, clock, lambda: (m.out(rb"stored +cache +two.*\n"), j.out(rb'"stored".*"two".*\n')))
    got = lines_of(m.out(rb"all caches +\d+ entr.*\n"))
    assert sorted(got) == sorted(expected), got
    text = j.out(rb'"cache":null.*\n')
    objects = [json.loads(line) for line in text.splitlines()]
    now = time.time() * 1000
    assert all(0 <= now - o["time_ms"] < 120000 for o in objects)
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


def test_cl69_resources(daemon, start):
    """What came and what left, of a session nothing; by kinds, and among all else without any."""
    def cli(*args):
        assert run_plain("--socket", str(daemon.socket), *args).status == 0
    m, j = start_monitor(start, daemon), start_monitor(start, daemon, "--json", "-k", "created", "-k", "left")
    a, b = (start("resource", "hold", "models", "bert", "--segment", "4K") for _ in range(2))
    said = [re.match(rb"held: instance (\d+), ", x.out(rb"\n"))[1].decode() for x in (a, b)]
    cli("resource", "drop", "models", "bert")
    cli("resource", "hold", "models", "x", "--local", "--", "true")
    cli("clear", "models")
    text = m.out(rb"left +models +x .*\n")
    assert [x for x in lines_of(text) if x[0] != "cleared"] == [
        ("created", "models bert segment"), ("left", "models bert segment, dropped, 2 holders"),
        ("created", "models x local"), ("left", "models x local, cleared")]
    objects = [json.loads(line) for line in j.out(rb'"left".*"x".*\n').splitlines()]
    assert all(o.pop("time_ms") for o in objects) and len(set(said)) == 1
    of = {"cache": "models", "key": "bert", "instance": said[0], "resource": "segment"}
    assert objects[:2] == [{"kind": "created", **of},
                           {"kind": "left", **of, "cause": "dropped", "reason": None, "holders": 2}]
    assert [(o["kind"], o["key"], o["resource"]) for o in objects[2:]] == [("created", "x", "local"), ("left", "x", "local")]
    assert objects[3]["cause"] == "cleared" and objects[3]["holders"] == 0


def test_cl69b_an_older_daemon_tells_of_entries_alone(tmp_path):
    """Without --kind that will do; who asks for the kind is told that the daemon is too old."""
    asked = []

    def serve(connection):
        with contextlib.suppress(OSError, EOFError), connection:
            reply = hello(receive(connection))
            reply.hello.features = pb.FEATURE_EVENTS | pb.FEATURE_LEASES
            connection.sendall(wire.frame(reply))
            request = receive(connection)
            asked.append(list(request.subscribe.kinds))
            event = pb.Reply(event={"entry": {"kind": pb.EVENT_DELETED, "cache": "t", "key": b"k"}})
            connection.sendall(wire.frame(pb.Reply(id=request.id)) + wire.frame(event))
            receive(connection)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            r = run_plain("--socket", str(tmp_path / "s"), "monitor", "--count", "1")
            assert lines_of(r.out) == [("deleted", "t k")] and r.err == ""
            assert asked == [list(range(pb.EVENT_STORED, pb.EVENT_RESOURCE_CREATED))]
            r = run_plain("--socket", str(tmp_path / "s"), "monitor", "--count", "1", "--kind", "left")
            assert r.status != 0 and "the daemon is too old for resources: update it" in r.err and len(asked) == 1
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


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
