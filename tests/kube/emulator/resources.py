"""Which kinds of objects the emulator knows: a table of built-in ones, and what CRDs add."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Obj = dict[str, Any]


@dataclass(frozen=True)
class ResourceType:
    """One resource of one group and version.

    Attributes:
        crd_version: the entry of a CRD's `spec.versions`; None for built-in ones.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    crd_version: Obj | None = field(default=None, compare=False, hash=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def storage_name(self) -> str:
        """All versions and views of a resource share their objects."""
        return "events" if self.plural == "events" else f"{self.plural}.{self.group}"

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources


_STATUS = ("status",)

_BUILT_IN = [
    ResourceType("", "v1", "Namespace", "namespaces", False, ("ns",), (), _STATUS),
    ResourceType("", "v1", "Node", "nodes", False, ("no",), (), _STATUS),
    ResourceType(
        "", "v1", "Pod", "pods", True, ("po",), ("all",), ("status", "log", "binding", "eviction")
    ),
    ResourceType("", "v1", "Event", "events", True, ("ev",)),
    ResourceType("", "v1", "Secret", "secrets"),
    ResourceType("", "v1", "ConfigMap", "configmaps", True, ("cm",)),
    ResourceType("", "v1", "Service", "services", True, ("svc",), ("all",), _STATUS),
    ResourceType("", "v1", "ServiceAccount", "serviceaccounts", True, ("sa",)),
    ResourceType("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", True, ("pvc",)),
    ResourceType("", "v1", "ResourceQuota", "resourcequotas", True, ("quota",), (), _STATUS),
    ResourceType("", "v1", "LimitRange", "limitranges", True, ("limits",)),
    ResourceType("", "v1", "ReplicationController", "replicationcontrollers", True, ("rc",)),
    ResourceType("apps", "v1", "Deployment", "deployments", True, ("deploy",), ("all",), _STATUS),
    ResourceType("apps", "v1", "StatefulSet", "statefulsets", True, ("sts",), ("all",), _STATUS),
    ResourceType("apps", "v1", "ReplicaSet", "replicasets", True, ("rs",), ("all",), _STATUS),
    ResourceType("apps", "v1", "DaemonSet", "daemonsets", True, ("ds",), ("all",), _STATUS),
    ResourceType("batch", "v1", "Job", "jobs", True, (), ("all",), _STATUS),
    ResourceType("batch", "v1", "CronJob", "cronjobs", True, ("cj",), ("all",), _STATUS),
    ResourceType("coordination.k8s.io", "v1", "Lease", "leases"),
    ResourceType("events.k8s.io", "v1", "Event", "events", True, ("ev",)),
    ResourceType("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", True, ("netpol",)),
    ResourceType("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", True, ("pdb",)),
    ResourceType("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    ResourceType("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    ResourceType("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", False),
    ResourceType(
        "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", False
    ),
    ResourceType("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", False, ("pc",)),
    ResourceType("storage.k8s.io", "v1", "StorageClass", "storageclasses", False, ("sc",)),
    ResourceType(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        False,
        ("crd", "crds"),
        ("api-extensions",),
        _STATUS,
    ),
    ResourceType(
        "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False
    ),
    # Kueue's Workload, as the operator reads it; its controller is played by the tests.
    ResourceType("kueue.x-k8s.io", "v1beta2", "Workload", "workloads", True, ("wl",), (), _STATUS),
]


class Registry:
    """The resources that are served at the moment."""

    def __init__(self) -> None:
        self._types = {(t.group, t.version, t.plural): t for t in _BUILT_IN}

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        return self._types.get((group, version, plural))

    def add_crd(self, crd: Obj) -> None:
        """Serve what a CustomResourceDefinition defines."""
        spec = crd["spec"]
        names = spec["names"]
        for version in spec["versions"]:
            if not version.get("served"):
                continue
            kind = ResourceType(
                group=spec["group"],
                version=version["name"],
                kind=names["kind"],
                plural=names["plural"],
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames", ())),
                categories=tuple(names.get("categories", ())),
                subresources=tuple(version.get("subresources", {})),
                crd_version=version,
            )
            self._types[kind.group, kind.version, kind.plural] = kind

    def remove_crd(self, crd: Obj) -> None:
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        self._types = {
            key: kind for key, kind in self._types.items() if (key[0], key[2]) != (group, plural)
        }

    def group_versions(self) -> Iterator[tuple[str, str]]:
        """(group, version) of everything but the core group, in order, once each."""
        yield from dict.fromkeys((g, v) for g, v, _ in self._types if g)

    def of(self, group: str, version: str) -> list[ResourceType]:
        return [t for (g, v, _), t in self._types.items() if (g, v) == (group, version)]

    def namespaced(self) -> list[ResourceType]:
        return [t for t in self._types.values() if t.namespaced]

    def by_kind(self, api_version: str, kind: str) -> ResourceType | None:
        for candidate in self._types.values():
            if candidate.api_version == api_version and candidate.kind == kind:
                return candidate
        return None
