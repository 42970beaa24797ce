"""Paths, filters, intrinsic functions and choice rules, one expression at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from stix.local.interpreter.choice import compile_rule
from stix.local.interpreter.errors import StateError
from stix.local.interpreter.paths import PathSyntaxError, compile_path
from stix.local.interpreter.templates import compile_expression, compile_reference, compile_template


@dataclass
class Data:
    data: Any
    context: dict[str, Any] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(1))


BOOK = {"title": "A", "price": 8, "tags": ["x", "y"], "odd key": {"a.b": 1}}
STORE = {"books": [BOOK, {"title": "B", "price": 12}, {"title": "C"}], "n": None}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", STORE),
        ("$.books[0].title", "A"),
        ("$['books'][0]['odd key']['a.b']", 1),
        ('$["books"][-1].title', "C"),
        ("$.n", None),
        ("$.books[*].title", ["A", "B", "C"]),
        ("$.books[*].price", [8, 12]),
        ("$.books[0:2].title", ["A", "B"]),
        ("$.books[-1:].title", ["C"]),
        ("$.books[::2].title", ["A", "C"]),
        ("$.books[0,2].title", ["A", "C"]),
        ("$.books[0]['title','price']", ["A", 8]),
        ("$..price", [8, 12]),
        ("$..tags[0]", ["x"]),
        ("$.books[?(@.price)].title", ["A", "B"]),
        ("$.books[?(!@.price)].title", ["C"]),
        ("$.books[?(@.price > 10)].title", ["B"]),
        ("$.books[?(@.price >= 8 && @.title != 'B')].title", ["A"]),
        ("$.books[?(@.title == 'A' || @['title'] == \"C\")].title", ["A", "C"]),
        ("$.books[?((@.price < 9 || @.price > 11) && @.title == 'B')].price", [12]),
        ("$.books[?(@.price == true)]", []),
        ("$.books.length()", 3),
        ("$.books[*].length()", 3),
    ],
)
def test_path_reads_what_it_names(path: str, expected: Any) -> None:
    assert compile_path(path).read(Data(STORE)) == expected


@pytest.mark.parametrize(
    "path", ["$.nope", "$.books[3]", "$.books.title", "$.n.x", "$.nope[*]", "$['books'].x"]
)
def test_path_raises_when_it_is_definite_and_absent(path: str) -> None:
    with pytest.raises(StateError, match=r"States\.Runtime"):
        compile_path(path).read(Data(STORE))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        "$x",
        "$.",
        "$.a..",
        "$[",
        "$['a]",
        "$[?(@.a ==)]",
        "$[?(@.a = 1)]",
        "$[a]",
        "$.a b",
        "$.min()",
    ],
)
def test_path_is_refused_when_it_is_malformed(path: str) -> None:
    with pytest.raises(PathSyntaxError):
        compile_path(path)


def test_context_is_read_when_the_path_begins_with_two_dollars() -> None:
    assert compile_path("$$.Task.Token").read(Data({"Task": 1}, {"Task": {"Token": "t"}})) == "t"


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("$", {"a": 1}, 9),
        ("$.a", {"a": 1, "b": 2}, {"a": 9, "b": 2}),
        ("$.x.y", {}, {"x": {"y": 9}}),
        ("$['x y']", {}, {"x y": 9}),
        ("$.l[1]", {"l": [1, 2]}, {"l": [1, 9]}),
        ("$.l[0].z", {"l": [{}]}, {"l": [{"z": 9}]}),
    ],
)
def test_reference_path_writes_into_a_copy(path: str, root: Any, expected: Any) -> None:
    before = repr(root)
    assert compile_reference(path).write(root, 9) == expected
    assert repr(root) == before


@pytest.mark.parametrize(
    ("path", "root"), [("$.a.b", {"a": 1}), ("$.a", [1]), ("$.l[5]", {"l": []}), ("$.a", None)]
)
def test_reference_path_raises_when_something_is_in_the_way(path: str, root: Any) -> None:
    with pytest.raises(StateError, match=r"States\.ResultPathMatchFailure"):
        compile_reference(path).write(root, 9)


@pytest.mark.parametrize("path", ["$.a[*]", "$..a", "$$.Execution", "$.a[0:1]", 7])
def test_reference_path_is_refused_when_it_names_many_or_the_context(path: Any) -> None:
    with pytest.raises(PathSyntaxError):
        compile_reference(path)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (r"States.Format('it\'s \{{}\}', $.s)", "it's {x}"),
        ("States.Format('{} {} {}', null, $.o, 1.5)", 'null {"a":1} 1.5'),
        ("States.Array()", []),
        ("States.Array(null, $.o, 'a, (b)')", [None, {"a": 1}, "a, (b)"]),
        ("States.Base64Decode(States.Base64Encode('grün'))", "grün"),
        ("States.ArrayContains($.l, true)", False),
        ("States.ArrayContains($.l, 1)", True),
        ("States.ArrayRange(5, 1, -2)", [5, 3, 1]),
        ("States.ArrayUnique($.l)", [1, 2, {"a": 1}]),
        ("States.ArrayPartition($.l, 9)", [[1, 2, 1, {"a": 1}, {"a": 1}]]),
        ("States.StringSplit('a.b..c', '.')", ["a", "b", "c"]),
        ("States.StringSplit('abc', '')", ["abc"]),
        ("States.MathAdd(1.4, 1.6)", 3),
        ("States.Hash($.o, 'MD5')", "bb6cb5c68df4652941caf652a366f2d8"),
        ("States.ArrayLength($.l[?(@.a == 1)])", 2),
        ("States.StringToJson('')", None),
    ],
)
def test_intrinsic_function_computes(expression: str, expected: Any) -> None:
    data = {"s": "x", "o": {"a": 1}, "l": [1, 2, 1, {"a": 1}, {"a": 1}]}
    assert compile_expression(expression)(Data(data)) == expected


def test_random_numbers_stay_below_the_end() -> None:
    draw = compile_expression("States.MathRandom(3, 5)")
    scope = Data({})
    assert {draw(scope) for _ in range(100)} == {3, 4}
    seeded = compile_expression("States.MathRandom(0, 1000000, 42)")
    assert seeded(scope) == seeded(scope)


@pytest.mark.parametrize(
    "expression",
    [
        "States.Format('{} {}', 1)",
        "States.Format('{}', 1, 2)",
        "States.StringToJson('{')",
        "States.ArrayPartition($.l, 0)",
        "States.ArrayGetItem($.l, 9)",
        "States.ArrayGetItem($.l, -1)",
        "States.ArrayRange(1, 5000, 1)",
        "States.ArrayRange(1, 2, 0)",
        "States.Base64Decode('%')",
        "States.Hash('x', 'CRC')",
        "States.JsonMerge($.o, $.o, true)",
        "States.MathAdd('1', 2)",
        "States.MathRandom(5, 5)",
        "States.ArrayLength($.o)",
    ],
)
def test_intrinsic_function_fails_when_its_arguments_are_wrong(expression: str) -> None:
    with pytest.raises(StateError, match=r"States\.IntrinsicFailure"):
        compile_expression(expression)(Data({"l": [1], "o": {}}))


@pytest.mark.parametrize(
    "expression",
    [
        "States.Nope()",
        "States.UUID(1)",
        "States.Format('a'",
        "States.Format('a)",
        "States.Format('a') x",
        "States.MathAdd(1 2)",
        "States.MathAdd(1, $.a",
        "States.MathAdd(1, nope)",
        "plain",
    ],
)
def test_expression_is_refused_when_it_is_malformed(expression: str) -> None:
    with pytest.raises(PathSyntaxError):
        compile_expression(expression)


def test_template_keeps_constants_and_evaluates_the_rest() -> None:
    template = {"a.$": "$.x", "b": {"c": ["$.x", {"d.$": "States.MathAdd($.x, 1)"}]}, "e": {"f": [1]}}
    built = compile_template(template)(Data({"x": 1}))
    assert built == {"a": 1, "b": {"c": ["$.x", {"d": 2}]}, "e": {"f": [1]}}


@pytest.mark.parametrize(
    "template", [{"a.$": 1}, {"a.$": "x"}, {"a.$": "$.x", "a": 1}, {"l": [{"a.$": None}]}]
)
def test_template_is_refused_when_a_field_is_no_expression(template: Any) -> None:
    with pytest.raises(PathSyntaxError):
        compile_template(template)


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ({"StringEquals": "a"}, 1, False),
        ({"StringGreaterThanEquals": "b"}, "b", True),
        ({"StringMatches": "*.log"}, "a\nb.log", True),
        ({"StringMatches": r"a\*b*"}, "a*bc", True),
        ({"StringMatches": r"a\\*"}, "a\\c", True),
        ({"StringMatches": "*"}, 5, False),
        ({"NumericEquals": 1}, True, False),
        ({"NumericEquals": 1}, 1.0, True),
        ({"NumericLessThan": 1}, None, False),
        ({"BooleanEquals": True}, 1, False),
        ({"TimestampEquals": "2020-01-01T00:00:00Z"}, "2020-01-01T01:00:00+01:00", True),
        ({"TimestampGreaterThan": "2020-01-01T00:00:00Z"}, "2020-01-01T00:00:00.001Z", True),
        ({"TimestampLessThan": "2020-01-01T00:00:00Z"}, "2019", False),
        ({"IsTimestamp": False}, "2019-01-01", True),
        ({"IsNull": False}, 0, True),
        ({"IsPresent": True}, None, True),
        ({"NumericEqualsPath": "$.other"}, 3, True),
        ({"NumericGreaterThanPath": "States.MathAdd($.other, -1)"}, 3, True),
    ],
)
def test_choice_rule_decides(rule: dict[str, Any], value: Any, expected: bool) -> None:
    assert compile_rule({"Variable": "$.v", **rule})(Data({"v": value, "other": 3})) is expected


def test_choice_rule_raises_when_its_variable_is_absent() -> None:
    with pytest.raises(StateError, match=r"States\.Runtime"):
        compile_rule({"Variable": "$.v", "NumericEquals": 1})(Data({}))


@pytest.mark.parametrize(
    "rule",
    [
        {"Variable": "$.v"},
        {"StringEquals": "a"},
        {"Variable": "$.v", "StringEquals": 1},
        {"Variable": "$.v", "StringEquals": "a", "NumericEquals": 1},
        {"Variable": "$.v", "BooleanLessThan": True},
        {"Variable": "$.v", "StringStartsWith": "a"},
        {"Variable": "$.v", "TimestampEquals": "today"},
        {"Variable": "$.v", "IsNull": "yes"},
        {"And": []},
        {"Not": {"Variable": "$.v", "IsNull": True, "Next": "X"}},
        "rule",
    ],
)
def test_choice_rule_is_refused_when_it_is_malformed(rule: Any) -> None:
    with pytest.raises(PathSyntaxError):
        compile_rule(rule)
