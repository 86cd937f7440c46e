"""Runs VideoNevaJobs on Kubernetes.

`plan` (pure) decides over what was seen; `act` does it. kopf only watches: its events fill the
caches in `world` and put names into the work queue of `engine`.
"""
