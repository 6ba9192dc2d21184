# SPDX-License-Identifier: MIT
"""Processes that use resources through libcached: the program resources.c, and a server to connect to. With fixtures: `start()`
gives one more of them, and `a` and `b` are two."""

import contextlib
import os
import socket
import subprocess
import threading

import pytest

import harness
from harness import PATIENCE
from wire import OK

RESOURCES = harness.BUILD / "tests" / "outside" / "resources"
TIMEOUT_MS = 20000


class User:
    """A process; each command gives (code, text)."""

    def __init__(self, d, timeout_ms=TIMEOUT_MS):
        self.process = subprocess.Popen([RESOURCES, str(d.socket), str(timeout_ms)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1,
                                        env=os.environ | {"TSAN_OPTIONS": "die_after_fork=0 " +
                                                          os.environ.get("TSAN_OPTIONS", "")})
        self.pid = self.process.pid

    def post(self, *words, **options):
        words = [*words, *(f"{name}={value}" for name, value in options.items())]
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline().rstrip("\n")
        assert line, f"the process has ended: {self.process.poll()}"
        code, _, text = line.partition(" ")
        return int(code), text

    def __call__(self, *words, **options):
        self.post(*words, **options)
        return self.answer()

    def must(self, *words, **options):
        code, text = self(*words, **options)
        assert code == OK, (words, options, code, text)
        return int(text) if text.isdigit() else text

    def do(self, what, r):
        """As a Holder: test_q_resource_takeover.kept_files()."""
        assert what == "number_of"
        return self.must("file", r)

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=PATIENCE)
        self.close()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()

    def finish(self):
        """Without an end in good order, if there was none: the process is told that there is nothing more."""
        if self.process.poll() is not None:
            return self.process.returncode
        with contextlib.suppress(ValueError):
            self.process.stdin.close()
        code = self.process.wait(timeout=PATIENCE)
        self.process.stdout.close()
        return code


class EchoServer:
    """On a Unix socket: says each line back with the number of its connection, and how many lines that had."""

    def __init__(self, path):
        self.path, self.connections = str(path), []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                s = self.listener.accept()[0]
                self.connections.append(s)
                threading.Thread(target=self._serve, args=(s, len(self.connections)), daemon=True).start()

    @staticmethod
    def _serve(s, number):
        with contextlib.suppress(OSError), s.makefile("rwb") as f:
            for n, line in enumerate(f):
                f.write(b"%d:%d:%s" % (number, n + 1, line))
                f.flush()

    def hang_up(self, number):
        self.connections[number - 1].shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()
        for s in self.connections:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


@pytest.fixture
def start(daemon):
    users = []

    def one(d=daemon, **options):
        users.append(User(d, **options))
        return users[-1]

    yield one
    for u in users:
        if not u.process.stdin.closed:
            assert u.finish() == 0


@pytest.fixture
def a(start):
    return start()


@pytest.fixture
def b(start):
    return start()


@pytest.fixture
def server(tmp_path):
    s = EchoServer(tmp_path / "echo")
    yield s
    s.close()
