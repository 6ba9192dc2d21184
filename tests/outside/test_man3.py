# SPDX-License-Identifier: MIT
"""The pages of the library, which are made from its headers: one for each function, complete, clean, and with the
prototypes that a compiler sees."""

import pathlib
import re
import shutil
import subprocess

import pytest

import harness
from ffi import declarations

SOURCE = pathlib.Path(__file__).parents[2]
BUILT = harness.BUILD / "man"
MAP = SOURCE / "client" / "libcached.map"

pytestmark = pytest.mark.skipif(not BUILT.exists(), reason="this build made no pages")
needs_mandoc = pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")

FUNCTIONS = re.findall(r"^\s*(cached_\w+);", MAP.read_text(), re.M)
PAGES = {p.stem: p for p in sorted(BUILT.glob("*.3"))}


def sections(name):
    """{heading: its lines}"""
    _, *parts = re.split(r"^\.Sh (.*)\n", PAGES[name].read_text(), flags=re.M)
    return dict(zip(parts[::2], parts[1::2]))


def rendered(name, width=900):
    text = subprocess.run(["mandoc", "-T", "ascii", "-O", f"width={width}", PAGES[name]], capture_output=True,
                          check=True).stdout.decode()
    return re.sub(".\b", "", text)


def test_a_page_for_every_function():
    assert len(FUNCTIONS) > 90
    for name in FUNCTIONS:
        found = sections(name)
        assert list(found)[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUE"], name
        assert all(found.values()), name
        assert re.fullmatch(rf"\.Nm {name}\n\.Nd .+\n", found["NAME"]), name
        assert ".Xr libcached 3\n" in found["SEE ALSO"], name
    others = set(PAGES) - set(FUNCTIONS)
    assert "libcached" in others and "cached_key" in others and "cached_pipeline" in others


def test_prototypes_are_those_of_the_compiler():
    """.Ft and .Fa, put together, are a declaration of the preprocessed headers."""
    squeezed = {re.sub(r"\s", "", d) for d in declarations.declarations()}
    for name in FUNCTIONS:
        text = sections(name)["SYNOPSIS"].replace('"', "")
        header, result = re.search(r"^\.In (.*)\n\.Ft (.*)$", text, re.M).groups()
        arguments = ",".join(re.findall(r"^\.Fa (.*)$", text, re.M))
        assert re.sub(r"\s", "", f"{result} {name}({arguments})") in squeezed, name
        assert (declarations.INCLUDE / header).exists()


def test_errors_name_codes_of_the_header():
    codes = declarations.constants()
    for name in PAGES:
        for code in re.findall(r"\.(?:It )?Dv (CACHED_\w+)(?![\w*])", PAGES[name].read_text()):
            assert code in codes, (name, code)
    table = sections("libcached")["ERRORS"]
    for code, number in codes.items():
        if number < 128 and re.match(r"CACHED_(ERR_|OK$|NOT_FOUND$|LIMIT$|OUTCOME_)", code):
            assert f".It Dv {code} Pq {number}\n" in table


def test_references_lead_somewhere():
    for name, page in PAGES.items():
        for other in re.findall(r"Xr (\S+) 3", page.read_text()):
            assert other in PAGES, (name, other)
    listed = re.findall(r"^\.It Xr (\w+) 3", sections("libcached")["FUNCTIONS"], re.M)
    assert sorted(listed) == sorted(FUNCTIONS)


def test_plain_text():
    for name, page in PAGES.items():
        for line in page.read_text().splitlines():
            assert line == line.rstrip() and line.isascii(), (name, line)
            assert not re.search(r"(^|\s)@\w|`|\bReturn: ", line), (name, line)


@needs_mandoc
def test_clean():
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *PAGES.values()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@needs_mandoc
def test_the_example_compiles_as_it_is_read():
    """What somebody copies from the page is the program that test_examples.py runs."""
    text = rendered("libcached").split("\nEXAMPLES\n")[1].split("\nERRORS\n")[0]
    code = text[text.index("#include"):]
    done = subprocess.run(["cc", "-std=c99", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", declarations.INCLUDE,
                           "-x", "c", "-"], input=code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert code.split() == (SOURCE / "client/examples/lookup.c").read_text().split("*/\n\n", 1)[1].split()


@pytest.mark.parametrize("wrong, said", [
    (("@cache:  an unknown one is a miss\n * @key:    @n_key bytes\n * @ret:    on a hit",
      "@cash:  an unknown one is a miss\n * @key:    @n_key bytes\n * @ret:    on a hit"), "cash"),
    (("Return: static text. Any thread; fork-safe.", "Static text."), "cached_version"),
    (("cached_ping() - ", "cached_pong() - "), "cached_pong"),
])
def test_a_comment_that_does_not_fit_stops_the_build(tmp_path, wrong, said):
    text = (declarations.INCLUDE / "cached.h").read_text()
    assert wrong[0] in text
    (tmp_path / "cached.h").write_text(text.replace(*wrong, 1))
    done = subprocess.run(["python3", "-B", SOURCE / "man/library.py", "list", tmp_path / "cached.h"],
                          capture_output=True, text=True)
    assert done.returncode != 0 and said in done.stderr
