# SPDX-License-Identifier: MIT
"""A daemon for one test: its configuration, its clock, its peers of other uids, and its end.

Nothing here sleeps for a fixed time: what has to come true is waited for with a deadline (wait_until), and
time that TTLs live on is moved by Clock.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import pytest

import wire

BUILD = pathlib.Path(os.environ.get("CACHED_BUILD", pathlib.Path(__file__).parents[2] / "build"))
BINARY = BUILD / "daemon" / "cached"
LONG = os.environ.get("CACHED_LONG") == "1"

# Seconds that a condition may take on a busy machine with sanitizers. Never a measurement.
PATIENCE = float(os.environ.get("CACHED_PATIENCE", "20"))

SANITIZER = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error:|Assertion .* failed")


def build_options():
    """The meson options that the daemon under test was built with."""
    try:
        rows = json.loads((BUILD / "meson-info" / "intro-buildoptions.json").read_text())
    except OSError:
        return {}
    return {row["name"]: row["value"] for row in rows}


OPTIONS = build_options()
SANITIZED = "address" in str(OPTIONS.get("b_sanitize", "none"))
# Memory is more than what the program asks for: shadows, freed memory that is kept.
SHADOWED = SANITIZED or "thread" in str(OPTIONS.get("b_sanitize", "none"))
HAS_CLOCK = bool(OPTIONS.get("test-clock", False))


# Puts descriptors where a service manager does, 3 and up, and becomes the command.
PLACE = """
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3 + len(fds)) for fd in fds]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
keep = int(sys.argv[sys.argv.index("--test-clock-fd") + 1]) if "--test-clock-fd" in sys.argv else -1
for name in os.listdir("/proc/self/fd"):
    if int(name) >= 3 + len(fds) and int(name) != keep:
        try:
            os.set_inheritable(int(name), False)
        except OSError:
            pass
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def wait_until(condition, what="the condition", patience=PATIENCE):
    """Waits for a true result and gives it; fails after @patience seconds."""
    deadline = time.monotonic() + patience
    pause = 0.001
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not so after {patience:g} s")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def needs_root():
    if os.geteuid() != 0:
        pytest.skip("needs root: peers of several uids")


@contextlib.contextmanager
def acting_as(uid, groups=()):
    """Within, sockets that are connected carry @uid and @groups: the kernel notes the effective ids."""
    saved = os.getgroups(), os.getegid(), os.geteuid()
    os.setgroups(list(groups))
    os.setegid(groups[0] if groups else uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(saved[2])
        os.setegid(saved[1])
        os.setgroups(saved[0])


class Clock:
    """The daemon's clock is the real one plus what stands in this file: an int64 of milliseconds."""

    def __init__(self, directory):
        self.fd = os.open(directory / "clock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.now = 0
        self.write()

    def write(self):
        os.pwrite(self.fd, struct.pack("<q", self.now), 0)

    def move_above(self, n):
        fd = fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, n)
        os.close(self.fd)
        self.fd = fd

    def advance(self, milliseconds):
        self.now += int(milliseconds)
        self.write()

    def close(self):
        os.close(self.fd)


def config_text(daemon=None, memory=None, limits=None, extra=""):
    """The text of a configuration file; values are written as given."""
    out = []
    for name, section in (("daemon", daemon), ("memory", memory), ("limits", limits)):
        if section:
            out.append(f"[{name}]")
            out += [f"{k} = {v}" for k, v in section.items()]
    return "\n".join(out) + "\n" + extra


class Daemon:
    """One daemon on a socket in a directory of its own; start() gives it a process."""

    def __init__(self, config="", with_clock=True, socket_name="s"):
        # Short, and open to other uids: pytest's own temporary directories are neither.
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cached-t-"))
        self.dir.chmod(0o755)
        self.socket = self.dir / socket_name
        self.config_path = self.dir / "cached.conf"
        self.config_path.write_text(config)
        self.log_path = self.dir / "log"
        self.clock = Clock(self.dir) if with_clock and HAS_CLOCK else None
        self.process = None
        self.clients = []
        self.baseline = None

    # ---- its process

    def command(self, *more):
        out = [str(BINARY), "--socket", str(self.socket), "--config", str(self.config_path), *more]
        if self.clock:
            out += ["--test-clock-fd", str(self.clock.fd)]
        return out

    def spawn(self, *more, passed=(), environ=None):
        """Starts the process without waiting for anything. @passed: (name, descriptor), as a service manager
        passes them."""
        env = dict(os.environ)
        env.pop("CACHED_SOCKET", None)
        env.pop("NOTIFY_SOCKET", None)
        env.pop("PYTEST_CURRENT_TEST", None)
        env["ASAN_OPTIONS"] = "detect_leaks=1:allocator_may_return_null=1:" + env.get("ASAN_OPTIONS", "")
        env["UBSAN_OPTIONS"] = "print_stacktrace=1:" + env.get("UBSAN_OPTIONS", "")
        env.update(environ or {})
        if passed and self.clock:
            self.clock.move_above(3 + len(passed))
        command, keep = self.command(*more), [self.clock.fd] if self.clock else []
        if passed:
            env["LISTEN_FDNAMES"] = ":".join(name for name, _ in passed)
            fds = [fd for _, fd in passed]
            command = [sys.executable, "-c", PLACE, ",".join(map(str, fds)), *command]
            keep += fds
        with open(self.log_path, "ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, pass_fds=keep)

    def start(self):
        self.process = self.spawn()
        wait_until(self.answers, "the daemon answers")
        self.baseline = self.settled()
        return self

    def answers(self):
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log()}"
        try:
            with wire.Client(self.socket, timeout=PATIENCE) as c:
                c.hello()
                return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, pattern):
        return wait_until(lambda: re.search(pattern, self.log()), f"the log says {pattern!r}")

    def signal(self, number):
        self.process.send_signal(number)

    @contextlib.contextmanager
    def stopped(self):
        """Within, the daemon is frozen: what is sent waits and is found all at once."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: self._state() == "T", "the daemon is stopped")
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def _state(self):
        return pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def rss(self):
        """Resident bytes of the process."""
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def fds(self):
        """{kind: count} of its descriptors: sockets, memory files, the rest."""
        out = {"socket": 0, "memfd": 0, "other": 0}
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                target = os.readlink(f"/proc/{self.pid}/fd/{name}")
            except FileNotFoundError:
                continue
            kind = "socket" if target.startswith("socket:") else "memfd" if "memfd:" in target else "other"
            out[kind] += 1
        return out

    def tables(self):
        """How many realms it has, those that hold sessions among them."""
        n = 0
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                n += os.readlink(f"/proc/{self.pid}/fd/{name}").startswith("/memfd:cached:table")
        return n

    def probe(self):
        """A client to look with. Waits for a place: those of clients that just left may still be taken."""
        def enter():
            c = wire.Client(self.socket, timeout=PATIENCE)
            try:
                c.hello()
                return c
            except (wire.Refused, wire.Closed, BrokenPipeError, ConnectionResetError):
                c.close()
                return None
        return wait_until(enter, "a place for one more client")

    def settled(self):
        """The descriptors once no client is connected but the one that looks."""
        with self.probe() as c:
            wait_until(lambda: c.stats().daemon.connections == 1, "all other connections are gone")
            fds = self.fds()
            fds["realms"] = c.stats().daemon.realms
            return fds

    # ---- its clients

    def connect(self, uid=None, groups=(), timeout=PATIENCE):
        """A connection that has not said Hello."""
        if uid is None:
            c = wire.Client(self.socket, timeout)
        else:
            needs_root()
            with acting_as(uid, groups):
                c = wire.Client(self.socket, timeout)
        self.clients.append(c)
        return c

    def client(self, uid=None, groups=(), timeout=PATIENCE, **hello):
        c = self.connect(uid, groups, timeout)
        c.hello(**hello)
        return c

    # ---- its end

    def check(self):
        """Alive, and nothing left over: no connection, no descriptor more than before."""
        assert self.process.poll() is None, f"the daemon died: {self.process.returncode}\n{self.log()}"
        for c in self.clients:
            c.close()
        self.clients.clear()
        # Large values keep a descriptor each while they are stored; clear them away first.
        with self.probe() as c:
            c.clear()
            wait_until(lambda: c.stats().realm.bytes_charged == 0, "all memory comes back after a clear")
            wait_until(lambda: c.stats().realm.session_bytes == 0, "tests close their sessions")
            # Memory files of what holds a realm's sessions, and what is kept of resources.
            hidden = 3 if self.tables() > c.stats().daemon.realms else 0

        def no_more():
            now = self.settled()
            realms = now["realms"] - self.baseline["realms"]
            # A realm is two memory files, and a third one from its first mapped client on.
            return (now["socket"] <= self.baseline["socket"] and now["other"] <= self.baseline["other"]
                    and now["memfd"] <= self.baseline["memfd"] + 2 * realms + (1 + hidden) * now["realms"])
        wait_until(no_more, f"descriptors are back to {self.baseline}, now {self.fds()}")

    def stop(self):
        """SIGTERM, status 0, the socket file gone, no report of a sanitizer."""
        self.signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        assert status == 0, f"status {status} after SIGTERM\n{self.log()}"
        assert not self.socket.exists(), "the socket file stayed behind"
        self.process = None

    def finish(self, check=True):
        """The end of every test. Cleans up whatever happens."""
        try:
            if self.process and check:
                self.check()
                self.stop()
            assert not SANITIZER.search(self.log()), self.log()
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for c in self.clients:
                c.close()
            if self.clock:
                self.clock.close()
            shutil.rmtree(self.dir, ignore_errors=True)
