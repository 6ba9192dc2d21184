# SPDX-License-Identifier: MIT
"""Programs that were built without a sanitizer use a libcached that may have been built with one: its runtime has to be
loaded first."""

import os
import re
import subprocess

import pytest

import harness

LIBRARY = harness.BUILD / "client" / "libcached.so"


def runtime():
    """Files for LD_PRELOAD; "" where the library has no sanitizer in it."""
    listed = subprocess.run(["ldd", LIBRARY], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"=> (\S*lib(?:clang_rt\.)?(?:a|t|ub)san\S*)", listed)
    symbols = subprocess.run(["nm", "-D", LIBRARY], capture_output=True, text=True, check=True).stdout
    if not found and re.search(r" U __(a|t|m|ub)san_", symbols):
        pytest.skip("the sanitizer's runtime is linked statically into programs")
    return ":".join(found)


def environment(daemon, **more):
    """For a program that is to use the library with @daemon."""
    env = dict(os.environ, CACHED_SOCKET=str(daemon.socket), PYTHONDONTWRITEBYTECODE="1", **more)
    preload = runtime()
    if preload:
        # Languages leave their memory to the kernel at their end.
        env |= {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0"}
    return env
