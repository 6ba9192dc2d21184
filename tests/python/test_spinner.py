# SPDX-License-Identifier: MIT
"""What people see while a function computes."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

import cached
import harness
from cached import _progress

APP = """
import os, sys, time, cached
@cached.cache_data({options})
def load(x):
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    return x
print("value", load(1), flush=True)
"""


class Screen:
    """A terminal, and what is written to it."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.text = ""

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                break
        return self.text

    def until(self, pattern):
        """Waits until that is shown."""
        return harness.wait_until(lambda: re.search(pattern, self.read()), f"{pattern!r} is shown")

    @property
    def last(self):
        """What stands in the line at last."""
        return re.split(r"\r\x1b\[K", self.read())[-1]


@pytest.fixture
def screen():
    made = Screen()
    yield made
    os.close(made.master)
    os.close(made.slave)


@pytest.fixture
def started(python, screen, tmp_path):
    """started(options): a program on a terminal, which computes until started.go is touched."""
    def run(options="", env=None):
        script = tmp_path / "app.py"
        script.write_text("import fcntl, termios\nfcntl.ioctl(2, termios.TIOCSCTTY, 0)\n"
                          + APP.replace("{options}", options))
        process = subprocess.Popen([sys.executable, script, run.go], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=screen.slave, start_new_session=True, text=True,
                                   env={**os.environ, "PYTHONIOENCODING": "utf-8", "TERM": "xterm", **(env or {})})
        python.running.append(process)
        return process

    run.go = tmp_path / "go"
    return run


def test_a_line_that_goes_away(daemon, started, screen):
    process = started()
    screen.until(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] Running load\(\)")
    started.go.touch()
    assert process.communicate(timeout=60)[0] == "value 1\n"
    assert screen.last == ""
    shown = len(screen.text)
    assert started().communicate(timeout=60)[0] == "value 1\n"  # a hit
    assert len(screen.read()) == shown


def test_own_text_and_time(daemon, started, screen):
    process = started('show_spinner="Fetching\\x07 it", show_time=True')
    screen.until(r"Fetching  it \(0\.[0-9] s\)")
    started.go.touch()
    process.communicate(timeout=60)
    assert screen.last == ""


def test_no_spinner(daemon, started, screen):
    process = started("show_spinner=False")
    time.sleep(0.5)
    started.go.touch()
    process.communicate(timeout=60)
    assert screen.read() == ""


@pytest.mark.parametrize("env, frames", [({"PYTHONIOENCODING": "ascii"}, r"[|/\\-]"), ({"TERM": "dumb"}, None)])
def test_simple_terminals(daemon, started, screen, env, frames):
    process = started(env=env)
    if frames:
        screen.until(frames + r" Running load\(\)")
    else:
        time.sleep(0.5)
    started.go.touch()
    process.communicate(timeout=60)
    assert frames or screen.read() == ""


def test_quick_functions_show_nothing(daemon, started, screen):
    started.go.touch()
    started().communicate(timeout=60)
    assert screen.read() == ""


def test_waiting_says_for_whom(daemon, started, screen, python):
    first = python.start(APP.replace("{options}", ""), started.go, name="app")
    harness.wait_until(lambda: computing(daemon), "it computes")
    second = started()
    screen.until(rf"Waiting for load\(\): process {first.pid} \(.*\) computes it, for [0-9.]+ s")
    started.go.touch()
    assert [p.communicate(timeout=60)[0] for p in (first, second)] == ["value 1\n"] * 2
    assert screen.last == ""


def computing(daemon):
    with daemon.probe() as c:
        return len(c.must("list_leases").list_leases.computations)


def test_an_interrupt_leaves_a_clean_line(daemon, started, screen):
    process = started()
    screen.until("Running")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    screen.until("KeyboardInterrupt")
    assert screen.text.index("\r\x1b[KTraceback") > 0


def test_not_in_the_background(daemon, started, screen):
    """A process that has no right to the terminal writes nothing to it: it would be stopped."""
    terminal = _progress._Terminal.__new__(_progress._Terminal)
    written = []
    terminal.fd, terminal.frame, terminal.frames = screen.slave, 0, "|"
    terminal._write = written.append
    pid = os.fork()
    if pid == 0:
        os.setsid()
        import fcntl
        import termios
        fcntl.ioctl(screen.slave, termios.TIOCSCTTY, 0)
        terminal.paint("in front")
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            terminal.paint("behind")
            os._exit(len(written))
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_the_line_fits():
    assert _progress._cut("abc", 2) == "ab" and _progress._cut("日本語", 4) == "日本" and _progress._cut("日本", 3) == "日"
    assert [_progress._elapsed(s) for s in (0.04, 61, 7300)] == ["0.0 s", "1 min 1 s", "2 h 1 min"]


def test_what_others_say_is_harmless():
    shown = _progress.Shown("x", False)
    shown.update(_progress.waiting_text("f", 7, "\x1b[31mname\n", 1500, "half \u202e way", 505))
    assert shown.line(0) == "Waiting for f(): process 7 ( [31mname ) computes it, for 1.5 s: half   way 50 %"


def test_a_hook(daemon):
    told = []

    class Shown:
        def __init__(self, *args):
            told.append(args)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            told.append(error[0])

        def update(self, text):
            told.append(text)

    @cached.cache_data
    def quick(x):
        return x

    @cached.cache_data(show_spinner="Own text")
    def fails(x):
        raise LookupError

    @cached.cache_data(show_spinner=False)
    def silent(x):
        return x

    cached.set_progress(Shown)
    try:
        quick(1), quick(1), silent(1)
        with pytest.raises(LookupError):
            fails(1)
    finally:
        cached.set_progress(None)
    quick(2)
    assert told == [("quick", "Running quick()"), None, ("fails", "Own text"), LookupError]
    with pytest.raises(TypeError, match="hook must be a function"):
        cached.set_progress(3)


@cached.cache_data(cache="waited", version="1")
def waited():
    return 8


def test_a_hook_is_told_who_computes(daemon, python, tmp_path):
    told, go = [], tmp_path / "go"

    @contextlib.contextmanager
    def hook(function, text):
        told.append((function, text))
        yield types.SimpleNamespace(update=told.append)

    app = """
    import os, sys, time, cached
    @cached.cache_data(cache="waited", version="1")
    def waited():
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        return 7
    waited()
    """
    process = python.start(app, go)
    harness.wait_until(lambda: computing(daemon), "it computes")

    cached.set_progress(hook)
    try:
        thread = threading.Thread(target=lambda: told.append(waited()))
        thread.start()
        harness.wait_until(lambda: len(told) > 1, "the wait is told")
        go.touch()
        thread.join()
    finally:
        cached.set_progress(None)
    assert told[0] == ("waited", "Running waited()") and f"process {process.pid}" in told[1] and told[-1] == 7


def test_in_a_notebook(daemon, monkeypatch):
    """IPython's display, as it is called; a stand-in for it."""
    outputs = []

    class Handle:
        def update(self, data, raw):
            outputs.append(data["text/plain"])

    def display(data, raw, display_id):
        outputs.append(data["text/plain"])
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shown = types.ModuleType("IPython.display")
    shown.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)

    @cached.cache_data
    def f(x):
        harness.wait_until(lambda: len(outputs) > 1, "it is shown")
        return x

    assert f(1) == 1
    assert outputs[0] == "Running f()" and outputs[-1] == ""


def test_a_hook_that_raises_lets_others_compute(daemon):
    """Frameworks end a run by an exception, which somebody may keep, with all that it refers to."""
    def hook(function, text):
        raise RuntimeError("the run ends")

    @cached.cache_data
    def f(x):
        return [x]

    cached.set_progress(hook)
    try:
        with pytest.raises(RuntimeError, match="the run ends") as kept:
            f(1)
    finally:
        cached.set_progress(None)
    found = []
    other = threading.Thread(target=lambda: found.append(f(1)), daemon=True)
    other.start()
    other.join(harness.PATIENCE / 2)
    assert found == [[1]] and kept.value.__traceback__ is not None
