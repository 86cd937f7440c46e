"""Fixtures shared by all tests come from the plugins in tests/support."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
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


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command called in this process sets up its logging: on a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configuration = structlog.get_config() if structlog.is_configured() else None
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    if configuration is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**configuration)
