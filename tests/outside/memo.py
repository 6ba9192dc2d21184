# SPDX-License-Identifier: MIT
"""Runs cachectl memo against the daemon of a test.

    memo(ARG…, stdin=…, env=…, status=0)   (stdout, stderr) of a run, whose exit status is checked
    memo.counted(SCRIPT)                   a command that leaves a line behind for each time that it runs
    memo.runs                              so many lines
    memo.stats()                           what the daemon counted
"""

import shlex
import signal
import subprocess

import pytest

import harness
import wire
from cachectl import CACHECTL, TIMEOUT, environment


class Memo:
    """Runs memo against a daemon, in a directory of its own."""

    def __init__(self, daemon, directory):
        self.daemon = daemon
        self.dir = directory
        self.runs_file = directory / "runs"
        self.timeout = "60s"  # the default is for people, and too short for a busy machine

    def command(self, *args):
        return [str(CACHECTL), "--socket", str(self.daemon.socket), "--timeout", self.timeout, "memo",
                *map(str, args)]

    def start(self, *args, env=None, **more):
        # What ignores a signal hands that on: a runner under nohup, too.
        more.setdefault("preexec_fn", lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        more.setdefault("cwd", self.dir)
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.command(*args), env=environment(**(env or {})), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **more)

    def __call__(self, *args, status=0, stdin=b"", env=None, **more):
        """(stdout, stderr) of a run, whose exit status is checked."""
        more.setdefault("cwd", self.dir)
        r = subprocess.run(self.command(*args), input=stdin, capture_output=True, timeout=TIMEOUT,
                           env=environment(**(env or {})), **more)
        assert not harness.SANITIZER.search(r.stderr.decode(errors="replace")), r.stderr
        assert r.returncode == status, f"{args}: {r.returncode} instead of {status}\n{r.stderr}"
        return r.stdout, r.stderr

    def counted(self, script):
        """The words of a shell command that leaves a line behind each time it runs."""
        return "sh", "-c", f"echo run >> {self.runs_file}; {script}"

    @property
    def runs(self):
        return self.runs_file.read_text().count("run") if self.runs_file.exists() else 0

    def stats(self, cache="memo"):
        """The numbers of a cache; all zero before it is there."""
        with self.daemon.probe() as c:
            for s in c.list_caches():
                if s.name == cache:
                    return s
            return wire.pb.CacheStats()


@pytest.fixture
def memo(daemon, tmp_path):
    return Memo(daemon, tmp_path)


def quoted(words):
    """The words as a line for the shell."""
    return " ".join(shlex.quote(w) for w in words)
