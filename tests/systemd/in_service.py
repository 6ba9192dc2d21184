# SPDX-License-Identifier: MIT
"""A plugin for pytest: runs tests of tests/outside against the installed service (pytest -p in_service), inside a
guest. What a test says in its configuration goes into the service's; tests that want a command line, a clock or a
daemon beside the first are skipped: they are not about the sandbox that the unit is.
"""

import os
import pathlib
import subprocess

import pytest

import harness

CONFIG = pathlib.Path("/etc/cached/cached.conf")
SOCKET = pathlib.Path("/run/cached/cached.sock")
UNITS = ["cached.socket", "cached.service"]

harness.HAS_CLOCK = False


def systemctl(*args, check=True):
    return subprocess.run(["systemctl", *args], check=check, capture_output=True, text=True).stdout.strip()


class Process:
    """The service's main process, as far as tests look at it."""

    def __init__(self):
        self.pid = int(systemctl("show", "--value", "-p", "MainPID", "cached.service"))
        self.returncode = None

    def poll(self):
        if self.returncode is None and not os.path.exists(f"/proc/{self.pid}"):
            self.returncode = int(systemctl("show", "--value", "-p", "ExecMainStatus", "cached.service"))
        return self.returncode

    def wait(self, timeout=harness.PATIENCE):
        harness.wait_until(lambda: self.poll() is not None, "the service ends", timeout)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        systemctl("stop", *UNITS, check=False)


class Daemon(harness.Daemon):
    running = False

    def __init__(self, config="", with_clock=True, socket_name="s"):
        if Daemon.running:
            pytest.skip("one service, one daemon")
        super().__init__(config, False, socket_name)
        self.socket, self.config_path = SOCKET, CONFIG
        CONFIG.write_text(config)
        self.cursor = None

    def spawn(self, *more, passed=()):
        if more or passed:
            pytest.skip("the unit says what is passed to the daemon")
        self.cursor = subprocess.run(["journalctl", "-n", "0", "--show-cursor"], check=True, capture_output=True,
                                     text=True).stdout.partition("cursor: ")[2].strip()
        systemctl("reset-failed", *UNITS, check=False)  # nothing, where it never ran
        systemctl("start", *UNITS)
        Daemon.running = True
        return Process()

    def log(self):
        if not self.cursor:
            return ""
        subprocess.run(["journalctl", "--sync"], check=True)
        return subprocess.run(["journalctl", "-o", "cat", "--after-cursor", self.cursor, "-u", "cached.service"],
                              check=True, capture_output=True, text=True).stdout

    def stop(self):
        systemctl("stop", "cached.socket")
        harness.wait_until(lambda: systemctl("is-active", "cached.service", check=False) == "inactive",
                           "the service has ended in order")
        assert systemctl("show", "--value", "-p", "Result", "cached.service") == "success"
        assert not SOCKET.exists(), "the socket file stayed behind"
        self.process = None

    def finish(self, check=True):
        try:
            super().finish(check)
        finally:
            if self.cursor:
                systemctl("stop", *UNITS, check=False)
                Daemon.running = False


harness.Daemon = Daemon
