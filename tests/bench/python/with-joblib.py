# SPDX-License-Identifier: MIT
"""joblib.Memory, in the directory that is given."""

import sys

import joblib
import work

memory = joblib.Memory(sys.argv[1], verbose=0)
work.serve({name: memory.cache(getattr(work, name)) for name in ("double", "slow", "size_of")})
