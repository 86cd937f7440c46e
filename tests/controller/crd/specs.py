"""Custom resources for tests of the schema and its rules."""

from __future__ import annotations

import copy
from typing import Any

API_VERSION = "neva-batch.dev/v1alpha1"

JOB: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "VideoNevaJob",
    "metadata": {"name": "kitchen"},
    "spec": {
        "model": {"uri": "s3://models/llava/", "tensorParallelSize": 4},
        "input": {"prompts": "s3://eval/prompts.jsonl", "mediaBasePath": "s3://eval/videos/"},
        "inference": {"insert_media_token": None, "num_frames": 8},
        "output": {"uri": "s3://eval/runs/kitchen/"},
        "workers": {
            "replicas": 2,
            "gpusPerWorker": 4,
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "resources": {"requests": {"cpu": 8, "memory": "64Gi"}},
            "podTemplate": {"spec": {"dnsPolicy": "None"}},
        },
        "failure": {"failOnError": True},
        "judge": {"against": ["s3://eval/reference.jsonl"], "apiKeySecret": "judge-key"},
        "storage": {"secretName": "my-bucket"},
        "activeDeadlineSeconds": 3600,
    },
}

FOLDER: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "DropFolder",
    "metadata": {"name": "inbox"},
    "spec": {
        "uri": "s3://eval/inbox/",
        "outputBase": "s3://eval/runs/",
        "sqs": {"queueUrl": "https://sqs.eu-west-1.amazonaws.com/1/q"},
        "done": {"action": "tag"},
        "template": {
            "metadata": {"labels": {"team": "vision"}},
            "spec": {"model": {"uri": "s3://models/llava/"}, "workers": {"gpusPerWorker": 0}},
        },
    },
}


def changed(resource: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with one value replaced, or removed if the value is `...`."""
    result = copy.deepcopy(resource)
    *parents, last = path.split(".")
    block = result
    for parent in parents:
        block = block.setdefault(parent, {})
    if value is ...:
        del block[last]
    else:
        block[last] = value
    return result
