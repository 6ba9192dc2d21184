# SPDX-License-Identifier: MIT
"""Numbers that were read from a session: an int and a float that remember where they come from.

`session.n += 1` is three steps in Python: read, add, assign. What is read is a SessionInt, what adding in place makes of
it is one that knows by how much, and assigning that to the key it was read from counts in the daemon instead of setting.
So nobody's count is lost. In everything else they are the numbers that they are.
"""

from __future__ import annotations

import numbers
from typing import Any, Optional, Tuple, Union

Number = Union[int, float]
Origin = Tuple[bytes, str]  # a session, as it is known in this process, and a key


def plain(value: Any) -> Optional[Number]:
    """What can be counted by: an int or a float of it; None: something else, which bool is no part of."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):
        return float(value)  # numpy's narrow ones
    return None


def counted(what: str, value: Any) -> Number:
    """An argument that is a number. TypeError: it is none."""
    number = None if isinstance(value, bool) else plain(value)
    if number is None:
        raise TypeError(f"{what} is an int or a float, not {value!r}")
    return number


def _added(value: Any, by: Any, sign: int) -> Any:
    step = plain(by)
    if step is None:
        return NotImplemented
    number = value._plain()
    step = step * sign
    total = number + step
    before = value._delta
    made = (SessionInt if isinstance(total, int) else SessionFloat)(total)
    made._origin = value._origin
    made._delta = step if before is None else before + step
    return made


class _Counted:
    """What both have. Their state is in the instance: an int's size varies, so it has no slots."""

    _origin: Optional[Origin] = None
    _delta: Optional[Number] = None  # what was added in place since it was read or assigned

    def _plain(self) -> Number:
        raise NotImplementedError

    def __cached_plain__(self) -> Number:
        """What it is as an argument of a cached function."""
        return self._plain()

    def __iadd__(self, by: Any) -> Any:
        return _added(self, by, 1)

    def __isub__(self, by: Any) -> Any:
        return _added(self, by, -1)

    # Copies, in whatever way, are plain numbers: what is assigned from one is set.
    def __reduce_ex__(self, protocol: Any) -> Any:
        value = self._plain()
        return type(value), (value,)

    def __copy__(self) -> Number:
        return self._plain()

    def __deepcopy__(self, memo: Any) -> Number:
        return self._plain()


class SessionInt(_Counted, int):
    """An int that was read from a session."""

    def _plain(self) -> int:
        return int.__add__(self, 0)


class SessionFloat(_Counted, float):
    """A float that was read from a session."""

    def _plain(self) -> float:
        return float.__pos__(self)


def read(value: Number, origin: Origin) -> Number:
    """The number, as it is handed out."""
    made = SessionInt(value) if type(value) is int else SessionFloat(value)
    made._origin = origin
    return made


def take_delta(value: Any, origin: Origin) -> Optional[Number]:
    """What assigning @value to where it came from adds there; None: it is to be set. Once: assigned a second time, it is set."""
    if not isinstance(value, _Counted) or value._origin != origin:
        return None
    return value.__dict__.pop("_delta", None)


def give_back(value: Any, delta: Number) -> None:
    """What was taken could not be carried out."""
    value._delta = delta
