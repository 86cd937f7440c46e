"""Ways to use the chart: every template is rendered with every one of them."""

from __future__ import annotations

from typing import Any, Final

import yaml

from tests.chart.rendering import EXAMPLES

JOB: Final[dict[str, Any]] = {
    "model": {"uri": "s3://models/m/"},
    "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/v/"},
    "output": {"uri": "s3://eval/nightly/"},
}
DROP: Final[dict[str, Any]] = {
    "uri": "s3://eval/inbox/",
    "outputBase": "s3://eval/answers/",
    "template": {"spec": {"model": {"uri": "s3://models/m/"}}},
}
_DIGEST = "sha256:" + "0123456789abcdef" * 4
_EXTRAS: dict[str, Any] = {
    "podLabels": {"team": "eval"},
    "podAnnotations": {"example.com/note": "yes"},
    "extraEnv": [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "b", "key": "b"}}},
    ],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}, {"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                ]
            }
        }
    },
    "priorityClassName": "high",
}


def _example(name: str) -> dict[str, Any]:
    text = (EXAMPLES / name / "values.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


VALUE_SETS: Final[dict[str, dict[str, Any]]] = {
    "defaults": {},
    **{
        f"example {path.parent.name}": _example(path.parent.name)
        for path in sorted(EXAMPLES.glob("*/values.yaml"))
    },
    "given namespaces": {
        "controller": {"namespaces": ["team-a", "team-b"]},
        "networkPolicy": {"enabled": True},
        "ui": {"enabled": True},
        "nightly": [{"name": "one", "namespace": "team-a", "job": JOB}],
        "dropFolders": [{"name": "inbox", "namespace": "team-b", "spec": DROP}],
    },
    "whole cluster, jobs in given namespaces": {
        "jobNamespaces": ["team-a", "team-b"],
        "networkPolicy": {"enabled": True},
    },
    "external Redis with TLS": {
        "valkey": {"enabled": False},
        "redis": {
            "existingSecret": "redis",
            "existingSecretKey": "uri",
            "caConfigMap": {"name": "redis-ca", "key": "bundle.pem"},
        },
        "networkPolicy": {"enabled": True},
    },
    "persistent Valkey with a Secret of one's own": {
        "valkey": {
            "auth": {"existingSecret": "broker"},
            "persistence": {"enabled": True, "size": "2Gi", "storageClassName": "fast"},
            "nodeSelector": {"disk": "fast"},
            "podLabels": {"team": "eval"},
        }
    },
    "roles instead of keys": {
        name: {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": f"arn:{name}"}}}
        for name in ("controller", "worker", "finish", "nightlyPods")
    },
    "existing accounts": {
        "rbac": {"create": False},
        **{
            name: {"serviceAccount": {"create": False, "name": "ours"}}
            for name in ("controller", "worker", "finish", "nightlyPods")
        },
        "nightly": [{"name": "one", "job": JOB}],
        "ui": {"enabled": True, "serviceAccount": {"create": False, "name": "ours"}},
    },
    "default accounts": {
        "worker": {"serviceAccount": {"create": False}},
        "finish": {"serviceAccount": {"create": False}},
    },
    "private S3": {
        "storage": {
            "existingSecret": "s3",
            "endpointUrl": "https://s3.example.com:9443",
            "region": "eu-central-1",
            "caConfigMap": {"name": "ca"},
        },
        "ui": {
            "enabled": True,
            "namespaces": ["team-a"],
            "ingress": {
                "enabled": True,
                "className": "public",
                "host": "neva.example.com",
                "tlsSecret": "neva-example-com",
                "annotations": {"example.com/auth": "https://login.example.com/"},
            },
        },
        "nightly": [{"name": "one", "job": JOB, "gate": {"maxScoreDrop": 0.25}}],
        "networkPolicy": {
            "enabled": True,
            "uiFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        },
    },
    "two controllers, all there is to watch": {
        "controller": {
            "replicas": 2,
            "podDisruptionBudget": {"enabled": True},
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                }
            ],
        },
        "kueue": {"enabled": True},
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "runbookUrl": "https://docs.example.com/alerts/"},
            "dashboards": {"enabled": True},
        },
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "uiFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
            "extraEgress": [{"ports": [{"port": 3128}]}],
        },
    },
    "no metrics of pods": {
        "metrics": {"pods": {"enabled": False}},
        "networkPolicy": {"enabled": True},
    },
    "one controller without election": {"controller": {"leaderElection": False}},
    "extras everywhere": {
        "commonLabels": {"cost-center": "42"},
        "commonAnnotations": {"example.com/owner": "eval"},
        "image": {
            "registry": "registry.example.com/ml",
            "pullSecrets": ["registry"],
            "controller": {"digest": _DIGEST},
            "worker": {"tag": "1.2.3-cpu"},
        },
        "controller": _EXTRAS,
        "worker": {
            **_EXTRAS,
            "runtimeClassName": "nvidia",
            "cacheVolume": {"persistentVolumeClaim": {"claimName": "models"}},
        },
        "finish": _EXTRAS,
        "ui": {
            "enabled": True,
            "allowedHosts": ["*.example.com"],
            **{k: v for k, v in _EXTRAS.items() if not k.startswith("extraVolume")},
        },
        "dropFolders": [{"name": "inbox", "spec": DROP, "labels": {"team": "eval"}}],
        "nightly": [
            {
                "name": "one",
                "job": {**JOB, "ttlSecondsAfterFinished": 1209600},
                "activeDeadlineSeconds": 2592000,
                "startingDeadlineSeconds": 604800,
                "successfulJobsHistoryLimit": 0,
                "labels": {"team": "eval"},
            },
            {"name": "two", "schedule": "@daily", "suspend": True, "job": JOB},
        ],
    },
    "the smallest": {
        "crds": {"install": False},
        "helmTest": {"enabled": False},
    },
}
