"""Resource types of CloudFormation that moto lacks, or makes too little of.

Each shim makes the resource in moto's own backend of the service, so that the service's own API shows it.
What a shim does not use of a template would be lost in silence, so properties that it does not know are an
error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar
from unittest.mock import patch

import moto.cloudformation.parsing as parsing
from moto.apigatewayv2.models import apigatewayv2_backends
from moto.awslambda.utils import get_backend as lambda_backend
from moto.core.common_models import CloudFormationModel
from moto.events.models import events_backends
from moto.logs.models import logs_backends
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

__all__ = ["UnknownPropertyError", "registered"]


class UnknownPropertyError(Exception):
    """The template says something of a resource that its shim would leave out."""


class _Shim(CloudFormationModel):
    """A resource: its physical id, and what ``Fn::GetAtt`` gives.

    ``known`` are the properties that ``make`` reads, ``inert`` those that change nothing where nothing is
    billed, measured or logged.
    """

    kind: ClassVar[str] = "Tests::Shim"
    known: ClassVar[frozenset[str]] = frozenset()
    inert: ClassVar[frozenset[str]] = frozenset({"Tags", "Description"})

    def __init__(self, physical_resource_id: str, **attributes: str) -> None:
        self.physical_resource_id = physical_resource_id
        self.attributes = attributes

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.kind

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return True

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return self.attributes[attribute_name]

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
        **_more: Any,
    ) -> _Shim:
        properties = cloudformation_json["Properties"]
        if unknown := properties.keys() - cls.known - cls.inert:
            raise UnknownPropertyError(f"{cls.kind} has {', '.join(sorted(unknown))}, which its shim ignores")
        return cls.make(properties, resource_name, account_id, region_name)

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        raise NotImplementedError


def _camel(given: Mapping[str, Any], left_out: Iterable[str]) -> dict[str, Any]:
    """Properties as the service's own API spells them."""
    return {key[0].lower() + key[1:]: value for key, value in given.items() if key not in left_out}


# --- API Gateway ---


class Api(_Shim):
    kind = "AWS::ApiGatewayV2::Api"
    known = frozenset({"Name", "ProtocolType", "RouteSelectionExpression"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        api = apigatewayv2_backends[account][region].create_api(
            api_key_selection_expression="",
            cors_configuration=None,
            description="",
            disable_schema_validation=None,
            disable_execute_api_endpoint=None,
            name=given["Name"],
            protocol_type=given["ProtocolType"],
            route_selection_expression=given.get("RouteSelectionExpression", ""),
            tags={},
            version="",
        )
        return cls(api.api_id, ApiId=api.api_id, ApiEndpoint=api.api_endpoint)


class Stage(_Shim):
    kind = "AWS::ApiGatewayV2::Stage"
    known = frozenset(
        {"ApiId", "StageName", "AutoDeploy", "DefaultRouteSettings", "AccessLogSettings", "Description"}
    )

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        backend = apigatewayv2_backends[account][region]
        backend.create_stage(given["ApiId"], _camel(given, ("ApiId", "Tags")))
        return cls(given["StageName"])


class Integration(_Shim):
    kind = "AWS::ApiGatewayV2::Integration"
    known = frozenset({"ApiId", "IntegrationType", "IntegrationUri", "PayloadFormatVersion"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        none = (
            *("connection_id", "connection_type", "content_handling_strategy", "credentials_arn"),
            *("description", "integration_method", "integration_subtype", "passthrough_behavior"),
            *("request_parameters", "request_templates", "response_parameters"),
            *("template_selection_expression", "timeout_in_millis", "tls_config"),
        )
        made = apigatewayv2_backends[account][region].create_integration(
            given["ApiId"],
            integration_type=given["IntegrationType"],
            integration_uri=given["IntegrationUri"],
            payload_format_version=given.get("PayloadFormatVersion"),
            **dict.fromkeys(none),
        )
        return cls(made.id)


class Authorizer(_Shim):
    kind = "AWS::ApiGatewayV2::Authorizer"
    known = frozenset(
        {
            *("ApiId", "Name", "AuthorizerType", "AuthorizerUri", "AuthorizerPayloadFormatVersion"),
            *("AuthorizerResultTtlInSeconds", "EnableSimpleResponses", "IdentitySource"),
        }
    )

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        made = apigatewayv2_backends[account][region].create_authorizer(
            given["ApiId"],
            auth_creds_arn=None,
            auth_payload_format_version=given.get("AuthorizerPayloadFormatVersion"),
            auth_result_ttl=given.get("AuthorizerResultTtlInSeconds"),
            authorizer_type=given["AuthorizerType"],
            authorizer_uri=given["AuthorizerUri"],
            enable_simple_response=given.get("EnableSimpleResponses"),
            identity_source=given["IdentitySource"],
            identity_validation_expr=None,
            jwt_config=None,
            name=given["Name"],
        )
        return cls(made.id, AuthorizerId=made.id)


class Route(_Shim):
    kind = "AWS::ApiGatewayV2::Route"
    known = frozenset({"ApiId", "RouteKey", "Target", "AuthorizationType", "AuthorizerId"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        made = apigatewayv2_backends[account][region].create_route(
            given["ApiId"],
            api_key_required=False,
            authorization_scopes=[],
            authorization_type=given.get("AuthorizationType", "NONE"),
            authorizer_id=given.get("AuthorizerId"),
            model_selection_expression=None,
            operation_name=None,
            request_models=None,
            request_parameters=None,
            route_key=given["RouteKey"],
            route_response_selection_expression=None,
            target=given["Target"],
        )
        return cls(made.route_id)


# --- Lambda ---


class LayerVersion(_Shim):
    """moto's own gives an object where AWS gives an ARN, and forgets for which processor it is."""

    kind = "AWS::Lambda::LayerVersion"
    known = frozenset({"CompatibleArchitectures", "CompatibleRuntimes", "Content"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        made = lambda_backend(account, region).publish_layer_version({**given, "LayerName": name})
        return cls(made.arn)


class Function(_Shim):
    """moto's own forgets layers, processor and dead-letter queue."""

    kind = "AWS::Lambda::Function"
    known = frozenset(
        {
            *(
                "Architectures",
                "Code",
                "DeadLetterConfig",
                "Environment",
                "FunctionName",
                "Handler",
                "Layers",
            ),
            *("LoggingConfig", "MemorySize", "Role", "Runtime", "Timeout", "TracingConfig"),
        }
    )
    inert = frozenset({"RecursiveLoop", "Tags"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        spec = {key: value for key, value in given.items() if key not in ("LoggingConfig", "Tags")}
        made = lambda_backend(account, region).create_function(spec)
        # Copied into every version that is published.
        made.dead_letters = given.get("DeadLetterConfig", {}).get("TargetArn")
        made.logging = given["LoggingConfig"]
        return cls(made.function_name, Arn=made.function_arn)


class Version(_Shim):
    """moto's own gives the logical id where AWS gives the version's ARN."""

    kind = "AWS::Lambda::Version"
    known = frozenset({"FunctionName"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        made = lambda_backend(account, region).publish_version(given["FunctionName"])
        return cls(made.function_arn, Version=str(made.version))


class Alias(_Shim):
    kind = "AWS::Lambda::Alias"
    known = frozenset({"FunctionName", "FunctionVersion", "Name"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        version = str(given["FunctionVersion"])
        backend = lambda_backend(account, region)
        made = backend.create_alias(given["Name"], given["FunctionName"], version, "", None)
        return cls(made.arn)


class Permission(_Shim):
    """moto's own forgets for which version or alias it was given."""

    kind = "AWS::Lambda::Permission"
    known = frozenset({"Action", "FunctionName", "Principal", "SourceArn"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        arn = given["FunctionName"]
        function = lambda_backend(account, region).get_function(arn)
        statement = {
            "Sid": name,
            "Effect": "Allow",
            "Resource": arn,
            "Action": given["Action"],
            "Principal": {"Service": given["Principal"]},
            "Condition": {"ArnLike": {"AWS:SourceArn": given["SourceArn"]}},
        }
        function.policy.statements.append(statement)
        return cls(name)


class EventInvokeConfig(_Shim):
    kind = "AWS::Lambda::EventInvokeConfig"
    known = frozenset({"FunctionName", "Qualifier", "MaximumEventAgeInSeconds", "MaximumRetryAttempts"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        config = {key: int(given[key]) for key in ("MaximumEventAgeInSeconds", "MaximumRetryAttempts")}
        lambda_backend(account, region).put_function_event_invoke_config(given["FunctionName"], config)
        return cls(f"{given['FunctionName']}|{given['Qualifier']}")


# --- the rest ---


class EventBus(_Shim):
    """moto's own gives an object where AWS gives the name."""

    kind = "AWS::Events::EventBus"
    known = frozenset({"Name"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        made = events_backends[account][region].create_event_bus(given["Name"])
        return cls(made.name, Name=made.name, Arn=made.arn)


class StateMachine(_Shim):
    """moto's own leaves the definition's placeholders in place, in a backend that runs nothing."""

    kind = "AWS::StepFunctions::StateMachine"
    known = frozenset(
        {"DefinitionString", "DefinitionSubstitutions", "RoleArn", "StateMachineName", "StateMachineType"}
    )
    inert = frozenset({"Tags", "LoggingConfiguration", "TracingConfiguration"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        values = given.get("DefinitionSubstitutions", {})
        definition = re.sub(
            r"\$\{(\w+)\}", lambda found: str(values[found.group(1)]), given["DefinitionString"]
        )
        made = stepfunctions_parser_backends[account][region].create_state_machine(
            given["StateMachineName"], definition, given["RoleArn"], sm_type=given["StateMachineType"]
        )
        return cls(made.arn, Arn=made.arn, Name=made.name)


class MetricFilter(_Shim):
    kind = "AWS::Logs::MetricFilter"
    known = frozenset({"FilterPattern", "LogGroupName", "MetricTransformations"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        transformations = [_camel(one, ()) for one in given["MetricTransformations"]]
        logs_backends[account][region].put_metric_filter(
            name, given["FilterPattern"], given["LogGroupName"], transformations
        )
        return cls(name)


class Alarm(_Shim):
    """Nothing measures here, so an alarm is only known by its name."""

    kind = "AWS::CloudWatch::Alarm"
    known = frozenset()
    inert = frozenset(
        {
            *("AlarmActions", "AlarmDescription", "ComparisonOperator", "Dimensions", "EvaluationPeriods"),
            *("MetricName", "Namespace", "OKActions", "Period", "Statistic", "Threshold", "Tags"),
            "TreatMissingData",
        }
    )

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        return cls(name)


class BucketPolicy(_Shim):
    """Not enforced: moto would apply "deny what is not TLS" without its condition."""

    kind = "AWS::S3::BucketPolicy"
    known = frozenset({"Bucket", "PolicyDocument"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        s3_backends[account]["aws"].get_bucket(given["Bucket"])
        return cls(given["Bucket"])


class QueuePolicy(_Shim):
    kind = "AWS::SQS::QueuePolicy"
    known = frozenset({"Queues", "PolicyDocument"})

    @classmethod
    def make(cls, given: Mapping[str, Any], name: str, account: str, region: str) -> _Shim:
        for url in given["Queues"]:
            document = json.dumps(given["PolicyDocument"])
            sqs_backends[account][region].set_queue_attributes(url.rpartition("/")[2], {"Policy": document})
        return cls(name)


def registered() -> AbstractContextManager[Any]:
    """moto looks types up in a map that it makes once; meanwhile it finds ours there."""
    return patch.dict(parsing.get_model_map(), {shim.kind: shim for shim in _Shim.__subclasses__()})
