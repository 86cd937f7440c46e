"""Which objects are drops, when they have settled, and what is decided about them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from controller.drop.scan import Drop, Listed, Settling, decide, find_drops
from neva.spec_base import check_dns_label

BASE = "s3://eval/in/"


def listed(key: str, etag: str = "e1", *, at_s: float = 100.0, store_s: float | None = 1000.0):
    return Listed(key, etag, 10, at_s, store_s)


def find(*objects: Listed, folder_name: str = "inbox") -> list[Drop]:
    return find_drops(
        objects, base_uri=BASE, folder_name=folder_name, marker="_READY", skip="done/"
    )


def test_a_jsonl_file_directly_under_the_prefix_is_a_drop() -> None:
    found = find(
        listed("a.jsonl"),
        listed("a.errors.json"),
        listed("notes.txt"),
        listed("sub/b.jsonl"),
        listed(".jsonl"),
    )
    assert [drop.key for drop in found] == ["a.jsonl"]
    assert found[0].folder is None


def test_a_folder_is_a_drop_once_it_has_prompts_and_marker() -> None:
    prompts, marker, video = listed("x/prompts.jsonl"), listed("x/_READY"), listed("x/a.mp4")
    deeper = [listed("y/z/prompts.jsonl"), listed("y/z/_READY")]
    assert find(prompts, video, *deeper) == []
    assert find(marker, video) == []
    [drop] = find(prompts, marker, video)
    assert (drop.key, drop.folder, drop.marker) == ("x/prompts.jsonl", "x/", ("x/_READY", "e1"))


def test_what_was_moved_away_is_no_drop() -> None:
    assert (
        find(listed("done/job/a.jsonl"), listed("done/prompts.jsonl"), listed("done/_READY")) == []
    )


def test_the_name_follows_key_and_etag_and_nothing_else() -> None:
    [first] = find(listed("a.jsonl"))
    assert find(listed("a.jsonl", at_s=999.0, store_s=None))[0].name == first.name
    assert find(listed("a.jsonl", "e2"))[0].name != first.name
    assert find(listed("A.jsonl"))[0].name != first.name
    folder = [listed("a/prompts.jsonl"), listed("a/_READY"), listed("a/v.mp4")]
    [drop] = find(*folder)
    assert find(*folder, listed("a/w.mp4"))[0].name == drop.name
    assert find(folder[0], listed("a/_READY", "second try"))[0].name != drop.name


@given(
    st.text(min_size=1, max_size=200),
    st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True),
)
def test_every_key_gives_a_name_that_a_cluster_takes(stem: str, folder_name: str) -> None:
    for drop in find(listed(f"{stem}.jsonl"), folder_name=folder_name):
        assert check_dns_label(drop.name) == drop.name
        assert len(drop.name) <= 52
        assert re.fullmatch(r".*-[0-9a-f]{12}", drop.name)


def test_a_drop_settles_by_the_stores_clock_even_after_a_restart() -> None:
    [drop] = find(listed("a.jsonl", at_s=100.0, store_s=130.0))
    assert Settling().look([drop], now_s=0.0, settle_s=60.0) == {"a.jsonl": 30.0}
    [later] = find(listed("a.jsonl", at_s=100.0, store_s=160.0))
    assert Settling().look([later], now_s=0.0, settle_s=60.0) == {"a.jsonl": 0.0}


def test_own_observation_settles_what_the_store_dates_in_the_future_or_not_at_all() -> None:
    for store_s in (None, 50.0):
        settling = Settling()
        [drop] = find(listed("a.jsonl", at_s=100.0, store_s=store_s))
        assert settling.look([drop], now_s=7.0, settle_s=60.0) == {"a.jsonl": 60.0}
        assert settling.look([drop], now_s=57.0, settle_s=60.0) == {"a.jsonl": 10.0}
        assert settling.look([drop], now_s=67.0, settle_s=60.0) == {"a.jsonl": 0.0}


def test_a_change_starts_the_wait_again() -> None:
    settling = Settling()
    settling.look(find(listed("a.jsonl", store_s=None)), now_s=0.0, settle_s=60.0)
    changed = find(listed("a.jsonl", "e2", store_s=None))
    assert settling.look(changed, now_s=59.0, settle_s=60.0) == {"a.jsonl": 60.0}


def test_a_folder_waits_for_its_youngest_file() -> None:
    [drop] = find(
        listed("x/prompts.jsonl", at_s=100.0),
        listed("x/_READY", at_s=100.0),
        listed("x/late.mp4", at_s=970.0),
    )
    assert Settling().look([drop], now_s=0.0, settle_s=60.0) == {"x/prompts.jsonl": 30.0}


def test_a_file_that_vanished_is_forgotten() -> None:
    settling = Settling()
    drops = find(listed("a.jsonl", store_s=None))
    settling.look(drops, now_s=0.0, settle_s=60.0)
    settling.keep_only(set())
    assert settling.look(drops, now_s=60.0, settle_s=60.0) == {"a.jsonl": 60.0}


def test_the_oldest_go_first_and_no_more_than_the_limit() -> None:
    drops = find(*(listed(f"{n}.jsonl", at_s=100.0 - n) for n in range(5)))
    left = dict.fromkeys((drop.key for drop in drops), 0.0)
    decisions = decide(drops, left, jobs={"other": True, "old": False}, ran=(), concurrency=3)
    assert [drop.key for drop in decisions.start] == ["4.jsonl", "3.jsonl"]
    assert decisions.waiting == 3


def test_what_has_a_job_or_had_one_is_not_run_again() -> None:
    drops = find(listed("a.jsonl"), listed("b.jsonl"), listed("c.jsonl"))
    left = dict.fromkeys((drop.key for drop in drops), 0.0)
    decisions = decide(drops, left, jobs={drops[0].name: False}, ran={drops[1].name}, concurrency=9)
    assert [drop.key for drop in decisions.start] == ["c.jsonl"]
    assert [drop.key for drop in decisions.leftovers] == ["b.jsonl"]


def test_unsettled_drops_are_waited_for() -> None:
    drops = find(listed("a.jsonl"), listed("b.jsonl"))
    decisions = decide(drops, {"a.jsonl": 20.0, "b.jsonl": 5.0}, jobs={}, ran=(), concurrency=9)
    assert (decisions.start, decisions.settling, decisions.look_again_s) == ((), 2, 5.0)


@given(st.data())
def test_whatever_is_seen_no_drop_runs_twice(data: st.DataObject) -> None:
    """Looks that miss files, restarts and changed files: each (key, etag) becomes one job."""
    jobs: dict[str, bool] = {}
    made: list[str] = []
    versions = {"a.jsonl": 1, "b.jsonl": 1, "c.jsonl": 1}
    settling = Settling()
    for now_s in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()):
            settling = Settling()
        key = data.draw(st.sampled_from(sorted(versions)))
        versions[key] += data.draw(st.integers(0, 1))
        seen = data.draw(st.sets(st.sampled_from(sorted(versions))))
        drops = find(*(listed(k, f"e{versions[k]}", store_s=None) for k in sorted(seen)))
        left = settling.look(drops, float(now_s), settle_s=2.0)
        decisions = decide(drops, left, jobs=jobs, ran=(), concurrency=2)
        for drop in decisions.start:
            made.append(drop.name)
            jobs[drop.name] = True
        assert sum(jobs.values()) <= 2
        for name in data.draw(st.sets(st.sampled_from(sorted(jobs)))) if jobs else ():
            jobs[name] = False
    assert len(made) == len(set(made))
