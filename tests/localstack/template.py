"""The stack's template without what LocalStack's free services lack."""

from __future__ import annotations

from typing import Any

__all__ = ["LACKING", "without_lacking"]

LACKING = {
    "AWS::ApiGatewayV2::Api": "apigatewayv2 is not among the free services",
    "AWS::ApiGatewayV2::Authorizer": "apigatewayv2 is not among the free services",
    "AWS::ApiGatewayV2::Integration": "apigatewayv2 is not among the free services",
    "AWS::ApiGatewayV2::Route": "apigatewayv2 is not among the free services",
    "AWS::ApiGatewayV2::Stage": "apigatewayv2 is not among the free services",
    "AWS::CloudWatch::Dashboard": "its CloudFormation does not know the type",
    "AWS::Logs::MetricFilter": "its CloudFormation does not know the type",
}
_ABSENT = "absent"


def without_lacking(template: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The template, and what was left out: type by logical id. What refers to it gets the word "absent"."""
    resources = template["Resources"]
    left_out = {name: one["Type"] for name, one in resources.items() if one["Type"] in LACKING}
    kept = {name: one for name, one in resources.items() if name not in left_out}
    return _replaced({**template, "Resources": kept}, set(left_out)), left_out


def _replaced(value: Any, gone: set[str]) -> Any:
    match value:
        case {"Ref": str(name)} if name in gone:
            return _ABSENT
        case {"Fn::GetAtt": [str(name), *_]} if name in gone:
            return _ABSENT
        case dict():
            made = {key: _replaced(inner, gone) for key, inner in value.items()}
            if isinstance(names := made.get("DependsOn"), list):
                made["DependsOn"] = [name for name in names if name not in gone]
            return made
        case list():
            return [_replaced(inner, gone) for inner in value]
    return value
