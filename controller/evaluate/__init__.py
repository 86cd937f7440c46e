"""NeMo's command line: a neva_inference.yaml with overrides becomes a job, and runs here.

`config` reads, `keys` and `to_job` decide, `cli` runs; `controller.submit` applies the same job to
a cluster instead.
"""
