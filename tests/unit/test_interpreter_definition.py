"""Loading state machine files: what is refused, and how the refusal reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stix.local.interpreter import Definition, DefinitionError, load_definitions

PASS = {"Type": "Pass", "End": True}
INVOKE = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}


def machine(state: Any, **others: Any) -> dict[str, Any]:
    return {"StartAt": "A", "States": {"A": state, **others}}


def call(**fields: Any) -> dict[str, Any]:
    return machine({**INVOKE, "Parameters": {"FunctionName": "f"}, **fields})


def parallel(branch: Any) -> dict[str, Any]:
    return machine({"Type": "Parallel", "Branches": [branch], "End": True})


def mapped(processor: Any = None, **fields: Any) -> dict[str, Any]:
    inner = {"StartAt": "B", "States": {"B": PASS}, **(processor or {})}
    return machine({"Type": "Map", "End": True, "ItemProcessor": inner, **fields})


def problems(document: Any) -> tuple[str, ...]:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(DefinitionError) as caught:
        Definition.from_text("m", text, source="m.asl.json")
    return caught.value.problems


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "this is not JSON"),
        ('{"StartAt": "A", "StartAt": "B"}', "'StartAt' is given twice"),
        ([], "is a JSON object"),
        ({"StartAt": "A"}, "States must be an object"),
        ({"States": {"A": PASS}}, "StartAt is missing"),
        (
            {"StartAt": "Frist", "States": {"First": PASS}},
            "StartAt names 'Frist', which is no state here; did you mean",
        ),
        (machine(PASS) | {"TimeoutSeconds": 0}, "TimeoutSeconds must be a number above 0"),
        (machine(PASS) | {"QueryLanguage": "JSONata"}, "QueryLanguage 'JSONata' is not supported"),
        (machine({**PASS, "QueryLanguage": "JSONata"}), "state 'A': QueryLanguage 'JSONata' is not"),
        (machine(PASS) | {"Startat": 1}, "unknown field 'Startat'; did you mean 'StartAt'?"),
        (machine({"Type": "Pas", "End": True}), "Type must be one of"),
        (machine({**PASS, "Resultpath": "$"}), "unknown field 'Resultpath'; did you mean 'ResultPath'?"),
        (machine({**PASS, "Assign": {}}), "the field Assign is not supported"),
        (machine({"Type": "Pass"}), 'give it either Next or "End": true'),
        (machine({**PASS, "Next": "A"}), 'give it either Next or "End": true'),
        (machine({"Type": "Pass", "Next": "Aa"}, B=PASS), "Next names 'Aa', which is no state here"),
        (machine(PASS, B=PASS), "state 'B' cannot be reached from StartAt 'A'"),
        (machine({"Type": "Pass", "Next": "A"}), "no state ends the machine"),
        (machine({**PASS, "InputPath": "x"}), "the path 'x' must start with $"),
        (machine({**PASS, "ResultPath": "$..x"}), "must be a reference path"),
        (machine({**PASS, "Parameters": {"a.$": "x"}}), "the field 'a.$': 'x' must be a path"),
        (machine({"Type": "Task", "End": True}), "needs a Resource"),
        (call(Resource="arn:aws:states:::sqs:sendMessage"), "is not supported; use lambda:invoke"),
        (call(Resource="arn:aws:states:::lambda:invoke.sync"), "lambda:invoke has no pattern '.sync'"),
        (call(Parameters={"Payload": {}}), "needs FunctionName in its Parameters"),
        (call(Parameters={"FunctionName": "f", "InvocationType": "Event"}), "RequestResponse"),
        (call(TimeoutSeconds=0), "TimeoutSeconds must be"),
        (
            call(TimeoutSeconds=5, HeartbeatSeconds=5),
            "HeartbeatSeconds must be smaller",
        ),
        (machine({"Type": "Wait", "End": True}), "a Wait needs one of Seconds"),
        (machine({"Type": "Wait", "Seconds": 1, "SecondsPath": "$.s", "End": True}), "a Wait needs one of"),
        (machine({"Type": "Wait", "Timestamp": "today", "End": True}), "'today' is no timestamp"),
        (machine({"Type": "Choice", "Choices": []}), "Choices must be a list"),
        (machine({"Type": "Choice", "Choices": [{"Next": "B"}]}, B=PASS), "one operator, not none"),
        (machine({"Type": "Fail", "Error": 5}), "Error must be a string"),
        (machine({"Type": "Parallel", "End": True}), "Branches must be a list"),
        (parallel({"StartAt": "B", "States": {"B": {"Type": "Pass"}}}), "'B': give it either"),
        (parallel(machine(PASS)), "this name is used twice"),
        (machine({"Type": "Map", "End": True}), "a Map needs one ItemProcessor"),
        (
            mapped({"ProcessorConfig": {"Mode": "DISTRIBUTED"}}),
            "Mode 'DISTRIBUTED' is not supported",
        ),
        (mapped(ItemReader={}), "ItemReader is not supported"),
    ],
)
def test_machine_is_refused_when_it_is_wrong(document: Any, words: str) -> None:
    found = problems(document)
    assert any(words in problem for problem in found), found
    assert all(problem.startswith("m.asl.json: ") for problem in found)


@pytest.mark.parametrize(
    ("retry", "words"),
    [
        ({}, "Retry needs ErrorEquals"),
        ({"ErrorEquals": []}, "Retry needs ErrorEquals"),
        ({"ErrorEquals": ["States.ALL", "X"]}, "States.ALL must stand alone"),
        ({"ErrorEquals": ["X"], "MaxAttempts": 1.5}, "must be a whole number"),
        ({"ErrorEquals": ["X"], "MaxAttempts": -1}, "must be a number of at least 0"),
        ({"ErrorEquals": ["X"], "IntervalSeconds": 0}, "must be a number of at least 1"),
        ({"ErrorEquals": ["X"], "BackoffRate": 0.5}, "must be a number of at least 1"),
        ({"ErrorEquals": ["X"], "MaxDelaySeconds": 1}, "MaxDelaySeconds of Retry must be above"),
        ({"ErrorEquals": ["X"], "JitterStrategy": "HALF"}, "JitterStrategy is FULL or NONE"),
        (
            {"ErrorEquals": ["X"], "MaxAttemps": 1},
            "unknown field 'MaxAttemps' in Retry; did you mean 'MaxAttempts'",
        ),
    ],
)
def test_machine_is_refused_when_a_retrier_is_wrong(retry: Any, words: str) -> None:
    state = {**INVOKE, "Parameters": {"FunctionName": "f"}, "Retry": [retry]}
    assert any(words in problem for problem in problems(machine(state)))


def test_catch_all_is_refused_when_another_catcher_follows() -> None:
    catchers = [{"ErrorEquals": ["States.ALL"], "Next": "B"}, {"ErrorEquals": ["X"], "Next": "B"}]
    state = {**INVOKE, "Parameters": {"FunctionName": "f"}, "Catch": catchers}
    assert "States.ALL must stand alone" in problems(machine(state, B=PASS))[0]


def test_all_problems_are_told_when_there_are_several() -> None:
    document = machine(
        {"Type": "Pass", "Next": "Nowhere"}, B={"Type": "Wait", "End": True}, C={"Type": "Nope"}
    )
    found = "\n".join(problems(document))
    assert all(words in found for words in ("'Nowhere'", "state 'B': a Wait", "state 'C': Type"))


def test_placeholders_get_their_values_when_a_folder_is_loaded(tmp_path: Path) -> None:
    state = {**INVOKE, "Parameters": {"FunctionName": "${ProvisionFunctionArn}"}}
    (tmp_path / "launch.asl.json").write_text(json.dumps(machine(state)), encoding="utf-8")
    (tmp_path / "notes.json").write_text("{", encoding="utf-8")
    loaded = load_definitions(tmp_path, {"ProvisionFunctionArn": 'a"quote', "Other": "unused"})
    assert list(loaded) == ["launch"]
    assert json.loads(loaded["launch"].text)["States"]["A"]["Parameters"] == {"FunctionName": 'a"quote'}


def test_folder_is_refused_when_values_are_missing_in_two_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        state = {**INVOKE, "Parameters": {"FunctionName": "${Missing}"}}
        (tmp_path / f"{name}.asl.json").write_text(json.dumps(machine(state)), encoding="utf-8")
    with pytest.raises(DefinitionError) as caught:
        load_definitions(tmp_path, {})
    assert caught.value.problems == (
        "a.asl.json: no value was given for ${Missing}",
        "b.asl.json: no value was given for ${Missing}",
    )
