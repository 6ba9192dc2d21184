# SPDX-License-Identifier: MIT
"""Runs streamlit-app.py as an app is run, with the context of a session: by AppTest, which is Streamlit's ScriptRunner.

In a bare script its caches warn that there is no session, and no spinner is ever put up.
"""

import os
import pathlib
import sys

# This thread has no session, and would be told so; and nothing is counted for anybody's statistics. Neither is timed.
os.environ["STREAMLIT_LOGGER_LEVEL"] = "error"
os.environ["STREAMLIT_BROWSER_GATHER_USAGE_STATS"] = "false"

from streamlit.testing.v1 import AppTest  # noqa: E402

app = AppTest.from_file(str(pathlib.Path(__file__).with_name("streamlit-app.py")), default_timeout=3600)
# It looks a thousand times a second whether the script has ended. With this it waits for the interpreter until the
# script gives it up by itself.
sys.setswitchinterval(10)
app.run()
if app.exception:
    sys.exit("\n".join("\n".join([e.value, *e.stack_trace]) for e in app.exception))
