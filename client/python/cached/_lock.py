# SPDX-License-Identifier: MIT
"""Exclusive use of an object, among the threads and processes that have it."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import contextmanager
from typing import Any, Iterator

from . import _binding

SLICE_MS = 500  # in between, the main thread looks for signals
FOREVER_MS = 0xFFFFFFFF


class Exclusive:
    """Of one object in this process. A thread that has it may take it again; the last one to leave gives it back."""

    def __init__(self, name: str, owner: Any):
        self.name = name
        self.owner = weakref.ref(owner)  # its to_lock() gives a Resource; None: no other process could want it
        self.threads = threading.RLock()
        self.depth = 0
        self.resource: Any = None

    def enter(self, timeout: float | None = None) -> bool:
        """True: who had it was killed with it. TimeoutError: somebody still has it."""
        until = None if timeout is None else time.monotonic() + timeout
        if not self.threads.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            raise TimeoutError(f"another thread of this process has the lock of {self.name}")
        try:
            died = False
            if self.depth == 0:
                owner = self.owner()
                self.resource = owner.to_lock() if owner is not None else None
                if self.resource is not None:
                    died = self.take(until)
            self.depth += 1
            return died
        except BaseException:
            self.threads.release()
            raise

    def take(self, until: float | None) -> bool:
        in_slices = threading.current_thread() is threading.main_thread()
        while True:
            left = FOREVER_MS if until is None else max(0, int((until - time.monotonic()) * 1000))
            try:
                return self.resource.lock(min(left, SLICE_MS) if in_slices else left)
            except _binding.CacheError as error:
                if error.code == _binding.NOT_FOUND:
                    raise RuntimeError(f"{self.name} has left its cache, since the process that had its lock was killed: call "
                                       "the function again") from error
                if error.code != _binding.DEADLINE:
                    raise
                if until is not None and time.monotonic() >= until:
                    raise TimeoutError(f"the lock of {self.name} is taken: {error}") from error

    def leave(self) -> None:
        self.depth -= 1
        try:
            if self.depth == 0 and self.resource is not None:
                resource, self.resource = self.resource, None
                resource.unlock()
        finally:
            self.threads.release()

    @contextmanager
    def __call__(self, timeout: float | None = None) -> Iterator[bool]:
        died = self.enter(timeout)
        try:
            yield died
        finally:
            self.leave()
