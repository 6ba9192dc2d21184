# SPDX-License-Identifier: MIT
"""Which calls are one: arguments bound to the signature, underscore ones left out, what is left to defaults."""

import functools
import math

import pytest

from cached import _keys
from cached._errors import UnhashableParamError


def arguments(func, **more):
    return _keys.Arguments(func, name=getattr(func, "__name__", "f"), **more)


def keys_of(func, *calls):
    a = arguments(func)
    return [a.digest(args, kwargs) for args, kwargs in calls]


def call(*args, **kwargs):
    return args, kwargs


def one(func, *calls):
    assert len(set(keys_of(func, *calls))) == 1, calls


def differ(func, *calls):
    assert len(set(keys_of(func, *calls))) == len(calls), calls


def f(a, b=2):
    pass


def test_positions_and_keywords_are_one_call():
    one(f, call(1, 2), call(1, b=2), call(b=2, a=1), call(a=1, b=2), call(1), call(a=1))
    differ(f, call(1), call(2), call(1, 3), call(2, 1), call(1.0), call(True), call("1"))


def test_all_kinds_of_parameters():
    def g(a, /, b, *rest, c, d=4, **more):
        pass

    one(g, call(1, 2, c=3), call(1, b=2, c=3, d=4), call(1, d=4, c=3, b=2))
    differ(g, call(1, 2, c=3), call(1, 2, 3, c=3), call(1, 2, c=3, e=5), call(1, 2, (3,), c=3), call(1, 2, c=3, a=1))
    one(g, call(1, 2, c=3, x=1, y=2), call(1, 2, c=3, y=2, x=1))
    # What one parameter gets is never taken for another one's.
    differ(lambda *args, **kwargs: None, call(1, a=2), call(1, {"a": 2}), call(1, 2), call((1,), a=2), call())


def test_underscore_arguments_are_no_part_of_the_key():
    def g(a, _connection, *_rest, b=1, _log=None, **more):
        pass

    one(g, call(1, object()), call(1, _connection=object()), call(1, 2, 3, 4, _log=object(), _extra=object()))
    differ(g, call(1, 0), call(2, 0), call(1, 0, b=2), call(1, 0, c=1))

    def h(a, *rest, **_more):
        pass

    one(h, call(1, 2), call(1, 2, x=object()))
    differ(h, call(1, 2), call(1, 3), call(1, "_x"))


def test_methods():
    class Model:
        def __init__(self, n):
            self.n = n

        def plain(self, x):
            pass

        def hidden(_self, x):
            pass

        @classmethod
        def of_class(cls, x):
            pass

        @staticmethod
        def static(x, y=1):
            pass

        def __cached_key__(self):
            return self.n

    a, b = Model(1), Model(2)
    differ(Model.plain, call(a, 1), call(b, 1), call(a, 2))
    one(Model.hidden, call(a, 1), call(b, 1), call(a, x=1))
    assert keys_of(a.plain, call(1)) == keys_of(Model.plain, call(a, 1)) != keys_of(b.plain, call(1))
    one(Model.of_class, call(1), call(x=1))
    one(Model.__dict__["static"], call(1), call(x=1, y=1))

    class Other(Model):
        pass

    assert keys_of(Model.of_class, call(1)) != keys_of(Other.of_class, call(1))


def test_a_self_without_a_key_says_how_to_go_on():
    class Service:
        def load(self, x):
            pass

    with pytest.raises(UnhashableParamError, match="Cannot hash argument 'self' .*Service.* in 'load'.*'_self'"):
        arguments(Service.load).digest((Service(), 1), {})


def test_partials_are_the_calls_that_they_make():
    assert keys_of(functools.partial(f, 1), call(2)) == keys_of(f, call(1, 2))
    assert keys_of(functools.partial(f, b=3), call(1)) == keys_of(f, call(1, 3))
    assert keys_of(functools.partial(functools.partial(f, 1), b=3), call(b=4)) == keys_of(f, call(1, 4))


def passing_on(func):
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        return func(*args, **kwargs)
    return wrapper


def test_behind_a_wrapper_the_function_names_the_arguments():
    def g(a, _b, c=3):
        pass

    one(passing_on(g), call(1, object()), call(a=1, _b=object()), call(_b=object(), a=1))
    differ(passing_on(g), call(1, 2), call(2, 1), call(1, 2, 4))
    one(functools.lru_cache(f), call(1, 2), call(1, b=2), call(b=2, a=1))


def test_what_a_wrapper_may_set_is_not_taken_for_the_default():
    """A wrapper can have a default of its own for what the call leaves out."""
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        kwargs.setdefault("b", 5)
        return f(*args, **kwargs)

    differ(wrapper, call(1), call(1, b=2), call(1, b=5))

    @functools.wraps(f)
    def other(a, b=5):
        return f(a, b)

    differ(other, call(1), call(1, 2))
    one(other, call(1), call(1, b=5))


def test_a_wrapper_that_is_called_unlike_its_function():
    def g(connection, a):
        pass

    @functools.wraps(g)
    def wrapper(*args, **kwargs):
        return g(object(), *args, **kwargs)

    differ(wrapper, call(1), call(2), call((1,), {}))
    one(wrapper, call(a=1), call(a=1))


@pytest.mark.parametrize("make", [
    lambda: f, lambda: (lambda a, *, b: None), lambda: functools.partial(f, 1, 2, 3), lambda: passing_on(f),
])
@pytest.mark.parametrize("args, kwargs", [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"z": 1}),
                                          ((1, 2), {"b": 1})])
def test_wrong_arguments_are_the_calls_own_error(make, args, kwargs):
    func = make()
    try:
        func(*args, **kwargs)
    except TypeError as e:
        expected = str(e)
    else:
        arguments(func).digest(args, kwargs)
        return
    if hasattr(func, "__wrapped__"):
        arguments(func).digest(args, kwargs)  # it takes anything: the error is that of the call
        return
    with pytest.raises(TypeError) as caught:
        arguments(func).digest(args, kwargs)
    assert str(caught.value) == expected


def test_builtins_without_and_with_a_signature():
    one(math.hypot, call(1, 2), call(1, 2))
    differ(math.hypot, call(1, 2), call(2, 1))
    one(sorted, call([1]), call([1]))
    differ(dict, call(a=1), call(a=2))


def test_coroutines_and_lambdas():
    async def g(a, b=2):
        pass

    one(g, call(1), call(1, 2), call(b=2, a=1))
    one(lambda a, b=2: None, call(1), call(1, 2))


def test_a_callable_object_is_part_of_its_calls():
    class Scale:
        def __init__(self, by):
            self.by = by

        def __call__(self, x, y=1):
            pass

        def __cached_key__(self):
            return self.by

    assert keys_of(Scale(1), call(1)) == keys_of(Scale(1), call(x=1, y=1)) != keys_of(Scale(2), call(1))


def test_a_default_without_a_key_is_the_default():
    nothing = object()

    def g(a, b=nothing):
        pass

    one(g, call(1), call(1, nothing), call(1, b=nothing))
    differ(g, call(1), call(1, None), call(2))
    with pytest.raises(UnhashableParamError):
        keys_of(g, call(1, object()))


def test_what_the_fast_path_is_told():
    def g(a, /, b=2, *_rest, c, d=4, **more):
        pass

    told = arguments(g)
    assert told.plain
    assert [(p.name, p.kind, p.ignored, p.required, p.default) for p in told.parameters] == [
        ("a", 0, False, True, None), ("b", 1, False, False, 2), ("_rest", 2, True, True, None), ("c", 3, False, True,
                                                                                                 None),
        ("d", 3, False, False, 4), ("more", 4, False, True, None)]
    assert arguments(passing_on(g)).parameters is None
    assert arguments(functools.partial(g, 1)).parameters is None
    assert not arguments(g, hash_funcs={int: str}).plain
    assert not arguments(g, hash_funcs={object: str}).plain
    assert arguments(g, hash_funcs={BaseException: str}).plain


class Mine:
    pass


@pytest.mark.parametrize("value, where", [
    (Mine(), None),
    ([1, Mine()], "In 'obj'[1] is"),
    ({"k": (0, Mine())}, "In 'obj'['k'][1] is"),
    ({3: {None: Mine()}}, "In 'obj'[3][None] is"),
])
def test_errors_name_argument_type_function_and_place(value, where):
    def multiply_score(obj, by=1):
        pass

    with pytest.raises(UnhashableParamError) as caught:
        arguments(multiply_score).digest((value,), {})
    text = str(caught.value)
    name = type(value).__name__ if type(value) is not Mine else f"{__name__}.Mine"
    assert text.startswith(f"Cannot hash argument 'obj' (of type {name}) in 'multiply_score'.")
    assert f"hash_funcs={{'{__name__}.Mine'" in text and "'_obj'" in text
    assert (f"{where} a value of type {__name__}.Mine." in text) if where else "In 'obj'" not in text


def test_what_contains_itself_is_an_error_and_no_crash():
    loop, circle = [], {}
    loop.append(loop)
    circle["me"] = [circle]
    deep = shallow = []
    for _ in range(100_000):
        deep = [deep]
    for _ in range(63):
        shallow = (shallow,)
    for value in (loop, circle, deep, (shallow,)):
        with pytest.raises(UnhashableParamError, match="Cannot hash argument 'a' .* 64 levels"):
            keys_of(f, call(value))
    assert keys_of(f, call(shallow))
    while deep:  # not by recursion
        deep = deep.pop()


def test_two_nans_as_names_are_an_error():
    with pytest.raises(UnhashableParamError, match="same key twice"):
        keys_of(f, call({float("nan"): 1, float("nan"): 2}))


def test_a_builder_is_free_again_after_an_error():
    good = keys_of(f, call(1))
    for value in ([[object()]], [[[object()]]], {1: {2: object()}}):
        with pytest.raises(UnhashableParamError):
            keys_of(f, call(value))
    assert keys_of(f, call(1)) == good
