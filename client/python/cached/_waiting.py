# SPDX-License-Identifier: MIT
"""cache_resource for functions of an event loop: what may wait does so in another thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from typing import Any, Awaitable, Callable

from . import _binding
from ._holding import ALONE_S, Held, Holding


async def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(context.run, function, *args))


async def _acquire(holding: Holding, key: bytes) -> Any:
    stop = threading.Event()
    try:
        return await _in_thread(holding.acquire, key, stop)
    except asyncio.CancelledError:
        stop.set()
        raise


async def obtain_async(holding: Holding, key: bytes, make: Callable[[], Awaitable[Any]]) -> Held:
    """As Holding.obtain()."""
    while True:
        alone = holding.alone_of(key)
        try:
            resource = await _acquire(holding, key)
        except _binding.CacheError as error:
            if holding.raises(error):
                raise
            if alone is not None:
                alone.until = time.monotonic() + ALONE_S
                return alone
            value = await make()
            alone = holding.alone_of(key)  # others of this loop were as fast
            return alone if alone is not None else holding.keep_alone(key, value, error)
        held = holding.take(key, resource, alone)
        if held is not None:
            return held
        if resource.making:
            return await _make(holding, key, resource, make)


async def _make(holding: Holding, key: bytes, resource: Any, make: Callable[[], Awaitable[Any]]) -> Held:
    making, token = holding.begin_making(key)
    try:
        value = await make()
    except BaseException:
        resource.release()
        raise
    finally:
        holding.end_making(making, token)
    return holding.publish(key, resource, value)
