# SPDX-License-Identifier: MIT
"""Views and buffers of libcached, through viewer.c, against the real daemon; and files through cachectl: values outlive
what becomes of entry, handle and daemon, what is released or killed is charged no more, and a file of any size passes
through cachectl without filling its memory.
"""

import os
import resource
import signal
import subprocess

import pytest

import harness
from cachectl import CACHECTL, DONE, USAGE, cli  # noqa: F401
from harness import wait_until

VIEWER = harness.BUILD / "tests" / "outside" / "viewer"
TIMEOUT_MS = 20000
OK, NOT_FOUND = 0, 1
ERR_UNREACHABLE, ERR_DISCONNECTED = 64, 66
MIB = 1 << 20


class Viewer:
    """The program; each command gives (code, words)."""

    def __init__(self, path):
        self.process = subprocess.Popen([VIEWER, str(path), str(TIMEOUT_MS)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
                                        env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))

    def __call__(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        code, _, text = self.process.stdout.readline().rstrip("\n").partition(" ")
        return int(code), text

    def ok(self, *words):
        code, text = self(*words)
        assert code == OK, text
        return text.split()

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def finish(self):
        if self.process.returncode is None:
            _, err = self.process.communicate(timeout=harness.PATIENCE)
            assert self.process.returncode == 0 and err == "", err


@pytest.fixture
def make_viewer(daemon):
    made = []

    def make():
        made.append(Viewer(daemon.socket))
        return made[-1]

    yield make
    for v in made:
        v.finish()


@pytest.fixture
def v(make_viewer):
    return make_viewer()


def realm(c):
    return c.stats().realm


@pytest.mark.parametrize("size", [0, 1, 64 << 10, 1 * MIB, 4 * MIB, 9 * MIB + 17])
def test_v01_what_is_set_is_seen(v, size):
    """By every way in and every way out, twice."""
    v.ok("set", "a", size, 5)
    ways = [("view", "a", "read"), ("view", "a", "private"), ("get", "a")]
    seen = {tuple(v.ok(*way)[1:]) for way in ways * 2}
    assert len(seen) == 1 and seen.pop()[0] == str(size)


@pytest.mark.parametrize("size", [1, 64 << 10, 1 * MIB, 9 * MIB + 17])
def test_v02_what_is_filled_in_place_is_seen(v, c, size):
    number, n, filled = v.ok("buffer", size, 3)
    v.ok("store", "b", number)
    for way in (("view", "b", "read"), ("view", "b", "private"), ("get", "b")):
        assert v.ok(*way)[1:] == [str(size), filled]
    # Under another key it is the same memory.
    before = realm(c).large_bytes
    v.ok("store", "again", number)
    assert v.ok("get", "again")[1:] == [str(size), filled]
    v.ok("free", number)
    assert v.ok("get", "b")[1:] == [str(size), filled]
    assert before >= (size if size >= 64 << 10 else 0)


def test_v03_a_private_view_is_private(v, make_viewer):
    v.ok("set", "k", 5 * MIB, 1)
    other = make_viewer()
    mine, _, before = v.ok("view", "k", "private")
    theirs = other.ok("view", "k", "private")[0]
    v.ok("scribble", mine)
    assert v.ok("sum", mine)[2] != before
    assert other.ok("sum", theirs)[2] == before == other.ok("get", "k")[2] == v.ok("get", "k")[2]


def test_v04_views_outlive_everything(v, c, daemon):
    v.ok("set", "k", 5 * MIB, 1)
    number, _, before = v.ok("view", "k", "private")
    c.clear("views")
    assert v("view", "k", "read")[0] == NOT_FOUND
    assert v.ok("sum", number)[2] == before
    daemon.signal(signal.SIGKILL)
    assert v.ok("sum", number)[2] == before
    daemon.start()
    assert v.ok("sum", number)[2] == before
    v.ok("set", "k", 6 * MIB, 2)
    another = v.ok("view", "k", "read")
    assert another[1] == str(6 * MIB) and v.ok("sum", number)[2] == before
    v.ok("close")
    assert v.ok("sum", number)[2] == before and v.ok("sum", another[0])[1:] == another[1:]
    v.ok("release", number)
    v.ok("release", another[0])


def test_v05_what_is_released_is_told(v, c):
    """Also what left the cache meanwhile, and after the handle is gone."""
    numbers = []
    for i in range(3):
        v.ok("set", f"k{i}", 5 * MIB, i)
        numbers.append(v.ok("view", f"k{i}", "read")[0])
    assert (realm(c).views, realm(c).view_bytes, realm(c).departed_bytes) == (3, 15 * MIB, 0)
    c.clear("views")
    assert (realm(c).views, realm(c).departed_bytes) == (3, 15 * MIB)
    v.ok("release", numbers[0])
    for _ in range(4):
        v.ok("ping")
    wait_until(lambda: (realm(c).views, realm(c).departed_bytes) == (2, 10 * MIB), "the first to be told of")
    v.ok("close")
    assert realm(c).views == 2
    v.ok("release", numbers[1])
    wait_until(lambda: realm(c).views == 1, "the second to be told of")
    v.ok("release", numbers[2])
    wait_until(lambda: (realm(c).views, realm(c).departed_bytes) == (0, 0), "the third to be told of")


def test_v06_a_killed_reader_holds_nothing(v, c, make_viewer):
    v.ok("set", "k", 5 * MIB, 1)
    other = make_viewer()
    other.ok("view", "k", "private")
    c.clear("views")
    assert (realm(c).views, realm(c).departed_bytes) == (1, 5 * MIB)
    other.kill()
    wait_until(lambda: (realm(c).views, realm(c).departed_bytes) == (0, 0), "the reader's end to be seen")


def meminfo(name):
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith(name + ":"))


def memory():
    """Of the machine's, in shared memory."""
    return meminfo("Shmem")


def test_v07_a_killed_producer_leaves_nothing(c, make_viewer):
    """A file that was not handed over ends with its process, and what was prepared is counted no more."""
    victim = make_viewer()
    size = 64 * MIB
    victim.ok("ping")
    victim.ok("prepare", 4 * MIB, 2)
    victim.ok("buffer", size, 1)
    with open(f"/proc/{victim.process.pid}/smaps_rollup") as f:
        assert any(line.startswith("Pss_Shmem:") and int(line.split()[1]) >= size >> 10 for line in f)
    assert realm(c).prepared_bytes == 8 * MIB and realm(c).large_bytes == 0
    before = memory()
    victim.kill()
    wait_until(lambda: realm(c).prepared_bytes == 0, "it to be counted no more", patience=1)
    wait_until(lambda: memory() <= before - size // 2, "the memory to be free", patience=1)
    assert realm(c).large_bytes == 0 and realm(c).views == 0


def test_v08_prepared_buffers_are_used(v, c):
    v.ok("ping")
    v.ok("prepare", 2 * MIB, 3)
    assert realm(c).prepared_bytes == 6 * MIB
    number, _, filled = v.ok("buffer", 2 * MIB - 100, 1)
    assert realm(c).prepared_bytes == 4 * MIB
    v.ok("store", "k", number)
    assert v.ok("get", "k")[1:] == [str(2 * MIB - 100), filled]


def test_v09_hits_on_views_are_counted(v, c):
    v.ok("set", "k", 5 * MIB, 1)
    for _ in range(10):
        v.ok("release", v.ok("view", "k", "read")[0])
    v.ok("release", v.ok("view", "k", "private")[0])
    assert v("view", "none", "read")[0] == NOT_FOUND
    s = c.stats("views")
    assert (s.hits, s.misses) == (11, 1)


# ---- cachectl

def run_measured(daemon, *args):
    """Status and the memory that it took at most, in bytes."""
    p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "--timeout", "60s", *map(str, args)],
                         stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    return p.returncode, usage.ru_maxrss << 10


def write_pattern(path, n):
    piece = os.urandom(MIB)
    with open(path, "wb") as f:
        for i in range(n // MIB):
            f.write(i.to_bytes(8, "little") + piece[8:])


def same(a, b):
    return subprocess.run(["cmp", a, b]).returncode == 0


def passes_through(daemon, directory, size):
    source, target = directory / "source", directory / "target"
    write_pattern(source, MIB)
    status, little = run_measured(daemon, "set", "files", "little", source)
    assert status == DONE
    write_pattern(source, size)
    status, most = run_measured(daemon, "set", "files", "big", source)
    assert status == DONE and most - little < 16 * MIB
    status, most = run_measured(daemon, "get", "files", "big", "-o", target)
    assert status == DONE and most - little < 16 * MIB
    assert same(source, target)
    return source, target


def test_v20_files_pass_through_cachectl(daemon, tmp_path):
    passes_through(daemon, tmp_path, 256 * MIB)


@pytest.mark.skipif(not harness.LONG, reason="the long form")
def test_v21_large_files_pass_through_cachectl(make_daemon, tmp_path):
    size = 10 << 30
    if meminfo("MemAvailable") < size + (2 << 30) or os.statvfs(tmp_path).f_bavail * 4096 < 3 * size:
        pytest.skip("the machine has not enough memory or disk")
    passes_through(make_daemon(limits={"value_bytes": "16G"}, memory={"realm_budget": "12G", "global_budget": "12G"}), tmp_path,
                   size)


def test_v22_a_part_of_stdin_is_the_rest_of_it(daemon, cli, tmp_path):  # noqa: F811
    """A file on stdin is taken from where it stands; an appended one gets the value at its end."""
    path, out = tmp_path / "in", tmp_path / "out"
    write_pattern(path, 6 * MIB)
    with open(path, "rb") as f:
        os.lseek(f.fileno(), 1000, os.SEEK_SET)
        assert subprocess.run([CACHECTL, "--socket", str(daemon.socket), "set", "t", "k"], stdin=f).returncode == DONE
    out.write_bytes(b"before")
    with open(out, "ab") as f:
        assert subprocess.run([CACHECTL, "--socket", str(daemon.socket), "get", "t", "k"], stdout=f).returncode == DONE
    assert out.read_bytes() == b"before" + path.read_bytes()[1000:]
    p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), "get", "t", "k"], stdout=subprocess.PIPE)
    assert p.communicate()[0] == path.read_bytes()[1000:] and p.returncode == DONE


def test_v23_a_full_disk_leaves_no_part(daemon, tmp_path):
    """The old file stays, and nothing beside it."""
    path, target = tmp_path / "in", tmp_path / "out"
    write_pattern(path, 6 * MIB)
    target.write_bytes(b"old")
    args = [CACHECTL, "--socket", str(daemon.socket)]
    assert subprocess.run([*args, "set", "t", "k", path]).returncode == DONE

    def bounded():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MIB, 5 * MIB))

    p = subprocess.run([*args, "get", "t", "k", "-o", target], preexec_fn=bounded, stderr=subprocess.PIPE, text=True)
    assert p.returncode == USAGE and p.stderr == f"cachectl: get: cannot write {target}: File too large\n"
    assert target.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["in", "out"]


