"""Each rule of the ledger is needed, and the world notices when it is broken."""

from __future__ import annotations

import pytest

from tests.ledger_model.mutants import MUTANTS, Mutant
from tests.ledger_model.scenarios import SCENARIOS, Scenario, play
from tests.ledger_model.watch import Violation

_BY_MUTANT = {scenario.mutant: scenario for scenario in SCENARIOS}


def test_every_rule_has_a_mutant_and_every_mutant_a_scenario() -> None:
    assert {mutant.rule for mutant in MUTANTS} == set(range(1, 11))
    assert [mutant.name for mutant in MUTANTS] == list(_BY_MUTANT)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.mutant)
def test_the_rules_hold_in_every_scenario(scenario: Scenario) -> None:
    play(scenario)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_broken_rule_does_harm(mutant: Mutant) -> None:
    with mutant.alive(), pytest.raises(Violation) as caught:
        play(_BY_MUTANT[mutant.name])
    print(f"{mutant}: {caught.value}")
