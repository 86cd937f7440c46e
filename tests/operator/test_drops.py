"""A drop folder with everything real: operator process, store, pods' commands, workers."""

from __future__ import annotations

import json

import pytest

from neva.store import open_store
from tests.operator.bench import GROUP, Bench, Obj

pytestmark = [pytest.mark.e2e, pytest.mark.operator, pytest.mark.timeout(600)]


def make_folder(bench: Bench) -> None:
    spec: Obj = dict(bench.manifest()["spec"])
    del spec["output"]
    spec["input"] = {"mediaBasePath": f"{bench.bucket}/videos/"}
    bench.make_folder("inbox", {"template": {"spec": spec}})


def test_dropped_files_are_answered_and_moved_and_bad_ones_told(bench: Bench) -> None:
    prompts = open_store(f"{bench.bucket}/").get("prompts.jsonl")
    rows = b"".join(prompts.splitlines(keepends=True)[:3])
    inbox = open_store(f"{bench.bucket}/inbox/")
    inbox.put("a b.jsonl", rows)
    inbox.put("bad.jsonl", b"no json\n")
    make_folder(bench)
    told = bench.wait("errors are told", lambda: inbox.get_or_none("bad.errors.json"))
    assert [error["reason"] for error in json.loads(told)["errors"]] == ["InvalidJson"]
    [done] = bench.wait("the good file is moved", lambda: list(inbox.list("done/")))
    job = done.key.split("/")[1]
    assert done.key == f"done/{job}/a b.jsonl"
    assert len(bench.lines(job, "outputs.jsonl")) == 3
    assert {item.key for item in inbox.list()} == {done.key, "bad.jsonl", "bad.errors.json"}

    def counts() -> Obj | None:
        folder = bench._custom.get_namespaced_custom_object(
            *GROUP, bench.namespace, "dropfolders", "inbox"
        )
        found = (folder.get("status") or {}).get("jobs")
        return found if found == {"active": 0, "succeeded": 1, "failed": 1} else None

    bench.wait("the folder counts its jobs", counts)
    assert len(bench._jobs()) == 2
