#!/usr/bin/python3
"""daemon/journal.def against man/cached.8: every event with its id, every field, and no others.

The ids must be ids, each of one event.
"""

import re
import sys

from tree import ROOT

ROW = re.compile(r'^(?:EVENT|KIND)\((\w+),(?:\s*\d+,)?\s*"([^"]*)",\s*"[^"]*"\)', re.M)
NUMBER = re.compile(r"^NUMBER\((\w+)\)", re.M)
SHOWN = re.compile(r"^\.It Dv (\w+) Pq (\S+)", re.M)
FIELDS = re.compile(r"\b(?:CACHED|CONFIG|MESSAGE)_[A-Z_]+\b")


def main():
    table = (ROOT / "daemon" / "journal.def").read_text()
    writer = (ROOT / "daemon" / "log-journal.c").read_text()
    page = (ROOT / "man" / "cached.8.in").read_text().partition("\n.Sh JOURNAL\n")[2].partition("\n.Sh ")[0]
    rows = ROW.findall(table)
    bad = [f"journal.def: {name}: '{number}' is no id" for name, number in rows
           if not re.fullmatch("[0-9a-f]{32}", number)]
    if len(rows) != len(re.findall(r"^(?:EVENT|KIND)\(", table, re.M)) or not rows:
        bad.append("journal.def: a row cannot be read")
    for i, what in enumerate(("name", "id")):
        if len({row[i] for row in rows}) != len(rows):
            bad.append(f"journal.def: two events have one {what}")
    shown = set(SHOWN.findall(page))
    bad += [f"cached.8: {name} {number} is missing, or elsewhere" for name, number in sorted(set(rows) - shown)]
    bad += [f"cached.8: {name} {number} is no event" for name, number in sorted(shown - set(rows))]
    # Names in the formats of put(); and the numbers.
    written = {f for f in re.findall(r'put\(&?b, "(\w+)=', writer) if FIELDS.fullmatch(f)}
    written |= {"CACHED_" + name for name in NUMBER.findall(table)}
    told = {f for line in page.splitlines() if re.match(r"\.It Dv (?!\w+ Pq)", line) for f in FIELDS.findall(line)}
    bad += [f"cached.8: the field {f} is missing" for f in sorted(written - told)]
    bad += [f"cached.8: no entry has a field {f}" for f in sorted(told - written)]
    used = set(FIELDS.findall(page))
    bad += [f"cached.8: {f} is no field" for f in sorted(used - told - {name for name, _ in rows})]
    sys.exit("\n".join(bad) or 0)


main()
