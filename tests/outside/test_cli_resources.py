# SPDX-License-Identifier: MIT
"""cachectl resource: what it lists, holds, locks, runs and refuses, against the real daemon and in real processes.

    res0x  ls, show, drop
    res1x  hold without a command: what it prints, and what ends it
    res2x  hold with a command: what that inherits, and how it ends
    res3x  locks, deadlines, and who is killed
    res4x  what is refused
    res5x  for people: terminals
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

import holders
from cachectl import (CACHECTL, DONE, NOT_FOUND, REFUSED, TIMEOUT, UNREACHABLE, USAGE, child_on, cli, environment, js,
                      needs_cachectl, run_plain, start, terminal)
from harness import wait_until
from test_q_resource_takeover import cold
from wire import pb

pytestmark = needs_cachectl

HEAD = 4096
RESOURCE = ["cache", "instance", "kind", "what", "size", "read_only", "ttl_ms", "age_ms", "unused_ms", "uid", "pid",
            "waiters", "locked_by", "holder_count", "holders"]
HOLDER = ["pid", "uid", "name", "since_ms", "holds", "locked"]


@pytest.fixture
def hold(start):
    """hold(ARG…): `resource hold` in the background, once it holds; .said is its first line."""
    def run(*args, before=(), **more):
        r = start(*before, "resource", "hold", *args, **more)
        r.said = r.out(rb"\n").splitlines()[0].decode()
        return r
    return run


@pytest.fixture
def sh(daemon):
    """sh(SCRIPT, env=…): a shell script, in which `$C` is cachectl: a CompletedProcess."""
    def run(script, *, shell="sh", env=None, **more):
        return subprocess.run([shell, "-c", script], capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL,
                              env=environment(C=str(CACHECTL), CACHED_SOCKET=str(daemon.socket), PY=sys.executable,
                                              **(env or {})), **more)
    return run


def resources(js, *args):
    return js("resource", "ls", *args)["resources"]


@contextlib.contextmanager
def connected():
    """(this end, the other end) of a stream; this one can be inherited."""
    a, b = socket.socketpair()
    a.set_inheritable(True)
    b.settimeout(TIMEOUT)
    with a, b:
        yield a, b


def holder(daemon, **hello):
    """A client of this process, which holds what it makes until it is closed."""
    c = daemon.connect()
    daemon.clients.remove(c)
    c = holders.Client(sock=c.sock)
    daemon.clients.append(c)
    c.hello(features=holders.FEATURES, **hello)
    c.open_holder()
    return c


def local(c, cache, key):
    r = c.acquire(key=key, cache=cache, kind=pb.RESOURCE_LOCAL)
    assert r.resource.state == pb.RESOURCE_CREATE, r
    c.publish(r.resource.creation_id, None, kind=pb.RESOURCE_LOCAL)


# ---- ls, show, drop

def test_res01_nothing_is_there(cli, js):
    assert cli("resource", "ls").text.split() == ["CACHE", "KEY", "KIND", "SIZE", "HELD", "LOCKED", "WAIT", "AGE", "TTL"]
    assert js("resource", "ls") == {"resources": []}
    assert "no such cache" in cli("resource", "ls", "none", status=NOT_FOUND).err
    assert "no such cache" in cli("resource", "show", "none", "k", status=NOT_FOUND).err
    cli("resource", "drop", "none", "k", status=NOT_FOUND)


def test_res02_what_is_listed(cli, js, hold):
    a = hold("models", "bert", "--segment", "64K", "--lock")
    b = hold("models", "bert", "--segment", "1M")
    hold("names", "hex:00ff", "--local", "--ttl", "1h")
    segment, local = resources(js)
    assert [k for k in segment if k != "key"] == RESOURCE and [k for k in local if k != "key_hex"] == RESOURCE
    assert (segment["cache"], segment["key"], segment["kind"], segment["size"]) == ("models", "bert", "segment", 65536)
    assert (segment["what"], segment["read_only"], segment["ttl_ms"], segment["waiters"]) == (None, False, None, 0)
    assert segment["pid"] == segment["locked_by"] == a.p.pid and segment["uid"] == os.getuid()
    assert [list(h) for h in segment["holders"]] == [HOLDER] * 2 and segment["holder_count"] == 2
    assert {(h["pid"], h["locked"], h["name"]) for h in segment["holders"]} == {(a.p.pid, True, "cachectl"),
                                                                               (b.p.pid, False, "cachectl")}
    assert (local["key_hex"], local["kind"], local["size"]) == ("00ff", "local", 0) and 0 < local["ttl_ms"] <= 3600000
    assert re.fullmatch(r"\d+", segment["instance"]) and segment["instance"] != local["instance"]
    assert [r["cache"] for r in resources(js, "names")] == ["names"]
    lines = [re.split("  +", line) for line in cli("resource", "ls").lines]
    assert lines[1][:6] == ["models", "bert", "segment", "64K", "2", str(a.p.pid)]
    assert lines[2][:6] == ["names", "hex:00ff", "local", "-", "1", "-"]
    assert lines[1][-1] == "never" and lines[2][-1] in ("1h", "59m59s", "59.9m") or "m" in lines[2][-1]


def test_res03_show(cli, js, hold):
    a = hold("models", "bert", "--segment", "64K", "--lock")
    hold("models", "other", "--segment", "64K")
    text = cli("resource", "show", "models", "bert").text
    shown = dict(re.split("  +", line)[:2] for line in text.splitlines() if not line[:1].isspace() and "PID" not in line)
    assert (shown["cache"], shown["key"], shown["kind"], shown["size"]) == ("models", "bert", "segment", "64K")
    assert (shown["held by"], shown["made by pid"], shown["waiting for it"]) == ("1", str(a.p.pid), "0")
    assert re.search(rf"^ *{a.p.pid} +{os.getuid()} +\S+ +1 +has it +cachectl$", text, re.M)
    d = js("resource", "show", "models", "bert")
    assert list(d) == ["cache", "key", "instances"] and d["cache"] == "models" and d["key"] == "bert"
    one, = d["instances"]
    assert one["key"] == "bert" and one["locked_by"] == a.p.pid
    r = cli("resource", "show", "models", "none", status=NOT_FOUND)
    assert "no such resource" in r.err and r.out == b""
    assert cli("--json", "resource", "show", "models", "none", status=NOT_FOUND).out == b""


def test_res04_each_instance_of_a_pool(cli, js, hold):
    a, b = (hold("db", "conn", "--segment", "4K", "--pool", "2") for _ in range(2))
    instances = js("resource", "show", "db", "conn")["instances"]
    assert {i["holders"][0]["pid"] for i in instances} == {a.p.pid, b.p.pid} and len(instances) == 2
    assert cli("resource", "show", "db", "conn").text.count("instance  ") == 2
    r = cli("resource", "hold", "db", "conn", "--segment", "4K", "--pool", "2", "--wait", "0s", status=REFUSED)
    assert "not at once" in r.err and "uses all that there may be" in r.err
    a.p.stdout.close()
    assert a.p.wait(TIMEOUT) == DONE
    assert hold("db", "conn", "--segment", "4K", "--pool", "2").said.split(", ")[1] == "joined"


def test_res05_drop_is_told_to_holders(cli, js, hold):
    a = hold("models", "bert", "--segment", "4K")
    b = hold("models", "bert", "--segment", "4K", before=["--json"])
    assert cli("resource", "drop", "models", "bert").text == "1 instance has left, 2 holders are told\n"
    assert a.end()[0] == b"left: dropped\n"
    assert json.loads(b.end()[0]) == {"event": "left", "cause": "dropped"}
    assert resources(js) == []
    r = cli("resource", "drop", "models", "bert", status=NOT_FOUND)
    assert "no such resource" in r.err and r.out == b""


def test_res06_drop_json(cli, js, hold):
    hold("db", "conn", "--segment", "4K", "--pool", "2")
    hold("db", "conn", "--segment", "4K", "--pool", "2")
    assert js("resource", "drop", "db", "conn") == {"cache": "db", "key": "conn", "resources": 2, "holders": 2}


def test_res07_all_pages(make_daemon):
    """More than fit into a page; each is listed once."""
    daemon = make_daemon(limits={"page_entries": "10"})
    c = holder(daemon)
    for i in range(35):
        local(c, "many" if i % 2 else "others", b"%04d" % i)
    for args, n in (([], 35), (["many"], 17)):
        r = run_plain("--socket", str(daemon.socket), "--json", "resource", "ls", *args)
        keys = [r["key"] for r in r.json["resources"]]
        assert len(keys) == len(set(keys)) == n
    c.close()


def test_res08_other_verbs_count_them(daemon, cli, js, c, hold):
    c.set("data", b"k", b"v")
    assert "RESOURCES" not in cli("caches").lines[0]
    r = hold("models", "bert", "--segment", "64K", "--lock")
    hold("models", "other", "--segment", "4K", "--pool", "2")
    for text in (cli("caches").text, on_terminal(daemon, 80, "caches")):
        titles, data, models = (re.split("  +", line) for line in text.splitlines())
        assert (data[titles.index("RESOURCES")], models[titles.index("RESOURCES")]) == ("0", "2"), text
        assert all(len(line) <= 80 for line in text.splitlines()) or "POLICY" in titles
    cache = js("stats", "models")["cache"]
    assert (cache["resources"], cache["resources_held"], cache["resource_bytes"]) == (2, 2, 68 << 10)
    assert re.search(r"^resources +2$", cli("stats", "models").text, re.M)
    assert js("stats")["realm"]["resource_holders"] == 2
    assert {x["resources"] for x in js("clients")["clients"] if x["pid"] == r.p.pid} == {0, 1}


# ---- hold

def test_res10_created_and_joined(hold):
    a = hold("models", "bert", "--segment", "4K")
    m = re.fullmatch(r"held: instance (\d+), created, segment of 4K", a.said)
    b = hold("models", "bert", "--segment", "64K")  # which does not matter: it is there
    assert b.said == f"held: instance {m[1]}, joined, segment of 4K"
    assert json.loads(hold("models", "bert", "--segment", "1", before=["--json"]).said) == {
        "event": "held", "cache": "models", "key": "bert", "instance": m[1], "created": False, "kind": "segment",
        "what": None, "size": 4096, "read_only": False, "locked": False, "owner_died": False}
    assert hold("models", "small", "--segment", "100", "--read-only").said.endswith("segment of 100 bytes, read-only")
    assert hold("models", "name", "--local", "--lock").said.endswith("created, local, locked")
    # What is there, whatever it is.
    assert hold("models", "bert").said == b.said
    assert hold("models", "name").said.endswith("joined, local")


def test_res11_only_what_is_there(cli, hold):
    for options in (["--local", "--no-create"], ["--segment", "4K", "--no-create"]):
        r = cli("resource", "hold", "models", "bert", *options, status=NOT_FOUND)
        assert "no such resource" in r.err and r.out == b""
    assert "no such resource" in cli("resource", "hold", "models", "bert", status=NOT_FOUND).err
    assert "no such cache" in cli("resource", "hold", "others", "bert", status=NOT_FOUND).err
    hold("models", "bert", "--local")
    assert "another kind" in cli("resource", "hold", "models", "bert", "--segment", "4K", status=REFUSED).err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_res12_ended_by_a_signal(js, hold, number):
    r = hold("models", "bert", "--segment", "4K", "--lock")
    r.p.send_signal(number)
    assert r.end() == (b"", "")
    one, = resources(js)
    assert one["holder_count"] == 0 and one["locked_by"] is None
    # It was given back, and not lost with a death.
    assert not json.loads(hold("models", "bert", "--lock", before=["--json"]).said)["owner_died"]


def test_res13_ended_by_the_end_of_stdin(js, hold):
    r = hold("models", "bert", "--segment", "4K", stdin=subprocess.PIPE)
    r.p.stdin.write(b"x" * 100000)
    r.p.stdin.flush()
    assert resources(js)[0]["holder_count"] == 1 and r.p.poll() is None
    assert r.end() == (b"", "")
    assert resources(js)[0]["holder_count"] == 0


def test_res14_ended_by_the_reader_of_its_lines(js, hold):
    r = hold("models", "bert", "--segment", "4K")
    r.p.stdout.close()
    assert r.p.wait(TIMEOUT) == DONE
    assert resources(js)[0]["holder_count"] == 0


def test_res15_held_by_a_script(sh):
    """As its own coprocess: until the script closes it."""
    r = sh(r'''
        exec 5< <("$C" resource hold jobs one --local --lock)
        read -r line <&5 && echo "$line"
        "$C" resource hold jobs one --local --lock --wait 0s -- true; echo "$?"
        exec 5<&-
        "$C" resource hold jobs one --local --lock -- echo free
        ''', shell="bash")
    first, second, third = r.stdout.splitlines()
    assert first.startswith("held: instance ") and (second, third) == ("4", "free"), r


def test_res16_left_because_its_time_is_over(hold, clock):
    r = hold("names", "k", "--local", "--ttl", "5s")
    clock.advance(6000)
    assert r.end()[0] == b"left: expired\n"


def test_res17_left_because_the_other_end_closed(hold):
    with connected() as (a, b):
        r = hold("db", "redis", "--fd", str(a.fileno()), pass_fds=[a.fileno()])
        assert r.said.endswith("created, stream socket")
        b.close()
        assert r.end()[0] == b"left: hung up\n"


def test_res18_cleared_with_its_cache(cli, hold):
    r = hold("names", "k", "--local")
    cli("clear", "names")
    assert r.end()[0] == b"left: cleared\n"


def test_res19_killed(js, hold):
    r = hold("models", "bert", "--segment", "4K")
    r.p.kill()
    r.p.wait()
    wait_until(lambda: resources(js)[0]["holder_count"] == 0)


def test_res1a_the_daemon_ends_and_comes_again(daemon, js, hold):
    """What processes have goes on, but for streams, of whose messages the new one knows nothing."""
    with connected() as (a, b):
        segment, name = hold("models", "bert", "--segment", "4K", "--lock"), hold("names", "k", "--local")
        stream = hold("db", "redis", "--fd", str(a.fileno()), pass_fds=[a.fileno()])
        cold(daemon)
        assert stream.end()[0] == b"left: unclaimed\n"
        wait_until(lambda: {(r["cache"], h["pid"]) for r in resources(js) for h in r["holders"]} ==
                   {("models", segment.p.pid), ("names", name.p.pid)})
        assert [r["locked_by"] for r in resources(js) if r["cache"] == "models"] == [segment.p.pid]
        for r in (segment, name):
            r.p.terminate()
            assert r.end() == (b"", "")


def test_res1b_the_daemon_ends_for_good(daemon, hold, cli):
    r = hold("models", "bert", "--segment", "4K", "--lock")
    daemon.stop()
    r.p.terminate()
    assert r.end() == (b"", "")
    daemon.start()


def test_res1c_of_a_session(cli, js, hold):
    """The same name is another one, which nobody else sees, and leaves with the session."""
    token = cli("session", "new").text.strip()
    session = ["--session", token]
    everybody = hold("models", "bert", "--segment", "4K")
    first = hold("models", "bert", "--segment", "8K", before=session)
    second = hold("models", "bert", before=session)
    assert second.said == first.said.replace("created", "joined") and first.said.endswith("created, segment of 8K")
    assert [r["size"] for r in resources(js)] == [4096]
    one, = js(*session, "resource", "ls")["resources"]
    assert (one["cache"], one["size"], one["holder_count"]) == ("models", 8192, 2)
    assert js(*session, "resource", "show", "models", "bert")["instances"][0]["instance"] == one["instance"]
    assert js(*session, "resource", "drop", "models", "bert")["holders"] == 2
    assert first.end()[0] == second.end()[0] == b"left: dropped\n"
    third = hold("models", "bert", "--local", "--lock", before=session)
    cli("session", "close", token)
    assert third.end()[0] == b"left: session ended\n"
    assert everybody.p.poll() is None and len(resources(js)) == 1


# ---- with a command

def test_res20_a_socket_is_used_by_commands(daemon, cli, js):
    """Two commands, one after the other, ask over one connection that the first one's shell made."""
    script = 'echo "from $1" >&$CACHED_RESOURCE_FD; read x <&$CACHED_RESOURCE_FD; echo "$x"; test -z "$CACHED_RESOURCE_SIZE"'

    def run(name, fd):
        return subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "resource", "hold", "db", "redis", "--fd", str(fd),
                                 "--lock", "--", "sh", "-c", script, "sh", name], stdout=subprocess.PIPE, pass_fds=[fd],
                                env=environment(CACHED_RESOURCE_SIZE="7"))

    with connected() as (a, b), connected() as (x, y):
        for name, fd in (("one", a.fileno()), ("two", x.fileno())):
            p = run(name, fd)
            assert b.recv(100) == f"from {name}\n".encode()
            b.send(f"answer to {name}\n".encode())
            assert p.communicate(timeout=TIMEOUT)[0] == f"answer to {name}\n".encode() and p.returncode == 0
        one, = resources(js)
        assert (one["kind"], one["what"], one["holder_count"]) == ("descriptor", "stream socket", 0)
        y.setblocking(False)
        with pytest.raises(BlockingIOError):
            y.recv(1)


def test_res21_memory_is_shared_by_commands(sh):
    r = sh(f'''
        h() {{ "$C" resource hold counters n --segment 8 --lock -- "$PY" -c "
import mmap, os
m = mmap.mmap(int(os.environ['CACHED_RESOURCE_FD']), 0)
assert m[:8] == b'csegment' and len(m) == {HEAD} + int(os.environ['CACHED_RESOURCE_SIZE']) == {HEAD} + 8
m[{HEAD}:] = (int.from_bytes(m[{HEAD}:], 'little') + 1).to_bytes(8, 'little')
print(int.from_bytes(m[{HEAD}:], 'little'))"; }}
        h; h; h''')
    assert r.stdout == "1\n2\n3\n" and not r.stderr, r


def test_res22_filled_from_a_file_and_read_only(cli, js, sh, tmp_path):
    (tmp_path / "weights").write_bytes(b"weights!" * 1000)
    script = f'tail -c +{HEAD + 1} /proc/self/fd/$CACHED_RESOURCE_FD | sha256sum; (echo x >&$CACHED_RESOURCE_FD) 2>/dev/null || echo no'
    r = sh(f'''"$C" resource hold models m --segment 8000 --fill {tmp_path}/weights --read-only -- sh -c '{script}'
               "$C" resource hold models m -- sh -c '{script}'
               sha256sum <{tmp_path}/weights''')
    first, no, second, no2, true = r.stdout.splitlines()
    assert first == second == true and no == no2 == "no", r
    assert resources(js)[0]["read_only"] is True
    assert "read-only" in cli("resource", "hold", "models", "m", "--lock", status=USAGE).err


def test_res23_a_file_that_does_not_fit(cli, tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 101)
    options = ["--segment", "100", "--fill", str(tmp_path / "f"), "--", "echo", "run"]
    r = cli("resource", "hold", "models", "m", *options, status=USAGE)
    assert "larger than the segment" in r.err and r.out == b""
    # Nobody else makes it for a moment, and is told why.
    r = cli("resource", "hold", "models", "m", "--segment", "100", status=REFUSED)
    assert "larger than the segment" in r.err
    assert "cannot read" in cli("resource", "hold", "models", "n", "--segment", "1", "--fill", str(tmp_path / "no"), status=USAGE).err


def test_res24_status_of_the_command(cli, sh):
    for script, status in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)):
        assert sh(f'"$C" resource hold j k --local -- sh -c "{script.replace("$", chr(92) + "$")}"').returncode == status
    for command, status in (("/nonexistent", 127), ("no-such-command-here", 127), ("/dev/null", 126), ("/", 126)):
        r = run_plain("--socket", "/nonexistent", "resource", "hold", "j", "k", "--local", "--", command)
        assert r.status == status and command in r.err, r.err


def test_res25_signals_reach_the_command(start, js):
    r = start("resource", "hold", "j", "k", "--local", "--", "sh", "-c", "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    r.out(rb"ready\n")
    r.p.send_signal(signal.SIGTERM)
    assert r.end(3)[0] == b"got\n"
    assert resources(js)[0]["holder_count"] == 0


def test_res26_its_stdin_is_the_commands(cli):
    assert cli("resource", "hold", "j", "k", "--local", "--", "cat", stdin=b"bytes").out == b"bytes"
    assert cli("resource", "hold", "j", "k", "--", "sh", "-c", "test -z \"$CACHED_RESOURCE_FD$CACHED_RESOURCE_SIZE\" && echo \"$@\"",
               "sh", "--lock", "-x").out == b"--lock -x\n"


def test_res27_told_while_the_command_runs(start, cli):
    r = start("resource", "hold", "j", "k", "--segment", "4K", "--", "sh", "-c",
              "echo ready; while test ! -e /proc/self/fd/99 && kill -0 $PPID; do sleep 0.05; done", stdin=subprocess.PIPE)
    r.out(rb"ready\n")
    cli("resource", "drop", "j", "k")
    assert b"it has left its cache: dropped; 'sh' goes on with it" in r.err(rb"\n")
    assert r.p.poll() is None
    r.p.terminate()
    r.end(128 + signal.SIGTERM)


def test_res28_one_in_another(sh):
    """The inner one's variables are its own."""
    r = sh('''"$C" resource hold j a --segment 16 -- sh -c '"$C" resource hold j b --local -- env; "$C" resource ls' ''')
    assert not re.search("^CACHED_RESOURCE", r.stdout, re.M) and len(r.stdout.splitlines()) > 3
    assert re.search(r"^j +a +segment +16 +1 ", r.stdout, re.M) and re.search(r"^j +b +local +- +0 ", r.stdout, re.M), r


# ---- locks

def test_res30_one_at_a_time(daemon, tmp_path):
    """What reads, thinks and writes loses nothing."""
    counter = tmp_path / "n"
    counter.write_text("0")
    script = f'n=$(cat {counter}); sleep 0.02; echo $((n + 1)) >{counter}'
    ps = [subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "resource", "hold", "jobs", "count", "--local", "--lock",
                            "--", "sh", "-c", script], env=environment()) for _ in range(16)]
    assert [p.wait(TIMEOUT) for p in ps] == [0] * 16
    assert counter.read_text() == "16\n"


@pytest.mark.parametrize("kind", [["--local"], ["--segment", "4K"]])
def test_res31_a_deadline_names_who_has_it(cli, hold, kind):
    r = hold("jobs", "one", *kind, "--lock")
    for wait, late in (("0s", "not at once"), ("50ms", "not within 50ms")):
        e = cli("resource", "hold", "jobs", "one", *kind, "--lock", "--wait", wait, "--", "echo", "run", status=REFUSED)
        assert f"{late}: process {r.p.pid} (uid {os.getuid()}) has the lock" in e.err and e.out == b""
    r.p.terminate()
    assert cli("resource", "hold", "jobs", "one", *kind, "--lock", "--wait", "1m", "--", "echo", "run").out == b"run\n"


def test_res32_waits_for_its_turn(hold, start):
    first = hold("jobs", "one", "--local", "--lock")
    second = start("resource", "hold", "jobs", "one", "--local", "--lock")
    time.sleep(0.2)  # long enough to be wrong
    assert second.p.poll() is None
    first.p.terminate()
    assert second.out(rb"\n").endswith(b"joined, local, locked\n")


def test_res33_who_waits_can_be_stopped(hold, start, js):
    first = hold("jobs", "one", "--local", "--lock")
    second = start("resource", "hold", "jobs", "one", "--local", "--lock")
    wait_until(lambda: resources(js)[0]["waiters"] == 1)
    second.p.terminate()
    second.end(-signal.SIGTERM)
    wait_until(lambda: resources(js)[0]["waiters"] == 0)
    assert first.p.poll() is None


@pytest.mark.parametrize("kind", [["--local"], ["--segment", "4K"]])
def test_res34_an_owner_is_killed(cli, hold, kind):
    r = hold("jobs", "one", *kind, "--lock")
    r.p.kill()
    r.p.wait()
    command = ["--", "sh", "-c", "echo \"${CACHED_OWNER_DIED-none}\""]
    e = cli("resource", "hold", "jobs", "one", *kind, "--lock", *command)
    assert e.out == b"1\n" and "was killed" in e.err and "half changed" in e.err
    e = cli("resource", "hold", "jobs", "one", *kind, "--lock", *command)
    assert e.out == b"none\n" and e.err == ""


def test_res35_an_owner_of_a_socket_is_killed(js, hold):
    """Its stream may be in the middle of a message: the next one brings its own, also if it waits already."""
    with connected() as (a, b), connected() as (x, y):
        first = hold("db", "redis", "--fd", str(a.fileno()), "--lock", pass_fds=[a.fileno()])
        other = hold("db", "redis", "--fd", str(x.fileno()), pass_fds=[x.fileno()])
        before = resources(js)[0]["instance"]
        first.p.kill()
        assert other.end()[0] == b"left: owner died\n"
        assert hold("db", "redis", "--fd", str(x.fileno()), "--lock", pass_fds=[x.fileno()]).said.endswith(
            "created, stream socket, locked")
        assert resources(js)[0]["instance"] != before


def test_res36_who_waits_for_a_killed_owner_of_a_socket(js, hold, start):
    with connected() as (a, b), connected() as (x, y):
        first = hold("db", "redis", "--fd", str(a.fileno()), "--lock", pass_fds=[a.fileno()])
        second = start("resource", "hold", "db", "redis", "--fd", str(x.fileno()), "--lock", pass_fds=[x.fileno()])
        wait_until(lambda: resources(js)[0]["waiters"] == 1)
        first.p.kill()
        assert second.out(rb"\n").endswith(b"created, stream socket, locked\n")


def test_res37_a_command_that_is_killed_had_the_lock(cli, sh):
    command = ["--", "sh", "-c", "echo \"${CACHED_OWNER_DIED-none}\""]
    assert sh("\"$C\" resource hold j k --local --lock -- sh -c 'kill -9 $$'").returncode == 137
    assert cli("resource", "hold", "j", "k", "--lock", *command).out == b"1\n"
    # By its own decision: nothing is half done.
    assert sh("\"$C\" resource hold j k --local --lock -- sh -c 'exit 137'").returncode == 137
    assert cli("resource", "hold", "j", "k", "--lock", *command).out == b"none\n"
    # Without the lock it does not matter.
    assert sh("\"$C\" resource hold j k --local -- sh -c 'kill -9 $$'").returncode == 137
    assert cli("resource", "hold", "j", "k", "--lock", *command).out == b"none\n"


def test_res38_dropped_while_others_wait(cli, hold, start, js):
    """Who gets the lock of what has left takes what is there now."""
    first = hold("jobs", "one", "--segment", "4K", "--lock")
    second = start("resource", "hold", "jobs", "one", "--segment", "4K", "--lock")
    wait_until(lambda: resources(js)[0]["waiters"] == 1)
    cli("resource", "drop", "jobs", "one")
    assert first.end()[0] == b"left: dropped\n"
    assert second.out(rb"\n").endswith(b"created, segment of 4K, locked\n")


# ---- refused

@pytest.mark.parametrize("args, meant", [
    ([], "is missing"),
    (["lss"], "did you mean 'ls'"),
    (["frobnicate"], "nothing to do with resources"),
    (["ls", "c", "k"], "too many"),
    (["show"], "CACHE is missing"),
    (["show", "c"], "KEY is missing"),
    (["drop", "c"], "KEY is missing"),
    (["drop", "c", "k", "x"], "too many"),
    (["drop", "c", "k", "--", "x"], "too many"),
    (["hold", "c"], "KEY is missing"),
    (["hold", "c", "k", "true"], "`--` is missing before COMMAND"),
    (["hold", "c", "k", "true", "--", "x"], "one argument too many before `--`"),
    (["hold", "c", "--local", "--", "true"], "hold: KEY is missing before `--`"),
    (["hold", "c", "--", "k", "true", "x"], "hold: KEY is missing before `--`"),
    (["hold", "--local", "--lock", "--", "echo", "hi"], "hold: CACHE is missing before `--`"),
    (["hold", "--local", "--", "true"], "hold: CACHE is missing before `--`"),
    (["--", "hold", "c", "k", "true"], "'hold' is missing before `--`"),
    (["hold", "c", "--fill", "--", "k", "--", "true"], "--fill needs --segment"),
    (["hold", "c", "--fill", "--", "k", "true"], "`--` is missing before COMMAND"),
    (["ls", "--lock"], "--lock does not apply to ls"),
    (["show", "c", "k", "--wait", "1s"], "--wait does not apply to show"),
    (["drop", "c", "k", "--segment", "4K"], "--segment does not apply to drop"),
    (["hold", "", "k"], "CACHE is empty"),
    (["hold", "c", ""], "KEY '': it is empty"),
    (["hold", "c", "x" * 65], "longer than 64"),
    (["hold", "c", "hex:0"], "odd number"),
    (["hold", "c", "k", "--segment", "0"], "--segment '0': it is at least 1"),
    (["hold", "c", "k", "--segment", "much"], "--segment 'much'"),
    (["hold", "c", "k", "--fd", "x"], "--fd 'x'"),
    (["hold", "c", "k", "--fd", "77"], "--fd '77': it is not open here"),
    (["hold", "c", "k", "--fd", "0"], "stdin is what ends it"),
    (["hold", "c", "k", "--fd", "99999999999"], "--fd '99999999999'"),
    (["hold", "c", "k", "--local", "--segment", "4K"], "--segment and --local exclude each other"),
    (["hold", "c", "k", "--local", "--fd", "0"], "--fd and --local exclude each other"),
    (["hold", "c", "k", "--fd", "0", "--segment", "4K"], "--segment and --fd exclude each other"),
    (["hold", "c", "k", "--local", "--pool", "2"], "--pool and --local exclude each other"),
    (["hold", "c", "k", "--segment", "4K", "--pool", "2", "--lock"], "--pool and --lock exclude each other"),
    (["hold", "c", "k", "--segment", "4K", "--pool", "0"], "--pool '0'"),
    (["hold", "c", "k", "--segment", "4K", "--pool", "4097"], "--pool '4097'"),
    (["hold", "c", "k", "--segment", "4K", "--read-only", "--lock"], "--read-only and --lock exclude each other"),
    (["hold", "c", "k", "--read-only"], "--read-only needs --segment"),
    (["hold", "c", "k", "--local", "--fill", "f"], "--fill needs --segment"),
    (["hold", "c", "k", "--segment", "4K", "--fill", "f", "--no-create"], "--fill and --no-create exclude each other"),
    (["hold", "c", "k", "--local", "--ttl", "0s"], "--ttl '0s'"),
    (["hold", "c", "k", "--local", "--wait", "soon"], "--wait 'soon'"),
    (["hold", "c", "k", "--local", "--wait", "50d"], "--wait '50d': it is at most 49d"),
])
def test_res40_usage(args, meant):
    r = run_plain("resource", *args)
    assert r.status == USAGE and meant in r.err and r.out == b"", r.err


def test_res41_json_and_command():
    r = run_plain("--json", "resource", "hold", "c", "k", "--local", "--", "true")
    assert r.status == USAGE and "--json does not apply with COMMAND" in r.err


def test_res42_unreachable(tmp_path):
    for args in (["ls"], ["show", "c", "k"], ["drop", "c", "k"], ["hold", "c", "k", "--local", "--", "echo", "run"]):
        r = run_plain("--socket", str(tmp_path / "none"), "resource", *args)
        assert r.status == UNREACHABLE and r.out == b""


def test_res43_files_that_cannot_be_shared(daemon, cli):
    with open("/dev/null") as f, socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        for file, what in ((f, "device"), (s, "listening")):
            r = cli("resource", "hold", "c", "k", "--fd", str(file.fileno()), "--", "echo", "run", status=REFUSED,
                    pass_fds=[file.fileno()])
            assert what in r.err and r.out == b"", r.err


def test_res44_limits(make_daemon):
    daemon = make_daemon(limits={"resources_per_uid": "1"})
    sock = ["--socket", str(daemon.socket)]
    r = run_plain(*sock, "resource", "hold", "c", "a", "--local", "--", CACHECTL, *sock, "resource", "hold", "c", "b", "--local",
                  "--", "echo", "run")
    assert r.status == REFUSED and "limits.resources_per_uid" in r.err and r.out == b""


# ---- for people

def on_terminal(daemon, columns, *args):
    with terminal(columns) as (master, slave):
        p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), *args], stdin=slave, stdout=slave, stderr=slave,
                             env=environment(), preexec_fn=child_on(slave), close_fds=True)
        assert p.wait(TIMEOUT) == DONE
        return os.read(master, 65536).decode().replace("\r", "")


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_res50_fits_the_terminal(daemon, columns, hold):
    with connected() as (a, b):
        hold("connections of the app", "hex:" + "ab" * 64, "--fd", str(a.fileno()), "--lock", pass_fds=[a.fileno()])
        hold("c" * 128, "läuft ✓", "--segment", "4K")
        text = on_terminal(daemon, columns, "resource", "ls")
        assert len(text.splitlines()) == 3 and all(len(line) <= columns for line in text.splitlines()), text
        assert "…" in text and "hex:ab" in text and "stream" in text and re.search(r"\d+ +0 +\S+ +never$", text, re.M)
        text = on_terminal(daemon, columns, "resource", "show", "connections of the app", "hex:" + "ab" * 64)
        assert "hex:" + "ab" * 64 in text  # to be copied
        assert all(len(line) <= columns for line in text.splitlines() if "hex:" not in line), text


def test_res51_names_do_not_steer_the_terminal(daemon, cli):
    c = holder(daemon, name="red\u202e")
    local(c, "c", b"\x1b[2J")
    for text in (cli("resource", "ls").text, cli("resource", "show", "c", "hex:1b5b324a").text):
        assert "\x1b" not in text and "\u202e" not in text and "hex:1b5b324a" in text
    c.close()


def test_res52_held_until_ctrl_d(daemon):
    with terminal() as (master, slave):
        p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "resource", "hold", "j", "k", "--local"], stdin=slave,
                             stdout=slave, stderr=slave, env=environment(), preexec_fn=child_on(slave), close_fds=True)
        assert os.read(master, 1000).startswith(b"held: instance ")
        os.write(master, b"\x04")
        assert p.wait(TIMEOUT) == DONE
