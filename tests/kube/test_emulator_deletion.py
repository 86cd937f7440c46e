"""What goes, when, and what holds it, on the emulator."""

from __future__ import annotations

from tests.controller.crd.specs import JOB
from tests.kube.http import (
    CONFIG_MAPS,
    JOBS,
    MERGE,
    PODS,
    VNJS,
    Http,
    batch_job,
    config_map,
    owned_by,
    pod,
)
from tests.kube.waiting import eventually


def test_a_finalizer_holds_an_object_until_it_is_taken_off(http: Http) -> None:
    job = {**JOB, "metadata": {"name": "kitchen", "finalizers": ["neva-batch.dev/cleanup"]}}
    http.create(VNJS, job)
    path = f"{VNJS}/kitchen"
    http.good("DELETE", path)
    held = http.get(path)
    assert held["metadata"]["deletionTimestamp"]
    http.good("PATCH", path, {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert http.is_gone(path)


def test_children_go_with_their_owner(http: Http) -> None:
    owner = http.create(CONFIG_MAPS, config_map("owner"))
    child = http.create(JOBS, owned_by(batch_job("child"), owner))
    http.create(PODS, owned_by(pod("grandchild"), child))
    http.good("DELETE", f"{CONFIG_MAPS}/owner")
    eventually(lambda: http.is_gone(f"{JOBS}/child"), "the child's end")
    eventually(lambda: http.is_gone(f"{PODS}/grandchild"), "the grandchild's end")


def test_foreground_deletion_waits_for_the_children(http: Http) -> None:
    owner = http.create(CONFIG_MAPS, config_map("owner"))
    child = owned_by(config_map("child"), owner, blocks=True)
    child["metadata"]["finalizers"] = ["example.com/hold"]
    http.create(CONFIG_MAPS, child)
    options = {"propagationPolicy": "Foreground"}
    http.good("DELETE", f"{CONFIG_MAPS}/owner", options)
    eventually(
        lambda: "deletionTimestamp" in http.get(f"{CONFIG_MAPS}/child")["metadata"], "its turn"
    )
    assert http.get(f"{CONFIG_MAPS}/owner")["metadata"]["finalizers"] == ["foregroundDeletion"]
    release = {"metadata": {"finalizers": None}}
    http.call("PATCH", f"{CONFIG_MAPS}/child", release, MERGE)
    eventually(lambda: http.is_gone(f"{CONFIG_MAPS}/owner"), "the owner's end")


def test_orphans_stay(http: Http) -> None:
    owner = http.create(CONFIG_MAPS, config_map("owner"))
    http.create(CONFIG_MAPS, owned_by(config_map("child"), owner))
    http.good("DELETE", f"{CONFIG_MAPS}/owner?propagationPolicy=Orphan")
    eventually(lambda: http.is_gone(f"{CONFIG_MAPS}/owner"), "the owner's end")
    assert "ownerReferences" not in http.get(f"{CONFIG_MAPS}/child")["metadata"]


def test_a_child_of_an_owner_that_is_gone_is_collected(http: Http) -> None:
    owner = http.create(CONFIG_MAPS, config_map("owner"))
    http.good("DELETE", f"{CONFIG_MAPS}/owner")
    http.create(CONFIG_MAPS, owned_by(config_map("late"), owner))
    eventually(lambda: http.is_gone(f"{CONFIG_MAPS}/late"), "its end")


def test_a_namespace_goes_with_everything_in_it(http: Http) -> None:
    http.create("/api/v1/namespaces", {"metadata": {"name": "n"}})
    http.create(CONFIG_MAPS.replace("default", "n"), config_map("a"))
    http.good("DELETE", "/api/v1/namespaces/n")
    eventually(lambda: http.is_gone("/api/v1/namespaces/n"), "the namespace's end")
    assert http.is_gone(f"{CONFIG_MAPS.replace('default', 'n')}/a")


def test_a_delete_of_another_uid_conflicts(http: Http) -> None:
    http.create(CONFIG_MAPS, config_map("a"))
    options = {"preconditions": {"uid": "other"}}
    assert http.call("DELETE", f"{CONFIG_MAPS}/a", options)[0] == 409


def test_a_collection_is_deleted_by_selector(http: Http) -> None:
    for name in ("a", "b"):
        labelled = config_map(name)
        labelled["metadata"]["labels"] = {"name": name}
        http.create(CONFIG_MAPS, labelled)
    http.good("DELETE", f"{CONFIG_MAPS}?labelSelector=name=a")
    names = [item["metadata"]["name"] for item in http.get(CONFIG_MAPS)["items"]]
    assert names == ["b"]
