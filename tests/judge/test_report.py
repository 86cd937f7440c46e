from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest
from PIL import Image

from judge.report.data import load_report
from judge.report.render import render_report, write_report
from judge.run import run_judge
from neva.errors import ConfigError
from neva.ledger import layout
from tests.fakes.judge import FakeJudge
from tests.fakes.memory_store import MemoryStore
from tests.judge.examples import SETTINGS, comparison

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
        self.feed(re.sub(r"<style>.*?</style>", "<style></style>", page, count=1, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(store: MemoryStore) -> str:
    return render_report(load_report(store))


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
    text = Page(page_of(finished_run())).text
    for words in ("Q0?", "A1-0", "A2-0", "as given", "swapped", "The first is better."):
        assert words in text
    assert "the reply's first line holds no two scores: 'hm'" in text


def test_rows_stand_under_the_frames_of_their_video() -> None:
    page = page_of(finished_run())
    assert page.count('<article class="clip">') == 2
    encoded = base64.b64encode(strip()).decode()
    assert page.count(f'src="data:image/jpeg;base64,{encoded}"') == 1
    assert "no frames were kept" in page


def test_errors_are_grouped_by_reason() -> None:
    report = load_report(finished_run())
    assert list(report.errors) == ["MediaUnreadable"]
    assert list(report.judge_errors) == ["VerdictUnreadable"]
    assert report.errors["MediaUnreadable"][0].where == "line 4, question 3"


def test_hostile_texts_are_shown_as_text() -> None:
    page = page_of(finished_run(answer=HOSTILE))
    parsed = Page(page)
    assert "<img src=x onerror=alert(1)>\ufffd\ufffd[31m</style>" in parsed.text
    assert "script" not in parsed.tags
    assert parsed.tags.count("img") == 1
    assert parsed.tags.count("style") == 1
    assert not any(name.startswith("on") or name == "style" for name, _ in parsed.attributes)
    assert "\x00" not in page and "\x1b" not in page


def test_nothing_is_loaded_from_elsewhere_and_the_policy_names_the_style() -> None:
    page = page_of(finished_run())
    for name, value in Page(page).attributes:
        if name in ("src", "href"):
            assert value is not None and value.startswith("data:image/jpeg;base64,")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1] and "@import" not in style[1]
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert html.unescape(policy[1]).startswith(
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;"
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
    assert "A2-1" in page
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
    assert "A2-0" in page


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
    with pytest.raises(ConfigError, match="damaged"):
        load_report(store)
