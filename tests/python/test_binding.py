# SPDX-License-Identifier: MIT
"""The extension module: handles, and failures as exceptions."""

import pytest

from cached import CacheError, _binding


def test_a_handle_finds_the_daemon(daemon):
    client = _binding.Client()
    assert client.connect()["realm"].startswith("uid:") and client.socket == str(daemon.socket)


def test_a_failure_says_what_to_do(tmp_path):
    client = _binding.Client(socket=str(tmp_path / "none"))
    with pytest.raises(CacheError, match="none") as e:
        client.connect()
    assert e.value.code == _binding.ERR_UNREACHABLE


def test_a_closed_handle(daemon):
    client = _binding.Client()
    client.close()
    with pytest.raises(CacheError) as e:
        client.connect()
    assert e.value.code == _binding.ERR_CLOSED
