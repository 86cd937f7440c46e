from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from controller.status.facts import Facts, look
from controller.status.run_status import RunStatus, run_status
from controller.ui.page import code_marked, jobs_section, page, problem_sections, run_sections
from controller.ui.reader import Answered, RunSeen
from controller.ui.view import JobLine, RunView, clips, job_line, percent, run_view, stages
from neva.ledger import FinishedRow, error_line
from neva.ledger.control import Control, Order
from tests.controller.runs import MadeRun
from tests.controller.ui.moving import HOSTILE
from tests.fakes.memory_store import MemoryStore


def of_run(run: MadeRun, **changed: object) -> RunStatus:
    facts: Facts = look(run.ledger)
    return run_status(dataclasses.replace(facts, **changed))  # type: ignore[arg-type]


def states(status: RunStatus, *, waits: bool = False) -> list[tuple[str, str]]:
    return [(stage.name, stage.state) for stage in stages(status, waits=waits)]


def answered(seq: int, media: str, frames: str | None = None) -> Answered:
    output = {"question_id": seq, "video": media, "text": "What?", "response": f"answer {seq}"}
    return Answered(FinishedRow(seq, str(seq), output, None), frames)


@pytest.fixture
def run() -> MadeRun:
    return MadeRun(MemoryStore(), judge={"model": "m"})


def test_stages_follow_the_run(run: MadeRun) -> None:
    status = of_run(run)
    assert states(status) == [
        ("Prepare", "done"),
        ("Answer", "now"),
        ("Merge", "next"),
        ("Judge", "next"),
    ]
    assert states(status, waits=True)[1] == ("Answer", "waits")
    Control(run.ledger.store).give(Order.SUSPEND)
    assert states(of_run(run))[1] == ("Answer", "held")
    for shard in range(3):
        run.commit(shard)
    Control(run.ledger.store).give(Order.RESUME)
    assert states(of_run(run))[1:3] == [("Answer", "done"), ("Merge", "now")]
    summary = {"state": "Succeeded", "failed_by_reason": {}}
    judging = of_run(run, summary=summary, judging=True)
    assert states(judging)[2:] == [("Merge", "done"), ("Judge", "now")]
    judged = of_run(run, summary=summary, judge={"num_judged": 9, "num_questions": 9})
    assert states(judged)[3] == ("Judge", "done")
    unjudged = of_run(run, summary=summary, succeeded=True)
    assert states(unjudged)[3] == ("Judge", "held")


def test_a_run_that_was_refused_failed_in_its_first_stage() -> None:
    facts = Facts("s3://b/run/", None, None, refused=True)
    assert states(run_status(facts)) == [("Prepare", "bad"), ("Answer", "next"), ("Merge", "next")]


def test_a_cluster_says_the_phase_and_why_and_the_ledger_the_counts(run: MadeRun) -> None:
    run.commit(0)
    line = JobLine("eval/made", "made", "eval", "Queued", 0, 10, 0, "", "7m", "", "Quota: none")
    view = run_view(RunSeen(of_run(run)), "eval/made", line)
    assert (view.line.phase, view.line.done, view.line.left) == ("Queued", 4, "7m")
    assert view.advice == "Quota: none"
    assert view.stages[1].state == "waits"


def test_neighbouring_answers_about_one_video_share_its_frames() -> None:
    found = list(
        clips(
            [
                answered(3, "b.mp4", "frames/0123456789abcdef.jpg"),
                answered(2, "b.mp4"),
                answered(1, "a.mp4"),
            ]
        )
    )
    assert [(clip.media, clip.frames, len(clip.answers)) for clip in found] == [
        ("b.mp4", "0123456789abcdef.jpg", 2),
        ("a.mp4", "", 1),
    ]


def test_percentages_stay_in_their_bar() -> None:
    assert [percent(1, 0), percent(-1, 2), percent(3, 2), percent(1, 3)] == [0, 0, 100, 33.33]


def hostile_view(run: MadeRun) -> RunView:
    status = of_run(run, failed_by_reason={HOSTILE: 2})
    output = {
        "question_id": HOSTILE,
        "video": HOSTILE,
        "text": HOSTILE,
        "category": HOSTILE,
        "response": HOSTILE,
    }
    row = FinishedRow(1, HOSTILE, output, None)
    failure = error_line(1, {"question_id": HOSTILE, "text": HOSTILE}, HOSTILE, HOSTILE)
    seen = RunSeen(status, (Answered(row, None),), {HOSTILE: (failure,)})
    line = dataclasses.replace(job_line(status, HOSTILE), name=HOSTILE, place=HOSTILE, note=HOSTILE)
    return run_view(seen, HOSTILE, line)


def test_whatever_names_reasons_and_answers_say_it_is_text(run: MadeRun) -> None:
    view = hostile_view(run)
    sections = {
        **jobs_section([view.line, view.line], HOSTILE),
        **run_sections(view),
    }
    problem = problem_sections(HOSTILE, HOSTILE, view.line)
    html = page(HOSTILE, HOSTILE, sections) + "".join(problem.values())
    assert "<img src=x" not in html
    assert "<script>" not in html
    assert "</section><script" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") > 15


def test_control_characters_and_endless_texts_are_cut(run: MadeRun) -> None:
    output = {"text": "?", "response": "\x1b[31m" + "x" * 5000}
    row = Answered(FinishedRow(1, "1", output, None), None)
    (clip,) = clips([row])
    text = clip.answers[0].text
    assert text.startswith("\ufffd[31mxxx")
    assert len(text) == 1001


def test_an_answer_that_is_no_text_is_shown_as_none() -> None:
    odd: Iterable[Answered] = [Answered(FinishedRow(1, "1", {"response": None}, None), None)]
    (clip,) = clips(odd)
    assert (clip.media, clip.answers[0].text) == ("", "")


def test_commands_in_an_advice_are_marked() -> None:
    marked = code_marked("`neva resume <x>` lifts that")
    assert marked == "<code>neva resume &lt;x&gt;</code> lifts that"


def test_a_list_of_very_many_jobs_is_cut() -> None:
    lines = [JobLine(f"ns/{n}", f"job-{n}", "ns", "Running") for n in range(250)]
    assert 'href="?run=ns%2F1"' in jobs_section(lines)["jobs"]
    assert "and 50 older ones" in jobs_section(lines)["jobs"]
    assert "There are no jobs" in jobs_section([])["jobs"]
    assert "API server" in jobs_section([], "API server away")["jobs"]
