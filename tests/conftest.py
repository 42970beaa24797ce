"""For all tests: property tests draw the same examples in every run (``make soak`` draws new ones), and a
process reads each of the AWS SDK's service descriptions once, not once for every session."""

from __future__ import annotations

import functools
import os

import botocore.session
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("STIX_TEST_NEW_EXAMPLES"):
    settings.load_profile("repeatable")

# EC2's alone is megabytes of JSON, and adapters, the SDK and moto have sessions of their own.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
