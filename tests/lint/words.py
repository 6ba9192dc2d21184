#!/usr/bin/python3
"""No placeholders, and nothing of one particular machine, in documents and sources."""

import re
import sys

from tree import ROOT, files, shown

PLACEHOLDERS = re.compile(r"\b(TODO|FIXME|XXX|TBD|WIP|HACK)\b|lorem ipsum|coming soon|to be written"
                          r"|not (yet )?implemented|fill (me )?in here", re.I)
# Upper case only where the word is also plain English or a file name pattern.
CASED = {"hack", "wip", "xxx", "tbd", "todo"}
MACHINE = re.compile(r"(?<![\w.$}])/(work|root)/")

SUFFIXES = (".md", ".c", ".h", ".def", ".proto", ".py", ".sh", ".build", ".txt", ".conf", ".in",
            ".service", ".socket", ".map", "Makefile", ".1", ".5", ".8")


def main():
    bad, seen = [], 0
    for path in files(*SUFFIXES) + sorted((ROOT / ".ci").iterdir()):
        if path.parent.name == "lint":
            continue  # the lists above
        seen += 1
        for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for found in PLACEHOLDERS.finditer(line):
                word = found.group(0)
                if word.lower() not in CASED or word.isupper():
                    bad.append(f"{shown(path)}:{n}: '{word}'")
            for found in MACHINE.finditer(line):
                bad.append(f"{shown(path)}:{n}: a path of one machine: '{found.group(0)}'")
    if seen == 0:
        bad.append("no files found")
    sys.exit("\n".join(bad) or 0)


main()
