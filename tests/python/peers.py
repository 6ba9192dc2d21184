# SPDX-License-Identifier: MIT
"""Processes that do what a test says, one expression after the other."""

import json
import pathlib
import sys
import textwrap
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "outside"))

import harness  # noqa: E402

BEFORE = """\
import json, os, sys, threading, time, warnings
warnings.simplefilter("always")
import cached
"""
AFTER = """
def answer(line):
    try:
        return {"value": eval(line)}
    except BaseException as error:
        return {"error": type(error).__name__, "text": str(error)}

for line in sys.stdin:
    print(json.dumps(answer(line)), flush=True)
"""


class Failed(Exception):
    """What an expression raised: its type's name, its text."""


class Peer:
    """A process in which @program ran: peer("expression") gives what that is there."""

    def __init__(self, python, program, name="program", **more):
        self.python = python
        self.process = python.start(BEFORE + textwrap.dedent(program) + AFTER, name=name, **more)
        self.pid = self.process.pid

    def say(self, expression):
        self.process.stdin.write(" ".join(expression.split("\n")) + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(harness.PATIENCE)
            raise AssertionError(f"ended with {self.process.returncode}: {self.process.stderr.read()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"], answer["text"])
        return answer["value"]

    def __call__(self, expression):
        self.say(expression)
        return self.hear()

    def until(self, expression, value=True):
        """Asks until it is @value."""
        end = time.monotonic() + harness.PATIENCE
        while (got := self(expression)) != value:
            assert time.monotonic() < end, f"{expression}: {got!r}, not {value!r}"
            time.sleep(0.005)

    def end(self):
        """In an orderly way; what it wrote to stderr."""
        out, err = self.process.communicate(timeout=harness.PATIENCE)
        assert self.process.returncode == 0, err
        return err

    def kill(self):
        self.process.kill()
        self.process.wait(harness.PATIENCE)
