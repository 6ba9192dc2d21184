"""The files that the lints look at: everything in the tree but what is generated or hidden."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def files(*suffixes, under="."):
    found = []
    for folder, folders, names in os.walk(ROOT / under):
        at_root = pathlib.Path(folder) == ROOT
        folders[:] = [f for f in folders
                      if not (f == "__pycache__" or f.startswith(".") or at_root and f.startswith("build"))]
        found += [pathlib.Path(folder) / n for n in names if n.endswith(suffixes)]
    return sorted(found)


def shown(path):
    return str(path.relative_to(ROOT))
