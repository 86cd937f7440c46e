from __future__ import annotations

import re
import tomllib

from neva.extras import install_words
from tests.chart.rendering import REPOSITORY

_ROLES = ("neva", "controller", "worker", "judge")


def test_one_sentence_is_right_in_a_checkout_and_out_of_it() -> None:
    assert install_words("worker") == (
        "pip install '.[worker]' in neva-batch's checkout, 'neva-batch[worker]' elsewhere"
    )


def test_nobody_says_it_otherwise_and_all_extras_are_there() -> None:
    sources = [p for role in _ROLES for p in (REPOSITORY / role).rglob("*.py")]
    texts = {p: p.read_text(encoding="utf-8") for p in sources}
    assert {p.name for p, text in texts.items() if "pip install" in text} == {"extras.py"}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {
        name for text in texts.values() for name in re.findall(r"install_words\(['\"](\w+)", text)
    }
    assert asked and asked <= set(project["optional-dependencies"])
