from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.chart.pod_security import violations
from tests.chart.rendering import pod_templates, render
from tests.chart.value_sets import VALUE_SETS

_GOOD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "containers": [
        {
            "name": "a",
            "resources": {"limits": {"memory": "1Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}


def test_a_restricted_pod_violates_nothing() -> None:
    assert violations(_GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("hostNetwork",), True, "hostNetwork"),
        (("securityContext", "runAsUser"), 0, "a: runAsUser"),
        (("securityContext", "runAsNonRoot"), False, "a: runAsNonRoot"),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "seccompProfile"),
        (("volumes", 0), {"name": "x", "hostPath": {"path": "/"}}, "volume hostPath"),
        (("containers", 0, "securityContext", "privileged"), True, "a: privileged"),
        (("containers", 0, "securityContext", "capabilities"), {"drop": []}, "a: capabilities"),
        (("containers", 0, "securityContext", "readOnlyRootFilesystem"), None, "a: readOnlyRoot"),
        (("containers", 0, "ports"), [{"hostPort": 1}], "a: hostPort"),
        (("containers", 0, "resources"), {}, "a: limits"),
    ],
)
def test_each_rule_is_able_to_fail(path: tuple[Any, ...], value: Any, words: str) -> None:
    pod = copy.deepcopy(_GOOD)
    at: Any = pod
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    (found,) = violations(pod)
    assert found.startswith(words)


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_pod_of_the_chart_is_restricted(values: dict[str, Any]) -> None:
    templates = dict(pod_templates(render(values)))
    assert templates
    assert {where: violations(pod["spec"]) for where, pod in templates.items()} == {
        where: [] for where in templates
    }
