"""What a job says to a cluster alone: the worker pods and the Secret of its object store.

A run on one machine needs none of it and says which of it was ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from neva.spec_base import MAX_INT32, CamelModel, ObjectName, Quantity

# One item of a pod's own API, passed on as it is; its inside is the API server's business.
Anything = dict[str, Any]
LabelValue = Annotated[str, Field(max_length=253)]
Resources = Annotated[dict[str, Quantity], Field(max_length=32)]


class Toleration(CamelModel):
    """A node's taint that the pods bear."""

    key: str | None = Field(None, max_length=316, description="The taint's key; none is every key.")
    operator: Literal["Exists", "Equal"] = Field(
        "Equal", description="Equal: the value must match, too. Exists: any value will do."
    )
    value: str | None = Field(None, max_length=63, description="The taint's value, for Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None,
        description="The taint's effect: NoSchedule keeps new pods away, PreferNoSchedule tries "
        "to, NoExecute evicts running ones, too; none is every effect.",
    )
    toleration_seconds: int | None = Field(
        None, le=MAX_INT32, description="How long a NoExecute taint is borne; none is for ever."
    )


class PodResources(CamelModel):
    """What a worker pod gets of its node, GPUs aside: those follow from gpusPerWorker."""

    requests: Resources = Field({}, description="What the scheduler sets aside, e.g. cpu: 8.")
    limits: Resources = Field({}, description="What the pod may not exceed, e.g. memory: 64Gi.")


class Workers(CamelModel):
    """The pods that answer."""

    replicas: int = Field(
        1,
        ge=1,
        le=10000,
        description="Worker pods; may be changed while the job runs. Fewer are started when "
        "fewer shards are open.",
    )
    gpus_per_worker: int | None = Field(
        None, ge=0, le=64, description="Tensor x pipeline parallel size by default; 0 runs on CPU."
    )
    queue_name: ObjectName | None = Field(
        None, description="Kueue LocalQueue that the worker Job waits in."
    )
    image: str | None = Field(
        None, min_length=1, max_length=512, description="Worker image instead of the release's."
    )
    gpu_resource_name: str = Field(
        "nvidia.com/gpu",
        max_length=316,
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="Extended resource that a GPU counts as, e.g. a MIG profile's.",
    )
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=64)] = Field(
        {}, description="Labels that a node must have."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] = Field(
        (), description="Taints of nodes that the pods bear."
    )
    affinity: Anything | None = Field(
        None, description="The pods' affinity, as in a PodSpec; the cluster checks it."
    )
    topology_spread_constraints: Annotated[tuple[Anything, ...], Field(max_length=16)] = Field(
        (), description="How the pods spread over zones or nodes, as in a PodSpec."
    )
    runtime_class_name: ObjectName | None = Field(None, description="RuntimeClass, e.g. nvidia.")
    priority_class_name: ObjectName | None = Field(None, description="PriorityClass of the pods.")
    service_account_name: ObjectName | None = Field(
        None, description="ServiceAccount of the pods instead of the release's."
    )
    resources: PodResources = Field(
        default_factory=PodResources,
        description="Processor, memory and disk of a worker pod instead of the release's.",
    )
    shm_size: Quantity = Field(
        "8Gi", description="Most of /dev/shm, which carries frames and NCCL's buffers."
    )
    backoff_limit: int = Field(
        6,
        ge=0,
        le=10000,
        description="Worker pods of a round that may fail before it ends; disruptions don't count.",
    )
    pod_template: Anything | None = Field(
        None, description="Pod template {metadata, spec} merged over the worker pod's own, last."
    )


class Storage(CamelModel):
    """Credentials of the object store."""

    secret_name: ObjectName = Field(
        description="Secret in the job's namespace with AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY (and other AWS_ variables), instead of the release's."
    )


def set_fields(block: CamelModel, default: CamelModel) -> list[str]:
    """YAML names of the fields in which `block` differs from `default`, in order."""
    fields = type(block).model_fields
    return [
        str(field.alias)
        for name, field in fields.items()
        if getattr(block, name) != getattr(default, name)
    ]
