"""Judged runs against each other: `neva compare` and `neva gate`."""
