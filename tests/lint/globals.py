#!/usr/bin/python3
"""globals.py BUILD: no mutable state outside a struct.

Looks for symbols in the data and bss sections of every object that was built from our own sources
(constant tables with pointers lie in .data.rel.ro, which is fine).
"""

import pathlib
import re
import subprocess
import sys

# "object's source: symbol" by regular expression: why it may be.
ALLOWED = {
    r"main\.c: arg_\w+": "the command line, written once before the loop runs",
    r"running\.c: running_innermost": "of each thread: what it computes; a nested computation is not told its outer one",
    # client/python/src; "src_" is meson's.
    r"src_[\w-]+\.c: (definition|\w*methods|\w*attributes|\w*members|\w*slots|\w*fields|\w*functions|\w*spec|[\w.]*names(\.\d+)?)":
        "Python's tables, whose types are not const",
}

# What compilers and sanitizers add.
ADDED = re.compile(r"\.|__(odr_asan|asan|ubsan|tsan|sanitizer|sancov|llvm|gcov)|__unnamed_\d+$")


def symbols(path):
    """(name, section) of each object symbol."""
    out = subprocess.run(["nm", "--format=sysv", str(path)], text=True, capture_output=True, check=True)
    for line in out.stdout.splitlines():
        fields = [f.strip() for f in line.split("|")]
        if len(fields) == 7:
            yield fields[0], fields[6]


def main():
    build = pathlib.Path(sys.argv[1])
    objects = [o for d in ("daemon", "client", "proto") for o in sorted((build / d).rglob("*.o"))
               if "pb-c" not in o.name]
    bad = []
    for path in objects:
        source = path.name.removesuffix(".o")
        for name, section in symbols(path):
            mutable = re.match(r"(\.data|\.bss|\.tdata|\.tbss|\*COM\*)", section)
            if not mutable or section.startswith(".data.rel.ro") or ADDED.match(name):
                continue
            where = f"{source}: {name}"
            if not any(re.fullmatch(allowed, where) for allowed in ALLOWED):
                bad.append(f"{where} is mutable ({section})")
    if not objects:
        bad.append(f"no objects in {build}")
    sys.exit("\n".join(bad) or 0)


main()
