from __future__ import annotations

from rich.console import Console

from judge.run import run_judge
from judge.table import precision, scores_table
from tests.fakes.judge import FakeJudge
from tests.fakes.memory_store import MemoryStore
from tests.judge.examples import SETTINGS, comparison


def record(judge: FakeJudge, num: int = 4) -> dict[str, object]:
    compared = comparison(["conv"] * num)
    return run_judge([compared], SETTINGS, client=judge, store=MemoryStore()).record


def test_the_table_says_what_its_figures_are_worth() -> None:
    def answer(content: str) -> str:
        """The model gains a point in the first question, loses one in the second."""
        own = 8 if "Q0?" in content else 6 if "Q1?" in content else 7
        reference_first = content.partition("[Assistant 1]\n")[2].startswith("A1")
        return f"7 {own}" if reference_first else f"{own} 7"

    found = record(FakeJudge(answer))
    sentences = precision(found)
    assert sentences[0].startswith("model: +0.0 points (95 % interval -13.0 to 13.0), p = 1")
    assert "4 questions about 4 videos or images can show differences above" in sentences[1]
    assert "the answer shown first is preferred in 50 % of 4 decided reviews" in sentences[2]
    console = Console(width=100, record=True)
    console.print(scores_table(found))
    assert "shown first is preferred" in console.export_text()


def test_a_judge_that_follows_the_order_is_found_out() -> None:
    sentences = precision(record(FakeJudge(lambda _: "9 6")))
    assert sentences == [
        "the answer shown first is preferred in 100 % of 8 decided reviews "
        "(95 % interval 67.6 to 100.0 %)"
    ]


def test_one_question_claims_no_precision() -> None:
    assert not any(
        "interval" in s and "points" in s for s in precision(record(FakeJudge(lambda _: "7 7"), 1))
    )


def test_without_verdicts_there_is_nothing_to_say() -> None:
    assert precision(record(FakeJudge(lambda _: "no idea"))) == []
