# SPDX-License-Identifier: MIT
"""What happens when a resource leaves: on_release, in a thread that waits for it, and at the process's end.

libcached says what has left from threads of its own, which know nothing of the interpreter: local objects by a list and a
bell, all else by a descriptor of each. One thread waits for both, "cached-release", begun with the process's first resource.
At an orderly end (atexit; in a worker of multiprocessing its own kind of that) whatever is left is told in the thread that
ends the process. A child has nothing of its parent's to tell.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import weakref
from typing import Any, Callable

from . import _binding

# Whoever has things of this process that a child has not. Called in the child, which has one thread.
_to_forget: weakref.WeakSet = weakref.WeakSet()


class Releaser:
    """This process's thread, and what it waits for."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.told: Callable[[Any], None] | None = None
        self.everything: Callable[[], list] | None = None
        self.forks = 0
        self.reset()
        os.register_at_fork(after_in_child=self.forked)
        atexit.register(self.finish)

    def reset(self) -> None:
        self.watched: dict[int, Any] = {}
        self.thread: threading.Thread | None = None
        self.poll: Any = None
        self.stop = -1
        self.is_over = False

    def forked(self) -> None:
        """In a child: the epoll instance is the parent's, too, and nothing of it is to be changed."""
        self.forks += 1
        self.guard = threading.Lock()
        if self.poll is not None:
            self.poll.close()
            os.close(self.stop)
        self.reset()
        _binding.departed_forked()
        for holder in list(_to_forget):
            holder.forget()

    # ---- waiting

    def begin(self) -> None:
        """The thread, if there is none yet."""
        if self.thread is not None or self.is_over:
            return
        with self.guard:
            if self.thread is not None or self.is_over:
                return
            self.poll = select.epoll()
            self.stop, theirs = os.pipe()
            self.theirs = theirs
            bell = _binding.departed_bell()
            self.poll.register(bell, select.EPOLLIN)
            self.poll.register(self.stop, select.EPOLLIN)
            thread = threading.Thread(target=self.run, args=(self.poll, bell, self.stop), name="cached-release", daemon=True)
            thread.start()
            self.thread = thread
            util = sys.modules.get("multiprocessing.util")
            if util is not None:  # its workers end without what atexit has
                util.Finalize(None, self.finish, exitpriority=0)

    def watch(self, held: Any) -> None:
        """@held, that has a Resource of its own, is told when that has left."""
        self.begin()
        fd = held.source.left_fd
        if fd < 0 or self.poll is None:
            return  # no descriptor free: it is noticed at the next access
        with self.guard:
            old = self.watched.get(fd)
            self.watched[fd] = held
            if old is None:
                self.poll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
            else:
                self.poll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
        held.bell = fd

    def unwatch(self, held: Any) -> None:
        """Before the descriptor is closed with the Resource."""
        with self.guard:
            if self.watched.get(held.bell) is held:
                del self.watched[held.bell]
                try:
                    self.poll.unregister(held.bell)
                except (OSError, ValueError):
                    pass  # the kernel did, or the process ends
            held.bell = -1

    def run(self, poll: Any, bell: int, stop: int) -> None:
        while True:
            for fd, _ in poll.poll():
                if fd == stop:
                    return
                if fd == bell:
                    self.drain()
                    continue
                held = self.watched.get(fd)
                if held is not None:
                    self.tell(held)
                    del held

    def drain(self) -> None:
        for local in _binding.departed():
            self.tell(local.object)

    def tell(self, held: Any) -> None:
        held.leave()

    # ---- the end

    def finish(self) -> None:
        """All that this process still has is told, once."""
        with self.guard:
            if self.is_over:
                return
            self.is_over = True
            thread = self.thread
        if thread is None:
            return
        os.close(self.theirs)
        if thread is not threading.current_thread():
            thread.join(10)  # it may be in the middle of an on_release
        self.drain()
        if self.everything is not None:
            for held in self.everything():
                held.leave(True)


def forget_in_children(holder: Any) -> None:
    """@holder.forget() is called in each child."""
    _to_forget.add(holder)


releaser = Releaser()
