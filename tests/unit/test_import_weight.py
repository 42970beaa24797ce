"""What each entry point loads: a heavy module that sneaks in is named here before anybody waits for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stix.api.v1 import Cluster

# httpx loads these for its own command line wherever they happen to be installed; the product needs none.
HTTPX_OPTIONAL = {"rich", "pygments", "markdown_it", "mdurl", "sniffio", "brotli", "zstandard", "h2"}
HTTP = {"httpx", "httpcore", "h11", "anyio", "certifi", "idna"} | HTTPX_OPTIONAL
MODELS = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
# Powertools asks for botocore's version, to name itself in calls; it loads neither sessions nor clients.
POWERTOOLS = {"aws_lambda_powertools", "jmespath", "botocore"}
HANDLER = {"stix", "functions", "yaml"} | MODELS | POWERTOOLS

# What is heavy in the standard library, and in packages that may be loaded in part.
HEAVY = {
    "asyncio",
    "botocore.client",
    "botocore.session",
    "concurrent.futures.process",
    "ensurepip",
    "multiprocessing",
    "pydoc",
    "sqlite3",
    "ssl",
    "subprocess",
    "unittest",
    "xml",
}

RUN_COMMAND = """
import contextlib, io
from stix.cli.entry import main
sys.argv = ["stix", *{arguments!r}]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main()
"""
RUN_STATUS = """
import io, sys
import httpx
from stix.cli.entry import run
from stix.cli.session import Session
from stix.sdk.endpoint import Endpoint

asked = []

def answer(request):
    asked.append(request.url.path)
    return httpx.Response(200, json=dict(clusters=[{cluster!r}], next=None))

shown, sys.stdout = sys.stdout, io.StringIO()
code = run(["status"], Session({{}}, endpoint=Endpoint("http://127.0.0.1:1", "t"),
    transport=httpx.MockTransport(answer)))
printed, sys.stdout = sys.stdout.getvalue(), shown
assert code == 0 and asked == ["/v1/clusters"] and "trainer" in printed, (code, asked, printed)
"""

CLUSTER = Cluster(
    name="trainer",
    id="c-1",
    status="UP",
    since=0.0,
    num_nodes=2,
    cloud="local",
    region="local",
    instance_type="2cpu-4gib",
    created_at=0.0,
    user="me",
).model_dump(mode="json")

# None stands for a module that is not to be loaded.
REPORT = "print(*sorted(name for name, module in sys.modules.items() if module and name not in before))"


def loaded(program: str) -> set[str]:
    """The modules that a fresh interpreter loads for the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STIX_", "AWS_"))}
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; before = set(sys.modules)\n{program}\n{REPORT}"],
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split())


def foreign(modules: set[str]) -> set[str]:
    """Packages from outside the standard library."""
    tops = {name.partition(".")[0] for name in modules}
    return {
        top for top in tops - sys.stdlib_module_names if not top.startswith("_") and top != "cython_runtime"
    }


def heavy(modules: set[str]) -> set[str]:
    return modules & HEAVY


@pytest.mark.parametrize(
    ("program", "packages", "allowed_heavy"),
    [
        pytest.param("import stix", {"stix"}, set(), id="import stix"),
        pytest.param("import stix.sdk", {"stix"}, set(), id="import stix.sdk"),
        pytest.param("import stix.local.daemon", {"stix"}, set(), id="find the control plane"),
        pytest.param(RUN_COMMAND.format(arguments=["--version"]), {"stix"}, set(), id="stix --version"),
        pytest.param(RUN_COMMAND.format(arguments=["--help"]), {"stix", "click"}, set(), id="stix --help"),
        # httpx itself imports ssl.
        pytest.param(RUN_STATUS.format(cluster=CLUSTER), {"stix", "click"} | HTTP, {"ssl"}, id="stix status"),
    ],
)
def test_only_what_is_needed_is_loaded_when_a_person_waits(program, packages, allowed_heavy):
    modules = loaded(program)
    assert foreign(modules) <= packages
    assert heavy(modules) <= allowed_heavy


def test_next_to_nothing_is_loaded_when_the_version_is_asked_for():
    modules = loaded(RUN_COMMAND.format(arguments=["--version"]))
    assert not modules & {
        "argparse",
        "dataclasses",
        "email",
        "inspect",
        "json",
        "logging",
        "pathlib",
        "socket",
    }


@pytest.mark.parametrize("name", ["optimize", "provision", "monitor", "api", "agent"])
def test_no_sdk_is_loaded_when_a_function_is_imported(name):
    modules = loaded(f"import functions.{name}.handler")
    assert foreign(modules) <= HANDLER
    assert not {module for module in modules if module.startswith(("stix.adapters.", "stix.clouds."))}
    # The resolver of the HTTP functions brings these itself.
    assert heavy(modules) <= ({"asyncio", "subprocess", "ssl"} if name in {"api", "agent"} else set())


def test_no_framework_is_loaded_when_the_authorizer_is_imported():
    # It runs before every request: neither powertools nor YAML.
    modules = loaded("import functions.authorize.handler")
    assert foreign(modules) <= {"stix", "functions"} | MODELS
    assert heavy(modules) == set()


@pytest.mark.parametrize(
    ("program", "seen"),
    [
        ("import yaml", {"yaml"}),
        ("import click.testing, yaml.nodes", {"click", "yaml"}),
        ("import json", set()),
    ],
)
def test_a_package_is_named_when_it_sneaks_in(program, seen):
    assert foreign(loaded(program)) == seen


def test_a_heavy_module_is_named_when_it_sneaks_in():
    assert heavy(loaded("import asyncio, sqlite3")) >= {"asyncio", "sqlite3"}
