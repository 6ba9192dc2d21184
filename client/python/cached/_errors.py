# SPDX-License-Identifier: MIT
from __future__ import annotations


class UnhashableParamError(TypeError):
    """An argument has no key."""
