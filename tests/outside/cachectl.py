# SPDX-License-Identifier: MIT
"""Runs cachectl against the daemon of a test.

    cli(ARG…, stdin=…, status=0)   the result of a run, whose exit status is checked
    js(ARG…)                       the document that it prints with --json
    run_plain(ARG…)                without a socket and without a check of the status
    start(ARG…)                    in the background: a Running
    terminal(), child_on(slave)    a pseudo-terminal, and what makes it that of a child
"""

import contextlib
import fcntl
import json
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

CACHECTL = harness.BUILD / "client" / "cachectl" / "cachectl"
DONE, NOT_FOUND, USAGE, UNREACHABLE, REFUSED = range(5)
# Long enough for 64 MiB through two sanitized programs on a busy machine.
TIMEOUT = 120

needs_cachectl = pytest.mark.skipif(not CACHECTL.exists(), reason=f"no cachectl at {CACHECTL}")


def environment(**more):
    env = {k: v for k, v in os.environ.items() if k not in ("CACHED_SOCKET", "COLUMNS")}
    env["LC_ALL"] = "C.UTF-8"
    env.update(more)
    return env


def finish(process):
    """What every run has to keep: no crash, no report of a sanitizer, complaints in one form."""
    err = process.stderr.decode()
    assert process.returncode >= 0, f"killed by signal {-process.returncode}\n{err}"
    assert not harness.SANITIZER.search(err), err
    if process.returncode in (USAGE, UNREACHABLE, REFUSED):
        assert err.startswith("cachectl: "), err
    return process


class Result:
    def __init__(self, process):
        self.status = process.returncode
        self.out = process.stdout
        self.err = process.stderr.decode()

    @property
    def text(self):
        return self.out.decode()

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def json(self):
        """Exactly one document and its newline."""
        assert self.text.endswith("\n") and not self.text.endswith("\n\n")
        return json.loads(self.text, object_pairs_hook=without_doubles)


def without_doubles(pairs):
    assert len(dict(pairs)) == len(pairs), f"a member appears twice: {pairs}"
    return dict(pairs)


def run_plain(*args, stdin=b"", env=None, **more):
    return Result(finish(subprocess.run([CACHECTL, *args], input=stdin, capture_output=True, timeout=TIMEOUT,
                                        env=env or environment(), **more)))


@pytest.fixture
def cli(daemon):
    """cli(ARG…, stdin=…, status=0): runs cachectl against `daemon` and checks the exit status."""
    def run(*args, status=DONE, **more):
        r = run_plain("--socket", str(daemon.socket), *args, **more)
        assert r.status == status, f"{args}: {r.status} instead of {status}\n{r.err}"
        return r
    return run


@pytest.fixture
def js(cli):
    """js(ARG…): the document that --json prints."""
    def run(*args, status=DONE, **more):
        return cli("--json", *args, status=status, **more).json
    return run


class Running:
    """cachectl in the background."""

    def __init__(self, daemon, *args, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, **more):
        self.p = subprocess.Popen([CACHECTL, "--socket", str(daemon.socket), *args], stdout=stdout,
                                  stderr=subprocess.PIPE, stdin=stdin, env=environment(TZ="UTC"), **more)
        self.text = b""

    def read(self, fd, pattern):
        """Reads until the pattern is there; gives all that came so far."""
        deadline = time.monotonic() + harness.PATIENCE
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([fd], [], [], 0.1)[0]:
                part = os.read(fd, 65536)
                assert part, (self.text, self.p.stderr.read() if fd != self.p.stderr.fileno() else "")
                self.text += part
        return self.text

    def out(self, pattern):
        return self.read(self.p.stdout.fileno(), pattern)

    def err(self, pattern):
        self.text = b""
        return self.read(self.p.stderr.fileno(), pattern)

    def end(self, status=DONE):
        """(stdout, stderr) of what was not read."""
        out, err = self.p.communicate(timeout=TIMEOUT)
        assert not harness.SANITIZER.search(err.decode()), err
        assert self.p.returncode == status, (self.p.returncode, err)
        return out, err.decode()


@pytest.fixture
def start(daemon):
    """start(ARG…): cachectl, which goes on."""
    made = []

    def run(*args, **more):
        made.append(Running(daemon, *args, **more))
        return made[-1]

    yield run
    for r in made:
        if r.p.poll() is None:
            r.p.kill()
        r.p.wait()
        for pipe in (r.p.stdin, r.p.stdout, r.p.stderr):
            if pipe:
                pipe.close()


@contextlib.contextmanager
def terminal(columns=80):
    """(master, slave) of a pseudo-terminal."""
    try:
        master, slave = pty.openpty()
    except OSError as e:
        pytest.skip(f"no pseudo-terminal can be had here (is /dev/pts mounted?): {e}")
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield master, slave
    finally:
        os.close(master)


def child_on(slave):
    """The child is the foreground job of the terminal."""
    def set_up():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return set_up
