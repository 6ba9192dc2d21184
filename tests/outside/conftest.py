# SPDX-License-Identifier: MIT
"""Fixtures: a daemon for each test, made by its configuration, checked at its end.

    daemon        a running one with the default configuration
    make_daemon   a function: make_daemon(limits={…}, memory={…}, …) starts another one
    clock         moves the time of `daemon`; skipped in builds without the test clock
"""

import resource
import signal

import pytest

import harness


def pytest_configure(config):
    # Tests hold thousands of sockets.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
