# SPDX-License-Identifier: MIT
"""cachectl resource hold in the place of flock(1): who is killed with whom, and what a script can tell.

    rex0x  `hold` is killed while COMMAND runs
    rex1x  --conflict-exit-code
    rex2x  what `clear` says of resources
"""

import os
import signal

import pytest

from cachectl import NOT_FOUND, REFUSED, USAGE, cli, js, needs_cachectl, run_plain, start
from harness import wait_until

pytestmark = needs_cachectl


def run_killed(start, *options):
    """`hold … -- COMMAND`, killed; the pid of COMMAND, which says nothing after its first line."""
    r = start("resource", "hold", "jobs", "one", *options, "--", "sh", "-c", "echo \"$$ $CACHED_OWNER_DIED\"; read x; exit 3")
    pid = int(r.out(rb"\n").split()[0])
    r.p.kill()
    r.p.wait()
    return pid


def is_running(pid):
    """Its zombie may wait for whoever collects orphans here."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def blocked():
    """A stdin that stays open and has nothing."""
    ends = os.pipe()
    yield ends[0]
    for fd in ends:
        os.close(fd)


@pytest.mark.parametrize("options", [["--local", "--lock"], ["--segment", "4K", "--lock"],
                                     ["--segment", "4K", "--pool", "1"]])
def test_rex00_a_command_that_is_alone_ends_with_hold(start, cli, blocked, options):
    pid = run_killed(lambda *args: start(*args, stdin=blocked), *options)
    wait_until(lambda: not is_running(pid))
    r = cli("resource", "hold", "jobs", "one", *options, "--wait", "20s", "--", "sh", "-c", "echo \"$CACHED_OWNER_DIED\"")
    assert r.out == b"1\n"


def test_rex01_a_command_that_is_not_alone_goes_on(start, blocked):
    pid = run_killed(lambda *args: start(*args, stdin=blocked), "--local")
    try:
        assert is_running(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_rex02_how_a_locked_command_starts(cli, tmp_path):
    """By another way than one that is not: with the same results."""
    lock = ["resource", "hold", "j", "k", "--segment", "16", "--lock", "--"]
    script = tmp_path / "script"
    script.write_text("echo \"script $1\"\n")  # no #!
    script.chmod(0o755)
    assert cli(*lock, script, "x").out == b"script x\n"
    program = tmp_path / "program"
    program.write_text("#!/nonexistent\n")
    program.chmod(0o755)
    r = cli(*lock, program, status=127)
    assert f"cannot execute '{program}'" in r.err and r.out == b""
    assert cli(*lock, "sh", "-c", "exit 5", status=5).err == ""
    # Its mask and what is open in it are as without a lock. (posix_spawn() of glibc ignores signals of its own, above 31.)
    look = ["sh", "-c", "grep SigBlk /proc/self/status; grep SigIgn /proc/self/status | tail -c 9; ls /proc/self/fd | wc -l"]
    with_lock, without = (cli(*words, *look).text.splitlines() for words in (lock, [w for w in lock if w != "--lock"]))
    assert int(with_lock[1], 16) & 0x7fffffff == int(without[1], 16) & 0x7fffffff
    assert with_lock[0] == without[0] and with_lock[2] == without[2]


@pytest.mark.parametrize("number", ["0", "9", "255"])
def test_rex10_in_use(start, cli, number):
    other = start("resource", "hold", "jobs", "one", "--local", "--lock")
    other.out(rb"\n")
    pool = start("resource", "hold", "jobs", "pool", "--segment", "4K", "--pool", "1")
    pool.out(rb"\n")
    for options in (["one", "--local", "--lock"], ["pool", "--segment", "4K", "--pool", "1"]):
        for wait in ("0s", "30ms"):
            args = ["resource", "hold", "jobs", *options, "--wait", wait]
            r = cli(*args, "--conflict-exit-code", number, "--", "echo", "run", status=int(number))
            assert r.out == b"" and r.err == "", r.err
            r = cli(*args, "--conflict-exit-code", number, status=int(number))
            assert r.out == b"" and r.err == "", r.err
            r = cli(*args, "--", "echo", "run", status=REFUSED)
            assert r.out == b"" and r.err


def test_rex11_all_else_is_as_it_was(cli):
    args = ["resource", "hold", "j", "k", "--lock", "--wait", "0s", "--conflict-exit-code", "9"]
    assert "no such cache" in cli(*args, "--", "echo", "run", status=NOT_FOUND).err
    assert cli(*args, "--local", "--", "echo", "run").out == b"run\n"
    assert cli(*args, "--local", "--", "sh", "-c", "exit 5", status=5).err == ""
    assert "another kind" in cli(*args, "--segment", "4K", "--", "echo", "run", status=REFUSED).err


@pytest.mark.parametrize("number", ["256", "-1", "x", ""])
def test_rex12_no_exit_status(number):
    r = run_plain("resource", "hold", "j", "k", "--local", "--conflict-exit-code", number)
    assert r.status == USAGE and "--conflict-exit-code" in r.err


# ---- clear

def make(cli, *keys, before=()):
    for key in keys:
        cli(*before, "resource", "hold", "c", key, "--local", "--", "true")


def test_rex20_how_many_left(cli, js, start):
    cli("set", "c", "ab", stdin=b"v")
    make(cli, "a1", "a2", "b")
    held = start("resource", "hold", "c", "b", "--local")
    held.out(rb"\n")
    assert cli("clear", "c", "--tag", "none").text == "0 entries cleared\n"
    assert cli("clear", "c", "--prefix", "a").text == "1 entry and 2 resources cleared\n"
    assert cli("clear", "c").text == "0 entries and 1 resource cleared\n"
    assert held.end()[0] == b"left: cleared\n"
    assert cli("clear", "c").text == "0 entries cleared\n"
    make(cli, "a", "b")
    assert cli("clear", "--all").text == "0 entries and 2 resources cleared in 1 cache\n"
    make(cli, "a")
    assert js("clear", "c") == {"cache": "c", "tag": None, "prefix": None, "entries": 0, "caches": 1, "resources": 1}


def test_rex21_of_a_session(cli):
    token = cli("session", "new").text.strip()
    session = ["--session", token]
    make(cli, "everybody's")
    make(cli, "a", "b", before=session)
    assert cli(*session, "clear", "--all").text == "0 entries and 2 resources cleared in 1 cache\n"
    make(cli, "a", before=session)
    assert cli(*session, "clear", "c").text == "0 entries and 1 resource cleared\n"
    cli("session", "close", token)
    assert cli("clear", "c").text == "0 entries and 1 resource cleared\n"


def test_rex22_of_a_clear_in_portions(cli, c):
    """Which takes longer than the daemon gives a request at a time."""
    make(cli, "9a", "9b", "8")
    for first in range(0, 50_000, 1000):
        c.set_many("c", [(b"%d" % i, b"v", {}) for i in range(first, first + 1000)])
    n = sum(str(i)[0] == "9" for i in range(50_000))
    assert cli("clear", "c", "--prefix", "9").text == f"{n} entries and 2 resources cleared\n"
