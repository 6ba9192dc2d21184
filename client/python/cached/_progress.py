# SPDX-License-Identifier: MIT
"""That something is computed or waited for, as people see it: a line with a spinner on a terminal, an output in a
notebook, whatever a framework does with its hook; nothing elsewhere.

One thread paints, for all computations of the process; it is made with the first that somebody could see, and shows
only what has taken a moment already. The newest computation is the one that is shown.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import threading
import time
import unicodedata
from typing import Any, Callable, ContextManager, Iterator, Union

Spinner = Union[bool, str]
Hook = Callable[[str, str], ContextManager[Any]]

# Quicker functions show nothing.
DELAY_S = 0.1
_FRAME_S = 0.1
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_ASCII = "|/-\\"
_CLEAR = "\r\x1b[K"


class Shown:
    """One computation: what is said of it, and since when."""

    def __init__(self, text: str, show_time: bool, delay: float = DELAY_S):
        self.text = text
        self.show_time = show_time
        self.start = time.monotonic()
        self.visible = self.start + delay
        self.context = contextvars.copy_context()

    def update(self, text: str | None) -> None:
        """Says something else, or again what was said at first."""
        self.override = text

    override: str | None = None

    def line(self, now: float) -> str:
        text = self.override or self.text
        if self.show_time:
            text += f" ({_elapsed(now - self.start)})"
        return "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in text)


def _elapsed(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cut(text: str, width: int) -> str:
    """As much as fits into so many columns."""
    used = 0
    for i, c in enumerate(text):
        used += 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        if used > width:
            return text[:i]
    return text


class _Terminal:
    """A line at the end of a terminal."""

    def __init__(self, stream: Any):
        self.stream = stream
        self.fd = stream.fileno()
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        self.frames = _FRAMES if encoding == "utf8" else _FRAMES_ASCII
        self.frame = 0

    def paint(self, line: str) -> None:
        try:
            # Writing from the background could stop the whole process.
            if os.tcgetpgrp(self.fd) != os.getpgrp():
                return
            width = os.get_terminal_size(self.fd).columns or 80
        except OSError:
            width = 80
        self.frame = (self.frame + 1) % len(self.frames)
        self._write(_CLEAR + _cut(f"{self.frames[self.frame]} {line}", width - 1))

    def erase(self) -> None:
        self._write(_CLEAR)

    def _write(self, text: str) -> None:
        encoding = getattr(self.stream, "encoding", None) or "ascii"
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone is nobody's to look at
            self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()


class _Notebook:
    """An output of the cell that runs."""

    def __init__(self, context: contextvars.Context):
        self.context = context
        self.handle: Any = None

    def paint(self, line: str) -> None:
        self.context.run(self._paint, line)

    def erase(self) -> None:
        if self.handle is not None:
            self.context.run(self._paint, "")

    def _paint(self, line: str) -> None:
        from IPython.display import display  # type: ignore[import-not-found]

        data = {"text/plain": line}
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


def _surface(context: contextvars.Context) -> _Terminal | _Notebook | None:
    """Where somebody would see it."""
    if _in_kernel():
        return _Notebook(context)
    try:
        if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            return _Terminal(sys.stderr)
    except (OSError, ValueError, AttributeError):
        pass
    return None


class _Painter:
    """The thread, and what it shows."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.shown: list[tuple[Shown, _Terminal | _Notebook]] = []
        self.painted: _Terminal | _Notebook | None = None
        self.thread: threading.Thread | None = None

    def add(self, shown: Shown, surface: _Terminal | _Notebook) -> None:
        with self.changed:
            self.shown.append((shown, surface))
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="cached-progress", daemon=True)
                try:
                    self.thread.start()
                except RuntimeError:  # no more threads; nothing is shown then
                    self.thread = None
            else:
                self.changed.notify()

    def remove(self, shown: Shown) -> None:
        with self.changed:
            self.shown = [s for s in self.shown if s[0] is not shown]
            if not self.shown or all(s[1] is not self.painted for s in self.shown):
                self._erase()

    def _erase(self) -> None:
        if self.painted is not None:
            self.painted.erase()
            self.painted = None

    def _run(self) -> None:
        with self.changed:
            while True:
                now = time.monotonic()
                ready = [s for s in self.shown if s[0].visible <= now]
                if ready:
                    shown, surface = ready[-1]
                    if self.painted is not None and self.painted is not surface:
                        self._erase()
                    surface.paint(shown.line(now))
                    self.painted = surface
                    self.changed.wait(_FRAME_S)
                elif self.shown:
                    self.changed.wait(max(0.001, min(s[0].visible for s in self.shown) - now))
                else:
                    self.changed.wait()


class _State:
    """Of the process: who paints, and the framework that does so instead."""

    hook: Hook | None = None
    painter = _Painter()

    @classmethod
    def forked(cls) -> None:
        """The thread, and whoever had its lock, is the parent's."""
        cls.painter = _Painter()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_State.forked)


def set_progress(hook: Hook | None) -> None:
    """Has a framework show what is computed, instead of the terminal or the notebook.

    hook(function, text) is called in the thread that computes, before it does, and gives a context manager that is
    left when the value is there. If what it enters as has a method update(text), that is called where there is
    something else to say: who else computes, and for how long. None: as it was. Functions with show_spinner=False are
    not shown.
    """
    if hook is not None and not callable(hook):
        raise TypeError(f"the hook must be a function, or None, not {type(hook).__name__}")
    _State.hook = hook


def _no_update(text: str | None) -> None:
    """Nobody sees it."""


@contextlib.contextmanager
def show(function: str, spinner: Spinner, show_time: bool) -> Iterator[Callable[[str | None], None]]:
    """While the context lasts people see that @function is computed, where there is somebody to see it. Gives a
    function that says something else meanwhile (None: what was said at first)."""
    text = spinner if isinstance(spinner, str) else f"Running {function}()"
    hook = _State.hook
    if not spinner:
        yield _no_update
    elif hook is not None:
        with hook(function, text) as entered:
            update = getattr(entered, "update", None)
            yield (lambda other: update(other if other is not None else text)) if callable(update) else _no_update
    else:
        shown = Shown(text, show_time)
        surface = _surface(shown.context)
        if surface is None:
            yield _no_update
            return
        painter = _State.painter
        painter.add(shown, surface)
        try:
            yield shown.update
        finally:
            painter.remove(shown)


def waiting_text(function: str, pid: int, name: str, age_ms: int, text: str, permille: int) -> str:
    """What is said while somebody else computes."""
    who = f"process {pid}" if pid else "another process"
    if name:
        who += f" ({name})"
    told = f": {text}" if text else ""
    if permille:
        told += f" {permille / 10:.0f} %"
    return f"Waiting for {function}(): {who} computes it, for {_elapsed(age_ms / 1000)}{told}"
