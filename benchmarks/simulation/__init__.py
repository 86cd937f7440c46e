"""A discrete-event simulation of runs with up to thousands of workers: docs/scale.md."""
