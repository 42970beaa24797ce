"""The embedded runtime and the stack import what they need, and no SDK."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "sqlite",
        "sqlite_database",
        "local_files",
        "signed_paths",
        "dynamodb",
        "dynamodb_table",
        "s3",
    ],
)
def test_no_sdk_is_imported_when_an_adapter_is(module):
    program = (
        f"import sys, stix.adapters.{module}; "
        "print(*sorted({'boto3', 'botocore', 'asyncio'} & set(sys.modules)), end='')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == ""
