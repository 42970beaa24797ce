"""Parts of the run in a real account that can be tried without one: its cap, and that it leaves nothing."""

from __future__ import annotations

import pytest

from tests.live import account
from tests.live.budget import Budget, OverBudgetError


def test_launch_is_refused_when_it_could_cost_more_than_is_left() -> None:
    budget = Budget(1.0)
    budget.pay("one", hourly=0.2, nodes=2, hours=2)
    with pytest.raises(OverBudgetError, match=r"two could cost 0\.30 USD; of 1\.00 are 0\.20 left"):
        budget.pay("two", hourly=0.1, nodes=3, hours=1)
    assert budget.spent == pytest.approx(0.8)
    assert len(budget.launches) == 1


@pytest.mark.parametrize("price", [0.0, -1.0, float("inf"), float("nan")])
def test_launch_is_refused_when_its_price_is_unknown(price: float) -> None:
    with pytest.raises(ValueError, match="no price"):
        Budget(1.0).pay("one", hourly=price, nodes=1, hours=1)


class Broken(account.Deployment):
    """Its commands fail; what they were is remembered."""

    def __init__(self) -> None:
        self.name, self.said = "stix-e2e-abc", []

    def stix(self, *arguments: str, check: bool = True):
        self.said.append(arguments[0])
        raise AssertionError(f"stix {arguments[0]} fails")


def test_everything_is_removed_when_every_command_fails(monkeypatch) -> None:
    """On moto: a machine with the deployment's tag, a table and two buckets are gone afterwards."""
    import boto3

    from tests.providers.aws.fresh import fresh_aws

    with fresh_aws():
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        ec2 = boto3.client("ec2")
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "stix-deployment", "Value": "id-1"}]}]
        image = ec2.describe_images()["Images"][0]["ImageId"]
        ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2, TagSpecifications=tags)
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
        dynamodb, s3 = boto3.client("dynamodb"), boto3.client("s3")
        dynamodb.create_table(
            TableName="state",
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=True,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )
        for bucket in ("objects", "secrets"):
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
        formation = boto3.client("cloudformation")
        topic = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
        formation.create_stack(StackName="stix-e2e-abc", TemplateBody=topic)
        broken = Broken()
        monkeypatch.setattr(account.time, "sleep", lambda _: None)
        outputs = {
            "Deployment": "id-1",
            "TableName": "state",
            "ObjectsBucket": "objects",
            "SecretsBucket": "secrets",
        }
        with pytest.raises(AssertionError, match="stix down fails"):
            account.remove(broken, outputs)
        assert broken.said == ["down", "status", "deploy"]
        states = [
            one["State"]["Name"]
            for group in ec2.describe_instances()["Reservations"]
            for one in group["Instances"]
        ]
        assert sorted(states) == ["running", "terminated", "terminated"]
        assert dynamodb.list_tables()["TableNames"] == []
        assert s3.list_buckets()["Buckets"] == []
        assert formation.list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"] == []
