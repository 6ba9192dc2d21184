# SPDX-License-Identifier: MIT
"""The extension module needs libcached and its headers: Debian's libcached-dev, or `make install` of the C library."""

import pathlib
import shlex
import subprocess

import setuptools
from setuptools import Extension, setup

# Older ones do not read pyproject.toml, and would make a package named UNKNOWN.
if int(setuptools.__version__.split(".")[0]) < 61:
    raise SystemExit(f"setuptools 61 or newer is needed, and this is {setuptools.__version__}: "
                     "pip install --upgrade setuptools, or let pip build without --no-build-isolation")


def pkg_config(*what):
    try:
        done = subprocess.run(["pkg-config", *what, "cached"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise SystemExit("pkg-config is missing; on Debian: apt install pkg-config") from None
    except subprocess.CalledProcessError as e:
        raise SystemExit(f"libcached with its headers is missing: install the package libcached-dev, or the C library "
                         f"from source, or set PKG_CONFIG_PATH to where its cached.pc is\n{e.stderr}") from None
    return shlex.split(done.stdout)


setup(ext_modules=[Extension(
    "cached._binding",
    sorted(str(f) for f in pathlib.Path("src").glob("*.c")),
    depends=sorted(str(f) for f in pathlib.Path("src").glob("*.h")),
    extra_compile_args=["-std=gnu17", "-Wall", "-Wextra", "-fvisibility=hidden", *pkg_config("--cflags")],
    extra_link_args=pkg_config("--libs"),
)])
