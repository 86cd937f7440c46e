"""Fixtures shared by all tests come from the plugins in tests/support."""

from __future__ import annotations

from hypothesis import settings

# A loaded machine is no failure.
settings.register_profile("neva", deadline=None)
settings.load_profile("neva")

pytest_plugins = [
    "tests.kube.fixtures",
    "tests.support.broker",
    "tests.support.browser",
    "tests.support.s3",
]
