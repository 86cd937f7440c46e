"""The routes: what they serve, what they refuse, and what every answer says to a browser."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import orjson
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from controller.ui import app as ui
from controller.ui.local import LocalRuns
from neva.ledger import layout
from neva.store import Store, StoreUnavailable, open_store
from tests.controller.runs import MadeRun
from tests.controller.ui.moving import MovingRun

_FRAMES = layout.frames("kitchen/00000.mp4")


@pytest.fixture
def output(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "kitchen"))
    list(itertools.islice(MovingRun(store, 60, every_fails=7).steps(), 3))
    return store


@pytest.fixture
def app(output: Store, tmp_path: Path) -> Starlette:
    return ui.make_app(LocalRuns([output.base_uri]), 0.5)


@pytest.fixture
def client(app: Starlette) -> TestClient:
    return TestClient(app)


def test_the_page_is_whole_before_any_event(client: TestClient) -> None:
    html = client.get("/").text
    for words in ("kitchen", "Running", "60", "MediaUnreadable", "Last answers", "25 of 60 rows"):
        assert words in html
    assert 'src="frames/' in html
    assert "<style" not in html
    assert html.count("<script") == 1


def test_every_answer_forbids_what_the_page_does_not_need(client: TestClient) -> None:
    for path in ("/", "/ui.css", "/healthz", "/nothing", f"/{_FRAMES}"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert client.get("/").headers["cache-control"] == "no-store"


def test_no_route_takes_anything_but_reading(client: TestClient, app: Starlette) -> None:
    assert len(app.routes) == 8
    for route in app.routes:
        path = route.path.replace("{name}", _FRAMES.partition("/")[2])  # type: ignore[attr-defined]
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client.request(method, path).status_code == 405, (method, path)
        assert client.head(path).status_code in (200, 404)


def test_frames_are_pictures_of_the_run_and_nothing_else(client: TestClient, output: Store) -> None:
    picture = client.get(f"/{_FRAMES}")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert picture.content == output.get(_FRAMES)
    output.put("frames/0123456789abcdef.jpg", b"<script>alert(1)</script>")
    for name in ("0123456789abcdef.jpg", "fedcba9876543210.jpg", "..%2Fmanifest.json", "x.jpg"):
        assert client.get(f"/frames/{name}").status_code == 404, name


def test_a_report_is_shown_where_it_can_do_nothing(client: TestClient, output: Store) -> None:
    assert client.get("/report").status_code == 404
    output.put(layout.REPORT, b"<h1>report</h1>")
    shown = client.get("/report")
    assert shown.text == "<h1>report</h1>"
    policy = shown.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy, "default-src 'none' is what holds"


def test_a_job_that_is_not_there_is_not_found(client: TestClient) -> None:
    for path in ("/", "/events", "/report", f"/{_FRAMES}"):
        assert client.get(f"{path}?run=other").status_code == 404


def test_a_foreign_name_gets_nothing(output: Store) -> None:
    app = ui.make_app(LocalRuns([output.base_uri]), hosts=["localhost", "127.0.0.1"])
    assert TestClient(app, base_url="http://localhost:8321").get("/").status_code == 200
    rebound = TestClient(app, base_url="http://evil.example.com:8321").get("/")
    assert rebound.status_code == 400
    assert "kitchen" not in rebound.text


def test_several_runs_are_listed_and_each_has_its_page(output: Store, tmp_path: Path) -> None:
    again, empty = tmp_path / "other" / "kitchen", tmp_path / "empty"
    MadeRun(open_store(str(again)))
    uris = [output.base_uri, str(again), str(empty), output.base_uri]
    client = TestClient(ui.make_app(LocalRuns(uris), 0.5))
    html = client.get("/").text
    assert html.count('<th scope="row">') == 3
    assert 'href="?run=kitchen-2"' in html
    assert "no run there" in html
    assert "Last answers" not in html
    assert "made" in client.get("/?run=kitchen-2").text
    assert "no run there" in client.get("/?run=empty").text


def test_a_store_that_is_away_is_said_and_passes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("the store <is> away")

    with monkeypatch.context() as patch:
        patch.setattr("controller.ui.reader.look", away)
        shown = client.get("/")
        assert shown.status_code == 200
        assert "the store &lt;is&gt; away" in shown.text


def test_a_stream_sends_all_at_first_and_then_what_changed(output: Store) -> None:
    live = ui.Live(LocalRuns([output.base_uri]), 0.01)

    async def sections(events: AsyncIterator[str]) -> dict[str, str]:
        async for event in events:
            if event.startswith("event: sections\ndata: "):
                found: dict[str, str] = orjson.loads(event.partition("data: ")[2])
                return found
        raise AssertionError("the stream ended")

    async def test() -> None:
        stream = ui._events(live, [live.jobs, live.run("kitchen")])
        async with aclosing(stream) as events:
            seen: dict[str, str] = {}
            while "answers" not in seen:
                seen |= await sections(events)
            assert len(live.streams) == 1
            output.put("control/order-0001.json", b'{"order":"suspend","by":"a","order_id":"b"}')
            changed: dict[str, str] = {}
            while "Suspended" not in changed.get("head", ""):
                changed = await sections(events)
            assert "answers" not in changed
            assert "about" not in changed
        assert not live.streams

    asyncio.run(asyncio.wait_for(test(), 120))


def test_there_is_an_end_to_how_many_may_watch(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "_MAX_STREAMS", 0)
    refused = client.get("/events")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "30"


def test_watches_of_jobs_that_nobody_follows_are_forgotten(
    output: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "_MAX_WATCHES", 2)
    uris = [str(tmp_path / name) for name in "abcd"]
    live = ui.Live(LocalRuns(uris), 1.0)
    first = live.run("a")
    for name in "bcd":
        live.run(name)
    assert live.run("a") is not first
    assert live.run("d") is live.run("d")
