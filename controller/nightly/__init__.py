"""Nightly runs: one dated job of a series, waited for and compared with the last good night."""
