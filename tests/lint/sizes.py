#!/usr/bin/python3
"""Functions of at most 100 lines, files of at most 800.

A function begins with a brace in the first column and ends with the next one: clang-format sees to
that. Its length is that of its body.
"""

import re
import sys

from tree import files, shown

FUNCTION_MAX = 100
FILE_MAX = 800

# "path" or "path:function": why it may be longer. An entry that is no longer needed is an error.
ALLOWED = {}


def functions(lines):
    """(name, length) of each function in the lines of a C file."""
    start = name = None
    for n, line in enumerate(lines):
        if line.startswith("{"):
            head = " ".join(lines[max(0, n - 6):n])
            names = re.findall(r"(\w+)\(", re.split(r"[;}]", head)[-1])
            start, name = n, names[0] if names else "?"
        elif line.startswith("}") and start is not None:
            yield name, n - start + 1
            start = None


def main():
    over = {}
    for path in files(".c", ".h", ".py", ".sh"):
        lines = path.read_text().splitlines()
        if len(lines) > FILE_MAX:
            over[shown(path)] = f"{len(lines)} lines, at most {FILE_MAX}"
        if path.suffix in (".c", ".h"):
            for name, length in functions(lines):
                if length > FUNCTION_MAX:
                    over[f"{shown(path)}:{name}"] = f"{length} lines, at most {FUNCTION_MAX}"
    bad = [f"{what}: {why}" for what, why in over.items() if what not in ALLOWED]
    bad += [f"{what}: allowed, but not needed" for what in ALLOWED if what not in over]
    sys.exit("\n".join(bad) or 0)


main()
