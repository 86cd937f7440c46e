"""What the API server does to built-in kinds: defaults, immutable fields, and the like.

Only what clients here can notice; the shape of manifests is checked by other tests against the
published schemas.
"""

from __future__ import annotations

import base64
import copy
from typing import Any

from tests.kube.emulator.errors import invalid
from tests.kube.emulator.resources import Obj, ResourceType

_JOB_NAME = "batch.kubernetes.io/job-name"
_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_JOB_PLACEMENT = ("affinity", "nodeSelector", "tolerations", "schedulingGates")
_JOB_IMMUTABLE = ("template", "selector", "completions", "completionMode", "podFailurePolicy")


def admit(kind: ResourceType, obj: Obj, old: Obj | None) -> Obj:
    """`obj` as it is stored. Raises ApiError 422 where the API server refuses it.

    Args:
        old: what it replaces; None at creation.
    """
    obj = copy.deepcopy(obj)
    if kind.has_status:
        obj.setdefault("status", {})
    admission = _ADMISSION.get((kind.group, kind.plural))
    return admission(kind, obj, old) if admission else obj


def with_uid(kind: ResourceType, obj: Obj) -> Obj:
    """`obj` with what depends on its own uid: a Job selects its pods by it."""
    if (kind.group, kind.plural) != ("batch", "jobs") or obj["spec"].get("manualSelector"):
        return obj
    obj = copy.deepcopy(obj)
    uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
    obj["spec"]["selector"] = {"matchLabels": {_CONTROLLER_UID: uid}}
    metadata = obj["spec"]["template"].setdefault("metadata", {})
    labels = {_CONTROLLER_UID: uid, "controller-uid": uid, _JOB_NAME: name, "job-name": name}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    return obj


def _job(kind: ResourceType, job: Obj, old: Obj | None) -> Obj:
    name = job["metadata"]["name"]
    spec = job.setdefault("spec", {})
    problems = list(_job_problems(spec))
    if problems:
        raise invalid(kind, name, problems)
    if spec.get("parallelism") is None:
        if spec.get("completions") is None:
            spec["completions"] = 1
        spec["parallelism"] = 1
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    policy = spec.get("podFailurePolicy")
    for rule in (policy or {}).get("rules", ()):
        for pattern in rule.get("onPodConditions") or ():
            pattern.setdefault("status", "True")
    spec.setdefault("podReplacementPolicy", "Failed" if policy else "TerminatingOrFailed")
    _pod_spec(spec["template"]["spec"])
    if old is not None:
        causes = [
            _cause(f"spec.{field}", "field is immutable")
            for field in _JOB_IMMUTABLE
            if _fixed(spec, field, old) != _fixed(old["spec"], field, old)
        ]
        if causes:
            raise invalid(kind, name, causes)
    return job


def _fixed(spec: Obj, field: str, old: Obj) -> Any:
    """What must not change of a field: where a Job's pods go may, while it is suspended."""
    waits = old["spec"].get("suspend") and not old["status"].get("startTime")
    if field != "template" or not waits:
        return spec.get(field)
    pod = {k: v for k, v in spec["template"]["spec"].items() if k not in _JOB_PLACEMENT}
    return {**spec["template"], "metadata": None, "spec": pod}


def _job_problems(spec: Obj) -> list[dict[str, str]]:
    template = (spec.get("template") or {}).get("spec") or {}
    problems = _pod_problems(template, "spec.template.spec")
    restart = template.get("restartPolicy")
    if restart not in ("Never", "OnFailure"):
        message = f'Unsupported value: "{restart or ""}": supported values: "OnFailure", "Never"'
        problems.append(_cause("spec.template.spec.restartPolicy", message))
    if spec.get("podFailurePolicy") and restart != "Never":
        message = "only Never is supported when podFailurePolicy is specified"
        problems.append(_cause("spec.template.spec.restartPolicy", message))
    if int(spec.get("parallelism") or 0) < 0:
        problems.append(_cause("spec.parallelism", "must be greater than or equal to 0"))
    for index, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules", ())):
        given = [key for key in ("onExitCodes", "onPodConditions") if rule.get(key)]
        if len(given) != 1:
            message = "specifying one of OnExitCodes and OnPodConditions is required"
            problems.append(_cause(f"spec.podFailurePolicy.rules[{index}]", message))
    return problems


def _pod_problems(spec: Obj, path: str) -> list[dict[str, str]]:
    if not spec.get("containers"):
        return [_cause(f"{path}.containers", "Required value")]
    problems = []
    mounts = {volume.get("name") for volume in spec.get("volumes") or ()}
    for index, container in enumerate(spec["containers"]):
        where = f"{path}.containers[{index}]"
        problems += [
            _cause(f"{where}.{field}", "Required value")
            for field in ("name", "image")
            if not container.get(field)
        ]
        problems += [
            _cause(f"{where}.volumeMounts", f'Not found: "{mount.get("name")}"')
            for mount in container.get("volumeMounts") or ()
            if mount.get("name") not in mounts
        ]
    return problems


def _pod(kind: ResourceType, pod: Obj, old: Obj | None) -> Obj:
    spec = pod.setdefault("spec", {})
    if problems := _pod_problems(spec, "spec"):
        raise invalid(kind, pod["metadata"]["name"], problems)
    _pod_spec(spec)
    spec.setdefault("restartPolicy", "Always")
    if old is None:
        pod["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    return pod


def _pod_spec(spec: Obj) -> None:
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    for container in spec["containers"]:
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("resources", {})


def _cron_job(kind: ResourceType, cron_job: Obj, old: Obj | None) -> Obj:
    del old
    spec = cron_job.setdefault("spec", {})
    if not spec.get("schedule"):
        cause = _cause("spec.schedule", "Required value")
        raise invalid(kind, cron_job["metadata"]["name"], [cause])
    defaults: dict[str, Any] = {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    }
    cron_job["spec"] = {**defaults, **spec}
    return cron_job


def _secret(kind: ResourceType, secret: Obj, old: Obj | None) -> Obj:
    if old is not None and old.get("immutable") and secret.get("data") != old.get("data"):
        cause = _cause("data", "field is immutable when `immutable` is set")
        raise invalid(kind, secret["metadata"]["name"], [cause])
    plain = secret.pop("stringData", None) or {}
    if plain:
        encoded = {k: base64.b64encode(v.encode()).decode() for k, v in plain.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}
    secret.setdefault("type", "Opaque")
    return secret


def _namespace(kind: ResourceType, namespace: Obj, old: Obj | None) -> Obj:
    del kind
    labels = {"kubernetes.io/metadata.name": namespace["metadata"]["name"]}
    namespace["metadata"]["labels"] = {**(namespace["metadata"].get("labels") or {}), **labels}
    if old is None:
        namespace["status"] = {"phase": "Active"}
    namespace.setdefault("spec", {"finalizers": ["kubernetes"]})
    return namespace


def _crd(kind: ResourceType, crd: Obj, old: Obj | None) -> Obj:
    spec = crd["spec"]
    expected = f"{spec['names']['plural']}.{spec['group']}"
    if crd["metadata"]["name"] != expected:
        cause = _cause("metadata.name", f'must be spec.names.plural+"."+spec.group: "{expected}"')
        raise invalid(kind, crd["metadata"]["name"], [cause])
    if old is None:
        met = {"status": "True", "reason": "InitialNamesAccepted", "message": ""}
        crd["status"] = {
            "acceptedNames": spec["names"],
            "storedVersions": [v["name"] for v in spec["versions"] if v.get("storage")],
            "conditions": [{"type": t, **met} for t in ("NamesAccepted", "Established")],
        }
    return crd


def _cause(field: str, message: str) -> dict[str, str]:
    reason = "FieldValueRequired" if message == "Required value" else "FieldValueInvalid"
    words = message if message.startswith(("Required", "Unsupported", "Not found")) else ""
    return {
        "reason": reason,
        "message": words or f"Invalid value: {message}",
        "field": field,
    }


_ADMISSION = {
    ("batch", "jobs"): _job,
    ("batch", "cronjobs"): _cron_job,
    ("", "pods"): _pod,
    ("", "secrets"): _secret,
    ("", "namespaces"): _namespace,
    ("apiextensions.k8s.io", "customresourcedefinitions"): _crd,
}
