# SPDX-License-Identifier: MIT
"""polars: frames and series, as tables of Arrow's where pyarrow is installed, else as a stream of polars' own.

Arrow's classic layout is what polars gives out for texts here: it holds no more than the frame shows, while polars'
own views keep the whole columns that a filtered frame came from. Columns of numbers are views both ways. Which types
go through Arrow is not listed anywhere: an empty frame with the same columns tells.
"""

from __future__ import annotations

import io
from typing import Any

import polars as pl

from ._blob import Blob, blob, fields, memory, need

FRAME = "python:polars.DataFrame"
SERIES = "python:polars.Series"


def _panicked(error: BaseException) -> bool:
    """Whether polars gave up. That is no Exception to Python, though its data is all that suffered."""
    return type(error).__name__ == "PanicException"


def _arrow(frame: pl.DataFrame) -> Any:
    """The frame as a table of Arrow's; it shares columns of numbers. None: it would come back as something else."""
    compat = getattr(pl, "CompatLevel", None)
    options = {} if compat is None else {"compat_level": compat.oldest()}
    try:
        empty = pl.from_arrow(frame.clear().to_arrow(**options))
        return frame.to_arrow(**options) if isinstance(empty, pl.DataFrame) and empty.schema == frame.schema else None
    except BaseException as error:
        if isinstance(error, Exception) or _panicked(error):
            return None
        raise


def _stream(frame: pl.DataFrame) -> Blob | None:
    """The frame as polars writes it. None: it cannot, or would read another."""
    try:
        sink = io.BytesIO()
        frame.clear().write_ipc_stream(sink)
        if pl.read_ipc_stream(io.BytesIO(sink.getvalue())).schema != frame.schema:
            return None
        sink = io.BytesIO()
        frame.write_ipc_stream(sink)
        return blob(sink.getbuffer())
    except BaseException as error:
        if isinstance(error, Exception) or _panicked(error):
            return None
        raise


def _told(frame: pl.DataFrame) -> list | None:
    if frame.width == 0 and frame.height > 0:
        return None
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        table = None
    else:
        table = _arrow(frame)
    if table is not None:
        return ["arrow", table]
    stream = _stream(frame)
    return None if stream is None else ["stream", stream]


def _made(state: Any) -> pl.DataFrame:
    form, data = fields(state, 2)
    need(form in ("arrow", "stream"), "no form of a frame")
    try:
        if form == "stream":
            return pl.read_ipc_stream(io.BytesIO(memory(data)))
        need(type(data).__name__ == "Table" and type(data).__module__.startswith("pyarrow."), "no table of Arrow's")
        data.validate(full=True)  # polars takes for granted that texts are UTF-8
        frame = pl.from_arrow(data)
        need(isinstance(frame, pl.DataFrame), "no frame")
        return frame  # type: ignore[return-value]
    except BaseException as error:
        if _panicked(error):
            raise ValueError(f"a stored frame of polars' does not hold together: {error}") from error
        raise


def _make_series(state: Any) -> pl.Series:
    frame = _made(state)
    need(frame.width == 1, "a series is one column")
    return frame.to_series()


def reduce(value: Any) -> tuple[str, Any] | None:
    """What a value of polars' is made of."""
    kind = type(value)
    told = _told(value) if kind is pl.DataFrame else _told(value.to_frame()) if kind is pl.Series else None
    return None if told is None else (FRAME if kind is pl.DataFrame else SERIES, told)


MAKERS = {FRAME: _made, SERIES: _make_series}
