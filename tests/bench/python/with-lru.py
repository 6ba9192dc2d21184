# SPDX-License-Identifier: MIT
"""functools.lru_cache: one process's own, for reference."""

import functools

import work

work.serve({"double": functools.lru_cache(work.double), "slow": functools.lru_cache(work.slow)})
