"""Fixtures shared by all tests come from the plugins in tests/support."""

from __future__ import annotations

pytest_plugins = ["tests.support.broker", "tests.support.s3"]
