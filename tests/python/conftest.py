# SPDX-License-Identifier: MIT
"""The daemon's fixtures (tests/outside/conftest.py), and the Python package as it was built.

    daemon, make_daemon, clock   as in tests/outside; the package of this process, and of those that a test starts,
                                 finds `daemon`
    python                       a function: python(program, *args) runs a program in a process of its own, and gives what it
                                 printed, from JSON
"""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

OUTSIDE = pathlib.Path(__file__).parents[1] / "outside"
sys.path.insert(0, str(OUTSIDE))

import harness  # noqa: E402

from conftest_outside import *  # noqa: E402, F401, F403


class Processes:
    """Programs in processes of their own."""

    def __init__(self, tmp_path):
        self.folder = tmp_path
        self.running = []

    def start(self, program, *args, name="program", env=None, **more):
        """Starts @program, text, as a script; gives the process. Scripts with one @name are one file."""
        script = self.folder / f"{name}.py"
        text = textwrap.dedent(program)
        if not script.exists() or script.read_text() != text:  # one that runs already may not have read it yet
            script.write_text(text)
        process = subprocess.Popen([sys.executable, script, *map(str, args)], text=True, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(env or {})}, **more)
        self.running.append(process)
        return process

    def result(self, process, check=True):
        """What it printed, the last line as JSON; its errors show where it fails."""
        out, err = process.communicate(timeout=harness.PATIENCE * 3)
        if check:
            assert process.returncode == 0, f"status {process.returncode}\n{out}\n{err}"
        process.errors = err
        lines = out.strip().splitlines()
        return json.loads(lines[-1]) if lines else None

    def __call__(self, program, *args, **more):
        return self.result(self.start(program, *args, **more))

    def end(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def python(tmp_path):
    made = Processes(tmp_path)
    yield made
    made.end()


@pytest.fixture(autouse=True)
def found(request, monkeypatch):
    """The package finds the daemon of the test, and leaves it in order: a daemon's end is checked."""
    from cached import _client

    if "daemon" in request.fixturenames:
        monkeypatch.setenv("CACHED_SOCKET", str(request.getfixturevalue("daemon").socket))
    _client.configure()
    yield
    if _client._process.client is not None:
        _client._process.client.close()
    _client.configure()
