"""Who may do what: the whole list, so that a new right is a decision."""

from __future__ import annotations

from typing import Any

from controller.doctor.rights import OF_THE_OPERATOR, WITH_KUEUE
from tests.chart.rendering import Manifest, of_kind, only, render
from tests.chart.value_sets import JOB, VALUE_SETS

_CONTROLLER = {
    "neva-batch.dev/videonevajobs": "create delete get list patch watch",
    "neva-batch.dev/dropfolders": "list watch",
    "neva-batch.dev/videonevajobs/status": "patch",
    "neva-batch.dev/dropfolders/status": "patch",
    "neva-batch.dev/videonevajobs/finalizers": "update",
    "batch/jobs": "create delete list patch watch",
    "/pods": "list watch",
    "/events": "create list",
}


def _granted(role: Manifest) -> dict[str, str]:
    granted: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                names = rule.get("resourceNames", [])
                key = f"{group}/{resource}" + (f"={','.join(names)}" if names else "")
                granted.setdefault(key, set()).update(rule["verbs"])
    return {key: " ".join(sorted(verbs)) for key, verbs in granted.items()}


def _subjects(binding: Manifest) -> list[tuple[str, str]]:
    return [(subject["namespace"], subject["name"]) for subject in binding["subjects"]]


def test_the_controller_of_a_whole_cluster_may_do_this() -> None:
    manifests = render()
    assert _granted(only(manifests, "ClusterRole", "-controller")) == _CONTROLLER
    binding = only(manifests, "ClusterRoleBinding")
    assert _subjects(binding) == [("neva", "neva-neva-batch-controller")]
    assert (
        binding["roleRef"]["name"]
        == only(manifests, "ClusterRole", "-controller")["metadata"]["name"]
    )


def test_the_doctor_looks_for_what_the_controller_is_granted() -> None:
    wanted: dict[str, set[str]] = {}
    for right in (*OF_THE_OPERATOR, *WITH_KUEUE):
        wanted.setdefault(f"{right.group}/{right.resource}", set()).add(right.verb)
    role = only(render({"kueue": {"enabled": True}}), "ClusterRole", "-controller")
    assert {key: " ".join(sorted(verbs)) for key, verbs in wanted.items()} == _granted(role)


def test_the_controller_of_given_namespaces_has_the_same_rights_there_and_nowhere_else() -> None:
    manifests = render({"controller": {"namespaces": ["team-a", "team-b"]}})
    assert not of_kind(manifests, "ClusterRoleBinding")
    roles = [r for r in of_kind(manifests, "Role") if "leader" not in r["metadata"]["name"]]
    assert {role["metadata"]["namespace"] for role in roles} == {"team-a", "team-b"}
    assert [_granted(role) for role in roles] == [_CONTROLLER, _CONTROLLER]
    for binding in of_kind(manifests, "RoleBinding"):
        assert _subjects(binding) == [("neva", "neva-neva-batch-controller")]


def test_kueues_workloads_are_read_only_when_asked_for() -> None:
    role = only(render({"kueue": {"enabled": True}}), "ClusterRole", "-controller")
    assert _granted(role) == {**_CONTROLLER, "kueue.x-k8s.io/workloads": "list watch"}


def test_the_lease_is_the_controllers_own_in_its_own_namespace() -> None:
    role = only(render({"controller": {"namespaces": ["team-a"]}}), "Role", "leader-election")
    assert role["metadata"]["namespace"] == "neva"
    assert _granted(role) == {
        "coordination.k8s.io/leases": "create",
        "coordination.k8s.io/leases=neva-neva-batch-controller": "get update",
    }
    without = render({"controller": {"leaderElection": False}})
    assert not [r for r in of_kind(without, "Role") if "leader" in r["metadata"]["name"]]


def test_a_nightly_pod_may_create_jobs_and_say_how_they_compare() -> None:
    values = {"nightly": [{"name": "one", "namespace": "eval", "job": JOB}]}
    manifests = render(values)
    role = only(manifests, "Role", "-nightly")
    assert role["metadata"]["namespace"] == "eval"
    assert _granted(role) == {
        "neva-batch.dev/videonevajobs": "create get list watch",
        "neva-batch.dev/videonevajobs/status": "patch",
    }
    account = only(manifests, "ServiceAccount", "-nightly")["metadata"]
    assert _subjects(only(manifests, "RoleBinding", "-nightly")) == [("eval", account["name"])]
    assert account["namespace"] == "eval"
    assert not [r for r in of_kind(render(), "Role") if "nightly" in r["metadata"]["name"]]


def test_nobody_may_read_secrets_or_grant_rights() -> None:
    for values in VALUE_SETS.values():
        for manifest in render(values):
            for rule in manifest.get("rules", []):
                assert not {"secrets", "*", "serviceaccounts/token", "pods/exec"} & set(
                    rule["resources"]
                )
                assert not {"*", "escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_the_pods_of_jobs_have_no_token_and_no_rights() -> None:
    manifests = render()
    accounts = {m["metadata"]["name"]: m for m in of_kind(manifests, "ServiceAccount")}
    bound = {
        name
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for binding in of_kind(manifests, kind)
        for _, name in _subjects(binding)
    }
    for role in ("worker", "finish"):
        account = accounts[f"neva-neva-batch-{role}"]
        assert account["automountServiceAccountToken"] is False
        assert account["metadata"]["name"] not in bound


def test_people_get_viewing_editing_and_administering() -> None:
    manifests = render()
    for name, aggregated, verbs in (
        ("viewer", "view", "get list watch"),
        ("editor", "edit", "create delete get list patch update watch"),
        ("admin", "admin", "create delete deletecollection get list patch update watch"),
    ):
        role = only(manifests, "ClusterRole", f"-{name}")
        assert _granted(role)["neva-batch.dev/videonevajobs"] == verbs
        assert _granted(role)["neva-batch.dev/videonevajobs/status"] == "get"
        label = f"rbac.authorization.k8s.io/aggregate-to-{aggregated}"
        assert role["metadata"]["labels"][label] == "true"
    apart: dict[str, Any] = {"rbac": {"aggregateToDefaultRoles": False}}
    for role in of_kind(render(apart), "ClusterRole"):
        assert not [key for key in role["metadata"]["labels"] if "aggregate" in key]


def test_no_roles_when_somebody_else_makes_them() -> None:
    manifests = render({"rbac": {"create": False}})
    kinds = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    assert not [m for m in manifests if m["kind"] in kinds]
