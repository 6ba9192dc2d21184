# SPDX-License-Identifier: MIT
"""Runs cachectl against the daemon of a test.

    cli(ARG…, stdin=…, status=0)   the result of a run, whose exit status is checked
    js(ARG…)                       the document that it prints with --json
    run_plain(ARG…)                without a socket and without a check of the status
"""

import json
import os
import subprocess

import pytest

import harness

CACHECTL = harness.BUILD / "client" / "cachectl" / "cachectl"
DONE, NOT_FOUND, USAGE, UNREACHABLE, REFUSED = range(5)
# Long enough for 64 MiB through two sanitized programs on a busy machine.
TIMEOUT = 120

needs_cachectl = pytest.mark.skipif(not CACHECTL.exists(), reason=f"no cachectl at {CACHECTL}")


def environment(**more):
    env = {k: v for k, v in os.environ.items() if k not in ("CACHED_SOCKET", "COLUMNS")}
    env["LC_ALL"] = "C.UTF-8"
    env.update(more)
    return env


def finish(process):
    """What every run has to keep: no crash, no report of a sanitizer, complaints in one form."""
    err = process.stderr.decode()
    assert process.returncode >= 0, f"killed by signal {-process.returncode}\n{err}"
    assert not harness.SANITIZER.search(err), err
    if process.returncode in (USAGE, UNREACHABLE, REFUSED):
        assert err.startswith("cachectl: "), err
    return process


class Result:
    def __init__(self, process):
        self.status = process.returncode
        self.out = process.stdout
        self.err = process.stderr.decode()

    @property
    def text(self):
        return self.out.decode()

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def json(self):
        """Exactly one document and its newline."""
        assert self.text.endswith("\n") and not self.text.endswith("\n\n")
        return json.loads(self.text, object_pairs_hook=without_doubles)


def without_doubles(pairs):
    assert len(dict(pairs)) == len(pairs), f"a member appears twice: {pairs}"
    return dict(pairs)


def run_plain(*args, stdin=b"", env=None, **more):
    return Result(finish(subprocess.run([CACHECTL, *args], input=stdin, capture_output=True, timeout=TIMEOUT,
                                        env=env or environment(), **more)))


@pytest.fixture
def cli(daemon):
    """cli(ARG…, stdin=…, status=0): runs cachectl against `daemon` and checks the exit status."""
    def run(*args, status=DONE, **more):
        r = run_plain("--socket", str(daemon.socket), *args, **more)
        assert r.status == status, f"{args}: {r.status} instead of {status}\n{r.err}"
        return r
    return run


@pytest.fixture
def js(cli):
    """js(ARG…): the document that --json prints."""
    def run(*args, status=DONE, **more):
        return cli("--json", *args, status=status, **more).json
    return run
