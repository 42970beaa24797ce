"""The two buckets: documents, and the values of secrets."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.acknowledge import acknowledge, allow

__all__ = ["ObjectsBucket", "SecretsBucket"]

_NO_ACCESS_LOGS = (
    "Server access logs need a second bucket and bill every request again; CloudTrail data events can be"
    " switched on for the account where an audit of reads is wanted."
)

_PASSING = {"jobs": 30, "join": 30, "managed": 366}
"""First parts of the keys of secrets that end with a job or a launch, and the days after which any that was
forgotten goes. A managed job may wait and move for months."""


class _PrivateBucket(Construct):
    """Not public, TLS only, kept when the stack goes."""

    def __init__(
        self, scope: Construct, id: str, *, encryption: s3.BucketEncryption, rules: list[s3.LifecycleRule]
    ) -> None:
        super().__init__(scope, id)
        abandoned = s3.LifecycleRule(
            id="abandoned-uploads", abort_incomplete_multipart_upload_after=Duration.days(1)
        )
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=encryption,
            # One data key for many objects: fewer calls to KMS. S3 refuses it where no KMS key is used.
            bucket_key_enabled=True if encryption is s3.BucketEncryption.KMS_MANAGED else None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            removal_policy=RemovalPolicy.RETAIN,
            lifecycle_rules=[abandoned, *rules],
        )
        acknowledge(self.bucket, {"AwsSolutions-S1": _NO_ACCESS_LOGS})

    def grant(self, role: iam.IRole, *actions: str) -> None:
        """``s3:...Object`` actions on every object."""
        allow(
            role,
            *actions,
            on=[self.bucket.arn_for_objects("*")],
            wildcard="Objects come and go; the bucket is ours.",
        )

    def grant_list(self, role: iam.IRole) -> None:
        """Without it S3 answers 403 instead of 404 for an absent object, and "absent" is an answer here."""
        allow(role, "s3:ListBucket", on=[self.bucket.bucket_arn])


class ObjectsBucket(_PrivateBucket):
    """Task documents, plans, uploads, logs, the agent. Keys are written once, so versions would be waste."""

    def __init__(self, scope: Construct, id: str) -> None:
        logs = s3.LifecycleRule(id="logs", prefix="logs/", expiration=Duration.days(90))
        super().__init__(scope, id, encryption=s3.BucketEncryption.S3_MANAGED, rules=[logs])


class SecretsBucket(_PrivateBucket):
    """Values of jobs' secrets and of join tokens: deleted when they are done with, and by age if that was
    missed. Below ``clouds/`` a cloud's key, where there is one, stays until somebody deletes it.

    The key is KMS's ``aws/s3``: unlike a key of our own it costs nothing per month.
    """

    def __init__(self, scope: Construct, id: str) -> None:
        forgotten = [
            s3.LifecycleRule(id=f"forgotten-{kind}", prefix=f"{kind}/", expiration=Duration.days(days))
            for kind, days in _PASSING.items()
        ]
        super().__init__(scope, id, encryption=s3.BucketEncryption.KMS_MANAGED, rules=forgotten)

    def grant(self, role: iam.IRole, *actions: str) -> None:
        """``s3:...Object`` actions on what passes, never on a cloud's key."""
        allow(
            role,
            *actions,
            on=[self.bucket.arn_for_objects(f"{kind}/*") for kind in _PASSING],
            wildcard="Objects come and go; the bucket is ours.",
        )

    def grant_key_of(self, role: iam.IRole, cloud: str) -> None:
        """Read the key of that cloud alone."""
        allow(role, "s3:GetObject", on=[self.bucket.arn_for_objects(f"clouds/{cloud}.json")])
        self.grant_list(role)
