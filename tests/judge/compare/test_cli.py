"""`neva compare` and `neva gate` on judged runs, from the files of real judgings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from judge.compare.cli import compare_app, gate_app
from judge.compare.markdown import comparison_markdown
from judge.compare.pairs import pair_up
from judge.compare.runs import read_run
from judge.run import run_judge
from neva.store import open_store
from tests.fakes.judge import FakeJudge
from tests.judge.examples import SETTINGS, comparison

NUM = 24


def judged_run(folder: Path, scores: list[float], **changes: Any) -> str:
    """A run whose answer to question n gets the n-th score; the reference always gets 8."""

    def answer(content: str) -> str:
        question = int(content.partition("\nQ")[2].partition("?")[0])
        score = scores[question]
        if score < 0:
            return "no idea"
        first_is_reference = content.partition("[Assistant 1]\n")[2].startswith("A1")
        return f"8 {score:g}" if first_is_reference else f"{score:g} 8"

    compared = comparison(["conv" if n % 2 else "detail" for n in range(len(scores))])
    settings = dataclasses.replace(SETTINGS, **changes)
    store = open_store(str(folder))
    run_judge([compared], settings, client=FakeJudge(answer), store=store)
    return str(folder)


OLD = [6.0 + n % 3 for n in range(NUM)]


@pytest.fixture
def old(tmp_path: Path) -> str:
    return judged_run(tmp_path / "old", OLD)


def gate(tmp_path: Path, run: str, *checks: dict[str, Any], baseline: str | None = None) -> Any:
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump({"checks": list(checks)}))
    arguments = [run, "--config", str(path)]
    return CliRunner().invoke(
        gate_app, arguments if baseline is None else [*arguments, "--baseline", baseline]
    )


def test_runs_are_compared_question_by_question(tmp_path: Path, old: str) -> None:
    new = judged_run(tmp_path / "new", [score + (1 if n % 4 else 0) for n, score in enumerate(OLD)])
    file = tmp_path / "pr.md"
    result = CliRunner().invoke(compare_app, [old, new, "--markdown", str(file)])
    assert result.exit_code == 0, result.output
    assert "### new against old" in result.output
    assert "| **all** | 70.0 | 77.5 | +7.5 (" in result.output
    assert f"| 18/6/0 | {NUM} |" in result.output
    assert "| conv |" in result.output and "| detail |" in result.output
    assert "can show differences above" in result.output
    assert file.read_text() in result.output


def test_questions_that_only_one_run_answers_are_left_out_and_told(
    tmp_path: Path, old: str
) -> None:
    new = judged_run(tmp_path / "new", [-1.0, *OLD[1:]])
    result = CliRunner().invoke(compare_app, [old, new])
    assert "1 questions have a score in old alone" in result.output
    assert f"| {NUM - 1} |" in result.output


def test_runs_of_different_judges_are_compared_with_a_warning(tmp_path: Path, old: str) -> None:
    new = judged_run(tmp_path / "new", OLD, model="judge-2", both_orders=False)
    result = CliRunner().invoke(compare_app, [old, new])
    assert "**Not the same conditions**: judge: judge-1 in old, judge-2 in new." in result.output
    assert "orders asked" in result.output


def test_three_runs_are_two_comparisons(tmp_path: Path, old: str) -> None:
    others = [judged_run(tmp_path / name, OLD) for name in ("b", "c")]
    result = CliRunner().invoke(compare_app, [old, *others])
    assert "### b against old" in result.output and "### c against old" in result.output


@pytest.mark.parametrize("arguments", [["{old}"], ["{old}", "/nowhere/run"], ["{old}", "{old}"]])
def test_what_can_not_be_compared_is_exit_code_2(old: str, arguments: list[str]) -> None:
    result = CliRunner().invoke(compare_app, [a.format(old=old) for a in arguments])
    assert result.exit_code == 2
    assert "error (InvalidConfig): " in result.output


def test_programs_get_the_comparison_and_the_gate_as_json(tmp_path: Path, old: str) -> None:
    new = judged_run(tmp_path / "new", [score + (1 if n % 4 else 0) for n, score in enumerate(OLD)])
    result = CliRunner().invoke(compare_app, [old, new, "-o", "json"])
    [pair] = json.loads(result.output)["comparisons"]
    assert (pair["baseline"], pair["candidate"]) == ("old", "new")
    assert pair["rows"][0]["category"] == "all"
    assert (pair["rows"][0]["wins"], pair["rows"][0]["difference"]["value"]) == (18, 7.5)
    thresholds = tmp_path / "gate.yaml"
    thresholds.write_text("checks: [{metric: mean, min: 99}]")
    arguments = [new, "--config", str(thresholds), "--baseline", old, "-o", "yaml"]
    result = CliRunner().invoke(gate_app, arguments)
    found = yaml.safe_load(result.output)
    assert (result.exit_code, found["decision"]) == (1, "NO-GO")
    assert found["checks"][0]["decision"] == "NO-GO"
    assert found["comparison"]["rows"][0]["questions"] == NUM


@pytest.mark.parametrize(
    ("check", "code"),
    [
        ({"metric": "mean", "min": 70}, 0),
        ({"metric": "mean", "min": 70.5}, 1),
        ({"metric": "relative", "min": 87, "max": 88}, 0),
        ({"metric": "failed", "max": 0}, 0),
        ({"metric": "winRate", "category": "conv", "min": 50}, 1),
        ({"metric": "mean", "category": "math", "min": 1}, 2),
    ],
)
def test_absolute_thresholds(tmp_path: Path, old: str, check: dict[str, Any], code: int) -> None:
    result = gate(tmp_path, old, check)
    assert result.exit_code == code, result.output
    assert f"Gate: {['GO', 'NO-GO', 'INCONCLUSIVE'][code]}" in result.output


@pytest.mark.parametrize(
    ("change", "check", "code"),
    [
        (-0.5, {"metric": "mean", "maxDrop": 5}, 0),
        (-0.5, {"metric": "mean", "maxDrop": 4.9}, 1),
        (+0.5, {"metric": "relative", "maxDrop": 0}, 0),
        (0.0, {"metric": "failed", "maxDrop": 0}, 0),
    ],
)
def test_thresholds_relative_to_a_baseline(
    tmp_path: Path, old: str, change: float, check: dict[str, Any], code: int
) -> None:
    new = judged_run(tmp_path / "new", [score + change for score in OLD])
    result = gate(tmp_path, new, check, baseline=old)
    assert result.exit_code == code, result.output
    assert "### new against old" in result.output


@pytest.mark.parametrize(
    ("changes", "code"), [((0.1, -0.1), 0), ((-1.0, -0.8), 1), ((1.5, -2.0), 2)]
)
def test_non_inferiority_goes_by_the_interval(
    tmp_path: Path, old: str, changes: tuple[float, float], code: int
) -> None:
    new = judged_run(tmp_path / "new", [s + changes[n % 2] for n, s in enumerate(OLD)])
    check = {"metric": "mean", "nonInferiorityMargin": 3}
    result = gate(tmp_path, new, check, baseline=old)
    assert result.exit_code == code, result.output


def test_one_failed_check_fails_the_gate(tmp_path: Path, old: str) -> None:
    checks = [{"metric": "mean", "min": 1}, {"metric": "mean", "min": 99}]
    result = gate(tmp_path, old, *checks)
    assert result.exit_code == 1
    assert "✅ GO" in result.output and "❌ NO-GO" in result.output


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"metric": "speed", "min": 1}, "metric"),
        ({"metric": "mean"}, "give min or max"),
        ({"metric": "mean", "min": 1, "maxDrop": 1}, "give min or max"),
        ({"metric": "relative", "nonInferiorityMargin": 1}, "for the metric mean"),
        ({"metric": "mean", "maxDrop": 1}, "need a --baseline"),
        ({"metric": "mean", "min": 1, "extra": 1}, "extra"),
    ],
)
def test_wrong_thresholds_are_named_and_let_nothing_pass(
    tmp_path: Path, old: str, check: dict[str, Any], words: str
) -> None:
    result = gate(tmp_path, old, check)
    assert result.exit_code == 2
    assert words in result.output


def test_a_run_that_was_not_judged_is_no_worse_run(tmp_path: Path) -> None:
    result = gate(tmp_path, str(tmp_path / "nothing"), {"metric": "mean", "min": 1})
    assert result.exit_code == 2
    assert "was not judged" in result.output


def test_hostile_names_stay_in_their_cells(old: str) -> None:
    run = read_run(open_store(old), "a|b\n<script>`x`*")
    text = comparison_markdown(pair_up(run, run))
    assert "a\\|b &lt;script>\\`x\\`\\*" in text
    assert "<script" not in text
