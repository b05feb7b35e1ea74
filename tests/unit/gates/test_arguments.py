"""Handing a callable those arguments of a call that it asks for."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import InvalidInput
from headgate.gates.arguments import by_name


def test_what_is_asked_for_comes_from_wherever_it_was_given():
    def function(a, b=2, *, c=3): ...

    pick = by_name(function, lambda b, c: (b, c), "key")
    assert pick(1) == (2, 3)
    assert pick(1, 5) == (5, 3)
    assert pick(1, c=7) == (2, 7)
    assert pick(b=5, a=1) == (5, 3)


def test_everything_goes_to_whoever_takes_everything():
    def function(a, /, b=2, *rest, c=3, **more): ...

    pick = by_name(function, lambda **all_of_it: all_of_it, "key")
    assert pick(1) == {"a": 1, "b": 2, "c": 3}
    assert pick(1, 4, 5, c=6, d=7) == {"a": 1, "b": 4, "c": 6, "d": 7}


def test_the_rest_of_the_positions_goes_to_whoever_names_it():
    def function(a, *rest): ...

    assert by_name(function, lambda rest, **_: rest, "key")(1, 2, 3) == (2, 3)


def test_a_name_may_come_out_of_the_keyword_arguments():
    def function(a, **fields): ...

    pick = by_name(function, lambda user, a=0: (user, a), "key")
    assert pick(1, user="ann") == ("ann", 1)
    with pytest.raises(TypeError, match="user"):
        pick(1)


def test_all_the_keyword_arguments_may_be_asked_for_as_one():
    def function(a, **fields): ...

    assert by_name(function, lambda fields: fields, "key")(1, b=2) == {"b": 2}


def test_an_argument_of_its_own_keeps_its_default():
    def function(user): ...

    assert (
        by_name(function, lambda user, prefix="user": f"{prefix}:{user}", "key")("ann")
        == "user:ann"
    )


def test_positional_only_on_either_side():
    def function(user, /): ...

    assert by_name(function, lambda user, /: user, "key")("ann") == "ann"


def test_methods_may_ask_for_self():
    class Client:
        name = "ann"

        def fetch(self, path): ...

    assert by_name(Client.fetch, lambda self: self.name, "key")(Client(), "/") == "ann"


def test_an_unknown_name_is_an_error_at_once():
    def function(user, text): ...

    with pytest.raises(
        InvalidInput, match=r"key asks for 'usr', .*function\(\) does not take; .*user, text"
    ):
        by_name(function, lambda usr: usr, "key")


def test_what_cannot_be_seen_into_is_an_error_at_once():
    def function(user): ...

    with pytest.raises(InvalidInput, match="wrap it"):
        by_name(function, type, "key")

    async def key(user): ...

    with pytest.raises(InvalidInput, match="plain function"):
        by_name(function, key, "key")


def test_a_callable_object_is_as_good_as_a_function():
    class Upper:
        def __call__(self, user):
            return user.upper()

    def function(user): ...

    assert by_name(function, Upper(), "key")("ann") == "ANN"


def test_a_call_that_lacks_an_argument_fails_like_the_function():
    def function(user, text): ...

    pick = by_name(function, lambda user: user, "key")
    with pytest.raises(TypeError) as theirs:
        function("ann")
    with pytest.raises(TypeError) as ours:
        pick("ann")
    assert str(ours.value) == str(theirs.value)


def test_parameters_may_have_the_names_that_are_used_inside():
    def function(call, values=1, call_=2, name=3): ...

    pick = by_name(function, lambda **all_of_it: all_of_it, "key")
    assert pick(0) == {"call": 0, "values": 1, "call_": 2, "name": 3}


PARAMETERS = st.lists(
    st.tuples(st.sampled_from(list(inspect._ParameterKind)), st.booleans()), max_size=6
)


@given(parameters=PARAMETERS, data=st.data())
def test_it_binds_as_python_does(parameters, data):
    """Any signature, any call: the callable gets the arguments that the function would."""
    kinds = inspect._ParameterKind
    made = []
    for number, (kind, has_default) in enumerate(sorted(parameters, key=lambda one: one[0])):
        if kind in {kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD} and any(p.kind == kind for p in made):
            continue
        optional = kind in {kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD}
        must_default = kind < kinds.VAR_POSITIONAL and any(p.default is not p.empty for p in made)
        default = (
            number if (has_default or must_default) and not optional else inspect.Parameter.empty
        )
        made.append(inspect.Parameter(f"p{number}", kind, default=default))

    function = eval(f"lambda {str(inspect.Signature(made))[1:-1]}: locals()")
    args = data.draw(st.lists(st.integers(100, 200), max_size=4))
    kwargs = data.draw(
        st.dictionaries(
            st.sampled_from(["p0", "p1", "p2", "p3", "x"]), st.integers(300, 400), max_size=3
        )
    )
    pick = by_name(function, lambda **everything: everything, "key")
    try:
        bound = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            pick(*args, **kwargs)
        return
    rest: dict[str, int] = {}
    for parameter in made:
        if parameter.kind is kinds.VAR_POSITIONAL:
            del bound[parameter.name]
        elif parameter.kind is kinds.VAR_KEYWORD:
            rest = bound.pop(parameter.name)
    assert pick(*args, **kwargs) == rest | bound
