# SPDX-License-Identifier: MIT
"""The kinds of resources: how what a function returns becomes one, and what others make of it."""

from __future__ import annotations

from typing import Any, Callable


class Local:
    """An object that stays in its process."""

    name = "local"
    read_only = False

    def publish(self, resource: Any, held: Any, holding: Any) -> Any:
        """Gives @held, with what the function returned, to all; its source."""
        return resource.give_object(held)

    def open(self, resource: Any, holding: Any, key: bytes) -> Any:
        """What somebody else made."""
        raise AssertionError("a local object is nobody else's")

    def alone(self, value: Any, holding: Any) -> Any:
        """Where no daemon has it."""
        return value


def kind_of(func: Callable[..., Any], options: dict[str, Any], name: str) -> Any:
    """By what the decorator was told."""
    return Local()
