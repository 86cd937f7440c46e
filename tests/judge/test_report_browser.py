"""The report in a real browser: its own policy lets it look and work as it should, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from judge.report.data import load_report
from judge.report.render import render_report
from tests.judge.report_pages import page_of_run
from tests.judge.test_report import HOSTILE, finished_run
from tests.support.browser import needs_chromium
from tests.support.browser import opened as opened_page

pytestmark = needs_chromium


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("report")
    page = render_report(load_report(finished_run(answer=HOSTILE + "x" * 300)))
    (path / "hostile.html").write_text(page, encoding="utf-8")
    (path / "many.html").write_text(page_of_run(90), encoding="utf-8")
    return path


@pytest.fixture
def hostile(folder: Path) -> str:
    return (folder / "hostile.html").as_uri()


@pytest.fixture
def many(browser: Browser, folder: Path) -> Iterator[Page]:
    page, complaints = opened(browser, (folder / "many.html").as_uri(), 1280, "light")
    yield page
    assert complaints == []
    page.close()


def opened(browser: Browser, uri: str, width: int, scheme: str) -> tuple[Page, list[str]]:
    page, complaints = opened_page(browser, uri, width, scheme)
    page.wait_for_selector(".row")
    return page, complaints


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


def shown(page: Page) -> list[str | None]:
    return [row.get_attribute("data-row") for row in page.locator(".row").all()]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_screen_and_the_browser_has_no_complaint(
    browser: Browser, hostile: str, width: int
) -> None:
    page, complaints = opened(browser, hostile, width, "light")
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('.strip img').naturalWidth") == 64
    assert page.evaluate("getComputedStyle(document.querySelector('.counts')).display") == "flex"
    page.close()


def test_a_hostile_answer_is_seen_as_text(browser: Browser, hostile: str) -> None:
    page, complaints = opened(browser, hostile, 1280, "light")
    answer = page.locator(".answer.side-2 .text").first
    assert "<img src=x onerror=alert(1)>" in answer.inner_text()
    # the strip of a.mp4, before and after b.mp4, and no other picture
    sources = [image.get_attribute("src") or "" for image in page.locator("img").all()]
    assert [source.partition(";")[0] for source in sources] == ["data:image/jpeg"] * 2
    assert complaints == []
    page.close()


def test_dark_is_dark_and_light_is_light(browser: Browser, hostile: str) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        page, _ = opened(browser, hostile, 800, scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(int(part) for part in colour.strip("rgb()").split(","))
        page.close()
    assert brightness["dark"] < 150 < 600 < brightness["light"]


def test_rows_come_in_pages(many: Page) -> None:
    assert count(many) == "1 to 25 of 90"
    assert many.locator(".page-number").first.inner_text() == "page 1 of 4"
    many.locator("button[data-step='1']").first.click()
    assert count(many) == "26 to 50 of 90"
    assert shown(many)[0] == "25"
    # three questions to a clip: neighbours share its frames
    assert many.locator("article").count() == 9


def test_search_finds_in_questions_answers_and_reviews(many: Page) -> None:
    many.fill("#find", "CLIPS/00012")
    many.wait_for_selector("#count:has-text('1 to 3 of 3, out of 90')")
    assert shown(many) == ["36", "37", "38"]
    many.fill("#find", "no such words")
    many.wait_for_selector("#count:has-text('nothing matches')")
    many.click("#all")
    assert count(many) == "1 to 25 of 90"


def test_filters_and_order(many: Page) -> None:
    many.select_option("#category", "conv")
    assert count(many) == "1 to 25 of 30, out of 90"
    many.select_option("#category", "")
    many.select_option("#outcome", "worse")
    assert set(many.locator(".answer.side-2 .outcome").all_inner_texts()) == {"worse"}
    many.select_option("#outcome", "")
    many.select_option("#sort", "worst")
    means = [float(text) for text in many.locator(".row .mean").all_inner_texts()]
    gaps = [own - other for other, own in zip(means[::2], means[1::2], strict=True)]
    assert gaps == sorted(gaps)
    assert gaps[0] < 0


def test_every_view_is_a_link(many: Page, browser: Browser) -> None:
    many.select_option("#category", "detail")
    many.select_option("#sort", "best")
    again, _ = opened(browser, many.url, 1280, "light")
    assert shown(again) == shown(many)
    assert again.locator("#sort").input_value() == "best"
    again.close()


def test_one_question_has_a_link(many: Page, browser: Browser) -> None:
    many.locator(".link").nth(4).click()
    many.wait_for_selector("#count:has-text('1 to 1 of 1, out of 90')")
    assert shown(many) == ["4"]
    again, _ = opened(browser, many.url, 1280, "light")
    assert shown(again) == ["4"]
    again.close()


def test_the_keyboard_does_it_all(many: Page) -> None:
    def focused() -> object:
        return many.evaluate("document.activeElement.dataset.row")

    many.keyboard.press("j")
    many.keyboard.press("j")
    assert focused() == "1"
    many.keyboard.press("k")
    assert focused() == "0"
    many.keyboard.press("n")
    assert count(many).startswith("26 to 50")
    many.keyboard.press("p")
    assert count(many).startswith("1 to 25")
    many.keyboard.press("/")
    many.keyboard.type("jn")  # letters in the field are letters
    assert many.locator("#find").input_value() == "jn"
    many.keyboard.press("Escape")
    assert many.evaluate("document.activeElement.tagName") == "BODY"


def test_print_leaves_the_controls_out(many: Page) -> None:
    many.emulate_media(media="print")
    assert not many.locator(".controls").is_visible()
    assert many.locator(".row").first.is_visible()
