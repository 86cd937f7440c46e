"""PodSecurity's level `restricted`, and what we ask on top, as one function."""

from __future__ import annotations

from typing import Any

# https://kubernetes.io/docs/concepts/security/pod-security-standards/
_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(pod: dict[str, Any]) -> list[str]:
    """What a pod's spec does that `restricted` forbids, or that our images don't need.

    On top of the level: a numeric user, a read-only root, no token unless asked for, limits.
    """
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    pod_context = pod.get("securityContext", {})
    found += [key for key in ("sysctls", "windowsOptions") if key in pod_context]
    if pod_context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("seccompProfile")
    if "automountServiceAccountToken" not in pod:
        found.append("automountServiceAccountToken")
    for volume in pod.get("volumes", []):
        found += [f"volume {kind}" for kind in set(volume) - _VOLUMES - {"name"}]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind, []):
            found += [f"{container['name']}: {words}" for words in _container(container, pod)]
    return found


def _container(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    capabilities = context.get("capabilities", {})
    rules = {
        "privileged": context.get("privileged", False) is False,
        "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is False,
        "readOnlyRootFilesystem": context.get("readOnlyRootFilesystem") is True,
        "runAsNonRoot": context.get("runAsNonRoot") is True,
        "runAsUser": context.get("runAsUser", 0) > 0,
        "capabilities": capabilities.get("drop") == ["ALL"] and not capabilities.get("add"),
        "procMount": context.get("procMount", "Default") == "Default",
        "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
        "limits": "memory" in container.get("resources", {}).get("limits", {}),
    }
    return [name for name, kept in rules.items() if not kept]
