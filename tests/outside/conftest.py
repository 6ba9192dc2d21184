# SPDX-License-Identifier: MIT
"""Fixtures: a daemon for each test, made by its configuration, checked at its end.

    daemon        a running one with the default configuration
    make_daemon   a function: make_daemon(limits={…}, memory={…}, …) starts another one
    hanging_file  a descriptor whose close() blocks until the test is over
    clock         moves the time of `daemon`; skipped in builds without the test clock
"""

import contextlib
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

import harness


def pytest_configure(config):
    # Tests hold thousands of sockets.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Under nohup SIGHUP is ignored, and so it would be in every process that a test starts and ends by it. A
    # handler is not inherited, and this process goes on all the same.
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_modifyitems(items):
    if not harness.BINARY.exists():
        for item in items:
            item.add_marker(pytest.mark.skip(reason=f"no daemon at {harness.BINARY}: set CACHED_BUILD"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed


@pytest.fixture(autouse=True)
def time_limit(request):
    """No test hangs for ever: after two minutes (twenty in the long run), or the PATIENCE of its file if that is
    more, it fails where it stands."""
    def give_up(*_):
        pytest.fail("the test took too long")
    old = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(max(1200 if harness.LONG else 120, int(getattr(request.module, "PATIENCE", 0))))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture
def make_daemon(request):
    """make_daemon(daemon=…, memory=…, limits=…, extra=…, start=True): daemons that this test owns."""
    made = []

    def make(start=True, with_clock=True, socket_name="s", **config):
        d = harness.Daemon(harness.config_text(**config), with_clock, socket_name)
        made.append(d)
        return d.start() if start else d

    yield make
    failed = getattr(request.node, "failed", False)
    errors = []
    for d in made:
        try:
            # After a failure the leftovers say nothing: only a crash or a sanitizer is worth adding.
            d.finish(check=not failed)
        except BaseException as e:
            errors.append(e)
    if errors:
        raise errors[0]


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


@pytest.fixture
def clock(daemon):
    if not daemon.clock:
        pytest.skip("this build has no test clock: configure with -Dtest-clock=true")
    return daemon.clock


@pytest.fixture
def needs_clock():
    if not harness.HAS_CLOCK:
        pytest.skip("this build has no test clock: configure with -Dtest-clock=true")


@pytest.fixture
def c(daemon):
    """A client of `daemon`, said Hello."""
    return daemon.client()


@pytest.fixture
def hanging_file():
    """A descriptor whose close() blocks until the test is over. Nothing may be forked while it is open: the
    child would hang in closing its copy before it gets to exec."""
    directory = tempfile.mkdtemp(prefix="cached-fuse-")
    ours, theirs = socket.socketpair()
    server = subprocess.Popen([sys.executable, pathlib.Path(__file__).parent / "fusehang" / "fusehang.py", directory,
                               str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    theirs.close()
    ours.settimeout(harness.PATIENCE)
    fds = []
    try:
        with ours:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not fds:
            _, error = server.communicate(timeout=harness.PATIENCE)
            assert server.returncode == 77, error
            pytest.skip(f"cannot mount FUSE here: {error.decode().strip()}")
        yield fds[0]
    finally:
        # Only after the server is gone does any close() of its file return.
        server.kill()
        server.wait()
        server.stderr.close()
        for fd in fds:
            with contextlib.suppress(OSError):  # which says that the server is gone
                os.close(fd)
        os.rmdir(directory)
