# SPDX-License-Identifier: MIT
"""cachectl memo: a command runs once, and is replayed byte for byte from then on.

What is replayed, in which order, with which status; what makes a run another one; what is never stored; and
what happens where the cache cannot help: the command runs as if memo was not there. How often a command ran is
seen by the lines that it appends to a file, what the daemon did by its statistics.
"""

import fcntl
import http.server
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading

import pytest

import harness
from cachectl import CACHECTL, TIMEOUT, USAGE, cli, environment, js, needs_cachectl, run_plain
from harness import wait_until
from memo import Memo, memo, quoted

pytestmark = needs_cachectl

MIB = 1 << 20
OPEN = {"daemon": {"socket_mode": "0666"}}  # other users may connect


def readable(f):
    """How many bytes wait in a pipe."""
    return struct.unpack("i", fcntl.ioctl(f, termios.FIONREAD, b"\0" * 4))[0]


# ---- what a hit is

def test_m01_second_run_is_served_from_the_cache(memo, js):
    """The same bytes and status, without the command; hits, misses and time saved are counted."""
    memo("true")  # so that the cache is there, and counts
    command = memo.counted("echo out; echo err >&2; sleep 0.05")
    cold = memo(*command)
    assert cold == (b"out\n", b"err\n")
    for _ in range(3):
        assert memo(*command) == cold
    assert memo.runs == 1
    s = js("stats", "memo")["cache"]
    assert (s["misses"], s["stores"], s["hits"], s["entries"]) == (1, 2, 3, 2)
    assert s["time_saved_us"] >= 3 * 50000


@pytest.mark.parametrize("script", [
    "echo a; echo b >&2; echo c; echo d >&2; echo e",
    "for i in 1 2 3 4 5 6 7 8 9 10; do echo out $i; echo err $i >&2; echo err >&2; done",
    "echo a >&2; echo b; (echo c >&2; echo d); echo e >&2",
])
def test_m02_both_streams_in_the_order_in_which_they_were_written(memo, script):
    """Where both go to one place they are mixed as the command mixed them: when it runs and on each hit."""
    plain = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    for attempt in range(5):
        for _ in "cold", "warm":
            r = subprocess.run(memo.command("--cache", f"m{attempt}", "--", "sh", "-c", script), cwd=memo.dir,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment())
            assert r.stdout == plain
        assert memo.stats(f"m{attempt}").hits == 1


@pytest.mark.parametrize("script, out, err", [
    ("true", b"", b""),
    ("printf 'a\\000b\\377\\000'; printf '\\000' >&2", b"a\0b\xff\0", b"\0"),
    ("printf 'no newline'", b"no newline", b""),
    ("printf only-err >&2", b"", b"only-err"),
])
def test_m03_any_bytes_and_none(memo, script, out, err):
    """Zero bytes, bytes that are no text, no output at all."""
    command = memo.counted(script)
    assert memo(*command) == (out, err)
    assert memo(*command) == (out, err)
    assert memo.runs == 1


def test_m04_large_output_of_both_streams(memo):
    """Megabytes, in pieces of odd sizes, through a pipe and into a file."""
    program = memo.dir / "large.py"
    program.write_text("import os, sys\n"
                       "for i in range(300):\n"
                       "    os.write(1 + i % 2, bytes([i % 256]) * (i * 97 + 1))\n"
                       "os.write(1, b'z' * 6000000)\n")
    command = ["--", sys.executable, str(program)]
    out, err = memo(*command)
    assert len(out) + len(err) == sum(i * 97 + 1 for i in range(300)) + 6000000
    assert memo(*command) == (out, err)
    with open(memo.dir / "file", "wb") as f:
        subprocess.run(memo.command(*command), cwd=memo.dir, stdout=f, env=environment(), check=True,
                       stderr=subprocess.DEVNULL)
    assert (memo.dir / "file").read_bytes() == out
    assert memo.stats().hits == 2


def test_m05_output_comes_as_the_command_produces_it(memo):
    """What was written is there while the command still runs."""
    os.mkfifo(memo.dir / "go")
    p = memo.start("sh", "-c", "echo first; echo second >&2; read x < go; echo $x")
    assert p.stdout.readline() == b"first\n"
    assert p.stderr.readline() == b"second\n"
    assert p.poll() is None
    (memo.dir / "go").write_text("third\n")
    assert p.communicate(timeout=TIMEOUT) == (b"third\n", b"")
    assert memo("sh", "-c", "echo first; echo second >&2; read x < go; echo $x") == (b"first\nthird\n", b"second\n")


def test_m06_what_it_left_running_belongs_to_the_output(memo):
    """The output is complete when nobody can write to it any more."""
    os.mkfifo(memo.dir / "go")
    command = ("sh", "-c", "(read x < go; echo late) & echo early")
    p = memo.start(*command)
    assert p.stdout.readline() == b"early\n"
    (memo.dir / "go").write_text("x\n")
    assert p.communicate(timeout=TIMEOUT)[0] == b"late\n" and p.returncode == 0
    assert memo(*command)[0] == b"early\nlate\n"


@pytest.mark.parametrize("together", [True, False])
def test_m07_a_slow_reader_changes_nothing(memo, together):
    """Where both streams go to one pipe that is full, nothing overtakes; and a hit is what the run was."""
    program = ("import os\n"
               "for i in range(400):\n"
               "    os.write(1 + i % 2, b'%d ' % i + bytes([65 + i % 26]) * (i * 7))\n")
    outputs = []
    for _ in "cold", "warm":
        p = subprocess.Popen(memo.command(sys.executable, "-c", program), cwd=memo.dir, env=environment(),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT if together else subprocess.PIPE)
        wait_until(lambda: readable(p.stdout) >= 20000, "the pipe fills up")
        outputs.append(p.communicate(timeout=TIMEOUT))
        assert p.returncode == 0
    assert outputs[0] == outputs[1] and memo.stats().hits == 1
    if not together:
        assert outputs[0] == tuple(b"".join(b"%d " % i + bytes([65 + i % 26]) * (i * 7) for i in range(k, 400, 2))
                                   for k in (0, 1))


# ---- exit statuses

@pytest.mark.parametrize("status", [1, 2, 3, 7, 255])
def test_m10_failures_are_not_stored(memo, status):
    """A failed command runs again; --cache-failures stores it, and serves it only to those who ask for failures."""
    command = memo.counted(f"echo sorry >&2; exit {status}")
    for n in 1, 2:
        assert memo(*command, status=status) == (b"", b"sorry\n")
        assert memo.runs == n
    for _ in range(2):
        assert memo("--cache-failures", *command, status=status) == (b"", b"sorry\n")
        assert memo.runs == 3
    assert memo(*command, status=status) == (b"", b"sorry\n")
    assert memo.runs == 4


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE])
def test_m11_death_by_signal_is_128_and_never_stored(memo, number):
    """128+N, as a shell has it."""
    command = memo.counted(f"ulimit -c 0; echo x; kill -{int(number)} $$")
    for n in 1, 2:
        assert memo("--cache-failures", *command, status=128 + number)[0] == b"x\n"
        assert memo.runs == n
    assert memo.stats().stores == 0


def test_m12_commands_that_cannot_run(memo):
    """127: there is none; 126: it cannot be executed. With and without a daemon."""
    plain = memo.dir / "plain"
    plain.write_text("text")
    broken = memo.dir / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    rows = [("no-such-command", 127), ("./no-such-command", 127), ("", 127), (str(plain), 126), (str(memo.dir), 126),
            (str(plain / "below"), 127), ("plain", 126), (str(broken), 127)]
    env = {"PATH": f"{memo.dir}:/usr/bin:/bin"}
    for socket in memo.daemon.socket, memo.dir / "none":
        for name, status in rows:
            r = subprocess.run([CACHECTL, "--socket", socket, "memo", "--", name], capture_output=True, cwd=memo.dir,
                               env=environment(**env))
            assert r.returncode == status, (name, r)
            assert r.stderr.startswith(f"cachectl: memo: cannot run '{name}': ".encode()) and not r.stdout
    assert memo.stats().stores == 0


def test_m13_programs_are_found_as_the_shell_finds_them(memo):
    """In $PATH, its order and its empty entries; a file without #! runs in sh."""
    for name in "one", "two":
        (memo.dir / name).mkdir()
        (memo.dir / name / "tool").write_text(f"echo {name} $1\n")
    (memo.dir / "two" / "tool").chmod(0o755)
    env = {"PATH": f"{memo.dir}/one:{memo.dir}/two:/usr/bin:/bin"}
    assert memo("tool", "a", env=env)[0] == b"two a\n"
    (memo.dir / "one" / "tool").chmod(0o755)
    assert memo("tool", "a", env=env)[0] == b"one a\n"
    assert memo("tool", "a", env={"PATH": ":/bin"}, cwd=memo.dir / "two")[0] == b"two a\n"
    assert memo("./tool", "a", cwd=memo.dir / "two")[0] == b"two a\n"


# ---- what makes it another run

def test_m20_words_directory_and_environment(memo):
    """Each word by itself, the working directory, the variables that are named: set, empty, unset."""
    show = "printf '%s|' \"$@\" $(basename $PWD) \"${COLOR-unset}\" \"${OTHER-unset}\""
    (memo.dir / "elsewhere").mkdir()

    def run(*args, **more):
        before = memo.runs
        out = memo(*args, *memo.counted(show), "x", **more)[0]
        return memo.runs - before, out

    script = memo.counted(show)
    words = [("a b",), ("a", "b"), ("a", "", "b"), ("ab",), ()]
    outputs = set()
    for w in words:
        outputs.add(memo("--", *script, "x", *w)[0])
    assert len(outputs) == memo.runs == len(words)
    for w in words:
        memo("--", *script, "x", *w)
    assert memo.runs == len(words)

    assert run(cwd=memo.dir / "elsewhere")[0] == 1
    assert run(cwd=memo.dir / "elsewhere")[0] == 0
    assert run(env={"OTHER": "1"})[0] == 0, "a variable that is not named makes no difference"
    rows = [{}, {"COLOR": ""}, {"COLOR": "red"}, {"COLOR": "red", "OTHER": "2"}]
    for env in rows:
        assert run("--env", "COLOR", "--env", "OTHER", env=env)[0] == 1
    for env in rows:
        assert run("--env", "OTHER", "-e", "COLOR", "--env=COLOR", env=env)[0] == 0


def test_m21_the_program_and_what_is_watched(memo):
    """Their content counts, not their age; the order of --watch does not."""
    tool = memo.dir / "tool"
    tool.write_text(f"#!/bin/sh\necho run >> {memo.runs_file}\ncat one two\n")
    tool.chmod(0o755)
    one, two = memo.dir / "one", memo.dir / "two"
    one.write_text("1")
    two.write_text("2")
    watch = "--watch", "one", "--watch", "two", "--", "./tool"
    assert memo(*watch)[0] == b"12" and memo.runs == 1
    assert memo("-w", "two", "--watch", "one", "-w", "one", "./tool")[0] == b"12" and memo.runs == 1
    one.write_text("3")
    assert memo(*watch)[0] == b"32" and memo.runs == 2
    os.utime(two, (1, 1))
    assert memo(*watch)[0] == b"32" and memo.runs == 2
    one.write_text("1")
    assert memo(*watch)[0] == b"12" and memo.runs == 2, "as it was before"
    tool.write_text(tool.read_text() + "echo new\n")
    assert memo(*watch)[0] == b"12new\n" and memo.runs == 3
    # Which of the files has which content is another matter.
    one.write_text("2")
    two.write_text("1")
    assert memo(*watch)[0] == b"21new\n" and memo.runs == 4


def test_m22_stdin(memo):
    """/dev/null without --stdin; with it all that comes in, small and large, and none is not the same as no --stdin."""
    command = memo.counted("wc -c; readlink /proc/self/fd/0")
    assert memo(*command, stdin=b"ignored")[0] == b"0\n/dev/null\n"
    command = memo.counted("sha256sum | cut -c1-8; cat")
    for n, data in enumerate((b"", b"a", b"b", b"x" * 70000, b"x" * 70000 + b"y", b"y" * (17 * MIB))):
        cold = memo("--stdin", *command, stdin=data)
        assert cold == memo("-i", *command, stdin=data)
        assert memo.runs == 2 + n
    with open("/usr/bin/env", "rb") as f:
        r = subprocess.run(memo.command("--stdin", "--", "sha256sum"), stdin=f, capture_output=True, cwd=memo.dir)
    assert r.stdout == subprocess.run("sha256sum < /usr/bin/env", shell=True, capture_output=True).stdout


def test_m23_ttl(memo, clock):
    """It ends when --ttl says; without it when the cache's policy says."""
    command = memo.counted("echo x")
    memo("--ttl", "10s", *command)
    clock.advance(9000)
    memo(*command)
    assert memo.runs == 1
    clock.advance(2000)
    memo(*command)
    assert memo.runs == 2
    clock.advance(86400 * 1000)
    memo(*command)
    assert memo.runs == 2


def test_m24_caches_are_apart(memo, cli):
    """--cache names another one, and clearing it forgets its runs."""
    command = memo.counted("echo x")
    memo(*command)
    memo("--cache", "other", *command)
    assert memo.runs == 2
    cli("clear", "other")
    memo(*command)
    assert memo.runs == 2
    memo("--cache", "other", *command)
    assert memo.runs == 3


# ---- files: digests that are remembered, changes that must not be missed

def test_m30_digests_of_large_files_are_remembered(memo):
    """A hit does not read a large file again: strace sees no read of it."""
    large = "/usr/bin/python3"
    assert os.stat(large).st_size > 64 * 1024
    memo("--watch", large, "echo", "x")
    s = memo.stats("memo-digests")
    assert s.entries >= 1 and s.stores >= 1
    if not shutil.which("strace"):
        pytest.skip("needs strace to see what is read")
    trace = memo.dir / "trace"
    r = subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=openat,pread64",
                        *memo.command("--watch", large, "echo", "x")], cwd=memo.dir, capture_output=True,
                       env=environment(ASAN_OPTIONS="detect_leaks=0"))
    if r.returncode != 0:
        pytest.skip(f"strace does not work here: {r.stderr.decode()}")
    assert memo.stats("memo-digests").hits >= 1 and memo.stats().hits == 1
    last = re.findall(r'openat\(AT_FDCWD, "/usr/bin/python3".* = (\d+)', trace.read_text())
    assert last, "it is looked at"
    after = trace.read_text().split('"/usr/bin/python3"')[-1]
    assert not re.search(rf"pread64\({last[-1]}, ", after), "and not read"


def test_m31_a_file_that_changed_a_moment_ago_is_not_remembered(memo):
    """Its next change could have the same time stamp. Same size, same mtime, other content: a miss."""
    f = memo.dir / "f"
    for n in range(10):
        f.write_bytes(bytes([n]) * 100000)
        os.utime(f, (1000000000, 1000000000))
        memo("--watch", "f", *memo.counted("head -c1 f"))
        assert memo.runs == n + 1
    with memo.daemon.probe() as c:
        known = [e.key for e in c.list_entries("memo-digests")] if memo.stats("memo-digests").entries else []
    inode = os.stat(f).st_ino.to_bytes(8, "little")
    assert not [k for k in known if k[9:17] == inode]


@pytest.mark.parametrize("what, wrong", [
    ("missing", "No such file or directory"),
    ("directory", "it is a directory; name the files in it"),
    ("fifo", "it is not a regular file"),
    ("/dev/zero", "it is not a regular file"),
    ("file/below", "Not a directory"),
    ("", "it is empty"),
])
def test_m32_files_that_cannot_be_watched(memo, what, wrong):
    """Status 2 and what is wrong with it, with or without a daemon; nothing runs."""
    (memo.dir / "directory").mkdir()
    (memo.dir / "file").touch()
    os.mkfifo(memo.dir / "fifo")
    for socket in memo.daemon.socket, memo.dir / "none":
        r = subprocess.run([CACHECTL, "--socket", socket, "memo", "--watch", what, *memo.counted("true")],
                           cwd=memo.dir, capture_output=True, timeout=TIMEOUT, env=environment())
        assert r.returncode == USAGE and memo.runs == 0
        assert r.stderr.decode().startswith(f"cachectl: memo: --watch '{what}': {wrong}\n"), r.stderr


@pytest.mark.parametrize("change", ["echo 2 > f", "rm f", "mv f g; echo 2 > f", "mv f g; mkdir f",
                                    "echo '#' >> tool", "rm tool"])
def test_m33_what_changes_while_the_command_runs_is_not_stored(memo, change):
    """Nobody knows which content the output stands for. Said on stderr, not with --quiet."""
    for args, said in (("-v",), True), (("--quiet",), False):
        shutil.rmtree(memo.dir / "f", ignore_errors=True)
        for name in "f", "g":
            (memo.dir / name).unlink(missing_ok=True)
        (memo.dir / "f").write_text("1")
        tool = memo.dir / "tool"
        tool.write_text(f"#!/bin/sh\n{change}\necho done\n")
        tool.chmod(0o755)
        out, err = memo(*args, "--watch", "f", "--", "./tool")
        assert out == b"done\n"
        assert (re.search(rb"cachectl: memo: not stored: '(\./tool|f)' changed while the command ran\n", err)
                is not None) == said
    assert memo.stats().stores == 0


def test_m34_what_was_only_touched_is_stored(memo):
    """The content decides."""
    (memo.dir / "f").write_text("1")
    command = "--watch", "f", *memo.counted("touch f; cp f g; mv g f")
    memo(*command)
    memo(*command)
    assert memo.runs == 1


def test_m35_programs_that_may_not_be_read(make_daemon):
    """They run, and are told apart by their identity."""
    harness.needs_root()
    memo = Memo(make_daemon(**OPEN), pathlib.Path("/"))
    tool = memo.daemon.dir / "tool"
    shutil.copy("/bin/echo", tool)
    tool.chmod(0o711)

    def run():
        try:
            r = subprocess.run(memo.command("-v", str(tool), "x"), cwd="/", capture_output=True, user=12345, group=12345,
                               extra_groups=[], env=environment())
        except PermissionError:
            pytest.skip("other users may not run this cachectl")
        assert r.returncode == 0 and r.stdout == b"x\n", r
        return r.stderr

    assert b"stored" in run()
    assert b"a hit" in run()
    tool.touch()
    assert b"stored" in run()


# ---- what is not stored, and what cannot be

def test_m40_output_over_the_limit_passes_through(memo):
    """With a note; from the limit on, nothing is stored and nothing is kept."""
    command = memo.counted("head -c 3000 /dev/zero; head -c 3000 /dev/zero >&2")
    for n in 1, 2:
        out, err = memo("--max-output", "5000", *command)
        assert out == bytes(3000) and memo.runs == n
        assert err == bytes(3000) + (b"cachectl: memo: not stored: the output is larger than 4.8K; --max-output changes "
                                     b"that\n")
    assert memo("--max-output", "5000", "--quiet", *command) == (bytes(3000), bytes(3000))
    memo("--max-output", "7K", *command)
    assert memo("--max-output", "5000", *command) == (bytes(3000), bytes(3000))
    assert memo.runs == 4 and memo.stats().stores == 1


def test_m41_the_daemons_own_limit(make_daemon, tmp_path):
    """The note names whose limit it was."""
    memo = Memo(make_daemon(limits={"value_bytes": 4096}), tmp_path)
    out, err = memo("head", "-c", "5000", "/dev/zero")
    assert out == bytes(5000)
    assert b"not stored: the output is larger than 4K, which is all that the daemon takes" in err


def test_m42_gigabytes_in_bounded_memory(memo):
    """Two of them in the long run. The process never holds more than its buffers."""
    n = 2048 * MIB if harness.LONG else 256 * MIB

    def run(n):
        """What comes out, and the most memory that it took."""
        p = subprocess.Popen(memo.command("--quiet", "--max-output", "1M", "head", "-c", str(n), "/dev/zero"),
                             stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                             env=environment(ASAN_OPTIONS="detect_leaks=0"))
        got = 0
        while part := p.stdout.read(MIB):
            got += len(part)
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        p.stdout.close()
        assert p.returncode == 0
        return got, usage.ru_maxrss * 1024

    small = run(2 * MIB)[1]
    got, large = run(n)
    assert got == n and large - small < 4 * MIB
    assert memo.stats().stores == 0


@pytest.mark.parametrize("warm", [False, True])
def test_m43_a_reader_that_goes_away(memo, warm):
    """`| head -1`: it ends by SIGPIPE, as the command does by itself; a part is never stored."""
    command = "sh", "-c", "seq 1 400000"
    if warm:
        memo(*command)
    line = quoted(memo.command(*command))
    r = subprocess.run(["bash", "-c", f"{line} | head -1; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True,
                       cwd=memo.dir, env=environment())
    assert r.stdout == "1\n141\n" and not r.stderr
    assert memo.stats().stores == (1 if warm else 0)


def test_m44_output_that_cannot_be_written(memo):
    """A full disk is told, and what nobody got is not stored."""
    with open("/dev/full", "wb") as full:
        r = subprocess.run(memo.command("sh", "-c", "echo x; exec sleep 0"), stdout=full, stderr=subprocess.PIPE,
                           cwd=memo.dir, env=environment())
    assert b"cannot write the output: No space left on device" in r.stderr
    assert memo.stats().stores == 0


def test_m45_closed_descriptors(memo):
    """Started without stdin, stdout, stderr: what it opens is not mistaken for them, and output that
    nobody could get is a failure."""
    line = quoted(memo.command(*memo.counted("echo x; echo y >&2")))
    for redirect, status, out in (">&-", 2, ""), ("2>&-", 0, "x\n"), ("<&-", 0, "x\n"), (">&- 2>&- <&-", 2, ""):
        for _ in range(2):
            r = subprocess.run(["sh", "-c", f"{line} {redirect}"], stdout=subprocess.PIPE, text=True, cwd=memo.dir,
                               stderr=subprocess.DEVNULL, env=environment())
            assert (r.returncode, r.stdout) == (status, out)
    assert memo.runs == 3, "what was lost is not stored, what nobody wanted is"


def test_m46_the_command_inherits_nothing_of_ours(memo):
    """No descriptors, no blocked or ignored signals."""
    out = memo("--", "sh", "-c", "ls -l /proc/self/fd; grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status")[0].decode()
    assert len(re.findall(r" \d+ -> ", out)) == 4, out  # 0, 1, 2, and the directory
    for kind in "Blk", "Ign":
        mask = int(re.search(rf"Sig{kind}:\s*(\w+)", out).group(1), 16)
        assert not mask & 1 << (signal.SIGPIPE - 1) and not mask & 1 << (signal.SIGTERM - 1), out


# ---- where the cache cannot help

def test_m50_without_a_daemon_it_runs_plainly(memo, tmp_path):
    """Same output, same status, no word about it; stdin goes through as it comes."""
    def run(*args, **more):
        return subprocess.run([CACHECTL, "--socket", tmp_path / "none", "memo", *args], capture_output=True,
                              cwd=memo.dir, timeout=TIMEOUT, env=environment(), **more)

    r = run("sh", "-c", "cat; echo x; echo y >&2; exit 5", input=b"not read")
    assert (r.returncode, r.stdout, r.stderr) == (5, b"x\n", b"y\n")
    r = run("--stdin", "cat", input=b"read")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"read", b"")
    r = run("-v", "true")
    assert r.stderr.startswith(b"cachectl: memo: without the cache: no daemon answers")
    assert run("sh", "-c", "kill -9 $$").returncode == -9  # it is the command itself


def test_m51_a_daemon_that_does_not_answer(memo):
    """It is given up after --timeout, by default soon, and the command runs."""
    command = memo.counted("cat; echo x")
    memo.timeout = "10ms"
    with memo.daemon.stopped():
        assert memo("--stdin", *command, stdin=b"in ")[0] == b"in x\n"
        r = subprocess.run([CACHECTL, "--socket", memo.daemon.socket, "memo", *command], cwd=memo.dir,
                           capture_output=True, timeout=TIMEOUT, env=environment())
        assert (r.returncode, r.stdout, r.stderr) == (0, b"x\n", b"")
    assert memo.runs == 2


def test_m52_a_daemon_that_dies_meanwhile(memo):
    """The command comes to its end; nothing is said."""
    os.mkfifo(memo.dir / "go")
    p = memo.start("sh", "-c", "echo a; read x < go; echo b")
    assert p.stdout.readline() == b"a\n"
    memo.daemon.process.kill()
    memo.daemon.process.wait()
    memo.daemon.process = None
    (memo.dir / "go").write_text("\n")
    assert p.communicate(timeout=TIMEOUT) == (b"b\n", b"") and p.returncode == 0


def test_m53_a_daemon_that_refuses(make_daemon, tmp_path):
    """A store that is refused is told, not with --quiet; the command's status stands."""
    memo = Memo(make_daemon(limits={"caches_per_realm": 1}), tmp_path)
    memo.daemon.client().set("taken", b"k", b"v")
    out, err = memo("sh", "-c", "echo x; exit 3", status=3)
    assert (out, err) == (b"x\n", b"")
    out, err = memo("echo", "x")
    assert out == b"x\n" and err.startswith(b"cachectl: memo: not stored: the daemon refused: ")
    assert memo("--quiet", "echo", "x") == (b"x\n", b"")


def test_m54_records_that_are_damaged_are_misses(memo, cli):
    """Whatever is stored under the key, nothing of it is printed that is not a record."""
    command = memo.counted("echo x")
    err = memo("-v", *command)[1].decode()
    key = re.search(r"stored: memo hex:(\w{64})\n", err).group(1)
    c = memo.daemon.client()
    good = c.get("memo", bytes.fromhex(key))
    runs = 1
    for bad in (b"", b"x", good[:-1], good + b"\2", good[:4] + b"\2" + good[5:]):
        c.set("memo", bytes.fromhex(key), bad)
        assert memo(*command)[0] == b"x\n"
        runs += 1
        assert memo.runs == runs
        assert c.get("memo", bytes.fromhex(key)) == good, "it is stored anew"
    assert b"a hit" in memo("-v", *command)[1]
    assert "a hit" in cli("explain", "memo", f"hex:{key}").text


def test_m55_what_others_stored_is_a_miss(make_daemon, tmp_path):
    """In a realm that users share, one cannot put words into another's mouth."""
    harness.needs_root()
    memo = Memo(make_daemon(extra="[realm shared]\nwriters = 12345\n", **OPEN), tmp_path)
    command = memo.counted("echo mine")
    run = memo.command("--realm", "shared", "-v", *command)
    r = subprocess.run(run, capture_output=True, text=True, env=environment(), cwd=memo.dir)
    key = bytes.fromhex(re.search(r"stored: memo hex:(\w{64})\n", r.stderr).group(1))
    theirs = memo.daemon.client(uid=12345, realm="shared")
    theirs.set("memo", key, theirs.get("memo", key).replace(b"mine", b"evil"))
    r = subprocess.run(run, capture_output=True, text=True, env=environment(), cwd=memo.dir)
    assert r.stdout == "mine\n" and memo.runs == 2


# ---- usage

def test_m70_usage(memo):
    """Each mistake by name, status 2, nothing runs."""
    rows = [
        ([], "COMMAND is missing"),
        (["--"], "COMMAND is missing"),
        (["--ttl", "10", "true"], "--ttl '10': its unit is missing"),
        (["--ttl", "0s", "true"], "--ttl '0s': a ttl is 1ms to 3650d"),
        (["--cache", "", "true"], "CACHE is empty"),
        (["--env", "A=b", "true"], "--env 'A=b': it takes the name of a variable"),
        (["--env", "", "true"], "--env '': it takes the name of a variable"),
        (["--max-output", "x", "true"], "--max-output 'x': "),
        (["--max-output", "1T", "true"], "--max-output '1T': it is at most 64G"),
        (["-q", "-v", "true"], "--quiet and --verbose exclude each other"),
        (["--nonsense", "true"], "there is no option --nonsense"),
        (["--json", "true"], "--json does not apply"),
    ]
    for args, wrong in rows:
        r = run_plain("--socket", str(memo.daemon.socket), "memo", *args)
        assert r.status == USAGE and not r.out
        assert r.err.startswith(f"cachectl: memo: {wrong}") and r.err.endswith("See `cachectl memo --help`.\n")


def test_m71_options_of_the_command_are_its_own(memo):
    """The first word ends memo's options, with and without `--`."""
    assert memo("echo", "--ttl", "1h", "--json", "-q", "--help")[0] == b"--ttl 1h --json -q --help\n"
    assert memo("--ttl", "1h", "--", "echo", "--", "x")[0] == b"-- x\n"


def test_m72_help():
    """Usage, the options, the statuses, examples."""
    r = run_plain("memo", "--help")
    assert r.status == 0 and not r.err and max(map(len, r.lines)) <= 100
    for word in ("--ttl D", "--watch FILE", "--env NAME", "--stdin", "--cache-failures", "128+N", "126", "127",
                 "Example:\n  cachectl memo ", "With --json: "):
        assert word in r.text


# ---- real work

def test_m80_a_slow_pipeline(memo):
    """What a package manager knows, sorted and hashed."""
    script = "apt-cache dumpavail | sort | sha256sum" if shutil.which("apt-cache") else "dpkg -l | sort | sha256sum"
    cold = memo("sh", "-c", script)
    assert re.fullmatch(rb"[0-9a-f]{64}  -\n", cold[0])
    assert memo("sh", "-c", script) == cold
    assert (memo.stats().hits, memo.stats().stores) == (1, 1)


def test_m81_a_compile(memo):
    """With its sources under --watch: an edit is a miss, and undoing it is a hit."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    (memo.dir / "hello.h").write_text('#define WORD "hello"\n')
    (memo.dir / "hello.c").write_text('#include <stdio.h>\n#include "hello.h"\n'
                                      'int main(void) { int unused; puts(WORD); return 0; }\n')
    command = "--watch", "hello.c", "--watch", "hello.h", "--", "gcc", "-Wall", "-S", "-o", "-", "hello.c"
    cold = memo(*command)
    assert b"hello" in cold[0] and b"unused" in cold[1]
    assert memo(*command) == cold and memo.stats().hits == 1
    (memo.dir / "hello.h").write_text('#define WORD "hullo"\n')
    edited = memo(*command)
    assert b"hullo" in edited[0] and memo.stats().hits == 1
    (memo.dir / "hello.h").write_text('#define WORD "hello"\n')
    assert memo(*command) == cold and memo.stats().hits == 2
    (memo.dir / "hello.c").write_text("int main(void) { return x; }\n")
    for _ in range(2):
        assert b"undeclared" in memo(*command, status=1)[1]
    assert memo.stats().stores == 2


def test_m82_a_fetch(memo):
    """From a server on this machine: one request, however often it is fetched; an error is fetched again."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = bytes(range(256)) * 100
            self.send_response(200 if self.path == "/data" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        fetch = ("import sys, urllib.request\n"
                 "sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())")
        url = f"http://127.0.0.1:{server.server_port}"
        env = {"no_proxy": "*"}
        for _ in range(3):
            assert memo(sys.executable, "-c", fetch, f"{url}/data", env=env)[0] == bytes(range(256)) * 100
        assert asked == ["/data"]
        for _ in range(2):
            memo(sys.executable, "-c", fetch, f"{url}/missing", env=env, status=1)
        assert asked == ["/data", "/missing", "/missing"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
