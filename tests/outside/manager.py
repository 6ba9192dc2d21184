# SPDX-License-Identifier: MIT
"""A service manager: listens for a daemon, keeps what that gives it, and starts the next one with all of it.

As much of systemd as the daemon can see (sd_notify(3), sd_listen_fds(3)): messages are handled in order, a
descriptor of which there is a copy is not stored again, and no more than @max are.
"""

import array
import os
import select
import shutil
import socket
import threading

import harness
from harness import PATIENCE, wait_until


def is_same(a, b):
    """Both descriptors are of one open file description; files are enough to tell the daemon's apart."""
    x, y = os.fstat(a), os.fstat(b)
    return (x.st_dev, x.st_ino) == (y.st_dev, y.st_ino) and not os.readlink(f"/proc/self/fd/{a}").startswith("anon")


class Manager:
    def __init__(self, directory, max_fds=1024):
        self.path = directory / "notify"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        os.chmod(self.path, 0o666)
        self.max = max_fds
        self.store = []            # (name, descriptor)
        self.said = []             # messages without descriptors to be kept
        self.refused = 0
        self.polled = []           # names that are to be polled
        self.awake = threading.Event()
        self.awake.set()
        self.lock = threading.Lock()
        self.ending = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ending:
            if not self.awake.wait(0.05) or not select.select([self.sock], [], [], 0.05)[0]:
                continue
            self.hear()

    def hear(self):
        data, control, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, payload in control:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(payload)
        words = dict(line.split("=", 1) for line in data.decode().splitlines())
        with self.lock:
            if "FDSTORE" in words:
                assert len(fds) == 1, words
                self.keep(words, fds[0])
                return
            for fd in fds:
                os.close(fd)
            if "FDSTOREREMOVE" in words:
                self.remove(words["FDNAME"])
            elif "BARRIER" not in words:
                self.said.append(words)

    def keep(self, words, fd):
        if words.get("FDPOLL") != "0":
            self.polled.append(words["FDNAME"])
        if len(self.store) >= self.max or any(is_same(fd, other) for _, other in self.store):
            self.refused += 1
            os.close(fd)
            return
        self.store.append((words["FDNAME"], fd))

    def remove(self, name):
        for entry in [e for e in self.store if e[0] == name]:
            self.store.remove(entry)
            os.close(entry[1])

    # ---- for tests

    def pause(self):
        """Nothing is heard from now on."""
        self.awake.clear()

    def go_on(self):
        self.awake.set()

    def names(self, letter=""):
        with self.lock:
            return sorted(n for n, _ in self.store if n.startswith(letter))

    def heard(self, **words):
        with self.lock:
            return [w for w in self.said if all(w.get(k) == v for k, v in words.items())]

    def status(self):
        with self.lock:
            return next((w["STATUS"] for w in reversed(self.said) if "STATUS" in w), "")

    def end(self):
        """Nobody listens any more."""
        self.ending = True
        self.awake.set()
        self.thread.join(PATIENCE)
        self.sock.close()

    def close(self):
        self.end()
        for _, fd in self.store:
            os.close(fd)


class Service(harness.Daemon):
    """A daemon on a socket that its manager listens at; killed or ended, the next one gets what was kept."""

    def __init__(self, config="", max_fds=1024, environ=None):
        super().__init__(config)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(str(self.socket))
        os.chmod(self.socket, 0o666)
        self.listening.listen(128)
        self.manager = Manager(self.dir, max_fds)
        self.environ = environ or {}
        self.ended = []

    def command(self, *more):
        out = super().command(*more)
        at = out.index("--socket")
        return out[:at] + out[at + 2:]

    def start(self):
        with self.manager.lock:
            passed = [("cached.socket", self.listening.fileno()), *self.manager.store]
            self.manager.said.clear()
            self.process = self.spawn(passed=passed,
                                      environ={"NOTIFY_SOCKET": str(self.manager.path), **self.environ})
        wait_until(lambda: self.process.poll() is not None or self.manager.heard(READY="1"), "it is ready")
        assert self.process.poll() is None, self.log()
        return self

    def again(self, number):
        """Ends it by this signal and starts the next one."""
        self.signal(number)
        self.ended.append(self.process.wait(PATIENCE))
        return self.start()

    def close(self):
        self.listening.close()
        self.manager.close()
        if self.clock:
            self.clock.close()
        shutil.rmtree(self.dir, ignore_errors=True)
