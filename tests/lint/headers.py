#!/usr/bin/python3
"""The public headers are for everyone: each alone, in any order, twice, as C99 and later and as C++, with the strictest
flags and without feature macros. No macro or inline function is needed to use them: macros are whole numbers, and
what is left for the compiler are functions on opaque types, without structs or enums by value.

Usage: headers.py INCLUDE-FOLDER CC [CXX]; each compiler with its words apart by spaces.
"""

import itertools
import pathlib
import re
import shlex
import subprocess
import sys

STRICT = ["-fsyntax-only", "-pedantic-errors", "-Wall", "-Wextra", "-Wundef", "-Wshadow", "-Werror"]
C = [["-x", "c", f"-std={std}", "-Wstrict-prototypes", "-Wc++-compat"] for std in ("c99", "c11", "c17")]
CXX = [["-x", "c++", f"-std={std}", "-Wold-style-cast"] for std in ("c++11", "c++17")]

# Types that any foreign function interface has; all others are pointers to what is opaque.
TYPES = {"void", "char", "int", "unsigned", "size_t", "double", "uint8_t", "int32_t", "uint32_t", "int64_t", "uint64_t"}


def run(compiler, include, flags, source):
    return subprocess.run([*compiler, *flags, "-I", include, "-"], input=source, text=True, capture_output=True)


def includes(names):
    return "".join(f"#include <{name}>\n" for name in names)


def orders(names):
    """Each alone, and each pair of them in front of all others; each twice. All orders would be their factorial."""
    pairs = [[*pair, *(n for n in names if n not in pair)] for pair in itertools.permutations(names, 2)]
    return [[n, n] for n in names] + [order * 2 for order in pairs]


def compile_all(compiler, include, names, languages):
    for order in orders(names):
        for flags in languages:
            done = run(compiler, include, STRICT + flags, includes(order))
            if done.returncode:
                yield f"{' '.join(flags)}: {', '.join(order)}:\n{done.stderr}"


def macros(compiler, include, names):
    """Whole numbers; or a guard, without a value."""
    text = run(compiler, include, ["-E", "-dM", "-x", "c"], includes(names)).stdout
    system = run(compiler, include, ["-E", "-dM", "-x", "c"], "#include <stddef.h>\n#include <stdint.h>\n").stdout
    added = [line for line in text.splitlines() if line not in set(system.splitlines())]
    checks = []
    for line in added:
        name, value = re.fullmatch(r"#define (\S+) ?(.*)", line).groups()
        if not name.startswith("CACHED_") or "(" in name:
            yield f"{line}: a macro that a caller without a preprocessor would miss"
        elif value:
            checks.append(f"_Static_assert(({name}) >= 0 && ({name}) % 1 == 0, \"\");\n")
    done = run(compiler, include, ["-fsyntax-only", "-x", "c"], includes(names) + "".join(checks))
    if done.returncode or not checks:
        yield f"macros that are no whole numbers:\n{done.stderr}"


def declarations(compiler, include, names):
    """What the preprocessor leaves: typedefs of opaque types, and functions of plain types."""
    text, ours = [], False
    for line in run(compiler, include, ["-E", "-x", "c"], includes(names)).stdout.splitlines():
        mark = re.match(r'# \d+ "(.*?)"', line)
        if mark:
            ours = pathlib.Path(mark[1]).parent == pathlib.Path(include)
        elif ours and not line.startswith("#"):
            text.append(line)
    rows = [" ".join(row.split()) for row in " ".join(text).split(";") if row.strip()]
    opaque = set(re.findall(r"typedef struct (\w+) \1;", "".join(row + ";" for row in rows)))
    callbacks = set(re.findall(r"^typedef .*?\(\*(\w+)\)\(", "\n".join(rows), re.M))
    if len(rows) < 50 or not opaque:
        yield f"only {len(rows)} declarations were found: this check is broken"
    for row in rows:
        # Callbacks are pointers to functions, with a name of their own or in place.
        words = re.sub(r"^typedef struct (\w+) \1$", "", row)
        for found in re.findall(r"\b(?:struct|union|enum|inline|static|_Bool|float|long|short|__\w+)\b|\.\.\.|[{}]", words):
            yield f"{row}: '{found}' does not belong into the interface"
        for name in re.findall(r"\b(cached\w*) (?!\*|\w*\()", words):
            if name in opaque:
                yield f"{row}: {name} by value"
        for name in re.findall(r"(\w+) \*?\*?(?:const )?\*?\w+(?=[,)])", words):
            if name not in TYPES | opaque | callbacks | {"const"}:
                yield f"{row}: the type {name}"


def main():
    include, cc, *more = sys.argv[1:]
    names = sorted(p.name for p in pathlib.Path(include).glob("*.h"))
    bad = [] if len(names) > 1 else [f"{include}: no headers"]
    bad += compile_all(shlex.split(cc), include, names, C)
    for cxx in more:
        bad += compile_all(shlex.split(cxx), include, names, CXX)
    bad += macros(shlex.split(cc), include, names)
    bad += declarations(shlex.split(cc), include, names)
    sys.exit("\n".join(bad) or 0)


main()
