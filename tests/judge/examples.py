"""Small comparisons for the judge's tests."""

from __future__ import annotations

from collections.abc import Mapping

from judge.answers import AnswerSet
from judge.asking import Limits
from judge.contexts import Contexts
from judge.pacing.retry import RetryPolicy
from judge.plan import Comparison
from judge.questions import Question
from judge.rules import Rule, Rules
from judge.run import JudgeSettings

RULES = Rules(
    {
        f"llava_bench_{name}": Rule(f"llava_bench_{name}", "Assistant", f"RULE llava_bench_{name}")
        for name in ("conv", "detail", "complex")
    },
    digest="d0",
)
QUICK = RetryPolicy(first_wait_s=0.001, throttled_wait_s=0.001)
SETTINGS = JudgeSettings(
    model="judge-1",
    endpoint="https://judge.example/v1",
    limits=Limits(2, retry=QUICK, breaker_pause_s=0.001),
)


def comparison(
    categories: list[str],
    *,
    first: Mapping[str, str] | None = None,
    second: Mapping[str, str] | None = None,
    contexts: Contexts | None = None,
) -> Comparison:
    """Questions 0, 1, … of the given categories, all answered unless told otherwise."""
    questions = [
        Question(str(n), n, f"Q{n}?", category, f"{n}.mp4") for n, category in enumerate(categories)
    ]
    keys = [question.key for question in questions]
    return Comparison(
        questions,
        (
            AnswerSet("reference", first if first is not None else {k: f"A1-{k}" for k in keys}),
            AnswerSet("model", second if second is not None else {k: f"A2-{k}" for k in keys}),
        ),
        RULES,
        contexts,
    )
