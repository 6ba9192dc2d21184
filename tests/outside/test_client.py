# SPDX-License-Identifier: MIT
"""libcached against the real daemon, through calls.c: a daemon that is absent, stopped, killed at any moment,
started again; connections that are cut at any byte by a proxy between the two; threads, forks, closing.
"""

import contextlib
import re
import select
import signal
import socket
import struct
import subprocess
import threading

import pytest

import harness
import wire
from harness import SANITIZED, wait_until

CALLS = harness.BUILD / "tests" / "outside" / "calls"

OK, NOT_FOUND, OUTCOME_UNKNOWN = 0, 1, 17
UNREACHABLE, TIMEOUT, DISCONNECTED, CLOSED = 64, 65, 66, 72

# Of a whole call in this file's daemons: long enough that only a daemon that is stopped meets it.
TIMEOUT_MS = 2000 if SANITIZED else 1000


class Calls:
    """The program; each command gives (code, seconds, text)."""

    def __init__(self, path, timeout_ms=TIMEOUT_MS):
        self.process = subprocess.Popen([str(CALLS), str(path), str(timeout_ms)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        code, microseconds, text = self.process.stdout.readline().rstrip("\n").split(" ", 2)
        return int(code), int(microseconds) / 1e6, text

    def code(self, *words):
        return self(*words)[0]

    def finish(self):
        """The end: nothing on stderr, not even from a sanitizer."""
        _, err = self.process.communicate(timeout=harness.PATIENCE)
        assert self.process.returncode == 0 and err == "", err


@pytest.fixture
def make_calls():
    made = []

    def make(*args):
        made.append(Calls(*args))
        return made[-1]

    yield make
    for c in made:
        c.finish()


def counts(text):
    """{code: how often} of `calm`."""
    return {int(code): int(n) for code, n in re.findall(r"(\d+):(\d+)", text)}


def start_again(daemon):
    daemon.process.wait(harness.PATIENCE)
    daemon.process = daemon.spawn()
    wait_until(daemon.answers, "the daemon answers again")


# ---- away


def test_a_absent_then_there(make_daemon, make_calls):
    daemon = make_daemon(start=False)
    calls = make_calls(daemon.socket)
    code, _, text = calls("get", "k")
    assert code == UNREACHABLE and str(daemon.socket) in text
    took = [calls("get", "k") for _ in range(200)]
    assert {t[0] for t in took} == {UNREACHABLE}
    daemon.start()
    wait_until(lambda: calls.code("ping") == OK, "the library finds the daemon")
    assert calls.code("set", "k", "v") == OK
    assert calls("get", "k")[::2] == (OK, "v")


def test_a_connect_does_not_wait_for_a_pause(make_daemon, make_calls):
    daemon = make_daemon(start=False)
    calls = make_calls(daemon.socket)
    for _ in range(20):
        assert calls.code("connect") == UNREACHABLE
    daemon.start()
    assert calls.code("connect") == OK
    assert calls.code("ping") == OK


def test_b_stopped(daemon, make_calls):
    """One call waits for its timeout, those behind it do not, and the first one after the end is answered. What can
    be found without the daemon is, all the while."""
    calls = make_calls(daemon.socket)
    assert calls.code("set", "k", "v") == OK
    with daemon.stopped():
        assert calls("get", "k")[::2] == (OK, "v")
        code, took, text = calls("ping")
        assert code == TIMEOUT and took > TIMEOUT_MS / 1000 * 0.99 and text
        several = [calls("ping") for _ in range(100)]
        assert {s[0] for s in several} == {TIMEOUT}
        assert all(s[2] for s in several)
        # Together they take less than a second one would.
        assert sum(s[1] for s in several) < TIMEOUT_MS / 1000
        assert calls("get", "k")[::2] == (OK, "v")
    wait_until(lambda: calls.code("ping") == OK, "the library finds that it goes on")
    assert calls("get", "k")[::2] == (OK, "v")


def test_b_stopped_from_the_start(daemon, make_calls):
    calls = make_calls(daemon.socket)
    with daemon.stopped():
        assert {calls.code("ping") for _ in range(20)} == {TIMEOUT}
    wait_until(lambda: calls.code("ping") == OK, "the library finds that it goes on")


def test_b_restarted_while_idle(daemon, make_calls):
    calls = make_calls(daemon.socket)
    assert calls.code("set", "k", "v") == OK
    daemon.signal(signal.SIGTERM)
    start_again(daemon)
    assert calls.code("set", "k", "w") == OK
    assert calls("get", "k")[::2] == (OK, "w")


# ---- threads


def test_c_storm_over_kills(daemon, make_calls):
    """Sixteen threads while the daemon is killed and started again: every call returns with a code that fits,
    values are never another key's, and all is well afterwards."""
    calls = make_calls(daemon.socket)
    assert calls.code("storm", "16") == OK
    for _ in range(3):
        with daemon.probe() as c:
            wait_until(lambda: c.stats().daemon.requests > 300, "the storm reached the daemon")
        daemon.signal(signal.SIGKILL)
        start_again(daemon)
    wait_until(lambda: calls.code("connect") == OK, "the library finds the daemon")
    n = counts(calls("calm")[2])
    assert set(n) <= {OK, NOT_FOUND, OUTCOME_UNKNOWN, UNREACHABLE, DISCONNECTED}, n
    assert n[OK] > 500


@pytest.mark.skipif(SANITIZED, reason="AddressSanitizer's allocator does not survive a fork among threads")
def test_c_fork_in_a_storm(daemon, make_calls):
    calls = make_calls(daemon.socket)
    assert calls.code("storm", "4") == OK
    assert [calls.code("fork") for _ in range(10)] == [OK] * 10
    assert set(counts(calls("calm")[2])) <= {OK, NOT_FOUND}


def test_c_close_in_a_storm(daemon, make_calls):
    calls = make_calls(daemon.socket)
    assert calls.code("storm", "16") == OK
    with daemon.probe() as c:
        wait_until(lambda: c.stats().daemon.requests > 100, "the storm reached the daemon")
    assert calls.code("close") == OK
    n = counts(calls("calm")[2])
    assert n[CLOSED] == 16 and set(n) <= {OK, NOT_FOUND, CLOSED}, n
    assert calls.code("ping") == CLOSED


# ---- cut connections


class Proxy:
    """Between libcached and the daemon. Its first connection ends when so many bytes of the change's request, or
    of its reply, went through; later ones pass everything."""

    def __init__(self, daemon, up=None, down=None):
        self.path = daemon.dir / "proxy"
        self.target = str(daemon.socket)
        self.limits = [up, down]
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(8)
        self.n = 0
        self.size = [0, 0]  # of the change's request and its reply
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                self.n += 1
                t = threading.Thread(target=self.serve, args=(near, self.n == 1), daemon=True)
                self.threads.append(t)
                t.start()

    @staticmethod
    def frame(sock):
        def exactly(n):
            out = b""
            while len(out) < n:
                part = sock.recv(n - len(out))
                if not part:
                    raise ConnectionError
                out += part
            return out
        head = exactly(12)
        n_message, n_body = struct.unpack("<IQ", head)
        return head + exactly(n_message + n_body)

    def serve(self, near, is_first):
        with near, socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):
            far.connect(self.target)
            turn = 0
            while select.select([near], [], [], harness.PATIENCE)[0]:
                for i, (a, b) in enumerate(((near, far), (far, near))):
                    data = self.frame(a)
                    if turn == 1:
                        self.size[i] = len(data)
                    if is_first and turn == 1 and self.limits[i] is not None:
                        b.sendall(data[:self.limits[i]])
                        return
                    b.sendall(data)
                turn += 1

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for t in self.threads:
            t.join(harness.PATIENCE)
        self.path.unlink()


def remembers(daemon):
    with wire.Client(daemon.socket, timeout=harness.PATIENCE) as c:
        hello = c.must("hello", protocol_min=1, protocol_max=1, client_id=bytes(range(16))).hello
        return bool(hello.features & wire.pb.FEATURE_REPEAT)


@pytest.mark.parametrize("what", ["up", "down"])
def test_d_cut_at_every_byte(daemon, make_calls, what):
    """An `add` whose request or reply is cut: asked for again, it is answered as the first time. Made twice, the
    second would find the key there."""
    if not remembers(daemon):
        pytest.skip("this daemon does not remember outcomes")
    sizes, at, n = [0, 0], 0, 1
    while at < n:
        proxy = Proxy(daemon, **{what: at})
        calls = Calls(proxy.path)
        try:
            code, _, text = calls("add", f"{what}-{at}", "v")
            assert code == OK, f"{what} {at} of {n}: {code} {text}"
            assert calls("get", f"{what}-{at}")[::2] == (OK, "v")
            assert proxy.n == 2
        finally:
            calls.finish()
            proxy.close()
        sizes = proxy.size
        n = sizes[0] - 2 if what == "up" else sizes[1]  # `repeated` is two bytes more
        # Every byte of the heads and the messages' beginnings, then every third.
        at += 1 if at < 20 else 3
    assert n > 15
