from __future__ import annotations

import functools
import json
import re
from typing import Any

import helm_python
import kubernetes_validate.utils
import pytest
import yaml

from tests.chart.rendering import (
    CHART_FOLDER,
    REPOSITORY,
    Manifest,
    identity,
    notes,
    of_kind,
    only,
    pod_templates,
    render,
)
from tests.chart.value_sets import DROP, JOB, VALUE_SETS

each_value_set = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
# No schema exists of these, other than ours for our own.
_FOREIGN_KINDS = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "VideoNevaJob", "DropFolder"}
_LONG = "a-release-with-a-name-as-long-as-helm-lets-it-be-abcd"


def test_there_are_enough_value_sets() -> None:
    assert len(VALUE_SETS) >= 12


@each_value_set
def test_lint_is_content(values: dict[str, Any]) -> None:
    result = helm_python.lint(CHART_FOLDER, values, strict=True, namespace="neva")
    assert result["errors"] == []


@functools.cache
def _schema_problem(manifest: str, version: str) -> str | None:
    try:
        kubernetes_validate.utils.validate(json.loads(manifest), version, strict=True)
    except kubernetes_validate.utils.ValidationError as error:
        return f"{list(error.path)}: {error.message}"
    return None


@pytest.fixture(autouse=True, scope="module")
def _schemas_read_once() -> Any:
    """The library reads megabytes of definitions for each object."""
    patch = pytest.MonkeyPatch()
    read_once = functools.cache(kubernetes_validate.utils.schema_contents)
    patch.setattr(kubernetes_validate.utils, "schema_contents", read_once)
    yield
    patch.undo()


@pytest.mark.parametrize("version", ["1.31", "1.36"])
@each_value_set
def test_every_object_is_what_kubernetes_expects(values: dict[str, Any], version: str) -> None:
    manifests = [m for m in render(values) if m["kind"] not in _FOREIGN_KINDS]
    assert manifests
    problems = {
        identity(manifest): problem
        for manifest in manifests
        if (problem := _schema_problem(json.dumps(_stable(manifest), sort_keys=True), version))
    }
    assert problems == {}


def _stable(manifest: Manifest) -> Manifest:
    """Without the generated password, so that equal objects are validated once."""
    if manifest["kind"] == "Secret" and "stringData" in manifest:
        return {**manifest, "stringData": dict.fromkeys(manifest["stringData"], "x")}
    return manifest


def test_the_schema_check_is_able_to_fail() -> None:
    broken = only(render(), "Deployment")
    broken["spec"]["replicas"] = "two"
    assert _schema_problem(json.dumps(broken), "1.36") is not None
    mistyped = only(render(), "Deployment")
    mistyped["spec"]["replica"] = 2
    assert _schema_problem(json.dumps(mistyped), "1.36") is not None


@each_value_set
def test_objects_are_unique_named_as_kubernetes_likes_and_in_a_namespace(
    values: dict[str, Any],
) -> None:
    manifests = render(values, name=_LONG, namespace="a-namespace-with-a-name-that-is-long-too")
    identities = [identity(manifest) for manifest in manifests]
    assert len(identities) == len(set(identities))
    cluster_kinds = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    for kind, namespace, name in identities:
        assert (namespace is None) == (kind in cluster_kinds), (kind, name)
        if kind != "CustomResourceDefinition":
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name), name
        assert len(name) <= (52 if kind == "CronJob" else 63), name
    for manifest in manifests:
        for key, value in manifest["metadata"].get("labels", {}).items():
            assert len(value) <= 63, key


@each_value_set
def test_what_is_referred_to_exists_or_is_a_users_own(values: dict[str, Any]) -> None:
    manifests = render(values)
    existing = {identity(manifest) for manifest in manifests}
    names = {name for _, _, name in existing}
    for manifest in manifests:
        namespace = manifest["metadata"].get("namespace")
        for _, pod in pod_templates([manifest]):
            for kind, name in _references(pod["spec"]):
                # What the chart names after itself, it must have made.
                if name.startswith("neva-neva-batch") or name in names:
                    assert (kind, namespace, name) in existing, (kind, name)


def _references(pod: Manifest) -> list[tuple[str, str]]:
    found = [("ServiceAccount", pod["serviceAccountName"])] if "serviceAccountName" in pod else []
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            found.append(("ConfigMap", volume["configMap"]["name"]))
    for container in pod["containers"]:
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                found.append(("Secret", variable["valueFrom"]["secretKeyRef"]["name"]))
    return found


@each_value_set
def test_selectors_find_the_pods_they_mean(values: dict[str, Any]) -> None:
    manifests = render(values)
    labels = [pod["metadata"]["labels"] for _, pod in pod_templates(manifests)]
    for service in of_kind(manifests, "Service"):
        wanted = service["spec"]["selector"].items()
        (found,) = [one for one in labels if wanted <= one.items()]
        ports = {
            port["name"]
            for _, pod in pod_templates(manifests)
            if pod["metadata"]["labels"] == found
            for container in pod["spec"]["containers"]
            for port in container.get("ports", [])
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@each_value_set
def test_no_secret_stands_in_a_config_map(values: dict[str, Any]) -> None:
    manifests = render(values)
    secrets = [
        value for secret in of_kind(manifests, "Secret") for value in secret["stringData"].values()
    ]
    elsewhere = json.dumps([m for m in manifests if m["kind"] != "Secret"])
    assert not [value for value in secrets if value in elsewhere]
    for config in of_kind(manifests, "ConfigMap"):
        assert not re.search(
            r"(?i)\b(requirepass|secret_access_key|api_token)\b", str(config["data"])
        )


def test_the_resource_definitions_are_the_generated_files_and_nothing_else() -> None:
    rendered = {m["metadata"]["name"]: m for m in of_kind(render(), "CustomResourceDefinition")}
    files = {path.stem: path for path in (CHART_FOLDER / "files" / "crds").glob("*.yaml")}
    assert rendered.keys() == files.keys()
    for name, path in files.items():
        generated = yaml.safe_load(path.read_text(encoding="utf-8"))
        annotations = rendered[name]["metadata"].pop("annotations")
        assert annotations == {"helm.sh/resource-policy": "keep"}
        assert rendered[name] == generated


def test_resource_definitions_can_be_left_to_another_release_or_be_removed_with_this_one() -> None:
    assert not of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition")
    for definition in of_kind(render({"crds": {"keep": False}}), "CustomResourceDefinition"):
        assert "annotations" not in definition["metadata"]


def test_a_first_install_leaves_drop_folders_to_the_next_upgrade_and_says_so() -> None:
    values = {"dropFolders": [{"name": "inbox", "spec": DROP}]}
    assert not of_kind(render(values, is_upgrade=False), "DropFolder")
    assert "NOT there yet" in notes(values, is_upgrade=False)
    assert only(render(values), "DropFolder")["spec"] == DROP
    assert "NOT there yet" not in notes(values)
    elsewhere = {**values, "crds": {"install": False}}
    assert only(render(elsewhere, is_upgrade=False), "DropFolder")["spec"] == DROP


def test_the_notes_tell_the_next_three_commands() -> None:
    commands = [line.strip() for line in notes().splitlines() if line.startswith("  kubectl")]
    assert [re.sub(r" -n \w+", "", command) for command in commands] == [
        "kubectl rollout status deployment/neva-neva-batch-controller",
        "kubectl apply -f job.yaml",
        "kubectl get vnj --watch",
    ]
    with_nightly = notes({"nightly": [{"name": "kitchen", "job": JOB}]})
    assert "--from=cronjob/neva-neva-batch-kitchen" in with_nightly


def test_two_releases_share_nothing() -> None:
    values = VALUE_SETS["extras everywhere"]
    first = {identity(m) for m in render(values, "neva", "one")}
    second_values = {**values, "crds": {"install": False}}
    same_name = {identity(m) for m in render(second_values, "neva", "two")}
    other_name = {identity(m) for m in render(second_values, "other", "one")}
    assert not first & same_name
    # Drop folders bear the names that the user gave them.
    assert {kind for kind, _, _ in first & other_name} == {"DropFolder"}


def test_two_releases_pods_are_told_apart() -> None:
    one = only(render(name="one"), "Deployment")["spec"]["selector"]["matchLabels"]
    two = only(render(name="two"), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert not one.items() <= two.items()


def test_a_changed_configuration_restarts_the_controller() -> None:
    def checksum(values: dict[str, Any]) -> str:
        pod = only(render(values), "Deployment")["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({"nightly": [{"name": "one", "job": JOB}]})
    assert checksum({}) != checksum({"storage": {"region": "eu-central-1"}})


def test_a_digest_wins_over_a_tag() -> None:
    digest = "sha256:" + "0" * 64
    image = {"registry": "r.example.com", "controller": {"digest": digest, "tag": "1.0"}}
    pod = only(render({"image": image}), "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"r.example.com/neva-batch-controller@{digest}"


def test_large_numbers_stay_whole() -> None:
    night = {"name": "one", "job": {**JOB, "ttlSecondsAfterFinished": 1209600}}
    manifests = render({"nightly": [{**night, "activeDeadlineSeconds": 2592000}]})
    job = only(manifests, "CronJob")["spec"]["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] == 2592000
    written = yaml.safe_load(only(manifests, "ConfigMap", "-one")["data"]["job.yaml"])
    assert written["spec"]["ttlSecondsAfterFinished"] == 1209600


def test_servers_and_sentinels_of_an_external_redis_are_within_reach() -> None:
    manifests = render(VALUE_SETS["external Redis with TLS"])
    for name in ("neva-neva-batch-controller", "neva-neva-batch-worker"):
        policy = only(manifests, "NetworkPolicy", name)
        ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert {6379, 6380, 26379} <= ports


@pytest.mark.parametrize(
    ("role", "name", "url", "port"),
    [
        ("worker", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.observe:4318", 4318),
        ("finish", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[fd00::1]:4319/v1/traces", 4319),
        ("worker", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://$(NODE_IP):4320/", 4320),
        ("finish", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.observe/otlp", 80),
        ("finish", "OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example.com", 443),
        ("worker", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317?x=1", 4317),
        ("worker", "OTEL_EXPORTER_OTLP_ENDPOINT", "HTTP://collector", 80),
        ("worker", "OTEL_EXPORTER_OTLP_ENDPOINT", "HttpS://collector:04318#x", 4318),
        ("worker", "OTEL_EXPORTER_OTLP_ENDPOINT", "$(SOMEWHERE)", None),
        ("worker", "OTEL_SERVICE_NAME", "http://collector.observe:4318", None),
    ],
)
def test_a_collector_of_traces_is_within_reach(
    role: str, name: str, url: str, port: int | None
) -> None:
    values: dict[str, Any] = {"networkPolicy": {"enabled": True}}
    before = _egress_ports(values)
    more = _egress_ports({**values, role: {"extraEnv": [{"name": name, "value": url}]}})
    assert more[: len(before)] == before
    assert more[len(before) :] == ([] if port is None else [[port]])


def test_the_guides_values_for_traces_reach_the_pods_and_open_the_way() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "observing.md").read_text(encoding="utf-8")
    values = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    values["networkPolicy"] = {"enabled": True}
    assert [4318] in _egress_ports(values)
    config = yaml.safe_load(
        only(render(values), "ConfigMap", "-controller")["data"]["operator.yaml"]
    )
    for role in ("worker", "finish"):
        assert {"name": "NEVA_TRACING", "value": "true"} in config[f"{role}Defaults"]["env"]


def _egress_ports(values: dict[str, Any]) -> list[list[int]]:
    """By rule, what all pods of jobs may reach."""
    policy = only(render(values), "NetworkPolicy", "-jobs")
    return [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]]
