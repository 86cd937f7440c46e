"""The generated resource definitions themselves."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from controller.crd import all_crds, crd_file, crd_yaml
from controller.crd_schema import structural_schema
from neva.spec import API_VERSION, JobSpec
from tests.controller.crd import structural
from tests.kube.emulator.custom import CustomSchema

CRDS = {crd["spec"]["names"]["kind"]: crd for crd in all_crds()}
# Blocks of the pod's own API, handed on as they are.
FREE_FORM = ("podTemplate", "affinity", "topologySpreadConstraints.[]", "failOnError")


def schema_of(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@pytest.fixture(params=sorted(CRDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_committed_files_are_what_the_models_say(kind: str) -> None:
    crd = CRDS[kind]
    assert crd_file(crd).read_text(encoding="utf-8") == crd_yaml(crd), "run `make crds`"


def test_no_other_definition_lies_beside_them() -> None:
    folder = crd_file(CRDS["VideoNevaJob"]).parent
    assert sorted(folder.iterdir()) == sorted(crd_file(crd) for crd in CRDS.values())


@pytest.mark.parametrize("version", ["1.31", "1.36"])
def test_it_fits_the_published_schema_of_definitions(kind: str, version: str) -> None:
    crd = yaml.safe_load(crd_file(CRDS[kind]).read_text(encoding="utf-8"))
    assert kubernetes_validate.validate(crd, version, strict=True)


def test_the_schema_is_structural(kind: str) -> None:
    assert list(structural.problems(schema_of(kind))) == []


def test_a_word_about_metadata_is_a_problem(kind: str) -> None:
    schema = copy.deepcopy(schema_of(kind))
    schema["properties"]["metadata"]["description"] = "Names."
    schema["properties"]["metadata"]["properties"]["labels"] = {"type": "object", "properties": {}}
    found = list(structural.problems(schema))
    assert len(found) == 2 and all(words.startswith(".metadata") for words in found)


def test_everything_that_a_rule_could_touch_is_bounded(kind: str) -> None:
    # The type meta is not looked at by rules, and the API server bounds it.
    assert list(structural.unbounded(schema_of(kind))) == [".apiVersion", ".kind"]


def test_every_field_is_described_with_its_words(kind: str) -> None:
    for path, schema in structural.walk(schema_of(kind)):
        if path.endswith((".[]", ".*")) or path == ".metadata":
            continue  # the list's or map's own description; the API server's
        words = schema.get("description", "")
        assert words, path
        unexplained = [v for v in schema.get("enum", ()) if str(v) not in words]
        assert not unexplained, f"{path}: {unexplained} are not explained"


def test_only_the_pods_own_blocks_are_free_form(kind: str) -> None:
    free = [
        path
        for path, schema in structural.walk(schema_of(kind))
        if schema.get("x-kubernetes-preserve-unknown-fields")
    ]
    assert free
    assert [path for path in free if not path.endswith(FREE_FORM)] == []


def test_every_default_fits_its_own_schema(kind: str) -> None:
    """The API server refuses a definition with a default that it would refuse."""
    num_defaults = 0
    for path, schema in structural.walk(schema_of(kind)):
        if "default" not in schema:
            continue
        num_defaults += 1
        holder = CustomSchema({"type": "object", "properties": {"x": schema}})
        filled_in = holder.admit({})
        assert "x" in filled_in, path
        assert holder.problems(filled_in, None) == [], path
        assert holder.unknown_fields(filled_in) == [], path
    assert num_defaults > 10


def test_the_defaults_are_the_models_own() -> None:
    """A job that says nothing means the same with and without the API server's defaults."""
    least = {
        "model": {"uri": "s3://models/m"},
        "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/v/"},
        "output": {"uri": "s3://eval/o/"},
        "judge": {"against": ["s3://eval/a.jsonl"]},
        "storage": {"secretName": "mine"},
    }
    admitted = CustomSchema(structural_schema(JobSpec)).admit(least)
    assert admitted["inference"]["top_p"] == 0.9
    assert JobSpec.model_validate(admitted) == JobSpec.model_validate(least)


def test_columns_and_names_are_as_users_expect_them() -> None:
    spec = CRDS["VideoNevaJob"]["spec"]
    columns = [c["name"] for c in spec["versions"][0]["additionalPrinterColumns"]]
    assert columns == ["Phase", "Done", "Total", "Failed", "Rate", "ETA", "Score", "Age"]
    assert spec["names"]["shortNames"] == ["vnj"]
    assert CRDS["DropFolder"]["spec"]["names"]["shortNames"] == ["dropfolder"]
    for crd in CRDS.values():
        (version,) = crd["spec"]["versions"]
        assert f"{crd['spec']['group']}/{version['name']}" == API_VERSION
        assert version["subresources"] == {"status": {}}
        assert crd["spec"]["names"]["categories"] == ["neva"]


def test_every_printer_column_and_selectable_field_exists(kind: str) -> None:
    (version,) = CRDS[kind]["spec"]["versions"]
    paths = [entry["jsonPath"] for entry in version["additionalPrinterColumns"]]
    paths += [entry["jsonPath"] for entry in version.get("selectableFields", ())]
    known = {path for path, _ in structural.walk(schema_of(kind))}
    assert set(paths) - {".metadata.creationTimestamp"} <= known


def test_conditions_are_a_map_by_type(kind: str) -> None:
    conditions = schema_of(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_the_files_lie_where_the_chart_takes_them() -> None:
    assert crd_file(CRDS["VideoNevaJob"]).relative_to(Path.cwd()) == Path(
        "charts/neva-batch/files/crds/videonevajobs.neva-batch.dev.yaml"
    )
