# SPDX-License-Identifier: MIT
"""cache_data: what is wrong where a function is decorated."""

import datetime

import pytest

import cached


def f(x):
    return x


@pytest.mark.parametrize("options, error, words", [
    ({"ttl": "abc"}, ValueError, "ttl is no length of time: 'abc'"),
    ({"ttl": -1}, ValueError, "ttl must not be negative"),
    ({"ttl": datetime.timedelta(seconds=-1)}, ValueError, "ttl must not be negative"),
    ({"ttl": float("nan")}, ValueError, "ttl is not a number"),
    ({"ttl": float("inf")}, ValueError, "ttl is longer than 10 years"),
    ({"ttl": 0}, ValueError, "ttl must be more than 0"),
    ({"ttl": True}, TypeError, "ttl must be a length of time"),
    ({"ttl": [1]}, TypeError, "ttl must be a length of time"),
    ({"max_entries": 0}, ValueError, "max_entries must be at least 1"),
    ({"max_entries": "7"}, TypeError, "max_entries must be a number"),
    ({"max_bytes": "64X"}, ValueError, "max_bytes is no size"),
    ({"max_bytes": -1}, ValueError, "max_bytes must be at least 1"),
    ({"show_spinner": 3}, TypeError, "show_spinner must be True or False or a text"),
    ({"show_time": "yes"}, TypeError, "show_time must be True or False"),
    ({"persist": "disk"}, NotImplementedError, "persist='disk'"),
    ({"persist": True}, NotImplementedError, "leave persist out"),
    ({"hash_funcs": [str]}, TypeError, "hash_funcs must be a dictionary"),
    ({"hash_funcs": {3: str}}, TypeError, "hash_funcs"),
    ({"hash_funcs": {str: 3}}, TypeError, "hash_funcs"),
    ({"scope": "process"}, ValueError, "scope must be 'global' or 'session'"),
    ({"refresh_mode": "eager", "ttl": 1}, ValueError, "refresh_mode must be None or 'background'"),
    ({"refresh_mode": "background"}, ValueError, "refresh_mode needs a ttl"),
    ({"stale_for": 3}, ValueError, "stale_for needs a ttl"),
    ({"stale_for": "x", "ttl": 3}, ValueError, "stale_for is no length of time"),
    ({"cache_if": 3}, TypeError, "cache_if must be a function"),
    ({"tags": "one"}, TypeError, "tags must be a list of texts"),
    ({"tags": [3]}, TypeError, "a tag must be text"),
    ({"tags": [""]}, ValueError, "a tag must have 1 to 128 bytes"),
    ({"tags": list("abcdefghi")}, ValueError, "up to 8 tags"),
    ({"serializer": object()}, TypeError, "serializer must have dumps"),
    ({"cache": ""}, ValueError, "name of a cache must have 1 to 128 bytes"),
    ({"cache": "a\nb"}, ValueError, "without control characters"),
    ({"cache": 3}, TypeError, "cache must be text"),
    ({"cache": "\ud800"}, ValueError, "UTF-8"),
    ({"version": 3}, TypeError, "version must be text"),
    ({"version": "\udc80"}, ValueError, "version must be characters that UTF-8 has"),
    ({"unpickle": "all"}, ValueError, "unpickle must be"),
    ({"hold": "?"}, ValueError, "hold is no length of time"),
])
def test_wrong_options(options, error, words):
    with pytest.raises(error, match=words):
        cached.cache_data(**options)(f)


def test_unknown_options():
    with pytest.raises(TypeError, match="tll"):
        cached.cache_data(tll=3)
    with pytest.raises(TypeError, match="positional"):
        cached.cache_data(f, 3)


class Maker:
    pass


def generator():
    yield 1


async def generator_async():
    yield 1


@pytest.mark.parametrize("thing, words", [
    (Maker, "Maker is a class"), (generator, r"generator\(\) is a generator.*list"),
    (generator_async, r"asynchronous generator.*list"), (3600, "options are given by name"),
    ("1h", "options are given by name"), (property(f), "@property above"),
])
def test_what_is_no_function(thing, words):
    with pytest.raises(TypeError, match=words):
        cached.cache_data(thing)


def test_good_options():
    for options in ({"ttl": "1h30m"}, {"ttl": 0.5}, {"ttl": datetime.timedelta(1), "stale_for": 0},
                    {"max_bytes": "64M"}, {"ttl": 3, "refresh_mode": "background"}, {"tags": ("a", "b")},
                    {"scope": "session"}, {"show_spinner": "Wait"}):
        assert cached.cache_data(**options)(f).__wrapped__ is f
        assert cached.cache_data(f, **options).__wrapped__ is f


def test_only_decorated_functions_have_tags():
    with pytest.raises(TypeError, match="not decorated"):
        cached.clear_tag(f, "x")
    with pytest.raises(TypeError, match="a tag must be text"):
        cached.cache_data(f).clear_tag(3)


def test_nothing_is_asked_of_a_daemon_before_the_first_call(monkeypatch, recwarn):
    monkeypatch.setenv("CACHED_SOCKET", "/nonexistent/socket")
    cached.cache_data(ttl=3)(f)
    assert not recwarn.list


def test_a_name_that_utf8_does_not_have(daemon):
    """Such as of a function that was made of bytes that are no text."""
    for options in ({}, {"cache": "named"}):
        names = ("\udc80", "\udc81")
        made = []
        for name in names:
            def f(x):
                return [x]
            f.__qualname__ = name
            made.append(cached.cache_data(**options)(f))
        assert [f(1) for f in made] == [[1], [1]] and made[0].key(1) != made[1].key(1)


@pytest.mark.parametrize("value", [lambda: iter([1]), lambda: map(str, [1]), lambda: zip([1], [2]), lambda: reversed([1]),
                                   lambda: (x for x in [1])])
def test_what_only_the_first_caller_could_use(daemon, value):
    @cached.cache_data
    def f():
        return value()

    with pytest.raises(cached.CachedGeneratorError, match="which only one caller could use: return a list"):
        f()


def test_generators_are_told_where_they_are_decorated():
    def gen():
        yield 1

    async def agen():
        yield 1

    for function in (gen, agen):
        with pytest.raises(cached.CachedGeneratorError, match="used up by the first caller"):
            cached.cache_data(function)
