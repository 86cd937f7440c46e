"""Dashboards and alerts of the chart against metrics that are really exported."""
