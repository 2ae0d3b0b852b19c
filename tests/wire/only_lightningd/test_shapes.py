"""The comparison of the contract tests finds differences in shape, and no others."""

from typing import Any

import pytest

from tests.wire.only_lightningd.shapes import differences


@pytest.mark.parametrize(
    ("real", "double"),
    [
        ({"a": 1}, {"a": 2}),
        ([{"a": 1}], []),
        ([{"a": 1}, {"a": 2}], [{"a": 3}]),
        ({"a": [1, "x"]}, {"a": [2, "y"]}),
    ],
)
def test_values_of_the_same_shape_do_not_differ(real: Any, double: Any) -> None:
    assert differences(real, double, "x") == []


@pytest.mark.parametrize(
    ("real", "double", "found"),
    [
        ({"a": 1}, {}, "x.a: not in the double"),
        ({}, {"a": 1}, "x.a: only in the double"),
        ({"a": 1}, {"a": "1"}, "x.a: int is str in the double"),
        ({"a": 1}, {"a": True}, "x.a: int is bool in the double"),
        ({"a": 1}, {"a": None}, "x.a: int is NoneType in the double"),
        ({"a": {"b": 1}}, {"a": {"b": 1.5}}, "x.a.b: int is float in the double"),
        ([1, {"a": 1}], [1, {}], "x[1].a: not in the double"),
        (None, {}, "x: NoneType is dict in the double"),
    ],
)
def test_a_difference_in_shape_is_found(real: Any, double: Any, found: str) -> None:
    assert differences(real, double, "x") == [found]
