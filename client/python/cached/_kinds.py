# SPDX-License-Identifier: MIT
"""The kinds of resources: how what a function returns becomes one, and what others make of it."""

from __future__ import annotations

from typing import Any, Callable


class Local:
    """An object that stays in its process."""

    name = "local"
    read_only = False

    def publish(self, resource: Any, held: Any, holding: Any) -> Any:
        """Gives @held, with what the function returned, to all; what says from then on whether it has left."""
        return resource.give_object(held)

    def open(self, resource: Any, holding: Any, held: Any) -> Any:
        """What somebody else made."""
        raise AssertionError("a local object is nobody else's")

    def alone(self, held: Any, holding: Any) -> Any:
        """Where no daemon has it."""
        return held.value


def kind_of(func: Callable[..., Any], options: dict[str, Any], name: str) -> Any:
    """By what the decorator was told. What only some kinds need is loaded only for them."""
    kind, shared, readonly = options["kind"], options["shared"], options["readonly"]
    if kind not in (None, "local", "segment", "buffers", "descriptor"):
        raise ValueError(f'kind= of {name!r} is "local", "segment", "buffers" or "descriptor", not {kind!r}')
    if kind is None:
        kind = _implied(func, shared, readonly)
    if kind == "local" and (shared or readonly):
        raise ValueError(f'{name!r} has kind="local", whose objects stay in their process, and cannot be shared=True or readonly=True')
    if readonly and kind != "buffers":
        raise ValueError(f'{name!r} has readonly=True, which is for kind="buffers"')
    _check_options(options, kind, name)
    if kind == "local":
        return Local()
    if kind == "descriptor":
        from ._descriptor import Descriptor

        return Descriptor(options["encoding"])
    from ._shared import Buffers, Segment

    return Buffers() if kind == "buffers" else Segment(options["capacity"])


def _implied(func: Callable[..., Any], shared: bool, readonly: bool) -> str:
    if readonly:
        return "buffers"
    if not shared:
        return "local"
    from ._descriptor import is_annotated

    return "descriptor" if is_annotated(func) else "segment"


def _check_options(options: dict[str, Any], kind: str, name: str) -> None:
    capacity = options["capacity"]
    if capacity is not None:
        if kind != "segment":
            raise ValueError(f"capacity= of {name!r} is for shared lists and dicts")
        if isinstance(capacity, bool) or not isinstance(capacity, int) or not 0 < capacity < 1 << 60:
            raise ValueError(f"capacity= of {name!r} is a number of bytes, not {capacity!r}")
    if options["encoding"] is not None and kind != "descriptor":
        raise ValueError(f'encoding= of {name!r} is for kind="descriptor"')
