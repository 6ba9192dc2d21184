# SPDX-License-Identifier: MIT
"""The fixtures of tests/outside, under a name that does not clash with the conftest.py here."""

import importlib.util
import pathlib
import sys

path = pathlib.Path(__file__).parents[1] / "outside" / "conftest.py"
spec = importlib.util.spec_from_file_location("outside_fixtures", path)
module = importlib.util.module_from_spec(spec)
sys.modules["outside_fixtures"] = module
spec.loader.exec_module(module)
globals().update({name: value for name, value in vars(module).items() if not name.startswith("__")})
