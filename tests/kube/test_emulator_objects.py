"""The emulator's verbs, as the real API server answers them."""

from __future__ import annotations

from tests.controller.crd.specs import JOB, changed
from tests.kube.http import (
    CONFIG_MAPS,
    JOBS,
    JSON,
    MERGE,
    PODS,
    STRATEGIC,
    VNJS,
    Http,
    batch_job,
    config_map,
    pod,
)
from tests.kube.waiting import eventually

# Metadata


def test_a_new_object_gets_identity_and_a_second_of_its_name_is_refused(http: Http) -> None:
    created = http.create(CONFIG_MAPS, config_map("a", x="1"))
    assert created["metadata"]["uid"] and created["metadata"]["creationTimestamp"]
    assert created["metadata"]["namespace"] == "default"
    status, answer = http.call("POST", CONFIG_MAPS, config_map("a"))
    assert (status, answer["reason"]) == (409, "AlreadyExists")
    generated = config_map("")
    generated["metadata"] = {"generateName": "b-"}
    assert http.create(CONFIG_MAPS, generated)["metadata"]["name"].startswith("b-")


def test_nothing_is_created_in_a_namespace_that_is_not_there(http: Http) -> None:
    status, answer = http.call("POST", CONFIG_MAPS.replace("default", "nope"), config_map("a"))
    assert (status, answer["message"]) == (404, 'namespaces "nope" not found')


def test_a_stale_write_conflicts(http: Http) -> None:
    first = http.create(CONFIG_MAPS, config_map("a", x="1"))
    second = http.good("PUT", f"{CONFIG_MAPS}/a", {**first, "data": {"x": "2"}})
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    status, answer = http.call("PUT", f"{CONFIG_MAPS}/a", {**first, "data": {"x": "3"}})
    assert (status, answer["reason"]) == (409, "Conflict")
    version = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    status, _ = http.call("PATCH", f"{CONFIG_MAPS}/a", {**version, "data": {}}, MERGE)
    assert status == 409
    wrong_uid = {"metadata": {"uid": "other"}, "data": {}}
    assert http.call("PATCH", f"{CONFIG_MAPS}/a", wrong_uid, MERGE)[0] == 409


def test_a_write_that_changes_nothing_is_no_change(http: Http) -> None:
    http.create(CONFIG_MAPS, config_map("a", x="1"))
    before = http.get(f"{CONFIG_MAPS}/a")
    http.good("PATCH", f"{CONFIG_MAPS}/a", {"data": {"x": "1"}}, content_type=MERGE)
    assert http.get(f"{CONFIG_MAPS}/a") == before


def test_the_generation_counts_changes_of_the_spec_alone(http: Http) -> None:
    assert http.create(VNJS, JOB)["metadata"]["generation"] == 1
    path = f"{VNJS}/kitchen"
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert http.good("PATCH", path, labels, content_type=MERGE)["metadata"]["generation"] == 1
    status = {"status": {"phase": "Pending"}}
    done = http.good("PATCH", f"{path}/status", status, content_type=MERGE)
    assert done["metadata"]["generation"] == 1
    suspend = {"spec": {"suspend": True}}
    assert http.good("PATCH", path, suspend, content_type=MERGE)["metadata"]["generation"] == 2


def test_the_main_endpoint_ignores_status_and_the_subresource_all_else(http: Http) -> None:
    http.create(VNJS, {**JOB, "status": {"phase": "Running"}})
    path = f"{VNJS}/kitchen"
    assert "status" not in http.get(path)
    both = {"spec": {"suspend": True}, "status": {"phase": "Queued"}}
    answer = http.good("PATCH", f"{path}/status", both, content_type=MERGE)
    assert (answer["spec"]["suspend"], answer["status"]) == (False, {"phase": "Queued"})
    answer = http.good("PATCH", path, {**both, "status": None}, content_type=MERGE)
    assert (answer["spec"]["suspend"], answer["status"]) == (True, {"phase": "Queued"})
    answer = http.good("PUT", f"{path}/status", {**answer, "spec": {}, "status": {}})
    assert answer["spec"]["suspend"] is True


# Patches


def test_json_patch_tests_before_it_changes(http: Http) -> None:
    http.create(CONFIG_MAPS, config_map("a", x="1"))
    test = {"op": "test", "path": "/data/x", "value": "2"}
    replace = {"op": "replace", "path": "/data/x", "value": "3"}
    assert http.call("PATCH", f"{CONFIG_MAPS}/a", [test, replace], JSON)[0] == 422
    assert http.get(f"{CONFIG_MAPS}/a")["data"] == {"x": "1"}
    http.good("PATCH", f"{CONFIG_MAPS}/a", [replace], content_type=JSON)
    assert http.get(f"{CONFIG_MAPS}/a")["data"] == {"x": "3"}


def test_a_strategic_patch_merges_lists_by_key_but_not_of_custom_resources(http: Http) -> None:
    http.create(PODS, pod("a"))
    ready = {"type": "Ready", "status": "True"}
    started = {"type": "Started", "status": "True"}
    for condition in (ready, started, {**ready, "status": "False"}):
        patch = {"status": {"conditions": [condition]}}
        http.good("PATCH", f"{PODS}/a/status", patch, content_type=STRATEGIC)
    found = http.get(f"{PODS}/a")["status"]["conditions"]
    assert found == [{**ready, "status": "False"}, started]
    http.create(VNJS, JOB)
    assert http.call("PATCH", f"{VNJS}/kitchen", {"spec": {}}, STRATEGIC)[0] == 415


def test_dry_run_says_what_would_be_and_does_nothing(http: Http) -> None:
    assert http.good("POST", f"{VNJS}?dryRun=All", JOB)["spec"]["shards"] == {"maxRows": 64}
    assert http.is_gone(f"{VNJS}/kitchen")
    bad = changed(JOB, "spec.model.precision", "int4")
    assert http.call("POST", f"{VNJS}?dryRun=All", bad)[0] == 422


# Server-side apply


def test_apply_creates_and_takes_back_what_its_manager_dropped(http: Http) -> None:
    path = f"{CONFIG_MAPS}/a"
    assert http.apply(path, config_map("a", x="1", y="2"), "one")[0] == 201
    status, answer = http.apply(path, config_map("a", x="1"), "one")
    assert (status, answer["data"]) == (200, {"x": "1"})
    assert http.apply(path, config_map("a", z="3"), "two")[1]["data"] == {"x": "1", "z": "3"}
    without = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    assert http.apply(path, without, "one")[1]["data"] == {"z": "3"}


def test_apply_conflicts_with_another_managers_value_unless_forced(http: Http) -> None:
    path = f"{CONFIG_MAPS}/a"
    http.apply(path, config_map("a", x="1"), "one")
    status, answer = http.apply(path, config_map("a", x="2"), "two")
    assert (status, answer["reason"]) == (409, "Conflict")
    assert answer["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.x'
    assert http.apply(path, config_map("a", x="2"), "two", force=True)[1]["data"] == {"x": "2"}
    # The first lost it: what it drops now stays.
    assert http.apply(path, config_map("a"), "one")[1]["data"] == {"x": "2"}


def test_a_field_that_another_updated_is_not_applied_over_unnoticed(http: Http) -> None:
    job = batch_job("a", suspend=True)
    http.apply(f"{JOBS}/a", job, "operator")
    patch = {"spec": {"suspend": False}}
    http.good("PATCH", f"{JOBS}/a?fieldManager=kueue", patch, content_type=MERGE)
    status, answer = http.apply(f"{JOBS}/a", job, "operator")
    assert status == 409 and 'conflict with "kueue": .spec.suspend' in answer["message"]
    left_alone = batch_job("a", parallelism=3)
    status, answer = http.apply(f"{JOBS}/a", left_alone, "operator")
    assert status == 200
    assert (answer["spec"]["suspend"], answer["spec"]["parallelism"]) == (False, 3)


def test_apply_merges_containers_and_variables_by_name(http: Http) -> None:
    def wanted(**variables: str) -> dict[str, object]:
        obj = pod("a")
        entries = [{"name": name, "value": value} for name, value in variables.items()]
        obj["spec"]["containers"][0]["env"] = entries
        return obj

    http.apply(f"{PODS}/a", wanted(A="1", B="2"), "one")
    http.apply(f"{PODS}/a", wanted(C="3"), "two")
    _, answer = http.apply(f"{PODS}/a", wanted(A="1"), "one")
    names = [entry["name"] for entry in answer["spec"]["containers"][0]["env"]]
    assert names == ["A", "C"]


def test_apply_needs_a_manager_and_never_revives_by_uid(http: Http) -> None:
    body = config_map("a")
    query = "application/apply-patch+yaml"
    assert http.call("PATCH", f"{CONFIG_MAPS}/a", body, query)[0] == 400
    body["metadata"]["uid"] = "gone"
    assert http.apply(f"{CONFIG_MAPS}/a", body)[0] == 409


# Built-in kinds


def test_a_jobs_template_is_immutable_and_its_parallelism_is_not(http: Http) -> None:
    http.create(JOBS, batch_job("a"))
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "b"}]
    status, answer = http.call("PATCH", f"{JOBS}/a", image, JSON)
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "spec.template")
    patch = {"spec": {"parallelism": 7}}
    changed_job = http.good("PATCH", f"{JOBS}/a", patch, content_type=MERGE)
    assert changed_job["spec"]["parallelism"] == 7


def test_a_job_gets_defaults_and_a_selector_of_its_own(http: Http) -> None:
    job = http.create(JOBS, batch_job("a"))
    uid = job["metadata"]["uid"]
    assert job["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": uid}
    assert job["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "a"
    assert (job["spec"]["backoffLimit"], job["spec"]["completions"]) == (6, 1)
    work_queue = http.create(JOBS, batch_job("b", parallelism=3))
    assert "completions" not in work_queue["spec"]


def test_a_wrong_job_is_refused(http: Http) -> None:
    job = batch_job("a")
    job["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    status, answer = http.call("POST", JOBS, job)
    assert status == 422 and "spec.template.spec.restartPolicy" in answer["message"]
    job = batch_job("a")
    job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "x", "mountPath": "/x"}
    ]
    assert http.call("POST", JOBS, job)[0] == 422


def test_a_secrets_words_are_stored_encoded(http: Http) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    answer = http.create("/api/v1/namespaces/default/secrets", {**secret, "stringData": {"a": "b"}})
    assert answer["data"] == {"a": "Yg=="} and "stringData" not in answer


def test_an_event_is_the_same_in_both_groups(http: Http) -> None:
    new = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p"},
        "note": "hello",
        "reason": "Said",
    }
    http.create("/apis/events.k8s.io/v1/namespaces/default/events", new)
    found = http.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=p")
    assert [event["message"] for event in found["items"]] == ["hello"]
    again = http.get("/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (again["note"], again["apiVersion"]) == ("hello", "events.k8s.io/v1")


# Custom resources


def test_a_wrong_custom_resource_is_refused_with_all_its_causes(http: Http) -> None:
    bad = changed(JOB, "spec.model.precision", "int4")
    bad["spec"]["inference"]["top_p"] = 2
    status, answer = http.call("POST", VNJS, bad)
    assert (status, answer["reason"]) == (422, "Invalid")
    fields = {cause["field"] for cause in answer["details"]["causes"]}
    assert fields == {"spec.model.precision", "spec.inference.top_p"}
    assert answer["message"].startswith('VideoNevaJob.neva-batch.dev "kitchen" is invalid: [')


def test_cel_rules_hold_at_creation_and_at_changes(http: Http) -> None:
    status, answer = http.call("POST", VNJS, changed(JOB, "spec.workers.gpusPerWorker", 3))
    assert status == 422
    assert answer["details"]["causes"][0]["field"] == "spec.workers.gpusPerWorker"
    http.create(VNJS, JOB)
    path = f"{VNJS}/kitchen"
    seed = {"spec": {"inference": {"seed": 1}}}
    http.good("PATCH", path, seed, content_type=MERGE)
    started = {"status": {"startTime": "2026-01-01T00:00:00Z"}}
    http.good("PATCH", f"{path}/status", started, content_type=MERGE)
    status, answer = http.call("PATCH", path, {"spec": {"inference": {"seed": 2}}}, MERGE)
    assert status == 422 and answer["details"]["causes"][0]["field"] == "spec.inference"
    replicas = {"spec": {"workers": {"replicas": 5}}}
    http.good("PATCH", path, replicas, content_type=MERGE)


def test_unknown_fields_are_pruned_or_refused_when_asked_to_be_strict(http: Http) -> None:
    wrong = changed(JOB, "spec.inference.topk", 3)
    status, answer = http.call("POST", f"{VNJS}?fieldValidation=Strict", wrong)
    assert status == 400 and 'unknown field "spec.inference.topk"' in answer["message"]
    created = http.create(VNJS, wrong)
    assert "topk" not in created["spec"]["inference"]
    assert created["spec"]["workers"]["podTemplate"] == JOB["spec"]["workers"]["podTemplate"]


def test_a_definition_that_is_posted_is_served(http: Http) -> None:
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"size": {"type": "integer", "default": 3}},
                        }
                    },
                }
            ],
        },
    }
    widgets = "/apis/example.com/v1/namespaces/default/widgets"
    assert http.call("GET", widgets)[0] == 404
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    http.create(definitions, definition)
    assert http.create(widgets, {"metadata": {"name": "w"}})["size"] == 3
    resources = http.get("/apis/example.com/v1")["resources"]
    assert [entry["name"] for entry in resources] == ["widgets"]
    http.good("DELETE", f"{definitions}/widgets.example.com")
    eventually(lambda: http.is_gone(widgets), "the definition's end")
