from __future__ import annotations

import pytest

from judge.rules import default_rules, parse_rules
from neva.errors import ConfigError


def test_llava_bench_rules_go_before_plain_and_default_ones() -> None:
    rules = parse_rules(
        b'{"conv": {"role": "Assistant", "prompt": "c"}, "default": {"prompt": "d"},'
        b' "llava_bench_conv": {"role": "Assistant", "prompt": "l"}}',
        "rule.json",
    )
    names = [rule.name if (rule := rules.find(c)) else None for c in ("conv", "math")]
    assert names == ["llava_bench_conv", "default"]


def test_a_category_without_rule_is_none() -> None:
    assert parse_rules(b"conv: {prompt: c}", "r.yaml").find("math") is None


def test_every_wrong_entry_is_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)2 wrong.*a: .*b: "):
        parse_rules(b"a: {role: x}\nb: {role: 'x]', prompt: p}\nc: {prompt: p}", "r.yaml")


def test_the_default_rubric_asks_for_two_scores_on_the_first_line() -> None:
    rules = default_rules()
    for name in ("conv", "detail", "complex", "default"):
        rule = rules.find(name)
        assert rule is not None and rule.name == name
        assert "first line" in rule.prompt
