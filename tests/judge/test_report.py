from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image
from typer.testing import CliRunner

from judge.cli import report_app
from judge.report.data import load_report
from judge.report.render import render_report, write_report
from judge.reviews import REVIEWS
from judge.run import run_judge
from neva.errors import ConfigError
from neva.ledger import LedgerCorrupt, layout
from tests.fakes.judge import FakeJudge
from tests.fakes.memory_store import MemoryStore
from tests.judge.examples import SETTINGS, comparison
from tests.support.spoiled import spoiled_forms

HOSTILE = "<img src=x onerror=alert(1)>\x00\x1b[31m</style><script>boom()</script>"


def jsonl(records: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def strip() -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (64, 8), (200, 30, 30)).save(picture, "JPEG")
    return picture.getvalue()


def finished_run(*, judged: bool = True, answer: str = "A2-0") -> MemoryStore:
    """Three questions about two videos answered, one row failed."""
    store = MemoryStore("s3://eval/runs/kitchen/")
    compared = comparison(
        ["conv", "detail", "conv"], second={"0": answer, "1": "A2-1", "2": "A2-2"}
    )
    outputs = [
        {
            "question_id": question.question_id,
            "text": question.text,
            "category": question.category,
            "video": "a.mp4" if number != 1 else "b.mp4",
            "response": compared.answers[1].texts[question.key],
        }
        for number, question in enumerate(compared.questions)
    ]
    error = {
        "line": 4,
        "question_id": 3,
        "reason": "MediaUnreadable",
        "message": f"c.mp4: {HOSTILE}",
        "record": {"question_id": 3, "text": "Q3?"},
    }
    summary = {
        "job": "kitchen",
        "state": "Succeeded",
        "rows": 4,
        "answered": 3,
        "failed": 1,
        "model_id": "s3://models/tiny",
        "model_digest": "0123456789abcdef",
        "stages_s": {"answer": 12.3, "judge": 75.0},
    }
    store.put(layout.OUTPUTS, jsonl(outputs))
    store.put(layout.ERRORS, jsonl([error]))
    store.put(layout.SUMMARY, orjson.dumps(summary))
    store.put(layout.frames("a.mp4"), strip())
    if judged:
        reply = f"8 6\nThe first is better. {HOSTILE}"
        judge = FakeJudge(lambda content: "hm" if "Q1?" in content else reply)
        run_judge([compared], SETTINGS, client=judge, store=store)
    return store


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        page = re.sub(r"<style>.*?</style>", "<style></style>", page, count=1, flags=re.DOTALL)
        self.feed(re.sub(r"<script[^>]*>.*?</script>", "<script></script>", page, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(store: MemoryStore) -> str:
    return render_report(load_report(store))


def rows_in(page: str) -> list[dict[str, Any]]:
    """The rows as the page's own program reads them."""
    blocks = re.findall(r'<script type="application/json" id="rows-\d+">(.*?)</script>', page)
    return [row for block in blocks for row in orjson.loads(block)]


def counts_in(page: str) -> dict[str, int]:
    return {k: int(v) for k, v in re.findall(r"<dt>([^<]+)</dt><dd>(\d+)</dd>", page)}


def test_the_numbers_are_those_of_summary_and_scores() -> None:
    store = finished_run()
    scores = orjson.loads(store.get(layout.SCORES))
    page = page_of(store)
    assert counts_in(page) == {
        "prompts": 4,
        "answered": 3,
        "failed": 1,
        "judged": scores["num_judged"],
        "without a verdict": scores["num_failed"],
    }
    assert (scores["num_judged"], scores["num_failed"]) == (2, 1)
    for name in ("all", *scores["categories"]):
        assert f'scope="row" dir="auto">{name}</th>' in page
    for score in scores["all"]["scores"]:
        assert f">{score:.1f}</td>" in page
    assert "kitchen" in page and "Succeeded" in page


def test_every_row_has_question_answers_and_both_verdicts() -> None:
    rows = rows_in(page_of(finished_run()))
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["q"] == "Q0?"
    assert rows[0]["a"] == [["reference", 1, "A1-0", 7.0], ["model", 2, "A2-0", 7.0]]
    assert [(v["o"], v["f"]) for v in rows[0]["v"]] == [
        ("as given", "reference"),
        ("swapped", "model"),
    ]
    assert rows[0]["v"][0]["s"] == [[1, 8], [2, 6]]
    assert rows[0]["v"][0]["w"].startswith("The first is better.")
    assert (rows[0]["o"], rows[0]["d"], rows[0]["g"]) == ("equal", 1, 0.0)
    assert "the reply's first line holds no two scores: 'hm'" in rows[1]["v"][0]["x"]


def test_the_frames_of_a_video_are_there_once() -> None:
    page = page_of(finished_run())
    encoded = base64.b64encode(strip()).decode()
    assert page.count(f'data-media="a.mp4">"data:image/jpeg;base64,{encoded}"</script>') == 1
    assert 'data-media="b.mp4"' not in page
    assert "of 1 of 2 videos or images" in page


def test_frames_end_where_the_page_would_grow_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    store = finished_run()
    store.put(layout.frames("b.mp4"), strip())
    monkeypatch.setattr("judge.report.data._MOST_FRAME_BYTES", 2 * len(strip()) - 1)
    assert "of 1 of 2 videos or images" in page_of(store)


def test_rows_come_in_blocks() -> None:
    store = MemoryStore()
    outputs = [
        {"question_id": n, "text": "Q", "video": "a.mp4", "response": "A"} for n in range(120)
    ]
    store.put(layout.OUTPUTS, jsonl(outputs))
    page = page_of(store)
    assert page.count('id="rows-') == 3
    assert len(rows_in(page)) == 120


def test_the_run_is_told_with_its_job() -> None:
    store = finished_run()
    scores = orjson.loads(store.get(layout.SCORES))
    store.put(layout.SCORES, orjson.dumps({**scores, "cost": 0.125}))
    manifest = {"job": {"spec": {"model": {"uri": "s3://m", "tensorParallelSize": 2}}}}
    store.put(layout.MANIFEST, orjson.dumps({**manifest, "prompts_sha256": "abc"}))
    summary = orjson.loads(store.get(layout.SUMMARY))
    store.put(layout.SUMMARY, orjson.dumps({**summary, "workers_s": {"engine": 1800.0}}))
    text = Page(page_of(store)).text
    for words in ("1 (the engine's seconds", '"tensorParallelSize": 2', "0.1250", "judge-1", "abc"):
        assert words in text


def test_several_comparisons_have_a_table_each() -> None:
    store = finished_run()
    scores = orjson.loads(store.get(layout.SCORES))
    store.put(
        layout.SCORES, orjson.dumps({**scores, "others": [{**scores, "answers": ["x", "y"]}]})
    )
    assert page_of(store).count("<table>") == 2


def test_errors_are_grouped_by_reason() -> None:
    report = load_report(finished_run())
    assert list(report.errors) == ["MediaUnreadable"]
    assert list(report.judge_errors) == ["VerdictUnreadable"]
    assert report.errors["MediaUnreadable"][0].where == "line 4, question 3"


def test_hostile_texts_are_text() -> None:
    page = page_of(finished_run(answer=HOSTILE))
    parsed = Page(page)
    assert "<img src=x onerror=alert(1)>\ufffd\ufffd[31m</style>" in parsed.text  # the error
    assert rows_in(page)[0]["a"][1][2].startswith("<img src=x onerror=alert(1)>\ufffd")
    assert "boom()</script>" not in page
    assert "img" not in parsed.tags
    assert parsed.tags.count("style") == 1
    assert not any(name.startswith("on") or name == "style" for name, _ in parsed.attributes)
    assert "\x00" not in page and "\x1b" not in page


def test_nothing_is_loaded_from_elsewhere_and_the_policy_names_the_style() -> None:
    page = page_of(finished_run())
    assert not any(name in ("src", "href") for name, _ in Page(page).attributes)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1] and "@import" not in style[1]
    program = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert program is not None
    style_hash, program_hash = (
        base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        for found in (style, program)
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert html.unescape(policy[1]).startswith(
        f"default-src 'none'; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{program_hash}'; img-src data:;"
    )


def test_a_stand_in_is_named_as_one() -> None:
    store = finished_run()
    assert "The judge is a stand-in" not in page_of(store)
    scores = orjson.loads(store.get(layout.SCORES))
    scores["judge"]["stand_in"] = True
    store.put(layout.SCORES, orjson.dumps(scores))
    assert "The judge is a stand-in" in page_of(store)


def test_without_a_judge_there_are_answers_and_no_scores() -> None:
    page = page_of(finished_run(judged=False))
    assert set(counts_in(page)) == {"prompts", "answered", "failed"}
    assert rows_in(page)[1]["a"] == [["answer", 2, "A2-1", None]]
    assert "verdict" not in Page(page).text


def test_a_run_of_errors_only_has_a_report() -> None:
    store = MemoryStore()
    store.put(layout.OUTPUTS, b"")
    store.put(
        layout.ERRORS,
        jsonl([{"line": 1, "question_id": None, "reason": "InvalidJson", "message": "no"}]),
    )
    summary = {"state": "Failed", "rows": 1, "answered": 0, "failed": 1}
    store.put(layout.SUMMARY, orjson.dumps(summary))
    page = page_of(store)
    assert "InvalidJson" in page
    assert counts_in(page) == {"prompts": 1, "answered": 0, "failed": 1}


def test_reviews_alone_have_a_report() -> None:
    store = MemoryStore()
    run_judge([comparison(["conv"])], SETTINGS, client=FakeJudge(lambda _: "7 8"), store=store)
    page = page_of(store)
    assert "Judged only" in page
    assert rows_in(page)[0]["a"][1][2] == "A2-0"


def test_files_that_disagree_with_the_summary_are_shown_to() -> None:
    store = finished_run()
    store.put(layout.OUTPUTS, store.get(layout.OUTPUTS).splitlines(keepends=True)[0])
    assert "summary.json says 3 answered, outputs.jsonl holds 1" in Page(page_of(store)).text


def test_the_same_run_gives_the_same_page() -> None:
    store = finished_run()
    uri = write_report(store)
    assert uri == "s3://eval/runs/kitchen/report.html"
    assert store.get(layout.REPORT) == page_of(finished_run()).encode()


def test_a_damaged_or_missing_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="no finished run"):
        load_report(MemoryStore())
    store = finished_run()
    store.put(layout.OUTPUTS, b"{broken\n")
    with pytest.raises(LedgerCorrupt, match=r"outputs\.jsonl, line 1, is damaged"):
        load_report(store)


@pytest.mark.parametrize(
    "key", [layout.SUMMARY, layout.SCORES, layout.MANIFEST, layout.OUTPUTS, layout.ERRORS, REVIEWS]
)
def test_a_file_of_another_shape_is_shown_or_named_as_damaged(key: str) -> None:
    store = finished_run()
    spec = {"model": {"uri": "s3://m", "tensorParallelSize": 2}}
    store.put(layout.MANIFEST, orjson.dumps({"job": {"metadata": {"name": "k"}, "spec": spec}}))
    summary = {**orjson.loads(store.get(layout.SUMMARY)), "workers_s": {"engine": 1.0}}
    store.put(layout.SUMMARY, orjson.dumps(summary))
    first, *others = [store.get(key)] if "jsonl" not in key else store.get(key).splitlines()
    num_damaged = 0
    for odd in spoiled_forms(orjson.loads(first)):
        store.put(key, b"\n".join([orjson.dumps(odd), *others]))
        try:
            page_of(store)
        except LedgerCorrupt as error:
            num_damaged += 1
            assert key in error.message and "\n" not in error.message
    assert num_damaged


def test_the_command_tells_of_a_damaged_file_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"state": "Succeeded"}')
    done = CliRunner().invoke(report_app, [str(tmp_path)])
    assert done.exit_code == 1
    [line] = done.output.splitlines()
    assert line.startswith("error (LedgerCorrupt): ")
    assert line.endswith("summary.json is damaged: rows: Field required")
