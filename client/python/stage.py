# SPDX-License-Identifier: MIT
"""stage.py SOURCES MODULE STAMP: a directory "path" beside STAMP, from which the package can be imported: a link to
each of its files, and to the extension module."""

import pathlib
import sys

sources, module, stamp = map(pathlib.Path, sys.argv[1:])
package = stamp.parent / "path" / "cached"
package.mkdir(parents=True, exist_ok=True)
wanted = {f.name: f.resolve() for f in sources.iterdir() if f.suffix in (".py", ".pyi", ".typed") or f.name == "py.typed"}
wanted[module.name] = module.resolve()
for link in package.iterdir():
    if link.is_symlink() and link.name not in wanted:
        link.unlink()
for name, target in wanted.items():
    link = package / name
    if not link.is_symlink() or link.resolve() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
stamp.touch()
