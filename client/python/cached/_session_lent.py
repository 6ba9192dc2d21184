# SPDX-License-Identifier: MIT
"""Values of a session that were handed out and can be changed in place, such as lists.

Such a value is remembered with what was stored when it was handed out. Asked for again, it is the same object as long as
nobody else has set the key, so that a change is seen here at once. Whether it was changed is found by making its bytes
again.
"""

from __future__ import annotations

import os
import warnings
from typing import Any, Callable, Dict, Tuple

from . import _session_values
from ._session_errors import SessionWarning

Dump = Callable[[str, Any], Tuple[int, bytes]]


class Lent:
    """One value that was handed out."""

    __slots__ = ("value", "digest", "version")

    def __init__(self, value: Any, digest: bytes, version: int) -> None:
        self.value = value
        self.digest = digest
        self.version = version

    def changed(self, key: str, dump: Dump) -> Any:
        """(flags, bytes, digest) of what it is now; None: what it was."""
        flags, data = dump(key, self.value)
        digest = _session_values.digest(flags, data)
        return None if digest == self.digest else (flags, data, digest)


def warn_unwritten(table: Dict[str, Lent], pid: int, dump: Dump) -> None:
    """A session's object is gone, or the process ends: what was not written back is said."""
    if pid != os.getpid():
        return
    for key, lent in list(table.items()):
        try:
            if lent.changed(key, dump) is None:
                continue
        except Exception:  # it was changed into something that cannot be stored
            pass
        warnings.warn(
            f'session value "{key}" was changed in place and not written back: change it inside of `with session:`, call '
            f"session.commit() afterwards, or assign it to its key", SessionWarning, stacklevel=2)
