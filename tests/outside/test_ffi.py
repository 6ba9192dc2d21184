# SPDX-License-Identifier: MIT
"""libcached from other languages: Python's ctypes and LuaJIT's FFI, against a daemon.

Both know the library by what a preprocessor leaves of the public headers (ffi/declarations.py) and by nothing else: no
macro with arguments, no inline function, no struct. A library with a sanitizer in it runs there, too: its runtime is
loaded first.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import harness
import keys
from ffi import declarations

LIBRARY = harness.BUILD / "client" / "libcached.so"
HERE = pathlib.Path(__file__).parent / "ffi"
NAMES = ["basics", "errors", "keys", "loop"]

needs_luajit = pytest.mark.skipif(not shutil.which("luajit"), reason="luajit is not installed")


def sanitizer():
    """What has to be loaded before the library: the runtime of the sanitizer in it."""
    listed = subprocess.run(["ldd", LIBRARY], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"=> (\S*lib(?:clang_rt\.)?[at]san\S*)", listed)
    symbols = subprocess.run(["nm", "-D", LIBRARY], capture_output=True, text=True, check=True).stdout
    if not found and re.search(r" U __[at]san_init", symbols):
        pytest.skip("the sanitizer's runtime is linked statically into programs")
    return ":".join(found)


@pytest.fixture(scope="module")
def declared(tmp_path_factory):
    """The declarations in the form that each of the two reads."""
    folder = tmp_path_factory.mktemp("ffi")
    rows, constants = declarations.declarations(), declarations.constants()
    small = [f"  {name} = {value}" for name, value in constants.items() if value < 2 ** 31]
    (folder / "cdef.h").write_text(";\n".join(rows) + ";\nenum {\n" + ",\n".join(small) + "\n};\n")
    (folder / "declarations.json").write_text(json.dumps({"functions": declarations.functions(rows),
                                                          "constants": constants}))
    return folder


def run(daemon, *command, **more):
    env = dict(os.environ, CACHED_SOCKET=str(daemon.socket), PYTHONDONTWRITEBYTECODE="1", **more)
    runtime = sanitizer()
    if runtime:
        env |= {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=harness.PATIENCE * 3)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("step", NAMES)
def test_ctypes(daemon, declared, step):
    run(daemon, sys.executable, HERE / "calls.py", LIBRARY, declared / "declarations.json", step)


@needs_luajit
@pytest.mark.parametrize("step", NAMES)
def test_luajit(daemon, declared, step):
    expected = keys.key(keys.from_json(["text", "load"]), keys.from_json(["list", [["int", "42"], ["bool", True]]]),
                        keys.from_json(["null"])).hex()
    run(daemon, "luajit", HERE / "calls.lua", LIBRARY, declared / "cdef.h", step, EXPECTED_KEY=expected)


def test_every_function_is_declared_and_exported(declared):
    """The declarations that the two read are those of the library, none is missing."""
    listed = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
    exported = {name.split("@")[0] for name in re.findall(r" T (cached_\S+)", listed)}
    assert set(json.loads((declared / "declarations.json").read_text())["functions"]) == exported
    assert len(exported) > 90
