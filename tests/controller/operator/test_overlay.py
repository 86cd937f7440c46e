from __future__ import annotations

from controller.operator.overlay import overlay


def test_objects_merge_and_null_removes() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    assert overlay(base, {"a": {"y": None, "z": 4}, "b": None}) == {"a": {"x": 1, "z": 4}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}, "nothing is changed in place"


def test_named_items_merge_by_their_names() -> None:
    base = {
        "containers": [
            {
                "name": "worker",
                "image": "ours",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ]
    }
    over = {
        "containers": [
            {
                "name": "worker",
                "env": [{"name": "B", "value": "3"}],
                "volumeMounts": [{"name": "x", "mountPath": "/x"}],
            },
            {"name": "sidecar", "image": "theirs"},
        ]
    }
    worker, sidecar = overlay(base, over)["containers"]
    assert worker["image"] == "ours"
    assert worker["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]
    assert [mount["mountPath"] for mount in worker["volumeMounts"]] == ["/tmp", "/x"]
    assert sidecar == {"name": "sidecar", "image": "theirs"}


def test_other_lists_are_replaced() -> None:
    assert overlay({"command": ["a", "b"]}, {"command": ["c"]}) == {"command": ["c"]}
