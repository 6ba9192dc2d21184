# SPDX-License-Identifier: MIT
"""Large values under attack: clients that verify every byte (verify.c) beside others that break every rule, and some
that are killed at any moment.

Nobody who keeps to the rules is hurt: no wrong byte, no signal, and no process that hangs; and in the end nothing is
left of any of them, neither memory nor descriptors.
"""

import fcntl
import mmap
import multiprocessing
import os
import random
import signal
import subprocess
import threading
import time

import pytest

import harness
import wire
from harness import LONG, SANITIZED, wait_until
from wire import pb

VERIFY = harness.BUILD / "tests" / "outside" / "verify"
SECONDS = (900 if SANITIZED else 3600) if LONG else 6
PATIENCE = SECONDS + 300
MIB = 1 << 20
FORK = multiprocessing.get_context("fork")
F_ADD_SEALS, SHRINK, GROW, WRITE = 1033, 2, 4, 8


class Verifier:
    def __init__(self, daemon, seconds, seed):
        self.process = subprocess.Popen([str(VERIFY), str(daemon.socket), str(seconds), str(seed)], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def end(self):
        """{name: count}, when its time is over."""
        out, err = self.process.communicate(timeout=SECONDS + harness.PATIENCE + 120)
        assert self.process.returncode == 0, (self.process.returncode, out, err)
        return {name: int(n) for name, n in (word.split("=") for word in out.split())}

    def kill(self):
        self.process.kill()
        self.process.communicate()


class Hostile(FORK.Process):
    """Breaks rules until it is told to stop; what the daemon answers, or that it closes, is its own affair. A process:
    what it holds is its own as long as it lives."""

    def __init__(self, daemon, seed):
        super().__init__(daemon=True)
        self.socket, self.random, self.over = daemon.socket, random.Random(seed), FORK.Event()
        self.client, self.acts = None, FORK.Value("q", 0)

    def run(self):
        signal.alarm(0)
        acts = [self.unsealed, self.other_size, self.no_file, self.changed_meanwhile, self.many, self.hoard, self.rubbish,
                self.area_and_away]
        while not self.over.is_set():
            try:
                if self.client is None or self.random.random() < 0.05:
                    self.connect()
                self.random.choice(acts)()
                self.acts.value += 1
            except (wire.Closed, BrokenPipeError, ConnectionError, TimeoutError):
                self.leave()
        self.leave()

    def connect(self):
        self.leave()
        self.client = wire.Client(self.socket, timeout=20)
        self.client.hello(features=pb.FEATURE_FILES)

    def leave(self):
        if self.client:
            self.client.close()
        self.client = None

    def file(self, size, seals):
        fd = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        if seals:
            fcntl.fcntl(fd, F_ADD_SEALS, seals)
        return fd

    def ask(self, op, fds=(), body=b"", **fields):
        c = self.client
        c.send(wire.request(c.next_id(), op, **fields), body, fds)
        return c.recv()

    def key(self):
        return self.random.randbytes(4)

    def size(self):
        return self.random.choice([4096, 65536, MIB, 3 * MIB, 16 * MIB])

    def hand_over(self, fd, size):
        try:
            return self.ask("set", [fd], cache="hostile", key=self.key(), file_size=size)[0]
        finally:
            os.close(fd)

    def unsealed(self):
        n = self.size()
        fd = self.file(n, self.random.choice([0, SHRINK, GROW, WRITE, SHRINK | GROW]))
        copy = os.dup(fd)
        r = self.hand_over(fd, n)
        os.close(copy)
        assert r.status != pb.OK, r

    def other_size(self):
        n = self.size()
        r = self.hand_over(self.file(n, SHRINK | GROW | WRITE), n + self.random.choice([-4096, 1, 4096, 2**40]))
        assert r.status != pb.OK

    def no_file(self):
        fd = os.open(self.random.choice(["/dev/null", "/", "/proc/self/maps"]), os.O_RDONLY)
        self.hand_over(fd, 4096)

    def changed_meanwhile(self):
        """An area that is written to, and holes punched into it, while the daemon copies from it."""
        n = 4 * MIB
        fd = self.file(n, SHRINK | GROW)
        area = mmap.mmap(fd, n)
        over = threading.Event()

        def meddle():
            while not over.is_set():
                area[:MIB] = b"\xff" * MIB
                area.madvise(mmap.MADV_REMOVE)

        try:
            self.ask("offer_upload", [fd], size=n)
            helper = threading.Thread(target=meddle)
            helper.start()
            for _ in range(10):
                self.ask("set", cache="hostile", key=self.key(), uploaded=pb.Slice(offset=0, size=self.random.randrange(n)))
        finally:
            over.set()
            helper.join()
            area.close()
            os.close(fd)

    def many(self):
        """More descriptors than frames, or fewer."""
        c, fds = self.client, [self.file(4096, SHRINK | GROW | WRITE) for _ in range(self.random.choice([2, 9]))]
        try:
            c.send(wire.request(c.next_id(), "set", cache="hostile", key=b"k", file_size=4096), fds=fds)
            for _ in range(3):
                self.ask("set", cache="hostile", key=b"k", file_size=4096)
        finally:
            for fd in fds:
                os.close(fd)

    def hoard(self):
        """Asks for files, does not read what comes, and goes away."""
        n = 2 * MIB
        self.hand_over(self.file(n, SHRINK | GROW | WRITE), n)
        for _ in range(20):
            c = self.client
            c.send(wire.request(c.next_id(), "get", cache="verify", key=self.random.randrange(16).to_bytes(8, "little"),
                                as_file=True))
        time.sleep(0.05)
        self.leave()

    def rubbish(self):
        self.client.send_raw(wire.frame(self.random.randbytes(200), n_body=self.random.choice([0, 5, 2**40])))
        self.leave()

    def area_and_away(self):
        n = self.random.choice([4096, MIB, 8 * MIB])
        fd = self.file(n, SHRINK | GROW)
        try:
            self.ask("offer_upload", [fd], size=n)
            c = self.client
            c.send(wire.request(c.next_id(), "set", cache="hostile", key=self.key(), uploaded=pb.Slice(size=n)))
        finally:
            os.close(fd)
        self.leave()


def left_over(c):
    """What is still counted of anybody."""
    r = c.stats().realm
    return {name: getattr(r, name) for name in ("views", "view_bytes", "departed_bytes", "upload_bytes", "prepared_bytes",
                                                "held_bytes", "large_bytes") if getattr(r, name)}


def test_attack_mix(make_daemon):
    """All of them at once."""
    d = make_daemon(memory={"realm_budget": "512M", "global_budget": "1G"})
    seed = int(os.environ.get("CACHED_SEED", random.randrange(1 << 30)))
    print(f"CACHED_SEED={seed}")
    chance = random.Random(seed)
    until = time.monotonic() + SECONDS
    verifiers = [Verifier(d, SECONDS, seed + i) for i in range(2)]
    hostile = [Hostile(d, seed + 10 + i) for i in range(2)]
    for h in hostile:
        h.start()
    killed = 0
    try:
        while time.monotonic() < until:
            victim = Verifier(d, SECONDS + 60, chance.randrange(1 << 30))
            time.sleep(min(chance.random() * 2 * SECONDS / 10, 5))
            assert victim.process.poll() is None, victim.end()
            victim.kill()
            killed += 1
            assert d.process.poll() is None, d.log()
    finally:
        for h in hostile:
            h.over.set()
    counts = [v.end() for v in verifiers]
    for h in hostile:
        h.join(60)
        assert h.exitcode == 0 and h.acts.value > 0, (h.exitcode, h.acts.value)
    assert sum(c["stores"] for c in counts) > 0 and sum(c["hits"] for c in counts) > 0, counts
    print(counts, f"killed={killed}", f"hostile={[h.acts.value for h in hostile]}")
    c = d.client()
    c.clear()
    try:
        wait_until(lambda: not left_over(c), "nothing is left of them")
    except pytest.fail.Exception:
        pytest.fail(f"this is left of them: {left_over(c)}")
    assert d.process.poll() is None and c.ping()
    assert signal.SIGBUS not in [-(v.process.returncode or 0) for v in verifiers]
