# SPDX-License-Identifier: MIT
"""What `meson install` leaves, as somebody finds it who knows of pkg-config only: headers, library, pages; an example
of the documentation is built with it and run."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import harness
import preload

SOURCE = pathlib.Path(__file__).parents[2]
PREFIX = pathlib.Path(harness.OPTIONS.get("prefix", "/usr/local"))

pytestmark = [pytest.mark.skipif(not shutil.which("meson"), reason="meson is not installed"),
              pytest.mark.skipif(not shutil.which("pkg-config"), reason="pkg-config is not installed")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """An installed tree below a folder of its own, without a rebuild."""
    root = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", harness.BUILD, "--no-rebuild", "--quiet", "--destdir", root], check=True,
                   capture_output=True, timeout=harness.PATIENCE * 3)
    return root


def inside(tree, option):
    return tree / str(PREFIX / harness.OPTIONS[option]).lstrip("/")


def pkg_config(tree, *words):
    """Only the installed tree's own descriptions are known: whoever uses the library needs none of what it uses."""
    env = dict(os.environ, PKG_CONFIG_LIBDIR=str(inside(tree, "libdir") / "pkgconfig"),
               PKG_CONFIG_SYSROOT_DIR=str(tree))
    env.pop("PKG_CONFIG_PATH", None)
    done = subprocess.run(["pkg-config", *words, "cached"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("standard", ["c99", "gnu17"])
def test_an_example_with_pkg_config_alone(tree, daemon, tmp_path, standard):
    env = preload.environment(daemon, LD_LIBRARY_PATH=str(inside(tree, "libdir")))
    flags, libraries = pkg_config(tree, "--cflags"), pkg_config(tree, "--libs")
    program = tmp_path / "lookup"
    built = subprocess.run(["cc", f"-std={standard}", "-Wall", "-Wextra", "-Werror", *flags,
                            SOURCE / "client" / "examples" / "lookup.c", *libraries, "-o", program],
                           capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for expected in ("333833500\n", "333833500 (cached)\n"):
        done = subprocess.run([program, "1000"], env=env, capture_output=True, text=True, timeout=harness.PATIENCE)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_the_version(tree):
    [version] = pkg_config(tree, "--modversion")
    said = subprocess.run([harness.BINARY, "--version"], capture_output=True, text=True, check=True).stdout
    assert version in said


def test_headers_and_library(tree):
    headers = {p.name: p.read_bytes() for p in (SOURCE / "client" / "include").glob("*.h")}
    assert {p.name: p.read_bytes() for p in inside(tree, "includedir").glob("*.h")} == headers
    lib = inside(tree, "libdir") / "libcached.so"
    assert lib.is_symlink() and lib.resolve().name.startswith("libcached.so.0.")
    dynamic = subprocess.run(["readelf", "-d", lib], capture_output=True, text=True, check=True).stdout
    assert "[libcached.so.0]" in dynamic


@pytest.mark.skipif(not (harness.BUILD / "man").exists(), reason="this build made no pages")
def test_pages(tree):
    """A page for every function of the map where `man` finds it."""
    functions = re.findall(r"^\s*(cached_\w+);", (SOURCE / "client" / "libcached.map").read_text(), re.M)
    folder = inside(tree, "mandir") / "man3"
    pages = {p.name.split(".")[0] for p in folder.iterdir()}
    assert set(functions) | {"libcached"} <= pages and len(functions) > 90
    if shutil.which("man"):
        found = subprocess.run(["man", "-M", folder.parent, "-w", "3", "cached_get"], capture_output=True, text=True)
        assert pathlib.Path(found.stdout.strip()).parent == folder
