#!/usr/bin/python3
"""conf/cached.conf against daemon/config.def and daemon/limits.def.

The file must hold every setting of the .def files, commented out, with the same default and the same
explanation: it is written from them (--write) and compared (no argument). With --load CACHED the
daemon must also accept it as it stands and with every setting uncommented.
"""

import ast
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,()"]+|[,()]')

HEAD = """\
# cached.conf - settings of cached, the caching daemon
#
# Read at start and on SIGHUP; a file with a mistake is refused whole and the settings in force stay.
# Check one with: cached --config FILE --check-config
# Files in cached.conf.d/ beside this one (with --config FILE: in FILE.d/) whose names end in .conf
# are read after it, in the order of their names, and override it. Every setting stands here with
# its default, commented out.
#
# A setting is `name = value` on a line of its own. Lines that begin with # or ; are comments. A list
# may go on in the next line if that is indented; other lines should not be. Sizes are 64K 1.5M 2G
# 1T (powers of 1024), durations 250ms 1.5s 5m 1h 7d.
"""

INTRO = {
    "daemon": "",
    "memory": "How much may be kept. What is over a budget leaves in the order of its last use. A share (N%) is\n"
              "of the machine's memory, or of what the daemon's control group may use if that is less.",
    "sessions": "",
    "limits": "What one client can take from the others. An error that a limit causes names it. A reload holds at\n"
              "once, but clients that are connected keep to the sizes that they were told.",
}

SECTIONS = """\
# A realm that several users share; without one, each user has a realm of their own, `uid:N`.
# Lists hold user names, uids, @group names and @gids, separated by commas. Readers look entries up,
# writers also store and delete, admins also set policies and clear everything. Who is in none of the
# lists cannot enter. `budget` takes the place of memory.realm_budget, `mapped_reads` that of
# daemon.mapped_reads.
#
#[realm shared]
#readers = @users
#writers = alice, bob
#admins = root
#budget = 2G
#mapped_reads = yes

# When clients that have subscribed to it are asked to compute the values of a cache anew, before
# anyone waits for them. `every` goes by the time since the machine's start (1s to 366d), `at` is a
# local time; both may be given. `realm` is a name from above or a user's, `uid:N`; without it, that
# of the daemon's own user. Nobody is asked who has not subscribed, and nothing wakes up for it.
#
#[schedule nightly]
#cache = reports
#realm = shared
#every = 6h
#at = 04:30
"""


def rows(path, macro):
    """The arguments of every MACRO(...) in a .def file: strings joined and unquoted, the rest text."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    out, row, arg, depth = [], None, [], 0
    for token in TOKEN.findall(text):
        if row is None:
            if token == "(":
                row, arg = [], []
            elif token != macro:
                sys.exit(f"{path}: '{token}' where {macro}(...) should begin")
        elif token in (",", ")"):
            strings = [ast.literal_eval(a) for a in arg if a.startswith('"')]
            row.append("".join(strings) if strings else " ".join(arg))
            arg = []
            if token == ")":
                out.append(row)
                row = None
        else:
            arg.append(token)
    return out


def shortest(number, units):
    for name, factor in units:
        if number and number % factor == 0:
            return f"{number // factor}{name}"
    return str(number)


SIZES = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)]
TIMES = [("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000), ("ms", 1)]


def number(expression):
    return eval(re.sub(r"(?<=\d)(LL|L|U|ULL)\b", "", expression), {"__builtins__": {}})


def in_units(value, unit):
    units = {"bytes": SIZES, "share": SIZES, "ms": TIMES}.get(unit, [])
    return shortest(value, units)


def settings():
    """(section, name, default, explanation) in the order of the files."""
    for section, name, kind, default, low, high, text in rows(ROOT / "daemon/config.def", "SETTING"):
        limits = ""
        if kind in ("bytes", "share", "ms"):
            limits = f" ({in_units(number(low), kind)} to {in_units(number(high), kind)})"
        yield section, name, default, text + limits
    for name, default, low, high, unit, _, text in rows(ROOT / "daemon/limits.def", "LIMIT"):
        default, low, high = (in_units(number(n), unit) for n in (default, low, high))
        yield "limits", name, default, f"{text} ({low} to {high})"


def expected():
    parts, section = [HEAD], None
    for where, name, default, text in settings():
        if where != section:
            section = where
            parts.append(f"\n[{section}]\n")
            if INTRO[section]:
                parts.append(textwrap.indent(INTRO[section], "# ") + "\n")
        words = textwrap.fill(text[0].upper() + text[1:], 97, initial_indent="# ",
                              subsequent_indent="# ")
        parts.append(f"\n{words}\n#{name} = {default}".rstrip() + "\n")
    return "".join(parts) + "\n" + SECTIONS


def load(cached, text, what):
    """The daemon's verdict on a file with this text."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "cached.conf"
        path.write_text(text)
        path.chmod(0o600)
        done = subprocess.run([cached, "--config", str(path), "--check-config"], text=True,
                              capture_output=True, timeout=30)
        if done.returncode != 0:
            sys.exit(f"{what} is refused: {done.stderr.strip()}")


def main():
    path = ROOT / "conf/cached.conf"
    want = expected()
    if sys.argv[1:] == ["--write"]:
        path.write_text(want)
        return
    have = path.read_text()
    if have != want:
        for n, (a, b) in enumerate(zip(have.splitlines() + [""], want.splitlines() + [""]), 1):
            if a != b:
                sys.exit(f"conf/cached.conf:{n}: is\n  {a}\nthe .def files say\n  {b}\n"
                         "(tests/lint/conf.py --write writes it anew)")
        sys.exit("conf/cached.conf differs from the .def files in its length")
    if sys.argv[1:2] == ["--load"]:
        plain = have[:have.index("#[realm")]
        load(sys.argv[2], have, "conf/cached.conf")
        load(sys.argv[2], re.sub(r"(?m)^#(?=\w+ =)", "", plain),
             "conf/cached.conf with every setting uncommented")


main()
