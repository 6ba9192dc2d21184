# SPDX-License-Identifier: MIT
"""cachectl and its surroundings: descriptors that are closed, terminals, and who runs the daemon."""

import os
import pathlib
import re
import shlex
import socket
import subprocess
import threading

import pytest

import harness
from cachectl import (CACHECTL, DONE, NOT_FOUND, REFUSED, TIMEOUT, UNREACHABLE, USAGE, cli, environment, needs_cachectl,
                      run_plain)

pytestmark = needs_cachectl


def shell(command, stdin=b""):
    """(status, stdout, stderr) of a shell command; no sanitizer complained."""
    p = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, timeout=TIMEOUT, env=environment())
    assert not harness.SANITIZER.search(p.stderr.decode()), p.stderr
    return p.returncode, p.stdout, p.stderr.decode()


@pytest.fixture
def run(daemon):
    """run(ARGUMENTS AND REDIRECTIONS): cachectl with the shell's `>&-` and the like."""
    program = f"{shlex.quote(str(CACHECTL))} --socket {shlex.quote(str(daemon.socket))}"
    return lambda rest, **more: shell(f"{program} {rest}", **more)


# ---- closed descriptors

@pytest.mark.parametrize("args", ["get t k", "ls t", "stats", "--json caches", "--help", "set --help"])
def test_st01_a_closed_stdout_is_told(run, c, args):
    """What should have been printed is not: that is a failure. And it does not go to the daemon."""
    c.set("t", b"k", b"v")
    errors = c.stats().daemon.protocol_errors
    status, _, err = run(f"{args} >&-")
    assert status == USAGE and "cannot write to stdout: Bad file descriptor" in err
    assert c.stats().daemon.protocol_errors == errors


def test_st02_a_closed_stdout_that_nobody_needs(run, c, tmp_path):
    assert run("set t k >&-", stdin=b"v") == (DONE, b"", "")
    assert c.get("t", b"k") == b"v"
    assert run(f"get t k -o {tmp_path}/f >&-") == (DONE, b"", "")
    assert (tmp_path / "f").read_bytes() == b"v"


def test_st03_a_closed_stdin(run, c):
    """Where the value should come from there it is an error, elsewhere it does not matter."""
    status, _, err = run("set t k <&-")
    assert status == USAGE and "cannot read stdin: Bad file descriptor" in err and c.get("t", b"k") is None
    assert run("ping <&-")[0] == DONE


def test_st04_a_closed_stderr(run, c):
    """The complaint is lost, the status is not; and nothing of it is written elsewhere."""
    errors = c.stats().daemon.protocol_errors
    assert run("get t none 2>&-") == (NOT_FOUND, b"", "")
    assert run("get t none <&- >&- 2>&-") == (NOT_FOUND, b"", "")
    assert run("nosuch 2>&-")[0] == USAGE
    assert c.stats().daemon.protocol_errors == errors


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_st05_a_daemon_without_standard_descriptors(make_daemon, closed):
    """Its log goes nowhere then, above all not into its sockets and memory files."""
    d = make_daemon(start=False)
    d.process = subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *d.command()], stderr=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, pass_fds=[d.clock.fd] if d.clock else [])
    harness.wait_until(d.answers, "the daemon answers")
    fds = pathlib.Path(f"/proc/{d.pid}/fd")
    for n in range(3):
        assert not re.match("socket:|.*memfd", os.readlink(fds / str(n))), n
    with d.client() as c:
        c.set("t", b"k", b"v")
        d.config_path.write_text("[limits]\nnonsense = 1\n")
        assert c.status("reload_config") == harness.wire.pb.CONFIG
        assert c.get("t", b"k") == b"v"
        assert c.stats().daemon.protocol_errors == 0
    d.stop()


def test_st06_version_of_a_daemon_into_nothing():
    status, _, err = shell(f"{shlex.quote(str(harness.BINARY))} --version >&-")
    assert status == 1 and "cannot write to stdout: Bad file descriptor" in err


# ---- stderr

def test_st10_a_complaint_is_one_write(tmp_path):
    """Several programs may share a stderr: a line is not mixed with others'. The pipe keeps writes apart."""
    r, w = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
    p = subprocess.run([CACHECTL, "--socket", str(tmp_path / "none"), "get", "c", "k"], stderr=w, timeout=TIMEOUT,
                       env=environment())
    os.close(w)
    writes = []
    while chunk := os.read(r, 65536):
        writes.append(chunk)
    os.close(r)
    assert p.returncode == UNREACHABLE
    text = b"".join(writes)
    assert len(writes) <= text.count(b"\n") and all(x.endswith(b"\n") for x in writes), writes


# ---- values

def test_st20_a_file_that_is_too_large_is_not_read(make_daemon, tmp_path):
    """A file's size is known before it is read: this one would not fit into memory."""
    d = make_daemon(limits={"value_bytes": "100K"})
    path = tmp_path / "sparse"
    with open(path, "wb") as f:
        f.truncate(1 << 40)
    r = run_plain("--socket", str(d.socket), "set", "t", "k", str(path))
    assert r.status == REFUSED and "limits.value_bytes" in r.err
    with open(path, "rb") as f:
        # What is left of it counts, not what it holds.
        f.seek((1 << 40) - 1000)
        p = subprocess.run([CACHECTL, "--socket", str(d.socket), "set", "t", "k"], stdin=f, timeout=TIMEOUT,
                           env=environment())
    assert p.returncode == DONE and d.client().get("t", b"k") == bytes(1000)


def test_st21_reading_from_a_terminal_is_said(daemon, tmp_path):
    """Who forgot FILE learns what it waits for."""
    import pty
    try:
        master, slave = pty.openpty()
    except OSError as e:
        pytest.skip(f"no pseudo-terminal can be had here (is /dev/pts mounted?): {e}")
    p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "set", "t", "k"], stdin=slave,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    os.close(slave)
    try:
        assert p.stderr.readline() == b"cachectl: set: reading from the terminal, end with Ctrl-D\n"
        os.write(master, b"typed\n\x04")
        assert p.communicate(timeout=TIMEOUT) == (b"", b"") and p.returncode == DONE
    finally:
        p.kill()
        p.wait()
        os.close(master)
    assert daemon.client().get("t", b"k") == b"typed\n"


def test_st22_add_and_flags(cli, c):
    """A key that is there: what to leave out has the name that it has here. Flags are bits: hexadecimal is fine."""
    cli("set", "t", "k", "--flags", "0xdeadBEEF", stdin=b"v")
    assert c.lookup("t", b"k")[0].flags == 0xdeadbeef
    r = cli("set", "t", "k", "--add", stdin=b"w", status=NOT_FOUND)
    assert "leave --add out" in r.err


def test_st23_raw_values_have_no_encoding_to_show(cli, c):
    c.set("t", b"k", b"v")
    assert "encoding" not in cli("explain", "t", "k").text and "raw size" not in cli("explain", "t", "k").text
    c.set("t", b"z", b"packed", encoding=harness.wire.pb.ENCODING_LZ4, raw_size=40)
    assert re.search("^encoding +lz4\nraw size +40$", cli("explain", "t", "z").text, re.M)


def test_st24_explain_tells_times_like_the_listings(cli, c):
    c.set("t", b"k", b"v", ttl_ms=3600000)
    text = cli("explain", "t", "k").text
    [in_sentence] = re.findall("expires in (.*)", text)
    [in_table] = re.findall("^ttl left +(.*)", text, re.M)
    assert re.fullmatch(r"59m5\ds|1h", in_sentence) and re.fullmatch(r"59m5\ds|1h", in_table)


# ---- who runs the daemon

@pytest.fixture
def foreign(daemon):
    """A socket of uid 12345 that leads to the daemon."""
    harness.needs_root()
    path = str(daemon.dir / "foreign")
    daemon.dir.chmod(0o777)
    listener = socket.socket(socket.AF_UNIX)
    with harness.acting_as(12345):
        listener.bind(path)
        listener.listen(8)

    def pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def carry(a):
        with a, socket.socket(socket.AF_UNIX) as b:
            b.connect(str(daemon.socket))
            threads = [threading.Thread(target=pump, args=x) for x in ((a, b), (b, a))]
            for t in threads:
                t.start()
            for t in threads:
                t.join()

    def serve():
        carriers = []
        while True:
            try:
                a, _ = listener.accept()
            except OSError:
                break
            carriers.append(threading.Thread(target=carry, args=(a,)))
            carriers[-1].start()
        for t in carriers:
            t.join()

    thread = threading.Thread(target=serve)
    thread.start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    os.unlink(path)


def test_st30_a_foreign_daemon_is_trusted_when_named(foreign):
    """Refused without --service-uid, which the complaint names; taken with it; not with another uid."""
    r = run_plain("--socket", foreign, "ping")
    assert r.status == UNREACHABLE and "12345" in r.err and "--service-uid" in r.err
    assert run_plain("--socket", foreign, "--service-uid", "12346", "ping").status == UNREACHABLE
    assert run_plain("--socket", foreign, "--service-uid", "12345", "ping").status == DONE
    assert run_plain("--socket", foreign, "ping", "--service-uid=12345").status == DONE


def test_st30_so_it_is_by_what_runs_a_command(foreign):
    """Without the option the command runs as if there were no daemon."""
    memo, warm = (["memo", "--verbose", "--", "echo", "x"], ["warm", "c", "--", "echo", "x"])
    for command in memo, warm:
        r = run_plain("--socket", foreign, *command)
        assert (r.status, r.text) == (DONE, "x\n") and "without the cache" in r.err and "12345" in r.err
    foreign = ["--socket", foreign, "--service-uid", "12345"]
    assert "memo: stored: " in run_plain(*foreign, *memo).err and "memo: a hit" in run_plain(*foreign, *memo).err
    assert run_plain(*foreign, *warm).err.startswith("cachectl: warm: c: 0 entries stored")


def test_st31_a_realm_that_is_not_there(cli):
    assert "Leave --realm out for your own." in cli("--realm", "nope", "ping", status=REFUSED).err


def test_st32_numbers_that_are_withheld_are_not_zero(make_daemon):
    """How much other realms hold is for root and the daemon's own user; others see `-` and null."""
    harness.needs_root()
    d = make_daemon(daemon={"socket_mode": "0666"})
    d.client().set("t", b"k", b"v")
    if not os.access(CACHECTL, os.X_OK) or os.stat(CACHECTL.parents[2]).st_mode & 1 == 0:
        pytest.skip("other users cannot run the cachectl under test")

    def as_other(*args):
        return run_plain("--socket", str(d.socket), *args, user=12345, group=12345, extra_groups=[])

    daemon = as_other("--json", "stats").json["daemon"]
    assert daemon["realms"] is None and daemon["bytes_charged"] is None
    assert re.search("^realms +-$", as_other("stats").text, re.M)
    daemon = run_plain("--socket", str(d.socket), "--json", "stats").json["daemon"]
    assert daemon["realms"] == 1 or daemon["realms"] == 2
    assert daemon["bytes_charged"] > 0


def test_st33_a_socket_that_may_not_be_opened(make_daemon):
    """The complaint says whom to ask for what."""
    harness.needs_root()
    d = make_daemon()
    r = run_plain("--socket", str(d.socket), "ping", user=12345, group=12345, extra_groups=[])
    assert r.status == UNREACHABLE
    assert "permission denied: add yourself to the group of" in r.err and "ask the administrator to let you in" in r.err
    assert "socket_mode" not in r.err, "under a service manager that would change nothing"
