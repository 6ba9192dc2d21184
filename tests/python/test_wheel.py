# SPDX-License-Identifier: MIT
"""pip builds the package against an installed libcached and installs it into an empty environment, without a network;
where the library is missing, building and importing say so."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import harness

SOURCE = pathlib.Path(__file__).parents[2]
PACKAGE = SOURCE / "client" / "python"
BUILD = pathlib.Path(os.environ["CACHED_BUILD"])
DEBIAN = pathlib.Path("/usr/lib/python3/dist-packages")


def missing():
    """What is missing of the packages that this needs; None: nothing."""
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        return "no ensurepip: apt install python3-venv"
    if not (DEBIAN / "setuptools").exists():
        return "no setuptools of Debian's: apt install python3-setuptools"
    if not (DEBIAN / "wheel").exists():
        return "no wheel of Debian's: apt install python3-wheel"
    try:
        import setuptools
    except ImportError:
        return "no setuptools for this interpreter: pip install setuptools wheel"
    if int(setuptools.__version__.split(".")[0]) < 61:
        return f"setuptools {setuptools.__version__} does not read pyproject.toml: 61 or newer is needed"
    if not shutil.which("pkg-config"):
        return "no pkg-config: apt install pkg-config"
    return None


pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.skipif("LD_PRELOAD" in os.environ,
                       reason="the build has a sanitizer, which a plain interpreter does not load"),
]


def environment(**more):
    """Nothing of this process's own package, nor of its sanitizer."""
    left = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LD_LIBRARY_PATH", "PKG_CONFIG_PATH")}
    return {**left, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def run(*command, check=True, **more):
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, timeout=harness.PATIENCE * 10,
                          **more)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """libcached as its package for developers has it: the library, the headers, cached.pc."""
    prefix = tmp_path_factory.mktemp("prefix")
    lib = prefix / "lib" / "pkgconfig"
    lib.mkdir(parents=True)
    shutil.copytree(SOURCE / "client" / "include", prefix / "include")
    for file in (BUILD / "client").glob("libcached.so*"):
        if not file.is_dir():
            shutil.copy(file, prefix / "lib" / file.name, follow_symlinks=False)
    made = next(p for p in BUILD.rglob("cached.pc") if "meson-uninstalled" not in str(p)).read_text()
    text = re.sub(r"(?m)^prefix=.*", f"prefix={prefix}", made)
    text = re.sub(r"(?m)^includedir=.*", "includedir=${prefix}/include", text)
    (lib / "cached.pc").write_text(re.sub(r"(?m)^libdir=.*", "libdir=${prefix}/lib", text))
    return prefix


def source_of(tmp):
    """The package's own files, in a place where building leaves nothing in the tree."""
    return shutil.copytree(PACKAGE, tmp / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))


def wheel(source, to, **env):
    return run(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", to, source, check=False,
               env=environment(**env))


@pytest.fixture(scope="module")
def installed(library, tmp_path_factory):
    """An interpreter of an empty virtual environment with the package's wheel and nothing else."""
    tmp = tmp_path_factory.mktemp("wheel")
    done = wheel(source_of(tmp), tmp, PKG_CONFIG_PATH=str(library / "lib" / "pkgconfig"))
    assert done.returncode == 0, done.stdout + done.stderr
    run("/usr/bin/python3" if sys.executable.startswith("/usr") else sys.executable, "-m", "venv", tmp / "venv",
        env=environment())
    python = tmp / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", next(tmp.glob("cached-*.whl")), env=environment())
    return python


def test_a_wheel_in_an_empty_environment(installed, library, daemon, tmp_path):
    done = run(installed, "-c", """
import cached, sys
from cached import _client
client = _client.current()
client.set("t", b"k", b"value")
print(bytes(client.get("t", b"k")), cached.__file__)
""", env=environment(LD_LIBRARY_PATH=str(library / "lib"), CACHED_SOCKET=str(daemon.socket)), cwd=tmp_path)
    assert done.stdout.startswith("b'value' ") and str(installed.parents[1]) in done.stdout


def test_an_import_without_the_library_says_what_is_missing(installed, tmp_path):
    if subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout.count("libcached.so.0"):
        pytest.skip("libcached is installed on this system")
    done = run(installed, "-c", "import cached", env=environment(), cwd=tmp_path, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('ImportError: the Python package "cached" needs the C library libcached, which could not be '
                           'loaded:')
    assert "install the Debian package libcached0" in last and "libcached.so.0" in last


def test_a_build_without_the_library_says_what_is_missing(tmp_path):
    if subprocess.run(["pkg-config", "--exists", "cached"], env=environment()).returncode == 0:
        pytest.skip("libcached is installed on this system")
    done = wheel(source_of(tmp_path), tmp_path)
    assert done.returncode != 0
    assert "libcached with its headers is missing: install the package libcached-dev" in done.stdout + done.stderr
