# SPDX-License-Identifier: MIT
"""Lengths of time, sizes and counts, as people write them."""

import datetime
import decimal

import pytest

from cached import _durations as d


@pytest.mark.parametrize("value, ms", [
    (90, 90_000), (0.5, 500), (0.0001, 1), ("90", 90_000), ("30s", 30_000), ("1h30m", 5_400_000), ("1h 30m", 5_400_000),
    ("1.5h", 5_400_000), ("2 days", 172_800_000), ("1 day, 2 hours", 93_600_000), ("500ms", 500), ("1W", 604_800_000),
    (" 10 min ", 600_000), (datetime.timedelta(hours=1), 3_600_000), (datetime.timedelta(microseconds=1), 1),
    (None, None), (".5s", 500),
])
def test_lengths_of_time(value, ms):
    assert d.milliseconds(value, "ttl") == ms


def test_lengths_of_time_of_numpy():
    np = pytest.importorskip("numpy")
    assert d.milliseconds(np.timedelta64(90, "s"), "ttl") == 90_000
    assert d.milliseconds(np.float64(0.5), "ttl") == 500
    with pytest.raises(ValueError, match="NaT"):
        d.milliseconds(np.timedelta64("NaT"), "ttl")


@pytest.mark.parametrize("value", [
    "abc", "", " ", "1x", "1h1h", "h", "-1s", "1h -2m", "nan", "inf", "1e3", "1h30", "30m1", "1 2", "５s", float("nan"),
    float("inf"), -1, -0.5, 0, 0.0, "0s", datetime.timedelta(0), datetime.timedelta(days=-1), 10 ** 400, 86400 * 3651,
])
def test_no_lengths_of_time(value):
    with pytest.raises(ValueError, match="^ttl "):
        d.milliseconds(value, "ttl")


@pytest.mark.parametrize("value", [True, False, b"1s", [], {}, object(), 1j, decimal.Decimal(1)])
def test_other_types(value):
    with pytest.raises(TypeError, match="^ttl must be a length of time"):
        d.milliseconds(value, "ttl")


@pytest.mark.parametrize("value, n", [
    (1, 1), ("64M", 64 << 20), ("64MiB", 64 << 20), ("64 mb", 64 << 20), ("1.5G", 3 << 29), ("2T", 2 << 40),
    ("100", 100), ("10B", 10), (None, None),
])
def test_sizes(value, n):
    assert d.size(value, "max_bytes") == n


@pytest.mark.parametrize("value", ["", "M", "64X", "-1M", "1e9", 0, -5, "0", 1 << 70, "99999999T"])
def test_no_sizes(value):
    with pytest.raises(ValueError, match="^max_bytes "):
        d.size(value, "max_bytes")


@pytest.mark.parametrize("value", [True, 1.5, [], b"64M"])
def test_sizes_of_other_types(value):
    with pytest.raises(TypeError, match="^max_bytes must be bytes"):
        d.size(value, "max_bytes")


def test_counts():
    assert d.count(7, "max_entries") == 7 and d.count(None, "max_entries") is None
    for value in (0, -1):
        with pytest.raises(ValueError, match="max_entries must be at least 1"):
            d.count(value, "max_entries")
    for value in (True, 1.0, "7"):
        with pytest.raises(TypeError, match="max_entries must be a number"):
            d.count(value, "max_entries")
