# SPDX-License-Identifier: MIT
"""Decorated `async def`: as _call.py, without holding up the loop.

A hit of a plain value is found at once, in the loop's thread. Whatever asks the daemon runs in a thread of its own:
waits may be long, and the loop's pool of threads must stay free for those who compute. Tasks of one loop that miss
the same key ask once for all of them. Only those that are not part of a computation wait for each other without more
ado. What a computation needs is asked of the daemon, which sees circles; but for what another part of the same
computation has, which is one with this one to the daemon: then circles are looked for here.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
import weakref
from typing import Any, Callable, Iterator, Tuple

from . import _binding, _threads
from ._call import MISSING, Found, Memo, Progress, begin, check_value, give_up, inside, is_of_parent

At = Tuple[str, bytes, bytes]  # a cache, a key, and whose

_ancestors: contextvars.ContextVar[tuple[At, ...]] = contextvars.ContextVar("cached_ancestors", default=())


class _Flights:
    """What the tasks of one loop ask for and compute, and which computations wait for which."""

    def __init__(self) -> None:
        self.futures: dict[At, asyncio.Future[Any]] = {}
        self.roots: dict[At, At] = {}
        self.edges: dict[At, list[At]] = {}

    @contextlib.contextmanager
    def flight(self, at: At, ancestors: tuple[At, ...], told: Found) -> Iterator[None]:
        """While the context lasts others may wait for this one, which is a part of these."""
        future = self.futures[at] = asyncio.get_running_loop().create_future()
        self.roots[at] = ancestors[0] if ancestors else at
        try:
            yield
        finally:
            del self.futures[at], self.roots[at]
            future.set_result(told.shared)

    def may_wait(self, at: At, ancestors: tuple[At, ...]) -> bool:
        """Whether parts of these computations may wait here for that one: it is a part of the same, and waits for
        none of them."""
        if self.roots.get(at) != ancestors[0]:
            return False
        ahead, seen = [at], set()
        while ahead:
            one = ahead.pop()
            if one in ancestors:
                return False
            if one not in seen:
                seen.add(one)
                ahead += self.edges.get(one, [])
        return True

    @contextlib.contextmanager
    def waiting(self, at: At, ancestors: tuple[At, ...]) -> Iterator[None]:
        """While the context lasts these computations wait for that one."""
        for one in ancestors:
            self.edges.setdefault(one, []).append(at)
        try:
            yield
        finally:
            for one in ancestors:
                self.edges[one].remove(at)
                if not self.edges[one]:
                    del self.edges[one]


_of_loops: weakref.WeakKeyDictionary[Any, _Flights] = weakref.WeakKeyDictionary()


def make_async(memo: Memo) -> Callable[..., Any]:
    """The function that stands for memo.func."""
    return _AsyncMemo(memo).wrapper()


async def in_thread(function: Callable[..., Any], *args: Any, undo: Callable[[Any], None] | None = None,
                    cancelled: threading.Event | None = None) -> Any:
    """function(*args) in a thread of its own. @undo: gets a result that nobody waits for any more; @cancelled: is set
    then."""
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
        at, ancestors = self.memo.at(key), _ancestors.get()
        flights = _of_loops.setdefault(asyncio.get_running_loop(), _Flights())
        with Progress(self.memo.name, self.memo.policy) as progress:
            while True:
                told, value = Found(MISSING), MISSING
                flying = flights.futures.get(at)
                if flying is None:
                    with flights.flight(at, ancestors, told):
                        found = await self.ask(key, progress)
                        return await self.finish(key, found, args, kwargs, progress, told)
                if ancestors and not flights.may_wait(at, ancestors):
                    found = await self.ask(key, progress)
                    return await self.finish(key, found, args, kwargs, progress, told)
                with flights.waiting(at, ancestors):
                    value = await self.of_another(flying, args, kwargs)
                if value is not MISSING:
                    return value

    async def of_another(self, flying: asyncio.Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value that another task of this loop computes; MISSING: it is to be asked for."""
        shared = await asyncio.shield(flying)
        return self.memo.copy(shared) if shared is not None else self.probe(*args, **kwargs)

    async def finish(self, key: bytes, found: Found, args: tuple[Any, ...], kwargs: dict[str, Any], progress: Progress,
                     told: Found) -> Any:
        """What there is, or is computed. @told: learns what is for others of this loop."""
        if found.value is not MISSING and not found.granted:
            return found.value
        if found.value is not MISSING and self.memo.policy.background:
            self.refresh(key, found, args, kwargs)
            return found.value
        begin(progress, found)
        try:
            return await self.compute(key, found, args, kwargs)
        finally:
            told.shared = found.shared

    async def ask(self, key: bytes, progress: Progress) -> Found:
        """As Memo.ask(), in a thread."""
        loop, cancelled = asyncio.get_running_loop(), threading.Event()
        deadlock, of_parent = _threads.Deadlock(self.memo.cache, key), is_of_parent(self.memo.at(key))

        def waiting(holder: Any) -> bool:
            if not cancelled.is_set():
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(progress.say, progress.text_of(holder))
            return cancelled.is_set() or of_parent or deadlock.is_certain()

        found: Found = await in_thread(self.memo.ask, key, waiting, undo=lambda f: give_up(f.lease, None),
                                       cancelled=cancelled)
        return found

    async def compute(self, key: bytes, found: Found, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As Memo.compute()."""
        start = time.perf_counter_ns()
        inner = _ancestors.set((*_ancestors.get(), self.memo.at(key)))
        try:
            with inside(found.lease, self.memo.at(key)), _threads.computing(self.memo.cache, key, found.granted):
                value = await self.memo.func(*args, **kwargs)
            check_value(value, self.memo.name)
        except BaseException as e:
            give_up(found.lease, e)
            raise
        finally:
            _ancestors.reset(inner)
        if not found.stores:
            return value
        cost_us = (time.perf_counter_ns() - start) // 1000
        return await in_thread(self.memo.keep, key, found, value, cost_us, args, kwargs)

    def refresh(self, key: bytes, found: Found, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As Memo.refresh(), in a task."""
        task = asyncio.get_running_loop().create_task(self.compute(key, found, args, kwargs))
        self.refreshing.add(task)
        task.add_done_callback(self.refreshing.discard)
