"""The deployed system without an account: the synthesized template is a stack, its functions are processes.

Everything below goes through the command line, to the stack's own API, over TLS, with the stack's own routes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from layers.build import download
from tests.deployed.account import REGION, Account
from tests.deployed.synthesis import synthesize
from tests.e2e.embedded import EmbeddedHome

pytestmark = pytest.mark.xdist_group("e2e-deployed")


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account in which the stack is deployed."""
    folder = tmp_path_factory.mktemp("account")
    made = Account(folder, wheels=download("core", "host"))
    try:
        made.deploy(synthesize(folder / "assembly"))
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def person(account: Account, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedHome:
    """Somebody with AWS credentials who has logged in to the stack."""
    home = EmbeddedHome(
        tmp_path_factory.mktemp("person") / "home",
        PYTHONPATH=account.computers.pythonpath,
        AWS_ENDPOINT_URL=account.url,
        AWS_ACCESS_KEY_ID="person",
        AWS_SECRET_ACCESS_KEY="person",
        AWS_REGION=REGION,
        **account.computers.environ,
    )
    said = home.stix("api", "login", "--stack", account.outputs["Deployment"]).stdout
    assert account.outputs["ApiUrl"] in said
    return home


def test_stack_answers_whoever_logged_in_with_its_outputs(person: EmbeddedHome) -> None:
    assert "No clusters" in person.stix("status").stdout
    checks = json.loads(person.stix("check", "-o", "json").stdout)["clouds"]
    assert [one["cloud"] for one in checks if one["enabled"]] == ["aws"]
