# SPDX-License-Identifier: MIT
"""Streamlit's own caches; see with-streamlit.py."""

import sys

import streamlit as st
import work
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx

if get_script_run_ctx(suppress_warning=True) is None:
    sys.exit("this is for with-streamlit.py")

quiet = st.cache_data(show_spinner=False)
work.serve(
    {
        "double": quiet(work.double),
        "double-spinner": st.cache_data(work.double),
        "slow": quiet(work.slow),
        "size_of": quiet(work.size_of),
        "data": quiet(work.frame),
        "resource": st.cache_resource(show_spinner=False)(work.frame),
        "table": quiet(work.table),
    },
    thread=add_script_run_ctx,
)
