from __future__ import annotations

from typing import Any

import pytest
import yaml
from helm_python import HelmError

from tests.chart.rendering import CHART_FOLDER, chart, render
from tests.chart.value_sets import DROP, JOB

# Wrong values, and what the refusal must say so that a user finds the place.
_WRONG: list[tuple[str, list[str]]] = [
    ("controler: {}", ["controler", "not allowed"]),
    ("controller: {replicas: two}", ["/controller/replicas", "want integer"]),
    ("controller: {replicas: -1}", ["/controller/replicas", "minimum"]),
    ("controller: {logLevel: LOUD}", ["/controller/logLevel", "DEBUG"]),
    ("controller: {namespaces: team-a}", ["/controller/namespaces", "want array"]),
    ("controller: {namespaces: [a, a]}", ["/controller/namespaces", "equal"]),
    ("controller: {resources: {limit: {}}}", ["/controller/resources", "limit"]),
    ("controller: {podDisruptionBudget: {maxUnavailable: half}}", ["maxUnavailable", "half"]),
    ("image: {tag: '1.0'}", ["/image", "tag", "not allowed"]),
    ("image: {pullPolicy: Sometimes}", ["/image/pullPolicy", "IfNotPresent"]),
    ("image: {worker: {digest: 'sha256:12'}}", ["/image/worker/digest", "sha256"]),
    ("image: {worker: {tag: latest}}", ["image.worker.tag", "no version"]),
    ("worker: {resources: {limits: {memory: 64GB}}}", ["/worker/resources/limits/memory"]),
    ("worker: {extraEnv: {A: b}}", ["/worker/extraEnv", "want array"]),
    ("worker: {extraVolumes: [{name: x, hostPath: {path: /}}]}", ["/extraVolumes/0", "hostPath"]),
    ("worker: {cacheVolume: {hostPath: {path: /}}}", ["/worker/cacheVolume", "hostPath"]),
    ("storage: {endpointUrl: 'minio:9000'}", ["/storage/endpointUrl", "https?"]),
    ("storage: {endpointUrl: 'http://key:secret@minio:9000'}", ["/storage/endpointUrl"]),
    ("storage: {secretKey: hunter2}", ["/storage", "secretKey", "not allowed"]),
    ("redis: {url: 'redis://:hunter2@x'}", ["/redis", "url", "not allowed"]),
    ("redis: {existingSecret: redis}", ["valkey.enabled must be false"]),
    ("valkey: {enabled: false}", ["no broker", "redis.existingSecret"]),
    ("valkey: {auth: {password: hunter2}}", ["/valkey/auth", "password", "not allowed"]),
    ("valkey: {maxMemory: lots}", ["/valkey/maxMemory", "lots"]),
    ("valkey: {persistence: {size: big}}", ["/valkey/persistence/size", "big"]),
    ("networkPolicy: {storagePorts: [0]}", ["/networkPolicy/storagePorts/0", "minimum"]),
    ("commonLabels: {team: 'two words'}", ["/commonLabels/team", "two words"]),
    ("commonLabels: {app.kubernetes.io/name: x}", ["commonLabels", "the chart's own"]),
    ("controller: {replicas: 2, leaderElection: false}", ["replicas", "leaderElection"]),
    ("{controller: {namespaces: [a]}, jobNamespaces: [b]}", ["jobNamespaces", '"b"']),
    ("nightly: [{name: one}]", ["/nightly/0", "job"]),
    ("nightly: [{name: One, job: J}]", ["/nightly/0/name", "One"]),
    ("nightly: [{name: one, job: {model: {}}}]", ["/nightly/0/job", "input"]),
    ("nightly: [{name: one, job: J, schedule: tonight}]", ["/nightly/0/schedule", "tonight"]),
    ("nightly: [{name: one, job: J, timeZone: '+01:00'}]", ["/nightly/0/timeZone"]),
    ("nightly: [{name: one, job: J, concurrencyPolicy: No}]", ["concurrencyPolicy", "Forbid"]),
    ("nightly: [{name: one, job: J, gate: {maxDrop: 1}}]", ["/nightly/0/gate", "maxDrop"]),
    ("nightly: [{name: one, job: J}, {name: one, job: J}]", ["one", "twice"]),
    (
        "{controller: {namespaces: [a]}, nightly: [{name: one, job: J}]}",
        ["nightly", "neva", "controller.namespaces"],
    ),
    ("ui: {enabled: true, ingress: {enabled: true}}", ["ui.ingress.host"]),
    (
        "ui: {enabled: true, ingress: {enabled: true, host: a.example.com}}",
        ["nobody for a password"],
    ),
    ("metrics: {prometheusRule: {runbookUrl: 'https://d/a: b'}}", ["/runbookUrl"]),
    ("metrics: {prometheusRule: {runbookUrl: 'https://d/a#b'}}", ["/runbookUrl"]),
    (
        "{networkPolicy: {enabled: true}, storage: {endpointUrl: 'http://c:99999'}}",
        ["storage.endpointUrl", "99999", "65535"],
    ),
    (
        "{networkPolicy: {enabled: true}, "
        "worker: {extraEnv: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: 'http://c:0/v1'}]}}",
        ["OTEL_EXPORTER_OTLP_ENDPOINT", "port 0", "65535"],
    ),
    ("ui: {ingress: {host: 'https://a.example.com'}}", ["/ui/ingress/host"]),
    ("ui: {allowedHosts: ['a b']}", ["/ui/allowedHosts/0"]),
    ("dropFolders: [{name: inbox, spec: {}}]", ["/dropFolders/0/spec", "uri"]),
    ("dropFolders: [{name: i, spec: D}, {name: i, spec: D}]", ["dropFolders", "twice"]),
]


def _values(text: str) -> dict[str, Any]:
    """YAML in which J is a good job and D a good drop folder."""

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(one) for key, one in value.items()}
        if isinstance(value, list):
            return [replaced(one) for one in value]
        return {"J": JOB, "D": DROP}.get(value, value) if isinstance(value, str) else value

    values: dict[str, Any] = replaced(yaml.safe_load(text))
    return values


def test_there_are_enough_wrong_values() -> None:
    assert len(_WRONG) >= 20


@pytest.mark.parametrize(("text", "words"), _WRONG, ids=[text for text, _ in _WRONG])
def test_a_wrong_value_is_refused_in_words_that_lead_to_it(text: str, words: list[str]) -> None:
    with pytest.raises(HelmError) as refusal:
        render(_values(text))
    message = str(refusal.value)
    assert [word for word in words if word not in message] == []
    assert len(message) < 600


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    schema = chart().schema
    assert schema is not None
    defaults = yaml.safe_load((CHART_FOLDER / "values.yaml").read_text(encoding="utf-8"))
    differences = list(_differences(defaults, schema, schema["$defs"], ""))
    assert differences == ["global"]  # Helm's own


def _differences(
    values: dict[str, Any], schema: dict[str, Any], definitions: dict[str, Any], path: str
) -> list[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    properties = schema.get("properties")
    # A volume's source is the user's to fill; it has no defaults.
    if properties is None or path.endswith(".cacheVolume."):
        return []
    found = [f"{path}{key}" for key in properties.keys() ^ values.keys()]
    for key in properties.keys() & values.keys():
        if isinstance(values[key], dict):
            found += _differences(values[key], properties[key], definitions, f"{path}{key}.")
    # Requests or limits may be left out.
    return [one for one in found if not one.endswith((".requests", ".limits"))]
