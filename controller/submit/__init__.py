"""`neva submit`: a job file, or a neva_inference.yaml's job, applied to a cluster."""
