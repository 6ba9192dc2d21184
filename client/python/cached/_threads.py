# SPDX-License-Identifier: MIT
"""Whether a wait for a computation of this very process can end.

A computation that needs its own value while it runs finds its lease in its context, and runs on. A thread that it
starts has another context: what that thread waits for is the computation, and the computation may wait for the
thread. The daemon cannot see that; the interpreter can, since it shows what every thread is at: in a join(), or at
the result of a future whose function another thread runs. That is looked at while a thread waits for its own process.
Where the computing thread waits for others in some other way, for long, and stays there, the wait ends as well:
computing twice is better than never.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Any, Iterator

# As long as nothing moves in the thread that computes, and it is certain that it waits for others.
UNCERTAIN_S = 60.0
# Innermost frames of a thread that may say what it waits for, and of all its frames those that may say what it works
# at.
_DEPTH = 64

_running: dict[tuple[str, bytes], int] = {}


@contextlib.contextmanager
def computing(cache: str, key: bytes, granted: bool) -> Iterator[None]:
    """While the context lasts this thread computes the value, for everybody if the lease was granted."""
    if not granted:
        yield
        return
    _running[cache, key] = threading.get_ident()
    try:
        yield
    finally:
        _running.pop((cache, key), None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)


def _is_of(frame: Any, *modules: str) -> bool:
    return frame.f_globals.get("__name__") in modules


def _frames(frame: Any) -> list[Any]:
    found = []
    while frame is not None and len(found) < _DEPTH:
        found.append(frame)
        frame = frame.f_back
    return found


def _works_at(frames: list[Any]) -> set[int]:
    """What others may wait for while this thread is at it."""
    found = set()
    for frame in frames:
        if _is_of(frame, "concurrent.futures.thread"):
            item = frame.f_locals.get("work_item") or frame.f_locals.get("self")
            found.add(id(getattr(item, "future", None)))
        elif _is_of(frame, "multiprocessing.pool"):
            found.add(hash(("job", frame.f_locals.get("job"))))
    return found - {id(None)}


def _waits_for(frames: list[Any]) -> set[int]:
    """What this thread waits for: threads, futures, jobs of a pool; empty: it does not, or for something else."""
    found: set[int] = set()
    for frame in frames:
        if not _is_of(frame, "threading", "concurrent.futures._base", "concurrent.futures.thread",
                      "multiprocessing.pool"):
            break
        values = frame.f_locals
        found.add(id(values.get("self")))
        for future in values.get("fs") or ():
            found.add(id(future))
        found.add(hash(("job", getattr(values.get("self"), "_job", None))))
    return found - {id(None), hash(("job", None))}


class Deadlock:
    """Of one wait: looks whether who computes waits for the thread that waits."""

    def __init__(self, cache: str, key: bytes):
        self._of = cache, key
        self._still: tuple[Any, ...] = ()
        self._since = 0.0

    def is_certain(self) -> bool:
        """To be asked now and then, in the thread that waits."""
        thread = _running.get(self._of)
        if thread is None or thread == threading.get_ident():
            return False
        stacks = {ident: _frames(frame) for ident, frame in sys._current_frames().items()}
        try:
            return self._waits(stacks, thread) or self._is_stuck(stacks.get(thread) or [])
        finally:
            stacks.clear()

    def _waits(self, stacks: dict[int, list[Any]], who: int) -> bool:
        """Whether that thread waits for this one, or for one that does."""
        me, seen, ahead = threading.get_ident(), set(), [who]
        objects = {t.ident: id(t) for t in threading.enumerate()}
        while ahead:
            thread = ahead.pop()
            seen.add(thread)
            wanted = _waits_for(stacks.get(thread) or [])
            if not wanted:
                continue
            for ident, frames in stacks.items():
                if ident not in seen and (objects.get(ident) in wanted or _works_at(frames) & wanted):
                    if ident == me:
                        return True
                    ahead.append(ident)
        return False

    def _is_stuck(self, frames: list[Any]) -> bool:
        """Whether it waits for others for long, in whatever way."""
        if not frames or not _is_of(frames[0], "threading", "queue", "selectors", "concurrent.futures._base",
                                    "multiprocessing.pool", "multiprocessing.connection", "asyncio.base_events"):
            self._still = ()
            return False
        at = tuple((id(f), f.f_lasti) for f in frames)
        now = time.monotonic()
        if at != self._still:
            self._still, self._since = at, now
        return now - self._since > UNCERTAIN_S
