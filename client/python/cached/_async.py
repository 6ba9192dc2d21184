# SPDX-License-Identifier: MIT
"""Decorated `async def`: as _call.py, without holding up the loop.

A hit of a plain value is found at once, in the loop's thread. Whatever asks the daemon runs in a thread of its own: waits may
be long, and the loop's pool of threads must stay free for those who compute. Tasks of one loop that miss the same key ask once
for all of them. Only those that are not part of a computation wait for each other here; what a computation needs is asked of
the daemon, which sees circles.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
import weakref
from typing import Any, Callable

from . import _binding, _threads
from ._call import MISSING, Found, Memo, Progress, check_value, give_up, inside

_busy: contextvars.ContextVar[bool] = contextvars.ContextVar("cached_busy", default=False)


def make_async(memo: Memo) -> Callable[..., Any]:
    """The function that stands for memo.func."""
    return _AsyncMemo(memo).wrapper()


async def in_thread(function: Callable[..., Any], *args: Any, undo: Callable[[Any], None] | None = None,
                    cancelled: threading.Event | None = None) -> Any:
    """function(*args) in a thread of its own. @undo: gets a result that nobody waits for any more; @cancelled: is set then."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(result: Any, error: BaseException | None) -> None:
        if future.done():
            if error is None and undo is not None:
                undo(result)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(function, *args)
        except BaseException as e:  # it is raised where it is waited for
            error = e
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:  # the loop is closed
            if error is None and undo is not None:
                undo(result)

    threading.Thread(target=run, name="cached-async", daemon=True).start()
    try:
        return await future
    except asyncio.CancelledError:
        if cancelled is not None:
            cancelled.set()
        raise


class _AsyncMemo:
    """An asynchronous function that is memoized."""

    def __init__(self, memo: Memo):
        self.memo = memo
        self.pending: weakref.WeakKeyDictionary[Any, dict[bytes, asyncio.Future[Any]]] = weakref.WeakKeyDictionary()
        self.refreshing: set[Any] = set()
        self.probe = memo.fast = _binding.Function(lambda *args, **kwargs: MISSING, memo.load_or_miss, None)

    def wrapper(self) -> Callable[..., Any]:
        """A coroutine function."""
        probe, call = self.probe, self.call

        async def function(*args: Any, **kwargs: Any) -> Any:
            value = probe(*args, **kwargs)
            return value if value is not MISSING else await call(args, kwargs)

        return function

    async def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that is no hit at once."""
        key = self.memo.key(args, kwargs)
        if _busy.get():
            return await self.one(key, args, kwargs, Found(MISSING))
        pending = self.pending.setdefault(asyncio.get_running_loop(), {})
        while key in pending:
            shared = await asyncio.shield(pending[key])
            if shared is not None:
                return self.memo.copy(shared)
            value = self.probe(*args, **kwargs)
            if value is not MISSING:
                return value
        done = pending[key] = asyncio.get_running_loop().create_future()
        found = Found(MISSING)
        try:
            return await self.one(key, args, kwargs, found)
        finally:
            del pending[key]
            done.set_result(found.shared)

    async def one(self, key: bytes, args: tuple[Any, ...], kwargs: dict[str, Any], told: Found) -> Any:
        """Asks, and computes if that is what to do. @told: learns what is for others of this loop."""
        progress = Progress(self.memo.name, self.memo.policy)
        try:
            found = await self.ask(key, progress)
            if found.value is not MISSING:
                if not found.granted:
                    return found.value
                if self.memo.policy.background:
                    self.refresh(key, found, args, kwargs)
                    return found.value
            progress.start()
            try:
                return await self.compute(key, found, args, kwargs)
            finally:
                told.shared = found.shared
        finally:
            progress.close()

    async def ask(self, key: bytes, progress: Progress) -> Found:
        """As Memo.ask(), in a thread."""
        loop, cancelled = asyncio.get_running_loop(), threading.Event()
        deadlock = _threads.Deadlock(self.memo.cache, key)

        def waiting(holder: Any) -> bool:
            if not cancelled.is_set():
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(progress.say, progress.text_of(holder))
            return cancelled.is_set() or deadlock.is_certain()

        found: Found = await in_thread(self.memo.ask, key, waiting, undo=lambda f: give_up(f.lease, None), cancelled=cancelled)
        return found

    async def compute(self, key: bytes, found: Found, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As Memo.compute()."""
        start = time.perf_counter_ns()
        busy = _busy.set(True)
        try:
            with inside(found.lease), _threads.computing(self.memo.cache, key, found.granted):
                value = await self.memo.func(*args, **kwargs)
            check_value(value, self.memo.name)
        except BaseException as e:
            give_up(found.lease, e)
            raise
        finally:
            _busy.reset(busy)
        if not found.stores:
            return value
        cost_us = (time.perf_counter_ns() - start) // 1000
        return await in_thread(self.memo.keep, key, found, value, cost_us, args, kwargs)

    def refresh(self, key: bytes, found: Found, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As Memo.refresh(), in a task."""
        task = asyncio.get_running_loop().create_task(self.compute(key, found, args, kwargs))
        self.refreshing.add(task)
        task.add_done_callback(self.refreshing.discard)
