"""The table, from the store's own definition of it."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.acknowledge import allow
from stix.adapters.dynamodb_table import IndexDefinition, table_definition

__all__ = ["StateTable"]

_READS = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")
_WRITES = (
    *("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"),
    # Part of a transaction: "somebody else's item is still at this version".
    "dynamodb:ConditionCheckItem",
)


class StateTable(Construct):
    """On demand, so that idle costs nothing; kept and protected, because the table is the truth."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        definition = table_definition()
        self._attributes = definition.attributes
        self.table = dynamodb.Table(
            self,
            "Table",
            partition_key=self._attribute(definition.partition_key),
            sort_key=self._attribute(definition.sort_key),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            # The key that AWS owns: encrypted at rest, no charge per month or per call.
            encryption=dynamodb.TableEncryption.DEFAULT,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=True,
            removal_policy=RemovalPolicy.RETAIN,
            time_to_live_attribute=definition.ttl_attribute,
        )
        for index in definition.indexes:
            self._add(index)

    def grant_get(self, role: iam.IRole) -> None:
        """Single items by their key."""
        allow(role, "dynamodb:GetItem", on=[self.table.table_arn])

    def grant_read_write(self, role: iam.IRole) -> None:
        """Items by key and by partition; not the indexes."""
        allow(role, *_READS, *_WRITES, on=[self.table.table_arn])

    def grant_index(self, role: iam.IRole, index: str) -> None:
        allow(role, "dynamodb:Query", on=[f"{self.table.table_arn}/index/{index}"])

    def _add(self, index: IndexDefinition) -> None:
        self.table.add_global_secondary_index(
            index_name=index.name,
            partition_key=self._attribute(index.partition_key),
            sort_key=self._attribute(index.sort_key),
            projection_type=dynamodb.ProjectionType[index.projection],
        )

    def _attribute(self, name: str) -> dynamodb.Attribute:
        kinds = {"S": dynamodb.AttributeType.STRING, "N": dynamodb.AttributeType.NUMBER}
        return dynamodb.Attribute(name=name, type=kinds[self._attributes[name]])
