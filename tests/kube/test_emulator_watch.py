"""The emulator's lists, watches, request log and faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.controller.crd.specs import JOB
from tests.kube.emulator import Emulator, Fault
from tests.kube.fixtures import running_cluster
from tests.kube.http import CONFIG_MAPS, JOBS, MERGE, VNJS, Http, config_map


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running_cluster(tmp_path) as cluster:
        assert cluster.emulator is not None
        yield cluster.emulator


@pytest.fixture
def http(emulator: Emulator) -> Iterator[Http]:
    client = Http(emulator.url)
    yield client
    client.close()


def labelled(name: str, **labels: str) -> dict[str, object]:
    return {"metadata": {"name": name, "labels": labels}}


def names(events: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(e["type"], e["object"]["metadata"].get("name")) for e in events]  # type: ignore[index]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("a=1", ["one"]),
        ("a!=1", ["two", "none"]),
        ("a in (1, 2),b", ["two"]),
        ("a notin (1)", ["two", "none"]),
        ("!a", ["none"]),
        ("a==2", ["two"]),
    ],
)
def test_lists_select_by_labels(http: Http, selector: str, expected: list[str]) -> None:
    for obj in (labelled("one", a="1"), labelled("two", a="2", b=""), labelled("none")):
        http.create(CONFIG_MAPS, obj)
    found = http.get(f"{CONFIG_MAPS}?labelSelector={selector}")["items"]
    assert [item["metadata"]["name"] for item in found] == expected


def test_lists_select_by_fields_of_ours(http: Http) -> None:
    http.create(VNJS, JOB)
    status = {"status": {"phase": "Running"}}
    http.good("PATCH", f"{VNJS}/kitchen/status", status, content_type=MERGE)
    assert len(http.get(f"{VNJS}?fieldSelector=status.phase=Running")["items"]) == 1
    assert http.get(f"{VNJS}?fieldSelector=status.phase!=Running")["items"] == []


def test_a_watch_goes_on_where_the_list_ended(http: Http) -> None:
    http.create(CONFIG_MAPS, config_map("before"))
    version = http.get(CONFIG_MAPS)["metadata"]["resourceVersion"]
    http.create(CONFIG_MAPS, config_map("a", x="1"))
    http.good("PATCH", f"{CONFIG_MAPS}/a", {"data": {"x": "2"}}, content_type=MERGE)
    http.good("DELETE", f"{CONFIG_MAPS}/a")
    http.create(JOBS.replace("jobs", "cronjobs"), {"metadata": {"name": "other"}, "spec": CRON})
    events = list(http.watch(CONFIG_MAPS, resourceVersion=version, timeoutSeconds=0.2))
    assert names(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


CRON = {
    "schedule": "0 1 * * *",
    "jobTemplate": {
        "spec": {
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}
            }
        }
    },
}


def test_a_watch_without_a_version_begins_with_what_is_there(http: Http) -> None:
    http.create(CONFIG_MAPS, config_map("a"))
    assert names(list(http.watch(CONFIG_MAPS, timeoutSeconds=0.2))) == [("ADDED", "a")]


def test_a_streaming_list_ends_with_a_bookmark(http: Http) -> None:
    http.create(CONFIG_MAPS, config_map("a"))
    events = list(
        http.watch(
            CONFIG_MAPS,
            sendInitialEvents="true",
            resourceVersionMatch="NotOlderThan",
            allowWatchBookmarks="true",
            timeoutSeconds=0.2,
        )
    )
    assert names(events[:2]) == [("ADDED", "a"), ("BOOKMARK", None)]
    annotations = events[1]["object"]["metadata"]["annotations"]
    assert annotations == {"k8s.io/initial-events-end": "true"}


def test_an_object_that_leaves_the_selection_is_deleted_to_the_watcher(http: Http) -> None:
    http.create(CONFIG_MAPS, labelled("a", team="x"))
    version = http.get(CONFIG_MAPS)["metadata"]["resourceVersion"]
    for team in ("y", "x"):
        patch = {"metadata": {"labels": {"team": team}}}
        http.good("PATCH", f"{CONFIG_MAPS}/a", patch, content_type=MERGE)
    query = {"labelSelector": "team=x", "resourceVersion": version, "timeoutSeconds": 0.2}
    events = list(http.watch(CONFIG_MAPS, **query))
    assert names(events) == [("DELETED", "a"), ("ADDED", "a")]


def test_a_watch_from_a_forgotten_version_is_gone(http: Http, emulator: Emulator) -> None:
    old = http.create(CONFIG_MAPS, config_map("a"))["metadata"]["resourceVersion"]
    http.create(CONFIG_MAPS, config_map("b"))
    emulator.with_store(lambda store: store.forget_history())
    status, answer = http.call("GET", f"{CONFIG_MAPS}?watch=true&resourceVersion={old}")
    assert (status, answer["reason"]) == (410, "Expired")


def test_requests_are_logged_in_the_words_of_rbac(http: Http, emulator: Emulator) -> None:
    http.create(VNJS, JOB)
    http.good("PATCH", f"{VNJS}/kitchen/status", {"status": {}}, content_type=MERGE)
    http.get("/apis/batch/v1/jobs?labelSelector=a")
    list(http.watch(CONFIG_MAPS, timeoutSeconds=0.1))
    http.good("DELETE", f"{VNJS}/kitchen")
    seen = [
        (r.verb, r.group, r.resource, r.subresource, r.namespace, r.name)
        for r in emulator.requests.all(lambda r: r.user == "tester")
    ]
    group = "neva-batch.dev"
    assert seen == [
        ("create", group, "videonevajobs", "", "default", None),
        ("patch", group, "videonevajobs", "status", "default", "kitchen"),
        ("list", "batch", "jobs", "", None, None),
        ("watch", "", "configmaps", "", "default", None),
        ("delete", group, "videonevajobs", "", "default", "kitchen"),
    ]


def test_a_connection_cut_before_leaves_nothing_and_one_cut_after_does(
    http: Http, emulator: Emulator
) -> None:
    for after, is_there in ((False, 404), (True, 200)):
        emulator.requests.break_requests(Fault(lambda r: r.verb == "create", after=after))
        with pytest.raises(requests.ConnectionError):
            http.create(CONFIG_MAPS, config_map("a"))
        assert http.call("GET", f"{CONFIG_MAPS}/a")[0] == is_there
        emulator.requests.heal()


def test_the_nth_matching_request_gets_the_status_that_was_arranged(
    http: Http, emulator: Emulator
) -> None:
    fault = Fault(lambda r: r.name == "a" and r.verb == "get", nth=2, times=2, status=500)
    emulator.requests.break_requests(fault)
    http.create(CONFIG_MAPS, config_map("a"))
    codes = [http.call("GET", f"{CONFIG_MAPS}/a")[0] for _ in range(4)]
    assert codes == [200, 500, 500, 200]
    assert fault.used_up


def test_too_many_requests_tell_when_to_come_back(http: Http, emulator: Emulator) -> None:
    emulator.requests.break_requests(Fault(lambda r: r.is_write, status=429))
    status, answer = http.call("POST", CONFIG_MAPS, config_map("a"))
    assert (status, answer["reason"]) == (429, "TooManyRequests")
