# SPDX-License-Identifier: MIT
"""libcached from other languages: Python's ctypes and LuaJIT's FFI, against a daemon.

Both know the library by what a preprocessor leaves of the public headers (ffi/declarations.py) and by nothing else: no
macro with arguments, no inline function, no struct.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import harness
import keys
import preload
from ffi import declarations
from preload import LIBRARY

HERE = pathlib.Path(__file__).parent / "ffi"
NAMES = ["basics", "errors", "keys", "loop"]

needs_luajit = pytest.mark.skipif(not shutil.which("luajit"), reason="luajit is not installed")


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
    env = preload.environment(daemon, **more)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=harness.PATIENCE * 3)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("step", NAMES)
def test_ctypes(daemon, declared, step):
    run(daemon, sys.executable, HERE / "calls.py", LIBRARY, declared / "declarations.json", step)


def test_ctypes_memoize(daemon, declared):
    """A callback that the FFI made."""
    if "cached_memoize" not in (declared / "cdef.h").read_text():
        pytest.skip("this library does not memoize")
    run(daemon, sys.executable, HERE / "calls.py", LIBRARY, declared / "declarations.json", "memoize")


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
