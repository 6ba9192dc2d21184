# SPDX-License-Identifier: MIT
"""The manual pages: clean, and complete. What is in them is compared with what the programs say of themselves."""

import json
import re
import shutil
import subprocess

import pytest

import harness
from cachectl import CACHECTL, cli, js, needs_cachectl

BUILT = harness.BUILD / "man"
PAGES = ["cachectl.1", "cached.8", "cached.conf.5"]

pytestmark = [needs_cachectl, pytest.mark.skipif(not BUILT.exists(), reason="this build made no pages")]
needs_mandoc = pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")


def source(name):
    return (BUILT / name).read_text()


def rendered(name):
    """The page as people read it, on one line."""
    text = subprocess.run(["mandoc", "-T", "ascii", "-O", "width=900", BUILT / name], capture_output=True,
                          check=True).stdout.decode()
    return re.sub(r"\s+", " ", re.sub(".\b", "", text))


@needs_mandoc
@pytest.mark.parametrize("name", PAGES)
def test_pag01_clean(name):
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", BUILT / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for line in source(name).splitlines():
        assert line == line.rstrip() and line.isascii(), line


@needs_mandoc
def test_pag02_every_verb_and_option_of_cachectl():
    rows = json.loads(subprocess.run([CACHECTL, "--json", "--help"], capture_output=True, check=True).stdout)
    text = rendered("cachectl.1")
    assert len(rows["verbs"]) > 15
    for o in rows["options"]:
        assert f" --{o['name']} " in text
    # Each verb with its own part, which has its options and no others.
    part = re.split(r" VERBS ", text, maxsplit=1)[1].rsplit(" THE SOCKET ", 1)[0]
    verbs = re.findall(r"^\.It Ic (\w+)", source("cachectl.1"), re.M)
    assert verbs == [v["name"] for v in rows["verbs"]]
    for v, mdoc in zip(rows["verbs"], re.split(r"^\.It Ic ", source("cachectl.1"), flags=re.M)[1:]):
        listed = [x.replace("\\", "") for x in re.findall(r"^\.It (?:.* , )?Fl \\-(\S+)", mdoc, re.M)]
        assert listed == [o["name"] for o in v["options"]], v["name"]
        assert v["summary"].split("`")[0] in part


@needs_mandoc
def test_pag03_every_option_of_cached():
    text = subprocess.run([harness.BINARY, "--help"], capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"^  (?:-\w, |    )--([\w-]+)", text, re.M)) - {"test-clock-fd"}
    listed = {x.replace("\\", "") for line in re.findall(r"^\.It (Fl .*)$", source("cached.8"), re.M)
              for x in re.findall(r"Fl \\-(\S+)", line)}
    assert listed == options and len(options) >= 6


@needs_mandoc
def test_pag04_every_setting(js):
    """Names and defaults are those of a daemon without a configuration."""
    settings = {s["name"].rpartition(".")[2]: s for s in js("config")["settings"]}
    text = rendered("cached.conf.5")
    listed = re.findall(r"^\.It Ic (\w+) No", source("cached.conf.5"), re.M)
    assert sorted(listed) == sorted(settings) and len(listed) > 15
    for name in listed:
        assert re.search(rf" {name} \(default: [^)]+\) [A-Z]", text), name


@needs_mandoc
@pytest.mark.parametrize("name, sections", [
    ("cachectl.1", ["NAME", "SYNOPSIS", "DESCRIPTION", "VERBS", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]),
    ("cached.8", ["NAME", "SYNOPSIS", "DESCRIPTION", "SIGNALS", "ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO"]),
    ("cached.conf.5", ["NAME", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO"]),
])
def test_pag05_sections(name, sections):
    found = re.findall(r"^\.Sh (.*)$", source(name), re.M)
    assert [s for s in found if s in sections] == sections


def test_pag06_the_example_of_the_configuration_is_right(tmp_path):
    """Users and groups of the example need not exist here; the rest has to be accepted."""
    [example] = re.findall(r"^\[daemon\]\n(?:.*\n)*?(?=\.Ed)", source("cached.conf.5"), re.M)
    example = re.sub(r"(socket_group|readers|writers) = .*", r"\1 = root", example)
    (tmp_path / "cached.conf").write_text(example)
    (tmp_path / "cached.conf").chmod(0o600)
    done = subprocess.run([harness.BINARY, "--check-config", "--config", tmp_path / "cached.conf"], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["cached.8", "cached.conf.5"])
def test_pag07_where_the_configuration_is(name):
    """Below this prefix: the file that the daemon itself names."""
    said = subprocess.run([harness.BINARY, "--help"], capture_output=True, text=True, check=True).stdout
    [path] = re.findall(r" (/\S+/cached\.conf)", said)
    assert re.search(rf"^\.(It )?Pa {re.escape(path)}( |$)", source(name), re.M)
    assert "@" not in re.sub(r"@(group|gid|staff)\b", "", source(name))


@needs_mandoc
def test_pag10_a_dash_that_is_an_argument():
    """It is no option without a name."""
    assert not re.search(r"Fl( |$)(?!\\-)[^A-Za-z]", "\n".join(
        line for line in source("cachectl.1").splitlines() if line.startswith(".It Ic ")), re.M)
    assert "resource hold" in rendered("cachectl.1") and " TOKEN KEY VALUE | - " in rendered("cachectl.1")


@needs_mandoc
def test_pag11_pages_know_each_other():
    assert "libcached(3)" in rendered("cachectl.1").rsplit("SEE ALSO", 1)[1]
