# SPDX-License-Identifier: MIT
"""`make install` and `make run`: what lies where afterwards, and what is said on the way."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import harness
import wire
from cachectl import environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
MESON = shutil.which("meson")
PREFIX = harness.OPTIONS.get("prefix", "/usr/local")

pytestmark = pytest.mark.skipif(not (harness.BUILD / "meson-info").exists(), reason="not a build directory of meson")


def install(destdir):
    if not MESON:
        pytest.skip("no meson to install with")
    p = subprocess.run([MESON, "install", "-C", str(harness.BUILD), "--no-rebuild"], text=True, capture_output=True,
                       timeout=100, env=environment(DESTDIR=str(destdir)))
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """An installation below a directory of its own."""
    destdir = tmp_path_factory.mktemp("install")
    install(destdir)
    return destdir


def test_in01_what_lies_where(tree):
    """Programs, library, header; for writers of clients the contract; and the documents."""
    at = tree / PREFIX.lstrip("/")
    for name in ("bin/cached", "bin/cachectl", "include/cached.h", "share/cached/cached.proto",
                 "share/cached/status.def", "share/cached/key-vectors.json", "share/cached/value-vectors.json", "share/doc/cached/PROTOCOL.md",
                 "share/doc/cached/ARENA.md", "share/doc/cached/KEYS.md", "share/doc/cached/VALUES.md", "share/doc/cached/JSON.md",
                 "share/doc/cached/MEMO.md",
                 "share/doc/cached/cached.conf"):
        assert (at / name).is_file(), name
    assert (at / "share/cached/cached.proto").read_bytes() == (ROOT / "proto/cached.proto").read_bytes()


@pytest.mark.skipif(PREFIX == "/usr" or not harness.OPTIONS.get("units", False), reason="where the distribution says")
def test_in01b_units(tree):
    """Below the prefix, for the programs and the configuration that are there."""
    at = tree / PREFIX.lstrip("/")
    for name in ("systemd/system/cached.socket", "systemd/user/cached.socket", "systemd/user/cached.service",
                 "sysusers.d/cached.conf"):
        assert (at / "lib" / name).is_file(), name
    text = (at / "lib/systemd/system/cached.service").read_text()
    assert f"\nExecStart={PREFIX}/bin/cached\n" in text
    assert f"\nEnvironment=CONFIGURATION_DIRECTORY=/{installed_config(tree).parent.relative_to(tree)}\n" in text
    assert "@" not in re.sub(r"@(system-service|privileged|resources)", "", text)


def installed_config(tree):
    shown = subprocess.run([harness.BINARY, "--help"], text=True, capture_output=True, timeout=100).stdout
    [path] = re.findall(r" (/\S+/cached\.conf)", shown)
    return tree / path.lstrip("/")


def test_in02_an_edited_configuration_stays(tree):
    """The file that `cached --help` names is installed once; what an administrator made of it is not touched."""
    path = installed_config(tree)
    assert path.read_bytes() == (ROOT / "conf/cached.conf").read_bytes()
    path.write_text("[limits]\npage_entries = 7\n")
    install(tree)
    assert path.read_text() == "[limits]\npage_entries = 7\n"
    path.unlink()
    path.symlink_to("elsewhere")
    subprocess.run([ROOT / "conf/install.sh", ROOT / "conf/cached.conf", path], check=True,
                   env=environment(DESTDIR=""))
    assert path.is_symlink() and not path.exists()


@pytest.mark.skipif(PREFIX == "/usr", reason="the linker looks into /usr by itself")
def test_in03_cachectl_finds_its_library_anywhere(tree):
    """Below whatever directory: by its own place."""
    at = tree / PREFIX.lstrip("/")
    [library] = at.glob("lib*/**/libcached.so.0")
    env = environment()
    env.pop("LD_LIBRARY_PATH", None)  # meson test sets it
    p = subprocess.run(["ldd", str(at / "bin/cachectl")], text=True, capture_output=True, timeout=100, env=env)
    [found] = re.findall(r"libcached\.so\.0 => (\S+)", p.stdout)
    assert os.path.realpath(found) == os.path.realpath(library)


# ---- make run

def serve(socket):
    return subprocess.Popen([str(ROOT / ".ci/serve"), str(harness.BUILD)], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=environment(CACHED_SOCKET=str(socket), HOME="/proc/none"))


def test_in10_run_says_that_it_runs(tmp_path):
    """Once it does, with commands that can be tried."""
    socket = tmp_path / "s"
    p = serve(socket)
    try:
        out = ""
        for line in p.stdout:
            out += line
            if "The tour" in line:
                break
        assert f"Its socket: {socket}" in out
        with wire.Client(socket) as c:
            c.hello()
    finally:
        p.terminate()
        p.communicate(timeout=harness.PATIENCE)
    assert p.returncode == 0


def test_in11_run_that_fails_does_not_say_that_it_runs(daemon):
    """Here because one serves that socket already, who would answer the question whether it runs."""
    p = serve(daemon.socket)
    out, err = p.communicate(timeout=harness.PATIENCE)
    assert p.returncode == 1 and "runs here" not in out and str(daemon.socket) in err
