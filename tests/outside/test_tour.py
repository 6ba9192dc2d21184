# SPDX-License-Identifier: MIT
"""The tour of README.md, taken: its console blocks are run against a fresh daemon and print what stands there.

A `$ ` begins a command, `> ` goes on with it; the lines below are what it prints, stdout and stderr. All blocks are
one session of one shell. A block of code whose first line names a file (```c hello.c) is that file. Times and dates
may differ, and so may the width of blanks; `ls` has no order.

`python3` is the interpreter that the tests of the Python package take, and finds the package as it was built. What
README has people install for it is left out (INSTALLS), and so is what needs a library that this interpreter has not
(LIBRARIES).
"""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

import harness
import preload
from cachectl import environment, needs_cachectl

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SOCKET = "/run/cached/cached.sock"  # what README calls it
EMPTY = 'cd "$(mktemp -d)"'  # where the files of README are
INSTALLS = ("make -C $CLONE install ", "python3 -m venv ")  # how commands begin whose work the build has done
LIBRARIES = ("cached", "numpy", "pandas")
PACKAGE = harness.BUILD.resolve() / "client" / "python" / "path"

DURATION = r"(\d+[mhd]\d\d[smh]|\d+(\.\d+)? ?(us|ms|s|m|h|d))"
# The same in a text that re.escape() went over.
ESCAPED_DURATION = r"(?<![\w.])" + DURATION.replace(r"\.", r"\\\.").replace(" ?", r"(\\ )?") + r"(?!\w)"
DATE = r"\w+ +(\w+ +\d+|\d+ \w+) .*\d\d:\d\d:\d\d.*"

pytestmark = needs_cachectl


def blocks(text):
    """(kind, file name or "", lines) of each fenced block."""
    out = None
    for line in text.splitlines():
        fence = re.fullmatch(r"```(\w*) ?(\S*)", line)
        if out is None and fence:
            out = (fence[1], fence[2], [])
        elif out is not None and line == "```":
            yield out
            out = None
        elif out is not None:
            out[2].append(line)


def commands(lines):
    """[(command, [lines that it prints])]"""
    out = []
    for line in lines:
        if line.startswith("$ "):
            out.append((line[2:], []))
        elif line.startswith("> ") and not out[-1][1]:
            out[-1] = (f"{out[-1][0]}\n{line[2:]}", [])
        else:
            out[-1][1].append(line)
    for _, printed in out:
        while printed and not printed[-1]:
            printed.pop()
    return out


def pattern(line):
    """What a line of the tour may look like on another day."""
    if re.fullmatch(DATE, line):
        return DATE
    out = re.escape(re.sub(" +", " ", line.strip()))
    out = re.sub(ESCAPED_DURATION, lambda _: DURATION, out)
    return re.sub(r'("(?:ttl_ms|uid|cost_us)":)\d+', lambda m: m[1] + r"\d+", out)


def compare(command, expected, printed):
    printed = [re.sub(" +", " ", line.strip()) for line in printed]
    if " ls " in f" {command} ":
        wanted, left = [pattern(line) for line in expected], list(printed)
        for p in wanted:
            [*found] = [line for line in left if re.fullmatch(p, line)]
            assert found, f"$ {command}\nno line {p!r} in {printed}"
            left.remove(found[0])
        assert not left, f"$ {command}\nnot expected: {left}"
        return
    assert len(expected) == len(printed), f"$ {command}\nexpected {expected}\nprinted {printed}"
    for want, line in zip(expected, printed):
        assert re.fullmatch(pattern(want), line), f"$ {command}\nexpected {want!r}\nprinted  {line!r}"


def session(folder, typed, env):
    """What each of the commands prints, in one shell."""
    script = ["exec 2>&1", "mark() { local s=$?; printf '\\n@@@@\\n'; return $s; }"]
    for command in typed:
        script += [command, "mark"]
    (folder / "session").write_text("\n".join(script) + "\n")
    p = subprocess.run(["bash", "session"], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       text=True, timeout=200)
    parts = p.stdout.split("\n@@@@\n")
    assert len(parts) == len(typed) + 1, p.stdout
    return [[line for line in part.splitlines()] for part in parts[:-1]]


def programs_of(command, files):
    """What a command has Python run: its own text, and the files that it names."""
    return "\n".join([command, *("\n".join(lines) for name, lines in files.items() if name in command.split())])


def needs(command, files):
    """The libraries that a command imports."""
    return {name for name in LIBRARIES if re.search(rf"(?:^|')import {name}\b", programs_of(command, files), re.M)}


def python(folder):
    """Makes `python3` there; gives the libraries that it has."""
    own = pathlib.Path(os.environ.get("CACHED_PYTHON_ENV", harness.BUILD / "python-env")) / "bin" / "python"
    exports = {"PYTHONPATH": PACKAGE, "PYTHONDONTWRITEBYTECODE": "1",
               "LD_LIBRARY_PATH": harness.BUILD.resolve() / "client"}
    runtime = preload.runtime()
    if runtime:
        exports |= {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    # Unbuffered, a line and its end are two writes, between which another process may write.
    lines = ["#!/bin/sh", "unset PYTHONUNBUFFERED",
             *(f"export {name}={shlex.quote(str(value))}" for name, value in exports.items()),
             f'exec {shlex.quote(str(own.absolute()) if own.exists() else "/usr/bin/python3")} "$@"']
    program = folder / "python3"
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    ask = f"import importlib.util as u; print(*[name for name in {LIBRARIES} if u.find_spec(name)])"
    found = set(subprocess.run([program, "-c", ask], capture_output=True, text=True, check=True).stdout.split())
    assert "cached" in found or not (PACKAGE / "cached").exists(), "the package that was built is not found"
    return found


@pytest.fixture
def workplace(daemon, tmp_path):
    """A folder that looks like a clone with a build in it."""
    (tmp_path / "build").symlink_to(harness.BUILD.resolve())
    for name in ("client", "proto", "daemon"):
        (tmp_path / name).symlink_to(ROOT / name)
    sanitize = str(harness.OPTIONS.get("b_sanitize", "none"))
    compiler = ["gcc"] + ([f"-fsanitize={sanitize}"] if sanitize not in ("none", "[]") else [])
    (tmp_path / "bin").mkdir()
    (tmp_path / "tour").mkdir()
    (tmp_path / "bin" / "cc").write_text(f"#!/bin/sh\nexec {shlex.join(compiler)} \"$@\"\n")
    (tmp_path / "bin" / "cc").chmod(0o755)
    return tmp_path


def test_tr01_the_tour(daemon, workplace):
    steps, files = [], {}
    for kind, name, lines in blocks(README.read_text()):
        if name:
            files[name] = lines
            (workplace / "tour" / name).write_text("\n".join(lines) + "\n")
        if kind == "console":
            steps += commands(lines)
    assert len(steps) > 10
    assert (EMPTY, []) in steps
    there = python(workplace / "bin")
    steps = [step for step in steps if not step[0].startswith(INSTALLS) and needs(step[0], files) <= there]
    env = environment(CACHED_SOCKET=str(daemon.socket), PATH=f"{workplace}/bin:/usr/bin:/bin", TZ="UTC")
    typed = [command.replace(SOCKET, str(daemon.socket)).replace(EMPTY, "cd tour") for command, _ in steps]
    for (command, expected), printed in zip(steps, session(workplace, typed, env)):
        assert not harness.SANITIZER.search("\n".join(printed)), printed
        compare(command, expected, [line.replace(str(daemon.socket), SOCKET) for line in printed])


def test_tr02_what_differs_is_seen():
    """The comparison itself: what may differ and what may not."""
    for want, line in (("it answers in 29us, up for 304ms", "it answers in 1.2ms, up for 2m03s"),
                       ("   8   59m59s  -  3  key2", "8 1h - 3 key2"), ("gone, 18ms ago", "gone, 1s ago"),
                       ("Sun Nov 22 08:32:42 UTC 2026", "Mon Jan  5 18:02:01 UTC 2026"), ('{"ttl_ms":12}', '{"ttl_ms":99}')):
        compare("x", [want], [line])
    for want, line in (("2 entries", "3 entries"), ("value 3", "value 4"), ("key2  8", "key3  8"), ("up", "up for 3s"),
                       ('{"size":12}', '{"size":99}')):
        with pytest.raises(AssertionError):
            compare("x", [want], [line])
    with pytest.raises(AssertionError):
        compare("x", ["a", "b"], ["b", "a"])
    compare("cachectl ls demo", ["a", "b"], ["b", "a"])
    with pytest.raises(AssertionError):
        compare("cachectl ls demo", ["a", "b"], ["a", "a"])


def test_tr02_what_a_command_needs_is_seen():
    files = {"a.py": ["import sys", "", "import pandas as pd", "import cached"], "b.py": ["import cached_pb2"]}
    assert needs("for i in 1 2; do python3 a.py x; done", files) == {"pandas", "cached"}
    assert needs("python3 b.py", files) == needs("cat data.py", files) == set()
    assert needs("python3 -c 'import cached; print(cached)'", files) == {"cached"}


def test_tr03_every_file_that_the_documents_link_is_there():
    for document in ("README.md", "ARCHITECTURE.md", "NEWS.md", "tests/bench/README.md", "client/python/README.md",
                     "client/python/docs/coming-from.md"):
        path = ROOT / document
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{document}: {link}"
