# SPDX-License-Identifier: MIT
"""What a foreign function interface needs of the public headers, from a compiler's preprocessor and nothing else.

It knows as much of C as the headers use, and stops at anything more: a type or a macro that another language could not
take over is an error here.
"""

import pathlib
import re
import shlex
import subprocess

INCLUDE = pathlib.Path(__file__).parents[3] / "client" / "include"
HEADERS = sorted(p.name for p in INCLUDE.glob("*.h"))


def preprocess(cc, more="", *flags):
    source = "".join(f"#include <{name}>\n" for name in HEADERS) + more
    return subprocess.run([*shlex.split(cc), "-E", *flags, "-I", str(INCLUDE), "-x", "c", "-"], input=source, text=True,
                          capture_output=True, check=True).stdout


def declarations(cc="cc"):
    """The declarations, one a line: no pragmas, and nothing of the system's headers."""
    out, ours = [], False
    for line in preprocess(cc).splitlines():
        mark = re.match(r'# \d+ "(.*?)"', line)
        if mark:
            ours = pathlib.Path(mark[1]).parent == INCLUDE
        elif ours and not line.startswith("#"):
            out.append(line)
    return [" ".join(d.split()) for d in " ".join(out).split(";") if d.strip()]


def functions(rows):
    """{name: [type of the result, types of the parameters...]}, without `const`, as in "void**";
    a pointer to functions, which has to have a name, is a "void*"."""
    found = {}
    callbacks = re.findall(r"^typedef .*?\(\*(\w+)\)\(", "\n".join(rows), re.M)
    for row in rows:
        if row.startswith("typedef "):
            continue
        result, name, parameters = re.fullmatch(r"([\w\s*]+?)(\w+)\((.*)\)", row).groups()
        names = [] if parameters.strip() == "void" else re.split(r",(?![^(]*\))", parameters)
        types = [plain(result)] + [plain(re.sub(r"\w+$", "", p.strip())) for p in names]
        found[name] = ["void*" if t in callbacks else t for t in types]
    return found


def plain(text):
    words = re.sub(r"\bconst\b", " ", text)
    return " ".join(words.replace("*", " ").split()) + "*" * words.count("*")


def constants(cc="cc"):
    """{name: number} of the macros."""
    names = re.findall(r"^#define (CACHED_\w+) \S", preprocess(cc, "", "-dM"), re.M)
    values = re.findall(r"^NEXT (.*)$", preprocess(cc, "".join(f"NEXT {n}\n" for n in names), "-P"), re.M)
    assert len(values) == len(names)
    return {n: int(re.fullmatch(r"\(?\s*(\d+)[uUlL]*\s*\)?", v)[1]) for n, v in zip(names, values)}
