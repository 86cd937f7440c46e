"""The operator's configuration: what the chart knows and a job does not say.

A YAML file that NEVA_OPERATOR_CONFIG names. Secrets are named here, never read: the pods get them
from Kubernetes, in the job's own namespace.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from neva.errors import ConfigError

CONFIG_VARIABLE = "NEVA_OPERATOR_CONFIG"


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True
    )


class KeyRef(_Model):
    """One key of a ConfigMap."""

    name: str = Field(min_length=1)
    key: str = Field(min_length=1)


class NamedSecret(_Model):
    name: str = Field(min_length=1)


class RedisConfig(_Model):
    """The broker as the worker pods reach it."""

    secret_name: str = Field(description="Secret with the broker's URL.")
    secret_key: str = Field("url", description="Its key.")
    ca_config_map: KeyRef | None = Field(
        None,
        description="CA bundle, mounted at /etc/neva/redis-ca/<key>; name it in the URL as "
        "?ssl_ca_certs=.",
    )


class StorageConfig(_Model):
    """The object store as the pods reach it."""

    secret_name: str | None = Field(None, description="Secret with AWS_ variables.")
    endpoint_url: str | None = None
    region: str | None = None
    ca_config_map: KeyRef | None = Field(None, description="CA bundle of the endpoint.")


class LeaderElection(_Model):
    enabled: bool = True
    lease_name: str = "neva-batch-controller"
    lease_namespace: str = "default"


class PodDefaults(_Model):
    """What the pods get where the job says nothing."""

    resources: dict[str, Any] = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    affinity: dict[str, Any] | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    env: list[dict[str, Any]] = Field(default_factory=list)
    env_from: list[dict[str, Any]] = Field(default_factory=list)
    volumes: list[dict[str, Any]] = Field(default_factory=list)
    volume_mounts: list[dict[str, Any]] = Field(default_factory=list)
    cache_volume: dict[str, Any] = Field(
        default_factory=lambda: {"emptyDir": {}}, description="Volume source of the cache."
    )


class ClusterConfig(_Model):
    kueue: bool = Field(False, description="Read Kueue's Workloads, to say why a job waits.")


class OperatorConfig(_Model):
    """Everything the operator is told."""

    worker_image: str = Field(min_length=1)
    controller_image: str = Field(min_length=1)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: list[NamedSecret] = Field(default_factory=list)
    worker_service_account: str | None = None
    finish_service_account: str | None = None
    redis: RedisConfig
    storage: StorageConfig = Field(default_factory=StorageConfig)
    namespaces: list[str] = Field(default_factory=list, description="Empty: the whole cluster.")
    leader_election: LeaderElection = Field(default_factory=LeaderElection)
    status_interval_seconds: float = Field(10.0, gt=0)
    step_interval_seconds: float = Field(
        2.0, gt=0, description="Between two looks at a run whose workers run."
    )
    worker_defaults: PodDefaults = Field(default_factory=PodDefaults)
    finish_defaults: PodDefaults = Field(default_factory=PodDefaults)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    health_port: int = Field(8080, ge=0, le=65535)
    metrics_port: int = Field(9090, ge=0, le=65535)
    pod_metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Where the jobs' pods serve theirs; none: nowhere."
    )


def load_config(path: Path) -> OperatorConfig:
    """Read the configuration.

    Raises:
        ConfigError: with every problem.
    """
    try:
        return OperatorConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no YAML: {error}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ConfigError("\n  ".join([f"{path}:", *problems])) from error
