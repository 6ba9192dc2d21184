#!/usr/bin/python3
"""Layers look down only: what each folder may include.

The linker shows a call upwards in the unit tests; this shows the include, and it shows system headers
(libevent, protobuf-c, sockets) where they have no business.
"""

import re
import sys

from tree import files, shown

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)

LAYERS = ["base", "arena", "store", "realm", "services", "dispatch", "transport"]

PROTOBUF = r"(protobuf-c/|proto/cached\.pb-c\.h)"
EVENT = r"(event2?/|event2?\.h|evutil)"
SOCKET = r"sys/(socket|un)\.h"
DAEMON = r"(base|arena|store|realm|services|dispatch|transport|server|log|config|activation)[/.]"

# folder: what its files must not include (besides the layers above it).
FORBIDDEN = {
    "daemon/base": [PROTOBUF, EVENT, SOCKET, "proto/"],
    "daemon/arena": [PROTOBUF, EVENT, SOCKET, r"proto/(?!layout\.h)"],
    "daemon/store": [PROTOBUF, EVENT, SOCKET, r"proto/(?!layout\.h)"],
    "daemon/realm": [PROTOBUF, EVENT, SOCKET],
    "daemon/services": [PROTOBUF, SOCKET],
    "daemon/transport": [PROTOBUF],
    "proto": [EVENT, SOCKET, DAEMON],
    "client/cachectl": [PROTOBUF, EVENT, r"proto/(?!status\.def)", DAEMON],
    "client": [EVENT, DAEMON],
    "client/examples": [PROTOBUF, r"(proto|client)/", DAEMON],
}

# (file, include): why this one may stand.
ALLOWED = {
}

# Interfaces that a layer offers upwards and downwards alike: (folder, include): why.
INTERFACES = {
    ("daemon/dispatch", "transport/conn.h"): "the handler answers through the connection it was called by",
}


def forbidden(folder):
    rules = list(FORBIDDEN.get(folder, []))
    layer = folder.removeprefix("daemon/")
    if layer in LAYERS:
        rules += [f"{above}/" for above in LAYERS[LAYERS.index(layer) + 1:]]
    return [re.compile(r) for r in rules]


def main():
    bad, used, seen = [], set(), 0
    for path in files(".c", ".h", under="daemon") + files(".c", ".h", under="client") + \
            files(".c", ".h", under="proto"):
        name = shown(path)
        folder = name.rsplit("/", 1)[0]
        rules = forbidden(folder)
        seen += 1
        for _, include in INCLUDE.findall(path.read_text()):
            if not any(r.match(include) for r in rules) or (folder, include) in INTERFACES:
                continue
            if (name, include) in ALLOWED:
                used.add((name, include))
            else:
                bad.append(f"{name}: must not include {include}")
    bad += [f"{n}: {i} is allowed, but not included" for n, i in ALLOWED if (n, i) not in used]
    if seen == 0:
        bad.append("no sources found")
    sys.exit("\n".join(bad) or 0)


main()
